//! Computes the statistics for a governed file's log entry (Delta protocol, "Per-file Statistics") from the footer just
//! written. They cover only shown rows, and only columns shown unmasked.

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch},
    datatypes::{Float32Type, Float64Type},
};
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta};
use parquet::file::{metadata::RowGroupMetaData, statistics::Statistics as Footer};

use crate::domain::catalog::{
    schema::{DataType, Field, Primitive},
    view::plan::{Output, OutputField, ViewPlan},
};

/// The most columns with statistics in the log, the default of Delta's writers.
const MOST_COLUMNS: usize = 32;
/// The number of characters after which texts are cut, as Delta's writers do.
const LONGEST_TEXT: usize = 32;

/// The statistics of a file that is being written.
#[derive(Debug)]
pub(super) struct Statistics {
    leaves: Vec<Leaf>,
}

/// A column or field that is shown unmasked and not inside a list or map.
#[derive(Debug)]
struct Leaf {
    name: Vec<String>,
    primitive: Primitive,
    /// The index among all leaves of the file.
    index: usize,
    /// The path of positions in a batch.
    position: Vec<usize>,
    /// Whether there is NaN, which the bounds in a footer leave out.
    has_nan: bool,
}

/// A lower or upper bound, in the order of its type.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Bound {
    Number(i128),
    Float(f64),
    Text(String),
}

impl Statistics {
    /// Creates the statistics for those columns of the view that `is_made` selects.
    pub(super) fn of(plan: &ViewPlan, is_made: impl Fn(&Field) -> bool) -> Self {
        let mut statistics = Self { leaves: Vec::new() };
        let (mut next, mut position) = (0, 0);
        for (field, output) in plan.schema.fields.iter().zip(&plan.outputs).filter(|(field, _)| is_made(field)) {
            statistics.add(field, output, &mut Vec::new(), &mut vec![position], &mut next);
            position += 1;
        }
        statistics
    }

    fn add(
        &mut self,
        field: &Field,
        output: &OutputField,
        name: &mut Vec<String>,
        position: &mut Vec<usize>,
        next: &mut usize,
    ) {
        name.push(field.name.clone());
        match (&field.data_type, &output.output) {
            (DataType::Primitive(primitive), Output::Value { mask: None, .. }) => {
                let (name, position) = (name.clone(), position.clone());
                self.leaves.push(Leaf { name, primitive: *primitive, index: *next, position, has_nan: false });
                *next += 1;
            }
            (DataType::Struct(fields), Output::Struct { fields: outputs, .. }) => {
                for (at, (field, output)) in fields.iter().zip(outputs).enumerate() {
                    position.push(at);
                    self.add(field, output, name, position, next);
                    position.pop();
                }
            }
            (other, _) => *next += other.leaves().len(),
        }
        name.pop();
    }

    /// Returns the names of the leaves that may have statistics.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &[String]> {
        self.leaves.iter().map(|leaf| leaf.name.as_slice())
    }

    /// Looks for NaN in rows that are written.
    pub(super) fn see(&mut self, batch: &RecordBatch) {
        let is_float = |leaf: &&mut Leaf| matches!(leaf.primitive, Primitive::Float | Primitive::Double);
        for leaf in self.leaves.iter_mut().filter(is_float).filter(|leaf| !leaf.has_nan) {
            let Some((first, rest)) = leaf.position.split_first() else { continue };
            let column: &ArrayRef = rest.iter().fold(batch.column(*first), |column, at| column.as_struct().column(*at));
            leaf.has_nan = if let Some(floats) = column.as_primitive_opt::<Float32Type>() {
                floats.values().iter().any(|value| value.is_nan())
            } else if let Some(floats) = column.as_primitive_opt::<Float64Type>() {
                floats.values().iter().any(|value| value.is_nan())
            } else {
                true
            };
        }
    }

    /// Returns the JSON for a file with `rows` rows in `row_groups`.
    pub(super) fn json(&self, rows: u64, row_groups: &[RowGroupMetaData]) -> String {
        let (mut low, mut high, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
        for leaf in self.leaves.iter().take(MOST_COLUMNS) {
            let name = leaf.name.as_slice();
            if let Some((least, most)) = leaf.bounds(row_groups) {
                low.extend(leaf.low(least).map(|text| (name, text)));
                high.extend(leaf.high(most).map(|text| (name, text)));
            }
            nulls.extend(leaf.nulls(row_groups).map(|count| (name, count.to_string())));
        }
        let (low, high, nulls) = (object(&low), object(&high), object(&nulls));
        format!("{{\"numRecords\":{rows},\"minValues\":{low},\"maxValues\":{high},\"nullCount\":{nulls}}}")
    }
}

