//! The output equals what plain code makes of the same rows: for random rows, however their file stores them.

use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int8Array,
        Int32Array, Int64Array, ListArray, MapArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::cast,
    datatypes::{
        DataType, Date32Type, Decimal128Type, Field, FieldRef, Fields, Float64Type, Int8Type, Int32Type, Int64Type,
        Schema as ArrowSchema, TimeUnit, TimestampMicrosecondType,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, NaiveDate, TimeDelta};
use parquet::{
    basic::{Compression, GzipLevel, ZstdLevel},
    file::properties::{WriterProperties, WriterVersion},
};
use serde_json::{Map, Value, json};
use weir::{
    domain::catalog::{
        schema::{ColumnPath, DataType as DeltaType, Primitive, Schema},
        view::{
            mask::{Cell, Mask},
            row_filter::Value as Known,
        },
    },
    engine::{ColumnMapping, Rules},
};

use super::sample::{TODAY, engine, field, parquet, read, rules, schema, source, try_make};

/// Pseudorandom numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.roll(5) > 0).then(|| value(self))
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len() as u64) as usize]
    }
}

#[derive(Clone, Debug)]
struct Row {
    id: i64,
    plan: Option<String>,
    score: Option<f64>,
    age: Option<i8>,
    paid: Option<i128>,
    born: Option<i32>,
    seen: Option<i64>,
    flag: Option<bool>,
    blob: Option<Vec<u8>>,
    address: Option<Address>,
    visits: Option<Vec<Option<Visit>>>,
    limits: Option<Vec<(String, Option<i32>)>>,
}

#[derive(Clone, Debug)]
struct Address {
    zip: Option<String>,
    city: Option<String>,
}

#[derive(Clone, Debug)]
struct Visit {
    code: Option<String>,
    cost: Option<i32>,
    secret: Option<String>,
}

fn row(dice: &mut Dice, id: i64) -> Row {
    Row {
        id,
        plan: dice.maybe(|dice| {
            dice.pick(&["HMO", "PPO", "", "ünï_%\\", "HMO\nplus", "a text of more than twelve bytes"]).to_owned()
        }),
        score: dice.maybe(|dice| match dice.roll(8) {
            0 => f64::NAN,
            1 => -0.0,
            2 => f64::INFINITY,
            3 => 0.0,
            _ => dice.roll(2_000) as f64 / 10.0 - 50.0,
        }),
        age: dice.maybe(|dice| dice.roll(120) as i8),
        paid: dice.maybe(|dice| i128::from(dice.roll(2_000_000)) - 1_000_000),
        born: dice.maybe(|dice| dice.roll(40_000) as i32 - 20_000),
        seen: dice.maybe(|dice| (dice.roll(1 << 31) as i64 - (1 << 30)) * 1_000_003),
        flag: dice.maybe(|dice| dice.roll(2) == 0),
        blob: dice.maybe(|dice| (0..dice.roll(20)).map(|byte| byte as u8).collect()),
        address: dice.maybe(|dice| Address {
            zip: dice.maybe(|dice| format!("{:05}", dice.roll(100_000))),
            city: dice.maybe(|dice| dice.pick(&["Bonn", "Paris", "Llanfairpwllgwyngyll"]).to_owned()),
        }),
        visits: dice.maybe(|dice| {
            let visit = |dice: &mut Dice| {
                dice.maybe(|dice| Visit {
                    code: dice.maybe(|dice| dice.pick(&["A00", "B99"]).to_owned()),
                    cost: dice.maybe(|dice| dice.roll(500) as i32),
                    secret: dice.maybe(|_| "SECRET-in-a-list".to_owned()),
                })
            };
            (0..dice.roll(4)).map(|_| visit(dice)).collect()
        }),
        limits: dice.maybe(|dice| {
            let names = ["year", "day", "lifetime"];
            (0..dice.roll(4))
                .map(|at| (names[at as usize].to_owned(), dice.maybe(|dice| dice.roll(9) as i32)))
                .collect()
        }),
    }
}

