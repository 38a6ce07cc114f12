//! A job uses no more memory than allowed, or reports that a file needs more; and no more jobs run than allowed.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field},
};
use bytes::Bytes;
use object_store::{memory::InMemory, path::Path};
use parquet::{
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde_json::json;
use weir::{
    domain::catalog::schema::Schema,
    engine::{Engine, EngineError, EngineSettings, Made, Rules, SourceFile},
};

use super::{
    faults::Gate,
    sample::{make, parquet, schema, show, source, source_of},
};

/// An engine whose jobs have the least memory they can work with.
fn small() -> Engine {
    Engine::new(EngineSettings { concurrent_files: 1, job_memory_bytes: 0 })
}

async fn make_small(source: &SourceFile, rules: &Arc<Rules>) -> Result<Made, EngineError> {
    small().make(source.clone(), rules.clone(), Arc::new(InMemory::new()), Path::from("m")).await
}

fn table() -> Schema {
    schema(&[("text", json!("string"))])
}

fn texts(texts: impl IntoIterator<Item = String>) -> RecordBatch {
    RecordBatch::try_from_iter([("text", Arc::new(StringArray::from_iter_values(texts)) as ArrayRef)]).unwrap()
}

fn noise(seed: u64, length: usize) -> String {
    let mut state = seed + 1;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 59) as u8 % 26)
    };
    (0..length).map(letter).collect()
}

#[tokio::test]
async fn a_row_that_is_too_large_is_refused() {
    let rules = show(&table(), &["text"]);
    for properties in [
        WriterProperties::builder(),
        // 200 MB compressed to a few thousand bytes.
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())),
    ] {
        let content = parquet(&[texts(["x".repeat(200 << 20)])], properties.set_dictionary_enabled(false).build());
        let error = make_small(&source(content, &table()).await, &rules).await.unwrap_err();
        assert!(matches!(error, EngineError::TooLarge(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_list_that_is_too_long_is_refused() {
    let table = schema(&[("list", json!({"type": "array", "elementType": "long", "containsNull": true}))]);
    let elements = Arc::new(Int64Array::from(vec![0; 20 << 20]));
    let field = Arc::new(Field::new("element", DataType::Int64, true));
    let list = ListArray::new(field, OffsetBuffer::from_lengths([elements.len()]), elements, None);
    let batch = RecordBatch::try_from_iter([("list", Arc::new(list) as ArrayRef)]).unwrap();
    let error = make_small(&source_of(&[batch], &table).await, &show(&table, &["list"])).await.unwrap_err();
    assert!(matches!(error, EngineError::TooLarge(_)), "{error:?}");
}

#[tokio::test]
async fn row_groups_that_do_not_fit_are_read_piece_by_piece_with_the_same_outcome() {
    let table = schema(&[("text", json!("string")), ("other", json!("string"))]);
    // A row group of 60 MiB: the least memory is 64 MiB, a quarter of which is for a row group.
    let column = |seed: u64| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..3_000).map(|row| noise(seed + row, 10_000))))
    };
    let batch = RecordBatch::try_from_iter([("text", column(0)), ("other", column(1 << 20))]).unwrap();
    let source = source(parquet(&[batch], WriterProperties::new()), &table).await;
    let rules = show(&table, &["other", "text"]);
    assert_eq!(make_small(&source, &rules).await.unwrap(), make(&source, &rules).await.0);
}

#[tokio::test]
async fn wide_rows_are_made_in_little_memory() {
    let rules = show(&table(), &["text"]);
    // 300 MiB of texts, each of which is stored in the file once.
    let wide: Vec<String> = (0..30).map(|seed| noise(seed, 1 << 20)).collect();
    let rows = (0..300).map(|row| wide[row % wide.len()].clone());
    let source = source_of(&[texts(rows)], &table()).await;
    assert_eq!(make_small(&source, &rules).await.unwrap().rows, 300);
}

#[tokio::test]
async fn footers_that_claim_too_much_are_refused() {
    let mut content = vec![0; 32 << 20];
    content.extend_from_slice(&(31_u32 << 20).to_le_bytes());
    content.extend_from_slice(b"PAR1");
    let error =
        make_small(&source(Bytes::from(content), &table()).await, &show(&table(), &["text"])).await.unwrap_err();
    assert!(matches!(error, EngineError::TooLarge(_)), "{error:?}");
}

#[tokio::test]
async fn no_more_files_are_made_at_once_than_may_be() {
    let rules = show(&table(), &["text"]);
    let source = source_of(&[texts((0..100).map(|seed| noise(seed, 100)))], &table()).await;
    let engine = Engine::new(EngineSettings { concurrent_files: 2, ..EngineSettings::default() });
    let store = Gate::new(0, false);
    let making: Vec<_> = (0..10)
        .map(|at| {
            let (engine, source, rules, store) = (engine.clone(), source.clone(), rules.clone(), store.clone());
            tokio::spawn(async move { engine.make(source, rules, store, Path::from(format!("m/{at}"))).await })
        })
        .collect();
    store.arrival().await;
    store.arrival().await;
    for let_through in 0..10 {
        assert_eq!(store.arrived.available_permits(), 0);
        // A preview does not wait for files.
        assert_eq!(engine.preview(source.clone(), rules.clone(), 1).await.unwrap().len(), 1);
        store.permits.add_permits(1);
        if let_through < 8 {
            store.arrival().await;
        }
    }
    for made in making {
        assert_eq!(made.await.unwrap().unwrap().rows, 100);
    }
}
