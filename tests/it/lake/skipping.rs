//! A skipped file never contains a matching row: generated tables, rows and predicates, in both notations.

use std::sync::Arc;

use proptest::{prelude::*, sample::select, test_runner::TestCaseError};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use weir::{
    domain::sharing::predicate::Filter,
    lake::{Lake, LakeSettings, Order},
    telemetry::Metrics,
};

use crate::support::tables::{HandWrittenLog, location, metadata, protocol, protocol_with};

/// Name, Delta type, JSON type, and values in ascending order. The timestamps differ by less than statistics can
/// express.
const COLUMNS: [(&str, &str, &str, &[&str]); 11] = [
    ("b", "boolean", "bool", &["false", "true"]),
    ("i", "integer", "int", &["-2147483648", "-2", "0", "3", "4", "2147483647"]),
    ("l", "long", "long", &["-9223372036854775808", "-1", "0", "1", "9223372036854775807"]),
    (
        "s",
        "string",
        "string",
        &["", "a", "ab", LONG, LONG_AND_MORE, LONG_AND_LATER, "b", "z", "\u{e9}", "\u{ffff}", "\u{1f409}"],
    ),
    ("d", "date", "date", &["0001-01-01", "1969-12-31", "2020-02-29", "2020-03-01", "9999-12-31"]),
    ("f", "float", "float", &["-1.5", "-0.0", "0.1", "0.3", "16777216", "3e38"]),
    ("x", "double", "double", &["-1e300", "0.0", "0.1", "0.30000000000000004", "1e300"]),
    (
        "t",
        "timestamp",
        "timestamp",
        &[
            "1969-12-31T23:59:59.999500Z",
            "2020-01-01T00:00:00.000000Z",
            "2020-01-01T00:00:00.000999Z",
            "2020-01-01T00:00:00.001000Z",
            "2020-01-01T00:00:01.000000Z",
        ],
    ),
    ("p", "string", "string", &["a", "ab", "b", "é x"]),
    ("q", "integer", "int", &["-1", "0", "7"]),
    ("r", "date", "date", &["2020-02-29", "2020-03-01"]),
];
const LONG: &str = "abcdefghijklmnopqrstuvwxyzabcdef";
const LONG_AND_MORE: &str = "abcdefghijklmnopqrstuvwxyzabcdefg";
const LONG_AND_LATER: &str = "abcdefghijklmnopqrstuvwxyzabcdefz";
const DATA_COLUMNS: usize = 8;
const COMPARISONS: [(&str, &str); 5] =
    [("equal", "="), ("lessThan", "<"), ("lessThanOrEqual", "<="), ("greaterThan", ">"), ("greaterThanOrEqual", ">=")];

/// The index of a value per column; `None` for null.
type Row = Vec<Option<usize>>;

#[derive(Clone, Debug)]
struct File {
    /// A partition column has the value of the first row in every row.
    rows: Vec<Row>,
    /// How many of the first rows are deleted.
    deleted: usize,
    /// How the writer described each column.
    described: Vec<Described>,
    has_count: bool,
}

#[derive(Clone, Copy, Debug)]
struct Described {
    low: bool,
    high: bool,
    nulls: bool,
    /// By how many values the bounds are too wide.
    slack: usize,
}

#[derive(Clone, Debug)]
enum Tree {
    IsNull(usize),
    Compare { column: usize, comparison: usize, value: usize, is_mirrored: bool },
    Not(Box<Tree>),
    And(Vec<Tree>),
    Or(Vec<Tree>),
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = |column: usize| prop::option::weighted(0.8, 0..COLUMNS[column].3.len());
    let row: Vec<_> = (0..COLUMNS.len()).map(value).collect();
    prop::collection::vec(row, 1..4).prop_map(|mut rows| {
        let first = rows[0].clone();
        rows.iter_mut().for_each(|row| row[DATA_COLUMNS..].copy_from_slice(&first[DATA_COLUMNS..]));
        rows
    })
}

