//! Maps each Delta type to exactly one Arrow type, so that code after the reader can rely on it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

use crate::domain::catalog::schema::{DataType as DeltaType, Field as DeltaField, Primitive};

use super::EngineError;

/// Returns the Arrow type for `primitive`. Texts and bytes are views, so that a value repeated in many rows is stored
/// once.
pub(super) fn of_primitive(primitive: Primitive) -> DataType {
    match primitive {
        Primitive::Boolean => DataType::Boolean,
        Primitive::Byte => DataType::Int8,
        Primitive::Short => DataType::Int16,
        Primitive::Integer => DataType::Int32,
        Primitive::Long => DataType::Int64,
        Primitive::Float => DataType::Float32,
        Primitive::Double => DataType::Float64,
        Primitive::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
        Primitive::String => DataType::Utf8View,
        Primitive::Binary => DataType::BinaryView,
        Primitive::Date => DataType::Date32,
        Primitive::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Primitive::TimestampNtz => DataType::Timestamp(TimeUnit::Microsecond, None),
    }
}

/// Returns the Arrow type for `data_type`.
pub(super) fn of(data_type: &DeltaType) -> Result<DataType, EngineError> {
    Ok(match data_type {
        DeltaType::Primitive(primitive) => of_primitive(*primitive),
        DeltaType::Struct(fields) => DataType::Struct(of_fields(fields)?),
        DeltaType::Array { element, contains_null } => DataType::List(element_field(of(element)?, *contains_null)),
        DeltaType::Map { key, value, value_contains_null } => {
            DataType::Map(entries_field(of(key)?, of(value)?, *value_contains_null), false)
        }
        DeltaType::Other(_) => return Err(EngineError::Unsupported("a column that the view reads has another type")),
    })
}

/// Returns the Arrow fields for columns, or for the fields of a struct.
pub(super) fn of_fields(fields: &[DeltaField]) -> Result<Fields, EngineError> {
    fields.iter().map(|field| Ok(Field::new(&field.name, of(&field.data_type)?, field.nullable))).collect()
}

/// Returns the field of a list's elements, with its name in Parquet.
pub(super) fn element_field(data_type: DataType, nullable: bool) -> FieldRef {
    Arc::new(Field::new("element", data_type, nullable))
}

/// Returns the field of a map's entries, with their names in Parquet.
pub(super) fn entries_field(key: DataType, value: DataType, value_nullable: bool) -> FieldRef {
    let entry = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, value_nullable)]);
    Arc::new(Field::new("key_value", DataType::Struct(entry), false))
}
