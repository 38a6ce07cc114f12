//! Numbers, sizes and times as people read them.

use chrono::{DateTime, Utc};

/// Writes `48,211`.
pub(super) fn number(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut written = String::from(if number < 0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// Writes `1.2 GB`.
pub(super) fn size(bytes: i64) -> String {
    let (mut rest, mut unit) = (bytes as f64, "B");
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if rest < 999.95 {
            break;
        }
        (rest, unit) = (rest / 1000.0, larger);
    }
    if unit == "B" { format!("{}\u{a0}B", number(bytes)) } else { format!("{rest:.1}\u{a0}{unit}") }
}

/// Writes `2026-11-30 14:13`, in UTC.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d\u{a0}%H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            (number(0), number(999), number(48_211), number(-1_000)),
            ("0".into(), "999".into(), "48,211".into(), "-1,000".into())
        );
        assert_eq!((size(999), size(1_234_567)), ("999\u{a0}B".into(), "1.2\u{a0}MB".into()));
        assert_eq!((size(999_949), size(i64::MAX)), ("999.9\u{a0}kB".into(), "9.2\u{a0}EB".into()));
    }
}
