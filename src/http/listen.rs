//! Listeners: sockets, TLS, and a stop that lets running streams finish.
//!
//! Lives here: everything below the first byte of a request. Never here: routes, or limits that a response can explain;
//! those are middleware.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use axum_server::{
    Handle, Server,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use rustls::{
    CertificateError, RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::sleep,
};

pub use super::connections::{FEW_CONNECTIONS, most_connections};
use super::{
    connections::{Closable, Connections},
    stalls::Impatient,
};
use crate::{config::TlsFiles, telemetry::Metrics};

/// Time for the first request of a connection, up to the end of its headers; guards against slow-loris attacks.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the headers of a later request, including the idle time before it, which clients and proxies expect to be
/// longer.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// An HTTP/2 peer that answers no ping for this long is gone.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest head of an HTTP/1.1 request, in bytes: the memory that an unfinished request can hold.
const LONGEST_HEAD: usize = 64 * 1024;
/// `SIGXFSZ` on Linux.
#[cfg(target_os = "linux")]
const FILE_SIZE_EXCEEDED: i32 = 25;
/// How long cut connections may take to end.
const CUT_WITHIN: Duration = Duration::from_secs(1);
/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 32;
/// How far an HTTP/2 connection, and one of its streams, may send ahead of what the server has read, in bytes.
const CONNECTION_WINDOW: u32 = 512 * 1024;
const STREAM_WINDOW: u32 = 128 * 1024;
/// How often the certificate files are checked for changes.
const CERTIFICATES_LOOKED_AT_EVERY: Duration = Duration::from_secs(2);
/// How much of an HTTP/2 stream's answer is buffered until its client reads it, in bytes.
const STREAM_BUFFER: usize = 128 * 1024;

/// One address to listen on.
#[derive(Debug)]
pub struct Listener {
    /// The address; with port 0 the system chooses one, which [`Listeners::addresses`] returns.
    pub addr: SocketAddr,
    /// Answers the requests. Handlers find the peer in `ConnectInfo<SocketAddr>`.
    pub router: Router,
    /// The certificate and its key, where the listener speaks TLS.
    pub tls: Option<TlsFiles>,
    /// How many connections it holds; see [`most_connections`].
    pub connections: usize,
    /// Counts the connections.
    pub metrics: Arc<Metrics>,
    /// How long a peer may read nothing before its connection ends.
    pub patience: Duration,
}

