//! What servers claim for a while: leases, jobs, and files that they make. Whoever died, or had a clock that was ahead, keeps
//! nobody.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;
use weir::{
    domain::{
        core::job::{JobKind, JobState},
        materialize::copy::{Copy, CopyKind, CopyState, RulesId, UnitId},
    },
    store::{CopyFilter, Db, Job, JobFilter, StoreError, is_held},
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
        queue(&db, "1", now()).await;
        take(&db, killed, now()).await.unwrap();
        db.end_claims_of_the_dead().await.unwrap();
        // On PostgreSQL it may be alive.
        let is_alone = db.locks_at_begin();
        assert_eq!((is_left(&db, now()).await, claim(&db, next, now()).await), (!is_alone, is_alone));
        assert_eq!(lease(&db, next, now()).await, is_alone);
        assert_eq!(take(&db, next, now()).await.map(|job| job.attempts), is_alone.then_some(2));
    }
}

const KIND: JobKind = JobKind::Report;

async fn queue(db: &Db, key: &str, at: DateTime<Utc>) {
    let mut tx = db.begin().await.unwrap();
    tx.enqueue_job(KIND, key, at).await.unwrap();
    tx.commit().await.unwrap();
}

async fn take(db: &Db, holder: Uuid, at: DateTime<Utc>) -> Option<Job> {
    let mut tx = db.begin().await.unwrap();
    let job = tx.claim_job(KIND, None, holder, at).await.unwrap();
    tx.commit().await.unwrap();
    job
}

async fn goes_on(db: &Db, job: &Job, holder: Uuid, at: DateTime<Utc>) -> bool {
    let mut tx = db.begin().await.unwrap();
    let held = tx.hold_job(job, holder, at).await;
    tx.commit().await.unwrap();
    assert!(matches!(held, Ok(()) | Err(StoreError::Stale)), "{held:?}");
    held.is_ok()
}

async fn fail(db: &Db, job: &Job, holder: Uuid, again_at: Option<DateTime<Utc>>) {
    let mut tx = db.begin().await.unwrap();
    tx.fail_job(job, holder, "a test", now(), again_at).await.unwrap();
    tx.commit().await.unwrap();
}

/// The only job that there is.
async fn only(db: &Db) -> Job {
    let mut jobs = db.list_jobs(JobFilter::default(), None, 10).await.unwrap();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs.remove(0)
}

#[tokio::test]
async fn clocks_that_differ_as_they_may_leave_claims_alone_and_what_is_dead_ends_within_a_minute() {
    for skew in [-9, 0, 9] {
        for db in TestDatabase::each().await {
            let (maker, other) = servers();
            let of_maker = |seconds| now() + TimeDelta::seconds(seconds + skew);
            queue(&db, "1", of_maker(0)).await;
            assert!(claim(&db, maker, of_maker(0)).await && lease(&db, maker, of_maker(0)).await);
            let job = take(&db, maker, of_maker(0)).await.unwrap();
            for seconds in [2, 4, 6] {
                // Just before the claim is renewed.
                let at = now() + TimeDelta::seconds(seconds);
                assert!(is_left(&db, at).await && !claim(&db, other, at).await, "{skew} {seconds}");
                assert!(!lease(&db, other, at).await && take(&db, other, at).await.is_none(), "{skew} {seconds}");
                assert!(!db.has_free_job(KIND, at).await.unwrap(), "{skew} {seconds}");
                assert!(goes_on(&db, &job, maker, of_maker(seconds)).await);
                let mut tx = db.begin().await.unwrap();
                tx.keep_server_alive(maker, of_maker(seconds)).await.unwrap();
                tx.commit().await.unwrap();
            }
            // The maker is killed.
            let at = now() + TimeDelta::seconds(59);
            assert!(!is_left(&db, at).await && claim(&db, other, at).await, "{skew}");
            assert!(lease(&db, other, at).await, "{skew}");
            assert!(db.has_free_job(KIND, at).await.unwrap(), "{skew}");
            assert_eq!(take(&db, other, at).await.unwrap().attempts, 2, "{skew}");
            assert!(!goes_on(&db, &job, maker, at).await, "it is another's");
            let mut tx = db.begin().await.unwrap();
            assert!(matches!(tx.complete_job(&job, maker).await, Err(StoreError::Stale)));
            let failed = tx.fail_job(&job, maker, "late", at, None).await;
            assert!(matches!(failed, Err(StoreError::Stale)), "{failed:?}");
        }
    }
}

