//! Writes a Delta table of any number of files that consists only of a log, to measure the cost of a large table to a
//! server that never opens a file.
//!
//! Checkpoints are written with Spark's defaults: Snappy, and row groups of 100,000 rows.

// Each benchmark uses only a part of this module.
#![allow(dead_code)]

use std::{
    error::Error,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, Int32Array, Int64Array, ListBuilder, MapBuilder, RecordBatch, StringArray,
        StringBuilder, StructArray, new_null_array,
    },
    datatypes::{DataType, Field, Fields, Schema},
};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use serde_json::{Value, json};

type Failure = Box<dyn Error + Send + Sync>;

/// The version of the checkpoint; earlier commits are missing, as if the log had been cleaned up.
const CHECKPOINT_VERSION: u64 = 10;
const ROWS_PER_BATCH: usize = 50_000;
const ROWS_PER_ROW_GROUP: usize = 100_000;

/// The first columns of every table. All have statistics except the last, which partitions the table.
const COLUMNS: [(&str, &str); 5] = [
    ("claim_id", "string"),
    ("member_id", "long"),
    ("service_date", "date"),
    ("paid_amount", "double"),
    ("day", "string"),
];
/// The number of columns of a wide table. The next constant is the number of columns with statistics, the default of
/// writers.
const WIDE_COLUMNS: usize = 50;
const COLUMNS_WITH_STATISTICS: usize = 32;

/// Writes a narrow table of `files` files; see [`Table::write`].
pub fn write(folder: &Path, files: usize) -> Result<(), Failure> {
    Table { folder: folder.to_owned(), is_wide: false }.write(files)
}

/// Writes commit `version` of a narrow table, which adds the file with number `number`.
pub fn commit(folder: &Path, version: u64, number: usize) -> Result<(), Failure> {
    Table { folder: folder.to_owned(), is_wide: false }.commit(version, number..number + 1)
}

/// A table to write.
pub struct Table {
    /// The table's root.
    pub folder: PathBuf,
    /// Whether it has fifty columns instead of five.
    pub is_wide: bool,
}

