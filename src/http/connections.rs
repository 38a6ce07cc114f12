//! The connections of a listener: counted and bounded; when all places are taken, unneeded ones are closed for new
//! ones.
//!
//! A connection is idle while none of its requests is being answered: it has sent no request or only part of one, or is
//! kept alive for the next. Of the idle ones, the address with the most connections loses the one that has been idle
//! longest; after them come connections whose clients do not read their answers. Never here: what a request may do.

use std::{
    cmp::Reverse,
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::connect_info::{ConnectInfo, IntoMakeServiceWithConnectInfo},
    middleware::AddExtension,
    response::Response,
};
use axum_server::accept::Accept;
use futures::{FutureExt, future::BoxFuture, task::AtomicWaker};
use http_body::{Frame, SizeHint};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tower::Service;

use crate::telemetry::{InFlight, Metrics};

/// The most connections, regardless of the limit on open files.
const MOST: usize = 8_192;
/// Fewer connections than this cause a warning: each partner's client holds several.
pub const FEW_CONNECTIONS: usize = 1_000;
/// Files that the server needs besides connections and the database: logs, tables, copies, and those of its libraries.
const OTHER_FILES: usize = 128;
/// Files for each connection: its socket, and a file or a connection to an object store while it is answered.
const FILES_A_CONNECTION: usize = 2;
/// When a listener is full, one connection in this many is closed at a time, so that the search costs each new
/// connection little.
const CLOSED_AT_ONCE: usize = 64;
/// How long a connection counts as needed after an answer, in milliseconds: its last bytes may still be on their way.
const LEFT_ALONE: u64 = 1_000;
/// How long a client may read nothing of an answer before its connection counts as unneeded, in milliseconds.
const NOT_TAKEN: u64 = 2_000;
/// How often a full listener searches again for connections to close.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often the log says that the listener is full.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Returns how many connections the server can hold besides its other files and `database` connections to its database.
/// Raises the limit on open files to the system's maximum.
pub fn most_connections(database: usize) -> usize {
    let limit = raise_open_files();
    let room = limit.saturating_sub(OTHER_FILES + database) / FILES_A_CONNECTION;
    let most = room.clamp(1, MOST);
    if most < FEW_CONNECTIONS {
        tracing::warn!(
            open_files = limit,
            connections = most,
            "the system lets this server open few files, so that it holds few connections; raise the limit (ulimit -n, or \
             LimitNOFILE of its service)"
        );
    }
    most
}

/// Raises the limit on open files to the system's maximum, and returns it.
fn raise_open_files() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    // `None` means no limit.
    let limit = if raised { maximum } else { current };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Makes one service per connection, and bounds the number of connections.
pub struct Connections {
    services: IntoMakeServiceWithConnectInfo<Router, SocketAddr>,
    register: Register,
    /// When to search again, while the listener is full.
    again: Option<Pin<Box<Sleep>>>,
}

impl Connections {
    /// Allows up to `most` connections to `router`, and counts them in `metrics`.
    pub fn new(router: Router, most: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            services: router.into_make_service_with_connect_info(),
            register: Register::new(most.max(1), metrics),
            again: None,
        }
    }
}

type ConnectionService = AddExtension<Router, ConnectInfo<SocketAddr>>;

impl Service<SocketAddr> for Connections {
    type Response = Connection;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Connection, Infallible>>;

    /// Makes the accept loop wait until there is room; further connections wait in the kernel's backlog.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        while self.register.poll_room(cx.waker()).is_pending() {
            let again = self.again.get_or_insert_with(|| Box::pin(sleep(LOOK_AGAIN)));
            if again.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.again = None;
        }
        self.again = None;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, peer: SocketAddr) -> Self::Future {
        let entry = Arc::new(self.register.enter(peer.ip().to_canonical()));
        let service = Service::<SocketAddr>::call(&mut self.services, peer);
        async move { Ok(Connection { service: service.await?, entry }) }.boxed()
    }
}

/// All open connections of a listener. Clones share one register.
#[derive(Clone, Debug)]
struct Register(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    /// The origin of the connections' times.
    began: Instant,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<u64, (IpAddr, Arc<Link>)>,
    next: u64,
    /// How many were told to close but are still open.
    closing: usize,
    waiting: Option<Waker>,
    told: Option<Instant>,
}

/// The shared state of one connection.
#[derive(Debug, Default)]
struct Link {
    /// How many of its requests are running, until their answers have been sent.
    running: AtomicUsize,
    /// How many of these have no answer yet.
    unanswered: AtomicUsize,
    has_answered: AtomicBool,
    /// When the connection was opened or an answer last made progress, in milliseconds.
    moved_at: AtomicU64,
    is_closed: AtomicBool,
    reader: AtomicWaker,
}

