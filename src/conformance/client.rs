//! Sends requests to the server and to the URLs of files, with limits on time and size, and never shows secrets.

use std::{error::Error as _, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Certificate, Method, Response, header::HeaderMap, redirect};
use serde_json::Value;

use super::{
    ConformanceError,
    answer::Answer,
    check::{Outcome, fail, skip},
    profile::Profile,
};

/// The longest time for one request, including its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The most attempts for a request that is answered 429. The next constant is the longest wait between them.
const MAX_REPEATS: u32 = 4;
const MAX_WAIT_SECONDS: u64 = 15;
/// The characters that are percent-encoded in a path or query.
const UNRESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The header with the capabilities of a client, and with the format of an answer.
pub(super) const CAPABILITIES: &str = "delta-sharing-capabilities";

/// Encodes `text` for a path segment or a query.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, &UNRESERVED).to_string()
}

/// A recipient's client for the server.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// The kind of token that a request presents.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bearer {
    Own,
    Nobody,
    Wrong,
}

impl Client {
    pub(super) fn new(profile: &Profile, certificates: &[Certificate]) -> Result<Self, ConformanceError> {
        let http = reqwest::Client::builder()
            .tls_certs_merge(certificates.iter().cloned())
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(Duration::from_secs(15))
            .redirect(redirect::Policy::limited(3))
            .user_agent(concat!("weir-conformance/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ConformanceError::Client)?;
        let base = profile.endpoint.trim_end_matches('/').to_owned();
        Ok(Self { http, base, token: profile.bearer_token.clone().unwrap_or_default() })
    }

    pub(super) fn get(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::GET, path.into())
    }

    pub(super) fn head(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::HEAD, path.into())
    }

    /// Prepares a POST of `body` as JSON, with its content type.
    pub(super) fn post(&self, path: impl Into<String>, body: &Value) -> Call<'_> {
        self.post_text(path, &body.to_string()).header("content-type", "application/json")
    }

    /// Prepares a POST of `body`, unchanged and without a content type.
    pub(super) fn post_text(&self, path: impl Into<String>, body: &str) -> Call<'_> {
        let mut call = self.call(Method::POST, path.into());
        call.body = Some(body.to_owned());
        call
    }

    fn call(&self, method: Method, path: String) -> Call<'_> {
        Call { client: self, method, path, query: Vec::new(), headers: Vec::new(), body: None, bearer: Bearer::Own }
    }

    /// Reads a file's URL without a token, and keeps at most `limit` bytes.
    pub(super) async fn fetch(&self, url: &str, range: Option<&str>, limit: usize) -> Outcome<Fetched> {
        let mut request = self.http.get(url);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return fail(format!("a file's URL cannot be fetched: {}", reason(error))),
        };
        let (status, mut bytes) = (response.status().as_u16(), Vec::new());
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() > limit => {
                    return Ok(Fetched { status, bytes, complete: false });
                }
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => return Ok(Fetched { status, bytes, complete: true }),
                Err(error) => return fail(format!("a file's URL cannot be read to its end: {}", reason(error))),
            }
        }
    }

    /// Shortens the server's text, and removes anything that may be a secret.
    fn harmless(&self, text: &str) -> String {
        let words = text.split_whitespace().filter(|word| {
            !word.contains("://") && word.len() <= 80 && !word.contains(&self.token) && !word.contains("ignature")
        });
        let text = words.collect::<Vec<_>>().join(" ");
        text.chars().filter(|c| !c.is_control()).take(160).collect()
    }
}

/// The content of a file's URL.
pub(super) struct Fetched {
    pub(super) status: u16,
    pub(super) bytes: Vec<u8>,
    /// False if there is more content than the limit.
    pub(super) complete: bool,
}

/// A request in preparation.
#[derive(Clone)]
pub(super) struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
    bearer: Bearer,
}

impl Call<'_> {
    pub(super) fn query(mut self, key: &str, value: impl ToString) -> Self {
        self.query.push((key.to_owned(), value.to_string()));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds the capabilities header, unless `capabilities` is empty.
    pub(super) fn capabilities(self, capabilities: &str) -> Self {
        if capabilities.is_empty() { self } else { self.header(CAPABILITIES, capabilities) }
    }

    pub(super) fn without_token(mut self) -> Self {
        self.bearer = Bearer::Nobody;
        self
    }

    pub(super) fn with_wrong_token(mut self) -> Self {
        self.bearer = Bearer::Wrong;
        self
    }

    /// Sends the request and returns the answer, whatever its status. After a 429, waits and tries again.
    pub(super) async fn send(self) -> Outcome<Answer> {
        let shown = self.shown();
        for _ in 0..MAX_REPEATS {
            let response = match self.request().send().await {
                Ok(response) => response,
                Err(error) => return fail(format!("{shown} has no answer: {}", reason(error))),
            };
            if response.status().as_u16() == 429 {
                tokio::time::sleep(Duration::from_secs(wait_seconds(response.headers()))).await;
                continue;
            }
            return self.read(shown, response).await;
        }
        skip(format!("{shown} is refused as one request too many (429), again and again"))
    }

    fn request(&self) -> reqwest::RequestBuilder {
        let mut url = format!("{}{}", self.client.base, self.path);
        for (i, (key, value)) in self.query.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(&format!("{}={}", encode(key), encode(value)));
        }
        let mut request = self.client.http.request(self.method.clone(), url);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        match self.bearer {
            Bearer::Own => request.bearer_auth(&self.client.token),
            Bearer::Wrong => request.bearer_auth("no-token-of-this-server-0123456789"),
            Bearer::Nobody => request,
        }
    }

    async fn read(&self, shown: String, mut response: Response) -> Outcome<Answer> {
        let (status, headers, mut body) = (response.status().as_u16(), response.headers().clone(), Vec::new());
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > MAX_ANSWER_BYTES => {
                    return skip(format!("{shown} answers more than {MAX_ANSWER_BYTES} bytes; name a smaller table"));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return fail(format!("the answer to {shown} breaks off: {}", reason(error))),
            }
        }
        let said = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let said = [said["errorCode"].as_str(), said["message"].as_str()];
        let said = said.into_iter().flatten().map(|text| self.client.harmless(text)).collect::<Vec<_>>().join(": ");
        Ok(Answer { shown, status, headers, body, said })
    }

    /// Describes the request, without the tokens in it.
    fn shown(&self) -> String {
        let short = |text: &str| text.chars().filter(|c| !c.is_control()).take(60).collect::<String>();
        let mut shown = format!("`{} {}", self.method, self.path);
        for (i, (key, value)) in self.query.iter().enumerate() {
            let value = if key.ends_with("Token") { "…".to_owned() } else { short(value) };
            shown.push_str(&format!("{}{key}={value}", if i == 0 { '?' } else { '&' }));
        }
        if let Some(body) = &self.body {
            shown.push(' ');
            shown.push_str(&if body.contains("Token\":\"") { "{…}".to_owned() } else { short(body) });
        }
        let capabilities = self.headers.iter().filter(|(name, _)| *name == CAPABILITIES);
        capabilities.for_each(|(_, value)| shown.push_str(&format!(" [{}]", short(value))));
        shown + "`"
    }
}

fn wait_seconds(headers: &HeaderMap) -> u64 {
    let after = headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    after.unwrap_or(1).clamp(1, MAX_WAIT_SECONDS)
}

/// Describes why a request failed, without its URL.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        reason.push_str(&format!(": {error}"));
        source = error.source();
    }
    reason
}
