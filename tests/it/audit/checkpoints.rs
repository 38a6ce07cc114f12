//! Checkpoints: when they are made, and that they are signed with the server's key, which is published. What another key signed,
//! and what was changed, is refused.

use std::slice;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::TimeDelta;
use weir::{
    domain::{
        audit::checkpoint::{Checkpoint, CheckpointError, SigningKey, VerifierKey, digest},
        core::seal::RootKey,
    },
    service::audit::verify::{Since, verify_database},
    store::Db,
};
use zeroize::Zeroizing;

use crate::support::postgres::TestDatabase;

use super::trail::{KEY, SEALED_AT_ONCE, Trail, first_bad};

/// The text of the only key that the export publishes.
async fn published(trail: &Trail) -> String {
    let names = trail.archive.list("keys").await.unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    let text = trail.archive.read("keys", &names[0]).await.unwrap().unwrap();
    String::from_utf8(text.to_vec()).unwrap()
}

async fn notes(db: &Db) -> Vec<(i64, String)> {
    let stored = db.list_checkpoints(0, 10).await.unwrap();
    assert!(!stored.is_empty());
    stored.into_iter().map(|stored| (stored.seq, stored.note)).collect()
}

/// A key of another server.
fn stranger() -> SigningKey {
    SigningKey::derive(&RootKey::new(Zeroizing::new([KEY + 1; 32]))).unwrap()
}

/// Whether a published key has signed a note, by Ed25519 alone: as anybody can verify it who knows the formats.
fn has_signed(key: &str, note: &str) -> bool {
    let key = BASE64_STANDARD.decode(key.trim().splitn(3, '+').nth(2).unwrap()).unwrap();
    let (text, signatures) = note.rsplit_once("\n\n").unwrap();
    let signature = BASE64_STANDARD.decode(signatures.trim().rsplit(' ').next().unwrap()).unwrap();
    let key = UnparsedPublicKey::new(&ED25519, &key[1..]);
    key.verify(format!("{text}\n").as_bytes(), &signature[4..]).is_ok()
}

async fn put_note(db: &Db, seq: i64, note: &str) {
    let sql = sqlx::AssertSqlSafe(format!("UPDATE audit_checkpoints SET note = '{note}' WHERE seq = {seq}"));
    match db {
        Db::Sqlite { writer, .. } => drop(sqlx::query(sql).execute(writer).await.unwrap()),
        Db::Postgres { pool, .. } => drop(sqlx::query(sql).execute(pool).await.unwrap()),
    }
}

async fn sealed_through(trail: &Trail) -> i64 {
    trail.db.find_last_checkpoint().await.unwrap().map_or(0, |checkpoint| checkpoint.seq)
}

#[tokio::test]
async fn checkpoints_are_made_when_they_are_due_and_only_then() {
    for db in TestDatabase::each().await {
        let trail = Trail::on(&db);
        trail.audit_sealer.seal_due().await.unwrap();
        assert_eq!(sealed_through(&trail).await, 0, "there is nothing to seal");
        trail.append(3).await;
        trail.audit_sealer.seal_due().await.unwrap();
        assert_eq!(sealed_through(&trail).await, 3, "the first one need not wait");
        trail.append(3).await;
        trail.audit_sealer.seal_due().await.unwrap();
        assert_eq!(sealed_through(&trail).await, 3, "too early");
        trail.pass(TimeDelta::seconds(300));
        trail.audit_sealer.seal_due().await.unwrap();
        assert_eq!(sealed_through(&trail).await, 6, "its time has come");
        trail.append(25).await;
        trail.audit_sealer.seal_due().await.unwrap();
        assert_eq!(sealed_through(&trail).await, 26, "so many are not kept waiting");
        trail.audit_sealer.seal().await.unwrap();
        assert_eq!(sealed_through(&trail).await, 31, "asked for");
        assert_eq!(trail.compare().await.unwrap().compared, 31);
    }
}

