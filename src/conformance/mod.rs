//! Checks of a Delta Sharing server that need only a profile: what any recipient could find out.
//!
//! Lives here: a client of the protocol, what it discovers about a server, the checks, and their report. Never here:
//! anything about Weir. A check asks nothing that a conforming server may refuse, changes nothing on the server, and
//! fails no server for a freedom that the protocol leaves. Start reading at [`check`].

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

/// How long one check may take; a server that needs longer fails it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(180);

/// Why a run could not begin. What the server does wrong is never an error, but a result.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The profile cannot be used.
    #[error("the profile cannot be used: {0}")]
    Profile(String),
    /// There is no check with the number.
    #[error("there is no check {0}; docs/conformance.md lists them")]
    UnknownCheck(u16),
    /// The table to look at is no `share.schema.table`.
    #[error("`{0}` names no table; write share.schema.table")]
    TableName(String),
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
    /// The server cannot be asked at all.
    #[error(
        "the server cannot be asked: {0}; check the profile's endpoint and token, and --cacert where an authority of your own issued its certificate"
    )]
    Unreachable(String),
}

/// Every check there is, by number.
pub fn catalogue() -> Vec<&'static Check> {
    let mut all: Vec<&Check> = checks::GROUPS.iter().copied().flatten().collect();
    all.sort_by_key(|check| check.number);
    all
}

/// What of a server to look at.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The one table to look at, `share.schema.table`; without it, the tables that show the most.
    pub table: Option<String>,
    /// The numbers of the checks to run; every check, where there are none.
    pub checks: Vec<u16>,
    /// Certificates that are trusted besides the machine's.
    pub certificates: Vec<reqwest::Certificate>,
}

/// Runs the checks of `selection` against the server of `profile`. `progress` is told what is being done, one line
/// each time.
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
