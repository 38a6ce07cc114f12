//! The demo lake: real tables, the same every time, and never a partial one.

use std::{fs, path::Path};

use tempfile::TempDir;
use weir::lake::{Lake, LakeSettings, demo::write_demo_lake};

use crate::support::tables::location;

async fn rows(table: &Path) -> u64 {
    let snapshot = Lake::new(LakeSettings::default()).latest(&location(table)).await.unwrap();
    let stats = snapshot.files().iter().map(|file| serde_json::from_str::<serde_json::Value>(file.stats.unwrap()));
    stats.map(|stats| stats.unwrap()["numRecords"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn the_demo_lake_is_written_once_and_then_reused() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("lake");
    let first = write_demo_lake(&dir).await.unwrap();
    let names: Vec<_> = first.tables.iter().map(|table| table.name).collect();
    assert_eq!(names, ["claims", "prior_authorizations", "provider_directory"]);
    assert_eq!(rows(&dir.join("claims")).await, 100_000);
    assert_eq!(rows(&dir.join("prior_authorizations")).await, 4_000);
    assert_eq!(rows(&dir.join("provider_directory")).await, 600);
    let claims = Lake::new(LakeSettings::default()).latest(&location(&dir.join("claims"))).await.unwrap();
    assert_eq!(claims.metadata().partition_columns, ["plan"]);
    assert_eq!((claims.version(), claims.files().len()), (5, 20));

    let commit = dir.join("claims/_delta_log/00000000000000000005.json");
    let written_at = fs::metadata(&commit).unwrap().modified().unwrap();
    let second = write_demo_lake(&dir).await.unwrap();
    assert_eq!(fs::metadata(&commit).unwrap().modified().unwrap(), written_at);
    assert_eq!(second.tables.len(), 3);
}

#[tokio::test]
async fn what_an_interrupted_run_left_is_cleared_away() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("lake");
    fs::create_dir_all(dir.join(".writing/provider_directory/_delta_log")).unwrap();
    let lake = write_demo_lake(&dir).await.unwrap();
    assert!(!dir.join(".writing").exists());
    for table in &lake.tables {
        assert!(rows(&table.folder).await > 0, "{}", table.name);
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
}
