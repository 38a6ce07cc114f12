//! Things that operators declare: a spec under a name, and the fields that the server keeps with it.
//!
//! Most nouns consist of just that and are [`Declared`]; nouns with more fields implement [`Resource`] themselves.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::audit::action::{Changes, Kind};

use super::{
    name::{Name, NameKind},
    spec::Spec,
};

/// A thing with a spec.
pub trait Resource {
    /// The fields that operators set.
    type Spec: Spec;
    /// Its noun, as messages and audit events have it.
    const KIND: Kind;

    /// Its identity, under which events are recorded.
    fn id(&self) -> Uuid;

    /// Its name; nested names are joined by dots.
    fn name(&self) -> String;

    /// Counts its changes, from 1; the etag.
    fn revision(&self) -> i64;

    /// The fields that operators set.
    fn spec(&self) -> &Self::Spec;
}

/// The spec of a noun that consists of only a name and a spec.
pub trait Plain: Spec {
    /// Its noun, as messages and audit events have it.
    const KIND: Kind;
    /// What is done to it, as audit events have it.
    const ACTIONS: Changes;
    /// What its names are held to.
    const NAME: NameKind;
    /// The plural noun: the database's table, and the listing to which page tokens are bound.
    const TABLE: &'static str;
}

/// A thing that consists of only a name and a spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared<S> {
    /// Its identity.
    pub id: Uuid,
    /// Its name.
    pub name: Name,
    /// The fields that operators set.
    pub spec: S,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}

impl<S> Declared<S> {
    /// Creates a new one.
    pub fn new(name: Name, spec: S, now: DateTime<Utc>) -> Self {
        Self { id: Uuid::now_v7(), name, spec, created_at: now, updated_at: now, revision: 1 }
    }
}

/// Implements the methods of [`Resource`] from the fields of the same names; for use inside the implementation.
macro_rules! resource_fields {
    () => {
        fn id(&self) -> uuid::Uuid {
            self.id
        }

        fn name(&self) -> String {
            self.name.to_string()
        }

        fn revision(&self) -> i64 {
            self.revision
        }

        fn spec(&self) -> &Self::Spec {
            &self.spec
        }
    };
}

pub(in crate::domain) use resource_fields;

impl<S: Plain> Resource for Declared<S> {
    type Spec = S;
    const KIND: Kind = S::KIND;

    resource_fields!();
}
