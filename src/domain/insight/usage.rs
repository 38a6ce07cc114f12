//! Defines what an event of the audit trail counts as, for roll-ups and reports alike.
//!
//! Everything is read from the event and nothing is guessed: what an event lacks stays unknown. Never here: what sums
//! are grouped by, or where they are stored.

use chrono::{DateTime, Utc};

use crate::domain::{
    audit::{action::Action, recorded::Recorded},
    core::word::Words,
};

/// The data plane's actions, each of which is one request of a recipient, or of somebody who is none.
pub const OPERATIONS: [Action; 9] = [
    Action::SharesList,
    Action::ShareGet,
    Action::SchemasList,
    Action::TablesList,
    Action::TableVersion,
    Action::TableMetadata,
    Action::TableQuery,
    Action::TableChanges,
    Action::FileRead,
];

/// The actions whose answers hand out files.
const DISCLOSING: [Action; 2] = [Action::TableQuery, Action::TableChanges];

/// The upper bounds of the latency histogram's buckets in milliseconds; one more bucket holds longer times.
pub const LATENCY_BOUNDS_MS: [i64; 9] = [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000];
/// The number of buckets.
pub const LATENCY_BUCKETS: usize = LATENCY_BOUNDS_MS.len() + 1;

/// The hour of `at` in UTC, counted from 1970.
pub fn hour(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(3_600)
}

/// The time at which an hour starts.
pub fn hour_start(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(hour.saturating_mul(3_600), 0).unwrap_or_default()
}

/// Sums over events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Events of any kind; reconciles the sums with the trail.
    pub events: i64,
    /// Requests of the sharing protocol, including refused ones; without file reads.
    pub requests: i64,
    /// File reads through URLs of this server.
    pub file_reads: i64,
    /// Refused requests and file reads.
    pub denials: i64,
    /// Files whose URLs were handed out.
    pub files: i64,
    /// Rows in these files, as far as their statistics tell.
    pub rows: i64,
    /// Answers whose files lack row counts, so that `rows` is too low.
    pub answers_without_rows: i64,
    /// Size of the files whose URLs were handed out.
    pub bytes_issued: i64,
    /// Bytes read through the server; `None` if everything was presigned, where reads go past the server.
    pub bytes_delivered: Option<i64>,
    /// Events whose address was erased before it was counted.
    pub addresses_lost: i64,
    /// Answers with a known duration.
    pub answers: i64,
    /// Their total duration in milliseconds.
    pub answer_ms: i64,
    /// The number of answers by duration, in the buckets of [`LATENCY_BOUNDS_MS`].
    pub latency: [i64; LATENCY_BUCKETS],
}

impl Usage {
    /// Counts one event.
    pub fn of(event: &Recorded) -> Self {
        let mut usage = Self { events: 1, ..Self::default() };
        // What this release does not know discloses nothing that it could count.
        let Some(action) = event.action.means() else { return usage };
        if OPERATIONS.contains(&action) {
            usage.count_requests(action, 1);
            usage.denials = i64::from(!event.is_allowed());
            usage.addresses_lost = i64::from(event.lost_its_address());
        } else if action == Action::RefusalsSummary {
            let refused = event.change.as_ref().and_then(|change| change["refused"].as_str()).and_then(Action::parse);
            if let Some(refused) = refused.filter(|refused| OPERATIONS.contains(refused)) {
                let count = signed(event.told("count"));
                usage.count_requests(refused, count);
                usage.denials = count;
                usage.addresses_lost = i64::from(event.lost_its_address());
            }
        } else if action == Action::FileReadSummary {
            usage.file_reads = signed(event.told("reads"));
        }
        if !event.is_allowed() {
            return usage;
        }
        if DISCLOSING.contains(&action) {
            usage.files = signed(event.files.unwrap_or_default());
            usage.rows = signed(event.rows.unwrap_or_default());
            usage.answers_without_rows = i64::from(usage.files > 0 && event.rows.is_none());
            usage.bytes_issued = signed(event.bytes.unwrap_or_default());
            usage.bytes_delivered = event.is_proxied().then_some(0);
        } else if [Action::FileRead, Action::FileReadSummary].contains(&action) {
            usage.bytes_delivered = Some(signed(event.bytes.unwrap_or_default()));
        }
        if let Some(took) = event.duration_ms {
            let took = signed(took);
            (usage.answers, usage.answer_ms) = (1, took);
            usage.latency[bucket(took)] = 1;
        }
        usage
    }

    /// The address of a request; `None` if the event is no request or its address is not available.
    pub fn address_of(event: &Recorded) -> Option<&str> {
        let action = event.action.means()?;
        let is_request =
            OPERATIONS.contains(&action) || (action == Action::RefusalsSummary && Self::of(event).denials > 0);
        event.client_address.as_deref().filter(|_| is_request)
    }

