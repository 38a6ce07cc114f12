//! What several processes share, and what each checks at its start.

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use weir::store::Db;

use super::cluster::Cluster;
use crate::support::process::FILES;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_write_one_trail_and_seal_it_once() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    let mut replicas = [installation.start().await, installation.start().await, installation.start().await];
    installation.share(&replicas[0]).await;
    let (_, token) = replicas[0].issue("default").await;
    for weir in &replicas {
        for _ in 0..10 {
            assert_eq!(weir.query(&token).await.urls, crate::support::process::FILES);
        }
        weir.admin(Method::POST, "/freeze", json!({"reason": "a test"})).await;
        weir.admin(Method::POST, "/unfreeze", json!({"reason": "a test"})).await;
    }
    for weir in &mut replicas {
        weir.stop();
    }
    let verified = installation.run_well(&["audit", "verify"]);
    // The last server to stop has sealed the events of the others.
    let db = Db::connect_read_only(&cluster.url("weir_server")).await.unwrap();
    let (head, sealed) = (db.find_audit_head().await.unwrap(), db.find_last_checkpoint().await.unwrap().unwrap());
    assert_eq!(sealed.seq, head.seq, "{verified}");
    assert!(verified.contains(&format!("up to {}", head.seq)), "{verified}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_hand_out_one_profile_a_link_and_share_one_quota() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    let replicas = [installation.start().await, installation.start().await];
    installation.share(&replicas[0]).await;
    // Few enough that no caller is told to slow down.
    for round in 0..8 {
        let asked = json!({"credential": format!("link-{round}")});
        let issued = replicas[round % 2].admin(Method::POST, "/recipients/acme/tokens", asked).await;
        let link = issued["activation_url"].as_str().unwrap();
        let path = &link[link.find("/activate/").unwrap()..];
        let fetch = (0..2).map(|at| replicas[at].client.post(format!("{}{path}", replicas[at].url)).send());
        let mut profiles = 0;
        for answer in join_all(fetch).await {
            let answer = answer.unwrap();
            profiles += usize::from(answer.status() == StatusCode::OK);
            assert!([StatusCode::OK, StatusCode::GONE].contains(&answer.status()), "{}", answer.status());
        }
        assert_eq!(profiles, 1, "a link hands out its profile once, wherever it is asked");
    }
    // A query of the table issues its files' 1,000 bytes.
    let (_, token) = replicas[0].issue("default").await;
    let quota = json!({"limits": {"bytes_per_day": 5_500}});
    replicas[0].admin(Method::PATCH, "/recipients/acme", quota).await;
    let reads = join_all((0..24).map(|at| replicas[at % 2].query(&token))).await;
    let issued = reads.iter().filter(|read| read.urls == FILES).count();
    let limited = reads.iter().filter(|read| read.status == Some(StatusCode::TOO_MANY_REQUESTS)).count();
    assert_eq!((issued, limited), (5, 19), "{reads:?}");
    let events = replicas[1].feed().await;
    let of = |reason: Value| {
        let queries = events.iter().filter(|event| event["action"] == "table.query");
        queries.filter(|event| event["reason"] == reason).count()
    };
    assert_eq!((of(Value::Null), of(json!("BYTES_PER_DAY"))), (5, 19));
}

#[tokio::test]
async fn a_connection_keeps_what_it_commits_whatever_the_role_prefers() {
    let Some(cluster) = Cluster::start().await else { return };
    let _installation = cluster.install().await;
    cluster.set("weir_server", "synchronous_commit", "off").await;
    let db = Db::connect(&cluster.url("weir_server"), 1).await.unwrap();
    assert_eq!(db.find_durability_faults().await.unwrap(), Vec::<&str>::new());
    db.close().await;
}

#[tokio::test]
async fn a_database_that_may_lose_commits_is_told_of() {
    let Some(cluster) = Cluster::start().await else { return };
    let _installation = cluster.install().await;
    cluster.configure("full_page_writes = off\nfsync = off").await;
    let db = Db::connect(&cluster.url("weir_server"), 1).await.unwrap();
    let faults = db.find_durability_faults().await.unwrap();
    assert!(faults.iter().any(|fault| fault.contains("fsync")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.contains("full_page_writes")), "{faults:?}");
    db.close().await;
}
