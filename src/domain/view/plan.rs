//! What a view comes to over one schema: the columns it reads, how they become the columns it shows, and its own
//! schema. Made once, when a version is published, and kept with it: what the source gains later never gets in.

use super::{Problem, ViewDefinition, mask::Mask, row_filter::RowFilter};
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
}
