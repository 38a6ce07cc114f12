//! Runs jobs: one server at a time holds one, failures are retried at growing intervals, and dead letters wait for an
//! operator.
//!
//! What a job does is up to its kind (`reports`, `columns`), which stores the result and completes the job in one transaction. Never
//! here: periodic tasks, which the worker has, or their turns, which `leases` takes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        audit::{
            Actor, Event, Object,
            action::{Action, Kind},
        },
        core::job::{JobKind, JobState, pause},
    },
    service::{
        audit::write,
        catalog::Catalog,
        core::{
            Core,
            context::OperatorContext,
            error::ServiceError,
            page::{Page, PageRequest},
        },
        insight::Insight,
    },
    store::{JOB_LEASE, Job, JobFilter, StoreError, Tx},
};

/// After how many attempts a job is given up: about half a day.
const MOST_ATTEMPTS: i64 = 12;
/// How often a server renews its hold on a job; the lease lasts several times as long.
const HELD_EVERY: Duration = Duration::from_secs(5);

/// The use cases about work that nobody waits for.
#[derive(Clone, Debug)]
pub struct Jobs {
    /// What every service works with.
    pub core: Core,
    /// Makes reports.
    pub insight: Insight,
    /// Scans tables.
    pub catalog: Catalog,
}

/// Why a job was not done.
pub(in crate::service) enum Undone {
    /// It cannot be done as things are.
    Failed(String),
    /// Another attempt may succeed.
    Later(ServiceError),
    /// Another server has it by now, or has done it.
    Taken,
}

impl<E: Into<ServiceError>> From<E> for Undone {
    fn from(error: E) -> Self {
        match error.into() {
            ServiceError::PreconditionFailed => Self::Taken,
            error => Self::Later(error),
        }
    }
}

fn object(job: &Job) -> Object {
    Object { kind: Kind::Job, id: Some(job.id), name: Some(job.key.clone()) }
}

fn not_found(id: Uuid) -> ServiceError {
    ServiceError::NotFound { kind: "job", name: id.to_string() }
}

impl Jobs {
    /// Does the due jobs of a kind, one after another. Returns the first failure that will be retried.
    pub async fn run_jobs(&self, kind: JobKind) -> Result<(), ServiceError> {
        let mut failure = None;
        // Asked before anything is taken: an idle server writes nothing.
        while self.core.db.has_free_job(kind, self.core.clock.now()).await? {
            let failed = self.run_job(kind, None).await?;
            failure = failure.or(failed);
        }
        failure.map_or(Ok(()), Err)
    }

    /// Counts jobs for the metrics.
    pub async fn count_jobs(&self) -> Result<(), ServiceError> {
        self.core.metrics.jobs_are(&self.core.db.count_jobs().await?);
        Ok(())
    }