/// A connection's entry in the register, for as long as it lives.
#[derive(Debug)]
struct Entry {
    register: Register,
    number: u64,
    link: Arc<Link>,
    _counted: InFlight,
}

impl Register {
    fn new(most: usize, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Shared { most, began: Instant::now(), metrics, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns whether there is room for another connection. If not, closes unneeded ones and wakes `waiting` when one
    /// has gone.
    fn poll_room(&self, waiting: &Waker) -> Poll<()> {
        let mut state = self.state();
        if state.open.len() < self.0.most {
            state.waiting = None;
            return Poll::Ready(());
        }
        state.waiting = Some(waiting.clone());
        if state.closing == 0 {
            state.closing = state.close_idle(self.0.most.div_ceil(CLOSED_AT_ONCE), self.now());
            self.0.metrics.connections_closed(state.closing);
        }
        if state.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            state.told = Some(Instant::now());
            tracing::warn!(
                connections = self.0.most,
                closed = state.closing,
                "there are as many connections as there is room for; idle ones are closed for new ones"
            );
        }
        Poll::Pending
    }

    fn enter(&self, peer: IpAddr) -> Entry {
        let link = Arc::new(Link { moved_at: self.now().into(), ..Link::default() });
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.open.insert(number, (peer, Arc::clone(&link)));
        Entry { register: self.clone(), number, link, _counted: self.0.metrics.connection_opened() }
    }
}

impl State {
    /// Closes at most `most` unneeded connections and returns how many: idle ones before those whose answers are not
    /// read, then those of the addresses with the most connections, then those without progress for the longest time.
    fn close_idle(&mut self, most: usize, now: u64) -> usize {
        let mut of_address = HashMap::<IpAddr, usize>::new();
        for (peer, _) in self.open.values() {
            *of_address.entry(*peer).or_default() += 1;
        }
        let unneeded = self.open.values().filter(|(_, link)| link.is_unneeded(now));
        let mut unneeded: Vec<_> = unneeded
            .map(|(peer, link)| {
                let is_busy = link.running.load(Ordering::SeqCst) > 0;
                let count = of_address.get(peer).copied().unwrap_or_default();
                ((is_busy, Reverse(count), link.moved_at.load(Ordering::SeqCst)), link)
            })
            .collect();
        unneeded.sort_unstable_by_key(|(rank, _)| *rank);
        unneeded.iter().take(most).map(|(_, link)| link.close()).count()
    }
}

impl Link {
    fn is_unneeded(&self, now: u64) -> bool {
        let rested = now.saturating_sub(self.moved_at.load(Ordering::SeqCst));
        match (self.unanswered.load(Ordering::SeqCst), self.running.load(Ordering::SeqCst)) {
            (0, 0) => !self.has_answered.load(Ordering::SeqCst) || rested >= LEFT_ALONE,
            (0, _) => rested >= NOT_TAKEN,
            _ => false,
        }
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.reader.wake();
    }

    /// Fails if the connection was told to close; wakes `cx` when that happens.
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.reader.register(cx.waker());
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed for another connection"));
        }
        Ok(())
    }
}

impl Entry {
    fn begin_request(self: &Arc<Self>) -> Running {
        self.link.running.fetch_add(1, Ordering::SeqCst);
        self.link.unanswered.fetch_add(1, Ordering::SeqCst);
        Running { entry: Arc::clone(self), is_answered: false }
    }

    fn moves(&self) {
        self.link.moved_at.store(self.register.now(), Ordering::SeqCst);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.register.state();
        state.open.remove(&self.number);
        if self.link.is_closed.load(Ordering::SeqCst) {
            state.closing = state.closing.saturating_sub(1);
        }
        if let Some(waiting) = state.waiting.take() {
            waiting.wake();
        }
    }
}

/// A running request, until its answer has been sent.
struct Running {
    entry: Arc<Entry>,
    is_answered: bool,
}

