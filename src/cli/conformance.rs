//! `weir conformance`: checks any Delta Sharing server as a recipient sees it.

use std::{io::Write, path::PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;

use super::{print, trust::Trust};
use crate::conformance::{
    self, Selection,
    profile::Profile,
    report::{Ending, Report},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The profile file of a recipient of the server
    #[arg(long, value_name = "FILE")]
    profile: PathBuf,
    /// Checks only this table, share.schema.table; by default the tables that show the most
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Runs only the check with this number; may be repeated
    #[arg(long = "check", value_name = "NUMBER")]
    checks: Vec<u16>,
    /// The output format
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    trust: Trust,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// One line per check
    Text,
    /// One JSON object
    Json,
    /// JUnit XML, for continuous integration
    Junit,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let profile = Profile::read(&arguments.profile)?;
    // Standard error may be closed; that must not change the outcome.
    let progress = |line: &str| drop(writeln!(std::io::stderr(), "{line}"));
    let certificates = arguments.trust.certificates()?.unwrap_or_default();
    let selection = Selection { table: arguments.table, checks: arguments.checks, certificates };
    let report = conformance::run(&profile, &selection, progress).await?;
    let text = match arguments.output {
        Output::Text => Report::to_text(&report),
        Output::Json => Report::to_json(&report),
        Output::Junit => Report::to_junit(&report),
    };
    print::out().write_all(text.as_bytes()).context("the outcome cannot be written")?;
    match report.count(Ending::Fail) {
        0 => Ok(()),
        1 => bail!("1 check failed; its reason is in the outcome"),
        n => bail!("{n} checks failed; their reasons are in the outcome"),
    }
}
