//! Versions by time: exact to the millisecond, by the table's own clock, and never from a log that is gone.

use std::{fs, path::Path, sync::Arc};

use object_store::local::LocalFileSystem;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tempfile::TempDir;
use weir::lake::{History, Lake, LakeError, LakeSettings};

use crate::support::{
    tables::{HandWrittenLog, add, append, checkpoint, foreign_tables, location, location_in, metadata, plain_table},
    watched_store::WatchedStore,
};

const BEGAN: u64 = 1_700_000_000_000;

/// A log with one commit per entry of `times`, counted from [`BEGAN`], and files dated accordingly.
fn dated(table: &Path, times: &[u64]) -> HandWrittenLog {
    let mut log = HandWrittenLog::plain(table);
    for version in 1..times.len() {
        log.commit(&[add(&format!("{version}.parquet"), 1)]);
    }
    for (version, time) in times.iter().enumerate() {
        log.date(version as u64, BEGAN + time);
    }
    log
}

async fn history(table: &Path) -> History {
    Lake::new(LakeSettings::default()).history(&location(table)).await.unwrap()
}

fn at(time: i64) -> i64 {
    BEGAN as i64 + time
}

#[tokio::test]
async fn a_version_is_the_newest_that_was_committed_by_then() {
    let folder = TempDir::new().unwrap();
    dated(&folder.path().join("t"), &[0, 1000, 2000]);
    let history = history(&folder.path().join("t")).await;
    for (time, version) in [(0, 0), (1, 0), (999, 0), (1000, 1), (1001, 1), (2000, 2)] {
        assert_eq!(history.version_as_of(at(time)).await.unwrap(), version, "{time}");
        assert_eq!(history.last_version_until(at(time)).await.unwrap(), version, "{time}");
    }
    assert_eq!(history.last_version_until(i64::MAX).await.unwrap(), 2);
    for time in [at(-1), 0, i64::MIN] {
        let error = history.version_as_of(time).await.unwrap_err();
        let LakeError::TimestampTooEarly { asked_at, version: 0, committed_at, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!((*asked_at, *committed_at), (time, at(0)));
        assert!(matches!(history.last_version_until(time).await, Err(LakeError::TimestampTooEarly { .. })));
    }
    for time in [at(2001), i64::MAX] {
        let error = history.version_as_of(time).await.unwrap_err();
        assert!(matches!(error, LakeError::TimestampTooLate { version: 2, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_starting_version_is_the_earliest_that_was_not_committed_before() {
    let folder = TempDir::new().unwrap();
    dated(&folder.path().join("t"), &[0, 1000, 2000]);
    let history = history(&folder.path().join("t")).await;
    for (time, version) in
        [(i64::MIN, 0), (at(-1), 0), (at(0), 0), (at(1), 1), (at(1000), 1), (at(1001), 2), (at(2000), 2)]
    {
        assert_eq!(history.first_version_since(time).await.unwrap(), version, "{time}");
    }
    let error = history.first_version_since(at(2001)).await.unwrap_err();
    assert!(matches!(error, LakeError::TimestampTooLate { version: 2, .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "The provided timestamp (2023-11-14T22:13:22.001Z) is after the latest available version 2, which was committed at \
         2023-11-14T22:13:22.000Z; ask for that moment or an earlier one"
    );
    assert_eq!(history.earliest().await.unwrap(), (0, at(0)));
}

#[tokio::test]
async fn times_that_do_not_ascend_are_made_to() {
    let folder = TempDir::new().unwrap();
    dated(&folder.path().join("t"), &[5000, 5000, 1000, 5002, 9000]);
    let history = history(&folder.path().join("t")).await;
    let times = [5000, 5001, 5002, 5003, 9000];
    for (version, time) in times.into_iter().enumerate() {
        assert_eq!(history.committed_at(version as u64).await.unwrap(), at(time));
        assert_eq!(history.version_as_of(at(time)).await.unwrap(), version as u64);
        assert_eq!(history.first_version_since(at(time)).await.unwrap(), version as u64);
    }
}

#[tokio::test]
async fn whatever_the_times_the_answers_are_those_of_the_definitions() {
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..20 {
        let folder = TempDir::new().unwrap();
        let written: Vec<u64> = (0..random.random_range(1..10)).map(|_| random.random_range(0..30)).collect();
        dated(&folder.path().join("t"), &written);
        let mut times: Vec<i64> = Vec::new();
        for time in written {
            times.push(times.last().map_or(at(time as i64), |last| (last + 1).max(at(time as i64))));
        }
        let history = history(&folder.path().join("t")).await;
        for moment in (-2..50).map(at) {
            let newest_until = times.iter().rposition(|time| *time <= moment).map(|version| version as u64);
            let first_since = times.iter().position(|time| *time >= moment).map(|version| version as u64);
            let as_of = newest_until.filter(|_| moment <= *times.last().unwrap());
            assert_eq!(history.last_version_until(moment).await.ok(), newest_until, "{times:?} {moment}");
            assert_eq!(history.version_as_of(moment).await.ok(), as_of, "{times:?} {moment}");
            assert_eq!(history.first_version_since(moment).await.ok(), first_since, "{times:?} {moment}");
        }
    }
}

/// Versions 0 and 1 are dated by their files, later ones by their own timestamps; the files' times would mislead.
fn dates_itself_since_version_two(table: &Path) {
    let mut log = HandWrittenLog::plain(table);
    let info = |time: i64| json!({"commitInfo": {"timestamp": 1, "inCommitTimestamp": at(time), "operation": "WRITE"}});
    log.commit(&[add("1.parquet", 1)]);
    let mut metadata = metadata("a-table", &[("id", "long")], &[]);
    metadata["metaData"]["configuration"] = json!({
        "delta.enableInCommitTimestamps": "true",
        "delta.inCommitTimestampEnablementVersion": "2",
        "delta.inCommitTimestampEnablementTimestamp": at(500).to_string(),
    });
    let protocol = json!({"protocol": {
        "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["inCommitTimestamp"],
    }});
    log.commit(&[info(500), protocol, metadata]);
    log.commit(&[info(600), add("3.parquet", 1)]);
    log.commit(&[info(700), add("4.parquet", 1)]);
    for (version, time) in [(0, 0), (1, 900), (2, 5000), (3, 5), (4, 5)] {
        log.date(version, BEGAN + time);
    }
}

#[tokio::test]
async fn commits_that_date_themselves_are_believed_since_they_do() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    dates_itself_since_version_two(&table);
    let history = history(&table).await;
    let mut times = Vec::new();
    for version in 0..5 {
        times.push(history.committed_at(version).await.unwrap());
    }
    assert_eq!(times, [at(0), at(900), at(500), at(600), at(700)]);
    // Once commits have their own timestamps, the times of files are ignored.
    for (time, version) in [(0, 0), (499, 0), (500, 2), (599, 2), (600, 3), (699, 3), (700, 4)] {
        assert_eq!(history.version_as_of(at(time)).await.unwrap(), version, "{time}");
    }
    for (time, version) in [(-1, 0), (0, 0), (1, 1), (500, 1), (501, 3), (600, 3), (601, 4), (700, 4)] {
        assert_eq!(history.first_version_since(at(time)).await.unwrap(), version, "{time}");
    }
    assert!(matches!(history.version_as_of(at(701)).await, Err(LakeError::TimestampTooLate { version: 4, .. })));
    assert!(matches!(history.version_as_of(at(-1)).await, Err(LakeError::TimestampTooEarly { version: 0, .. })));
}

#[tokio::test]
async fn a_commit_that_should_date_itself_and_does_not_is_a_fault() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    dates_itself_since_version_two(&table);
    let third = table.join(format!("_delta_log/{:020}.json", 3));
    fs::write(third, format!("{}\n", add("3.parquet", 1))).unwrap();
    let history = history(&table).await;
    let error = history.committed_at(3).await.unwrap_err();
    assert!(matches!(error, LakeError::CorruptLog { .. }), "{error:?}");
    assert!(history.changes(3..=3, weir::lake::Feed::Files).await.is_err());
}

#[tokio::test]
async fn few_commits_are_read_to_find_one_among_many_that_date_themselves() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut metadata = metadata("a-table", &[("id", "long")], &[]);
    metadata["metaData"]["configuration"] = json!({"delta.enableInCommitTimestamps": "true"});
    let protocol = json!({"protocol": {
        "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["inCommitTimestamp"],
    }});
    let info = |version: u64| json!({"commitInfo": {"inCommitTimestamp": BEGAN + 10 * version, "padding": "x".repeat(20_000)}});
    let mut log = HandWrittenLog::create(&table, protocol.clone(), metadata.clone());
    let first: String = [info(0), protocol, metadata].map(|action| format!("{action}\n")).concat();
    fs::write(log.commit_path(0), first).unwrap();
    for version in 1..200 {
        log.commit(&[info(version), add(&format!("{version}.parquet"), 1)]);
    }
    let store = WatchedStore::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
    let location = location_in(Arc::new(store.clone()), &table);
    let lake = Lake::new(LakeSettings::default());
    lake.latest(&location).await.unwrap();
    let before = store.reads().len();
    let history = lake.history(&location).await.unwrap();
    assert_eq!(history.version_as_of(at(1234)).await.unwrap(), 123);
    assert_eq!(history.first_version_since(at(1234)).await.unwrap(), 124);
    // Eight or nine commits are probed and two dozen around the result are read, each twice, because the first line is
    // longer than the first read; the oldest is read once per question.
    let reads = store.reads().len() - before;
    assert!(reads <= 2 * (2 * 9 + 25) + 2, "{reads}");
}

#[tokio::test]
async fn commits_that_date_themselves_back_in_time_are_dated_after_the_one_before_by_everyone() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut metadata = metadata("a-table", &[("id", "long")], &[]);
    metadata["metaData"]["configuration"] = json!({"delta.enableInCommitTimestamps": "true"});
    let protocol = json!({"protocol": {
        "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["inCommitTimestamp"],
    }});
    let info = |time: i64| json!({"commitInfo": {"inCommitTimestamp": at(time)}});
    let mut log = HandWrittenLog::create(&table, protocol.clone(), metadata.clone());
    let first: String = [info(100), protocol, metadata].map(|action| format!("{action}\n")).concat();
    fs::write(log.commit_path(0), first).unwrap();
    for (version, time) in [(1, -900), (2, 50), (3, 200), (4, 150)] {
        log.commit(&[info(time), add(&format!("{version}.parquet"), 1)]);
    }
    let history = history(&table).await;
    for (version, time) in [(0u64, 100), (1, 101), (2, 102), (3, 200), (4, 201)] {
        assert_eq!(history.committed_at(version).await.unwrap(), at(time));
        assert_eq!(history.first_version_since(at(time)).await.unwrap(), version);
        assert_eq!(history.version_as_of(at(time)).await.unwrap(), version);
    }
    assert_eq!(history.first_version_since(at(103)).await.unwrap(), 3);
    assert_eq!(history.version_as_of(at(199)).await.unwrap(), 2);
    assert!(matches!(history.version_as_of(at(202)).await, Err(LakeError::TimestampTooLate { version: 4, .. })));
    for from in 0..5 {
        let changes = history.changes(from..=4, weir::lake::Feed::Files).await.unwrap();
        for (index, outline) in changes.outlines().iter().enumerate() {
            let expected = history.committed_at(outline.version).await.unwrap();
            let commit = changes.commit(index).await.unwrap().unwrap();
            assert_eq!((outline.committed_at, commit.committed_at), (expected, expected), "from {from}");
        }
    }
}

#[tokio::test]
async fn a_commit_that_is_dated_far_ahead_dates_all_that_follow_it() {
    let folder = TempDir::new().unwrap();
    let protocol = json!({"protocol": {
        "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["inCommitTimestamp"],
    }});
    let mut metadata = metadata("a-table", &[("id", "long")], &[]);
    metadata["metaData"]["configuration"] = json!({"delta.enableInCommitTimestamps": "true"});
    for (name, n_commits, ahead) in [("short", 41, 20), ("long", 200, 100)] {
        let table = folder.path().join(name);
        let time = |version: i64| if version == ahead { at(1_000_000) } else { at(10 * version) };
        let info = |version: i64| json!({"commitInfo": {"inCommitTimestamp": time(version)}});
        let mut log = HandWrittenLog::create(&table, protocol.clone(), metadata.clone());
        let first: String = [info(0), protocol.clone(), metadata.clone()].map(|action| format!("{action}\n")).concat();
        fs::write(log.commit_path(0), first).unwrap();
        for version in 1..n_commits {
            log.commit(&[info(version), add(&format!("{version}.parquet"), 1)]);
        }
        let lake = Lake::new(LakeSettings::default());
        let (location, last) = (location(&table), n_commits as u64 - 1);
        let history = async || lake.history(&location).await.unwrap();
        let late = ahead as u64 + 10;
        assert_eq!(history().await.version_as_of(at(10 * late as i64)).await.unwrap(), ahead as u64 - 1, "{name}");
        let by_one_rule = async |last: u64| {
            let history = history().await;
            for version in [0, 1, ahead as u64 - 1, ahead as u64, late, last] {
                let settled = version.saturating_sub(ahead as u64) as i64 + 1_000_000;
                let expected = if version < ahead as u64 { 10 * version as i64 } else { settled };
                assert_eq!(history.committed_at(version).await.unwrap(), at(expected), "{name} {version}");
                assert_eq!(history.version_as_of(at(expected)).await.unwrap(), version, "{name} {version}");
                assert_eq!(history.first_version_since(at(expected)).await.unwrap(), version, "{name} {version}");
            }
            let changes = history.changes(late..=last, weir::lake::Feed::Files).await.unwrap();
            let told: Vec<_> = changes.outlines().iter().map(|outline| outline.committed_at).collect();
            let first = late as i64 - ahead + 1_000_000;
            assert!(told.into_iter().eq((0..).map(|more| at(first + more)).take((last - late) as usize + 1)), "{name}");
        };
        by_one_rule(last).await;
        // Later commits follow the same rule.
        log.commit(&[info(n_commits), add("later.parquet", 1)]);
        by_one_rule(last + 1).await;
    }
}

#[tokio::test]
async fn what_was_cleaned_away_is_said_to_be_gone_even_by_a_server_that_knew_it() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    plain_table(&table, 10).await;
    append(&table, 10, 10).await;
    append(&table, 20, 10).await;
    checkpoint(&table).await;
    append(&table, 30, 10).await;
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    let before = lake.history(&location).await.unwrap();
    assert_eq!(before.first_version_since(0).await.unwrap(), 0);
    for version in 0..3 {
        fs::remove_file(table.join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    for lake in [lake, Lake::new(LakeSettings::default())] {
        let history = lake.history(&location).await.unwrap();
        assert_eq!(history.first_version_since(0).await.unwrap(), 3);
        assert_eq!(history.earliest().await.unwrap().0, 3);
        let error = history.version_as_of(0).await.unwrap_err();
        assert!(matches!(error, LakeError::TimestampTooEarly { version: 3, .. }), "{error:?}");
        for error in [
            history.at_version(1).await.unwrap_err(),
            history.state_at(1).await.unwrap_err(),
            lake.at_version(&location, 1).await.unwrap_err(),
        ] {
            let LakeError::VersionNotFound { version: 1, oldest: Some(3), newest: 4, .. } = &error else {
                panic!("{error:?}");
            };
            assert!(error.to_string().contains("before the earliest available version 3"), "{error}");
        }
        assert_eq!(history.at_version(3).await.unwrap().files().len(), 3);
    }
}

#[tokio::test]
async fn a_version_after_the_newest_is_said_to_be_so() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    plain_table(&table, 1).await;
    let history = history(&table).await;
    for error in [history.at_version(9).await.unwrap_err(), history.state_at(u64::MAX).await.unwrap_err()] {
        assert!(matches!(error, LakeError::VersionNotFound { newest: 1, .. }), "{error:?}");
        assert!(error.to_string().contains("after the latest available version 1"), "{error}");
    }
}

#[tokio::test]
async fn an_older_state_is_what_the_older_version_says() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = HandWrittenLog::plain(&table);
    log.commit(&[add("1.parquet", 1)]);
    log.commit(&[metadata("a-table", &[("id", "long"), ("name", "string")], &[])]);
    let history = history(&table).await;
    for version in 0..3 {
        let (state, snapshot) = (history.state_at(version).await.unwrap(), history.at_version(version).await.unwrap());
        assert_eq!((state.version, &state.metadata), (version, snapshot.metadata()));
        assert_eq!(&state.protocol, snapshot.protocol());
    }
    assert_ne!(history.state_at(1).await.unwrap().metadata, history.state_at(2).await.unwrap().metadata);
}

#[tokio::test]
async fn foreign_tables_are_dated_by_the_clock_they_keep() {
    let Some(tables) = foreign_tables() else { return };
    let history = history(&tables.join("cdc_ict_table")).await;
    // Version 1 dates itself to 1683874206883, which is before version 0.
    for (version, time) in [(0, 1783874203271), (1, 1783874203272), (2, 1783874212175), (3, 1783874213881)] {
        assert_eq!(history.committed_at(version).await.unwrap(), time);
        assert_eq!(history.first_version_since(time).await.unwrap(), version);
    }
    assert_eq!(history.version_as_of(1783874212175).await.unwrap(), 2);
    assert_eq!(history.version_as_of(1783874213880).await.unwrap(), 2);
    assert_eq!(history.first_version_since(1783874212176).await.unwrap(), 3);
}
