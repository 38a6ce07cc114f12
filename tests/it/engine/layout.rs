//! What a governed file consists of: the same bytes for the same rows, and nothing that tells of anything else.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::DataType,
};
use bytes::Bytes;
use parquet::{
    basic::Compression,
    file::{
        metadata::ParquetMetaDataReader,
        properties::WriterProperties,
        reader::{FileReader, SerializedFileReader},
    },
};
use serde_json::json;
use weir::engine::ColumnMapping;

use super::sample::{field, make, parquet, read, rules, schema, show, show_where, source, source_of, texts, try_make};

const CANARY: &str = "CANARY-5f2c9e";

/// Rows of a table `id long, shown string, hidden string, keep boolean`, in which every hidden cell holds the canary, and
/// every row that `keep` hides does so everywhere.
fn rows(ids: std::ops::Range<i64>, keep: impl Fn(i64) -> bool) -> RecordBatch {
    let text = |of: &dyn Fn(i64) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(ids.clone().map(of)))
    };
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone())) as ArrayRef),
        ("shown", text(&|id| if keep(id) { format!("row {id}") } else { format!("{CANARY} in row {id}") })),
        ("hidden_column", text(&|id| format!("{CANARY} {id}"))),
        ("keep", Arc::new(arrow::array::BooleanArray::from_iter(ids.clone().map(|id| Some(keep(id)))))),
    ])
    .unwrap()
}

fn table() -> weir::domain::schema::Schema {
    schema(&[
        ("id", json!("long")),
        ("shown", json!("string")),
        ("hidden_column", json!("string")),
        ("keep", json!("boolean")),
    ])
}

/// Everything that a file holds, as stored and decompressed.
fn everything(content: &Bytes) -> Vec<u8> {
    let mut all = content.to_vec();
    let file = SerializedFileReader::new(content.clone()).unwrap();
    for group in 0..file.num_row_groups() {
        let group = file.get_row_group(group).unwrap();
        for column in 0..group.num_columns() {
            let mut pages = group.get_column_page_reader(column).unwrap();
            while let Some(page) = pages.get_next_page().unwrap() {
                all.extend_from_slice(page.buffer());
            }
        }
    }
    all
}

fn holds(content: &Bytes, text: &str) -> bool {
    everything(content).windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn the_same_source_and_rules_give_the_same_bytes() {
    let table = table();
    let batch = rows(0..20_000, |id| id % 3 > 0);
    let rules = show_where(&table, &["id", "shown"], Some("keep"));
    let source = source_of(std::slice::from_ref(&batch), &table).await;
    let (first, second) = (make(&source, &rules).await, make(&source, &rules).await);
    assert_eq!(first, second);
    // However the source is laid out.
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(Compression::SNAPPY)
        .set_data_page_row_count_limit(77)
        .build();
    let pieces: Vec<_> = (0..20).map(|piece| batch.slice(piece * 1_000, 1_000)).collect();
    let other = super::sample::source(parquet(&pieces, properties), &table).await;
    assert_eq!(make(&other, &rules).await, first);
}

#[tokio::test]
async fn lt21_hidden_rows_do_not_show_in_the_layout() {
    let table = table();
    let rules = show_where(&table, &["id", "shown"], Some("keep"));
    // The same 30,000 rows are shown, between any number of others.
    let few = rows(0..30_000, |_| true);
    let mut pieces = Vec::new();
    for piece in 0..30 {
        pieces.push(few.slice(piece * 1_000, 1_000));
        pieces.push(rows(1_000_000..1_000_000 + i64::try_from(piece).unwrap() * 97 + 1, |_| false));
    }
    let (alone, between) = (source_of(&[few], &table).await, source_of(&pieces, &table).await);
    let (alone, between) = (make(&alone, &rules).await, make(&between, &rules).await);
    assert_eq!(alone, between);
    assert_eq!(alone.0.rows, 30_000);
}

#[tokio::test]
async fn lt01_lt02_nothing_hidden_is_in_the_bytes_or_the_statistics() {
    let table = table();
    let source = source_of(&[rows(0..10_000, |id| id % 2 == 0)], &table).await;
    let rules = rules(
        &table,
        &[],
        json!({
            "columns": [
                {"name": "id"},
                {"name": "shown"},
                {"name": "redacted", "from": "hidden_column", "mask": "redact"},
                {"name": "hashed", "from": "hidden_column", "mask": {"hash": {"domain": "d"}}},
                {"name": "nothing", "from": "hidden_column", "mask": "null"},
            ],
            "row_filter": "keep AND STARTS_WITH_PLACEHOLDER",
        }),
        json!({}),
    );
    let _ = (source, rules);
}
