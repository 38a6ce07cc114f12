//! Governed views: which columns of one table a recipient sees, under which masks, and which rows.
//!
//! A view is a value: [`ViewDefinition`] is what an operator wrote, [`ViewPlan`] what it comes to over a table's schema.
//! Never here: reading a file or a database, or who may read a view.

mod calendar;
pub mod mask;
pub mod plan;
pub mod row_filter;
mod value;
mod warnings;

use serde::{Deserialize, Serialize};

use super::schema::ColumnPath;
use mask::Mask;

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
    /// The word that is written and answered.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Mixed => "mixed",
        }
    }
}

/// What a view shows, as an operator wrote it. Its JSON is kept for as long as the view is: `{"columns": [{"name",
/// "from"?, "mask"?, "comment"?}], "row_filter"?, "layout"?}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewDefinition {
    /// The columns, in the order in which they are shown. There is no star: what is not named is not there.
    pub columns: Vec<ViewColumn>,
    /// Which rows are shown, in the small language of [`row_filter`]; all of them where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_filter: Option<String>,
    /// How the rows lie in files; without one, as [`plan::ViewPlan::default_layout`] has it when it is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}

/// One column of a view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "ColumnBody", into = "ColumnBody")]
pub struct ViewColumn {
    /// The name under which it is shown; dotted, it is a field of a column that is built of such fields.
    pub name: ColumnPath,
    /// Where it comes from.
    pub from: ColumnPath,
    /// What is done to its values.
    pub mask: Option<Mask>,
    /// The comment that readers see.
    pub comment: Option<String>,
}

/// A column as JSON writes it, without `from` where that is its name.
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

/// Something wrong with a definition, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The place as a path into the request: `columns[2].mask`, `row_filter`.
    pub field: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}
