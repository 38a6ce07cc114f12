//! Typed values: constants, bounds and properties, read as values of a column's type.
//!
//! A value is read exactly for one type, or not at all: nothing is cast, cut or guessed.

use std::cmp::Ordering;

use serde_json::Value as Json;

use crate::domain::{catalog::schema::Primitive, sharing::predicate::read_date};

use super::calendar;

/// Days from 0001-01-01, which `read_date` counts as day 1, to 1970-01-01.
const DAY_OF_1970: i64 = 719_163;

/// A value of a column's type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `boolean`
    Boolean(bool),
    /// `byte`, `short`, `integer`, `long`
    Integer(i64),
    /// `float`, `double`; never NaN.
    Float(f64),
    /// `decimal`: the digits without the point, at the column's scale.
    Decimal(i128),
    /// `string`
    Text(String),
    /// `date`: days since 1970.
    Date(i32),
    /// `timestamp`, `timestamp_ntz`: microseconds since 1970.
    Timestamp(i64),
}

impl Value {
    /// Reads JSON as a value of type `primitive`: a boolean, a number, or a text. Dates, timestamps and long decimals
    /// are written as texts. `None` unless it is exactly of the type.
    pub fn from_json(json: &Json, primitive: Primitive) -> Option<Self> {
        match (primitive, json) {
            (Primitive::Boolean, Json::Bool(value)) => Some(Self::Boolean(*value)),
            (Primitive::String, Json::String(text)) => Some(Self::Text(text.clone())),
            (Primitive::Date, Json::String(text)) => read_day(text).map(Self::Date),
            (Primitive::Timestamp | Primitive::TimestampNtz, Json::String(text)) => {
                read_timestamp(text, primitive).map(Self::Timestamp)
            }
            (Primitive::Decimal { .. }, Json::String(text)) => Self::from_number(text, primitive),
            (_, Json::Number(number)) => Self::from_number(&number.to_string(), primitive),
            _ => None,
        }
    }

    /// Reads `text` as a value of a numeric type: digits with an optional sign, fraction and exponent. Floating point
    /// types take the nearest value, except that whole numbers must be exact.
    pub fn from_number(text: &str, primitive: Primitive) -> Option<Self> {
        match primitive {
            Primitive::Byte | Primitive::Short | Primitive::Integer | Primitive::Long => {
                let value: i64 = text.parse().ok()?;
                let (least, most) = integer_range(primitive)?;
                (least..=most).contains(&value).then_some(Self::Integer(value))
            }
            Primitive::Float | Primitive::Double => read_float(text, primitive).map(Self::Float),
            Primitive::Decimal { precision, scale } => read_decimal(text, precision, scale).map(Self::Decimal),
            _ => None,
        }
    }

    /// Writes this value of type `primitive` in the language of row filters.
    pub fn literal(&self, primitive: Primitive) -> String {
        match self {
            Self::Boolean(true) => "TRUE".to_owned(),
            Self::Boolean(false) => "FALSE".to_owned(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => float_text(*value, primitive),
            Self::Decimal(unscaled) => decimal_text(*unscaled, scale_of(primitive)),
            Self::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Self::Date(days) => format!("DATE '{}'", date_text(i64::from(*days))),
            Self::Timestamp(micros) => {
                let zone = if primitive == Primitive::Timestamp { "Z" } else { "" };
                let second = micros.rem_euclid(calendar::DAY) / 1_000_000;
                format!(
                    "TIMESTAMP '{} {:02}:{:02}:{:02}.{:06}{zone}'",
                    date_text(micros.div_euclid(calendar::DAY)),
                    second / 3_600,
                    second / 60 % 60,
                    second % 60,
                    micros.rem_euclid(1_000_000),
                )
            }
        }
    }

    /// Compares two values of one type; a NaN, which columns may hold, compares with nothing.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Boolean(one), Self::Boolean(other)) => Some(one.cmp(other)),
            (Self::Integer(one), Self::Integer(other)) | (Self::Timestamp(one), Self::Timestamp(other)) => {
                Some(one.cmp(other))
            }
            (Self::Float(one), Self::Float(other)) => one.partial_cmp(other),
            (Self::Decimal(one), Self::Decimal(other)) => Some(one.cmp(other)),
            (Self::Text(one), Self::Text(other)) => Some(one.cmp(other)),
            (Self::Date(one), Self::Date(other)) => Some(one.cmp(other)),
            _ => None,
        }
    }
}

/// The range of an integer type.
pub(super) fn integer_range(primitive: Primitive) -> Option<(i64, i64)> {
    Some(match primitive {
        Primitive::Byte => (i8::MIN.into(), i8::MAX.into()),
        Primitive::Short => (i16::MIN.into(), i16::MAX.into()),
        Primitive::Integer => (i32::MIN.into(), i32::MAX.into()),
        Primitive::Long => (i64::MIN, i64::MAX),
        _ => return None,
    })
}

