//! Jobs: background work that any server may take, one server at a time.
//!
//! Lives here: their kinds, their states, and when a job that failed is tried again. Never here: what a job does.

use chrono::TimeDelta;

use super::word::Words;

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Makes a monthly report; its key is the report's id.
    Report,
    /// Scans a table's columns; its key is the table's id.
    Scan,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Report, Self::Scan];

    /// The word kept in the database and answered.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Scan => "scan",
        }
    }

    /// The kind that [`Self::as_str`] named.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The state of a job; a job that is done is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// To be done, now or later.
    Due,
    /// A server is at it.
    Running,
    /// Given up, until somebody retries it.
    Dead,
}

impl Words for JobState {
    const NOUN: &'static str = "state of a job";
    const ALL: &'static [(&'static str, Self)] =
        &[("due", Self::Due), ("running", Self::Running), ("dead", Self::Dead)];
}

/// The longest pause before something that failed is tried again.
pub const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(6);
/// The pause after the first attempt; each further one is twice as long.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(10);

/// The pause after `attempts` attempts.
pub fn pause(attempts: i64) -> TimeDelta {
    let doublings = u32::try_from(attempts.clamp(1, 20) - 1).unwrap_or_default();
    (FIRST_PAUSE * 2i32.pow(doublings)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let seconds: Vec<i64> = [1, 2, 3, 11, 12, 13, 100, i64::MAX].map(|n| pause(n).num_seconds()).into();
        assert_eq!(seconds, [10, 20, 40, 10_240, 20_480, 21_600, 21_600, 21_600]);
    }

    #[test]
    fn words_are_read_back() {
        assert!(JobKind::ALL.into_iter().all(|kind| JobKind::parse(kind.as_str()) == Some(kind)));
        assert_eq!((JobKind::parse("Report"), JobState::parse("done")), (None, None));
    }
}
