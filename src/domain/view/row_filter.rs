//! Row filters: a small language over a table's columns and a recipient's properties, and its meaning.
//!
//! ```text
//! plan IN recipient_list('plans') AND service_date >= DATE '2023-01-01' AND NOT is_test
//! ```
//!
//! Parsed to a tree of our own, checked against a schema, and bound to one recipient's properties as typed values; text
//! is never put together. A row is shown where the filter is true; false and unknown hide it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use serde_json::Value as Json;

use super::Problem;
use crate::domain::schema::{ColumnPath, Schema};

/// A filter that was parsed and fits a schema.
#[derive(Clone, Debug, PartialEq)]
pub struct RowFilter {
    // The tree; its shape is this file's own.
}

/// A filter with every value known. SQL's three-valued logic holds: comparing with NULL is unknown. So is comparing
/// with a NaN in the table, which is no number; zero is zero whatever its sign; texts compare by their UTF-8 bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// The same for every row.
    Known(bool),
    /// All of them.
    All(Vec<Condition>),
    /// Any of them.
    Any(Vec<Condition>),
    /// Not this one.
    Not(Box<Condition>),
    /// A column compared with a value of the column's type.
    Compare {
        /// The column.
        column: ColumnPath,
        /// How.
        comparison: Comparison,
        /// With what.
        value: Value,
    },
    /// Two columns of one type compared.
    CompareColumns {
        /// One column.
        left: ColumnPath,
        /// How.
        comparison: Comparison,
        /// The other.
        right: ColumnPath,
    },
    /// A column that is one of these values, all of its type; false for none.
    OneOf {
        /// The column.
        column: ColumnPath,
        /// The values.
        values: Vec<Value>,
    },
    /// A text that begins with this one.
    StartsWith {
        /// The column.
        column: ColumnPath,
        /// The beginning.
        prefix: String,
    },
    /// Whether a column is NULL; never unknown.
    IsNull {
        /// The column.
        column: ColumnPath,
    },
    /// A boolean column that is true.
    IsTrue {
        /// The column.
        column: ColumnPath,
    },
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`, `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A value of a column's type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `boolean`
    Boolean(bool),
    /// `byte`, `short`, `integer`, `long`
    Integer(i64),
    /// `float`, `double`; never NaN.
    Float(f64),
    /// `decimal`: the digits without the point, at the column's scale.
    Decimal(i128),
    /// `string`
    Text(String),
    /// `date`: days since 1970.
    Date(i32),
    /// `timestamp`, `timestamp_ntz`: microseconds since 1970.
    Timestamp(i64),
}

impl RowFilter {
    /// Parses `text` and checks it against `source`; the problem names the place in the text (1-based column).
    pub fn parse(text: &str, source: &Schema) -> Result<Self, Problem> {
        let _ = (text, source);
        todo!()
    }

    /// The columns that it reads.
    pub fn columns(&self) -> BTreeSet<ColumnPath> {
        todo!()
    }

    /// The recipient properties that it names.
    pub fn properties(&self) -> BTreeSet<String> {
        todo!()
    }

    /// Whether it depends on the day.
    pub fn uses_today(&self) -> bool {
        todo!()
    }

    /// Which of the properties it names a recipient lacks, or has with a value of a wrong type, in words that say what
    /// to set.
    pub fn missing(&self, properties: &BTreeMap<String, Json>) -> Vec<String> {
        let _ = properties;
        todo!()
    }

    /// The filter for a recipient with these properties on this day (UTC). Where any property is missing, nothing is
    /// shown, wherever in the filter it stands.
    pub fn bind(&self, properties: &BTreeMap<String, Json>, today: NaiveDate) -> Condition {
        let _ = (properties, today);
        todo!()
    }
}

impl Condition {
    /// The columns that it reads.
    pub fn columns(&self) -> BTreeSet<ColumnPath> {
        todo!()
    }

    /// Whether the values of these top-level columns alone decide it.
    pub fn on_partitions_only(&self, partition_columns: &[String]) -> bool {
        let _ = partition_columns;
        todo!()
    }

    /// What it comes to on a row; `None` is unknown. `value` answers a column's value there, `None` for NULL.
    pub fn evaluate(&self, value: &dyn Fn(&ColumnPath) -> Option<Value>) -> Option<bool> {
        let _ = value;
        todo!()
    }
}
