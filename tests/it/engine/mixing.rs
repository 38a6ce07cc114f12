//! Mixed files: all rows of several source files and no others, in an order that reveals nothing.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use bytes::Bytes;
use object_store::{ObjectStoreExt, memory::InMemory, path::Path};
use serde_json::json;
use weir::{
    domain::{catalog::schema::Schema, materialize::copy::ShuffleKey},
    engine::{Engine, EngineError, EngineSettings, Made, MixFault, Rules, SourceFile},
};

use super::{
    layout::holds,
    sample::{cells, make, read, rules, schema, show, source, source_of, texts, try_make},
};

fn table() -> Schema {
    schema(&[
        ("id", json!("long")),
        ("text", json!("string")),
        ("numbers", json!({"type": "array", "elementType": "integer", "containsNull": true})),
        ("region", json!("string")),
    ])
}

/// Rows sorted by id, as a sorting writer leaves them.
fn rows(ids: std::ops::Range<i64>, width: usize) -> RecordBatch {
    let text = |id: i64| format!("row {id} {}", "x".repeat(usize::try_from(id).unwrap() * 7 % width.max(1)));
    let list = |id: i64| (id % 5 != 0).then(|| (0..id % 4).map(|part| (part != 1).then_some(part as i32 + 1)));
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone())) as ArrayRef),
        ("text", Arc::new(StringArray::from_iter_values(ids.clone().map(text)))),
        ("numbers", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(ids.map(list)))),
    ])
    .unwrap()
}

async fn file(ids: std::ops::Range<i64>, width: usize, region: &str) -> SourceFile {
    let mut source = source_of(&[rows(ids, width)], &table()).await;
    source.partition_values = vec![("region".to_owned(), Some(region.to_owned()))];
    source
}

fn key(byte: u8) -> ShuffleKey {
    ShuffleKey([byte; 32])
}

