//! Defines calendar months in UTC.

use std::fmt;

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A month, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(NaiveDate);

impl Month {
    /// Parses a month such as `2026-11`.
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let is_number = |digits: &str, n| digits.len() == n && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number(year, 4) || !is_number(month, 2) {
            return None;
        }
        NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1).map(Self)
    }

    /// The month before the one of `at`.
    pub fn before(at: DateTime<Utc>) -> Option<Self> {
        at.date_naive().with_day(1)?.checked_sub_months(Months::new(1)).map(Self)
    }

    /// When the month begins.
    pub fn start(self) -> DateTime<Utc> {
        self.0.and_time(chrono::NaiveTime::MIN).and_utc()
    }

    /// When the month ends; exclusive.
    pub fn end(self) -> DateTime<Utc> {
        // The calendar reaches far beyond the year 9999.
        let next = self.0.checked_add_months(Months::new(1)).unwrap_or(self.0);
        next.and_time(chrono::NaiveTime::MIN).and_utc()
    }

    /// The days of the month.
    pub fn days(self) -> impl Iterator<Item = NaiveDate> {
        self.0.iter_days().take_while(move |day| day.month() == self.0.month())
    }

    /// Writes the month for people: `November 2026`.
    pub fn title(self) -> String {
        self.0.format("%B %Y").to_string()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m"))
    }
}

impl Serialize for Month {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Month {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("is no month; write it as 2026-11"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_end_where_the_next_begins() {
        let december = Month::parse("2026-12").unwrap();
        assert_eq!(december.end().to_rfc3339(), "2027-01-01T00:00:00+00:00");
        assert_eq!((december.days().count(), Month::parse("2028-02").unwrap().days().count()), (31, 29));
        assert_eq!(Month::before(december.end()), Some(december));
        assert_eq!((december.to_string(), december.title()), ("2026-12".into(), "December 2026".into()));
        for junk in ["", "2026", "2026-13", "2026-00", "2026-1", "2026-08-01", "x", "+026-08", "26-08", "2026-8 "] {
            assert_eq!(Month::parse(junk), None, "{junk}");
        }
    }
}
