//! Runs slow work on its own threads, a few at a time, so that it does not delay other requests. The work is given up
//! when its caller is gone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

/// The limit on concurrent slow work: one task for every two cores. Clones share it.
#[derive(Clone, Debug)]
pub struct Judges(Arc<Semaphore>);

impl Default for Judges {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(cores.div_ceil(2))))
    }
}

/// Tells whether the work is given up because its caller is gone.
#[derive(Clone, Debug, Default)]
pub struct GivenUp(Arc<AtomicBool>);

impl GivenUp {
    /// Returns whether the work is given up.
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Gives the work up when dropped, together with the waiting caller.
struct Waiting(GivenUp);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Judges {
    /// Runs `work` when its turn comes. `work` should check now and then whether it is given up.
    pub async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&GivenUp) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // The semaphore is never closed.
        let turn = Arc::clone(&self.0).acquire_owned().await.ok();
        let given_up = GivenUp::default();
        let _waiting = Waiting(given_up.clone());
        spawn_blocking(move || {
            // Held until the work ends, which is a little after it is given up.
            let _turn = turn;
            work(&given_up)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_ends_with_the_request_that_wants_it() {
        let judges = Judges::default();
        let (began, begins) = tokio::sync::oneshot::channel();
        let (ended, ends) = mpsc::channel();
        let work = judges.apart(move |given_up| {
            began.send(()).unwrap();
            while !given_up.is_so() {
                std::thread::yield_now();
            }
            ended.send(()).unwrap();
        });
        {
            let mut work = std::pin::pin!(work);
            tokio::select! {
                _ = &mut work => unreachable!("it goes on until it is given up"),
                begun = begins => begun.unwrap(),
            }
        }
        tokio::task::spawn_blocking(move || ends.recv().unwrap()).await.unwrap();
        assert!(!judges.apart(|given_up| given_up.is_so()).await.unwrap());
    }
}
