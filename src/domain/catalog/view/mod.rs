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

use crate::domain::{
    audit::action::Kind,
    core::{
        declared::{Resource, resource_fields},
        name::Name,
        spec::{Effect, Spec},
    },
};

use self::mask::Mask;

pub use self::warnings::Warning;

use super::schema::ColumnPath;

/// How a view's rows are laid out in files: `source`, one file per source file, or `mixed`, rows of several source
/// files together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// One file per source file, with the rows in its order.
    Source,
    /// The rows of several source files in one file, in an order that reveals nothing.
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

/// The table that a view reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewSource {
    /// The name of the registered table that the view reads. Required for a new view; it cannot change.
    #[schema(example = "claims.claims")]
    pub table: String,
}

/// The settings of a view: its source, which cannot change, and the draft of its next version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ViewBody)]
pub struct ViewSpec {
    /// The table that the view reads. Required for a new view; it cannot change.
    #[schema(value_type = Option<ViewSource>)]
    pub source: ViewSource,
    /// All columns of the view, in this order; a column of the table that is not named here is not shown.
    #[serde(default)]
    #[schema(value_type = Option<Vec<WrittenColumn>>)]
    pub columns: Vec<ViewColumn>,
    /// The condition under which a row is shown; all rows if absent.
    #[serde(default)]
    #[schema(example = "plan IN recipient_list('plans')")]
    pub row_filter: Option<String>,
    /// How rows are laid out in files: `source`, one file per source file, or `mixed`, rows of several source files in
    /// an order that reveals nothing of the table's files. By default `mixed` if the table is partitioned by a column
    /// that the view hides or masks, and `source` otherwise.
    #[serde(default)]
    pub layout: Option<Layout>,
    /// A note for operators.
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
    const KIND: Kind = Kind::View;

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

/// A column of a view.
#[derive(utoipa::ToSchema)]
#[schema(as = ViewColumnBody)]
#[allow(dead_code, reason = "describes how columns are written")]
pub struct WrittenColumn {
    /// The name under which the column is shown. A dotted name makes a field of a struct.
    #[schema(example = "member_key")]
    name: String,
    /// The source column, dotted for a field of a struct; by default the column of the same name.
    #[schema(example = "member_id")]
    from: Option<String>,
    /// The mask of its values: a name (`"redact"`), or an object with a name and its arguments. Values are shown
    /// unchanged if absent.
    #[schema(value_type = Option<Value>, example = json!({"hash": {"domain": "member", "per": "recipient"}}))]
    mask: Option<Value>,
    /// The column's comment, which readers see.
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
