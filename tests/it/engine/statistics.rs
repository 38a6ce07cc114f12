//! The statistics of a governed file's columns.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
        Int64Array, ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Fields},
};
use serde_json::{Value, json};

use super::sample::{field, make, schema, show, source_of};

/// The statistics of a file with these columns and a row group per batch.
async fn stats(columns: &[(&str, Value)], batches: &[RecordBatch]) -> String {
    let table = schema(columns);
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    make(&source_of(batches, &table).await, &show(&table, &names)).await.0.stats
}

/// The statistics of a file with one column `c` made of these arrays.
async fn of(data_type: &str, columns: Vec<ArrayRef>) -> (Value, Value, Value) {
    let batches: Vec<_> = columns
        .into_iter()
        .map(|column| RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap())
        .collect();
    let stats: Value = serde_json::from_str(&stats(&[("c", json!(data_type))], &batches).await).unwrap();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(stats["numRecords"], rows);
    (stats["minValues"]["c"].clone(), stats["maxValues"]["c"].clone(), stats["nullCount"]["c"].clone())
}

fn texts(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

#[tokio::test]
async fn bounds_and_nulls_are_those_of_the_rows() {
    let bytes = |values: Vec<Option<i8>>| Arc::new(Int8Array::from(values)) as ArrayRef;
    assert_eq!(
        of("byte", vec![bytes(vec![Some(-3), None]), bytes(vec![Some(7)])]).await,
        (json!(-3), json!(7), json!(1))
    );
    assert_eq!(of("byte", vec![bytes(vec![None, None])]).await, (Value::Null, Value::Null, json!(2)));
    assert_eq!(of("byte", vec![bytes(vec![None]), bytes(vec![Some(1)])]).await, (json!(1), json!(1), json!(1)));
    let longs = Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX]));
    assert_eq!(of("long", vec![longs]).await, (json!(i64::MIN), json!(i64::MAX), json!(0)));
    let dates = Arc::new(Date32Array::from(vec![-1, 20_000]));
    assert_eq!(of("date", vec![dates]).await, (json!("1969-12-31"), json!("2024-10-04"), json!(0)));
    // For these types, only the number of nulls is given.
    let flags = Arc::new(BooleanArray::from(vec![Some(true), None]));
    assert_eq!(of("boolean", vec![flags]).await, (Value::Null, Value::Null, json!(1)));
    let blobs = Arc::new(BinaryArray::from_vec(vec![b"a"]));
    assert_eq!(of("binary", vec![blobs]).await, (Value::Null, Value::Null, json!(0)));
}

