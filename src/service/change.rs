//! How operators say what a thing should be: only named fields are ever compared or changed.
//!
//! One type per thing serves PUT (what should be there) and PATCH (what should change); null and absent differ.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::error::ServiceError;

/// What to do with one field.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Change<T> {
    /// It was not named; leave it.
    #[default]
    Keep,
    /// It was named as null; take its value away.
    Clear,
    /// Give it this value.
    Set(T),
}

/// Deserialises null as [`Change::Clear`]; an absent field needs `#[serde(default)]`.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

impl<T> Change<T> {
    /// Whether the field was named.
    pub fn is_named(&self) -> bool {
        !matches!(self, Self::Keep)
    }

    /// The value to set, if that is what is asked.
    pub fn set(self) -> Option<T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// The same change of a converted value.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Self::Keep => Change::Keep,
            Self::Clear => Change::Clear,
            Self::Set(value) => Change::Set(convert(value)),
        }
    }

    /// Changes a field that may be without a value.
    pub fn apply(self, field: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *field = None,
            Self::Set(value) => *field = Some(value),
        }
    }

    /// Changes a field that always has a value; null brings the default back.
    pub fn apply_or(self, field: &mut T, default: T) {
        match self {
            Self::Keep => {}
            Self::Clear => *field = default,
            Self::Set(value) => *field = value,
        }
    }
}

/// What is to become of a map: in a merge patch (RFC 7396) members are changed one by one and null removes one.
pub type MapChange<V> = Change<BTreeMap<String, Option<V>>>;

/// How a change is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// PUT: a named map is the whole map.
    Whole,
    /// PATCH: a named map names the members that change.
    Merge,
}

impl<V> MapChange<V> {
    /// Changes a map in the sense of `mode`.
    pub fn apply_to_map(self, map: &mut BTreeMap<String, V>, mode: Mode) {
        let members = match self {
            Self::Keep => return,
            Self::Clear => return map.clear(),
            Self::Set(members) => members,
        };
        if mode == Mode::Whole {
            map.clear();
        }
        for (key, value) in members {
            match value {
                Some(value) => drop(map.insert(key, value)),
                None => drop(map.remove(&key)),
            }
        }
    }
}

/// What a PUT found.
#[derive(Clone, Debug)]
pub enum Put<T> {
    /// There was nothing; it was created.
    Created(T),
    /// It was there, with every named field as named.
    Confirmed(T),
}

impl<T> Put<T> {
    /// Whatever there is now.
    pub fn into_inner(self) -> T {
        match self {
            Self::Created(value) | Self::Confirmed(value) => value,
        }
    }

    /// The same outcome for a converted value.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Put<U> {
        match self {
            Self::Created(value) => Put::Created(convert(value)),
            Self::Confirmed(value) => Put::Confirmed(convert(value)),
        }
    }
}

/// What operators set of a thing, as JSON: what changes are compared by and audited as.
pub(super) trait Described {
    /// Every settable field with its value.
    fn described(&self) -> Map<String, Value>;
}

/// The members of a JSON object.
pub(super) fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Names for a message.
pub(super) fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The fields in which `before` and `after` differ.
pub(super) fn differing(before: &impl Described, after: &impl Described) -> Vec<String> {
    let (before, after) = (before.described(), after.described());
    after.into_iter().filter(|(field, value)| before.get(field) != Some(value)).map(|(field, _)| field).collect()
}

/// Refuses a PUT that would change what is there.
pub(super) fn confirm(
    kind: &str,
    name: &str,
    before: &impl Described,
    after: &impl Described,
) -> Result<(), ServiceError> {
    let fields = differing(before, after);
    if fields.is_empty() {
        return Ok(());
    }
    let named = fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
    let message = format!("{kind} `{name}` exists with another {named}; change it with PATCH");
    Err(ServiceError::Conflict { message, fields })
}

/// The audited change from `before` to `after`: only what differs; `None` where something was created or deleted.
pub(super) fn audited<T: Described>(before: Option<&T>, after: Option<&T>) -> Value {
    let (mut before, mut after) = (before.map(T::described), after.map(T::described));
    if let (Some(before), Some(after)) = (&mut before, &mut after) {
        let same: Vec<String> =
            before.iter().filter(|(k, v)| after.get(*k) == Some(v)).map(|(k, _)| k.clone()).collect();
        for field in same {
            before.remove(&field);
            after.remove(&field);
        }
    }
    let mut change = Map::new();
    change.extend(before.map(|fields| ("before".to_owned(), Value::Object(fields))));
    change.extend(after.map(|fields| ("after".to_owned(), Value::Object(fields))));
    Value::Object(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_changes_members_and_a_whole_replaces_them() {
        let change = || Change::Set(BTreeMap::from([("a".to_owned(), Some(2)), ("b".to_owned(), None)]));
        let before = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1), ("c".to_owned(), 1)]);
        let (mut merged, mut whole) = (before.clone(), before);
        change().apply_to_map(&mut merged, Mode::Merge);
        change().apply_to_map(&mut whole, Mode::Whole);
        assert_eq!(merged, BTreeMap::from([("a".to_owned(), 2), ("c".to_owned(), 1)]));
        assert_eq!(whole, BTreeMap::from([("a".to_owned(), 2)]));
    }
}
