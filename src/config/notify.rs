//! Settings of notifications: the webhooks, and the thresholds for signals.

use std::collections::BTreeSet;

use serde::Deserialize;
use url::Url;

use crate::domain::{
    core::secret::Secret,
    insight::{signal::SignalKind, webhook::WebhookSecret},
};

use super::{empty_as_none, is_loopback, problems::Problems};

/// `[notify]`.
#[derive(Clone, Debug, Deserialize)]
pub struct NotifySettings {
    /// The webhooks.
    pub webhook: Vec<WebhookSettings>,
    /// The number of attempts before a message is given up.
    pub attempts: u64,
    /// The age at which a message is given up, in seconds.
    pub max_age_seconds: u64,
    /// The number of refusals of one recipient, or of unknown callers, that counts as a burst.
    pub denials: u64,
    /// The period for this number, in seconds.
    pub denials_window_seconds: u64,
    /// The time that a checkpoint or its export may be overdue, in seconds.
    pub checkpoint_late_seconds: u64,
}

/// One `[[notify.webhook]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// The unique name in listings, metrics and logs.
    pub name: String,
    /// The receiver's URL; a secret, because some receivers' URLs are.
    pub url: Secret,
    /// The secret for signatures, `whsec_…`.
    pub secret: Secret,
    /// The previous secret, which also signs until receivers know the new one.
    #[serde(default, deserialize_with = "empty_as_none")]
    pub previous_secret: Option<Secret>,
    /// The kinds of signals to send; empty means all.
    #[serde(default)]
    pub events: BTreeSet<String>,
    /// The longest time for one attempt, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
    /// Whether a receiver on another machine may be reached without TLS.
    #[serde(default)]
    pub allow_http: bool,
}

fn default_timeout() -> u64 {
    10
}

/// The most webhooks; each has its own task.
const MOST_WEBHOOKS: usize = 16;
const LONGEST_NAME: usize = 64;

impl WebhookSettings {
    /// Returns whether signals of `kind` are sent to this webhook.
    pub fn wants(&self, kind: SignalKind) -> bool {
        self.events.is_empty() || self.events.contains(kind.as_str())
    }

    fn check(&self, key: impl Fn(&str) -> String, problems: &mut Problems) {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(1..=LONGEST_NAME).contains(&self.name.len()) || !self.name.bytes().all(is_plain) {
            problems.add(
                key("name"),
                format!(
                    "is no name; use up to {LONGEST_NAME} letters, digits, `-`, `_` and `.`: it is a metric's label"
                ),
            );
        }
        // No message repeats a URL or a secret.
        match Url::parse(self.url.expose()) {
            Err(source) => problems.add(key("url"), format!("is no valid URL: {source}")),
            Ok(url) if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() => {
                problems.add(key("url"), "must be without user and fragment; messages are signed instead");
            }
            Ok(url) if url.scheme() == "https" => {}
            Ok(url) if url.scheme() == "http" && (self.allow_http || is_loopback(&url)) => {}
            Ok(_) => problems.add(
                key("url"),
                "is not https; messages name partners. Use https, or allow_http = true for a receiver in a network of \
                 your own",
            ),
        }
        for (name, secret) in [("secret", Some(&self.secret)), ("previous_secret", self.previous_secret.as_ref())] {
            if secret.is_some_and(|secret| WebhookSecret::parse(secret.expose()).is_none()) {
                problems.add(
                    key(name),
                    "is no secret of Standard Webhooks; make one with `echo whsec_$(openssl rand -base64 32)`",
                );
            }
        }
        for event in self.events.iter().filter(|event| SignalKind::parse(event).is_none()) {
            let known = SignalKind::ALL.map(SignalKind::as_str).join(", ");
            problems.add(key("events"), format!("`{event}` is no kind of signal; use {known}"));
        }
        problems.bound(&key("timeout_seconds"), self.timeout_seconds, 1..=60, "a receiver takes note and works later");
    }
}

impl NotifySettings {
    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        const MONTH: u64 = 30 * 86_400;
        if self.webhook.len() > MOST_WEBHOOKS {
            problems
                .add("notify.webhook", format!("names more than {MOST_WEBHOOKS}; have one of them pass messages on"));
        }
        for (i, webhook) in self.webhook.iter().enumerate() {
            let key = |key: &str| format!("notify.webhook[{i}].{key}");
            webhook.check(key, problems);
            if self.webhook[..i].iter().any(|other| other.name == webhook.name) {
                problems.add(key("name"), format!("`{}` names two webhooks; rename one", webhook.name));
            }
        }
        problems.bound("notify.attempts", self.attempts, 1..=100, "a receiver that never answers is gone");
        problems.bound("notify.max_age_seconds", self.max_age_seconds, 60..=MONTH, "old news is of no use");
        problems.bound("notify.denials", self.denials, 1..=1_000_000, "a threshold must be met some day");
        let window = self.denials_window_seconds;
        problems.bound("notify.denials_window_seconds", window, 60..=3_600, "refusals are counted by the minute");
        let late = self.checkpoint_late_seconds;
        problems.bound("notify.checkpoint_late_seconds", late, 1..=86_400, "a trail that nobody seals proves little");
    }
}
