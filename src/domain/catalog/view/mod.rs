//! Governed views: which columns of one table a recipient sees, under which masks, and which rows.
//!
//! A view is a value: a [`ViewDefinition`] is what an operator wrote, a [`ViewPlan`](plan::ViewPlan) is that definition
//! compiled over a table's schema. Never here: reading a file or a database, or who may read a view.

mod calendar;
pub mod mask;
pub mod plan;
pub mod row_filter;
mod value;
mod warnings;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::core::{
    declared::{Resource, resource_fields},
    name::Name,
    spec::{Effect, Spec},
};

use self::mask::Mask;

use super::schema::ColumnPath;

/// How a view's rows lie in its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// As in the source: one file for each of its files, the rows in its order.
    Source,
    /// The rows of several of the source's files in one, in an order that tells nothing.
    Mixed,
}

impl Layout {
    /// The word that the API reads and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Mixed => "mixed",
        }
    }
}

/// What a view shows, as an operator wrote it. Its JSON must stay readable for as long as the view exists: `{"columns":
/// [{"name", "from"?, "mask"?, "comment"?}], "row_filter"?, "layout"?}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewDefinition {
    /// The columns, in the order in which they are shown. There is no star: a column that is not named is not shown.
    pub columns: Vec<ViewColumn>,
    /// The condition on shown rows, in the language of [`row_filter`]; without one all rows are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_filter: Option<String>,
    /// The layout of rows in files; if absent, publishing picks [`plan::ViewPlan::default_layout`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}

/// The table that a view shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewSource {
    /// The name of a registered table.
    #[schema(example = "claims.claims")]
    pub table: String,
}

/// What may be set of a view: its source, which never changes, and the draft of its next version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ViewBody)]
pub struct ViewSpec {
    /// What is shown of; needed when the view is created, and never changed.
    #[schema(value_type = Option<ViewSource>)]
    pub source: ViewSource,
    /// The columns, all of them and in this order; there is no star.
    #[serde(default)]
    #[schema(value_type = Option<Vec<WrittenColumn>>)]
    pub columns: Vec<ViewColumn>,
    /// Which rows are shown; all of them where there is none.
    #[serde(default)]
    #[schema(example = "plan IN recipient_list('plans')")]
    pub row_filter: Option<String>,
    /// How rows lie in files: `source`, as in the table's own, or `mixed`, so that files tell nothing of the table's.
    /// Where absent, `mixed` if the table is partitioned by a column that the view hides or masks.
    #[serde(default)]
    pub layout: Option<Layout>,
    /// Free text for operators.
    #[serde(default)]
    pub description: Option<String>,
}

impl ViewSpec {
    /// The definition that a version published now would have.
    pub fn definition(&self) -> ViewDefinition {
        ViewDefinition { columns: self.columns.clone(), row_filter: self.row_filter.clone(), layout: self.layout }
    }
}

impl Spec for ViewSpec {
    const OPAQUE: &'static [&'static str] = &["source", "columns"];

    fn required(_: &str) -> &'static str {
        "name a table"
    }

    fn effect(field: &str, _: &Self, _: &Self) -> Option<Effect> {
        // A draft discloses nothing; publishing is not a change of the spec.
        matches!(field, "source" | "columns" | "row_filter" | "layout" | "description").then_some(Effect::Neutral)
    }
}

/// A view: its name, its source, and the draft of its next version.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Its identity.
    pub id: Uuid,
    /// Its dotted name.
    pub name: Name,
    /// The registered table that it shows.
    pub table_id: Uuid,
    /// What operators set.
    pub spec: ViewSpec,
    /// Whether the spec differs from the newest version, or there is no version yet.
    pub is_draft: bool,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}

impl Resource for View {
    type Spec = ViewSpec;
    const KIND: &'static str = "view";

    resource_fields!();
}

/// A published version of a view, which never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewVersion {
    /// The view.
    pub view_id: Uuid,
    /// Its number, from 1.
    pub version: i64,
    /// The definition, pinned to the source's schema, as JSON.
    pub definition: String,
    /// Who published it.
    pub published_by: String,
    /// When it was published.
    pub published_at: DateTime<Utc>,
}

/// How a column is written.
#[derive(utoipa::ToSchema)]
#[schema(as = ViewColumnBody)]
#[allow(dead_code, reason = "describes how columns are written")]
pub struct WrittenColumn {
    /// The name under which it is shown; dotted, it is a field of a column that is built of such fields.
    #[schema(example = "member_key")]
    name: String,
    /// Where it comes from, dotted into structs; the column of the same name where absent.
    #[schema(example = "member_id")]
    from: Option<String>,
    /// What is done to its values: a name (`"redact"`), or one with arguments.
    #[schema(value_type = Option<Value>, example = json!({"hash": {"domain": "member", "per": "recipient"}}))]
    mask: Option<Value>,
    /// The comment that readers see.
    comment: Option<String>,
}

/// One column of a view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "ColumnBody", into = "ColumnBody")]
pub struct ViewColumn {
    /// The name under which it is shown; a dotted name makes it a field of a struct that is built from such fields.
    pub name: ColumnPath,
    /// The path of its source column.
    pub from: ColumnPath,
    /// The mask on its values.
    pub mask: Option<Mask>,
    /// The comment that readers see.
    pub comment: Option<String>,
}

/// A column in JSON, without `from` if that equals the name.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnBody {
    name: ColumnPath,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<ColumnPath>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<Mask>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

impl From<ColumnBody> for ViewColumn {
    fn from(body: ColumnBody) -> Self {
        let ColumnBody { name, from, mask, comment } = body;
        Self { from: from.unwrap_or_else(|| name.clone()), name, mask, comment }
    }
}

impl From<ViewColumn> for ColumnBody {
    fn from(column: ViewColumn) -> Self {
        let ViewColumn { name, from, mask, comment } = column;
        Self { from: (from != name).then_some(from), name, mask, comment }
    }
}

/// A problem in a definition, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The place, as a path into the request: `columns[2].mask`, `row_filter`.
    pub field: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}
