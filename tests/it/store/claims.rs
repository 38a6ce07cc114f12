//! What servers claim for a while: leases, copies and reports. A server that died or had a fast clock holds up no
//! other.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;
use weir::{
    domain::{
        insight::report::Month,
        materialize::copy::{Copy, CopyKind, CopyState, RulesId, UnitId},
    },
    store::{CopyFilter, Db, ReportState, StoreError, StoredReport, is_held},
};

use crate::support::postgres::TestDatabase;

use super::samples::now;

const LEASE: TimeDelta = TimeDelta::seconds(45);

async fn lease(db: &Db, holder: Uuid, at: DateTime<Utc>) -> bool {
    let mut tx = db.begin().await.unwrap();
    let taken = tx.take_lease("a task", holder, at, at + LEASE).await.unwrap();
    tx.commit().await.unwrap();
    taken
}

fn copy(holder: Uuid, at: DateTime<Utc>) -> Copy {
    Copy {
        id: Uuid::now_v7(),
        unit: UnitId([1; 32]),
        kind: CopyKind::File,
        view_id: Uuid::from_u128(1),
        view_version: 1,
        rules: RulesId([2; 32]),
        source: "part-0.parquet".into(),
        object_key: "m/1".into(),
        state: CopyState::Making,
        bytes: 0,
        rows: 0,
        stats: None,
        created_at: at,
        needed_until: at,
        holder,
        held_until: at + TimeDelta::seconds(60),
        attempts: 1,
        failure: None,
        deleted_at: None,
    }
}

async fn claim(db: &Db, holder: Uuid, at: DateTime<Utc>) -> bool {
    let mut tx = db.begin().await.unwrap();
    tx.keep_server_alive(holder, at).await.unwrap();
    let claimed = tx.claim_copy(&copy(holder, at), at).await.unwrap();
    tx.commit().await.unwrap();
    claimed
}

/// Whether the copy still belongs to its maker.
async fn is_left(db: &Db, at: DateTime<Utc>) -> bool {
    let making = CopyFilter { state: Some(CopyState::Making), ..CopyFilter::default() };
    db.list_copies(&making, None, 10).await.unwrap().iter().any(|copy| is_held(copy, at))
}

fn servers() -> (Uuid, Uuid) {
    (Uuid::now_v7(), Uuid::now_v7())
}

#[tokio::test]
async fn a_lease_of_a_clock_that_was_ahead_keeps_nobody() {
    for db in TestDatabase::each().await {
        let (ahead, right) = servers();
        assert!(lease(&db, ahead, now() + TimeDelta::days(3)).await);
        assert!(lease(&db, right, now()).await);
        // Normal differences between clocks do no harm.
        assert!(!lease(&db, ahead, now() - TimeDelta::seconds(3)).await);
        assert!(!lease(&db, ahead, now() + TimeDelta::seconds(3)).await);
        // The worst case is a clock that was slightly ahead: the lease lasts a minute at most.
        assert!(lease(&db, right, now() + TimeDelta::seconds(9)).await);
        assert!(lease(&db, ahead, now() + TimeDelta::seconds(54)).await);
    }
}

#[tokio::test]
async fn a_lease_that_is_given_back_is_free_at_once() {
    for db in TestDatabase::each().await {
        let (stopping, other) = servers();
        assert!(lease(&db, stopping, now()).await && !lease(&db, other, now()).await);
        let mut tx = db.begin().await.unwrap();
        tx.release_server(stopping).await.unwrap();
        tx.commit().await.unwrap();
        assert!(lease(&db, other, now()).await);
    }
}

#[tokio::test]
async fn what_a_server_is_at_is_left_to_it_for_as_long_as_it_is_heard_of() {
    for db in TestDatabase::each().await {
        let (maker, other) = servers();
        assert!(claim(&db, maker, now()).await);
        for seconds in [2, 4, 6, 8, 10, 12] {
            let at = now() + TimeDelta::seconds(seconds);
            assert!(is_left(&db, at).await && !claim(&db, other, at).await, "after {seconds} seconds");
            let mut tx = db.begin().await.unwrap();
            tx.keep_server_alive(maker, at).await.unwrap();
            tx.commit().await.unwrap();
        }
        // The maker is killed.
        let at = now() + TimeDelta::seconds(29);
        assert!(!is_left(&db, at).await && claim(&db, other, at).await);
    }
}

#[tokio::test]
async fn what_a_clock_that_was_ahead_claimed_keeps_nobody() {
    for db in TestDatabase::each().await {
        let (ahead, right) = servers();
        assert!(claim(&db, ahead, now() + TimeDelta::days(3)).await);
        assert!(!is_left(&db, now()).await && claim(&db, right, now()).await);
    }
}

