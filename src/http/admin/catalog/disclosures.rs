//! The `disclosure` of a dry run: the data that a change would newly disclose, and the recipients it would reach.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::service::catalog::disclosures::{Disclosure, Reached, ShownColumn, ShownObject};

/// Whom a change newly reaches, with which columns and rows.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReachView {
    /// Whom it reaches; nobody where nothing is newly disclosed.
    pub recipients: Vec<ReachedView>,
    /// What they see.
    pub objects: Vec<ShownObjectView>,
    /// Whether there are more of either than are told.
    pub truncated: bool,
}

/// A recipient that a change reaches.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReachedView {
    /// Its name.
    pub recipient: String,
    /// From when on.
    pub valid_from: DateTime<Utc>,
    /// Until when; exclusive.
    pub valid_until: DateTime<Utc>,
}

/// An object as recipients see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownObjectView {
    /// Its name: share, schema and table.
    pub object: String,
    /// The registered table or the view's version behind it.
    pub source: String,
    /// Its columns; null where the table cannot be read now.
    pub columns: Option<Vec<ShownColumnView>>,
    /// The filter that its rows pass; null for all rows.
    pub rows: Option<String>,
    /// Whether older versions are shown.
    pub history: bool,
    /// Whether the change data feed is.
    pub cdf: bool,
}

/// A column as recipients see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownColumnView {
    /// Its name; dotted for a field.
    pub name: String,
    /// What is done to its values; absent where they are shown as they are.
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
