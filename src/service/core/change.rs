//! Operators' changes: only the fields that a request names are compared or changed.
//!
//! [`crate::domain::core::spec`] defines the fields, and how PUT and PATCH change them.

use serde_json::{Map, Value};

use crate::domain::{
    audit::Event,
    core::{
        message::quoted,
        spec::{self, Effect, Spec},
    },
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
pub(in crate::service) fn differing<S: Spec>(before: &S, after: &S) -> Vec<String> {
    spec::effects(before, after).into_iter().map(|(field, _)| field).collect()
}

/// Refuses a PUT that would change what is there.
pub(in crate::service) fn confirm<S: Spec>(kind: &str, name: &str, before: &S, after: &S) -> Result<(), ServiceError> {
    let fields = differing(before, after);
    if fields.is_empty() {
        return Ok(());
    }
    let message = format!("{kind} `{name}` exists with another {}; change it with PATCH", quoted(&fields));
    Err(ServiceError::Conflict { message, fields })
}

/// What an event tells of a change.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::service) struct Audited {
    /// What was and what is.
    pub(in crate::service) change: Value,
    /// What the changed fields mean together; `None` where the action alone says it.
    effect: Option<Effect>,
}

impl Audited {
    /// Adds a value beside the spec where it differs, too; another one may show more, unless the spec says otherwise.
    pub(in crate::service) fn and(mut self, field: &str, before: Option<Value>, after: Option<Value>) -> Self {
        if before != after {
            if before.is_some() && after.is_some() {
                self.effect = self.effect.or(Some(Effect::Loosens));
            }
            for (side, value) in [("before", before), ("after", after)] {
                if let Some(value) = value {
                    self.change[side][field] = value;
                }
            }
        }
        self
    }

    /// Adds why it was made.
    pub(in crate::service) fn because(mut self, reason: &str) -> Self {
        self.change["reason"] = reason.into();
        self
    }

    /// `event`, telling of this change.
    pub(in crate::service) fn told_by(self, event: Event) -> Event {
        Event { change: Some(self.change), effect: self.effect, ..event }
    }
}

/// The change from `before` to `after`, and what it means: only what differs; `None` where something was created or
/// deleted.
pub(in crate::service) fn audited<S: Spec>(before: Option<&S>, after: Option<&S>) -> Audited {
    let mut change = Map::new();
    let mut effect = None;
    let (mut was, mut is) = (before.map(S::fields), after.map(S::fields));
    if let (Some(before), Some(after), Some(was), Some(is)) = (before, after, &mut was, &mut is) {
        let effects = spec::effects(before, after);
        let differs = |field: &String| effects.iter().any(|(changed, _)| changed == field);
        was.retain(|field, _| differs(field));
        is.retain(|field, _| differs(field));
        // A field that loosens is not made up for by one that tightens.
        effect = effects.iter().map(|(_, effect)| *effect).max();
    }
    change.extend(was.map(|fields| ("before".to_owned(), Value::Object(fields))));
    change.extend(is.map(|fields| ("after".to_owned(), Value::Object(fields))));
    Audited { change: Value::Object(change), effect }
}
