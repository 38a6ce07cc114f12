//! A snapshot advanced commit by commit equals a fresh one.

use std::{collections::BTreeSet, path::Path};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tempfile::TempDir;
use weir::lake::{FileRef, Lake, LakeSettings, Snapshot};

use crate::support::tables::{HandWrittenLog, checkpoint, location, metadata, protocol_with};

fn file(file: FileRef<'_>) -> String {
    format!(
        "{} {} {} {:?} {:?} {:?}",
        file.path,
        file.size,
        file.modification_time,
        file.stats,
        file.partition_values().collect::<Vec<_>>(),
        file.deletion_vector
    )
}

fn files(snapshot: &Snapshot) -> BTreeSet<String> {
    let files: BTreeSet<_> = snapshot.files().iter().map(file).collect();
    assert_eq!(files.len(), snapshot.files().len());
    for index in 0..snapshot.files().len() {
        assert!(files.contains(&file(snapshot.files().get(index).unwrap())));
    }
    assert!(snapshot.files().get(snapshot.files().len()).is_none());
    files
}

/// Every file of the table, read page by page.
fn paged(snapshot: &Snapshot) -> Vec<String> {
    let (files, mut after, mut paths) = (snapshot.files(), None, Vec::new());
    loop {
        let (page, next) = files.page(after, 7);
        paths.extend(page.iter().map(|&index| file(files.get(index as usize).unwrap())));
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(paths.len(), files.len());
    paths
}

/// Deletes the commits before the newest checkpoint, as writers do after some weeks.
fn clean_up(table: &Path) {
    let log = || std::fs::read_dir(table.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path());
    let version = |path: &Path| path.file_name().unwrap().to_str().unwrap().get(..20)?.parse::<u64>().ok();
    let is_checkpoint = |path: &Path| path.to_str().unwrap().ends_with(".checkpoint.parquet");
    let newest = log().filter(|path| is_checkpoint(path)).filter_map(|path| version(&path)).max().unwrap();
    for path in log().filter(|path| version(path).is_some_and(|version| version < newest)) {
        std::fs::remove_file(path).unwrap();
    }
}

/// A table built by random commits, with the files that it should have.
struct Table {
    log: HandWrittenLog,
    random: StdRng,
    next_file: u64,
    /// The `add` actions in force.
    live: Vec<Value>,
}

impl Table {
    fn new(folder: &Path, seed: u64) -> Self {
        let metadata = metadata("a-table", &[("id", "long"), ("day", "string")], &["day"]);
        let log = HandWrittenLog::create(folder, protocol_with(&["deletionVectors"]), metadata);
        Self { log, random: StdRng::seed_from_u64(seed), next_file: 0, live: Vec::new() }
    }

    fn new_add(&mut self) -> Value {
        self.next_file += 1;
        let day = match self.random.random_range(0..4) {
            0 => Value::Null,
            day => json!(format!("2026-01-0{day}")),
        };
        let mut add = json!({
            "path": format!("day=x/part%20{}.parquet", self.next_file), "partitionValues": {"day": day},
            "size": self.random.random_range(1..1_000_000), "modificationTime": self.next_file, "dataChange": true,
        });
        if self.random.random_bool(0.8) {
            add["stats"] = json!(format!("{{\"numRecords\":{}}}", self.next_file));
        }
        add
    }

    fn take(&mut self) -> Option<Value> {
        let index = self.random.random_range(0..self.live.len().max(1));
        (index < self.live.len()).then(|| self.live.swap_remove(index))
    }

    fn remove_of(add: &Value) -> Value {
        let mut remove = json!({"path": add["path"], "deletionTimestamp": 1, "dataChange": true});
        if let Some(vector) = add.get("deletionVector") {
            remove["deletionVector"] = vector.clone();
        }
        json!({"remove": remove})
    }

    /// Makes one commit of random appends, deletes, deletion vectors, re-adds and overwrites.
    fn commit(&mut self) {
        let mut actions = Vec::new();
        let mut added = Vec::new();
        for _ in 0..self.random.random_range(1..6) {
            match self.random.random_range(0..12) {
                0..5 => added.push(self.new_add()),
                5..7 => actions.extend(self.take().map(|add| Self::remove_of(&add))),
                7..9 => {
                    // Deletes rows: the same file is added with another deletion vector.
                    let Some(add) = self.take() else { continue };
                    actions.push(Self::remove_of(&add));
                    let mut marked = add;
                    let count = self.random.random_range(1..100);
                    marked["deletionVector"] = json!({
                        "storageType": "u", "pathOrInlineDv": "vBn[lx{q8@P<9BNH/isA", "offset": self.next_file + count,
                        "sizeInBytes": 36, "cardinality": count,
                    });
                    self.next_file += 1000;
                    added.push(marked);
                }
                9..11 => {
                    // Adds the same file again with other statistics, without removing it.
                    let Some(mut add) = self.take() else { continue };
                    add["stats"] = json!("{\"numRecords\":77}");
                    added.push(add);
                }
                _ => {
                    actions.extend(self.live.drain(..).map(|add| Self::remove_of(&add)));
                    added.push(self.new_add());
                }
            }
        }
        actions.extend(added.iter().map(|add| json!({"add": add})));
        self.live.extend(added);
        actions.push(json!({"commitInfo": {"timestamp": 1}}));
        self.log.commit(&actions);
    }
}

#[tokio::test]
async fn advancing_equals_loading_over_random_commits() {
    for seed in 0..3 {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("t");
        let mut table = Table::new(&path, seed);
        let (lake, location) = (Lake::new(LakeSettings::default()), location(&path));
        lake.latest(&location).await.unwrap();
        for round in 0..30 {
            for _ in 0..table.random.random_range(1..4) {
                table.commit();
            }
            if table.random.random_bool(0.2) {
                checkpoint(&path).await;
                if table.random.random_bool(0.5) {
                    clean_up(&path);
                }
            }
            let advanced = lake.latest(&location).await.unwrap();
            let loaded = Lake::new(LakeSettings::default()).latest(&location).await.unwrap();
            let context = format!("seed {seed}, round {round}");
            assert_eq!(advanced.version(), loaded.version(), "{context}");
            assert_eq!(files(&advanced), files(&loaded), "{context}");
            assert_eq!(advanced.size_bytes(), loaded.size_bytes(), "{context}");
            assert_eq!(advanced.rows(), loaded.rows(), "{context}");
            assert_eq!(paged(&advanced), paged(&loaded), "{context}");
            assert_eq!(advanced.metadata(), loaded.metadata(), "{context}");
            assert_eq!(advanced.committed_at(), loaded.committed_at(), "{context}");
            assert_eq!(advanced.required_features(), loaded.required_features(), "{context}");
            let expected: BTreeSet<_> = table.live.iter().map(|add| add["path"].as_str().unwrap()).collect();
            let found: BTreeSet<_> = advanced.files().iter().map(|file| file.path).collect();
            assert_eq!(found, expected, "{context}");
        }
    }
}

#[tokio::test]
async fn versions_that_were_handed_out_do_not_change() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("t");
    let mut table = Table::new(&path, 99);
    let (lake, location) = (Lake::new(LakeSettings::default()), location(&path));
    let mut held = Vec::new();
    for _ in 0..20 {
        table.commit();
        let snapshot = lake.latest(&location).await.unwrap();
        held.push((files(&snapshot), snapshot));
    }
    for (files_then, snapshot) in &held {
        assert_eq!(files(snapshot), *files_then);
        let again = Lake::new(LakeSettings::default()).at_version(&location, snapshot.version()).await.unwrap();
        assert_eq!(files(&again), *files_then);
    }
}

