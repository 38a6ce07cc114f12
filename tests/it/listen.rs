//! Listeners on real sockets: addresses, TLS, and shutdown.

use std::{net::SocketAddr, process::Command, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, routing::get};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
};
use weir::{
    config::TlsFiles,
    http::listen::{ListenError, Listener, Listeners},
    telemetry::Metrics,
};

const GRACE: Duration = Duration::from_secs(60);
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

struct Serving {
    addresses: Vec<SocketAddr>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), ListenError>>,
}

impl Serving {
    fn start(listeners: Vec<Listener>, grace: Duration) -> Self {
        let listeners = Listeners::bind(listeners).unwrap();
        let (stop, stopped) = oneshot::channel();
        let addresses = listeners.addresses();
        let ended = tokio::spawn(listeners.serve(async { drop(stopped.await) }, grace));
        Self { addresses, stop, ended }
    }

    async fn stop(self) -> Result<(), ListenError> {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap()
    }
}

fn plain(router: Router) -> Listener {
    let metrics = Arc::new(Metrics::new([]));
    Listener { addr: ANY_PORT, router, tls: None, connections: 100, metrics, patience: GRACE }
}

fn whoami() -> Router {
    Router::new().route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
}

/// A router whose `/stream` sends the test's chunks.
fn streaming() -> (Router, mpsc::UnboundedSender<Bytes>) {
    let (sender, receiver) = mpsc::unbounded_channel::<Bytes>();
    let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(receiver));
    let stream = move || async move {
        Body::from_stream(futures::stream::unfold(receiver, |receiver| async {
            let bytes = receiver.lock().await.recv().await?;
            Some((Ok::<_, std::io::Error>(bytes), receiver))
        }))
    };
    (Router::new().route("/stream", get(stream)), sender)
}

/// Waits until `address` refuses connections.
async fn refused(address: SocketAddr) {
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn handlers_know_the_peer_on_every_listener() {
    let serving = Serving::start(vec![plain(whoami()), plain(whoami())], GRACE);
    assert_ne!(serving.addresses[0], serving.addresses[1]);
    for address in &serving.addresses {
        let body = reqwest::get(format!("http://{address}/peer")).await.unwrap().text().await.unwrap();
        assert_eq!(body, "127.0.0.1");
    }
    serving.stop().await.unwrap();
}

#[tokio::test]
async fn running_stream_is_finished_after_the_stop_signal() {
    let (router, chunks) = streaming();
    let serving = Serving::start(vec![plain(router)], GRACE);
    let address = serving.addresses[0];
    chunks.send(Bytes::from_static(b"before ")).unwrap();
    let mut body = reqwest::get(format!("http://{address}/stream")).await.unwrap();
    assert_eq!(body.chunk().await.unwrap().unwrap(), "before ");

    let ended = tokio::spawn(serving.stop());
    refused(address).await;
    chunks.send(Bytes::from_static(b"after")).unwrap();
    drop(chunks);
    assert_eq!(body.chunk().await.unwrap().unwrap(), "after");
    assert!(body.chunk().await.unwrap().is_none(), "the stream ends as if nothing had happened");
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn stream_that_outlives_the_grace_period_is_cut() {
    let (router, chunks) = streaming();
    let serving = Serving::start(vec![plain(router)], Duration::ZERO);
    let address = serving.addresses[0];
    chunks.send(Bytes::from_static(b"before")).unwrap();
    let mut body = reqwest::get(format!("http://{address}/stream")).await.unwrap();
    assert_eq!(body.chunk().await.unwrap().unwrap(), "before");
    serving.stop().await.unwrap();
    assert!(body.chunk().await.is_err(), "a cut stream must not look like a complete one");
}

#[tokio::test]
async fn idle_connection_does_not_hold_up_the_end() {
    let serving = Serving::start(vec![plain(whoami())], GRACE);
    let client = reqwest::Client::new();
    let answer = client.get(format!("http://{}/peer", serving.addresses[0])).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "127.0.0.1");
    // The client keeps its connection for another request, which never comes.
    tokio::time::timeout(GRACE / 4, serving.stop()).await.expect("an idle connection is closed").unwrap();
    drop(client);
}

/// Many more idle connections than there is room for: none keeps a new one out, and one in use is left alone.
#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let (router, chunks) = streaming();
    let listener = Listener { connections: 4, ..plain(router.merge(whoami())) };
    let serving = Serving::start(vec![listener], GRACE);
    let address = serving.addresses[0];
    let mut in_use = reqwest::get(format!("http://{address}/stream")).await.unwrap();
    let mut idle = Vec::new();
    for beginning in
        ["", "GET /peer HTTP/1.1\r\nHost: x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"].iter().cycle().take(30)
    {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        connection.write_all(beginning.as_bytes()).await.unwrap();
        idle.push(connection);
    }
    for _ in 0..3 {
        let body = reqwest::get(format!("http://{address}/peer")).await.unwrap().text().await.unwrap();
        assert_eq!(body, "127.0.0.1");
    }
    // Closed, by an end or a reset.
    assert!(!matches!(idle[0].read(&mut [0; 64]).await, Ok(1..)), "the oldest is closed");
    chunks.send(Bytes::from_static(b"still there")).unwrap();
    assert_eq!(in_use.chunk().await.unwrap().unwrap(), "still there");
    drop((chunks, in_use, idle));
    serving.stop().await.unwrap();
}