    fn count_requests(&mut self, action: Action, count: i64) {
        if action == Action::FileRead {
            self.file_reads = count;
        } else {
            self.requests = count;
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.events, other.events),
            (&mut self.requests, other.requests),
            (&mut self.file_reads, other.file_reads),
            (&mut self.denials, other.denials),
            (&mut self.files, other.files),
            (&mut self.rows, other.rows),
            (&mut self.answers_without_rows, other.answers_without_rows),
            (&mut self.bytes_issued, other.bytes_issued),
            (&mut self.addresses_lost, other.addresses_lost),
            (&mut self.answers, other.answers),
            (&mut self.answer_ms, other.answer_ms),
        ] {
            *sum = sum.saturating_add(more);
        }
        for (sum, more) in self.latency.iter_mut().zip(other.latency) {
            *sum = sum.saturating_add(more);
        }
        self.bytes_delivered = match (self.bytes_delivered, other.bytes_delivered) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
    }

    /// Returns the time within which this share (0 to 1) of the answers ended, in milliseconds: the upper bound of its
    /// bucket. `None` without answers or beyond the last bound.
    pub fn answered_within_ms(&self, share: f64) -> Option<i64> {
        let wanted = (self.answers as f64 * share).ceil().max(1.0);
        let mut seen = 0;
        for (count, bound) in self.latency.iter().zip(LATENCY_BOUNDS_MS) {
            seen += count;
            if seen as f64 >= wanted {
                return Some(bound);
            }
        }
        None
    }
}

fn bucket(took_ms: i64) -> usize {
    LATENCY_BOUNDS_MS.iter().position(|bound| took_ms <= *bound).unwrap_or(LATENCY_BOUNDS_MS.len())
}

/// Converts to the signed numbers of databases.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recorded(fields: serde_json::Value) -> Recorded {
        let mut event = json!({
            "seq": 1, "at": "2026-11-02T10:00:00.000000Z", "actor": {"kind": "recipient", "name": "acme"},
            "action": "table.query", "decision": "allow",
        });
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Recorded::read(&event.to_string(), None).unwrap()
    }

    #[test]
    fn a_query_issues_and_delivers_nothing_that_nobody_here_sees() {
        let usage = Usage::of(&recorded(json!({"files": 3, "rows": 30, "bytes": 300, "delivery": "presigned"})));
        assert_eq!((usage.requests, usage.files, usage.rows, usage.bytes_issued), (1, 3, 30, 300));
        assert_eq!(usage.bytes_delivered, None);
        let usage = Usage::of(&recorded(json!({"files": 3, "bytes": 300, "delivery": "proxied"})));
        assert_eq!((usage.answers_without_rows, usage.bytes_delivered), (1, Some(0)));
        let read = json!({"action": "file.read", "bytes": 100, "files": 1, "delivery": "proxied"});
        let usage = Usage::of(&recorded(read));
        assert_eq!((usage.requests, usage.file_reads, usage.files, usage.bytes_issued), (0, 1, 0, 0));
        assert_eq!(usage.bytes_delivered, Some(100));
    }

    #[test]
    fn refusals_disclose_nothing_and_sums_stand_for_many() {
        let denied = json!({"decision": "deny", "reason": "TOKEN_EXPIRED", "files": 3});
        let usage = Usage::of(&recorded(denied));
        assert_eq!((usage.requests, usage.denials, usage.files), (1, 1, 0));
        let summary =
            json!({"action": "refusals.summary", "decision": "deny", "change": {"refused": "shares.list", "count": 7}});
        let usage = Usage::of(&recorded(summary));
        assert_eq!((usage.events, usage.requests, usage.denials), (1, 7, 7));
        let admin =
            json!({"action": "refusals.summary", "decision": "deny", "change": {"refused": "auth.failed", "count": 7}});
        assert_eq!(Usage::of(&recorded(admin)), Usage { events: 1, ..Usage::default() });
        let reads = json!({"action": "file.read.summary", "bytes": 50, "change": {"reads": 4}});
        let usage = Usage::of(&recorded(reads));
        assert_eq!((usage.file_reads, usage.bytes_delivered), (4, Some(50)));
        assert_eq!(Usage::of(&recorded(json!({"action": "table.create"}))), Usage { events: 1, ..Usage::default() });
    }

    #[test]
    fn latencies_are_rounded_up_to_a_bound() {
        let mut sum = Usage::default();
        assert_eq!(sum.answered_within_ms(0.5), None);
        for took in [5, 10, 11, 2_000, 500_000] {
            sum.add(&Usage::of(&recorded(json!({"action": "table.query.completed", "duration_ms": took}))));
        }
        assert_eq!((sum.requests, sum.answers, sum.answer_ms), (0, 5, 502_026));
        assert_eq!(sum.answered_within_ms(0.4), Some(10));
        assert_eq!(sum.answered_within_ms(0.5), Some(30));
        assert_eq!(sum.answered_within_ms(0.95), None, "longer than is told apart");
    }

    #[test]
    fn what_is_unknown_stays_unknown_in_a_sum() {
        let known = Usage { bytes_delivered: Some(4), ..Usage::default() };
        let mut sum = Usage::default();
        sum.add(&Usage::default());
        assert_eq!(sum.bytes_delivered, None);
        sum.add(&known);
        sum.add(&Usage::default());
        assert_eq!(sum.bytes_delivered, Some(4));
    }
}
