//! Surrogates and shifted dates through the whole server: what recipients read of them, and how long they last.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::{
    check::{self, nothing},
    claims_view::{claims, columns, findings, read_well, reader},
    connector::{Connector, TableRead},
    plain::{Pick, Visible},
    source::{Mapping, Table},
    value::{Row, Value},
    weir_server::{Kind, SHARE, TABLE, VIEW, WeirServer, everywhere, run, run_with},
};

everywhere!(
    surrogates_are_the_same_for_a_value_and_a_recipient_wherever_they_stand,
    surrogates_go_with_their_recipient_and_never_come_back,
    a_preview_shows_what_the_connector_reads,
    shifted_dates_keep_their_distance_and_say_nothing_of_where_they_were,
);

#[test]
fn a_view_that_needs_more_surrogates_than_it_may_is_refused_with_the_reason_on_sqlite() {
    run_with(Kind::Folder, Some(|views| views.max_surrogates = 10), too_many);
}

#[test]
fn a_view_that_needs_more_surrogates_than_it_may_is_refused_with_the_reason_on_postgres() {
    run_with(Kind::Postgres, Some(|views| views.max_surrogates = 10), too_many);
}

/// The view of all tests here: a claim's number, and its member as a surrogate, as itself and in a list.
fn visible() -> Visible {
    let surrogate = || json!({"surrogate": {"domain": "member"}});
    Visible {
        columns: vec![
            ("claim_id".to_owned(), Pick::whole("claim_id")),
            ("member".to_owned(), Pick::masked("zmember_name", surrogate())),
            ("tags".to_owned(), Pick::masked("tags", surrogate())),
        ],
        filter: Some("claim_id <> 3".to_owned()),
        ..Visible::default()
    }
}

async fn shared(server: &WeirServer) -> Table {
    let visible = visible();
    let table = registered(server).await;
    let view = server.publish(&visible.definition(), visible.filter.as_deref()).await;
    server.share(&view).await;
    table
}

async fn registered(server: &WeirServer) -> Table {
    let mut table = server.table(&columns(), &["plan_code", "zregion_name"], Mapping::None, 7);
    let mut rows = claims(0, 60, 1);
    // Some members have several claims, and one is named in a list.
    for at in 1..20 {
        rows[40 + at][1] = rows[at][1].clone();
    }
    rows[30][12] = Value::List(vec![Value::Null, rows[31][1].clone()]);
    table.append(rows);
    table.append(claims(1_000, 30, 2));
    table.delete(|row| matches!(row[0], Value::Integer(id) if id % 5 == 0));
    server.register().await;
    table
}

fn rows_of(read: &TableRead) -> Vec<Row> {
    read.files.iter().flat_map(|file| super::parquet_parts::take_apart(&file.bytes).rows).collect()
}

fn number(row: &Row) -> i64 {
    let Value::Integer(id) = row[0] else { panic!("{row:?}") };
    id
}

