//! Reads, rotations and revocations in every order, on two servers with one database.
//!
//! In every order, no allow follows the event that tightened it, and every client that received URLs has its event.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures::future::join_all;
use rand::RngExt;
use serde_json::Value;

use super::{cluster::Cluster, rounds, tightening::Tightening};
use crate::support::process::{FILES, Read};

/// The number of reads that race with each tightening.
const READS: usize = 24;

struct Round {
    tightening: Tightening,
    token_id: String,
    grant_id: String,
    reads: Vec<Read>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_allows_behind_the_one_that_ended_access() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    let replicas = [installation.start().await, installation.start().await];
    installation.share(&replicas[0]).await;
    let mut grant_id = replicas[0].grant_id().await;
    let mut done = Vec::new();
    for round in 0..rounds(99) {
        let tightening = Tightening::ALL[round % Tightening::ALL.len()];
        let (token_id, token) = replicas[round % 2].issue(&format!("round-{round}")).await;
        // The change comes after some of the reads and among the rest.
        let (answered, first) = (AtomicUsize::new(0), rand::rng().random_range(0..READS));
        let reads = (0..READS).map(|read| {
            let (weir, token, answered) = (&replicas[read % 2], &token, &answered);
            let delay = rand::rng().random_range(0..12);
            async move {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                let read = weir.query(token).await;
                answered.fetch_add(1, Ordering::Relaxed);
                read
            }
        });
        let tightened = async {
            while answered.load(Ordering::Relaxed) < first {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tightening.tighten(&replicas[(round / 2) % 2], &token_id, &grant_id).await;
        };
        let (reads, ()) = tokio::join!(join_all(reads), tightened);
        // Later requests are refused at every replica.
        for weir in &replicas {
            let read = weir.query(&token).await;
            let is_refused = read.status.is_some_and(|status| status.is_client_error());
            assert_eq!(is_refused, !tightening.goes_on(), "{tightening:?}: {read:?}");
        }
        let next = tightening.loosen(&replicas[0], &grant_id).await;
        done.push(Round { tightening, token_id, grant_id: std::mem::replace(&mut grant_id, next), reads });
    }
    let events = replicas[1].feed().await;
    let (mut raced, mut allowed) = (0, 0);
    for round in &done {
        let mine = |event: &&Value| event["token_id"] == round.token_id.as_str();
        let own: Vec<&Value> = events.iter().filter(mine).collect();
        let first = own.first().unwrap()["seq"].as_i64().unwrap();
        // Freezes and grants' events name no token; the next one after the round's first event belongs to the round.
        let ended = events.iter().find(|event| {
            event["action"] == round.tightening.action()
                && event["seq"].as_i64().unwrap() > first
                && (event["token_id"].is_null() || mine(event))
        });
        let ended = ended.unwrap()["seq"].as_i64().unwrap();
        let queries = own.iter().filter(|event| event["action"] == "table.query");
        for query in queries {
            let is_behind = query["seq"].as_i64().unwrap() > ended;
            let is_allowed = query["decision"] == "allow"
                && !(round.tightening.goes_on() && query["grant_id"] != round.grant_id.as_str());
            assert!(!(is_behind && is_allowed), "{:?} at {ended} and then {query}", round.tightening);
            raced += usize::from(is_behind);
            allowed += usize::from(is_allowed);
        }
        for read in round.reads.iter().filter(|read| read.urls > 0) {
            assert_eq!(read.urls, FILES);
            let recorded = own.iter().any(|event| {
                event["request_id"].as_str() == read.request_id.as_deref() && event["decision"] == "allow"
            });
            assert!(recorded, "no event of {read:?}");
        }
    }
    println!("{} reads raced: {allowed} were allowed, {raced} came behind", READS * done.len());
    assert!(raced > 0 && allowed > 0, "reads fell on both sides: {allowed} were allowed, {raced} came behind");
    assert!(installation.run_well(&["audit", "verify"]).starts_with("verified"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_at_one_replica_is_felt_at_the_other() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    let replicas = [installation.start().await, installation.start().await, installation.start().await];
    installation.share(&replicas[0]).await;
    let mut latencies = Vec::new();
    for round in 0..rounds(30) {
        let (token_id, token) = replicas[0].issue(&format!("latency-{round}")).await;
        assert_eq!(replicas[1].query(&token).await.urls, FILES);
        let revoke = async {
            Tightening::RevokeToken.tighten(&replicas[2], &token_id, "").await;
            Instant::now()
        };
        let denied = async {
            // Asked without pause, so that the first refusal is seen at once.
            let mut last_allowed = None;
            loop {
                let sent = Instant::now();
                let read = replicas[1].query(&token).await;
                if read.urls == 0 {
                    return (last_allowed, Instant::now());
                }
                last_allowed = Some(sent);
            }
        };
        let (revoked, (last_allowed, denied)) = tokio::join!(revoke, denied);
        // No request sent after the revocation was answered is allowed, at any replica.
        assert!(last_allowed.is_none_or(|sent| sent < revoked), "round {round}");
        latencies.push(denied.saturating_duration_since(revoked));
    }
    latencies.sort();
    let (median, worst) = (latencies[latencies.len() / 2], latencies[latencies.len() - 1]);
    println!("revoke to deny over {} rounds: median {median:?}, worst {worst:?}", latencies.len());
}
