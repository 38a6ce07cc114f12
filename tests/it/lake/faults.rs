//! Logs that cannot be read are refused with the reason, which names no path.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use tempfile::TempDir;
use weir::{
    domain::sharing::predicate::Filter,
    lake::{Feed, Lake, LakeError, LakeSettings, LogFault, Order},
};

use crate::support::tables::{HandWrittenLog, add, checkpoint, location, metadata, protocol, protocol_with};

async fn refusal_within(table: &Path, settings: LakeSettings) -> LakeError {
    let error = Lake::new(settings).latest(&location(table)).await.unwrap_err();
    let message = error.to_string();
    assert!(!message.contains('/') && !message.contains(".json"), "{message}");
    error
}

async fn fault(table: &Path) -> LogFault {
    match refusal_within(table, LakeSettings::default()).await {
        LakeError::CorruptLog { fault, .. } => fault,
        other => panic!("{other:?}"),
    }
}

async fn unsupported(table: &Path) -> Vec<String> {
    match refusal_within(table, LakeSettings::default()).await {
        LakeError::Unsupported { features, .. } => features,
        other => panic!("{other:?}"),
    }
}

/// A table's log, in a folder that exists as long as the test.
fn table() -> (TempDir, HandWrittenLog, PathBuf) {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let log = HandWrittenLog::plain(&table);
    (folder, log, table)
}

#[tokio::test]
async fn a_folder_without_a_log_is_not_a_table() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let missing = refusal_within(&table, LakeSettings::default()).await;
    assert!(matches!(missing, LakeError::NotATable { .. }), "{missing:?}");
    fs::create_dir_all(table.join("_delta_log")).unwrap();
    fs::write(table.join("part-0.parquet"), "PAR1").unwrap();
    let empty = refusal_within(&table, LakeSettings::default()).await;
    assert!(matches!(empty, LakeError::NotATable { .. }), "{empty:?}");
    let version = Lake::new(LakeSettings::default()).latest_version(&location(&table)).await.unwrap_err();
    assert!(matches!(version, LakeError::NotATable { .. }), "{version:?}");
}

#[tokio::test]
async fn a_commit_that_is_not_json_is_malformed() {
    for text in
        ["{\"add\": {\"path\": \"a.parquet\", ", "not json\n", "\u{0}\u{1}\u{2}", "{\"add\": {\"size\": \"x\"}}\n"]
    {
        let (_folder, mut log, table) = table();
        log.commit_text(text);
        assert_eq!(fault(&table).await, LogFault::Malformed, "{text}");
    }
}

#[tokio::test]
async fn a_negative_size_is_malformed() {
    let (_folder, mut log, table) = table();
    log.commit(&[json!({"add": {
        "path": "a.parquet", "partitionValues": {}, "size": -1, "modificationTime": 0, "dataChange": true,
    }})]);
    assert_eq!(fault(&table).await, LogFault::Malformed);
}

#[tokio::test]
async fn a_missing_commit_is_a_gap() {
    let (_folder, mut log, table) = table();
    for number in 0..4 {
        log.commit(&[add(&format!("{number}.parquet"), 1)]);
    }
    fs::remove_file(log.commit_path(2)).unwrap();
    assert_eq!(fault(&table).await, LogFault::Gap);
}

#[tokio::test]
async fn a_log_whose_beginning_is_missing_is_a_gap() {
    let (_folder, mut log, table) = table();
    log.commit(&[protocol(1, 2), metadata("a-table", &[("id", "long")], &[]), add("a.parquet", 1)]);
    fs::remove_file(log.commit_path(0)).unwrap();
    assert_eq!(fault(&table).await, LogFault::Gap);
}

#[tokio::test]
async fn a_log_without_metadata_or_protocol_is_incomplete() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    HandWrittenLog::create(&table, protocol(1, 2), add("a.parquet", 1));
    assert_eq!(fault(&table).await, LogFault::Incomplete);
    fs::remove_dir_all(&table).unwrap();
    HandWrittenLog::create(&table, metadata("a-table", &[("id", "long")], &[]), add("a.parquet", 1));
    assert_eq!(fault(&table).await, LogFault::Incomplete);
}

#[tokio::test]
async fn a_partition_column_that_is_no_column_is_inconsistent() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    HandWrittenLog::create(&table, protocol(1, 2), metadata("a-table", &[("id", "long")], &["day"]));
    assert_eq!(fault(&table).await, LogFault::Inconsistent);
}

/// Truncates a checkpoint, like a writer that was killed.
fn truncate(checkpoint: &Path, to: usize) {
    let bytes = fs::read(checkpoint).unwrap();
    fs::write(checkpoint, &bytes[..to.min(bytes.len() / 2)]).unwrap();
}

