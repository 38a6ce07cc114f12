//! The life of copies: who makes them, how long they are kept, what the register records, and what happens on failures.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use serde_json::json;
use weir::service::core::{context::OperatorContext, places::PlaceLimits};

use crate::{
    support::{
        app::{ROOM, TestApp},
        tables::{HandWrittenLog, metadata, protocol},
    },
    views::{
        claims_view::{PLANS, claims, read_well, registered_claims, shared_claims, shared_claims_as_laid_out},
        connector::{Connector, Received, TableRead, fetch, newest},
        source::Mapping,
        value::Value,
        weir_server::{Kind, SHARE, VIEW, WeirServer, everywhere, run, run_with},
    },
};

everywhere!(
    copies_go_with_the_last_who_may_read_them,
    copies_that_nobody_reads_go_when_their_urls_are_dead,
    aged_copies_are_made_anew_under_their_ids,
    after_a_commit_its_files_alone_are_made,
    servers_divide_the_work_and_make_each_copy_once,
    what_a_vanished_server_left_is_taken_over,
    a_damaged_file_is_tried_again_when_it_has_rested,
    a_column_in_another_case_is_read_and_a_missing_one_hides_the_file,
    a_hidden_partition_value_in_another_case_is_read_and_a_missing_one_hides_the_file,
    a_shown_partition_value_in_another_case_is_read_and_a_missing_one_hides_the_file,
    a_source_out_of_reach_is_503_until_it_is_back,
);

/// 26 hours: by then all URLs have expired and all copies are idle.
const LATER: i64 = 26 * 3_600;

async fn keep(server: &WeirServer) {
    // What is ended in one round is gone in the next.
    for _ in 0..2 {
        server.app.service.materializer.keep_copies().await.unwrap();
        server.app.pass(1);
    }
}

async fn copies_go_with_the_last_who_may_read_them(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let plans = json!({"plans": [PLANS[0]]});
    let acme = server.connector("acme", plans.clone()).await;
    read_well(&server, &table, &visible, &acme).await;
    let written = server.objects().await;
    assert!(!written.is_empty() && server.copies(Some("ready")).await.len() >= written.len());
    keep(&server).await;
    assert_eq!(server.objects().await, written, "nothing goes while its URLs live");
    let revoked = server.app.post(&format!("/shares/{SHARE}/recipients/acme/revoke"), json!({})).await;
    revoked.expect(200);
    // In the round after it, however little time has passed.
    server.app.service.materializer.keep_copies().await.unwrap();
    assert_eq!(server.objects().await, Vec::<String>::new());
    assert!(server.copies(None).await.is_empty() && !server.copies(Some("deleted")).await.is_empty());
    // Who is granted it again reads files that are made again.
    server.app.post("/grants", json!({"share": SHARE, "recipient": "acme"})).await.expect(201);
    read_well(&server, &table, &visible, &acme).await;
    assert!(!server.objects().await.is_empty());
}

async fn copies_that_nobody_reads_go_when_their_urls_are_dead(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    read_well(&server, &table, &visible, &acme).await;
    server.app.pass(24 * 3_600 - 10);
    keep(&server).await;
    assert!(!server.objects().await.is_empty(), "a URL of a day ago is still good");
    server.app.pass(LATER - 24 * 3_600);
    keep(&server).await;
    assert_eq!(server.objects().await, Vec::<String>::new());
    read_well(&server, &table, &visible, &acme).await;
}

async fn what_register_and_store_do_not_agree_about_is_named(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    read_well(&server, &table, &visible, &acme).await;
    let lost = server.objects().await.remove(0);
    fs::remove_file(server.app.copies_folder().join(&lost)).unwrap();
    let stray = server.app.copies_folder().join("m/stray");
    fs::write(&stray, "x").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    fs::File::options().write(true).open(&stray).unwrap().set_modified(long_ago).unwrap();
    let ctx = OperatorContext::system("test", server.app.now());
    let found = server.app.service.materializer.reconcile_copies(&ctx).await.unwrap();
    assert_eq!(found.orphans, ["m/stray"]);
    assert_eq!(found.missing.len(), 1);
    // What is gone is made again before anybody is sent to it; what is nobody's stays for somebody to look at.
    read_well(&server, &table, &visible, &acme).await;
    assert!(stray.exists());
}

