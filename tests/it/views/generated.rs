//! Searches for leaks in random tables, views and partners, with new seeds each day. Reads are compared with what plain
//! code makes of the same rows, and everything that leaves the server is searched.
//!
//! `WEIR_TEST_LEAK_CASES` sets the number of cases; by default, as many as fit into this test's share of time.
//! `WEIR_TEST_LEAK_SEED` sets the first seed, to repeat one that an earlier run printed.

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value as Json, json};
use weir::domain::catalog::schema::{DataType, Field, Primitive};

use super::{
    check::{self, nothing},
    claims_view::{findings, reader},
    connector::{TableRead, Way},
    plain::{Pick, Visible},
    source::{Mapping, Table, word},
    value::{Row, Value},
    weir_server::{self, Kind, WeirServer},
};

/// The least number of cases, divided equally among the kinds of server, and the default for the most.
const CASES: (u64, u64) = (9, 60);
/// After this time no further case starts, beyond the least number.
const SHARE_OF_TIME: Duration = Duration::from_secs(45);
/// The number of seeds per day.
const SEEDS_A_DAY: u64 = 1000;

/// The column that filters use, and its values.
const GROUP: &str = "zgroup_name";
const GROUPS: [&str; 5] = ["zgroupalpha", "zgroupbravo", "zgroupcharlie", "zgroupdelta", "zgroupecho"];

/// Reads a number from the environment.
fn set(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// The first seed of today.
fn of_today() -> u64 {
    let days = Utc::now().timestamp() / TimeDelta::days(1).num_seconds();
    days.unsigned_abs() * SEEDS_A_DAY
}

#[test]
fn nothing_hidden_leaves_whatever_the_table_and_the_view() {
    let first = set("WEIR_TEST_LEAK_SEED").unwrap_or_else(of_today);
    let (least, most) = set("WEIR_TEST_LEAK_CASES").map_or(CASES, |cases| (cases, cases));
    let began = Instant::now();
    for seed in first..first + most {
        if seed >= first + least && began.elapsed() > SHARE_OF_TIME {
            break;
        }
        // If a case fails, its seed is the last one printed.
        println!("case {seed}: WEIR_TEST_LEAK_SEED={seed} WEIR_TEST_LEAK_CASES=1 tries it again");
        let kind = match seed % 3 {
            0 => Kind::Folder,
            1 => Kind::S3,
            _ => Kind::Postgres,
        };
        weir_server::run(kind, |server| one_case(server, seed));
    }
}

async fn one_case(server: WeirServer, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1);
    let (mut table, mut names) = table(&server, &mut random, seed);
    grow(&mut table, &mut random, &mut names);
    let visible = visible(&table, &mut random, &mut names);
    server.register().await;
    let view = server.publish(&visible.definition(), visible.filter.as_deref()).await;
    server.share(&view).await;
    let groups =
        |random: &mut StdRng| -> Vec<&str> { GROUPS.iter().copied().filter(|_| random.random_bool(0.5)).collect() };
    let properties = |random: &mut StdRng| json!({"groups": groups(random), "group": GROUPS.choose(random)});
    let mine = server.connector("acme", properties(&mut random)).await;
    let theirs = server.connector("rival", properties(&mut random)).await;

    // Without its feature nobody reads local times, and nobody is told of it who need not know.
    let shown = visible.shown(&table.state, &reader(&server, &mine).await).fields;
    let has_local_times = format!("{shown:?}").contains("TimestampNtz");
    let ways: Vec<Way> = server.ways().into_iter().filter(|way| way.is_delta || !has_local_times).collect();
    if has_local_times {
        let refusal = mine.query(server.ways()[0], json!({})).await.refused(400, "UNSUPPORTED_OPERATION");
        assert!(refusal.contains("timestampNtz"), "{refusal}");
    }
    let mut both: Vec<Vec<TableRead>> = Vec::new();
    for connector in [&mine, &theirs] {
        let expected = visible.shown(&table.state, &reader(&server, connector).await);
        let reads = connector.read_in(&ways, json!({})).await;
        nothing(&findings(&server, &table, connector, &expected, &reads));
        both.push(reads);
    }
    nothing(&check::apart(&both[0], &both[1]));

    // Older versions are shown by the same view, or not at all.
    let version = random.random_range(0..=table.version());
    let expected = visible.shown(&table.at(version), &reader(&server, &mine).await);
    let way = *ways.choose(&mut random).unwrap();
    let answer = mine.query(way, json!({"version": version})).await;
    if answer.status == 200 {
        let read = mine.read(way, json!({"version": version})).await;
        nothing(&findings(&server, &table, &mine, &expected, &[read]));
    } else {
        assert!(answer.refused(400, "INVALID_PARAMETER_VALUE").contains("as it is shared now"), "{}", answer.text());
        nothing(&findings(&server, &table, &mine, &expected, &[]));
    }
}

