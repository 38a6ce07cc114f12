//! Registered tables: a Delta table under a name that operators use.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::core::{
    declared::{Resource, resource_fields},
    name::Name,
    spec::{Effect, Spec},
};

/// The settings of a registered table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = TableBody)]
pub struct TableSpec {
    /// The URL of the folder that holds `_delta_log`, inside a configured storage. Required for a new table; stored in
    /// normalised form.
    #[schema(value_type = Option<String>, example = "s3://lake/warehouse/claims")]
    pub location: String,
    /// A note for operators.
    #[serde(default)]
    pub description: Option<String>,
    /// Who is responsible for the table. Stored and shown only: it gives no rights, and Weir sends no messages.
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
    /// What was set of it; its location is normalised.
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
