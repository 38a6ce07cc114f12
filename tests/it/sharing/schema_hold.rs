//! Objects that hold their schema: recipients see the newest version with the accepted schema, and nothing later.

use std::{fs, sync::Arc};

use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};

use super::{
    ANY_FORMAT, COLUMNS, DELTA, Reader, commit_time_text, date_commit, date_commits, share, steps, table_path,
    with_history, with_properties, write_data,
};
use crate::support::{
    app::{Answer, TestApp, on_both_databases},
    tables::{HandWrittenLog, add, checkpoint, metadata, plain_table, protocol},
};

on_both_databases!(
    every_change_of_the_schema_holds_and_no_other_does,
    everything_speaks_of_the_held_version,
    what_ends_a_hold_is_told_before_it_does,
    a_new_schema_is_served_once_it_is_accepted,
    a_schema_that_came_and_went_is_never_served,
    setting_hold_accepts_the_schema_and_setting_follow_lets_go,
    pages_and_refresh_tokens_from_before_go_on,
    a_restarted_server_holds_on,
    a_log_that_lost_the_held_version_is_a_4xx_and_operators_see_why,
    queries_during_commits_never_see_the_new_schema,
    held_objects_are_counted_though_nobody_reads_them,
    a_schema_that_cannot_be_understood_cannot_be_held,
);

/// The name of the column that was not accepted.
const SECRET: &str = "unaccepted_salary";

/// New metadata for [`steps`] with these columns.
fn changed(columns: &[(&str, &str)]) -> Value {
    with_properties(metadata("steps-id", columns, &[]), json!({"delta.enableChangeDataFeed": "true"}))
}

fn with_secret() -> Value {
    changed(&[COLUMNS[0], COLUMNS[1], (SECRET, "long")])
}

fn object(table: &str) -> String {
    format!("/shares/insurer/objects/s/{table}")
}

fn holding(mut options: Value) -> Value {
    options["on_schema_change"] = json!("hold");
    options
}

async fn hold_of(app: &TestApp, table: &str) -> Value {
    app.get(&object(table)).await.expect(200)["schema_hold"].clone()
}

/// The table [`steps`] on hold at version 3: version 4 adds a column, 5 more data.
async fn held(app: &TestApp, options: Value) -> HandWrittenLog {
    let mut log = steps(app, "steps");
    share(app, "steps", holding(options)).await;
    log.commit(&[with_secret(), add("d.parquet", write_data(app, "steps", "d.parquet"))]);
    log.commit(&[add("e.parquet", write_data(app, "steps", "e.parquet"))]);
    date_commits(&log, 6);
    log
}

async fn every_change_of_the_schema_holds_and_no_other_does(app: TestApp) {
    let field =
        |name: &str, data_type: &str| json!({"name": name, "type": data_type, "nullable": true, "metadata": {}});
    let described = |fields: Value, partition_columns: &[&str]| {
        let mut metadata = metadata("t", &[], partition_columns);
        metadata["metaData"]["schemaString"] = json!(json!({"type": "struct", "fields": fields}).to_string());
        metadata
    };
    let (id, name) = (field("id", "integer"), field("name", "string"));
    let mut required = id.clone();
    required["nullable"] = json!(false);
    let mut commented = id.clone();
    commented["metadata"] = json!({"comment": "c"});
    let mut named = described(json!([id, name]), &[]);
    named["metaData"]["name"] = json!("n");
    named["metaData"]["configuration"] = json!({"delta.appendOnly": "true"});
    let reader = Reader::acme(&app).await;
    for (table, after, changes) in [
        ("added", described(json!([id, name, field("more", "date")]), &[]), vec!["column more added"]),
        ("dropped", described(json!([id]), &[]), vec!["column name removed"]),
        (
            "renamed",
            described(json!([id, field("nom", "string")]), &[]),
            vec!["column name removed", "column nom added"],
        ),
        ("widened", described(json!([field("id", "long"), name]), &[]), vec!["column id changed from integer to long"]),
        ("required", described(json!([required, name]), &[]), vec!["column id holds no nulls any more"]),
        ("ordered", described(json!([name, id]), &[]), vec!["order of columns changed"]),
        ("parted", described(json!([id, name]), &["name"]), vec!["partition columns changed from none to name"]),
        ("commented", described(json!([commented, name]), &[]), vec![]),
        ("named", named, vec![]),
        ("rewritten", described(json!([id, name]), &[]), vec![]),
    ] {
        let mut log = HandWrittenLog::create(&app.folder(table), protocol(1, 2), described(json!([id, name]), &[]));
        log.commit(&[add("a.parquet", write_data(&app, table, "a.parquet"))]);
        share(&app, table, holding(json!({}))).await;
        assert_eq!(hold_of(&app, table).await, Value::Null, "{table}");
        let mut file = add("b.parquet", write_data(&app, table, "b.parquet"));
        file["add"]["partitionValues"] = json!({"name": null});
        log.commit(&[after]);
        log.commit(&[file]);
        let version = if changes.is_empty() { 3 } else { 1 };
        assert_eq!(reader.ask(table, "/version", "").await.version(), version, "{table}");
        assert_eq!(reader.ask(table, "/metadata", "").await.version(), version, "{table}");
        let query = reader.query(table, json!({})).await;
        assert_eq!((query.version(), query.file_ids().len()), (version, if version == 1 { 1 } else { 2 }), "{table}");
        let hold = hold_of(&app, table).await;
        if changes.is_empty() {
            assert_eq!(hold, Value::Null, "{table}");
        } else {
            assert_eq!((&hold["serving_version"], &hold["newest_version"]), (&json!(1), &json!(3)), "{table}");
            assert_eq!(hold["changes"], json!(changes), "{table}");
        }
    }
}

