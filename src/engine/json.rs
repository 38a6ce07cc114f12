//! Converts rows to JSON, for people who want to see what a connector would read.

use std::ops::RangeInclusive;

use arrow::{
    array::{Array, ArrayRef, AsArray, StructArray},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        TimestampMicrosecondType,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, NaiveDate, TimeDelta};
use serde_json::{Map, Value, json};

/// What JSON's numbers, which are double-precision, hold exactly.
const EXACT: RangeInclusive<i64> = -((1 << 53) - 1)..=(1 << 53) - 1;

/// Rows as objects. Decimals are texts, because JSON's numbers are not exact, and so are whole numbers that these do not
/// hold, and numbers that JSON does not have.
/// Bytes are in Base64, times in RFC 3339, and maps are lists of their entries.
pub(super) fn rows(of: &StructArray) -> Vec<Map<String, Value>> {
    (0..of.len()).map(|row| object(of, row)).collect()
}

fn object(of: &StructArray, row: usize) -> Map<String, Value> {
    of.fields().iter().zip(of.columns()).map(|(field, column)| (field.name().clone(), value(column, row))).collect()
}

fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => whole(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => {
            let value = column.as_primitive::<Float32Type>().value(row);
            // Converted through its shortest text, so that 0.1 stays 0.1.
            float(value.to_string().parse().unwrap_or_else(|_| value.into()))
        }
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::BinaryView => STANDARD.encode(column.as_binary_view().value(row)).into(),
        DataType::Date32 => date(column.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(_, zone) => {
            instant(column.as_primitive::<TimestampMicrosecondType>().value(row), zone.is_some())
        }
        DataType::Struct(_) => object(column.as_struct(), row).into(),
        DataType::List(_) => list(&column.as_list::<i32>().value(row)),
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let entry = |at| json!({"key": value(entries.column(0), at), "value": value(entries.column(1), at)});
            (0..entries.len()).map(entry).collect()
        }
        _ => Value::Null,
    }
}

fn list(elements: &ArrayRef) -> Value {
    (0..elements.len()).map(|at| value(elements, at)).collect()
}

fn float(value: f64) -> Value {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        value => value.into(),
    }
}

/// Formats a date as text, or as the number of days if it is out of range.
fn date(days: i32) -> Value {
    let date = NaiveDate::default().checked_add_signed(TimeDelta::days(days.into()));
    date.map_or_else(|| days.into(), |date| date.to_string().into())
}

fn whole(value: i64) -> Value {
    if EXACT.contains(&value) { value.into() } else { value.to_string().into() }
}

/// As a text, or as the number of microseconds where no calendar has it.
fn instant(micros: i64, has_zone: bool) -> Value {
    let zone = if has_zone { "Z" } else { "" };
    let text = |at: DateTime<_>| format!("{}{zone}", at.format("%Y-%m-%dT%H:%M:%S%.6f"));
    DateTime::from_timestamp_micros(micros).map_or_else(|| whole(micros), |at| text(at).into())
}
