//! A table's shape: the part of its description that recipients' programs rely on. It consists of the names, types,
//! nullability and order of columns, and of the partition columns; comments, properties and physical names are not part
//! of it.
//!
//! Never here: what happens to an object whose table changes its shape.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::core::seal::hex;

use super::{
    delta::Metadata,
    schema::{ColumnPath, DataType, ELEMENT, Field, KEY, Schema, SchemaError, VALUE},
};

/// The most differences that a message lists.
const MOST_CHANGES: usize = 100;

/// A table's shape. Tables that look alike to their readers have equal shapes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// The columns, without metadata.
    schema: Schema,
    /// The partition columns, in the table's order.
    partition_columns: Vec<String>,
}

/// The shape that an operator accepted for an object, and when the table had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedShape {
    /// The table's newest version when the shape was accepted.
    pub version: u64,
    /// The [`Shape::digest`] of the accepted shape.
    pub digest: String,
}

impl AcceptedShape {
    /// Whether `metadata` describes this shape.
    pub fn fits(&self, metadata: &Metadata) -> bool {
        Shape::of(metadata).is_ok_and(|shape| shape.digest() == self.digest)
    }
}

impl Shape {
    /// Reads the shape from `metadata`.
    pub fn of(metadata: &Metadata) -> Result<Self, SchemaError> {
        let mut schema = Schema::parse(&metadata.schema_string)?;
        strip(&mut schema.fields);
        Ok(Self { schema, partition_columns: metadata.partition_columns.clone() })
    }

    /// Reads a shape that [`Self::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Writes the shape as JSON; equal shapes give equal texts.
    pub fn to_text(&self) -> String {
        // Serialization fails only for maps with keys that are not strings.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// SHA-256 of the text, in hex.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(self.to_text().as_bytes()))
    }

    /// Describes in words for operators how this shape differs from the later shape `other`; empty if they are equal.
    pub fn changes_to(&self, other: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        compare_fields(&self.schema.fields, &other.schema.fields, &ColumnPath(Vec::new()), &mut changes);
        if self.partition_columns != other.partition_columns {
            let listed = |columns: &[String]| {
                if columns.is_empty() { "none".to_owned() } else { columns.join(", ") }
            };
            let (before, after) = (listed(&self.partition_columns), listed(&other.partition_columns));
            changes.push(format!("partition columns changed from {before} to {after}"));
        }
        if changes.len() > MOST_CHANGES {
            let more = changes.len() - MOST_CHANGES;
            changes.truncate(MOST_CHANGES);
            changes.push(format!("and {more} more"));
        }
        changes
    }
}

fn strip(fields: &mut [Field]) {
    for field in fields {
        field.metadata.clear();
        strip_type(&mut field.data_type);
    }
}

fn strip_type(data_type: &mut DataType) {
    match data_type {
        DataType::Primitive(_) | DataType::Other(_) => {}
        DataType::Struct(fields) => strip(fields),
        DataType::Array { element, .. } => strip_type(element),
        DataType::Map { key, value, .. } => {
            strip_type(key);
            strip_type(value);
        }
    }
}

fn compare_fields(before: &[Field], after: &[Field], path: &ColumnPath, changes: &mut Vec<String>) {
    let find: HashMap<&str, &Field> = after.iter().map(|field| (field.name.as_str(), field)).collect();
    let known: HashMap<&str, &Field> = before.iter().map(|field| (field.name.as_str(), field)).collect();
    for field in before {
        let path = path.join(&field.name);
        match find.get(field.name.as_str()) {
            None => changes.push(format!("column {path} removed")),
            Some(now) => {
                compare_nullable(field.nullable, now.nullable, &path, changes);
                compare_types(&field.data_type, &now.data_type, &path, changes);
            }
        }
    }
    let added = after.iter().filter(|field| !known.contains_key(field.name.as_str()));
    changes.extend(added.map(|field| format!("column {} added", path.join(&field.name))));
    let kept_before = before.iter().map(|field| field.name.as_str()).filter(|name| find.contains_key(name));
    let kept_after = after.iter().map(|field| field.name.as_str()).filter(|name| known.contains_key(name));
    if !kept_before.eq(kept_after) {
        let place = if path.0.is_empty() { String::new() } else { format!(" in {path}") };
        changes.push(format!("order of columns{place} changed"));
    }
}

fn compare_nullable(before: bool, after: bool, path: &ColumnPath, changes: &mut Vec<String>) {
    match (before, after) {
        (false, true) => changes.push(format!("column {path} may hold nulls now")),
        (true, false) => changes.push(format!("column {path} holds no nulls any more")),
        _ => {}
    }
}

