//! Columns over the admin API: scanned, decided about, and scanned again.

use std::{fs, path::Path, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
    },
    datatypes::{DataType, Field, Fields},
};
use axum::body::Body;
use http::{Method, Request, header};
use parquet::{
    arrow::ArrowWriter,
    file::reader::{FileReader, SerializedFileReader},
};
use serde_json::{Value, json};
use weir::domain::core::job::JobKind;

use crate::support::{
    app::{OPERATOR_TOKEN, TestApp, fields, on_both_databases},
    tables::{HandWrittenLog, metadata, protocol},
};

on_both_databases!(
    a_scan_proposes_classes_and_tells_no_value,
    a_column_is_decided_about_by_those_who_may,
    several_columns_are_decided_about_together_or_not_at_all,
    what_was_decided_survives_another_scan,
    a_damaged_column_is_a_problem_of_that_column,
    a_scan_that_nobody_waits_for_is_a_job,
    another_location_leaves_everything_to_decide_again,
    a_table_that_cannot_be_scanned_is_refused_and_keeps_what_it_has,
    columns_are_listed_page_by_page,
    what_a_newer_server_decided_is_shown_and_kept,
);

const ROWS: i64 = 40;

fn texts(of: impl Fn(i64) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..ROWS).map(of)))
}

/// Writes rows as a file of a table, and returns its `add` action.
fn written(folder: &Path, name: &str, columns: Vec<(&str, ArrayRef)>) -> Value {
    fs::create_dir_all(folder).unwrap();
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
    let path = folder.join(name);
    let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let size = fs::metadata(&path).unwrap().len();
    json!({"add": {
        "path": name, "partitionValues": {}, "size": size, "modificationTime": 1_700_000_000_000_i64, "dataChange": true,
    }})
}

/// A `metaData` action of a table with this schema.
fn described(columns: &[(&str, Value)]) -> Value {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, data_type)| json!({"name": name, "type": data_type, "nullable": true, "metadata": {}}))
        .collect();
    let mut action = metadata("a-table", &[], &[]);
    action["metaData"]["schemaString"] = json!({"type": "struct", "fields": fields}).to_string().into();
    action
}

/// A table of people with nested columns, registered as `hr.people`.
async fn people(app: &TestApp) {
    let folder = app.folder("people");
    let mut phones = ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, true));
    for row in 0..ROWS {
        phones.append_value([Some(format!("+1 212 555 {:04}", row)), None]);
    }
    let phones: ArrayRef = Arc::new(phones.finish());
    let born = texts(|row| format!("19{:02}-0{}-1{}", 40 + row % 50, 1 + row % 9, row % 9));
    let member_fields = Fields::from(vec![
        Field::new("birth_date", DataType::Utf8, true),
        Field::new("phones", phones.data_type().clone(), true),
    ]);
    let member: ArrayRef = Arc::new(StructArray::new(member_fields, vec![born, phones], None));
    let add = written(
        &folder,
        "part-0.parquet",
        vec![
            ("ssn", texts(|row| format!("{:03}-{:02}-{:04}", 100 + row, 10 + row, 1000 + row))),
            ("order_no", texts(|row| format!("4{:015}", row * 7_919 + 1))),
            ("amount", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| row as f64 + 0.5)))),
            ("zip", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| 10_000 + row)))),
            ("member", member),
        ],
    );
    let member = json!({"type": "struct", "fields": [
        {"name": "birth_date", "type": "string", "nullable": true, "metadata": {}},
        {"name": "phones", "type": {"type": "array", "elementType": "string", "containsNull": true}, "nullable": true,
         "metadata": {}},
    ]});
    let schema = described(&[
        ("ssn", json!("string")),
        ("order_no", json!("string")),
        ("amount", json!("double")),
        ("zip", json!("long")),
        ("member", member),
    ]);
    HandWrittenLog::create(&folder, protocol(1, 2), schema).commit(&[add]);
    app.put("/tables/hr.people", json!({"location": app.location("people")})).await.expect(201);
}

async fn scan(app: &TestApp, table: &str) -> Value {
    app.post(&format!("/tables/{table}/scan"), json!({})).await.expect(200)
}

