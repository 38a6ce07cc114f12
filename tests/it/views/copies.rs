//! How long copies live, and what the register says of them.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use serde_json::json;
use weir::service::context::OperatorContext;

use super::{
    scene::{read_well, shared_claims},
    source::Mapping,
    stage::{Kind, SHARE, Stage, run},
};

/// A day and two hours: when every URL is dead, and every copy idle.
const LATER: i64 = 26 * 3_600;

async fn keep(stage: &Stage) {
    // What is ended in one round is gone in the next.
    for _ in 0..2 {
        stage.app.service.keep_copies().await.unwrap();
        stage.app.pass(1);
    }
}

async fn copies_go_with_the_last_who_may_read_them(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let plans = json!({"plans": [super::scene::PLANS[0]]});
    let acme = stage.partner("acme", plans.clone()).await;
    read_well(&stage, &table, &lens, &acme).await;
    let written = stage.objects().await;
    assert!(!written.is_empty() && stage.copies(Some("ready")).await.len() >= written.len());
    keep(&stage).await;
    assert_eq!(stage.objects().await, written, "nothing goes while its URLs live");
    let revoked = stage.app.post(&format!("/shares/{SHARE}/recipients/acme/revoke"), json!({})).await;
    revoked.expect(200);
    keep(&stage).await;
    assert_eq!(stage.objects().await, Vec::<String>::new());
    assert!(stage.copies(None).await.is_empty() && !stage.copies(Some("deleted")).await.is_empty());
    // Who is granted it again reads files that are made again.
    stage.app.post("/grants", json!({"share": SHARE, "recipient": "acme"})).await.expect(201);
    read_well(&stage, &table, &lens, &acme).await;
    assert!(!stage.objects().await.is_empty());
}

async fn copies_that_nobody_reads_go_when_their_urls_are_dead(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [super::scene::PLANS[0]]})).await;
    read_well(&stage, &table, &lens, &acme).await;
    stage.app.pass(24 * 3_600 - 10);
    keep(&stage).await;
    assert!(!stage.objects().await.is_empty(), "a URL of a day ago is still good");
    stage.app.pass(LATER - 24 * 3_600);
    keep(&stage).await;
    assert_eq!(stage.objects().await, Vec::<String>::new());
    read_well(&stage, &table, &lens, &acme).await;
}

async fn what_register_and_store_do_not_agree_about_is_named(stage: Stage) {
    let (table, lens) = shared_claims(&stage, Mapping::None).await;
    let acme = stage.partner("acme", json!({"plans": [super::scene::PLANS[0]]})).await;
    read_well(&stage, &table, &lens, &acme).await;
    let lost = stage.objects().await.remove(0);
    fs::remove_file(stage.app.copies_folder().join(&lost)).unwrap();
    let stray = stage.app.copies_folder().join("m/stray");
    fs::write(&stray, "x").unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    fs::File::options().write(true).open(&stray).unwrap().set_modified(long_ago).unwrap();
    let ctx = OperatorContext::system("test", stage.app.now());
    let found = stage.app.service.reconcile_copies(&ctx).await.unwrap();
    assert_eq!(found.orphans, ["m/stray"]);
    assert_eq!(found.missing.len(), 1);
    // What is gone is made again before anybody is sent to it; what is nobody's stays for somebody to look at.
    read_well(&stage, &table, &lens, &acme).await;
    assert!(stray.exists());
}

async fn servers_divide_the_work_and_make_each_copy_once(stage: Stage) {
    let (_, _) = shared_claims(&stage, Mapping::None).await;
    let other = stage.app.replica(None);
    let acme = stage.partner("acme", json!({"plans": [super::scene::PLANS[0]]})).await;
    let way = stage.ways()[0];
    let (here, there) = tokio::join!(acme.query(way, json!({})), acme.query_at(&other, way, json!({})));
    assert_eq!(here.lines().len(), there.lines().len());
    let copies = stage.copies(None).await;
    let mut sources: Vec<&str> = copies.iter().map(|copy| copy["source"].as_str().unwrap()).collect();
    let made = sources.len();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources.len(), made);
}

#[test]
fn on_sqlite_copies_go_with_the_last_who_may_read_them() {
    run(Kind::Folder, copies_go_with_the_last_who_may_read_them);
}

#[test]
fn on_postgres_copies_go_with_the_last_who_may_read_them() {
    run(Kind::Postgres, copies_go_with_the_last_who_may_read_them);
}

#[test]
fn on_sqlite_copies_that_nobody_reads_go_when_their_urls_are_dead() {
    run(Kind::Folder, copies_that_nobody_reads_go_when_their_urls_are_dead);
}

#[test]
fn on_sqlite_what_register_and_store_do_not_agree_about_is_named() {
    run(Kind::Folder, what_register_and_store_do_not_agree_about_is_named);
}

#[test]
fn on_sqlite_servers_divide_the_work_and_make_each_copy_once() {
    run(Kind::Folder, servers_divide_the_work_and_make_each_copy_once);
}

#[test]
fn on_postgres_servers_divide_the_work_and_make_each_copy_once() {
    run(Kind::Postgres, servers_divide_the_work_and_make_each_copy_once);
}
