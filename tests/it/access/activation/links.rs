//! Activation links: each hands out one token, or says why it does not.

use chrono::{DateTime, TimeDelta, Utc};
use http::{Method, header};
use serde_json::{Value, json};
use weir::config::SharingSettings;

use super::{ask, ask_with, pending, token, with_acme};
use crate::support::app::{TestApp, on_both_databases};

on_both_databases!(
    a_link_hands_out_one_profile_whose_life_begins_then,
    looking_never_uses_a_link_up,
    of_two_that_fetch_at_once_one_gets_the_token,
    a_cancelled_link_says_so,
    an_expired_link_says_so_and_its_token_is_no_longer_counted,
    pending_tokens_count_towards_the_two_of_a_credential,
    networks_hold_for_the_page_and_the_download,
    a_suspended_recipient_and_a_freeze_close_links,
    rotation_by_link_keeps_the_old_token_until_the_new_one_is_fetched,
    forced_rotation_by_link_ends_the_old_token_now,
    rotation_by_link_with_an_overlap_shortens_at_once,
    a_token_that_nobody_uses_ends,
    a_token_that_was_used_does_not_end_as_unused,
    the_last_use_is_noted_once_a_minute,
    no_code_is_kept_or_logged,
);

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

fn path_of(issued: &Value) -> String {
    format!("/recipients/acme/tokens/{}", issued["id"].as_str().unwrap())
}

async fn a_link_hands_out_one_profile_whose_life_begins_then(app: TestApp) {
    with_acme(&app).await;
    let issued = pending(&app, json!({"expires_in_seconds": 600})).await;
    assert_eq!((&issued["state"], &issued["credential"]), (&json!("pending"), &json!("default")));
    assert_eq!(time(&issued["activation_expires_at"]), app.now() + TimeDelta::hours(72));
    assert!(issued.get("token").is_none() && issued.get("profile").is_none());
    let listed = app.get(&path_of(&issued)).await.expect(200);
    assert_eq!((&listed["state"], &listed["expires_at"]), (&json!("pending"), &Value::Null));
    assert_eq!(listed["activation_expires_at"], issued["activation_expires_at"]);

    app.pass(3600);
    let answer = ask(&app, Method::POST, &issued).await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(answer.headers[header::CONTENT_DISPOSITION], "attachment; filename=\"acme.share\"");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    let profile = answer.expect(200);
    assert_eq!(profile["endpoint"], "http://weir.test/delta-sharing");
    assert_eq!(time(&profile["expirationTime"]), app.now() + TimeDelta::seconds(600));
    let token = token(&profile);
    assert_eq!(app.shared(&token, "/shares/insurer").await.status, 200);

    let again = ask(&app, Method::POST, &issued).await.expect(410);
    assert_eq!(again["errorCode"], "ACTIVATION_USED");
    assert!(again["requestId"].is_string());
    assert_eq!(ask(&app, Method::GET, &issued).await.status, 410);

    app.pass(600);
    assert_eq!(app.shared(&token, "/shares").await.status, 401);
    let events = app.events("token.activate").await;
    let told: Vec<_> = events.iter().map(|event| (&event["decision"], &event["reason"], &event["recipient"])).collect();
    let acme = &json!("acme");
    assert_eq!(told, [(&json!("deny"), &json!("ACTIVATION_USED"), acme), (&json!("allow"), &Value::Null, acme)]);
    assert_eq!(events[1]["token_id"], issued["id"]);
    assert!(!events[1].to_string().contains(&token));
    assert!(app.events("token.reveal").await.is_empty(), "no operator has seen it");
}

async fn looking_never_uses_a_link_up(app: TestApp) {
    with_acme(&app).await;
    let issued = pending(&app, json!({})).await;
    for method in [Method::GET, Method::HEAD, Method::GET, Method::GET, Method::GET] {
        assert_eq!(ask(&app, method, &issued).await.status, 200);
    }
    token(&ask(&app, Method::POST, &issued).await.expect(200));
    assert_eq!(app.events("activation.view").await.len(), 5);
}

async fn of_two_that_fetch_at_once_one_gets_the_token(app: TestApp) {
    with_acme(&app).await;
    for _ in 0..5 {
        let issued = pending(&app, json!({"credential": format!("c{}", app.events("token.issue").await.len())})).await;
        let (a, b) = tokio::join!(ask(&app, Method::POST, &issued), ask(&app, Method::POST, &issued));
        let mut statuses = [a.status.as_u16(), b.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 410]);
    }
}

