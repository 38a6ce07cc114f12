//! What a check is, and how it ends.

use futures::future::BoxFuture;

use super::context::Context;

/// One check: a question to the server with one right answer.
pub struct Check {
    /// Its number, which stays the same for ever.
    pub number: u16,
    /// What holds where it passes.
    pub title: &'static str,
    /// The heading of the protocol's text that asks for it.
    pub section: &'static str,
    pub(super) run: for<'a> fn(&'a Context) -> BoxFuture<'a, Outcome>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("number", &self.number).field("title", &self.title).finish_non_exhaustive()
    }
}

/// How a check ends where it does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server is wrong, and this is how.
    Fail(String),
    /// The server, or what is shared, does not let the question be asked, and this is why.
    NotApplicable(String),
}

/// How a check ends.
pub type Outcome<T = ()> = Result<T, Verdict>;

/// The end of a check that the server fails.
pub(super) fn fail<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Verdict::Fail(reason.into()))
}

/// The end of a check that cannot be asked.
pub(super) fn skip<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Verdict::NotApplicable(reason.into()))
}

/// Fails the check with the message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return $crate::conformance::check::fail(format!($($message)+));
        }
    };
}

/// One entry of a group's table of checks.
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
