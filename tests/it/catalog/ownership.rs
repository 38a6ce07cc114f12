//! Tables whose owner can no longer answer: how they are told, found, and granted to nobody.

use http::Method;
use serde_json::{Value, json};

use crate::{
    insight::notify::{SECRET, kept, webhook},
    support::app::{TestApp, on_both_databases},
};

on_both_databases!(
    an_owner_who_is_disabled_leaves_tables_that_nobody_is_granted,
    an_owner_who_is_deleted_leaves_tables_until_the_name_is_somebodys_again,
    an_owner_expires_with_the_last_of_its_tokens,
    a_group_answers_as_long_as_one_of_its_members_does,
    a_view_over_an_ownerless_table_is_granted_to_nobody,
    a_refusal_names_only_what_the_operator_may_see,
);

async fn is_ownerless(app: &TestApp, table: &str) -> bool {
    let found = app.get(&format!("/tables/{table}")).await.expect(200)["ownerless"].as_bool().unwrap();
    let listed = app.get(&format!("/tables?ownerless={found}")).await.expect(200);
    assert!(listed["items"].as_array().unwrap().iter().any(|item| item["name"] == table), "{listed}");
    let others = app.get(&format!("/tables?ownerless={}", !found)).await.expect(200);
    assert!(others["items"].as_array().unwrap().iter().all(|item| item["name"] != table), "{others}");
    found
}

/// The table `claims.claims` in the share `insurer`, owned by `owner`, and the recipient `acme`.
async fn owned_by(app: &TestApp, owner: &str) {
    app.share_claims().await;
    app.patch("/tables/claims.claims", json!({"owner": owner})).await.expect(200);
    app.put("/recipients/acme", json!({})).await.expect(201);
}

fn grant() -> Value {
    json!({"share": "insurer", "recipient": "acme"})
}

async fn an_owner_who_is_disabled_leaves_tables_that_nobody_is_granted(app: TestApp) {
    app.put("/operators/ann", json!({"role": "owner"})).await.expect(201);
    owned_by(&app, "Ann").await;
    let granted = app.post("/grants", grant()).await.expect(201);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert!(!is_ownerless(&app, "claims.claims").await);
    app.post("/operators/ann/disable", json!({"reason": "left"})).await.expect(200);
    assert!(is_ownerless(&app, "claims.claims").await);
    app.put("/recipients/other", json!({})).await.expect(201);
    let other = json!({"share": "insurer", "recipient": "other"});
    for path in ["/grants", "/grants?dry_run=true"] {
        let refused = app.post(path, other.clone()).await.problem(409, "conflict");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("`claims.claims`") && detail.contains("PATCH /tables/claims.claims"), "{refused}");
    }
    let renewed = json!({"share": "insurer", "recipient": "acme", "replaces": granted["id"]});
    app.post("/grants", renewed.clone()).await.problem(409, "conflict");
    // Whoever reads goes on reading: nobody takes that away by leaving.
    let read = app.shared(&token, "/shares/insurer/schemas/claims/tables/claims/version").await;
    assert_eq!(read.status, 200, "{}", read.text);
    app.post("/operators/ann/enable", json!({"reason": "back"})).await.expect(200);
    assert!(!is_ownerless(&app, "claims.claims").await);
    app.post("/grants", renewed).await.expect(201);
    app.post("/operators/ann/disable", json!({"reason": "left"})).await.expect(200);
    app.put("/operators/bob", json!({"role": "owner"})).await.expect(201);
    app.patch("/tables/claims.claims", json!({"owner": "bob"})).await.expect(200);
    app.post("/grants", other).await.expect(201);
    app.get("/tables?ownerless=perhaps").await.problem(400, "invalid_parameter");
}

