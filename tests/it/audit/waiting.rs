//! Who waits how long for the chain while somebody holds it: requests give up soon, and who revokes waits on.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;

use crate::support::app::{TestApp, on_both_databases};

on_both_databases!(a_locked_chain_refuses_requests_in_time_and_a_revocation_is_first);

async fn a_locked_chain_refuses_requests_in_time_and_a_revocation_is_first(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert_eq!(app.shared(&token, "/shares").await.status, StatusCode::OK);
    let mut holder = app.service.db.begin().await.unwrap();
    holder.lock_audit_head().await.unwrap();
    let began = Instant::now();
    let ((read, waited), revoked) = tokio::join!(
        async {
            // The chain is locked for longer than any request waits.
            let read = app.shared(&token, "/shares").await;
            drop(holder);
            (read, began.elapsed())
        },
        app.post("/shares/insurer/recipients/acme/revoke", json!({})),
    );
    assert_eq!(read.status, StatusCode::SERVICE_UNAVAILABLE, "{}", read.text);
    assert!(waited >= Duration::from_secs(4) && waited < Duration::from_secs(20), "{waited:?}");
    // The revocation waited on, and was made as soon as the chain was free.
    revoked.expect(200);
    let shares = app.shared(&token, "/shares").await.expect(200);
    assert_eq!(shares["items"], json!([]), "{shares}");
}