fn table() -> Schema {
    let visit = json!({"type": "struct", "fields": [
        field("code", json!("string")), field("cost", json!("integer")), field("secret", json!("string")),
    ]});
    let address = json!({"type": "struct", "fields": [field("zip", json!("string")), field("city", json!("string"))]});
    schema(&[
        ("id", json!("long")),
        ("plan", json!("string")),
        ("region", json!("string")),
        ("score", json!("double")),
        ("age", json!("byte")),
        ("paid", json!("decimal(12,2)")),
        ("born", json!("date")),
        ("seen", json!("timestamp")),
        ("flag", json!("boolean")),
        ("blob", json!("binary")),
        ("address", address),
        ("visits", json!({"type": "array", "elementType": visit, "containsNull": true})),
        ("limits", json!({"type": "map", "keyType": "string", "valueType": "integer", "valueContainsNull": true})),
    ])
}

fn nulls<T>(of: &[Option<T>]) -> NullBuffer {
    NullBuffer::from_iter(of.iter().map(Option::is_some))
}

fn text_array<'a>(of: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(of))
}

fn lists<T>(of: &[Option<Vec<T>>]) -> OffsetBuffer<i32> {
    OffsetBuffer::from_lengths(of.iter().map(|list| list.as_ref().map_or(0, Vec::len)))
}

/// The rows as the columns of a file, without `region`, which is in the log. Fields below a null struct have values.
fn arrays(rows: &[Row]) -> Vec<(&'static str, ArrayRef)> {
    let addresses: Vec<_> = rows.iter().map(|row| row.address.clone()).collect();
    let poison = Some("SECRET-below-a-null");
    let address = StructArray::new(
        Fields::from(vec![Field::new("zip", DataType::Utf8, true), Field::new("city", DataType::Utf8, true)]),
        vec![
            text_array(
                addresses.iter().map(|address| address.as_ref().map_or(poison, |address| address.zip.as_deref())),
            ),
            text_array(
                addresses.iter().map(|address| address.as_ref().map_or(poison, |address| address.city.as_deref())),
            ),
        ],
        Some(nulls(&addresses)),
    );
    let visits: Vec<_> = rows.iter().map(|row| row.visits.clone()).collect();
    let flat: Vec<Option<Visit>> = visits.iter().flatten().flatten().cloned().collect();
    let of = |get: fn(&Visit) -> Option<&str>| text_array(flat.iter().map(|visit| visit.as_ref().map_or(poison, get)));
    let visit = StructArray::new(
        Fields::from(vec![
            Field::new("code", DataType::Utf8, true),
            Field::new("cost", DataType::Int32, true),
            Field::new("secret", DataType::Utf8, true),
        ]),
        vec![
            of(|visit| visit.code.as_deref()),
            Arc::new(Int32Array::from_iter(
                flat.iter().map(|visit| visit.as_ref().map_or(Some(-1), |visit| visit.cost)),
            )),
            of(|visit| visit.secret.as_deref()),
        ],
        Some(nulls(&flat)),
    );
    let element: FieldRef = Arc::new(Field::new("element", visit.data_type().clone(), true));
    let limits: Vec<_> = rows.iter().map(|row| row.limits.clone()).collect();
    let entries: Vec<_> = limits.iter().flatten().flatten().cloned().collect();
    let entry = StructArray::new(
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)]),
        vec![
            text_array(entries.iter().map(|(key, _)| Some(key.as_str()))),
            Arc::new(Int32Array::from_iter(entries.iter().map(|(_, value)| *value))),
        ],
        None,
    );
    let key_value: FieldRef = Arc::new(Field::new("key_value", entry.data_type().clone(), false));
    vec![
        ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id)))),
        ("plan", text_array(rows.iter().map(|row| row.plan.as_deref()))),
        ("score", Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.score)))),
        ("age", Arc::new(Int8Array::from_iter(rows.iter().map(|row| row.age)))),
        (
            "paid",
            Arc::new(
                Decimal128Array::from_iter(rows.iter().map(|row| row.paid)).with_precision_and_scale(12, 2).unwrap(),
            ),
        ),
        ("born", Arc::new(Date32Array::from_iter(rows.iter().map(|row| row.born)))),
        ("seen", Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.seen)).with_timezone("UTC"))),
        ("flag", Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.flag)))),
        ("blob", Arc::new(BinaryArray::from_iter(rows.iter().map(|row| row.blob.as_deref())))),
        ("address", Arc::new(address)),
        ("visits", Arc::new(ListArray::new(element, lists(&visits), Arc::new(visit), Some(nulls(&visits))))),
        ("limits", Arc::new(MapArray::new(key_value, lists(&limits), entry, Some(nulls(&limits)), false))),
    ]
}