/// Adds a new name.
fn name(random: &mut StdRng, names: &mut Vec<String>) -> String {
    names.push(word(random));
    names.last().unwrap().clone()
}

fn json_field(name: &str, data_type: Json) -> Json {
    json!({"name": name, "type": data_type, "nullable": true, "metadata": {}})
}

fn table(server: &WeirServer, random: &mut StdRng, seed: u64) -> (Table, Vec<String>) {
    let mut names = Vec::new();
    let mapping = *[Mapping::None, Mapping::Name, Mapping::Id].choose(random).unwrap();
    let mut columns = vec![json_field("zrow_number", json!("long")), json_field(GROUP, json!("string"))];
    for _ in 0..random.random_range(3..8) {
        let (name, data_type) = (name(random, &mut names), any_type(random, &mut names, 3));
        columns.push(json_field(&name, data_type));
    }
    let mut partition_columns = Vec::new();
    for data_type in ["string", "integer", "date", "boolean"] {
        if random.random_bool(0.25) {
            let name = name(random, &mut names);
            columns.insert(random.random_range(0..columns.len()), json_field(&name, json!(data_type)));
            partition_columns.push(name);
        }
    }
    if random.random_bool(0.3) {
        partition_columns.push(GROUP.to_owned());
    }
    let partition_columns: Vec<&str> = partition_columns.iter().map(String::as_str).collect();
    (server.table(&columns.into(), &partition_columns, mapping, seed), names)
}

fn any_type(random: &mut StdRng, names: &mut Vec<String>, depth: usize) -> Json {
    const LEAVES: [&str; 15] = [
        "string",
        "string",
        "string",
        "long",
        "long",
        "integer",
        "short",
        "byte",
        "double",
        "float",
        "decimal(38,10)",
        "decimal(9,2)",
        "boolean",
        "binary",
        "date",
    ];
    const TIMES: [&str; 2] = ["timestamp", "timestamp_ntz"];
    match random.random_range(0..10) {
        0 | 1 if depth > 0 => {
            let fields: Vec<Json> = (0..random.random_range(1..4))
                .map(|_| {
                    let name = name(random, names);
                    json_field(&name, any_type(random, names, depth - 1))
                })
                .collect();
            json!({"type": "struct", "fields": fields})
        }
        2 if depth > 0 => {
            json!({"type": "array", "elementType": any_type(random, names, depth - 1), "containsNull": true})
        }
        3 if depth > 0 => {
            let key = if random.random_bool(0.7) { "string" } else { "long" };
            let value = any_type(random, names, depth - 1);
            json!({"type": "map", "keyType": key, "valueType": value, "valueContainsNull": true})
        }
        4 => json!(TIMES.choose(random).unwrap()),
        _ => json!(LEAVES.choose(random).unwrap()),
    }
}

/// Makes several commits that add and remove rows and columns.
fn grow(table: &mut Table, random: &mut StdRng, names: &mut Vec<String>) {
    let maps = table.state.schema.fields[0].mapped_name().is_some();
    append(table, random);
    for _ in 0..random.random_range(1..5) {
        match random.random_range(0..7) {
            0 => {
                let (share, salt) = (random.random_range(2..6), random.random_range(0..100));
                table.delete(|row| matches!(row[number_at(row)], Value::Integer(id) if (id + salt) % share == 0));
            }
            1 if table.state.files.len() > 1 => {
                let gone = random.random_range(0..table.state.files.len());
                table.remove_files(|at| at == gone);
            }
            2 => {
                let data_type = any_type(random, names, 2);
                let new = Table::column(&name(random, names), data_type);
                let is_local = format!("{new:?}").contains("TimestampNtz");
                // The protocol of these tables is fixed at creation.
                if !is_local {
                    table.alter(|fields| fields.push(new));
                }
            }
            3 if maps => {
                if let Some(at) = free_column(table, random) {
                    table.alter(|fields| drop(fields.remove(at)));
                }
            }
            4 if maps => {
                if let Some(at) = free_column(table, random) {
                    let new = name(random, names);
                    table.alter(|fields| fields[at].name = new);
                }
            }
            _ => append(table, random),
        }
    }
    append(table, random);
}

