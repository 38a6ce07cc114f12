//! Exceptions: proposed by one, approved by another, over by time or by a step.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::Method;
use serde_json::{Value, json};
use weir::{
    domain::{
        access::exception::{ExceptionObjectKind, ExceptionRule, ExceptionTarget},
        core::name::name_key,
    },
    store::ActiveException,
};

use crate::support::app::{Answer, TestApp, fields, on_both_databases};

on_both_databases!(
    an_exception_is_proposed_read_changed_listed_and_deleted,
    what_no_exception_may_be_is_refused,
    a_second_operator_of_compliance_approves_and_nobody_approves_alone,
    a_change_that_allows_more_is_proposed_again,
    an_exception_is_over_by_time_or_by_a_step,
    an_active_exception_is_found_for_the_very_thing_that_it_is_for,
    an_approval_is_rehearsed,
);

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn spec(app: &TestApp) -> Value {
    json!({
        "rule": "raw_class", "object": "table:claims.claims", "reason": "an audit",
        "expires_at": text(app.now() + TimeDelta::days(90)),
    })
}

fn with(mut spec: Value, changes: Value) -> Value {
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    spec
}

/// The exception `some`, proposed by `ann`, and the tokens of `ann` and `bob`, who are `compliance`.
async fn proposed(app: &TestApp) -> (String, String) {
    app.share_claims().await;
    let (ann, bob) = (app.operator("ann", "compliance").await, app.operator("bob", "compliance").await);
    app.admin_as(&ann, Method::PUT, "/exceptions/some", Some(&spec(app))).await.expect(201);
    (ann, bob)
}

async fn step(app: &TestApp, token: &str, step: &str) -> Answer {
    let body = json!({"reason": "a test"});
    app.admin_as(token, Method::POST, &format!("/exceptions/some/{step}"), Some(&body)).await
}

async fn an_exception_is_proposed_read_changed_listed_and_deleted(app: TestApp) {
    app.share_claims().await;
    let put = app.put("/exceptions/some", spec(&app)).await.expect(201);
    assert_eq!(
        (&put["state"], &put["proposed_by"], &put["approved_by"]),
        (&json!("proposed"), &json!("bootstrap"), &Value::Null)
    );
    assert_eq!(app.put("/exceptions/SOME", spec(&app)).await.expect(200), put);
    assert_eq!(app.get("/exceptions/some").await.expect(200), put);
    app.put("/exceptions/some", with(spec(&app), json!({"reason": "else"}))).await.problem(409, "conflict");
    let changed = app.patch("/exceptions/some", json!({"reason": "another audit"})).await.expect(200);
    assert_eq!((&changed["reason"], &changed["state"]), (&json!("another audit"), &json!("proposed")));
    app.put("/exceptions/more", with(spec(&app), json!({"object": "share:insurer"}))).await.expect(201);
    let listed = app.get("/exceptions").await.expect(200);
    assert_eq!((&listed["items"][0]["name"], &listed["items"][1]), (&json!("more"), &changed));
    let rehearsed = app.put("/exceptions/new?dry_run=true", spec(&app)).await.expect(200);
    assert_eq!((&rehearsed["state"], &rehearsed["proposed_by"]), (&json!("proposed"), &json!("bootstrap")));
    app.get("/exceptions/new").await.problem(404, "not_found");
    app.delete("/exceptions/some").await.expect(204);
    app.get("/exceptions/some").await.problem(404, "not_found");
    for (action, count) in [("create", 2), ("update", 1), ("delete", 1)] {
        let events = app.events(&format!("exception.{action}")).await;
        assert_eq!((events.len(), &events[0]["object"]["kind"]), (count, &json!("exception")), "{action}");
    }
    let owner = app.operator("olga", "owner").await;
    app.admin_as(&owner, Method::PUT, "/exceptions/new", Some(&spec(&app))).await.problem(403, "forbidden");
}