#[tokio::test]
async fn a_checkpoint_is_signed_with_the_published_key() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        let text = published(&trail).await;
        let key = VerifierKey::parse(&text).unwrap();
        assert_eq!(trail.audit_sealer.verifiers(), slice::from_ref(&key));
        for (seq, note) in notes(&db).await {
            assert_eq!(Checkpoint::open(&note, slice::from_ref(&key)).unwrap().head.seq, seq);
            assert!(has_signed(&text, &note), "{note}");
        }
        assert_eq!(verify_database(&db, &[key], Since::Beginning, None, &mut |_| {}).await.unwrap().head.seq, 30);
    }
}

#[tokio::test]
async fn each_checkpoint_names_the_one_before_and_is_signed() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        let keys = trail.audit_sealer.verifiers();
        let mut before: Option<String> = None;
        for (seq, note) in notes(&db).await {
            let checkpoint = Checkpoint::open(&note, &keys).unwrap();
            assert_eq!(checkpoint.previous, before.as_deref().map(digest));
            let exported = trail.archive.read("checkpoints", &format!("{seq:020}.txt")).await.unwrap();
            assert_eq!(exported.unwrap(), note);
            before = Some(note);
        }
        assert_eq!(trail.archive.list("keys").await.unwrap(), [format!("{}.txt", keys[0].name())]);
    }
}

#[tokio::test]
async fn a_changed_checkpoint_is_refused() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        let (text, keys) = (published(&trail).await, trail.audit_sealer.verifiers());
        let (seq, note) = notes(&db).await.swap_remove(1);
        let lines: Vec<&str> = note.lines().collect();
        for at in 0..lines.len() {
            let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            // Another last character but one: where a line ends in base64, the last one may have bits that mean nothing.
            let mut characters: Vec<char> = changed[at].chars().collect();
            let Some(place) = characters.len().checked_sub(3) else { continue };
            characters[place] = if characters[place] == '7' { '8' } else { '7' };
            changed[at] = characters.into_iter().collect();
            let changed = format!("{}\n", changed.join("\n"));
            assert_ne!(changed, note);
            assert_eq!(Checkpoint::open(&changed, &keys), Err(CheckpointError::Unsigned), "{changed}");
            assert!(!has_signed(&text, &changed), "{changed}");
        }
        let later = note.replace("\ntime 20", "\ntime 21");
        assert_ne!(later, note);
        put_note(&db, seq, &later).await;
        assert_eq!(first_bad(trail.verify(Since::Beginning).await), seq);
    }
}

#[tokio::test]
async fn a_key_that_is_not_the_servers_is_refused() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        let (text, keys, stranger) = (published(&trail).await, trail.audit_sealer.verifiers(), stranger());
        let (seq, note) = notes(&db).await.swap_remove(1);
        let strange = slice::from_ref(stranger.verifier());
        // Whoever trusts another key believes nothing of this server,
        assert_eq!(Checkpoint::open(&note, strange), Err(CheckpointError::Unsigned));
        assert!(!has_signed(&stranger.verifier().to_string(), &note));
        let verified = verify_database(&db, strange, Since::Beginning, None, &mut |_| {}).await;
        assert_eq!(first_bad(verified), SEALED_AT_ONCE);
        // and the same words signed by another key are not believed.
        let forged = stranger.sign(&Checkpoint::open(&note, &keys).unwrap());
        assert_eq!(Checkpoint::open(&forged, &keys), Err(CheckpointError::Unsigned));
        assert!(!has_signed(&text, &forged));
        put_note(&db, seq, &forged).await;
        assert_eq!(first_bad(trail.verify(Since::Beginning).await), seq);
    }
}

#[tokio::test]
async fn two_replicas_make_one_chain_of_checkpoints() {
    for db in TestDatabase::each().await {
        let trail = Trail::on(&db);
        let other = trail.audit_sealer.clone();
        for _ in 0..5 {
            trail.append(7).await;
            let (one, two) = tokio::join!(trail.audit_sealer.seal(), other.seal());
            one.and(two).unwrap();
        }
        assert_eq!(trail.compare().await.unwrap().compared, 35);
    }
}
