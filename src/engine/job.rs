//! Runs one job on a thread that may block, and defines how it waits, how it stops, and how a panic in it is reported.

use std::{future::Future, sync::Arc};

use tokio::{runtime::Handle, select, sync::Semaphore, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::EngineError;

/// The context of a job. Decoding and encoding keep a core busy, so jobs never run on the threads that answer requests.
#[derive(Clone, Debug)]
pub(super) struct Job {
    runtime: Handle,
    stopped: CancellationToken,
    /// The memory that the job may use, in bytes.
    pub(super) memory: usize,
}

impl Job {
    /// Runs `work` once one of `permits` is free. If the caller goes away, the work ends soon: when it next waits, or
    /// after its current batch of rows.
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
            // Decoders panic on some malformed files.
            Err(error) if error.is_panic() => Err(EngineError::corrupt("it cannot be decoded")),
            Err(_) => Err(EngineError::Stopped),
        }
    }

    /// Waits for `work`; fails if the job is stopped because its caller is gone.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, EngineError> {
        self.runtime.block_on(async {
            select! {
                biased;
                () = self.stopped.cancelled() => Err(EngineError::Stopped),
                outcome = work => Ok(outcome),
            }
        })
    }

    /// Waits for work that must be completed even if the caller is gone.
    pub(super) fn finish<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Fails if the job is stopped because its caller is gone.
    pub(super) fn go_on(&self) -> Result<(), EngineError> {
        if self.stopped.is_cancelled() { Err(EngineError::Stopped) } else { Ok(()) }
    }

    /// Returns the runtime on which to spawn tasks.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}