fn files() -> impl Strategy<Value = Vec<File>> {
    let described = (prop::bool::weighted(0.8), prop::bool::weighted(0.8), prop::bool::weighted(0.8), 0..2usize)
        .prop_map(|(low, high, nulls, slack)| Described { low, high, nulls, slack });
    let file = (rows(), 0..3usize, prop::collection::vec(described, DATA_COLUMNS), prop::bool::weighted(0.9)).prop_map(
        |(rows, deleted, described, has_count)| {
            let deleted = deleted.min(rows.len() - 1);
            File { rows, deleted, described, has_count }
        },
    );
    prop::collection::vec(file, 1..10)
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = (0..COLUMNS.len(), 0..COMPARISONS.len(), any::<prop::sample::Index>(), any::<bool>(), 0..6).prop_map(
        |(column, comparison, value, is_mirrored, kind)| match kind {
            0 => Tree::IsNull(column),
            _ => Tree::Compare { column, comparison, value: value.index(COLUMNS[column].3.len()), is_mirrored },
        },
    );
    leaf.prop_recursive(3, 12, 3, |inner| {
        let several = || prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            inner.clone().prop_map(|tree| Tree::Not(Box::new(tree))),
            several().prop_map(Tree::And),
            several().prop_map(Tree::Or),
        ]
    })
}

impl Tree {
    /// The predicate's value for a row, in SQL; without `knows_null`, null counts as false.
    fn holds(&self, row: &Row, knows_null: bool) -> Option<bool> {
        match self {
            Self::IsNull(column) => Some(row[*column].is_none()),
            Self::Compare { column, comparison, value, .. } => match row[*column] {
                None => (!knows_null).then_some(false),
                Some(own) => Some(match COMPARISONS[*comparison].1 {
                    "=" => own == *value,
                    "<" => own < *value,
                    "<=" => own <= *value,
                    ">" => own > *value,
                    _ => own >= *value,
                }),
            },
            Self::Not(tree) => tree.holds(row, knows_null).map(|holds| !holds),
            Self::And(trees) => {
                let parts: Vec<Option<bool>> = trees.iter().map(|tree| tree.holds(row, knows_null)).collect();
                if parts.contains(&Some(false)) {
                    Some(false)
                } else if parts.contains(&None) {
                    None
                } else {
                    Some(true)
                }
            }
            Self::Or(trees) => {
                let negated = trees.iter().cloned().map(|tree| Self::Not(Box::new(tree))).collect();
                Self::And(negated).holds(row, knows_null).map(|holds| !holds)
            }
        }
    }

    fn json(&self) -> Value {
        let column = |index: usize| json!({"op": "column", "name": COLUMNS[index].0, "valueType": COLUMNS[index].2});
        let all = |trees: &[Self]| trees.iter().map(Self::json).collect::<Vec<_>>();
        match self {
            Self::IsNull(index) => json!({"op": "isNull", "children": [column(*index)]}),
            Self::Compare { column: index, comparison, value, is_mirrored } => {
                let (_, _, value_type, values) = COLUMNS[*index];
                let literal = json!({"op": "literal", "value": values[*value], "valueType": value_type});
                let op = COMPARISONS[*comparison].0;
                if *is_mirrored {
                    let op = op.replace("less", "LESS").replace("greater", "less").replace("LESS", "greater");
                    json!({"op": op, "children": [literal, column(*index)]})
                } else {
                    json!({"op": op, "children": [column(*index), literal]})
                }
            }
            Self::Not(tree) => json!({"op": "not", "children": [tree.json()]}),
            Self::And(trees) => json!({"op": "and", "children": all(trees)}),
            Self::Or(trees) => json!({"op": "or", "children": all(trees)}),
        }
    }