/// Checks that `answer` reveals nothing of the later versions, and returns it.
fn silent(answer: Answer) -> Answer {
    let headers = format!("{:?}", answer.headers);
    for told in [SECRET, "d.parquet", "e.parquet"] {
        assert!(!answer.text.contains(told) && !headers.contains(told), "{told}: {}", answer.text);
    }
    answer
}

async fn everything_speaks_of_the_held_version(app: TestApp) {
    held(&app, with_history()).await;
    let reader = Reader::acme(&app).await;
    let ask = async |what: &str, capabilities: &str| silent(reader.ask("steps", what, capabilities).await);
    let since = |version: u64, plus: i64| {
        format!("/version?startingTimestamp={}", commit_time_text(version, plus).replace('+', "%2B"))
    };
    assert_eq!(ask("/version", "").await.version(), 3);
    assert_eq!(reader.send(Method::HEAD, &table_path("steps", ""), &[], "").await.version(), 3);
    assert_eq!(ask(&since(3, 0), "").await.version(), 3);
    ask(&since(3, 1), "").await.refused(400, "MALFORMED_REQUEST", "after the latest available version 3");
    ask(&since(4, 0), "").await.refused(400, "MALFORMED_REQUEST", "after the latest available version 3");
    for capabilities in ["", DELTA, ANY_FORMAT] {
        assert_eq!(ask("/metadata", capabilities).await.version(), 3);
        let query = async |body: Value| silent(reader.query_as("steps", capabilities, body).await);
        let newest = query(json!({})).await;
        assert_eq!((newest.version(), newest.of_kind("file").len()), (3, 2));
        assert_eq!(query(json!({"version": 3})).await.file_ids(), newest.file_ids());
        assert_eq!(query(json!({"version": 1})).await.version(), 1);
        for version in [4, 5] {
            let text = format!("Cannot load table version {version}: it is after the latest available version 3");
            query(json!({"version": version})).await.refused(400, "MALFORMED_REQUEST", &text);
        }
        assert_eq!(query(json!({"timestamp": commit_time_text(3, 0)})).await.version(), 3);
        let late = query(json!({"timestamp": commit_time_text(4, 0)})).await;
        late.refused(400, "MALFORMED_REQUEST", "after the latest available version 3");
        let changes = query(json!({"startingVersion": 1})).await;
        assert_eq!(changes.version(), 1);
        query(json!({"startingVersion": 4})).await.refused_parameter("latest version of the table(3)");
        query(json!({"startingVersion": 1, "endingVersion": 5}))
            .await
            .refused_parameter("the latest version of the table is 3");
        let refreshing = query(json!({"includeRefreshToken": true})).await;
        let token = refreshing.end()["refreshToken"].clone();
        assert_eq!(query(json!({"refreshToken": token})).await.version(), 3);
        let page = query(json!({"maxFiles": 1})).await;
        let token = page.end()["nextPageToken"].clone();
        assert_eq!(query(json!({"maxFiles": 1, "pageToken": token})).await.version(), 3);
    }
    let feed = async |parameters: &str| ask(&format!("/changes?{parameters}"), "").await;
    let whole = feed("startingVersion=0").await;
    assert_eq!(whole.kinds(), ["protocol", "metaData", "add", "add", "add", "remove"]);
    // Streams ask for ranges beyond the newest version.
    assert_eq!(feed("startingVersion=0&endingVersion=9").await.kinds(), whole.kinds());
    let until = format!("startingVersion=0&endingTimestamp={}", commit_time_text(5, 0));
    assert_eq!(feed(&until).await.kinds(), whole.kinds());
    feed("startingVersion=0&includeHistoricalMetadata=true").await.lines();
    feed("startingVersion=4").await.refused_parameter("latest version of the table(3)");
    feed(&format!("startingTimestamp={}", commit_time_text(4, 0))).await.refusal(400, "MALFORMED_REQUEST");

    let hold = hold_of(&app, "steps").await;
    assert_eq!((&hold["serving_version"], &hold["newest_version"]), (&json!(3), &json!(5)));
    assert_eq!(
        (hold["since"].as_str(), &hold["changes"]),
        (Some("2023-11-14T22:17:20Z"), &json!([format!("column {SECRET} added")]))
    );
    let listed = app.get("/shares/insurer/objects").await.expect(200)["items"][0]["schema_hold"].clone();
    assert_eq!(listed, hold);
    // The disclosure describes the version that is served.
    assert_eq!(app.get(&object("steps")).await.expect(200)["disclosure"]["dropped_columns"], json!([]));
}

