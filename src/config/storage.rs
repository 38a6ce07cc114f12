//! The `[[storage]]` entries: where tables may live, and how their bytes leave.
//!
//! Lives here: what an operator writes. Never here: what an option means; its names are object_store's own, and the
//! storage adapter knows them.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::Deserialize;
use url::Url;

use super::problems::Problems;
pub use crate::domain::access::delivery::Delivery;

/// The schemes that a storage's URL may have.
pub(super) const SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "abfss", "abfs", "az", "wasbs", "file"];

/// One storage: every table under `url` belongs to it, unless another storage's `url` is a longer prefix.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSettings {
    /// What metrics, logs and listings call it; unique.
    pub name: String,
    /// Where it begins: `s3://bucket/prefix`, `gs://…`, `abfss://container@account.dfs.core.windows.net/…`,
    /// `file:///absolute/directory`. A table belongs to it by whole path segments.
    pub url: String,
    /// How files leave, unless a recipient or an object asks for more care.
    #[serde(default)]
    pub delivery: Delivery,
    /// How old a look at a table's log may be that answers a request, in seconds; 0 looks anew for every request.
    #[serde(default)]
    pub max_staleness_seconds: u32,
    /// object_store's own option names (`aws_endpoint`, `azure_storage_account_key`, …). Values may be secrets, so they
    /// are never printed; `<name>_file` reads the value from a file.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl fmt::Debug for StorageSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.options.keys().collect();
        f.debug_struct("StorageSettings")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("delivery", &self.delivery)
            .field("max_staleness_seconds", &self.max_staleness_seconds)
            .field("options", &names)
            .finish()
    }
}

impl StorageSettings {
    /// The folder that a `file:///…` storage names.
    pub fn local_root(&self) -> Option<PathBuf> {
        Url::parse(&self.url).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
    }

    /// Where the storage begins, alike for two spellings of one place.
    fn place(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        let scheme = match scheme {
            "s3a" => "s3",
            "abfs" => "abfss",
            other => other,
        };
        format!("{scheme}://{}", rest.trim_end_matches('/'))
    }
}

/// Finds what is wrong with `storages` beyond types.
pub(super) fn check(storages: &[StorageSettings], problems: &mut Problems) {
    for (i, storage) in storages.iter().enumerate() {
        let StorageSettings { name, url, .. } = storage;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            problems.add(
                format!("storage[{i}].name"),
                format!("`{name}` is no name; use letters, digits, `-`, `_` and `.`, for it is a metric's label"),
            );
        }
        if storages[..i].iter().any(|other| other.name == *name) {
            problems.add(format!("storage[{i}].name"), format!("`{name}` names two storages; rename one"));
        }
        // The value is not repeated where it may hold credentials.
        match Url::parse(url) {
            Err(source) => problems.add(format!("storage[{i}].url"), format!("is no valid URL: {source}")),
            Ok(parsed) if !SCHEMES.contains(&parsed.scheme()) => problems.add(
                format!("storage[{i}].url"),
                format!("has the scheme `{}`; use one of {}", parsed.scheme(), SCHEMES.join(", ")),
            ),
            Ok(parsed) if parsed.query().is_some() || parsed.fragment().is_some() || parsed.password().is_some() => {
                problems.add(
                    format!("storage[{i}].url"),
                    "has credentials, a query or a fragment; put credentials into options",
                );
            }
            Ok(_) => {}
        }
        if let Some(other) = storages[..i].iter().find(|other| other.place() == storage.place()) {
            problems
                .add(format!("storage[{i}].url"), format!("is the url of `{}` too; remove one of them", other.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_values_are_not_printed() {
        let settings: StorageSettings = serde_json::from_value(serde_json::json!({
            "name": "lake", "url": "s3://lake", "options": {"aws_secret_access_key": "hunter2"}
        }))
        .unwrap();
        assert_eq!(settings.delivery, Delivery::Presigned);
        let printed = format!("{settings:?}");
        assert!(printed.contains("aws_secret_access_key") && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn unknown_key_is_refused() {
        let settings = serde_json::json!({"name": "lake", "url": "s3://lake", "delivary": "proxied"});
        assert!(serde_json::from_value::<StorageSettings>(settings).is_err());
    }
}
