//! Which storage a location belongs to, and which configurations are refused.

use weir::storage::{StorageError, Storages};

use super::{options, settings};

fn s3(name: &str, url: &str) -> weir::config::StorageSettings {
    settings(name, url, options(&[("aws_access_key_id", "k"), ("aws_secret_access_key", "s")]))
}

fn azure(name: &str, url: &str, account: &str) -> weir::config::StorageSettings {
    let key = "d2VpciB0ZXN0cyBzaWduIHdpdGggdGhpcyBhY2NvdW50IGtleQ==";
    settings(name, url, options(&[("azure_storage_account_name", account), ("azure_storage_account_key", key)]))
}

fn open(settings: &[weir::config::StorageSettings]) -> Result<Storages, Vec<StorageError>> {
    Storages::open_in(settings, &[], &|_| None)
}

#[test]
fn longest_prefix_in_whole_segments_wins() {
    let storages =
        open(&[s3("bucket", "s3://b"), s3("deep", "s3a://b/lake/deep/"), s3("lake", "s3://b/lake")]).unwrap();
    for (location, storage, path) in [
        ("s3://b/t", "bucket", "t"),
        ("s3://b/lake/t", "lake", "lake/t"),
        ("s3://b/lake", "lake", "lake"),
        ("s3n://b//lake/./t/", "lake", "lake/t"),
        ("s3://b/lakehouse/t", "bucket", "lakehouse/t"),
        ("s3://b/lake/deep/t", "deep", "lake/deep/t"),
        ("s3://b/lake/deeper/t", "lake", "lake/deeper/t"),
        ("s3://b/Lake/t", "bucket", "Lake/t"),
    ] {
        let table = storages.locate(location).unwrap();
        assert_eq!((table.storage_name(), table.path().as_ref()), (storage, path), "{location}");
    }
    assert!(matches!(storages.locate("s3://c/t"), Err(StorageError::OutsideStorages { .. })));
    assert!(matches!(storages.locate("gs://b/t"), Err(StorageError::OutsideStorages { .. })));
    assert!(matches!(storages.locate("s3://b/lake/../t"), Err(StorageError::BadLocation { .. })));
    let names: Vec<_> = storages.iter().map(|storage| storage.name()).collect();
    assert_eq!(names, ["bucket", "deep", "lake"]);
}

#[test]
fn container_of_several_accounts_must_be_named_with_its_account() {
    let storages = open(&[azure("one", "az://c", "one"), azure("two", "az://c/deep", "two")]).unwrap();
    assert!(matches!(storages.locate("az://c/deep/t"), Err(StorageError::BadLocation { .. })));
    let table = storages.locate("wasbs://c@one.blob.core.windows.net/deep/t").unwrap();
    assert_eq!((table.storage_name(), table.url()), ("one", "abfss://c@one.dfs.core.windows.net/deep/t"));
    assert_eq!(storages.locate("az://c/t").unwrap().storage_name(), "one");
}

#[test]
fn every_problem_is_reported_at_once() {
    let problems = open(&[
        s3("lake", "s3://b/../x"),
        s3("lake", "s3://b"),
        s3("again", "s3a://b/"),
        settings("typo", "s3://c", options(&[("aws_regoin", "x"), ("gcs", "y")])),
        settings("half", "s3://d", options(&[("aws_access_key_id", "k")])),
        settings("nowhere", "file:///no/such/directory", options(&[])),
        settings("nobody", "az://c", options(&[])),
        azure("differs", "abfss://c@one.dfs.core.windows.net", "two"),
        settings("http", "s3://e", options(&[("aws_container_credentials_full_uri", "http://203.0.113.1/x")])),
    ])
    .unwrap_err();
    let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 10, "{text:#?}");
    assert!(text.iter().all(|line| !line.contains('\n')), "{text:#?}");
}

#[test]
fn configured_keys_are_not_mixed_with_the_environments() {
    let environment =
        |name: &str| (name == "AWS_SESSION_TOKEN" || name == "AWS_ACCESS_KEY_ID").then(|| "env".to_owned());
    let storages = Storages::open_in(&[s3("lake", "s3://b")], &[], &environment).unwrap();
    let table = storages.locate("s3://b/t").unwrap();
    let later = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let signed = futures::executor::block_on(table.sign(&[table.path().clone()], later, chrono::Utc::now())).unwrap();
    assert!(signed[0].contains("Credential=k%2F") && !signed[0].contains("Security-Token"), "{}", signed[0]);
}
