//! Runs one look at a time, and shares it among the callers that were waiting when it began.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::task::JoinError;
use tracing::Instrument;

type Ticket<T> = Shared<BoxFuture<'static, Result<T, Arc<JoinError>>>>;

/// Coalesces looks at a changing value, and never answers from a look that began before the call.
///
/// A caller that arrives during a look may know of a change that the look missed, so it waits for the next look
/// together with all other callers that arrive meanwhile. At any time, at most one look runs and one waits.
#[derive(Debug)]
pub(super) struct SingleFlight<T> {
    waiting: Mutex<Option<Ticket<T>>>,
    turn: tokio::sync::Mutex<()>,
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new(None), turn: tokio::sync::Mutex::new(()) }
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Answers from a look that begins after this call. The look runs as its own task, so it completes for the other
    /// callers even if this caller goes away. Fails only if the look panics or the runtime shuts down.
    pub(super) async fn pass<F>(self: &Arc<Self>, look: F) -> Result<T, Arc<JoinError>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let ticket = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.get_or_insert_with(|| self.clone().start(look)).clone()
        };
        ticket.await
    }

    fn start<F>(self: Arc<Self>, look: F) -> Ticket<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let task = tokio::spawn(
            async move {
                let _turn = self.turn.lock().await;
                self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
                look.await
            }
            .in_current_span(),
        );
        task.map(|outcome| outcome.map_err(Arc::new)).boxed().shared()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn callers_who_arrive_together_share_one_look() {
        let single_flight = Arc::new(SingleFlight::default());
        let looks = Arc::new(AtomicUsize::new(0));
        let callers = (0..50).map(|_| {
            let looks = looks.clone();
            single_flight.pass(async move { looks.fetch_add(1, Ordering::SeqCst) })
        });
        futures::future::join_all(callers).await;
        assert_eq!(looks.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_caller_never_gets_an_answer_older_than_its_question() {
        let single_flight = Arc::new(SingleFlight::default());
        let value = Arc::new(AtomicUsize::new(1));
        let (began, has_begun) = tokio::sync::oneshot::channel();
        let (go_on, may_go_on) = tokio::sync::oneshot::channel::<()>();
        let slow = {
            let (single_flight, value) = (single_flight.clone(), value.clone());
            tokio::spawn(async move {
                let look = async move {
                    let seen = value.load(Ordering::SeqCst);
                    began.send(()).unwrap();
                    may_go_on.await.unwrap();
                    seen
                };
                single_flight.pass(look).await.unwrap()
            })
        };
        has_begun.await.unwrap();
        value.store(2, Ordering::SeqCst);
        let mut late = {
            let value = value.clone();
            Box::pin(single_flight.pass(async move { value.load(Ordering::SeqCst) }))
        };
        assert!((&mut late).now_or_never().is_none());
        go_on.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), 1);
        assert_eq!(late.await.unwrap(), 2);
    }
}