async fn servers_divide_the_work_and_make_each_copy_once(server: WeirServer) {
    let (_, _) = shared_claims(&server, Mapping::None).await;
    let other = server.app.replica(None);
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    let way = server.ways()[0];
    let (here, there) = tokio::join!(acme.query(way, json!({})), acme.query_at(&other, way, json!({})));
    assert_eq!(here.lines().len(), there.lines().len());
    let copies = server.copies(None).await;
    let mut sources: Vec<&str> = copies.iter().map(|copy| copy["source"].as_str().unwrap()).collect();
    let made = sources.len();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources.len(), made);
}

/// Waits for a server to have what it answers 503 for until then.
async fn wait_for(connector: &Connector<'_>, server: &TestApp) {
    let way = connector.first_way();
    let begun = Instant::now();
    while connector.query_at(server, way, newest()).await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing was made");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Checks an answer after which connectors retry.
#[track_caller]
fn come_back(answer: &Received) {
    answer.refused(503, "UNAVAILABLE");
    assert_eq!(answer.header("retry-after"), "5");
    for word in ["127.0.0.1", "copies", "zsource", "m/"] {
        assert!(!answer.text().contains(word), "{}", answer.text());
    }
}

/// The sources of copies in a state, sorted.
async fn sources(server: &WeirServer, state: &str) -> Vec<String> {
    let copies = server.copies(Some(state)).await;
    let mut sources: Vec<String> = copies.iter().map(|copy| copy["source"].as_str().unwrap().to_owned()).collect();
    sources.sort_unstable();
    sources
}

/// The keys of copies that were written and may be read, sorted.
async fn ready_keys(server: &WeirServer) -> Vec<String> {
    let copies = server.copies(Some("ready")).await;
    let written = copies.iter().filter(|copy| copy["bytes"] != 0);
    let mut keys: Vec<String> = written.map(|copy| copy["object_key"].as_str().unwrap().to_owned()).collect();
    keys.sort_unstable();
    keys
}

async fn aged_copies_are_made_anew_under_their_ids(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    // Read every day, so that none is ever idle.
    for _ in 0..6 {
        read_well(&server, &table, &visible, &acme).await;
        server.app.pass(23 * 3_600);
        server.app.service.materializer.keep_copies().await.unwrap();
    }
    let before = read_well(&server, &table, &visible, &acme).await;
    let old = server.objects().await;
    server.app.pass(30 * 3_600 + 60);
    read_well(&server, &table, &visible, &acme).await;
    let urls = self::urls(&acme.read_in_all_ways(json!({})).await);
    server.app.service.materializer.keep_copies().await.unwrap();
    assert!(!server.copies(Some("draining")).await.is_empty(), "none of them was old");
    // A server may go on with what it has in hand for an hour.
    server.app.pass(3_601);
    let after = read_well(&server, &table, &visible, &acme).await;
    let objects = server.objects().await;
    assert!(old.iter().all(|key| objects.contains(key)) && objects.len() > old.len(), "a live URL needs the old ones");
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.ids(), after.ids(), "a reader that comes back takes them for the same");
    }
    // URLs that were handed out stay valid until they expire; then the old copies go.
    let last = urls.last().unwrap();
    assert_eq!(fetch(&server, last).await.status, 200);
    server.app.pass(26 * 3_600);
    read_well(&server, &table, &visible, &acme).await;
    keep(&server).await;
    let objects = server.objects().await;
    assert!(old.iter().all(|key| !objects.contains(key)));
    assert_eq!(objects, ready_keys(&server).await);
}

fn urls(reads: &[TableRead]) -> Vec<String> {
    reads.iter().flat_map(|read| read.files.iter().map(|file| file.url.clone())).collect()
}

