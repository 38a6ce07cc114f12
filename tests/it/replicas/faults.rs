//! Servers and databases are killed under load.
//!
//! After each fault, every URL that a client received has its event, the chain verifies, and nothing is half done.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand::RngExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use weir::store::Db;

use super::{cluster::Cluster, rounds};
use crate::support::{
    process::{FILES, Read, Weir, until},
    s3::{Key, S3Server},
    tables::plain_table,
};

/// How many queries are answered before each fault.
const ANSWERED_FIRST: usize = 10;

/// Readers that query until they are stopped, and keep what they received.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    readers: Vec<JoinHandle<Vec<Read>>>,
}

impl Load {
    fn on(servers: &[&Weir], token: &str) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let readers = servers.iter().flat_map(|weir| [*weir, *weir]).map(|weir| {
            let (reader, token) = (weir.reader(), token.to_owned());
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut reads = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let read = reader.query(&token).await;
                    if read.status == Some(StatusCode::OK) {
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        // A refused client waits before it retries.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    reads.push(read);
                }
                reads
            })
        });
        Self { readers: readers.collect(), stop, answered }
    }

    /// Waits until more queries are answered, and a little longer.
    async fn run(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        while self.answered.load(Ordering::Relaxed) < before + ANSWERED_FIRST {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..200))).await;
    }

    async fn stop(self) -> Vec<Read> {
        self.stop.store(true, Ordering::Relaxed);
        let mut reads = Vec::new();
        for reader in self.readers {
            reads.extend(reader.await.unwrap());
        }
        reads
    }
}

/// Checks that every received URL has its event, and that no grant or token is half created.
fn check(reads: &[Read], events: &[Value]) {
    let allowed: HashSet<&str> = events
        .iter()
        .filter(|event| event["action"] == "table.query" && event["decision"] == "allow")
        .map(|event| event["request_id"].as_str().unwrap())
        .collect();
    for read in reads.iter().filter(|read| read.urls > 0) {
        let id = read.request_id.as_deref().unwrap();
        assert!(allowed.contains(id), "{} URLs were received without an event: {read:?}", read.urls);
    }
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["seq"].as_u64().unwrap(), at as u64 + 1, "there is no gap");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_leaves_a_whole_trail() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    let mut weir = installation.start().await;
    let other = installation.start().await;
    installation.share(&weir).await;
    let (_, token) = weir.issue("default").await;
    let mut reads = Vec::new();
    for round in 0..rounds(25) {
        let load = Load::on(&[&weir, &other], &token);
        load.run().await;
        // A change may be in progress when the process dies; it is stored with its event, or not at all.
        let name = format!("/recipients/half-{round}");
        let body = json!({});
        let change = weir.ask(Method::PUT, &name, &body);
        let (_, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(5), change), async {
            tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..8))).await;
            kill(&weir);
        });
        reads.extend(load.stop().await);
        weir.kill();
        weir.start_again().await;
        let (status, _) = weir.ask(Method::GET, &name, &Value::Null).await.unwrap();
        let newest = weir.admin(Method::GET, "/audit?action=recipient.create&max_results=1", Value::Null).await;
        let created = newest["items"][0]["object"]["name"] == format!("half-{round}");
        assert_eq!(status.is_success(), created, "a recipient and its event go together");
    }
    assert!(reads.iter().filter(|read| read.urls == FILES).count() > 10, "there was load");
    check(&reads, &weir.feed().await);
    installation.run_well(&["audit", "verify"]);
}

fn kill(weir: &Weir) {
    let killed = std::process::Command::new("kill").args(["-KILL", &weir.id().to_string()]).status();
    assert!(killed.unwrap().success());
}

