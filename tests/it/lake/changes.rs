//! Ranges of commits: what each commit did, read once and completely, or refused with the version at fault.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use futures::future::try_join_all;
use object_store::local::LocalFileSystem;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir::{
    lake::{ActionKind, Changes, Commit, Feed, FileAction, Lake, LakeError, LakeSettings, LogFault},
    storage::TableLocation,
};

use crate::support::{
    tables::{
        HandWrittenLog, add, checkpoint, foreign_tables, location, location_in, metadata, protocol, protocol_with,
        remove,
    },
    watched_store::WatchedStore,
};

async fn changes(table: &Path, from: u64, to: u64, feed: Feed) -> Result<Changes, LakeError> {
    changes_at(&Lake::new(LakeSettings::default()), &location(table), from, to, feed).await
}

async fn changes_at(
    lake: &Lake,
    location: &TableLocation,
    from: u64,
    to: u64,
    feed: Feed,
) -> Result<Changes, LakeError> {
    lake.history(location).await?.changes(from..=to, feed).await
}

async fn commits(changes: &Changes) -> Vec<Arc<Commit>> {
    let mut commits = Vec::new();
    for index in 0..changes.outlines().len() {
        commits.push(changes.commit(index).await.unwrap().unwrap());
    }
    assert!(changes.commit(changes.outlines().len()).await.unwrap().is_none());
    commits
}

/// Every selected file as `version kind path`.
async fn listed(changes: &Changes, feed: Feed) -> Vec<String> {
    let line = |commit: &Commit, file: &FileAction| format!("{} {:?} {}", commit.version, file.kind, file.path);
    let commits = commits(changes).await;
    let listed: Vec<_> =
        commits.iter().flat_map(|commit| commit.selected(feed).map(|file| line(commit, file))).collect();
    assert_eq!(changes.outlines().iter().map(|outline| outline.n_files).sum::<usize>(), listed.len());
    listed
}

fn recording(records: bool) -> Value {
    let mut metadata = metadata("a-table", &[("id", "long")], &[]);
    metadata["metaData"]["configuration"] = json!({"delta.enableChangeDataFeed": records.to_string()});
    metadata
}

fn moved(mut action: Value) -> Value {
    for kind in ["add", "remove"] {
        if let Some(action) = action.get_mut(kind) {
            action["dataChange"] = json!(false);
        }
    }
    action
}

fn cdc(path: &str) -> Value {
    json!({"cdc": {"path": path, "partitionValues": {}, "size": 7, "dataChange": false}})
}

fn sized(mut remove: Value, size: u64) -> Value {
    remove["remove"]["size"] = json!(size);
    remove["remove"]["partitionValues"] = json!({});
    remove
}

/// Version 1 appends, 2 optimizes, 3 updates with recorded changes, 4 deletes without recording, 5 merges nothing.
fn lively(table: &Path) -> HandWrittenLog {
    let mut log = HandWrittenLog::create(table, protocol(1, 4), recording(true));
    log.commit(&[add("a", 10), add("b", 20)]);
    log.commit(&[moved(sized(remove("a"), 10)), moved(sized(remove("b"), 20)), moved(add("ab", 25))]);
    log.commit(&[sized(remove("ab"), 25), add("c", 30), cdc("_change_data/1"), cdc("_change_data/2")]);
    log.commit(&[sized(remove("c"), 30)]);
    let zero = json!({"numTargetRowsInserted": "0", "numTargetRowsUpdated": "0", "numTargetRowsDeleted": "0"});
    log.commit(&[json!({"commitInfo": {"operation": "MERGE", "operationMetrics": zero}}), add("d", 1)]);
    log
}

