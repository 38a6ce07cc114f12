//! Orders masks by how much they hide: null > redact > surrogate > hash > generalising > partial > none.

use std::cmp::Ordering;

use crate::domain::catalog::schema::DataType;

use super::{DateUnit, Mask, Scope, Shift};

/// What kind of mask it is, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    /// Some of the characters.
    Partial,
    /// A range that contains the value, or a value near it.
    Generalising,
    /// A text derived from the value.
    Hash,
    /// A text that is the same for the same value, and not derived from it.
    Surrogate,
    /// The same for every value.
    Redact,
    /// Nothing at all.
    Null,
}

/// The mask that hides more of a column; `None` is no mask. Of two masks of one kind, the one with the stricter
/// arguments; where neither is stricter, always the same one of the two.
pub fn stricter<'a>(one: Option<&'a Mask>, other: Option<&'a Mask>) -> Option<&'a Mask> {
    match (one, other) {
        (Some(a), Some(b)) => Some(if compare(a, b) == Ordering::Less { b } else { a }),
        (one, other) => one.or(other),
    }
}

/// Whether `one` hides at least as much of a column as `other` does, whatever text it puts there; `None` is no mask.
pub fn at_least(one: Option<&Mask>, other: Option<&Mask>) -> bool {
    match (one, other) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(one), Some(other)) => rank(one) >= rank(other),
    }
}

fn compare(one: &Mask, other: &Mask) -> Ordering {
    let texts = || one.to_json().to_string().cmp(&other.to_json().to_string());
    rank(one).cmp(&rank(other)).then_with(texts)
}

/// The kind, and how strict the arguments are within it.
fn rank(mask: &Mask) -> (Strength, i64, i64) {
    /// A lower cap hides more; without one nothing is capped.
    fn cap(mask: &Mask) -> i64 {
        mask.oldest_age().map_or(i64::MIN, |age| -i64::from(age))
    }
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    match mask {
        Mask::Null => (Strength::Null, 0, 0),
        Mask::Redact { keep_nulls } | Mask::Constant { keep_nulls, .. } => (Strength::Redact, (!*keep_nulls).into(), 0),
        Mask::Surrogate { .. } => (Strength::Surrogate, 0, 0),
        Mask::Hash { per, .. } => (Strength::Hash, narrowness(*per), 0),
        Mask::YearOnly { .. } => (Strength::Generalising, 8, cap(mask)),
        Mask::DateTrunc { unit, .. } => (Strength::Generalising, coarseness(*unit), cap(mask)),
        Mask::Zip3 => (Strength::Generalising, 2, 0),
        Mask::Bucket { bounds } => (Strength::Generalising, 2, -count(bounds.len())),
        Mask::AgeCap { cap } => (Strength::Generalising, 1, cap.saturating_neg()),
        // The day is false, but a day it is, and the time between two of them is true.
        Mask::Shift(Shift { per, .. }) => (Strength::Generalising, 0, narrowness(*per)),
        Mask::Partial { first, last } => (Strength::Partial, -i64::from(*first) - i64::from(*last), 0),
    }
}

fn narrowness(per: Scope) -> i64 {
    match per {
        Scope::Recipient => 2,
        Scope::Share => 1,
        Scope::Global => 0,
    }
}

fn coarseness(unit: DateUnit) -> i64 {
    match unit {
        DateUnit::Year => 7,
        DateUnit::Quarter => 6,
        DateUnit::Month => 5,
        DateUnit::Week => 4,
        DateUnit::Day => 3,
        DateUnit::Hour => 2,
    }
}

