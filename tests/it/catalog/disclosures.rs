//! What objects over raw tables disclose, and that it must be acknowledged if the server requires it.

use serde_json::{Value, json};
use weir::config::{RawSharing, SharingSettings};

use crate::support::{
    app::{Answer, TestApp, fields, on_both_databases},
    postgres::TestDatabase,
    s3::{BUCKET, S3Server},
    tables::{HandWrittenLog, add, metadata, protocol, protocol_with},
};

on_both_databases!(
    a_table_with_nothing_to_tell_discloses_nothing,
    deleted_rows_are_those_that_vectors_hide_now,
    dropped_columns_are_named_as_long_as_the_log_names_them,
    partition_values_are_told_where_paths_hold_them,
    history_is_told_by_its_first_version,
    properties_are_those_that_answers_carry,
    listings_say_nothing_of_it_and_a_lost_table_leaves_the_rest,
    what_is_acknowledged_is_kept_where_nothing_is_required,
    a_dry_run_tells_whom_it_would_reach_with_what_and_keeps_nothing,
);

const COLUMNS: [(&str, &str); 2] = [("id", "long"), ("name", "string")];

fn log(app: &TestApp, name: &str, metadata: Value) -> HandWrittenLog {
    HandWrittenLog::create(&app.folder(name), protocol(1, 2), metadata)
}

/// Registers the table and sends the PUT that shares it as `s.a.{name}`.
async fn put(app: &TestApp, name: &str, options: Value) -> Answer {
    app.put("/shares/s", json!({})).await;
    app.put(&format!("/tables/{name}"), json!({"location": app.location(name)})).await;
    let mut body = json!({"source": {"table": name}});
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    app.put(&path(name), body).await
}

fn path(name: &str) -> String {
    format!("/shares/s/objects/a/{name}")
}

/// The table's disclosures, which PUT and GET answer alike.
async fn disclosed(app: &TestApp, name: &str, options: Value) -> Value {
    let told = put(app, name, options).await.expect(201)["disclosure"].clone();
    assert_eq!(app.get(&path(name)).await.expect(200)["disclosure"], told);
    told
}

fn with_vector(mut add: Value, cardinality: u64) -> Value {
    add["add"]["deletionVector"] = json!({
        "storageType": "i", "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
        "sizeInBytes": 40, "cardinality": cardinality,
    });
    add
}

/// A table of two files, each with this many deleted rows.
fn deleted(app: &TestApp, name: &str, rows: [u64; 2]) -> HandWrittenLog {
    let metadata = metadata("dv", &COLUMNS, &[]);
    let mut log = HandWrittenLog::create(&app.folder(name), protocol_with(&["deletionVectors"]), metadata);
    log.commit(&[
        with_vector(add("a.parquet", 9), rows[0]),
        with_vector(add("b.parquet", 9), rows[1]),
        add("c.parquet", 9),
    ]);
    log
}

/// `metaData` of mapped columns, each with a name, a physical name and an id.
fn mapped(columns: &[(&str, &str, u64)], max_id: u64) -> Value {
    let field = |(name, physical, id): &(&str, &str, u64)| {
        json!({"name": name, "type": "long", "nullable": true, "metadata": {
            "delta.columnMapping.id": id, "delta.columnMapping.physicalName": physical,
        }})
    };
    let fields: Vec<Value> = columns.iter().map(field).collect();
    let mut metadata = metadata("cm", &[], &[]);
    metadata["metaData"]["schemaString"] = json!(json!({"type": "struct", "fields": fields}).to_string());
    metadata["metaData"]["configuration"] =
        json!({"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": max_id.to_string()});
    metadata
}

/// A table with a dropped column `ssn` and a column `b` renamed to `c`.
fn dropped(app: &TestApp, name: &str) -> HandWrittenLog {
    let before = mapped(&[("a", "p1", 1), ("b", "p2", 2), ("ssn", "p3", 3)], 3);
    let mut log = HandWrittenLog::create(&app.folder(name), protocol(2, 5), before);
    log.commit(&[add("a.parquet", 9)]);
    log.commit(&[mapped(&[("a", "p1", 1), ("c", "p2", 2)], 3)]);
    log
}

