//! The admin API from the shell: where it is, who asks, and its problems as one line.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use reqwest::{Method, Url};
use serde_json::Value;

/// Which server, and as whom.
#[derive(Debug, clap::Args)]
pub(super) struct Server {
    /// The server's address
    #[arg(long, env = "WEIR_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: Url,
    /// An operator's token
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: String,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Text,
    /// As the API answers it
    Json,
}

impl Server {
    /// Calls `path` under `/api/v1`, given by its segments, and answers the JSON.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let mut url = self.url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(["api", "v1"]).extend(path),
            Err(()) => bail!("`{}` is no address of a server; use http:// or https://", self.url),
        };
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
        let mut request = client.request(method, url).bearer_auth(&self.token).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let sent = request.send().await;
        let answer = sent.with_context(|| format!("{} does not answer; check --url and that it runs", self.url))?;
        let status = answer.status();
        let text = answer.text().await.context("the answer broke off; try again")?;
        if status.is_success() {
            return serde_json::from_str(&text).context("the answer is not what this weir knows; use the server's own");
        }
        bail!("{}", problem(&text).unwrap_or_else(|| format!("the server answers {status}; see its log")))
    }
}

/// What a problem says (RFC 9457), field by field.
fn problem(text: &str) -> Option<String> {
    let problem: Value = serde_json::from_str(text).ok()?;
    let detail = problem.get("detail").or(problem.get("title"))?.as_str()?;
    let errors = problem.get("errors").and_then(Value::as_array).into_iter().flatten();
    let fields = errors
        .filter_map(|error| Some(format!("{}: {}", error.get("field")?.as_str()?, error.get("message")?.as_str()?)));
    let fields: Vec<String> = fields.collect();
    Some(if fields.is_empty() { detail.to_owned() } else { format!("{detail}: {}", fields.join("; ")) })
}