    fn sql(&self) -> String {
        let all = |trees: &[Self], word: &str| trees.iter().map(Self::sql).collect::<Vec<_>>().join(word);
        match self {
            Self::IsNull(column) => format!("{} IS NULL", COLUMNS[*column].0),
            Self::Compare { column, comparison, value, is_mirrored } => {
                let (name, _, value_type, values) = COLUMNS[*column];
                let (name, value) = match (value_type, values[*value]) {
                    ("string", value) => (format!("\"{name}\""), format!("'{value}'")),
                    ("date", value) if *column >= DATA_COLUMNS => {
                        (format!("CAST(partitionValues.{name} AS DATE)"), format!("DATE '{value}'"))
                    }
                    ("date" | "timestamp", value) => (name.to_owned(), format!("CAST('{value}' AS {value_type})")),
                    ("float", value) => (name.to_owned(), format!("CAST({value} AS FLOAT)")),
                    ("double", value) => (format!("`{name}`"), format!("{value}D")),
                    ("long", value) if value.len() < 19 => (name.to_owned(), format!("{value}L")),
                    (_, value) => (name.to_owned(), value.to_owned()),
                };
                let sign = COMPARISONS[*comparison].1;
                if *is_mirrored {
                    let sign = sign.replace('<', "?").replace('>', "<").replace('?', ">");
                    format!("{value} {sign} {name}")
                } else {
                    format!("{name} {sign} {value}")
                }
            }
            Self::Not(tree) => format!("NOT ({})", tree.sql()),
            Self::And(trees) => format!("({})", all(trees, " AND ")),
            Self::Or(trees) => format!("({})", all(trees, " OR ")),
        }
    }
}

impl File {
    fn live(&self) -> &[Row] {
        &self.rows[self.deleted..]
    }

    fn matches(&self, tree: &Tree) -> u64 {
        let matching = self.live().iter().filter(|row| tree.holds(row, true) == Some(true));
        matching.count().try_into().unwrap()
    }

    /// The `add` action with this description.
    fn add(&self, number: usize) -> Value {
        let (mut low, mut high, mut null_count) = (Map::new(), Map::new(), Map::new());
        for (column, described) in self.described.iter().enumerate() {
            let (name, _, value_type, values) = COLUMNS[column];
            let held = || self.rows.iter().filter_map(|row| row[column]);
            if described.nulls {
                null_count.insert(name.into(), (self.rows.len() - held().count()).into());
            }
            let (Some(least), Some(most)) = (held().min(), held().max()) else { continue };
            let (least, most) = (least.saturating_sub(described.slack), (most + described.slack).min(values.len() - 1));
            if described.low {
                low.insert(name.into(), statistic(value_type, values[least]));
            }
            if described.high {
                high.insert(name.into(), statistic(value_type, values[most]));
            }
        }
        let mut stats = json!({"minValues": low, "maxValues": high, "nullCount": null_count, "tightBounds": false});
        if self.has_count {
            stats["numRecords"] = self.rows.len().into();
        }
        let partition = |column: usize| {
            (COLUMNS[column].0.into(), self.rows[0][column].map(|value| COLUMNS[column].3[value]).into())
        };
        let partition_values: Map<_, _> = (DATA_COLUMNS..COLUMNS.len()).map(partition).collect();
        let mut add = json!({
            "path": format!("{number}.parquet"), "partitionValues": partition_values, "size": 10,
            "modificationTime": 1, "dataChange": true, "stats": stats.to_string(),
        });
        if self.deleted > 0 {
            add["deletionVector"] = json!({"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
                "offset": number, "sizeInBytes": 40, "cardinality": self.deleted});
        }
        json!({"add": add})
    }
}

/// A bound as writers store it: texts truncated to 32 characters, timestamps to milliseconds.
fn statistic(value_type: &str, value: &str) -> Value {
    match value_type {
        "string" => value.chars().take(32).collect::<String>().into(),
        "date" => value.into(),
        "timestamp" => format!("{}Z", &value[..23]).into(),
        _ => serde_json::from_str(value).unwrap(),
    }
}

