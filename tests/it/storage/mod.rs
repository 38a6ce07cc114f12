//! Storages against real servers and real directories: what is reachable, what is not, and how long a URL lives.

mod azure;
mod credentials;
mod gcs;
mod local;
mod s3;
mod storages;

use std::collections::BTreeMap;

use weir::{config::StorageSettings, storage::Storages};

/// One storage of any kind, presigned.
fn settings(name: &str, url: &str, options: BTreeMap<String, String>) -> StorageSettings {
    StorageSettings {
        name: name.into(),
        url: url.into(),
        delivery: Default::default(),
        max_staleness_seconds: 0,
        options,
    }
}

/// Opens it with nothing in the environment.
fn open(settings: StorageSettings) -> Storages {
    Storages::open_in(&[settings], &[], &|_| None).unwrap()
}

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
