//! Parses partition values as a log spells them (Delta protocol, "Partition Value Serialization").

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use super::{schema::Primitive, view::row_filter::Value};

/// Parses `text` as a value of a partition column of this type. An empty text is NULL for every type.
///
/// # Errors
/// `Err(())` if the text is not a value of the type.
#[allow(clippy::result_unit_err)]
pub fn parse(primitive: Primitive, text: Option<&str>) -> Result<Option<Value>, ()> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let value = match primitive {
        Primitive::Boolean if text.eq_ignore_ascii_case("true") => Some(Value::Boolean(true)),
        Primitive::Boolean if text.eq_ignore_ascii_case("false") => Some(Value::Boolean(false)),
        Primitive::Boolean => None,
        Primitive::Byte => text.parse::<i8>().ok().map(|value| Value::Integer(value.into())),
        Primitive::Short => text.parse::<i16>().ok().map(|value| Value::Integer(value.into())),
        Primitive::Integer => text.parse::<i32>().ok().map(|value| Value::Integer(value.into())),
        Primitive::Long => text.parse().ok().map(Value::Integer),
        Primitive::Float => text.parse::<f32>().ok().map(|value| Value::Float(value.into())),
        Primitive::Double => text.parse().ok().map(Value::Float),
        Primitive::Decimal { scale, .. } => decimal(text, scale).map(Value::Decimal),
        Primitive::String => Some(Value::Text(text.to_owned())),
        Primitive::Binary => None,
        Primitive::Date => date(text).map(Value::Date),
        Primitive::Timestamp => timestamp(text, true).map(Value::Timestamp),
        Primitive::TimestampNtz => timestamp(text, false).map(Value::Timestamp),
    };
    value.map(Some).ok_or(())
}

/// Parses a decimal into its digits without the point, at `scale`; `None` if it does not fit exactly.
fn decimal(text: &str, scale: i8) -> Option<i128> {
    let scale = usize::try_from(scale).ok()?;
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (kept, dropped) = fraction.split_at_checked(scale).unwrap_or((fraction, ""));
    let is_number = !(whole.is_empty() && fraction.is_empty())
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
        && dropped.bytes().all(|byte| byte == b'0');
    if !is_number {
        return None;
    }
    let unscaled: i128 = format!("{whole}{kept:0<scale$}").parse().ok()?;
    Some(sign * unscaled)
}

fn date(text: &str) -> Option<i32> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(epoch).num_days()).ok()
}

/// Parses a timestamp into microseconds; a text without an offset is read as UTC.
fn timestamp(text: &str, has_zone: bool) -> Option<i64> {
    if has_zone && let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_micros());
    }
    let forms = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    let at = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let at = at.or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))?;
    Some(at.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_logs_spell_them() {
        let read = |primitive, text| parse(primitive, Some(text)).unwrap().unwrap();
        assert_eq!(read(Primitive::Long, "-7"), Value::Integer(-7));
        assert_eq!(read(Primitive::Decimal { precision: 10, scale: 2 }, "-12.5"), Value::Decimal(-1250));
        assert_eq!(read(Primitive::Decimal { precision: 10, scale: 0 }, "12"), Value::Decimal(12));
        assert_eq!(read(Primitive::Date, "1970-01-02"), Value::Date(1));
        assert_eq!(read(Primitive::Timestamp, "1970-01-01 00:00:01.5"), Value::Timestamp(1_500_000));
        assert_eq!(read(Primitive::Timestamp, "1970-01-01T01:00:00+01:00"), Value::Timestamp(0));
        assert_eq!(read(Primitive::String, "x"), Value::Text("x".into()));
        assert_eq!(parse(Primitive::String, Some("")), Ok(None));
        assert_eq!(parse(Primitive::Long, None), Ok(None));
    }

    #[test]
    fn nonsense_is_no_value() {
        let decimal = Primitive::Decimal { precision: 10, scale: 2 };
        for (primitive, text) in
            [(Primitive::Byte, "300"), (Primitive::Boolean, "yes"), (decimal, "1.234"), (decimal, ".")]
        {
            assert_eq!(parse(primitive, Some(text)), Err(()), "{text}");
        }
    }
}
