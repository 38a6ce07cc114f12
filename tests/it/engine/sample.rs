//! Source files in memory, rules for them, and their results in a comparable form.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::{DataType, Schema as ArrowSchema},
    util::display::{ArrayFormatter, FormatOptions},
};
use bytes::Bytes;
use chrono::NaiveDate;
use object_store::{ObjectStoreExt, memory::InMemory, path::Path};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    file::properties::WriterProperties,
};
use serde_json::{Value, json};
use uuid::Uuid;
use weir::{
    domain::{
        catalog::{
            delta::Metadata,
            schema::Schema,
            view::{
                ViewDefinition,
                mask::{LowZips, PseudonymKeys},
                plan::ViewPlan,
            },
        },
        core::seal::RootKey,
    },
    engine::{Engine, EngineError, EngineSettings, Made, Rules, SourceFile},
    lake::FileRef,
    storage::TableLocation,
};
use zeroize::Zeroizing;

/// The date that rules are made for.
pub const TODAY: NaiveDate = NaiveDate::from_ymd_opt(2025, 6, 1).unwrap();

/// An engine with the default limits.
pub fn engine() -> Engine {
    Engine::new(EngineSettings::default())
}

/// A table's schema with nullable columns, given by name and JSON type.
pub fn schema(columns: &[(&str, Value)]) -> Schema {
    let fields: Vec<_> = columns.iter().map(|(name, data_type)| field(name, data_type.clone())).collect();
    Schema::from_json(&json!({"type": "struct", "fields": fields})).unwrap()
}

/// A nullable column of a schema.
pub fn field(name: &str, data_type: Value) -> Value {
    json!({"name": name, "type": data_type, "nullable": true, "metadata": {}})
}

/// The rules of a view over `schema` for a recipient with these properties.
pub fn rules(schema: &Schema, partition_columns: &[&str], definition: Value, properties: Value) -> Arc<Rules> {
    let partition_columns: Vec<_> = partition_columns.iter().map(|name| (*name).to_owned()).collect();
    let definition: ViewDefinition = serde_json::from_value(definition).unwrap();
    let plan = ViewPlan::new(&definition, schema, &partition_columns).unwrap();
    let properties: BTreeMap<String, Value> = serde_json::from_value(properties).unwrap();
    let condition = plan.filter.as_ref().map(|filter| filter.bind(&properties, TODAY));
    let keys = PseudonymKeys::new(&RootKey::new(Zeroizing::new([7; 32])), 1, Uuid::nil(), Uuid::max());
    Arc::new(Rules {
        plan: Arc::new(plan),
        condition,
        keys,
        today: TODAY,
        zips: LowZips::default(),
        surrogates: Default::default(),
    })
}

/// Rules that show these columns unmasked, and all rows.
pub fn show(schema: &Schema, columns: &[&str]) -> Arc<Rules> {
    show_where(schema, columns, None)
}

/// Rules that show these columns unmasked, and the rows that a filter shows.
pub fn show_where(schema: &Schema, columns: &[&str], filter: Option<&str>) -> Arc<Rules> {
    let columns: Vec<_> = columns.iter().map(|name| json!({"name": name})).collect();
    rules(schema, &[], json!({"columns": columns, "row_filter": filter}), json!({}))
}

/// A Parquet file of these rows.
pub fn parquet(batches: &[RecordBatch], properties: WriterProperties) -> Bytes {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batches[0].schema(), Some(properties)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    bytes.into()
}

/// A file with this content, in its own store, of a table with this schema.
pub async fn source(content: Bytes, schema: &Schema) -> SourceFile {
    let store = Arc::new(InMemory::new());
    let path = Path::from("t/part-0.parquet");
    let size = content.len() as u64;
    store.put(&path, content.into()).await.unwrap();
    let location = TableLocation::new(store, Path::from("t"), "memory://t");
    let file = FileRef::new("part-0.parquet", size, 0, None, &[]);
    SourceFile::new(&location, &Metadata::default(), &Arc::new(schema.clone()), &file).unwrap()
}

/// A file of these rows, with a row group per batch.
pub async fn source_of(batches: &[RecordBatch], schema: &Schema) -> SourceFile {
    source(parquet(batches, WriterProperties::new()), schema).await
}

/// Makes the governed file of `source` and returns its bytes, if it has any.
pub async fn try_make(source: &SourceFile, rules: &Arc<Rules>) -> Result<(Made, Option<Bytes>), EngineError> {
    let store = Arc::new(InMemory::new());
    let path = Path::from("m/copy");
    let made = engine().make(source.clone(), rules.clone(), store.clone(), path.clone()).await?;
    let content = match store.get(&path).await {
        Ok(found) => Some(found.bytes().await.unwrap()),
        Err(object_store::Error::NotFound { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(made.bytes, content.as_ref().map_or(0, |content| content.len() as u64));
    assert_eq!(content.is_some(), made.rows > 0);
    Ok((made, content))
}

/// Makes the governed file of `source`, which must show at least one row.
pub async fn make(source: &SourceFile, rules: &Arc<Rules>) -> (Made, Bytes) {
    let (made, content) = try_make(source, rules).await.unwrap();
    (made, content.expect("some row is shown"))
}

/// The rows of a Parquet file, as an ordinary reader sees them.
pub fn read(content: &Bytes) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(content.clone()).unwrap();
    let schema: Arc<ArrowSchema> = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// Rows as texts, cell by cell; `None` for NULL.
pub fn cells(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    let options = FormatOptions::new().with_null("∅");
    let columns: Vec<_> =
        batch.columns().iter().map(|column| (column, ArrayFormatter::try_new(column, &options).unwrap())).collect();
    let cell = |row, (column, format): &(&ArrayRef, ArrayFormatter<'_>)| {
        column.is_valid(row).then(|| format.value(row).to_string())
    };
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect()
}

/// The cells of a column of texts.
pub fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Vec<Option<&'a str>> {
    let column = batch.column_by_name(name).unwrap();
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().collect(),
        other => panic!("`{name}` is of type {other}"),
    }
}