async fn what_ends_a_hold_is_told_before_it_does(app: TestApp) {
    held(&app, with_history()).await;
    let reader = Reader::acme(&app).await;
    let path = object("steps");
    let before = app.get(&path).await.expect(200);
    let accept = app.post(&format!("{path}/accept-schema?dry_run=true"), json!({})).await.expect(200);
    let follow = app.patch(&format!("{path}?dry_run=true"), json!({"on_schema_change": "follow"})).await.expect(200);
    for told in [accept, follow] {
        assert_eq!(told["schema_hold"], Value::Null);
        assert_eq!(told["disclosure"]["recipients"][0]["recipient"], "acme");
        let columns = told["disclosure"]["objects"][0]["columns"].as_array().unwrap();
        assert!(columns.iter().any(|column| column["name"] == SECRET), "{columns:?}");
    }
    // Nothing was stored, and nothing of the dry run is remembered as real.
    let query = reader.query("steps", json!({})).await;
    assert_eq!(query.version(), 3);
    assert!(!query.text.contains(SECRET));
    assert_eq!(app.get(&path).await.expect(200), before);
    assert_eq!(app.events("object.accept_schema").await.len(), 0);
    // Accepting what is accepted, or following it, discloses nothing new.
    app.post(&format!("{path}/accept-schema"), json!({})).await.expect(200);
    let accept = app.post(&format!("{path}/accept-schema?dry_run=true"), json!({})).await.expect(200);
    let follow = app.patch(&format!("{path}?dry_run=true"), json!({"on_schema_change": "follow"})).await.expect(200);
    for told in [accept, follow] {
        assert_eq!(told["disclosure"]["recipients"], json!([]));
    }
}

