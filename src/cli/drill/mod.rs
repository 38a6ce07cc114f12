//! `weir drill`: rehearses what must work on a bad day, on the real system, with a canary, and records the
//! measurements.
//!
//! One file for each rehearsal. The canary's tokens and grants always end with the drill. Never here: a private way
//! into the server; everything uses the admin API, the sharing protocol, or the same functions as `weir audit` and
//! `weir serve`.

mod agreement_end;
mod audit_tamper;
mod canary;
mod restore;
mod revocation;
mod rotation;
mod scratch;

use std::{collections::BTreeMap, io::Write, time::Duration};

use anyhow::{Context, anyhow, bail};
use reqwest::Method;
use serde_json::json;

use crate::domain::audit::drill::DrillKind;

use super::{
    api::{Client, Output, Request, Server},
    failure, print,
    serve::stop_signals,
};

/// The longest text recorded with a drill, in characters.
const MAX_DETAIL: usize = 4_000;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Revokes a canary's grant, then its token, and measures how long each replica takes to refuse it
    #[command(
        after_help = "Example:\n  weir drill revocation --replica http://10.0.0.5:8080 --replica http://10.0.0.6:8080"
    )]
    Revocation(revocation::Arguments),
    /// Lets a canary's agreement end, then terminates it, and measures how long each replica takes to refuse it
    #[command(
        after_help = "Example:\n  weir drill agreement-end --replica http://10.0.0.5:8080 --replica http://10.0.0.6:8080"
    )]
    AgreementEnd(agreement_end::Arguments),
    /// Rotates a canary's token, and checks that access never breaks from the old one to the new
    #[command(after_help = "Example:\n  weir drill rotation")]
    Rotation(rotation::Arguments),
    /// Tampers with a copy of the audit export, and checks that verification names the place
    #[command(after_help = "Example:\n  weir drill audit-tamper --config /etc/weir/weir.toml")]
    AuditTamper(audit_tamper::Arguments),
    /// Restores a backup beside the database, and checks that what was revoked since stays revoked
    #[command(after_help = "Example:\n  weir drill restore --config /etc/weir/weir.toml")]
    Restore(restore::Arguments),
}

/// The arguments of every drill.
#[derive(Debug, clap::Args)]
struct Common {
    /// The output format
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: Server,
}

/// The findings of a drill.
#[derive(Debug, Default)]
struct Findings {
    measured: BTreeMap<String, u64>,
    faults: Vec<String>,
}

impl Findings {
    fn measure(&mut self, name: impl Into<String>, time: Duration) {
        self.count(format!("{}_ms", name.into()), u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    fn count(&mut self, name: impl Into<String>, number: u64) {
        self.measured.insert(name.into(), number);
    }

    fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    /// Records the longest of the replicas' times, and each by itself if there are several.
    fn measure_each(&mut self, name: &str, times: &[Duration]) {
        self.measure(name, times.iter().copied().max().unwrap_or_default());
        if times.len() > 1 {
            for (at, time) in times.iter().enumerate() {
                self.measure(format!("replica_{}_{name}", at + 1), *time);
            }
        }
    }
}

pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Revocation(arguments) => revocation::run(arguments).await,
        Command::AgreementEnd(arguments) => agreement_end::run(arguments).await,
        Command::Rotation(arguments) => rotation::run(arguments).await,
        Command::AuditTamper(arguments) => audit_tamper::run(arguments).await,
        Command::Restore(arguments) => restore::run(arguments).await,
    }
}

/// Runs `rehearse`, ends the canary, and prints and records the outcome.
async fn conclude(
    kind: DrillKind,
    client: &Client,
    output: Output,
    rehearse: impl AsyncFnOnce(&mut Findings) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut signals, mut findings) = (stop_signals()?, Findings::default());
    let ended = tokio::select! {
        ended = rehearse(&mut findings) => ended,
        () = signals.next() => Err(anyhow!("it was broken off")),
    };
    if let Err(error) = ended {
        findings.fault(failure::said(&error));
    }
    if let Err(error) = canary::end(client).await {
        findings.fault(format!(
            "the canary could not be ended, and ends within ten minutes by itself: {}",
            failure::said(&error)
        ));
    }
    let Findings { measured, faults } = &findings;
    let passed = faults.is_empty();
    print_findings(kind, output, &findings)?;
    let detail: String = print::clean(&faults.join("; "), false).chars().take(MAX_DETAIL).collect();
    let detail = if passed { serde_json::Value::Null } else { detail.into() };
    let body = json!({"kind": kind, "passed": passed, "measured": measured, "detail": detail});
    let recorded = client.call(&Request::new(Method::POST, &["drills"]).with_body(body)).await;
    if !passed {
        let unrecorded = if recorded.is_err() { ", and that could not be recorded" } else { "" };
        bail!("the drill failed{unrecorded}; see docs/operations.md for what each fault means");
    }
    recorded.context("the drill passed, and that could not be recorded").map(|_| ())
}

fn print_findings(kind: DrillKind, output: Output, findings: &Findings) -> anyhow::Result<()> {
    let Findings { measured, faults } = findings;
    let mut out = print::out();
    if output == Output::Json {
        let passed = faults.is_empty();
        return Ok(print::json(
            &mut out,
            &json!({"kind": kind, "passed": passed, "measured": measured, "faults": faults}),
        )?);
    }
    writeln!(out, "{}  {}", if faults.is_empty() { "PASS" } else { "FAIL" }, kind.as_str().replace('_', "-"))?;
    let width = measured.keys().map(String::len).max().unwrap_or_default();
    for (name, number) in measured {
        writeln!(out, "      {name:<width$}  {number}")?;
    }
    for fault in faults {
        writeln!(out, "      -> {}", print::clean(fault, false))?;
    }
    out.flush()?;
    Ok(())
}
