//! Settings of the `[[storage]]` entries: where tables may be stored, and how their bytes are delivered.
//!
//! Reads the settings as written by operators. Never here: the meaning of options; their names are object_store's own,
//! and the code of the storages knows them.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::Deserialize;
use url::Url;

use super::problems::Problems;
pub use crate::domain::access::delivery::Delivery;

/// The schemes that a storage's URL may have.
pub(super) const SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "abfss", "abfs", "az", "wasbs", "file"];

/// One storage: it contains each table under `url`, unless another storage's `url` is a longer prefix.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSettings {
    /// The unique name in metrics, logs and listings.
    pub name: String,
    /// The URL of its root: `s3://bucket/prefix`, `gs://…`, `abfss://container@account.dfs.core.windows.net/…`,
    /// `file:///absolute/directory`. Tables are matched by whole path segments.
    pub url: String,
    /// How files are delivered, unless a recipient or an object requires more protection.
    #[serde(default)]
    pub delivery: Delivery,
    /// The greatest age of a look at a table's log that may still answer a request, in seconds; with 0, every request
    /// looks.
    #[serde(default)]
    pub max_staleness_seconds: u32,
    /// Options with object_store's own names (`aws_endpoint`, `azure_storage_account_key`, …). Values may be secrets,
    /// so they are never printed; `<name>_file` reads the value from a file.
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
    /// Returns the folder of a `file:///…` storage.
    pub fn local_root(&self) -> Option<PathBuf> {
        Url::parse(&self.url).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
    }

    /// Returns the storage's root in a form that is equal for two spellings of one place.
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

/// Checks the values of `storages` beyond their types.
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
        // The value is not repeated, because it may contain credentials.
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
