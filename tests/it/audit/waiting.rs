//! How long callers wait while the chain is locked: requests give up soon, revocations wait longer, and events without
//! a waiting caller are kept. That changes go before later requests is tested in `src/service/audit/write.rs`.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;
use weir::domain::audit::{Actor, Event, action::Action};

use crate::support::app::{TestApp, on_both_databases};

on_both_databases!(
    a_locked_chain_refuses_requests_in_time_and_a_revocation_is_made_all_the_same,
    what_nobody_waits_for_is_kept_while_the_chain_is_locked,
);

async fn a_locked_chain_refuses_requests_in_time_and_a_revocation_is_made_all_the_same(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert_eq!(app.shared(&token, "/shares").await.status, StatusCode::OK);
    let mut holder = app.service.core.db.begin().await.unwrap();
    holder.lock_audit_head().await.unwrap();
    let began = Instant::now();
    let ((read, waited), revoked) = tokio::join!(
        async {
            // The chain is locked for longer than a request waits.
            let read = app.shared(&token, "/shares").await;
            drop(holder);
            (read, began.elapsed())
        },
        app.post("/shares/insurer/recipients/acme/revoke", json!({})),
    );
    assert_eq!(read.status, StatusCode::SERVICE_UNAVAILABLE, "{}", read.text);
    assert!(waited >= Duration::from_secs(4) && waited < Duration::from_secs(8), "{waited:?}");
    // The revocation waited, and was made as soon as the chain was free.
    revoked.expect(200);
    let shares = app.shared(&token, "/shares").await.expect(200);
    assert_eq!(shares["items"], json!([]), "{shares}");
}

async fn what_nobody_waits_for_is_kept_while_the_chain_is_locked(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let mut holder = app.service.core.db.begin().await.unwrap();
    holder.lock_audit_head().await.unwrap();
    for _ in 0..3 {
        app.service.core.audit_writer.record_later(Event::new(Actor::system("test"), Action::DrillRecord));
    }
    // Locked for longer than the writer tries, which two failed requests ensure.
    for _ in 0..2 {
        assert_eq!(app.shared(&token, "/shares").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    drop(holder);
    app.service.core.audit_writer.finish().await;
    assert_eq!(app.events("drill.record").await.len(), 3);
    let metrics = app.service.core.metrics.encode().unwrap();
    assert!(metrics.contains("weir_audit_events_lost_total 0"), "{metrics}");
}
