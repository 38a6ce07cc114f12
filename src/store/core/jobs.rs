//! Stores jobs: what is to be done, which server holds it and until when, and what was given up.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::core::{
        job::{JobKind, JobState},
        word::{AsWritten, Words},
    },
    store::{
        CLOCKS_APART, LONGEST_REST, Result, StoreError, Tx,
        core::value::{Micros, time},
        on_tx, one_row, reads, writes,
    },
};

/// How long a server holds a job that it does not renew.
pub const JOB_LEASE: TimeDelta = TimeDelta::seconds(30);

/// A job as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its identity.
    pub id: Uuid,
    /// What it does: the word of a [`JobKind`], or one of a newer server.
    pub kind: String,
    /// What it is about; there is one job for each kind and key.
    pub key: String,
    /// How far it is.
    pub state: AsWritten<JobState>,
    /// How often it was begun since it was queued.
    pub attempts: i64,
    /// When it was queued first.
    pub created_at: DateTime<Utc>,
    /// When it is to be done.
    pub due_at: DateTime<Utc>,
    /// Until when it is left to the server that is at it.
    pub held_until: Option<DateTime<Utc>>,
    /// When it was given up.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why it failed last.
    pub failure: Option<String>,
}

/// Which jobs are listed; what is `None` does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct JobFilter {
    /// Only those of this kind.
    pub kind: Option<JobKind>,
    /// Only those in this state.
    pub state: Option<JobState>,
}

#[derive(FromRow)]
struct JobRow {
    id: Uuid,
    kind: String,
    key: String,
    state: String,
    attempts: i64,
    created_at: Micros,
    due_at: Micros,
    held_until: Option<Micros>,
    ended_at: Option<Micros>,
    failure: Option<String>,
}

impl TryFrom<JobRow> for Job {
    type Error = StoreError;

    fn try_from(row: JobRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            kind: row.kind,
            key: row.key,
            state: AsWritten::new(&row.state),
            attempts: row.attempts,
            created_at: row.created_at.0,
            due_at: row.due_at.0,
            held_until: time(row.held_until),
            ended_at: time(row.ended_at),
            failure: row.failure,
        })
    }
}

/// The condition for a job that may be taken: due at `$1`, or held by nobody any more. `$2` and `$3` are the ends of the
/// longest pause and of a lease that begin then; a later end was written by a clock that was ahead.
macro_rules! is_free {
    () => {
        "((state = 'due' AND (due_at <= $1 OR due_at > $2)) \
          OR (state = 'running' AND (held_until <= $1 OR held_until > $3)))"
    };
}

macro_rules! job_columns {
    () => {
        "id, kind, key, state, attempts, created_at, due_at, held_until, ended_at, failure"
    };
}

