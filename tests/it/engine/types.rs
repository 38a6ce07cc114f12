//! Files store a table's types in their own ways: older, narrower, wider, and wrong ones.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BinaryArray, Date32Array, Decimal128Array, Decimal256Array, FixedSizeBinaryArray,
        Float32Array, Int8Array, Int16Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
        TimestampMillisecondArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Fields, Schema as ArrowSchema, i256},
};
use bytes::Bytes;
use delta_kernel::actions::deletion_vector_writer::{KernelDeletionVector, StreamingDeletionVectorWriter};
use object_store::{ObjectStoreExt, path::Path};
use parquet::{
    arrow::PARQUET_FIELD_ID_META_KEY,
    data_type::{Int96, Int96Type},
    file::{metadata::KeyValue, properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use serde_json::{Value, json};
use weir::{
    domain::catalog::schema::{ColumnPath, Schema},
    engine::{ColumnMapping, EngineError, SourceFile},
    lake::{DeletionVector, DeletionVectorRef},
};

use super::sample::{cells, engine, field, make, parquet, read, schema, show, source, source_of, try_make};

/// What a column of type `data_type` shows of a file's column.
async fn shown(column: ArrayRef, data_type: &str) -> Result<Vec<Option<String>>, EngineError> {
    let table = schema(&[("c", json!(data_type))]);
    let batch = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
    let (_, content) = try_make(&source_of(&[batch], &table).await, &show(&table, &["c"])).await?;
    Ok(cells(&read(&content.unwrap())).into_iter().flatten().collect())
}

fn some<const N: usize>(texts: [&str; N]) -> Vec<Option<String>> {
    texts.into_iter().map(|text| Some(text.to_owned())).collect()
}

#[tokio::test]
async fn narrower_types_are_widened_to_the_tables() {
    let bytes = || Arc::new(Int8Array::from(vec![-128, 127])) as ArrayRef;
    for data_type in ["byte", "short", "integer", "long"] {
        assert_eq!(shown(bytes(), data_type).await.unwrap(), some(["-128", "127"]), "{data_type}");
    }
    assert_eq!(shown(bytes(), "double").await.unwrap(), some(["-128.0", "127.0"]));
    assert_eq!(shown(bytes(), "decimal(10,2)").await.unwrap(), some(["-128.00", "127.00"]));
    let shorts = Arc::new(Int16Array::from(vec![i16::MIN, i16::MAX]));
    assert_eq!(shown(shorts, "integer").await.unwrap(), some(["-32768", "32767"]));
    let longs = Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX]));
    let wide = shown(longs, "decimal(38,5)").await.unwrap();
    assert_eq!(wide, some(["-9223372036854775808.00000", "9223372036854775807.00000"]));
    let floats = Arc::new(Float32Array::from(vec![1.5, f32::NEG_INFINITY]));
    assert_eq!(shown(floats, "double").await.unwrap(), some(["1.5", "-inf"]));
    let dates = Arc::new(Date32Array::from(vec![-1, 1]));
    assert_eq!(shown(dates, "timestamp_ntz").await.unwrap(), some(["1969-12-31T00:00:00", "1970-01-02T00:00:00"]));
    let decimals = Arc::new(Decimal128Array::from(vec![12345]).with_precision_and_scale(5, 2).unwrap());
    assert_eq!(shown(decimals, "decimal(20,4)").await.unwrap(), some(["123.4500"]));
    let large = Decimal256Array::from(vec![i256::from_i128(-5)]).with_precision_and_scale(50, 1).unwrap();
    assert_eq!(shown(Arc::new(large), "decimal(38,1)").await.unwrap(), some(["-0.5"]));
}

#[tokio::test]
async fn what_does_not_fit_is_an_overflow_that_holds_no_value() {
    let secret = 4_815_162_342_i64;
    let columns: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(Int64Array::from(vec![secret])), "integer"),
        (Arc::new(Int64Array::from(vec![secret])), "decimal(5,0)"),
        (
            Arc::new(Decimal128Array::from(vec![i128::from(secret)]).with_precision_and_scale(38, 0).unwrap()),
            "decimal(9,0)",
        ),
        (Arc::new(TimestampMillisecondArray::from(vec![i64::MAX - secret])), "timestamp"),
        (Arc::new(Date32Array::from(vec![i32::MAX])), "timestamp_ntz"),
    ];
    for (column, data_type) in columns {
        let error = shown(column, data_type).await.unwrap_err();
        assert!(matches!(error, EngineError::Overflow), "{data_type}: {error:?}");
        let said = format!("{error} {error:?}");
        assert!(!said.chars().any(|c| c.is_ascii_digit()), "{said}");
    }
}

