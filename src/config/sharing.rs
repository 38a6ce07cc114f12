//! Settings of the sharing protocol: where it is served, the lifetimes, and the limits.

use std::time::Duration;

use serde::Deserialize;

use super::problems::Problems;

/// `[sharing]`.
#[derive(Clone, Debug, Deserialize)]
pub struct SharingSettings {
    /// The path of the protocol, with a leading and no trailing slash.
    pub prefix: String,
    /// The lifetime of presigned URLs, in seconds.
    pub url_ttl_seconds: u64,
    /// The lifetime of the server's own file URLs, in seconds.
    pub proxied_url_ttl_seconds: u64,
    /// The time for which a version can be refreshed, in seconds from the first answer.
    pub refresh_token_seconds: u64,
    /// The time for which page and refresh tokens still read a replaced version if history is not shared, in seconds.
    pub unshared_version_seconds: u64,
    /// An alternative to `raw = "acknowledge"`.
    pub require_acknowledge: bool,
    /// Whether raw tables may be shared.
    pub raw: RawSharing,
    /// Whether every grant must name a purpose.
    pub require_purpose: bool,
    /// Whether every grant must name the agreement behind it.
    pub require_agreement: bool,
    /// The longest duration of a grant, in seconds; also the default.
    pub grant_max_seconds: u64,
    /// The longest lifetime of a recipient's token, in seconds.
    pub token_max_seconds: u64,
    /// The default lifetime of a token, in seconds.
    pub token_default_seconds: u64,
    /// The lifetime of an activation link, in seconds.
    pub activation_ttl_seconds: u64,
    /// The time after which a token fetched by a link is revoked if it was never used, in seconds; 0 disables this.
    pub unused_revoke_seconds: u64,
    /// The provider's name on activation pages; if empty, the public URL's host is shown.
    pub provider_name: String,
    /// The contact for recipients in error messages, share properties and activation pages; empty for none.
    pub support_contact: String,
    /// The longest time for which a client may read nothing of a streamed answer before it ends, in seconds.
    pub stalled_seconds: u64,
    /// The requests per minute on each server for a recipient without a limit of its own.
    pub requests_per_minute: u64,
    /// The concurrent streams on each server for a recipient without a limit of its own.
    pub concurrent_streams: u64,
    /// The refusals per minute of one address or recipient that are recorded one by one.
    pub failures_recorded_per_minute: u64,
    /// The failed authentications per minute of one address or token that are answered before 429.
    pub failures_per_minute: u64,
    /// The failed activations per minute of one address that are answered before 429.
    pub activation_failures_per_minute: u64,
}

/// Whether raw tables may be put into shares.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum RawSharing {
    /// They may be shared.
    #[default]
    Allow,
    /// They may be shared if the operator acknowledges what they disclose beyond query results.
    Acknowledge,
    /// They may not be shared, and those already shared get no more history; share views instead.
    Refuse,
}

impl RawSharing {
    /// The word for it in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Acknowledge => "acknowledge",
            Self::Refuse => "refuse",
        }
    }
}

/// Connectors refresh URLs 10 to 20 minutes before they end; with a shorter lifetime they loop or fail.
const SHORTEST_MISREAD_SECONDS: u64 = 1200;
/// The longest lifetime of presigned URLs with SigV4: 7 days.
const LONGEST_SIGNED_SECONDS: u64 = 604_800;
/// The longest text that is written into messages, in characters.
const LONGEST_TEXT: usize = 200;
const TEN_YEARS_SECONDS: u64 = 3650 * 86_400;
/// First path segments that the server itself uses.
const TAKEN: [&str; 9] = ["api", "files", "activate", "hooks", "healthz", "readyz", "metrics", "console", "extract"];

impl SharingSettings {
    /// Returns the longest time for which a client may read nothing of a streamed answer.
    pub fn stalled(&self) -> Duration {
        Duration::from_secs(self.stalled_seconds)
    }

