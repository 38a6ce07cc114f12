//! Storages against real servers and directories: what can be reached, what cannot, and how long URLs are valid.

mod azure;
mod credentials;
mod gcs;
mod local;
mod s3;
mod storages;

use std::collections::BTreeMap;

use weir::{config::StorageSettings, storage::Storages};

/// A presigned storage of any kind.
fn settings(name: &str, url: &str, options: BTreeMap<String, String>) -> StorageSettings {
    StorageSettings {
        name: name.into(),
        url: url.into(),
        delivery: Default::default(),
        max_staleness_seconds: 0,
        options,
    }
}

/// Opens it with an empty environment.
fn open(settings: StorageSettings) -> Storages {
    Storages::open_in(&[settings], &[], &|_| None).unwrap()
}

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
