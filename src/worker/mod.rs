//! Background tasks: they take no input, can be repeated, and are due again some time after they ended. Their work is
//! in the service; their schedule is here, by the service's clock.
//!
//! Never here: a rule of the product, or work that a request waits for.

mod failure;

use std::{error::Error, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt, future::BoxFuture};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{access::limits::span, core::job::JobKind},
    service::{
        Services,
        core::{
            clock::Clock,
            context::OperatorContext,
            error::ServiceError,
            vitals::{Vitals, attempt},
        },
    },
};

/// How often the sealer checks whether a checkpoint is due; well within the shortest configurable period.
const SEALING: Duration = Duration::from_secs(1);
/// How often summary events are written and unused tokens revoked. Summaries cover whole minutes, so one is written at
/// most this long after its minute.
const TIDYING: Duration = Duration::from_secs(10);
/// How often objects are searched for that servers of an earlier release have made.
const CATCHING_UP: Duration = Duration::from_secs(10);
/// How often the schemas of tables are checked for changes, including tables that nobody reads.
const WATCHING: Duration = Duration::from_secs(60);
/// How often copies that nobody may read, or nobody does read, are searched for.
const KEEPING: Duration = Duration::from_secs(10);
/// How often recipients that have ended and still have surrogates are searched for.
const FORGETTING: Duration = Duration::from_secs(60);
/// How often groups of mixed files that can no longer be served are searched for.
const GROUPING: Duration = Duration::from_secs(3_600);
/// How often the register of copies is compared with their store.
const COMPARING: Duration = Duration::from_secs(86_400);
/// How often new events are counted; usage lags behind the trail by no more than this.
const COUNTING: Duration = Duration::from_secs(2);
/// How often personal data that is old enough to be erased is searched for.
const ERASING: Duration = Duration::from_secs(600);

/// How often tokens, grants and agreements that end soon are searched for.
const ENDINGS: Duration = Duration::from_secs(300);
/// How often bursts of refusals and late checkpoints are searched for.
const ALERTING: Duration = Duration::from_secs(30);
/// How often the reports of past months are checked.
const REPORTING: Duration = Duration::from_secs(60);
/// How often the database is pinged for the metrics, with or without requests.
const LOOKING: Duration = Duration::from_secs(5);
/// How often the country file is checked for having changed.
const LOCATING: Duration = Duration::from_secs(5);
/// How often it is looked for jobs that are due.
const WORKING: Duration = Duration::from_secs(2);
/// How often it is looked for messages that are due.
const SENDING: Duration = Duration::from_secs(1);

/// How often the clock is checked for having been ahead.
const TIMING: Duration = Duration::from_secs(5);

/// The longest sleep of a task before it checks the clock again, which may have been moved.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// The shortest sleep of a task.
const SHORTEST_SLEEP: Duration = Duration::from_millis(10);

/// How long a stopping server waits for the last events. If the database does not answer, it stops without them.
const LAST_EVENTS: Duration = Duration::from_secs(3);
/// How long a stopping server waits for its last checkpoint and its export; otherwise the next server makes them.
const LAST_SEAL: Duration = Duration::from_secs(5);
/// How long a stopping server waits for its claims to be released, which otherwise expire by themselves.
const LAST_CLAIMS: Duration = Duration::from_secs(1);

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// One background task.
struct Task {
    name: &'static str,
    period: TimeDelta,
    run: Box<dyn Fn(Services) -> BoxFuture<'static, Outcome> + Send + Sync>,
    /// Locked while the task runs, so that it never runs twice at once.
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// When the task is due again; `None` means at once.
    due: Option<DateTime<Utc>>,
    has_failed: bool,
    has_panicked: bool,
}

impl Progress {
    /// Runs `work`, and schedules the task's next run. A task that ends abnormally is started again at once, and until
    /// then the server is not ready. If that happens twice in a row, the task waits for its period, and the server is
    /// ready without it.
    async fn run(
        &mut self,
        name: &'static str,
        period: TimeDelta,
        Surroundings { vitals, clock }: Surroundings<'_>,
        work: impl Future<Output = Outcome>,
    ) -> Outcome {
        let outcome = match self.has_panicked {
            true => attempt(name, work).await,
            false => vitals.watch(name, work).await,
        };
        let is_again = outcome.is_none() && !self.has_panicked;
        self.has_panicked = outcome.is_none();
        self.due = (!is_again).then(|| clock.now() + period);
        outcome.unwrap_or_else(|| Err("it ended abnormally".into()))
    }
}

/// The parts of the server that a task's run needs.
#[derive(Clone, Copy)]
struct Surroundings<'a> {
    vitals: &'a Vitals,
    clock: &'a Clock,
}

