//! An OpenID Connect issuer over HTTP on this machine: its discovery document, its keys, and genuine and forged tokens.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256,
    },
};
use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use weir::config::{IssuerSettings, Settings};

/// The audience of recipients' tokens.
pub const AUDIENCE: &str = "weir-recipients";
/// The audience of operators' tokens.
pub const OPERATORS: &str = "weir-operators";

/// How the issuer answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Well,
    /// With an error status.
    Failing,
    /// It never answers.
    Silent,
    /// With HTML instead of JSON.
    Rubbish,
    /// With a document that never ends.
    Endless,
    /// With the name of another issuer.
    Impostor,
    /// With a redirect.
    Redirecting,
}

/// A key pair.
pub enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// RSA keys that tests share, since generating one is slow.
pub fn rsa(index: usize) -> &'static Signer {
    static KEYS: [OnceLock<Signer>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    KEYS[index].get_or_init(|| Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
}

pub fn base64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    /// The modulus of an RSA key, taken from its DER: a sequence of two integers.
    pub fn modulus(&self) -> &[u8] {
        let Self::Rsa(key) = self else { panic!("no RSA key") };
        &key.public_key().as_ref()[9..9 + 256]
    }

    /// The public key in DER.
    pub fn der(&self) -> &[u8] {
        let Self::Rsa(key) = self else { panic!("no RSA key") };
        key.public_key().as_ref()
    }

    /// The public key as a JWK.
    pub fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(_) => {
                json!({"kty": "RSA", "kid": kid, "use": "sig", "n": base64(self.modulus()), "e": "AQAB"})
            }
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = (base64(&point[1..33]), base64(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y})
            }
            Self::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(key.public_key().as_ref())})
            }
        }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(key) => {
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
                    "PS256" => &RSA_PSS_SHA256,
                    "RS512" => &RSA_PKCS1_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Self::Ec(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// Signs a token with this header and these claims, given as text so that they may be malformed.
    pub fn token(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
        let header: Value = serde_json::from_str(header).unwrap_or_default();
        let signature = self.sign(header["alg"].as_str().unwrap_or_default(), message.as_bytes());
        format!("{message}.{}", base64(&signature))
    }
}

/// The state that the issuer's server shares with the test.
struct Shared {
    url: String,
    keys: Mutex<Vec<Value>>,
    mood: Mutex<Mood>,
    looks: AtomicUsize,
}

/// An issuer. Its server stops when it is dropped.
pub struct TestIssuer {
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl TestIssuer {
    /// Starts an issuer that publishes the first RSA key as `k1`.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            url: format!("http://{}/realms/partners", listener.local_addr().unwrap()),
            keys: Mutex::new(vec![rsa(0).jwk("k1")]),
            mood: Mutex::new(Mood::Well),
            looks: AtomicUsize::new(0),
        });
        let router = Router::new()
            .route("/realms/partners/.well-known/openid-configuration", get(discovery))
            .route("/realms/partners/keys", get(keys))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, server }
    }

    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Sets how it answers.
    pub fn is(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Sets the published keys.
    pub fn publishes(&self, keys: &[Value]) {
        *self.shared.keys.lock().unwrap() = keys.to_vec();
    }

    /// How many times its keys were fetched.
    pub fn looks(&self) -> usize {
        self.shared.looks.load(Ordering::SeqCst)
    }

    /// The settings that name this issuer.
    pub fn settings(&self) -> IssuerSettings {
        IssuerSettings {
            url: self.url().to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            jwks_uri: None,
            token_endpoint: None,
            scope: Some("read".to_owned()),
        }
    }

    /// Adds it to the trusted issuers of a server's settings, for recipients and for operators.
    pub fn introduce(&self, settings: &mut Settings) {
        settings.identity.allow_http_loopback = true;
        settings.identity.fetch_timeout_seconds = 1;
        settings.identity.issuer.push(self.settings());
        let operators = &mut settings.identity.operators;
        operators.issuer = Some(self.url().to_owned());
        operators.audience = OPERATORS.to_owned();
        operators.role_claim = "groups".to_owned();
        operators.roles = serde_json::from_value(json!({
            "weir-admins": "admin", "weir-owners": "share_owner", "weir-audit": "auditor", "weir-desk": "support",
        }))
        .unwrap();
    }

    /// The claims of a token of this issuer that is valid for an hour, replaced or extended by `more`.
    pub fn claims(&self, now: DateTime<Utc>, more: Value) -> Value {
        let now = now.timestamp();
        let mut claims = json!({"iss": self.url(), "aud": AUDIENCE, "sub": "machine-7", "iat": now, "exp": now + 3600});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    }

    /// A token of this issuer signed with its first key, with the claims replaced or extended by `more`.
    pub fn token(&self, now: DateTime<Utc>, more: Value) -> String {
        rsa(0).token(HEADER, &self.claims(now, more).to_string())
    }
}

/// The header of a genuine token.
pub const HEADER: &str = r#"{"alg": "RS256", "typ": "JWT", "kid": "k1"}"#;

async fn discovery(State(shared): State<Arc<Shared>>) -> Response {
    let named = if *shared.mood.lock().unwrap() == Mood::Impostor { "https://login.example.org" } else { &shared.url };
    let body = json!({
        "issuer": named,
        "jwks_uri": format!("{}/keys", shared.url),
        "token_endpoint": format!("{}/token", shared.url),
        "authorization_endpoint": format!("{}/auth", shared.url),
    });
    answer(&shared, body).await
}

async fn keys(State(shared): State<Arc<Shared>>) -> Response {
    shared.looks.fetch_add(1, Ordering::SeqCst);
    let body = json!({ "keys": *shared.keys.lock().unwrap() });
    answer(&shared, body).await
}

async fn answer(shared: &Shared, body: Value) -> Response {
    let mood = *shared.mood.lock().unwrap();
    match mood {
        Mood::Well | Mood::Impostor => body.to_string().into_response(),
        Mood::Failing => (http::StatusCode::INTERNAL_SERVER_ERROR, body.to_string()).into_response(),
        Mood::Silent => std::future::pending().await,
        Mood::Rubbish => "<html>Sign in</html>".into_response(),
        Mood::Endless => {
            let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]));
            Body::from_stream(chunks).into_response()
        }
        Mood::Redirecting => axum::response::Redirect::temporary("http://127.0.0.1:1/keys").into_response(),
    }
}
