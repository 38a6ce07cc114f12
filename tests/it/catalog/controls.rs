//! Controls by class: what they ask of grants, which masks they put into effect, what they refuse, and how that is taken back.

use std::{fs, sync::Arc};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use chrono::{SecondsFormat, TimeDelta};
use http::Method;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::support::{
    app::{Answer, TestApp, fields, on_both_databases},
    tables::{HandWrittenLog, metadata, protocol},
};

on_both_databases!(
    a_control_is_put_read_changed_listed_and_deleted,
    what_no_control_may_be_is_refused,
    only_compliance_says_what_a_class_asks,
    a_raw_table_is_refused_justified_or_allowed_as_its_class_says,
    a_grant_names_the_agreements_that_a_class_asks_for,
    a_class_limits_how_long_grants_last,
    a_ceiling_says_which_classes_a_recipient_may_be_granted,
    data_that_nobody_may_keep_is_never_shared,
    where_classes_are_required_an_unconfirmed_column_is_not_read,
    what_was_confirmed_counts_until_somebody_looks_again,
    a_column_that_is_gone_counts_where_older_versions_are_shared,
    a_dry_run_says_what_changes_and_who_is_cut_off,
);

/// How many rows the table has.
pub const ROWS: i64 = 20;

/// A table with a direct identifier, a quasi one, and a number.
pub fn lay(app: &TestApp, folder: &str) -> HandWrittenLog {
    let folder = app.folder(folder);
    fs::create_dir_all(&folder).unwrap();
    let text = |of: fn(i64) -> String| Arc::new(StringArray::from_iter_values((0..ROWS).map(of))) as ArrayRef;
    let columns = [
        ("id", Arc::new(Int64Array::from_iter_values(0..ROWS)) as ArrayRef),
        ("member", text(|row| format!("member-{row}"))),
        ("zip", text(|row| format!("{:05}", 10_000 + row))),
        ("age", Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| 20 + row))) as ArrayRef),
    ];
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
    let path = folder.join("part-0.parquet");
    let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let add = json!({"add": {
        "path": "part-0.parquet", "partitionValues": {}, "size": fs::metadata(&path).unwrap().len(),
        "modificationTime": 1_700_000_000_000_i64, "dataChange": true,
    }});
    let of = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    let fields = [of("id", "long"), of("member", "string"), of("zip", "string"), of("age", "long")];
    let mut described = metadata("a-table", &[], &[]);
    described["metaData"]["schemaString"] = json!({"type": "struct", "fields": fields}).to_string().into();
    let mut log = HandWrittenLog::create(&folder, protocol(1, 2), described);
    log.commit(&[add]);
    log
}

/// The registered table `c.people`, scanned, with classes that somebody confirmed.
pub async fn people(app: &TestApp) -> HandWrittenLog {
    let log = lay(app, "people");
    app.put("/tables/c.people", json!({"location": app.location("people")})).await.expect(201);
    confirmed(app, "c.people").await;
    app.put("/shares/s", json!({})).await.expect(201);
    app.put("/recipients/acme", json!({})).await.expect(201);
    app.put("/purposes/fraud", json!({"description": "d"})).await.expect(201);
    log
}

/// Scans a table of [`lay`], and confirms its classes.
pub async fn confirmed(app: &TestApp, table: &str) {
    app.post(&format!("/tables/{table}/scan"), json!({})).await.expect(200);
    for (path, class, role) in
        [("id", "internal", "none"), ("member", "PHI", "direct"), ("zip", "PHI", "quasi"), ("age", "PHI", "none")]
    {
        classify(app, table, path, json!({"class": class, "role": role})).await;
    }
}

/// Decides about a column.
pub async fn classify(app: &TestApp, table: &str, path: &str, body: Value) {
    app.patch(&format!("/tables/{table}/columns/{path}"), body).await.expect(200);
}

/// The view `c.v` of the table, shared as `s.a.v`.
pub async fn shared_view(app: &TestApp, columns: Value) {
    app.put("/views/c.v", json!({"source": {"table": "c.people"}, "columns": columns})).await.expect(201);
    app.post("/views/c.v/publish", json!({})).await;
    app.put("/shares/s/objects/a/v", json!({"source": {"view": "c.v@v1"}})).await.expect(201);
}