#[tokio::test]
async fn a_query_from_a_version_lists_what_changed_data_and_no_recorded_changes() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    lively(&table);
    let files = changes(&table, 0, 5, Feed::Files).await.unwrap();
    let expected = ["1 Add a", "1 Add b", "3 Remove ab", "3 Add c", "4 Remove c", "5 Add d"];
    assert_eq!(listed(&files, Feed::Files).await, expected);
    let bytes: Vec<_> = files.outlines().iter().map(|outline| outline.bytes).collect();
    assert_eq!(bytes, [0, 30, 0, 55, 30, 1]);
}

#[tokio::test]
async fn the_feed_lists_recorded_changes_where_there_are_some_and_no_merge_of_nothing() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    lively(&table);
    let feed = changes(&table, 0, 5, Feed::Changes).await.unwrap();
    let expected = ["1 Add a", "1 Add b", "3 Cdc _change_data/1", "3 Cdc _change_data/2", "4 Remove c"];
    assert_eq!(listed(&feed, Feed::Changes).await, expected);
}

#[tokio::test]
async fn both_ends_belong_to_the_range() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    lively(&table);
    assert_eq!(listed(&changes(&table, 4, 4, Feed::Files).await.unwrap(), Feed::Files).await, ["4 Remove c"]);
    let versions = changes(&table, 3, 5, Feed::Files).await.unwrap();
    assert_eq!(versions.outlines().iter().map(|outline| outline.version).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(versions.start().version, 3);
}

#[tokio::test]
async fn metadata_and_protocols_are_outlined_where_they_changed() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = HandWrittenLog::create(&table, protocol(1, 2), recording(true));
    log.commit(&[add("a", 1)]);
    let mut renamed = recording(true);
    renamed["metaData"]["name"] = json!("new");
    log.commit(&[renamed]);
    log.commit(&[protocol_with(&["timestampNtz"])]);
    let changes = changes(&table, 1, 3, Feed::Changes).await.unwrap();
    assert_eq!(changes.start().metadata.name, None);
    assert_eq!(changes.start().protocol.min_reader_version, 1);
    let found: Vec<_> = changes
        .outlines()
        .iter()
        .map(|outline| (outline.version, outline.metadata.is_some(), outline.protocol.is_some()))
        .collect();
    assert_eq!(found, [(1, false, false), (2, true, false), (3, false, true)]);
    assert_eq!(changes.outlines()[1].metadata.as_ref().unwrap().name.as_deref(), Some("new"));
    assert_eq!(changes.outlines()[2].protocol.as_ref().unwrap().min_reader_version, 3);
}

#[tokio::test]
async fn changes_that_were_not_recorded_all_along_are_refused_with_the_version() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = HandWrittenLog::plain(&table);
    log.commit(&[recording(true)]);
    log.commit(&[add("a", 1)]);
    log.commit(&[recording(false)]);
    log.commit(&[recording(true)]);
    for (from, to, blamed) in [(0, 4, 0), (0, 0, 0), (1, 4, 3), (1, 3, 3), (3, 4, 3)] {
        let error = changes(&table, from, to, Feed::Changes).await.unwrap_err();
        assert!(matches!(&error, LakeError::ChangesNotRecorded { version, .. } if *version == blamed), "{error:?}");
        assert!(error.to_string().contains(&format!("change data was not recorded for version {blamed}")), "{error}");
    }
    for (from, to) in [(1, 2), (4, 4)] {
        changes(&table, from, to, Feed::Changes).await.unwrap();
    }
    changes(&table, 0, 4, Feed::Files).await.unwrap();
}

