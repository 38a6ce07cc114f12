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

use crate::support::{
    app::{ROOM, TestApp},
    tables::{HandWrittenLog, metadata, protocol},
};

use super::{
    partner::{Partner, Received, TableRead, fetch, newest},
    scene::{PLANS, claims, read_well, registered_claims, shared_claims, shared_claims_as_laid_out},
    source::Mapping,
    stage::{Kind, SHARE, Stage, VIEW, everywhere, run, run_with},
    value::Value,
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

async fn keep(stage: &Stage) {
    // One round ends copies and the next deletes them.
    for _ in 0..2 {
        stage.app.service.keep_copies().await.unwrap();
        stage.app.pass(1);
    }
}

async fn copies_go_with_the_last_who_may_read_them(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let plans = json!({"plans": [PLANS[0]]});
    let acme = stage.partner("acme", plans.clone()).await;
    read_well(&stage, &table, &lens, &acme).await;
    let written = stage.objects().await;
    assert!(!written.is_empty() && stage.copies(Some("ready")).await.len() >= written.len());
    keep(&stage).await;
    assert_eq!(stage.objects().await, written, "nothing goes while its URLs live");
    let revoked = stage.app.post(&format!("/shares/{SHARE}/recipients/acme/revoke"), json!({})).await;
    revoked.expect(200);
    // In the next round, however little time has passed.
    stage.app.service.keep_copies().await.unwrap();
    assert_eq!(stage.objects().await, Vec::<String>::new());
    assert!(stage.copies(None).await.is_empty() && !stage.copies(Some("deleted")).await.is_empty());
    // A recipient with a new grant reads files that are made again.
    stage.app.post("/grants", json!({"share": SHARE, "recipient": "acme"})).await.expect(201);
    read_well(&stage, &table, &lens, &acme).await;
    assert!(!stage.objects().await.is_empty());
}

async fn copies_that_nobody_reads_go_when_their_urls_are_dead(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    read_well(&stage, &table, &lens, &acme).await;
    stage.app.pass(24 * 3_600 - 10);
    keep(&stage).await;
    assert!(!stage.objects().await.is_empty(), "a URL of a day ago is still good");
    stage.app.pass(LATER - 24 * 3_600);
    keep(&stage).await;
    assert_eq!(stage.objects().await, Vec::<String>::new());
    read_well(&stage, &table, &lens, &acme).await;
}

async fn what_register_and_store_do_not_agree_about_is_named(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    read_well(&stage, &table, &lens, &acme).await;
    let lost = stage.objects().await.remove(0);
    fs::remove_file(stage.app.copies_folder().join(&lost)).unwrap();
    let stray = stage.app.copies_folder().join("m/stray");
    fs::write(&stray, "x").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    fs::File::options().write(true).open(&stray).unwrap().set_modified(long_ago).unwrap();
    let ctx = OperatorContext::system("test", stage.app.now());
    let found = stage.app.service.reconcile_copies(&ctx).await.unwrap();
    assert_eq!(found.orphans, ["m/stray"]);
    assert_eq!(found.missing.len(), 1);
    // Missing copies are made again before they are handed out; unknown files stay for an operator to check.
    read_well(&stage, &table, &lens, &acme).await;
    assert!(stray.exists());
}

async fn servers_divide_the_work_and_make_each_copy_once(stage: Stage) {
    let (_, _) = shared_claims(&stage, Mapping::None).await;
    let other = stage.app.replica(None);
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    let way = stage.ways()[0];
    let (here, there) = tokio::join!(acme.query(way, json!({})), acme.query_at(&other, way, json!({})));
    assert_eq!(here.lines().len(), there.lines().len());
    let copies = stage.copies(None).await;
    let mut sources: Vec<&str> = copies.iter().map(|copy| copy["source"].as_str().unwrap()).collect();
    let made = sources.len();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources.len(), made);
}