/// A partitioned table in folders named after the partition values.
fn in_folders(app: &TestApp, name: &str) -> HandWrittenLog {
    let mut log =
        log(app, name, metadata("p", &[("id", "long"), ("plan", "string"), ("day", "string")], &["day", "plan"]));
    let mut file = add("x9/plan=HMO/a.parquet", 9);
    file["add"]["partitionValues"] = json!({"plan": "HMO", "day": "1"});
    log.commit(&[file]);
    log
}

/// A table with a comment on a column.
fn commented(app: &TestApp, name: &str) -> HandWrittenLog {
    let field = json!({"name": "id", "type": "long", "nullable": true, "metadata": {
        "comment": "of the board", "delta.generationExpression": "salary * 2",
    }});
    let mut metadata = metadata("c", &[], &[]);
    metadata["metaData"]["schemaString"] = json!(json!({"type": "struct", "fields": [field]}).to_string());
    metadata["metaData"]["description"] = json!("for the board");
    metadata["metaData"]["configuration"] =
        json!({"delta.constraints.positive": "id > 0", "owner": "ann", "delta.enableChangeDataFeed": "true"});
    log(app, name, metadata)
}

async fn a_table_with_nothing_to_tell_discloses_nothing(app: TestApp) {
    log(&app, "plain", metadata("t", &COLUMNS, &[])).commit(&[add("a.parquet", 9)]);
    let told = disclosed(&app, "plain", json!({})).await;
    let nothing = json!({
        "deleted_rows": 0, "dropped_columns": [], "unnamed_dropped_columns": 0, "partition_values_in_paths": [],
        "history_from": null, "properties": [],
    });
    assert_eq!(told, nothing);
    assert_eq!(app.get(&path("plain")).await.expect(200)["acknowledge"], json!([]));
}

async fn deleted_rows_are_those_that_vectors_hide_now(app: TestApp) {
    let mut log = deleted(&app, "dv", [6, 7]);
    assert_eq!(disclosed(&app, "dv", json!({})).await["deleted_rows"], 13);
    let remove = json!({"remove": {
        "path": "a.parquet", "deletionTimestamp": 1, "dataChange": true,
        "deletionVector": with_vector(json!({"add": {}}), 6)["add"]["deletionVector"],
    }});
    log.commit(&[remove]);
    assert_eq!(app.get(&path("dv")).await.expect(200)["disclosure"]["deleted_rows"], 7);
    let patched = app.patch(&path("dv"), json!({"description": "d"})).await.expect(200);
    assert_eq!(patched["disclosure"]["deleted_rows"], 7);
}

async fn dropped_columns_are_named_as_long_as_the_log_names_them(app: TestApp) {
    dropped(&app, "dropped");
    let told = disclosed(&app, "dropped", json!({})).await;
    assert_eq!((&told["dropped_columns"], &told["unnamed_dropped_columns"]), (&json!(["ssn"]), &json!(0)));
    // The log begins after two columns were dropped.
    HandWrittenLog::create(&app.folder("cut"), protocol(2, 5), mapped(&[("a", "p1", 1)], 3));
    let told = disclosed(&app, "cut", json!({})).await;
    assert_eq!((&told["dropped_columns"], &told["unnamed_dropped_columns"]), (&json!([]), &json!(2)));
    // Without a mapping, only the names in the changes still in the log tell.
    let mut log = log(&app, "plain", metadata("t", &[("id", "long"), ("ssn", "string")], &[]));
    for version in 0..40 {
        log.commit(&[add(&format!("{version}.parquet"), 9)]);
    }
    log.commit(&[metadata("t", &[("id", "long")], &[])]);
    log.commit(&[metadata("t", &[("id", "long"), ("more", "string")], &[])]);
    let told = disclosed(&app, "plain", json!({})).await;
    assert_eq!(told["dropped_columns"], json!(["ssn"]));
    log.commit(&[metadata("t", &[("id", "long")], &[])]);
    assert_eq!(app.get(&path("plain")).await.expect(200)["disclosure"]["dropped_columns"], json!(["more", "ssn"]));
}