async fn columns(app: &TestApp, table: &str, query: &str) -> Vec<Value> {
    let page = app.get(&format!("/tables/{table}/columns{query}")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

async fn column(app: &TestApp, table: &str, path: &str) -> Value {
    let all = columns(app, table, "").await;
    all.into_iter().find(|column| column["path"] == path).unwrap_or_else(|| panic!("{path}"))
}

async fn a_scan_proposes_classes_and_tells_no_value(app: TestApp) {
    people(&app).await;
    assert!(columns(&app, "hr.people", "").await.is_empty());
    let done = scan(&app, "hr.people").await;
    assert_eq!((&done["state"], &done["columns"], &done["new"]), (&json!("done"), &json!(6), &json!(6)), "{done}");
    assert_eq!((&done["proposed"], &done["unclassified"]), (&json!({"PII": 4}), &json!(2)));
    let all = columns(&app, "hr.people", "").await;
    let seen: Vec<_> =
        all.iter().map(|column| (column["path"].as_str().unwrap(), &column["class"], &column["role"])).collect();
    let (pii, none) = (json!("PII"), Value::Null);
    let role = |role: &str| json!(role);
    assert_eq!(
        seen,
        [
            ("amount", &none, &role("none")),
            ("member.birth_date", &pii, &role("quasi")),
            ("member.phones.element", &pii, &role("direct")),
            ("order_no", &none, &role("none")),
            ("ssn", &pii, &role("direct")),
            ("zip", &pii, &role("quasi")),
        ]
    );
    let ssn = column(&app, "hr.people", "ssn").await;
    assert_eq!((&ssn["state"], &ssn["type"], &ssn["decided_by"]), (&json!("proposed"), &json!("string"), &none));
    let evidence = &ssn["evidence"];
    assert!(evidence["confidence"].as_f64().unwrap() >= 0.9, "{evidence}");
    let finding = &evidence["findings"][0];
    assert_eq!(
        (&finding["detector"], &finding["rate"], &finding["count"]),
        (&json!("us_ssn"), &json!(1.0), &json!(ROWS))
    );
    // Not a value anywhere: neither in what is kept nor in the trail.
    let event = app.events("table.scan").await.remove(0);
    for text in [Value::from(all).to_string(), event.to_string()] {
        assert!(!["100-10-1000", "+1 212", "1940-01", "10000"].iter().any(|value| text.contains(value)), "{text}");
    }
    assert_eq!(
        (&event["rows"], &event["table_version"], &event["object"]["kind"]),
        (&json!(ROWS), &json!(1), &json!("table"))
    );
    assert_eq!(event["registered_table"], "hr.people");
    let metrics = app.service.core.metrics.encode().unwrap();
    assert!(metrics.contains("weir_table_scans_total{outcome=\"done\"} 1"), "{metrics}");
}

async fn a_column_is_decided_about_by_those_who_may(app: TestApp) {
    people(&app).await;
    scan(&app, "hr.people").await;
    let path = "/tables/hr.people/columns/ssn";
    let before = column(&app, "hr.people", "ssn").await;
    let rehearsed = app.patch(&format!("{path}?dry_run=true"), json!({"state": "confirmed"})).await.expect(200);
    assert_eq!(rehearsed["state"], "confirmed");
    assert_eq!(column(&app, "hr.people", "ssn").await, before);
    let confirmed = app.patch(path, json!({"state": "confirmed"})).await.expect(200);
    assert_eq!((&confirmed["class"], &confirmed["state"]), (&json!("PII"), &json!("confirmed")));
    assert!(confirmed["decided_by"].is_string() && confirmed["decided_at"].is_string());
    assert_eq!(app.patch(path, json!({"state": "confirmed"})).await.expect(200), confirmed, "nothing changed");
    let event = app.events("column.update").await.remove(0);
    assert_eq!(event["change"], json!({"before": {"state": "proposed"}, "after": {"state": "confirmed"}}));
    assert_eq!((&event["object"]["kind"], &event["object"]["name"]), (&json!("column"), &json!("hr.people:ssn")));

    let stale = Request::patch(format!("/api/v1{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {OPERATOR_TOKEN}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::IF_MATCH, before["etag"].as_str().unwrap());
    let stale = app.send(stale.body(Body::from(r#"{"state": "rejected"}"#)).unwrap()).await;
    assert_eq!(stale.status, 412);
    let rejected = app.patch(path, json!({"state": "rejected"})).await.expect(200);
    assert_eq!(rejected["state"], "rejected");

    // By hand: whoever names a class confirms it.
    let nested = "/tables/hr.people/columns/member.phones.element";
    let by_hand = app.patch(nested, json!({"class": "house_secret", "role": "none"})).await.expect(200);
    assert_eq!((&by_hand["class"], &by_hand["state"]), (&json!("house_secret"), &json!("confirmed")));
    let open = app.patch(nested, json!({"state": "proposed"})).await.expect(200);
    assert_eq!((&open["state"], &open["decided_by"]), (&json!("proposed"), &Value::Null));
    for (body, field) in [
        (json!({"class": "pii"}), "class"),
        (json!({"class": "Own Class"}), "class"),
        (json!({"role": "indirect"}), "role"),
        (json!({"state": "open"}), "state"),
        (json!({"clas": "PII"}), "clas"),
    ] {
        assert_eq!(fields(&app.patch(path, body).await.problem(422, "invalid_input")), [field]);
    }
    let nothing = app.patch("/tables/hr.people/columns/amount", json!({"state": "confirmed"})).await;
    assert_eq!(fields(&nothing.problem(422, "invalid_input")), ["class"]);
    for missing in ["/tables/hr.people/columns/none", "/tables/hr.people/columns/a..b", "/tables/hr.none/columns/ssn"] {
        app.patch(missing, json!({"state": "rejected"})).await.problem(404, "not_found");
    }
    app.put("/tables/hr.other", json!({"location": app.plain_log("other")})).await.expect(201);
    let body = json!({"state": "confirmed"});
    let compliance = app.operator("cora", "compliance").await;
    app.admin_as(&compliance, Method::PATCH, path, Some(&body)).await.expect(200);
    app.admin_as(&compliance, Method::POST, "/tables/hr.people/scan", Some(&json!({}))).await.expect(200);
    let auditor = app.operator("ann", "auditor").await;
    app.admin_as(&auditor, Method::GET, "/tables/hr.people/columns", None).await.expect(200);
    app.admin_as(&auditor, Method::PATCH, path, Some(&body)).await.problem(403, "forbidden");
    app.admin_as(&auditor, Method::POST, "/tables/hr.people/scan", Some(&json!({}))).await.problem(403, "forbidden");
}

async fn several_columns_are_decided_about_together_or_not_at_all(app: TestApp) {
    people(&app).await;
    scan(&app, "hr.people").await;
    let path = "/tables/hr.people/columns";
    let half = json!({"columns": [{"path": "ssn", "state": "confirmed"}, {"path": "none", "state": "confirmed"}]});
    app.patch(path, half).await.problem(404, "not_found");
    assert_eq!(column(&app, "hr.people", "ssn").await["state"], "proposed");
    let etag = column(&app, "hr.people", "zip").await["etag"].clone();
    let both = json!({"columns": [
        {"path": "zip", "class": "PII", "role": "quasi", "etag": etag}, {"path": "amount", "class": "internal"},
        {"path": "order_no", "class": "internal", "role": "business_key"}, {"path": "ssn", "state": "rejected"},
    ]});
    let decided = app.patch(path, both.clone()).await.expect(200);
    let states: Vec<_> = decided["items"].as_array().unwrap().iter().map(|column| column["state"].clone()).collect();
    assert_eq!(states, ["confirmed", "confirmed", "confirmed", "rejected"]);
    assert_eq!(app.events("column.update").await.len(), 4);
    assert_eq!(app.patch(path, both).await.status, 412, "the etag is another by now");
    let many: Vec<Value> = (0..201).map(|_| json!({"path": "ssn"})).collect();
    app.patch(path, json!({"columns": many})).await.problem(422, "invalid_input");
}

async fn what_was_decided_survives_another_scan(app: TestApp) {
    let folder = app.folder("t");
    let first = written(
        &folder,
        "0.parquet",
        vec![("email", texts(|row| format!("p{row}@example.com"))), ("city", texts(|_| "Berlin".to_owned()))],
    );
    let columns_of = |names: &[&str]| described(&names.iter().map(|name| (*name, json!("string"))).collect::<Vec<_>>());
    let mut log = HandWrittenLog::create(&folder, protocol(1, 2), columns_of(&["email", "city"]));
    log.commit(&[first]);
    app.put("/tables/t", json!({"location": app.location("t")})).await.expect(201);
    scan(&app, "t").await;
    app.patch("/tables/t/columns/email", json!({"class": "internal", "role": "none"})).await.expect(200);
    app.patch("/tables/t/columns/city", json!({"class": "public"})).await.expect(200);
    let (email, city) = (column(&app, "t", "email").await, column(&app, "t", "city").await);
    let again = scan(&app, "t").await;
    assert_eq!((&again["new"], &again["decided"]), (&json!(0), &json!(2)));
    assert_eq!(column(&app, "t", "email").await, email, "nothing is written where nothing changes");

    // A column comes, another goes.
    log.commit(&[columns_of(&["email", "phone"])]);
    let changed = scan(&app, "t").await;
    assert_eq!((&changed["new"], &changed["gone"], &changed["columns"]), (&json!(1), &json!(1), &json!(2)));
    let phone = column(&app, "t", "phone").await;
    assert_eq!((&phone["class"], &phone["state"]), (&json!("PII"), &json!("proposed")), "by its name alone");
    assert_eq!(column(&app, "t", "email").await["state"], "confirmed");
    let gone = columns(&app, "t", "?gone=true").await.remove(0);
    assert_eq!((&gone["path"], &gone["class"], &gone["id"]), (&json!("city"), &json!("public"), &city["id"]));
    assert!(gone["gone_at"].is_string());
    app.patch("/tables/t/columns/city", json!({"state": "rejected"})).await.problem(409, "conflict");

    // What comes back may be something else: it is to be decided about again.
    log.commit(&[columns_of(&["email", "phone", "city"])]);
    scan(&app, "t").await;
    let back = column(&app, "t", "city").await;
    assert_eq!((&back["id"], &back["state"], &back["class"]), (&city["id"], &json!("proposed"), &json!("public")));
    assert_eq!((&back["gone_at"], &back["decided_by"]), (&Value::Null, &Value::Null));
    app.delete("/tables/t").await.expect(204);
}

async fn a_damaged_column_is_a_problem_of_that_column(app: TestApp) {
    let folder = app.folder("t");
    let add = written(
        &folder,
        "0.parquet",
        vec![
            ("email", texts(|row| format!("p{row}@example.com"))),
            ("ssn", texts(|row| format!("{:03}-{:02}-{:04}", 100 + row, 10 + row, 1000 + row))),
            ("note", texts(|row| format!("n{row}"))),
        ],
    );
    let path = folder.join("0.parquet");
    let reader = SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
    let (from, length) = reader.metadata().row_group(0).column(1).byte_range();
    let mut bytes = fs::read(&path).unwrap();
    bytes[from as usize..(from + length) as usize].fill(0xFF);
    fs::write(&path, bytes).unwrap();
    let schema = described(&[("email", json!("string")), ("ssn", json!("string")), ("note", json!("string"))]);
    let mut log = HandWrittenLog::create(&folder, protocol(1, 2), schema);
    log.commit(&[add]);
    app.put("/tables/t", json!({"location": app.location("t")})).await.expect(201);
    let done = scan(&app, "t").await;
    assert_eq!((&done["unreadable"], &done["columns"]), (&json!(1), &json!(3)), "{done}");
    let ssn = column(&app, "t", "ssn").await;
    assert!(ssn["evidence"]["problem"].as_str().unwrap().contains("corrupt"), "{ssn}");
    assert_eq!((&ssn["class"], &ssn["evidence"]["sampled"]), (&json!("PII"), &json!(0)), "its name is left");
    let email = column(&app, "t", "email").await;
    assert_eq!((&email["evidence"]["problem"], &email["evidence"]["sampled"]), (&Value::Null, &json!(ROWS)));

    // A file that is not there at all.
    log.commit(&[json!({"add": {
        "path": "none.parquet", "partitionValues": {}, "size": 1000, "modificationTime": 1, "dataChange": true,
    }})]);
    assert_eq!(scan(&app, "t").await["unreadable"], 3);
}

async fn a_scan_that_nobody_waits_for_is_a_job(app: TestApp) {
    people(&app).await;
    let path = "/tables/hr.people/scan";
    let queued = app.post(path, json!({"wait_seconds": 0})).await.expect(202);
    assert_eq!((&queued["state"], queued.get("columns")), (&json!("queued"), None));
    assert_eq!(app.post(path, json!({"wait_seconds": 0})).await.expect(202)["job"], queued["job"], "one is enough");
    let jobs = app.get("/jobs?kind=scan").await.expect(200);
    assert_eq!(jobs["items"][0]["id"], queued["job"]);
    assert!(columns(&app, "hr.people", "").await.is_empty());
    app.service.jobs.run_jobs(JobKind::Scan).await.unwrap();
    assert_eq!(columns(&app, "hr.people", "").await.len(), 6);
    assert_eq!(app.get("/jobs").await.expect(200)["items"], json!([]));
    let done = app.events("table.scan").await.remove(0);
    assert_eq!((&done["actor"]["kind"], &done["rows"]), (&json!("system"), &json!(ROWS)));

    // A table that is gone by then.
    app.post(path, json!({"wait_seconds": 0})).await.expect(202);
    app.delete("/tables/hr.people").await.expect(204);
    app.service.jobs.run_jobs(JobKind::Scan).await.unwrap();
    let dead = app.get("/jobs?state=dead").await.expect(200)["items"][0].clone();
    assert!(dead["failure"].as_str().unwrap().contains("no longer registered"), "{dead}");
    app.post(path, json!({"wait_seconds": 0})).await.problem(404, "not_found");
}

async fn another_location_leaves_everything_to_decide_again(app: TestApp) {
    people(&app).await;
    scan(&app, "hr.people").await;
    app.patch("/tables/hr.people/columns/ssn", json!({"class": "public"})).await.expect(200);
    let elsewhere = app.plain_log("elsewhere");
    app.patch("/tables/hr.people", json!({"location": elsewhere})).await.expect(200);
    let ssn = column(&app, "hr.people", "ssn").await;
    assert_eq!((&ssn["state"], &ssn["decided_by"]), (&json!("proposed"), &Value::Null));
}

async fn a_table_that_cannot_be_scanned_is_refused_and_keeps_what_it_has(app: TestApp) {
    let folder = app.folder("wide");
    let names: Vec<String> = (0..10_001).map(|at| format!("c{at}")).collect();
    let wide: Vec<_> = names.iter().map(|name| (name.as_str(), json!("string"))).collect();
    HandWrittenLog::create(&folder, protocol(1, 2), described(&wide));
    app.put("/tables/wide", json!({"location": app.location("wide")})).await.expect(201);
    let refused = app.post("/tables/wide/scan", json!({})).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("10000"), "{}", refused.text);
    let folder = app.folder("widest");
    HandWrittenLog::create(&folder, protocol(1, 2), described(&wide[..10_000]));
    app.put("/tables/widest", json!({"location": app.location("widest")})).await.expect(201);
    assert_eq!(scan(&app, "widest").await["columns"], 10_000);
    for (body, field) in [(json!({"wait_seconds": 11}), "wait_seconds"), (json!({"rows": 1}), "rows")] {
        assert_eq!(fields(&app.post("/tables/widest/scan", body).await.problem(422, "invalid_input")), [field]);
    }
    app.post("/tables/none/scan", json!({})).await.problem(404, "not_found");
}

async fn columns_are_listed_page_by_page(app: TestApp) {
    people(&app).await;
    scan(&app, "hr.people").await;
    app.patch("/tables/hr.people/columns/zip", json!({"state": "confirmed"})).await.expect(200);
    let page = app.get("/tables/hr.people/columns?class=PII&max_results=2").await.expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let token = page["next_page_token"].as_str().unwrap();
    let rest =
        app.get(&format!("/tables/hr.people/columns?class=PII&max_results=2&page_token={token}")).await.expect(200);
    let paths: Vec<_> = rest["items"].as_array().unwrap().iter().map(|column| column["path"].clone()).collect();
    assert_eq!((paths, rest.get("next_page_token")), (vec![json!("ssn"), json!("zip")], None));
    let confirmed = columns(&app, "hr.people", "?state=confirmed").await;
    assert_eq!((confirmed.len(), &confirmed[0]["path"]), (1, &json!("zip")));
    for query in ["?state=open", "?gone=perhaps", "?klass=PII"] {
        app.get(&format!("/tables/hr.people/columns{query}")).await.problem(400, "invalid_parameter");
    }
    let other = format!("/tables/hr.people/columns?max_results=2&page_token={token}");
    app.get(&other).await.problem(400, "invalid_parameter");
    app.get("/tables/hr.none/columns").await.problem(404, "not_found");
}

async fn what_a_newer_server_decided_is_shown_and_kept(app: TestApp) {
    people(&app).await;
    scan(&app, "hr.people").await;
    let spec = r#"{"class": "DNA", "role": "genetic", "state": "approved", "later": 1}"#;
    let set = format!("spec = '{spec}', class = 'DNA', state = 'approved', evidence = NULL");
    app.execute(format!("UPDATE columns SET {set} WHERE path = 'ssn'")).await;
    let shown = |column: &Value| ["class", "role", "state"].map(|field| column[field].clone());
    let newer = ["DNA", "genetic", "approved"].map(Value::from);
    assert_eq!(shown(&column(&app, "hr.people", "ssn").await), newer);
    assert_eq!(scan(&app, "hr.people").await["decided"], 1);
    let scanned = column(&app, "hr.people", "ssn").await;
    assert_eq!((shown(&scanned), &scanned["evidence"]["class"]), (newer, &json!("PII")));
    let decided = json!({"class": "PII", "role": "direct", "state": "confirmed"});
    app.patch("/tables/hr.people/columns/ssn", decided).await.expect(200);
    let later = columns(&app, "hr.people", "?class=PII&state=confirmed").await;
    assert_eq!(later.len(), 1);
}
