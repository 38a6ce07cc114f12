//! What sharing a table's raw files discloses beyond the rows and columns that a query shows, as far as the table's log
//! tells, and which of it an operator must acknowledge.
//!
//! Never here: how a log is read. [`super::disclosure`] decides which parts of a table's description an answer carries.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    delta::Metadata,
    disclosure::delta_configuration,
    schema::{ColumnPath, DataType, ELEMENT, Field, KEY, Schema, VALUE},
    share::SharedObject,
};
use crate::domain::core::word::Words;

/// The table property that holds the highest column id ever assigned.
const MAX_COLUMN_ID: &str = "delta.columnMapping.maxColumnId";
/// The metadata key of a column's id under column mapping.
const COLUMN_ID: &str = "delta.columnMapping.id";
/// The metadata key of the ids of the parts of an array or a map.
const NESTED_IDS: &str = "delta.columnMapping.nested.ids";

/// Column metadata that only says how a file is read.
const READING_NEEDS: [&str; 5] =
    [COLUMN_ID, super::schema::PHYSICAL_NAME, NESTED_IDS, "parquet.field.id", "delta.typeChanges"];

/// Something that the files of a raw table disclose beyond the rows and columns of a query: `deleted_rows` (hidden by
/// deletion vectors), `dropped_columns`, `partition_values_in_paths`, `history` (older versions), or `properties` of
/// the table and its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisclosureItem {
    /// Rows that deletion vectors hide but the files still hold.
    DeletedRows,
    /// Columns that are no longer in the schema; files may still hold them.
    DroppedColumns,
    /// Values of partition columns, in the paths of files and so in URLs.
    PartitionValuesInPaths,
    /// Older versions.
    History,
    /// Properties of the table and its columns.
    Properties,
}

impl Words for DisclosureItem {
    const NOUN: &'static str = "disclosure";
    const ALL: &'static [(&'static str, Self)] = &[
        ("deleted_rows", Self::DeletedRows),
        ("dropped_columns", Self::DroppedColumns),
        ("partition_values_in_paths", Self::PartitionValuesInPaths),
        ("history", Self::History),
        ("properties", Self::Properties),
    ];
}

/// What an object over a raw table discloses beyond the rows and columns that a query shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawDisclosure {
    /// The number of rows that deletion vectors hide but files still hold.
    pub deleted_rows: u64,
    /// Columns that the log once had and the schema no longer has; files may still hold them.
    pub dropped_columns: Vec<String>,
    /// The number of further dropped columns whose names are unknown; only the column ids show that they existed.
    pub unnamed_dropped_columns: u64,
    /// Partition columns whose values appear in object keys, and so in URLs.
    pub partition_values_in_paths: Vec<String>,
    /// The oldest version that recipients may read, if history is shared.
    pub history_from: Option<u64>,
    /// Names of the properties of the table and its columns that an answer in delta format carries, besides names and
    /// types.
    pub properties: Vec<String>,
}

impl RawDisclosure {
    /// Adds what `object` discloses; the log of its table goes back to version `oldest`.
    pub fn shared_as(self, object: &SharedObject, oldest: u64) -> Self {
        let first = u64::try_from(object.spec.start_version).unwrap_or(0).max(oldest);
        Self { history_from: object.spec.history.then_some(first), ..self }
    }

    /// Lists the items that apply, each with a description for operators.
    pub fn applies(&self) -> Vec<(DisclosureItem, String)> {
        let mut applies = Vec::new();
        if self.deleted_rows > 0 {
            let told = format!("files still hold {} deleted rows", self.deleted_rows);
            applies.push((DisclosureItem::DeletedRows, told));
        }
        let dropped = self.unnamed_dropped_columns + u64::try_from(self.dropped_columns.len()).unwrap_or(u64::MAX);
        if dropped > 0 {
            let told = format!("files may still hold {dropped} columns that were dropped");
            applies.push((DisclosureItem::DroppedColumns, told));
        }
        if !self.partition_values_in_paths.is_empty() {
            let told = format!("URLs tell values of {}", self.partition_values_in_paths.join(", "));
            applies.push((DisclosureItem::PartitionValuesInPaths, told));
        }
        if let Some(first) = self.history_from {
            applies.push((DisclosureItem::History, format!("recipients may read versions since {first}")));
        }
        let mut told = self.properties.iter().filter(|name| !is_for_reading(name)).peekable();
        if told.peek().is_some() {
            let told: Vec<&str> = told.map(String::as_str).collect();
            applies.push((DisclosureItem::Properties, format!("answers carry {}", told.join(", "))));
        }
        applies
    }
}

