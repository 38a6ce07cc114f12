//! Registered tables: Delta tables under names that operators use.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::core::{
    declared::{Resource, resource_fields},
    name::Name,
    spec::{Effect, Spec},
};

/// What may be set of a registered table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = TableBody)]
pub struct TableSpec {
    /// The folder that holds `_delta_log`, inside a configured storage. Needed when the table is registered; kept normalised.
    #[schema(value_type = Option<String>, example = "s3://lake/warehouse/claims")]
    pub location: String,
    /// Free text for operators.
    #[serde(default)]
    pub description: Option<String>,
    /// Who answers for it. Kept and shown; it gives nobody a right, and nobody is told anything.
    #[serde(default)]
    pub owner: Option<String>,
}

impl Spec for TableSpec {
    fn required(_: &str) -> &'static str {
        "name the folder that holds `_delta_log`"
    }

    fn effect(field: &str, _: &Self, _: &Self) -> Option<Effect> {
        match field {
            // Other data under the same name.
            "location" => Some(Effect::Loosens),
            "description" | "owner" => Some(Effect::Neutral),
            _ => None,
        }
    }
}

/// A Delta table that the provider registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its identity.
    pub id: Uuid,
    /// Its dotted name, such as `claims.claims`.
    pub name: Name,
    /// What operators set; the location is normalised.
    pub spec: TableSpec,
    /// The Delta table id (`metaData.id`) that its log held when it was registered.
    pub delta_id: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}

impl Resource for Table {
    type Spec = TableSpec;
    const KIND: &'static str = "table";

    resource_fields!();
}
