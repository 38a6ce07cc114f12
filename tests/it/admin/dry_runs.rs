//! Dry runs: every operation that changes something has one, and it stores nothing, whatever it answers.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use weir::store::Db;

use super::openapi::described;
use crate::support::app::{OPERATOR_TOKEN, TestApp, on_both_databases};

on_both_databases!(
    a_rehearsed_change_is_checked_and_keeps_nothing,
    a_rehearsal_answers_what_the_change_would,
    a_rehearsal_is_refused_for_what_the_change_would_be_refused_for,
    unknown_parameters_are_refused_by_every_operation,
);

/// What is rehearsed elsewhere, because it needs a state of its own: `insight::notify`, `core::jobs`,
/// `sharing::schema_hold`, `operators::identities`, `access::exceptions`.
const ELSEWHERE: [&str; 7] = [
    "approve_exception",
    "retry_notification",
    "retry_job",
    "accept_schema",
    "disable_operator_identity",
    "enable_operator_identity",
    "delete_operator_identity",
];

/// Everything stored except the trail, by table: each row as text.
async fn kept(app: &TestApp) -> BTreeMap<String, BTreeSet<String>> {
    // Events about the dry run itself, and what is counted from them.
    let is_counted = |table: &str| table.starts_with("audit_") || table.starts_with("usage_") || table == "leases";
    let mut kept = BTreeMap::new();
    match &app.service.core.db {
        Db::Sqlite { writer, .. } => {
            let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
            let tables: Vec<String> = sqlx::query_scalar(sql).fetch_all(writer).await.unwrap();
            for table in tables.into_iter().filter(|table| !is_counted(table)) {
                let sql = format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid");
                let columns: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(writer).await.unwrap();
                let row: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
                let sql = format!("SELECT {} FROM {table}", row.join(" || ',' || "));
                let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(writer).await.unwrap();
                kept.insert(table, rows.into_iter().collect());
            }
        }
        Db::Postgres { pool, .. } => {
            let sql = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()";
            let tables: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await.unwrap();
            for table in tables.into_iter().filter(|table| !is_counted(table)) {
                let sql = format!("SELECT t::text FROM {table} t");
                let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
                kept.insert(table, rows.into_iter().collect());
            }
        }
    }
    kept
}

/// Something of every noun, so that every operation finds what it changes; by placeholder, the ids to ask by.
pub async fn something_of_everything(app: &TestApp) -> BTreeMap<&'static str, String> {
    app.share_claims().await;
    app.put("/shares/empty", json!({})).await.expect(201);
    app.put("/purposes/some", json!({"description": "d"})).await.expect(201);
    app.put("/purposes/unused", json!({"description": "d"})).await.expect(201);
    app.put("/groups/some", json!({})).await.expect(201);
    app.put("/domains/d", json!({})).await.expect(201);
    app.put("/domains/unused", json!({})).await.expect(201);
    app.put("/exceptions/some", exception(app)).await.expect(201);
    app.put("/tables/unused", json!({"location": app.location("claims")})).await.expect(201);
    app.post("/tables/unused/scan", json!({})).await.expect(200);
    let view = json!({"source": {"table": "claims.claims"}, "columns": [{"name": "id"}]});
    app.put("/recipients/party", json!({})).await.expect(201);
    for name in ["unused", "signed", "halted"] {
        app.put(&format!("/agreements/{name}"), agreement("party")).await.expect(201);
    }
    for path in ["/agreements/signed/activate", "/agreements/halted/activate", "/agreements/halted/suspend"] {
        app.post(path, json!({"reason": "r"})).await.expect(200);
    }
    let case = json!({"recipient": "party", "purpose": "some", "decision_supported": "d", "sponsor": "s"});
    app.put("/controls/unused", json!({})).await.expect(201);
    app.put("/use-cases/some", case).await.expect(201);
    app.put("/views/claims.some", view).await.expect(201);
    let grant = app.grant_acme().await;
    app.put("/recipients/other", json!({})).await.expect(201);
    app.put("/recipients/halted", json!({})).await.expect(201);
    app.post("/recipients/halted/suspend", json!({"reason": "r"})).await.expect(200);
    let token = app.token_for_acme().await;
    let link = app.post("/recipients/acme/tokens", json!({"credential": "link"})).await.expect(201);
    app.put("/operators/ann", json!({"role": "auditor"})).await.expect(201);
    let key = app.post("/operators/ann/tokens", json!({})).await.expect(201);
    app.put("/operators/off", json!({"role": "support"})).await.expect(201);
    app.post("/operators/off/disable", json!({"reason": "r"})).await.expect(200);
    app.post("/freeze", json!({"reason": "r"})).await.expect(200);
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    BTreeMap::from([("{grant}", grant), ("{token}", id(&token)), ("{link}", id(&link)), ("{key}", id(&key))])
}

