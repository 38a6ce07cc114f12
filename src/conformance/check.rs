//! Defines a check and its outcomes.

use futures::future::BoxFuture;

use super::context::Context;

/// One check: a question to the server with one right answer.
pub struct Check {
    /// The check's number, which never changes.
    pub number: u16,
    /// The statement that is true if the check passes.
    pub title: &'static str,
    /// The heading of the section in the protocol that requires it.
    pub section: &'static str,
    pub(super) run: for<'a> fn(&'a Context) -> BoxFuture<'a, Outcome>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("number", &self.number).field("title", &self.title).finish_non_exhaustive()
    }
}

/// The outcome of a check that does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server is wrong; the text says how.
    Fail(String),
    /// The server or the shared data does not allow the question; the text says why.
    NotApplicable(String),
}

/// The outcome of a check.
pub type Outcome<T = ()> = Result<T, Verdict>;

/// Ends a check with a failure of the server.
pub(super) fn fail<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Verdict::Fail(reason.into()))
}

/// Ends a check that is not applicable.
pub(super) fn skip<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Verdict::NotApplicable(reason.into()))
}

/// Fails the check with the message unless the condition is true.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return $crate::conformance::check::fail(format!($($message)+));
        }
    };
}

/// Builds an entry in a group's table of checks.
macro_rules! check {
    ($number:literal, $section:literal, $title:literal, $run:path) => {
        $crate::conformance::check::Check {
            number: $number,
            title: $title,
            section: $section,
            run: |ctx| Box::pin($run(ctx)),
        }
    };
}

pub(super) use {check, ensure};
