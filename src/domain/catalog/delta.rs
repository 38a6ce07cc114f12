//! What a Delta table says about itself: protocol, metadata, and the reader features that a snapshot really needs.
//!
//! Pure values and one pure rule. The lake reads the values from a log; the negotiation compares the features with
//! those that a client declared.

use std::collections::{BTreeMap, BTreeSet};

use super::schema::{DataType, Field, Primitive, Schema};

/// The reader feature that gives a column a physical name in addition to its logical one.
pub const COLUMN_MAPPING: &str = "columnMapping";
/// The reader feature that marks rows of a file as deleted.
pub const DELETION_VECTORS: &str = "deletionVectors";
/// The table property that switches column mapping on (`name`, `id`) or off (`none`, or absent).
pub const COLUMN_MAPPING_MODE: &str = "delta.columnMapping.mode";

/// Reader features that concern how a log is kept, not how a listed file is read; a client that receives a list of
/// files never meets them.
const LOG_ONLY_FEATURES: [&str; 2] = ["v2Checkpoint", "vacuumProtocolCheck"];

/// The key in a column's metadata that says how its type was widened.
const TYPE_CHANGES: &str = "delta.typeChanges";

/// A table's `protocol` action, with its features as the log names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// `minReaderVersion`.
    pub min_reader_version: i32,
    /// `minWriterVersion`.
    pub min_writer_version: i32,
    /// `readerFeatures`; present from reader version 3 on.
    pub reader_features: Option<Vec<String>>,
    /// `writerFeatures`; present from writer version 7 on.
    pub writer_features: Option<Vec<String>>,
}

/// A table's `metaData` action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The table's id, which survives every change of its schema.
    pub id: String,
    /// The name its writer gave it.
    pub name: Option<String>,
    /// The description its writer gave it.
    pub description: Option<String>,
    /// `format.provider`, in practice always `parquet`.
    pub format_provider: String,
    /// `format.options`, in practice always empty.
    pub format_options: BTreeMap<String, String>,
    /// `schemaString`, exactly as in the log: Spark compares it between two answers.
    pub schema_string: String,
    /// Logical names of the partition columns, in the table's order.
    pub partition_columns: Vec<String>,
    /// All table properties. Which of them a recipient sees is decided elsewhere.
    pub configuration: BTreeMap<String, String>,
    /// When the metadata was written, in milliseconds since the epoch.
    pub created_time: Option<i64>,
}

impl Metadata {
    /// Whether column mapping is switched on for this table.
    pub fn maps_columns(&self) -> bool {
        self.configuration.get(COLUMN_MAPPING_MODE).is_some_and(|mode| !mode.eq_ignore_ascii_case("none"))
    }
}

/// The reader features without which the files of a snapshot cannot be read correctly.
///
/// A table may carry features that are switched off, that no column uses, or that only matter to readers of the log
/// itself; a client that lacks those still gets right answers (Delta Sharing protocol, response format negotiation).
pub fn required_features(protocol: &Protocol, metadata: &Metadata, has_deletion_vectors: bool) -> BTreeSet<String> {
    match protocol.min_reader_version {
        ..=1 => BTreeSet::new(),
        2 if metadata.maps_columns() => BTreeSet::from([COLUMN_MAPPING.to_owned()]),
        2 => BTreeSet::new(),
        _ => protocol
            .reader_features
            .iter()
            .flatten()
            .filter(|feature| match feature.as_str() {
                COLUMN_MAPPING => metadata.maps_columns(),
                DELETION_VECTORS => has_deletion_vectors,
                other => !LOG_ONLY_FEATURES.contains(&other) && uses(metadata, other),
            })
            .cloned()
            .collect(),
    }
}

/// Whether the schema uses `feature`. A feature whose use the schema does not show counts as used, and so does every
/// feature of a schema that cannot be read.
fn uses(metadata: &Metadata, feature: &str) -> bool {
    let is_used: fn(&Field) -> bool = match feature {
        "timestampNtz" => |field| holds(&field.data_type, &DataType::Primitive(Primitive::TimestampNtz)),
        "typeWidening" | "typeWidening-preview" => |field| field.metadata.contains_key(TYPE_CHANGES),
        "variantType" | "variantType-preview" | "variantShredding" | "variantShredding-preview" => {
            |field| holds(&field.data_type, &DataType::Other("variant".to_owned()))
        }
        _ => return true,
    };
    Schema::parse(&metadata.schema_string).map_or(true, |schema| schema.has_field(is_used))
}

