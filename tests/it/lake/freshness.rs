//! A new commit is in the next answer despite caches, and frequent questions are cheap.

use std::{path::Path, sync::Arc};

use futures::future::{join_all, try_join_all};
use object_store::local::LocalFileSystem;
use tempfile::TempDir;
use weir::{
    config::StorageSettings,
    lake::{Lake, LakeError, LakeSettings},
    storage::{Storages, TableLocation},
};

use crate::support::{
    tables::{HandWrittenLog, add, append, checkpoint, location, location_in, metadata, plain_table, protocol, remove},
    watched_store::WatchedStore,
};

fn watched(table: &Path) -> (WatchedStore, TableLocation) {
    let store = WatchedStore::new(LocalFileSystem::new_with_prefix(table.parent().unwrap()).unwrap());
    let location = location_in(Arc::new(store.clone()), table);
    (store, location)
}

fn paths(snapshot: &weir::lake::Snapshot) -> Vec<&str> {
    let mut paths: Vec<_> = snapshot.files().iter().map(|file| file.path).collect();
    paths.sort_unstable();
    paths
}

#[tokio::test]
async fn a_commit_is_in_the_next_answer() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    plain_table(&table, 10).await;
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    for round in 0..5 {
        let snapshot = lake.latest(&location).await.unwrap();
        assert_eq!(snapshot.version(), round + 1);
        assert_eq!(snapshot.files().len() as u64, round + 1);
        assert_eq!(lake.latest_version(&location).await.unwrap(), round + 1);
        append(&table, 100, 10).await;
        assert_eq!(lake.latest_version(&location).await.unwrap(), round + 2);
    }
}

/// The table in a storage that allows looks of this age.
fn tolerant(table: &Path, max_staleness_seconds: u32) -> TableLocation {
    let folder = url::Url::from_file_path(table.parent().unwrap()).unwrap().to_string();
    let storage = StorageSettings {
        name: "lake".to_owned(),
        url: folder.clone(),
        delivery: Default::default(),
        max_staleness_seconds,
        options: Default::default(),
    };
    let storages = Storages::open_in(&[storage], &[], &|_| None).unwrap();
    storages.locate(&format!("{folder}/{}", table.file_name().unwrap().to_str().unwrap())).unwrap()
}

#[tokio::test]
async fn a_storage_may_tolerate_looks_of_some_age() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    plain_table(&table, 10).await;
    let (lake, patient) = (Lake::new(LakeSettings::default()), tolerant(&table, 3600));
    let known = lake.latest(&patient).await.unwrap();
    append(&table, 100, 10).await;
    assert!(Arc::ptr_eq(&known, &lake.latest(&patient).await.unwrap()));
    assert_eq!(lake.latest_version(&patient).await.unwrap(), known.version());
    // The same table in a storage that allows no staleness.
    let strict = tolerant(&table, 0);
    assert_eq!(lake.latest(&strict).await.unwrap().version(), known.version() + 1);
    assert_eq!(lake.latest_version(&strict).await.unwrap(), known.version() + 1);
    // What was seen then is known from then on.
    assert_eq!(lake.latest(&patient).await.unwrap().version(), known.version() + 1);
}

#[tokio::test]
async fn an_unchanged_table_costs_one_listing_and_no_read() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    plain_table(&table, 10).await;
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    let first = lake.latest(&location).await.unwrap();
    let (listings, reads) = (store.listings(), store.reads().len());
    let second = lake.latest(&location).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(store.listings(), listings + 1);
    assert_eq!(lake.latest_version(&location).await.unwrap(), first.version());
    assert_eq!(store.listings(), listings + 2);
    assert_eq!(store.reads().len(), reads);
}

#[tokio::test]
async fn looks_list_a_log_from_its_newest_checkpoint_on_however_long_it_has_been_read() {
    const BETWEEN: usize = 20;
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = HandWrittenLog::plain(&table);
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    let mut most = 0;
    for _ in 0..15 {
        for _ in 0..BETWEEN {
            log.commit(&[add("a.parquet", 1), add("b.parquet", 1)]);
            lake.latest(&location).await.unwrap();
        }
        checkpoint(&table).await;
        log.commit(&[add("c.parquet", 1)]);
        let before = store.names_listed();
        lake.latest(&location).await.unwrap();
        most = most.max(store.names_listed() - before);
    }
    let before = store.names_listed();
    for _ in 0..10 {
        lake.latest(&location).await.unwrap();
        lake.latest_version(&location).await.unwrap();
    }
    let each = (store.names_listed() - before) / 20;
    assert!(each <= BETWEEN + 4, "{each} names are listed for a look");
    // For a new commit, the names since the checkpoint of the cached snapshot are listed.
    assert!(most <= 300, "{most} names were listed for a commit");
    let read = lake.latest(&location).await.unwrap();
    let fresh = Lake::new(LakeSettings::default()).latest(&location).await.unwrap();
    assert_eq!((read.version(), paths(&read)), (fresh.version(), paths(&fresh)));
    // Versions deleted from the part that is no longer listed are still noticed.
    let history = lake.history(&location).await.unwrap();
    let older = read.version() - 2 * BETWEEN as u64;
    assert_eq!(history.at_version(older).await.unwrap().files().len(), 3);
    std::fs::remove_file(log.commit_path(older)).unwrap();
    let history = lake.history(&location).await.unwrap();
    assert!(history.at_version(older).await.is_err());
    assert!(history.changes(older..=older + 1, weir::lake::Feed::Files).await.is_err());
}

