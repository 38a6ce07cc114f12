//! Delta tables for tests: real ones written with deltalake, and handwritten logs that no writer would produce.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arrow::{
    array::{Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use deltalake::{
    DeltaTable,
    kernel::{DataType as DeltaType, PrimitiveType},
    operations::create::CreateBuilder,
    protocol::checkpoints::create_checkpoint,
    writer::{DeltaWriter, RecordBatchWriter},
};
use object_store::{ObjectStore, local::LocalFileSystem};
use serde_json::{Value, json};
use url::Url;
use weir::storage::TableLocation;

/// The folder of tables by other writers, from `WEIR_TEST_TABLES`. If it is not set, the test is skipped with a
/// message, or fails in CI.
pub fn foreign_tables() -> Option<PathBuf> {
    let folder = std::env::var_os("WEIR_TEST_TABLES").map(PathBuf::from);
    if folder.is_none() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "WEIR_TEST_TABLES must be set in CI");
        println!("skipped: WEIR_TEST_TABLES names no folder of tables");
    }
    folder
}

/// The location of a folder, in a local store rooted at its parent.
pub fn location(table: &Path) -> TableLocation {
    let parent = table.parent().expect("a table has a parent folder");
    let store = LocalFileSystem::new_with_prefix(parent).expect("the parent folder exists");
    location_in(Arc::new(store), table)
}

/// The location of a folder in `store`, which must be rooted at the folder's parent.
pub fn location_in(store: Arc<dyn ObjectStore>, table: &Path) -> TableLocation {
    let name = table.file_name().expect("a table has a name").to_str().expect("in UTF-8");
    TableLocation::new(store, object_store::path::Path::parse(name).expect("that is a path"), folder_url(table))
}

fn folder_url(folder: &Path) -> String {
    Url::from_file_path(folder).expect("the path is absolute").to_string()
}

/// Opens a table with deltalake.
pub async fn open(folder: &Path) -> Result<DeltaTable, deltalake::DeltaTableError> {
    deltalake::open_table(Url::from_directory_path(folder).expect("the path is absolute")).await
}

/// Creates a table `id long, name string` with one file of `rows` rows; ids count from 0.
pub async fn plain_table(folder: &Path, rows: i64) -> DeltaTable {
    create(folder, &[]).await;
    append(folder, 0, rows).await
}

/// Creates a table `id long, name string` that is partitioned by name into two partitions.
pub async fn partitioned_table(folder: &Path, rows: i64) -> DeltaTable {
    create(folder, &["name"]).await;
    append(folder, 0, rows).await
}

async fn create(folder: &Path, partition_columns: &[&str]) {
    fs::create_dir_all(folder).expect("the folder can be made");
    CreateBuilder::new()
        .with_location(folder_url(folder))
        .with_column("id", DeltaType::Primitive(PrimitiveType::Long), true, None)
        .with_column("name", DeltaType::Primitive(PrimitiveType::String), true, None)
        .with_partition_columns(partition_columns.iter().copied())
        .await
        .expect("the table can be created");
}

/// Appends `rows` rows in one commit to a table created here; ids count from `first_id`.
pub async fn append(folder: &Path, first_id: i64, rows: i64) -> DeltaTable {
    let mut table = open(folder).await.expect("the table is there");
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]);
    let ids = Int64Array::from_iter_values(first_id..first_id + rows);
    let names =
        StringArray::from_iter_values((first_id..first_id + rows).map(|id| if id % 2 == 0 { "even" } else { "odd" }));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(names)]).expect("columns fit");
    let mut writer = RecordBatchWriter::for_table(&table).expect("the table can be written");
    writer.write(batch).await.expect("the rows fit");
    writer.flush_and_commit(&mut table).await.expect("the commit is accepted");
    table
}

/// Writes a checkpoint of the newest version.
pub async fn checkpoint(folder: &Path) {
    let table = open(folder).await.expect("the table is there");
    create_checkpoint(&table, None).await.expect("the checkpoint can be written");
}

/// A handwritten log: commits of any actions, without data files.
#[derive(Debug)]
pub struct HandWrittenLog {
    folder: PathBuf,
    next: u64,
}

impl HandWrittenLog {
    /// Creates a log whose commit 0 holds `protocol` and `metadata`.
    pub fn create(folder: &Path, protocol: Value, metadata: Value) -> Self {
        fs::create_dir_all(folder.join("_delta_log")).expect("the folder can be made");
        let mut log = Self { folder: folder.to_owned(), next: 0 };
        log.commit(&[protocol, metadata]);
        log
    }

    /// Creates a log of a table `id long` that any reader supports.
    pub fn plain(folder: &Path) -> Self {
        Self::create(folder, protocol(1, 2), metadata("a-table", &[("id", "long")], &[]))
    }

    /// Writes the next commit and returns its version.
    pub fn commit(&mut self, actions: &[Value]) -> u64 {
        let text: String = actions.iter().map(|action| format!("{action}\n")).collect();
        self.commit_text(&text)
    }

    /// Writes the next commit with any text.
    pub fn commit_text(&mut self, text: &str) -> u64 {
        let version = self.next;
        fs::write(self.commit_path(version), text).expect("the commit can be written");
        self.next += 1;
        version
    }

    /// Sets the time of a commit's file, in milliseconds since the epoch.
    pub fn date(&self, version: u64, at_ms: u64) {
        let file = fs::File::options().append(true).open(self.commit_path(version)).expect("the commit is there");
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(at_ms);
        file.set_modified(at).expect("its time can be set");
    }

    /// The path of the commit of `version`.
    pub fn commit_path(&self, version: u64) -> PathBuf {
        self.log_folder().join(format!("{version:020}.json"))
    }

    /// The folder of the log.
    pub fn log_folder(&self) -> PathBuf {
        self.folder.join("_delta_log")
    }
}

/// A `protocol` action without features.
pub fn protocol(reader: i32, writer: i32) -> Value {
    json!({"protocol": {"minReaderVersion": reader, "minWriterVersion": writer}})
}

/// A `protocol` action of reader version 3.
pub fn protocol_with(features: &[&str]) -> Value {
    json!({"protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features,
    }})
}

/// A `metaData` action with nullable columns of primitive types.
pub fn metadata(id: &str, columns: &[(&str, &str)], partition_columns: &[&str]) -> Value {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, data_type)| json!({"name": name, "type": data_type, "nullable": true, "metadata": {}}))
        .collect();
    json!({"metaData": {
        "id": id,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json!({"type": "struct", "fields": fields}).to_string(),
        "partitionColumns": partition_columns,
        "configuration": {},
        "createdTime": 1_700_000_000_000_i64,
    }})
}

/// An `add` action without partition values.
pub fn add(path: &str, size: u64) -> Value {
    json!({"add": {
        "path": path, "partitionValues": {}, "size": size, "modificationTime": 1_700_000_000_000_i64,
        "dataChange": true, "stats": "{\"numRecords\":1}",
    }})
}

/// A `remove` action for a file without a deletion vector.
pub fn remove(path: &str) -> Value {
    json!({"remove": {"path": path, "deletionTimestamp": 1_700_000_000_000_i64, "dataChange": true}})
}