async fn what_no_exception_may_be_is_refused(app: TestApp) {
    app.share_claims().await;
    let (past, far) = (text(app.now()), text(app.now() + TimeDelta::days(181)));
    for (change, field) in [
        (json!({"rule": "anything"}), "rule"),
        (json!({"object": "recipient:acme"}), "object"),
        (json!({"object": "table:none"}), "object"),
        (json!({"object": "share:none"}), "object"),
        (json!({"object": "view:claims.none@v1"}), "object"),
        (json!({"object": null}), "object"),
        (json!({"reason": " "}), "reason"),
        (json!({"expires_at": past}), "expires_at"),
        (json!({"expires_at": far}), "expires_at"),
        (json!({"approver": "ann"}), "approver"),
    ] {
        let body = with(spec(&app), change.clone());
        let problem = app.put("/exceptions/new", body).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), [field], "{change}");
    }
    let view = json!({"source": {"table": "claims.claims"}, "columns": [{"name": "id"}]});
    app.put("/views/claims.some", view).await.expect(201);
    let of_view = with(spec(&app), json!({"object": "view:claims.some@v1", "rule": "mask_weaker"}));
    app.put("/exceptions/new", of_view.clone()).await.problem(422, "invalid_input");
    app.post("/views/claims.some/publish", json!({})).await.expect(201);
    app.put("/exceptions/new", of_view).await.expect(201);
}

async fn a_second_operator_of_compliance_approves_and_nobody_approves_alone(app: TestApp) {
    let (ann, bob) = proposed(&app).await;
    let alone = step(&app, &ann, "approve").await.problem(403, "SEPARATION");
    assert!(alone["detail"].as_str().unwrap().contains("ask another operator"), "{alone}");
    let refused = &app.events("admin.change").await[0];
    assert_eq!((&refused["decision"], &refused["reason"]), (&json!("deny"), &json!("SEPARATION")), "{refused}");
    // Neither whoever runs the server, nor whoever shares its data.
    app.post("/exceptions/some/approve", json!({"reason": "a test"})).await.problem(403, "forbidden");
    let owner = app.operator("olga", "owner").await;
    step(&app, &owner, "approve").await.problem(403, "forbidden");
    app.admin_as(&bob, Method::POST, "/exceptions/some/approve", Some(&json!({}))).await.problem(422, "invalid_input");
    let approved = step(&app, &bob, "approve").await.expect(200);
    assert_eq!((&approved["state"], &approved["approved_by"]), (&json!("active"), &json!("bob")));
    assert_eq!(app.get("/exceptions/some").await.expect(200), approved);
    let event = &app.events("exception.approve").await[0];
    assert_eq!((&event["effect"], &event["change"]["reason"]), (&json!("loosens"), &json!("a test")), "{event}");
    step(&app, &bob, "approve").await.problem(409, "conflict");
    app.delete("/exceptions/some").await.problem(409, "conflict");
}

async fn a_change_that_allows_more_is_proposed_again(app: TestApp) {
    let (ann, bob) = proposed(&app).await;
    step(&app, &bob, "approve").await.expect(200);
    let patch = async |token: &str, body: Value| {
        app.admin_as(token, Method::PATCH, "/exceptions/some", Some(&body)).await.expect(200)
    };
    let sooner = patch(&bob, json!({"expires_at": text(app.now() + TimeDelta::days(9)), "reason": "r"})).await;
    assert_eq!((&sooner["state"], &sooner["proposed_by"]), (&json!("active"), &json!("ann")));
    let later = patch(&bob, json!({"expires_at": text(app.now() + TimeDelta::days(10))})).await;
    assert_eq!(
        (&later["state"], &later["proposed_by"], &later["approved_by"]),
        (&json!("proposed"), &json!("bob"), &Value::Null)
    );
    assert_eq!(app.get("/exceptions/some").await.expect(200), later);
    step(&app, &bob, "approve").await.problem(403, "SEPARATION");
    step(&app, &ann, "approve").await.expect(200);
    assert_eq!(patch(&ann, json!({"object": "share:insurer"})).await["state"], "proposed");
}

async fn an_exception_is_over_by_time_or_by_a_step(app: TestApp) {
    let (ann, bob) = proposed(&app).await;
    step(&app, &bob, "approve").await.expect(200);
    let support = app.operator("sue", "support").await;
    step(&app, &support, "end").await.problem(403, "forbidden");
    let ended = step(&app, &ann, "end").await.expect(200);
    assert_eq!(ended["state"], "ended");
    assert_eq!(step(&app, &ann, "end").await.expect(200), ended);
    assert_eq!(app.events("exception.end").await.len(), 1);
    assert_eq!(app.events("exception.end").await[0]["effect"], "tightens");
    step(&app, &bob, "approve").await.problem(409, "conflict");
    app.patch("/exceptions/some", json!({"reason": "r"})).await.problem(409, "conflict");
    app.delete("/exceptions/some").await.expect(204);
    for (name, is_approved) in [("one", true), ("two", false)] {
        let path = format!("/exceptions/{name}");
        app.admin_as(&ann, Method::PUT, &path, Some(&spec(&app))).await.expect(201);
        if is_approved {
            let body = json!({"reason": "a test"});
            app.admin_as(&bob, Method::POST, &format!("{path}/approve"), Some(&body)).await.expect(200);
        }
    }
    app.pass(90 * 86_400);
    for name in ["one", "two"] {
        let path = format!("/exceptions/{name}");
        assert_eq!(app.get(&path).await.expect(200)["state"], "expired");
        let ended = app.post(&format!("{path}/end"), json!({"reason": "r"})).await.expect(200);
        assert_eq!(ended["state"], "expired", "what is over stays as it is");
        let later = json!({"expires_at": text(app.now() + TimeDelta::days(9))});
        app.patch(&path, later).await.problem(409, "conflict");
        app.delete(&path).await.expect(204);
    }
}

