//! The `disclosure` of a dry run: the data that a change would newly disclose, and the recipients it would reach.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::service::catalog::disclosures::{Disclosure, Reached, ShownColumn, ShownObject};

/// Which recipients a change newly reaches, and what they would see.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReachView {
    /// The recipients that the change reaches; empty if nothing is newly disclosed.
    pub recipients: Vec<ReachedView>,
    /// What they would see.
    pub objects: Vec<ShownObjectView>,
    /// Whether a list is incomplete: each names at most 200 items.
    pub truncated: bool,
}

/// A recipient that a change reaches.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReachedView {
    /// The recipient's name.
    pub recipient: String,
    /// When its access begins.
    pub valid_from: DateTime<Utc>,
    /// When its access ends (exclusive).
    pub valid_until: DateTime<Utc>,
}

/// An object as recipients see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownObjectView {
    /// The object's name: `share.schema.table`.
    pub object: String,
    /// The registered table, or the version of a view, that the object shows.
    pub source: String,
    /// The columns; null if the table cannot be read at the moment.
    pub columns: Option<Vec<ShownColumnView>>,
    /// The row filter; null if all rows are shown.
    pub rows: Option<String>,
    /// Whether older versions are shown.
    pub history: bool,
    /// Whether the change data feed is shown.
    pub cdf: bool,
}

/// A column as recipients see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownColumnView {
    /// The column's name; dotted for a field of a struct.
    pub name: String,
    /// The mask of its values; absent if they are shown unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub mask: Option<Value>,
}

impl From<Disclosure> for ReachView {
    fn from(disclosure: Disclosure) -> Self {
        let reached =
            |Reached { recipient, valid_from, valid_until }| ReachedView { recipient, valid_from, valid_until };
        Self {
            recipients: disclosure.recipients.into_iter().map(reached).collect(),
            objects: disclosure.objects.into_iter().map(Into::into).collect(),
            truncated: disclosure.is_cut,
        }
    }
}

impl From<ShownObject> for ShownObjectView {
    fn from(shown: ShownObject) -> Self {
        let ShownObject { object, source, columns, rows, history, cdf } = shown;
        let column = |ShownColumn { name, mask }| ShownColumnView {
            name,
            mask: mask.and_then(|mask| serde_json::to_value(mask).ok()),
        };
        let columns = columns.map(|columns| columns.into_iter().map(column).collect());
        Self { object, source, columns, rows, history, cdf }
    }
}