/// Waits until a server has the copies for which it answers 503 meanwhile.
async fn wait_for(partner: &Partner<'_>, server: &TestApp) {
    let way = partner.first_way();
    let begun = Instant::now();
    while partner.query_at(server, way, newest()).await.status != 200 {
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

/// The sources of the copies in a state, sorted.
async fn sources(stage: &Stage, state: &str) -> Vec<String> {
    let copies = stage.copies(Some(state)).await;
    let mut sources: Vec<String> = copies.iter().map(|copy| copy["source"].as_str().unwrap().to_owned()).collect();
    sources.sort_unstable();
    sources
}

/// The keys of the copies that were written and are ready, sorted.
async fn ready_keys(stage: &Stage) -> Vec<String> {
    let copies = stage.copies(Some("ready")).await;
    let written = copies.iter().filter(|copy| copy["bytes"] != 0);
    let mut keys: Vec<String> = written.map(|copy| copy["object_key"].as_str().unwrap().to_owned()).collect();
    keys.sort_unstable();
    keys
}

async fn aged_copies_are_made_anew_under_their_ids(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    // Read daily, so that no copy becomes idle.
    for _ in 0..6 {
        read_well(&stage, &table, &lens, &acme).await;
        stage.app.pass(23 * 3_600);
        stage.app.service.keep_copies().await.unwrap();
    }
    let before = read_well(&stage, &table, &lens, &acme).await;
    let old = stage.objects().await;
    stage.app.pass(30 * 3_600 + 60);
    read_well(&stage, &table, &lens, &acme).await;
    let urls = self::urls(&acme.read_in_all_ways(json!({})).await);
    stage.app.service.keep_copies().await.unwrap();
    assert!(!stage.copies(Some("draining")).await.is_empty(), "none of them was old");
    // A server may go on for an hour with the copies it knows.
    stage.app.pass(3_601);
    let after = read_well(&stage, &table, &lens, &acme).await;
    let objects = stage.objects().await;
    assert!(old.iter().all(|key| objects.contains(key)) && objects.len() > old.len(), "a live URL needs the old ones");
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.ids(), after.ids(), "a reader that comes back takes them for the same");
    }
    // URLs that were handed out stay valid until they expire; then the old copies go.
    let last = urls.last().unwrap();
    assert_eq!(fetch(&stage, last).await.status, 200);
    stage.app.pass(26 * 3_600);
    read_well(&stage, &table, &lens, &acme).await;
    keep(&stage).await;
    let objects = stage.objects().await;
    assert!(old.iter().all(|key| !objects.contains(key)));
    assert_eq!(objects, ready_keys(&stage).await);
}

fn urls(reads: &[TableRead]) -> Vec<String> {
    reads.iter().flat_map(|read| read.files.iter().map(|file| file.url.clone())).collect()
}

async fn after_a_commit_its_files_alone_are_made(stage: Stage) {
    let (mut table, lens) = shared_claims_as_laid_out(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    let before = read_well(&stage, &table, &lens, &acme).await;
    let made = sources(&stage, "ready").await;
    let mut rows = claims(9_000, 8, 9);
    rows.iter_mut().for_each(|row| (row[2], row[3]) = (Value::text(PLANS[0]), Value::text("zregionnorth")));
    table.append(rows);
    // Made ahead for recent readers.
    stage.app.service.refresh_copies().await.unwrap();
    let after = read_well(&stage, &table, &lens, &acme).await;
    let new: Vec<String> = sources(&stage, "ready").await.into_iter().filter(|source| !made.contains(source)).collect();
    assert_eq!(new, [table.state.files.last().unwrap().path.clone()]);
    assert!(before[0].ids().iter().all(|id| after[0].ids().contains(id)));
    let events = stage.app.events("copies.make").await;
    assert_eq!(events[0]["files"], 1, "{}", events[0]);
}

async fn what_a_vanished_server_left_is_taken_over(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    read_well(&stage, &table, &lens, &acme).await;
    // As if the server had been killed while making it, a moment ago.
    stage.app.execute("UPDATE copies SET state = 'making', needed_until = created_at").await;
    let made = ready_keys(&stage).await;
    assert!(made.is_empty());
    let other = stage.app.replica(Some(|views| views.wait_seconds = 0));
    let way = stage.ways()[0];
    for _ in 0..3 {
        come_back(&acme.query_at(&other, way, newest()).await);
    }
    let left = stage.objects().await;
    // A few seconds after the server's last renewal.
    stage.app.pass(15);
    wait_for(&acme, &other).await;
    read_well(&stage, &table, &lens, &acme).await;
    let all = sources(&stage, "ready").await;
    let mut once = all.clone();
    once.dedup();
    assert_eq!(all, once);
    // A half-made copy is never read, and nothing of it remains.
    keep(&stage).await;
    let objects = stage.objects().await;
    assert!(left.iter().all(|key| !objects.contains(key)));
    assert_eq!(objects, ready_keys(&stage).await);
}

async fn a_damaged_file_is_tried_again_when_it_has_rested(stage: Stage) {
    let (table, lens) = shared_claims_as_laid_out(&stage, Mapping::None).await;
    let file = table.state.files.iter().find(|file| file.path.contains(PLANS[0])).unwrap();
    let path = stage.app.folder("zsourcefolder").join(&file.path);
    let content = fs::read(&path).unwrap();
    fs::write(&path, vec![0; content.len()]).unwrap();
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    for way in stage.ways() {
        acme.query(way, newest()).await.refused(400, "RESOURCE_DOES_NOT_EXIST");
    }
    let failed = stage.copies(Some("failed")).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["source"], file.path.as_str());
    let why = failed[0]["failure"].as_str().unwrap();
    assert!(why.contains("Parquet") && !why.contains("zsource"), "{why}");
    // Readers who do not need the broken file are not affected.
    let rival = stage.partner("rival", json!({"plans": [PLANS[1]]})).await;
    read_well(&stage, &table, &lens, &rival).await;
    // Once repaired, the file is made after a pause.
    fs::write(&path, content).unwrap();
    acme.query(stage.ways()[0], newest()).await.refused(400, "RESOURCE_DOES_NOT_EXIST");
    stage.app.pass(31);
    read_well(&stage, &table, &lens, &acme).await;
    assert!(stage.copies(Some("failed")).await.is_empty());
}