/// The rows in one of the forms that writers may leave.
fn written(rows: &[Row], dice: &mut Dice, is_mapped: bool) -> RecordBatch {
    let mut columns = arrays(rows);
    // Narrower types from before a widening, and types that only arrow has.
    for (name, data_type) in [
        ("id", DataType::Int32),
        ("plan", DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))),
        ("plan", DataType::LargeUtf8),
        ("paid", DataType::Decimal128(11, 2)),
        ("seen", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("blob", DataType::LargeBinary),
    ] {
        if dice.roll(3) == 0 {
            let (_, column) = columns.iter_mut().find(|(own, _)| *own == name).unwrap();
            *column = cast(column, &data_type).unwrap();
        }
    }
    // The columns are in any order.
    for at in 0..columns.len() {
        let other = dice.roll(columns.len() as u64) as usize;
        columns.swap(at, other);
    }
    let name = |name: &str| if is_mapped { physical(name) } else { name.to_owned() };
    let fields: Vec<_> =
        columns.iter().map(|(own, column)| Field::new(name(own), column.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays).unwrap()
}

fn physical(name: &str) -> String {
    format!("col-{name}")
}

/// The table's schema with physical names for its columns; nested fields keep their names.
fn mapped(table: &Schema) -> Schema {
    let mut table = table.clone();
    for field in &mut table.fields {
        field.metadata.insert("delta.columnMapping.physicalName".to_owned(), physical(&field.name).into());
    }
    table
}

fn view(filter: &str) -> Value {
    json!({
        "columns": [
            {"name": "id"},
            {"name": "plan"},
            {"name": "region"},
            {"name": "member", "from": "plan", "mask": {"hash": {"domain": "plan"}}},
            {"name": "score"},
            {"name": "score_range", "from": "score", "mask": {"bucket": {"bounds": [0, 50.5]}}},
            {"name": "age", "mask": {"age_cap": {"cap": 89}}},
            {"name": "paid"},
            {"name": "paid_range", "from": "paid", "mask": {"bucket": {"bounds": [0, 100]}}},
            {"name": "born", "mask": {"year_only": {"cap_age": 89}}},
            {"name": "seen"},
            {"name": "seen_month", "from": "seen", "mask": {"date_trunc": {"unit": "month"}}},
            {"name": "flag"},
            {"name": "blob"},
            {"name": "zip", "from": "address.zip", "mask": "zip3"},
            {"name": "address.city"},
            {"name": "visits.element.cost", "mask": {"bucket": {"bounds": [100]}}},
            {"name": "visits.element.code"},
            {"name": "limits"},
            {"name": "gone", "from": "visits", "mask": "null"},
            {"name": "all_redacted", "from": "address.zip", "mask": "redact"},
        ],
        "row_filter": filter,
    })
}

const FILTERS: [&str; 14] = [
    "TRUE",
    "flag",
    "NOT flag",
    "plan IN recipient_list('plans')",
    "NOT plan IN recipient_list('plans') OR plan IS NULL",
    "plan LIKE 'HMO%' AND score > 0",
    "plan LIKE 'ünï%'",
    "score = 0 OR score IS NULL",
    "NOT score < 10.5",
    "age BETWEEN 18 AND 64 AND address.city = 'Bonn'",
    "paid >= -12.34 AND paid < 5000",
    "born >= DATE '1960-01-01' OR seen < TIMESTAMP '1970-01-01 00:00:00Z'",
    "born < today() - 20000",
    "region = 'north' AND address.zip IS NOT NULL",
];

/// Shows rows with plain code.
struct Plain<'a> {
    rules: &'a Rules,
    region: Option<&'a str>,
}