async fn an_active_exception_is_found_for_the_very_thing_that_it_is_for(app: TestApp) {
    let (_, bob) = proposed(&app).await;
    let db = &app.service.core.db;
    let find = async |rule: ExceptionRule, kind: ExceptionObjectKind, id, version| -> Option<ActiveException> {
        let target = ExceptionTarget { kind: kind.into(), id, version };
        db.find_active_exception(rule, &target, app.now()).await.unwrap()
    };
    let table = db.find_table(&name_key("claims.claims")).await.unwrap().unwrap();
    let (raw, of_table) = (ExceptionRule::RawClass, ExceptionObjectKind::Table);
    assert_eq!(find(raw, of_table, table.id, None).await, None, "it is only proposed");
    step(&app, &bob, "approve").await.expect(200);
    assert_eq!(find(raw, of_table, table.id, None).await.unwrap().name, "some");
    assert_eq!(find(ExceptionRule::MaskWeaker, of_table, table.id, None).await, None);
    assert_eq!(find(raw, ExceptionObjectKind::Share, table.id, None).await, None);
    assert_eq!(find(raw, of_table, uuid::Uuid::nil(), None).await, None);
    app.pass(90 * 86_400);
    assert_eq!(find(raw, of_table, table.id, None).await, None, "it has expired");
    // A version of a view is one thing, and the next version is another.
    let view = json!({"source": {"table": "claims.claims"}, "columns": [{"name": "id"}]});
    app.put("/views/claims.some", view).await.expect(201);
    app.post("/views/claims.some/publish", json!({})).await.expect(201);
    let (ann, bob) = (app.operator("amy", "compliance").await, app.operator("ben", "compliance").await);
    let of_view = with(spec(&app), json!({"object": "view:claims.some@v1"}));
    app.admin_as(&ann, Method::PUT, "/exceptions/of-view", Some(&of_view)).await.expect(201);
    let body = json!({"reason": "a test"});
    app.admin_as(&bob, Method::POST, "/exceptions/of-view/approve", Some(&body)).await.expect(200);
    let (view, _) = db.find_view(&name_key("claims.some")).await.unwrap().unwrap();
    assert_eq!(find(raw, ExceptionObjectKind::View, view.id, Some(1)).await.unwrap().name, "of-view");
    assert_eq!(find(raw, ExceptionObjectKind::View, view.id, Some(2)).await, None);
    // Another table under the same name is another thing.
    let spare = json!({"location": app.location("claims")});
    app.put("/tables/spare", spare.clone()).await.expect(201);
    let of_spare = with(spec(&app), json!({"object": "table:spare"}));
    app.admin_as(&ann, Method::PUT, "/exceptions/of-spare", Some(&of_spare)).await.expect(201);
    app.admin_as(&bob, Method::POST, "/exceptions/of-spare/approve", Some(&body)).await.expect(200);
    let id = async || db.find_table("spare").await.unwrap().unwrap().id;
    assert!(find(raw, of_table, id().await, None).await.is_some());
    app.delete("/tables/spare").await.expect(204);
    app.put("/tables/spare", spare).await.expect(201);
    assert_eq!(find(raw, of_table, id().await, None).await, None);
}

async fn an_approval_is_rehearsed(app: TestApp) {
    let (ann, bob) = proposed(&app).await;
    let body = json!({"reason": "a test"});
    let path = "/exceptions/some/approve?dry_run=true";
    app.admin_as(&ann, Method::POST, path, Some(&body)).await.problem(403, "SEPARATION");
    let rehearsed = app.admin_as(&bob, Method::POST, path, Some(&body)).await.expect(200);
    assert_eq!(rehearsed["state"], "active");
    assert_eq!(app.get("/exceptions/some").await.expect(200)["state"], "proposed");
    assert!(app.events("exception.approve").await.is_empty());
}
