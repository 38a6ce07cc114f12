//! Ends the connections and answers of clients that stop reading.
//!
//! Lives here: the body that is watched while it streams, and the connection with a time limit on writes. Never here:
//! the contents of a stream, or the check of its access.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes};
use axum_server::accept::Accept;
use futures::{FutureExt, future::BoxFuture, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Mutex,
    time::{Instant, MissedTickBehavior, Sleep, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use crate::service::core::error::ServiceError;

/// How often an answer that the client does not read is checked, so that a revocation ends it soon.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The source of a streamed body.
pub(super) trait Source: Send + 'static {
    /// Returns the next bytes; `None` after the last.
    fn next(&mut self) -> impl Future<Output = Option<io::Result<Bytes>>> + Send;

    /// Checks whether the answer may continue; called while the client reads nothing.
    fn look_again(&mut self) -> impl Future<Output = Result<(), ServiceError>> + Send;
}

/// A source with the time of the last read; the source is `None` once the answer has ended.
struct Watched<S> {
    source: Option<S>,
    idle_since: Instant,
}

/// Returns a body that streams `source`. It ends, and drops the source, when the client reads nothing for `patience`,
/// or when the source may not continue meanwhile; a later read finds the body cut short.
pub(super) fn watched<S: Source>(source: S, patience: Duration) -> Body {
    watched_every(source, patience, LOOK_EVERY)
}

fn watched_every<S: Source>(source: S, patience: Duration, every: Duration) -> Body {
    let watched = Arc::new(Mutex::new(Watched { source: Some(source), idle_since: Instant::now() }));
    let watcher = AbortOnDropHandle::new(tokio::spawn(watch(Arc::downgrade(&watched), patience, every)));
    let stream = stream::unfold(Some((watched, watcher)), |streaming| async {
        let (watched, watcher) = streaming?;
        let mut held = watched.lock().await;
        let Some(source) = held.source.as_mut() else {
            return Some((Err(io::Error::other("the answer was ended while nobody took it")), None));
        };
        let next = source.next().await;
        held.idle_since = Instant::now();
        if next.as_ref().is_none_or(Result::is_err) {
            held.source = None;
        }
        drop(held);
        Some((next?, Some((watched, watcher))))
    });
    // Compression polls a body beyond its end, on which an unfolded stream panics.
    Body::from_stream(futures::StreamExt::fuse(stream))
}

async fn watch<S: Source>(watched: Weak<Mutex<Watched<S>>>, patience: Duration, every: Duration) {
    let mut looks = interval(every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate.
    looks.tick().await;
    loop {
        looks.tick().await;
        let Some(watched) = watched.upgrade() else { return };
        // While the client reads, the source checks its access by itself.
        let Ok(mut held) = watched.try_lock() else { continue };
        let idle = held.idle_since.elapsed();
        let Some(source) = held.source.as_mut() else { return };
        if idle >= patience {
            tracing::info!(seconds = idle.as_secs(), "an answer was ended: its client took nothing of it");
        } else if let Err(error) = source.look_again().await {
            tracing::info!(error = %error, "an answer was ended that its client took nothing of");
        } else {
            continue;
        }
        held.source = None;
        return;
    }
}

/// Accepts connections that end when a write makes no progress for `patience`.
#[derive(Clone, Debug)]
pub(super) struct Impatient<A> {
    inner: A,
    patience: Duration,
}

impl<A> Impatient<A> {
    pub(super) fn new(inner: A, patience: Duration) -> Self {
        Self { inner, patience }
    }
}

impl<I, S, A> Accept<I, S> for Impatient<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
{
    type Stream = Progressing<A::Stream>;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let (accepting, patience) = (self.inner.accept(stream, service), self.patience);
        accepting
            .map(move |accepted| accepted.map(|(inner, service)| (Progressing { inner, patience, end: None }, service)))
            .boxed()
    }
}

/// A connection whose writes fail when they make no progress.
#[derive(Debug)]
pub(super) struct Progressing<S> {
    inner: S,
    patience: Duration,
    /// The deadline of the waiting write.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Progressing<S> {
    /// Passes on the result of a write, and fails a write that has waited too long.
    fn bound<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.end = None;
            return written;
        }
        let end = self.end.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        ready!(end.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing of what it is sent")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Progressing<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Progressing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.inner).poll_write(cx, buf);
        self.bound(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bound(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = pin!(&mut self.inner).poll_flush(cx);
        self.bound(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = pin!(&mut self.inner).poll_shutdown(cx);
        self.bound(cx, ended)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::{
        io::{AsyncWriteExt, duplex},
        sync::oneshot,
    };

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const NEVER: Duration = Duration::from_secs(3600);

    /// Streams endlessly while `may` is true, and signals when it is dropped.
    struct Endless {
        may: bool,
        _held: oneshot::Sender<()>,
    }

    impl Source for Endless {
        async fn next(&mut self) -> Option<io::Result<Bytes>> {
            Some(Ok(Bytes::from_static(b"more")))
        }

        async fn look_again(&mut self) -> Result<(), ServiceError> {
            match self.may {
                true => Ok(()),
                false => Err(ServiceError::Expired("over".to_owned())),
            }
        }
    }

    fn endless(may: bool) -> (Endless, oneshot::Receiver<()>) {
        let (held, given_up) = oneshot::channel();
        (Endless { may, _held: held }, given_up)
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_ends_and_is_cut_short() {
        let (source, given_up) = endless(true);
        let mut body = watched_every(source, SOON, SOON).into_data_stream();
        assert!(body.next().await.unwrap().is_ok());
        assert!(given_up.await.is_err(), "nothing is held for it");
        assert!(body.next().await.unwrap().is_err(), "half of it is not taken for the whole");
        assert!(body.next().await.is_none());
    }

    #[tokio::test]
    async fn an_answer_that_may_not_go_on_ends_though_nobody_takes_it() {
        let (source, given_up) = endless(false);
        let mut body = watched_every(source, NEVER, SOON).into_data_stream();
        assert!(given_up.await.is_err());
        assert!(body.next().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_gives_up_what_it_holds_at_once() {
        let (source, mut given_up) = endless(true);
        drop(watched(source, NEVER));
        assert_eq!(given_up.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[tokio::test]
    async fn a_write_that_makes_no_progress_fails() {
        let (inner, _peer) = duplex(4);
        let mut stream = Progressing { inner, patience: SOON, end: None };
        stream.write_all(b"four").await.unwrap();
        let error = stream.write_all(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