    /// Does the due job of `key`, or any due one of the kind, unless another server holds it. Returns a failure that will be
    /// retried.
    pub(in crate::service) async fn run_job(
        &self,
        kind: JobKind,
        key: Option<&str>,
    ) -> Result<Option<ServiceError>, ServiceError> {
        let mut tx = self.core.db.begin().await?;
        let claimed = tx.claim_job(kind, key, self.core.leases.holder(), self.core.clock.now()).await?;
        tx.commit().await?;
        let Some(job) = claimed else { return Ok(None) };
        // A job that kills its server every time ends here.
        if job.attempts > MOST_ATTEMPTS {
            let why = job.failure.clone().unwrap_or_else(|| "whoever began it never ended it".to_owned());
            return self.give_up(kind, &job, &why).await.map(|()| None);
        }
        // Both go on at once: what is written may have the connection that the other waits for.
        let done = tokio::select! {
            done = self.do_job(kind, &job) => done,
            lost = self.hold_job(&job) => Err(lost),
        };
        match done {
            Ok(()) | Err(Undone::Taken) => Ok(None),
            Err(Undone::Later(error)) if job.attempts < MOST_ATTEMPTS => {
                let now = self.core.clock.now();
                let mut tx = self.core.db.begin().await?;
                let again_at = Some(now + pause(job.attempts));
                match tx.fail_job(&job, self.core.leases.holder(), &error.to_string(), now, again_at).await {
                    Ok(()) => tx.commit().await?,
                    Err(StoreError::Stale) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(Some(error))
            }
            Err(Undone::Later(error)) => self.give_up(kind, &job, &error.to_string()).await.map(|()| None),
            Err(Undone::Failed(why)) => self.give_up(kind, &job, &why).await.map(|()| None),
        }
    }

    async fn do_job(&self, kind: JobKind, job: &Job) -> Result<(), Undone> {
        match kind {
            JobKind::Report => self.insight.make_report(job).await,
            JobKind::Scan => self.catalog.scan_by_job(job).await,
        }
    }

    /// Renews the hold on a job again and again. Returns when the job is lost, at the end of the lease at the latest: from
    /// then on another server may begin it.
    async fn hold_job(&self, job: &Job) -> Undone {
        let mut held_until = job.held_until.unwrap_or(job.due_at);
        loop {
            tokio::time::sleep(HELD_EVERY).await;
            let now = self.core.clock.now();
            let held = async {
                let mut tx = self.core.db.begin().await?;
                tx.hold_job(job, self.core.leases.holder(), now).await?;
                tx.commit().await
            };
            let left = (held_until - now).to_std().unwrap_or_default();
            match tokio::time::timeout(left, held).await {
                Ok(Ok(())) => held_until = now + JOB_LEASE,
                // A busy or silent database: the lease holds on.
                Ok(Err(error)) if error.is_outage() && self.core.clock.now() < held_until => {}
                Ok(Err(error)) if !error.is_outage() => return error.into(),
                Ok(Err(_)) | Err(_) => return Undone::Taken,
            }
        }
    }

    /// Gives a job up and records that.
    async fn give_up(&self, kind: JobKind, job: &Job, why: &str) -> Result<(), ServiceError> {
        tracing::error!(job.kind, job.key, why, "a job is given up; `weir job retry` tries it again");
        let now = self.core.clock.now();
        let mut tx = self.core.db.begin().await?;
        tx.lock_audit_head().await?;
        match tx.fail_job(job, self.core.leases.holder(), why, now, None).await {
            Ok(()) => {}
            Err(StoreError::Stale) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        match kind {
            JobKind::Report => Insight::fail_report(&mut tx, job, why).await?,
            // Nothing waits for it: what was proposed before stays.
            JobKind::Scan => {}
        }
        let change = json!({"kind": job.kind, "attempts": job.attempts, "failure": why});
        let event = Event {
            object: Some(object(job)),
            change: Some(change),
            ..Event::new(Actor::system("jobs"), Action::JobDead)
        };
        write::append(&mut tx, event, now).await?;
        Ok(tx.commit().await?)
    }

    /// Lists jobs, the oldest first.
    pub async fn list_jobs(&self, filter: JobFilter, page: &PageRequest) -> Result<Page<Job>, ServiceError> {
        let opened = self.core.begin_page(page, format!("jobs {filter:?}"))?;
        let after = opened.after.as_deref().and_then(|after| Uuid::parse_str(after).ok());
        let found = self.core.db.list_jobs(filter, after, opened.limit).await?;
        Ok(self.core.end_page(opened, found, |job: &Job| job.id.to_string()))
    }

    /// Queues a dead job again, with its attempt count reset.
    pub async fn retry_job(&self, ctx: &OperatorContext, id: Uuid) -> Result<Job, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let dead = tx.find_job(id).await?.ok_or_else(|| not_found(id))?;
        if dead.state != JobState::Dead {
            let message = format!("job `{id}` is {}; only dead ones are tried again", dead.state.as_str());
            return Err(ServiceError::conflict(message));
        }
        let Some(kind) = JobKind::parse(&dead.kind) else {
            let message = "a newer server has queued this job, and only one of its version can do it; retry it there";
            return Err(ServiceError::conflict(message));
        };
        revive(tx, kind, &dead, ctx.now).await?;
        let change = json!({"kind": dead.kind, "failure": dead.failure});
        let event = Event { change: Some(change), ..ctx.event(Action::JobRetry, object(&dead)) };
        write::append(tx, event, ctx.now).await?;
        let queued = match ctx.is_dry() {
            true => Job { state: JobState::Due.into(), attempts: 0, due_at: ctx.now, ended_at: None, ..dead },
            false => tx.find_job(id).await?.ok_or_else(|| not_found(id))?,
        };
        unit.commit().await?;
        Ok(queued)
    }
}

/// Queues a dead job again, and resets what it is about.
async fn revive(tx: &mut Tx, kind: JobKind, dead: &Job, now: DateTime<Utc>) -> Result<(), ServiceError> {
    match kind {
        JobKind::Report => Insight::revive_report(tx, dead).await?,
        JobKind::Scan => {}
    }
    Ok(tx.enqueue_job(kind, &dead.key, now).await?)
}