/// An exception for a share.
fn exception(app: &TestApp) -> Value {
    let expires_at = (app.now() + chrono::TimeDelta::days(30)).to_rfc3339();
    json!({"rule": "raw_class", "object": "share:empty", "reason": "r", "expires_at": expires_at})
}

/// An agreement with a recipient, for no purpose.
fn agreement(recipient: &str) -> Value {
    json!({
        "recipient": recipient, "type": "custom", "document": {"uri": "u"}, "valid_from": "2026-01-01T00:00:00Z",
        "valid_until": "2099-01-01T00:00:00Z",
    })
}

/// A request that every operation would do.
pub fn request_of(operation: &str) -> Option<(&'static str, Value)> {
    let reason = || json!({"reason": "r"});
    Some(match operation {
        "put_table" => ("/tables/new", json!({"location": "{location}"})),
        "update_table" => ("/tables/unused", json!({"description": "d"})),
        "delete_table" => ("/tables/unused", Value::Null),
        "discover" => ("/discover", json!({"url": "{location}"})),
        "scan_table" => ("/tables/unused/scan", json!({})),
        "update_column" => ("/tables/unused/columns/id", json!({"class": "internal"})),
        "update_columns" => ("/tables/unused/columns", json!({"columns": [{"path": "id", "class": "internal"}]})),
        "put_share" => ("/shares/new", json!({"description": "d"})),
        "update_share" => ("/shares/empty", json!({"description": "d"})),
        "delete_share" => ("/shares/empty", Value::Null),
        "put_purpose" => ("/purposes/new", json!({"description": "d"})),
        "update_purpose" => ("/purposes/some", json!({"description": "e"})),
        "delete_purpose" => ("/purposes/unused", Value::Null),
        "put_control" => ("/controls/PII", json!({"raw": "refuse"})),
        "update_control" => ("/controls/unused", json!({"raw": "refuse"})),
        "delete_control" => ("/controls/unused", Value::Null),
        "put_domain" => ("/domains/new", json!({"description": "d"})),
        "update_domain" => ("/domains/d", json!({"description": "d"})),
        "delete_domain" => ("/domains/unused", Value::Null),
        "put_exception" => (
            "/exceptions/new",
            json!({"rule": "raw_class", "object": "share:empty", "reason": "r", "expires_at": "{later}"}),
        ),
        "update_exception" => ("/exceptions/some", json!({"reason": "s"})),
        "delete_exception" => ("/exceptions/some", Value::Null),
        "end_exception" => ("/exceptions/some/end", reason()),
        "put_use_case" => (
            "/use-cases/new",
            json!({"recipient": "party", "purpose": "some", "decision_supported": "d", "sponsor": "s"}),
        ),
        "update_use_case" => ("/use-cases/some", json!({"sponsor": "t"})),
        "delete_use_case" => ("/use-cases/some", Value::Null),
        "put_agreement" => ("/agreements/new", agreement("party")),
        "update_agreement" => ("/agreements/unused", json!({"retention_days": 30})),
        "delete_agreement" => ("/agreements/unused", Value::Null),
        "submit_agreement" => ("/agreements/unused/submit", reason()),
        "activate_agreement" => ("/agreements/unused/activate", reason()),
        "suspend_agreement" => ("/agreements/signed/suspend", reason()),
        "resume_agreement" => ("/agreements/halted/resume", reason()),
        "terminate_agreement" => ("/agreements/signed/terminate", reason()),
        "put_object" => ("/shares/empty/objects/s/t", json!({"source": {"table": "claims.claims"}})),
        "update_object" => ("/shares/insurer/objects/claims/claims", json!({"history": true})),
        "delete_object" => ("/shares/insurer/objects/claims/claims", Value::Null),
        "put_view" => ("/views/claims.new", json!({"source": {"table": "claims.claims"}, "columns": [{"name": "id"}]})),
        "update_view" => ("/views/claims.some", json!({"description": "d"})),
        "delete_view" => ("/views/claims.some", Value::Null),
        "publish_view" => ("/views/claims.some/publish", json!({})),
        "preview_view" => ("/views/claims.some/preview", json!({"recipient": "acme"})),
        "reconcile_copies" => ("/copies/reconcile", json!({})),
        "put_recipient" => ("/recipients/new", json!({"properties": {"a": 1}})),
        "update_recipient" => ("/recipients/other", json!({"contacts": {"a": "b"}})),
        "delete_recipient" => ("/recipients/other", Value::Null),
        "suspend_recipient" => ("/recipients/acme/suspend", reason()),
        "resume_recipient" => ("/recipients/halted/resume", reason()),
        "offboard_recipient" => ("/recipients/acme/offboard", reason()),
        "issue_token" => ("/recipients/acme/tokens", json!({"reveal": true})),
        "rotate_token" => {
            ("/recipients/acme/tokens/{token}/rotate", json!({"existing_token_expire_in_seconds": 0, "reveal": true}))
        }
        "revoke_token" => ("/recipients/acme/tokens/{token}/revoke", reason()),
        "cancel_activation" => ("/recipients/acme/tokens/{link}/activation", Value::Null),
        "create_grant" => ("/grants", json!({"share": "empty", "recipient": "acme"})),
        "revoke_grant" => ("/grants/{grant}/revoke", reason()),
        "revoke_share" => ("/shares/insurer/revoke", reason()),
        "revoke_share_from_recipient" => ("/shares/insurer/recipients/acme/revoke", reason()),
        "freeze" => ("/freeze", reason()),
        "unfreeze" => ("/unfreeze", reason()),
        "put_group" => ("/groups/new", json!({"members": ["ann"]})),
        "update_group" => ("/groups/some", json!({"members": ["ann"]})),
        "delete_group" => ("/groups/some", Value::Null),
        "put_operator" => ("/operators/new", json!({"role": "admin"})),
        "update_operator" => ("/operators/ann", json!({"role": "support"})),
        "delete_operator" => ("/operators/ann", Value::Null),
        "disable_operator" => ("/operators/ann/disable", reason()),
        "enable_operator" => ("/operators/off/enable", reason()),
        "issue_operator_token" => ("/operators/ann/tokens", json!({})),
        "revoke_operator_token" => ("/operators/ann/tokens/{key}/revoke", reason()),
        "create_report" => ("/reports", json!({"month": "{month}"})),
        "record_drill" => ("/drills", json!({"kind": "restore", "passed": true, "measured": {}})),
        _ => return None,
    })
}

