//! Local directories: only what is inside them can be read.

use std::{fs, os::unix::fs::symlink, path::Path as FilePath};

use futures::TryStreamExt;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, ObjectStoreScheme, memory::InMemory, path::Path,
};
use serde_json::Value;
use weir::{
    domain::core::word::Words,
    storage::{LocalDirectory, StorageError},
};

use super::{open, options, settings};

fn write(root: &FilePath, name: &str, bytes: &str) {
    let file = root.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

fn url(directory: &FilePath) -> String {
    format!("file://{}", directory.display())
}

#[tokio::test]
async fn links_lead_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let (lake, outside) = (directory.path().join("lake"), directory.path().join("outside"));
    write(&outside, "secret", "hunter2");
    write(&lake, "t/inside", "yours");
    symlink(outside.join("secret"), lake.join("t/absolute")).unwrap();
    symlink("../../outside/secret", lake.join("t/relative")).unwrap();
    symlink(&outside, lake.join("t/directory")).unwrap();
    symlink("inside", lake.join("t/within")).unwrap();
    write(&lake, "other/_delta_log/0.json", "{}");
    symlink("../other", lake.join("t/table")).unwrap();
    symlink("../other/_delta_log/0.json", lake.join("t/commit")).unwrap();
    symlink("../other/_delta_log", lake.join("t/log")).unwrap();
    let store = LocalDirectory::open(lake.clone()).unwrap();
    for path in [
        "t/absolute",
        "t/relative",
        "t/directory/secret",
        "t/within",
        "t/table/_delta_log/0.json",
        "t/commit",
        "t/log/0.json",
    ] {
        let read = store.get(&Path::from(path)).await.map(drop);
        assert!(matches!(read, Err(Error::PermissionDenied { .. })), "{path}: {read:?}");
    }
    assert_eq!(store.get(&Path::from("t/inside")).await.unwrap().bytes().await.unwrap(), "yours");
    let listed: Vec<_> = store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    assert_eq!(listed, ["other/_delta_log/0.json", "t/inside"]);
    assert!(store.list_with_delimiter(Some(&Path::from("t/directory"))).await.is_err());

    // The table's directory is replaced by a link after it was opened: the race that a check before opening loses.
    fs::rename(lake.join("t"), lake.join("old")).unwrap();
    symlink(&outside, lake.join("t")).unwrap();
    assert!(store.get(&Path::from("t/secret")).await.is_err());
    assert!(store.list(Some(&Path::from("t"))).try_collect::<Vec<_>>().await.is_err());
}

#[tokio::test]
async fn listings_are_those_of_an_object_store() {
    let directory = tempfile::tempdir().unwrap();
    let oracle = InMemory::new();
    let names = ["a-1/x", "a.b", "a/0", "a/x", "a/y/z", "a0", "b/_delta_log/00.json", "b/x=A%2FA/p", "c d/ö", "zz"];
    for name in names {
        write(directory.path(), name, name);
        oracle.put(&Path::parse(name).unwrap(), name.into()).await.unwrap();
    }
    fs::create_dir(directory.path().join("empty")).unwrap();
    let store = LocalDirectory::open(directory.path().to_owned()).unwrap();
    let paths = |listing: Vec<object_store::ObjectMeta>| -> Vec<_> {
        listing.into_iter().map(|meta| (meta.location, meta.size)).collect()
    };
    for prefix in [None, Some("a"), Some("a/y"), Some("b/_delta_log"), Some("nothing"), Some("zz")] {
        let prefix = prefix.map(Path::from);
        let expected: Vec<_> = oracle.list(prefix.as_ref()).try_collect().await.unwrap();
        let listed: Vec<_> = store.list(prefix.as_ref()).try_collect().await.unwrap();
        assert_eq!(paths(listed), paths(expected), "{prefix:?}");
        for offset in ["", "a", "a-1", "a-1/x", "a/", "a/x", "a/y", "a/y/z", "a0", "b", "b/x=A%2FA", "zz"] {
            let offset = Path::parse(offset).unwrap();
            let expected = oracle.list_with_offset(prefix.as_ref(), &offset).try_collect().await.unwrap();
            let listed = store.list_with_offset(prefix.as_ref(), &offset).try_collect().await.unwrap();
            assert_eq!(paths(listed), paths(expected), "{prefix:?} after {offset}");
        }
    }
    let level = store.list_with_delimiter(Some(&Path::from("a"))).await.unwrap();
    assert_eq!(paths(level.objects), [(Path::from("a/0"), 3), (Path::from("a/x"), 3)]);
    assert_eq!(level.common_prefixes, [Path::from("a/y")]);
}

#[tokio::test]
async fn listing_of_many_files_comes_in_pages_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    for version in 0..2300 {
        fs::write(directory.path().join(format!("{version:020}.json")), "").unwrap();
    }
    let store = LocalDirectory::open(directory.path().to_owned()).unwrap();
    let listed: Vec<_> = store.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    assert_eq!(listed.len(), 2300);
    assert!(listed.is_sorted());
    let offset = Path::from(format!("{:020}.json", 2297));
    let after: Vec<_> = store.list_with_offset(None, &offset).try_collect().await.unwrap();
    assert_eq!(after.len(), 2);
}

