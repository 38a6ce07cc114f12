//! Calls the admin API from the shell: which server, which operator, and its problems as lines for people.

use std::{io::Read, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::ValueEnum;
use reqwest::{Method, RequestBuilder, Url, header::LOCATION, redirect};
use serde_json::Value;

use super::{
    nouns,
    trust::{Trust, unanswered},
};
use crate::http::{NO_SUCH_OPERATION, NO_SUCH_ROUTE};

/// How long one answer may take; opening a table's log takes a server seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer that is read, in bytes; a page of a thousand items is far smaller.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The largest token file, in bytes; a JWT has a few KiB.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// The server to call, and the operator's token.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub(super) struct Server {
    /// The server's address, or that of server.admin_listen if it is set
    #[arg(long, env = "WEIR_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: Url,
    /// A file that holds an operator's token; without it, WEIR_TOKEN has the token or WEIR_TOKEN_FILE names the file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// An operator's token; other users of this machine can see it here, but not in a file or in WEIR_TOKEN
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    #[command(flatten)]
    trust: Trust,
}

/// The format in which an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Tables and lists, for people
    #[value(alias = "text")]
    Table,
    /// JSON, as the API returns it
    Json,
}

/// A refusal by the API, with its reason.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Refusal {
    code: String,
    text: String,
    /// The problem as the API answered it.
    pub(super) problem: Value,
}

impl Refusal {
    /// Whether the thing does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        self.code == "not_found"
    }

    /// Whether this field is among those that cannot be accepted.
    pub(super) fn names(&self, field: &str) -> bool {
        self.problem["errors"].as_array().into_iter().flatten().any(|error| error["field"] == field)
    }

    /// Whether a rule forbids the request, as opposed to an error in it.
    pub(super) fn is_policy(&self) -> bool {
        matches!(self.code.as_str(), "forbidden" | "SEPARATION" | "RAW_DISCLOSURE_UNACKNOWLEDGED" | "AGREEMENT_MISSING")
    }
}

impl Server {
    /// Makes a client of the server and reads the token.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        // Following a redirect would send the token elsewhere.
        let http = self.trust.builder()?.timeout(PATIENCE).redirect(redirect::Policy::none()).build()?;
        Ok(Client { url: self.url.clone(), token: self.token()?, http, trust: self.trust.clone() })
    }

    fn token(&self) -> anyhow::Result<String> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
        let file = match (&self.token, &self.token_file) {
            (Some(token), _) => return Ok(token.clone()),
            (None, Some(file)) => file.clone(),
            (None, None) => match (variable("WEIR_TOKEN"), variable("WEIR_TOKEN_FILE")) {
                (Some(token), _) => return Ok(token.trim().to_owned()),
                (None, Some(file)) => file.into(),
                (None, None) => bail!("no operator token; name its file with --token-file or WEIR_TOKEN_FILE"),
            },
        };
        let shown = file.display();
        let opened = std::fs::File::open(&file).with_context(|| format!("the token file `{shown}` cannot be read"))?;
        let mut token = String::new();
        let read = opened.take(MAX_TOKEN_BYTES).read_to_string(&mut token);
        read.with_context(|| format!("the token file `{shown}` cannot be read"))?;
        match token.trim() {
            "" => bail!("the token file `{shown}` is empty; write an operator's token into it"),
            token => Ok(token.to_owned()),
        }
    }
}

/// A request to the admin API.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// The segments below `/api/v1`.
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<Value>,
}

impl Request {
    /// Makes a request with only a path.
    pub(super) fn new(method: Method, path: &[&str]) -> Self {
        let path = path.iter().map(|segment| (*segment).to_owned()).collect();
        Self { method, path, query: Vec::new(), headers: Vec::new(), body: None }
    }

    /// Adds a body.
    pub(super) fn with_body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Adds a query parameter.
    pub(super) fn with_query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }
}

/// Calls one server as one operator.
pub(super) struct Client {
    url: Url,
    token: String,
    http: reqwest::Client,
    /// For clients of other addresses in the same command.
    pub(super) trust: Trust,
}

impl Client {
    /// Makes a call. Returns the JSON of a successful answer, null if there is none, and whether something was created
    /// (201).
    ///
    /// # Errors
    /// [`Refusal`] if the server answers with a problem.
    pub(super) async fn call(&self, request: &Request) -> anyhow::Result<(Value, bool)> {
        let (status, text) = self.ask(request).await?;
        let unknown = || {
            format!(
                "{} answers something else than the admin API does; check --url, and use the server's weir",
                self.url
            )
        };
        let value = if text.is_empty() { Value::Null } else { serde_json::from_slice(&text).with_context(unknown)? };
        Ok((value, status == reqwest::StatusCode::CREATED))
    }

    /// Fetches a file, byte for byte.
    pub(super) async fn fetch(&self, request: &Request) -> anyhow::Result<Vec<u8>> {
        Ok(self.ask(request).await?.1)
    }