async fn a_rehearsed_change_is_checked_and_keeps_nothing(app: TestApp) {
    // A month that is over and has events.
    app.put("/shares/early", json!({})).await.expect(201);
    let month = app.now().format("%Y-%m").to_string();
    app.pass(32 * 86_400);
    let ids = something_of_everything(&app).await;
    let location = app.location("claims");
    app.service.core.audit_writer.finish().await;
    let before = kept(&app).await;
    for operation in described(&app).await {
        let id = operation.description["operationId"].as_str().unwrap();
        if operation.method == Method::GET || ELSEWHERE.contains(&id) {
            continue;
        }
        let (path, body) = request_of(id).unwrap_or_else(|| panic!("say how {id} is rehearsed"));
        let path = ids.iter().fold(path.to_owned(), |path, (name, id)| path.replace(name, id));
        let body = body.to_string().replace("{location}", &location).replace("{month}", &month);
        let body = body.replace("{later}", &(app.now() + chrono::TimeDelta::days(9)).to_rfc3339());
        let body: Value = serde_json::from_str(&body).unwrap();
        let path = format!("{path}?dry_run=true");
        let answer = app.admin_as(OPERATOR_TOKEN, operation.method, &path, Some(&body).filter(|b| !b.is_null())).await;
        assert!([200, 202, 204].contains(&answer.status.as_u16()), "{id}: {} {}", answer.status, answer.text);
        assert_eq!(answer.headers["x-weir-dry-run"], "true", "{id}");
        if id.contains("issue") || id == "rotate_token" {
            assert!(answer.text.contains("dry-run") && !answer.text.contains("weir_"), "{id}: {}", answer.text);
        }
        app.service.core.audit_writer.finish().await;
        let after = kept(&app).await;
        for (table, rows) in &before {
            assert_eq!(rows, &after[table], "{id} changed {table}");
        }
    }
    // The trail records the request and what was looked at, but no change.
    let page = app.get("/audit?order=desc&max_results=20").await.expect(200);
    let actions: BTreeSet<&str> =
        page["items"].as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(actions, BTreeSet::from(["admin.read", "table.scan", "view.preview"]));
}

