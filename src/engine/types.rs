//! Delta's types as arrow's: one for each, so that everything behind the reader knows what it has before it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

use crate::domain::catalog::schema::{DataType as DeltaType, Field as DeltaField, Primitive};

use super::EngineError;

/// How values of `primitive` are held. Texts and bytes are views, so that a value that stands in many rows is held once.
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

/// How values of `data_type` are held.
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

/// The columns, or the fields of a struct.
pub(super) fn of_fields(fields: &[DeltaField]) -> Result<Fields, EngineError> {
    fields.iter().map(|field| Ok(Field::new(&field.name, of(&field.data_type)?, field.nullable))).collect()
}

/// The field of a list's elements, by the name that Parquet gives it.
pub(super) fn element_field(data_type: DataType, nullable: bool) -> FieldRef {
    Arc::new(Field::new("element", data_type, nullable))
}

/// The field of a map's entries, by the names that Parquet gives it and its parts.
pub(super) fn entries_field(key: DataType, value: DataType, value_nullable: bool) -> FieldRef {
    let entry = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, value_nullable)]);
    Arc::new(Field::new("key_value", DataType::Struct(entry), false))
}