    /// Sends a request and returns a successful answer.
    async fn ask(&self, request: &Request) -> anyhow::Result<(reqwest::StatusCode, Vec<u8>)> {
        let mut url = self.url.clone();
        url.set_query(None);
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(["api", "v1"]).extend(&request.path),
            Err(()) => bail!("`{}` is no address of a server; use http:// or https://", self.url),
        };
        let builder = self.http.request(request.method.clone(), url).bearer_auth(&self.token).query(&request.query);
        let builder = request.headers.iter().fold(builder, |builder, (name, value)| builder.header(name, value));
        let builder = match &request.body {
            Some(body) => builder.json(body),
            None => builder,
        };
        let (status, text) = self.send(builder).await?;
        if status.is_success() {
            return Ok((status, text));
        }
        match refusal(&text) {
            Some(refusal) if leads_nowhere(&refusal.problem["detail"]) => bail!(
                "{} does not answer the admin API; name the address of server.admin_listen in --url where that is set, \
                 and use the weir of the server's version",
                self.url
            ),
            Some(refusal) => Err(refusal.into()),
            None => bail!(
                "{} answers {status} and is not the admin API of a weir; name the server's address in --url, or that of \
                 server.admin_listen where it is set, without a path",
                self.url
            ),
        }
    }

    async fn send(&self, builder: RequestBuilder) -> anyhow::Result<(reqwest::StatusCode, Vec<u8>)> {
        let silent = |error: reqwest::Error| unanswered(&self.url, "--url", &error.without_url());
        let mut answer = builder.send().await.map_err(silent)?;
        if answer.status().is_redirection() {
            let elsewhere = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let elsewhere =
                elsewhere.and_then(|location| Some(self.url.join(location).ok()?.origin().ascii_serialization()));
            let elsewhere = elsewhere.unwrap_or_else(|| "elsewhere".to_owned());
            bail!(
                "{} redirects to {elsewhere}, where no token is sent; name the server's own address in --url",
                self.url
            );
        }
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(silent)? {
            if text.len() + chunk.len() > MAX_ANSWER_BYTES {
                bail!("the answer is too large; ask for less, with a filter or --limit");
            }
            text.extend_from_slice(&chunk);
        }
        Ok((answer.status(), text))
    }

    /// Fetches all items of a listing, at most `limit`, and the token for the rest if there is more.
    pub(super) async fn list(
        &self,
        request: &Request,
        limit: Option<usize>,
    ) -> anyhow::Result<(Vec<Value>, Option<String>)> {
        let mut items: Vec<Value> = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let wanted = limit.map_or(MAX_PAGE, |limit| limit.saturating_sub(items.len()).clamp(1, MAX_PAGE));
            let mut page = request.clone().with_query("max_results", wanted.to_string());
            page.query.extend(next.take().map(|token| ("page_token".to_owned(), token)));
            let (mut answer, _) = self.call(&page).await?;
            if let Some(Value::Array(found)) = answer.get_mut("items").map(Value::take) {
                items.extend(found);
            }
            next = answer.get("next_page_token").and_then(Value::as_str).map(str::to_owned);
            if next.is_none() || limit.is_some_and(|limit| items.len() >= limit) {
                return Ok((items, next));
            }
        }
    }
}

/// The most items that the API answers in one page.
const MAX_PAGE: usize = 1_000;

/// Reads a problem (RFC 9457) as text: one line, and one more for each field.
fn refusal(text: &[u8]) -> Option<Refusal> {
    let problem: Value = serde_json::from_slice(text).ok()?;
    let member = |name: &str| problem.get(name).and_then(Value::as_str);
    let code = member("code")?.to_owned();
    let errors = problem.get("errors").and_then(Value::as_array).into_iter().flatten();
    let fields: Vec<String> = errors
        .filter_map(|error| Some(format!("\n  {}: {}", error.get("field")?.as_str()?, error.get("message")?.as_str()?)))
        .collect();
    let said = match (code.as_str(), fields.is_empty()) {
        // The detail would only repeat the fields.
        ("invalid_input", false) => member("title")?.to_owned() + ":",
        ("unauthenticated", _) => format!("{}; see --token-file", member("detail")?),
        _ => member("detail")?.to_owned(),
    };
    let text = format!("{said}{}", fields.concat());
    let text = super::print::clean(&nouns::in_commands(&text), true);
    Some(Refusal { code, text, problem })
}

/// Whether a server's answer means that the URL exists neither as a route nor as an operation.
fn leads_nowhere(detail: &Value) -> bool {
    detail == NO_SUCH_ROUTE || detail == NO_SUCH_OPERATION
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(problem: &Value) -> Refusal {
        refusal(problem.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn every_field_of_a_problem_has_its_line() {
        let problem = json!({"code": "invalid_input", "title": "The input cannot be accepted", "detail": "a: x; b: y",
            "errors": [{"field": "a", "message": "x"}, {"field": "b", "message": "y"}]});
        assert_eq!(said(&problem).to_string(), "The input cannot be accepted:\n  a: x\n  b: y");
        let problem = json!({"code": "conflict", "title": "Conflict", "detail": "differs",
            "errors": [{"field": "owner", "message": "has another value; change it with PATCH"}]});
        assert_eq!(said(&problem).to_string(), "differs\n  owner: has another value; change it with `update`");
        assert!(refusal(b"<html>").is_none());
    }

    #[test]
    fn only_what_rules_forbid_is_refused_by_policy() {
        let is_policy = |code: &str| said(&json!({"code": code, "title": "t", "detail": "d"})).is_policy();
        assert!(is_policy("forbidden") && is_policy("SEPARATION") && is_policy("RAW_DISCLOSURE_UNACKNOWLEDGED"));
        assert!(!is_policy("conflict") && !is_policy("invalid_input") && !is_policy("unauthenticated"));
    }
}
