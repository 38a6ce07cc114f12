//! Answers that still run when access ends.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{
    process::{Installation, Weir},
    tables::{HandWrittenLog, add},
};

/// Enough that no buffer between server and client holds the whole answer.
const MANY: usize = 100_000;

/// Begins to read a large table, and answers what is still to come.
async fn begin(weir: &Weir, token: &str, capabilities: &str) -> Response {
    let url = format!("{}/delta-sharing/shares/insurer/schemas/claims/tables/claims/query", weir.url);
    let request = weir.client.post(url).bearer_auth(token).header("delta-sharing-capabilities", capabilities);
    let mut answer = request.json(&json!({})).send().await.unwrap().error_for_status().unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    answer
}

/// Reads the rest; the text, and whether it came to a proper end.
async fn rest(mut answer: Response) -> (String, bool) {
    let mut text = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => text.extend_from_slice(&chunk),
            Ok(None) => return (String::from_utf8(text).unwrap(), true),
            Err(_) => return (String::from_utf8_lossy(&text).into_owned(), false),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_answer_stops_signing_within_a_second_of_the_revocation() {
    let installation = Installation::sqlite();
    std::fs::remove_dir_all(installation.table()).unwrap();
    let mut log = HandWrittenLog::plain(&installation.table());
    let adds: Vec<Value> = (0..MANY).map(|file| add(&format!("part-{file:08}.parquet"), 100)).collect();
    log.commit(&adds);
    let weir = installation.start().await;
    installation.share(&weir).await;
    let (id, token) = weir.issue("default").await;

    let cut = begin(&weir, &token, "responseformat=parquet").await;
    let told = begin(&weir, &token, "responseformat=parquet;includeendstreamaction=true").await;
    let reason = json!({"reason": "a test"});
    weir.admin(Method::POST, &format!("/recipients/acme/tokens/{id}/revoke"), reason).await;
    // The readers are slow: this is what they wait, not what the server needs.
    tokio::time::sleep(Duration::from_millis(1_050)).await;

    let (text, ended) = rest(cut).await;
    assert!(!ended, "half a table must not look like a whole one");
    assert!(text.matches("\"url\"").count() < MANY);
    let (text, ended) = rest(told).await;
    let last = text.lines().next_back().unwrap();
    assert!(ended && last.contains("endStreamAction") && last.contains("errorMessage"), "{last}");
    assert!(text.matches("\"url\"").count() < MANY);

    let events = weir.feed().await;
    let aborted: Vec<&Value> = events.iter().filter(|event| event["action"] == "table.query.aborted").collect();
    assert_eq!(aborted.len(), 2, "{aborted:?}");
    for event in aborted {
        assert_eq!((event["decision"].as_str(), event["reason"].as_str()), (Some("deny"), Some("TOKEN_REVOKED")));
    }
}