async fn after_a_commit_its_files_alone_are_made(server: WeirServer) {
    let (mut table, visible) = shared_claims_as_laid_out(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    let before = read_well(&server, &table, &visible, &acme).await;
    let made = sources(&server, "ready").await;
    let mut rows = claims(9_000, 8, 9);
    rows.iter_mut().for_each(|row| (row[2], row[3]) = (Value::text(PLANS[0]), Value::text("zregionnorth")));
    table.append(rows);
    // Made ahead, for whoever read it lately.
    server.app.service.materializer.refresh_copies().await.unwrap();
    let after = read_well(&server, &table, &visible, &acme).await;
    let new: Vec<String> =
        sources(&server, "ready").await.into_iter().filter(|source| !made.contains(source)).collect();
    assert_eq!(new, [table.state.files.last().unwrap().path.clone()]);
    assert!(before[0].ids().iter().all(|id| after[0].ids().contains(id)));
    let events = server.app.events("copies.make").await;
    assert_eq!(events[0]["files"], 1, "{}", events[0]);
}

async fn what_a_vanished_server_left_is_taken_over(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    read_well(&server, &table, &visible, &acme).await;
    // As if the server had been killed at it, a moment ago.
    server.app.execute("UPDATE copies SET state = 'making', needed_until = created_at").await;
    let made = ready_keys(&server).await;
    assert!(made.is_empty());
    let other = server.app.replica(Some(|views| views.wait_seconds = 0));
    let way = server.ways()[0];
    for _ in 0..3 {
        come_back(&acme.query_at(&other, way, newest()).await);
    }
    let left = server.objects().await;
    // Some seconds after it was last heard of.
    server.app.pass(15);
    wait_for(&acme, &other).await;
    read_well(&server, &table, &visible, &acme).await;
    let all = sources(&server, "ready").await;
    let mut once = all.clone();
    once.dedup();
    assert_eq!(all, once);
    // Nothing half-made is ever read, and nothing of it stays.
    keep(&server).await;
    let objects = server.objects().await;
    assert!(left.iter().all(|key| !objects.contains(key)));
    assert_eq!(objects, ready_keys(&server).await);
}

async fn a_damaged_file_is_tried_again_when_it_has_rested(server: WeirServer) {
    let (table, visible) = shared_claims_as_laid_out(&server, Mapping::None).await;
    let file = table.state.files.iter().find(|file| file.path.contains(PLANS[0])).unwrap();
    let path = server.app.folder("zsourcefolder").join(&file.path);
    let content = fs::read(&path).unwrap();
    fs::write(&path, vec![0; content.len()]).unwrap();
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    for way in server.ways() {
        acme.query(way, newest()).await.refused(400, "RESOURCE_DOES_NOT_EXIST");
    }
    let failed = server.copies(Some("failed")).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["source"], file.path.as_str());
    let why = failed[0]["failure"].as_str().unwrap();
    assert!(why.contains("Parquet") && !why.contains("zsource"), "{why}");
    // Whoever reads what does not need the file reads on.
    let rival = server.connector("rival", json!({"plans": [PLANS[1]]})).await;
    read_well(&server, &table, &visible, &rival).await;
    // Mended, it is left alone for a while, and then made.
    fs::write(&path, content).unwrap();
    acme.query(server.ways()[0], newest()).await.refused(400, "RESOURCE_DOES_NOT_EXIST");
    server.app.pass(31);
    read_well(&server, &table, &visible, &acme).await;
    assert!(server.copies(Some("failed")).await.is_empty());
}

