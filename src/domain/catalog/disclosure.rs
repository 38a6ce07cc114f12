//! Decides which parts of a table's description a recipient sees. These are allow-lists, so properties that tables may
//! carry in the future stay hidden.
//!
//! Never here: files and their statistics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The table properties that readers need (Delta Sharing protocol, 2.3). All others (constraints, owners, custom
/// properties) are the provider's own.
pub(in crate::domain) const READING_NEEDS: [&str; 10] = [
    "delta.columnMapping.maxColumnId",
    "delta.columnMapping.mode",
    "delta.enableChangeDataFeed",
    "delta.enableDeletionVectors",
    "delta.enableInCommitTimestamps",
    "delta.enableTypeWidening",
    "delta.enableVariantShredding",
    "delta.inCommitTimestampEnablementTimestamp",
    "delta.inCommitTimestampEnablementVersion",
    "delta.minReaderVersion",
];

/// The table properties that a delta-format answer shows.
pub fn delta_configuration(configuration: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let shown = configuration.iter().filter(|(key, _)| READING_NEEDS.contains(&key.as_str()));
    shown.map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// The table properties that a parquet-format answer shows: only whether the change data feed may be read.
pub fn parquet_configuration(
    configuration: &BTreeMap<String, String>,
    shares_changes: bool,
) -> BTreeMap<&'static str, &'static str> {
    let enabled = configuration.get("delta.enableChangeDataFeed").is_some_and(|value| value == "true");
    if shares_changes && enabled { BTreeMap::from([("enableChangeDataFeed", "true")]) } else { BTreeMap::new() }
}

/// The schema that a parquet-format answer shows: names, types and comments, without the other metadata that columns
/// carry (generation expressions, invariants, ids). `None` if the text is not a schema.
///
/// The same schema always gives the same text, because Spark compares the texts of two answers.
pub fn parquet_schema(schema_string: &str) -> Option<String> {
    let schema: Struct = serde_json::from_str(schema_string).ok()?;
    serde_json::to_string(&schema.stripped()).ok()
}

#[derive(Deserialize, Serialize)]
struct Struct {
    r#type: StructTag,
    fields: Vec<Field>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum StructTag {
    Struct,
}

#[derive(Deserialize, Serialize)]
struct Field {
    name: String,
    r#type: Value,
    nullable: bool,
    #[serde(default)]
    metadata: Map<String, Value>,
}

impl Struct {
    fn stripped(self) -> Self {
        let fields = self.fields.into_iter().map(|mut field| {
            field.metadata.retain(|key, _| key == "comment");
            field.r#type = stripped_type(field.r#type);
            field
        });
        Self { r#type: self.r#type, fields: fields.collect() }
    }
}

/// Strips a nested type. Structs nest in `fields`, arrays in `elementType`, maps in `keyType` and `valueType`. The JSON
/// parser has already bounded the depth.
fn stripped_type(value: Value) -> Value {
    let Value::Object(mut parts) = value else { return value };
    for key in ["elementType", "keyType", "valueType"] {
        if let Some(inner) = parts.remove(key) {
            parts.insert(key.to_owned(), stripped_type(inner));
        }
    }
    if let Some(Value::Array(fields)) = parts.get_mut("fields") {
        for field in fields.iter_mut().filter_map(Value::as_object_mut) {
            if let Some(Value::Object(metadata)) = field.get_mut("metadata") {
                metadata.retain(|key, _| key == "comment");
            }
            if let Some(inner) = field.remove("type") {
                field.insert("type".to_owned(), stripped_type(inner));
            }
        }
    }
    Value::Object(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_comments_survive_in_a_parquet_schema() {
        let schema = r#"{"type":"struct","fields":[{"name":"a","type":{"type":"array","elementType":{"type":"struct",
            "fields":[{"name":"b","type":"long","nullable":true,"metadata":{"secret":1,"comment":"kept"}}]},
            "containsNull":true},"nullable":false,"metadata":{"delta.generationExpression":"x","comment":"too"}}]}"#;
        let shown = parquet_schema(schema).unwrap();
        assert!(!shown.contains("secret") && !shown.contains("generationExpression"), "{shown}");
        assert!(shown.contains(r#"{"comment":"kept"}"#) && shown.contains(r#"{"comment":"too"}"#), "{shown}");
        assert!(shown.starts_with(r#"{"type":"struct","fields":[{"name":"a","type":{"#), "{shown}");
        assert_eq!(parquet_schema("[]"), None);
    }

    #[test]
    fn properties_pass_an_allow_list() {
        let configuration = [
            ("delta.columnMapping.mode", "name"),
            ("delta.constraints.positive", "salary > 0"),
            ("owner", "ann"),
            ("delta.enableChangeDataFeed", "true"),
        ];
        let configuration = configuration.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let shown = delta_configuration(&configuration);
        assert_eq!(
            shown.keys().copied().collect::<Vec<_>>(),
            ["delta.columnMapping.mode", "delta.enableChangeDataFeed"]
        );
        assert!(parquet_configuration(&configuration, false).is_empty());
        assert_eq!(parquet_configuration(&configuration, true).len(), 1);
    }
}
