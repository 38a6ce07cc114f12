//! `weir health`: so that a container image needs no other program to check on the server.

use std::time::Duration;

use anyhow::{Context, bail};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to ask: `/healthz` for alive, `/readyz` for ready
    #[arg(long, default_value = "http://127.0.0.1:8080/healthz")]
    url: String,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
    let answer = client.get(&arguments.url).send().await.context("the server does not answer; check that it runs")?;
    if !answer.status().is_success() {
        bail!("the server answers {}; see its log", answer.status());
    }
    Ok(())
}