async fn a_rehearsal_answers_what_the_change_would(app: TestApp) {
    app.put("/recipients/acme", json!({"description": "old"})).await.expect(201);
    let before = app.get("/recipients/acme").await.expect(200);
    let change = json!({"description": "new", "properties": {"a": [1]}});
    let rehearsed = app.patch("/recipients/acme?dry_run=true", change.clone()).await.expect(200);
    assert_eq!((&rehearsed["description"], &rehearsed["properties"]["a"]), (&json!("new"), &json!([1])));
    assert_eq!(app.get("/recipients/acme").await.expect(200), before);
    assert_ne!(rehearsed["etag"], before["etag"]);
    let changed = app.patch("/recipients/acme?dry_run=false", change).await.expect(200);
    assert_eq!((&changed["properties"], &changed["etag"]), (&rehearsed["properties"], &rehearsed["etag"]));
    app.post("/recipients/acme/suspend?dry_run=true", json!({"reason": "r"})).await.expect(200);
    assert_eq!(app.get("/recipients/acme").await.expect(200)["state"], "active");
    let put = app.put("/shares/new?dry_run=true", json!({"description": "d"})).await.expect(200);
    assert_eq!((&put["name"], &put["description"]), (&json!("new"), &json!("d")));
    app.get("/shares/new").await.problem(404, "not_found");
    for value in ["", "1", "yes", "TRUE"] {
        app.put(&format!("/shares/new?dry_run={value}"), json!({})).await.problem(400, "invalid_parameter");
    }
}

async fn a_rehearsal_is_refused_for_what_the_change_would_be_refused_for(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    app.delete("/shares/insurer?dry_run=true").await.problem(409, "conflict");
    app.put("/recipients/acme?dry_run=true", json!({"description": "x"})).await.problem(409, "conflict");
    app.patch("/recipients/acme?dry_run=true", json!({"nope": 1})).await.problem(422, "invalid_input");
    app.post("/grants?dry_run=true", json!({"share": "insurer", "recipient": "acme"})).await.problem(409, "conflict");
    app.patch("/shares/none?dry_run=true", json!({})).await.problem(404, "not_found");
    let support = app.operator("sue", "support").await;
    let refused = app.admin_as(&support, Method::PUT, "/shares/new?dry_run=true", Some(&json!({}))).await;
    refused.problem(403, "forbidden");
    let request = Request::delete("/api/v1/shares/insurer?dry_run=true")
        .header(header::AUTHORIZATION, format!("Bearer {support}"))
        .header(header::IF_MATCH, "\"other\"");
    app.send(request.body(Body::empty()).unwrap()).await.problem(403, "forbidden");
}

async fn unknown_parameters_are_refused_by_every_operation(app: TestApp) {
    let compliance = app.operator("cora", "compliance").await;
    for operation in described(&app).await {
        let path = operation.path.strip_prefix("/api/v1").unwrap();
        let path = path.replace("{id}", "00000000-0000-0000-0000-000000000000").replace(['{', '}'], "");
        let body = json!({});
        let body = Some(&body).filter(|_| ![Method::GET, Method::DELETE].contains(&operation.method));
        for query in ["colour=red", "dry_run=true&Dry_Run=true", "x", "%00=1"] {
            let path = format!("{path}?{query}");
            // The only thing that whoever runs the server may not do.
            let is_for_compliance = operation.description["operationId"] == "approve_exception";
            let token = if is_for_compliance { &compliance } else { OPERATOR_TOKEN };
            let answer = app.admin_as(token, operation.method.clone(), &path, body).await;
            let problem = answer.problem(400, "invalid_parameter");
            assert!(problem["detail"].as_str().unwrap().starts_with("query parameters: `"), "{problem}");
        }
        if operation.method == Method::GET {
            let answer = app.admin_as(OPERATOR_TOKEN, Method::GET, &format!("{path}?dry_run=true"), None).await;
            answer.problem(400, "invalid_parameter");
        }
    }
}
