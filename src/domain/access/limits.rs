//! Limits: how much one recipient may request, and when it may try again after a refusal.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// How much a recipient may request; what is beyond is refused with 429. Without a value of their own, requests and
/// streams have the limits of the configuration, and bytes are unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = LimitsBody)]
pub struct RecipientLimits {
    /// Requests of the sharing protocol per minute, counted by each server separately; file reads do not count.
    /// Default: `sharing.requests_per_minute`.
    #[schema(minimum = 1)]
    pub requests_per_minute: Option<u64>,
    /// Queries and file reads that stream through a server at the same time, counted by each server separately.
    /// Default: `sharing.concurrent_streams`.
    #[schema(minimum = 1)]
    pub concurrent_streams: Option<u64>,
    /// Bytes per day (UTC) of files whose URLs are issued, and of files read again through servers, counted for all
    /// servers together. Default: unlimited.
    #[schema(minimum = 1)]
    pub bytes_per_day: Option<u64>,
}

impl RecipientLimits {
    /// Each limit with its name.
    pub fn each(&self) -> [(&'static str, Option<u64>); 3] {
        [
            ("requests_per_minute", self.requests_per_minute),
            ("concurrent_streams", self.concurrent_streams),
            ("bytes_per_day", self.bytes_per_day),
        ]
    }
}

/// The minute that contains `at`, counted from 1970.
pub fn minute(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(60)
}

/// Whether moving to the minute `current` ends the minute `open`. A clock that goes back by one minute must not open a
/// minute again; a clock that goes back further was ahead before, so its minute is over.
pub fn ends_minute(open: i64, current: i64) -> bool {
    current != open && current + 1 != open
}

/// The day that contains `at` in UTC, counted from 1970.
pub fn day(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(86_400)
}

/// Whole seconds from `now` until the next minute begins; at least 1.
pub fn seconds_to_next_minute(now: DateTime<Utc>) -> u64 {
    u64::try_from(60 - now.timestamp().rem_euclid(60)).unwrap_or(60)
}

/// Whole seconds from `now` until the next day begins in UTC; at least 1.
pub fn seconds_to_next_day(now: DateTime<Utc>) -> u64 {
    u64::try_from(86_400 - now.timestamp().rem_euclid(86_400)).unwrap_or(86_400)
}

/// Converts `seconds` into a time span, capped at the longest possible one.
pub fn span(seconds: u64) -> TimeDelta {
    i64::try_from(seconds).ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_caller_waits_until_the_window_is_over() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        assert_eq!(seconds_to_next_minute(at(120)), 60);
        assert_eq!(seconds_to_next_minute(at(179)), 1);
        assert_eq!(seconds_to_next_day(at(86_400)), 86_400);
        assert_eq!((minute(at(179)), day(at(86_399)), day(at(86_400))), (2, 0, 1));
    }

    #[test]
    fn a_minute_ends_with_the_next_and_where_the_clock_was_ahead() {
        assert_eq!([10, 11, 9, 8, 5_000].map(|current| ends_minute(10, current)), [false, true, false, true, true]);
    }
}
