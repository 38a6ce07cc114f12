//! The register of copies: who makes one, how long it is needed, who reads it, and what of a table is mixed with what.
//! Claims of servers that died are in `claims`.

use chrono::TimeDelta;
use uuid::Uuid;
use weir::{
    domain::materialize::copy::{Copy, CopyKind, CopyState, RulesId, UnitId},
    store::{CopyFilter, CopySet, Db, EntitlementRow, MadeCopy, MixedFile, Serving},
};

use super::samples::{days, insert_pair, now};
use crate::support::postgres::TestDatabase;

const MAKER: Uuid = Uuid::from_u128(7);

fn set() -> CopySet {
    CopySet { view_id: Uuid::from_u128(1), view_version: 2, rules: RulesId([3; 32]) }
}

fn copy(number: u8) -> Copy {
    Copy {
        id: Uuid::now_v7(),
        unit: UnitId([number; 32]),
        kind: CopyKind::File,
        view_id: set().view_id,
        view_version: set().view_version,
        rules: set().rules,
        source: format!("part-{number}.parquet"),
        object_key: format!("m/{number}"),
        state: CopyState::Making,
        bytes: 100,
        rows: 0,
        stats: None,
        created_at: now(),
        needed_until: days(1),
        holder: MAKER,
        held_until: now(),
        attempts: 1,
        failure: None,
        deleted_at: None,
    }
}

/// Registers copies by a maker that is alive, and has made all of them but the last.
async fn keep(db: &Db, copies: &[Copy]) {
    let mut tx = db.begin().await.unwrap();
    tx.keep_server_alive(MAKER, now()).await.unwrap();
    for copy in copies {
        assert!(tx.claim_copy(copy, now()).await.unwrap());
    }
    for copy in &copies[..copies.len() - 1] {
        assert!(tx.complete_copy(&made(copy), MAKER).await.unwrap());
    }
    tx.commit().await.unwrap();
}

fn made(copy: &Copy) -> MadeCopy {
    MadeCopy { id: copy.id, bytes: 11, rows: u64::from(copy.unit.0[0]), stats: Some("{}".into()) }
}

fn ids(copies: &[Copy]) -> Vec<Uuid> {
    copies.iter().map(|copy| copy.id).collect()
}

#[tokio::test]
async fn a_copy_is_claimed_once_and_comes_back_as_it_was_made() {
    for db in TestDatabase::each().await {
        let copies = [copy(1), copy(2)];
        keep(&db, &copies).await;
        let found = db.list_copies(&CopyFilter::default(), None, 9).await.unwrap();
        assert_eq!(ids(&found), ids(&copies));
        let ready = Copy { state: CopyState::Ready, bytes: 11, rows: 1, stats: Some("{}".into()), ..copies[0].clone() };
        assert_eq!(found[0], ready);
        assert_eq!((found[1].state, found[1].bytes, found[1].holder), (CopyState::Making, 100, MAKER));
        assert!(found[1].held_until > now(), "it is its maker's for as long as that is alive");
        let mut tx = db.begin().await.unwrap();
        for unit in [1, 2] {
            let again = Copy { id: Uuid::now_v7(), holder: Uuid::from_u128(8), ..copy(unit) };
            assert!(!tx.claim_copy(&again, now()).await.unwrap(), "unit {unit}");
        }
        assert!(!tx.complete_copy(&made(&copies[1]), Uuid::from_u128(8)).await.unwrap(), "it is another's");
        tx.commit().await.unwrap();
        let by = |state, view_id| CopyFilter { state, view_id };
        for (filter, expected) in [
            (by(Some(CopyState::Ready), None), &copies[..1]),
            (by(Some(CopyState::Making), Some(set().view_id)), &copies[1..]),
            (by(None, Some(Uuid::nil())), &[]),
        ] {
            assert_eq!(ids(&db.list_copies(&filter, None, 9).await.unwrap()), ids(expected), "{filter:?}");
        }
        assert_eq!(db.list_copies(&CopyFilter::default(), Some(copies[0].id), 9).await.unwrap().len(), 1);
        let units = [UnitId([1; 32]), UnitId([9; 32])];
        assert_eq!(db.list_copies_of_units(set(), &units).await.unwrap(), std::slice::from_ref(&ready));
        assert!(db.list_copies_of_units(set(), &[]).await.unwrap().is_empty());
        assert_eq!(db.list_copies_of(set()).await.unwrap().len(), 2);
        assert_eq!(db.find_copy_at(set(), "m/1").await.unwrap(), Some(ready));
        assert_eq!(db.find_copy_at(set(), "m/2").await.unwrap(), None, "it may not be read yet");
        assert!(db.has_copy_at("m/2").await.unwrap() && !db.has_copy_at("m/3").await.unwrap());
        assert_eq!(db.list_copy_sets(now()).await.unwrap(), [set()]);
    }
}