async fn a_new_schema_is_served_once_it_is_accepted(app: TestApp) {
    let mut log = held(&app, with_history()).await;
    let reader = Reader::acme(&app).await;
    assert_eq!(reader.query("steps", json!({})).await.version(), 3);
    let path = format!("{}/accept-schema", object("steps"));
    let before = app.get(&object("steps")).await.expect(200);
    app.post(&format!("{path}?dry_run=true"), json!({})).await.expect(200);
    assert_eq!(app.get(&object("steps")).await.expect(200), before);
    let accepted = app.post(&path, json!({"reason": "agreed with acme"})).await.expect(200);
    assert_eq!((&accepted["schema_hold"], &accepted["id"]), (&Value::Null, &before["id"]));
    assert_ne!(accepted["etag"], before["etag"]);
    assert_eq!(reader.ask("steps", "/version", "").await.version(), 5);
    let query = reader.query("steps", json!({})).await;
    assert_eq!(query.version(), 5);
    assert!(query.text.contains(SECRET));
    assert_eq!(reader.query("steps", json!({"version": 4})).await.version(), 4);
    assert_eq!(reader.ask("steps", "/changes?startingVersion=3", "").await.version(), 3);

    let events = app.events("object.accept_schema").await;
    assert_eq!(events.len(), 1);
    let change = &events[0]["change"];
    assert_eq!(
        (&change["reason"], &change["changes"]),
        (&json!("agreed with acme"), &json!([format!("column {SECRET} added")]))
    );
    assert_eq!(
        (&change["before"]["accepted_schema"]["version"], &change["after"]["accepted_schema"]["version"]),
        (&json!(3), &json!(5))
    );
    assert_eq!(events[0]["table"], "steps");
    // Accepting the accepted schema changes nothing.
    assert_eq!(app.post(&path, json!({})).await.expect(200), accepted);
    assert_eq!(app.events("object.accept_schema").await.len(), 1);
    // The next change is held again.
    log.commit(&[changed(&COLUMNS)]);
    assert_eq!(reader.ask("steps", "/version", "").await.version(), 5);
    assert_eq!(hold_of(&app, "steps").await["changes"], json!([format!("column {SECRET} removed")]));

    app.post("/shares/insurer/objects/s/nothing/accept-schema", json!({})).await.problem(404, "not_found");
    app.post("/shares/nothing/objects/s/steps/accept-schema", json!({})).await.problem(404, "not_found");
    app.post(&path, json!({"reason": 1})).await.problem(422, "invalid_input");
    app.patch(&object("steps"), json!({"on_schema_change": "follow"})).await.expect(200);
    app.post(&path, json!({})).await.problem(409, "conflict");
}

async fn a_schema_that_came_and_went_is_never_served(app: TestApp) {
    let mut log = held(&app, with_history()).await;
    let reader = Reader::acme(&app).await;
    log.commit(&[changed(&COLUMNS), add("f.parquet", write_data(&app, "steps", "f.parquet"))]);
    log.commit(&[add("g.parquet", write_data(&app, "steps", "g.parquet"))]);
    date_commits(&log, 8);
    assert_eq!(hold_of(&app, "steps").await, Value::Null);
    assert_eq!(reader.ask("steps", "/version", "").await.version(), 7);
    assert_eq!(reader.query("steps", json!({})).await.version(), 7);
    for version in [3, 6, 7] {
        assert_eq!(reader.query("steps", json!({"version": version})).await.version(), version);
    }
    for version in [4, 5] {
        for body in [json!({"version": version}), json!({"timestamp": commit_time_text(version, 0)})] {
            let answer = silent(reader.query("steps", body).await);
            answer.refused_parameter(&format!("Version {version} is not shared"));
        }
    }
    let feed = async |parameters: &str| reader.ask("steps", &format!("/changes?{parameters}"), "").await;
    for parameters in ["startingVersion=3", "startingVersion=2&endingVersion=4", "startingVersion=5&endingVersion=7"] {
        silent(feed(parameters).await).refused_parameter("is not shared");
    }
    silent(reader.query("steps", json!({"startingVersion": 1})).await).refused_parameter("is not shared");
    for (parameters, first) in [("startingVersion=0&endingVersion=3", 0), ("startingVersion=6", 6)] {
        assert_eq!(silent(feed(parameters).await).version(), first);
    }
    // Accepting the current schema shares the history up to now.
    app.post(&format!("{}/accept-schema", object("steps")), json!({})).await.expect(200);
    assert_eq!(feed("startingVersion=3").await.version(), 3);
    assert_eq!(reader.query("steps", json!({"version": 4})).await.version(), 4);
}

