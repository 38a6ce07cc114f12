//! One piece of work on a thread that may block: how it waits, how it is stopped, and what a panic in it means.

use std::{future::Future, sync::Arc};

use tokio::{runtime::Handle, select, sync::Semaphore, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::EngineError;

/// What a piece of work knows of its surroundings. Decoding and encoding keep a processor busy, so that none of it runs
/// where requests are answered.
#[derive(Clone, Debug)]
pub(super) struct Job {
    runtime: Handle,
    stopped: CancellationToken,
    /// How much memory it may take, in bytes.
    pub(super) memory: usize,
}

impl Job {
    /// Runs `work` when one of `permits` is free. If the caller goes away, the work ends soon after: where it next
    /// waits, or after the batch of rows that it has before it.
    pub(super) async fn run<T: Send + 'static>(
        permits: Arc<Semaphore>,
        memory: usize,
        work: impl FnOnce(Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let permit = permits.acquire_owned().await.map_err(|_| EngineError::Stopped)?;
        let stopped = CancellationToken::new();
        let _stop = stopped.clone().drop_guard();
        let job = Self { runtime: Handle::current(), stopped, memory };
        let span = tracing::Span::current();
        let outcome = spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(|| work(job))
        });
        match outcome.await {
            Ok(outcome) => outcome,
            // Decoders take some malformed files for their own mistake.
            Err(error) if error.is_panic() => Err(EngineError::corrupt("it cannot be decoded")),
            Err(_) => Err(EngineError::Stopped),
        }
    }

    /// Waits for something; an error if nobody waits for this work any more.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, EngineError> {
        self.runtime.block_on(async {
            select! {
                biased;
                () = self.stopped.cancelled() => Err(EngineError::Stopped),
                outcome = work => Ok(outcome),
            }
        })
    }

    /// Waits for something that has to happen whoever waits for this work.
    pub(super) fn finish<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Whether anybody still waits for this work.
    pub(super) fn go_on(&self) -> Result<(), EngineError> {
        if self.stopped.is_cancelled() { Err(EngineError::Stopped) } else { Ok(()) }
    }

    /// Where tasks are started.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}
