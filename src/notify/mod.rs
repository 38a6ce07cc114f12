//! Messages to webhooks, sent: one attempt of one message, signed, bounded in time.
//!
//! Receivers are the operator's settings and nobody else's choice. No redirect is followed, and nothing of an answer is
//! read but its status and `Retry-After`. Never here: what is worth telling, whether to try again, or what is kept of it.

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
    /// The newest first.
    secrets: Vec<WebhookSecret>,
    timeout: Duration,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Why there is no messenger.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The HTTP client cannot be made.
    #[error("no HTTP client for webhooks can be made")]
    Client(#[source] reqwest::Error),
    /// Only for settings that were not checked.
    #[error("the webhook `{0}` has no valid url or secret; see `weir config check`")]
    Webhook(String),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failure {
    /// In words, without the URL.
    pub why: String,
    /// Whether the receiver says that it never wants this.
    pub is_final: bool,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl Messenger {
    /// A messenger to these webhooks.
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

    /// How long an attempt to reach `webhook` takes at most; `None` where there is no such webhook.
    pub fn timeout(&self, webhook: &str) -> Option<Duration> {
        self.receivers.get(webhook).map(|receiver| receiver.timeout)
    }

    /// Sends the message `id` to `webhook` at `now`. A receiver that answers 2xx has it.
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

/// `Retry-After` in seconds; the form with a date is not worth a parser.
fn retry_after(answer: &Response) -> Option<Duration> {
    let value = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// What kept a message from its receiver. What lies below may repeat addresses, so it goes no deeper.
fn said(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        "the receiver did not answer in time".to_owned()
    } else if error.is_connect() {
        "the receiver cannot be connected to; see its address, certificate and firewall".to_owned()
    } else {
        "the connection to the receiver broke".to_owned()
    }
}