/// Whether a property of a table or column only says how files are read. Such properties need no acknowledgement.
fn is_for_reading(name: &str) -> bool {
    READING_NEEDS.contains(&name) || super::disclosure::READING_NEEDS.contains(&name)
}

/// Names of the properties that an answer in delta format carries besides column names and types: the table's `name`
/// and `description`, table properties on the allow-list, and all of the columns' own metadata.
pub fn carried_properties(metadata: &Metadata) -> Vec<String> {
    let mut names: BTreeSet<String> =
        delta_configuration(&metadata.configuration).into_keys().map(Into::into).collect();
    let own = [("name", &metadata.name), ("description", &metadata.description)];
    names.extend(own.into_iter().filter(|(_, text)| text.is_some()).map(|(name, _)| name.to_owned()));
    if let Ok(schema) = Schema::parse(&metadata.schema_string) {
        visit(&schema.fields, &ColumnPath(Vec::new()), &mut |_, field| {
            names.extend(field.metadata.keys().cloned());
            true
        });
    }
    names.into_iter().collect()
}

/// Finds the columns of `past` that the newest schema no longer has, each by its last name, and counts the further ones
/// that only column ids reveal. `past` is newest first; its first entry is in force.
///
/// A renamed column is the same column. A column that was dropped and created again under its name is another column if
/// the table maps columns; without column mapping, readers take the old values for the new column's.
pub fn dropped_columns(past: &[Arc<Metadata>]) -> (Vec<String>, u64) {
    let Some(newest) = past.first() else { return (Vec::new(), 0) };
    let maps_columns = newest.maps_columns();
    let parsed = past.iter().filter_map(|metadata| {
        let schema = Schema::parse(&metadata.schema_string).ok()?;
        Some((maps_columns && metadata.maps_columns(), schema))
    });
    let (mut current, mut gone) = (HashSet::new(), HashSet::new());
    let (mut names, mut ids) = (BTreeSet::new(), HashSet::new());
    for (index, (is_mapped, schema)) in parsed.enumerate() {
        visit_physical(&schema.fields, is_mapped, &ColumnPath(Vec::new()), &ColumnPath(Vec::new()), &mut |at| {
            collect_ids(at.field, &mut ids);
            if index == 0 {
                current.insert(at.physical.clone());
                return true;
            }
            if current.contains(&at.physical) {
                return true;
            }
            if gone.insert(at.physical) {
                names.insert(at.logical.to_string());
            }
            // Everything below a dropped column went with it.
            false
        });
    }
    let ever = newest.configuration.get(MAX_COLUMN_ID).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let known = ids.iter().filter(|id| (1..=ever).contains(*id)).count();
    let unnamed = if maps_columns { ever.saturating_sub(u64::try_from(known).unwrap_or(u64::MAX)) } else { 0 };
    (names.into_iter().collect(), unnamed)
}

fn collect_ids(field: &Field, ids: &mut HashSet<u64>) {
    ids.extend(field.metadata.get(COLUMN_ID).and_then(Value::as_u64));
    if let Some(Value::Object(nested)) = field.metadata.get(NESTED_IDS) {
        ids.extend(nested.values().filter_map(Value::as_u64));
    }
}

/// A column or field on the way through a schema.
struct At<'a> {
    logical: ColumnPath,
    physical: ColumnPath,
    field: &'a Field,
}

/// Calls `see` for every column and field; if it returns false, skips everything below that one.
fn visit<'a>(fields: &'a [Field], path: &ColumnPath, see: &mut impl FnMut(&ColumnPath, &'a Field) -> bool) {
    visit_physical(fields, false, path, path, &mut |at| see(&at.logical, at.field));
}

