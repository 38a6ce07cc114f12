//! Shares and the objects in them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{delivery::Delivery, name::Name, raw_disclosure::DisclosureItem, shape::AcceptedShape};

/// A bundle of objects that recipients are granted as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Its identity, answered to recipients as the protocol's `id`.
    pub id: Uuid,
    /// Its name.
    pub name: Name,
    /// A name for people; the protocol's `displayName`.
    pub display_name: Option<String>,
    /// The protocol's `comment`.
    pub description: Option<String>,
    /// Answered to recipients as the protocol's `properties`.
    pub properties: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}

/// What a raw object does when its table's schema changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSchemaChange {
    /// Serves the new schema.
    Follow,
    /// Serves the newest version with the accepted schema.
    Hold,
}

impl OnSchemaChange {
    /// The word kept in the database and answered.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Follow => "follow",
            Self::Hold => "hold",
        }
    }

    /// The value that [`Self::as_str`] named.
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

/// A table as it appears in a share.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedObject {
    /// Its identity, answered to recipients as the table's `id`.
    pub id: Uuid,
    /// The share that it is in.
    pub share_id: Uuid,
    /// The schema that it appears under.
    pub schema: Name,
    /// The name that it appears under.
    pub name: Name,
    /// The registered table behind it.
    pub table_id: Uuid,
    /// What of the table is shown; all of it, file by file, where there is no view.
    pub view: Option<SharedView>,
    /// Whether recipients may read older versions.
    pub history: bool,
    /// The oldest version that recipients may read.
    pub start_version: i64,
    /// Whether recipients may read the change data feed.
    pub cdf: bool,
    /// `Proxied` where its files must come through the server.
    pub delivery: Option<Delivery>,
    /// What happens when the table's schema changes.
    pub on_schema_change: OnSchemaChange,
    /// The shape that is served of a raw table that holds its schema; nothing for others.
    pub accepted: Option<AcceptedShape>,
    /// What an operator acknowledged that its files disclose.
    pub acknowledged: BTreeSet<DisclosureItem>,
    /// Whether files are presigned even for recipients that are bound to networks.
    pub presigned_despite_networks: bool,
    /// Free text for operators.
    pub description: Option<String>,
    /// When it was shared.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}