/// An active agreement of acme, for fraud.
pub async fn agreement(app: &TestApp, name: &str, kind: &str, classes: Value) {
    let at = |days| (app.now() + TimeDelta::days(days)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let spec = json!({
        "recipient": "acme", "type": kind, "document": {"uri": "clm://1", "sha256": "0".repeat(64)},
        "purposes": ["fraud"], "classes": classes, "valid_from": at(-1), "valid_until": at(100),
    });
    app.put(&format!("/agreements/{name}"), spec).await.expect(201);
    app.post(&format!("/agreements/{name}/activate"), json!({"reason": "r"})).await.expect(200);
}

/// A grant of `s` to acme, for fraud.
pub fn grant(agreements: &[&str]) -> Value {
    json!({"share": "s", "recipient": "acme", "purpose": "fraud", "agreements": agreements})
}

/// What acme is answered that asks for the version of an object in `s.a`.
pub async fn version(app: &TestApp, token: &str, object: &str) -> Answer {
    app.shared(token, &format!("/shares/s/schemas/a/tables/{object}/version")).await
}

async fn denied(app: &TestApp, token: &str, object: &str, code: &str) {
    let answer = version(app, token, object).await;
    assert_eq!(answer.status, 403, "{}", answer.text);
    let event = app.get("/audit?decision=deny&recipient=acme&order=desc&max_results=1").await.expect(200);
    assert_eq!(event["items"][0]["reason"], code, "{event}");
}

async fn a_control_is_put_read_changed_listed_and_deleted(app: TestApp) {
    let body = json!({"requires": ["BAA"], "min_mask": {"direct": "hash"}, "raw": "refuse"});
    let made = app.put("/controls/PHI", body.clone()).await.expect(201);
    assert_eq!((&made["name"], &made["requires"], &made["raw"]), (&json!("PHI"), &json!(["BAA"]), &json!("refuse")));
    app.put("/controls/PHI", body).await.expect(200);
    app.put("/controls/PHI", json!({})).await.expect(200);
    app.put("/controls/PHI", json!({"raw": "allow"})).await.problem(409, "conflict");
    let changed = app.patch("/controls/PHI", json!({"max_grant_days": 30})).await.expect(200);
    assert_eq!((&changed["max_grant_days"], &changed["min_mask"]["direct"]), (&json!(30), &json!("hash")));
    app.put("/controls/trade_secret", json!({})).await.expect(201);
    let all = app.get("/controls").await.expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    app.delete("/controls/PHI").await.expect(204);
    app.get("/controls/PHI").await.problem(404, "not_found");
    let effects: Vec<Value> = app.events("control.update").await.iter().map(|event| event["effect"].clone()).collect();
    assert_eq!(effects, ["tightens"]);
}

async fn what_no_control_may_be_is_refused(app: TestApp) {
    for (name, body, field) in [
        ("phi", json!({}), "control"),
        ("Own", json!({}), "control"),
        ("PHI", json!({"requires": ["TREATY"]}), "requires[0]"),
        ("PHI", json!({"min_mask": {"direct": "blur"}}), "min_mask.direct"),
        ("PHI", json!({"raw": "maybe"}), "raw"),
        ("PHI", json!({"colour": 1}), "colour"),
        ("PHI", json!({"requires": "BAA"}), "requires"),
    ] {
        let problem = app.put(&format!("/controls/{name}"), body.clone()).await.problem(422, "invalid_input");
        assert!(fields(&problem).contains(&field.to_owned()), "{name} {body}: {problem}");
    }
}

async fn only_compliance_says_what_a_class_asks(app: TestApp) {
    let owner = app.operator("olga", "owner").await;
    let compliance = app.operator("carl", "compliance").await;
    let body = json!({"requires": ["BAA"]});
    app.admin_as(&owner, Method::PUT, "/controls/PHI", Some(&body)).await.problem(403, "forbidden");
    app.admin_as(&compliance, Method::PUT, "/controls/PHI", Some(&body)).await.expect(201);
    app.admin_as(&owner, Method::GET, "/controls/PHI", None).await.expect(200);
}

async fn a_raw_table_is_refused_justified_or_allowed_as_its_class_says(app: TestApp) {
    people(&app).await;
    let raw = |justification: Value| json!({"source": {"table": "c.people"}, "justification": justification});
    app.put("/shares/s/objects/a/before", raw(Value::Null)).await.expect(201);
    app.post("/grants", json!({"share": "s", "recipient": "acme"})).await.expect(201);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert_eq!(version(&app, &token, "before").await.status, 200);
    // What is shared already is held to it, too.
    app.put("/controls/PHI", json!({})).await.expect(201);
    denied(&app, &token, "before", "RAW_NOT_ALLOWED").await;
    let problem = app.put("/shares/s/objects/a/raw", raw(Value::Null)).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["source.table"]);
    app.put("/shares/s/objects/a/raw?dry_run=true", raw(Value::Null)).await.problem(422, "invalid_input");
    app.put("/shares/s/objects/a/raw", raw(json!("joined with their own table"))).await.expect(201);
    assert_eq!(version(&app, &token, "raw").await.status, 200);
    app.patch("/controls/PHI", json!({"raw": "refuse"})).await.expect(200);
    denied(&app, &token, "raw", "RAW_NOT_ALLOWED").await;
    app.patch("/controls/PHI", json!({"raw": "allow"})).await.expect(200);
    for object in ["raw", "before"] {
        assert_eq!(version(&app, &token, object).await.status, 200);
    }
    // A share whose table is in use keeps its control.
    app.delete("/controls/PHI").await.problem(409, "conflict");
}

