//! Source tables, written by hand as Spark would: data files and a log, with secrets wherever a writer may leave them:
//! in cells, names, paths, statistics, footers, properties and comments.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{array::RecordBatch, datatypes::Schema as ArrowSchema};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::{metadata::KeyValue, properties::WriterProperties},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;
use weir::domain::catalog::schema::{DataType, Field, PHYSICAL_NAME, Schema};

use crate::support::tables::{HandWrittenLog, protocol_with, remove};

use super::value::{Named, Row, Value, arrow_field, to_array};

/// The time of commit 0 in milliseconds since the epoch; later commits follow a minute apart.
const FIRST_COMMIT: u64 = 1_700_000_000_000;
const BETWEEN_COMMITS: u64 = 60_000;

/// How files name columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    None,
    Name,
    Id,
}

/// A table in a folder, with everything that was ever in it.
pub struct Table {
    folder: PathBuf,
    log: HandWrittenLog,
    id: String,
    mapping: Mapping,
    configuration: Map<String, Json>,
    random: StdRng,
    next_column_id: u32,
    /// Whether files carry the notes that writers leave in footers.
    pub has_notes: bool,
    /// The newest state.
    pub state: State,
    /// All states, by version.
    pub versions: Vec<State>,
    /// Texts that must never be seen.
    pub marks: BTreeSet<String>,
    /// The names of columns and their parts.
    pub names: BTreeSet<String>,
    /// Every value that was ever in a cell.
    pub cells: Vec<Value>,
}

/// A version of a table.
#[derive(Clone)]
pub struct State {
    pub schema: Schema,
    pub partition_columns: Vec<String>,
    pub files: Vec<Arc<DataFile>>,
}

/// A data file.
#[derive(Clone)]
pub struct DataFile {
    /// As spelled in the log.
    pub path: String,
    /// Includes the deletion vector.
    pub action: Json,
    schema: Schema,
    rows: Vec<Row>,
    deleted: BTreeSet<usize>,
}

impl State {
    /// The live rows of each file.
    pub fn rows_by_file(&self) -> Vec<Vec<Row>> {
        self.files.iter().map(|file| file.live_rows(&self.schema)).collect()
    }

    /// All live rows.
    pub fn rows(&self) -> Vec<Row> {
        self.rows_by_file().concat()
    }
}

impl DataFile {
    /// The rows that are not deleted, as a table with this schema has them.
    fn live_rows(&self, schema: &Schema) -> Vec<Row> {
        let physical = |field: &Field| field.physical_name(true).to_owned();
        let own: Vec<Option<usize>> = schema
            .fields
            .iter()
            .map(|field| self.schema.fields.iter().position(|own| physical(own) == physical(field)))
            .collect();
        let read = |row: &Row| own.iter().map(|at| at.map_or(Value::Null, |at| row[at].clone())).collect();
        self.rows.iter().enumerate().filter(|(at, _)| !self.deleted.contains(at)).map(|(_, row)| read(row)).collect()
    }
}