impl Running {
    /// Notes that its answer is being sent.
    fn is_answered(&mut self) {
        self.entry.moves();
        if !std::mem::replace(&mut self.is_answered, true) {
            self.entry.link.unanswered.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.is_answered();
        self.entry.link.has_answered.store(true, Ordering::SeqCst);
        self.entry.link.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The service of one connection. It holds its entry until the connection and all its requests are done.
#[derive(Clone)]
pub struct Connection {
    service: ConnectionService,
    entry: Arc<Entry>,
}

impl<R> Service<R> for Connection
where
    ConnectionService: Service<R, Response = Response, Error = Infallible>,
    <ConnectionService as Service<R>>::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<R>::poll_ready(&mut self.service, cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let mut running = self.entry.begin_request();
        let answer = self.service.call(request);
        async move {
            let answer = answer.await?;
            running.is_answered();
            Ok(answer.map(|body| Body::new(Leaving { body, running })))
        }
        .boxed()
    }
}

/// The body of an answer that is being sent.
struct Leaving {
    body: Body,
    running: Running,
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.running.entry.moves();
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Makes every connection close when it is told to, and send without delay (`TCP_NODELAY`).
#[derive(Clone, Copy, Debug)]
pub struct Closable;

impl Accept<TcpStream, Connection> for Closable {
    type Stream = ClosableStream;
    type Service = Connection;
    type Future = Ready<io::Result<(ClosableStream, Connection)>>;

    fn accept(&self, stream: TcpStream, connection: Connection) -> Self::Future {
        let entry = Arc::clone(&connection.entry);
        ready(stream.set_nodelay(true).map(|()| (ClosableStream { stream, entry }, connection)))
    }
}

/// A connection's bytes. Reads and writes fail once the connection is told to close.
#[derive(Debug)]
pub struct ClosableStream {
    stream: TcpStream,
    entry: Arc<Entry>,
}

impl AsyncRead for ClosableStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.entry.link.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClosableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.entry.link.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.entry.link.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.entry.link.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;
    use tower::ServiceExt;

    use super::*;

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new([]))
    }

    #[tokio::test]
    async fn connection_beyond_the_limit_waits_for_one_to_end() {
        let peer = SocketAddr::from((NEAR, 1));
        let mut connections = Connections::new(Router::new(), 1, metrics());
        let first = connections.ready().await.unwrap().call(peer).await.unwrap();
        let request_under_way = first.entry.begin_request();
        drop(first);
        let mut ready = std::pin::pin!(connections.ready());
        assert!(poll!(&mut ready).is_pending());
        drop(request_under_way);
        assert!(poll!(&mut ready).is_ready());
    }

    #[test]
    fn of_idle_connections_the_address_with_the_most_loses_the_oldest() {
        let register = Register::new(4, metrics());
        let waker = Waker::noop();
        let lonely = register.enter(FAR);
        let mut crowd: Vec<Arc<Entry>> = (0..3).map(|_| Arc::new(register.enter(NEAR))).collect();
        crowd[1].link.moved_at.store(0, Ordering::SeqCst);
        crowd[0].link.moved_at.store(0, Ordering::SeqCst);
        crowd[2].link.moved_at.store(1, Ordering::SeqCst);
        let busy = crowd[1].begin_request();
        let closed = |entry: &Entry| entry.link.is_closed.load(Ordering::SeqCst);
        assert!(register.poll_room(waker).is_pending());
        assert_eq!([&*crowd[0], &crowd[1], &crowd[2], &lonely].map(closed), [true, false, false, false]);
        assert!(register.poll_room(waker).is_pending(), "one is closing already");
        let counted = register.0.metrics.encode().unwrap();
        assert!(
            counted.contains("weir_connections 4") && counted.contains("weir_connections_closed_total 1"),
            "{counted}"
        );
        assert!(!closed(&crowd[2]));
        crowd.remove(0);
        assert!(register.poll_room(waker).is_ready());
        drop(busy);
        assert!(!crowd[0].link.is_unneeded(register.now()), "its answer may still be on its way");
        assert!(crowd[0].link.is_unneeded(register.now() + LEFT_ALONE));
    }

    #[test]
    fn a_connection_whose_answers_nobody_takes_is_not_needed() {
        let register = Register::new(1, metrics());
        let entry = Arc::new(register.enter(NEAR));
        let mut request = entry.begin_request();
        let later = register.now() + 2 * NOT_TAKEN;
        assert!(!entry.link.is_unneeded(later), "it waits for the server");
        request.is_answered();
        assert!(!entry.link.is_unneeded(register.now() + NOT_TAKEN - 1_000));
        assert!(entry.link.is_unneeded(later), "the server waits for it");
        let next = entry.begin_request();
        assert!(!entry.link.is_unneeded(later), "another of its requests is worked on");
        drop((request, next));
        assert_eq!(entry.link.running.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_room_is_what_open_files_leave() {
        let most = most_connections(16);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum, "the limit is raised");
        let limit = current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
        assert!((1..=MOST).contains(&most) && most * FILES_A_CONNECTION < limit);
    }
}
