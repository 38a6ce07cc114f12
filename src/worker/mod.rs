//! Background tasks: without input, repeatable, on a timer. What they do is the service's; when, is decided here.
//!
//! Never here: a rule of the product, or anything that a request waits for.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::service::{notary::Notary, verification::AuditError};

/// How often it is looked whether a checkpoint is due; well within the shortest period that can be configured for it.
const SEALING: Duration = Duration::from_secs(1);
/// How often it is looked whether something personal is old enough to be erased.
const ERASING: Duration = Duration::from_secs(600);

/// The tasks of one server, running.
#[derive(Debug)]
pub struct Worker {
    notary: Notary,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Starts every task.
    pub fn start(notary: Notary) -> Self {
        let stop = CancellationToken::new();
        let (sealing, erasing) = (notary.clone(), notary.clone());
        let tasks = vec![
            tokio::spawn(repeat("checkpoints", SEALING, stop.clone(), async move || sealing.seal_due().await)),
            tokio::spawn(repeat("erasure", ERASING, stop.clone(), async move || erasing.erase_due().await.map(|_| ()))),
        ];
        Self { notary, stop, tasks }
    }

    /// Lets what is being done end, and seals what has happened since.
    pub async fn finish(self) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task ended badly");
            }
        }
        if let Err(error) = self.notary.seal().await {
            report("checkpoints", &error);
        }
    }
}

async fn repeat(
    name: &'static str,
    period: Duration,
    stop: CancellationToken,
    task: impl AsyncFn() -> Result<(), AuditError>,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        match task().await {
            Ok(()) => failed = false,
            // An outage is told once, not every second.
            Err(_) if failed => {}
            Err(error) => {
                report(name, &error);
                failed = true;
            }
        }
    }
}

fn report(task: &str, error: &AuditError) {
    tracing::error!(task, error = error as &dyn std::error::Error, "a background task failed; it is tried again");
}