impl Plain<'_> {
    fn known(&self, row: &Row, column: &ColumnPath) -> Option<Known> {
        let text = |text: Option<&String>| text.map(|text| Known::Text(text.clone()));
        match column.to_string().as_str() {
            "id" => Some(Known::Integer(row.id)),
            "plan" => text(row.plan.as_ref()),
            "region" => self.region.map(|region| Known::Text(region.to_owned())),
            "score" => row.score.map(Known::Float),
            "age" => row.age.map(|age| Known::Integer(age.into())),
            "paid" => row.paid.map(Known::Decimal),
            "born" => row.born.map(Known::Date),
            "seen" => row.seen.map(Known::Timestamp),
            "flag" => row.flag.map(Known::Boolean),
            "address.city" => text(row.address.as_ref()?.city.as_ref()),
            "address.zip" => text(row.address.as_ref()?.zip.as_ref()),
            other => panic!("{other}"),
        }
    }

    fn is_shown(&self, row: &Row) -> bool {
        let condition = self.rules.condition.as_ref();
        condition.is_none_or(|condition| condition.evaluate(&|column| self.known(row, column)) == Some(true))
    }

    fn masked(&self, mask: Value, primitive: Primitive, cell: Cell<'_>) -> Value {
        let mask = Mask::from_json(&mask).unwrap();
        let mask = mask.bind(&DeltaType::Primitive(primitive), &self.rules.keys, TODAY).unwrap();
        match mask.apply(cell).unwrap() {
            Cell::Null => Value::Null,
            Cell::Integer(value) => value.into(),
            Cell::Text(text) => text.into(),
            Cell::Timestamp(micros) => instant(micros),
            other => panic!("{other:?}"),
        }
    }

    fn shown(&self, row: &Row) -> Value {
        fn text(text: Option<&String>) -> Cell<'_> {
            text.map_or(Cell::Null, |text| Cell::Text(Cow::Borrowed(text.as_str())))
        }
        let zip = row.address.as_ref().and_then(|address| address.zip.as_ref());
        let decimal = Primitive::Decimal { precision: 12, scale: 2 };
        let visit = |visit: &Option<Visit>| {
            visit.as_ref().map(|visit| {
                let cost = visit.cost.map_or(Cell::Null, |cost| Cell::Integer(cost.into()));
                json!({
                    "code": visit.code,
                    "cost": self.masked(json!({"bucket": {"bounds": [100]}}), Primitive::Integer, cost),
                })
            })
        };
        let year = json!({"year_only": {"cap_age": 89}});
        let month = json!({"date_trunc": {"unit": "month"}});
        let hash = json!({"hash": {"domain": "plan"}});
        json!({
            "id": row.id,
            "plan": row.plan,
            "region": self.region,
            "member": self.masked(hash, Primitive::String, text(row.plan.as_ref())),
            "score": row.score.map(float),
            "score_range": self.masked(
                json!({"bucket": {"bounds": [0, 50.5]}}), Primitive::Double, row.score.map_or(Cell::Null, Cell::Float)),
            "age": row.age.map(|age| age.min(90)),
            "paid": row.paid.map(digits),
            "paid_range": self.masked(
                json!({"bucket": {"bounds": [0, 100]}}), decimal, row.paid.map_or(Cell::Null, Cell::Decimal)),
            "born": self.masked(year, Primitive::Date, row.born.map_or(Cell::Null, Cell::Date)),
            "seen": row.seen.map(instant),
            "seen_month": self.masked(month, Primitive::Timestamp, row.seen.map_or(Cell::Null, Cell::Timestamp)),
            "flag": row.flag,
            "blob": row.blob.as_ref().map(|blob| STANDARD.encode(blob)),
            "zip": self.masked(json!("zip3"), Primitive::String, text(zip)),
            "address": row.address.as_ref().map(|address| json!({"city": address.city})),
            "visits": row.visits.as_ref().map(|visits| visits.iter().map(visit).collect::<Vec<_>>()),
            "limits": row.limits.as_ref().map(|limits| {
                limits.iter().map(|(key, value)| json!({"key": key, "value": value})).collect::<Vec<_>>()
            }),
            "gone": null,
            "all_redacted": "REDACTED",
        })
    }
}

fn digits(unscaled: i128) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", unscaled.abs() / 100, unscaled.abs() % 100)
}

