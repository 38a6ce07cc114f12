//! Background tasks: without input, repeatable, on a timer. What they do is the service's; when, is decided here.
//!
//! Never here: a rule of the product, or anything that a request waits for.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::service::{Service, context::OperatorContext, error::ServiceError};

/// How often it is looked whether a checkpoint is due; well within the shortest period that can be configured for it.
const SEALING: Duration = Duration::from_secs(1);
/// How often summed events and unused tokens are looked for. Sums are of whole minutes, so that one is written at most
/// this long after its end.
const TIDYING: Duration = Duration::from_secs(10);
/// How often it is looked whether a table's schema changed that nobody reads.
const WATCHING: Duration = Duration::from_secs(60);
/// How often copies are looked through for what nobody may read any more, or nobody does.
const KEEPING: Duration = Duration::from_secs(10);
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

/// How long a stopping server waits for its last checkpoint and its export; whoever comes next makes up for it.
const LAST_SEAL: Duration = Duration::from_secs(5);

/// The tasks of one server, running.
#[derive(Debug)]
pub struct Worker {
    service: Service,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Starts every task.
    pub fn start(service: Service) -> Self {
        let stop = CancellationToken::new();
        let (sealing, erasing) = (service.notary.clone(), service.notary.clone());
        let tidying = service.clone();
        let (watching, counting) = (service.clone(), service.clone());
        let (keeping, refreshing, comparing) = (service.clone(), service.clone(), service.clone());
        let refresh = Duration::from_secs(service.workshop.settings().refresh_seconds);
        let (ending, alerting) = (service.clone(), service.clone());
        let (reporting, looking) = (service.clone(), service.clone());
        let mut tasks = vec![
            tokio::spawn(repeat("checkpoints", SEALING, stop.clone(), async move || sealing.seal_due().await)),
            tokio::spawn(repeat("erasure", ERASING, stop.clone(), async move || erasing.erase_due().await.map(|_| ()))),
            tokio::spawn(repeat("tidying", TIDYING, stop.clone(), async move || tidy(&tidying).await)),
            tokio::spawn(repeat("usage", COUNTING, stop.clone(), async move || counting.count_usage().await)),
            tokio::spawn(repeat("schemas", WATCHING, stop.clone(), async move || watching.watch_schemas().await)),
            tokio::spawn(repeat("copies", KEEPING, stop.clone(), async move || keeping.keep_copies().await)),
            tokio::spawn(repeat("refresh", refresh, stop.clone(), async move || refreshing.refresh_copies().await)),
            tokio::spawn(repeat("reconcile", COMPARING, stop.clone(), async move || compare(&comparing).await)),
            tokio::spawn(repeat("endings", ENDINGS, stop.clone(), async move || ending.tell_endings().await)),
            tokio::spawn(repeat("alerts", ALERTING, stop.clone(), async move || alert(&alerting).await)),
            tokio::spawn(repeat("reports", REPORTING, stop.clone(), async move || reporting.tend_reports().await)),
            tokio::spawn(repeat("database", LOOKING, stop.clone(), async move || looking.check_database().await)),
        ];
        // One for each webhook, so that none waits for another.
        for webhook in service.signals.webhooks() {
            let (sending, webhook) = (service.clone(), webhook.to_owned());
            let send = async move || sending.deliver_due(&webhook).await;
            tasks.push(tokio::spawn(repeat("notifications", SENDING, stop.clone(), send)));
        }
        Self { service, stop, tasks }
    }

    /// Breaks off what is being done (all of it can be repeated), writes what is still to be told, and seals what has happened since.
    pub async fn finish(self) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task ended badly");
            }
        }
        self.service.record_summaries(true);
        self.service.trail.finish().await;
        match timeout(LAST_SEAL, self.service.notary.seal()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => report("checkpoints", &error),
            Err(_) => tracing::warn!("the last checkpoint was not exported in time; the next start makes up for it"),
        }
    }
}

/// What falls due with time and that no request needs: summed audit events, tokens that nobody used, old notifications.
async fn tidy(service: &Service) -> Result<(), ServiceError> {
    service.record_summaries(false);
    service.erase_usage_hours().await?;
    service.tidy_notifications().await?;
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
    if !service.workshop.has_root() {
        return Ok(());
    }
    let ctx = OperatorContext::system("weir", service.clock.now());
    service.reconcile_copies(&ctx).await.map(drop)
}

async fn repeat<E: std::error::Error + 'static>(
    name: &'static str,
    period: Duration,
    stop: CancellationToken,
    task: impl AsyncFn() -> Result<(), E>,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        match stop.run_until_cancelled(task()).await {
            None => return,
            Some(Ok(())) => failed = false,
            // An outage is told once, not every second.
            Some(Err(_)) if failed => {}
            Some(Err(error)) => {
                report(name, &error);
                failed = true;
            }
        }
    }
}

fn report(task: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::error!(task, error, "a background task failed; it is tried again");
}