async fn partition_values_are_told_where_paths_hold_them(app: TestApp) {
    in_folders(&app, "folders");
    assert_eq!(disclosed(&app, "folders", json!({})).await["partition_values_in_paths"], json!(["plan"]));
    let mut log = log(&app, "flat", metadata("p", &COLUMNS, &["name"]));
    let mut file = add("zz/name-x.parquet", 9);
    file["add"]["partitionValues"] = json!({"name": "x"});
    log.commit(&[file]);
    assert_eq!(disclosed(&app, "flat", json!({})).await["partition_values_in_paths"], json!([]));
    // Folders of mapped columns are named by the physical names.
    let mut metadata = mapped(&[("a", "p1", 1), ("plan", "p2", 2)], 2);
    metadata["metaData"]["partitionColumns"] = json!(["plan"]);
    let mut log = HandWrittenLog::create(&app.folder("mapped"), protocol(2, 5), metadata);
    let mut file = add("p2=HMO/a.parquet", 9);
    file["add"]["partitionValues"] = json!({"p2": "HMO"});
    log.commit(&[file]);
    assert_eq!(disclosed(&app, "mapped", json!({})).await["partition_values_in_paths"], json!(["plan"]));
}

async fn history_is_told_by_its_first_version(app: TestApp) {
    let mut log = log(&app, "t", metadata("t", &COLUMNS, &[]));
    log.commit(&[add("a.parquet", 9)]);
    assert_eq!(disclosed(&app, "t", json!({"start_version": 1})).await["history_from"], Value::Null);
    let patched = app.patch(&path("t"), json!({"history": true})).await.expect(200);
    assert_eq!(patched["disclosure"]["history_from"], 1);
    let patched = app.patch(&path("t"), json!({"start_version": 0})).await.expect(200);
    assert_eq!(patched["disclosure"]["history_from"], 0);
    let patched = app.patch(&path("t"), json!({"history": false})).await.expect(200);
    assert_eq!(patched["disclosure"]["history_from"], Value::Null);
}

async fn properties_are_those_that_answers_carry(app: TestApp) {
    commented(&app, "told");
    assert_eq!(
        disclosed(&app, "told", json!({})).await["properties"],
        json!(["comment", "delta.enableChangeDataFeed", "delta.generationExpression", "description"])
    );
}

async fn listings_say_nothing_of_it_and_a_lost_table_leaves_the_rest(app: TestApp) {
    log(&app, "t", metadata("t", &COLUMNS, &[]));
    let created = put(&app, "t", json!({})).await.expect(201);
    assert!(created["disclosure"].is_object() && created["schema_hold"].is_null());
    let listed = app.get("/shares/s/objects").await.expect(200)["items"][0].clone();
    assert_eq!((listed.get("disclosure"), &listed["id"]), (None, &created["id"]));
    std::fs::remove_dir_all(app.folder("t")).unwrap();
    let lost = app.get(&path("t")).await.expect(200);
    assert_eq!((lost.get("disclosure"), &lost["id"]), (None, &created["id"]));
}

async fn what_is_acknowledged_is_kept_where_nothing_is_required(app: TestApp) {
    deleted(&app, "dv", [1, 1]);
    let created = put(&app, "dv", json!({"acknowledge": ["history", "deleted_rows", "history"]})).await.expect(201);
    assert_eq!(created["acknowledge"], json!(["deleted_rows", "history"]));
    assert_eq!(app.get(&path("dv")).await.expect(200)["acknowledge"], created["acknowledge"]);
    let again = put(&app, "dv", json!({"acknowledge": ["history", "deleted_rows"]})).await.expect(200);
    assert_eq!(again, created);
    assert_eq!(put(&app, "dv", json!({})).await.expect(200), created);
    let problem = put(&app, "dv", json!({"acknowledge": ["history"]})).await.problem(409, "conflict");
    assert_eq!(fields(&problem), ["acknowledge"]);
    let event = &app.events("object.create").await[0];
    assert_eq!(event["change"]["after"]["acknowledge"], created["acknowledge"]);
    let patched = app.patch(&path("dv"), json!({"acknowledge": ["deleted_rows"]})).await.expect(200);
    assert_eq!(patched["acknowledge"], json!(["deleted_rows"]));
    let change = &app.events("object.update").await[0]["change"];
    assert_eq!(change["before"], json!({"acknowledge": ["deleted_rows", "history"]}));
    assert_eq!(app.patch(&path("dv"), json!({"acknowledge": null})).await.expect(200)["acknowledge"], json!([]));
    for (acknowledge, field) in
        [(json!(["everything"]), "acknowledge"), (json!([1]), "acknowledge[0]"), (json!("history"), "acknowledge")]
    {
        let problem = app.patch(&path("dv"), json!({"acknowledge": acknowledge})).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), [field]);
    }
}

