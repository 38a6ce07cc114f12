//! A replica that is told to stop reports that before it stops.

use std::time::{Duration, Instant};

use reqwest::StatusCode;

use super::cluster::Cluster;
use crate::support::process::{FILES, Installation, Weir, until};

/// Longer than any test waits: a server that ends sooner did not wait for it.
const LONG: u64 = 300;

/// The answer of `/readyz`, and whether it closes the connection.
async fn readiness(weir: &Weir) -> Option<(StatusCode, String, bool)> {
    let answer = weir.client.get(format!("{}/readyz", weir.url)).send().await.ok()?;
    let closes = answer.headers().get("connection").is_some_and(|value| value == "close");
    Some((answer.status(), answer.text().await.ok()?, closes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_replica_is_not_ready_goes_on_answering_and_ends_at_the_second_signal() {
    let Some(cluster) = Cluster::start().await else { return };
    let mut installation = cluster.install().await;
    installation.drain_for(LONG);
    let mut weir = installation.start().await;
    installation.share(&weir).await;
    let (_, token) = weir.issue("default").await;
    assert_eq!(readiness(&weir).await, Some((StatusCode::OK, "ready\n".to_owned(), false)));

    weir.ask_to_stop();
    let drains = (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned(), true);
    until("draining", async || readiness(&weir).await.filter(|said| *said == drains)).await;
    for _ in 0..10 {
        assert_eq!(weir.query(&token).await.urls, FILES);
    }
    let health = weir.client.get(format!("{}/healthz", weir.url)).send().await.unwrap();
    assert!(health.status().is_success(), "it must not be killed for draining");
    let asked = Instant::now();
    weir.stop();
    assert!(asked.elapsed() < Duration::from_secs(LONG / 2));
    installation.run_well(&["audit", "verify"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_server_on_sqlite_drains_for_nobody() {
    let mut installation = Installation::sqlite();
    installation.drain_for(LONG);
    let mut weir = installation.start().await;
    let asked = Instant::now();
    weir.stop();
    assert!(asked.elapsed() < Duration::from_secs(LONG / 2));
}
