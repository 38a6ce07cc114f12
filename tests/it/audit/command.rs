//! `weir audit` while a server runs.

use std::{fs, process::Output};

use serde_json::Value;
use weir::store::Db;

use crate::support::process::Installation;

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn the_trail_is_verified_and_exported_beside_a_running_server() {
    let weir = Installation::sqlite();
    let mut server = weir.start().await;
    weir.share(&server).await;
    let (_, token) = server.issue("default").await;
    server.query(&token).await;
    let verified = weir.run_well(&["audit", "verify"]);
    assert!(verified.starts_with("verified events 1 to "), "{verified}");

    let lines = weir.run_well(&["audit", "export"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[..], server.feed().await[..lines.len()], "a file and the feed say the same");
    let file = weir.folder.path().join("events.csv");
    weir.run_well(&["audit", "export", "--format", "csv", "--since", "2020-01-01", "--output", file.to_str().unwrap()]);
    let csv = fs::read_to_string(&file).unwrap();
    assert!(csv.starts_with("seq,at,actor_kind,") && csv.contains(",table.query,"), "{csv}");
    assert_eq!(weir.run_well(&["audit", "export", "--until", "2020-01-01"]), "");

    // A server that stops also seals and exports the trail.
    server.stop();
    let key = weir.run_well(&["audit", "key"]);
    let export = weir.export();
    let export = export.to_str().unwrap();
    let verified = weir.run_well(&["audit", "verify"]);
    assert!(verified.contains("the same as"), "{verified}");
    weir.run_well(&["audit", "verify", "--since-checkpoint"]);
    weir.run_well(&["audit", "verify", "--export", export, "--key", key.trim()]);
    weir.run_well(&["audit", "verify", "--export", export, "--database"]);
    let stranger = key.replace("weir-audit-", "weir-other-");
    assert!(error(&weir.run(&["audit", "verify", "--export", export, "--key", stranger.trim()])).contains("is no key"));

    let db = Db::connect(&format!("sqlite://{}", weir.folder.path().join("weir.db").display()), 1).await.unwrap();
    let Db::Sqlite { writer, .. } = &db else { unreachable!("it is SQLite") };
    sqlx::query("DROP TRIGGER audit_events_no_update").execute(writer).await.unwrap();
    sqlx::query("UPDATE audit_events SET decision = 'deny' WHERE seq = 2").execute(writer).await.unwrap();
    db.close().await;
    assert!(error(&weir.run(&["audit", "verify"])).contains("first bad sequence 2"));
    weir.run_well(&["audit", "verify", "--export", export]);
}

#[tokio::test]
async fn verifying_makes_nothing() {
    let weir = Installation::sqlite();
    let refused = error(&weir.run(&["audit", "verify"]));
    assert!(refused.contains("export` is not there"), "{refused}");
    std::fs::create_dir(weir.export()).unwrap();
    let refused = error(&weir.run(&["audit", "verify"]));
    assert!(refused.contains("weir.db` cannot be opened"), "{refused}");
    assert!(!weir.folder.path().join("weir.db").exists());
}
