//! Masks that need more than the value: dates shifted by their row's subject, and surrogates that were drawn before.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Date32Type, Field, Int64Type},
};
use object_store::{ObjectStoreExt, memory::InMemory, path::Path};
use serde_json::{Value, json};
use uuid::Uuid;
use weir::{
    domain::{
        catalog::{
            schema::{ColumnPath, Primitive, Schema},
            view::mask::{Cell, Mask, surrogate_text},
        },
        materialize::copy::ShuffleKey,
    },
    engine::{EngineError, Rules, SourceFile, Surrogates},
};

use super::sample::{engine, field, make, read, rules, schema, source_of, try_make};

fn table() -> Schema {
    schema(&[
        ("id", json!("long")),
        ("born", json!("date")),
        ("who", json!({"type": "struct", "fields": [field("name", json!("string"))]})),
        ("tags", json!({"type": "array", "elementType": "string", "containsNull": true})),
        ("region", json!("string")),
    ])
}

/// Rows with every seventh subject and every fifth date missing.
fn rows_of(ids: std::ops::Range<i64>) -> RecordBatch {
    let name = |id: i64| (id % 7 != 0).then(|| format!("member {}", id % 3));
    let names: StringArray = ids.clone().map(name).collect();
    let who =
        StructArray::from(vec![(Arc::new(Field::new("name", DataType::Utf8, true)), Arc::new(names) as ArrayRef)]);
    let born: Date32Array = ids.clone().map(|id| (id % 5 != 0).then_some(10_000 + id as i32)).collect();
    let count = usize::try_from(ids.end - ids.start).unwrap();
    let tags = StringArray::from_iter_values(
        ids.clone().flat_map(|id| [format!("tag {}", id % 4), format!("member {}", id % 3)]),
    );
    let element = Arc::new(Field::new("element", DataType::Utf8, true));
    let tags = ListArray::new(element, OffsetBuffer::from_lengths(vec![2; count]), Arc::new(tags), None);
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(ids)) as ArrayRef),
        ("born", Arc::new(born)),
        ("who", Arc::new(who)),
        ("tags", Arc::new(tags)),
    ])
    .unwrap()
}

async fn file(ids: std::ops::Range<i64>, region: &str) -> SourceFile {
    let mut source = source_of(&[rows_of(ids)], &table()).await;
    source.partition_values = vec![("region".to_owned(), Some(region.to_owned()))];
    source
}

fn view(columns: Value, filter: Option<&str>) -> Arc<Rules> {
    rules(&table(), &["region"], json!({"columns": columns, "row_filter": filter}), json!({}))
}

