//! Recipients' tokens.

use chrono::{DateTime, TimeDelta, Utc};
use http::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, fields, on_both_databases};

on_both_databases!(
    a_token_is_shown_once_with_its_profile,
    a_credential_has_two_live_tokens_at_most,
    what_no_token_may_be_is_refused,
    rotation_lets_the_old_token_go_on_for_a_while,
    rotation_with_no_overlap_ends_the_old_token_at_once,
    a_revoked_token_is_refused_at_once,
    a_replayed_issue_never_shows_a_token,
    tokens_are_listed_by_creation_without_themselves,
    a_token_is_found_under_its_own_recipient_only,
);

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

async fn a_token_is_shown_once_with_its_profile(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let issued =
        app.post("/recipients/acme/tokens", json!({"expires_in_seconds": 60, "reveal": true})).await.expect(201);
    let token = issued["token"].as_str().unwrap();
    assert_eq!((&issued["state"], &issued["credential"]), (&json!("active"), &json!("default")));
    assert_eq!(time(&issued["expires_at"]), app.now() + TimeDelta::seconds(60));
    let profile = &issued["profile"];
    assert_eq!(profile["shareCredentialsVersion"], 1);
    assert_eq!(profile["endpoint"], "http://weir.test/delta-sharing");
    assert_eq!(profile["bearerToken"], token);
    assert_eq!(time(&profile["expirationTime"]), time(&issued["expires_at"]));

    assert_eq!(app.shared(token, "/shares").await.status, 200);
    let path = format!("/recipients/acme/tokens/{}", issued["id"].as_str().unwrap());
    let found = app.get(&path).await;
    assert!(!found.text.contains(token));
    assert_eq!(found.expect(200)["state"], "active");
    app.pass(60);
    assert_eq!(app.get(&path).await.expect(200)["state"], "expired");
    assert_eq!(app.shared(token, "/shares").await.status, 401);

    for action in ["token.issue", "token.reveal"] {
        let events = app.events(action).await;
        assert_eq!(events.len(), 1, "{action}");
        assert_eq!((&events[0]["token_id"], &events[0]["recipient"]), (&issued["id"], &json!("acme")));
        assert!(!events[0].to_string().contains(token));
    }
}

async fn a_credential_has_two_live_tokens_at_most(app: TestApp) {
    app.put("/recipients/acme", json!({})).await.expect(201);
    let issue = async |credential: &str| {
        let body = json!({"expires_in_seconds": 60, "credential": credential, "reveal": true});
        app.post("/recipients/acme/tokens", body).await
    };
    let first = issue("etl").await.expect(201);
    issue("ETL").await.expect(201);
    let problem = issue("etl").await.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains(first["id"].as_str().unwrap()), "{problem}");
    issue("bi").await.expect(201);
    app.pass(60);
    issue("etl").await.expect(201);
}

async fn what_no_token_may_be_is_refused(app: TestApp) {
    app.put("/recipients/acme", json!({})).await.expect(201);
    for (body, expected) in [
        (json!({"reveal": true, "expires_in_seconds": 0}), vec!["expires_in_seconds"]),
        (json!({"reveal": true, "expires_in_seconds": 90 * 86_400 + 1}), vec!["expires_in_seconds"]),
        (json!({"reveal": true, "expires_in_seconds": u64::MAX}), vec!["expires_in_seconds"]),
        (json!({"reveal": true, "shares": ["nothing"], "credential": "a b"}), vec!["credential", "shares[0]"]),
        (json!({"reveal": "yes", "expires_in_seconds": -1}), vec!["expires_in_seconds", "reveal"]),
    ] {
        let problem = app.post("/recipients/acme/tokens", body.clone()).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), expected, "{body}");
    }
    app.post("/recipients/nobody/tokens", json!({"reveal": true})).await.problem(404, "not_found");
    assert!(app.events("token.issue").await.is_empty());
}

