//! `weir doctor`: examines everything that a server depends on, from the server's own machine, and says how to fix each
//! fault.
//!
//! One file for each kind of thing. Every examination ends within [`PATIENCE`], changes nothing except for a probe that
//! it removes, and reveals no secret.

mod database;
mod machine;
mod storages;

use std::{future::Future, io::Write, path::PathBuf, time::Duration};

use anyhow::bail;
use chrono::TimeDelta;
use serde::Serialize;
use serde_json::json;

use super::{ConfigFile, api::Output, print};
use crate::{config::Settings, store::CLOCKS_APART};

/// How long one examination may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest tolerated difference between clocks. This server's clock decides about claims of servers, windows of
/// grants and lifetimes of URLs; the object store's clock decides about signatures.
const MAX_SKEW: TimeDelta = CLOCKS_APART;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  weir doctor --config /etc/weir/weir.toml")]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// How many MiB must be free for the database, the copies and the export, each if it is on this machine
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    min_free_mib: u64,
    /// The output format
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
}

/// The result of one examination.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    /// The name of the examination; the same in every run.
    check: String,
    status: Status,
    /// What was found.
    detail: String,
    /// How to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    /// Needs attention, but nothing fails because of it today.
    Warning,
    Failed,
    /// Could not be examined, or does not exist.
    Skipped,
}

/// The outcome of one examination: what was found, or a fault.
type Examined = Result<String, Fault>;

/// A fault, and how to fix it.
#[derive(Debug)]
struct Fault {
    detail: String,
    remedy: String,
}

impl Fault {
    fn new(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { detail: detail.into(), remedy: remedy.into() }
    }

    /// Splits an error's text at the semicolon into the fault and the remedy.
    fn of(error: impl std::fmt::Display, remedy: &str) -> Self {
        let text = error.to_string();
        match text.split_once("; ") {
            Some((detail, remedy)) => Self::new(detail, remedy),
            None => Self::new(text, remedy),
        }
    }
}

impl Finding {
    fn new(check: &str, status: Status, detail: impl Into<String>) -> Self {
        Self { check: check.to_owned(), status, detail: detail.into(), remedy: None }
    }

    fn of(check: &str, examined: Examined) -> Self {
        match examined {
            Ok(detail) => Self::new(check, Status::Ok, detail),
            Err(Fault { detail, remedy }) => Self { remedy: Some(remedy), ..Self::new(check, Status::Failed, detail) },
        }
    }

    fn warning(check: &str, Fault { detail, remedy }: Fault) -> Self {
        Self { remedy: Some(remedy), ..Self::new(check, Status::Warning, detail) }
    }
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let findings = examine(&arguments).await;
    let mut out = print::out();
    match arguments.output {
        Output::Json => print::json(&mut out, &json!({"checks": findings}))?,
        Output::Table => print_findings(&mut out, &findings)?,
    }
    match findings.iter().filter(|finding| finding.status == Status::Failed).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} checks failed; do what each says, and run `weir doctor` again", findings.len()),
    }
}

fn print_findings(out: &mut dyn Write, findings: &[Finding]) -> std::io::Result<()> {
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or_default();
    for Finding { check, status, detail, remedy } in findings {
        let word = match status {
            Status::Ok => "ok",
            Status::Warning => "warn",
            Status::Failed => "FAIL",
            Status::Skipped => "skip",
        };
        writeln!(out, "{word:<4}  {check:<width$}  {}", print::clean(detail, false))?;
        if let Some(remedy) = remedy {
            writeln!(out, "      {:<width$}  -> {}", "", print::clean(remedy, false))?;
        }
    }
    Ok(())
}

async fn examine(arguments: &Arguments) -> Vec<Finding> {
    let settings = match arguments.file.read() {
        Ok(settings) => settings,
        Err(problems) => {
            let faults = problems.iter().map(|problem| {
                let fault = Fault::of(problem, "see docs/configuration.md");
                Finding::of("configuration", Err(fault))
            });
            return faults.collect();
        }
    };
    let file = arguments.file.config.clone().or_else(|| std::env::var_os("WEIR_CONFIG").map(PathBuf::from));
    let mut findings = machine::configuration(&settings, file.as_deref());
    let keys = machine::keys(&settings);
    findings.extend(keys.findings);
    let (of_database, db) = database::open(&settings).await;
    findings.push(of_database);
    let of_keys = database::keys(db.as_ref(), &keys.fingerprints);
    let (clock, of_keys) = tokio::join!(database::skew(db.as_ref()), of_keys);
    findings.extend(of_keys);
    let (of_storages, mut clocks) = storages::examine(&settings, file, db.as_ref()).await;
    clocks.insert(0, clock);
    findings.push(machine::clocks(clocks));
    findings.extend(of_storages);
    let (views, export, checkpoints) = tokio::join!(
        storages::views(&settings),
        storages::export(&settings, db.as_ref()),
        database::checkpoints(&settings, db.as_ref())
    );
    findings.extend([views, export, checkpoints]);
    findings.extend(machine::disks(&settings, arguments.min_free_mib << 20));
    findings.push(machine::connections(&settings));
    findings.push(machine::countries(&settings));
    findings.extend(machine::addresses(&settings).await);
    findings.push(machine::tasks(&settings).await);
    findings.push(database::jobs(db.as_ref()).await);
    findings.push(database::safeguards(&settings, db.as_ref()).await);
    if let Some(db) = db {
        db.close().await;
    }
    findings
}

/// Ends an examination that takes too long.
async fn patiently(remedy: &str, examined: impl Future<Output = Examined>) -> Examined {
    let silent = || Fault::new(format!("no answer within {} seconds", PATIENCE.as_secs()), remedy);
    tokio::time::timeout(PATIENCE, examined).await.unwrap_or_else(|_| Err(silent()))
}

/// Writes a length of time in a convenient unit.
fn spelled(time: TimeDelta) -> String {
    let seconds = time.num_seconds().abs();
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Whether the settings name a database on this machine.
fn is_sqlite(settings: &Settings) -> bool {
    settings.database.sqlite_file().is_some()
}
