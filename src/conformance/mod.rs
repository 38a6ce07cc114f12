//! Checks any Delta Sharing server, with only a profile: everything that a recipient could find out.
//!
//! Contains a client for the protocol, the discovery of a server, the checks, and their report. Never here: anything
//! specific to Weir. A check requests nothing that a conforming server may refuse, changes nothing on the server, and
//! allows all freedom that the protocol leaves. Start reading at [`check`].

mod answer;
pub mod check;
mod checks;
mod client;
mod context;
mod discovery;
mod file;
pub mod profile;
pub mod report;

use std::time::Duration;

use self::{
    check::{Check, Verdict},
    client::Client,
    profile::Profile,
    report::{CheckResult, Report},
};

/// The longest time for one check; after that it fails.
const CHECK_TIMEOUT: Duration = Duration::from_secs(180);

/// Why a run could not start. Faults of the server are results, not errors.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The profile cannot be used.
    #[error("the profile cannot be used: {0}")]
    Profile(String),
    /// There is no check with this number.
    #[error("there is no check {0}; docs/conformance.md lists them")]
    UnknownCheck(u16),
    /// The table's name is not of the form `share.schema.table`.
    #[error("`{0}` names no table; write share.schema.table")]
    TableName(String),
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
    /// The server does not answer requests.
    #[error(
        "the server cannot be asked: {0}; check the profile's endpoint and token, and --cacert where an authority of your own issued its certificate"
    )]
    Unreachable(String),
}

/// Returns all checks, sorted by number.
pub fn catalogue() -> Vec<&'static Check> {
    let mut all: Vec<&Check> = checks::GROUPS.iter().copied().flatten().collect();
    all.sort_by_key(|check| check.number);
    all
}

/// The tables and checks of a run.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The only table to examine, `share.schema.table`; without it, the first tables found are examined.
    pub table: Option<String>,
    /// The numbers of the checks to run; if empty, all checks run.
    pub checks: Vec<u16>,
    /// Certificates that are trusted in addition to the machine's.
    pub certificates: Vec<reqwest::Certificate>,
}

/// Runs the checks of `selection` against the server of `profile`. Calls `progress` with one line for each step.
pub async fn run(
    profile: &Profile,
    selection: &Selection,
    progress: impl Fn(&str) + Send + Sync,
) -> Result<Report, ConformanceError> {
    let table = selection.table.as_deref().map(discovery::table_name).transpose()?;
    let mut checks = catalogue();
    if let Some(number) = selection.checks.iter().find(|number| checks.iter().all(|check| check.number != **number)) {
        return Err(ConformanceError::UnknownCheck(*number));
    }
    checks.retain(|check| selection.checks.is_empty() || selection.checks.contains(&check.number));
    progress("looking at what is shared");
    let ctx = discovery::discover(Client::new(profile, &selection.certificates)?, table, &progress).await?;
    let mut results = Vec::new();
    for check in checks {
        progress(&format!("check {}: {}", check.number, check.title));
        let outcome = match tokio::time::timeout(CHECK_TIMEOUT, (check.run)(&ctx)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Verdict::Fail(format!("no end after {} seconds", CHECK_TIMEOUT.as_secs()))),
        };
        results.push(CheckResult::new(check, outcome));
    }
    let tables = ctx.subjects.iter().map(|subject| subject.table.to_string()).collect();
    Ok(Report { endpoint: profile.shown_endpoint(), tables, results })
}