#[tokio::test]
async fn a_truncated_checkpoint_without_its_commits_is_malformed() {
    let (_folder, mut log, table) = table();
    log.commit(&[add("a.parquet", 1)]);
    checkpoint(&table).await;
    truncate(&log.log_folder().join(format!("{:020}.checkpoint.parquet", 1)), usize::MAX);
    fs::remove_file(log.commit_path(0)).unwrap();
    assert_eq!(fault(&table).await, LogFault::Malformed);
}

#[tokio::test]
async fn a_truncated_checkpoint_is_passed_over_where_the_commits_are_there() {
    for left in [0, 4, 100, usize::MAX] {
        let (_folder, mut log, table) = table();
        let file = |version: u64| log_file(&table, version);
        for number in 1..=4 {
            log.commit(&[add(&format!("{number}.parquet"), 1)]);
            checkpoint(&table).await;
        }
        log.commit(&[add("5.parquet", 1)]);
        let running = Lake::new(LakeSettings::default());
        let location = location(&table);
        running.latest(&location).await.unwrap();
        // One after the other, until none can be read.
        for version in (0..=4).rev() {
            if version > 0 {
                truncate(&file(version), left);
            }
            for lake in [running.clone(), Lake::new(LakeSettings::default())] {
                let latest = lake.latest(&location).await.unwrap();
                assert_eq!((latest.version(), latest.files().len()), (5, 5), "{left} bytes are left of {version}");
                let older = lake.at_version(&location, 4).await.unwrap();
                assert_eq!((older.version(), older.files().len()), (4, 4));
                let state = lake.history(&location).await.unwrap().state_at(3).await.unwrap();
                assert_eq!(state.metadata.id, "a-table");
            }
        }
    }
}

fn log_file(table: &Path, version: u64) -> PathBuf {
    table.join(format!("_delta_log/{version:020}.checkpoint.parquet"))
}

#[tokio::test]
async fn a_commit_that_is_deleted_from_the_middle_is_missing_for_servers_that_read_it_too() {
    let (_folder, mut log, table) = table();
    for number in 1..=3 {
        log.commit(&[add(&format!("{number}.parquet"), 1)]);
    }
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    let history = lake.history(&location).await.unwrap();
    history.changes(0..=3, Feed::Files).await.unwrap();
    let kept = fs::read(log.commit_path(2)).unwrap();
    fs::remove_file(log.commit_path(2)).unwrap();
    for lake in [lake.clone(), Lake::new(LakeSettings::default())] {
        for error in [
            lake.latest(&location).await.unwrap_err(),
            lake.latest_version(&location).await.unwrap_err(),
            lake.at_version(&location, 1).await.unwrap_err(),
        ] {
            assert!(matches!(error, LakeError::CorruptLog { fault: LogFault::Gap, .. }), "{error:?}");
        }
    }
    fs::write(log.commit_path(2), kept).unwrap();
    assert_eq!(lake.latest(&location).await.unwrap().files().len(), 3);
    assert_eq!(lake.latest_version(&location).await.unwrap(), 3);
}

#[tokio::test]
async fn a_commit_that_is_deleted_before_a_checkpoint_is_missing_for_servers_that_read_it_too() {
    let (_folder, mut log, table) = table();
    for number in 1..=4 {
        log.commit(&[add(&format!("{number}.parquet"), 1)]);
    }
    checkpoint(&table).await;
    log.commit(&[add("5.parquet", 1)]);
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    let read = async |lake: &Lake| {
        let history = lake.history(&location).await.unwrap();
        let mut told = Vec::new();
        for version in 0..=5 {
            told.push(history.at_version(version).await.map(|read| read.files().len()).map_err(|e| e.to_string()));
            told.push(history.state_at(version).await.map(|_| 0).map_err(|error| error.to_string()));
            let changes = history.changes(version..=5, Feed::Files).await;
            told.push(changes.map(|changes| changes.outlines().len()).map_err(|error| error.to_string()));
        }
        told
    };
    assert!(read(&lake).await.iter().all(Result::is_ok));
    fs::remove_file(log.commit_path(2)).unwrap();
    let cold = read(&Lake::new(LakeSettings::default())).await;
    assert_eq!(read(&lake).await, cold);
    assert!(cold.iter().any(Result::is_err) && cold.iter().any(Result::is_ok), "{cold:?}");
}