async fn a_column_in_another_case_is_read_and_a_missing_one_hides_the_file(server: WeirServer) {
    let folder = server.app.folder("zsourcefolder");
    let all = [("claim_id", "long"), ("opted_out_at", "date")];
    let mut log = HandWrittenLog::create(&folder, protocol(1, 2), metadata("t", &all[..1], &[]));
    // Three claims, the second of which is hidden.
    let write = |name: &str, opted_out: Option<&str>| {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let days: ArrayRef = Arc::new(Date32Array::from(vec![None, Some(19_723), None]));
        let columns = [("claim_id", ids)].into_iter().chain(opted_out.map(|name| (name, days)));
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let path = folder.join(name);
        let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        json!({"add": {"path": name, "partitionValues": {}, "size": fs::metadata(&path).unwrap().len(),
            "modificationTime": 1, "dataChange": true}})
    };
    log.commit(&[write("before.parquet", None)]);
    log.commit(&[metadata("t", &all, &[]), write("cased.parquet", Some("OPTED_OUT_AT"))]);
    server.register().await;
    let view = server.publish(&json!([{"name": "claim_id"}]), Some("opted_out_at IS NULL")).await;
    server.share(&view).await;
    let acme = server.connector("acme", json!({})).await;
    let way = server.ways()[0];
    // A file that was there before the column has nobody who opted out.
    assert_eq!(acme.query(way, newest()).await.lines().len(), 4);
    let rows = |copies: &[serde_json::Value]| {
        let mut rows: Vec<_> =
            copies.iter().map(|copy| (copy["source"].as_str().unwrap().to_owned(), copy["rows"].as_u64())).collect();
        rows.sort();
        rows
    };
    let expected = [("before.parquet".to_owned(), Some(3)), ("cased.parquet".to_owned(), Some(2))];
    assert_eq!(rows(&server.copies(Some("ready")).await), expected);
    let preview = format!("/views/{VIEW}/preview");
    let preview = |limit: u64| server.app.post(&preview, json!({"recipient": "acme", "limit": limit}));
    let seen = preview(10).await.expect(200)["evidence"].clone();
    assert_eq!((&seen["rows_visible"], &seen["rows_total"]), (&json!(5), &json!(6)), "{seen}");
    // A later file that lacks the column is refused to everyone.
    log.commit(&[write("lacking.parquet", None)]);
    acme.query(way, json!({"version": 3})).await.refused(400, "RESOURCE_DOES_NOT_EXIST");
    let failed = server.copies(Some("failed")).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["source"], "lacking.parquet");
    let why = failed[0]["failure"].as_str().unwrap();
    assert!(why.contains("lacks the column `opted_out_at`"), "{why}");
    let refused = preview(10).await;
    assert!(refused.status.is_client_error() && refused.text.contains("`opted_out_at`"), "{}", refused.text);
}

async fn a_hidden_partition_value_in_another_case_is_read_and_a_missing_one_hides_the_file(server: WeirServer) {
    partition_values_are_read_in_any_case(server, json!([{"name": "claim_id"}]), &["opted_out_at"]).await;
}

/// Whole files are shown or not, and are handed out as they are.
async fn a_shown_partition_value_in_another_case_is_read_and_a_missing_one_hides_the_file(server: WeirServer) {
    let columns = json!([{"name": "claim_id"}, {"name": "opted_out_at"}]);
    partition_values_are_read_in_any_case(server, columns, &[]).await;
}