#[tokio::test]
async fn a_range_beyond_the_newest_version_is_refused() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    lively(&table);
    for (from, to) in [(0, 6), (6, 6), (0, u64::MAX)] {
        let error = changes(&table, from, to, Feed::Files).await.unwrap_err();
        assert!(matches!(error, LakeError::VersionNotFound { newest: 5, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_missing_commit_in_the_range_is_named() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let log = lively(&table);
    checkpoint(&table).await;
    fs::remove_file(log.commit_path(2)).unwrap();
    for (from, to) in [(0, 5), (1, 2), (2, 3), (2, 2)] {
        let error = changes(&table, from, to, Feed::Files).await.unwrap_err();
        assert!(matches!(error, LakeError::CommitNotFound { version: 2, .. }), "{error:?}");
        assert!(error.to_string().contains("table files missing"), "{error}");
    }
    assert_eq!(listed(&changes(&table, 0, 1, Feed::Files).await.unwrap(), Feed::Files).await.len(), 2);
    // Nothing tells the table's state right after the gap any more.
    let error = changes(&table, 3, 4, Feed::Files).await.unwrap_err();
    assert!(matches!(error, LakeError::VersionNotFound { version: 3, .. }), "{error:?}");
}

#[tokio::test]
async fn a_range_that_begins_before_what_is_left_is_refused_with_what_is_left() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = lively(&table);
    checkpoint(&table).await;
    log.commit(&[add("e", 1)]);
    for version in 0..5 {
        fs::remove_file(log.commit_path(version)).unwrap();
    }
    let error = changes(&table, 3, 6, Feed::Files).await.unwrap_err();
    assert!(matches!(error, LakeError::VersionNotFound { version: 3, oldest: Some(5), newest: 6, .. }), "{error:?}");
    assert_eq!(changes(&table, 5, 6, Feed::Files).await.unwrap().outlines().len(), 2);
}

#[tokio::test]
async fn a_malformed_commit_is_a_fault_of_the_log() {
    let folder = TempDir::new().unwrap();
    for (name, text) in [
        ("brace", "{\"add\":{\"path\"\n"),
        ("sizeless", "{\"add\":{\"path\":\"x\",\"partitionValues\":{},\"dataChange\":true}}\n"),
        ("negative", "{\"remove\":{\"path\":\"x\",\"size\":-1,\"dataChange\":true}}\n"),
        ("undecided", "{\"remove\":{\"path\":\"x\",\"size\":1}}\n"),
        ("bytes", "\u{0}\n"),
    ] {
        let table = folder.path().join(name);
        let mut log = lively(&table);
        checkpoint(&table).await;
        log.commit(&[add("e", 1)]);
        fs::write(log.commit_path(2), text).unwrap();
        let error = changes(&table, 1, 3, Feed::Files).await.unwrap_err();
        assert!(matches!(error, LakeError::CorruptLog { fault: LogFault::Malformed, .. }), "{name} {error:?}");
    }
}

#[tokio::test]
async fn a_commit_above_the_limit_is_refused() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = lively(&table);
    let many: Vec<_> = (0..100).map(|number| add(&format!("many-{number}"), 1)).collect();
    log.commit(&many);
    checkpoint(&table).await;
    log.commit(&[add("e", 1)]);
    let lake = Lake::new(LakeSettings { max_commit_bytes: 4096, ..LakeSettings::default() });
    let error = changes_at(&lake, &location(&table), 5, 7, Feed::Files).await.unwrap_err();
    assert!(matches!(error, LakeError::CorruptLog { fault: LogFault::TooLarge, .. }), "{error:?}");
}

#[tokio::test]
async fn features_that_were_needed_in_between_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = HandWrittenLog::plain(&table);
    log.commit(&[protocol_with(&["fromTheFuture"])]);
    log.commit(&[protocol(1, 2), add("a", 1)]);
    let error = changes(&table, 0, 2, Feed::Files).await.unwrap_err();
    assert!(matches!(&error, LakeError::Unsupported { features, .. } if features == &["fromTheFuture"]), "{error:?}");
}