/// Keys of partition values match the table's columns in any case, and a missing key is distinguished from NULL.
#[tokio::test]
async fn partition_values_are_read_alike_when_commits_come_and_when_they_are_all_there() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("t");
    let columns = [("id", "long"), ("day", "string")];
    let mut log = HandWrittenLog::create(&table, protocol_with(&[]), metadata("t", &columns, &["day"]));
    let cases = [
        ("exact", json!({"day": "x"})),
        ("other", json!({"DAY": "x"})),
        ("null", json!({"day": null})),
        ("both", json!({"Day": "x", "DAY": "y"})),
        ("none", json!({})),
    ];
    let lake = Lake::new(LakeSettings::default());
    let told = async |lake: &Lake| {
        let snapshot = lake.latest(&location(&table)).await.unwrap();
        let file = |file: FileRef<'_>| {
            let unsaid: Vec<_> = file.unsaid_partition_columns().map(str::to_owned).collect();
            let values: Vec<_> = file.partition_values().map(|(k, v)| (k.to_owned(), v.map(str::to_owned))).collect();
            (file.path.to_owned(), (values, unsaid))
        };
        snapshot.files().iter().map(file).collect::<std::collections::BTreeMap<_, _>>()
    };
    told(&lake).await;
    for (path, values) in &cases {
        log.commit(&[json!({"add": {"path": path, "partitionValues": values, "size": 1, "modificationTime": 1,
            "dataChange": true}})]);
        told(&lake).await;
    }
    let advanced = told(&lake).await;
    let day = |value: Option<&str>| vec![("day".to_owned(), value.map(str::to_owned))];
    let expected = [
        ("exact", day(Some("x")), 0),
        ("other", day(Some("x")), 0),
        ("null", day(None), 0),
        ("both", day(None), 1),
        ("none", day(None), 1),
    ];
    for (path, values, n_unsaid) in &expected {
        let (told, unsaid) = &advanced[*path];
        assert_eq!((told, unsaid.len()), (values, *n_unsaid), "{path}");
    }
    assert_eq!(told(&Lake::new(LakeSettings::default())).await, advanced);
    // Changes use the table's names too.
    let history = lake.history(&location(&table)).await.unwrap();
    let changes = history.changes(0..=cases.len() as u64, weir::lake::Feed::Files).await.unwrap();
    let commit = changes.commit(2).await.unwrap().unwrap();
    let file = commit.files[0].as_file().unwrap();
    assert_eq!(file.partition_values().collect::<Vec<_>>(), [("day", Some("x"))]);
}