#[tokio::test]
async fn address_in_use_is_named() {
    let taken = std::net::TcpListener::bind(ANY_PORT).unwrap();
    let addr = taken.local_addr().unwrap();
    let error = Listeners::bind(vec![Listener { addr, ..plain(Router::new()) }]).unwrap_err();
    assert!(error.to_string().contains(&format!("cannot listen on `{addr}`")), "{error}");
}

/// Creates a self-signed certificate for localhost in `folder`.
fn certificate(folder: &std::path::Path, name: &str) -> TlsFiles {
    let (cert_file, key_file) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key_file)
        .arg("-out")
        .arg(&cert_file)
        .output()
        .expect("this test needs the openssl command");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    TlsFiles { cert_file, key_file }
}

#[tokio::test]
async fn tls_listener_offers_http2_and_serves_who_trusts_it() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificate(folder.path(), "server");
    let trusted = reqwest::Certificate::from_pem(&std::fs::read(&files.cert_file).unwrap()).unwrap();
    let serving = Serving::start(vec![Listener { tls: Some(files), ..plain(whoami()) }], GRACE);
    let address = serving.addresses[0];
    let url = format!("https://localhost:{}/peer", address.port());
    let client = reqwest::Client::builder().tls_certs_only([trusted]).resolve("localhost", address).build().unwrap();
    assert_eq!(client.get(&url).send().await.unwrap().text().await.unwrap(), "127.0.0.1");
    assert!(reqwest::get(&url).await.is_err(), "nobody else trusts this certificate");

    let negotiated = |offered: &'static str| async move {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["s_client", "-connect", &address.to_string(), "-alpn", offered])
            .stdin(std::process::Stdio::null());
        let output = tokio::task::spawn_blocking(move || openssl.output()).await.unwrap().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for (offered, chosen) in [("h2,http/1.1", "ALPN protocol: h2"), ("http/1.1", "ALPN protocol: http/1.1")] {
        let told = negotiated(offered).await;
        assert!(told.contains(chosen), "{told}");
    }
    serving.stop().await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_served_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificate(folder.path(), "server");
    let serving = Serving::start(vec![Listener { tls: Some(files.clone()), ..plain(whoami()) }], GRACE);
    let address = serving.addresses[0];
    let url = format!("https://localhost:{}/peer", address.port());
    let trusting = |files: &TlsFiles| {
        let trusted = reqwest::Certificate::from_pem(&std::fs::read(&files.cert_file).unwrap()).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([trusted])
            .resolve("localhost", address)
            .pool_max_idle_per_host(0)
            .build()
            .unwrap()
    };
    let old = trusting(&files);
    old.get(&url).send().await.unwrap();
    // The certificate arrives before its key; until both are there, the old ones are served.
    let renewed = certificate(folder.path(), "renewed");
    let new = trusting(&renewed);
    std::fs::copy(&renewed.cert_file, &files.cert_file).unwrap();
    old.get(&url).send().await.unwrap();
    std::fs::copy(&renewed.key_file, &files.key_file).unwrap();
    let began = std::time::Instant::now();
    while new.get(&url).send().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(30), "the new certificate is not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(old.get(&url).send().await.is_err());
    serving.stop().await.unwrap();
}

#[tokio::test]
async fn plain_listener_speaks_http2_to_who_knows_it() {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    let serving = Serving::start(vec![plain(whoami())], GRACE);
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Empty<Bytes>>();
    let url = format!("http://{}/peer", serving.addresses[0]).parse().unwrap();
    let response = client.get(url).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "127.0.0.1");
    serving.stop().await.unwrap();
}

#[test]
fn unusable_certificates_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (mine, other) = (certificate(folder.path(), "mine"), certificate(folder.path(), "other"));
    let refused = |tls| Listeners::bind(vec![Listener { tls: Some(tls), ..plain(whoami()) }]).unwrap_err();
    let mismatch = refused(TlsFiles { key_file: other.key_file, ..mine.clone() });
    assert!(matches!(&mismatch, ListenError::Certificate { path, .. } if *path == mine.cert_file), "{mismatch}");
    let absent = refused(TlsFiles { cert_file: folder.path().join("absent.pem"), ..mine });
    assert!(matches!(&absent, ListenError::Pem { path, .. } if path.ends_with("absent.pem")), "{absent}");
}
