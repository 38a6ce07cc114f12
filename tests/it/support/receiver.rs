//! A receiver of webhooks over HTTP on this machine, which verifies messages as receivers' libraries do.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;

/// How the receiver answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Mood {
    Well,
    /// With this status and this header.
    Status(u16, &'static str, String),
    /// It never answers.
    Silent,
    /// With this status and a body that never ends.
    Endless(u16),
}

impl Mood {
    /// With this status only.
    pub fn status(status: u16) -> Self {
        Self::Status(status, "x-nothing", String::new())
    }
}

/// A received message.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The id by which receivers recognise a message.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// Whether this secret signed the message: HMAC-SHA256 over `id.timestamp.body` in base64, among the listed
    /// signatures.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.", self.id(), self.header("webhook-timestamp")).as_bytes());
        mac.update(&self.body);
        let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        self.header("webhook-signature").split(' ').any(|signature| signature == expected)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

struct Shared {
    mood: Mutex<Mood>,
    received: Mutex<Vec<Received>>,
}

/// A receiver. Its server stops when it is dropped.
pub struct TestReceiver {
    shared: Arc<Shared>,
    pub url: String,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for TestReceiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl TestReceiver {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/hooks/s3cr3t-path", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { mood: Mutex::new(Mood::Well), received: Mutex::default() });
        let router = Router::new().route("/hooks/s3cr3t-path", post(receive)).with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, url, server }
    }

    /// Sets how it answers.
    pub fn is(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// The messages received so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The `data` of the messages with a `type`.
    pub fn told(&self, kind: &str) -> Vec<Value> {
        let messages = self.received().into_iter().map(|message| message.json());
        messages.filter(|message| message["type"] == kind).map(|message| message["data"].clone()).collect()
    }

    /// The settings of a webhook to this receiver.
    pub fn webhook(&self, name: &str, secret: &str) -> Value {
        json!({"name": name, "url": self.url, "secret": secret, "timeout_seconds": 1})
    }
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    shared.received.lock().unwrap().push(Received { headers, body });
    let mood = shared.mood.lock().unwrap().clone();
    match mood {
        Mood::Well => StatusCode::NO_CONTENT.into_response(),
        Mood::Status(status, name, value) => {
            (StatusCode::from_u16(status).unwrap(), [(name, value)], "noted").into_response()
        }
        Mood::Silent => std::future::pending().await,
        Mood::Endless(status) => {
            let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]));
            (StatusCode::from_u16(status).unwrap(), Body::from_stream(chunks)).into_response()
        }
    }
}
