//! Lets an agreement end by time, and terminates it, and checks that every replica refuses: in time, and with the right code.

use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::{cli::api::Client, domain::audit::drill::DrillKind};

use super::{
    Common, Findings,
    canary::{self, CanaryAgreement, Named, Reads},
    conclude,
    revocation::{Ending, denied},
};

/// How long the agreement lasts once its end is set.
const LEAD: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// How long a replica may still allow access after the agreement has ended, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    within_ms: u64,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = arguments.common.server.client()?;
    canary::prepare(&client).await?;
    let output = arguments.common.output;
    conclude(DrillKind::AgreementEnd, &client, output, async |found| rehearse(&client, &arguments, found).await).await
}

async fn rehearse(client: &Client, arguments: &Arguments, findings: &mut Findings) -> anyhow::Result<()> {
    let within = Duration::from_millis(arguments.within_ms);
    let token = canary::issue(client).await?;
    let reads = Reads::of(client, &token, &arguments.named.replicas).await?;
    let agreement = CanaryAgreement::activate(client, &token).await?;
    agreement.grant(client, &token).await?;
    reads.until_allowed(&token, findings, "allowed").await?;

    let began = Instant::now();
    let end = agreement.end_in(client, LEAD).await?.saturating_duration_since(began);
    let reading = reads.replicas.iter();
    let reading = reading.map(|replica| replica.until_denied(&token, Some("AGREEMENT_ENDED"), began, end + within));
    let mut times = Vec::new();
    for (replica, refused) in reads.replicas.iter().zip(join_all(reading).await) {
        match refused {
            Ok(at) if at + within < end => {
                let early = (end - at).as_millis();
                findings.fault(format!("{} refused {early} ms before the agreement's end", replica.name()));
            }
            Ok(at) => times.push(at.saturating_sub(end)),
            Err(fault) => findings.fault(format!("after the agreement's end: {fault}")),
        }
    }
    if times.len() == reads.replicas.len() {
        findings.measure_each("ended_denied", &times);
    }

    agreement.prolong(client, &token).await?;
    reads.until_allowed(&token, findings, "allowed_again").await?;
    let ending = Ending {
        what: "agreement",
        done: "terminated",
        action: "agreement.terminate".to_owned(),
        code: Some("AGREEMENT_INACTIVE"),
        within,
    };
    denied(client, &reads, &token, findings, &ending, agreement.terminate(client)).await
}
