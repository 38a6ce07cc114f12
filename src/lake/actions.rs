//! Decodes the actions of a log into columns, with one schema and the same tolerance for snapshots, older versions and
//! commits.
//!
//! Texts may be written as numbers and numbers as texts, as in the kernel's JSON reader. Metadata may omit fields that
//! have defaults, and schemas may use the type names of JVM readers. Never here: the meaning of an action.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{Array, ArrayRef, AsArray, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray},
    datatypes::{DataType as ArrowType, SchemaRef as ArrowSchemaRef},
    error::ArrowError,
    json::ReaderBuilder,
};
use delta_kernel::{
    DeltaResult, EngineData, FileDataReadResultIterator, FileMeta, JsonHandler, PredicateRef,
    actions::get_commit_schema,
    engine::{arrow_conversion::TryIntoArrow, arrow_data::ArrowEngineData},
    engine_data::FilteredEngineData,
    schema::{DataType, MapType, SchemaRef, StructField, StructType},
};
use url::Url;

use crate::domain::catalog::schema::as_readers_read;

use super::log_store::LogStore;

const METADATA: &str = "metaData";
const CHANGES: &str = "cdc";
/// The default file format, if the metadata names none.
const PARQUET: &str = "parquet";

/// The number of rows of a commit that are decoded at once.
const BATCH_ROWS: usize = 8 * 1024;

/// The schema of the actions that are read from a commit. It leaves out `commitInfo`, so no content of it can make a
/// commit malformed.
static COMMIT: LazyLock<Option<ArrowSchemaRef>> = LazyLock::new(|| {
    let read = ["add", "remove", CHANGES, METADATA, "protocol"];
    let fields = read.iter().filter_map(|name| get_commit_schema().field(*name)).cloned();
    let schema = Arc::new(StructType::try_new(fields).ok()?);
    let schema: arrow::datatypes::Schema = tolerant(&schema).as_ref().try_into_arrow().ok()?;
    Some(Arc::new(schema))
});

/// Decodes the actions in the text of a commit.
pub(super) fn decode(text: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
    let schema = COMMIT.clone().ok_or_else(|| ArrowError::SchemaError("the kernel has no actions".to_owned()))?;
    let reader = ReaderBuilder::new(schema).with_batch_size(BATCH_ROWS).with_coerce_primitive(true).build(text)?;
    // Collecting stops at the first error, which the reader would repeat forever.
    reader.map(|batch| batch.and_then(completed)).collect()
}

/// Makes the fields of metadata that have defaults optional in `schema`, and `dataChange` of change files. All other
/// fields that the kernel requires stay required.
fn tolerant(schema: &SchemaRef) -> SchemaRef {
    if schema.field(METADATA).is_none() && schema.field(CHANGES).is_none() {
        return Arc::clone(schema);
    }
    let fields = schema.fields().map(|field| match field.name().as_str() {
        METADATA => without_need(field, &["format", "partitionColumns", "configuration"]),
        CHANGES => without_need(field, &["dataChange"]),
        _ => field.clone(),
    });
    StructType::try_new(fields).map_or_else(|_| Arc::clone(schema), Arc::new)
}

/// Makes the fields in `names`, and all fields below them, optional.
fn without_need(field: &StructField, names: &[&str]) -> StructField {
    let DataType::Struct(inner) = &field.data_type else { return field.clone() };
    let fields = inner
        .fields()
        .map(|part| if names.contains(&part.name().as_str()) { missing_or_null(part) } else { part.clone() });
    match StructType::try_new(fields) {
        Ok(inner) => StructField { data_type: inner.into(), ..field.clone() },
        Err(_) => field.clone(),
    }
}

fn missing_or_null(field: &StructField) -> StructField {
    let data_type = match &field.data_type {
        DataType::Struct(inner) => StructType::try_new(inner.fields().map(missing_or_null)).map(DataType::from).ok(),
        DataType::Map(map) => Some(MapType::new(map.key_type().clone(), map.value_type().clone(), true).into()),
        _ => None,
    };
    let data_type = data_type.unwrap_or_else(|| field.data_type.clone());
    StructField { data_type, nullable: true, ..field.clone() }
}

/// Fills in the defaults that the metadata omits, and reads schemas as JVM readers do.
fn completed(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let Some((at, _)) = schema.column_with_name(METADATA) else { return Ok(batch) };
    let Some(metadata) = batch.column(at).as_struct_opt() else { return Ok(batch) };
    if metadata.null_count() == metadata.len() {
        return Ok(batch);
    }
    let mut parts = metadata.columns().to_vec();
    for (part, field) in parts.iter_mut().zip(metadata.fields()) {
        let completed = match field.name().as_str() {
            "format" => with_provider(part)?,
            "partitionColumns" => without_null_lists(part),
            "schemaString" => as_read(part),
            _ => None,
        };
        if let Some(completed) = completed {
            *part = completed;
        }
    }
    let metadata = StructArray::try_new(metadata.fields().clone(), parts, metadata.nulls().cloned())?;
    let mut columns = batch.columns().to_vec();
    columns[at] = Arc::new(metadata);
    RecordBatch::try_new(schema, columns)
}