async fn a_dry_run_tells_whom_it_would_reach_with_what_and_keeps_nothing(app: TestApp) {
    log(&app, "plain", metadata("t", &COLUMNS, &[]));
    log(&app, "other", metadata("o", &COLUMNS, &[]));
    put(&app, "plain", json!({})).await.expect(201);
    app.put("/tables/other", json!({"location": app.location("other")})).await.expect(201);
    app.put("/recipients/acme", json!({})).await.expect(201);
    let events = app.get("/audit?order=asc&max_results=1000").await.expect(200)["items"].as_array().unwrap().len();

    // A grant discloses the whole share to its recipient.
    let grant = json!({"share": "s", "recipient": "acme", "valid_until": "2026-12-24T00:00:00Z"});
    let told = app.post("/grants?dry_run=true", grant.clone()).await.expect(200);
    let disclosure = &told["disclosure"];
    assert_eq!(disclosure["recipients"][0]["recipient"], "acme");
    let shown = json!([{
        "object": "s.a.plain", "source": "plain", "rows": null, "history": false, "cdf": false,
        "columns": [{"name": "id"}, {"name": "name"}],
    }]);
    assert_eq!((&disclosure["objects"], &disclosure["truncated"]), (&shown, &json!(false)));
    assert_eq!(told["id"], "00000000-0000-0000-0000-000000000000");
    assert_eq!(app.get("/grants").await.expect(200)["items"], json!([]));

    // An object in a share without grants reaches no recipient; in a granted share, it reaches the grant's.
    let object = json!({"source": {"table": "other"}});
    let told = app.put("/shares/s/objects/a/other?dry_run=true", object.clone()).await.expect(200);
    assert_eq!(told["disclosure"]["recipients"], json!([]));
    let created = app.post("/grants", grant.clone()).await.expect(201);
    assert_eq!(created.get("disclosure"), None);
    let told = app.put("/shares/s/objects/a/other?dry_run=true", object.clone()).await.expect(200);
    assert_eq!(told["disclosure"]["recipients"][0]["recipient"], "acme");
    assert_eq!(told["disclosure"]["objects"][0]["object"], "s.a.other");
    assert_eq!(told["disclosure"]["deleted_rows"], 0, "what its files disclose is told, too");
    app.get("/shares/s/objects/a/other").await.problem(404, "not_found");

    // More history discloses more; narrowing or repeating discloses nothing.
    let more = json!({"history": true});
    let told = app.patch("/shares/s/objects/a/plain?dry_run=true", more).await.expect(200);
    assert_eq!(told["disclosure"]["recipients"][0]["recipient"], "acme");
    assert_eq!(told["history"], true);
    let told = app.patch("/shares/s/objects/a/plain?dry_run=true", json!({"description": "x"})).await.expect(200);
    assert_eq!(told["disclosure"]["recipients"], json!([]));
    let told = app.put("/shares/s/objects/a/plain?dry_run=true", json!({})).await.expect(200);
    assert_eq!(told["disclosure"]["recipients"], json!([]));
    let kept = app.get("/shares/s/objects/a/plain").await.expect(200);
    assert_eq!((&kept["history"], &kept["description"]), (&json!(false), &Value::Null));

    // A later end is shown like a grant; what is refused is also refused in a dry run.
    let longer = json!({"share": "s", "recipient": "acme", "replaces": created["id"]});
    let told = app.post("/grants?dry_run=true", longer).await.expect(200);
    assert!(told["disclosure"]["recipients"][0]["valid_until"].as_str() > created["valid_until"].as_str());
    app.post("/grants?dry_run=true", grant).await.problem(409, "conflict");
    app.post("/grants?dry_run=maybe", json!({})).await.problem(400, "invalid_parameter");
    let all = app.get("/audit?order=asc&max_results=1000").await.expect(200);
    let changes = all["items"].as_array().unwrap().iter().skip(events);
    let changes: Vec<&str> =
        changes.filter(|event| event["change"].is_object()).map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(changes.into_iter().filter(|action| *action != "admin.change").collect::<Vec<_>>(), ["grant.create"]);
}