/// The position of the row's number: the only whole number that counts from 0.
fn number_at(row: &Row) -> usize {
    row.iter().position(|value| matches!(value, Value::Integer(id) if (0..1_000_000).contains(id))).unwrap()
}

/// A column that nothing else depends on.
fn free_column(table: &Table, random: &mut StdRng) -> Option<usize> {
    let fields = &table.state.schema.fields;
    let is_free = |at: &usize| {
        let name = &fields[*at].name;
        name != "zrow_number" && name != GROUP && !table.state.partition_columns.contains(name)
    };
    let free: Vec<usize> = (0..fields.len()).filter(is_free).collect();
    free.choose(random).copied()
}

fn append(table: &mut Table, random: &mut StdRng) {
    let first = i64::try_from(table.versions.iter().map(|version| version.files.len()).sum::<usize>()).unwrap() * 1_000;
    let partitioned = table.state.partition_columns.clone();
    let fields = table.state.schema.fields.clone();
    // Few partition values, with several rows each.
    let pools: BTreeMap<String, Vec<Value>> = fields
        .iter()
        .filter(|field| partitioned.contains(&field.name) && field.name != GROUP)
        .map(|field| (field.name.clone(), (0..2).map(|_| any_value(&field.data_type, random)).collect()))
        .collect();
    let rows = (0..random.random_range(1..40)).map(|at| {
        let value = |field: &Field, random: &mut StdRng| match field.name.as_str() {
            "zrow_number" => Value::Integer(first + at),
            GROUP if random.random_bool(0.1) => Value::Null,
            GROUP => Value::text(*GROUPS.choose(random).unwrap()),
            name => match pools.get(name) {
                Some(pool) => pool.choose(random).unwrap().clone(),
                None => any_value(&field.data_type, random),
            },
        };
        fields.iter().map(|field| value(field, random)).collect()
    });
    let rows: Vec<Row> = rows.collect();
    table.append(rows);
}

fn any_value(data_type: &DataType, random: &mut StdRng) -> Value {
    if random.random_bool(0.15) {
        return Value::Null;
    }
    match data_type {
        DataType::Primitive(primitive) => any_leaf(*primitive, random),
        DataType::Struct(fields) => {
            Value::Struct(fields.iter().map(|field| any_value(&field.data_type, random)).collect())
        }
        DataType::Array { element, .. } => {
            Value::List((0..random.random_range(0..4)).map(|_| any_value(element, random)).collect())
        }
        DataType::Map { key, value, .. } => {
            let entry = |random: &mut StdRng| {
                let DataType::Primitive(primitive) = **key else { panic!("keys are single values here") };
                (any_leaf(primitive, random), any_value(value, random))
            };
            Value::Map((0..random.random_range(0..3)).map(|_| entry(random)).collect())
        }
        DataType::Other(name) => panic!("no {name} here"),
    }
}

fn any_leaf(primitive: Primitive, random: &mut StdRng) -> Value {
    match primitive {
        Primitive::Boolean => Value::Boolean(random.random()),
        // Small numbers are reserved for the rows' numbers.
        Primitive::Byte => Value::Integer(random.random_range(-128..0)),
        Primitive::Short => Value::Integer(random.random_range(-32_768..0)),
        Primitive::Integer => Value::Integer(random.random_range(-2_000_000_000..-1)),
        Primitive::Long => Value::Integer(random.random_range(1 << 50..1 << 62)),
        Primitive::Float => Value::Float(f64::from(random.random_range(-1.0e9_f32..1.0e9))),
        Primitive::Double => match random.random_range(0..20) {
            0 => Value::Float(f64::NAN),
            1 => Value::Float(f64::INFINITY),
            2 => Value::Float(-0.0),
            _ => Value::Float(random.random_range(-1.0e12..1.0e12)),
        },
        Primitive::Decimal { precision, .. } => {
            let most = 10_i128.pow(u32::from(precision.min(18)));
            Value::Decimal(random.random_range(-most + 1..most))
        }
        Primitive::String => Value::Text(word(random)),
        Primitive::Binary => Value::Binary((0..16).map(|_| random.random()).collect()),
        Primitive::Date => Value::Date(random.random_range(-20_000..30_000)),
        Primitive::Timestamp | Primitive::TimestampNtz => Value::Timestamp(random.random_range(-(1 << 50)..1 << 51)),
    }
}