#[tokio::test]
async fn what_could_not_be_made_rests_and_is_then_tried_again() {
    for db in TestDatabase::each().await {
        let broken = copy(1);
        keep(&db, std::slice::from_ref(&broken)).await;
        let mut tx = db.begin().await.unwrap();
        tx.fail_copy(broken.id, MAKER, "it is damaged", now() + TimeDelta::minutes(5)).await.unwrap();
        tx.commit().await.unwrap();
        let failed = db.list_copies_of(set()).await.unwrap().remove(0);
        assert_eq!(
            (failed.state, failed.failure.as_deref(), failed.bytes),
            (CopyState::Failed, Some("it is damaged"), 0)
        );
        let (again, mut tx) = (copy(1), db.begin().await.unwrap());
        assert!(!tx.claim_copy(&again, now() + TimeDelta::minutes(4)).await.unwrap());
        assert!(tx.claim_copy(&again, now() + TimeDelta::minutes(6)).await.unwrap());
        tx.commit().await.unwrap();
        let making = db.list_copies_of(set()).await.unwrap();
        assert_eq!((ids(&making), making[0].attempts), (vec![again.id], 2), "the second attempt");
    }
}

#[tokio::test]
async fn a_copy_drains_and_goes_when_nobody_needs_it() {
    for db in TestDatabase::each().await {
        let copies = [copy(1), copy(2), copy(3)];
        keep(&db, &copies).await;
        let mut tx = db.begin().await.unwrap();
        let asked = [copies[0].id, copies[2].id, Uuid::nil()];
        assert_eq!(tx.need_copies(&asked, days(3)).await.unwrap(), 1, "the third one may not be read");
        assert_eq!(tx.need_copies(&asked[..1], days(2)).await.unwrap(), 1);
        assert!(tx.drain_copy(copies[1].id, None).await.unwrap() && !tx.drain_copy(copies[1].id, None).await.unwrap());
        assert!(!tx.forget_copy(copies[0].id, days(1)).await.unwrap(), "it may be read");
        tx.commit().await.unwrap();
        let idle = |at, since| db.list_idle_copies(at, since, 9);
        assert!(idle(now(), now()).await.unwrap().is_empty());
        assert_eq!(ids(&idle(days(1), now()).await.unwrap()), [copies[1].id], "its last URL is dead");
        // The maker of the third is gone, too.
        let mut both = ids(&idle(days(2), days(2)).await.unwrap());
        both.sort();
        assert_eq!(both, [copies[1].id, copies[2].id]);
        assert_eq!(ids(&idle(days(4), days(4)).await.unwrap()).len(), 3, "needed for no longer than it was asked for");
        assert_eq!(ids(&db.list_aged_copies(days(1), 9).await.unwrap()), [copies[0].id]);
        assert!(db.list_aged_copies(now(), 9).await.unwrap().is_empty());

        let mut tx = db.begin().await.unwrap();
        assert!(tx.forget_copy(copies[1].id, days(1)).await.unwrap());
        tx.commit().await.unwrap();
        let deleted = CopyFilter { state: Some(CopyState::Deleted), ..CopyFilter::default() };
        let deleted = db.list_copies(&deleted, None, 9).await.unwrap();
        assert_eq!((ids(&deleted), deleted[0].deleted_at), (vec![copies[1].id], Some(days(1))));
        assert_eq!(db.list_copies(&CopyFilter::default(), None, 9).await.unwrap().len(), 2);
        assert!(!db.has_copy_at("m/2").await.unwrap());

        let mut tx = db.begin().await.unwrap();
        tx.advance_serving(set(), "delta", 1, now()).await.unwrap();
        assert_eq!(tx.end_copy_set(set(), days(1)).await.unwrap(), 2);
        tx.commit().await.unwrap();
        assert_eq!(db.find_serving(set()).await.unwrap(), None);
        assert!(db.list_copies_of(set()).await.unwrap().is_empty());
        assert_eq!(ids(&idle(days(1), now()).await.unwrap()).len(), 2);
        assert!(db.list_copy_sets(days(1)).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn bytes_are_those_of_what_a_recipient_may_read() {
    for db in TestDatabase::each().await {
        let (share, recipient) = insert_pair(&db).await;
        let source = Copy { kind: CopyKind::Source, ..copy(3) };
        keep(&db, &[copy(1), source, copy(2)]).await;
        let asked = |at| EntitlementRow { set: set(), recipient_id: recipient.id, share_id: share.id, asked_at: at };
        let mut tx = db.begin().await.unwrap();
        tx.touch_entitlement(&asked(now())).await.unwrap();
        tx.touch_entitlement(&asked(days(1))).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.sum_copy_bytes(None).await.unwrap(), 111, "one that is made, one that is being made");
        assert_eq!(db.sum_copy_bytes(Some(recipient.id)).await.unwrap(), 111);
        assert_eq!(db.sum_copy_bytes(Some(Uuid::nil())).await.unwrap(), 0);
        let of = |view_version| db.list_entitlements(set().view_id, view_version);
        assert_eq!(of(set().view_version).await.unwrap(), [asked(days(1))]);
        assert_eq!(of(1).await.unwrap(), []);
        assert_eq!(db.list_active_entitlements(days(1), 9).await.unwrap(), [asked(days(1))]);
        assert_eq!(db.list_active_entitlements(days(2), 9).await.unwrap(), []);
    }
}

#[tokio::test]
async fn the_version_that_is_served_only_grows() {
    for db in TestDatabase::each().await {
        assert_eq!(db.find_serving(set()).await.unwrap(), None);
        let mut tx = db.begin().await.unwrap();
        let epoch = tx.advance_serving(set(), "one", 5, now()).await.unwrap();
        assert_eq!(tx.advance_serving(set(), "one", 4, now()).await.unwrap(), epoch);
        tx.commit().await.unwrap();
        let serving =
            |delta_id: &str, table_version, epoch| Serving { delta_id: delta_id.into(), table_version, epoch };
        assert_eq!(db.find_serving(set()).await.unwrap(), Some(serving("one", 5, epoch)));
        // A table that was replaced begins anew.
        let mut tx = db.begin().await.unwrap();
        tx.advance_serving(set(), "two", 0, now()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.find_serving(set()).await.unwrap(), Some(serving("two", 0, epoch)));
        let mut tx = db.begin().await.unwrap();
        tx.forget_serving(set()).await.unwrap();
        assert_ne!(tx.advance_serving(set(), "two", 0, now()).await.unwrap(), epoch, "what was remembered is void");
    }
}

#[tokio::test]
async fn files_stay_in_the_group_that_they_were_first_in() {
    for db in TestDatabase::each().await {
        let (scope, group, other) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let file = |number, group_id| MixedFile { file: Uuid::from_u128(number), group_id, grouped_as_of: 5 };
        let mut tx = db.begin().await.unwrap();
        tx.insert_mixed_files(scope, &[file(10, group), file(11, group)]).await.unwrap();
        tx.insert_mixed_files(scope, &[file(11, other), file(12, other)]).await.unwrap();
        tx.commit().await.unwrap();
        let asked = [10, 11, 12, 13].map(Uuid::from_u128);
        let mut found = db.find_mixed_files(scope, &asked).await.unwrap();
        found.sort_by_key(|file| file.file);
        assert_eq!(found, [file(10, group), file(11, group), file(12, other)]);
        assert_eq!(db.find_mixed_files(other, &asked).await.unwrap(), []);
        assert_eq!(db.list_mixed_files(scope, asked[0], 1).await.unwrap(), [asked[1]]);
        let mut tx = db.begin().await.unwrap();
        tx.delete_mixed_files(scope, &asked[..2]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.list_mixed_files(scope, Uuid::nil(), 9).await.unwrap(), [asked[2]]);
    }
}