#[tokio::test]
async fn a_job_is_given_back_at_a_stop_and_that_attempt_does_not_count() {
    for db in TestDatabase::each().await {
        let (stopping, other) = servers();
        queue(&db, "1", now()).await;
        let job = take(&db, stopping, now()).await.unwrap();
        assert!(take(&db, other, now()).await.is_none());
        let mut tx = db.begin().await.unwrap();
        tx.release_server(stopping).await.unwrap();
        tx.commit().await.unwrap();
        // What still runs of it ends by itself.
        assert!(!goes_on(&db, &job, stopping, now()).await);
        let job = take(&db, other, now()).await.unwrap();
        assert_eq!(job.attempts, 1);
        assert!(!goes_on(&db, &job, stopping, now()).await && goes_on(&db, &job, other, now()).await);
        let mut tx = db.begin().await.unwrap();
        tx.complete_job(&job, other).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.count_jobs().await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_job_that_failed_rests_and_one_that_was_given_up_is_left_until_it_is_queued_anew() {
    for db in TestDatabase::each().await {
        let (server, later) = (Uuid::now_v7(), now() + TimeDelta::seconds(10));
        queue(&db, "1", now()).await;
        let job = take(&db, server, now()).await.unwrap();
        fail(&db, &job, server, Some(later)).await;
        // Queued again it is the same job, which rests.
        queue(&db, "1", now()).await;
        let resting = only(&db).await;
        assert_eq!(resting.state, JobState::Due);
        assert_eq!((resting.due_at, resting.failure.as_deref()), (later, Some("a test")));
        assert!(take(&db, server, later - TimeDelta::seconds(1)).await.is_none());
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.claim_job(KIND, Some("1"), server, now()).await.unwrap(), None, "asked for by its key, too");
        assert_eq!(tx.claim_job(KIND, Some("2"), server, later).await.unwrap(), None);
        let asked_for = tx.claim_job(KIND, Some("1"), server, later).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        assert_eq!((asked_for.attempts, asked_for.id), (2, job.id));
        fail(&db, &asked_for, server, None).await;
        assert_eq!(db.count_jobs().await.unwrap(), [("report".to_owned(), "dead".to_owned(), 1)]);
        let far = now() + TimeDelta::days(30);
        assert!(take(&db, server, far).await.is_none() && !db.has_free_job(KIND, far).await.unwrap());
        queue(&db, "1", far).await;
        let again = take(&db, server, far).await.unwrap();
        assert_eq!((again.id, again.attempts, again.ended_at), (job.id, 1, None));
    }
}

#[tokio::test]
async fn a_job_of_a_clock_that_was_ahead_waits_for_nobody() {
    for db in TestDatabase::each().await {
        let (ahead, right) = servers();
        queue(&db, "1", now() + TimeDelta::days(3)).await;
        assert!(take(&db, ahead, now() + TimeDelta::days(3)).await.is_some());
        assert!(take(&db, right, now()).await.is_some());
    }
}

#[tokio::test]
async fn servers_that_take_jobs_at_once_take_each_of_them_once() {
    for db in TestDatabase::each().await {
        for key in 0..20 {
            queue(&db, &key.to_string(), now()).await;
        }
        let work = async |holder: Uuid| {
            let mut taken = Vec::new();
            while db.has_free_job(KIND, now()).await.unwrap() {
                taken.extend(take(&db, holder, now()).await.map(|job| job.key));
            }
            taken
        };
        let (one, other) = servers();
        let (mine, theirs) = tokio::join!(work(one), work(other));
        let mut all = [mine, theirs].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 20, "{all:?}");
        let jobs = db.list_jobs(JobFilter { state: Some(JobState::Running), ..JobFilter::default() }, None, 50).await;
        assert!(jobs.unwrap().iter().all(|job| job.attempts == 1));
    }
}
