//! Fetches small documents from an issuer, with limits on size and time.

use std::time::Duration;

use reqwest::redirect::Policy;

use super::error::IdentityError;
use crate::telemetry::error_chain;

/// The largest document that is read, in bytes; key sets have a few kilobytes.
const LARGEST: usize = 256 * 1024;

/// Fetches documents.
#[derive(Clone, Debug)]
pub struct Fetcher {
    http: reqwest::Client,
    /// The longest time for one look at an issuer, regardless of the number of documents.
    pub timeout: Duration,
}

impl Fetcher {
    /// Creates a client. It requires TLS, unless an issuer on this machine may be reached without it.
    pub fn new(timeout: Duration, allow_http: bool) -> Result<Self, IdentityError> {
        // Redirects are not followed; an issuer that has moved must say so in its discovery document.
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(Policy::none())
            .https_only(!allow_http)
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(IdentityError::Client)?;
        Ok(Self { http, timeout })
    }

    /// Fetches the document at `url`; the error describes the problem.
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