/// Some columns, and of them some parts, under some masks; and perhaps not all rows.
fn visible(table: &Table, random: &mut StdRng, names: &mut Vec<String>) -> Visible {
    let fields = &table.state.schema.fields;
    let mut columns = Vec::new();
    let mut comments = BTreeMap::new();
    for field in fields {
        if !random.random_bool(0.55) {
            continue;
        }
        let shown_as = if random.random_bool(0.6) { field.name.clone() } else { name(random, names) };
        if let Some(pick) = pick(vec![field.name.clone()], &field.data_type, random, names, true) {
            if matches!(pick, Pick::Value { .. }) && random.random_bool(0.2) {
                comments.insert(shown_as.clone(), format!("about {}", random.random_range(0..100)));
            }
            columns.push((shown_as, pick));
        }
    }
    // Parts from different places under one name.
    let leaves: Vec<&Field> = fields.iter().filter(|field| field.data_type.primitive().is_some()).collect();
    if random.random_bool(0.4) {
        let of = |random: &mut StdRng, names: &mut Vec<String>| {
            let field = leaves.choose(random).unwrap();
            let mask = mask(&field.data_type, random);
            (name(random, names), Pick::Value { from: vec![field.name.clone()], mask })
        };
        let parts = vec![of(random, names), of(random, names)];
        columns.push((name(random, names), Pick::Gathered(parts)));
    }
    if columns.is_empty() {
        columns.push(("zrow_number".to_owned(), Pick::whole("zrow_number")));
    }
    Visible { columns, comments, filter: random.random_bool(0.75).then(|| filter(fields, random, 2)) }
}

/// A way to show what is at a path; `None` if nothing there can be shown.
fn pick(
    from: Vec<String>,
    data_type: &DataType,
    random: &mut StdRng,
    names: &mut Vec<String>,
    is_named: bool,
) -> Option<Pick> {
    if random.random_bool(0.08) && is_named {
        return Some(Pick::Value { from, mask: Some(json!("null")) });
    }
    match data_type {
        DataType::Primitive(_) => {
            let mask = if random.random_bool(0.5) { mask(data_type, random) } else { None };
            Some(Pick::Value { from, mask })
        }
        DataType::Struct(fields) => match random.random_range(0..3) {
            0 => Some(Pick::Value { from, mask: None }),
            // A part under its own name.
            1 if is_named => {
                let field = fields.choose(random)?;
                pick([from, vec![field.name.clone()]].concat(), &field.data_type, random, names, is_named)
            }
            _ => {
                let mut parts = Vec::new();
                for field in fields {
                    if random.random_bool(0.6)
                        && let Some(part) = pick(vec![field.name.clone()], &field.data_type, random, names, is_named)
                    {
                        let name = if random.random_bool(0.7) { field.name.clone() } else { name(random, names) };
                        parts.push((name, part));
                    }
                }
                // If its only part lies deeper, the struct is NULL where that part's parent is.
                let is_plain = parts.iter().all(|(_, part)| !matches!(part, Pick::Value { from, .. } if from.len() > 1)
                    && !matches!(part, Pick::List { from, .. } | Pick::Map { from, .. } | Pick::Struct { from, .. } if from.len() > 1));
                if parts.is_empty() || !is_plain {
                    Some(Pick::Value { from, mask: None })
                } else {
                    Some(Pick::Struct { from, fields: parts })
                }
            }
        },
        DataType::Array { element, .. } => match random.random_range(0..3) {
            0 => Some(Pick::Value { from, mask: None }),
            1 if matches!(**element, DataType::Primitive(_)) => Some(Pick::Value { from, mask: mask(element, random) }),
            _ => {
                let element = pick(Vec::new(), element, random, names, false)?;
                Some(Pick::List { from, element: Box::new(element) })
            }
        },
        DataType::Map { value, .. } => {
            if random.random_bool(0.4) {
                return Some(Pick::Value { from, mask: None });
            }
            let value = pick(Vec::new(), value, random, names, false)?;
            Some(Pick::Map { from, value: Box::new(value) })
        }
        DataType::Other(_) => None,
    }
}

