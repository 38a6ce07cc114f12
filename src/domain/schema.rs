//! A Delta table's schema as a tree: names, types, nullability, and the metadata that columns carry (Delta protocol,
//! "Schema Serialization Format").
//!
//! Never here: how a schema is found in a log, or which of it a recipient sees.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The metadata key of a column's physical name under column mapping.
pub const PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";

/// A table's columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// Top-level columns, in the table's order.
    pub fields: Vec<Field>,
}

/// A column, or a field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The logical name.
    pub name: String,
    /// What it holds.
    pub data_type: DataType,
    /// Whether it may hold nulls.
    pub nullable: bool,
    /// What its writer says about it.
    pub metadata: Map<String, Value>,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq)]
pub enum DataType {
    /// One value.
    Primitive(Primitive),
    /// Named fields.
    Struct(Vec<Field>),
    /// A list.
    Array {
        /// What its elements are.
        element: Box<DataType>,
        /// Whether elements may be null.
        contains_null: bool,
    },
    /// A map.
    Map {
        /// What its keys are.
        key: Box<DataType>,
        /// What its values are.
        value: Box<DataType>,
        /// Whether values may be null.
        value_contains_null: bool,
    },
    /// A type that this server does not look into (`variant`, …), by its name.
    Other(String),
}

/// A type without parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Primitive {
    /// `boolean`
    Boolean,
    /// `byte`: 8 bits.
    Byte,
    /// `short`: 16 bits.
    Short,
    /// `integer`: 32 bits.
    Integer,
    /// `long`: 64 bits.
    Long,
    /// `float`: 32 bits.
    Float,
    /// `double`: 64 bits.
    Double,
    /// `decimal(precision,scale)`
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits behind the point.
        scale: i8,
    },
    /// `string`: UTF-8.
    String,
    /// `binary`
    Binary,
    /// `date`: days since 1970.
    Date,
    /// `timestamp`: microseconds since 1970 in UTC.
    Timestamp,
    /// `timestamp_ntz`: microseconds since 1970 on a clock without a zone.
    TimestampNtz,
}

/// Names that lead to a column: the column's, then for each step into it a struct field's name, or `element` into an
/// array, `key` or `value` into a map. Written with dots; a name that holds a dot or a backtick stands in backticks,
/// its own backticks doubled. Names compare exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnPath(pub Vec<String>);
