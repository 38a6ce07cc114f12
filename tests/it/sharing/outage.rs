//! Outages of a storage and of the database. Clients are told to come back, and the server recovers by itself.

use serde_json::json;

use super::{Reader, fetch, share, steps, with_history};
use crate::support::app::{AWAY, Answer, TestApp, on_both_databases};

on_both_databases!(
    a_storage_that_does_not_answer_is_503_until_it_does,
    without_an_audit_trail_nothing_is_handed_out,
    without_a_database_nothing_is_answered,
);

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

#[track_caller]
fn come_back(answer: &Answer) {
    answer.refusal(503, "UNAVAILABLE");
    assert_eq!(answer.header("retry-after"), "5");
    assert!(!answer.text.contains("/files/") && !answer.text.contains("127.0.0.1:1"), "{}", answer.text);
}

async fn a_storage_that_does_not_answer_is_503_until_it_does(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    app.move_tables(&format!("{AWAY}/steps")).await;
    come_back(&reader.query("steps", json!({})).await);
    come_back(&reader.ask("steps", "/metadata", "").await);
    // Requests that need no storage are still answered.
    assert_eq!(reader.get("/shares/insurer/all-tables").await.status, 200);
    let denied = app.events("table.query").await;
    assert_eq!((denied.len(), &denied[0]["decision"]), (1, &json!("deny")));
    app.move_tables(&app.location("steps")).await;
    assert_eq!(reader.query("steps", json!({})).await.version(), 3);
}

async fn without_an_audit_trail_nothing_is_handed_out(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let url = reader.query("steps", json!({})).await.of_kind("file")[0]["url"].as_str().unwrap().to_owned();
    app.service.core.audit_writer.finish().await;
    app.execute("ALTER TABLE audit_events RENAME TO audit_gone").await;
    for answer in [
        reader.query("steps", json!({})).await,
        reader.query("steps", json!({"startingVersion": 0})).await,
        reader.ask("steps", "/changes?startingVersion=0", "").await,
        reader.ask("steps", "/metadata", "").await,
        reader.ask("steps", "/version", "").await,
        reader.get("/shares").await,
        // Refusals must be recorded too.
        reader.get("/shares/none").await,
        fetch(&app, http::Method::GET, &url, &[]).await,
    ] {
        come_back(&answer);
    }
    app.execute("ALTER TABLE audit_gone RENAME TO audit_events").await;
    assert_eq!(reader.query("steps", json!({})).await.version(), 3);
    assert_eq!(reader.fetch(&url).await.status, 200);
}

async fn without_a_database_nothing_is_answered(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let url = reader.query("steps", json!({})).await.of_kind("file")[0]["url"].as_str().unwrap().to_owned();
    app.service.core.audit_writer.finish().await;
    app.service.core.db.close().await;
    come_back(&reader.query("steps", json!({})).await);
    come_back(&reader.get("/shares").await);
    come_back(&reader.fetch(&url).await);
}