async fn try_mix(
    sources: &[SourceFile],
    rules: &Arc<Rules>,
    key: ShuffleKey,
    memory: u64,
) -> Result<(Made, Option<Bytes>), MixFault> {
    let store = Arc::new(InMemory::new());
    let engine = Engine::new(EngineSettings { job_memory_bytes: memory, ..EngineSettings::default() });
    let made = engine.mix(sources.to_vec(), rules.clone(), key, store.clone(), Path::from("m/copy")).await;
    let content = match store.get(&Path::from("m/copy")).await {
        Ok(found) => Some(found.bytes().await.unwrap()),
        Err(object_store::Error::NotFound { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(content.is_some(), made.as_ref().is_ok_and(|made| made.rows > 0));
    Ok((made?, content))
}

async fn mix(sources: &[SourceFile], rules: &Arc<Rules>, key: ShuffleKey) -> (Made, Bytes) {
    let (made, content) = try_mix(sources, rules, key, 256 << 20).await.unwrap();
    assert_eq!(made.bytes, content.as_ref().unwrap().len() as u64);
    (made, content.unwrap())
}

fn sorted(content: &Bytes) -> Vec<Vec<Option<String>>> {
    let mut cells = cells(&read(content));
    cells.sort();
    cells
}

fn ids(content: &Bytes) -> Vec<i64> {
    read(content).column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

/// Rules that show all columns but the region, of the rows that a filter shows.
fn hiding(filter: Option<&str>) -> Arc<Rules> {
    let columns = json!([{"name": "id"}, {"name": "text"}, {"name": "numbers"}]);
    rules(&table(), &["region"], json!({"columns": columns, "row_filter": filter}), json!({}))
}

#[tokio::test]
async fn a_mixed_file_has_the_rows_of_its_sources() {
    let sources = [file(0..3_000, 30, "a").await, file(3_000..3_010, 30, "b").await, file(4_000..9_000, 30, "c").await];
    for filter in [None, Some("id <> 7 AND region <> 'c'"), Some("id = 3005")] {
        let rules = hiding(filter);
        let (made, content) = mix(&sources, &rules, key(1)).await;
        let mut due = Vec::new();
        for source in &sources {
            if let (_, Some(content)) = try_make(source, &rules).await.unwrap() {
                due.extend(cells(&read(&content)));
            }
        }
        due.sort();
        assert_eq!(sorted(&content), due, "{filter:?}");
        assert_eq!(made.rows, due.len() as u64);
        let stats: serde_json::Value = serde_json::from_str(&made.stats).unwrap();
        let ids = ids(&content);
        assert_eq!(stats["numRecords"], due.len());
        assert_eq!(stats["minValues"]["id"], *ids.iter().min().unwrap());
        assert_eq!(stats["maxValues"]["id"], *ids.iter().max().unwrap());
    }
    let (made, content) = try_mix(&sources, &hiding(Some("region = 'd'")), key(1), 256 << 20).await.unwrap();
    assert_eq!((made.rows, content), (0, None));
}

#[tokio::test]
async fn the_order_of_rows_tells_nothing_of_files_or_of_places_in_them() {
    const EACH: i64 = 4_000;
    let sources = [file(0..EACH, 10, "a").await, file(EACH..2 * EACH, 10, "b").await];
    let (_, content) = mix(&sources, &hiding(None), key(1)).await;
    let ids = ids(&content);
    // About half of every stretch comes from each file, and neighbouring rows are spread at random.
    for stretch in ids.chunks(1_000) {
        let first = stretch.iter().filter(|id| **id < EACH).count();
        assert!((350..650).contains(&first), "{first} of {}", stretch.len());
    }
    let rises = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((3_700..4_300).contains(&rises), "{rises}");
    let near = ids.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 10).count();
    assert!(near < 60, "{near} neighbours of the source are neighbours still");
    // A single file is shuffled too.
    let (_, alone) = mix(&sources[..1], &hiding(None), key(1)).await;
    let rises = self::ids(&alone).windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((1_800..2_200).contains(&rises), "{rises}");
}

#[tokio::test]
async fn the_same_sources_rules_and_key_give_the_same_bytes() {
    let sources = [file(0..2_000, 20, "a").await, file(2_000..4_000, 20, "b").await];
    let rules = hiding(None);
    let one = mix(&sources, &rules, key(1)).await;
    assert_eq!(one, mix(&sources, &rules, key(1)).await);
    let other = mix(&sources, &rules, key(2)).await;
    assert_ne!(ids(&one.1), ids(&other.1));
    assert_eq!(sorted(&one.1), sorted(&other.1));
    // The layout of the sources does not matter.
    let pieces: Vec<RecordBatch> = (0..40).map(|piece| rows(piece * 50..(piece + 1) * 50, 20)).collect();
    let mut pieces = source_of(&pieces, &table()).await;
    pieces.partition_values = sources[0].partition_values.clone();
    assert_eq!(one, mix(&[pieces, sources[1].clone()], &rules, key(1)).await);
}

#[tokio::test]
async fn what_does_not_fit_into_memory_is_mixed_all_the_same() {
    // 90 MiB of texts, of which a job with the least memory holds a third.
    let sources = [file(0..15_000, 4_000, "a").await, file(15_000..30_000, 4_000, "b").await];
    let rules = hiding(None);
    let (roomy, _) = try_mix(&sources, &rules, key(1), 1 << 30).await.unwrap();
    let (tight, content) = try_mix(&sources, &rules, key(1), 64 << 20).await.unwrap();
    assert_eq!(roomy, tight);
    let mut ids = ids(&content.unwrap());
    assert_ne!(ids, (0..30_000).collect::<Vec<_>>());
    ids.sort_unstable();
    assert_eq!(ids, (0..30_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn partition_values_that_are_hidden_or_masked_are_mixed_with_the_rows() {
    let sources = [file(0..500, 5, "northern").await, file(500..1_000, 5, "southern").await];
    let columns =
        json!([{"name": "id"}, {"name": "start", "from": "region", "mask": {"partial": {"first": 1, "last": 0}}}]);
    let rules = rules(&table(), &["region"], json!({"columns": columns}), json!({}));
    let (_, content) = mix(&sources, &rules, key(1)).await;
    let batch = read(&content);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let starts = texts(&batch, "start");
    for (id, start) in ids(&content).into_iter().zip(starts) {
        let start = start.unwrap().to_owned();
        assert_eq!(start, if id < 500 { "n*******" } else { "s*******" });
        *seen.entry(start).or_default() += 1;
    }
    assert_eq!(seen.into_values().collect::<Vec<_>>(), [500, 500]);
    assert!(!holds(&content, "north") && !holds(&content, "region"));
}

#[tokio::test]
async fn the_file_that_cannot_be_read_is_named_by_its_place_and_nothing_is_left() {
    let good = file(0..10, 5, "a").await;
    for broken in 0..3 {
        let mut sources = vec![good.clone(), good.clone(), good.clone()];
        sources[broken] = source(Bytes::from_static(b"this is no Parquet file at all"), &table()).await;
        let MixFault { file, error } = try_mix(&sources, &hiding(None), key(1), 256 << 20).await.unwrap_err();
        assert_eq!(file, Some(broken));
        assert!(matches!(error, EngineError::Corrupt { .. }), "{error:?}");
    }
    let (_, whole) = make(&good, &show(&table(), &["id", "text", "numbers"])).await;
    assert_eq!(sorted(&mix(&[good], &hiding(None), key(1)).await.1), sorted(&whole));
}
