//! The content of a governed file: equal bytes for equal rows, and nothing else.

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

/// Rows of a table `id long, shown string, hidden string, keep boolean`. Every hidden cell contains the canary, and so
/// does every cell of a hidden row.
fn rows(ids: std::ops::Range<i64>, keep: impl Fn(i64) -> bool) -> RecordBatch {
    let text =
        |of: &dyn Fn(i64) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(ids.clone().map(of))) };
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone())) as ArrayRef),
        ("shown", text(&|id| if keep(id) { format!("row {id}") } else { format!("{CANARY} in row {id}") })),
        ("hidden_column", text(&|id| format!("{CANARY} {id}"))),
        ("keep_this_row", Arc::new(arrow::array::BooleanArray::from_iter(ids.clone().map(|id| Some(keep(id)))))),
    ])
    .unwrap()
}

fn table() -> weir::domain::catalog::schema::Schema {
    schema(&[
        ("id", json!("long")),
        ("shown", json!("string")),
        ("hidden_column", json!("string")),
        ("keep_this_row", json!("boolean")),
    ])
}

/// All bytes of a file, stored and decompressed.
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

/// Whether a file contains a text, stored or decompressed.
pub(super) fn holds(content: &Bytes, text: &str) -> bool {
    everything(content).windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn the_same_source_and_rules_give_the_same_bytes() {
    let table = table();
    let batch = rows(0..20_000, |id| id % 3 > 0);
    let rules = show_where(&table, &["id", "shown"], Some("keep_this_row"));
    let source = source_of(std::slice::from_ref(&batch), &table).await;
    let (first, second) = (make(&source, &rules).await, make(&source, &rules).await);
    assert_eq!(first, second);
    // The layout of the source does not matter.
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
    let rules = show_where(&table, &["id", "shown"], Some("keep_this_row"));
    // The same 30,000 rows are shown, among any number of others.
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

/// Every mask for a column that is not shown unchanged.
fn masks() -> serde_json::Value {
    json!({
        "columns": [
            {"name": "id"},
            {"name": "shown"},
            {"name": "redacted", "from": "hidden_column", "mask": "redact"},
            {"name": "hashed", "from": "hidden_column", "mask": {"hash": {"domain": "d"}}},
            {"name": "nothing", "from": "hidden_column", "mask": "null"},
            {"name": "start", "from": "hidden_column", "mask": {"partial": {"first": 2, "last": 0}}},
            {"name": "always", "from": "id", "mask": {"constant": {"value": 7}}},
        ],
        "row_filter": "keep_this_row AND hidden_column LIKE 'CANARY%'",
    })
}

#[tokio::test]
async fn lt01_lt02_nothing_hidden_is_in_the_bytes_or_the_statistics() {
    let table = table();
    let source = source_of(&[rows(0..10_000, |id| id % 2 == 0)], &table).await;
    let content =
        source.location.store().get_opts(&source.path, Default::default()).await.unwrap().bytes().await.unwrap();
    assert!(holds(&content, CANARY) && holds(&content, "hidden_column") && holds(&content, "ARROW:schema"));
    let (made, content) = make(&source, &rules(&table, &[], masks(), json!({}))).await;
    assert_eq!(made.rows, 5_000);
    for secret in [CANARY, "CANARY", "hidden_column", "keep_this_row", "ARROW:schema"] {
        assert!(!holds(&content, secret), "{secret}");
        assert!(!made.stats.contains(secret), "{secret}: {}", made.stats);
    }
    // The same search finds what is shown.
    assert!(holds(&content, "row 9998") && holds(&content, "REDACTED"));
    let batch = read(&content);
    assert!(texts(&batch, "start").iter().all(|text| text.is_some_and(|text| text.starts_with("CA**"))));
    assert_eq!(texts(&batch, "nothing"), vec![None; 5_000]);
}

#[tokio::test]
async fn lt03_masked_columns_have_no_statistics_and_shown_ones_those_of_shown_rows() {
    let table = table();
    let source = source_of(&[rows(0..10_000, |id| id % 2 == 0)], &table).await;
    let (made, content) = make(&source, &rules(&table, &[], masks(), json!({}))).await;
    let stats: serde_json::Value = serde_json::from_str(&made.stats).unwrap();
    assert_eq!(
        stats,
        json!({
            "numRecords": 5_000,
            "minValues": {"id": 0, "shown": "row 0"},
            "maxValues": {"id": 9_998, "shown": "row 9998"},
            "nullCount": {"id": 0, "shown": 0},
        })
    );
    let footer = ParquetMetaDataReader::new().parse_and_finish(&content).unwrap();
    for group in footer.row_groups() {
        let spoken_of: Vec<_> = group
            .columns()
            .iter()
            .filter(|column| column.statistics().is_some())
            .map(|c| c.column_path().string())
            .collect();
        assert_eq!(spoken_of, ["id", "shown"]);
    }
}

#[tokio::test]
async fn footers_hold_nothing_but_what_readers_need() {
    let table = table();
    let source = source_of(&[rows(0..100, |_| true)], &table).await;
    let (_, content) = make(&source, &show(&table, &["shown", "id"])).await;
    let footer = ParquetMetaDataReader::new().parse_and_finish(&content).unwrap();
    let file = footer.file_metadata();
    assert_eq!(file.key_value_metadata(), None);
    assert_eq!(file.created_by(), Some("weir"));
    let names: Vec<_> = file.schema_descr().columns().iter().map(|column| column.path().string()).collect();
    assert_eq!(names, ["shown", "id"]);
    for column in footer.row_groups().iter().flat_map(|group| group.columns()) {
        assert_eq!(column.bloom_filter_offset(), None);
        assert!(matches!(column.compression(), Compression::ZSTD(_)));
        assert!(!column.column_descr().self_type().get_basic_info().has_id());
    }
}

#[tokio::test]
async fn nothing_is_written_where_no_row_is_shown() {
    let table = table();
    let source = source_of(&[rows(0..100, |_| true)], &table).await;
    for filter in ["NOT keep_this_row", "FALSE", "id IS NULL"] {
        let (made, content) = try_make(&source, &show_where(&table, &["id"], Some(filter))).await.unwrap();
        assert_eq!((made.rows, made.bytes, content), (0, 0, None), "{filter}");
        assert_eq!(made.stats, r#"{"numRecords":0,"minValues":{},"maxValues":{},"nullCount":{"id":0}}"#);
    }
}

#[tokio::test]
async fn row_groups_and_batches_end_by_the_rows_that_are_shown() {
    let table = schema(&[("text", json!("string"))]);
    // 40 MiB of wide texts that do not compress into one page, followed by short ones.
    let wide = (0..2_000u64).map(|row| {
        let mut state = row + 1;
        let letter = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (state >> 59) as u8 % 26)
        };
        (0..20_000).map(letter).collect::<String>()
    });
    let texts: Vec<String> = wide.chain((0..50_000).map(|row| format!("short {row}"))).collect();
    let batch = |texts: &[String]| {
        RecordBatch::try_from_iter([("text", Arc::new(StringArray::from_iter_values(texts)) as ArrayRef)]).unwrap()
    };
    let whole = source_of(&[batch(&texts)], &table).await;
    let pieces: Vec<_> = texts.chunks(331).map(batch).collect();
    let pieces = source_of(&pieces, &table).await;
    let rules = show(&table, &["text"]);
    let (one, other) = (make(&whole, &rules).await, make(&pieces, &rules).await);
    assert_eq!(one.0, other.0);
    assert!(one.1 == other.1);
    assert_eq!(
        super::sample::texts(&read(&one.1), "text"),
        texts.iter().map(|text| Some(text.as_str())).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn lt06_a_dropped_column_is_gone_and_its_name_can_be_used_anew() {
    let content = parquet(
        &[RecordBatch::try_from_iter([
            ("col-1", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("col-dropped", Arc::new(StringArray::from(vec![CANARY, CANARY])) as ArrayRef),
        ])
        .unwrap()],
        WriterProperties::new(),
    );
    let mapped = |name: &str, physical: &str, data_type: &str| {
        let mut field = field(name, json!(data_type));
        field["metadata"] = json!({"delta.columnMapping.physicalName": physical, "delta.columnMapping.id": 1});
        field
    };
    let table = json!({"type": "struct", "fields": [
        mapped("id", "col-1", "long"), mapped("col-dropped", "col-2", "string"),
    ]});
    let table = weir::domain::catalog::schema::Schema::from_json(&table).unwrap();
    let mut source = source(content, &table).await;
    source.mapping = ColumnMapping::Name;
    let (_, content) = make(&source, &show(&table, &["id", "col-dropped"])).await;
    assert!(!holds(&content, CANARY));
    assert_eq!(texts(&read(&content), "col-dropped"), [None, None]);
    let names: BTreeSet<_> = read(&content).schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, BTreeSet::from(["id".to_owned(), "col-dropped".to_owned()]));
    assert_eq!(*read(&content).column(0).data_type(), DataType::Int64);
}