impl Mask {
    /// The mask for a column of type `input` whose type must not change: itself, or `null` if its results have another
    /// type or it does not fit.
    pub fn keeping_type(&self, input: &DataType) -> Self {
        if self.output_type(input).as_ref() == Ok(input) { self.clone() } else { Self::Null }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::domain::catalog::schema::{Primitive, Schema};

    use super::*;

    /// Every mask, the strictest first; those of one line are equally strict or of different types.
    fn ordered() -> Vec<Option<Mask>> {
        let all = [
            json!("null"),
            json!("redact"),
            json!({"redact": {"keep_nulls": true}}),
            json!({"surrogate": {"domain": "m"}}),
            json!({"hash": {"domain": "m"}}),
            json!({"hash": {"domain": "m", "per": "share"}}),
            json!({"hash": {"domain": "m", "per": "global"}}),
            json!({"year_only": {"cap_age": 80}}),
            json!({"year_only": {"date_of": "birth"}}),
            json!("year_only"),
            json!({"date_trunc": {"unit": "year", "date_of": "birth"}}),
            json!({"date_trunc": {"unit": "year"}}),
            json!({"date_trunc": {"unit": "quarter"}}),
            json!({"date_trunc": {"unit": "month"}}),
            json!({"date_trunc": {"unit": "week"}}),
            json!({"date_trunc": {"unit": "day"}}),
            json!("zip3"),
            json!({"bucket": {"bounds": [1]}}),
            json!({"bucket": {"bounds": [1, 2]}}),
            json!({"age_cap": {"cap": 79}}),
            json!("age_cap"),
            json!({"shift": {"key": "m"}}),
            json!({"shift": {"key": "m", "per": "share"}}),
            json!({"shift": {"key": "m", "per": "global"}}),
            json!({"partial": {"last": 1}}),
            json!({"partial": {"first": 1, "last": 1}}),
        ];
        all.iter().map(|json| Some(Mask::from_json(json).unwrap())).chain([None]).collect()
    }

    fn types() -> Vec<DataType> {
        let names = [
            "string",
            "binary",
            "boolean",
            "byte",
            "short",
            "integer",
            "long",
            "float",
            "double",
            "decimal(10,2)",
            "date",
            "timestamp",
            "timestamp_ntz",
        ];
        let fields: Vec<_> =
            names.iter().map(|name| json!({"name": name, "type": name, "nullable": true, "metadata": {}})).collect();
        let schema = Schema::from_json(&json!({"type": "struct", "fields": fields})).unwrap();
        schema.fields.into_iter().map(|field| field.data_type).collect()
    }

    #[test]
    fn of_every_two_masks_one_is_stricter_whichever_comes_first() {
        let ordered = ordered();
        for (at, one) in ordered.iter().enumerate() {
            for (place, other) in ordered.iter().enumerate() {
                let expected = if at <= place { one } else { other };
                assert_eq!(stricter(one.as_ref(), other.as_ref()), expected.as_ref(), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn every_kind_of_mask_is_in_the_order_and_its_kinds_descend() {
        let masks: Vec<Mask> = ordered().into_iter().flatten().collect();
        let kinds: Vec<Strength> = masks.iter().map(|mask| rank(mask).0).collect();
        assert!(kinds.is_sorted_by(|one, next| one >= next));
        let names: std::collections::BTreeSet<_> = masks.iter().map(Mask::name).collect();
        // A constant is as strict as `redact`.
        let constant = Mask::from_json(&json!({"constant": {"value": "x"}})).unwrap();
        assert_eq!((names.len(), rank(&constant)), (11, rank(&masks[1])));
        let (one, other) = (Some(&constant), masks.get(1));
        assert_eq!(stricter(one, other), stricter(other, one));
    }

    #[test]
    fn a_mask_of_a_class_keeps_the_type_of_every_column() {
        use Primitive::{Date, String, Timestamp, TimestampNtz};
        for input in types() {
            let primitive = input.primitive().unwrap();
            let is_integer =
                matches!(primitive, Primitive::Byte | Primitive::Short | Primitive::Integer | Primitive::Long);
            for mask in ordered().iter().flatten() {
                let kept = mask.keeping_type(&input);
                assert_eq!(kept.output_type(&input).as_ref(), Ok(&input), "{mask:?} {input}");
                let stays = match mask {
                    Mask::Null => true,
                    Mask::Redact { .. }
                    | Mask::Hash { .. }
                    | Mask::Surrogate { .. }
                    | Mask::Zip3
                    | Mask::Partial { .. } => primitive == String,
                    Mask::DateTrunc { unit, .. } => {
                        matches!(primitive, Timestamp | TimestampNtz) || (primitive == Date && *unit != DateUnit::Day)
                    }
                    Mask::Shift(_) => matches!(primitive, Date | Timestamp | TimestampNtz),
                    Mask::AgeCap { .. } => is_integer,
                    Mask::Constant { .. } | Mask::YearOnly { .. } | Mask::Bucket { .. } => false,
                };
                assert_eq!(kept, if stays { mask.clone() } else { Mask::Null }, "{mask:?} {input}");
                // What replaces it is never weaker.
                assert_eq!(stricter(Some(&kept), Some(mask)), Some(&kept), "{mask:?} {input}");
            }
        }
    }
}