/// Checks the answers of a server whose database is gone.
async fn is_away(weir: &Weir, token: &str) {
    let get = |path: &str| weir.client.get(format!("{}{path}", weir.url)).send();
    let (read, health, ready) = tokio::join!(weir.query(token), get("/healthz"), get("/readyz"));
    assert_eq!((read.status, read.urls), (Some(StatusCode::SERVICE_UNAVAILABLE), 0), "{read:?}");
    assert!(health.unwrap().status().is_success(), "the process itself is well");
    assert_eq!(ready.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_database_a_server_hands_out_nothing_and_recovers_without_a_restart() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    let servers = [installation.start().await, installation.start().await];
    installation.share(&servers[0]).await;
    let (_, token) = servers[0].issue("default").await;
    let load = Load::on(&[&servers[0], &servers[1]], &token);
    load.run().await;
    cluster.crash();
    let reads = load.stop().await;
    tokio::join!(is_away(&servers[0], &token), is_away(&servers[1], &token));
    cluster.start_again();
    for weir in &servers {
        weir.wait_until_ready().await;
        assert_eq!(weir.query(&token).await.urls, FILES);
    }
    assert!(reads.iter().any(|read| read.status == Some(StatusCode::SERVICE_UNAVAILABLE)), "{reads:?}");
    check(&reads, &servers[0].feed().await);
    installation.run_well(&["audit", "verify"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_under_load_loses_nothing() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    let servers = [installation.start().await, installation.start().await];
    installation.share(&servers[0]).await;
    let (_, token) = servers[0].issue("default").await;
    // The load never pauses, so requests are in every state when the database goes and when it returns.
    let load = Load::on(&[&servers[0], &servers[1]], &token);
    for round in 0..rounds(25) {
        load.run().await;
        // A change may be in progress too; it is stored with its event, or not at all.
        let name = format!("/recipients/half-{round}");
        let body = json!({});
        let change = servers[round % 2].ask(Method::PUT, &name, &body);
        let (_, ()) = tokio::join!(change, async {
            tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..8))).await;
            cluster.crash();
            cluster.start_again();
        });
    }
    load.run().await;
    let reads = load.stop().await;
    let refused = reads.iter().filter(|read| read.status == Some(StatusCode::SERVICE_UNAVAILABLE)).count();
    let served = reads.iter().filter(|read| read.urls == FILES).count();
    println!("{served} queries answered, {refused} refused with 503");
    let strange =
        reads.iter().find(|read| !matches!(read.status, Some(StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE)));
    assert!(strange.is_none(), "an outage is a 503: {strange:?}");
    let events = servers[0].feed().await;
    check(&reads, &events);
    let created: HashSet<&str> = events
        .iter()
        .filter(|event| event["action"] == "recipient.create")
        .map(|event| event["object"]["name"].as_str().unwrap())
        .collect();
    for round in 0..rounds(25) {
        let name = format!("half-{round}");
        let (status, _) = servers[0].ask(Method::GET, &format!("/recipients/{name}"), &Value::Null).await.unwrap();
        assert_eq!(status.is_success(), created.contains(name.as_str()), "a recipient and its event go together");
    }
    installation.run_well(&["audit", "verify"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_asked_to_stop_ends_though_its_database_is_silent() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    let mut weir = installation.start().await;
    installation.share(&weir).await;
    let (_, token) = weir.issue("default").await;
    assert_eq!(weir.query(&token).await.urls, FILES);
    cluster.silence();
    let (read, ready) = tokio::join!(weir.query(&token), weir.client.get(format!("{}/readyz", weir.url)).send());
    assert_eq!(ready.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(read.urls, 0, "{read:?}");
    weir.ask_to_stop();
    // No drain, a grace of 5 seconds, and a few more to finish.
    let took = weir.wait_for_end().await;
    cluster.speak_again();
    assert!(took < Duration::from_secs(40), "{took:?}: {}", weir.log());
    weir.start_again().await;
    assert_eq!(weir.query(&token).await.urls, FILES);
    weir.stop();
    installation.run_well(&["audit", "verify"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_a_database_that_takes_no_changes_is_not_ready_and_says_why() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    let weir = installation.start().await;
    let ready = async || weir.client.get(format!("{}/readyz", weir.url)).send().await.unwrap().status();
    assert_eq!(ready().await, StatusCode::OK);
    let anew = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'weir_server'";
    // Like a primary that became a standby.
    cluster.set("weir_server", "default_transaction_read_only", "on").await;
    cluster.admin("postgres", anew).await;
    until("server that is not ready", async || (!ready().await.is_success()).then_some(())).await;
    until("word of it", async || (!ready().await.is_success() && weir.log().contains("cause=read-only")).then_some(()))
        .await;
    cluster.set("weir_server", "default_transaction_read_only", "off").await;
    cluster.admin("postgres", anew).await;
    weir.wait_until_ready().await;
    // Another connection holds the lock on the chain's head.
    let mut holder = PgConnection::connect(&cluster.url("weir_owner")).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT 1 FROM audit_head FOR UPDATE").execute(&mut holder).await.unwrap();
    until("server that is not ready", async || (!ready().await.is_success()).then_some(())).await;
    until("word of it", async || (!ready().await.is_success() && weir.log().contains("cause=locked")).then_some(()))
        .await;
    holder.close().await.unwrap();
    weir.wait_until_ready().await;
}

/// A server is killed while it makes copies, by the real clock. Another takes its claims over once they have not been
/// renewed for a few seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_server_was_making_another_makes_within_a_minute() {
    let Some(cluster) = Cluster::start().await else { return };
    let mut installation = cluster.install().await;
    let s3 = S3Server::start().await;
    let options = s3.options_of(Key::Copies).into_iter();
    let options: String = options.map(|(name, value)| format!("{name} = \"{value}\"\n")).collect();
    installation.configure(&format!("[views]\nroot = \"s3://copies\"\nwait_seconds = 5\n[views.options]\n{options}"));
    let folder = installation.folder.path().join("lake/people");
    plain_table(&folder, 10).await;
    let mut first = installation.start().await;
    let second = installation.start().await;
    let location = url::Url::from_file_path(&folder).unwrap();
    first.admin(Method::PUT, "/tables/lake.people", json!({"location": location.as_str()})).await;
    let columns = json!([{"name": "id"}, {"name": "name", "mask": "redact"}]);
    first
        .admin(Method::PUT, "/views/lake.shown", json!({"source": {"table": "lake.people"}, "columns": columns}))
        .await;
    first.admin(Method::POST, "/views/lake.shown/publish", json!({})).await;
    first.admin(Method::PUT, "/shares/insurer", json!({})).await;
    let shown = json!({"source": {"view": "lake.shown@v1"}});
    first.admin(Method::PUT, "/shares/insurer/objects/claims/claims", shown).await;
    first.admin(Method::PUT, "/recipients/acme", json!({})).await;
    first.grant().await;
    let (_, token) = first.issue("default").await;

    // The first server has claimed the copy and hangs while it writes it.
    s3.hold();
    let reader = first.reader();
    let (unread, killed) = tokio::join!(reader.query(&token), async {
        tokio::time::timeout(Duration::from_secs(60), s3.is_holding()).await.unwrap();
        let making = second.admin(Method::GET, "/copies?state=making", Value::Null).await;
        assert_eq!(making["items"].as_array().unwrap().len(), 1, "{making}");
        first.kill();
        Instant::now()
    });
    assert_eq!((unread.status, unread.urls), (None, 0));
    s3.release();
    let read = async || (second.query(&token).await.urls == 1).then_some(());
    until("server that makes what the killed one was making", read).await;
    let took = killed.elapsed();
    println!("taken over within {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

/// The same for a lease of background tasks. It lasts 45 seconds, too long for every run of the tests:
/// `cargo test --test it -- --ignored a_killed_servers_lease`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "waits for a lease of 45 seconds"]
async fn a_killed_servers_lease_is_anothers_within_a_minute() {
    let Some(cluster) = Cluster::start().await else { return };
    let installation = cluster.install().await;
    let mut first = installation.start().await;
    installation.share(&first).await;
    let db = Db::connect_read_only(&cluster.url("weir_server")).await.unwrap();
    let sealed = async || db.find_last_checkpoint().await.unwrap().map(|checkpoint| checkpoint.seq);
    // The server that seals holds the lease.
    until("first checkpoint", sealed).await;
    let second = installation.start().await;
    first.kill();
    let killed = Instant::now();
    second.admin(Method::PUT, "/recipients/globex", json!({})).await;
    let head = db.find_audit_head().await.unwrap().seq;
    until("checkpoint of the other server", async || sealed().await.filter(|seq| *seq >= head)).await;
    let took = killed.elapsed();
    println!("taken over within {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}