async fn rotation_lets_the_old_token_go_on_for_a_while(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let old = app.token_for_acme().await;
    app.pass(10);
    let path = format!("/recipients/acme/tokens/{}/rotate", old["id"].as_str().unwrap());
    let rotation = json!({"existing_token_expire_in_seconds": 5, "reveal": true});
    let new = app.post(&path, rotation.clone()).await.expect(201);
    assert_eq!(time(&new["expires_at"]) - time(&old["expires_at"]), TimeDelta::seconds(10));
    let (old, new) = (old["token"].as_str().unwrap(), new["token"].as_str().unwrap());
    assert_eq!(
        (app.shared(old, "/shares").await.status, app.shared(new, "/shares").await.status),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    app.post("/recipients/acme/tokens", json!({"reveal": true})).await.problem(409, "conflict");
    app.pass(5);
    assert_eq!(app.shared(old, "/shares").await.status, 401);
    assert_eq!(app.shared(new, "/shares").await.status, 200);
    app.post(&path, rotation).await.problem(409, "conflict");
    app.post(&path, json!({"existing_token_expire_in_seconds": -1})).await.problem(422, "invalid_input");
    assert_eq!(app.events("token.rotate").await.len(), 1);
}

async fn rotation_with_no_overlap_ends_the_old_token_at_once(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let old = app.token_for_acme().await;
    app.token_for_acme().await;
    let path = format!("/recipients/acme/tokens/{}/rotate", old["id"].as_str().unwrap());
    // Another token of the credential is live, so an overlap would make three.
    let overlap = json!({"existing_token_expire_in_seconds": 5, "reveal": true});
    app.post(&path, overlap).await.problem(409, "conflict");
    assert_eq!(app.shared(old["token"].as_str().unwrap(), "/shares").await.status, 200);
    app.post(&path, json!({"existing_token_expire_in_seconds": 0, "reveal": true})).await.expect(201);
    assert_eq!(app.shared(old["token"].as_str().unwrap(), "/shares").await.status, 401);
}

async fn a_revoked_token_is_refused_at_once(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await;
    let path = format!("/recipients/acme/tokens/{}/revoke", token["id"].as_str().unwrap());
    let revoked = app.post(&path, json!({"reason": "leaked"})).await.expect(200);
    assert_eq!((&revoked["effective_by"], &revoked["outstanding_urls"]), (&revoked["revoked_at"], &json!(0)));
    assert_eq!(app.shared(token["token"].as_str().unwrap(), "/shares").await.status, 401);
    app.pass(3);
    assert_eq!(app.post(&path, json!({})).await.expect(200), revoked);
    let events = app.events("token.revoke").await;
    assert_eq!((events.len(), &events[0]["change"]["reason"]), (1, &json!("leaked")));
}

async fn a_replayed_issue_never_shows_a_token(app: TestApp) {
    app.put("/recipients/acme", json!({})).await.expect(201);
    let issue = async |body: &Value| {
        app.admin_with(Method::POST, "/recipients/acme/tokens", &[("idempotency-key", "k1")], Some(body)).await
    };
    let body = json!({"reveal": true});
    let issued = issue(&body).await.expect(201);
    let replay = issue(&body).await;
    assert!(!replay.text.contains(issued["token"].as_str().unwrap()));
    let problem = replay.problem(409, "conflict");
    assert!(problem["detail"].as_str().unwrap().contains(issued["id"].as_str().unwrap()), "{problem}");
    let other = json!({"reveal": true, "expires_in_seconds": 5});
    assert_eq!(fields(&issue(&other).await.problem(422, "invalid_input")), ["Idempotency-Key"]);
    assert_eq!(app.events("token.issue").await.len(), 1);
}

async fn tokens_are_listed_by_creation_without_themselves(app: TestApp) {
    app.put("/recipients/acme", json!({})).await.expect(201);
    app.put("/shares/insurer", json!({})).await.expect(201);
    let mut issued = Vec::new();
    for credential in ["c", "b", "a"] {
        let body =
            json!({"reveal": true, "credential": credential, "shares": ["Insurer"], "allowed_cidrs": ["10.0.0.0/8"]});
        issued.push(app.post("/recipients/acme/tokens", body).await.expect(201));
        app.pass(1);
    }
    let first = app.get("/recipients/acme/tokens?max_results=2").await.expect(200);
    let token = first["next_page_token"].as_str().unwrap();
    let second = app.get(&format!("/recipients/acme/tokens?max_results=2&page_token={token}")).await;
    assert!(issued.iter().all(|token| !second.text.contains(token["token"].as_str().unwrap())));
    let second = second.expect(200);
    let items: Vec<&Value> = [&first, &second].iter().flat_map(|page| page["items"].as_array().unwrap()).collect();
    let credentials: Vec<&str> = items.iter().map(|item| item["credential"].as_str().unwrap()).collect();
    assert_eq!(credentials, ["c", "b", "a"]);
    assert_eq!((&items[0]["shares"], &items[0]["allowed_cidrs"]), (&json!(["insurer"]), &json!(["10.0.0.0/8"])));
}

async fn a_token_is_found_under_its_own_recipient_only(app: TestApp) {
    app.put("/recipients/acme", json!({})).await.expect(201);
    app.put("/recipients/other", json!({})).await.expect(201);
    let id = app.token_for_acme().await["id"].as_str().unwrap().to_owned();
    app.get(&format!("/recipients/other/tokens/{id}")).await.problem(404, "not_found");
    app.post(&format!("/recipients/other/tokens/{id}/revoke"), json!({})).await.problem(404, "not_found");
    app.get("/recipients/acme/tokens/no-uuid").await.problem(404, "not_found");
}
