//! Sends messages to webhooks: one attempt for one message, signed, with a time limit.
//!
//! Only operators choose receivers, in the settings. Redirects are not followed, and of an answer only the status and
//! `Retry-After` are read. Never here: the choice of messages, retries, or records of them.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use reqwest::{Response, StatusCode, header, redirect::Policy};
use url::Url;
use uuid::Uuid;

use crate::{
    config::WebhookSettings,
    domain::insight::webhook::{WebhookSecret, signatures},
};

/// Sends messages; cheap to clone.
#[derive(Clone, Debug)]
pub struct Messenger {
    http: reqwest::Client,
    receivers: Arc<BTreeMap<String, Receiver>>,
}

struct Receiver {
    url: Url,
    /// Newest first.
    secrets: Vec<WebhookSecret>,
    timeout: Duration,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Why a messenger cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The HTTP client cannot be created.
    #[error("no HTTP client for webhooks can be made")]
    Client(#[source] reqwest::Error),
    /// The url or a secret is invalid; happens only with unchecked settings.
    #[error("the webhook `{0}` has no valid url or secret; see `weir config check`")]
    Webhook(String),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failure {
    /// The reason, without the URL.
    pub why: String,
    /// Whether the receiver permanently refuses messages.
    pub is_final: bool,
    /// The delay that the receiver requests.
    pub retry_after: Option<Duration>,
}

impl Messenger {
    /// Creates a messenger for these webhooks.
    pub fn new(webhooks: &[WebhookSettings]) -> Result<Self, NotifyError> {
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(NotifyError::Client)?;
        let receivers = webhooks.iter().map(|webhook| {
            let receiver = Receiver::new(webhook).ok_or_else(|| NotifyError::Webhook(webhook.name.clone()))?;
            Ok((webhook.name.clone(), receiver))
        });
        Ok(Self { http, receivers: Arc::new(receivers.collect::<Result<_, NotifyError>>()?) })
    }

    /// Returns the longest time for an attempt to reach `webhook`; `None` if it does not exist.
    pub fn timeout(&self, webhook: &str) -> Option<Duration> {
        self.receivers.get(webhook).map(|receiver| receiver.timeout)
    }

    /// Sends the message `id` to `webhook` at `now`. A 2xx status means that the receiver has accepted it.
    pub async fn send(&self, webhook: &str, id: Uuid, body: &str, now: DateTime<Utc>) -> Result<(), Failure> {
        let Some(receiver) = self.receivers.get(webhook) else {
            let why = "the settings name no such webhook".to_owned();
            return Err(Failure { why, is_final: true, retry_after: None });
        };
        let (id, timestamp) = (id.to_string(), now.timestamp());
        let sent = self
            .http
            .post(receiver.url.clone())
            .timeout(receiver.timeout)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures(&receiver.secrets, &id, timestamp, body))
            .body(body.to_owned())
            .send()
            .await;
        match sent {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Failure {
                why: format!("the receiver answered {}", answer.status()),
                is_final: answer.status() == StatusCode::GONE,
                retry_after: retry_after(&answer),
            }),
            Err(error) => Err(Failure { why: said(&error.without_url()), is_final: false, retry_after: None }),
        }
    }
}

impl Receiver {
    fn new(webhook: &WebhookSettings) -> Option<Self> {
        let secrets = [Some(&webhook.secret), webhook.previous_secret.as_ref()].into_iter().flatten();
        Some(Self {
            url: Url::parse(webhook.url.expose()).ok()?,
            secrets: secrets.map(|secret| WebhookSecret::parse(secret.expose())).collect::<Option<_>>()?,
            timeout: Duration::from_secs(webhook.timeout_seconds),
        })
    }
}

/// Reads `Retry-After` in seconds; the form with a date is not supported.
fn retry_after(answer: &Response) -> Option<Duration> {
    let value = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Describes why a message was not delivered. Omits the error's sources, which may contain addresses.
fn said(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        "the receiver did not answer in time".to_owned()
    } else if error.is_connect() {
        "the receiver cannot be connected to; see its address, certificate and firewall".to_owned()
    } else {
        "the connection to the receiver broke".to_owned()
    }
}