    /// Returns whether raw tables may be shared, from both settings for it.
    pub fn raw_sharing(&self) -> RawSharing {
        match self.raw {
            RawSharing::Allow if self.require_acknowledge => RawSharing::Acknowledge,
            raw => raw,
        }
    }

    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        self.check_prefix(problems);
        let ttl = self.url_ttl_seconds;
        if ttl <= SHORTEST_MISREAD_SECONDS {
            problems.add(
                "sharing.url_ttl_seconds",
                format!("`{ttl}` is too short; use more than 1200, because connectors misread short lives"),
            );
        } else if ttl > LONGEST_SIGNED_SECONDS {
            problems.add(
                "sharing.url_ttl_seconds",
                format!("`{ttl}` is too long; use at most 604800 (7 days), the longest that S3 signs for"),
            );
        }
        let proxied = self.proxied_url_ttl_seconds;
        problems.bound("sharing.proxied_url_ttl_seconds", proxied, 1..=30 * 86_400, "30 days outlive any reading job");
        for (key, value) in [
            ("refresh_token_seconds", self.refresh_token_seconds),
            ("unshared_version_seconds", self.unshared_version_seconds),
        ] {
            problems.bound(
                &format!("sharing.{key}"),
                value,
                60..=3 * 86_400,
                "an answer under way must be able to end",
            );
        }
        for (key, value) in [
            ("grant_max_seconds", self.grant_max_seconds),
            ("token_max_seconds", self.token_max_seconds),
            ("token_default_seconds", self.token_default_seconds),
        ] {
            problems.bound(&format!("sharing.{key}"), value, 1..=TEN_YEARS_SECONDS, "access must end some day");
        }
        self.check_activation(problems);
        if self.token_default_seconds > self.token_max_seconds {
            problems.add("sharing.token_default_seconds", "is more than sharing.token_max_seconds; lower it");
        }
    }

    fn check_activation(&self, problems: &mut Problems) {
        let link = self.activation_ttl_seconds;
        problems.bound(
            "sharing.activation_ttl_seconds",
            link,
            60..=30 * 86_400,
            "a link in somebody's mail must end soon",
        );
        let unused = self.unused_revoke_seconds;
        problems.bound("sharing.unused_revoke_seconds", unused, 0..=TEN_YEARS_SECONDS, "0 leaves unused tokens alone");
        for (key, value) in [
            ("requests_per_minute", self.requests_per_minute),
            ("concurrent_streams", self.concurrent_streams),
            ("failures_recorded_per_minute", self.failures_recorded_per_minute),
            ("failures_per_minute", self.failures_per_minute),
            ("activation_failures_per_minute", self.activation_failures_per_minute),
        ] {
            problems.bound(&format!("sharing.{key}"), value, 1..=1_000_000, "a flood must be answered shortly");
        }
        problems.bound("sharing.stalled_seconds", self.stalled_seconds, 1..=3600, "what nobody takes must end");
        for (key, text) in [("provider_name", &self.provider_name), ("support_contact", &self.support_contact)] {
            if text.chars().count() > LONGEST_TEXT || text.chars().any(char::is_control) {
                problems
                    .add(format!("sharing.{key}"), format!("must be one line of at most {LONGEST_TEXT} characters"));
            }
        }
    }

    fn check_prefix(&self, problems: &mut Problems) {
        let prefix = &self.prefix;
        let segment_is_plain = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
        };
        let mut segments = prefix.strip_prefix('/').unwrap_or_default().split('/');
        if !segments.clone().all(segment_is_plain) {
            problems.add(
                "sharing.prefix",
                format!("`{prefix}` is no path; write it as in `/delta-sharing`: a leading slash, no trailing one"),
            );
        } else if let Some(first) = segments.next()
            && TAKEN.contains(&first)
        {
            problems.add("sharing.prefix", format!("`{prefix}` is taken: `/{first}` is answered by the server itself"));
        }
    }
}