async fn a_cancelled_link_says_so(app: TestApp) {
    with_acme(&app).await;
    let issued = pending(&app, json!({})).await;
    let link = format!("{}/activation", path_of(&issued));
    assert_eq!(app.delete(&link).await.status, 204);
    assert_eq!(app.delete(&link).await.status, 204, "cancelled is cancelled");
    let refused = ask(&app, Method::POST, &issued).await.expect(410);
    assert_eq!(refused["errorCode"], "ACTIVATION_CANCELLED");
    assert!(refused["message"].as_str().unwrap().contains("cancelled"), "{refused}");
    assert_eq!(app.get(&path_of(&issued)).await.expect(200)["state"], "revoked");
    assert_eq!(app.events("activation.cancel").await.len(), 1);

    let fetched = pending(&app, json!({})).await;
    ask(&app, Method::POST, &fetched).await.expect(200);
    app.delete(&format!("{}/activation", path_of(&fetched))).await.problem(409, "conflict");
    let nobody = "/recipients/acme/tokens/00000000-0000-0000-0000-000000000000/activation";
    app.delete(nobody).await.problem(404, "not_found");
}

async fn an_expired_link_says_so_and_its_token_is_no_longer_counted(app: TestApp) {
    with_acme(&app).await;
    let issued = pending(&app, json!({})).await;
    pending(&app, json!({})).await;
    app.pass(72 * 3600 - 1);
    assert_eq!(ask(&app, Method::GET, &issued).await.status, 200);
    app.pass(1);
    assert_eq!(ask(&app, Method::POST, &issued).await.expect(410)["errorCode"], "ACTIVATION_EXPIRED");
    assert_eq!(app.get(&path_of(&issued)).await.expect(200)["state"], "expired");
    pending(&app, json!({})).await;
}

async fn pending_tokens_count_towards_the_two_of_a_credential(app: TestApp) {
    with_acme(&app).await;
    let first = pending(&app, json!({})).await;
    app.token_for_acme().await;
    app.post("/recipients/acme/tokens", json!({})).await.problem(409, "conflict");
    app.post("/recipients/acme/tokens", json!({"reveal": true})).await.problem(409, "conflict");
    pending(&app, json!({"credential": "other"})).await;
    assert_eq!(app.delete(&format!("{}/activation", path_of(&first))).await.status, 204);
    pending(&app, json!({})).await;
}

async fn networks_hold_for_the_page_and_the_download(app: TestApp) {
    with_acme(&app).await;
    let issued = pending(&app, json!({"allowed_cidrs": ["198.51.100.0/24"]})).await;
    for method in [Method::GET, Method::POST] {
        let refused = ask_with(&app, method, &issued, &[("x-forwarded-for", "198.51.100.7")]).await.expect(403);
        assert!(refused["message"].as_str().unwrap().contains("127.0.0.1"), "{refused}");
    }
    let issued = pending(&app, json!({})).await;
    app.patch("/recipients/acme", json!({"allowed_cidrs": ["2001:db8::/32"]})).await.expect(200);
    assert_eq!(ask(&app, Method::POST, &issued).await.status, 403);
    app.patch("/recipients/acme", json!({"allowed_cidrs": ["127.0.0.0/8"]})).await.expect(200);
    token(&ask(&app, Method::POST, &issued).await.expect(200));
}

async fn a_suspended_recipient_and_a_freeze_close_links(app: TestApp) {
    with_acme(&app).await;
    let issued = pending(&app, json!({})).await;
    app.post("/recipients/acme/suspend", json!({"reason": "audit"})).await.expect(200);
    assert_eq!(ask(&app, Method::POST, &issued).await.status, 403);
    app.post("/recipients/acme/resume", json!({"reason": "done"})).await.expect(200);
    app.post("/freeze", json!({"reason": "audit"})).await.expect(200);
    assert_eq!(ask(&app, Method::POST, &issued).await.status, 403);
    app.post("/unfreeze", json!({"reason": "done"})).await.expect(200);
    token(&ask(&app, Method::POST, &issued).await.expect(200));

    let issued = pending(&app, json!({})).await;
    app.post("/recipients/acme/offboard", json!({"reason": "over"})).await.expect(200);
    assert_eq!(ask(&app, Method::POST, &issued).await.expect(410)["errorCode"], "ACTIVATION_CANCELLED");
}

async fn rotation_by_link_keeps_the_old_token_until_the_new_one_is_fetched(app: TestApp) {
    with_acme(&app).await;
    let old = app.token_for_acme().await;
    let rotate = format!("{}/rotate", path_of(&old));
    let issued = app.post(&rotate, json!({"existing_token_expire_in_seconds": 0})).await.expect(201);
    assert_eq!(issued["state"], "pending");
    app.pass(3600);
    let old = old["token"].as_str().unwrap();
    assert_eq!(app.shared(old, "/shares").await.status, 200);
    let new = token(&ask(&app, Method::POST, &issued).await.expect(200));
    assert_eq!(app.shared(old, "/shares").await.status, 401);
    assert_eq!(app.shared(&new, "/shares").await.status, 200);
}