async fn an_owner_who_is_deleted_leaves_tables_until_the_name_is_somebodys_again(app: TestApp) {
    app.put("/operators/ann", json!({"role": "owner"})).await.expect(201);
    app.put("/domains/claims", json!({"owner": "ann"})).await.expect(201);
    app.share_claims().await;
    app.put("/recipients/acme", json!({})).await.expect(201);
    app.patch("/tables/claims.claims", json!({"domain": "claims"})).await.expect(200);
    app.delete("/operators/ann?dry_run=true").await.expect(204);
    assert!(!is_ownerless(&app, "claims.claims").await);
    app.delete("/operators/ann").await.expect(204);
    assert!(is_ownerless(&app, "claims.claims").await);
    app.post("/grants", grant()).await.problem(409, "conflict");
    // The table's own owner goes first; one that was nobody's name is nobody who has gone.
    app.patch("/tables/claims.claims", json!({"owner": "data-team"})).await.expect(200);
    assert!(!is_ownerless(&app, "claims.claims").await);
    app.patch("/tables/claims.claims", json!({"owner": null})).await.expect(200);
    assert!(is_ownerless(&app, "claims.claims").await);
    app.put("/operators/ann", json!({"role": "auditor"})).await.expect(201);
    assert!(!is_ownerless(&app, "claims.claims").await);
    app.post("/grants", grant()).await.expect(201);
}

async fn an_owner_expires_with_the_last_of_its_tokens(app: TestApp) {
    app.put("/operators/ann", json!({"role": "owner"})).await.expect(201);
    owned_by(&app, "ann").await;
    app.pass(400 * 86_400);
    assert!(!is_ownerless(&app, "claims.claims").await, "somebody without any token has not expired");
    for seconds in [60, 120] {
        app.post("/operators/ann/tokens", json!({"expires_in_seconds": seconds})).await.expect(201);
    }
    app.pass(119);
    assert!(!is_ownerless(&app, "claims.claims").await);
    app.pass(1);
    assert!(is_ownerless(&app, "claims.claims").await);
    app.post("/grants", grant()).await.problem(409, "conflict");
    let issued = app.post("/operators/ann/tokens", json!({})).await.expect(201);
    assert!(!is_ownerless(&app, "claims.claims").await);
    // A token that leaked says nothing about whose it was.
    let revoke = format!("/operators/ann/tokens/{}/revoke", issued["id"].as_str().unwrap());
    app.post(&revoke, json!({})).await.expect(200);
    assert!(!is_ownerless(&app, "claims.claims").await);
}

async fn a_group_answers_as_long_as_one_of_its_members_does(app: TestApp) {
    for name in ["ann", "bob"] {
        app.put(&format!("/operators/{name}"), json!({"role": "owner"})).await.expect(201);
    }
    app.put("/groups/team", json!({"members": ["ann", "Bob"]})).await.expect(201);
    owned_by(&app, "team").await;
    app.post("/operators/ann/disable", json!({"reason": "left"})).await.expect(200);
    assert!(!is_ownerless(&app, "claims.claims").await);
    app.post("/operators/bob/disable", json!({"reason": "left"})).await.expect(200);
    assert!(is_ownerless(&app, "claims.claims").await);
    // Whoever signs in by an issuer may do so for the first time.
    app.patch("/groups/team", json!({"members": ["0198c5d0-7c4e-5c1e-a5f3-2f6a0c9b1d22"]})).await.expect(200);
    assert!(!is_ownerless(&app, "claims.claims").await);
    app.patch("/groups/team", json!({"members": []})).await.expect(200);
    assert!(is_ownerless(&app, "claims.claims").await);
    app.delete("/groups/team").await.expect(204);
    assert!(is_ownerless(&app, "claims.claims").await);
}