fn instant(micros: i64) -> Value {
    DateTime::from_timestamp_micros(micros).unwrap().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into()
}

fn float(value: f64) -> Value {
    match value {
        _ if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        _ => value.into(),
    }
}

/// The rows of a file as JSON.
fn as_json(batch: &RecordBatch) -> Vec<Value> {
    let batch = StructArray::from(batch.clone());
    let batch: ArrayRef = Arc::new(batch);
    (0..batch.len()).map(|row| cell(&batch, row)).collect()
}

fn cell(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    let all = |values: ArrayRef| (0..values.len()).map(|at| cell(&values, at)).collect();
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(12, 2) => digits(column.as_primitive::<Decimal128Type>().value(row)).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Binary => STANDARD.encode(column.as_binary::<i32>().value(row)).into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => {
            instant(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Date32 => {
            let days = TimeDelta::days(column.as_primitive::<Date32Type>().value(row).into());
            (NaiveDate::default() + days).to_string().into()
        }
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            let object: Map<_, _> =
                fields.iter().zip(columns).map(|(field, column)| (field.name().clone(), cell(column, row))).collect();
            object.into()
        }
        DataType::List(_) => all(column.as_list::<i32>().value(row)),
        DataType::Map(..) => all(Arc::new(column.as_map().value(row))),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn random_rows_come_out_as_plain_code_shows_them() {
    let table = table();
    let mut shown_in_all = 0;
    for seed in 0..56 {
        let mut dice = Dice(seed + 1);
        let rows: Vec<Row> = (0..40 + dice.roll(400) as i64).map(|id| row(&mut dice, id)).collect();
        let filter = FILTERS[seed as usize % FILTERS.len()];
        let rules = rules(&table, &[], view(filter), json!({"plans": ["HMO", "ünï_%\\", ""]}));
        let is_mapped = dice.roll(2) == 0;
        let file = written(&rows, &mut dice, is_mapped);
        let size = 1 + dice.roll(rows.len() as u64) as usize;
        let groups: Vec<_> =
            (0..rows.len()).step_by(size).map(|from| file.slice(from, size.min(rows.len() - from))).collect();
        let codecs = [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::ZSTD(ZstdLevel::default()),
            Compression::LZ4_RAW,
        ];
        let properties = WriterProperties::builder()
            .set_compression(codecs[dice.roll(5) as usize])
            .set_dictionary_enabled(dice.roll(2) == 0)
            .set_data_page_row_count_limit(7)
            .set_write_batch_size(3)
            .set_writer_version(if dice.roll(2) == 0 {
                WriterVersion::PARQUET_1_0
            } else {
                WriterVersion::PARQUET_2_0
            });
        let mut source =
            source(parquet(&groups, properties.build()), &if is_mapped { mapped(&table) } else { table.clone() }).await;
        source.mapping = if is_mapped { ColumnMapping::Name } else { ColumnMapping::None };
        let region = [Some("north"), Some("ä/ö"), None][dice.roll(3) as usize];
        let name = if is_mapped { physical("region") } else { "region".to_owned() };
        source.partition_values = vec![(name, region.map(str::to_owned))];

        let plain = Plain { rules: &rules, region };
        let expected: Vec<_> = rows.iter().filter(|row| plain.is_shown(row)).map(|row| plain.shown(row)).collect();
        let (made, content) = try_make(&source, &rules).await.unwrap_or_else(|error| panic!("{seed}: {error:?}"));
        assert_eq!(made.rows, expected.len() as u64, "{seed}: {filter}");
        let shown = content.as_ref().map_or(Vec::new(), |content| as_json(&read(content)));
        assert_eq!(shown, expected, "{seed}: {filter}");
        shown_in_all += shown.len();

        let previewed = engine().preview(source.clone(), rules.clone(), 10).await.unwrap();
        assert_eq!(
            previewed.into_iter().map(Value::from).collect::<Vec<_>>(),
            expected[..expected.len().min(10)],
            "{seed}"
        );
        let counted = engine().count(source, rules.condition.clone()).await.unwrap();
        assert_eq!((counted.live, counted.shown), (rows.len() as u64, made.rows), "{seed}");
    }
    assert!(shown_in_all > 1_000, "{shown_in_all}");
}