async fn a_grant_names_the_agreements_that_a_class_asks_for(app: TestApp) {
    people(&app).await;
    shared_view(&app, json!([{"name": "id"}, {"name": "age"}])).await;
    app.put("/controls/PHI", json!({"requires": [["BAA", "DPA"], ["DUA"]]})).await.expect(201);
    let problem = app.post("/grants", grant(&[])).await.problem(422, "AGREEMENT_MISSING");
    let message = problem["errors"][0]["message"].as_str().unwrap();
    for word in ["PHI", "BAA", "DPA", "DUA", "a.v"] {
        assert!(message.contains(word), "{message}");
    }
    app.post("/grants?dry_run=true", grant(&[])).await.problem(422, "AGREEMENT_MISSING");
    agreement(&app, "baa", "BAA", json!(["PHI"])).await;
    agreement(&app, "pii", "DUA", json!(["PII"])).await;
    // One of two, and one that covers another class, are not enough.
    app.post("/grants", grant(&["baa", "pii"])).await.problem(422, "AGREEMENT_MISSING");
    agreement(&app, "dpa", "DPA", json!(["PHI", "PII"])).await;
    app.post("/grants", grant(&["baa", "dpa"])).await.expect(201);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert_eq!(version(&app, &token, "v").await.status, 200);
    // An agreement that no longer covers the class ends access at once.
    app.patch("/agreements/dpa", json!({"classes": ["PII"]})).await.expect(200);
    denied(&app, &token, "v", "AGREEMENT_MISSING").await;
    app.patch("/agreements/dpa", json!({"classes": ["PHI"]})).await.expect(200);
    assert_eq!(version(&app, &token, "v").await.status, 200);
    app.patch("/controls/PHI", json!({"requires": ["NDA"]})).await.expect(200);
    denied(&app, &token, "v", "AGREEMENT_MISSING").await;
    // What a column no longer is, nothing asks about; nor about what a mask hides whole.
    app.patch("/controls/PHI", json!({"default_mask": {"direct": "redact"}})).await.expect(200);
    classify(&app, "c.people", "age", json!({"class": "internal", "role": "none"})).await;
    assert_eq!(version(&app, &token, "v").await.status, 200);
    classify(&app, "c.people", "age", json!({"class": "PHI", "role": "direct"})).await;
    assert_eq!(version(&app, &token, "v").await.status, 200, "it shows nothing of the class");
}

async fn a_class_limits_how_long_grants_last(app: TestApp) {
    people(&app).await;
    shared_view(&app, json!([{"name": "id"}, {"name": "age"}])).await;
    app.put("/controls/PHI", json!({"max_grant_days": 30})).await.expect(201);
    let until = |days| (app.now() + TimeDelta::days(days)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let asked = json!({"share": "s", "recipient": "acme", "valid_until": until(40)});
    let problem = app.post("/grants", asked).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["valid_until"]);
    let made = app.post("/grants", json!({"share": "s", "recipient": "acme"})).await.expect(201);
    let ends = |grant: &Value| grant["valid_until"].as_str().unwrap()[..10].to_owned();
    assert_eq!(ends(&made), until(30)[..10]);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert_eq!(version(&app, &token, "v").await.status, 200);
    // A grant that is longer than the class allows by now ends earlier.
    app.patch("/controls/PHI", json!({"max_grant_days": 10})).await.expect(200);
    app.pass(10 * 86_400 - 60);
    assert_eq!(version(&app, &token, "v").await.status, 200);
    app.pass(61);
    denied(&app, &token, "v", "GRANT_EXPIRED").await;
}

