//! The types that hints use, and their values in a form that is cheap to compare.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

/// The largest offset of a local time from UTC that any writer uses, in microseconds.
const WIDEST_OFFSET: i64 = 18 * 3_600 * 1_000_000;

/// The type of a value (Delta Sharing protocol, JSON predicates).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// `bool`
    Bool,
    /// `int`: at most 32 bits.
    Int,
    /// `long`: 64 bits.
    Long,
    /// `string`, ordered by its UTF-8 bytes.
    Text,
    /// `date`
    Date,
    /// `float`: 32 bits.
    Float,
    /// `double`: 64 bits.
    Double,
    /// `timestamp`: an instant in microseconds.
    Timestamp,
}

/// One value. Booleans, dates (in days) and timestamps (in microseconds) are integers.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A value of any integer-like type.
    Integer(i64),
    /// A `float` or `double`; never NaN.
    Float(f64),
    /// A `string`.
    Text(String),
}

impl ValueType {
    /// Parses a type name of JSON predicates.
    pub fn from_json(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "int" => Self::Int,
            "long" => Self::Long,
            "string" => Self::Text,
            "date" => Self::Date,
            "float" => Self::Float,
            "double" => Self::Double,
            "timestamp" => Self::Timestamp,
            _ => return None,
        })
    }

    /// Parses a type name of Delta; `None` for types that hints cannot use.
    pub fn from_delta(name: &str) -> Option<Self> {
        Some(match name {
            "boolean" => Self::Bool,
            "byte" | "short" | "integer" => Self::Int,
            "long" => Self::Long,
            "string" => Self::Text,
            "date" => Self::Date,
            "float" => Self::Float,
            "double" => Self::Double,
            "timestamp" => Self::Timestamp,
            _ => return None,
        })
    }

    /// Parses a type name of SQL.
    pub fn from_sql(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "boolean" => Self::Bool,
            "int" | "integer" => Self::Int,
            "bigint" | "long" => Self::Long,
            "string" | "varchar" | "text" => Self::Text,
            "date" => Self::Date,
            "float" | "real" => Self::Float,
            "double" => Self::Double,
            "timestamp" => Self::Timestamp,
            _ => return None,
        })
    }

    /// Parses `text` as a value of this type; `None` if it is not one, is NaN, or does not say which instant it means.
    pub fn read(self, text: &str) -> Option<Scalar> {
        match self {
            Self::Bool if text.eq_ignore_ascii_case("true") => Some(Scalar::Integer(1)),
            Self::Bool => text.eq_ignore_ascii_case("false").then_some(Scalar::Integer(0)),
            Self::Int => text.parse::<i32>().ok().map(|number| Scalar::Integer(number.into())),
            Self::Long => text.parse().ok().map(Scalar::Integer),
            Self::Text => Some(Scalar::Text(text.to_owned())),
            Self::Date => read_date(text).map(Scalar::Integer),
            Self::Float => text.parse::<f32>().ok().filter(|n| !n.is_nan()).map(|number| Scalar::Float(number.into())),
            Self::Double => text.parse::<f64>().ok().filter(|n| !n.is_nan()).map(Scalar::Float),
            Self::Timestamp => match read_instant(text)? {
                (first, last) if first == last => Some(Scalar::Integer(first)),
                _ => None,
            },
        }
    }
}

/// Parses a date as logs and hints write it, into days of the common era.
pub fn read_date(text: &str) -> Option<i64> {
    let is_plain = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() });
    let date = is_plain.then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())??;
    Some(i64::from(chrono::Datelike::num_days_from_ce(&date)))
}

/// Parses a timestamp into the first and the last instant that it may mean, in microseconds since the epoch. They
/// differ if the text names no time zone, because the log does not record its writer's zone.
pub fn read_instant(text: &str) -> Option<(i64, i64)> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        let first = instant.timestamp_micros();
        let is_whole = instant.timestamp_subsec_nanos() % 1_000 == 0;
        return Some((first, if is_whole { first } else { first.checked_add(1)? }));
    }
    let local = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?;
    let utc = local.and_utc().timestamp_micros();
    Some((utc.checked_sub(WIDEST_OFFSET)?, utc.checked_add(WIDEST_OFFSET + 1)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_read_by_their_type() {
        use ValueType::{Bool, Date, Double, Float, Int, Long, Text, Timestamp};
        let integer = |number| Some(Scalar::Integer(number));
        for (value_type, text, expected) in [
            (Bool, "TRUE", integer(1)),
            (Bool, "0", None),
            (Int, "-7", integer(-7)),
            (Int, "2147483648", None),
            (Long, "2147483648", integer(2_147_483_648)),
            (Long, "1.0", None),
            (Text, "", Some(Scalar::Text(String::new()))),
            (Date, "1970-01-02", integer(719_164)),
            (Date, "1970-1-2", None),
            (Date, "1970-02-30", None),
            (Float, "0.1", Some(Scalar::Float(f64::from(0.1f32)))),
            (Double, "0.1", Some(Scalar::Float(0.1))),
            (Double, "NaN", None),
            (Timestamp, "1970-01-01T00:00:01.000002Z", integer(1_000_002)),
            (Timestamp, "1970-01-01T01:00:00+01:00", integer(0)),
            (Timestamp, "1970-01-01T00:00:00.0000001Z", None),
            (Timestamp, "1970-01-01 00:00:00", None),
        ] {
            assert_eq!(value_type.read(text), expected, "{value_type:?} {text}");
        }
    }

    #[test]
    fn a_local_time_may_be_any_instant_of_two_days() {
        let (first, last) = read_instant("2020-06-01 12:00:00").unwrap();
        for instant in ["2020-06-01T12:00:00+14:00", "2020-06-01T12:00:00-12:00", "2020-06-01T12:00:00Z"] {
            let (instant, _) = read_instant(instant).unwrap();
            assert!(first <= instant && instant <= last);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_fail_but_by_refusal(text: String) {
            for name in ["bool", "int", "long", "string", "date", "float", "double", "timestamp"] {
                let _ = ValueType::from_json(name).unwrap().read(&text);
            }
        }
    }
}
