//! Operators' changes: only the fields that a request names are compared or changed.
//!
//! [`crate::domain::core::spec`] defines the fields, and how PUT and PATCH change them.

use serde_json::{Map, Value};

use crate::domain::core::{
    declared::Resource,
    message::quoted,
    spec::{self, Spec},
};

use super::error::ServiceError;

/// The outcome of a PUT.
#[derive(Clone, Debug)]
pub enum Put<T> {
    /// The thing was created.
    Created(T),
    /// The thing existed, with every named field as named.
    Confirmed(T),
}

impl<T> Put<T> {
    /// Returns the thing.
    pub fn into_inner(self) -> T {
        match self {
            Self::Created(value) | Self::Confirmed(value) => value,
        }
    }

    /// Converts the thing, with the same outcome.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Put<U> {
        match self {
            Self::Created(value) => Put::Created(convert(value)),
            Self::Confirmed(value) => Put::Confirmed(convert(value)),
        }
    }
}

/// What operators set of a thing, as JSON: what changes are compared by and audited as.
pub(in crate::service) trait Described {
    /// Every settable field with its value.
    fn described(&self) -> Map<String, Value>;
}

impl<R: Resource> Described for R {
    fn described(&self) -> Map<String, Value> {
        self.spec().fields()
    }
}

/// The fields that a request names, as it sent them.
pub type Named = Map<String, Value>;

/// Returns the members of a JSON object; none for another value.
pub fn named(value: Value) -> Named {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Makes the spec of a new thing.
pub(in crate::service) fn new_spec<S: Spec>(named: &Named) -> Result<S, ServiceError> {
    spec::create(named).map_err(ServiceError::Invalid)
}

/// Applies the named fields to `before`: a PUT replaces each field as a whole, a PATCH merges it (RFC 7396).
pub(in crate::service) fn changed_spec<S: Spec>(
    before: &S,
    named: &Named,
    mode: spec::Mode,
) -> Result<S, ServiceError> {
    spec::change(before, named, mode).map_err(ServiceError::Invalid)
}

/// The fields in which `before` and `after` differ.
pub(in crate::service) fn differing(before: &impl Described, after: &impl Described) -> Vec<String> {
    let (before, after) = (before.described(), after.described());
    after.into_iter().filter(|(field, value)| before.get(field) != Some(value)).map(|(field, _)| field).collect()
}

/// Refuses a PUT that would change what is there.
pub(in crate::service) fn confirm(
    kind: &str,
    name: &str,
    before: &impl Described,
    after: &impl Described,
) -> Result<(), ServiceError> {
    let fields = differing(before, after);
    if fields.is_empty() {
        return Ok(());
    }
    let message = format!("{kind} `{name}` exists with another {}; change it with PATCH", quoted(&fields));
    Err(ServiceError::Conflict { message, fields })
}

/// The audited change from `before` to `after`: only what differs; `None` where something was created or deleted.
pub(in crate::service) fn audited<T: Described>(before: Option<&T>, after: Option<&T>) -> Value {
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
