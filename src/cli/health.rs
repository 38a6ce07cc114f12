//! `weir health`: lets a container image check the server without any other program.

use std::time::Duration;

use anyhow::bail;
use reqwest::Url;

use super::trust::{Trust, unanswered};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The URL to check: `/healthz` for alive, `/readyz` for ready
    #[arg(long, default_value = "http://127.0.0.1:8080/healthz")]
    url: Url,
    #[command(flatten)]
    trust: Trust,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = arguments.trust.builder()?.timeout(Duration::from_secs(5)).build()?;
    let sent = client.get(arguments.url.clone()).send().await;
    let answer = sent.map_err(|error| unanswered(&arguments.url, "--url", &error.without_url()))?;
    if !answer.status().is_success() {
        bail!("the server answers {}; see its log", answer.status());
    }
    Ok(())
}