/// Whether a column of type `data_type` holds values of type `wanted`, apart from fields of structs, which are checked
/// as columns of their own.
fn holds(data_type: &DataType, wanted: &DataType) -> bool {
    match data_type {
        DataType::Array { element, .. } => holds(element, wanted),
        DataType::Map { key, value, .. } => holds(key, wanted) || holds(value, wanted),
        DataType::Struct(_) => false,
        leaf => leaf == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(mode: Option<&str>) -> Metadata {
        Metadata {
            id: "id".into(),
            name: None,
            description: None,
            format_provider: "parquet".into(),
            format_options: BTreeMap::new(),
            schema_string: "{}".into(),
            partition_columns: vec![],
            configuration: mode.map(|mode| (COLUMN_MAPPING_MODE.to_owned(), mode.to_owned())).into_iter().collect(),
            created_time: None,
        }
    }

    fn needed(version: i32, features: &[&str], mode: Option<&str>, deletion_vectors: bool) -> Vec<String> {
        let reader_features = (version >= 3).then(|| features.iter().map(|name| name.to_string()).collect());
        let protocol =
            Protocol { min_reader_version: version, min_writer_version: 7, reader_features, writer_features: None };
        required_features(&protocol, &metadata(mode), deletion_vectors).into_iter().collect()
    }

    #[test]
    fn reader_version_one_needs_nothing() {
        assert!(needed(1, &[], Some("name"), true).is_empty());
    }

    #[test]
    fn reader_version_two_needs_column_mapping_only_where_it_is_on() {
        assert_eq!(needed(2, &[], Some("name"), false), ["columnMapping"]);
        assert_eq!(needed(2, &[], Some("id"), false), ["columnMapping"]);
        assert!(needed(2, &[], Some("none"), false).is_empty());
        assert!(needed(2, &[], None, false).is_empty());
    }

    #[test]
    fn features_about_the_log_alone_are_not_needed() {
        assert_eq!(needed(3, &["v2Checkpoint", "vacuumProtocolCheck", "timestampNtz"], None, false), ["timestampNtz"]);
    }

    #[test]
    fn switched_off_features_are_not_needed() {
        let features = ["columnMapping", "deletionVectors", "variantType"];
        assert_eq!(needed(3, &features, None, false), ["variantType"]);
        assert_eq!(needed(3, &features, Some("name"), false), ["columnMapping", "variantType"]);
        assert_eq!(needed(3, &features, None, true), ["deletionVectors", "variantType"]);
    }

    #[test]
    fn features_that_no_column_uses_are_not_needed() {
        let features =
            ["timestampNtz", "typeWidening", "typeWidening-preview", "variantType", "variantShredding", "new"];
        let reader_features = Some(features.iter().map(|name| name.to_string()).collect());
        let protocol =
            Protocol { min_reader_version: 3, min_writer_version: 7, reader_features, writer_features: None };
        let needed = |column: &str| {
            let schema_string = format!(r#"{{"type":"struct","fields":[{{"name":"a",{column}}}]}}"#);
            let needed = required_features(&protocol, &Metadata { schema_string, ..metadata(None) }, false);
            needed.into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(needed(r#""type":"long","nullable":true,"metadata":{"comment":"variant timestamp_ntz"}"#), "new");
        let list = r#""type":{"type":"array","elementType":"timestamp_ntz","containsNull":true},"nullable":true"#;
        assert_eq!(needed(list), "new timestampNtz");
        let map = r#""type":{"type":"map","keyType":"string","valueType":{"type":"struct","fields":[{"name":"v",
            "type":"variant","nullable":true,"metadata":{}}]},"valueContainsNull":true},"nullable":true"#;
        assert_eq!(needed(map), "new variantShredding variantType");
        let widened = r#""type":"long","nullable":true,"metadata":{"delta.typeChanges":[]}"#;
        assert_eq!(needed(widened), "new typeWidening typeWidening-preview");
        assert_eq!(needed("").split(' ').count(), features.len(), "a schema that cannot be read uses everything");
    }

    #[test]
    fn unknown_features_are_needed() {
        assert_eq!(needed(3, &["somethingNew"], None, false), ["somethingNew"]);
    }
}
