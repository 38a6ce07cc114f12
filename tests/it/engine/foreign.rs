//! Tables by other writers: a view of everything shows what the Delta kernel reads, and a view leaves what it does not
//! show out of its files.

use std::{path::Path as FilePath, sync::Arc};

use delta_kernel::{Snapshot as KernelSnapshot, engine::arrow_data::ArrowEngineData};
use delta_kernel_engine::DefaultEngineBuilder;
use object_store::local::LocalFileSystem;
use serde_json::json;
use weir::{
    domain::catalog::schema::Schema,
    engine::{EngineError, SourceFile},
    lake::{Lake, LakeSettings},
};

use crate::support::tables::{foreign_tables, location};

use super::sample::{cells, engine, make, read, rules, try_make};

/// The tables with their number of rows; `None` if their data is missing.
const TABLES: [(&str, Option<usize>); 24] = [
    ("cdc_ict_table", Some(2)),
    ("cdf-table", Some(9)),
    ("cdf-table-with-cdc-and-dvs", Some(5)),
    ("checkpoint-v2-table", Some(44)),
    ("checkpoint_with_partitions", None),
    ("delta-0.8-empty", Some(0)),
    ("delta-0.8.0-null-partition", Some(2)),
    ("delta-0.8.0-partitioned", Some(7)),
    ("delta-0.8.0-special-partition", Some(2)),
    ("delta-1.2.1-only-struct-stats", Some(12)),
    ("delta-2.2.0-partitioned-types", Some(3)),
    ("latest_not_checkpointed", None),
    ("partition-type-primitives", Some(16)),
    ("simple_table", Some(3)),
    ("simple_table_with_cdc", Some(1)),
    ("simple_table_with_checkpoint", Some(11)),
    ("table-with-dv-small", Some(8)),
    ("table_with_column_mapping", Some(5)),
    ("table_with_deletion_logs", Some(98)),
    ("table_with_edge_timestamps", Some(2)),
    ("table_with_liquid_clustering", Some(10)),
    ("table_with_null_stats_in_notnull_struct", Some(2)),
    ("table_with_partitioning_mapping", Some(2)),
    ("with_checkpoint_no_last_checkpoint", None),
];

type Rows = Vec<Vec<Option<String>>>;

/// The table's columns, and its rows as read by the kernel; no rows if it cannot read them.
fn by_the_kernel(table: &FilePath) -> (Vec<String>, Option<Rows>) {
    let engine = Arc::new(DefaultEngineBuilder::new(Arc::new(LocalFileSystem::new())).build());
    let url = url::Url::from_directory_path(table).unwrap();
    let snapshot = KernelSnapshot::builder_for(url).build(engine.as_ref()).unwrap();
    let names = snapshot.schema().fields().map(|field| field.name().to_owned()).collect();
    let scan = snapshot.scan_builder().build().unwrap();
    let mut rows = Vec::new();
    for batch in scan.execute(engine).unwrap() {
        let Ok(batch) = batch else { return (names, None) };
        rows.extend(cells(ArrowEngineData::try_from_engine_data(batch).unwrap().record_batch()));
    }
    (names, Some(rows))
}

/// A table's files, its schema, and its partition columns.
async fn files(table: &FilePath) -> Result<(Vec<SourceFile>, Arc<Schema>, Vec<String>), EngineError> {
    let location = location(table);
    let snapshot = Lake::new(LakeSettings::default()).latest(&location).await.unwrap();
    let schema = Arc::new(Schema::parse(&snapshot.metadata().schema_string).unwrap());
    let files = snapshot.files().iter().map(|file| SourceFile::new(&location, snapshot.metadata(), &schema, &file));
    Ok((files.collect::<Result<_, _>>()?, schema, snapshot.metadata().partition_columns.clone()))
}

#[tokio::test]
async fn a_view_of_everything_shows_what_the_kernel_reads() {
    let Some(folder) = foreign_tables() else { return };
    let mut wrong = Vec::new();
    for (name, expected) in TABLES {
        let table = folder.join(name);
        let (files, schema, partition_columns) = files(&table).await.unwrap();
        let (names, theirs) = by_the_kernel(&table);
        let shown = |name: &String| name.replace(' ', "_");
        let column = |name: &String| json!({"name": format!("`{}`", shown(name)), "from": format!("`{name}`")});
        let columns: Vec<_> = names.iter().map(column).collect();
        let definition = json!({"columns": columns});
        let partitions: Vec<_> = partition_columns.iter().map(String::as_str).collect();
        // A plan that knows no partition columns expects every column in the file.
        let whole = rules(&schema, &[], definition.clone(), json!({}));
        let parted = rules(&schema, &partitions, definition, json!({}));

        let Some(mut theirs) = theirs else {
            for file in &files {
                assert!(matches!(try_make(file, &whole).await, Err(EngineError::Missing)), "{name}");
            }
            if expected.is_some() {
                wrong.push(format!("    (\"{name}\", None),"));
            }
            continue;
        };
        let mut ours = Rows::new();
        for file in &files {
            let (made, content) = try_make(file, &whole).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            let counted = engine().count(file.clone(), None).await.unwrap();
            assert_eq!((counted.live, counted.shown), (made.rows, made.rows), "{name}");
            let previewed = engine().preview(file.clone(), parted.clone(), usize::MAX).await.unwrap();
            assert_eq!(previewed.len() as u64, made.rows, "{name}");
            assert!(previewed.iter().all(|row| names.iter().all(|name| row.contains_key(&shown(name)))), "{name}");
            let Some(content) = content else { continue };
            let batch = read(&content);
            assert_eq!(batch.num_rows() as u64, made.rows, "{name}");
            ours.extend(cells(&batch));
            let shared = read(&make(file, &parted).await.1);
            let unparted: Vec<_> = names.iter().filter(|name| !partition_columns.contains(name)).map(shown).collect();
            assert_eq!(
                shared.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>(),
                unparted,
                "{name}"
            );
            assert_eq!(shared.num_rows(), batch.num_rows(), "{name}");
        }
        if name == "table_with_edge_timestamps" {
            // The kernel reads nanoseconds, which end in 2262; the writer meant the last days of 9999.
            let edges = theirs.iter_mut().filter_map(|row| row.first_mut()).flatten();
            edges.for_each(|cell| {
                *cell = cell
                    .replace("1816-03-2", "9999-12-3")
                    .replace("8T05", "0T05")
                    .replace("9T05", "1T05")
                    .replace("05:56:08.066278", "00:00:00")
            });
        }
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs, "{name}");
        if Some(ours.len()) != expected {
            wrong.push(format!("    (\"{name}\", {:?}),", Some(ours.len())));
        }
    }
    assert!(wrong.is_empty(), "other numbers of rows:\n{}", wrong.join("\n"));
}
