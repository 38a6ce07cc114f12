//! Reads partition values: texts in the log that give a column's value for a whole file (Delta protocol, "Partition
//! Value Serialization").

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, StringViewArray, TimestampMicrosecondArray, new_null_array,
};
use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::domain::catalog::schema::Primitive;

use super::{EngineError, types};

/// Parses `text` into an array of length one. Empty text is NULL for every type. A timestamp without a zone counts as
/// UTC, because readers do not know the writer's zone.
pub(super) fn read(text: Option<&str>, primitive: Primitive) -> Result<ArrayRef, EngineError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(new_null_array(&types::of_primitive(primitive), 1));
    };
    let value = match primitive {
        Primitive::Boolean => one::<BooleanArray, _>(boolean(text)),
        Primitive::Byte => one::<Int8Array, _>(text.parse::<i8>().ok()),
        Primitive::Short => one::<Int16Array, _>(text.parse::<i16>().ok()),
        Primitive::Integer => one::<Int32Array, _>(text.parse::<i32>().ok()),
        Primitive::Long => one::<Int64Array, _>(text.parse::<i64>().ok()),
        Primitive::Float => one::<Float32Array, _>(text.parse::<f32>().ok()),
        Primitive::Double => one::<Float64Array, _>(text.parse::<f64>().ok()),
        Primitive::String => one::<StringViewArray, _>(Some(text)),
        Primitive::Binary => one::<BinaryViewArray, _>(Some(text.as_bytes())),
        Primitive::Date => one::<Date32Array, _>(date(text)),
        Primitive::Decimal { precision, scale } => decimal(text, scale).and_then(|digits| {
            let array = Decimal128Array::from(vec![digits]).with_precision_and_scale(precision, scale);
            array.and_then(|array| array.validate_decimal_precision(precision).map(|()| Arc::new(array) as _)).ok()
        }),
        Primitive::Timestamp => instant(text)
            .or_else(|| local_time(text))
            .map(|micros| Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC")) as _),
        Primitive::TimestampNtz => one::<TimestampMicrosecondArray, _>(local_time(text)),
    };
    value.ok_or(EngineError::corrupt("the log's partition value of it is not of its column's type"))
}

fn one<A: From<Vec<Option<T>>> + Array + 'static, T>(value: Option<T>) -> Option<ArrayRef> {
    value.map(|value| Arc::new(A::from(vec![Some(value)])) as _)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn date(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

fn instant(text: &str) -> Option<i64> {
    // The relaxed format also accepts a space before the time, and offsets without a colon.
    DateTime::parse_from_str(text, "%+").ok().map(|at| at.timestamp_micros())
}

fn local_time(text: &str) -> Option<i64> {
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    let at = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    // Some writers omit the time if it is midnight.
    let at = at.or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0));
    at.map(|at| at.and_utc().timestamp_micros())
}

/// Returns the unscaled digits of a decimal at `scale`. Java writes very small values with an exponent.
fn decimal(text: &str, scale: i8) -> Option<i128> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    let shift = i32::from(scale).checked_add(exponent)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let factor = 10_i128.checked_pow(shift.unsigned_abs());
    let value = match factor {
        _ if value == 0 => 0,
        Some(factor) if shift >= 0 => value.checked_mul(factor)?,
        // Digits beyond the scale must be zero.
        Some(factor) => (value % factor == 0).then_some(value / factor)?,
        None => return None,
    };
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Array, AsArray},
        datatypes::{Decimal128Type, Int8Type, TimestampMicrosecondType},
    };

    use super::*;

    #[test]
    fn values_are_read_as_the_protocol_writes_them() {
        let at = |text, primitive| {
            let array = read(Some(text), primitive).unwrap();
            array.as_primitive::<TimestampMicrosecondType>().value(0)
        };
        assert_eq!(read(Some("-128"), Primitive::Byte).unwrap().as_primitive::<Int8Type>().value(0), -128);
        assert_eq!(at("1970-01-02 00:00:00", Primitive::Timestamp), 86_400_000_000);
        assert_eq!(at("1970-01-02 00:00:00.123456", Primitive::TimestampNtz), 86_400_123_456);
        assert_eq!(at("1970-01-01T01:00:00.000001+01:00", Primitive::Timestamp), 1);
        assert_eq!(at("1970-01-01T00:00:00.000001Z", Primitive::Timestamp), 1);
        assert_eq!(read(Some("\u{1}\u{2}"), Primitive::Binary).unwrap().as_binary_view().value(0), [1, 2]);
        assert_eq!(read(Some(" a"), Primitive::String).unwrap().as_string_view().value(0), " a");
    }

    #[test]
    fn nothing_and_the_empty_text_are_null_of_every_type() {
        for primitive in [Primitive::String, Primitive::Binary, Primitive::Long, Primitive::Boolean] {
            assert_eq!(read(None, primitive).unwrap().null_count(), 1);
            assert_eq!(read(Some(""), primitive).unwrap().null_count(), 1);
        }
    }

    #[test]
    fn what_is_not_of_the_type_is_refused_and_not_repeated() {
        let decimal = Primitive::Decimal { precision: 3, scale: 1 };
        for (text, primitive) in [
            ("128", Primitive::Byte),
            ("secret", Primitive::Integer),
            ("2020-13-01", Primitive::Date),
            ("yes", Primitive::Boolean),
            ("100.0", decimal),
            ("1.25", decimal),
            ("1e999", decimal),
            (".", decimal),
            ("1970-01-01T00:00:00Z", Primitive::TimestampNtz),
        ] {
            let error = read(Some(text), primitive).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(text), "{error:?}");
        }
    }

    #[test]
    fn decimals_are_exact() {
        for (text, digits) in [("1.5", 15), ("-01", -10), ("0E-18", 0), ("15E-1", 15), ("+2.50", 25), ("1e1", 100)] {
            let array = read(Some(text), Primitive::Decimal { precision: 3, scale: 1 }).unwrap();
            assert_eq!(array.as_primitive::<Decimal128Type>().value(0), digits, "{text}");
        }
    }
}