/// The days by which a text subject is moved under these rules.
fn days_of(rules: &Rules, shift: Value, subject: &str) -> i32 {
    let Mask::Shift(shift) = Mask::from_json(&shift).unwrap() else { panic!() };
    let bound = shift.bind(Primitive::String, &rules.keys);
    i32::try_from(bound.days_of(&Cell::Text(subject.into())).unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn a_date_is_moved_by_its_rows_subject_and_the_filter_reads_where_it_was() {
    let source = file(0..400, "north").await;
    let (by_name, by_region) = (json!({"shift": {"key": "who.name"}}), json!({"shift": {"key": "region"}}));
    let columns = json!([
        {"name": "id"},
        {"name": "moved", "from": "born", "mask": by_name},
        {"name": "of.region", "from": "born", "mask": by_region},
    ]);
    let rules = view(columns, Some("born >= DATE '1997-08-09' OR born IS NULL"));
    let (made, content) = make(&source, &rules).await;
    let rows = read(&content);
    let ids = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
    let due: Vec<i64> = (0..400).filter(|id| id % 5 == 0 || *id >= 82).collect();
    assert_eq!(ids, due);
    let (moved, of_region) = (rows.column(1).as_primitive::<Date32Type>(), rows.column(2).as_struct().column(0));
    let of_region = of_region.as_primitive::<Date32Type>();
    let north = days_of(&rules, by_region, "north");
    for (at, id) in ids.into_iter().enumerate() {
        let born = (id % 5 != 0).then_some(10_000 + id as i32);
        let by = (id % 7 != 0).then(|| days_of(&rules, by_name.clone(), &format!("member {}", id % 3)));
        let shown = |column: &arrow::array::PrimitiveArray<Date32Type>| column.is_valid(at).then(|| column.value(at));
        assert_eq!(shown(moved), born.zip(by).map(|(born, by)| born + by), "{id}");
        assert_eq!(shown(of_region), born.map(|born| born + north), "{id}");
    }
    let stats: Value = serde_json::from_str(&made.stats).unwrap();
    assert_eq!(stats["nullCount"], json!({"id": 0}));
    assert_eq!(stats["minValues"], json!({"id": 0}));
}

#[tokio::test]
async fn a_file_without_the_subjects_is_refused() {
    let rows = rows_of(0..10);
    let without = rows.project(&[0, 1, 3]).unwrap();
    let mut source = source_of(&[without], &table()).await;
    source.partition_values = vec![("region".to_owned(), Some("north".to_owned()))];
    let columns = json!([{"name": "id"}, {"name": "born", "mask": {"shift": {"key": "who.name"}}}]);
    let error = try_make(&source, &view(columns, None)).await.unwrap_err();
    assert!(matches!(&error, EngineError::Lacks(column) if column.0[0] == "who"), "{error:?}");
    source.added_later = vec![ColumnPath(vec!["who".to_owned()])];
    let columns = json!([{"name": "id"}, {"name": "born", "mask": {"shift": {"key": "who.name"}}}]);
    let (_, content) = make(&source, &view(columns, None)).await;
    assert_eq!(read(&content).column(1).null_count(), 10);
}

fn texts(column: &ArrayRef) -> Vec<Option<String>> {
    column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

/// Surrogates that stand for digests in the order in which they are sorted.
fn drawn(digests: &[Uuid]) -> Surrogates {
    Surrogates::drawn(digests.iter().enumerate().map(|(at, digest)| (*digest, Uuid::from_u128(at as u128))).collect())
}

#[tokio::test]
async fn surrogates_are_drawn_for_the_values_that_are_shown_and_for_no_others() {
    let (one, other) = (file(0..400, "north").await, file(400..500, "south").await);
    let member = json!({"surrogate": {"domain": "member"}});
    let columns = json!([
        {"name": "id"},
        {"name": "member", "from": "who.name", "mask": member},
        {"name": "tags", "mask": member},
        {"name": "region", "mask": {"surrogate": {"domain": "region"}}},
    ]);
    let rules = view(columns, Some("id <> 3 AND region <> 'south' OR id = 401"));
    let sources = vec![one.clone(), other.clone()];
    let mut digests = engine().surrogate_digests(sources.clone(), rules.clone(), usize::MAX).await.unwrap();
    digests.sort_unstable();
    // Three members, four tags, and the two regions of shown rows.
    assert_eq!(digests.len(), 9);
    assert!(engine().surrogate_digests(vec![one.clone()], rules.clone(), 0).await.unwrap().is_empty());
    assert_eq!(engine().surrogate_digests(vec![other.clone()], rules.clone(), usize::MAX).await.unwrap().len(), 3);

    let with = Arc::new(Rules { surrogates: drawn(&digests), ..(*rules).clone() });
    let (made, content) = make(&one, &with).await;
    let rows = read(&content);
    let members = texts(rows.column(1));
    let tags = rows.column(2).as_list::<i32>();
    let mut known: BTreeMap<i64, String> = BTreeMap::new();
    assert_eq!(members.len(), rows.num_rows());
    for (at, shown) in members.iter().enumerate() {
        let id = rows.column(0).as_primitive::<Int64Type>().value(at);
        let list = texts(&tags.value(at));
        let (tag, member) = (list[0].clone().unwrap(), list[1].clone().unwrap());
        assert_eq!(shown.as_ref(), (id % 7 != 0).then_some(&member), "{id}");
        assert_eq!(known.entry(id % 3).or_insert_with(|| member.clone()), &member);
        assert_eq!(known.entry(10 + id % 4).or_insert_with(|| tag.clone()), &tag);
    }
    let all: Vec<String> = (0..9).map(|at| surrogate_text(Uuid::from_u128(at))).collect();
    assert!(known.len() == 7 && known.values().all(|shown| all.contains(shown)), "{known:?}");
    assert!(made.stats.contains(r#""minValues":{"id":0}"#) && made.stats.contains(r#""nullCount":{"id":0}"#));

    // Mixed files show the same.
    let store = Arc::new(InMemory::new());
    let path = Path::from("m/copy");
    let key = ShuffleKey([1; 32]);
    let made = engine().mix(sources, with.clone(), key, store.clone(), path.clone()).await.unwrap();
    assert_eq!(made.rows, 400);
    let mixed = read(&store.get(&path).await.unwrap().bytes().await.unwrap());
    for at in 0..mixed.num_rows() {
        let id = mixed.column(0).as_primitive::<Int64Type>().value(at);
        if id < 400 {
            assert_eq!(texts(&mixed.column(2).as_list::<i32>().value(at))[1].as_ref(), known.get(&(id % 3)), "{id}");
        }
    }
    // Nothing is shown where something was not drawn.
    let mine = engine().surrogate_digests(vec![one.clone()], rules.clone(), usize::MAX).await.unwrap();
    for surrogates in [Surrogates::default(), drawn(&mine[1..])] {
        let without = Arc::new(Rules { surrogates, ..(*rules).clone() });
        let error = try_make(&one, &without).await.unwrap_err();
        assert!(matches!(error, EngineError::Unsupported(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_view_without_surrogates_is_not_read_for_them() {
    let mut source = file(0..10, "north").await;
    source.path = Path::from("t/gone.parquet");
    let rules = view(json!([{"name": "id"}, {"name": "born", "mask": {"shift": {"key": "id"}}}]), None);
    assert!(engine().surrogate_digests(vec![source.clone()], rules, usize::MAX).await.unwrap().is_empty());
    let rules = view(json!([{"name": "id", "mask": {"surrogate": {"domain": "d"}}}]), None);
    let fault = engine().surrogate_digests(vec![source], rules, usize::MAX).await.unwrap_err();
    assert!(fault.file == Some(0) && matches!(fault.error, EngineError::Missing), "{fault:?}");
}