async fn a_ceiling_says_which_classes_a_recipient_may_be_granted(app: TestApp) {
    people(&app).await;
    shared_view(&app, json!([{"name": "id"}, {"name": "age"}])).await;
    app.patch("/recipients/acme", json!({"ceiling": {"classes": ["internal", "PII"]}})).await.expect(200);
    let asked = json!({"share": "s", "recipient": "acme"});
    let problem = app.post("/grants", asked.clone()).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["share"]);
    assert!(problem["errors"][0]["message"].as_str().unwrap().contains("PHI"), "{problem}");
    classify(&app, "c.people", "age", json!({"class": "PII", "role": "none"})).await;
    app.post("/grants", asked).await.expect(201);
}

async fn data_that_nobody_may_keep_is_never_shared(app: TestApp) {
    people(&app).await;
    classify(&app, "c.people", "member", json!({"class": "PCI_SAD", "role": "none"})).await;
    app.put("/shares/s/objects/a/raw", json!({"source": {"table": "c.people"}, "justification": "j"}))
        .await
        .problem(422, "invalid_input");
    shared_view(&app, json!([{"name": "id"}, {"name": "member", "mask": {"partial": {"last": 4}}}])).await;
    let preview = app.post("/views/c.v/preview", json!({"recipient": "acme", "limit": 5})).await.expect(200);
    let rows = preview["evidence"]["rows"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["member"].is_null()), "{preview}");
}

async fn where_classes_are_required_an_unconfirmed_column_is_not_read(app: TestApp) {
    let app = app.replica_set(|settings| settings.governance.require_classification = true);
    let mut log = people(&app).await;
    shared_view(&app, json!([{"name": "id"}, {"name": "age"}])).await;
    app.put("/shares/s/objects/a/raw", json!({"source": {"table": "c.people"}})).await.expect(201);
    app.post("/grants", json!({"share": "s", "recipient": "acme"})).await.expect(201);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let metadata = async |object: &str| {
        app.shared(&token, &format!("/shares/s/schemas/a/tables/{object}/metadata")).await.status.as_u16()
    };
    assert_eq!((metadata("v").await, metadata("raw").await), (200, 200));
    classify(&app, "c.people", "zip", json!({"state": "rejected"})).await;
    assert_eq!((metadata("v").await, metadata("raw").await), (200, 403), "the view does not show it");
    classify(&app, "c.people", "zip", json!({"class": "PHI", "role": "quasi"})).await;
    classify(&app, "c.people", "age", json!({"state": "rejected"})).await;
    denied(&app, &token, "v", "UNCLASSIFIED_COLUMN").await;
    classify(&app, "c.people", "age", json!({"class": "internal"})).await;
    assert_eq!((metadata("v").await, metadata("raw").await), (200, 200));
    // A column that appears at the source has no class yet.
    let of = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    let fields =
        [of("id", "long"), of("member", "string"), of("zip", "string"), of("age", "long"), of("note", "string")];
    let mut described = crate::support::tables::metadata("a-table", &[], &[]);
    described["metaData"]["schemaString"] = json!({"type": "struct", "fields": fields}).to_string().into();
    log.commit(&[described]);
    assert_eq!((metadata("v").await, metadata("raw").await), (200, 403));
    // A table that nobody has scanned has no classes at all.
    lay(&app, "others");
    app.put("/tables/c.others", json!({"location": app.location("others")})).await.expect(201);
    app.put("/shares/s/objects/a/others", json!({"source": {"table": "c.others"}})).await.expect(201);
    assert_eq!(metadata("others").await, 403);
}

