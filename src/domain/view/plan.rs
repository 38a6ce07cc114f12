//! What a view comes to over one schema: the columns it reads, how they become the columns it shows, and its own
//! schema. Made once, when a version is published, and kept with it: what the source gains later never gets in.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Problem, ViewDefinition,
    mask::{Mask, Scope},
    row_filter::RowFilter,
};
use crate::domain::schema::{ColumnPath, DataType, Schema};

/// A view over a schema.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewPlan {
    /// What readers see: names, types, nullability, the view's own comments, and nothing of the source's metadata.
    pub schema: Schema,
    /// The shown columns whose values stay partition values: those of unmasked partition columns of the source. Never
    /// all columns, because a file has to have one.
    pub partition_columns: Vec<String>,
    /// How each top-level column of [`Self::schema`] is made, in its order.
    pub outputs: Vec<OutputField>,
    /// Which rows are shown.
    pub filter: Option<RowFilter>,
    /// Every leaf of the source that outputs or filter read, with its type: what a later schema must still have.
    pub needed: Vec<Needed>,
    /// What it was made of: what is kept of a version.
    pub pinned: PinnedView,
}

/// What is kept of a published version, and all that it takes to make its plan again: the definition, and of the source
/// only what the view reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedView {
    /// What the operator wrote.
    pub definition: ViewDefinition,
    /// The source's schema at the time, without the columns that the view does not read.
    pub source: Schema,
    /// Those of its columns that the source was partitioned by.
    pub partition_columns: Vec<String>,
}

/// What a view's bytes depend on beside the source: two recipients that agree in this share the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// The recipient properties that the filter names.
    pub properties: BTreeSet<String>,
    /// The scopes of pseudonyms; empty where there are none.
    pub scopes: BTreeSet<Scope>,
    /// What of the day it is.
    pub today: Today,
}

/// What of the current day (UTC) something depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Today {
    /// Nothing.
    #[default]
    Unused,
    /// The year.
    Year,
    /// The day.
    Day,
}

/// A shown leaf: a column or field without parts, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its name among the shown columns.
    pub name: ColumnPath,
    /// Where it comes from in the source.
    pub from: ColumnPath,
    /// What it is as shown.
    pub data_type: DataType,
    /// What is done to its values.
    pub mask: Option<Mask>,
}

/// One difference between two versions of a view.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A shown column or field.
    Column {
        /// Its name.
        name: ColumnPath,
        /// What it was; nothing where it is new.
        before: Option<Shown>,
        /// What it is; nothing where it is gone.
        after: Option<Shown>,
        /// What that means for readers.
        effect: Effect,
    },
    /// The row filter.
    Filter {
        /// What it was; nothing where all rows were shown.
        before: Option<String>,
        /// What it is.
        after: Option<String>,
        /// What that means for readers.
        effect: Effect,
    },
}

/// What a change means for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They see what they did not see.
    Discloses,
    /// They no longer see what they saw.
    Hides,
    /// They see something else, perhaps more.
    Changes,
}

/// A leaf of the source that a view reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Needed {
    /// Where it is.
    pub path: ColumnPath,
    /// What it is.
    pub data_type: DataType,
    /// Whether the table is partitioned by it.
    pub is_partition: bool,
}

/// A shown column or field, and how it is made.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputField {
    /// Its name.
    pub name: String,
    /// How it is made.
    pub output: Output,
}

/// How a shown value is made from a row of the source, or inside a list or map from one of its elements. Paths are
/// struct field names only, from that row or element; an empty path is the element itself. A value below a struct that
/// is null is null.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The value at a path, masked.
    Value {
        /// Where it comes from.
        from: Vec<String>,
        /// Its type in the source.
        data_type: DataType,
        /// What is done to it.
        mask: Option<Mask>,
    },
    /// A struct of such values.
    Struct {
        /// Its fields.
        fields: Vec<OutputField>,
        /// The source's struct that says where this one is null; nowhere if there is none.
        nulls_from: Option<Vec<String>>,
    },
    /// A list, element by element.
    List {
        /// The source's list.
        from: Vec<String>,
        /// How an element is made.
        element: Box<Output>,
    },
    /// A map, entry by entry.
    Map {
        /// The source's map.
        from: Vec<String>,
        /// How a key is made; keys are never masked.
        key: Box<Output>,
        /// How a value is made.
        value: Box<Output>,
    },
}

impl ViewPlan {
    /// What `definition` comes to over `source`, which is partitioned by `partition_columns`; or everything that is
    /// wrong with it.
    ///
    /// Expands columns with parts into their leaves, so that a field that the source gains later is not shown.
    pub fn new(
        definition: &ViewDefinition,
        source: &Schema,
        partition_columns: &[String],
    ) -> Result<Self, Vec<Problem>> {
        let _ = (definition, source, partition_columns);
        todo!()
    }

    /// What keeps the view from being served over `source`: columns that are gone or have another type, in words for
    /// operators. Empty where it fits.
    pub fn misfits(&self, source: &Schema, partition_columns: &[String]) -> Vec<String> {
        let _ = (source, partition_columns);
        todo!()
    }

    /// What the view's bytes depend on beside the source.
    pub fn references(&self) -> References {
        todo!()
    }

    /// Every leaf that is shown, in order.
    pub fn shown(&self) -> Vec<Shown> {
        todo!()
    }

    /// Whether it shows all of `source` as it is: every column under its own name, in any order, unmasked, the same
    /// ones as partition values, and none under a physical name of its own. Says nothing of rows.
    pub fn is_identity_over(&self, source: &Schema, partition_columns: &[String]) -> bool {
        let _ = (source, partition_columns);
        todo!()
    }
}

impl PinnedView {
    /// The plan again.
    pub fn plan(&self) -> Result<ViewPlan, Vec<Problem>> {
        ViewPlan::new(&self.definition, &self.source, &self.partition_columns)
    }
}

/// What readers of `before` find changed in `after`, column by column, then the filter.
pub fn changes(before: &ViewPlan, after: &ViewPlan) -> Vec<Change> {
    let _ = (before, after);
    todo!()
}
