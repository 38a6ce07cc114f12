//! The export: what it holds, for whom, and how it shows that it was tampered with.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use weir::service::audit::{
    export::ExportWalk,
    verify::{Since, verify_export},
};

use crate::support::postgres::TestDatabase;

use super::trail::{Trail, first_bad};

#[tokio::test]
async fn nothing_personal_is_exported() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        for name in trail.archive.list("events").await.unwrap() {
            let text = trail.archive.read("events", &name).await.unwrap().unwrap();
            let text = String::from_utf8(text.to_vec()).unwrap();
            assert!(text.contains("fraud_analytics") && !text.contains("198.51.100.7"), "{text}");
        }
    }
}

#[tokio::test]
async fn what_is_exported_to_a_folder_is_for_nobody_else() {
    let db = TestDatabase::sqlite().await;
    let trail = Trail::sealed(&db).await;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in ["events", "checkpoints", "keys"] {
        assert_eq!(mode(&trail.folder.path().join(folder)), 0o700, "{folder}");
        for file in fs::read_dir(trail.folder.path().join(folder)).unwrap() {
            let path = file.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn an_export_that_was_broken_off_is_finished() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        // As if the server had died before it recorded its exports, and while it wrote one.
        db.execute("UPDATE audit_checkpoints SET exported_at = NULL").await.unwrap();
        fs::remove_file(trail.folder.path().join(format!("checkpoints/{:020}.txt", 30))).unwrap();
        trail.audit_sealer.seal_due().await.unwrap();
        assert_eq!(trail.compare().await.unwrap().compared, 30);
        assert!(db.list_unexported_checkpoints(1).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_database_restored_from_a_backup_adds_nothing_to_the_export_that_is_ahead_of_it() {
    let db = TestDatabase::sqlite().await;
    let trail = Trail::sealed(&db).await;
    for sql in [
        "DROP TRIGGER audit_events_no_delete",
        "DELETE FROM audit_personal WHERE seq > 20",
        "DELETE FROM audit_events WHERE seq > 20",
        "DELETE FROM audit_checkpoints WHERE seq > 20",
        "UPDATE audit_head SET seq = 20, hash = (SELECT hash FROM audit_events WHERE seq = 20)",
    ] {
        db.execute(sql).await.unwrap();
    }
    trail.append(5).await;
    let refused = trail.audit_sealer.seal().await.unwrap_err().to_string();
    assert!(refused.contains("is ahead of the database"), "{refused}");
    assert_eq!(trail.verify_export().await.unwrap().head.seq, 30, "the evidence is as it was");
    assert_eq!(first_bad(trail.compare().await), 21);
}

#[tokio::test]
async fn nothing_is_added_to_a_place_that_lacks_what_was_exported() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        for folder in ["checkpoints", "events", "keys"] {
            fs::remove_dir_all(trail.folder.path().join(folder)).unwrap();
        }
        trail.append(5).await;
        let refused = trail.audit_sealer.seal().await.unwrap_err().to_string();
        assert!(refused.contains("lacks checkpoint 30"), "{refused}");
        assert!(trail.archive.list("checkpoints").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_export_that_was_changed_is_not_believed() {
    type Change = fn(&Path);
    fn edit(path: std::path::PathBuf, from: &str, to: &str) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
    let changes: [(i64, Change); 5] = [
        (11, |folder| edit(folder.join(format!("events/{:020}.ndjson", 20)), "fraud", "trade")),
        (11, |folder| fs::remove_file(folder.join(format!("events/{:020}.ndjson", 20))).unwrap()),
        (11, |folder| fs::remove_file(folder.join(format!("checkpoints/{:020}.txt", 20))).unwrap()),
        (20, |folder| edit(folder.join(format!("checkpoints/{:020}.txt", 20)), "\n20\n", "\n21\n")),
        (21, |folder| {
            fs::write(folder.join(format!("events/{:020}.ndjson", 30)), "").unwrap();
        }),
    ];
    for (seq, change) in changes {
        let db = TestDatabase::sqlite().await;
        let trail = Trail::sealed(&db).await;
        change(trail.folder.path());
        assert_eq!(first_bad(trail.verify_export().await), seq);
        assert_eq!(first_bad(trail.compare().await), seq);
    }
}

/// Changes a file of the export with `edit`.
fn rewrite(folder: &Path, name: &str, edit: impl FnOnce(String) -> String) {
    let path = folder.join(name);
    let text = fs::read_to_string(&path).unwrap();
    let edited = edit(text.clone());
    assert_ne!(text, edited, "{name}");
    fs::write(path, edited).unwrap();
}

#[tokio::test]
async fn an_export_verifies_only_byte_for_byte_as_it_was_written() {
    const EVENTS: &str = "events/00000000000000000020.ndjson";
    const CHECKPOINT: &str = "checkpoints/00000000000000000020.txt";
    type Edit = fn(String) -> String;
    let edits: [(&str, Edit); 21] = [
        (EVENTS, |text| text.replacen("{\"seq\":11", "{\"note\":1,\"seq\":11", 1)),
        (EVENTS, |text| text.replacen("}\n", ",\"seq\":11}\n", 1)),
        (EVENTS, |text| text.replacen("\"seq\":11,", "", 1).replacen(",\"event\"", ",\"seq\":11,\"event\"", 1)),
        (EVENTS, |text| text.replacen("\"prev_hash\"", "\"prev\\u005fhash\"", 1)),
        (EVENTS, |text| text.replacen(':', ": ", 1)),
        (EVENTS, |text| text.replacen("\"event\":", "\"event\": ", 1)),
        (EVENTS, |text| text.replacen('\n', " \n", 1)),
        (EVENTS, |text| format!(" {text}")),
        (EVENTS, |text| text.replace('\n', "\r\n")),
        (EVENTS, |text| text.replacen('\n', "\n\n", 1)),
        (EVENTS, |text| format!("{text}\n")),
        (EVENTS, |text| text.trim_end().to_owned()),
        (EVENTS, |text| format!("\u{feff}{text}")),
        (EVENTS, |text| {
            let at = text.find("\"hash\":\"").unwrap() + 8;
            format!("{}{}{}", &text[..at], text[at..at + 65].to_uppercase(), &text[at + 65..])
        }),
        (CHECKPOINT, |text| format!("{text}\u{2014} somebody {}\n", "A".repeat(91) + "=")),
        (CHECKPOINT, |text| format!("{text}{}", text.lines().last().unwrap().to_owned() + "\n")),
        (CHECKPOINT, |text| format!("{text}\n")),
        (CHECKPOINT, |text| text.trim_end().to_owned()),
        (CHECKPOINT, |text| format!("{}\r\n", text.trim_end())),
        (CHECKPOINT, |text| text.replacen("\n\u{2014}", "\n\n\u{2014}", 1)),
        (CHECKPOINT, |text| text.replacen("\u{2014}", "a remark\n\u{2014}", 1)),
    ];
    let db = TestDatabase::sqlite().await;
    let trail = Trail::sealed(&db).await;
    for (at, (name, edit)) in edits.into_iter().enumerate() {
        let untouched = fs::read(trail.folder.path().join(name)).unwrap();
        rewrite(trail.folder.path(), name, edit);
        for outcome in [trail.verify_export().await, trail.compare().await] {
            assert!((11..=21).contains(&first_bad(outcome)), "edit {at} of {name}");
        }
        fs::write(trail.folder.path().join(name), untouched).unwrap();
    }
    assert!(trail.verify_export().await.is_ok() && trail.compare().await.is_ok());
}

#[tokio::test]
async fn a_file_that_no_export_writes_is_found() {
    let db = TestDatabase::sqlite().await;
    let trail = Trail::sealed(&db).await;
    let key = trail.audit_sealer.verifiers().remove(0);
    let own = format!("keys/{}.txt", key.name());
    let (forged, ours) = (trail.notary_with(&[9]).verifiers().remove(0).to_string(), key.to_string());
    let files = [
        ("README".to_owned(), ""),
        ("more/events.txt".to_owned(), ""),
        ("events/deeper/00000000000000000020.ndjson".to_owned(), ""),
        ("events/20.ndjson".to_owned(), ""),
        ("events/00000000000000000015.ndjson".to_owned(), ""),
        ("events/00000000000000000040.ndjson".to_owned(), ""),
        ("events/00000000000000000020.txt".to_owned(), ""),
        ("checkpoints/00000000000000000020.ndjson".to_owned(), ""),
        ("checkpoints/+0000000000000000020.txt".to_owned(), ""),
        ("checkpoints/20.txt".to_owned(), ""),
        ("keys/forged.txt".to_owned(), forged.as_str()),
        (format!("keys/{}.txt", forged.split('+').next().unwrap()), forged.as_str()),
        ("keys/other.txt".to_owned(), ours.as_str()),
        (own.clone(), ours.as_str()),
        (own.clone(), forged.as_str()),
    ];
    for (name, content) in files {
        let path = trail.folder.path().join(&name);
        let before = fs::read(&path).ok();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        for outcome in [trail.verify_export().await, trail.compare().await] {
            let refused = outcome.expect_err(&name).to_string();
            assert!(refused.contains(name.split('/').next().unwrap()), "{refused}");
        }
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    assert!(trail.verify_export().await.is_ok() && trail.compare().await.is_ok());
    fs::remove_file(trail.folder.path().join(own)).unwrap();
    assert!(trail.verify_export().await.unwrap_err().to_string().contains("lacks `keys/"));
}

#[tokio::test]
async fn a_checkpoint_that_was_deleted_from_the_database_shows_against_the_export() {
    for (first, sql) in [
        (1, "DELETE FROM audit_checkpoints"),
        (21, "DELETE FROM audit_checkpoints WHERE seq = 30"),
        (11, "DELETE FROM audit_checkpoints WHERE seq > 10"),
    ] {
        for db in TestDatabase::each().await {
            let trail = Trail::sealed(&db).await;
            trail.append(5).await;
            db.execute(sql).await.unwrap();
            assert_eq!(first_bad(trail.compare().await), first, "{sql}");
        }
    }
}

#[tokio::test]
async fn an_export_whose_tail_was_cut_shows_against_the_database() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        for name in [format!("events/{:020}.ndjson", 30), format!("checkpoints/{:020}.txt", 30)] {
            fs::remove_file(trail.folder.path().join(name)).unwrap();
        }
        assert_eq!(trail.verify_export().await.unwrap().head.seq, 20, "it agrees with itself");
        assert_eq!(first_bad(trail.compare().await), 21);
        assert_eq!(trail.verify(Since::Beginning).await.unwrap().head.seq, 30);
    }
}

#[tokio::test]
async fn an_export_is_verified_from_a_checkpoint_on() {
    let db = TestDatabase::sqlite().await;
    let trail = Trail::sealed(&db).await;
    let keys = trail.audit_sealer.verifiers();
    let walk = ExportWalk::since(&trail.archive, &keys, Some(10)).await.unwrap();
    let verified = verify_export(walk, &mut |_| {}).await.unwrap();
    assert_eq!((verified.after, verified.head.seq, verified.checkpoints), (10, 30, 2));
    assert!(ExportWalk::since(&trail.archive, &keys, Some(11)).await.is_err());
}
