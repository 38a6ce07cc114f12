//! Moves the dates of the mask `shift`.
//!
//! ```text
//! number = the first 8 bytes of digest(subject), as an unsigned number, modulo 2 * max_days
//! days   = number - max_days        if number < max_days
//!          number - max_days + 1    otherwise
//! ```
//!
//! `digest` is the one of `pseudonym.rs`, of the subject's value. The days are never 0, so that no date is shown as it
//! is.

use serde::{Deserialize, Serialize};

use crate::domain::catalog::{
    schema::{ColumnPath, Primitive},
    view::calendar::{DAY, days},
};

use super::{
    Cell, Overflow, PseudonymKeys, Scope,
    pseudonym::{Digests, KeyUse},
};

/// The fewest and the most days by which dates may be moved at most.
pub(super) const MAX_DAYS: std::ops::RangeInclusive<u16> = 30..=3_650;

/// The arguments of the mask `shift`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// The column of the source, shown or not, whose value names the subject. All dates of a subject are moved by the
    /// same number of days.
    pub key: ColumnPath,
    /// The kind of subject that the values name; subjects of another domain are moved by other numbers of days.
    #[serde(default = "default_domain")]
    pub domain: String,
    /// The range within which a subject's dates are moved alike.
    #[serde(default)]
    pub per: Scope,
    /// The most days, forwards or backwards.
    #[serde(default = "default_days")]
    pub max_days: u16,
}

fn default_domain() -> String {
    "subject".to_owned()
}

/// About half a year each way, so that a shown date may stand for any season.
fn default_days() -> u16 {
    182
}

impl Shift {
    /// Prepares the mask for subjects of type `subject`.
    pub fn bind(&self, subject: Primitive, keys: &PseudonymKeys) -> BoundShift {
        let digests = Digests::new(keys, KeyUse::Shift, self.per, &self.domain, subject);
        let max_days = i64::from(self.max_days);
        // Dates so near to the ends that some subject's would leave the calendar are shown for nobody: what is shown of
        // 9999-12-31, which often means "no end", would tell how far the others were moved.
        let shown = days(1, 1, 1) + max_days..=days(9999, 12, 31) - max_days;
        BoundShift { digests, max_days, shown }
    }
}

/// A `shift` with its key, ready for the dates of one column.
#[derive(Clone)]
pub struct BoundShift {
    digests: Digests,
    max_days: i64,
    /// The days that are moved; others become NULL.
    shown: std::ops::RangeInclusive<i64>,
}

impl std::fmt::Debug for BoundShift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoundShift(***)")
    }
}

impl BoundShift {
    /// The days by which a subject's dates are moved; `None` if there is no subject.
    pub fn days_of(&self, subject: &Cell<'_>) -> Result<Option<i64>, Overflow> {
        if *subject == Cell::Null {
            return Ok(None);
        }
        let digest = self.digests.of(subject)?;
        let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let range = self.max_days.unsigned_abs() * 2;
        let number = i64::try_from(number.checked_rem(range).ok_or(Overflow)?).map_err(|_| Overflow)?;
        Ok(Some(number - self.max_days + i64::from(number >= self.max_days)))
    }

    /// Moves a date or timestamp by `days`. NULL if that is `None`, or if the date is too near to the ends of the
    /// calendar.
    pub fn apply(&self, cell: &Cell<'_>, days: Option<i64>) -> Result<Cell<'static>, Overflow> {
        let day = match cell {
            Cell::Null => return Ok(Cell::Null),
            Cell::Date(day) => i64::from(*day),
            Cell::Timestamp(micros) => micros.div_euclid(DAY),
            _ => return Err(Overflow),
        };
        let Some(days) = days.filter(|_| self.shown.contains(&day)) else { return Ok(Cell::Null) };
        let moved = day + days;
        match cell {
            Cell::Timestamp(micros) => Ok(Cell::Timestamp(moved * DAY + micros.rem_euclid(DAY))),
            _ => i32::try_from(moved).map(Cell::Date).map_err(|_| Overflow),
        }
    }
}
