//! Reads a Parquet file's footer for the data that it discloses when the file is passed on unchanged: its columns, and
//! the notes of its writer. Never here: rows.

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field};
use parquet::{
    arrow::{ARROW_SCHEMA_META_KEY, PARQUET_FIELD_ID_META_KEY, parquet_to_arrow_schema},
    file::metadata::{KeyValue, ParquetMetaData},
};
use serde_json::Value;

use crate::domain::catalog::schema::{ColumnPath, ELEMENT, KEY, VALUE};

use super::{
    EngineError,
    columns::{file_schema, undecodable},
};

/// The key under which Spark stores its schema, including comments of columns.
const SPARK_SCHEMA: &str = "org.apache.spark.sql.parquet.row.metadata";
/// Harmless notes of Spark: its version, and how it wrote dates.
const SPARK_NOTES: [&str; 4] = [
    "org.apache.spark.version",
    "org.apache.spark.legacyDateTime",
    "org.apache.spark.legacyINT96",
    "org.apache.spark.timeZone",
];

/// The data that a file's footer discloses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Every leaf in the file, under its name there; nested ones use the steps of [`ColumnPath`].
    pub leaves: Vec<ColumnPath>,
    /// Whether the writer noted more than readers of the columns need: comments, names, or anything unknown.
    pub has_notes: bool,
}

impl Footer {
    pub(super) fn of(metadata: &Arc<ParquetMetaData>) -> Result<Self, EngineError> {
        let mut leaves = Vec::new();
        for field in file_schema(metadata)?.fields() {
            collect(field.data_type(), &mut vec![field.name().clone()], &mut leaves);
        }
        let noted = metadata.file_metadata().key_value_metadata();
        let has_notes = noted.is_some_and(|noted| noted.iter().any(|entry| is_note(entry, metadata)));
        Ok(Self { leaves, has_notes })
    }
}

fn collect(data_type: &DataType, path: &mut Vec<String>, leaves: &mut Vec<ColumnPath>) {
    let mut below = |name: &str, data_type: &DataType| {
        path.push(name.to_owned());
        collect(data_type, path, leaves);
        path.pop();
    };
    match data_type {
        DataType::Struct(fields) => fields.iter().for_each(|field| below(field.name(), field.data_type())),
        DataType::List(element) => below(ELEMENT, element.data_type()),
        DataType::Map(entries, _) => {
            let DataType::Struct(parts) = entries.data_type() else { return };
            parts.iter().zip([KEY, VALUE]).for_each(|(part, name)| below(name, part.data_type()));
        }
        _ => leaves.push(ColumnPath(path.clone())),
    }
}

/// Returns whether an entry of a footer's metadata discloses, or may disclose, more than the columns do.
fn is_note(entry: &KeyValue, metadata: &Arc<ParquetMetaData>) -> bool {
    match (entry.key.as_str(), &entry.value) {
        (_, None) => false,
        (key, _) if SPARK_NOTES.contains(&key) => false,
        (SPARK_SCHEMA, Some(schema)) => {
            let columns = metadata.file_metadata().schema_descr().root_schema().get_fields();
            let is_column = |name: &str| columns.iter().any(|column| column.name() == name);
            serde_json::from_str(schema).map_or(true, |schema| spark_notes(&schema, &is_column))
        }
        (ARROW_SCHEMA_META_KEY, Some(_)) => arrow_notes(entry, metadata).unwrap_or(true),
        _ => true,
    }
}

/// Returns whether Spark's schema has a name that is not a column of the file, or a field with metadata.
fn spark_notes(schema: &Value, is_column: &dyn Fn(&str) -> bool) -> bool {
    let Some(fields) = schema["fields"].as_array() else { return true };
    let is_other = |field: &Value| !field["name"].as_str().is_some_and(is_column);
    fields.iter().any(is_other) || has_spark_metadata(schema)
}

fn has_spark_metadata(value: &Value) -> bool {
    match value {
        Value::Object(parts) => parts.iter().any(|(name, part)| match part {
            Value::Object(metadata) if name == "metadata" => !metadata.is_empty(),
            part => has_spark_metadata(part),
        }),
        Value::Array(parts) => parts.iter().any(has_spark_metadata),
        _ => false,
    }
}

/// Returns whether the Arrow schema has metadata other than field ids.
fn arrow_notes(entry: &KeyValue, metadata: &Arc<ParquetMetaData>) -> Result<bool, EngineError> {
    let entry = vec![entry.clone()];
    let schema = parquet_to_arrow_schema(metadata.file_metadata().schema_descr(), Some(&entry)).map_err(undecodable)?;
    Ok(!schema.metadata().is_empty() || schema.fields().iter().any(|field| has_arrow_metadata(field)))
}

fn has_arrow_metadata(field: &Field) -> bool {
    let is_more = |metadata: &HashMap<String, String>| metadata.keys().any(|key| key != PARQUET_FIELD_ID_META_KEY);
    is_more(field.metadata())
        || match field.data_type() {
            DataType::Struct(fields) => fields.iter().any(|field| has_arrow_metadata(field)),
            DataType::List(part) | DataType::LargeList(part) | DataType::Map(part, _) => has_arrow_metadata(part),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sparks_schema_says_more_where_a_field_has_metadata_or_is_no_column() {
        let schema = |name: &str, metadata: Value| {
            json!({"type": "struct", "fields": [
                {"name": name, "type": "long", "nullable": true, "metadata": metadata},
                {"name": "s", "type": {"type": "struct", "fields": [
                    {"name": "metadata", "type": "string", "nullable": true, "metadata": {}}]}, "metadata": {}},
            ]})
        };
        let is_column = |name: &str| ["id", "s"].contains(&name);
        assert!(!spark_notes(&schema("id", json!({})), &is_column));
        assert!(spark_notes(&schema("id", json!({"comment": "who it is"})), &is_column));
        assert!(spark_notes(&schema("gone", json!({})), &is_column));
        assert!(spark_notes(&json!("struct"), &is_column));
        let mut nested = schema("id", json!({}));
        nested["fields"][1]["type"]["fields"][0]["metadata"] = json!({"comment": "what it is"});
        assert!(spark_notes(&nested, &is_column));
    }
}