fn compare_types(before: &DataType, after: &DataType, path: &ColumnPath, changes: &mut Vec<String>) {
    match (before, after) {
        (DataType::Struct(before), DataType::Struct(after)) => compare_fields(before, after, path, changes),
        (
            DataType::Array { element: before, contains_null: before_null },
            DataType::Array { element: after, contains_null: after_null },
        ) => {
            let path = path.join(ELEMENT);
            compare_nullable(*before_null, *after_null, &path, changes);
            compare_types(before, after, &path, changes);
        }
        (
            DataType::Map { key, value, value_contains_null },
            DataType::Map { key: key_after, value: value_after, value_contains_null: null_after },
        ) => {
            compare_types(key, key_after, &path.join(KEY), changes);
            let path = path.join(VALUE);
            compare_nullable(*value_contains_null, *null_after, &path, changes);
            compare_types(value, value_after, &path, changes);
        }
        (before, after) if before == after => {}
        (before, after) => changes.push(format!("column {path} changed from {before} to {after}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn metadata(fields: Value, partition_columns: &[&str]) -> Metadata {
        Metadata {
            id: "id".into(),
            name: None,
            description: None,
            format_provider: "parquet".into(),
            format_options: BTreeMap::new(),
            schema_string: json!({"type": "struct", "fields": fields}).to_string(),
            partition_columns: partition_columns.iter().map(ToString::to_string).collect(),
            configuration: BTreeMap::new(),
            created_time: None,
        }
    }

    fn shape(fields: Value) -> Shape {
        Shape::of(&metadata(fields, &[])).unwrap()
    }

    fn field(name: &str, data_type: Value) -> Value {
        json!({"name": name, "type": data_type, "nullable": true, "metadata": {}})
    }

    fn not_null(mut field: Value) -> Value {
        field["nullable"] = json!(false);
        field
    }

    #[test]
    fn every_kind_of_change_is_told_by_column() {
        let inner = |fields: Value| json!({"type": "struct", "fields": fields});
        let list =
            |element: Value, nulls: bool| json!({"type": "array", "elementType": element, "containsNull": nulls});
        let map = |value: Value, nulls: bool| json!({"type": "map", "keyType": "string", "valueType": value, "valueContainsNull": nulls});
        let (a, b) = (field("a", json!("integer")), field("b", json!("string")));
        for (before, after, told) in [
            (json!([a]), json!([a, b]), vec!["column b added"]),
            (json!([a, b]), json!([a]), vec!["column b removed"]),
            (json!([a]), json!([field("c", json!("integer"))]), vec!["column a removed", "column c added"]),
            (json!([a]), json!([field("A", json!("integer"))]), vec!["column a removed", "column A added"]),
            (json!([a]), json!([field("a", json!("long"))]), vec!["column a changed from integer to long"]),
            (json!([a]), json!([not_null(a.clone())]), vec!["column a holds no nulls any more"]),
            (json!([not_null(a.clone())]), json!([a]), vec!["column a may hold nulls now"]),
            (json!([a, b]), json!([b, a]), vec!["order of columns changed"]),
            (
                json!([field("s", inner(json!([a, b])))]),
                json!([field("s", inner(json!([b, a, field("x.y", json!("date"))])))]),
                vec!["column s.`x.y` added", "order of columns in s changed"],
            ),
            (
                json!([field("l", list(json!("integer"), true))]),
                json!([field("l", list(inner(json!([a])), false))]),
                vec![
                    "column l.element holds no nulls any more",
                    "column l.element changed from integer to struct<a: integer>",
                ],
            ),
            (
                json!([field("m", map(inner(json!([a])), false))]),
                json!([field("m", map(inner(json!([a, b])), true))]),
                vec!["column m.value may hold nulls now", "column m.value.b added"],
            ),
            (
                json!([field("m", map(json!("date"), true))]),
                json!([field("m", json!("variant"))]),
                vec!["column m changed from map<string, date> to variant"],
            ),
        ] {
            let (before, after) = (shape(before), shape(after));
            assert_eq!(before.changes_to(&after), told);
            assert_ne!(before.digest(), after.digest(), "{told:?}");
            assert!(before.changes_to(&before).is_empty());
        }
        let (flat, parted) = (metadata(json!([a, b]), &[]), metadata(json!([a, b]), &["b"]));
        let (flat, parted) = (Shape::of(&flat).unwrap(), Shape::of(&parted).unwrap());
        assert_eq!(flat.changes_to(&parted), ["partition columns changed from none to b"]);
        assert_ne!(flat.digest(), parted.digest());
    }

    #[test]
    fn what_readers_do_not_rely_on_makes_no_difference() {
        let plain = json!([field(
            "a",
            json!({"type": "array", "elementType": {"type": "struct", "fields": [
            field("b", json!("long"))
        ]}, "containsNull": true})
        )]);
        let mut told = plain.clone();
        told[0]["metadata"] = json!({"comment": "x", "delta.columnMapping.id": 1});
        told[0]["type"]["elementType"]["fields"][0]["metadata"] = json!({"delta.generationExpression": "y"});
        let (plain, mut told) = (metadata(plain, &[]), metadata(told, &[]));
        told.configuration.insert("delta.constraints.c".into(), "a > 1".into());
        told.description = Some("z".into());
        let accepted = AcceptedShape { version: 3, digest: Shape::of(&plain).unwrap().digest() };
        assert!(accepted.fits(&told));
        told.schema_string = "no schema".into();
        assert!(!accepted.fits(&told));
    }

    #[test]
    fn what_is_kept_comes_back_and_its_digest_never_changes() {
        let shape = Shape::of(&metadata(json!([not_null(field("a", json!("decimal(10,2)")))]), &["a"])).unwrap();
        let back = Shape::from_text(&shape.to_text()).unwrap();
        assert_eq!(back, shape);
        // The next release must recognise digests that this one stored.
        assert_eq!(shape.digest(), "b7b69a5e290ecb7c273117b3ddee40f1e16ed04cb64a6fe627958a80a607bdb9");
        assert_eq!(Shape::from_text("{}"), None);
    }

    #[test]
    fn many_changes_are_cut_short() {
        let many = |prefix: &str| {
            let fields: Vec<Value> = (0..150).map(|n| field(&format!("{prefix}{n}"), json!("long"))).collect();
            shape(json!(fields))
        };
        let changes = many("a").changes_to(&many("b"));
        assert_eq!((changes.len(), changes[100].as_str()), (101, "and 200 more"));
    }
}
