//! How a command reports failure: one line for people, one JSON object for programs, and an exit code.

use std::{ffi::OsString, io, io::Write, process::ExitCode};

use serde_json::{Value, json};

use crate::{config::Problems, service::audit::error::AuditError};

use super::{api::Refusal, print};

/// The exit code of wrong usage.
const MISUSED: u8 = 2;
/// The exit code for requests that a rule forbids.
const REFUSED: u8 = 3;

/// The audience of error messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// People: lines of text.
    Text,
    /// Programs: one JSON object on a line, like all other output under `--output json`.
    Json,
}

impl Manner {
    /// Reads it from the arguments before they are parsed, because parsing may be what fails.
    pub(super) fn of(arguments: impl Iterator<Item = OsString>) -> Self {
        let arguments: Vec<String> = arguments.filter_map(|argument| argument.into_string().ok()).collect();
        let asks = |pair: &[String]| matches!(pair[0].as_str(), "--output" | "-o") && pair[1] == "json";
        let joined = |argument: &String| matches!(argument.as_str(), "--output=json" | "-o=json" | "-ojson" | "--json");
        let is_json = arguments.windows(2).any(asks) || arguments.iter().any(joined);
        if is_json { Self::Json } else { Self::Text }
    }

    /// Prints `error` and returns the exit code.
    pub(super) fn tell(self, error: &anyhow::Error) -> ExitCode {
        // The reader of the output has seen enough, as in `weir audit export | head`.
        if is_unread(error) {
            return ExitCode::SUCCESS;
        }
        match self {
            Self::Text => print::note(said(error)),
            Self::Json => tell_json(&as_json(error)),
        }
        if is_refused(error) { ExitCode::from(REFUSED) } else { ExitCode::FAILURE }
    }

    /// Prints what is wrong with the command line, or the help that it asks for.
    pub(super) fn tell_misuse(self, error: &clap::Error) -> ExitCode {
        if self == Self::Json && error.use_stderr() {
            let text = error.to_string();
            let said = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            tell_json(&json!({"code": "usage", "detail": said}));
        } else {
            drop(error.print());
        }
        if error.use_stderr() { ExitCode::from(MISUSED) } else { ExitCode::SUCCESS }
    }
}

fn tell_json(value: &Value) {
    drop(writeln!(io::stderr().lock(), "{value}"));
}

/// The error and its causes. A cause whose text already occurs is left out, because many errors repeat their causes.
pub(super) fn said(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // PostgreSQL's message ends with a line number of its own source.
        let of_database = cause.strip_prefix("error returned from database: ");
        let cause = of_database.map_or(cause.as_str(), without_line);
        if said.is_empty() {
            said = cause.to_owned();
        } else if !said.contains(cause) {
            // The remedy, after the semicolon, stays last.
            said = match said.split_once("; ").filter(|_| !said.contains('\n')) {
                Some((what, next)) => format!("{what}: {cause}; {next}"),
                None => format!("{said}: {cause}"),
            };
        }
        if of_database.is_some() {
            break;
        }
    }
    said
}

fn without_line(text: &str) -> &str {
    let number = text.rsplit_once(" at line ").filter(|(_, line)| line.bytes().all(|b| b.is_ascii_digit()));
    number.map_or(text, |(text, _)| text)
}

/// The API's problem, if there is one, always with `code` and `detail`.
fn as_json(error: &anyhow::Error) -> Value {
    let said = said(error);
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        let mut problem = refusal.problem.clone();
        problem["detail"] = said.into();
        return problem;
    }
    let code = if is_refused(error) { "refused" } else { "failed" };
    match error.downcast_ref::<Problems>() {
        None => json!({"code": code, "detail": said}),
        Some(problems) => {
            let errors: Vec<Value> =
                problems.iter().map(|problem| json!({"field": problem.key, "message": problem.message})).collect();
            json!({"code": code, "detail": said, "errors": errors})
        }
    }
}

fn is_refused(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AuditError::Refused(_))) || error.downcast_ref().is_some_and(Refusal::is_policy)
}

/// Whether the only failure is that nobody reads the output any more. A broken pipe to a database or a server is a real
/// failure.
fn is_unread(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(print::is_unread)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn what_is_said_already_is_not_said_again() {
        let error = Err::<(), _>(anyhow!("no such file")).context("`x` cannot be read: no such file; name another");
        assert_eq!(said(&error.unwrap_err()), "`x` cannot be read: no such file; name another");
        let error = Err::<(), _>(anyhow!("no such file")).context("`x` cannot be read");
        assert_eq!(said(&error.unwrap_err()), "`x` cannot be read: no such file");
        let error = Err::<(), _>(anyhow!("error returned from database: oh no at line 948")).context("refused; see x");
        assert_eq!(said(&error.unwrap_err()), "refused: oh no; see x");
    }

    #[test]
    fn a_connection_that_breaks_off_is_a_failure() {
        #[derive(Debug, thiserror::Error)]
        #[error("the database is out of reach")]
        struct Unavailable(#[source] io::Error);

        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let chains = [
            anyhow::Error::from(broken()),
            Unavailable(broken()).into(),
            anyhow::Error::from(Unavailable(broken())).context("the trail cannot be read"),
            anyhow::Error::from(serde_json::Error::io(broken())),
        ];
        for error in chains {
            assert!(!is_unread(&error), "{error:?}");
        }
    }

    #[test]
    fn whoever_asks_for_json_is_told_in_json() {
        let of = |text: &str| Manner::of(text.split(' ').map(OsString::from));
        for text in ["weir share list --output json", "weir share list -o json", "weir share put --output=json x"] {
            assert_eq!(of(text), Manner::Json, "{text}");
        }
        for text in ["weir share list", "weir share put json", "weir share list --output table"] {
            assert_eq!(of(text), Manner::Text, "{text}");
        }
    }
}