async fn a_view_over_an_ownerless_table_is_granted_to_nobody(app: TestApp) {
    app.put("/operators/ann", json!({"role": "owner"})).await.expect(201);
    owned_by(&app, "ann").await;
    let view = json!({"source": {"table": "claims.claims"}, "columns": [{"name": "id"}]});
    app.put("/views/claims.some", view).await.expect(201);
    app.post("/views/claims.some/publish", json!({})).await.expect(201);
    app.put("/shares/views", json!({})).await.expect(201);
    app.put("/shares/views/objects/claims/some", json!({"source": {"view": "claims.some@v1"}})).await.expect(201);
    app.delete("/operators/ann").await.expect(204);
    let refused = app.post("/grants", json!({"share": "views", "recipient": "acme"})).await.problem(409, "conflict");
    assert!(refused["detail"].as_str().unwrap().contains("`claims.claims`"), "{refused}");
    app.put("/shares/empty", json!({})).await.expect(201);
    app.post("/grants", json!({"share": "empty", "recipient": "acme"})).await.expect(201);
}

async fn a_refusal_names_only_what_the_operator_may_see(app: TestApp) {
    app.put("/operators/ann", json!({"role": "owner"})).await.expect(201);
    owned_by(&app, "ann").await;
    app.delete("/operators/ann").await.expect(204);
    app.put("/operators/bea", json!({"bindings": [{"role": "owner", "scope": "share:insurer"}]})).await.expect(201);
    let issued = app.post("/operators/bea/tokens", json!({})).await.expect(201);
    let bea = issued["token"].as_str().unwrap();
    let refused = app.admin_as(bea, Method::POST, "/grants", Some(&grant())).await.problem(409, "conflict");
    assert!(!refused["detail"].as_str().unwrap().contains("claims.claims"), "{refused}");
}

#[tokio::test]
async fn a_table_without_an_owner_is_told_once_at_the_moment_or_by_the_sweep() {
    let ops = webhook(json!({"name": "ops", "url": "http://127.0.0.1:1/hook", "secret": SECRET}));
    for app in TestApp::each(move |settings| settings.notify.webhook.push(ops.clone())).await {
        let told = async || {
            let all = kept(&app, "").await;
            all.into_iter()
                .filter(|message| message["type"] == "table.ownerless")
                .map(|message| message["message"]["data"].clone())
                .collect::<Vec<Value>>()
        };
        for name in ["ann", "bob"] {
            app.put(&format!("/operators/{name}"), json!({"role": "owner"})).await.expect(201);
        }
        owned_by(&app, "ann").await;
        app.put("/domains/d", json!({"owner": "bob"})).await.expect(201);
        let other = json!({"location": app.location("claims"), "domain": "d"});
        let other = app.put("/tables/other.table", other).await.expect(201);
        app.post("/operators/ann/disable?dry_run=true", json!({"reason": "left"})).await.expect(200);
        assert_eq!(told().await, Vec::<Value>::new());
        app.post("/operators/ann/disable", json!({"reason": "left"})).await.expect(200);
        let first = told().await;
        assert_eq!(first.len(), 1, "{first:?}");
        assert_eq!((&first[0]["table"], &first[0]["owner"]), (&json!("claims.claims"), &json!("ann")));
        assert_eq!(first[0]["since"].as_str().map(|since| since.ends_with('Z')), Some(true), "{first:?}");
        // Sweeps find it again, and so do other servers.
        app.service.catalog.tell_ownerless().await.unwrap();
        let settings = webhook(json!({"name": "ops", "url": "http://127.0.0.1:1/hook", "secret": SECRET}));
        let replica = app.replica_set(move |of| of.notify.webhook.push(settings));
        replica.service.catalog.tell_ownerless().await.unwrap();
        assert_eq!(told().await.len(), 1);
        // An end by time is found by the sweep.
        app.post("/operators/bob/tokens", json!({"expires_in_seconds": 60})).await.expect(201);
        app.pass(61);
        app.service.catalog.tell_ownerless().await.unwrap();
        let all = told().await;
        assert_eq!((all.len(), &all[1]["table_id"], &all[1]["domain"]), (2, &other["id"], &json!("d")));
        // What was mended and happens again is told again.
        app.post("/operators/ann/enable", json!({"reason": "back"})).await.expect(200);
        app.pass(1);
        app.delete("/operators/ann").await.expect(204);
        assert_eq!(told().await.len(), 3);
    }
}
