//! The sharing protocol: where it is served, and how long what it hands out lives.

use std::time::Duration;

use serde::Deserialize;

use super::problems::Problems;

/// `[sharing]`.
#[derive(Clone, Debug, Deserialize)]
pub struct SharingSettings {
    /// The path under which the protocol is served, with a leading and without a trailing slash.
    pub prefix: String,
    /// Life of presigned URLs in seconds.
    pub url_ttl_seconds: u64,
    /// Life of the server's own file URLs in seconds.
    pub proxied_url_ttl_seconds: u64,
    /// How long an answer's version may be refreshed, in seconds from the first answer on.
    pub refresh_token_seconds: u64,
    /// For how many seconds after it was replaced a version is still read by page and refresh tokens where history is not
    /// shared.
    pub unshared_version_seconds: u64,
    /// Another word for `raw = "acknowledge"`.
    pub require_acknowledge: bool,
    /// Whether raw tables may be shared.
    pub raw: RawSharing,
    /// Every grant names a purpose.
    pub require_purpose: bool,
    /// Every grant names the agreement that it stands on.
    pub require_agreement: bool,
    /// The longest grant in seconds, and the length of one that names no end.
    pub grant_max_seconds: u64,
    /// The longest life of a recipient's token in seconds.
    pub token_max_seconds: u64,
    /// The life of a token that names none, in seconds.
    pub token_default_seconds: u64,
    /// The life of an activation link in seconds.
    pub activation_ttl_seconds: u64,
    /// A token that was fetched by a link and not used for so many seconds is revoked; 0 leaves it.
    pub unused_revoke_seconds: u64,
    /// Who shares, on activation pages; empty for the public URL's host.
    pub provider_name: String,
    /// Whom recipients ask, in error messages, share properties and on activation pages; empty for nobody.
    pub support_contact: String,
    /// For how many seconds a client may take nothing of an answer that streams to it before it ends.
    pub stalled_seconds: u64,
    /// Requests in a minute of a recipient that has no limit of its own, on each server.
    pub requests_per_minute: u64,
    /// Answers that stream at once to a recipient that has no limit of its own, on each server.
    pub concurrent_streams: u64,
    /// How many refusals of one address, or of one recipient, are recorded by themselves in a minute.
    pub failures_recorded_per_minute: u64,
    /// How many failed authentications of one address, or with one token, are answered in a minute before 429.
    pub failures_per_minute: u64,
    /// How many failed activations of one address are answered in a minute before 429.
    pub activation_failures_per_minute: u64,
}

/// Whether raw tables may be put into shares.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum RawSharing {
    /// They may.
    #[default]
    Allow,
    /// They may where what they disclose beside what a query shows is acknowledged.
    Acknowledge,
    /// They may not, nor may more of the past of those that are shared: views are.
    Refuse,
}

/// Connectors refresh URLs 10 to 20 minutes before they end; with a shorter life they loop or fail.
const SHORTEST_MISREAD_SECONDS: u64 = 1200;
/// SigV4 presigned URLs live 7 days at most.
const LONGEST_SIGNED_SECONDS: u64 = 604_800;
/// The longest text that is written into messages, in characters.
const LONGEST_TEXT: usize = 200;
const TEN_YEARS_SECONDS: u64 = 3650 * 86_400;
/// First path segments that the server answers itself.
const TAKEN: [&str; 8] = ["api", "files", "activate", "healthz", "readyz", "metrics", "console", "extract"];

impl SharingSettings {
    /// For how long a client may take nothing of an answer that streams to it.
    pub fn stalled(&self) -> Duration {
        Duration::from_secs(self.stalled_seconds)
    }

    /// Whether raw tables may be shared, in whichever words it was said.
    pub fn raw_sharing(&self) -> RawSharing {
        match self.raw {
            RawSharing::Allow if self.require_acknowledge => RawSharing::Acknowledge,
            raw => raw,
        }
    }

    /// Finds what is wrong beyond types.
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