impl Task {
    fn new<F, E>(name: &'static str, period: Duration, run: impl Fn(Services) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let run = move |service| run(service).map(|outcome| outcome.map_err(Into::into)).boxed();
        Self { name, period: span(period.as_secs()), run: Box::new(run), progress: Mutex::default() }
    }

    /// Runs the task if it is due, and returns the outcome.
    async fn run_due(&self, service: &Services) -> Option<Outcome> {
        let mut progress = self.progress.lock().await;
        let now = service.core.clock.now();
        // A due time further away than the period was set by a clock that was ahead.
        if progress.due.is_some_and(|due| now < due && due <= now + self.period) {
            return None;
        }
        let lag = progress.due.map_or_else(TimeDelta::zero, |due| now - due);
        let surroundings = Surroundings { vitals: &service.core.vitals, clock: &service.core.clock };
        let outcome = progress.run(self.name, self.period, surroundings, (self.run)(service.clone())).await;
        let failure = outcome.as_ref().err().map(|error| match progress.has_panicked {
            true => failure::PANIC,
            false => failure::class(&**error),
        });
        service.core.metrics.task_ran(self.name, lag, service.core.clock.now().timestamp(), failure);
        if let Err(error) = &outcome {
            // An outage is logged once, not every second.
            if !progress.has_failed {
                report(self.name, &**error);
            }
        }
        progress.has_failed = outcome.is_err();
        Some(outcome)
    }

    async fn repeat(&self, service: &Services) {
        loop {
            self.run_due(service).await;
            let due = self.progress.lock().await.due;
            let left = due.and_then(|due| (due - service.core.clock.now()).to_std().ok()).unwrap_or_default();
            sleep(left.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)).await;
        }
    }
}

/// A task that was due and ran.
#[derive(Debug)]
pub struct Ran {
    /// Its name.
    pub name: &'static str,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// The tasks of one server, not running by themselves. Clones share them.
#[derive(Clone)]
pub struct Tasks {
    service: Services,
    all: Arc<[Task]>,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all.iter().map(|task| task.name)).finish()
    }
}

impl Tasks {
    /// Makes all tasks of `service`, each due at once.
    pub fn of(service: &Services) -> Self {
        let refreshing = Duration::from_secs(service.materializer.settings().refresh_seconds);
        let mut all = vec![
            Task::new("clock", TIMING, |service| async move { service.core.watch_clock().await }),
            Task::new("database", LOOKING, |service| async move { service.core.watch_database().await }),
            Task::new("tidying", TIDYING, |service| async move { tidy(&service).await }),
            Task::new("erasure", ERASING, |service| async move { service.audit.sealer.erase_due().await.map(drop) }),
            Task::new("usage", COUNTING, |service| async move { service.insight.count_usage().await }),
            Task::new("schemas", WATCHING, |service| async move { service.catalog.watch_schemas().await }),
            Task::new(
                "requirements",
                CATCHING_UP,
                |service| async move { service.catalog.catch_up_requirements().await },
            ),
            Task::new("copies", KEEPING, |service| async move { service.materializer.keep_copies().await }),
            Task::new("surrogates", FORGETTING, |service| async move { service.materializer.keep_surrogates().await }),
            Task::new("groups", GROUPING, |service| async move { service.materializer.forget_groups().await }),
            Task::new("refresh", refreshing, |service| async move { service.materializer.refresh_copies().await }),
            Task::new("reconcile", COMPARING, |service| async move { compare(&service).await }),
            Task::new("checkpoints", SEALING, |service| async move { service.audit.sealer.seal_due().await }),
            Task::new("reports", REPORTING, |service| async move { service.insight.tend_reports().await }),
            Task::new("endings", ENDINGS, |service| async move { tell(&service).await }),
            Task::new("alerts", ALERTING, |service| async move { alert(&service).await }),
        ];
        if service.core.countries.is_some() {
            all.push(Task::new("countries", LOCATING, |service: Services| async move {
                service.core.watch_countries().await
            }));
        }
        // One for each kind of job and for each webhook, so that none waits for another.
        for kind in JobKind::ALL {
            all.push(Task::new("jobs", WORKING, move |service: Services| async move { work(&service, kind).await }));
        }
        for webhook in service.core.signals.webhooks() {
            let webhook: Arc<str> = webhook.into();
            all.push(Task::new("notifications", SENDING, move |service: Services| {
                let webhook = Arc::clone(&webhook);
                async move { service.insight.deliver_due(&webhook).await }
            }));
        }
        service.core.metrics.expect_tasks(all.iter().map(|task| task.name));
        Self { service: service.clone(), all: all.into() }
    }

    /// Runs all due tasks, one after another, and returns those that ran; for callers that drive the clock, after each
    /// step.
    pub async fn run_due(&self) -> Vec<Ran> {
        let mut ran = Vec::new();
        for task in self.all.iter() {
            if let Some(outcome) = task.run_due(&self.service).await {
                ran.push(Ran { name: task.name, failure: outcome.err().map(|error| error.to_string()) });
            }
        }
        ran
    }
}