/// A random mask that fits a type.
fn mask(data_type: &DataType, random: &mut StdRng) -> Option<Json> {
    let unit = |random: &mut StdRng, of: &[&'static str]| *of.choose(random).unwrap();
    let per = ["recipient", "share", "global"].choose(random).unwrap();
    let mut masks =
        vec![json!("redact"), json!({"redact": {"keep_nulls": true}}), json!({"hash": {"domain": "d", "per": per}})];
    match data_type.primitive()? {
        Primitive::String => masks.extend([
            json!({"partial": {"first": 1, "last": 1}}),
            json!("zip3"),
            json!({"constant": {"value": "hidden", "keep_nulls": random.random::<bool>()}}),
        ]),
        Primitive::Date => masks.extend([
            json!({"date_trunc": {"unit": unit(random, &["year", "quarter", "month", "week"])}}),
            json!({"year_only": {"cap_age": 40}}),
            json!("year_only"),
        ]),
        Primitive::Timestamp | Primitive::TimestampNtz => masks.extend([
            json!({"date_trunc": {"unit": unit(random, &["year", "month", "day", "hour"])}}),
            json!("year_only"),
        ]),
        Primitive::Long | Primitive::Integer | Primitive::Short | Primitive::Byte => masks.extend([
            json!({"age_cap": {"cap": 60}}),
            json!({"bucket": {"bounds": [-100, 0, 100]}}),
            json!({"constant": {"value": 7}}),
        ]),
        Primitive::Double | Primitive::Float => masks.push(json!({"bucket": {"bounds": [-1000.5, 0, 1000]}})),
        Primitive::Decimal { .. } => masks.push(json!({"bucket": {"bounds": ["-1.5", 0, "1000"]}})),
        Primitive::Boolean => masks.push(json!({"constant": {"value": true, "keep_nulls": true}})),
        Primitive::Binary => {}
    }
    masks.choose(random).cloned()
}

/// A row filter over what there is, and a connector's properties.
fn filter(fields: &[Field], random: &mut StdRng, depth: usize) -> String {
    let two = |random: &mut StdRng| (filter(fields, random, depth - 1), filter(fields, random, depth - 1));
    match random.random_range(0..8) {
        0 if depth > 0 => {
            let (one, other) = two(random);
            format!("({one}) AND ({other})")
        }
        1 if depth > 0 => {
            let (one, other) = two(random);
            format!("({one}) OR ({other})")
        }
        2 if depth > 0 => format!("NOT ({})", filter(fields, random, depth - 1)),
        3 => format!("{GROUP} IN recipient_list('groups')"),
        4 => format!("{GROUP} = recipient('group')"),
        5 => format!("{GROUP} IN ('{}', recipient('group'))", GROUPS[0]),
        _ => leaf_filter(fields, random),
    }
}

fn leaf_filter(fields: &[Field], random: &mut StdRng) -> String {
    let mut leaves: Vec<(String, Primitive)> = Vec::new();
    for field in fields {
        leaves_of(&field.name, &field.data_type, &mut leaves);
    }
    let (column, primitive) = leaves.choose(random).unwrap();
    let order = ["=", "<>", "<", "<=", ">", ">="].choose(random).unwrap();
    match (random.random_range(0..4), primitive) {
        (0, _) | (_, Primitive::Binary) => {
            format!("{column} IS {}NULL", if random.random_bool(0.5) { "NOT " } else { "" })
        }
        (_, Primitive::Boolean) => column.clone(),
        (_, Primitive::String) => format!("{column} LIKE 'z{}%'", ["a", "b", "g", "m"].choose(random).unwrap()),
        (_, Primitive::Long) => format!("{column} {order} {}", random.random_range(0..1_i64 << 61)),
        (1, Primitive::Integer) => format!("{column} BETWEEN -1500000000 AND -100000"),
        (_, Primitive::Integer) => format!("{column} {order} -1000000000"),
        (_, Primitive::Short) => format!("{column} {order} -1000"),
        (_, Primitive::Byte) => format!("{column} {order} -50"),
        (_, Primitive::Double | Primitive::Float) => format!("{column} {order} 1000.5"),
        (_, Primitive::Decimal { .. }) => format!("{column} {order} -1.5"),
        (1, Primitive::Date) => format!("{column} {order} today() - 9000"),
        (_, Primitive::Date) => format!("{column} {order} DATE '1999-12-31'"),
        (_, Primitive::Timestamp) => format!("{column} {order} TIMESTAMP '2000-01-01 00:00:00Z'"),
        (_, Primitive::TimestampNtz) => format!("{column} {order} TIMESTAMP '2000-01-01 00:00:00'"),
    }
}

/// The scalar values of a row, outside lists and maps.
fn leaves_of(path: &str, data_type: &DataType, leaves: &mut Vec<(String, Primitive)>) {
    match data_type {
        DataType::Primitive(primitive) => leaves.push((path.to_owned(), *primitive)),
        DataType::Struct(fields) => {
            fields.iter().for_each(|field| leaves_of(&format!("{path}.{}", field.name), &field.data_type, leaves));
        }
        _ => {}
    }
}