async fn what_was_confirmed_counts_until_somebody_looks_again(app: TestApp) {
    people(&app).await;
    app.put("/controls/PHI", json!({"raw": "refuse"})).await.expect(201);
    lay(&app, "moved");
    app.patch("/tables/c.people", json!({"location": app.location("moved")})).await.expect(200);
    let columns = app.get("/tables/c.people/columns?state=proposed").await.expect(200);
    assert_eq!(columns["items"].as_array().unwrap().len(), 4);
    app.put("/shares/s/objects/a/raw", json!({"source": {"table": "c.people"}})).await.problem(422, "invalid_input");
    // What scans propose meanwhile does not count for less.
    for _ in 0..2 {
        app.post("/tables/c.people/scan", json!({})).await.expect(200);
    }
    app.put("/shares/s/objects/a/raw", json!({"source": {"table": "c.people"}})).await.problem(422, "invalid_input");
    for path in ["member", "zip", "age"] {
        classify(&app, "c.people", path, json!({"class": "internal", "role": "none"})).await;
    }
    app.put("/shares/s/objects/a/raw", json!({"source": {"table": "c.people"}})).await.expect(201);
}

async fn a_column_that_is_gone_counts_where_older_versions_are_shared(app: TestApp) {
    let mut log = people(&app).await;
    app.put("/controls/PHI", json!({"raw": "refuse"})).await.expect(201);
    let of = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": true, "metadata": {}});
    let mut described = metadata("a-table", &[], &[]);
    let fields = [of("id", "long")];
    described["metaData"]["schemaString"] = json!({"type": "struct", "fields": fields}).to_string().into();
    log.commit(&[described]);
    app.post("/tables/c.people/scan", json!({})).await.expect(200);
    let object = |history: bool| json!({"source": {"table": "c.people"}, "history": history, "start_version": 0});
    app.put("/shares/s/objects/a/past", object(true)).await.problem(422, "invalid_input");
    app.put("/shares/s/objects/a/now", object(false)).await.expect(201);
    app.patch("/shares/s/objects/a/now", json!({"history": true})).await.problem(422, "invalid_input");
}

async fn a_dry_run_says_what_changes_and_who_is_cut_off(app: TestApp) {
    people(&app).await;
    shared_view(&app, json!([{"name": "id"}, {"name": "who", "from": "member"}, {"name": "age"}])).await;
    app.post("/grants", json!({"share": "s", "recipient": "acme"})).await.expect(201);
    let body = json!({"requires": ["BAA"], "default_mask": {"direct": "redact"}});
    let said = app.put("/controls/PHI?dry_run=true", body.clone()).await.expect(200);
    let object = &said["impact"]["objects"][0];
    assert_eq!(object["object"], "s.a.v");
    let masked = json!([{"name": "who", "before": null, "after": "redact", "retyped": false}]);
    assert_eq!(object["columns"], masked);
    assert_eq!(object["cut_off"], json!([{"recipient": "acme", "reason": "AGREEMENT_MISSING"}]));
    app.get("/controls/PHI").await.problem(404, "not_found");
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert_eq!(version(&app, &token, "v").await.status, 200);
    assert!(app.put("/controls/PHI", body).await.expect(201)["impact"].is_null());
    denied(&app, &token, "v", "AGREEMENT_MISSING").await;
    let said = app.patch("/controls/PHI?dry_run=true", json!({"requires": null})).await.expect(200);
    assert_eq!(said["impact"]["objects"][0]["let_in"], json!(["acme"]));
    // The same for a column's class, of which the dry run stores nothing either.
    app.patch("/controls/PHI", json!({"requires": null})).await.expect(200);
    let path = "/tables/c.people/columns/age?dry_run=true";
    let said = app.patch(path, json!({"class": "PHI", "role": "direct"})).await.expect(200);
    let masked = json!([{"name": "age", "before": null, "after": "null", "retyped": false}]);
    assert_eq!(said["impact"]["objects"][0]["columns"], masked, "{said}");
    let several = json!({"columns": [{"path": "age", "class": "PHI", "role": "direct"}]});
    let said = app.patch("/tables/c.people/columns?dry_run=true", several).await.expect(200);
    assert_eq!(said["impact"]["objects"][0]["columns"], masked, "{said}");
    let neutral = app.patch(path, json!({"class": "own_class", "role": "none"})).await.expect(200);
    assert_eq!(neutral["impact"], json!({"objects": []}));
}
