//! Parts of the protocol that this server does not offer: it says so plainly, and only to callers that may ask (Delta
//! Sharing protocol, 1.6 and 1.7).

use http::Method;
use serde_json::json;

use super::{Reader, share, steps, table_path, with_history};
use crate::support::app::{TestApp, on_both_databases};

on_both_databases!(
    check_129_an_asynchronous_query_is_answered_at_once,
    check_134_no_query_is_known_by_an_id,
    check_139_credentials_are_not_offered,
);

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

async fn check_129_an_asynchronous_query_is_answered_at_once(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let keyed = json!({"idempotency_key": "k"});
    let answer = reader.query_as("steps", "asyncquery=true", keyed).await;
    assert_eq!(answer.kinds(), ["protocol", "metaData", "file", "file"]);
    assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=parquet");
    check_132_an_asynchronous_query_needs_no_key(&reader).await;
    check_133_an_unknown_table_is_404_at_once(&reader).await;
    // Check 135: the answer is to the request as sent.
    let answer = reader.query_as("steps", "asyncquery=true;responseformat=delta", json!({"version": 1})).await;
    assert_eq!((answer.version(), answer.header("delta-sharing-capabilities")), (1, "responseformat=delta"));
}

async fn check_132_an_asynchronous_query_needs_no_key(reader: &Reader<'_>) {
    let answer = reader.query_as("steps", "asyncquery=true", json!({})).await;
    assert_eq!(answer.kinds(), ["protocol", "metaData", "file", "file"]);
}

async fn check_133_an_unknown_table_is_404_at_once(reader: &Reader<'_>) {
    let answer = reader.query_as("none", "asyncquery=true", json!({"idempotencyKey": "k"})).await;
    answer.refusal(404, "RESOURCE_DOES_NOT_EXIST");
}

async fn check_134_no_query_is_known_by_an_id(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for (table, body) in [("steps", "{}"), ("steps", ""), ("steps", "{"), ("none", "{}")] {
        let answer = reader.send(Method::POST, &table_path(table, "/queries/q-1"), &[], body).await;
        answer.refusal(404, "RESOURCE_DOES_NOT_EXIST");
    }
}

/// Checks 136 to 139: only URL access is offered, so there are no credentials for any request.
async fn check_139_credentials_are_not_offered(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for body in ["", "{}", "{", "{\"location\":\"s3://elsewhere\"}"] {
        let path = table_path("steps", "/temporary-table-credentials");
        let answer = reader.send(Method::POST, &path, &[], body).await;
        answer.refused(400, "UNSUPPORTED_OPERATION", "query the table instead");
    }
    let answer = reader.send(Method::POST, &table_path("none", "/temporary-table-credentials"), &[], "").await;
    answer.refusal(404, "RESOURCE_DOES_NOT_EXIST");
}
