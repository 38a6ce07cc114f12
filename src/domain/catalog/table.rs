//! Registered tables: Delta tables under names that operators use.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{
    access::agreement::{ANY_PURPOSE, are_within},
    audit::action::Kind,
    core::{
        declared::{Resource, resource_fields},
        name::Name,
        spec::{Effect, FieldError, Spec},
    },
    operators::principal::{Thing, check_domain},
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
    /// Who answers for the table: the name of an operator or a group, the id of somebody who signs in by an issuer, or any
    /// other text. Null: the owner of its domain. It gives no rights; a table whose owner was disabled, deleted or has
    /// expired is `ownerless`, and what shows it is granted to nobody else.
    #[serde(default)]
    pub owner: Option<String>,
    /// Who looks after the table: the name of an operator or a group, or the id of somebody who signs in by an issuer. Null:
    /// the steward of its domain. It gives no rights.
    #[serde(default)]
    pub steward: Option<String>,
    /// The domain that it belongs to: operators whose role counts there may act on it, and it has the owner and the steward
    /// of that domain where it names none.
    #[serde(default)]
    pub domain: Option<String>,
    /// The declared purposes for which it may be used: grants for another purpose, or for none, read nothing of it. Null for
    /// any purpose; an empty list for none.
    #[serde(default)]
    #[schema(example = json!(["fraud_analytics"]))]
    pub allowed_purposes: Option<Vec<String>>,
}

impl Spec for TableSpec {
    fn required(_: &str) -> &'static str {
        "name the folder that holds `_delta_log`"
    }

    fn check(&self, problems: &mut Vec<FieldError>) {
        check_domain(self.domain.as_deref(), problems);
        if self.allowed_purposes.iter().flatten().any(|purpose| purpose == ANY_PURPOSE) {
            problems.push(FieldError::new("allowed_purposes", "`*` is no purpose; null allows every purpose"));
        }
    }

    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect> {
        match field {
            "allowed_purposes" => Some(match (&before.allowed_purposes, &after.allowed_purposes) {
                (None, Some(_)) => Effect::Tightens,
                (Some(before), Some(after)) if are_within(after, before) => Effect::Tightens,
                _ => Effect::Loosens,
            }),
            // Other data under the same name; and whose roles count for it.
            "location" | "domain" => Some(Effect::Loosens),
            "description" | "owner" | "steward" => Some(Effect::Neutral),
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

impl Table {
    /// What scopes see of it.
    pub fn thing(&self) -> Thing {
        Thing::table(self.name.as_str(), self.spec.domain.as_deref())
    }
}

impl Resource for Table {
    type Spec = TableSpec;
    const KIND: Kind = Kind::Table;

    resource_fields!();
}
