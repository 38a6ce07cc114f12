//! Settings of the listeners: their addresses, the public URL, and the limits on load.

use std::{net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};
use url::Url;

use super::{empty_as_none, problems::Problems};

/// `[server]`.
#[derive(Clone, Debug, Deserialize)]
pub struct ServerSettings {
    /// The address to listen on.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// The address for the admin API, metrics and API documents. If set, they are served only there.
    #[serde(deserialize_with = "optional_address")]
    pub admin_listen: Option<SocketAddr>,
    /// The server's URL for clients, without a trailing slash; written into profiles and links.
    #[serde(deserialize_with = "without_trailing_slash")]
    pub public_url: String,
    /// Networks of proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<Network>,
    /// Whether a proxy in front of the server terminates TLS, so that a plain listener beyond loopback is accepted.
    pub tls_terminated_upstream: bool,
    /// The largest request body, in bytes.
    pub max_body_bytes: u64,
    /// The most concurrent requests of recipients.
    pub max_concurrent_requests: u64,
    /// The most of these from one address.
    pub max_requests_per_address: u64,
    /// The most concurrent requests of one recipient, including waiting ones.
    pub max_requests_per_recipient: u64,
    /// The most concurrent requests of operators, in addition to those of recipients.
    pub max_concurrent_admin_requests: u64,
    /// The time until a response must begin, in seconds.
    pub request_timeout_seconds: u64,
    /// The time until a request's body must have arrived, in seconds.
    pub body_timeout_seconds: u64,
    /// The time for which the server still answers after a stop signal while it reports that it is not ready, in
    /// seconds.
    pub drain_seconds: u64,
    /// The additional time for running streams, in seconds.
    pub shutdown_grace_seconds: u64,
    /// `[server.tls]`.
    tls: TlsSettings,
}

#[derive(Clone, Debug, Deserialize)]
struct TlsSettings {
    #[serde(deserialize_with = "empty_as_none")]
    cert_file: Option<PathBuf>,
    #[serde(deserialize_with = "empty_as_none")]
    key_file: Option<PathBuf>,
}

/// The PEM files for a listener with TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain, with the server's own certificate first.
    pub cert_file: PathBuf,
    /// The private key of the first certificate.
    pub key_file: PathBuf,
}

/// A network in CIDR notation; a single address is a network of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(pub IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| IpNet::from(address)));
        network.map(Self).map_err(|_| format!("`{text}` is no network; write it as in `10.0.0.0/8`"))
    }
}

impl ServerSettings {
    /// Returns the TLS files, if both are set.
    pub fn tls(&self) -> Option<TlsFiles> {
        let TlsSettings { cert_file: Some(cert_file), key_file: Some(key_file) } = self.tls.clone() else {
            return None;
        };
        Some(TlsFiles { cert_file, key_file })
    }

    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        self.check_tls(problems);
        self.check_listeners(problems);
        self.check_public_url(problems);
        const MIB: u64 = 1 << 20;
        problems.bound("server.max_body_bytes", self.max_body_bytes, 1024..=64 * MIB, "a body is held in memory");
        let requests = self.max_concurrent_requests;
        problems.bound("server.max_concurrent_requests", requests, 1..=100_000, "each holds memory");
        for (key, number) in [
            ("server.max_requests_per_address", self.max_requests_per_address),
            ("server.max_requests_per_recipient", self.max_requests_per_recipient),
            ("server.max_concurrent_admin_requests", self.max_concurrent_admin_requests),
        ] {
            problems.bound(key, number, 1..=100_000, "each holds memory");
        }
        let body = self.body_timeout_seconds;
        problems.bound("server.body_timeout_seconds", body, 1..=300, "a body that stalls keeps others waiting");
        let timeout = self.request_timeout_seconds;
        problems.bound("server.request_timeout_seconds", timeout, 1..=3600, "clients give up after minutes");
        let drain = self.drain_seconds;
        problems.bound("server.drain_seconds", drain, 0..=300, "a stop must come to an end");
        let grace = self.shutdown_grace_seconds;
        problems.bound("server.shutdown_grace_seconds", grace, 0..=3600, "a stop must come to an end");
    }

    fn check_tls(&self, problems: &mut Problems) {
        let missing = match (&self.tls.cert_file, &self.tls.key_file) {
            (Some(_), None) => Some("key_file"),
            (None, Some(_)) => Some("cert_file"),
            (Some(_), Some(_)) | (None, None) => None,
        };
        if let Some(missing) = missing {
            problems.add(format!("server.tls.{missing}"), "is missing; TLS needs cert_file and key_file");
        }
        for (key, file) in [("cert_file", &self.tls.cert_file), ("key_file", &self.tls.key_file)] {
            if let Some(file) = file
                && let Err(source) = std::fs::File::open(file)
            {
                problems.add(format!("server.tls.{key}"), format!("`{}` cannot be read: {source}", file.display()));
            }
        }
    }

    fn check_listeners(&self, problems: &mut Problems) {
        let encrypted = self.tls().is_some() || self.tls_terminated_upstream;
        for (key, address) in [("listen", Some(self.listen)), ("admin_listen", self.admin_listen)] {
            let Some(address) = address else { continue };
            if !address.ip().to_canonical().is_loopback() && !encrypted {
                problems.add(
                    format!("server.{key}"),
                    format!(
                        "`{address}` is reachable from outside and would carry tokens in the clear; set server.tls, \
                         or tls_terminated_upstream = true when a proxy in front speaks TLS"
                    ),
                );
            }
        }
        if self.admin_listen == Some(self.listen) && self.listen.port() != 0 {
            problems
                .add("server.admin_listen", "is the same address as server.listen; choose another or leave it empty");
        }
    }

    fn check_public_url(&self, problems: &mut Problems) {
        let wrong = match Url::parse(&self.public_url) {
            Err(source) => Some(source.to_string()),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => Some("it is neither http nor https".to_owned()),
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                Some("it has a query or a fragment, and paths are appended to it".to_owned())
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                // The value is not repeated, because it contains a password.
                problems.add("server.public_url", "carries credentials, and would be handed to partners; remove them");
                return;
            }
            Ok(_) => None,
        };
        if let Some(wrong) = wrong {
            let url = &self.public_url;
            problems.add(
                "server.public_url",
                format!("`{url}` cannot be used: {wrong}; write `https://share.example.org`"),
            );
        }
    }
}

fn parse_address<E: serde::de::Error>(text: &str) -> Result<SocketAddr, E> {
    text.parse().map_err(|_| {
        E::custom(format!("`{text}` is no address; write an IP address and a port, as in `127.0.0.1:8080`"))
    })
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?)
}

fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { parse_address::<D::Error>(&text).map(Some).map_err(D::Error::custom) }
}

fn without_trailing_slash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(String::deserialize(deserializer)?.trim_end_matches('/').to_owned())
}