#[tokio::test]
async fn what_a_remove_leaves_out_is_taken_from_the_add_in_the_range_or_before_it() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let described = metadata("a-table", &[("id", "long"), ("day", "string")], &["day"]);
    let mut log = HandWrittenLog::create(&table, protocol(1, 2), described);
    let add = |path: &str, size: u64, day: Value| {
        let mut add = add(path, size);
        add["add"]["partitionValues"] = json!({"day": day});
        add
    };
    log.commit(&[add("a", 10, json!("mon")), add("b", 20, Value::Null)]);
    log.commit(&[add("c", 30, json!("tue"))]);
    log.commit(&[remove("a"), remove("c")]);
    log.commit(&[remove("b")]);
    for lake in [Lake::new(LakeSettings::default()), Lake::new(LakeSettings { cache_bytes: 0, ..Default::default() })] {
        let changes = changes_at(&lake, &location(&table), 2, 4, Feed::Files).await.unwrap();
        let commits = commits(&changes).await;
        let removes: BTreeMap<_, _> = commits
            .iter()
            .flat_map(|commit| commit.selected(Feed::Files))
            .filter(|file| file.kind == ActionKind::Remove)
            .map(|file| {
                let file = file.as_file().unwrap();
                let values: Vec<_> =
                    file.partition_values().map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect();
                (file.path.to_owned(), (file.size, values))
            })
            .collect();
        let day = |value: Option<&str>| vec![("day".to_owned(), value.map(str::to_owned))];
        assert_eq!(
            removes,
            BTreeMap::from([
                ("a".to_owned(), (10, day(Some("mon")))),
                ("b".to_owned(), (20, day(None))),
                ("c".to_owned(), (30, day(Some("tue")))),
            ])
        );
        assert_eq!(changes.outlines().iter().map(|outline| outline.bytes).collect::<Vec<_>>(), [30, 40, 20]);
    }
}

#[tokio::test]
async fn what_nothing_tells_is_not_guessed() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = HandWrittenLog::plain(&table);
    log.commit(&[add("a", 10)]);
    log.commit(&[remove("stranger")]);
    log.commit(&[moved(remove("a")), moved(add("b", 1))]);
    for from in [0, 1, 2] {
        let error = changes(&table, from, 3, Feed::Files).await.unwrap_err();
        assert!(matches!(error, LakeError::IncompleteRemove { version: 2, .. }), "{error:?}");
    }
    // Versions that are not listed may be incomplete.
    changes(&table, 3, 3, Feed::Files).await.unwrap();

    let table = folder.path().join("cleaned");
    let mut log = HandWrittenLog::plain(&table);
    log.commit(&[add("a", 10)]);
    log.commit(&[remove("a")]);
    checkpoint(&table).await;
    log.commit(&[add("b", 1)]);
    for version in 0..2 {
        fs::remove_file(log.commit_path(version)).unwrap();
    }
    let error = changes(&table, 2, 3, Feed::Files).await.unwrap_err();
    assert!(matches!(error, LakeError::IncompleteRemove { version: 2, .. }), "{error:?}");
}

fn watched(table: &Path) -> (WatchedStore, TableLocation) {
    let store = WatchedStore::new(LocalFileSystem::new_with_prefix(table.parent().unwrap()).unwrap());
    let location = location_in(Arc::new(store.clone()), table);
    (store, location)
}

#[tokio::test]
async fn commits_are_read_once_and_the_log_is_listed_once_for_each_request() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = lively(&table);
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    let first = changes_at(&lake, &location, 1, 4, Feed::Files).await.unwrap();
    commits(&first).await;
    let (listings, reads) = (store.listings(), store.reads().len());
    // The same versions in another feed.
    let again = changes_at(&lake, &location, 1, 4, Feed::Changes).await.unwrap();
    commits(&again).await;
    assert_eq!((store.listings(), store.reads().len()), (listings + 1, reads));
    // One more version is one more commit; how the table began is known.
    let more = changes_at(&lake, &location, 1, 5, Feed::Files).await.unwrap();
    commits(&more).await;
    assert_eq!((store.listings(), store.reads().len()), (listings + 2, reads + 1));
    // A new commit is read to advance the table, and once more for its changes.
    log.commit(&[add("e", 1)]);
    lake.latest(&location).await.unwrap();
    let reads = store.reads().len();
    let newest = changes_at(&lake, &location, 1, 6, Feed::Files).await.unwrap();
    let listed = listed(&newest, Feed::Files).await;
    assert_eq!(listed.last().unwrap(), "6 Add e");
    assert_eq!(store.reads().len(), reads + 1);
}

