//! Small documents from an issuer, bounded in bytes and in time.

use std::time::Duration;

use reqwest::redirect::Policy;

use super::error::IdentityError;
use crate::telemetry::error_chain;

/// The largest document that is read, in bytes; key sets are a few kilobytes.
const LARGEST: usize = 256 * 1024;

/// Fetches documents.
#[derive(Clone, Debug)]
pub struct Fetcher {
    http: reqwest::Client,
    /// How long one look at an issuer may take, however many documents it needs.
    pub timeout: Duration,
}

impl Fetcher {
    /// A client that speaks TLS alone, unless an issuer on this machine may go without.
    pub fn new(timeout: Duration, allow_http: bool) -> Result<Self, IdentityError> {
        // An issuer that is elsewhere by now says so in its discovery document, not by leading from host to host.
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(Policy::none())
            .https_only(!allow_http)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(IdentityError::Client)?;
        Ok(Self { http, timeout })
    }

    /// The document at `url`; the error says what is wrong with it.
    pub async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        let failed =
            |error: reqwest::Error| format!("`{url}` cannot be fetched: {}", error_chain(&error.without_url()));
        let mut response = self.http.get(url).header("accept", "application/json").send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(format!("`{url}` answers {}", response.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > LARGEST {
                return Err(format!("`{url}` answers more than {LARGEST} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}