impl Table {
    /// Creates a table whose commit 0 describes it. `columns` are fields as in a log's schema.
    pub fn create(folder: &Path, columns: &Json, partition_columns: &[&str], mapping: Mapping, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mark = word(&mut random);
        let id = Uuid::from_u128(random.random()).to_string();
        let mut configuration = json!({
            "delta.enableDeletionVectors": "true",
            "delta.enableChangeDataFeed": "true",
            "owner": word(&mut random),
            format!("delta.constraints.{}", word(&mut random)): format!("{} > 0", word(&mut random)),
        });
        if mapping != Mapping::None {
            configuration["delta.columnMapping.mode"] = if mapping == Mapping::Id { "id" } else { "name" }.into();
        }
        let features: &[&str] = match mapping {
            Mapping::None => &["deletionVectors"],
            _ => &["deletionVectors", "columnMapping"],
        };
        let protocol = if has_local_times(columns) {
            protocol_with(&[features, &["timestampNtz"]].concat())
        } else {
            protocol_with(features)
        };
        let mut table = Self {
            folder: folder.to_owned(),
            // Commit 0 is written again once the schema has its marks.
            log: HandWrittenLog::create(folder, protocol.clone(), json!({"commitInfo": {"userMetadata": mark}})),
            id: id.clone(),
            mapping,
            configuration: configuration.as_object().unwrap().clone(),
            random,
            next_column_id: 1,
            has_notes: true,
            state: State {
                schema: Schema { fields: Vec::new() },
                partition_columns: partition_columns.iter().map(|name| (*name).to_owned()).collect(),
                files: Vec::new(),
            },
            versions: Vec::new(),
            marks: BTreeSet::from([mark.clone(), id, folder.file_name().unwrap().to_str().unwrap().to_owned()]),
            names: BTreeSet::new(),
            cells: Vec::new(),
        };
        for (name, value) in &table.configuration {
            if !value.as_str().unwrap().starts_with("true") && !name.starts_with("delta.columnMapping") {
                table.marks.insert(value.as_str().unwrap().trim_end_matches(" > 0").to_owned());
                table.marks.extend(name.strip_prefix("delta.constraints.").map(str::to_owned));
            }
        }
        table.state.schema = table.declared(columns);
        let first = [
            json!({"commitInfo": {"timestamp": FIRST_COMMIT, "operation": "CREATE TABLE", "userMetadata": mark,
                "engineInfo": table.mark()}}),
            protocol,
            table.metadata_action(),
        ];
        let text: String = first.iter().map(|action| format!("{action}\n")).collect();
        fs::write(table.log.commit_path(0), text).unwrap();
        table.remember(0);
        table
    }

    /// A word that must never be seen.
    fn mark(&mut self) -> String {
        let word = word(&mut self.random);
        self.marks.insert(word.clone());
        word
    }

    /// A schema with a writer's additions: ids, physical names, and comments.
    fn declared(&mut self, columns: &Json) -> Schema {
        let mut schema = Schema::from_json(&json!({"type": "struct", "fields": columns})).unwrap();
        schema.fields.iter_mut().for_each(|field| self.declare(field));
        schema
    }

    fn declare(&mut self, field: &mut Field) {
        self.names.insert(field.name.clone());
        if !field.metadata.contains_key("comment") {
            field.metadata.insert("comment".to_owned(), self.mark().into());
        }
        if self.mapping != Mapping::None && !field.metadata.contains_key(PHYSICAL_NAME) {
            field.metadata.insert("delta.columnMapping.id".to_owned(), self.next_column_id.into());
            field.metadata.insert(PHYSICAL_NAME.to_owned(), format!("col-{}", self.mark()).into());
            self.next_column_id += 1;
        }
        self.declare_type(&mut field.data_type);
    }

    fn declare_type(&mut self, data_type: &mut DataType) {
        match data_type {
            DataType::Struct(fields) => fields.iter_mut().for_each(|field| self.declare(field)),
            DataType::Array { element, .. } => self.declare_type(element),
            DataType::Map { key, value, .. } => {
                self.declare_type(key);
                self.declare_type(value);
            }
            DataType::Primitive(_) | DataType::Other(_) => {}
        }
    }

    fn metadata_action(&mut self) -> Json {
        let (name, description) = (self.mark(), self.mark());
        json!({"metaData": {
            "id": self.id,
            "name": name,
            "description": description,
            "format": {"provider": "parquet", "options": {}},
            "schemaString": self.state.schema.schema_string(),
            "partitionColumns": self.state.partition_columns,
            "configuration": self.configuration,
            "createdTime": FIRST_COMMIT,
        }})
    }

    fn commit(&mut self, actions: &[Json]) -> u64 {
        let info = json!({"commitInfo": {"operation": "WRITE", "userMetadata": self.mark()}});
        let version = self.log.commit(&[&[info], actions].concat());
        self.remember(version);
        version
    }