impl Table {
    /// Writes a log of `files` files: a checkpoint with all but one, and then one commit.
    pub fn write(&self, files: usize) -> Result<(), Failure> {
        let log = self.make_log()?;
        let in_checkpoint = files.saturating_sub(1);
        let head = self.head()?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("protocol", head.0.data_type().clone(), true),
            Field::new("metaData", head.1.data_type().clone(), true),
            Field::new("add", self.adds(0..0)?.data_type().clone(), true),
        ]));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROWS_PER_ROW_GROUP))
            .build();
        let file = fs::File::create(log.join(format!("{CHECKPOINT_VERSION:020}.checkpoint.parquet")))?;
        let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))?;
        let nulls = |column: usize, rows: usize| new_null_array(schema.field(column).data_type(), rows);
        let (protocol, metadata): (ArrayRef, ArrayRef) = (Arc::new(head.0), Arc::new(head.1));
        writer.write(&RecordBatch::try_new(schema.clone(), vec![protocol, nulls(1, 1), nulls(2, 1)])?)?;
        writer.write(&RecordBatch::try_new(schema.clone(), vec![nulls(0, 1), metadata, nulls(2, 1)])?)?;
        for start in (0..in_checkpoint).step_by(ROWS_PER_BATCH) {
            let adds = self.adds(start..in_checkpoint.min(start + ROWS_PER_BATCH))?;
            let (rows, adds): (usize, ArrayRef) = (adds.len(), Arc::new(adds));
            writer.write(&RecordBatch::try_new(schema.clone(), vec![nulls(0, rows), nulls(1, rows), adds])?)?;
        }
        writer.close()?;
        let hint = json!({"version": CHECKPOINT_VERSION, "size": in_checkpoint + 2});
        fs::write(log.join("_last_checkpoint"), hint.to_string())?;
        self.commit(CHECKPOINT_VERSION + 1, in_checkpoint..files)
    }

    /// Writes a log of `files` files without checkpoints: one commit that creates the table, and `commits` that add
    /// files.
    pub fn write_commits(&self, files: usize, commits: usize) -> Result<(), Failure> {
        let log = self.make_log()?;
        let names = self.columns().into_iter().map(|(name, data_type)| (name, data_type.to_owned()));
        let metadata = json!({"metaData": {
            "id": TABLE_ID, "format": {"provider": "parquet", "options": {}}, "schemaString": schema_text(names),
            "partitionColumns": ["day"], "configuration": {}, "createdTime": CREATED,
        }});
        let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
        fs::write(log.join(format!("{:020}.json", 0)), format!("{protocol}\n{metadata}\n"))?;
        let commits = commits.max(1);
        (0..commits).try_for_each(|number| {
            self.commit(number as u64 + 1, files * number / commits..files * (number + 1) / commits)
        })
    }

    /// Writes the commit after the newest one, which adds the file with number `number`. Returns its version.
    pub fn commit_next(&self, number: usize) -> Result<u64, Failure> {
        let mut newest = None;
        for entry in fs::read_dir(self.folder.join("_delta_log"))? {
            let name = entry?.file_name();
            let version = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
            newest = newest.max(version);
        }
        let version = newest.ok_or("the table has no commit")? + 1;
        self.commit(version, number..number + 1)?;
        Ok(version)
    }

    /// Writes commit `version`, which adds the files with these numbers. It appears to readers of the log all at once.
    pub fn commit(&self, version: u64, numbers: Range<usize>) -> Result<(), Failure> {
        let mut lines = String::new();
        for number in numbers {
            let add = json!({"add": {
                "path": path(number), "partitionValues": {"day": day(number)}, "size": size(number),
                "modificationTime": modification_time(number), "dataChange": true, "stats": self.stats(number),
            }});
            lines.push_str(&add.to_string());
            lines.push('\n');
        }
        let log = self.folder.join("_delta_log");
        let unfinished = log.join("_unfinished");
        fs::write(&unfinished, lines)?;
        fs::rename(unfinished, log.join(format!("{version:020}.json")))?;
        Ok(())
    }

    fn make_log(&self) -> Result<PathBuf, Failure> {
        let log = self.folder.join("_delta_log");
        fs::create_dir_all(&log)?;
        Ok(log)
    }

    /// Returns the names and types of all columns.
    fn columns(&self) -> Vec<(String, &'static str)> {
        let first = COLUMNS.iter().map(|(name, data_type)| ((*name).to_owned(), *data_type));
        let more = (COLUMNS.len()..WIDE_COLUMNS).map(|number| (format!("measure_{number:02}"), measure_type(number)));
        first.chain(more.filter(|_| self.is_wide)).collect()
    }

    fn stats(&self, number: usize) -> String {
        let (low, high) = (number * 1_000, number * 1_000 + 999);
        let [mut least, mut most, mut nulls] = [String::new(), String::new(), String::new()];
        if self.is_wide {
            for column in COLUMNS.len()..=COLUMNS_WITH_STATISTICS {
                let (from, to) = measures(column, low, high);
                least.push_str(&format!(",\"measure_{column:02}\":{from}"));
                most.push_str(&format!(",\"measure_{column:02}\":{to}"));
                nulls.push_str(&format!(",\"measure_{column:02}\":{}", number % column));
            }
        }
        let day = day(number);
        format!(
            "{{\"numRecords\":1000,\
             \"minValues\":{{\"claim_id\":\"C{low:011}\",\"member_id\":{low},\"service_date\":\"{day}\",\
             \"paid_amount\":0.01{least}}},\
             \"maxValues\":{{\"claim_id\":\"C{high:011}\",\"member_id\":{high},\"service_date\":\"{day}\",\
             \"paid_amount\":{}.99{most}}},\
             \"nullCount\":{{\"claim_id\":0,\"member_id\":0,\"service_date\":0,\"paid_amount\":{}{nulls}}}}}",
            high % 100_000,
            number % 100,
        )
    }

    /// Returns the protocol and the metadata, each of length one.
    fn head(&self) -> Result<(StructArray, StructArray), Failure> {
        let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
        let protocol = structs(vec![
            ("minReaderVersion", Arc::new(Int32Array::from(vec![1]))),
            ("minWriterVersion", Arc::new(Int32Array::from(vec![2]))),
        ])?;
        let mut columns =
            ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, true));
        columns.values().append_value("day");
        columns.append(true);
        let names = self.columns().into_iter().map(|(name, data_type)| (name, data_type.to_owned()));
        let metadata = structs(vec![
            ("id", text(TABLE_ID)),
            ("format", Arc::new(structs(vec![("provider", text("parquet")), ("options", empty_maps(1)?)])?)),
            ("schemaString", text(&schema_text(names))),
            ("partitionColumns", Arc::new(columns.finish())),
            ("configuration", empty_maps(1)?),
            ("createdTime", Arc::new(Int64Array::from(vec![CREATED]))),
        ])?;
        Ok((protocol, metadata))
    }

    fn adds(&self, numbers: Range<usize>) -> Result<StructArray, Failure> {
        let mut partition_values = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for number in numbers.clone() {
            partition_values.keys().append_value("day");
            partition_values.values().append_value(day(number));
            partition_values.append(true)?;
        }
        let stats = numbers.clone().map(|number| self.stats(number));
        structs(vec![
            ("path", Arc::new(StringArray::from_iter_values(numbers.clone().map(path)))),
            ("partitionValues", Arc::new(partition_values.finish())),
            ("size", Arc::new(Int64Array::from_iter_values(numbers.clone().map(size)))),
            ("modificationTime", Arc::new(Int64Array::from_iter_values(numbers.clone().map(modification_time)))),
            ("dataChange", Arc::new(BooleanArray::from(vec![true; numbers.len()]))),
            ("stats", Arc::new(StringArray::from_iter_values(stats))),
        ])
    }
}

const TABLE_ID: &str = "6f2f6a3e-8a0c-4f0e-9d3e-2d9b7f3f6a10";
/// 2025-01-01, in milliseconds since the epoch.
const CREATED: i64 = 1_735_689_600_000;

fn schema_text(columns: impl Iterator<Item = (String, String)>) -> String {
    let fields: Vec<Value> = columns
        .map(|(name, data_type)| json!({"name": name, "type": data_type, "nullable": true, "metadata": {}}))
        .collect();
    json!({"type": "struct", "fields": fields}).to_string()
}

/// Returns the type of an additional column of a wide table; the types alternate.
fn measure_type(column: usize) -> &'static str {
    ["long", "double", "string", "date"][column % 4]
}

/// Returns the bounds of such a column in a file, as JSON.
fn measures(column: usize, low: usize, high: usize) -> (String, String) {
    let of = |value: usize| match measure_type(column) {
        "long" => format!("{}", value * column),
        "double" => format!("{}.25", value % 1_000_000),
        "string" => format!("\"value {value:09}\""),
        _ => format!("\"20{:02}-{:02}-01\"", value % 25, value % 12 + 1),
    };
    (of(low), of(high))
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
    CREATED + number as i64
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