async fn setting_hold_accepts_the_schema_and_setting_follow_lets_go(app: TestApp) {
    let mut log = steps(&app, "steps");
    share(&app, "steps", json!({})).await;
    let reader = Reader::acme(&app).await;
    log.commit(&[with_secret()]);
    assert_eq!(reader.ask("steps", "/version", "").await.version(), 4);
    let changed_to =
        async |what: &str| app.patch(&object("steps"), json!({"on_schema_change": what})).await.expect(200);
    assert_eq!(changed_to("hold").await["schema_hold"], Value::Null);
    assert_eq!(reader.ask("steps", "/version", "").await.version(), 4);
    log.commit(&[changed(&COLUMNS)]);
    assert_eq!(reader.ask("steps", "/version", "").await.version(), 4);
    // Setting `hold` again accepts nothing.
    let again = changed_to("hold").await;
    assert_eq!(
        (&again["schema_hold"]["serving_version"], &again["schema_hold"]["newest_version"]),
        (&json!(4), &json!(5))
    );
    assert_eq!(changed_to("follow").await["schema_hold"], Value::Null);
    assert_eq!(reader.ask("steps", "/version", "").await.version(), 5);
    assert_eq!(changed_to("hold").await["schema_hold"], Value::Null);
    assert_eq!(reader.ask("steps", "/version", "").await.version(), 5);
}

async fn pages_and_refresh_tokens_from_before_go_on(app: TestApp) {
    let mut log = steps(&app, "steps");
    share(&app, "steps", holding(json!({}))).await;
    let reader = Reader::acme(&app).await;
    let page = reader.query("steps", json!({"maxFiles": 1})).await;
    let refreshing = reader.query("steps", json!({"includeRefreshToken": true})).await;
    log.commit(&[with_secret()]);
    log.commit(&[changed(&COLUMNS)]);
    let token = page.end()["nextPageToken"].clone();
    assert_eq!(reader.query("steps", json!({"maxFiles": 1, "pageToken": token})).await.version(), 3);
    let token = refreshing.end()["refreshToken"].clone();
    assert_eq!(reader.query("steps", json!({"refreshToken": token})).await.version(), 3);
    assert_eq!(reader.query("steps", json!({})).await.version(), 5);
}

async fn a_restarted_server_holds_on(app: TestApp) {
    let mut log = held(&app, json!({})).await;
    for version in 6..60 {
        log.commit(&[add(&format!("{version}.parquet"), 9)]);
    }
    let token = Reader::acme(&app).await.token;
    let app = app.restarted();
    let reader = Reader { app: &app, token };
    // The table has not been looked at yet.
    assert_eq!(app.get("/shares/insurer/objects").await.expect(200)["items"][0].get("schema_hold"), None);
    let query = silent(reader.query("steps", json!({})).await);
    assert_eq!((query.version(), query.of_kind("file").len()), (3, 2));
    assert_eq!(hold_of(&app, "steps").await["newest_version"], 59);
}

