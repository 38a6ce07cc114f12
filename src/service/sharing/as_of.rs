//! The version or time that a client asks a table for.

use chrono::{DateTime, Utc};

use crate::service::core::error::ServiceError;

/// The number of characters of a time up to its minutes.
const MINUTES: usize = "2022-01-01T00:00".len();

/// The requested version of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AsOf {
    /// The newest.
    #[default]
    Latest,
    /// This one; needs history.
    Version(u64),
    /// The newest that was committed at or before this time; needs history.
    Timestamp(DateTime<Utc>),
}

/// Parses a time in the protocol's format: ISO 8601 with an offset (1.8). Seconds may be left out, as Java's readers
/// allow.
pub fn timestamp_of(name: &str, text: &str) -> Result<DateTime<Utc>, ServiceError> {
    let read = |text: &str| DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).ok();
    let with_seconds = |text: &str| {
        let (minutes, offset) = text.split_at_checked(MINUTES)?;
        (!offset.starts_with(':')).then(|| read(&format!("{minutes}:00{offset}")))?
    };
    let at = |text: &str| read(text).or_else(|| with_seconds(text));
    at(text).ok_or_else(|| {
        let expected = "expected a time with an offset, such as 2022-01-01T00:00:00Z";
        // An unescaped `+` in a query string means a space.
        let has_lost_plus =
            text.rsplit_once(' ').is_some_and(|(time, offset)| at(&format!("{time}+{offset}")).is_some());
        ServiceError::Parameter(if has_lost_plus {
            format!("Invalid {name}: its offset has a space where `+` should be; write `+` as %2B in a URL, or use Z")
        } else {
            format!("Invalid {name}: {expected}")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::timestamp_of;

    #[test]
    fn times_are_read_with_or_without_seconds_and_a_lost_plus_is_named() {
        let read = |text: &str| timestamp_of("timestamp", text).map(|at| at.to_rfc3339()).map_err(|e| e.to_string());
        let expected = Ok("2024-05-17T08:00:00+00:00".to_owned());
        for text in
            ["2024-05-17T10:00:00+02:00", "2024-05-17T10:00+02:00", "2024-05-17T08:00Z", "2024-05-17t08:00:00.0z"]
        {
            assert_eq!(read(text), expected, "{text}");
        }
        for text in ["2024-05-17T10:00:00 02:00", "2024-05-17T10:00 02:00"] {
            assert!(read(text).unwrap_err().contains("%2B"), "{text}");
        }
        for text in ["", "2024-05-17", "2024-05-17 10:00:00", "2024-05-17T10:00", "abc", "2024-05-17T10:00:€", "ä"] {
            assert!(read(text).unwrap_err().contains("expected a time with an offset"), "{text}");
        }
    }
}
