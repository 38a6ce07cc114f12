//! Registered tables: a Delta table under a name that operators use.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::name::Name;

/// A Delta table that the provider registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its identity.
    pub id: Uuid,
    /// Its dotted name, such as `claims.claims`.
    pub name: Name,
    /// Its normalised location.
    pub location: String,
    /// Free text for operators.
    pub description: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// The Delta table id (`metaData.id`) that its log held when it was registered.
    pub delta_id: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}
