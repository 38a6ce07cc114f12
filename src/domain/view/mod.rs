//! Governed views: which columns of one table a recipient sees, under which masks, and which rows.
//!
//! A view is a value: [`ViewDefinition`] is what an operator wrote, [`ViewPlan`] what it comes to over a table's schema.
//! Never here: reading a file or a database, or who may read a view.

pub mod mask;
pub mod plan;
pub mod row_filter;

use super::schema::ColumnPath;
use mask::Mask;

/// What a view shows, as an operator wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewDefinition {
    /// The columns, in the order in which they are shown. There is no star: what is not named is not there.
    pub columns: Vec<ViewColumn>,
    /// Which rows are shown, in the small language of [`row_filter`]; all of them where there is none.
    pub row_filter: Option<String>,
}

/// One column of a view.
#[derive(Clone, Debug, PartialEq)]
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

/// Something wrong with a definition, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The place as a path into the request: `columns[2].mask`, `row_filter`.
    pub field: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}
