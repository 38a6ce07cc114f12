//! The freeze: one call, and nobody is handed anything until it is lifted.

use http::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, fields, on_both_databases};

on_both_databases!(
    a_freeze_refuses_everybody_until_it_is_lifted,
    a_freeze_says_who_why_and_until_when_urls_live,
    whoever_may_freeze_may_not_lift,
);

async fn a_freeze_refuses_everybody_until_it_is_lifted(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    app.post("/unfreeze", json!({"reason": "r"})).await.problem(409, "conflict");
    let freeze = app.post("/freeze", json!({"reason": "incident"})).await.expect(200);
    assert_eq!(app.post("/freeze", json!({"reason": "again"})).await.expect(200), freeze);
    let refused = app.shared(&token, "/shares").await.expect(403);
    assert_eq!(refused["errorCode"], "PERMISSION_DENIED");
    assert_eq!(app.events("shares.list").await[0]["reason"], "FROZEN");
    let lifted = app.post("/unfreeze", json!({"reason": "over"})).await.expect(200);
    assert_eq!((&lifted["id"], &lifted["lifted_by"]), (&freeze["id"], &json!("bootstrap")));
    assert_eq!(app.shared(&token, "/shares").await.status, 200);
}

async fn a_freeze_says_who_why_and_until_when_urls_live(app: TestApp) {
    let freeze = app.post("/freeze", json!({"reason": "incident"})).await.expect(200);
    let at = &freeze["frozen_at"];
    let said = [("reason", json!("incident")), ("frozen_by", json!("bootstrap")), ("effective_by", at.clone())];
    for (member, value) in said.into_iter().chain([("outstanding_urls", json!(0)), ("lifted_at", Value::Null)]) {
        assert_eq!(freeze[member], value, "{member}");
    }
    app.pass(60);
    // An end needs no reason.
    let lifted = app.post("/unfreeze", json!({})).await.expect(200);
    assert_eq!((&lifted["reason"], &lifted["frozen_at"]), (&json!("incident"), at));
    assert_ne!(&lifted["lifted_at"], at);
    let (frozen, lifted) = (app.events("freeze.create").await, app.events("freeze.lift").await);
    assert_eq!((frozen.len(), lifted.len()), (1, 1));
    assert_eq!(frozen[0]["change"], json!({"reason": "incident"}));
    assert_eq!(
        (&frozen[0]["object"], &lifted[0]["object"]["id"]),
        (&json!({"kind": "freeze", "id": freeze["id"]}), &freeze["id"])
    );
    for body in [json!({}), json!({"reason": null}), json!({"reason": "r", "until": "tomorrow"})] {
        let field = if body["reason"] == "r" { "until" } else { "reason" };
        assert_eq!(fields(&app.post("/freeze", body).await.problem(422, "invalid_input")), [field]);
    }
}

async fn whoever_may_freeze_may_not_lift(app: TestApp) {
    let support = app.operator("sue", "support").await;
    let auditor = app.operator("ann", "auditor").await;
    let reason = json!({"reason": "incident"});
    let post = |token: &str, path: &'static str| {
        let (token, reason) = (token.to_owned(), &reason);
        let app = &app;
        async move { app.admin_as(&token, Method::POST, path, Some(reason)).await }
    };
    post(&auditor, "/freeze").await.problem(403, "forbidden");
    assert_eq!(post(&support, "/freeze").await.expect(200)["frozen_by"], "sue");
    post(&support, "/unfreeze").await.problem(403, "forbidden");
    app.post("/unfreeze", reason.clone()).await.expect(200);
}