#[tokio::test]
async fn a_column_that_cannot_be_read_is_named_with_its_type_or_the_limit() {
    let nested =
        format!("{}\"long\"{}", r#"{"type":"array","containsNull":true,"elementType":"#.repeat(130), "}".repeat(130));
    for (data_type, expected) in [
        ("\"time(6)\"", "column `vec_col` is of type time(6), which is not supported"),
        (r#"{"type":"hyperloglog"}"#, "column `vec_col` is of type hyperloglog, which is not supported"),
        (nested.as_str(), "column `vec_col` nests deeper than 127 levels of JSON"),
    ] {
        let folder = TempDir::new().unwrap();
        let table = folder.path().join("t");
        let mut action = metadata("a-table", &[("id", "long")], &[]);
        let column = format!(r#"{{"name":"vec_col","type":{data_type},"nullable":true,"metadata":{{}}}}"#);
        action["metaData"]["schemaString"] = json!(format!(r#"{{"type":"struct","fields":[{column}]}}"#));
        HandWrittenLog::create(&table, protocol(1, 2), action);
        let error = Lake::new(LakeSettings::default()).latest(&location(&table)).await.unwrap_err();
        let LakeError::UnreadableSchema { reason, .. } = &error else { panic!("{error:?}") };
        assert_eq!(reason, expected);
    }
}

/// Whichever byte is wrong (a length, a count, an offset, a decompressed size), the result is an error or a table,
/// quickly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_lies_is_refused_without_a_panic() {
    let (_folder, mut log, table) = table();
    log.commit(&(0..50).map(|number| add(&format!("{number}.parquet"), 1)).collect::<Vec<_>>());
    checkpoint(&table).await;
    let file = log.log_folder().join(format!("{:020}.checkpoint.parquet", 1));
    // Without its commits, only the checkpoint is left.
    fs::remove_file(log.log_folder().join(format!("{:020}.json", 0))).unwrap();
    let sound = fs::read(&file).unwrap();
    let mut refused = 0;
    for at in (0..sound.len()).step_by(sound.len() / 400 + 1).chain(sound.len() - 12..sound.len()) {
        for wrong in [0x00, 0x7f, 0xff] {
            let mut bytes = sound.clone();
            bytes[at] ^= wrong | 1;
            fs::write(&file, &bytes).unwrap();
            match Lake::new(LakeSettings::default()).latest(&location(&table)).await {
                Ok(_) => {}
                Err(LakeError::Unavailable { source, .. }) => panic!("byte {at} ^ {wrong:#x}: {source:?}"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn a_hint_that_lies_about_the_checkpoints_size_is_only_a_hint() {
    let (_folder, mut log, table) = table();
    log.commit(&[add("a.parquet", 1)]);
    checkpoint(&table).await;
    for hint in [
        json!({"version": 1, "size": 0, "sizeInBytes": 0, "numOfAddFiles": 0}),
        json!({"version": 1, "size": i64::MAX, "sizeInBytes": i64::MAX, "numOfAddFiles": i64::MAX}),
        json!({"version": 1, "size": 2, "parts": 1_000_000}),
    ] {
        fs::write(log.log_folder().join("_last_checkpoint"), hint.to_string()).unwrap();
        let snapshot = Lake::new(LakeSettings::default()).latest(&location(&table)).await.unwrap();
        assert_eq!((snapshot.version(), snapshot.files().len()), (1, 1), "{hint}");
    }
}

#[tokio::test]
async fn a_file_whose_statistics_are_no_statistics_is_never_skipped() {
    let (_folder, mut log, table) = table();
    let nested = format!("{}1{}", r#"{"minValues":"#.repeat(200), "}".repeat(200));
    let wrong = ["", "null", "7", "[]", "{", "not json", r#"{"minValues":7}"#, r#"{"minValues":{"id":"x"}}"#, &nested];
    for (number, stats) in wrong.iter().enumerate() {
        let mut action = add(&format!("{number}.parquet"), 1);
        action["add"]["stats"] = json!(stats);
        log.commit(&[action]);
    }
    let mut action = add("described.parquet", 1);
    action["add"]["stats"] =
        json!(r#"{"numRecords":1,"minValues":{"id":1},"maxValues":{"id":2},"nullCount":{"id":0}}"#);
    log.commit(&[action]);
    for has_checkpoint in [false, true] {
        if has_checkpoint {
            checkpoint(&table).await;
        }
        let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
        let snapshot = lake.latest(&location).await.unwrap();
        let filter = Filter::from_hints(&["id = 100".to_owned()], None, None);
        let kept = lake.select(&location, &snapshot, &filter, Order::Snapshot).await.unwrap();
        assert_eq!(kept.len(), wrong.len());
        assert_eq!(snapshot.files().rows(), None);
    }
}

#[tokio::test]
async fn a_pointer_to_a_checkpoint_that_is_not_there_is_ignored() {
    let (_folder, mut log, table) = table();
    log.commit(&[add("a.parquet", 1)]);
    for hint in ["{\"version\": 1, \"size\": 3}", "{\"version\": 900, \"size\": 3}", "nonsense"] {
        fs::write(log.log_folder().join("_last_checkpoint"), hint).unwrap();
        let snapshot = Lake::new(LakeSettings::default()).latest(&location(&table)).await.unwrap();
        assert_eq!((snapshot.version(), snapshot.files().len()), (1, 1), "{hint}");
    }
}

/// A table whose only checkpoint is a V2 checkpoint with one sidecar of this name.
fn table_with_sidecar(sidecar: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let protocol = protocol_with(&["v2Checkpoint"]);
    let metadata = metadata("a-table", &[("id", "long")], &[]);
    let log = HandWrittenLog::create(&table, protocol.clone(), metadata.clone());
    let checkpoint = [
        protocol,
        metadata,
        json!({"checkpointMetadata": {"version": 0}}),
        json!({"sidecar": {"path": sidecar, "sizeInBytes": 100, "modificationTime": 0}}),
    ];
    let text: String = checkpoint.iter().map(|action| format!("{action}\n")).collect();
    let name = format!("{:020}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json", 0);
    fs::write(log.log_folder().join(name), text).unwrap();
    (folder, table)
}

#[tokio::test]
async fn a_missing_sidecar_is_a_missing_file() {
    let (_folder, table) = table_with_sidecar("3a0d65cd-4056-49b8-937b-95f9e3ee90e5.parquet");
    let snapshot = Lake::new(LakeSettings::default()).latest(&location(&table)).await.unwrap();
    assert_eq!(snapshot.files().len(), 0, "the commits say the same");
    fs::remove_file(table.join(format!("_delta_log/{:020}.json", 0))).unwrap();
    assert_eq!(fault(&table).await, LogFault::MissingFile);
}

#[tokio::test]
async fn a_sidecar_outside_the_log_is_refused() {
    for sidecar in [
        "https://127.0.0.1:1/x.parquet?X-Amz-Signature=1",
        "../../part-0.parquet",
        "../../../other/_delta_log/_sidecars/x.parquet",
        "file:///etc/passwd",
    ] {
        let (_folder, table) = table_with_sidecar(sidecar);
        assert_eq!(fault(&table).await, LogFault::OutsideLog, "{sidecar}");
    }
}

#[tokio::test]
async fn features_that_cannot_be_served_are_named() {
    for (features, missing) in [
        (["timestampNtz", "somethingNew"], "somethingNew"),
        (["deletionVectors", "geospatial"], "geospatial"),
        (["columnMapping", "catalogManaged"], "catalogManaged"),
    ] {
        let folder = TempDir::new().unwrap();
        let table = folder.path().join("t");
        HandWrittenLog::create(&table, protocol_with(&features), metadata("a-table", &[("id", "long")], &[]));
        assert_eq!(unsupported(&table).await, [missing]);
    }
}

#[tokio::test]
async fn a_reader_version_from_the_future_is_unsupported() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    HandWrittenLog::create(&table, protocol(4, 2), metadata("a-table", &[("id", "long")], &[]));
    assert_eq!(unsupported(&table).await, ["minReaderVersion 4"]);
}

#[tokio::test]
async fn a_commit_over_the_limit_is_not_read() {
    let (_folder, mut log, table) = table();
    log.commit(&[add(&"a".repeat(5000), 1)]);
    match refusal_within(&table, LakeSettings { max_commit_bytes: 4096, ..LakeSettings::default() }).await {
        LakeError::CorruptLog { fault, .. } => assert_eq!(fault, LogFault::TooLarge),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_log_over_the_limit_is_not_listed() {
    let (_folder, mut log, table) = table();
    for number in 0..4 {
        log.commit(&[add(&format!("{number}.parquet"), 1)]);
    }
    let lake = Lake::new(LakeSettings { max_log_entries: 3, ..LakeSettings::default() });
    let location = location(&table);
    for error in [lake.latest(&location).await.unwrap_err(), lake.latest_version(&location).await.unwrap_err()] {
        assert!(matches!(error, LakeError::CorruptLog { fault: LogFault::TooManyEntries, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_cause_is_kept_for_the_operator() {
    let (_folder, mut log, table) = table();
    log.commit_text("not json\n");
    let error = refusal_within(&table, LakeSettings::default()).await;
    assert!(error.source().is_some(), "{error:?}");
}

#[tokio::test]
async fn a_broken_commit_on_top_of_a_cached_version_is_refused_until_it_is_repaired() {
    let (_folder, mut log, table) = table();
    log.commit(&[add("a.parquet", 1)]);
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    lake.latest(&location).await.unwrap();
    let broken = log.commit_text("not json\n");
    assert!(matches!(lake.latest(&location).await, Err(LakeError::CorruptLog { .. })));
    fs::write(log.commit_path(broken), format!("{}\n", add("b.parquet", 1))).unwrap();
    assert_eq!(lake.latest(&location).await.unwrap().files().len(), 2);
}