/// The number of digits after the point of a decimal type.
pub(super) fn scale_of(primitive: Primitive) -> u32 {
    match primitive {
        Primitive::Decimal { scale, .. } => u32::try_from(scale).unwrap_or(0),
        _ => 0,
    }
}

/// Reads `YYYY-MM-DD` as a day since 1970.
pub(super) fn read_day(text: &str) -> Option<i32> {
    let days = read_date(text)?;
    // Engines disagree about the year 0.
    (days >= 1).then(|| i32::try_from(days - DAY_OF_1970).ok())?
}

/// Reads `YYYY-MM-DD HH:MM:SS` as microseconds since 1970, with up to six digits of a fraction; `T` may stand for the
/// blank. A `timestamp` may end with a zone (`Z`, `+01:00`), and is UTC without one; a `timestamp_ntz` must not have a
/// zone.
pub(super) fn read_timestamp(text: &str, primitive: Primitive) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let day = i64::from(read_day(date)?);
    let (time, rest) = rest.strip_prefix(['T', ' '])?.split_at_checked(8)?;
    let seconds = read_clock(time)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=6).contains(&digits) {
                return None;
            }
            (format!("{:0<6}", &rest[..digits]).parse::<i64>().ok()?, &rest[digits..])
        }
    };
    let offset_minutes = match zone {
        "" => 0,
        _ if primitive != Primitive::Timestamp => return None,
        "Z" => 0,
        _ => {
            let (sign, clock) = zone.split_at_checked(1)?;
            let seconds = read_clock(&format!("{clock}:00"))?;
            match sign {
                "+" if seconds <= 18 * 3_600 => seconds / 60,
                "-" if seconds <= 18 * 3_600 => -(seconds / 60),
                _ => return None,
            }
        }
    };
    let micros = day * calendar::DAY + (seconds - offset_minutes * 60) * 1_000_000 + fraction;
    // A zone may move the result out of the years that dates cover.
    let (year, _, _) = calendar::civil(micros.div_euclid(calendar::DAY));
    (1..=9999).contains(&year).then_some(micros)
}

/// Reads `HH:MM:SS` as seconds since midnight.
fn read_clock(text: &str) -> Option<i64> {
    let two = |at: usize| {
        let digits = text.get(at..at + 2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<i64>().ok()
    };
    let (hour, minute, second) = (two(0)?, two(3)?, two(6)?);
    let is_clock = text.len() == 8 && &text[2..3] == ":" && &text[5..6] == ":";
    (is_clock && hour < 24 && minute < 60 && second < 60).then_some(hour * 3_600 + minute * 60 + second)
}

fn read_float(text: &str, primitive: Primitive) -> Option<f64> {
    // Rust also parses texts that are not numbers, such as `inf`.
    if text.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
        return None;
    }
    let value = match primitive {
        Primitive::Float => f64::from(text.parse::<f32>().ok()?),
        _ => text.parse::<f64>().ok()?,
    };
    let is_whole = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-'));
    // The shortest text of a floating point number may be rounded; the text with all digits is not.
    let is_exact = !is_whole || format!("{value:.0}").trim_start_matches('-') == text.trim_start_matches(['-', '0']);
    let is_zero = value == 0.0;
    (value.is_finite() && (is_exact || is_zero)).then_some(if is_zero { 0.0 } else { value })
}

/// Parses a decimal into its digits without the point, at `scale`; `None` if it has more digits than the type.
fn read_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let scale = usize::try_from(scale).ok()?;
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || digits.ends_with('.') {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if fraction.len() > scale || whole.len() + scale > usize::from(precision) {
        return None;
    }
    let unscaled: i128 = format!("0{whole}{fraction:0<scale$}").parse().ok()?;
    Some(if is_negative { -unscaled } else { unscaled })
}

