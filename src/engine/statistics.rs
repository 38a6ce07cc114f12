//! What a governed file's log entry says of its columns (Delta protocol, "Per-file Statistics"), taken from the footer
//! that was just written: of the rows that are shown, and of columns that are shown as they are.

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

/// Columns that are spoken of in the log: as many as Delta's writers do by default.
const MOST_COLUMNS: usize = 32;
/// Characters after which texts are cut, as Delta's writers do.
const LONGEST_TEXT: usize = 32;

/// The statistics of one file in the making.
#[derive(Debug)]
pub(super) struct Statistics {
    leaves: Vec<Leaf>,
}

/// A column or field, not inside of lists or maps, that is shown as it is.
#[derive(Debug)]
struct Leaf {
    name: Vec<String>,
    primitive: Primitive,
    /// Its place among all leaves of the file.
    index: usize,
    /// Its place in a batch.
    position: Vec<usize>,
    /// Footers leave NaN out of their bounds.
    has_nan: bool,
}

/// The values of a file lie between two of these, in the order of their type.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Bound {
    Number(i128),
    Float(f64),
    Text(String),
}

impl Statistics {
    /// For a file of those columns of the view that `is_made` picks.
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

    /// The names of the leaves of which something may be said.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &[String]> {
        self.leaves.iter().map(|leaf| leaf.name.as_slice())
    }

    /// Takes notice of rows that are written.
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

    /// The JSON of a file of `rows` rows in `row_groups`.
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

/// An object of objects, as deep as the names are.
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

    /// What all values lie between; `None` where there are none, or it is not known.
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
        // Two's complement, the highest byte first.
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

    /// The JSON of a minimum, if it has one.
    fn low(&self, bound: Bound) -> Option<String> {
        match bound {
            Bound::Text(text) => Some(quoted(&text.chars().take(LONGEST_TEXT).collect::<String>())),
            Bound::Float(value) => self.float(value),
            Bound::Number(value) => self.number(value, false),
        }
    }

    /// The JSON of a maximum. A reader may hold NaN to be more than every number.
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
        // The shortest text that reads as the same number of its own type.
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
                // Statistics have milliseconds: cut down, or up for a maximum.
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

/// Years are written with four digits.
fn common_year(date: &impl Datelike) -> bool {
    (1..=9999).contains(&date.year())
}

/// A text that is cut, but not less than any that begins as it does: with the last character that there is, or with one
/// that most texts do not reach, as Delta's writers do.
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