async fn forced_rotation_by_link_ends_the_old_token_now(app: TestApp) {
    with_acme(&app).await;
    let old = app.token_for_acme().await;
    let forced = json!({"existing_token_expire_in_seconds": 0, "force": true});
    let issued = app.post(&format!("{}/rotate", path_of(&old)), forced.clone()).await.expect(201);
    assert_eq!(app.shared(old["token"].as_str().unwrap(), "/shares").await.status, 401);
    // A token that was not fetched cannot be rotated.
    app.post(&format!("{}/rotate", path_of(&issued)), forced).await.problem(409, "conflict");
    let new = ask(&app, Method::POST, &issued).await.expect(200);
    assert_eq!(time(&new["expirationTime"]), app.now() + TimeDelta::days(30), "as long a life as the old one's");
}

async fn rotation_by_link_with_an_overlap_shortens_at_once(app: TestApp) {
    with_acme(&app).await;
    let old = app.token_for_acme().await;
    let body = json!({"existing_token_expire_in_seconds": 60});
    let issued = app.post(&format!("{}/rotate", path_of(&old)), body).await.expect(201);
    let new = token(&ask(&app, Method::POST, &issued).await.expect(200));
    let old = old["token"].as_str().unwrap();
    app.pass(59);
    assert_eq!([app.shared(old, "/shares").await.status, app.shared(&new, "/shares").await.status], [200, 200]);
    app.pass(1);
    assert_eq!([app.shared(old, "/shares").await.status, app.shared(&new, "/shares").await.status], [401, 200]);
}

async fn a_token_that_nobody_uses_ends(app: TestApp) {
    with_acme(&app).await;
    let issued = pending(&app, json!({})).await;
    let unused = token(&ask(&app, Method::POST, &issued).await.expect(200));
    let shown = app.token_for_acme().await;
    app.pass(14 * 86_400);
    assert_eq!(app.get(&path_of(&issued)).await.expect(200)["state"], "unused");
    assert_eq!(app.shared(&unused, "/shares").await.status, 401);
    assert_eq!(app.events("shares.list").await[0]["reason"], "TOKEN_UNUSED");
    assert_eq!(app.shared(shown["token"].as_str().unwrap(), "/shares").await.status, 200, "an operator has seen it");
    // It no longer counts among the two, and the cleanup records that.
    pending(&app, json!({})).await;
    assert_eq!(app.service.access.revoke_unused_tokens().await.unwrap(), 1);
    assert_eq!(app.service.access.revoke_unused_tokens().await.unwrap(), 0);
    assert_eq!(app.get(&path_of(&issued)).await.expect(200)["state"], "revoked");
    assert_eq!(app.events("token.revoke").await[0]["change"]["reason"], "never used");
}

async fn a_token_that_was_used_does_not_end_as_unused(app: TestApp) {
    with_acme(&app).await;
    let issued = pending(&app, json!({})).await;
    let used = token(&ask(&app, Method::POST, &issued).await.expect(200));
    app.pass(14 * 86_400 - 1);
    assert_eq!(app.shared(&used, "/shares").await.status, 200);
    app.pass(86_400);
    assert_eq!(app.shared(&used, "/shares").await.status, 200);
    assert_eq!(app.service.access.revoke_unused_tokens().await.unwrap(), 0);
}

async fn the_last_use_is_noted_once_a_minute(app: TestApp) {
    with_acme(&app).await;
    let issued = app.token_for_acme().await;
    let last_used = async || app.get(&path_of(&issued)).await.expect(200)["last_used_at"].clone();
    assert_eq!(last_used().await, Value::Null);
    let token = issued["token"].as_str().unwrap();
    let first = app.now();
    app.shared(token, "/shares").await;
    app.pass(59);
    app.shared(token, "/shares").await;
    assert_eq!(time(&last_used().await), first);
    app.pass(1);
    app.shared(token, "/shares/nothing").await;
    assert_eq!(time(&last_used().await), first, "a refusal is no use");
    app.shared(token, "/shares").await;
    assert_eq!(time(&last_used().await), first + TimeDelta::seconds(60));
}

async fn no_code_is_kept_or_logged(app: TestApp) {
    with_acme(&app).await;
    let issued = pending(&app, json!({})).await;
    let url = issued["activation_url"].as_str().unwrap();
    let code = url.rsplit('/').next().unwrap();
    assert_eq!(code.len(), 43);
    ask(&app, Method::GET, &issued).await;
    let profile = ask(&app, Method::POST, &issued).await.expect(200);
    for path in ["/audit", "/recipients/acme", "/recipients/acme/tokens"] {
        let text = app.get(path).await.text;
        assert!(!text.contains(code) && !text.contains(&token(&profile)), "{path}");
    }
}

#[tokio::test]
async fn unused_tokens_are_left_alone_where_it_is_turned_off() {
    let app = TestApp::sqlite_with(|settings| SharingSettings { unused_revoke_seconds: 0, ..settings }).await;
    with_acme(&app).await;
    let issued = pending(&app, json!({})).await;
    let unused = token(&ask(&app, Method::POST, &issued).await.expect(200));
    app.pass(29 * 86_400);
    assert_eq!(app.shared(&unused, "/shares").await.status, 200);
}