#[tokio::test]
async fn tables_that_do_not_answer_keep_a_dry_run_waiting_once() {
    let server = S3Server::start().await;
    let app = TestApp::with_bucket(TestDatabase::sqlite().await, &server);
    log(&app, "near", metadata("t", &COLUMNS, &[]));
    put(&app, "near", json!({})).await.expect(201);
    app.put("/recipients/acme", json!({})).await.expect(201);
    for i in 0..10 {
        let name = format!("far{i}");
        log(&app, &name, metadata(&name, &COLUMNS, &[]));
        server.put_directory(&app.folder(&name), &name).await;
        let location = json!({"location": format!("s3://{BUCKET}/{name}")});
        app.put(&format!("/tables/{name}"), location).await.expect(201);
        app.put(&path(&name), json!({"source": {"table": name}})).await.expect(201);
    }
    server.hold();
    let told = app.post("/grants?dry_run=true", json!({"share": "s", "recipient": "acme"})).await.expect(200);
    server.release();
    let objects = told["disclosure"]["objects"].as_array().unwrap();
    let (near, far): (Vec<&Value>, Vec<&Value>) = objects.iter().partition(|object| object["source"] == "near");
    assert_eq!(near[0]["columns"], json!([{"name": "id"}, {"name": "name"}]));
    assert_eq!(far.len(), 10);
    assert!(far.iter().all(|object| object["columns"].is_null()), "{far:?}");
}

#[tokio::test]
async fn raw_tables_may_be_refused_and_grants_may_need_their_ground() {
    let servers = TestApp::each_with(|settings| SharingSettings {
        raw: RawSharing::Refuse,
        require_purpose: true,
        require_agreement: true,
        ..settings
    });
    for app in servers.await {
        log(&app, "plain", metadata("t", &COLUMNS, &[]));
        let problem = put(&app, "plain", json!({})).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["source.table"]);
        app.put("/recipients/acme", json!({})).await.expect(201);
        let grant = json!({"share": "s", "recipient": "acme"});
        let problem = app.post("/grants", grant.clone()).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["agreement", "purpose"]);
        let mut whole = grant;
        whole["purpose"] = json!("fraud_analytics");
        whole["agreement"] = json!({"ref": "DUA 7"});
        app.post("/grants", whole).await.expect(201);
    }
    for app in TestApp::each_with(|settings| SharingSettings { raw: RawSharing::Acknowledge, ..settings }).await {
        log(&app, "plain", metadata("t", &COLUMNS, &[]));
        assert_eq!(missing(put(&app, "plain", json!({"history": true})).await), ["history"]);
    }
}

/// Servers that require every disclosure to be acknowledged.
async fn strict() -> Vec<TestApp> {
    TestApp::each_with(|settings| SharingSettings { require_acknowledge: true, ..settings }).await
}

/// The words that a refusal asks to acknowledge.
fn missing(answer: Answer) -> Vec<String> {
    let problem = answer.problem(422, "RAW_DISCLOSURE_UNACKNOWLEDGED");
    let errors = problem["errors"].as_array().unwrap().iter();
    errors
        .map(|error| {
            assert_eq!(error["field"], "acknowledge");
            error["message"].as_str().unwrap().split('`').nth(1).unwrap().to_owned()
        })
        .collect()
}

const EVERYTHING: [&str; 5] = ["deleted_rows", "dropped_columns", "partition_values_in_paths", "history", "properties"];

#[tokio::test]
async fn each_disclosure_must_be_acknowledged_by_its_word() {
    for app in strict().await {
        log(&app, "plain", metadata("t", &COLUMNS, &[]));
        log(&app, "old", metadata("t", &COLUMNS, &[]));
        deleted(&app, "dv", [2, 0]);
        dropped(&app, "dropped");
        HandWrittenLog::create(&app.folder("cut"), protocol(2, 5), mapped(&[("a", "p1", 1)], 3));
        in_folders(&app, "folders");
        commented(&app, "told");
        for (table, options, word) in [
            ("dv", json!({}), "deleted_rows"),
            ("dropped", json!({}), "dropped_columns"),
            ("cut", json!({}), "dropped_columns"),
            ("folders", json!({}), "partition_values_in_paths"),
            ("old", json!({"history": true}), "history"),
            ("told", json!({}), "properties"),
        ] {
            let with = |acknowledge: Vec<&str>| {
                let mut options = options.clone();
                options["acknowledge"] = json!(acknowledge);
                options
            };
            assert_eq!(missing(put(&app, table, options.clone()).await), [word], "{table}");
            let others = EVERYTHING.into_iter().filter(|other| *other != word).collect();
            assert_eq!(missing(put(&app, table, with(others)).await), [word], "{table}");
            app.get(&path(table)).await.problem(404, "not_found");
            let created = put(&app, table, with(vec![word])).await.expect(201);
            assert_eq!(created["acknowledge"], json!([word]));
            put(&app, table, options.clone()).await.expect(200);
        }
        assert_eq!(app.events("object.create").await.len(), 6);
        put(&app, "plain", json!({})).await.expect(201);
    }
}