fn check(files: &[File], tree: &Tree, limit: Option<i64>, order: Order) -> Result<(), TestCaseError> {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let columns: Vec<_> = COLUMNS.iter().map(|column| (column.0, column.1)).collect();
    let metadata = metadata("a-table", &columns, &["p", "q", "r"]);
    let mut log = HandWrittenLog::create(&table, protocol_with(&["deletionVectors"]), metadata);
    let adds: Vec<_> = files.iter().enumerate().map(|(number, file)| file.add(number)).collect();
    log.commit(&adds);
    let (json, sql) = (tree.json().to_string(), [tree.sql()]);
    let filters = [Filter::from_hints(&[], Some(&json), limit), Filter::from_hints(&sql, None, limit)];
    Runtime::new().unwrap().block_on(async {
        let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
        let snapshot = lake.latest(&location).await.unwrap();
        let number = |index: u32| snapshot.files().get(index as usize).unwrap().path[..1].parse::<usize>().unwrap();
        for filter in &filters {
            let selected = lake.select(&location, &snapshot, filter, order).await;
            let kept: Vec<usize> = match selected {
                None => (0..files.len()).collect(),
                Some(selected) => selected.into_iter().map(number).collect(),
            };
            let matching = |kept: &[usize]| kept.iter().map(|&number| files[number].matches(tree)).sum::<u64>();
            if let Some(limit) = limit {
                let everything: Vec<_> = (0..files.len()).collect();
                let enough = matching(&everything).min(limit.unsigned_abs());
                prop_assert!(matching(&kept) >= enough, "{kept:?} has too few rows for {limit}");
                continue;
            }
            for (number, file) in files.iter().enumerate().filter(|(number, _)| !kept.contains(number)) {
                for row in file.live() {
                    let matches = [true, false].map(|knows_null| tree.holds(row, knows_null) == Some(true));
                    prop_assert_eq!(matches, [false; 2], "file {} with row {:?} was dropped", number, row);
                }
            }
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_dropped_file_never_holds_a_matching_row(files in files(), tree in trees()) {
        check(&files, &tree, None, Order::Snapshot)?;
    }

    #[test]
    fn check_087_a_limit_never_costs_a_matching_row(
        files in files(), tree in trees(), limit in 0..12i64, order in select(vec![Order::Snapshot, Order::Key]),
    ) {
        check(&files, &tree, Some(limit), order)?;
    }
}

/// The numbers of the files in `table` that the hints select.
async fn selected(table: &std::path::Path, sql: &[&str], json: Option<&Value>, limit: Option<i64>) -> Vec<String> {
    let (lake, location) = (Lake::new(LakeSettings::default()), location(table));
    let snapshot = lake.latest(&location).await.unwrap();
    let sql: Vec<_> = sql.iter().map(|hint| (*hint).to_owned()).collect();
    let json = json.map(Value::to_string);
    let filter = Filter::from_hints(&sql, json.as_deref(), limit);
    let all = 0..u32::try_from(snapshot.files().len()).unwrap();
    let selected = lake.select(&location, &snapshot, &filter, Order::Key).await;
    let indices = selected.unwrap_or_else(|| all.collect());
    let mut paths: Vec<_> =
        indices.iter().map(|&index| snapshot.files().get(index as usize).unwrap().path.to_owned()).collect();
    paths.sort();
    paths
}

fn compare(op: &str, name: &str, value_type: &str, value: &str) -> Value {
    json!({"op": op, "children": [
        {"op": "column", "name": name, "valueType": value_type},
        {"op": "literal", "value": value, "valueType": value_type},
    ]})
}

#[tokio::test]
async fn check_097_mapped_columns_are_pruned_by_their_logical_names() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let field = |name: &str, data_type: &str, id: i64| {
        json!({"name": name, "type": data_type, "nullable": true, "metadata": {
            "delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("col-{id}"),
        }})
    };
    // The physical name of one column is the logical name of another.
    let mut other = field("other", "long", 3);
    other["metadata"]["delta.columnMapping.physicalName"] = "id".into();
    let fields = [field("id", "long", 1), field("day", "date", 2), other];
    let mut metadata = metadata("a-table", &[], &["day"]);
    metadata["metaData"]["schemaString"] = json!({"type": "struct", "fields": fields}).to_string().into();
    metadata["metaData"]["configuration"] =
        json!({"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "3"});
    let mut log = HandWrittenLog::create(&table, protocol_with(&["columnMapping"]), metadata);
    let add = |path: &str, day: &str, low: i64, high: i64| {
        let stats =
            json!({"numRecords": 1, "minValues": {"col-1": low, "id": 100}, "maxValues": {"col-1": high, "id": 100}});
        json!({"add": {"path": path, "partitionValues": {"col-2": day}, "size": 1, "modificationTime": 1,
            "dataChange": true, "stats": stats.to_string()}})
    };
    log.commit(&[add("a", "2020-01-01", 1, 5), add("b", "2020-01-01", 6, 9), add("c", "2020-01-02", 1, 9)]);
    let by_id = compare("lessThan", "id", "long", "6");
    assert_eq!(selected(&table, &[], Some(&by_id), None).await, ["a", "c"]);
    assert_eq!(selected(&table, &["id = 7", "partitionValues.DAY = DATE '2020-01-01'"], None, None).await, ["b"]);
    let by_physical_name = compare("equal", "col-1", "long", "3");
    assert_eq!(selected(&table, &[], Some(&by_physical_name), None).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn columns_that_hold_what_their_type_does_not_tell_prune_nothing() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let columns = [("widened", "double"), ("folded", "string"), ("money", "decimal(10,2)"), ("at", "timestamp_ntz")];
    let mut metadata = metadata("a-table", &columns, &[]);
    let mut schema: Value = serde_json::from_str(metadata["metaData"]["schemaString"].as_str().unwrap()).unwrap();
    schema["fields"][0]["metadata"] = json!({"delta.typeChanges": [{"fromType": "float", "toType": "double"}]});
    schema["fields"][1]["metadata"] = json!({"__COLLATIONS": {"folded": "spark.UTF8_LCASE"}});
    metadata["metaData"]["schemaString"] = schema.to_string().into();
    let mut log = HandWrittenLog::create(&table, protocol_with(&["timestampNtz", "typeWidening"]), metadata);
    let bounds = json!({"widened": 0.1, "folded": "a", "money": 1.5, "at": "2020-01-01T00:00:00.000"});
    let stats = json!({"numRecords": 1, "minValues": bounds, "maxValues": bounds, "nullCount": {"money": 0}});
    log.commit(&[json!({"add": {"path": "a", "partitionValues": {}, "size": 1, "modificationTime": 1,
        "dataChange": true, "stats": stats.to_string()}})]);
    for hint in
        ["widened > 0.1D", "folded = 'A'", "money = 1.50", "money = '7'", "at = TIMESTAMP '2021-01-01T00:00:00Z'"]
    {
        assert_eq!(selected(&table, &[hint], None, None).await, ["a"], "{hint}");
    }
    assert!(selected(&table, &["money IS NULL"], None, None).await.is_empty());
}

#[tokio::test]
async fn what_is_kept_for_skipping_counts_among_the_cached_bytes() {
    // Few files are evaluated on the calling thread, many on others.
    for n_files in [500, 3_000] {
        let folder = TempDir::new().unwrap();
        let table = folder.path().join("t");
        let mut log = HandWrittenLog::create(&table, protocol(1, 2), metadata("a-table", &[("i", "integer")], &[]));
        let add = |number: usize| {
            let bounds = json!({"i": number});
            let stats = json!({"numRecords": 1, "minValues": bounds, "maxValues": bounds, "nullCount": {"i": 0}});
            json!({"add": {"path": format!("{number}.parquet"), "partitionValues": {}, "size": 10, "modificationTime": 1,
                "dataChange": true, "stats": stats.to_string()}})
        };
        log.commit(&(0..n_files).map(add).collect::<Vec<_>>());
        let metrics = Arc::new(Metrics::new([]));
        let lake = Lake::new(LakeSettings::default()).counted_by(metrics.clone());
        let cached = || -> usize {
            let page = metrics.encode().unwrap();
            let line = page.lines().find_map(|line| line.strip_prefix("weir_snapshot_cache_bytes "));
            line.unwrap().parse().unwrap()
        };
        let location = location(&table);
        let snapshot = lake.latest(&location).await.unwrap();
        let before = cached();
        assert!(before > 0);
        let filter = Filter::from_hints(&["i = 7".to_owned()], None, None);
        let selected = lake.select(&location, &snapshot, &filter, Order::Snapshot).await.unwrap();
        assert_eq!(selected.len(), 1);
        // The minimum and maximum of the column in each file.
        let after = cached();
        assert!(after >= before + n_files * 2 * size_of::<i32>(), "{n_files} files: {before} and then {after}");
        lake.select(&location, &snapshot, &filter, Order::Snapshot).await.unwrap();
        assert_eq!(cached(), after, "what is there already is counted once");
    }
}