fn visit_physical<'a>(
    fields: &'a [Field],
    is_mapped: bool,
    logical: &ColumnPath,
    physical: &ColumnPath,
    see: &mut impl FnMut(At<'a>) -> bool,
) {
    for field in fields {
        let (logical, physical) = (logical.join(&field.name), physical.join(field.physical_name(is_mapped)));
        if see(At { logical: logical.clone(), physical: physical.clone(), field }) {
            visit_below(&field.data_type, is_mapped, &logical, &physical, see);
        }
    }
}

fn visit_below<'a>(
    data_type: &'a DataType,
    is_mapped: bool,
    logical: &ColumnPath,
    physical: &ColumnPath,
    see: &mut impl FnMut(At<'a>) -> bool,
) {
    let mut below = |step: &str, inner: &'a DataType| {
        visit_below(inner, is_mapped, &logical.join(step), &physical.join(step), see);
    };
    match data_type {
        DataType::Primitive(_) | DataType::Other(_) => {}
        DataType::Struct(fields) => visit_physical(fields, is_mapped, logical, physical, see),
        DataType::Array { element, .. } => below(ELEMENT, element),
        DataType::Map { key, value, .. } => {
            below(KEY, key);
            below(VALUE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(fields: Value, configuration: Value) -> Arc<Metadata> {
        Arc::new(Metadata {
            id: "id".into(),
            name: None,
            description: None,
            format_provider: "parquet".into(),
            format_options: Default::default(),
            schema_string: json!({"type": "struct", "fields": fields}).to_string(),
            partition_columns: vec![],
            configuration: serde_json::from_value(configuration).unwrap(),
            created_time: None,
        })
    }

    fn plain(fields: Value) -> Arc<Metadata> {
        metadata(fields, json!({}))
    }

    fn mapped(fields: Value, max: u64) -> Arc<Metadata> {
        metadata(fields, json!({"delta.columnMapping.mode": "name", MAX_COLUMN_ID: max.to_string()}))
    }

    fn field(name: &str, data_type: Value) -> Value {
        json!({"name": name, "type": data_type, "nullable": true, "metadata": {}})
    }

    fn column(name: &str, physical: &str, id: u64) -> Value {
        let mut column = field(name, json!("long"));
        column["metadata"] = json!({COLUMN_ID: id, super::super::schema::PHYSICAL_NAME: physical});
        column
    }

    fn names(past: &[Arc<Metadata>]) -> Vec<String> {
        dropped_columns(past).0
    }

    #[test]
    fn a_column_that_is_gone_is_named_as_it_was_called_last() {
        let (a, b) = (field("a", json!("long")), field("b", json!("long")));
        assert_eq!(names(&[plain(json!([a])), plain(json!([a, b]))]), ["b"]);
        assert!(names(&[plain(json!([a, b])), plain(json!([a]))]).is_empty());
        assert!(names(&[plain(json!([a, b]))]).is_empty());
        // Dropped and added again under the same name and path: readers of the files see no difference.
        assert!(names(&[plain(json!([a, b])), plain(json!([a])), plain(json!([a, b]))]).is_empty());

        let (x, renamed) = (column("x", "p1", 1), column("y", "p1", 1));
        assert!(names(&[mapped(json!([renamed]), 1), mapped(json!([x]), 1)]).is_empty());
        let other = column("z", "p2", 2);
        assert_eq!(
            names(&[mapped(json!([other]), 2), mapped(json!([renamed, other]), 2), mapped(json!([x]), 1)]),
            ["y"]
        );
        // Dropped and created again, it is another column under the same name.
        assert_eq!(names(&[mapped(json!([column("x", "p2", 2)]), 2), mapped(json!([x]), 1)]), ["x"]);
    }

    #[test]
    fn mapping_that_was_switched_on_leaves_columns_what_they_were() {
        let (a, b) = (field("a", json!("long")), field("b", json!("long")));
        let upgraded = mapped(json!([column("a", "a", 1), column("b", "b", 2)]), 2);
        assert!(names(&[upgraded.clone(), plain(json!([a, b]))]).is_empty());
        assert_eq!(names(&[mapped(json!([column("a", "a", 1)]), 2), upgraded.clone(), plain(json!([a, b]))]), ["b"]);
        assert!(names(&[plain(json!([a, b])), upgraded]).is_empty());
    }

    #[test]
    fn fields_are_followed_into_structs_arrays_and_maps() {
        let inside = |fields: Value| {
            let fields = json!({"type": "struct", "fields": fields});
            let list = json!({"type": "array", "elementType": fields, "containsNull": true});
            let map = json!({"type": "map", "keyType": "string", "valueType": fields, "valueContainsNull": true});
            plain(json!([field("s", fields), field("l", list), field("m", map)]))
        };
        let (a, b) = (field("a", json!("long")), field("b.c", json!("long")));
        let past = [inside(json!([a])), inside(json!([a, b]))];
        assert_eq!(names(&past), ["l.element.`b.c`", "m.value.`b.c`", "s.`b.c`"]);
        // A struct that was dropped as a whole is reported once.
        let past = [plain(json!([a])), plain(json!([a, field("s", json!({"type": "struct", "fields": [a, b]}))]))];
        assert_eq!(names(&past), ["s"]);
    }

    #[test]
    fn ids_that_nothing_names_any_more_are_counted() {
        let now = || mapped(json!([column("a", "p1", 1)]), 4);
        assert_eq!(dropped_columns(&[now()]), (vec![], 3));
        let before = mapped(json!([column("a", "p1", 1), column("b", "p2", 2)]), 2);
        assert_eq!(dropped_columns(&[now(), before]), (vec!["b".to_owned()], 2));
        let mut list = column("a", "p1", 1);
        list["metadata"][NESTED_IDS] = json!({"p1.element": 2});
        assert_eq!(dropped_columns(&[mapped(json!([list]), 2)]), (vec![], 0));
        // Without column mapping the property means nothing.
        let plain = metadata(json!([field("a", json!("long"))]), json!({MAX_COLUMN_ID: "9"}));
        assert_eq!(dropped_columns(&[plain]), (vec![], 0));
    }

    #[test]
    fn properties_are_those_that_answers_carry() {
        let mut commented = column("a", "p1", 1);
        commented["metadata"]["comment"] = json!("salary of board members");
        let mut inner = field("g", json!("long"));
        inner["metadata"]["delta.generationExpression"] = json!("a * 2");
        let fields = json!([commented, field("s", json!({"type": "struct", "fields": [inner]}))]);
        let configuration = json!({
            "delta.columnMapping.mode": "name", "delta.constraints.c": "a > 0", "owner": "ann",
        });
        let metadata = metadata(fields, configuration);
        let carried = carried_properties(&metadata);
        assert_eq!(
            carried,
            [
                "comment",
                "delta.columnMapping.id",
                "delta.columnMapping.mode",
                "delta.columnMapping.physicalName",
                "delta.generationExpression",
            ]
        );
        let applies = |properties: Vec<String>| RawDisclosure { properties, ..Default::default() }.applies();
        let (item, told) = applies(carried).remove(0);
        assert_eq!(
            (item, told.as_str()),
            (DisclosureItem::Properties, "answers carry comment, delta.generationExpression")
        );
        // Properties that only say how files are read disclose nothing.
        assert!(applies(vec!["delta.columnMapping.id".into(), "delta.enableChangeDataFeed".into()]).is_empty());
    }

    #[test]
    fn what_is_not_there_does_not_apply() {
        assert!(RawDisclosure::default().applies().is_empty());
        let all = RawDisclosure {
            deleted_rows: 1,
            dropped_columns: vec![],
            unnamed_dropped_columns: 1,
            partition_values_in_paths: vec!["plan".into()],
            history_from: Some(0),
            properties: vec!["comment".into()],
        };
        let words: Vec<&str> = all.applies().iter().map(|(item, _)| item.as_str()).collect();
        assert_eq!(words, ["deleted_rows", "dropped_columns", "partition_values_in_paths", "history", "properties"]);
        for item in all.applies() {
            assert_eq!(serde_json::to_value(item.0).unwrap(), item.0.as_str());
        }
    }
}