async fn a_column_in_another_case_is_read_and_a_missing_one_hides_the_file(stage: Stage) {
    let folder = stage.app.folder("zsourcefolder");
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
    stage.register().await;
    let view = stage.publish(&json!([{"name": "claim_id"}]), Some("opted_out_at IS NULL")).await;
    stage.share(&view).await;
    let acme = stage.partner("acme", json!({})).await;
    let way = stage.ways()[0];
    // A file from before the column existed has no opt-outs.
    assert_eq!(acme.query(way, newest()).await.lines().len(), 4);
    let rows = |copies: &[serde_json::Value]| {
        let mut rows: Vec<_> =
            copies.iter().map(|copy| (copy["source"].as_str().unwrap().to_owned(), copy["rows"].as_u64())).collect();
        rows.sort();
        rows
    };
    let expected = [("before.parquet".to_owned(), Some(3)), ("cased.parquet".to_owned(), Some(2))];
    assert_eq!(rows(&stage.copies(Some("ready")).await), expected);
    let preview = format!("/views/{VIEW}/preview");
    let preview = |limit: u64| stage.app.post(&preview, json!({"recipient": "acme", "limit": limit}));
    let seen = preview(10).await.expect(200)["evidence"].clone();
    assert_eq!((&seen["rows_visible"], &seen["rows_total"]), (&json!(5), &json!(6)), "{seen}");
    // A later file that lacks the column is refused to everyone.
    log.commit(&[write("lacking.parquet", None)]);
    acme.query(way, json!({"version": 3})).await.refused(400, "RESOURCE_DOES_NOT_EXIST");
    let failed = stage.copies(Some("failed")).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["source"], "lacking.parquet");
    let why = failed[0]["failure"].as_str().unwrap();
    assert!(why.contains("lacks the column `opted_out_at`"), "{why}");
    let refused = preview(10).await;
    assert!(refused.status.is_client_error() && refused.text.contains("`opted_out_at`"), "{}", refused.text);
}

async fn a_hidden_partition_value_in_another_case_is_read_and_a_missing_one_hides_the_file(stage: Stage) {
    partition_values_are_read_in_any_case(stage, json!([{"name": "claim_id"}]), &["opted_out_at"]).await;
}

/// Whole files are shown or hidden, and handed out unchanged.
async fn a_shown_partition_value_in_another_case_is_read_and_a_missing_one_hides_the_file(stage: Stage) {
    let columns = json!([{"name": "claim_id"}, {"name": "opted_out_at"}]);
    partition_values_are_read_in_any_case(stage, columns, &[]).await;
}

