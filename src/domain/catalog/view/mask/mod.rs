//! Masks: pure, typed, deterministic functions that change a column's values before a recipient sees them.
//!
//! This module says which masks there are, which types they fit, and how JSON writes them; [`bound`] applies them,
//! [`pseudonym`] derives the keys, [`shift`] and [`surrogate`] are the masks that need more than the value, and
//! [`strength`] orders all of them. The expected result of every mask is in `docs/mask-vectors.json`, which the tests
//! read.

mod bound;
mod pseudonym;
mod shift;
mod strength;
mod surrogate;
mod zips;

use std::borrow::Cow;

use chrono::NaiveDate;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Value as Json, json};

pub use bound::BoundMask;
pub use pseudonym::PseudonymKeys;
pub use shift::{BoundShift, Shift};
pub use strength::{at_least, stricter};
pub use surrogate::{SurrogateDigests, surrogate_text};
pub use zips::LowZips;

use crate::domain::catalog::schema::{ColumnPath, DataType, Primitive};

use super::value::{Value, integer_range};

/// The text shown for redacted values.
pub const REDACTED: &str = "REDACTED";

/// The longest domain of pseudonyms, in characters.
const MAX_DOMAIN: usize = 64;
/// The longest text of a constant, in characters.
const MAX_CONSTANT: usize = 1_000;
/// The most bounds of buckets.
const MAX_BOUNDS: usize = 200;
/// The oldest age that may be shown (45 CFR 164.514(b)(2)(i)(C)): the default cap of `age_cap` and of dates of birth.
pub(super) const OLDEST_AGE: u16 = 89;
/// The highest age at which dates may be capped.
const MAX_CAP_AGE: u16 = 200;

/// What is done to a column's values. NULL stays NULL under every mask that does not say otherwise.
///
/// JSON writes the name alone (`"redact"`), or the name with arguments (`{"hash": {"domain": "member"}}`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum Mask {
    /// Shows NULL for every value; the type stays.
    Null,
    /// Shows the text `REDACTED` for every value; the type becomes string. NULL too becomes `REDACTED`, unless
    /// `keep_nulls`.
    Redact {
        /// Whether NULL stays NULL.
        #[serde(default, skip_serializing_if = "is_default")]
        keep_nulls: bool,
    },
    /// Shows one constant of the column's type for every value. NULL too becomes the constant, unless `keep_nulls`.
    Constant {
        /// The value, as JSON writes it.
        value: Json,
        /// Whether NULL stays NULL.
        #[serde(default, skip_serializing_if = "is_default")]
        keep_nulls: bool,
    },
    /// Shows a pseudonym: the same value always gives the same text, which cannot be reversed without the key
    /// (`pseudonym.rs` says how it is made).
    Hash {
        /// The kind of thing that the values name; columns of the same domain share their pseudonyms.
        domain: String,
        /// The range within which equal values have equal pseudonyms.
        #[serde(default)]
        per: Scope,
    },
    /// Shows a random text: the same value of a recipient and domain always gives the same one, which is kept and
    /// derived from nothing (`surrogate.rs`).
    Surrogate {
        /// The kind of thing that the values name; columns of the same domain share their surrogates.
        domain: String,
    },
    /// Shows a date or timestamp moved by as many days as all dates of its subject (`shift.rs`). A date without a
    /// subject becomes NULL, and so does one that would leave the years 1 to 9999.
    Shift(Shift),
    /// Shows the first and last characters (Unicode scalar values) of a text, and one `*` for each of the others. A
    /// text of at most `first + last + 2` characters is redacted entirely.
    Partial {
        /// Characters kept at the beginning.
        #[serde(default)]
        first: u8,
        /// Characters kept at the end.
        #[serde(default)]
        last: u8,
    },
    /// Shows a date or timestamp cut to the start of its unit, in UTC. Dates of birth are capped as by `year_only`, at
    /// the first day of the cap's year.
    DateTrunc {
        /// The unit.
        unit: DateUnit,
        /// The kind of date in the column.
        #[serde(default, skip_serializing_if = "is_default")]
        date_of: Option<DateOf>,
        /// The oldest age that may be shown; setting it makes the column a date of birth.
        #[serde(default, skip_serializing_if = "is_default")]
        cap_age: Option<u16>,
    },
    /// Shows the year of a date or timestamp as an integer. For dates of birth, a year earlier than the current year
    /// minus `cap_age` (by default 89) is shown as that earliest year.
    YearOnly {
        /// The kind of date in the column.
        #[serde(default, skip_serializing_if = "is_default")]
        date_of: Option<DateOf>,
        /// The oldest age that may be shown; setting it makes the column a date of birth.
        #[serde(default, skip_serializing_if = "is_default")]
        cap_age: Option<u16>,
    },
    /// Shows the first three digits of a US ZIP code, or `000` if the prefix has few inhabitants (HIPAA, 45 CFR
    /// 164.514(b)(2)(i)(B), see [`LowZips`]) or the text is not a ZIP code.
    Zip3,
    /// Shows integers above `cap` as `cap + 1`: ages over 89 as 90.
    AgeCap {
        /// The largest number that is shown as it is.
        #[serde(default = "default_age_cap")]
        cap: i64,
    },
    /// Shows the range that contains a number, as text: `[0, 10)`; `< 0` below the first bound, `>= 100` from the last
    /// bound on, and `NaN` for NaN.
    Bucket {
        /// The bounds, ascending, at least one.
        bounds: Vec<Json>,
    },
}