fn with_provider(format: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    let Some(format) = format.as_struct_opt() else { return Ok(None) };
    let mut parts = format.columns().to_vec();
    for (part, field) in parts.iter_mut().zip(format.fields()) {
        if field.name() == "provider"
            && let Some(providers) = part.as_string_opt::<i32>()
        {
            let named = |row: usize| (format.is_valid(row) && providers.is_valid(row)).then(|| providers.value(row));
            let named = (0..format.len()).map(|row| named(row).unwrap_or(PARQUET));
            *part = Arc::new(StringArray::from_iter_values(named));
        }
    }
    Ok(Some(Arc::new(StructArray::try_new(format.fields().clone(), parts, None)?)))
}

fn without_null_lists(lists: &ArrayRef) -> Option<ArrayRef> {
    let lists = lists.as_list_opt::<i32>().filter(|lists| lists.null_count() > 0)?;
    let ArrowType::List(element) = lists.data_type() else { return None };
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(element.clone());
    for list in lists.iter() {
        let names = list.as_ref().map(|names| names.as_string_opt::<i32>());
        match names {
            Some(names) => builder.append_value(names?.iter()),
            None => builder.append(true),
        }
    }
    Some(Arc::new(builder.finish()))
}

fn as_read(schemas: &ArrayRef) -> Option<ArrayRef> {
    let schemas = schemas.as_string_opt::<i32>()?;
    let read: Vec<_> = schemas.iter().map(|schema| schema.and_then(as_readers_read)).collect();
    if read.iter().all(Option::is_none) {
        return None;
    }
    let texts = schemas.iter().zip(&read).map(|(written, read)| read.as_deref().or(written));
    Some(Arc::new(texts.collect::<StringArray>()))
}

/// Fills in the defaults of data read with a [`tolerant`] schema, and records the schema found in it.
fn with_defaults(data: Box<dyn EngineData>, store: &LogStore) -> DeltaResult<Box<dyn EngineData>> {
    let batch = completed((*ArrowEngineData::try_from_engine_data(data)?).into())?;
    if let Some(metadata) = batch.column_by_name(METADATA).and_then(|column| column.as_struct_opt())
        && let Some(texts) = metadata.column_by_name("schemaString").and_then(|column| column.as_string_opt::<i32>())
        && let Some(text) = texts.iter().flatten().next()
    {
        store.note_schema(text);
    }
    Ok(Box::new(ArrowEngineData::new(batch)))
}

/// Reads `files` with a [`tolerant`] schema, and fills in the defaults. Records a checkpoint that cannot be read.
pub(super) fn read_files(
    store: &Arc<LogStore>,
    files: &[FileMeta],
    physical_schema: &SchemaRef,
    read: impl FnOnce(SchemaRef) -> DeltaResult<FileDataReadResultIterator>,
) -> DeltaResult<FileDataReadResultIterator> {
    let paths: Vec<String> = files.iter().map(|file| file.location.path().to_owned()).collect();
    let note = |store: &LogStore, paths: &[String]| paths.iter().for_each(|path| store.note_bad_checkpoint(path));
    let found = read(tolerant(physical_schema)).inspect_err(|_| note(store, &paths))?;
    let store = Arc::clone(store);
    let completed = move |data: DeltaResult<Box<dyn EngineData>>| {
        data.and_then(|data| with_defaults(data, &store)).inspect_err(|_| note(&store, &paths))
    };
    Ok(Box::new(found.map(completed)))
}

/// Reads commits and the JSON of checkpoints.
pub(super) struct LogJson {
    pub(super) inner: Arc<dyn JsonHandler>,
    pub(super) store: Arc<LogStore>,
}

impl JsonHandler for LogJson {
    fn parse_json(
        &self,
        json_strings: Box<dyn EngineData>,
        output_schema: SchemaRef,
    ) -> DeltaResult<Box<dyn EngineData>> {
        self.inner.parse_json(json_strings, output_schema)
    }

    fn read_json_files(
        &self,
        files: &[FileMeta],
        physical_schema: SchemaRef,
        predicate: Option<PredicateRef>,
    ) -> DeltaResult<FileDataReadResultIterator> {
        let read = |schema| self.inner.read_json_files(files, schema, predicate);
        read_files(&self.store, files, &physical_schema, read)
    }

    fn write_json_file(
        &self,
        _path: &Url,
        _data: delta_kernel::DeltaResultIterator<'_, FilteredEngineData>,
        _overwrite: bool,
    ) -> DeltaResult<delta_kernel::FileSize> {
        Err(delta_kernel::Error::Unsupported("the log is read-only".into()))
    }
}