/// The tasks of one server, running.
#[derive(Debug)]
pub struct Worker {
    service: Services,
    stop: CancellationToken,
    running: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Starts every task.
    pub fn start(tasks: &Tasks) -> Self {
        let (service, stop) = (tasks.service.clone(), CancellationToken::new());
        let run = |at: usize| {
            let (tasks, stop) = (tasks.clone(), stop.clone());
            tokio::spawn(async move {
                if let Some(task) = tasks.all.get(at) {
                    stop.run_until_cancelled(task.repeat(&tasks.service)).await;
                }
            })
        };
        let running = (0..tasks.all.len()).map(run).collect();
        Self { service, stop, running }
    }

    /// Stops the tasks (all of them can be repeated), writes the remaining events, seals the trail, and releases the
    /// server's claims. Each step takes at most a few seconds, even if the database or a store does not answer.
    pub async fn finish(self) {
        self.stop.cancel();
        for task in self.running {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task ended badly");
            }
        }
        self.service.sharing.record_summaries(true);
        if timeout(LAST_EVENTS, self.service.core.audit_writer.finish()).await.is_err() {
            tracing::error!("the database does not answer: the last events are not recorded, and nothing is sealed");
            return;
        }
        match timeout(LAST_SEAL, self.service.audit.sealer.seal()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => report("checkpoints", &error),
            Err(_) => tracing::warn!("the last checkpoint was not exported in time; the next start makes up for it"),
        }
        match timeout(LAST_CLAIMS, self.service.core.release_claims()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => report("claims", &error),
            Err(_) => tracing::warn!("what this server holds was not given back in time; others wait until it ends"),
        }
    }
}

/// Tidies up with time: writes summary events, erases old hourly usage and notifications, forgets expired URLs, and
/// revokes unused tokens.
async fn tidy(service: &Services) -> Result<(), ServiceError> {
    service.sharing.record_summaries(false);
    service.insight.erase_usage_hours().await?;
    service.insight.tidy_notifications().await?;
    service.sharing.forget_ended_urls().await?;
    service.access.forget_hook_events().await?;
    let revoked = service.access.revoke_unused_tokens().await?;
    if revoked > 0 {
        tracing::info!(revoked, "revoked tokens that were fetched by a link and never used");
    }
    Ok(())
}

/// Does the jobs of a kind that are due, and counts those that are left.
async fn work(service: &Services, kind: JobKind) -> Result<(), ServiceError> {
    let done = service.jobs.run_jobs(kind).await;
    service.jobs.count_jobs().await?;
    done
}

/// Tells what ends with time: access that ends soon, and owners who cannot answer any more.
async fn tell(service: &Services) -> Result<(), ServiceError> {
    service.insight.tell_endings().await?;
    service.catalog.tell_ownerless().await
}

/// Tells what goes wrong on its own.
async fn alert(service: &Services) -> Result<(), ServiceError> {
    service.insight.tell_denials().await?;
    service.insight.watch_checkpoints().await
}

/// Compares the register of copies with their store, if there is one.
async fn compare(service: &Services) -> Result<(), ServiceError> {
    if !service.materializer.has_root() {
        return Ok(());
    }
    let ctx = OperatorContext::system("weir", service.core.clock.now());
    service.materializer.reconcile_copies(&ctx).await.map(drop)
}

fn report(task: &str, error: &(dyn Error + 'static)) {
    tracing::error!(task, error, "a background task failed; it is tried again");
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn panics() -> Outcome {
        panic!("a test")
    }

    #[tokio::test]
    async fn what_panics_again_and_again_waits_its_time_and_leaves_the_server_ready() {
        let (vitals, mut progress) = (Vitals::default(), Progress::default());
        let clock = Clock::new(|| DateTime::UNIX_EPOCH);
        let (period, later) = (TimeDelta::seconds(60), Some(DateTime::UNIX_EPOCH + TimeDelta::seconds(60)));
        let surroundings = Surroundings { vitals: &vitals, clock: &clock };
        for round in 0..3 {
            {
                let mut run = std::pin::pin!(progress.run("a task", period, surroundings, panics()));
                let is_waiting = futures::poll!(&mut run).is_pending();
                // The first time it is waited for the task to be started again, and only then.
                assert_eq!(
                    (is_waiting, vitals.ended()),
                    (round == 0, Some("a task").filter(|_| round == 0)),
                    "{round}"
                );
                if is_waiting {
                    run.await.unwrap_err();
                }
            }
            assert_eq!((progress.due, vitals.ended()), (later.filter(|_| round > 0), None), "{round}");
        }
        progress.run("a task", period, surroundings, async { Ok(()) }).await.unwrap();
        assert_eq!((progress.due, progress.has_panicked), (later, false));
    }
}
