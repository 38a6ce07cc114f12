//! Applies masks cell by cell, once keys and day are known.

use std::borrow::Cow;

use chrono::{Datelike, NaiveDate};

use crate::domain::catalog::{
    schema::{DataType, Primitive},
    view::{
        calendar::{DAY, HOUR, civil, days, first_day},
        value::Value,
    },
};

use super::{
    Cell, DateUnit, LowZips, Mask, Overflow, PseudonymKeys, REDACTED, bounds, constant, pseudonym::Pseudonyms,
};

/// The text shown for a ZIP code that must stay hidden.
const NO_ZIP: &str = "000";

/// A mask with its keys and its day, ready for the cells of one column.
#[derive(Clone)]
pub struct BoundMask(Bound);

#[derive(Clone)]
enum Bound {
    Null,
    Fixed {
        value: Cell<'static>,
        keep_nulls: bool,
    },
    Pseudonym(Box<Pseudonyms>),
    Partial {
        first: usize,
        last: usize,
    },
    DateTrunc {
        unit: DateUnit,
        /// The earliest day that may be shown.
        earliest: i64,
    },
    /// Shows the year, but none before `earliest`.
    Year {
        earliest: i64,
    },
    Zip3(LowZips),
    AgeCap {
        cap: i64,
    },
    /// Has one label more than bounds.
    Bucket {
        bounds: Vec<Value>,
        labels: Vec<String>,
    },
}

impl std::fmt::Debug for BoundMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoundMask(***)")
    }
}

impl BoundMask {
    /// Prepares a mask for cells of type `input`, which it must fit.
    pub(super) fn new(mask: &Mask, input: &DataType, keys: &PseudonymKeys, today: NaiveDate) -> Result<Self, String> {
        let primitive = match (mask, input.primitive()) {
            (Mask::Null, _) => return Ok(Self(Bound::Null)),
            (_, Some(primitive)) => primitive,
            (_, None) => return Err(format!("`{}` masks single values", mask.name())),
        };
        let earliest_year = mask.oldest_age().map(|age| i64::from(today.year()) - i64::from(age));
        Ok(Self(match mask {
            Mask::Null => Bound::Null,
            Mask::Redact { keep_nulls } => Bound::Fixed { value: Cell::Text(REDACTED.into()), keep_nulls: *keep_nulls },
            Mask::Constant { value, keep_nulls } => {
                Bound::Fixed { value: cell(constant(value, primitive)?), keep_nulls: *keep_nulls }
            }
            Mask::Hash { domain, per } => Bound::Pseudonym(Box::new(Pseudonyms::new(keys, *per, domain, primitive))),
            Mask::Partial { first, last } => Bound::Partial { first: (*first).into(), last: (*last).into() },
            Mask::DateTrunc { unit, .. } => {
                Bound::DateTrunc { unit: *unit, earliest: earliest_year.map_or(i64::MIN, |year| days(year, 1, 1)) }
            }
            Mask::YearOnly { .. } => Bound::Year { earliest: earliest_year.unwrap_or(i64::MIN) },
            Mask::Zip3 => Bound::Zip3(LowZips::default()),
            Mask::AgeCap { cap } => Bound::AgeCap { cap: *cap },
            Mask::Bucket { bounds: given } => {
                let bounds = bounds(given, primitive)?;
                Bound::Bucket { labels: labels(&bounds, primitive), bounds }
            }
            Mask::Shift(_) | Mask::Surrogate { .. } => {
                return Err(format!("`{}` needs more than the value", mask.name()));
            }
        }))
    }

    /// Replaces the published ZIP prefixes with these.
    #[must_use]
    pub fn with_zips(self, zips: &LowZips) -> Self {
        match self.0 {
            Bound::Zip3(_) => Self(Bound::Zip3(zips.clone())),
            other => Self(other),
        }
    }