#[tokio::test]
async fn decimals_are_written_to_the_last_digit() {
    for (data_type, digits, scale, low, high) in [
        ("decimal(4,2)", [-5_i128, 1_234], 2, "-0.05", "12.34"),
        ("decimal(18,0)", [-999_999_999_999_999_999, 0], 0, "-999999999999999999", "0"),
        (
            "decimal(38,18)",
            [-(10_i128.pow(38) - 1), 1],
            18,
            "-99999999999999999999.999999999999999999",
            "0.000000000000000001",
        ),
    ] {
        let precision: u8 = data_type[8..].split(',').next().unwrap().parse().unwrap();
        let column = Decimal128Array::from(digits.to_vec()).with_precision_and_scale(precision, scale).unwrap();
        let batch = RecordBatch::try_from_iter([("c", Arc::new(column) as ArrayRef)]).unwrap();
        let expected =
            format!(r#"{{"numRecords":2,"minValues":{{"c":{low}}},"maxValues":{{"c":{high}}},"nullCount":{{"c":0}}}}"#);
        assert_eq!(stats(&[("c", json!(data_type))], &[batch]).await, expected);
    }
}

#[tokio::test]
async fn floats_say_nothing_that_a_reader_could_take_for_less_than_nan() {
    let doubles = |values: Vec<f64>| Arc::new(Float64Array::from(values)) as ArrayRef;
    assert_eq!(of("double", vec![doubles(vec![0.1, -1e300])]).await, (json!(-1e300), json!(0.1), json!(0)));
    let with_nan = vec![doubles(vec![1.0, f64::NAN]), doubles(vec![2.0])];
    assert_eq!(of("double", with_nan).await, (json!(1.0), Value::Null, json!(0)));
    assert_eq!(of("double", vec![doubles(vec![f64::NAN])]).await, (Value::Null, Value::Null, json!(0)));
    let infinite = vec![doubles(vec![f64::INFINITY, f64::NEG_INFINITY, 0.0])];
    assert_eq!(of("double", infinite).await, (Value::Null, Value::Null, json!(0)));
    let floats = Arc::new(Float32Array::from(vec![0.1, 3.0]));
    assert_eq!(of("float", vec![floats]).await, (json!(0.1), json!(3.0), json!(0)));
}

#[tokio::test]
async fn long_texts_are_cut_below_and_above() {
    assert_eq!(of("string", vec![texts(&["b", "", "ä"])]).await, (json!(""), json!("ä"), json!(0)));
    let exact = "x".repeat(32);
    assert_eq!(of("string", vec![texts(&[&exact])]).await, (json!(exact), json!(exact), json!(0)));
    for (next, last) in [("x", '\u{FFFD}'), ("\u{FFFD}", char::MAX), ("\u{1F409}", char::MAX)] {
        let long = format!("{exact}{next}…");
        let high = format!("{exact}{last}");
        assert!(high > long);
        assert_eq!(of("string", vec![texts(&[&long])]).await, (json!(exact), json!(high), json!(0)), "{next}");
    }
    // Longer than the values in footers.
    let wide = "ä".repeat(500);
    let (low, high, _) = of("string", vec![texts(&[&wide])]).await;
    assert_eq!(low, "ä".repeat(32));
    assert!(high.as_str().unwrap() > wide.as_str());
}

#[tokio::test]
async fn timestamps_have_milliseconds_that_lie_outside_of_the_values() {
    let instants = |values: Vec<i64>, zone: Option<&str>| {
        Arc::new(TimestampMicrosecondArray::from(values).with_timezone_opt(zone)) as ArrayRef
    };
    let (low, high) = ("1969-12-31T23:59:59.998", "1970-01-01T00:00:00.002");
    let found = of("timestamp", vec![instants(vec![-1_001, 1_001], Some("UTC"))]).await;
    assert_eq!(found, (json!(format!("{low}Z")), json!(format!("{high}Z")), json!(0)));
    let found = of("timestamp_ntz", vec![instants(vec![-1_001, 1_001], None)]).await;
    assert_eq!(found, (json!(low), json!(high), json!(0)));
    let whole = of("timestamp", vec![instants(vec![2_000], Some("UTC"))]).await;
    assert_eq!(whole, (json!("1970-01-01T00:00:00.002Z"), json!("1970-01-01T00:00:00.002Z"), json!(0)));
    // These years have more than four digits.
    let beyond = of("timestamp", vec![instants(vec![i64::MIN, i64::MAX], Some("UTC"))]).await;
    assert_eq!(beyond, (Value::Null, Value::Null, json!(0)));
}

#[tokio::test]
async fn fields_are_spoken_of_where_they_stand_and_elements_not_at_all() {
    let inner = StructArray::new(
        Fields::from(vec![Field::new("a\"b", DataType::Int64, true), Field::new("c", DataType::Utf8, true)]),
        vec![Arc::new(Int64Array::from(vec![5, 6])), Arc::new(StringArray::from(vec![Some("x"), None]))],
        Some(NullBuffer::from(vec![true, false])),
    );
    let element = Arc::new(Field::new("element", DataType::Int64, true));
    let list =
        ListArray::new(element, OffsetBuffer::from_lengths([1, 1]), Arc::new(Int64Array::from(vec![7, 8])), None);
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("l", Arc::new(list) as ArrayRef, true),
        ("s", Arc::new(inner) as ArrayRef, true),
        ("z", Arc::new(Int64Array::from(vec![9, 9])) as ArrayRef, true),
    ])
    .unwrap();
    let columns = [
        ("l", json!({"type": "array", "elementType": "long", "containsNull": true})),
        ("s", json!({"type": "struct", "fields": [field("a\"b", json!("long")), field("c", json!("string"))]})),
        ("z", json!("long")),
    ];
    let expected = concat!(
        r#"{"numRecords":2,"minValues":{"s":{"a\"b":5,"c":"x"},"z":9},"#,
        r#""maxValues":{"s":{"a\"b":5,"c":"x"},"z":9},"nullCount":{"s":{"a\"b":1,"c":1},"z":0}}"#
    );
    assert_eq!(stats(&columns, &[batch]).await, expected);
}

#[tokio::test]
async fn as_many_columns_are_spoken_of_as_writers_do_by_default() {
    let names: Vec<_> = (0..40).map(|at| format!("c{at}")).collect();
    let columns: Vec<_> = names.iter().map(|name| (name.as_str(), json!("long"))).collect();
    let column = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let batch = RecordBatch::try_from_iter(names.iter().map(|name| (name, column()))).unwrap();
    let stats: Value = serde_json::from_str(&stats(&columns, &[batch]).await).unwrap();
    for section in ["minValues", "maxValues", "nullCount"] {
        assert_eq!(stats[section].as_object().unwrap().len(), 32);
    }
}
