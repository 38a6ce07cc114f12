//! A snapshot agrees with the log exactly: paths, statistics and schema, deletion vectors, and partition values under
//! the log's names.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;
use weir::lake::{Column, DeletionVectorRef, Lake, LakeSettings};

use crate::support::tables::{
    HandWrittenLog, foreign_tables, location, metadata, partitioned_table, protocol, protocol_with,
};

fn lake() -> Lake {
    Lake::new(LakeSettings::default())
}

#[tokio::test]
async fn paths_statistics_and_schema_are_the_text_of_the_log() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let metadata = metadata("a-table", &[("id", "long"), ("naïve \u{2028} name", "string")], &[]);
    let mut log = HandWrittenLog::create(&table, protocol(1, 2), metadata.clone());
    let stats = "{ \"numRecords\" : 1,\n \"minValues\":{\"id\":1.0} }";
    let paths =
        ["a%20b/c%2Fd%25.parquet", "s3://elsewhere/x.parquet", "../up.parquet", "ünïcode \u{1f409}.parquet", ""];
    for path in paths {
        let add = json!({"path": path, "partitionValues": {}, "size": 7, "modificationTime": 8, "dataChange": false,
            "stats": stats, "tags": {"secret": "x"}});
        log.commit(&[json!({"add": add})]);
    }
    let snapshot = lake().latest(&location(&table)).await.unwrap();
    let mut found: Vec<_> = snapshot.files().iter().map(|file| file.path).collect();
    found.sort_unstable();
    let mut expected = paths;
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(snapshot.files().iter().all(|file| file.stats == Some(stats) && file.modification_time == 8));
    assert_eq!(snapshot.size_bytes(), 35);
    assert_eq!(Value::from(snapshot.metadata().schema_string.as_str()), metadata["metaData"]["schemaString"]);
    assert_eq!(snapshot.metadata().created_time, Some(1_700_000_000_000));
    assert_eq!(snapshot.metadata().format_provider, "parquet");
}

#[tokio::test]
async fn protocol_features_are_those_of_the_log() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let features = ["deletionVectors", "v2Checkpoint", "timestampNtz"];
    HandWrittenLog::create(&table, protocol_with(&features), metadata("a-table", &[("id", "long")], &[]));
    let snapshot = lake().latest(&location(&table)).await.unwrap();
    let protocol = snapshot.protocol();
    assert_eq!((protocol.min_reader_version, protocol.min_writer_version), (3, 7));
    assert_eq!(protocol.reader_features.as_deref().unwrap(), features);
    assert_eq!(protocol.writer_features.as_deref().unwrap(), features);
    assert!(snapshot.required_features().is_empty(), "no column and no file uses any");
}

#[tokio::test]
async fn columns_are_echoed_with_their_types() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let columns = [("id", "long"), ("amount", "decimal(10,2)"), ("day", "date")];
    HandWrittenLog::create(&table, protocol(1, 2), metadata("a-table", &columns, &["day"]));
    let snapshot = lake().latest(&location(&table)).await.unwrap();
    let column = |name: &str, data_type: &str, is_partition| Column {
        name: name.into(),
        data_type: data_type.into(),
        is_nullable: true,
        is_partition,
    };
    let expected = [column("id", "long", false), column("amount", "decimal(10,2)", false), column("day", "date", true)];
    assert_eq!(snapshot.columns(), expected);
}

#[tokio::test]
async fn partition_values_are_those_of_the_writer() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    partitioned_table(&table, 10).await;
    let snapshot = lake().latest(&location(&table)).await.unwrap();
    let mut values: Vec<_> = snapshot.files().iter().flat_map(|file| file.partition_values()).collect();
    values.sort_unstable();
    assert_eq!(values, [("name", Some("even")), ("name", Some("odd"))]);
}

#[tokio::test]
async fn a_commit_is_dated_by_its_file() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let log = HandWrittenLog::plain(&table);
    let written = fs::metadata(log.commit_path(0)).unwrap().modified().unwrap();
    let written = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let snapshot = lake().latest(&location(&table)).await.unwrap();
    assert_eq!(snapshot.committed_at() as u128, written);
}

#[tokio::test]
async fn an_in_commit_timestamp_goes_before_the_time_of_the_file() {
    let Some(folder) = foreign_tables() else { return };
    let table = folder.join("cdc_ict_table");
    let commit = fs::read_to_string(table.join("_delta_log/00000000000000000003.json")).unwrap();
    let actions = commit.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let stamped = actions.filter_map(|action| action["commitInfo"]["inCommitTimestamp"].as_i64()).next().unwrap();
    let snapshot = lake().latest(&location(&table)).await.unwrap();
    assert_eq!(snapshot.committed_at(), stamped);
}

#[tokio::test]
async fn a_deletion_vector_is_described_as_in_the_log() {
    let Some(folder) = foreign_tables() else { return };
    let snapshot = lake().latest(&location(&folder.join("table-with-dv-small"))).await.unwrap();
    let vectors: Vec<_> = snapshot.files().iter().map(|file| file.deletion_vector).collect();
    let expected = DeletionVectorRef {
        storage_type: "u",
        path_or_inline: "vBn[lx{q8@P<9BNH/isA",
        offset: Some(1),
        size_in_bytes: 36,
        cardinality: 2,
    };
    assert_eq!(vectors, [Some(expected)]);
}

#[tokio::test]
async fn mapped_partition_columns_keep_their_physical_names() {
    let Some(folder) = foreign_tables() else { return };
    let snapshot = lake().latest(&location(&folder.join("table_with_partitioning_mapping"))).await.unwrap();
    assert_eq!(snapshot.metadata().partition_columns, ["newid"]);
    assert_eq!(snapshot.files().partition_columns(), ["id"]);
    let mut values: Vec<_> = snapshot.files().iter().flat_map(|file| file.partition_values()).collect();
    values.sort_unstable();
    assert_eq!(values, [("id", Some("1")), ("id", Some("2"))]);
}
