//! Revokes a grant and a token, and checks that every replica refuses: how soon, and from then on always.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::join_all;
use reqwest::Method;
use serde_json::Value;

use crate::{
    cli::api::{Client, Request},
    domain::audit::drill::DrillKind,
};

use super::{
    Common, Findings,
    canary::{self, Named, RECIPIENT, Reads, Token},
    conclude,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// How long a replica may still allow access after a revocation, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    within_ms: u64,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = arguments.common.server.client()?;
    canary::prepare(&client).await?;
    let output = arguments.common.output;
    conclude(DrillKind::Revocation, &client, output, async |found| rehearse(&client, &arguments, found).await).await
}

async fn rehearse(client: &Client, arguments: &Arguments, findings: &mut Findings) -> anyhow::Result<()> {
    let within = Duration::from_millis(arguments.within_ms);
    let token = canary::issue(client).await?;
    let reads = Reads::of(client, &token, &arguments.named.replicas).await?;
    let grant = canary::grant(client, &token).await?;
    reads.until_allowed(&token, findings, "allowed").await?;
    let revoked = canary::revoke_grant(client, &grant);
    denied(client, &reads, &token, findings, &Ending::revoked("grant", within), revoked).await?;

    canary::grant(client, &token).await?;
    reads.until_allowed(&token, findings, "allowed_again").await?;
    let revoked = canary::revoke_token(client, &token.id);
    denied(client, &reads, &token, findings, &Ending::revoked("token", within), revoked).await
}

/// A way in which access ends.
pub(super) struct Ending {
    /// What ends.
    pub(super) what: &'static str,
    /// What is done to it.
    pub(super) done: &'static str,
    /// The action that the audit trail records.
    pub(super) action: String,
    /// The `errorCode` of the refusals, if it matters.
    pub(super) code: Option<&'static str>,
    /// How long a replica may still allow access.
    pub(super) within: Duration,
}

impl Ending {
    fn revoked(what: &'static str, within: Duration) -> Self {
        Self { what, done: "revoked", action: format!("{what}.revoke"), code: None, within }
    }
}

/// Ends access while the canary reads everywhere. Checks that it is refused in time, and that no event after that of the end
/// allows it.
pub(super) async fn denied(
    client: &Client,
    reads: &Reads,
    token: &Token,
    findings: &mut Findings,
    &Ending { what, done, ref action, code, within }: &Ending,
    end: impl Future<Output = anyhow::Result<Value>>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let reading = join_all(reads.replicas.iter().map(|replica| replica.until_denied(token, code, began, within)));
    let end = async { end.await.map(|_| began.elapsed()) };
    let (ended, refused) = tokio::join!(end, reading);
    findings.measure(format!("{what}_{done}"), ended?);
    let mut times = Vec::new();
    for refused in refused {
        match refused {
            Ok(time) => times.push(time),
            Err(fault) => findings.fault(format!("after the {what} was {done}: {fault}")),
        }
    }
    if times.len() == reads.replicas.len() {
        findings.measure_each(&format!("{what}_denied"), &times);
    }
    let last = newest(client, action, None).await?;
    let last = last.with_context(|| format!("the audit trail has no {action} of the canary"))?;
    if let Some(seq) = newest(client, reads.action, Some(last)).await? {
        findings.fault(format!("event {seq} allows the canary behind event {last}, by which its {what} was {done}"));
    }
    Ok(())
}

/// Finds the sequence number of an allowed event of the canary with this action: the newest, or the first after
/// `behind`.
async fn newest(client: &Client, action: &str, behind: Option<i64>) -> anyhow::Result<Option<i64>> {
    let mut request = Request::new(Method::GET, &["audit"])
        .with_query("recipient", RECIPIENT)
        .with_query("action", action)
        .with_query("decision", "allow");
    if let Some(seq) = behind {
        request = request.with_query("order", "asc").with_query("after_seq", seq.to_string());
    }
    let (events, _) = client.list(&request, Some(1)).await?;
    Ok(events.first().and_then(|event| event["seq"].as_i64()))
}