async fn partition_values_are_read_in_any_case(server: WeirServer, shown: serde_json::Value, telling: &[&str]) {
    let folder = server.app.folder("zsourcefolder");
    let columns = [("claim_id", "long"), ("opted_out_at", "date")];
    let mut log = HandWrittenLog::create(&folder, protocol(1, 2), metadata("t", &columns, &["opted_out_at"]));
    let write = |name: &str, values: serde_json::Value| {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let rows = RecordBatch::try_from_iter([("claim_id", ids)]).unwrap();
        let path = folder.join(name);
        let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        json!({"add": {"path": name, "partitionValues": values, "size": fs::metadata(&path).unwrap().len(),
            "modificationTime": 1, "dataChange": true}})
    };
    log.commit(&[
        write("out.parquet", json!({"OPTED_OUT_AT": "2024-01-01"})),
        write("in.parquet", json!({"Opted_Out_At": null})),
    ]);
    server.register().await;
    let view = server.publish_as_laid_out(&shown, Some("opted_out_at IS NULL"), telling).await;
    server.share(&view).await;
    let acme = server.connector("acme", json!({})).await;
    let way = server.ways()[0];
    let sources = |copies: &[serde_json::Value]| -> Vec<String> {
        copies.iter().map(|copy| copy["source"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(acme.query(way, newest()).await.lines().len(), 3);
    assert_eq!(sources(&server.copies(Some("ready")).await), ["in.parquet"]);
    log.commit(&[write("silent.parquet", json!({}))]);
    acme.query(way, json!({"version": 2})).await.refused(400, "RESOURCE_DOES_NOT_EXIST");
    let failed = server.copies(Some("failed")).await;
    assert_eq!(sources(&failed), ["silent.parquet"]);
    let why = failed[0]["failure"].as_str().unwrap();
    assert!(why.contains("lacks the column `opted_out_at`"), "{why}");
}

async fn a_source_out_of_reach_is_503_until_it_is_back(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    server.app.move_tables("s3://away/claims").await;
    for way in server.ways() {
        come_back(&acme.query(way, newest()).await);
        come_back(&acme.ask(way, "/metadata").await);
    }
    let location = server.app.location("zsourcefolder");
    server.app.move_tables(&location).await;
    read_well(&server, &table, &visible, &acme).await;
}

/// Copies that cannot be written are none, and their readers are told to come back.
async fn a_place_of_copies_out_of_reach_is_503_until_it_is_back(mut server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let s3 = server.s3.take().unwrap();
    s3.set_read_only(true);
    server.s3 = Some(s3);
    {
        let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
        for way in server.ways() {
            come_back(&acme.query(way, newest()).await);
        }
        server.s3.as_ref().unwrap().set_read_only(false);
        assert_eq!(server.objects().await, Vec::<String>::new());
        read_well(&server, &table, &visible, &acme).await;
    }
    let mut s3 = server.s3.take().unwrap();
    s3.stop().await;
    server.s3 = Some(s3);
    {
        // What is made already is handed out; what is not has to wait.
        let rival = server.connector("rival", json!({"plans": [PLANS[1]]})).await;
        for way in server.ways() {
            come_back(&rival.query(way, newest()).await);
        }
    }
    let mut s3 = server.s3.take().unwrap();
    s3.resume().await;
    server.s3 = Some(s3);
    let other = server.connector("other", json!({"plans": [PLANS[1]]})).await;
    read_well(&server, &table, &visible, &other).await;
    assert_eq!(server.objects().await, ready_keys(&server).await);
}

/// A server that was given up for dead, and was only slow.
async fn a_maker_that_comes_back_too_late_registers_nothing(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let (s3, way) = (server.s3.as_ref().unwrap(), server.ways()[0]);
    s3.hold();
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    let other = server.app.replica(None);
    let claims = async || {
        let making = server.copies(Some("making")).await;
        making.iter().map(|copy| copy["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (slow, (quick, first)) = tokio::join!(acme.query(way, newest()), async {
        s3.is_holding().await;
        let first = claims().await;
        server.app.pass(61);
        let quick = tokio::join!(acme.query_at(&other, way, newest()), async {
            while claims().await.iter().any(|id| first.contains(id)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            s3.release();
        });
        (quick.0, first)
    });
    assert!(!first.is_empty());
    let (slow, quick) = (TableRead::parse(way, &slow), TableRead::parse(way, &quick));
    assert_eq!(slow.ids(), quick.ids());
    read_well(&server, &table, &visible, &acme).await;
    let ready = server.copies(Some("ready")).await;
    assert!(ready.iter().all(|copy| !first.contains(&copy["id"].as_str().unwrap().to_owned())));
    keep(&server).await;
    assert_eq!(server.objects().await, ready_keys(&server).await);
}

/// Who asks before the files are there is told to come back, and the work goes on.
async fn a_first_reader_comes_back_while_the_work_goes_on(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    let answer = acme.query(server.ways()[0], newest()).await;
    come_back(&answer);
    assert!(answer.text().contains("being prepared"), "{}", answer.text());
    wait_for(&acme, &server.app).await;
    read_well(&server, &table, &visible, &acme).await;
}

/// However many wait for copies, everybody else is answered.
async fn whoever_waits_for_copies_keeps_nobody_out(server: WeirServer) {
    shared_claims(&server, Mapping::None).await;
    let room = PlaceLimits { requests: 1, per_address: 1, ..ROOM };
    let (app, _) = server.app.with_room(room, room, Duration::from_secs(60));
    let (s3, way) = (server.s3.as_ref().unwrap(), server.ways()[0]);
    s3.hold();
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    let rival = server.connector("rival", json!({"plans": [PLANS[1]]})).await;
    let (first, second, ()) =
        tokio::join!(acme.query_at(&app, way, newest()), acme.query_at(&app, way, newest()), async {
            s3.is_holding().await;
            for _ in 0..3 {
                assert_eq!(app.shared(&rival.token, "/shares").await.status, 200);
            }
            s3.release();
        });
    assert_eq!(TableRead::parse(way, &first).ids(), TableRead::parse(way, &second).ids());
}

/// What cannot be deleted keeps nothing else.
async fn one_copy_that_cannot_be_deleted_keeps_no_other(server: WeirServer) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    read_well(&server, &table, &visible, &acme).await;
    let stuck = server.copies(Some("ready")).await;
    let stuck = stuck.iter().find(|copy| copy["bytes"] != 0).unwrap();
    let path = server.app.copies_folder().join(stuck["object_key"].as_str().unwrap());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    server.app.post(&format!("/shares/{SHARE}/recipients/acme/revoke"), json!({"reason": "over"})).await.expect(200);
    for _ in 0..2 {
        let kept = server.app.service.materializer.keep_copies().await;
        server.app.pass(1);
        assert_eq!(kept.is_err(), server.objects().await.is_empty(), "what goes wrong is told");
    }
    assert_eq!(server.objects().await, Vec::<String>::new());
    let left = server.copies(None).await;
    assert_eq!((left.len(), &left[0]["id"]), (1, &stuck["id"]));
    fs::remove_dir(&path).unwrap();
    keep(&server).await;
    assert!(server.copies(None).await.is_empty());
}

#[test]
fn what_register_and_store_do_not_agree_about_is_named_in_a_folder() {
    run(Kind::Folder, what_register_and_store_do_not_agree_about_is_named);
}

#[test]
fn one_copy_that_cannot_be_deleted_keeps_no_other_in_a_folder() {
    run(Kind::Folder, one_copy_that_cannot_be_deleted_keeps_no_other);
}

#[test]
fn a_place_of_copies_out_of_reach_is_503_until_it_is_back_on_s3() {
    run(Kind::S3, a_place_of_copies_out_of_reach_is_503_until_it_is_back);
}

#[test]
fn whoever_waits_for_copies_keeps_nobody_out_on_sqlite() {
    run(Kind::S3, whoever_waits_for_copies_keeps_nobody_out);
}

#[test]
fn whoever_waits_for_copies_keeps_nobody_out_on_postgres() {
    run(Kind::Postgres, whoever_waits_for_copies_keeps_nobody_out);
}

#[test]
fn a_maker_that_comes_back_too_late_registers_nothing_on_sqlite() {
    run(Kind::S3, a_maker_that_comes_back_too_late_registers_nothing);
}

#[test]
fn a_maker_that_comes_back_too_late_registers_nothing_on_postgres() {
    run(Kind::Postgres, a_maker_that_comes_back_too_late_registers_nothing);
}

#[test]
fn a_first_reader_comes_back_while_the_work_goes_on_in_a_folder() {
    run_with(Kind::Folder, Some(|views| views.wait_seconds = 0), a_first_reader_comes_back_while_the_work_goes_on);
}

/// How many bytes of copies there are, and what they are of.
async fn kept(server: &WeirServer) -> (u64, Vec<String>) {
    let copies = server.copies(Some("ready")).await;
    (copies.iter().map(|copy| copy["bytes"].as_u64().unwrap()).sum(), sources(server, "ready").await)
}

/// Reads what is newest, and is refused what is older and would have to be made.
async fn is_given_no_more_than_the_newest(server: WeirServer, told: &str) {
    let (table, visible) = shared_claims(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": PLANS})).await;
    read_well(&server, &table, &visible, &acme).await;
    let before = kept(&server).await;
    assert!(before.0 > 0);
    for version in [1, 2, 1] {
        let answer = acme.query(acme.first_way(), json!({"version": version})).await;
        let message = answer.refused(429, "REQUEST_LIMIT_EXCEEDED");
        assert!(message.contains(told), "{message}");
        assert!(!answer.header("retry-after").is_empty());
    }
    assert_eq!(kept(&server).await, before);
    read_well(&server, &table, &visible, &acme).await;
}

#[test]
fn older_versions_are_not_made_for_a_recipient_that_has_its_fill() {
    for kind in [Kind::Folder, Kind::Postgres] {
        let full = |server| is_given_no_more_than_the_newest(server, "kept ready for this recipient as may be");
        run_with(kind, Some(|views| views.max_bytes_per_recipient = 1), full);
    }
}

#[test]
fn nothing_is_made_where_there_is_no_room_left() {
    for kind in [Kind::Folder, Kind::Postgres] {
        let full = |server| is_given_no_more_than_the_newest(server, "as much ready as it has room for");
        run_with(kind, Some(|views| views.max_bytes = 1), full);
    }
}

/// Of versions that are asked for at once, no more are made than there is room for.
async fn is_given_one_of_several_at_once(server: WeirServer) {
    shared_claims_as_laid_out(&server, Mapping::None).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    acme.query(acme.first_way(), newest()).await.lines();
    // What was made for it ahead is no longer its own, and of what is there is nothing yet.
    server.app.patch("/recipients/acme", json!({"properties": {"plans": PLANS}})).await.expect(200);
    server.app.execute("DELETE FROM entitlements").await;
    let ask = |version: u64| acme.query(acme.first_way(), json!({"version": version}));
    let answers = futures::join!(ask(1), ask(2), ask(3));
    let statuses = [answers.0.status, answers.1.status, answers.2.status];
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
}

#[test]
fn what_is_being_made_takes_room() {
    for kind in [Kind::Folder, Kind::Postgres] {
        run_with(kind, Some(|views| views.max_bytes_per_recipient = 1), is_given_one_of_several_at_once);
    }
}

/// One recipient has its fill and asks for a version that another reads as the latest.
async fn is_not_refused_for_the_other(server: WeirServer) {
    let (table, visible) = registered_claims(&server, Mapping::None).await;
    // Nothing of it is any recipient's own.
    let columns = json!([{"name": "claim_id"}, {"name": "plan", "from": "plan_code"}]);
    let view = server.publish(&columns, visible.filter.as_deref()).await;
    server.share(&view).await;
    let acme = server.connector("acme", json!({"plans": [PLANS[0]]})).await;
    let rival = server.connector("rival", json!({"plans": [PLANS[0]]})).await;
    acme.query(acme.first_way(), newest()).await.lines();
    // What both read alike from now on has not been made yet.
    for name in ["acme", "rival"] {
        let changed = json!({"properties": {"plans": [PLANS[1]]}});
        server.app.patch(&format!("/recipients/{name}"), changed).await.expect(200);
    }
    let (_, latest) = futures::join!(
        acme.query(acme.first_way(), json!({"version": table.version()})),
        rival.query(rival.first_way(), newest()),
    );
    assert_eq!(latest.status, 200, "{}", latest.text());
}

#[test]
fn a_recipients_quota_refuses_nobody_else() {
    for kind in [Kind::Folder, Kind::Postgres] {
        run_with(kind, Some(|views| views.max_bytes_per_recipient = 1), is_not_refused_for_the_other);
    }
}