#[tokio::test]
async fn types_that_no_writer_would_choose_are_refused() {
    let columns: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(StringArray::from(vec!["1"])), "long"),
        (Arc::new(Int64Array::from(vec![1])), "string"),
        (Arc::new(Int64Array::from(vec![1])), "timestamp"),
        (Arc::new(Int64Array::from(vec![1])), "double"),
        (Arc::new(Float32Array::from(vec![1.0])), "long"),
        (Arc::new(Decimal128Array::from(vec![1]).with_precision_and_scale(10, 4).unwrap()), "decimal(10,2)"),
    ];
    for (column, data_type) in columns {
        let from = column.data_type().clone();
        let error = shown(column, data_type).await.unwrap_err();
        assert!(matches!(error, EngineError::OtherType { .. }), "{from} as {data_type}: {error:?}");
    }
    let columns: Vec<(ArrayRef, &str, &str)> = vec![
        (Arc::new(UInt32Array::from(vec![7])), "long", "unsigned 32-bit integers"),
        (Arc::new(UInt64Array::from(vec![7])), "long", "unsigned 64-bit integers"),
        (
            Arc::new(FixedSizeBinaryArray::try_from_iter([[7_u8; 16]].into_iter()).unwrap()),
            "binary",
            "values of 16 bytes each",
        ),
    ];
    for (column, data_type, words) in columns {
        let error = shown(column, data_type).await.unwrap_err().to_string();
        assert!(error.contains("the column `c` as ") && error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn timestamps_of_every_unit_are_cut_to_microseconds_towards_the_past() {
    let nanos = |zone: Option<&str>| {
        Arc::new(TimestampNanosecondArray::from(vec![-1, 1_999]).with_timezone_opt(zone)) as ArrayRef
    };
    let expected = some(["1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00.000001Z"]);
    assert_eq!(shown(nanos(None), "timestamp").await.unwrap(), expected);
    assert_eq!(shown(nanos(Some("UTC")), "timestamp").await.unwrap(), expected);
    let millis = Arc::new(TimestampMillisecondArray::from(vec![-1]));
    assert_eq!(shown(millis, "timestamp_ntz").await.unwrap(), some(["1969-12-31T23:59:59.999"]));
}

/// A file with one INT96 column of these Julian days at noon.
fn int96(days: &[i32]) -> Bytes {
    let schema = Arc::new(parse_message_type("message m { optional int96 c; }").unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(WriterProperties::new())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let noon = 12 * 3_600 * 1_000_000_000_u64;
    let values: Vec<_> = days
        .iter()
        .map(|day| {
            let mut value = Int96::new();
            value.set_data(noon as u32, (noon >> 32) as u32, *day as u32);
            value
        })
        .collect();
    column.typed::<Int96Type>().write_batch(&values, Some(&vec![1; values.len()]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes.into()
}

#[tokio::test]
async fn int96_timestamps_beyond_2262_do_not_wrap() {
    let table = schema(&[("c", json!("timestamp"))]);
    // 0001-01-01, 1970-01-01, and 9999-12-31.
    let source = source(int96(&[1_721_426, 2_440_588, 5_373_484]), &table).await;
    let (_, content) = make(&source, &show(&table, &["c"])).await;
    let shown: Vec<_> = cells(&read(&content)).into_iter().flatten().flatten().collect();
    assert_eq!(shown, ["0001-01-01T12:00:00Z", "1970-01-01T12:00:00Z", "9999-12-31T12:00:00Z"]);
}

#[tokio::test]
async fn texts_without_an_annotation_are_checked() {
    let texts = |bytes: Vec<&[u8]>| Arc::new(BinaryArray::from_vec(bytes)) as ArrayRef;
    assert_eq!(shown(texts(vec!["ü".as_bytes()]), "string").await.unwrap(), some(["ü"]));
    let error = shown(texts(vec![b"secret\xFF"]), "string").await.unwrap_err();
    assert!(matches!(error, EngineError::Corrupt { .. }) && !format!("{error:?}").contains("secret"), "{error:?}");
    assert_eq!(shown(Arc::new(StringArray::from(vec!["ab"])), "binary").await.unwrap(), some(["6162"]));
}

#[tokio::test]
async fn two_columns_of_one_name_are_not_told_apart() {
    let one = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let fields = vec![Field::new("c", DataType::Int64, true), Field::new("c", DataType::Int64, true)];
    let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), vec![one.clone(), one]).unwrap();
    let table = schema(&[("c", json!("long"))]);
    let outcome = try_make(&source_of(&[batch], &table).await, &show(&table, &["c"])).await;
    assert!(matches!(outcome, Err(EngineError::Unclear(_))), "{outcome:?}");
}

fn fields(fields: Vec<Value>) -> Value {
    json!({"type": "struct", "fields": fields})
}

/// Structs and lists of structs from an old file, without fields that the table gained later.
fn old_rows() -> RecordBatch {
    let inner = Fields::from(vec![Field::new("old", DataType::Utf8, true)]);
    let one = StructArray::new(
        inner.clone(),
        vec![Arc::new(StringArray::from(vec!["a", "b", "c"]))],
        Some(NullBuffer::from(vec![true, false, true])),
    );
    let elements = StructArray::new(inner, vec![Arc::new(StringArray::from(vec!["x", "y", "z"]))], None);
    let element = Arc::new(Field::new("element", elements.data_type().clone(), true));
    let list = ListArray::new(
        element,
        OffsetBuffer::from_lengths([2, 0, 1]),
        Arc::new(elements),
        Some(NullBuffer::from(vec![true, false, true])),
    );
    RecordBatch::try_from_iter_with_nullable([("s", Arc::new(one) as ArrayRef, true), ("l", Arc::new(list), true)])
        .unwrap()
}

#[tokio::test]
async fn what_a_file_does_not_have_is_null_and_what_it_lies_in_is_not() {
    let inner = || fields(vec![field("old", json!("string")), field("new", json!("long"))]);
    let table = schema(&[
        ("s", inner()),
        ("l", json!({"type": "array", "elementType": inner(), "containsNull": true})),
        ("later", json!("date")),
    ]);
    let source = source_of(&[old_rows()], &table).await;
    let (_, content) = make(&source, &show(&table, &["s", "l", "later"])).await;
    let shown = cells(&read(&content));
    let text = |cell: &Option<String>| cell.clone().unwrap_or_default();
    assert_eq!(
        shown[0].iter().map(text).collect::<Vec<_>>(),
        ["{old: a, new: ∅}", "[{old: x, new: ∅}, {old: y, new: ∅}]", ""]
    );
    assert_eq!(shown[1], [None, None, None]);
    // Only the fields that the file lacks: its structs and lists are still there.
    let (_, content) = make(&source, &show(&table, &["s.new", "l.element.new"])).await;
    let shown = cells(&read(&content));
    assert_eq!(shown[0].iter().map(text).collect::<Vec<_>>(), ["{new: ∅}", "[{new: ∅}, {new: ∅}]"]);
    assert_eq!(shown[1], [None, None]);
    assert_eq!(shown[2].iter().map(text).collect::<Vec<_>>(), ["{new: ∅}", "[{new: ∅}]"]);
    // No column that the file has.
    let (made, content) = make(&source, &show(&table, &["later"])).await;
    assert_eq!((made.rows, cells(&read(&content))), (3, vec![vec![None]; 3]));
}

#[tokio::test]
async fn a_null_where_the_table_allows_none_is_an_error() {
    let mut required = field("c", json!("long"));
    required["nullable"] = json!(false);
    let table = Schema::from_json(&fields(vec![required])).unwrap();
    let batch =
        RecordBatch::try_from_iter([("c", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef)]).unwrap();
    let outcome = try_make(&source_of(&[batch], &table).await, &show(&table, &["c"])).await;
    assert!(matches!(outcome, Err(EngineError::Corrupt { .. })), "{outcome:?}");
    let batch = RecordBatch::try_from_iter([("other", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    let outcome = try_make(&source_of(&[batch], &table).await, &show(&table, &["c"])).await;
    assert!(matches!(outcome, Err(EngineError::Lacks(_))), "{outcome:?}");
}

#[tokio::test]
async fn columns_are_found_by_id_where_the_table_goes_by_ids() {
    let with_id = |name: &str, id: i32, data_type: DataType| {
        let id = [("PARQUET:field_id".to_owned(), id.to_string())];
        Field::new(name, data_type, true).with_metadata(id.into())
    };
    let inner = Fields::from(vec![with_id("p", 4, DataType::Utf8), with_id("q", 5, DataType::Utf8)]);
    let nested = StructArray::new(
        inner.clone(),
        vec![Arc::new(StringArray::from(vec!["four"])), Arc::new(StringArray::from(vec!["five"]))],
        None,
    );
    // The names are swapped.
    let fields_of_file = vec![
        with_id("b", 1, DataType::Utf8),
        with_id("a", 2, DataType::Utf8),
        with_id("s", 3, DataType::Struct(inner)),
    ];
    let text = |text| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let columns = vec![text("one"), text("two"), Arc::new(nested) as ArrayRef];
    let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields_of_file)), columns).unwrap();
    let mapped = |name: &str, physical: &str, id: i32, data_type: Value| {
        let mut field = field(name, data_type);
        field["metadata"] = json!({"delta.columnMapping.physicalName": physical, "delta.columnMapping.id": id});
        field
    };
    let inner = fields(vec![mapped("y", "p", 5, json!("string")), mapped("z", "gone", 9, json!("string"))]);
    let table = Schema::from_json(&fields(vec![
        mapped("one", "a", 1, json!("string")),
        mapped("two", "b", 2, json!("string")),
        mapped("t", "s", 3, inner),
    ]))
    .unwrap();
    let mut source = source_of(&[batch], &table).await;
    let rules = show(&table, &["one", "two", "t"]);
    for (mapping, expected) in [
        (ColumnMapping::Id, some(["one", "two", "{y: five, z: ∅}"])),
        (ColumnMapping::Name, some(["two", "one", "{y: four, z: ∅}"])),
    ] {
        source.mapping = mapping;
        assert_eq!(cells(&read(&make(&source, &rules).await.1)), [expected], "{mapping:?}");
    }
}

#[tokio::test]
async fn footers_tell_every_column_that_is_really_there() {
    let source = source_of(&[old_rows()], &schema(&[("s", json!("long"))])).await;
    let found = engine().footer(&source.location, &source.path, source.size).await.unwrap();
    let path = |names: &[&str]| ColumnPath(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(found.leaves, [path(&["s", "old"]), path(&["l", "element", "old"])]);
}

#[tokio::test]
async fn footers_with_more_than_columns_are_told_from_plain_ones() {
    let table = schema(&[("c", json!("long"))]);
    let noted = |key: &str, value: &str| vec![KeyValue::new(key.to_owned(), value.to_owned())];
    let spark = "org.apache.spark.sql.parquet.row.metadata";
    let of_spark = |metadata: &str| {
        format!(r#"{{"type":"struct","fields":[{{"name":"c","type":"long","nullable":true,"metadata":{metadata}}}]}}"#)
    };
    let (plain, comment) = (of_spark("{}"), of_spark(r#"{"comment":"cost"}"#));
    let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), "1".to_owned())]);
    let comments = HashMap::from([("comment".to_owned(), "cost".to_owned())]);
    let cases = [
        (HashMap::new(), noted("org.apache.spark.version", "4.0"), false),
        (id, noted(spark, &plain), false),
        (HashMap::new(), noted(spark, &comment), true),
        (HashMap::new(), noted(spark, "{"), true),
        (HashMap::new(), noted("pandas", "{}"), true),
        (comments, Vec::new(), true),
    ];
    for (of_field, noted, has_notes) in cases {
        let field = Field::new("c", DataType::Int64, true).with_metadata(of_field);
        let values = Arc::new(Int64Array::from_iter_values(0..5)) as ArrayRef;
        let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(vec![field])), vec![values]).unwrap();
        let properties = WriterProperties::builder().set_key_value_metadata(Some(noted.clone())).build();
        let source = source(parquet(&[batch], properties), &table).await;
        let found = engine().footer(&source.location, &source.path, source.size).await.unwrap();
        assert_eq!(found.has_notes, has_notes, "{noted:?}");
    }
}

/// A file of ten numbers, with a deletion vector written for it.
async fn with_vector(deleted: &[u64], inline: bool) -> (SourceFile, Vec<u8>, DeletionVector) {
    let table = schema(&[("c", json!("long"))]);
    let numbers = |from: i64| {
        RecordBatch::try_from_iter([("c", Arc::new(Int64Array::from_iter_values(from..from + 5)) as ArrayRef)]).unwrap()
    };
    let source = source_of(&[numbers(0), numbers(5)], &table).await;
    let mut vectors = Vec::new();
    let mut writer = StreamingDeletionVectorWriter::new(&mut vectors);
    let mut other = KernelDeletionVector::new();
    other.add_deleted_row_indexes([1_u64 << 40]);
    writer.write_deletion_vector(other).unwrap();
    let mut own = KernelDeletionVector::new();
    own.add_deleted_row_indexes(deleted);
    let written = writer.write_deletion_vector(own).unwrap();
    writer.finalize().unwrap();
    let (from, size) = (written.offset as usize + 4, written.size_in_bytes as usize);
    let mut own = vectors[from..from + size].to_vec();
    own.resize(size.next_multiple_of(4), 0);
    let path = "ab^-aqEH.-t@S}K{vb[*k^";
    let reference = DeletionVectorRef {
        storage_type: if inline { "i" } else { "u" },
        path_or_inline: if inline { &z85::encode(&own) } else { path },
        offset: (!inline).then_some(written.offset),
        size_in_bytes: written.size_in_bytes,
        cardinality: written.cardinality,
    };
    (source, vectors, DeletionVector::from(reference))
}

const VECTOR: &str = "t/ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin";

#[tokio::test]
async fn lt05_deleted_rows_are_gone_wherever_the_vector_lies() {
    for inline in [true, false] {
        let (mut source, vectors, vector) = with_vector(&[0, 4, 5, 8], inline).await;
        source.location.store().put(&Path::from(VECTOR), vectors.into()).await.unwrap();
        source.deletion_vector = Some(vector);
        let (made, content) = make(&source, &show(&source.schema, &["c"])).await;
        let shown: Vec<_> = cells(&read(&content)).into_iter().flatten().flatten().collect();
        assert_eq!(shown, ["1", "2", "3", "6", "7", "9"], "{inline}");
        assert!(made.stats.starts_with(r#"{"numRecords":6,"minValues":{"c":1},"maxValues":{"c":9}"#), "{}", made.stats);
        let counted = engine().count(source, None).await.unwrap();
        assert_eq!((counted.live, counted.shown), (6, 6));
    }
}

#[tokio::test]
async fn vectors_that_are_not_what_the_log_says_stop_everything() {
    let (mut source, vectors, vector) = with_vector(&[0, 4], false).await;
    let rules = show(&source.schema, &["c"]);
    source.deletion_vector = Some(vector.clone());
    assert!(matches!(try_make(&source, &rules).await, Err(EngineError::Missing)));
    // One bit of the vector or of its checksum.
    let begin = vector.as_ref().offset.unwrap() as usize;
    for at in begin..vectors.len() {
        let mut broken = vectors.clone();
        broken[at] ^= 1;
        source.location.store().put(&Path::from(VECTOR), broken.into()).await.unwrap();
        let outcome = try_make(&source, &rules).await;
        assert!(matches!(outcome, Err(EngineError::Corrupt { .. })), "{at}: {outcome:?}");
    }
    source.location.store().put(&Path::from(VECTOR), vectors[..vectors.len() - 1].to_vec().into()).await.unwrap();
    assert!(matches!(try_make(&source, &rules).await, Err(EngineError::Corrupt { .. })));
    // More or fewer rows than in the log, rows that the file does not have, and invalid vectors.
    source.location.store().put(&Path::from(VECTOR), vectors.into()).await.unwrap();
    let odd = |change: &dyn Fn(&mut DeletionVectorRef<'_>)| {
        let mut reference = vector.as_ref();
        change(&mut reference);
        DeletionVector::from(reference)
    };
    let beyond = with_vector(&[10], true).await.2;
    for vector in [
        odd(&|vector| vector.cardinality = 3),
        odd(&|vector| vector.offset = Some(1)),
        odd(&|vector| vector.offset = Some(-1)),
        odd(&|vector| vector.size_in_bytes = -1),
        odd(&|vector| (vector.storage_type, vector.path_or_inline) = ("i", "")),
        odd(&|vector| (vector.storage_type, vector.path_or_inline) = ("i", "abcde")),
        odd(&|vector| vector.storage_type = "x"),
        beyond,
    ] {
        source.deletion_vector = Some(vector.clone());
        let outcome = try_make(&source, &rules).await;
        assert!(matches!(outcome, Err(EngineError::Corrupt { .. })), "{vector:?}: {outcome:?}");
    }
    source.deletion_vector = Some(odd(&|vector| vector.size_in_bytes = i32::MAX));
    assert!(matches!(try_make(&source, &rules).await, Err(EngineError::TooLarge(_))));
    source.deletion_vector = Some(odd(&|vector| (vector.storage_type, vector.path_or_inline) = ("p", "s3://x/y")));
    assert!(matches!(try_make(&source, &rules).await, Err(EngineError::Unsupported(_))));
}
