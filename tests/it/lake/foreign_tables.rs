//! Tables by other writers open as with deltalake, or are refused with the reason.

use std::collections::BTreeMap;

use weir::lake::{Lake, LakeError, LakeSettings, LogFault, Snapshot};

use crate::support::tables::{foreign_tables, location, open};

/// The expected result for one table: its version, its number of files, and the features that readers need.
enum Expected {
    Opens { version: u64, files: usize, needs: &'static [&'static str] },
    IsCorrupt(LogFault),
}

use Expected::{IsCorrupt, Opens};

const TABLES: &[(&str, Expected)] = &[
    ("cdc_ict_table", Opens { version: 3, files: 2, needs: &[] }),
    ("cdf-table", Opens { version: 3, files: 9, needs: &[] }),
    ("cdf-table-with-cdc-and-dvs", Opens { version: 25, files: 2, needs: &["deletionVectors"] }),
    ("checkpoint-v2-table", Opens { version: 9, files: 8, needs: &[] }),
    ("checkpoint_with_partitions", Opens { version: 2, files: 2, needs: &[] }),
    ("delta-0.8-empty", Opens { version: 1, files: 0, needs: &[] }),
    ("delta-0.8.0-null-partition", Opens { version: 0, files: 2, needs: &[] }),
    ("delta-0.8.0-partitioned", Opens { version: 0, files: 6, needs: &[] }),
    ("delta-0.8.0-special-partition", Opens { version: 0, files: 2, needs: &[] }),
    ("delta-1.2.1-only-struct-stats", Opens { version: 12, files: 12, needs: &[] }),
    ("delta-2.2.0-partitioned-types", Opens { version: 0, files: 3, needs: &[] }),
    ("latest_not_checkpointed", Opens { version: 3, files: 1, needs: &[] }),
    ("partition-type-primitives", Opens { version: 0, files: 16, needs: &[] }),
    ("simple_table", Opens { version: 4, files: 5, needs: &[] }),
    ("simple_table_features", IsCorrupt(LogFault::Inconsistent)),
    ("simple_table_with_cdc", Opens { version: 2, files: 1, needs: &[] }),
    ("simple_table_with_checkpoint", Opens { version: 10, files: 11, needs: &[] }),
    ("spark-variant-stable-feature-checkpoint", Opens { version: 1, files: 4, needs: &["variantType"] }),
    ("table-with-dv-small", Opens { version: 1, files: 1, needs: &["deletionVectors"] }),
    ("table_with_column_mapping", Opens { version: 0, files: 2, needs: &["columnMapping"] }),
    ("table_with_deletion_logs", Opens { version: 20, files: 1, needs: &["deletionVectors"] }),
    ("table_with_edge_timestamps", Opens { version: 0, files: 2, needs: &[] }),
    ("table_with_liquid_clustering", Opens { version: 0, files: 10, needs: &[] }),
    ("table_with_null_stats_in_notnull_struct", Opens { version: 1, files: 2, needs: &[] }),
    ("table_with_partitioning_mapping", Opens { version: 4, files: 2, needs: &["columnMapping"] }),
    ("with_checkpoint_no_last_checkpoint", Opens { version: 3, files: 1, needs: &[] }),
];

#[derive(Debug, PartialEq, Eq)]
struct File {
    size: i64,
    modification_time: i64,
    num_records: Option<u64>,
    partition_values: BTreeMap<String, Option<String>>,
    deletion_vector: Option<(String, i64)>,
}

fn decoded(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8().unwrap().into_owned()
}

fn ours(snapshot: &Snapshot) -> BTreeMap<String, File> {
    let file = |file: weir::lake::FileRef<'_>| {
        let stats: Option<serde_json::Value> = file.stats.map(|stats| serde_json::from_str(stats).unwrap());
        File {
            size: file.size as i64,
            modification_time: file.modification_time,
            num_records: stats.and_then(|stats| stats["numRecords"].as_u64()),
            partition_values: file
                .partition_values()
                .map(|(name, value)| (name.to_owned(), value.filter(|value| !value.is_empty()).map(str::to_owned)))
                .collect(),
            deletion_vector: file.deletion_vector.map(|dv| (dv.path_or_inline.to_owned(), dv.cardinality)),
        }
    };
    snapshot.files().iter().map(|found| (decoded(found.path), file(found))).collect()
}

fn theirs(table: &deltalake::DeltaTable) -> BTreeMap<String, File> {
    let state = table.snapshot().unwrap();
    let file = |file: deltalake::kernel::LogicalFileView| File {
        size: file.size(),
        modification_time: file.modification_time(),
        num_records: file.num_records().map(|number| number as u64),
        partition_values: file
            .partition_values_map()
            .into_iter()
            .map(|(name, value)| (name, value.filter(|value| !value.is_empty())))
            .collect(),
        deletion_vector: file.deletion_vector_descriptor().map(|dv| (dv.path_or_inline_dv.clone(), dv.cardinality)),
    };
    state.log_data().iter().map(|found| (found.path().into_owned(), file(found))).collect()
}

#[tokio::test]
async fn every_table_opens_like_deltalake_opens_it_or_is_refused_with_the_reason() {
    let Some(folder) = foreign_tables() else { return };
    let lake = Lake::new(LakeSettings::default());
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut wrong = Vec::new();
    for name in &names {
        let table = folder.join(name);
        let expected = TABLES.iter().find(|(expected, _)| expected == name).map(|(_, expected)| expected);
        let outcome = lake.latest(&location(&table)).await;
        match (expected, outcome) {
            (Some(Opens { version, files, needs }), Ok(snapshot)) => {
                assert_eq!(snapshot.version(), *version, "{name}");
                assert_eq!(snapshot.files().len(), *files, "{name}");
                assert_eq!(snapshot.required_features().iter().map(String::as_str).collect::<Vec<_>>(), *needs);
                let direct = open(&table).await.unwrap();
                assert_eq!(ours(&snapshot), theirs(&direct), "{name}");
                let sizes: u64 = snapshot.files().iter().map(|file| file.size).sum();
                assert_eq!(snapshot.size_bytes(), sizes, "{name}");
            }
            (Some(IsCorrupt(expected)), Err(LakeError::CorruptLog { fault, .. })) => {
                assert_eq!(fault, *expected, "{name}");
                assert!(open(&table).await.is_err(), "{name}");
            }
            (_, Ok(snapshot)) => wrong.push(format!(
                "(\"{name}\", Opens {{ version: {}, files: {}, needs: &{:?} }}),",
                snapshot.version(),
                snapshot.files().len(),
                snapshot.required_features().iter().collect::<Vec<_>>()
            )),
            (_, Err(error)) => wrong.push(format!("{name}: {error:?}")),
        }
    }
    assert!(wrong.is_empty(), "unexpected outcomes:\n{}", wrong.join("\n"));
    for (name, _) in TABLES {
        assert!(names.iter().any(|found| found == name), "`{name}` is missing from the folder");
    }
}
