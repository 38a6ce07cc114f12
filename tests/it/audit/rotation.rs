//! The root key is rotated while the trail grows: trust in the old key leads to the new key and to no other.

use std::slice;

use weir::{
    domain::audit::checkpoint::{Checkpoint, SigningKey, VerifierKey},
    service::audit::{
        error::AuditError,
        export::ExportWalk,
        seal::AuditSealer,
        verify::{Since, Verified, verify_database, verify_export},
    },
    store::Db,
};

use crate::support::postgres::TestDatabase;

use super::trail::{KEY, Trail, first_bad};

/// The next key.
const NEXT: u8 = 6;

/// Verifies the database against the export, trusting only these keys.
async fn compare(trail: &Trail, keys: &[VerifierKey], since: Option<i64>) -> Result<Verified, AuditError> {
    let (since, export) = match since {
        None => (Since::Beginning, ExportWalk::from_start(&trail.archive, keys).await?),
        Some(seq) => (Since::Checkpoint(seq), ExportWalk::since(&trail.archive, keys, Some(seq)).await?),
    };
    verify_database(&trail.db, keys, since, Some(export), &mut |_| {}).await
}

fn key_of(audit_sealer: &AuditSealer) -> VerifierKey {
    audit_sealer.verifiers().remove(0)
}

async fn note(trail: &Trail, seq: i64) -> String {
    trail.db.find_checkpoint(seq).await.unwrap().unwrap().note
}

fn signatures(note: &str) -> usize {
    note.lines().filter(|line| line.starts_with("\u{2014} ")).count()
}

#[tokio::test]
async fn whoever_believes_the_old_key_follows_the_trail_to_the_new_one() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        let next = trail.notary_with(&[NEXT, KEY]);
        let (old, new) = (key_of(&trail.audit_sealer), key_of(&next));
        for _ in 0..2 {
            trail.append(7).await;
            next.seal().await.unwrap();
        }
        let (handed_on, after) = (note(&trail, 37).await, note(&trail, 44).await);
        assert_eq!((signatures(&handed_on), signatures(&after)), (2, 1));
        let stated = Checkpoint::open(&handed_on, slice::from_ref(&old)).unwrap();
        assert_eq!(stated.next_key, Some(new.clone()));
        assert_eq!(Checkpoint::open(&after, slice::from_ref(&new)).unwrap().next_key, None);
        assert!(Checkpoint::open(&after, slice::from_ref(&old)).is_err());

        // The old key suffices for the whole trail, here and in the export.
        let verified = compare(&trail, slice::from_ref(&old), None).await.unwrap();
        assert_eq!((verified.head.seq, verified.checkpoints, verified.compared), (44, 5, 44));
        let walk = ExportWalk::from_start(&trail.archive, slice::from_ref(&old)).await.unwrap();
        assert_eq!(verify_export(walk, &mut |_| {}).await.unwrap().head.seq, 44);
        assert_eq!(compare(&trail, slice::from_ref(&old), Some(30)).await.unwrap().checkpoints, 2);
        assert_eq!(compare(&trail, slice::from_ref(&old), Some(37)).await.unwrap().checkpoints, 1);
        // The new key suffices from where it took over.
        assert_eq!(compare(&trail, slice::from_ref(&new), Some(37)).await.unwrap().checkpoints, 1);
        assert_eq!(first_bad(compare(&trail, slice::from_ref(&new), None).await), 10);
        let mut names = trail.archive.list("keys").await.unwrap();
        names.sort();
        let mut keys = [format!("{}.txt", old.name()), format!("{}.txt", new.name())];
        keys.sort();
        assert_eq!(names, keys);
    }
}

#[tokio::test]
async fn servers_that_differ_in_their_active_key_make_one_trail_all_the_same() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        // One server has the new key first, the other still has it second.
        let (first, second) = (trail.notary_with(&[NEXT, KEY]), trail.notary_with(&[KEY, NEXT]));
        for audit_sealer in [&first, &second, &first, &second, &second, &first] {
            trail.append(3).await;
            audit_sealer.seal().await.unwrap();
        }
        let verified = compare(&trail, &[key_of(&trail.audit_sealer)], None).await.unwrap();
        assert_eq!((verified.head.seq, verified.compared), (48, 48));
    }
}

#[tokio::test]
async fn a_key_that_the_old_one_did_not_hand_on_to_is_not_followed() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        let stranger = trail.notary_with(&[NEXT]);
        trail.append(7).await;
        assert_eq!(first_bad(stranger.seal().await.map(|()| unreachable!("it seals nothing"))), 30);
        trail.audit_sealer.seal().await.unwrap();
        // An attacker with database access rewrites the last checkpoint to hand over to their own key.
        let root = weir::domain::core::seal::RootKey::new(zeroize::Zeroizing::new([NEXT; 32]));
        let forger = SigningKey::derive(&root).unwrap();
        let genuine = note(&trail, 37).await;
        let stated = Checkpoint::open(&genuine, &trail.audit_sealer.verifiers()).unwrap();
        let forged = forger.sign(&Checkpoint { next_key: Some(forger.verifier().clone()), ..stated });
        let sql = sqlx::AssertSqlSafe(format!("UPDATE audit_checkpoints SET note = '{forged}' WHERE seq = 37"));
        match &*db {
            Db::Sqlite { writer, .. } => drop(sqlx::query(sql).execute(writer).await.unwrap()),
            Db::Postgres { pool, .. } => drop(sqlx::query(sql).execute(pool).await.unwrap()),
        }
        assert_eq!(first_bad(trail.verify(Since::Beginning).await), 37);
    }
}