#[tokio::test]
async fn fifty_callers_cause_one_load() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    plain_table(&table, 10).await;
    let (alone, location) = watched(&table);
    Lake::new(LakeSettings::default()).latest(&location).await.unwrap();
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    let answers = try_join_all((0..50).map(|_| lake.latest(&location))).await.unwrap();
    assert!(answers.iter().all(|answer| Arc::ptr_eq(answer, &answers[0])));
    assert_eq!(store.reads(), alone.reads());
    assert_eq!(store.listings(), alone.listings());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_on_many_threads_read_each_commit_once() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = HandWrittenLog::plain(&table);
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    lake.latest(&location).await.unwrap();
    log.commit(&[add("a.parquet", 1)]);
    let tasks = (0..50).map(|_| {
        let (lake, location) = (lake.clone(), location.clone());
        tokio::spawn(async move { lake.latest(&location).await.unwrap().version() })
    });
    assert!(join_all(tasks).await.into_iter().all(|version| version.unwrap() == 1));
    // The kernel reads a new commit twice: for protocol and metadata, and for files.
    let reads = store.reads().iter().filter(|path| path.ends_with("00000000000000000001.json")).count();
    assert!((1..=2).contains(&reads), "{:?}", store.reads());
}

#[tokio::test]
async fn a_new_commit_is_read_without_reading_the_old_ones_again() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = HandWrittenLog::plain(&table);
    for number in 0..9 {
        log.commit(&[add(&format!("{number}.parquet"), 1)]);
    }
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    lake.latest(&location).await.unwrap();
    let before = store.reads().len();
    // A checkpoint that arrives with its commit must not make the lake start over.
    log.commit(&[add("late.parquet", 1), remove("3.parquet")]);
    checkpoint(&table).await;
    let snapshot = lake.latest(&location).await.unwrap();
    assert_eq!(snapshot.version(), 10);
    assert_eq!(snapshot.files().len(), 9);
    assert!(store.reads()[before..].iter().all(|path| path.ends_with("10.json")), "{:?}", &store.reads()[before..]);
    // The next commit continues from that checkpoint.
    log.commit(&[add("later.parquet", 1)]);
    let before = store.reads().len();
    assert_eq!(lake.latest(&location).await.unwrap().files().len(), 10);
    assert!(store.reads()[before..].iter().all(|path| path.ends_with("11.json")), "{:?}", &store.reads()[before..]);
}

#[tokio::test]
async fn a_table_replaced_at_the_same_version_is_loaded_anew() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    HandWrittenLog::plain(&table).commit(&[add("old.parquet", 1)]);
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    let old = lake.latest(&location).await.unwrap();
    std::fs::remove_dir_all(&table).unwrap();
    let fresh = metadata("another-table", &[("id", "long"), ("more", "string")], &[]);
    HandWrittenLog::create(&table, protocol(1, 2), fresh).commit(&[add("new.parquet", 1)]);
    let new = lake.latest(&location).await.unwrap();
    assert_eq!((new.version(), new.metadata().id.as_str()), (1, "another-table"));
    assert_eq!(paths(&new), ["new.parquet"]);
    assert_eq!(paths(&old), ["old.parquet"]);
    assert_eq!(lake.at_version(&location, 0).await.unwrap().metadata().id, "another-table");
}

#[tokio::test]
async fn a_table_replaced_by_a_shorter_or_longer_one_is_loaded_anew() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = HandWrittenLog::plain(&table);
    log.commit(&[add("a.parquet", 1)]);
    log.commit(&[add("b.parquet", 1)]);
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    assert_eq!(lake.latest(&location).await.unwrap().version(), 2);
    std::fs::remove_dir_all(&table).unwrap();
    let mut log = HandWrittenLog::create(&table, protocol(1, 2), metadata("second", &[("id", "long")], &[]));
    assert_eq!(lake.latest_version(&location).await.unwrap(), 0);
    let shorter = lake.latest(&location).await.unwrap();
    assert_eq!((shorter.version(), shorter.files().len()), (0, 0));
    for number in 0..4 {
        log.commit(&[add(&format!("{number}"), 1)]);
    }
    std::fs::remove_dir_all(&table).unwrap();
    let mut log = HandWrittenLog::create(&table, protocol(1, 2), metadata("third", &[("id", "long")], &[]));
    for number in 0..6 {
        log.commit(&[add(&format!("third-{number}"), 1)]);
    }
    let longer = lake.latest(&location).await.unwrap();
    assert_eq!((longer.version(), longer.metadata().id.as_str()), (6, "third"));
    assert_eq!(paths(&longer)[0], "third-0");
}

