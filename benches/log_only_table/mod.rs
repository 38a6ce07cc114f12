//! A Delta table of any number of files that is only a log: what a large table costs a server that never opens a file.

use std::{error::Error, fs, ops::Range, path::Path, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, Int32Array, Int64Array, ListBuilder, MapBuilder, RecordBatch, StringArray,
        StringBuilder, StructArray, new_null_array,
    },
    datatypes::{DataType, Field, Fields, Schema},
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde_json::json;

type Failure = Box<dyn Error + Send + Sync>;

/// The version of the checkpoint: the log looks as if it had been cleaned up to there.
const CHECKPOINT_VERSION: u64 = 10;
const ROWS_PER_BATCH: usize = 50_000;
const SCHEMA: &str = r#"{"type":"struct","fields":[
{"name":"claim_id","type":"string","nullable":true,"metadata":{}},
{"name":"member_id","type":"long","nullable":true,"metadata":{}},
{"name":"service_date","type":"date","nullable":true,"metadata":{}},
{"name":"paid_amount","type":"double","nullable":true,"metadata":{}},
{"name":"day","type":"string","nullable":true,"metadata":{}}]}"#;

/// Writes the log of a table of `files` files below `folder`: a checkpoint with all but one, and one commit after it.
pub fn write(folder: &Path, files: usize) -> Result<(), Failure> {
    let log = folder.join("_delta_log");
    fs::create_dir_all(&log)?;
    let in_checkpoint = files.saturating_sub(1);
    let head = head()?;
    let schema = Arc::new(Schema::new(vec![
        Field::new("protocol", head.0.data_type().clone(), true),
        Field::new("metaData", head.1.data_type().clone(), true),
        Field::new("add", adds(0..0)?.data_type().clone(), true),
    ]));
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)).build();
    let file = fs::File::create(log.join(format!("{CHECKPOINT_VERSION:020}.checkpoint.parquet")))?;
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))?;
    let nulls = |column: usize, rows: usize| new_null_array(schema.field(column).data_type(), rows);
    let (protocol, metadata): (ArrayRef, ArrayRef) = (Arc::new(head.0), Arc::new(head.1));
    writer.write(&RecordBatch::try_new(schema.clone(), vec![protocol, nulls(1, 1), nulls(2, 1)])?)?;
    writer.write(&RecordBatch::try_new(schema.clone(), vec![nulls(0, 1), metadata, nulls(2, 1)])?)?;
    for start in (0..in_checkpoint).step_by(ROWS_PER_BATCH) {
        let adds = adds(start..in_checkpoint.min(start + ROWS_PER_BATCH))?;
        let (rows, adds): (usize, ArrayRef) = (adds.len(), Arc::new(adds));
        writer.write(&RecordBatch::try_new(schema.clone(), vec![nulls(0, rows), nulls(1, rows), adds])?)?;
    }
    writer.close()?;
    let hint = json!({"version": CHECKPOINT_VERSION, "size": in_checkpoint + 2});
    fs::write(log.join("_last_checkpoint"), hint.to_string())?;
    commit(folder, CHECKPOINT_VERSION + 1, in_checkpoint)
}

/// Writes commit `version`, which adds the file with that number.
pub fn commit(folder: &Path, version: u64, number: usize) -> Result<(), Failure> {
    let add = json!({"add": {
        "path": path(number), "partitionValues": {"day": day(number)}, "size": size(number),
        "modificationTime": modification_time(number), "dataChange": true, "stats": stats(number),
    }});
    fs::write(folder.join(format!("_delta_log/{version:020}.json")), format!("{add}\n"))?;
    Ok(())
}

fn path(number: usize) -> String {
    // Spark names a file by its task and a random UUID.
    let random = (number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let id = uuid::Uuid::from_u128(random);
    format!("day={}/part-{:05}-{id}.c000.snappy.parquet", day(number), number % 200)
}

fn day(number: usize) -> String {
    format!("2025-{:02}-{:02}", number % 12 + 1, number % 28 + 1)
}

fn size(number: usize) -> i64 {
    10_000_000 + (number as i64 * 7_919) % 90_000_000
}

fn modification_time(number: usize) -> i64 {
    1_735_689_600_000 + number as i64
}

fn stats(number: usize) -> String {
    let (low, high) = (number * 1_000, number * 1_000 + 999);
    format!(
        "{{\"numRecords\":1000,\
         \"minValues\":{{\"claim_id\":\"C{low:011}\",\"member_id\":{low},\"service_date\":\"{}\",\"paid_amount\":0.01}},\
         \"maxValues\":{{\"claim_id\":\"C{high:011}\",\"member_id\":{high},\"service_date\":\"{}\",\
         \"paid_amount\":{}.99}},\
         \"nullCount\":{{\"claim_id\":0,\"member_id\":0,\"service_date\":0,\"paid_amount\":{}}}}}",
        day(number),
        day(number),
        high % 100_000,
        number % 100,
    )
}

fn empty_maps(rows: usize) -> Result<ArrayRef, Failure> {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for _ in 0..rows {
        maps.append(true)?;
    }
    Ok(Arc::new(maps.finish()))
}

fn structs(columns: Vec<(&str, ArrayRef)>) -> Result<StructArray, Failure> {
    let fields: Fields =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    Ok(StructArray::try_new(fields, columns.into_iter().map(|(_, column)| column).collect(), None)?)
}

/// Protocol and metadata, one of each.
fn head() -> Result<(StructArray, StructArray), Failure> {
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let protocol = structs(vec![
        ("minReaderVersion", Arc::new(Int32Array::from(vec![1]))),
        ("minWriterVersion", Arc::new(Int32Array::from(vec![2]))),
    ])?;
    let mut columns = ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, true));
    columns.values().append_value("day");
    columns.append(true);
    let metadata = structs(vec![
        ("id", text("6f2f6a3e-8a0c-4f0e-9d3e-2d9b7f3f6a10")),
        ("format", Arc::new(structs(vec![("provider", text("parquet")), ("options", empty_maps(1)?)])?)),
        ("schemaString", text(&SCHEMA.replace('\n', ""))),
        ("partitionColumns", Arc::new(columns.finish())),
        ("configuration", empty_maps(1)?),
        ("createdTime", Arc::new(Int64Array::from(vec![1_735_689_600_000]))),
    ])?;
    Ok((protocol, metadata))
}

fn adds(numbers: Range<usize>) -> Result<StructArray, Failure> {
    let mut partition_values = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for number in numbers.clone() {
        partition_values.keys().append_value("day");
        partition_values.values().append_value(day(number));
        partition_values.append(true)?;
    }
    structs(vec![
        ("path", Arc::new(StringArray::from_iter_values(numbers.clone().map(path)))),
        ("partitionValues", Arc::new(partition_values.finish())),
        ("size", Arc::new(Int64Array::from_iter_values(numbers.clone().map(size)))),
        ("modificationTime", Arc::new(Int64Array::from_iter_values(numbers.clone().map(modification_time)))),
        ("dataChange", Arc::new(BooleanArray::from(vec![true; numbers.len()]))),
        ("stats", Arc::new(StringArray::from_iter_values(numbers.map(stats)))),
    ])
}
