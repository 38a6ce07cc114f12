//! An attacker with the database's password changes the trail.

use weir::{
    domain::audit::{Head, link_hash},
    service::audit::verify::Since,
    store::Db,
};

use crate::support::postgres::TestDatabase;

use super::trail::{Trail, first_bad};

/// Runs a statement without the store, with all triggers removed.
async fn tamper(db: &TestDatabase, sql: &'static str) {
    lift_triggers(db).await;
    db.execute(sql).await.unwrap();
}

async fn lift_triggers(db: &TestDatabase) {
    let statements: &[&str] = match &**db {
        Db::Sqlite { .. } => &[
            "DROP TRIGGER IF EXISTS audit_events_no_update",
            "DROP TRIGGER IF EXISTS audit_events_no_delete",
            "DELETE FROM audit_personal",
        ],
        Db::Postgres { .. } => {
            &["ALTER TABLE audit_events DISABLE TRIGGER audit_events_append_only", "DELETE FROM audit_personal"]
        }
    };
    for statement in statements {
        db.execute(statement).await.unwrap();
    }
}

macro_rules! run {
    ($db:expr, $query:expr) => {
        match &**$db {
            Db::Sqlite { writer, .. } => $query.execute(writer).await.map(|_| ()).unwrap(),
            Db::Postgres { pool, .. } => $query.execute(pool).await.map(|_| ()).unwrap(),
        }
    };
}

#[tokio::test]
async fn an_untouched_trail_verifies_alone_and_against_its_export() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        trail.append(5).await;
        let verified = trail.compare().await.unwrap();
        assert_eq!((verified.after, verified.head.seq, verified.checkpoints, verified.compared), (0, 35, 3, 30));
        assert_eq!(trail.verify(Since::Beginning).await.unwrap().head.seq, 35);
        assert_eq!(trail.verify(Since::NewestCheckpoint).await.unwrap().after, 30);
        assert_eq!(trail.verify(Since::Checkpoint(10)).await.unwrap().checkpoints, 2);
        assert_eq!(trail.verify_export().await.unwrap().head.seq, 30);
    }
}

#[tokio::test]
async fn every_edit_names_the_first_bad_sequence() {
    let edits: [(i64, &str); 9] = [
        (14, "UPDATE audit_events SET body = replace(body, 'fraud', 'trade') WHERE seq = 14"),
        (14, "UPDATE audit_events SET action = 'shares.list' WHERE seq = 14"),
        (14, "UPDATE audit_events SET recipient_id = NULL WHERE seq = 14"),
        (14, "UPDATE audit_events SET presigned_files = 2 WHERE seq = 14"),
        (14, "DELETE FROM audit_events WHERE seq = 14"),
        (31, "DELETE FROM audit_events WHERE seq > 30"),
        (
            36,
            "INSERT INTO audit_events (seq, prev_hash, hash, body, at, action, decision) \
             SELECT 36, hash, prev_hash, body, at, action, decision FROM audit_events WHERE seq = 35",
        ),
        (
            0,
            "INSERT INTO audit_events (seq, prev_hash, hash, body, at, action, decision) \
             SELECT 0, hash, prev_hash, body, at, action, decision FROM audit_events WHERE seq = 35",
        ),
        (35, "UPDATE audit_head SET hash = (SELECT hash FROM audit_events WHERE seq = 34)"),
    ];
    for (seq, sql) in edits {
        for db in TestDatabase::each().await {
            let trail = Trail::sealed(&db).await;
            trail.append(5).await;
            tamper(&db, sql).await;
            assert_eq!(first_bad(trail.compare().await), seq, "{sql}");
            assert_eq!(first_bad(trail.verify(Since::Beginning).await), seq, "{sql}");
        }
    }
}

#[tokio::test]
async fn a_personal_part_that_was_exchanged_is_found() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        let sql =
            "UPDATE audit_personal SET personal = replace(personal, '198.51.100.7', '198.51.100.8') WHERE seq = 7";
        db.execute(sql).await.unwrap();
        assert_eq!(first_bad(trail.verify(Since::Beginning).await), 7);
    }
}

#[tokio::test]
async fn a_tail_that_was_cut_without_a_trace_shows_against_the_export() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        lift_triggers(&db).await;
        for sql in [
            "DELETE FROM audit_events WHERE seq > 17",
            "DELETE FROM audit_checkpoints WHERE seq > 17",
            "UPDATE audit_head SET seq = 17, hash = (SELECT hash FROM audit_events WHERE seq = 17)",
        ] {
            db.execute(sql).await.unwrap();
        }
        assert_eq!(trail.verify(Since::Beginning).await.unwrap().head.seq, 17, "the database agrees with itself");
        assert_eq!(first_bad(trail.compare().await), 18);
    }
}

#[tokio::test]
async fn a_chain_that_was_rewritten_shows_against_the_export_and_the_signatures() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        lift_triggers(&db).await;
        rewrite(&db, 14).await;
        assert_eq!(first_bad(trail.compare().await), 14);
        // Without the export, the signatures tell between which checkpoints it happened.
        assert_eq!(first_bad(trail.verify(Since::Beginning).await), 11);
        db.execute("DELETE FROM audit_checkpoints WHERE seq > 10").await.unwrap();
        assert!(trail.verify(Since::Beginning).await.is_ok(), "the database agrees with itself");
        assert_eq!(first_bad(trail.compare().await), 14);
    }
}

/// Changes every event from `from` on, each correctly bound to the one before.
async fn rewrite(db: &TestDatabase, from: i64) {
    let mut head: Option<Head> = None;
    for (event, _) in db.list_chain(0, 1_000).await.unwrap() {
        if event.seq >= from {
            let prev_hash = head.unwrap().hash;
            let body = event.body.replace("fraud", "trade");
            let hash = link_hash(&prev_hash, &body);
            let sql = "UPDATE audit_events SET prev_hash = $1, hash = $2, body = $3 WHERE seq = $4";
            run!(db, sqlx::query(sql).bind(&prev_hash[..]).bind(&hash[..]).bind(body).bind(event.seq));
            head = Some(Head { seq: event.seq, hash });
        } else {
            head = Some(Head { seq: event.seq, hash: event.hash });
        }
    }
    let head = head.unwrap();
    run!(db, sqlx::query("UPDATE audit_head SET hash = $1").bind(&head.hash[..]));
}

#[tokio::test]
async fn what_does_not_verify_is_never_signed() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        trail.append(5).await;
        tamper(&db, "UPDATE audit_events SET body = replace(body, 'fraud', 'trade') WHERE seq = 33").await;
        assert!(trail.audit_sealer.seal().await.is_err());
        assert_eq!(db.find_last_checkpoint().await.unwrap().unwrap().seq, 30);
    }
}