#[tokio::test]
async fn the_one_server_of_a_sqlite_file_ends_what_was_claimed_before_it_started() {
    for db in TestDatabase::each().await {
        let (killed, next) = servers();
        assert!(claim(&db, killed, now()).await && lease(&db, killed, now()).await);
        db.end_claims_of_the_dead(now()).await.unwrap();
        // On PostgreSQL the server may still be alive.
        let is_alone = db.locks_at_begin();
        assert_eq!((is_left(&db, now()).await, claim(&db, next, now()).await), (!is_alone, is_alone));
        assert_eq!(lease(&db, next, now()).await, is_alone);
    }
}

/// A report to be made, requested at this time.
async fn report(db: &Db, requested_at: DateTime<Utc>) -> Uuid {
    let report = StoredReport {
        id: Uuid::now_v7(),
        month: Month::parse("2026-08").unwrap(),
        recipient_id: None,
        recipient: None,
        state: ReportState::Making,
        requested_by: "ann".into(),
        requested_at,
        ready_at: None,
        failure: None,
        checkpoint_seq: None,
    };
    let mut tx = db.begin().await.unwrap();
    tx.insert_report(&report).await.unwrap();
    tx.commit().await.unwrap();
    report.id
}

async fn make(db: &Db, report: Uuid, holder: Uuid, at: DateTime<Utc>) -> bool {
    let mut tx = db.begin().await.unwrap();
    let is_claimed = tx.claim_report(report, holder, at).await.unwrap();
    tx.commit().await.unwrap();
    is_claimed
}

async fn goes_on(db: &Db, report: Uuid, holder: Uuid, at: DateTime<Utc>) -> bool {
    let mut tx = db.begin().await.unwrap();
    let held = tx.hold_report(report, holder, at).await;
    tx.commit().await.unwrap();
    assert!(matches!(held, Ok(()) | Err(StoreError::Stale)), "{held:?}");
    held.is_ok()
}

#[tokio::test]
async fn clocks_that_differ_as_they_may_leave_claims_alone_and_what_is_dead_ends_within_a_minute() {
    for skew in [-9, 0, 9] {
        for db in TestDatabase::each().await {
            let (maker, other) = servers();
            let of_maker = |seconds| now() + TimeDelta::seconds(seconds + skew);
            let report = report(&db, of_maker(0)).await;
            assert!(claim(&db, maker, of_maker(0)).await && lease(&db, maker, of_maker(0)).await);
            assert!(make(&db, report, maker, of_maker(0)).await);
            for seconds in [2, 4, 6] {
                // Just before the claim is renewed.
                let at = now() + TimeDelta::seconds(seconds);
                assert!(is_left(&db, at).await && !claim(&db, other, at).await, "{skew} {seconds}");
                assert!(!lease(&db, other, at).await && !make(&db, report, other, at).await, "{skew} {seconds}");
                assert!(goes_on(&db, report, maker, of_maker(seconds)).await);
                let mut tx = db.begin().await.unwrap();
                tx.keep_server_alive(maker, of_maker(seconds)).await.unwrap();
                tx.commit().await.unwrap();
            }
            // The maker is killed.
            let at = now() + TimeDelta::seconds(59);
            assert!(!is_left(&db, at).await && claim(&db, other, at).await, "{skew}");
            assert!(lease(&db, other, at).await, "{skew}");
            assert_eq!(db.list_unmade_reports(at, 1).await.unwrap(), [report], "{skew}");
            assert!(make(&db, report, other, at).await, "{skew}");
            assert!(!goes_on(&db, report, maker, at).await, "it is another's");
        }
    }
}

#[tokio::test]
async fn a_report_in_the_making_is_given_back_at_a_stop() {
    for db in TestDatabase::each().await {
        let (stopping, other) = servers();
        let report = report(&db, now()).await;
        assert!(make(&db, report, stopping, now()).await && !make(&db, report, other, now()).await);
        assert_eq!(db.list_unmade_reports(now(), 1).await.unwrap(), Vec::<Uuid>::new());
        let mut tx = db.begin().await.unwrap();
        tx.release_server(stopping).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.list_unmade_reports(now(), 1).await.unwrap(), [report]);
        // Its remaining work ends by itself.
        assert!(!goes_on(&db, report, stopping, now()).await && make(&db, report, other, now()).await);
        // A maker that cannot finish a report releases only that report.
        let mut tx = db.begin().await.unwrap();
        tx.release_report(report, stopping).await.unwrap();
        tx.release_report(report, other).await.unwrap();
        tx.commit().await.unwrap();
        assert!(make(&db, report, stopping, now()).await);
    }
}