/// Why a listener cannot start or stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("cannot listen on `{addr}`: {source}; stop what uses it, or choose another server.listen or admin_listen")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// A PEM file cannot be read.
    #[error("`{}` cannot be read as PEM: {source}; see server.tls", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key cannot be used, for example because they do not belong together.
    #[error("`{}` cannot be used with its key: {source}; see server.tls", path.display())]
    Certificate {
        /// The certificate file.
        path: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
    /// The listener broke while it was serving.
    #[error("listener on `{addr}` failed: {source}")]
    Serve {
        /// The address.
        addr: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// A listener's task panicked.
    #[error("a listener ended abnormally: {0}; please report this")]
    Ended(#[from] tokio::task::JoinError),
}

/// Listeners with bound sockets that are not serving yet.
#[derive(Debug)]
pub struct Listeners(Vec<Bound>);

#[derive(Debug)]
struct Bound {
    addr: SocketAddr,
    socket: std::net::TcpListener,
    router: Router,
    tls: Option<(TlsFiles, RustlsConfig)>,
    connections: usize,
    metrics: Arc<Metrics>,
    patience: Duration,
}

/// Binds `listeners` and serves them until `shutdown`; see [`Listeners::serve`].
pub async fn serve(
    listeners: Vec<Listener>,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) -> Result<(), ListenError> {
    Listeners::bind(listeners)?.serve(shutdown, grace).await
}

/// What asks the process to stop: SIGTERM and SIGINT, each as often as it comes.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Listens from now on; nothing but a kill ends the process otherwise.
    pub fn listen() -> std::io::Result<Self> {
        // Caught, a file that reaches its size limit fails a write, and does not end the process.
        #[cfg(target_os = "linux")]
        drop(signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED))?);
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Completes when the process is asked the next time.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Listeners {
    /// Takes the sockets and reads the certificates, so that every mistake shows before anything is served.
    pub fn bind(listeners: Vec<Listener>) -> Result<Self, ListenError> {
        listeners.into_iter().map(Bound::new).collect::<Result<_, _>>().map(Self)
    }

    /// The addresses, with the ports that the system chose, in the order of [`Self::bind`].
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|bound| bound.addr).collect()
    }

    /// Serves until `shutdown`, then takes no more connections and lets running responses finish for `grace`.
    pub async fn serve(self, shutdown: impl Future<Output = ()>, grace: Duration) -> Result<(), ListenError> {
        let mut serving = JoinSet::new();
        let mut handles = Vec::new();
        for bound in self.0 {
            let handle = Handle::new();
            handles.push(handle.clone());
            serving.spawn(bound.serve(handle));
        }
        let mut outcome = Ok(());
        let stop = std::pin::pin!(shutdown);
        tokio::select! {
            () = stop => {}
            // A listener ends by itself only if it fails; the others must not continue without it.
            Some(ended) = serving.join_next() => outcome = ended.unwrap_or_else(|panicked| Err(panicked.into())),
        }
        handles.iter().for_each(|handle| handle.graceful_shutdown(Some(grace)));
        let drained = async {
            while let Some(ended) = serving.join_next().await {
                let ended = ended.unwrap_or_else(|panicked| Err(panicked.into()));
                outcome = std::mem::replace(&mut outcome, Ok(())).and(ended);
            }
        };
        // The grace period is enforced here as well: a listener at its connection limit does not notice its own.
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(grace_seconds = grace.as_secs(), "cut responses that outlived the grace period");
            handles.iter().for_each(Handle::shutdown);
            let cut = async { while serving.join_next().await.is_some() {} };
            if tokio::time::timeout(CUT_WITHIN, cut).await.is_err() {
                serving.abort_all();
            }
        }
        outcome
    }
}

impl Bound {
    fn new(listener: Listener) -> Result<Self, ListenError> {
        let Listener { addr, router, tls, connections, metrics, patience } = listener;
        let failed = |source| ListenError::Bind { addr, source };
        let tls = match tls {
            Some(files) => {
                let config = RustlsConfig::from_config(Arc::new(server_config(&files)?));
                Some((files, config))
            }
            None => None,
        };
        // The standard library sets SO_REUSEADDR, so that a restart does not wait for old connections to time out.
        let socket = std::net::TcpListener::bind(addr).map_err(failed)?;
        let addr = socket.local_addr().map_err(failed)?;
        Ok(Self { addr, socket, router, tls, connections, metrics, patience })
    }

    async fn serve(self, handle: Handle<SocketAddr>) -> Result<(), ListenError> {
        let Self { addr, socket, router, tls, connections, metrics, patience } = self;
        let accepting = Impatient::new(Closable, patience);
        let connections = Connections::new(router, connections, metrics);
        let failed = |source| ListenError::Serve { addr, source };
        let server = configured(axum_server::from_tcp(socket).map_err(failed)?).handle(handle);
        let served = match tls {
            Some((files, config)) => {
                let acceptor = RustlsAcceptor::new(config.clone()).acceptor(accepting);
                tokio::select! {
                    served = server.acceptor(acceptor).serve(connections) => served,
                    never = renew(files, config) => match never {},
                }
            }
            None => server.acceptor(accepting).serve(connections).await,
        };
        served.map_err(failed)
    }
}

fn configured(server: Server<SocketAddr>) -> Server<SocketAddr> {
    let mut server = server.first_request_timeout(FIRST_REQUEST_TIMEOUT).accept_error_handler(|peer, error| {
        tracing::debug!(client = ?peer, %error, "a connection could not be accepted");
    });
    let builder = server.http_builder();
    builder.http1().header_read_timeout(HEADER_TIMEOUT).max_buf_size(LONGEST_HEAD);
    builder.http2().keep_alive_interval(HEADER_TIMEOUT).keep_alive_timeout(PING_TIMEOUT);
    builder.http2().max_concurrent_streams(MAX_STREAMS).max_send_buf_size(STREAM_BUFFER);
    builder.http2().initial_connection_window_size(CONNECTION_WINDOW).initial_stream_window_size(STREAM_WINDOW);
    server
}

