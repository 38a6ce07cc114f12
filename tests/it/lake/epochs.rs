//! The newest version whose metadata fits: exact, found once, and cheap to find again.

use std::{fs, path::Path, sync::Arc};

use futures::future::join_all;
use object_store::local::LocalFileSystem;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tempfile::TempDir;
use weir::{
    domain::catalog::delta::Metadata,
    lake::{Lake, LakeSettings, Snapshot},
    storage::TableLocation,
};

use crate::support::{
    tables::{HandWrittenLog, add, append, checkpoint, location, location_in, metadata, plain_table, protocol},
    watched_store::WatchedStore,
};

fn schema(columns: &[&str]) -> Value {
    let columns: Vec<_> = columns.iter().map(|name| (*name, "long")).collect();
    metadata("a-table", &columns, &[])
}

fn has(column: &'static str) -> impl Fn(&Metadata) -> bool + Send + Sync {
    move |metadata| metadata.schema_string.contains(&format!("\"{column}\""))
}

fn log(table: &Path, columns: &[&str]) -> HandWrittenLog {
    HandWrittenLog::create(table, protocol(1, 2), schema(columns))
}

fn watched(table: &Path) -> (WatchedStore, TableLocation) {
    let store = WatchedStore::new(LocalFileSystem::new_with_prefix(table.parent().unwrap()).unwrap());
    let location = location_in(Arc::new(store.clone()), table);
    (store, location)
}

async fn newest_with(lake: &Lake, location: &TableLocation, column: &'static str) -> Option<Arc<Snapshot>> {
    let latest = lake.latest(location).await.unwrap();
    lake.newest_that(location, &latest, has(column)).await.unwrap()
}

async fn version_with(lake: &Lake, location: &TableLocation, column: &'static str) -> Option<u64> {
    newest_with(lake, location, column).await.map(|snapshot| snapshot.version())
}

#[tokio::test]
async fn the_newest_version_that_fits_is_found_behind_all_that_do_not() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = log(&table, &["a"]);
    log.commit(&[add("1.parquet", 1)]);
    log.commit(&[add("2.parquet", 1)]);
    log.commit(&[schema(&["b"]), add("3.parquet", 1)]);
    log.commit(&[add("4.parquet", 1)]);
    log.commit(&[schema(&["c"])]);
    log.commit(&[schema(&["d", "b"])]);
    log.commit(&[add("7.parquet", 1)]);
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    for (column, version) in [("a", Some(2)), ("b", Some(7)), ("c", Some(5)), ("d", Some(7)), ("e", None)] {
        assert_eq!(version_with(&lake, &location, column).await, version, "{column}");
        // Earlier questions to this lake make no difference.
        assert_eq!(version_with(&Lake::new(LakeSettings::default()), &location, column).await, version, "{column}");
    }
    assert_eq!(newest_with(&lake, &location, "a").await.unwrap().files().len(), 2);
}

#[tokio::test]
async fn whatever_changed_when_the_answer_is_that_of_the_definition() {
    let mut random = StdRng::seed_from_u64(5);
    for round in 0..30 {
        let folder = TempDir::new().unwrap();
        let table = folder.path().join("t");
        let names = ["a", "b", "c"];
        let mut log = log(&table, &["a"]);
        let mut history = vec!["a"];
        let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
        for step in 0..random.random_range(1..40) {
            let mut actions = vec![add(&format!("{step}.parquet"), 1)];
            let mut now = *history.last().unwrap();
            if random.random_bool(0.2) {
                now = names[random.random_range(0..3)];
                actions.push(schema(&[now]));
            }
            log.commit(&actions);
            history.push(now);
            if random.random_bool(0.3) {
                let asked = names[random.random_range(0..3)];
                let expected = history.iter().rposition(|name| *name == asked).map(|version| version as u64);
                assert_eq!(version_with(&lake, &location, asked).await, expected, "{round}: {history:?} {asked}");
            }
        }
        for asked in names {
            let expected = history.iter().rposition(|name| *name == asked).map(|version| version as u64);
            for lake in [&lake, &Lake::new(LakeSettings::default())] {
                assert_eq!(version_with(lake, &location, asked).await, expected, "{round}: {history:?} {asked}");
            }
        }
    }
}