reads! {
    /// The job with this id.
    pub async fn find_job(self, db, id: Uuid) -> Result<Option<Job>> {
        let sql = concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1");
        let row: Option<JobRow> = sqlx::query_as(sql).bind(id).fetch_optional(db).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// The job of this kind and key.
    pub async fn find_job_of(self, db, kind: JobKind, key: &str) -> Result<Option<Job>> {
        let sql = concat!("SELECT ", job_columns!(), " FROM jobs WHERE kind = $1 AND key = $2");
        let row: Option<JobRow> = sqlx::query_as(sql).bind(kind.as_str()).bind(key).fetch_optional(db).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Jobs in the order of their ids from behind `after`.
    pub async fn list_jobs(self, db, filter: JobFilter, after: Option<Uuid>, limit: u32) -> Result<Vec<Job>> {
        let mut query = QueryBuilder::new(concat!("SELECT ", job_columns!(), " FROM jobs WHERE id > "));
        query.push_bind(after.unwrap_or(Uuid::nil()));
        if let Some(kind) = filter.kind {
            query.push(" AND kind = ").push_bind(kind.as_str());
        }
        if let Some(state) = filter.state {
            query.push(" AND state = ").push_bind(state.as_str());
        }
        query.push(" ORDER BY id LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<JobRow> = query.build_query_as().fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Whether a job of this kind may be taken at `now`.
    pub async fn has_free_job(self, db, kind: JobKind, now: DateTime<Utc>) -> Result<bool> {
        let sql = concat!("SELECT EXISTS (SELECT 1 FROM jobs WHERE kind = $4 AND ", is_free!(), ")");
        let query = sqlx::query_scalar(sql)
            .bind(Micros::from(now))
            .bind(Micros::from(now + LONGEST_REST))
            .bind(Micros::from(now + JOB_LEASE + CLOCKS_APART))
            .bind(kind.as_str());
        Ok(query.fetch_one(db).await?)
    }

    /// How many jobs of each kind are in each state.
    pub async fn count_jobs(self, db) -> Result<Vec<(String, String, i64)>> {
        Ok(sqlx::query_as("SELECT kind, state, count(*) FROM jobs GROUP BY kind, state").fetch_all(db).await?)
    }
}

impl Tx {
    /// Queues a job, due at `now`, unless there is one of its kind and key; a dead one becomes due again.
    pub async fn enqueue_job(&mut self, kind: JobKind, key: &str, now: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "INSERT INTO jobs (id, kind, key, state, attempts, created_at, due_at) \
            VALUES ($1, $2, $3, 'due', 0, $4, $4) ON CONFLICT (kind, key) DO UPDATE SET state = 'due', attempts = 0, \
            due_at = excluded.due_at, ended_at = NULL WHERE jobs.state = 'dead'";
        writes!(self, db => sqlx::query(SQL)
            .bind(Uuid::now_v7())
            .bind(kind.as_str())
            .bind(key)
            .bind(Micros::from(now))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Gives the server `holder` the job of `key`, or the one of the kind that has been due for longest, for [`JOB_LEASE`],
    /// and counts an attempt; none where nothing is free at `now`.
    pub async fn claim_job(
        &mut self,
        kind: JobKind,
        key: Option<&str>,
        holder: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Option<Job>> {
        // The condition stands twice: who waited for another's claim must not make it again. No key is empty.
        const SQL: &str = concat!(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1, holder = $4, held_until = $5 WHERE ",
            is_free!(),
            " AND id = (SELECT id FROM jobs WHERE kind = $6 AND ($7 = '' OR key = $7) AND ",
            is_free!(),
            " ORDER BY due_at, id LIMIT 1) RETURNING ",
            job_columns!()
        );
        let row: Option<JobRow> = on_tx!(self, db => sqlx::query_as(SQL)
            .bind(Micros::from(now))
            .bind(Micros::from(now + LONGEST_REST))
            .bind(Micros::from(now + JOB_LEASE + CLOCKS_APART))
            .bind(holder)
            .bind(Micros::from(now + JOB_LEASE))
            .bind(kind.as_str())
            .bind(key.unwrap_or_default())
            .fetch_optional(db)
            .await?);
        row.map(TryInto::try_into).transpose()
    }

    /// Renews a server's hold on a job by [`JOB_LEASE`]; [`StoreError::Stale`] where the server has lost it.
    pub async fn hold_job(&mut self, job: &Job, holder: Uuid, now: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "UPDATE jobs SET held_until = $4 \
            WHERE id = $1 AND holder = $2 AND attempts = $3 AND state = 'running'";
        let held = writes!(self, db => sqlx::query(SQL)
            .bind(job.id)
            .bind(holder)
            .bind(job.attempts)
            .bind(Micros::from(now + JOB_LEASE))
            .execute(db)
            .await?
            .rows_affected());
        one_row(held)
    }

    /// Deletes a job that is done, in the transaction that stores its result; [`StoreError::Stale`] where the server has
    /// lost it.
    pub async fn complete_job(&mut self, job: &Job, holder: Uuid) -> Result<()> {
        const SQL: &str = "DELETE FROM jobs WHERE id = $1 AND holder = $2 AND attempts = $3 AND state = 'running'";
        let done = writes!(self, db => sqlx::query(SQL)
            .bind(job.id)
            .bind(holder)
            .bind(job.attempts)
            .execute(db)
            .await?
            .rows_affected());
        one_row(done)
    }

    /// Postpones a job that failed until `again_at`, or gives it up at `now` where that is `None`; [`StoreError::Stale`]
    /// where the server has lost it.
    pub async fn fail_job(
        &mut self,
        job: &Job,
        holder: Uuid,
        failure: &str,
        now: DateTime<Utc>,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        const SQL: &str = "UPDATE jobs SET state = $4, due_at = $5, ended_at = $6, failure = $7, holder = NULL, \
            held_until = NULL WHERE id = $1 AND holder = $2 AND attempts = $3 AND state = 'running'";
        let state = if again_at.is_some() { JobState::Due } else { JobState::Dead };
        let failed = writes!(self, db => sqlx::query(SQL)
            .bind(job.id)
            .bind(holder)
            .bind(job.attempts)
            .bind(state.as_str())
            .bind(Micros::from(again_at.unwrap_or(job.due_at)))
            .bind(again_at.is_none().then(|| Micros::from(now)))
            .bind(failure)
            .execute(db)
            .await?
            .rows_affected());
        one_row(failed)
    }
}
