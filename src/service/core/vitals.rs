//! Watches the tasks that must run as long as the server: a task that ended abnormally is started again, and until then
//! the server is not ready.
//!
//! Never here: the work of a task.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use tokio::time::sleep;

/// The pause before an ended task is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// The tasks that have ended and were not started again yet. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Vitals(Arc<Mutex<BTreeMap<&'static str, usize>>>);

/// A task that has ended, until it runs again.
#[derive(Debug)]
struct Ended {
    vitals: Vitals,
    name: &'static str,
}

impl Vitals {
    /// Returns the name of a task that should run but does not.
    pub fn ended(&self) -> Option<&'static str> {
        self.lock().keys().next().copied()
    }

    /// Runs `work` to its end. If it panics, logs that and returns [`None`] after a pause in which the server is not
    /// ready; the caller starts it again.
    pub async fn watch<T>(&self, name: &'static str, work: impl Future<Output = T>) -> Option<T> {
        if let Some(outcome) = attempt(name, work).await {
            return Some(outcome);
        }
        let ended = self.begin_end(name);
        sleep(PAUSE).await;
        drop(ended);
        None
    }

    fn begin_end(&self, name: &'static str) -> Ended {
        *self.lock().entry(name).or_default() += 1;
        Ended { vitals: self.clone(), name }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work` to its end. If it panics, logs that and returns [`None`].
pub async fn attempt<T>(name: &'static str, work: impl Future<Output = T>) -> Option<T> {
    let outcome = AssertUnwindSafe(work).catch_unwind().await.ok();
    if outcome.is_none() {
        tracing::error!(task = name, "a task of the server ended abnormally and is started again; please report this");
    }
    outcome
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut ended = self.vitals.lock();
        if let Some(times) = ended.get_mut(self.name) {
            *times = times.saturating_sub(1);
            if *times == 0 {
                ended.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_is_told_and_started_again() {
        let vitals = Vitals::default();
        assert_eq!(vitals.watch("writer", async { 7 }).await, Some(7));
        let (watching, panicking) = (vitals.clone(), async { panic!("a test") });
        let watched = tokio::spawn(async move { watching.watch::<()>("writer", panicking).await });
        while vitals.ended().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!((vitals.ended(), watched.await.unwrap(), vitals.ended()), (Some("writer"), None, None));
    }
}