    fn remember(&mut self, version: u64) {
        self.log.date(version, FIRST_COMMIT + version * BETWEEN_COMMITS);
        assert_eq!(self.versions.len() as u64, version);
        self.versions.push(self.state.clone());
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.versions.len() as u64 - 1
    }

    /// The files of a version under the newest schema: columns added or renamed since are found by their physical
    /// names, or are NULL.
    pub fn at(&self, version: u64) -> State {
        State { files: self.versions[usize::try_from(version).unwrap()].files.clone(), ..self.state.clone() }
    }

    /// The path of commit `version`.
    pub fn commit_path(&self, version: u64) -> PathBuf {
        self.log.commit_path(version)
    }

    /// When a version was committed, in the protocol's format.
    pub fn committed_at(&self, version: u64) -> String {
        let millis = i64::try_from(FIRST_COMMIT + version * BETWEEN_COMMITS).unwrap();
        chrono::DateTime::from_timestamp_millis(millis).unwrap().to_rfc3339()
    }

    /// Adds rows in one commit, one file per partition. Returns the version.
    pub fn append(&mut self, rows: Vec<Row>) -> u64 {
        let added = self.write(rows);
        let actions: Vec<Json> = added.iter().map(|file| file.action.clone()).collect();
        self.state.files.extend(added);
        self.commit(&actions)
    }

    /// Deletes the rows that `is_deleted` picks, with deletion vectors. Returns the version.
    pub fn delete(&mut self, is_deleted: impl Fn(&Row) -> bool) -> u64 {
        let (mut actions, mut files) = (Vec::new(), Vec::new());
        for file in self.state.files.clone() {
            let newly = |(at, row): &(usize, &Row)| !file.deleted.contains(at) && is_deleted(row);
            let newly: Vec<usize> = file.rows.iter().enumerate().filter(newly).map(|(at, _)| at).collect();
            if newly.is_empty() {
                files.push(file);
                continue;
            }
            let mut after = file.as_ref().clone();
            after.deleted.extend(newly);
            let mut removed = remove(&file.path);
            if let Some(vector) = file.action["add"].get("deletionVector") {
                removed["remove"]["deletionVector"] = vector.clone();
            }
            actions.push(removed);
            if after.deleted.len() < after.rows.len() {
                after.action["add"]["deletionVector"] = self.vector(&after.deleted);
                actions.push(after.action.clone());
                files.push(Arc::new(after));
            }
        }
        self.state.files = files;
        self.commit(&actions)
    }

    /// Removes whole files. Returns the version.
    pub fn remove_files(&mut self, is_removed: impl Fn(usize) -> bool) -> u64 {
        let (mut removed, mut kept) = (Vec::new(), Vec::new());
        for (at, file) in self.state.files.drain(..).enumerate() {
            if is_removed(at) { removed.push(file) } else { kept.push(file) }
        }
        self.state.files = kept;
        let action = |file: &Arc<DataFile>| {
            let mut action = remove(&file.path);
            if let Some(vector) = file.action["add"].get("deletionVector") {
                action["remove"]["deletionVector"] = vector.clone();
            }
            action
        };
        let actions: Vec<Json> = removed.iter().map(action).collect();
        self.commit(&actions)
    }

    /// Changes the columns; those that stay keep their ids and physical names. Returns the version.
    pub fn alter(&mut self, change: impl FnOnce(&mut Vec<Field>)) -> u64 {
        change(&mut self.state.schema.fields);
        let mut schema = self.state.schema.clone();
        schema.fields.iter_mut().for_each(|field| self.declare(field));
        self.state.schema = schema;
        let action = self.metadata_action();
        self.commit(&[action])
    }

    /// A column for [`Self::alter`].
    pub fn column(name: &str, data_type: Json) -> Field {
        let field = json!({"name": name, "type": data_type, "nullable": true, "metadata": {}});
        Schema::from_json(&json!({"type": "struct", "fields": [field]})).unwrap().fields.remove(0)
    }