/// The surrogates of all values, as a connector reads them now. Fails if a value has two, or two values share one.
async fn surrogates(server: &WeirServer, table: &Table, connector: &Connector<'_>) -> BTreeMap<String, String> {
    connector.wait_for(table.version()).await;
    let reads = connector.read_in_all_ways(json!({})).await;
    let source: BTreeMap<i64, Row> = table.state.rows().into_iter().map(|row| (number(&row), row)).collect();
    let mut learned: BTreeMap<String, String> = BTreeMap::new();
    let mut learn = |raw: &Value, shown: &Value| match (raw, shown) {
        (Value::Null, Value::Null) => {}
        (raw, Value::Text(shown)) => {
            assert!(shown.len() == 28 && shown.starts_with("s_"), "{shown}");
            let known = learned.entry(format!("{raw:?}")).or_insert_with(|| shown.clone());
            assert_eq!(known, shown, "{raw:?} has two surrogates");
        }
        other => panic!("{other:?}"),
    };
    for row in reads.iter().flat_map(rows_of) {
        let raw = &source[&number(&row)];
        learn(&raw[1], &row[1]);
        match (&raw[12], &row[2]) {
            (Value::Null, Value::Null) => {}
            (Value::List(raw), Value::List(shown)) if raw.len() == shown.len() => {
                raw.iter().zip(shown).for_each(|(raw, shown)| learn(raw, shown));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(learned.values().collect::<BTreeSet<_>>().len(), learned.len(), "two values share a surrogate");
    // With what was learned, everything else is checked as of any other mask.
    let visible = visible();
    let reader = super::plain::Reader { surrogates: learned.clone(), ..reader(server, connector).await };
    let expected = visible.shown(&table.state, &reader);
    nothing(&findings(server, table, connector, &expected, &reads));
    learned
}

async fn surrogates_are_the_same_for_a_value_and_a_recipient_wherever_they_stand(server: WeirServer) {
    let mut table = shared(&server).await;
    let (acme, rival) = (server.connector("acme", json!({})).await, server.connector("rival", json!({})).await);
    let mine = surrogates(&server, &table, &acme).await;
    let theirs = surrogates(&server, &table, &rival).await;
    assert!(mine.len() > 40 && mine.keys().eq(theirs.keys()));
    let shown = |of: &BTreeMap<String, String>| of.values().cloned().collect::<BTreeSet<_>>();
    assert!(shown(&mine).is_disjoint(&shown(&theirs)));
    // New rows show their old values as before, also if another server makes them.
    let mut rows = claims(2_000, 30, 3);
    rows.iter_mut().zip(claims(0, 30, 1)).for_each(|(new, old)| new[1] = old[1].clone());
    table.append(rows);
    let other = server.app.replica(None);
    other.service.materializer.refresh_copies().await.unwrap();
    let more = surrogates(&server, &table, &acme).await;
    assert!(more.len() > mine.len() && mine.iter().all(|(raw, shown)| more[raw] == *shown));
    // A copy that is made anew shows the same.
    for copy in server.copies(Some("ready")).await {
        let mut tx = server.app.service.core.db.begin().await.unwrap();
        tx.drain_copy(copy["id"].as_str().unwrap().parse().unwrap(), Some(server.app.now())).await.unwrap();
        tx.commit().await.unwrap();
    }
    server.app.pass(8 * 86_400);
    server.app.service.materializer.keep_copies().await.unwrap();
    assert_eq!(surrogates(&server, &table, &acme).await, more);
}

async fn surrogates_go_with_their_recipient_and_never_come_back(server: WeirServer) {
    let table = shared(&server).await;
    let (acme, rival) = (server.connector("acme", json!({})).await, server.connector("rival", json!({})).await);
    let mine = surrogates(&server, &table, &acme).await;
    let theirs = surrogates(&server, &table, &rival).await;
    // Who is suspended for a while keeps them.
    server.app.post("/recipients/acme/suspend", json!({"reason": "a test"})).await.expect(200);
    server.app.service.materializer.keep_surrogates().await.unwrap();
    server.app.post("/recipients/acme/resume", json!({"reason": "a test"})).await.expect(200);
    server.app.service.materializer.keep_copies().await.unwrap();
    assert_eq!(surrogates(&server, &table, &acme).await, mine);
    assert!(server.app.events("surrogates.delete").await.is_empty());
    // Who is granted nothing any more does not.
    server.app.post(&format!("/shares/{SHARE}/recipients/acme/revoke"), json!({})).await.expect(200);
    server.app.service.materializer.keep_copies().await.unwrap();
    server.app.service.materializer.keep_surrogates().await.unwrap();
    let events = server.app.events("surrogates.delete").await;
    assert!(events.len() == 1 && events[0]["recipient"] == "acme", "{events:?}");
    server.app.post("/grants", json!({"share": SHARE, "recipient": "acme"})).await.expect(201);
    let anew = surrogates(&server, &table, &acme).await;
    assert!(anew.keys().eq(mine.keys()));
    assert!(anew.values().collect::<BTreeSet<_>>().is_disjoint(&mine.values().collect()));
    // Others are as they were.
    assert_eq!(surrogates(&server, &table, &rival).await, theirs);
    server.app.post("/recipients/rival/offboard", json!({"reason": "a test"})).await.expect(200);
    server.app.service.materializer.keep_surrogates().await.unwrap();
    assert_eq!(server.app.events("surrogates.delete").await.len(), 2);
}

async fn a_preview_shows_what_the_connector_reads(server: WeirServer) {
    // A copy for each file: the other tests have mixed ones.
    let table = registered(&server).await;
    let (columns, filter) = (visible().definition(), visible().filter);
    let telling = ["plan_code", "zregion_name"];
    let view = server.publish_as_laid_out(&columns, filter.as_deref(), &telling).await;
    server.share(&view).await;
    let acme = server.connector("acme", json!({})).await;
    let preview = async || {
        let path = format!("/views/{VIEW}/preview");
        let answer = server.app.post(&path, json!({"recipient": "acme", "limit": 1_000})).await.expect(200);
        let rows = answer["evidence"]["rows"].as_array().unwrap().clone();
        rows.iter().map(|row| (row["claim_id"].as_i64().unwrap(), row["member"].clone())).collect::<BTreeMap<_, _>>()
    };
    let before = preview().await;
    surrogates(&server, &table, &acme).await;
    let read = acme.read(acme.first_way(), json!({})).await;
    let shown = |value: &Value| match value {
        Value::Text(text) => json!(text),
        _ => Json::Null,
    };
    let read: BTreeMap<i64, Json> = rows_of(&read).iter().map(|row| (number(row), shown(&row[1]))).collect();
    assert_eq!(before, read);
    assert_eq!(preview().await, read);
}

async fn too_many(server: WeirServer) {
    let table = shared(&server).await;
    let acme = server.connector("acme", json!({})).await;
    let refused = acme.query(acme.first_way(), json!({})).await;
    assert!((400..500).contains(&refused.status) && refused.text().contains("data provider"), "{}", refused.text());
    let failed = server.copies(Some("failed")).await;
    let reason = failed[0]["failure"].as_str().unwrap();
    assert!(reason.contains("views.max_surrogates") && reason.contains("10"), "{reason}");
    let path = format!("/views/{VIEW}/preview");
    let preview = server.app.post(&path, json!({"recipient": "acme", "limit": 100})).await;
    assert!(preview.status == 409 && preview.text.contains("views.max_surrogates"), "{}", preview.text);
    // A view with few values has room.
    let few = json!([{"name": "plan", "from": "plan_code", "mask": {"surrogate": {"domain": "plan"}}}]);
    let body = json!({"source": {"table": TABLE}, "columns": few});
    server.app.put("/views/lake.few", body).await.expect(201);
    let body = json!({"recipient": "acme", "limit": 100});
    let preview = server.app.post("/views/lake.few/preview", body).await.expect(200);
    let rows = preview["evidence"]["rows"].as_array().unwrap();
    let plans: BTreeSet<_> = rows.iter().map(|row| row["plan"].as_str().unwrap()).collect();
    assert!(rows.len() as u64 > 30 && plans.len() == 3, "{plans:?} {}", table.version());
}

async fn shifted_dates_keep_their_distance_and_say_nothing_of_where_they_were(server: WeirServer) {
    let mut table = server.table(&columns(), &["plan_code", "zregion_name"], Mapping::None, 7);
    let shift = |key: &str| json!({"shift": {"key": key}});
    let visible = Visible {
        columns: vec![
            ("claim_id".to_owned(), Pick::whole("claim_id")),
            ("born".to_owned(), Pick::masked("zbirth_date", shift("zmember_name"))),
            ("seen".to_owned(), Pick::masked("seen", shift("zmember_name"))),
            ("by_street".to_owned(), Pick::masked("zbirth_date", shift("address.zstreet_name"))),
            ("by_region".to_owned(), Pick::masked("seen", shift("zregion_name"))),
        ],
        // The filter reads the true dates.
        filter: Some("zbirth_date >= DATE '1960-01-01' OR zbirth_date IS NULL".to_owned()),
        ..Visible::default()
    };
    let mut rows = claims(0, 60, 1);
    rows[1][5] = Value::Date(2_932_896);
    rows[2][5] = Value::Date(2_932_896 - 182);
    rows[2][1] = Value::text("zmember");
    table.append(rows);
    table.append(claims(1_000, 30, 2));
    table.delete(|row| matches!(row[0], Value::Integer(id) if id % 5 == 0));
    server.register().await;
    let view = server.publish(&visible.definition(), visible.filter.as_deref()).await;
    server.share(&view).await;
    let (acme, rival) = (server.connector("acme", json!({})).await, server.connector("rival", json!({})).await);
    let (mine, theirs) =
        (read_well(&server, &table, &visible, &acme).await, read_well(&server, &table, &visible, &rival).await);
    let born = |reads: &[TableRead]| {
        let rows = rows_of(&reads[0]);
        rows.iter().map(|row| (number(row), format!("{:?}", row[1]))).collect::<BTreeMap<_, _>>()
    };
    let (mine_born, theirs_born) = (born(&mine), born(&theirs));
    assert_eq!((mine_born[&1].as_str(), mine_born[&2] == "Null"), ("Null", false));
    let differ = mine_born.iter().filter(|(id, shown)| theirs_born[*id] != **shown).count();
    assert!(differ > mine_born.len() / 4, "{differ} of {}", mine_born.len());
    nothing(&check::apart(&mine, &theirs));
    // The dates of the source files are nowhere: not as bounds, and not as partition values.
    for file in mine.iter().flat_map(|read| &read.files) {
        let stats = file.stats.as_ref().unwrap();
        assert!(stats["minValues"].get("born").is_none() && stats["nullCount"].get("seen").is_none(), "{stats}");
    }
    // A new commit is shifted as the old ones.
    table.append(claims(2_000, 20, 4));
    read_well(&server, &table, &visible, &acme).await;
}

#[test]
fn views_with_the_key_of_a_shift_out_of_reach_are_refused_by_name() {
    run(Kind::Folder, |server| async move {
        let _table = server.table(&columns(), &[], Mapping::None, 7);
        server.register().await;
        for (column, part) in [
            (json!({"name": "d", "from": "zbirth_date", "mask": {"shift": {"key": "nosuch"}}}), "nosuch"),
            (json!({"name": "d", "from": "zbirth_date", "mask": {"shift": {"key": "address"}}}), "single value"),
            (json!({"name": "d", "from": "zbirth_date", "mask": {"shift": {"key": "tags.element"}}}), "single value"),
            (json!({"name": "d", "from": "paid", "mask": {"shift": {"key": "claim_id"}}}), "dates"),
        ] {
            let body = json!({"source": {"table": TABLE}, "columns": [{"name": "claim_id"}, column]});
            let refused = server.app.put(&format!("/views/{VIEW}"), body).await;
            assert_eq!(refused.status, 422, "{}", refused.text);
            assert!(refused.text.contains("columns[1].mask") && refused.text.contains(part), "{}", refused.text);
        }
    });
}