#[tokio::test]
async fn asking_again_costs_one_listing_and_a_new_commit_is_read_once() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = log(&table, &["a"]);
    for version in 1..=500 {
        log.commit(&[add(&format!("{version}.parquet"), 1)]);
    }
    log.commit(&[schema(&["b"])]);
    for version in 502..=505 {
        log.commit(&[add(&format!("{version}.parquet"), 1)]);
    }
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    let latest = lake.latest(&location).await.unwrap();
    let before = store.reads().len();
    let held = lake.newest_that(&location, &latest, has("a")).await.unwrap().unwrap();
    assert_eq!(held.version(), 500);
    // The walk reads the commits back to the change and a few more; the other reads are the kernel's.
    let walked: Vec<String> = store.reads()[before..].to_vec();
    let read = |version: u64| walked.iter().filter(|path| path.ends_with(&format!("{version:020}.json"))).count();
    assert!((501..=505).all(|version| read(version) == 1), "{walked:?}");

    let (listings, reads) = (store.listings(), store.reads().len());
    for _ in 0..20 {
        assert!(Arc::ptr_eq(&held, &newest_with(&lake, &location, "a").await.unwrap()));
    }
    assert_eq!((store.listings(), store.reads().len()), (listings + 20, reads));

    log.commit(&[add("506.parquet", 1)]);
    lake.latest(&location).await.unwrap();
    let reads = store.reads().len();
    for _ in 0..20 {
        assert!(Arc::ptr_eq(&held, &newest_with(&lake, &location, "a").await.unwrap()));
    }
    assert_eq!(store.reads()[reads..], [format!("t/_delta_log/{:020}.json", 506)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_who_ask_together_share_the_walk() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = log(&table, &["a"]);
    log.commit(&[schema(&["b"])]);
    for version in 2..=60 {
        log.commit(&[add(&format!("{version}.parquet"), 1)]);
    }
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    let latest = lake.latest(&location).await.unwrap();
    let before = store.reads().len();
    let asked = (0..50).map(|_| {
        let (lake, location, latest) = (lake.clone(), location.clone(), latest.clone());
        tokio::spawn(async move { lake.newest_that(&location, &latest, has("a")).await.unwrap().unwrap().version() })
    });
    assert!(join_all(asked).await.into_iter().all(|version| version.unwrap() == 0));
    let reads: Vec<String> = store.reads()[before..].to_vec();
    let read = |version: u64| reads.iter().filter(|path| path.ends_with(&format!("{version:020}.json"))).count();
    assert!((1..=60).all(|version| read(version) == 1), "{reads:?}");
}

#[tokio::test]
async fn a_look_that_is_older_than_what_is_known_gets_its_own_answer() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = log(&table, &["a"]);
    log.commit(&[schema(&["b"])]);
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    let early = lake.latest(&location).await.unwrap();
    log.commit(&[schema(&["a"])]);
    log.commit(&[schema(&["b"])]);
    assert_eq!(version_with(&lake, &location, "a").await, Some(2));
    let found = lake.newest_that(&location, &early, has("a")).await.unwrap().unwrap();
    assert_eq!(found.version(), 0);
    assert_eq!(version_with(&lake, &location, "a").await, Some(2));
}

#[tokio::test]
async fn what_the_log_no_longer_holds_is_not_found() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    plain_table(&table, 10).await;
    let names = |metadata: &Metadata| metadata.schema_string.contains("string");
    let mut narrow = schema(&["id"]);
    narrow["metaData"]["id"] = {
        let lake = Lake::new(LakeSettings::default());
        lake.latest(&location(&table)).await.unwrap().metadata().id.clone().into()
    };
    fs::write(table.join(format!("_delta_log/{:020}.json", 2)), format!("{narrow}\n")).unwrap();
    checkpoint(&table).await;
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    let latest = lake.latest(&location).await.unwrap();
    assert_eq!(lake.newest_that(&location, &latest, names).await.unwrap().unwrap().version(), 1);
    for version in 0..2 {
        fs::remove_file(table.join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    let lake = Lake::new(LakeSettings::default());
    let latest = lake.latest(&location).await.unwrap();
    for _ in 0..3 {
        assert!(lake.newest_that(&location, &latest, names).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn another_table_in_the_same_place_has_a_past_of_its_own() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut first = log(&table, &["a"]);
    first.commit(&[schema(&["b"])]);
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&table));
    assert_eq!(version_with(&lake, &location, "a").await, Some(0));
    fs::remove_dir_all(&table).unwrap();
    let mut second = HandWrittenLog::create(&table, protocol(1, 2), metadata("another", &[("c", "long")], &[]));
    second.commit(&[metadata("another", &[("a", "long")], &[])]);
    second.commit(&[metadata("another", &[("b", "long"), ("longer", "string")], &[])]);
    assert_eq!(version_with(&lake, &location, "a").await, Some(1));
    assert_eq!(version_with(&lake, &location, "c").await, Some(0));
}

#[tokio::test]
async fn a_storage_that_fails_midway_is_no_answer() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = log(&table, &["a"]);
    log.commit(&[schema(&["b"])]);
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    let latest = lake.latest(&location).await.unwrap();
    store.set_down(true);
    assert!(lake.newest_that(&location, &latest, has("a")).await.is_err());
    store.set_down(false);
    assert_eq!(lake.newest_that(&location, &latest, has("a")).await.unwrap().unwrap().version(), 0);
}

#[tokio::test]
async fn everything_that_the_metadata_once_was_is_told() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut first = log(&table, &["a"]);
    first.commit(&[schema(&["a", "b"])]);
    first.commit(&[add("2.parquet", 1)]);
    first.commit(&[schema(&["c"])]);
    let lake = Lake::new(LakeSettings::default());
    let all = lake.history(&location(&table)).await.unwrap().all_metadata().await.unwrap();
    let n_columns = |metadata: &Metadata| metadata.schema_string.matches("\"name\"").count();
    let told: Vec<_> = all.iter().map(|(last, metadata)| (*last, n_columns(metadata))).collect();
    assert_eq!(told, [(3, 1), (2, 2), (0, 1)]);
    assert!(has("c")(&all[0].1) && has("a")(&all[2].1));
    let real = folder.path().join("real");
    plain_table(&real, 1).await;
    append(&real, 1, 1).await;
    assert_eq!(lake.history(&location(&real)).await.unwrap().all_metadata().await.unwrap().len(), 1);
}