#[tokio::test]
async fn a_stream_that_follows_a_table_reads_its_new_commits_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = lively(&table);
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    changes_at(&lake, &location, 5, 5, Feed::Files).await.unwrap();
    for _ in 0..3 {
        let version = log.commit(&[add("more", 1)]);
        lake.latest(&location).await.unwrap();
        let reads = store.reads().len();
        let new = changes_at(&lake, &location, version, version, Feed::Changes).await.unwrap();
        assert_eq!((new.start().version, new.start().metadata.id.as_str()), (version, "a-table"));
        commits(&new).await;
        assert_eq!(store.reads().len(), reads + 1);
    }
}

#[tokio::test]
async fn what_is_too_large_to_keep_is_read_for_its_own_page_only() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    lively(&table);
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings { cache_bytes: 0, ..LakeSettings::default() });
    let history = lake.history(&location).await.unwrap();
    history.changes(1..=5, Feed::Files).await.unwrap();
    let reads = store.reads().len();
    let page = history.changes(1..=5, Feed::Files).await.unwrap();
    assert_eq!(store.reads().len(), reads, "how many files there are is known");
    for _ in 0..100 {
        assert_eq!(page.commit(2).await.unwrap().unwrap().version, 3);
    }
    assert_eq!(store.reads().len(), reads + 1);
}

#[tokio::test]
async fn many_who_ask_together_read_each_commit_once() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    lively(&table);
    let (alone, location) = watched(&table);
    changes_at(&Lake::new(LakeSettings::default()), &location, 0, 5, Feed::Files).await.unwrap();
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    try_join_all((0..50).map(|_| changes_at(&lake, &location, 0, 5, Feed::Files))).await.unwrap();
    assert_eq!(store.reads().len(), alone.reads().len());
}

#[tokio::test]
async fn a_frozen_history_does_not_show_later_commits() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let mut log = lively(&table);
    let lake = Lake::new(LakeSettings::default());
    let history = lake.history(&location(&table)).await.unwrap();
    log.commit(&[add("e", 1)]);
    lake.history(&location(&table)).await.unwrap().changes(0..=6, Feed::Files).await.unwrap();
    assert!(matches!(history.changes(0..=6, Feed::Files).await, Err(LakeError::VersionNotFound { newest: 5, .. })));
    assert!(matches!(history.version_as_of(i64::MAX).await, Err(LakeError::TimestampTooLate { version: 5, .. })));
    assert_eq!(history.changes(0..=5, Feed::Files).await.unwrap().outlines().len(), 6);
}

#[tokio::test]
async fn commits_of_a_table_that_was_replaced_are_forgotten() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    lively(&table);
    let lake = Lake::new(LakeSettings::default());
    let old = changes_at(&lake, &location(&table), 0, 5, Feed::Files).await.unwrap();
    assert_eq!(old.start().metadata.id, "a-table");
    fs::remove_dir_all(&table).unwrap();
    let mut log = HandWrittenLog::create(&table, protocol(1, 2), metadata("another", &[("id", "long")], &[]));
    for version in 1..=6 {
        log.commit(&[add(&format!("new-{version}"), 1)]);
    }
    let new = changes_at(&lake, &location(&table), 0, 5, Feed::Files).await.unwrap();
    assert_eq!(new.start().metadata.id, "another");
    assert!(listed(&new, Feed::Files).await.iter().all(|file| file.contains("new-")));
}

