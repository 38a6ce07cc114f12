//! Shares and the objects in them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use uuid::Uuid;

use crate::domain::{
    access::delivery::Delivery,
    core::{
        declared::{Declared, Plain},
        name::{Name, NameKind},
        spec::{Effect, FieldError, Spec},
    },
};

use super::{raw_disclosure::DisclosureItem, shape::AcceptedShape};

/// What may be set of a share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = ShareBody)]
pub struct ShareSpec {
    /// A name for people; the protocol's `displayName`.
    pub display_name: Option<String>,
    /// What recipients are told about it; the protocol's `comment`.
    pub description: Option<String>,
    /// Properties that recipients see; the protocol's `properties`.
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    pub properties: BTreeMap<String, String>,
}

impl Spec for ShareSpec {
    const OPAQUE: &'static [&'static str] = &["properties"];

    fn effect(field: &str, _: &Self, _: &Self) -> Option<Effect> {
        matches!(field, "display_name" | "description" | "properties").then_some(Effect::Neutral)
    }
}

impl Plain for ShareSpec {
    const KIND: &'static str = "share";
    const NAME: NameKind = NameKind::Share;
    const TABLE: &'static str = "shares";
}

/// A bundle of objects that recipients are granted as a whole. Its identity is the protocol's `id`.
pub type Share = Declared<ShareSpec>;

/// What a raw object does when its table's schema changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSchemaChange {
    /// Serves the new schema.
    #[default]
    Follow,
    /// Serves the newest version with the accepted schema.
    Hold,
}

impl OnSchemaChange {
    /// The word that the database stores and the API answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Follow => "follow",
            Self::Hold => "hold",
        }
    }

    /// Parses the word that [`Self::as_str`] gives.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Follow, Self::Hold].into_iter().find(|value| value.as_str() == text)
    }
}

/// A published version of a view, as an object shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedView {
    /// The view.
    pub id: Uuid,
    /// Its name.
    pub name: Name,
    /// The version.
    pub version: i64,
}

impl std::fmt::Display for SharedView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@v{}", self.name, self.version)
    }
}

/// The source of an object, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceName {
    /// The registered table of this name, file by file.
    Table(String),
    /// A published version of a view, as `name@vN`.
    View(String),
}

/// How [`SourceName`] is written: one of both.
#[derive(Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SourceBody)]
pub struct WrittenSource {
    /// The name of a registered table.
    #[schema(example = "claims.claims")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    /// A view and its version.
    #[schema(example = "claims.claims_fraud@v1")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    view: Option<String>,
}

impl Serialize for SourceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = match self.clone() {
            Self::Table(table) => WrittenSource { table: Some(table), view: None },
            Self::View(view) => WrittenSource { table: None, view: Some(view) },
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SourceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match WrittenSource::deserialize(deserializer)? {
            WrittenSource { table: Some(table), view: None } => Ok(Self::Table(table)),
            WrittenSource { table: None, view: Some(view) } => Ok(Self::View(view)),
            WrittenSource { table: Some(_), view: Some(_) } => {
                Err(D::Error::custom("must name a `table` or a `view`, not both"))
            }
            WrittenSource { table: None, view: None } => Err(D::Error::custom("must name a `table` or a `view`")),
        }
    }
}

/// What may be set of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ObjectBody)]
pub struct ObjectSpec {
    /// What it shows; needed when the object is created. Only a view's version may change.
    #[schema(value_type = Option<WrittenSource>)]
    pub source: SourceName,
    /// Whether recipients may read older versions.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub history: bool,
    /// The oldest version that recipients may read; the table's newest at the time where nothing is said.
    #[schema(value_type = Option<i64>, minimum = 0)]
    pub start_version: i64,
    /// Whether recipients may read the change data feed; needs `history`.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub cdf: bool,
    /// `proxied` where its files must come through the server.
    #[serde(default)]
    pub delivery: Option<Delivery>,
    /// What happens when the schema of a raw table changes.
    #[serde(default)]
    #[schema(value_type = Option<OnSchemaChange>)]
    pub on_schema_change: OnSchemaChange,
    /// What is acknowledged of what its files disclose beside what a query shows.
    #[serde(default)]
    #[schema(value_type = Option<Vec<DisclosureItem>>)]
    pub acknowledge: BTreeSet<DisclosureItem>,
    /// Whether files are presigned even for recipients that are bound to networks.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub presigned_despite_networks: bool,
    /// Free text for operators.
    #[serde(default)]
    pub description: Option<String>,
}

impl Spec for ObjectSpec {
    const OPAQUE: &'static [&'static str] = &["source"];

    fn required(field: &str) -> &'static str {
        if field == "source" { "name a table or view" } else { "give it a value" }
    }

    fn check(&self, problems: &mut Vec<FieldError>) {
        if self.cdf && !self.history {
            problems.push(FieldError::new("cdf", "needs `history: true`: changes tell what older versions held"));
        }
        if let SourceName::View(_) = self.source {
            if self.cdf {
                let message = "is not offered for views yet; share versions as a whole";
                problems.push(FieldError::new("cdf", message));
            }
            if self.on_schema_change == OnSchemaChange::Hold {
                let message = "is for raw tables; a view holds by itself what no longer fits";
                problems.push(FieldError::new("on_schema_change", message));
            }
        }
    }

    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect> {
        let tightens = match field {
            "description" => return Some(Effect::Neutral),
            // Another version of a view may show anything.
            "source" => false,
            "history" => !after.history,
            "start_version" => after.start_version > before.start_version,
            "cdf" => !after.cdf,
            "delivery" => after.delivery == Some(Delivery::Proxied),
            "on_schema_change" => after.on_schema_change == OnSchemaChange::Hold,
            "acknowledge" => after.acknowledge.is_subset(&before.acknowledge),
            "presigned_despite_networks" => !after.presigned_despite_networks,
            _ => return None,
        };
        Some(if tightens { Effect::Tightens } else { Effect::Loosens })
    }
}

/// A table as it appears in a share.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedObject {
    /// Its identity, answered to recipients as the table's `id`.
    pub id: Uuid,
    /// The share that contains it.
    pub share_id: Uuid,
    /// The schema under which it appears.
    pub schema: Name,
    /// The name under which it appears.
    pub name: Name,
    /// The registered table behind it.
    pub table_id: Uuid,
    /// The version of a view that it shows; `None` for a raw object, which shows the table file by file.
    pub view: Option<SharedView>,
    /// What operators set.
    pub spec: ObjectSpec,
    /// The accepted shape, if this is a raw object that holds its schema.
    pub accepted: Option<AcceptedShape>,
    /// When it was shared.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}