#[tokio::test]
async fn metadata_replaced_by_a_commit_is_in_the_next_answer() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = HandWrittenLog::plain(&table);
    log.commit(&[add("a.parquet", 1)]);
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    lake.latest(&location).await.unwrap();
    log.commit(&[metadata("a-table", &[("id", "long"), ("day", "string")], &["day"])]);
    let snapshot = lake.latest(&location).await.unwrap();
    assert_eq!(snapshot.metadata().partition_columns, ["day"]);
    assert_eq!(snapshot.columns().len(), 2);
    assert_eq!(snapshot.files().get(0).unwrap().partition_values().collect::<Vec<_>>(), [("day", None)]);
    log.commit(&[metadata("other-id", &[("id", "long")], &[])]);
    assert_eq!(lake.latest(&location).await.unwrap().metadata().id, "other-id");
}

#[tokio::test]
async fn a_dropped_table_is_gone_and_comes_back() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    HandWrittenLog::plain(&table);
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    lake.latest(&location).await.unwrap();
    std::fs::remove_dir_all(&table).unwrap();
    assert!(matches!(lake.latest(&location).await, Err(LakeError::NotATable { .. })));
    assert!(matches!(lake.latest_version(&location).await, Err(LakeError::NotATable { .. })));
    HandWrittenLog::plain(&table);
    assert_eq!(lake.latest(&location).await.unwrap().version(), 0);
}

#[tokio::test]
async fn an_outage_is_not_a_missing_table_and_ends_by_itself() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    HandWrittenLog::plain(&table).commit(&[add("a.parquet", 1)]);
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    for _ in 0..2 {
        store.set_down(true);
        for error in [lake.latest(&location).await.unwrap_err(), lake.latest_version(&location).await.unwrap_err()] {
            assert!(matches!(error, LakeError::Unavailable { .. }), "{error:?}");
            assert!(!error.to_string().contains("secret-host"));
            let source = std::error::Error::source(&error).unwrap();
            assert!(source.to_string().contains("secret-host"), "{source}");
        }
        store.set_down(false);
        assert_eq!(lake.latest(&location).await.unwrap().version(), 1);
    }
}

#[tokio::test]
async fn a_storage_that_sends_half_of_it_is_an_error_and_no_smaller_table() {
    let folder = TempDir::new().unwrap();
    for has_checkpoint in [false, true] {
        let table = folder.path().join(format!("{has_checkpoint}"));
        let mut log = HandWrittenLog::plain(&table);
        log.commit(&[add("a.parquet", 1), add("b.parquet", 1)]);
        if has_checkpoint {
            checkpoint(&table).await;
        }
        let (store, location) = watched(&table);
        let lake = Lake::new(LakeSettings::default());
        store.set_cut(true);
        lake.latest(&location).await.unwrap_err();
        store.set_cut(false);
        assert_eq!(paths(&lake.latest(&location).await.unwrap()).len(), 2);
        // A further commit that arrives truncated must not pass for a smaller one.
        log.commit(&[add("c.parquet", 1), add("d.parquet", 1)]);
        store.set_cut(true);
        lake.latest(&location).await.unwrap_err();
        store.set_cut(false);
        assert_eq!(paths(&lake.latest(&location).await.unwrap()).len(), 4);
    }
}

#[tokio::test]
async fn a_snapshot_in_use_is_shared_even_where_the_cache_has_no_room() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    HandWrittenLog::plain(&table);
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings { cache_bytes: 0, ..LakeSettings::default() });
    let held = lake.latest(&location).await.unwrap();
    let reads = store.reads().len();
    assert!(Arc::ptr_eq(&held, &lake.latest(&location).await.unwrap()));
    assert_eq!(store.reads().len(), reads);
}

#[tokio::test]
async fn an_older_version_is_the_table_as_it_was() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = HandWrittenLog::plain(&table);
    log.commit(&[add("a.parquet", 1)]);
    log.commit(&[add("b.parquet", 2), remove("a.parquet")]);
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    assert_eq!(paths(&lake.at_version(&location, 1).await.unwrap()), ["a.parquet"]);
    assert_eq!(paths(&lake.at_version(&location, 2).await.unwrap()), ["b.parquet"]);
    let error = lake.at_version(&location, 3).await.unwrap_err();
    assert!(matches!(error, LakeError::VersionNotFound { version: 3, newest: 2, .. }), "{error:?}");
    checkpoint(&table).await;
    std::fs::remove_file(log.commit_path(0)).unwrap();
    std::fs::remove_file(log.commit_path(1)).unwrap();
    let fresh = Lake::new(LakeSettings::default());
    assert_eq!(paths(&fresh.latest(&location).await.unwrap()), ["b.parquet"]);
    let error = fresh.at_version(&location, 1).await.unwrap_err();
    assert!(matches!(error, LakeError::VersionNotFound { version: 1, newest: 2, .. }), "{error:?}");
}