async fn a_log_that_lost_the_held_version_is_a_4xx_and_operators_see_why(app: TestApp) {
    let folder = app.folder("real");
    plain_table(&folder, 10).await;
    share(&app, "real", holding(json!({"history": true, "start_version": 0}))).await;
    let token = Reader::acme(&app).await.token;
    let first = fs::read_to_string(folder.join(format!("_delta_log/{:020}.json", 0))).unwrap();
    let described = first.lines().find(|line| line.contains("metaData")).unwrap();
    let described = described.replace("\\\"name\\\":\\\"name\\\"", &format!("\\\"name\\\":\\\"{SECRET}\\\""));
    assert!(described.contains(SECRET));
    fs::write(folder.join(format!("_delta_log/{:020}.json", 2)), format!("{described}\n")).unwrap();
    checkpoint(&folder).await;
    assert_eq!(hold_of(&app, "real").await["serving_version"], 1);
    for version in 0..2 {
        fs::remove_file(folder.join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    let app = app.restarted();
    let reader = Reader { app: &app, token };
    for _ in 0..2 {
        for answer in [
            reader.query("real", json!({})).await,
            reader.query("real", json!({"version": 1})).await,
            reader.ask("real", "/version", "").await,
            reader.ask("real", "/metadata", "").await,
        ] {
            silent(answer).refused(
                400,
                "RESOURCE_DOES_NOT_EXIST",
                "holds this table at a version that is no longer there",
            );
        }
    }
    let hold = hold_of(&app, "real").await;
    assert_eq!(
        (&hold["serving_version"], &hold["newest_version"], &hold["since"]),
        (&Value::Null, &json!(2), &Value::Null)
    );
    assert_eq!(hold["changes"], json!(["column name removed", format!("column {SECRET} added")]));
    app.post(&format!("{}/accept-schema", object("real")), json!({})).await.expect(200);
    assert_eq!(reader.query("real", json!({})).await.version(), 2);
}

async fn queries_during_commits_never_see_the_new_schema(app: TestApp) {
    let mut log = steps(&app, "steps");
    share(&app, "steps", holding(with_history())).await;
    let token = Reader::acme(&app).await.token;
    let app = Arc::new(app);
    for round in 0..6 {
        let askers = (0..8).map(|_| {
            let (app, token) = (Arc::clone(&app), token.clone());
            tokio::spawn(async move {
                let reader = Reader { app: &app, token };
                let query = reader.query("steps", json!({})).await;
                let version = reader.ask("steps", "/version", "").await.version();
                (query.version(), query.text.contains(SECRET), version)
            })
        });
        let askers: Vec<_> = askers.collect();
        if round == 1 {
            log.commit(&[with_secret()]);
        } else {
            log.commit(&[add(&format!("x{round}.parquet"), 9)]);
        }
        for asked in join_all(askers).await {
            let (queried, told, version) = asked.unwrap();
            assert!(!told && (3..=4).contains(&queried) && (3..=4).contains(&version), "{queried} {version}");
            assert!(round < 2 || (queried, version) == (4, 4), "{round}: {queried} {version}");
        }
    }
}

async fn held_objects_are_counted_though_nobody_reads_them(app: TestApp) {
    let mut log = held(&app, json!({})).await;
    steps(&app, "quiet");
    share(&app, "quiet", holding(json!({}))).await;
    let app = app.restarted();
    let shown = |app: &TestApp| {
        let page = app.service.core.metrics.encode().unwrap();
        page.lines().find_map(|line| line.strip_prefix("weir_objects_on_hold ").map(str::to_owned)).unwrap()
    };
    assert_eq!(shown(&app), "0");
    app.service.catalog.watch_schemas().await.unwrap();
    assert_eq!(shown(&app), "1");
    let listed = app.get("/shares/insurer/objects").await.expect(200);
    let holds: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|item| &item["schema_hold"]["newest_version"]).collect();
    assert_eq!(holds, [&Value::Null, &json!(5)]);
    log.commit(&[]);
    app.service.catalog.watch_schemas().await.unwrap();
    let listed = app.get("/shares/insurer/objects").await.expect(200);
    assert_eq!(listed["items"][1]["schema_hold"]["newest_version"], 6);
    app.post(&format!("{}/accept-schema", object("steps")), json!({})).await.expect(200);
    assert_eq!(shown(&app), "0");
    log.commit(&[changed(&COLUMNS)]);
    app.service.catalog.watch_schemas().await.unwrap();
    assert_eq!(shown(&app), "1");
    app.delete(&object("steps")).await.expect(204);
    app.service.catalog.watch_schemas().await.unwrap();
    assert_eq!(shown(&app), "0");
}

async fn a_schema_that_cannot_be_understood_cannot_be_held(app: TestApp) {
    let mut deep = json!("long");
    for _ in 0..40 {
        deep = json!({"type": "array", "elementType": deep, "containsNull": true});
    }
    let mut metadata = metadata("deep", &[], &[]);
    let field = json!({"name": "a", "type": deep, "nullable": true, "metadata": {}});
    metadata["metaData"]["schemaString"] = json!(json!({"type": "struct", "fields": [field]}).to_string());
    let log = HandWrittenLog::create(&app.folder("deep"), protocol(1, 2), metadata);
    date_commit(&log, 0, 1_700_000_000_000);
    share(&app, "deep", json!({})).await;
    let problem = app.patch(&object("deep"), json!({"on_schema_change": "hold"})).await.problem(422, "invalid_input");
    assert_eq!(problem["errors"][0]["field"], "on_schema_change");
    assert_eq!(app.get(&object("deep")).await.expect(200)["on_schema_change"], "follow");
}