#[tokio::test]
async fn everything_that_applies_is_asked_for_at_once() {
    for app in strict().await {
        let mut first = mapped(&[("a", "p1", 1), ("plan", "p2", 2), ("ssn", "p3", 3)], 3);
        first["metaData"]["partitionColumns"] = json!(["plan"]);
        let mut then = mapped(&[("a", "p1", 1), ("plan", "p2", 2)], 3);
        then["metaData"]["partitionColumns"] = json!(["plan"]);
        then["metaData"]["name"] = json!("claims of the board");
        let protocol = protocol_with(&["deletionVectors", "columnMapping"]);
        let mut log = HandWrittenLog::create(&app.folder("all"), protocol, first);
        let mut file = with_vector(add("p2=HMO/a.parquet", 9), 4);
        file["add"]["partitionValues"] = json!({"p2": "HMO"});
        log.commit(&[then, file]);
        assert_eq!(missing(put(&app, "all", json!({"history": true})).await), EVERYTHING);
        let some = json!({"history": true, "acknowledge": ["history", "deleted_rows"]});
        assert_eq!(
            missing(put(&app, "all", some).await),
            ["dropped_columns", "partition_values_in_paths", "properties"]
        );
        put(&app, "all", json!({"history": true, "acknowledge": EVERYTHING})).await.expect(201);
        put(&app, "nothing", json!({"acknowledge": ["all"]})).await.problem(422, "invalid_input");
    }
}

#[tokio::test]
async fn sharing_more_of_the_past_asks_again_and_sharing_less_does_not() {
    for app in strict().await {
        let mut log = deleted(&app, "dv", [1, 1]);
        log.commit(&[]);
        put(&app, "dv", json!({"acknowledge": ["deleted_rows"]})).await.expect(201);
        let patch = async |body: Value| app.patch(&path("dv"), body).await;
        // Changes that share nothing more need no acknowledgement, whatever applies since.
        let mut upgraded = mapped(&[("id", "id", 1), ("name", "name", 2)], 9);
        upgraded["metaData"]["id"] = json!("dv");
        log.commit(&[protocol_with(&["deletionVectors", "columnMapping"]), upgraded]);
        patch(json!({"description": "d", "delivery": "proxied"})).await.expect(200);
        assert_eq!(missing(patch(json!({"history": true})).await), ["dropped_columns", "history"]);
        assert_eq!(app.get(&path("dv")).await.expect(200)["history"], false);
        // A list of acknowledgements replaces the one before.
        let named = json!({"history": true, "acknowledge": ["history", "dropped_columns"]});
        assert_eq!(missing(patch(named).await), ["deleted_rows"]);
        let all = json!(["deleted_rows", "dropped_columns", "history"]);
        let patched = patch(json!({"history": true, "acknowledge": all})).await.expect(200);
        assert_eq!((&patched["history"], &patched["acknowledge"]), (&json!(true), &all));
        // Acknowledgements stay and cover more of the same kind.
        patch(json!({"start_version": 0})).await.expect(200);
        patch(json!({"cdf": true})).await.expect(200);
        assert_eq!(missing(patch(json!({"acknowledge": ["history"]})).await), ["deleted_rows", "dropped_columns"]);
        patch(json!({"history": false, "cdf": false})).await.expect(200);
        patch(json!({"acknowledge": ["deleted_rows", "dropped_columns"]})).await.expect(200);
        assert_eq!(missing(patch(json!({"history": true})).await), ["history"]);
    }
}