/// Checks that a certificate and its key can be read and used together.
pub fn check_tls(files: &TlsFiles) -> Result<(), ListenError> {
    server_config(files).map(|_| ())
}

/// Returns whether the server's certificate may issue others, such as one that is its own authority. Most clients
/// refuse such a server certificate even if they trust it.
pub fn is_authority(files: &TlsFiles) -> Result<bool, ListenError> {
    let path = files.cert_file.clone();
    let pem = |source| ListenError::Pem { path: path.clone(), source };
    let unusable = |source| ListenError::Certificate { path: files.cert_file.clone(), source };
    let own = CertificateDer::from_pem_file(&files.cert_file).map_err(pem)?;
    let mut roots = RootCertStore::empty();
    roots.add(own.clone()).map_err(unusable)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| unusable(rustls::Error::General(error.to_string())))?;
    // Its names do not matter here.
    let name = ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
    let verified = verifier.verify_server_cert(&own, &[], &name, &[], UnixTime::now());
    Ok(matches!(verified, Err(rustls::Error::InvalidCertificate(fault)) if is_refused_as_authority(&fault)))
}

/// Returns whether a server certificate was refused because it may issue others, as certificates by `openssl req -x509`
/// may by default.
pub fn is_refused_as_authority(fault: &CertificateError) -> bool {
    matches!(fault, CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity"))
}

/// Reads the server's certificates, its own first.
pub fn certificates(files: &TlsFiles) -> Result<Vec<CertificateDer<'static>>, ListenError> {
    let pem = |source| ListenError::Pem { path: files.cert_file.clone(), source };
    CertificateDer::pem_file_iter(&files.cert_file).and_then(Iterator::collect).map_err(pem)
}

/// Reloads the certificate and key for new connections whenever the files change. If the new files cannot be used, the
/// old certificate stays, and they are tried again until they can be used or change.
async fn renew(files: TlsFiles, config: RustlsConfig) -> Infallible {
    let mut known = stamps(&files);
    let mut told = Told(known);
    loop {
        sleep(CERTIFICATES_LOOKED_AT_EVERY).await;
        let found = stamps(&files);
        if found == known {
            told = Told(known);
            continue;
        }
        match server_config(&files) {
            Ok(renewed) => {
                config.reload_from_config(Arc::new(renewed));
                known = found;
                tracing::info!(file = %files.cert_file.display(), "the certificate was read again");
            }
            // A certificate may be there before its key.
            Err(error) if told.is_new(found) => {
                tracing::warn!(%error, "a new certificate cannot be used; the old one goes on");
            }
            Err(_) => {}
        }
    }
}

/// What tells a certificate and its key from their previous versions: inode number, size and modification time.
type Stamps = [Option<(u64, u64, i64, i64)>; 2];

/// The files that were last said to be unusable.
struct Told(Stamps);

impl Told {
    /// Whether these were not said to be; they are from now on.
    fn is_new(&mut self, found: Stamps) -> bool {
        std::mem::replace(&mut self.0, found) != found
    }
}

fn stamps(files: &TlsFiles) -> Stamps {
    [&files.cert_file, &files.key_file].map(|file| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    })
}

/// Builds the TLS configuration from the certificate chain and its key, offering HTTP/2 and HTTP/1.1.
fn server_config(files: &TlsFiles) -> Result<ServerConfig, ListenError> {
    let pem = |path: &PathBuf| {
        let path = path.clone();
        move |source| ListenError::Pem { path, source }
    };
    let chain = certificates(files)?;
    let key = PrivateKeyDer::from_pem_file(&files.key_file).map_err(pem(&files.key_file))?;
    let unusable = |source| ListenError::Certificate { path: files.cert_file.clone(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_certificates_are_told_of_once_for_each_change() {
        let stamps = |time| [Some((1, 2, time, 0)), None];
        let mut told = Told(stamps(0));
        let news = [1, 1, 1, 2, 2, 1].map(|time| told.is_new(stamps(time)));
        assert_eq!(news, [true, false, false, true, false, true]);
    }
}