#[tokio::test]
async fn ranges_conditions_and_heads_are_honoured() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "t/p", "0123456789");
    let store = LocalDirectory::open(directory.path().to_owned()).unwrap();
    let path = Path::from("t/p");
    for (range, expected) in [
        (GetRange::Bounded(2..5), "234"),
        (GetRange::Bounded(8..50), "89"),
        (GetRange::Offset(7), "789"),
        (GetRange::Suffix(2), "89"),
    ] {
        let options = GetOptions { range: Some(range), ..Default::default() };
        assert_eq!(store.get_opts(&path, options).await.unwrap().bytes().await.unwrap(), expected);
    }
    assert!(store.get_range(&path, 20..30).await.is_err());
    let meta = store.head(&path).await.unwrap();
    assert_eq!(meta.size, 10);
    let only_if = |etag: &str| GetOptions::new().with_if_match(Some(etag));
    assert!(store.get_opts(&path, only_if(&meta.e_tag.clone().unwrap())).await.is_ok());
    write(directory.path(), "t/p", "01234567890");
    let changed = store.get_opts(&path, only_if(&meta.e_tag.unwrap())).await.map(drop);
    assert!(matches!(changed, Err(Error::Precondition { .. })), "{changed:?}");
    for missing in ["t", "t/q", "t/p/q"] {
        let read = store.get(&Path::from(missing)).await.map(drop);
        assert!(matches!(read, Err(Error::NotFound { .. })), "{missing}: {read:?}");
    }
    assert!(matches!(store.put(&path, "x".into()).await, Err(Error::NotSupported { .. })));
}

#[tokio::test]
async fn named_pipe_is_no_object_and_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let store = LocalDirectory::open(directory.path().to_owned()).unwrap();
    assert!(matches!(store.get(&Path::from("pipe")).await.map(drop), Err(Error::NotFound { .. })));
    assert!(store.list(None).try_collect::<Vec<_>>().await.unwrap().is_empty());
}

#[tokio::test]
async fn local_table_is_proxied_and_read_by_its_url() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "lake/t 1/x=A%2FA/p", "0123456789");
    let lake = directory.path().join("lake");
    let storages = open(settings("lake", &url(&lake), options(&[])));
    let table = storages.locate(&format!("{}/t%201/", url(&lake))).unwrap();
    assert_eq!(table.url(), format!("{}/t%201", url(&lake)));
    assert_eq!(table.path().as_ref(), "t 1");
    assert_eq!(table.delivery().as_str(), "proxied");
    assert!(!table.can_sign());
    let object = table.open(&table.resolve("x=A%252FA/p").unwrap()).await.unwrap();
    let chunks: Vec<_> = object.read(2..4).await.unwrap().try_collect().await.unwrap();
    assert_eq!(chunks.concat(), b"23");
    // The root of the storage can be a table too.
    assert_eq!(storages.locate(&url(&lake)).unwrap().path(), &Path::ROOT);
    assert!(ObjectStoreScheme::parse(&table.url().parse().unwrap()).is_ok());
}

#[test]
fn root_that_holds_a_secret_is_refused_whatever_name_it_has() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "lake/t/p", "");
    write(directory.path(), "lake/weir.key", "");
    write(directory.path(), "etc/weir.toml", "");
    symlink(directory.path().join("lake"), directory.path().join("link")).unwrap();
    symlink(directory.path().join("etc/weir.toml"), directory.path().join("lake/weir.toml")).unwrap();
    let try_open = |root: &str, guarded: &str| {
        let settings = settings("lake", &url(&directory.path().join(root)), options(&[]));
        super::Storages::open_in(&[settings], &[directory.path().join(guarded)], &|_| None).map(drop)
    };
    for (root, guarded) in [
        ("lake", "lake/weir.key"),
        ("link", "lake/weir.key"),
        ("lake", "link/weir.key"),
        ("lake", "lake/weir.toml"),
        ("etc", "lake/weir.toml"),
        // A database that will be created later.
        ("lake", "lake/new/weir.db"),
        ("link", "link/weir.db"),
        ("", "weir.db"),
    ] {
        let problems = try_open(root, guarded).unwrap_err();
        assert!(matches!(problems.as_slice(), [StorageError::GuardedInside { .. }]), "{root} {guarded}: {problems:?}");
    }
    for guarded in ["weir.db", "etc/weir.toml", "lakehouse/weir.db"] {
        try_open("lake", guarded).unwrap();
    }
}

/// The test tables of Delta implementations, if this machine has them.
#[tokio::test]
async fn files_of_specially_named_partitions_are_found() {
    let Some(tables) = std::env::var_os("WEIR_TEST_TABLES") else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "WEIR_TEST_TABLES is not set");
        eprintln!("skipped: set WEIR_TEST_TABLES to a directory of Delta tables");
        return;
    };
    let tables = fs::canonicalize(tables).unwrap();
    let storages = open(settings("lake", &url(&tables), options(&[])));
    let name = "delta-0.8.0-special-partition";
    let table = storages.locate(&format!("{}/{name}", url(&tables))).unwrap();
    let log = table.open(&Path::from(format!("{name}/_delta_log/00000000000000000000.json"))).await.unwrap();
    let log: Vec<_> = log.read(0..u64::MAX).await.unwrap().try_collect().await.unwrap();
    let log = String::from_utf8(log.concat()).unwrap();
    let actions = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let files: Vec<_> = actions.filter_map(|mut action| action.get_mut("add").map(Value::take)).collect();
    assert_eq!(files.len(), 2);
    for file in files {
        let path = table.resolve(file["path"].as_str().unwrap()).unwrap();
        assert_eq!(table.open(&path).await.unwrap().size(), file["size"].as_u64().unwrap());
    }
}
