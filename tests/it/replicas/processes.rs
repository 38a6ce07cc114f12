//! What several processes share, and what each checks when it starts.

use reqwest::Method;
use serde_json::json;
use weir::store::Db;

use super::cluster::Cluster;

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
    // The last one to stop has sealed what the others wrote.
    let db = Db::connect_read_only(&cluster.url("weir_server")).await.unwrap();
    let (head, sealed) = (db.find_audit_head().await.unwrap(), db.find_last_checkpoint().await.unwrap().unwrap());
    assert_eq!(sealed.seq, head.seq, "{verified}");
    assert!(verified.contains(&format!("up to {}", head.seq)), "{verified}");
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
