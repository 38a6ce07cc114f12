//! Fetches documents of bounded size in bounded time, without following redirects.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode, redirect::Policy};
use url::Url;

use super::error::IdentityError;
use crate::{domain::core::secret::Secret, telemetry::error_chain};

/// The largest document of an issuer that is read, in bytes; key sets have a few kilobytes.
const LARGEST: usize = 256 * 1024;

/// Fetches documents.
#[derive(Clone, Debug)]
pub struct Fetcher {
    http: reqwest::Client,
    /// The longest time for one look at an issuer, regardless of the number of documents.
    pub timeout: Duration,
}

/// Why a document was not fetched. Never names its URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfetched {
    /// There was no answer, or only a part of one.
    #[error("cannot be fetched: {0}")]
    Unreachable(String),
    /// The answer has another status than success; a redirect, too.
    #[error("answers {0}")]
    Status(StatusCode),
    /// The answer is longer than this.
    #[error("answers more than {0} bytes")]
    TooLarge(usize),
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

    /// Fetches an issuer's document at `url`; the error describes the problem.
    pub async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        read(self.http.get(url), LARGEST).await.map_err(|unfetched| format!("`{url}` {unfetched}"))
    }

    /// Fetches a document of at most `largest` bytes, with a token if there is one.
    pub async fn get_as(&self, url: Url, token: Option<&Secret>, largest: usize) -> Result<Vec<u8>, Unfetched> {
        let request = self.http.get(url);
        let request = match token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        read(request, largest).await
    }
}

async fn read(request: RequestBuilder, largest: usize) -> Result<Vec<u8>, Unfetched> {
    let failed = |error: reqwest::Error| Unfetched::Unreachable(error_chain(&error.without_url()));
    let mut response = request.header("accept", "application/json").send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(Unfetched::Status(response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > largest {
            return Err(Unfetched::TooLarge(largest));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