/// Writes a decimal without unneeded zeros: `-1.5`, `20`, `0`.
pub(super) fn decimal_text(unscaled: i128, scale: u32) -> String {
    let scale = usize::try_from(scale).unwrap_or(0);
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

/// Writes a floating point number so that it is read back unchanged; large numbers get an exponent, from where on not
/// every whole number can be represented.
fn float_text(value: f64, primitive: Primitive) -> String {
    match primitive {
        // The value was made from a 32-bit number.
        Primitive::Float if value.abs() < 1e7 => (value as f32).to_string(),
        Primitive::Float => format!("{:e}", value as f32),
        _ if value.abs() < 1e15 => value.to_string(),
        _ => format!("{value:e}"),
    }
}

fn date_text(days: i64) -> String {
    let (year, month, day) = calendar::civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const DECIMAL: Primitive = Primitive::Decimal { precision: 5, scale: 2 };

    #[test]
    fn json_is_read_by_the_columns_type_or_not_at_all() {
        use Primitive::{Binary, Boolean, Byte, Date, Double, Float, Long, String, Timestamp, TimestampNtz};
        for (primitive, json, expected) in [
            (Boolean, json!(true), Some(Value::Boolean(true))),
            (Boolean, json!("true"), None),
            (Boolean, json!(1), None),
            (Byte, json!(-128), Some(Value::Integer(-128))),
            (Byte, json!(128), None),
            (Long, json!(i64::MAX), Some(Value::Integer(i64::MAX))),
            (Long, json!(u64::MAX), None),
            (Long, json!(1.0), None),
            (Long, json!("1"), None),
            (Double, json!(0.1), Some(Value::Float(0.1))),
            (Double, json!(5), Some(Value::Float(5.0))),
            (Double, json!(9_007_199_254_740_993i64), None),
            (Double, json!(-0.0), Some(Value::Float(0.0))),
            (Double, json!("5"), None),
            (Float, json!(0.1), Some(Value::Float(f64::from(0.1f32)))),
            (Float, json!(16_777_217), None),
            (Float, json!(1e300), None),
            (DECIMAL, json!("123.45"), Some(Value::Decimal(12_345))),
            (DECIMAL, json!("-0.500"), Some(Value::Decimal(-50))),
            (DECIMAL, json!(7), Some(Value::Decimal(700))),
            (DECIMAL, json!(0.5), Some(Value::Decimal(50))),
            (DECIMAL, json!("1.234"), None),
            (DECIMAL, json!("1234"), None),
            (DECIMAL, json!("1e1"), None),
            (DECIMAL, json!("."), None),
            (DECIMAL, json!("+1"), None),
            (String, json!("x"), Some(Value::Text("x".into()))),
            (String, json!(1), None),
            (Date, json!("1970-01-02"), Some(Value::Date(1))),
            (Date, json!("0000-12-31"), None),
            (Date, json!("1970-1-2"), None),
            (Date, json!(1), None),
            (Timestamp, json!("1970-01-01 00:00:01"), Some(Value::Timestamp(1_000_000))),
            (Timestamp, json!("1970-01-01T01:00:00.5+01:00"), Some(Value::Timestamp(500_000))),
            (Timestamp, json!("1969-12-31T23:59:59.999999Z"), Some(Value::Timestamp(-1))),
            (Timestamp, json!("1970-01-01 00:00:00.1234567"), None),
            (Timestamp, json!("1970-01-01 00:00:60"), None),
            (Timestamp, json!("1970-01-01"), None),
            (Timestamp, json!("9999-12-31 23:59:59-01:00"), None),
            (TimestampNtz, json!("1970-01-01 00:00:01"), Some(Value::Timestamp(1_000_000))),
            (TimestampNtz, json!("1970-01-01 00:00:01Z"), None),
            (Binary, json!("00"), None),
            (String, json!(null), None),
            (String, json!(["x"]), None),
        ] {
            assert_eq!(Value::from_json(&json, primitive), expected, "{primitive} {json}");
        }
    }

    proptest! {
        #[test]
        fn decimals_are_read_back(unscaled in -(10i128.pow(38) - 1)..10i128.pow(38), scale in 0i8..=38) {
            let text = decimal_text(unscaled, scale.try_into().unwrap());
            prop_assert_eq!(read_decimal(&text, 38, scale), Some(unscaled));
        }

        #[test]
        fn dates_are_read_back(days in -719_162i32..2_932_897) {
            prop_assert_eq!(read_day(&date_text(days.into())), Some(days));
        }

        #[test]
        fn whole_numbers_are_exact_or_refused(number: i64) {
            for primitive in [Primitive::Float, Primitive::Double] {
                match Value::from_number(&number.to_string(), primitive) {
                    Some(Value::Float(value)) => prop_assert_eq!(value as i128, i128::from(number)),
                    other => {
                        prop_assert_eq!(other, None);
                        let is_exact = match primitive {
                            Primitive::Float => number as f32 as i128 == i128::from(number),
                            _ => number as f64 as i128 == i128::from(number),
                        };
                        prop_assert!(!is_exact);
                    }
                }
            }
        }

        #[test]
        fn no_text_makes_reading_panic(text: String) {
            for primitive in [Primitive::Long, Primitive::Float, DECIMAL, Primitive::Date, Primitive::Timestamp] {
                let _ = (Value::from_json(&json!(text), primitive), Value::from_number(&text, primitive));
            }
        }
    }
}
