//! Takes single values out of rows, for detectors of classes. What no detector compares (long texts, fractions, bytes) is
//! counted, and not copied.

use arrow::{
    array::{Array, ArrayRef, AsArray, StructArray},
    datatypes::{
        DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        TimestampMicrosecondType,
    },
};
use chrono::{DateTime, Datelike};

use crate::domain::catalog::{
    classes::{LONGEST_VALUE, Sample},
    schema::{ELEMENT, KEY, VALUE},
};

/// The seconds of a day.
const DAY: i64 = 86_400;
/// What double-precision numbers hold exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Adds the values at `path` that are not null, until `taken` has `most`.
pub(super) fn take(rows: &StructArray, path: &[String], most: usize, taken: &mut Vec<Sample>) {
    let Some((name, rest)) = path.split_first() else { return };
    if let Some(column) = rows.column_by_name(name) {
        take_from(column, rest, most, taken);
    }
}

fn take_from(array: &ArrayRef, path: &[String], most: usize, taken: &mut Vec<Sample>) {
    match (array.data_type(), path.split_first()) {
        (DataType::Struct(_), Some(_)) => take(array.as_struct(), path, most, taken),
        (DataType::List(_), Some((step, rest))) if step == ELEMENT => {
            let list = array.as_list::<i32>();
            take_from(&part(list.values(), list.value_offsets()), rest, most, taken);
        }
        (DataType::Map(..), Some((step, rest))) if step == KEY || step == VALUE => {
            let map = array.as_map();
            let values = if step == KEY { map.keys() } else { map.values() };
            take_from(&part(values, map.value_offsets()), rest, most, taken);
        }
        (_, None) => {
            let values = (0..array.len()).filter(|row| array.is_valid(*row)).map(|row| value(array, row));
            taken.extend(values.take(most.saturating_sub(taken.len())));
        }
        _ => {}
    }
}

/// The values that lists with these offsets have.
fn part(values: &ArrayRef, offsets: &[i32]) -> ArrayRef {
    let at = |offset: Option<&i32>| offset.and_then(|offset| usize::try_from(*offset).ok()).unwrap_or_default();
    let (from, to) = (at(offsets.first()), at(offsets.last()).min(values.len()));
    values.slice(from.min(to), to.saturating_sub(from))
}

fn value(array: &ArrayRef, row: usize) -> Sample {
    match array.data_type() {
        DataType::Utf8View => match array.as_string_view().value(row) {
            text if text.len() <= LONGEST_VALUE => Sample::Text(text.to_owned()),
            _ => Sample::Opaque,
        },
        DataType::Int8 => Sample::Whole(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Sample::Whole(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Sample::Whole(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Sample::Whole(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => whole(array.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => whole(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, 0) => {
            let number = array.as_primitive::<Decimal128Type>().value(row);
            i64::try_from(number).map_or_else(|_| Sample::Text(number.to_string()), Sample::Whole)
        }
        DataType::Date32 => year(DateTime::from_timestamp(
            i64::from(array.as_primitive::<Date32Type>().value(row)).saturating_mul(DAY),
            0,
        )),
        DataType::Timestamp(..) => {
            year(DateTime::from_timestamp_micros(array.as_primitive::<TimestampMicrosecondType>().value(row)))
        }
        _ => Sample::Opaque,
    }
}

/// A whole number that a writer kept as one with a fraction, as some do where values are missing.
fn whole(number: f64) -> Sample {
    if number.fract() == 0.0 && number.abs() < EXACT { Sample::Whole(number as i64) } else { Sample::Opaque }
}

fn year(at: Option<DateTime<chrono::Utc>>) -> Sample {
    at.map_or(Sample::Opaque, |at| Sample::Year(at.year()))
}
