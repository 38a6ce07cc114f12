//! Background tasks: without input, repeatable, each due again some time after it ended. What they do is the service's;
//! when, is decided here, by the clock that the service was given.
//!
//! Never here: a rule of the product, or anything that a request waits for.

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
    domain::access::limits::span,
    service::{
        Service,
        core::{
            clock::Clock,
            context::OperatorContext,
            error::ServiceError,
            vitals::{Vitals, attempt},
        },
    },
};

/// How often it is looked whether a checkpoint is due; well within the shortest period that can be configured for it.
const SEALING: Duration = Duration::from_secs(1);
/// How often summed events and unused tokens are looked for. Sums are of whole minutes, so that one is written at most
/// this long after its end.
const TIDYING: Duration = Duration::from_secs(10);
/// How often it is looked whether a table's schema changed that nobody reads.
const WATCHING: Duration = Duration::from_secs(60);
/// How often copies are looked through for what nobody may read any more, or nobody does.
const KEEPING: Duration = Duration::from_secs(10);
/// How often it is looked for files that are mixed and that nobody can be served any more.
const GROUPING: Duration = Duration::from_secs(3_600);
/// How often the register of copies is compared with their store.
const COMPARING: Duration = Duration::from_secs(86_400);
/// How often new events are counted; what usage says is no older than this.
const COUNTING: Duration = Duration::from_secs(2);
/// How often it is looked whether something personal is old enough to be erased.
const ERASING: Duration = Duration::from_secs(600);

/// How often it is looked for ends that come near.
const ENDINGS: Duration = Duration::from_secs(300);
/// How often it is looked for bursts of refusals and late checkpoints.
const ALERTING: Duration = Duration::from_secs(30);
/// How often it is looked whether a month is over whose report is to be made.
const REPORTING: Duration = Duration::from_secs(60);
/// How often it is looked whether the database answers, for the metrics: whether or not anybody asks.
const LOOKING: Duration = Duration::from_secs(5);
/// How often it is looked for messages that are due.
const SENDING: Duration = Duration::from_secs(1);

/// How often it is looked whether the clock was ahead.
const TIMING: Duration = Duration::from_secs(5);

/// How long a task sleeps at most before it looks at the clock again, which may have been moved.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How long it sleeps at least.
const SHORTEST_SLEEP: Duration = Duration::from_millis(10);

/// How long a stopping server waits for the last events. With no answer from the database it ends without them.
const LAST_EVENTS: Duration = Duration::from_secs(3);
/// How long a stopping server waits for its last checkpoint and its export; whoever comes next makes up for it.
const LAST_SEAL: Duration = Duration::from_secs(5);
/// How long a stopping server waits until what it holds is given back, which ends by itself otherwise.
const LAST_CLAIMS: Duration = Duration::from_secs(1);

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// One background task.
struct Task {
    name: &'static str,
    period: TimeDelta,
    run: Box<dyn Fn(Service) -> BoxFuture<'static, Outcome> + Send + Sync>,
    /// Held while it runs, so that it never runs twice at once.
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// When it is to run again; at once where nothing is said.
    due: Option<DateTime<Utc>>,
    has_failed: bool,
    has_panicked: bool,
}

impl Progress {
    /// Runs `work`, and says when the task is to run again. What ended abnormally is started again at once, and until
    /// then the server is not ready; what does so twice waits as long as if it had done its work, and nothing waits for
    /// it: a server is ready without what cannot be done.
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

/// What a task runs by.
#[derive(Clone, Copy)]
struct Surroundings<'a> {
    vitals: &'a Vitals,
    clock: &'a Clock,
}

impl Task {
    fn new<F, E>(name: &'static str, period: Duration, run: impl Fn(Service) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let run = move |service| run(service).map(|outcome| outcome.map_err(Into::into)).boxed();
        Self { name, period: span(period.as_secs()), run: Box::new(run), progress: Mutex::default() }
    }

    /// Runs it if it is due, and answers how that went.
    async fn run_due(&self, service: &Service) -> Option<Outcome> {
        let mut progress = self.progress.lock().await;
        let now = service.clock.now();
        // What is due later than it could be was planned by a clock that was ahead.
        if progress.due.is_some_and(|due| now < due && due <= now + self.period) {
            return None;
        }
        let lag = progress.due.map_or_else(TimeDelta::zero, |due| now - due);
        let surroundings = Surroundings { vitals: &service.vitals, clock: &service.clock };
        let outcome = progress.run(self.name, self.period, surroundings, (self.run)(service.clone())).await;
        service.metrics.task_ran(self.name, lag, service.clock.now().timestamp(), outcome.is_err());
        if let Err(error) = &outcome {
            // An outage is told once, not every second.
            if !progress.has_failed {
                report(self.name, &**error);
            }
        }
        progress.has_failed = outcome.is_err();
        Some(outcome)
    }