/// Where a value has the same pseudonym.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// In everything that one recipient reads, so that two recipients cannot join their data.
    #[default]
    Recipient,
    /// In everything that one share shows, so that its recipients can join their data.
    Share,
    /// Everywhere.
    Global,
}

/// What a column of dates says about a person, and so whether a year in it reveals an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DateOf {
    /// The date of birth: old ages are capped.
    Birth,
    /// The date of an event, such as a service or an admission: never capped.
    Event,
}

/// The unit to whose beginning dates are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DateUnit {
    /// The first day of the year.
    Year,
    /// The first day of January, April, July or October.
    Quarter,
    /// The first day of the month.
    Month,
    /// Monday.
    Week,
    /// Midnight; of timestamps only.
    Day,
    /// The full hour; of timestamps only.
    Hour,
}

/// One value, before or after a mask.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// NULL, of any type.
    Null,
    /// `boolean`
    Boolean(bool),
    /// `byte`, `short`, `integer`, `long`
    Integer(i64),
    /// `float`, `double`
    Float(f64),
    /// `decimal`: the digits without the point, at the column's scale.
    Decimal(i128),
    /// `string`
    Text(Cow<'a, str>),
    /// `binary`
    Binary(&'a [u8]),
    /// `date`: days since 1970.
    Date(i32),
    /// `timestamp`, `timestamp_ntz`: microseconds since 1970.
    Timestamp(i64),
}

/// The error for a result that does not fit its type, or a value that is not of the column's type. Says nothing about
/// the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mask's result does not fit its type")]
pub struct Overflow;

impl Mask {
    /// The type of the masked values of a column of type `input`; the error says, in words for operators, why the mask
    /// does not fit.
    ///
    /// Every mask takes only single values, except `null`, which takes anything.
    pub fn output_type(&self, input: &DataType) -> Result<DataType, String> {
        if matches!(self, Self::Null) {
            return Ok(input.clone());
        }
        let DataType::Primitive(primitive) = *input else {
            return Err(format!("`{}` masks single values, and this is {input}; name its parts", self.name()));
        };
        let output = match self {
            Self::Null => primitive,
            Self::Redact { .. } => Primitive::String,
            Self::Constant { value, .. } => {
                constant(value, primitive)?;
                primitive
            }
            Self::Hash { domain, .. } => {
                check_domain(domain)?;
                Primitive::String
            }
            Self::Surrogate { domain } => {
                check_domain(domain)?;
                Primitive::String
            }
            Self::Shift(shift) => {
                self.takes(primitive, is_time(primitive), "dates and timestamps")?;
                check_domain(&shift.domain)?;
                if !shift::MAX_DAYS.contains(&shift.max_days) {
                    let (least, most) = (shift::MAX_DAYS.start(), shift::MAX_DAYS.end());
                    return Err(format!("`max_days` is {least} to {most}"));
                }
                primitive
            }
            Self::Partial { first, last } => {
                self.takes(primitive, primitive == Primitive::String, "texts")?;
                if *first == 0 && *last == 0 {
                    return Err("`partial` keeps nothing without `first` or `last`; use `redact` for that".to_owned());
                }
                Primitive::String
            }
            Self::DateTrunc { unit, date_of, cap_age } => {
                self.takes(primitive, is_time(primitive), "dates and timestamps")?;
                check_cap(*date_of, *cap_age)?;
                if primitive == Primitive::Date && matches!(unit, DateUnit::Day | DateUnit::Hour) {
                    return Err("dates have no smaller unit than days; cut them to `week` or more".to_owned());
                }
                primitive
            }
            Self::YearOnly { date_of, cap_age } => {
                self.takes(primitive, is_time(primitive), "dates and timestamps")?;
                check_cap(*date_of, *cap_age)?;
                Primitive::Integer
            }
            Self::Zip3 => {
                self.takes(primitive, primitive == Primitive::String, "texts, because ZIP codes may begin with 0")?;
                Primitive::String
            }
            Self::AgeCap { cap } => {
                let range = integer_range(primitive);
                self.takes(primitive, range.is_some(), "integers")?;
                if range.is_some_and(|(least, most)| !(least..most).contains(cap)) {
                    return Err(format!("a {primitive} cannot hold `cap` and one more"));
                }
                primitive
            }
            Self::Bucket { bounds: given } => {
                let is_number = integer_range(primitive).is_some()
                    || matches!(primitive, Primitive::Float | Primitive::Double | Primitive::Decimal { .. });
                self.takes(primitive, is_number, "numbers")?;
                bounds(given, primitive)?;
                Primitive::String
            }
        };
        Ok(DataType::Primitive(output))
    }

    fn takes(&self, primitive: Primitive, fits: bool, what: &str) -> Result<(), String> {
        if fits { Ok(()) } else { Err(format!("`{}` masks {what}, and this is {primitive}", self.name())) }
    }

    /// Whether the masked values may be NULL, given whether the column may.
    pub fn output_nullable(&self, input_nullable: bool) -> bool {
        match self {
            Self::Null | Self::Shift(_) => true,
            Self::Redact { keep_nulls } | Self::Constant { keep_nulls, .. } => *keep_nulls && input_nullable,
            Self::Hash { .. }
            | Self::Surrogate { .. }
            | Self::Partial { .. }
            | Self::DateTrunc { .. }
            | Self::YearOnly { .. }
            | Self::Zip3
            | Self::AgeCap { .. }
            | Self::Bucket { .. } => input_nullable,
        }
    }

    /// Whether it shows nothing of any value, not even whether there is one.
    pub fn hides_all(&self) -> bool {
        matches!(self, Self::Null | Self::Redact { keep_nulls: false } | Self::Constant { keep_nulls: false, .. })
    }

    /// Prepares the mask for a column of type `input`, with these keys and this day (UTC); the error is that of
    /// [`Self::output_type`]. `shift` needs a subject as well ([`Shift::bind`]), `surrogate` what was drawn
    /// ([`Self::surrogate_digests`]).
    pub fn bind(&self, input: &DataType, keys: &PseudonymKeys, today: NaiveDate) -> Result<BoundMask, String> {
        self.output_type(input)?;
        BoundMask::new(self, input, keys, today)
    }

    /// The scope of its results, if equal values do not give everybody equal results.
    pub fn scope(&self) -> Option<Scope> {
        match self {
            Self::Hash { per, .. } | Self::Shift(Shift { per, .. }) => Some(*per),
            Self::Surrogate { .. } => Some(Scope::Recipient),
            _ => None,
        }
    }

    /// The column, besides its own, from which the mask makes its results.
    pub fn subject(&self) -> Option<&ColumnPath> {
        match self {
            Self::Shift(shift) => Some(&shift.key),
            _ => None,
        }
    }

    /// Whether it depends on the current day; only the year matters.
    pub fn uses_today(&self) -> bool {
        self.oldest_age().is_some()
    }

    /// The oldest age that a date of birth may show; `None` if the mask caps no age.
    pub(super) fn oldest_age(&self) -> Option<u16> {
        match self {
            Self::DateTrunc { date_of, cap_age, .. } | Self::YearOnly { date_of, cap_age } => {
                cap_age.or((*date_of == Some(DateOf::Birth)).then_some(OLDEST_AGE))
            }
            _ => None,
        }
    }

    /// The name that JSON uses.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Redact { .. } => "redact",
            Self::Constant { .. } => "constant",
            Self::Hash { .. } => "hash",
            Self::Surrogate { .. } => "surrogate",
            Self::Shift(_) => "shift",
            Self::Partial { .. } => "partial",
            Self::DateTrunc { .. } => "date_trunc",
            Self::YearOnly { .. } => "year_only",
            Self::Zip3 => "zip3",
            Self::AgeCap { .. } => "age_cap",
            Self::Bucket { .. } => "bucket",
        }
    }

    /// Reads a mask from JSON: `"redact"`, or with arguments `{"hash": {"domain": "member", "per": "recipient"}}`.
    pub fn from_json(value: &Json) -> Result<Self, String> {
        let (name, arguments) = match value {
            Json::String(name) => (name, Map::new()),
            Json::Object(parts) => match parts.iter().next() {
                Some((name, Json::Object(arguments))) if parts.len() == 1 => (name, arguments.clone()),
                Some((name, _)) if parts.len() == 1 => return Err(format!("the arguments of `{name}` are an object")),
                _ => return Err("a mask has one name".to_owned()),
            },
            _ => return Err("a mask is a name, or an object of a name and its arguments".to_owned()),
        };
        // For serde, masks without any arguments are bare words.
        let is_bare = ["null", "zip3"].contains(&name.as_str()) && arguments.is_empty();
        let value = if is_bare { json!(name) } else { json!({ name.as_str(): arguments }) };
        Self::deserialize(value).map_err(|error| error.to_string())
    }

    /// Writes the mask in the shortest form that [`Self::from_json`] reads.
    pub fn to_json(&self) -> Json {
        let name = || json!(self.name());
        match Self::serialize(self, serde_json::value::Serializer) {
            Ok(Json::Object(parts)) if parts.values().all(|arguments| *arguments == json!({})) => name(),
            Ok(value) => value,
            // Serialization fails only for maps with keys that are not strings.
            Err(_) => name(),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_age_cap() -> i64 {
    OLDEST_AGE.into()
}

fn check_cap(date_of: Option<DateOf>, cap_age: Option<u16>) -> Result<(), String> {
    match cap_age {
        Some(_) if date_of == Some(DateOf::Event) => {
            Err("`cap_age` caps dates of birth; leave it out, or say `\"date_of\": \"birth\"`".to_owned())
        }
        Some(age) if age > MAX_CAP_AGE => Err(format!("`cap_age` is at most {MAX_CAP_AGE}")),
        _ => Ok(()),
    }
}

fn is_time(primitive: Primitive) -> bool {
    matches!(primitive, Primitive::Date | Primitive::Timestamp | Primitive::TimestampNtz)
}

/// Allows only a few characters, so that a domain can never contain a separator of the hashed text.
fn check_domain(domain: &str) -> Result<(), String> {
    let is_plain = domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if is_plain && (1..=MAX_DOMAIN).contains(&domain.len()) {
        Ok(())
    } else {
        Err(format!("`domain` is 1 to {MAX_DOMAIN} characters of `a` to `z`, `A` to `Z`, `0` to `9`, `_`, `-` and `.`"))
    }
}

/// Reads `value` as a constant of type `primitive`.
fn constant(value: &Json, primitive: Primitive) -> Result<Value, String> {
    if primitive == Primitive::Binary {
        return Err("`constant` does not mask binary; use `null` or `redact`".to_owned());
    }
    match Value::from_json(value, primitive) {
        Some(Value::Text(text)) if text.chars().nth(MAX_CONSTANT).is_some() => {
            Err(format!("`value` has at most {MAX_CONSTANT} characters"))
        }
        Some(value) => Ok(value),
        None if value.is_null() => Err("`constant` needs a `value`; for NULL use `null`".to_owned()),
        None => Err(format!("`value` is not exactly a value of type {primitive}")),
    }
}

/// Reads the bounds of buckets for a column of type `primitive`.
fn bounds(given: &[Json], primitive: Primitive) -> Result<Vec<Value>, String> {
    if !(1..=MAX_BOUNDS).contains(&given.len()) {
        return Err(format!("`bounds` has 1 to {MAX_BOUNDS} numbers"));
    }
    let bounds = given.iter().map(|bound| Value::from_json(bound, primitive)).collect::<Option<Vec<_>>>();
    let bounds = bounds.ok_or_else(|| format!("`bounds` has a number that is not exactly one of type {primitive}"))?;
    if bounds.is_sorted_by(|one, next| one.compare(next).is_some_and(std::cmp::Ordering::is_lt)) {
        Ok(bounds)
    } else {
        Err("each of `bounds` is larger than the one before".to_owned())
    }
}

impl Serialize for Mask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Json::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