#[tokio::test]
async fn a_storage_that_fails_is_not_taken_for_a_log_that_does() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    lively(&table);
    let (store, location) = watched(&table);
    let lake = Lake::new(LakeSettings::default());
    let history = lake.history(&location).await.unwrap();
    store.set_down(true);
    for error in [
        history.changes(0..=5, Feed::Files).await.unwrap_err(),
        history.version_as_of(0).await.unwrap_err(),
        history.at_version(1).await.unwrap_err(),
        history.state_at(1).await.unwrap_err(),
    ] {
        assert!(matches!(error, LakeError::Unavailable { .. }), "{error:?}");
    }
    store.set_down(false);
    history.changes(0..=5, Feed::Files).await.unwrap();
}

/// Applies the protocol's rules to a log read as plain JSON: lines of `version kind path size vector`. A remove without
/// a size gets that of the file's add.
fn by_hand(table: &Path, from: u64, feed: Feed) -> Vec<String> {
    let mut logs: Vec<_> = fs::read_dir(table.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|end| end == "json"));
    logs.sort();
    let (mut lines, mut sizes) = (Vec::new(), BTreeMap::new());
    for log in logs {
        let version: u64 = log.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let text = fs::read_to_string(log).unwrap();
        let actions: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let records = feed == Feed::Changes && actions.iter().any(|action| action.get("cdc").is_some());
        for add in actions.iter().filter_map(|action| action.get("add")) {
            sizes.insert(add["path"].to_string(), add["size"].clone());
        }
        for action in actions.iter().filter(|_| version >= from) {
            for kind in ["add", "remove", "cdc"] {
                let Some(file) = action.get(kind) else { continue };
                let is_listed = if kind == "cdc" { records } else { !records && file["dataChange"] == true };
                if is_listed {
                    let vector = &file["deletionVector"]["pathOrInlineDv"];
                    let size = file.get("size").unwrap_or_else(|| &sizes[&file["path"].to_string()]);
                    lines.push(format!("{version} {kind} {} {size} {vector}", file["path"]));
                }
            }
        }
    }
    lines
}

#[tokio::test]
async fn foreign_tables_change_as_their_logs_say() {
    let Some(tables) = foreign_tables() else { return };
    for (name, from, records_changes) in [
        ("cdf-table", 0, true),
        ("cdc_ict_table", 0, true),
        ("cdf-table-with-cdc-and-dvs", 0, true),
        ("simple_table_with_cdc", 0, true),
        ("simple_table", 0, false),
        ("simple_table_with_checkpoint", 0, false),
        ("table-with-dv-small", 0, false),
        ("table_with_column_mapping", 0, false),
        ("table_with_deletion_logs", 0, false),
        ("table_with_edge_timestamps", 0, false),
        ("delta-0.8.0-special-partition", 0, false),
        ("delta-0.8.0-null-partition", 0, false),
        // The commit of version 1 remains, but not the table that it changed.
        ("checkpoint_with_partitions", 2, false),
    ] {
        let table = tables.join(name);
        let newest = Lake::new(LakeSettings::default()).latest(&location(&table)).await.unwrap().version();
        for feed in [Feed::Files, Feed::Changes] {
            let changes = match changes(&table, from, newest, feed).await {
                Err(LakeError::ChangesNotRecorded { version, .. }) if feed == Feed::Changes && !records_changes => {
                    assert_eq!(version, from, "{name}");
                    continue;
                }
                other => other.unwrap(),
            };
            let mut found = Vec::new();
            for commit in commits(&changes).await {
                for file in commit.selected(feed) {
                    let kind = format!("{:?}", file.kind).to_lowercase();
                    let vector = json!(file.deletion_vector().map(|vector| vector.path_or_inline));
                    let (path, size) = (json!(&*file.path), file.as_file().unwrap().size);
                    found.push(format!("{} {kind} {path} {size} {vector}", commit.version));
                }
            }
            assert_eq!(found, by_hand(&table, from, feed), "{name} {feed:?}");
        }
    }
}