    async fn repeat(&self, service: &Service) {
        loop {
            self.run_due(service).await;
            let due = self.progress.lock().await.due;
            let left = due.and_then(|due| (due - service.clock.now()).to_std().ok()).unwrap_or_default();
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

/// The tasks of one server, at rest. Clones are one.
#[derive(Clone)]
pub struct Tasks {
    service: Service,
    all: Arc<[Task]>,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all.iter().map(|task| task.name)).finish()
    }
}

impl Tasks {
    /// Every task of `service`, each due at once.
    pub fn of(service: &Service) -> Self {
        let refreshing = Duration::from_secs(service.materializer.settings().refresh_seconds);
        let mut all = vec![
            Task::new("clock", TIMING, |service| async move { service.watch_clock().await }),
            Task::new("database", LOOKING, |service| async move { service.watch_database().await }),
            Task::new("tidying", TIDYING, |service| async move { tidy(&service).await }),
            Task::new("erasure", ERASING, |service| async move { service.audit_sealer.erase_due().await.map(drop) }),
            Task::new("usage", COUNTING, |service| async move { service.count_usage().await }),
            Task::new("schemas", WATCHING, |service| async move { service.watch_schemas().await }),
            Task::new("copies", KEEPING, |service| async move { service.keep_copies().await }),
            Task::new("groups", GROUPING, |service| async move { service.forget_groups().await }),
            Task::new("refresh", refreshing, |service| async move { service.refresh_copies().await }),
            Task::new("reconcile", COMPARING, |service| async move { compare(&service).await }),
            Task::new("checkpoints", SEALING, |service| async move { service.audit_sealer.seal_due().await }),
            Task::new("reports", REPORTING, |service| async move { service.tend_reports().await }),
            Task::new("endings", ENDINGS, |service| async move { service.tell_endings().await }),
            Task::new("alerts", ALERTING, |service| async move { alert(&service).await }),
        ];
        // One for each webhook, so that none waits for another.
        for webhook in service.signals.webhooks() {
            let webhook: Arc<str> = webhook.into();
            all.push(Task::new("notifications", SENDING, move |service: Service| {
                let webhook = Arc::clone(&webhook);
                async move { service.deliver_due(&webhook).await }
            }));
        }
        service.metrics.expect_tasks(all.iter().map(|task| task.name));
        Self { service: service.clone(), all: all.into() }
    }

    /// Runs everything that is due now, one after the other, and answers what ran: what drives time calls it after each
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
    service: Service,
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

    /// Breaks off what is being done (all of it can be repeated), writes what is still to be told, seals what has happened
    /// since, and gives back what the server holds. Each for a few seconds at most, whoever does not answer.
    pub async fn finish(self) {
        self.stop.cancel();
        for task in self.running {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task ended badly");
            }
        }
        self.service.record_summaries(true);
        if timeout(LAST_EVENTS, self.service.audit_writer.finish()).await.is_err() {
            tracing::error!("the database does not answer: the last events are not recorded, and nothing is sealed");
            return;
        }
        match timeout(LAST_SEAL, self.service.audit_sealer.seal()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => report("checkpoints", &error),
            Err(_) => tracing::warn!("the last checkpoint was not exported in time; the next start makes up for it"),
        }
        match timeout(LAST_CLAIMS, self.service.release_claims()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => report("claims", &error),
            Err(_) => tracing::warn!("what this server holds was not given back in time; others wait until it ends"),
        }
    }
}

/// What falls due with time and that no request needs: summed audit events, tokens that nobody used, old notifications, URLs that have ended.
async fn tidy(service: &Service) -> Result<(), ServiceError> {
    service.record_summaries(false);
    service.erase_usage_hours().await?;
    service.tidy_notifications().await?;
    service.forget_ended_urls().await?;
    let revoked = service.revoke_unused_tokens().await?;
    if revoked > 0 {
        tracing::info!(revoked, "revoked tokens that were fetched by a link and never used");
    }
    Ok(())
}

/// Tells what goes wrong on its own.
async fn alert(service: &Service) -> Result<(), ServiceError> {
    service.tell_denials().await?;
    service.watch_checkpoints().await
}

/// Compares the register of copies with their store, where there is one.
async fn compare(service: &Service) -> Result<(), ServiceError> {
    if !service.materializer.has_root() {
        return Ok(());
    }
    let ctx = OperatorContext::system("weir", service.clock.now());
    service.reconcile_copies(&ctx).await.map(drop)
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