    /// Writes one file per partition of the rows.
    fn write(&mut self, rows: Vec<Row>) -> Vec<Arc<DataFile>> {
        rows.iter().flatten().for_each(|value| self.cells.push(value.clone()));
        let schema = self.state.schema.clone();
        let place = |name: &String| schema.fields.iter().position(|field| field.name == *name).unwrap();
        let places: Vec<usize> = self.state.partition_columns.iter().map(place).collect();
        let mut partitions: BTreeMap<Vec<Option<String>>, Vec<Row>> = BTreeMap::new();
        for row in rows {
            let key = places.iter().map(|at| partition_text(&row[*at])).collect();
            partitions.entry(key).or_default().push(row);
        }
        partitions.into_iter().map(|(key, rows)| Arc::new(self.write_file(&schema, &places, &key, rows))).collect()
    }

    fn write_file(&mut self, schema: &Schema, places: &[usize], key: &[Option<String>], rows: Vec<Row>) -> DataFile {
        let physical = |field: &Field| field.physical_name(self.mapping != Mapping::None).to_owned();
        let mut path: String = places
            .iter()
            .zip(key)
            .map(|(at, text)| {
                let name = physical(&schema.fields[*at]);
                format!("{name}={}/", text.as_deref().unwrap_or("__HIVE_DEFAULT_PARTITION__"))
            })
            .collect();
        let values: Map<String, Json> =
            places.iter().zip(key).map(|(at, text)| (physical(&schema.fields[*at]), json!(text))).collect();
        path.push_str(&format!("part-{}.snappy.parquet", self.mark()));
        let named: Named = match self.mapping {
            Mapping::None => |field| (field.name.clone(), None),
            Mapping::Name => |field| (field.physical_name(true).to_owned(), None),
            Mapping::Id => |field| {
                let id = field.metadata["delta.columnMapping.id"].to_string();
                (field.physical_name(true).to_owned(), Some(id))
            },
        };
        let in_file: Vec<usize> = (0..schema.fields.len()).filter(|at| !places.contains(at)).collect();
        let fields: Vec<_> = in_file.iter().map(|at| arrow_field(&schema.fields[*at], named)).collect();
        let columns = in_file.iter().zip(&fields).map(|(at, field)| {
            let values: Vec<&Value> = rows.iter().map(|row| &row[*at]).collect();
            to_array(&values, field.data_type())
        });
        let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields.clone())), columns.collect()).unwrap();
        let file = self.folder.join(&path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let mut writer =
            ArrowWriter::try_new(fs::File::create(&file).unwrap(), batch.schema(), Some(self.properties())).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let size = fs::metadata(&file).unwrap().len();
        let action = json!({"add": {
            "path": path, "partitionValues": values, "size": size, "modificationTime": FIRST_COMMIT,
            "dataChange": true, "stats": self.stats(schema, &in_file, &rows), "tags": {"INSERTION_TIME": self.mark()},
        }});
        DataFile { path, action, schema: schema.clone(), rows, deleted: BTreeSet::new() }
    }

    /// The properties that writers leave in a footer, more than most do.
    fn properties(&mut self) -> WriterProperties {
        let noted = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
        let codec = match self.random.random_range(0..3) {
            0 => Compression::UNCOMPRESSED,
            1 => Compression::SNAPPY,
            _ => Compression::ZSTD(ZstdLevel::default()),
        };
        let notes = self.has_notes.then(|| {
            let comment = json!({"comment": self.mark()}).to_string();
            vec![noted("org.apache.spark.sql.parquet.row.metadata", comment), noted("owner", self.mark())]
        });
        WriterProperties::builder()
            .set_created_by(format!("spark on {}", self.mark()))
            .set_key_value_metadata(notes)
            .set_compression(codec)
            .set_bloom_filter_enabled(self.random.random_bool(0.3))
            .set_dictionary_enabled(self.random.random_bool(0.7))
            .set_max_row_group_row_count(Some(self.random.random_range(3..50)))
            .build()
    }

    /// Minimum and maximum of every top-level column of texts or whole numbers, as a careless writer leaves them, with
    /// notes of its own.
    fn stats(&mut self, schema: &Schema, in_file: &[usize], rows: &[Row]) -> String {
        let (mut least, mut most, mut nulls) = (Map::new(), Map::new(), Map::new());
        for at in in_file {
            let name = schema.fields[*at].physical_name(self.mapping != Mapping::None);
            let values = || rows.iter().map(|row| &row[*at]);
            nulls.insert(name.to_owned(), values().filter(|value| value.is_null()).count().into());
            let mut texts: Vec<&String> = Vec::new();
            let mut numbers: Vec<i64> = Vec::new();
            values().for_each(|value| match value {
                Value::Text(text) => texts.push(text),
                Value::Integer(number) => numbers.push(*number),
                _ => {}
            });
            if let (Some(low), Some(high)) = (texts.iter().min(), texts.iter().max()) {
                least.insert(name.to_owned(), json!(low));
                most.insert(name.to_owned(), json!(high));
            }
            if let (Some(low), Some(high)) = (numbers.iter().min(), numbers.iter().max()) {
                least.insert(name.to_owned(), json!(low));
                most.insert(name.to_owned(), json!(high));
            }
        }
        least.insert(self.mark(), json!(self.mark()));
        json!({"numRecords": rows.len(), "minValues": least, "maxValues": most, "nullCount": nulls,
            "writer": self.mark()})
        .to_string()
    }

    /// A deletion vector of these rows, in the log or in a file (Delta protocol, "Deletion Vector Format").
    fn vector(&mut self, rows: &BTreeSet<usize>) -> Json {
        let bitmap = roaring(rows);
        let (size, cardinality) = (bitmap.len(), rows.len());
        if self.random.random_bool(0.5) {
            let mut padded = bitmap;
            padded.resize(padded.len().next_multiple_of(4), 0);
            return json!({"storageType": "i", "pathOrInlineDv": z85::encode(&padded), "sizeInBytes": size,
                "cardinality": cardinality});
        }
        let id = Uuid::from_u128(self.random.random());
        let mut file = vec![1];
        file.extend(u32::try_from(size).unwrap().to_be_bytes());
        file.extend(&bitmap);
        file.extend(crc32(&bitmap).to_be_bytes());
        let prefix = self.mark();
        fs::create_dir_all(self.folder.join(&prefix)).unwrap();
        fs::write(self.folder.join(&prefix).join(format!("deletion_vector_{id}.bin")), file).unwrap();
        json!({"storageType": "u", "pathOrInlineDv": format!("{prefix}{}", z85::encode(id.as_bytes())), "offset": 1,
            "sizeInBytes": size, "cardinality": cardinality})
    }
}

/// A word that occurs in no other text: a `z` and twelve letters and digits.
pub fn word(random: &mut StdRng) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnopqrstuvwxy23456789";
    let letters = (0..12).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]));
    std::iter::once('z').chain(letters).collect()
}

fn has_local_times(columns: &Json) -> bool {
    columns.to_string().contains("timestamp_ntz")
}

/// A partition value as logs spell it; `None` for NULL.
pub fn partition_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Date(days) => Some((chrono::NaiveDate::default() + chrono::TimeDelta::days((*days).into())).to_string()),
        other => panic!("nobody partitions by {other:?}"),
    }
}

/// The bitmap of these rows, all below 65,536 and at most 4,096 of them.
fn roaring(rows: &BTreeSet<usize>) -> Vec<u8> {
    let mut bytes = 1_681_511_377_u32.to_le_bytes().to_vec();
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(12_346_u32.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(0_u16.to_le_bytes());
    bytes.extend(u16::try_from(rows.len() - 1).unwrap().to_le_bytes());
    bytes.extend(16_u32.to_le_bytes());
    for row in rows {
        bytes.extend(u16::try_from(*row).unwrap().to_le_bytes());
    }
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |mut sum, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 };
        }
        sum
    })
}