async fn partition_values_are_read_in_any_case(stage: Stage, shown: serde_json::Value, telling: &[&str]) {
    let folder = stage.app.folder("zsourcefolder");
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
    stage.register().await;
    let view = stage.publish_as_laid_out(&shown, Some("opted_out_at IS NULL"), telling).await;
    stage.share(&view).await;
    let acme = stage.partner("acme", json!({})).await;
    let way = stage.ways()[0];
    let sources = |copies: &[serde_json::Value]| -> Vec<String> {
        copies.iter().map(|copy| copy["source"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(acme.query(way, newest()).await.lines().len(), 3);
    assert_eq!(sources(&stage.copies(Some("ready")).await), ["in.parquet"]);
    log.commit(&[write("silent.parquet", json!({}))]);
    acme.query(way, json!({"version": 2})).await.refused(400, "RESOURCE_DOES_NOT_EXIST");
    let failed = stage.copies(Some("failed")).await;
    assert_eq!(sources(&failed), ["silent.parquet"]);
    let why = failed[0]["failure"].as_str().unwrap();
    assert!(why.contains("lacks the column `opted_out_at`"), "{why}");
}

async fn a_source_out_of_reach_is_503_until_it_is_back(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    stage.app.move_tables("s3://away/claims").await;
    for way in stage.ways() {
        come_back(&acme.query(way, newest()).await);
        come_back(&acme.ask(way, "/metadata").await);
    }
    let location = stage.app.location("zsourcefolder");
    stage.app.move_tables(&location).await;
    read_well(&stage, &table, &lens, &acme).await;
}

/// If copies cannot be written, readers are told to come back.
async fn a_place_of_copies_out_of_reach_is_503_until_it_is_back(mut stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let s3 = stage.s3.take().unwrap();
    s3.set_read_only(true);
    stage.s3 = Some(s3);
    {
        let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
        for way in stage.ways() {
            come_back(&acme.query(way, newest()).await);
        }
        stage.s3.as_ref().unwrap().set_read_only(false);
        assert_eq!(stage.objects().await, Vec::<String>::new());
        read_well(&stage, &table, &lens, &acme).await;
    }
    let mut s3 = stage.s3.take().unwrap();
    s3.stop().await;
    stage.s3 = Some(s3);
    {
        // Existing copies are still handed out; readers of others must wait.
        let rival = stage.partner("rival", json!({"plans": [PLANS[1]]})).await;
        for way in stage.ways() {
            come_back(&rival.query(way, newest()).await);
        }
    }
    let mut s3 = stage.s3.take().unwrap();
    s3.resume().await;
    stage.s3 = Some(s3);
    let other = stage.partner("other", json!({"plans": [PLANS[1]]})).await;
    read_well(&stage, &table, &lens, &other).await;
    assert_eq!(stage.objects().await, ready_keys(&stage).await);
}

/// A server that was believed dead was only slow.
async fn a_maker_that_comes_back_too_late_registers_nothing(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let (s3, way) = (stage.s3.as_ref().unwrap(), stage.ways()[0]);
    s3.hold();
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    let other = stage.app.replica(None);
    let claims = async || {
        let making = stage.copies(Some("making")).await;
        making.iter().map(|copy| copy["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (slow, (quick, first)) = tokio::join!(acme.query(way, newest()), async {
        s3.is_holding().await;
        let first = claims().await;
        stage.app.pass(61);
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
    read_well(&stage, &table, &lens, &acme).await;
    let ready = stage.copies(Some("ready")).await;
    assert!(ready.iter().all(|copy| !first.contains(&copy["id"].as_str().unwrap().to_owned())));
    keep(&stage).await;
    assert_eq!(stage.objects().await, ready_keys(&stage).await);
}

/// A reader who asks before the files are ready is told to come back, and the work continues.
async fn a_first_reader_comes_back_while_the_work_goes_on(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    let answer = acme.query(stage.ways()[0], newest()).await;
    come_back(&answer);
    assert!(answer.text().contains("being prepared"), "{}", answer.text());
    wait_for(&acme, &stage.app).await;
    read_well(&stage, &table, &lens, &acme).await;
}

/// Readers who wait for copies do not keep other requests from being answered.
async fn whoever_waits_for_copies_keeps_nobody_out(stage: Stage) {
    shared_claims(&stage, Mapping::None).await;
    let room = PlaceLimits { requests: 1, per_address: 1, ..ROOM };
    let (app, _) = stage.app.with_room(room, room, Duration::from_secs(60));
    let (s3, way) = (stage.s3.as_ref().unwrap(), stage.ways()[0]);
    s3.hold();
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    let rival = stage.partner("rival", json!({"plans": [PLANS[1]]})).await;
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

/// A copy that cannot be deleted does not keep others from being deleted.
async fn one_copy_that_cannot_be_deleted_keeps_no_other(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    read_well(&stage, &table, &lens, &acme).await;
    let stuck = stage.copies(Some("ready")).await;
    let stuck = stuck.iter().find(|copy| copy["bytes"] != 0).unwrap();
    let path = stage.app.copies_folder().join(stuck["object_key"].as_str().unwrap());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    stage.app.post(&format!("/shares/{SHARE}/recipients/acme/revoke"), json!({"reason": "over"})).await.expect(200);
    for _ in 0..2 {
        let kept = stage.app.service.keep_copies().await;
        stage.app.pass(1);
        assert_eq!(kept.is_err(), stage.objects().await.is_empty(), "what goes wrong is told");
    }
    assert_eq!(stage.objects().await, Vec::<String>::new());
    let left = stage.copies(None).await;
    assert_eq!((left.len(), &left[0]["id"]), (1, &stuck["id"]));
    fs::remove_dir(&path).unwrap();
    keep(&stage).await;
    assert!(stage.copies(None).await.is_empty());
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

/// The total size of the copies, and their sources.
async fn kept(stage: &Stage) -> (u64, Vec<String>) {
    let copies = stage.copies(Some("ready")).await;
    (copies.iter().map(|copy| copy["bytes"].as_u64().unwrap()).sum(), sources(stage, "ready").await)
}

/// Reads the newest version and is refused an older one that would have to be made.
async fn is_given_no_more_than_the_newest(stage: Stage, told: &str) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": PLANS})).await;
    read_well(&stage, &table, &lens, &acme).await;
    let before = kept(&stage).await;
    assert!(before.0 > 0);
    for version in [1, 2, 1] {
        let answer = acme.query(acme.first_way(), json!({"version": version})).await;
        let message = answer.refused(429, "REQUEST_LIMIT_EXCEEDED");
        assert!(message.contains(told), "{message}");
        assert!(!answer.header("retry-after").is_empty());
    }
    assert_eq!(kept(&stage).await, before);
    read_well(&stage, &table, &lens, &acme).await;
}

#[test]
fn older_versions_are_not_made_for_a_recipient_that_has_its_fill() {
    for kind in [Kind::Folder, Kind::Postgres] {
        let full = |stage| is_given_no_more_than_the_newest(stage, "kept ready for this recipient as may be");
        run_with(kind, Some(|views| views.max_bytes_per_recipient = 1), full);
    }
}

#[test]
fn nothing_is_made_where_there_is_no_room_left() {
    for kind in [Kind::Folder, Kind::Postgres] {
        let full = |stage| is_given_no_more_than_the_newest(stage, "as much ready as it has room for");
        run_with(kind, Some(|views| views.max_bytes = 1), full);
    }
}

/// Of several versions requested at once, only as many are made as there is room for.
async fn is_given_one_of_several_at_once(stage: Stage) {
    shared_claims_as_laid_out(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    acme.query(acme.first_way(), newest()).await.lines();
    // The copies made ahead no longer belong to it, and the new ones are not made yet.
    stage.app.patch("/recipients/acme", json!({"properties": {"plans": PLANS}})).await.expect(200);
    stage.app.execute("DELETE FROM entitlements").await;
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

/// One recipient has used up its room and requests a version that another reads as the newest.
async fn is_not_refused_for_the_other(stage: Stage) {
    let (table, lens) = registered_claims(&stage, Mapping::None).await;
    // Nothing in the view depends on the recipient.
    let columns = json!([{"name": "claim_id"}, {"name": "plan", "from": "plan_code"}]);
    let view = stage.publish(&columns, lens.filter.as_deref()).await;
    stage.share(&view).await;
    let acme = stage.partner("acme", json!({"plans": [PLANS[0]]})).await;
    let rival = stage.partner("rival", json!({"plans": [PLANS[0]]})).await;
    acme.query(acme.first_way(), newest()).await.lines();
    // What both read alike from now on has not been made yet.
    for name in ["acme", "rival"] {
        let changed = json!({"properties": {"plans": [PLANS[1]]}});
        stage.app.patch(&format!("/recipients/{name}"), changed).await.expect(200);
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