/// Builds nested JSON objects, as deep as the names.
fn object(entries: &[(&[String], String)]) -> String {
    let member = |group: &[(&[String], String)]| {
        let (name, value) = group.first()?;
        let name = quoted(name.first()?);
        match group {
            [(path, value)] if path.len() == 1 => Some(format!("{name}:{value}")),
            _ if value.is_empty() => None,
            _ => {
                let inner: Vec<_> =
                    group.iter().filter_map(|(path, value)| Some((path.get(1..)?, value.clone()))).collect();
                Some(format!("{name}:{}", object(&inner)))
            }
        }
    };
    let members: Vec<_> = entries.chunk_by(|one, other| one.0.first() == other.0.first()).filter_map(member).collect();
    format!("{{{}}}", members.join(","))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Leaf {
    fn nulls(&self, row_groups: &[RowGroupMetaData]) -> Option<u64> {
        row_groups.iter().map(|group| group.column(self.index).statistics()?.null_count_opt()).sum()
    }

    /// Returns the bounds of all values; `None` if there are no values or the bounds are unknown.
    fn bounds(&self, row_groups: &[RowGroupMetaData]) -> Option<(Bound, Bound)> {
        let mut bounds: Option<(Bound, Bound)> = None;
        for group in row_groups {
            let column = group.column(self.index);
            let statistics = column.statistics()?;
            if statistics.null_count_opt()? == u64::try_from(column.num_values()).ok()? {
                continue;
            }
            let (low, high) = self.read(statistics)?;
            bounds = Some(match bounds {
                None => (low, high),
                Some((least, most)) => (if low < least { low } else { least }, if high > most { high } else { most }),
            });
        }
        bounds
    }

    fn read(&self, statistics: &Footer) -> Option<(Bound, Bound)> {
        fn both<T>(low: Option<&T>, high: Option<&T>, bound: impl Fn(&T) -> Option<Bound>) -> Option<(Bound, Bound)> {
            Some((bound(low?)?, bound(high?)?))
        }
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(|text| Bound::Text(text.to_owned()));
        // Two's complement, most significant byte first.
        let decimal = |bytes: &[u8]| {
            let negative = bytes.first().is_some_and(|first| *first >= 0x80);
            let mut all = [if negative { 0xFF } else { 0 }; size_of::<i128>()];
            all.get_mut(size_of::<i128>().checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
            Some(Bound::Number(i128::from_be_bytes(all)))
        };
        match (statistics, self.primitive) {
            (_, Primitive::Boolean | Primitive::Binary) => None,
            (Footer::Int32(found), _) => {
                both(found.min_opt(), found.max_opt(), |value| Some(Bound::Number((*value).into())))
            }
            (Footer::Int64(found), _) => {
                both(found.min_opt(), found.max_opt(), |value| Some(Bound::Number((*value).into())))
            }
            (Footer::Float(found), _) => {
                both(found.min_opt(), found.max_opt(), |value| Some(Bound::Float((*value).into())))
            }
            (Footer::Double(found), _) => both(found.min_opt(), found.max_opt(), |value| Some(Bound::Float(*value))),
            (Footer::ByteArray(found), Primitive::String) => {
                both(found.min_opt(), found.max_opt(), |value| text(value.data()))
            }
            (Footer::FixedLenByteArray(found), Primitive::Decimal { .. }) => {
                both(found.min_opt(), found.max_opt(), |value| decimal(value.data()))
            }
            _ => None,
        }
    }

    /// Returns the JSON of a minimum; `None` if it cannot be written.
    fn low(&self, bound: Bound) -> Option<String> {
        match bound {
            Bound::Text(text) => Some(quoted(&text.chars().take(LONGEST_TEXT).collect::<String>())),
            Bound::Float(value) => self.float(value),
            Bound::Number(value) => self.number(value, false),
        }
    }

    /// Returns the JSON of a maximum; `None` if it cannot be written, or if there is NaN, which some readers order
    /// above all numbers.
    fn high(&self, bound: Bound) -> Option<String> {
        match bound {
            Bound::Text(text) => Some(quoted(&cut_above(&text))),
            Bound::Float(_) if self.has_nan => None,
            Bound::Float(value) => self.float(value),
            Bound::Number(value) => self.number(value, true),
        }
    }

    fn float(&self, value: f64) -> Option<String> {
        let is_double = self.primitive == Primitive::Double;
        // The shortest text that parses to the same number of its own type.
        let text = || if is_double { serde_json::to_string(&value) } else { serde_json::to_string(&(value as f32)) };
        value.is_finite().then(text)?.ok()
    }

    fn number(&self, value: i128, is_high: bool) -> Option<String> {
        match self.primitive {
            Primitive::Date => {
                let days = TimeDelta::try_days(i64::try_from(value).ok()?)?;
                let date = NaiveDate::default().checked_add_signed(days)?;
                common_year(&date).then(|| format!("\"{}\"", date.format("%Y-%m-%d")))
            }
            Primitive::Timestamp | Primitive::TimestampNtz => {
                // Statistics have milliseconds, rounded down for a minimum and up for a maximum.
                let millis = value.div_euclid(1_000) + i128::from(is_high && value.rem_euclid(1_000) > 0);
                let at = DateTime::from_timestamp_millis(i64::try_from(millis).ok()?)?;
                let zone = if self.primitive == Primitive::Timestamp { "Z" } else { "" };
                common_year(&at).then(|| format!("\"{}{zone}\"", at.format("%Y-%m-%dT%H:%M:%S%.3f")))
            }
            Primitive::Decimal { scale, .. } if scale > 0 => {
                let (sign, digits) = (if value < 0 { "-" } else { "" }, value.unsigned_abs().to_string());
                let scale = usize::from(scale.unsigned_abs());
                let digits = format!("{digits:0>width$}", width = scale + 1);
                let (whole, fraction) = digits.split_at(digits.len() - scale);
                Some(format!("{sign}{whole}.{fraction}"))
            }
            _ => Some(value.to_string()),
        }
    }
}

/// Returns whether a date can be written with a four-digit year.
fn common_year(date: &impl Datelike) -> bool {
    (1..=9999).contains(&date.year())
}

/// Cuts a text to a maximum that is not less than texts with the same beginning: ends it with a character that few
/// texts exceed, or with the greatest one, as Delta's writers do.
fn cut_above(text: &str) -> String {
    const MOSTLY_LAST: char = '\u{FFFD}';
    match text.char_indices().nth(LONGEST_TEXT) {
        None => text.to_owned(),
        Some((end, next)) => {
            let last = if next >= MOSTLY_LAST { char::MAX } else { MOSTLY_LAST };
            format!("{}{last}", &text[..end])
        }
    }
}
