//! Work of many milliseconds, on threads of its own and a few at a time, so that no other request waits for it; given up
//! when nobody waits for it any more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

/// Those who do it: one for every two cores. Clones are one.
#[derive(Clone, Debug)]
pub struct Judges(Arc<Semaphore>);

impl Default for Judges {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(cores.div_ceil(2))))
    }
}

/// Whether nobody waits for the work any more.
#[derive(Clone, Debug, Default)]
pub struct GivenUp(Arc<AtomicBool>);

impl GivenUp {
    /// Whether it is so.
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Gives the work up when whoever waits is gone.
struct Waiting(GivenUp);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Judges {
    /// Does `work` when its turn has come; it looks now and then whether it is given up.
    pub async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&GivenUp) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // Nobody closes the semaphore.
        let turn = Arc::clone(&self.0).acquire_owned().await.ok();
        let given_up = GivenUp::default();
        let _waiting = Waiting(given_up.clone());
        spawn_blocking(move || {
            // Held to the end of the work, which goes on for a moment after it is given up.
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
