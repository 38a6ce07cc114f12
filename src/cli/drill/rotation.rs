//! Rotates a token, and checks that both work for a while, then only the new one.

use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::{cli::api::Client, domain::audit::drill::DrillKind};

use super::{
    Common, Findings,
    canary::{self, Named, Reads, Watched},
    conclude,
};

/// How long both tokens are valid.
const OVERLAP: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// By how much the old token may end too early or too late, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    within_ms: u64,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = arguments.common.server.client()?;
    canary::prepare(&client).await?;
    let output = arguments.common.output;
    conclude(DrillKind::Rotation, &client, output, async |found| rehearse(&client, &arguments, found).await).await
}

async fn rehearse(client: &Client, arguments: &Arguments, findings: &mut Findings) -> anyhow::Result<()> {
    let within = Duration::from_millis(arguments.within_ms);
    let old = canary::issue(client).await?;
    let reads = Reads::of(client, &old, &arguments.named.replicas).await?;
    canary::grant(client, &old).await?;
    reads.until_allowed(&old, findings, "allowed").await?;
    let replicas = &reads.replicas;

    let began = Instant::now();
    let new = canary::rotate(client, &old.id, OVERLAP).await?;
    let rotated = began.elapsed();
    findings.measure("rotated", rotated);
    let longest = rotated + OVERLAP + within;
    let watched = join_all(replicas.iter().map(|replica| replica.watch_rotation((&old, &new), began, longest))).await;
    let (mut news, mut boths, mut olds) = (Vec::new(), Vec::new(), Vec::new());
    for (replica, watched) in replicas.iter().zip(watched) {
        let name = replica.name();
        match watched {
            Err(fault) => findings.fault(fault),
            Ok(Watched { old_denied, .. }) if old_denied + within < OVERLAP => {
                findings.fault(format!("{name} refused the old token after {} ms already", old_denied.as_millis()));
            }
            Ok(Watched { new_allowed: Some(new), both_allowed: Some(both), old_denied }) => {
                news.push(new);
                boths.push(both);
                olds.push(old_denied);
            }
            Ok(_) => findings.fault(format!("{name} never allowed both tokens at once")),
        }
    }
    if olds.len() == replicas.len() {
        findings.measure_each("new_allowed", &news);
        findings.measure("both_allowed_until", boths.into_iter().min().unwrap_or_default());
        findings.measure_each("old_denied", &olds);
    }
    reads.until_allowed(&new, findings, "new_goes_on").await
}
