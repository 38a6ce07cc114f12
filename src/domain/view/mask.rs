//! Masks: what is done to a column's values before a recipient sees them. Pure, typed and deterministic.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::schema::DataType;

/// What is done to a column's values. NULL stays NULL under every mask but those that say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// Every value is NULL; the type stays.
    Null,
    /// Every value is the text `REDACTED`, whatever was there; a string. NULL too, unless `keep_nulls`.
    Redact {
        /// Whether NULL stays NULL.
        keep_nulls: bool,
    },
    /// Every value is this one, of the column's type. NULL too, unless `keep_nulls`.
    Constant {
        /// The value, as JSON writes it.
        value: Value,
        /// Whether NULL stays NULL.
        keep_nulls: bool,
    },
    /// A pseudonym: the same value gives the same text, and nobody without the key can go back. See [`pseudonym`].
    Hash {
        /// What kind of thing is named; columns of one domain share their pseudonyms.
        domain: String,
        /// Within what pseudonyms are the same.
        per: Scope,
    },
    /// The first and last characters of a text, the rest as `*`; a text of at most `first + last + 2` characters is
    /// redacted as a whole.
    Partial {
        /// Characters kept at the beginning.
        first: u8,
        /// Characters kept at the end.
        last: u8,
    },
    /// A date or timestamp cut to the beginning of its unit, in UTC.
    DateTrunc {
        /// The unit.
        unit: DateUnit,
    },
    /// The year of a date or timestamp, as an integer. With `cap_age`, years longer ago than that many years before
    /// the year of `today` are given as the year at the cap.
    YearOnly {
        /// The oldest age that shows in years.
        cap_age: Option<u16>,
    },
    /// The first three digits of a US ZIP code; `000` for the prefixes with few inhabitants (HIPAA, 45 CFR
    /// 164.514(b)(2)(i)(B)) and for what is no ZIP code.
    Zip3,
    /// Integers above `cap` are given as `cap + 1`: ages over 89 as 90.
    AgeCap {
        /// The largest that shows.
        cap: i64,
    },
    /// The range that a number lies in, as text: `[0, 10)`; below the first bound `< 0`, from the last on `>= 100`.
    Bucket {
        /// The bounds, ascending, at least one.
        bounds: Vec<Value>,
    },
}

/// Within what pseudonyms are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One recipient's own: two partners cannot join their copies.
    #[default]
    Recipient,
    /// One share's: its recipients can.
    Share,
    /// Everybody's.
    Global,
}

/// What dates are cut to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DateUnit {
    /// 1 January.
    Year,
    /// The first day of January, April, July or October.
    Quarter,
    /// The first of the month.
    Month,
    /// Monday.
    Week,
    /// Midnight.
    Day,
    /// The full hour; of timestamps only.
    Hour,
}