    /// Masks one cell.
    pub fn apply<'a>(&'a self, cell: Cell<'a>) -> Result<Cell<'a>, Overflow> {
        match (&self.0, cell) {
            (Bound::Null, _) => Ok(Cell::Null),
            (Bound::Fixed { keep_nulls: true, .. }, Cell::Null) => Ok(Cell::Null),
            (Bound::Fixed { value: Cell::Text(text), .. }, _) => Ok(Cell::Text(Cow::Borrowed(text))),
            (Bound::Fixed { value, .. }, _) => Ok(value.clone()),
            (_, Cell::Null) => Ok(Cell::Null),
            (Bound::Pseudonym(pseudonyms), cell) => Ok(Cell::Text(pseudonyms.of(&cell)?.into())),
            (Bound::Partial { first, last }, Cell::Text(text)) => Ok(Cell::Text(partial(&text, *first, *last))),
            (Bound::DateTrunc { unit, earliest }, Cell::Date(days)) => {
                let first = first_day(days.into(), *unit).max(*earliest);
                i32::try_from(first).map(Cell::Date).map_err(|_| Overflow)
            }
            (Bound::DateTrunc { unit, earliest }, Cell::Timestamp(micros)) => {
                let first = truncated(micros, *unit);
                // Without an age cap no instant is too early.
                first.map(|first| Cell::Timestamp(first.max(earliest.saturating_mul(DAY))))
            }
            (Bound::Year { earliest }, Cell::Date(days)) => Ok(year(days.into(), *earliest)),
            (Bound::Year { earliest }, Cell::Timestamp(micros)) => Ok(year(micros.div_euclid(DAY), *earliest)),
            (Bound::Zip3(low), Cell::Text(text)) => Ok(Cell::Text(zip3(text, low))),
            (Bound::AgeCap { cap }, Cell::Integer(age)) => {
                if age > *cap {
                    cap.checked_add(1).map(Cell::Integer).ok_or(Overflow)
                } else {
                    Ok(Cell::Integer(age))
                }
            }
            (Bound::Bucket { bounds, labels }, cell) => bucket(&cell, bounds, labels),
            // The cell is not of the column's type.
            (
                Bound::Partial { .. }
                | Bound::DateTrunc { .. }
                | Bound::Year { .. }
                | Bound::Zip3(_)
                | Bound::AgeCap { .. },
                _,
            ) => Err(Overflow),
        }
    }
}

fn cell(value: Value) -> Cell<'static> {
    match value {
        Value::Boolean(value) => Cell::Boolean(value),
        Value::Integer(value) => Cell::Integer(value),
        Value::Float(value) => Cell::Float(value),
        Value::Decimal(unscaled) => Cell::Decimal(unscaled),
        Value::Text(text) => Cell::Text(text.into()),
        Value::Date(days) => Cell::Date(days),
        Value::Timestamp(micros) => Cell::Timestamp(micros),
    }
}

fn partial(text: &str, first: usize, last: usize) -> Cow<'static, str> {
    let length = text.chars().count();
    if length <= first + last + 2 {
        return REDACTED.into();
    }
    let hidden = first..length - last;
    text.chars().enumerate().map(|(at, c)| if hidden.contains(&at) { '*' } else { c }).collect::<String>().into()
}

fn truncated(micros: i64, unit: DateUnit) -> Result<i64, Overflow> {
    match unit {
        DateUnit::Hour => micros.checked_sub(micros.rem_euclid(HOUR)),
        _ => first_day(micros.div_euclid(DAY), unit).checked_mul(DAY),
    }
    .ok_or(Overflow)
}

fn year(days: i64, earliest: i64) -> Cell<'static> {
    let (year, _, _) = civil(days);
    Cell::Integer(year.max(earliest))
}

/// Masks a ZIP code, which has five digits, or nine with or without a hyphen after the fifth; blanks around it are
/// ignored.
fn zip3<'a>(text: Cow<'a, str>, low: &LowZips) -> Cow<'a, str> {
    let code = text.trim_ascii();
    let digits = |part: &str, count| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_zip = match code.split_at_checked(5) {
        Some((five, rest)) => digits(five, 5) && (rest.is_empty() || digits(rest.strip_prefix('-').unwrap_or(rest), 4)),
        None => false,
    };
    match code.get(..3) {
        Some(prefix) if is_zip && !low.contains(prefix) => prefix.to_owned().into(),
        _ => NO_ZIP.into(),
    }
}

fn bucket<'a>(cell: &Cell<'_>, bounds: &[Value], labels: &'a [String]) -> Result<Cell<'a>, Overflow> {
    let value = match cell {
        Cell::Integer(value) => Value::Integer(*value),
        Cell::Decimal(unscaled) => Value::Decimal(*unscaled),
        Cell::Float(value) if value.is_nan() => return Ok(Cell::Text("NaN".into())),
        Cell::Float(value) => Value::Float(*value),
        _ => return Err(Overflow),
    };
    if bounds.first().is_none_or(|bound| bound.compare(&value).is_none()) {
        return Err(Overflow);
    }
    let at = bounds.partition_point(|bound| bound.compare(&value).is_some_and(std::cmp::Ordering::is_le));
    labels.get(at).map(|label| Cell::Text(label.into())).ok_or(Overflow)
}

fn labels(bounds: &[Value], primitive: Primitive) -> Vec<String> {
    let text = |bound: &Value| bound.literal(primitive);
    let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else { return Vec::new() };
    let between = bounds.windows(2).map(|pair| match pair {
        [from, to] => format!("[{}, {})", text(from), text(to)),
        _ => String::new(),
    });
    std::iter::once(format!("< {}", text(first))).chain(between).chain([format!(">= {}", text(last))]).collect()
}
