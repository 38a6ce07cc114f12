//! Settings of governed views: where copies are stored, how long, and the limits on work.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use url::Url;

use super::{
    empty_as_none,
    problems::Problems,
    storage::{Delivery, SCHEMES, StorageSettings},
};

/// `[views]`.
#[derive(Clone, Deserialize)]
pub struct ViewSettings {
    /// The folder or object-store prefix for copies; without it, views cannot be published.
    #[serde(deserialize_with = "empty_as_none")]
    pub root: Option<String>,
    /// The object store's options. Values may be secrets, so they are never printed.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// How copies are delivered, unless a recipient or an object requires more protection.
    pub delivery: Delivery,
    /// The fingerprint of the root key for pseudonyms; by default that of the active key.
    #[serde(deserialize_with = "empty_as_none")]
    pub pseudonym_key: Option<String>,
    /// The time for which an unread copy is kept, in seconds.
    pub idle_seconds: u64,
    /// The age at which a copy is made again, in seconds.
    pub max_age_seconds: u64,
    /// The total size of copies at which no more are made, in bytes; 0 means no limit.
    pub max_bytes: u64,
    /// The total size of one recipient's copies at which no older versions are made for it, in bytes; 0 means no limit.
    pub max_bytes_per_recipient: u64,
    /// The time for which a query waits for its files, in seconds.
    pub wait_seconds: u64,
    /// The interval of checks for new data in the tables behind views, in seconds.
    pub refresh_seconds: u64,
    /// The time after its last query for which a recipient's copies are made in advance, in days.
    pub active_days: u64,
    /// The number of files made at once; 0 means one per CPU.
    pub concurrent_files: u64,
    /// The number of these for one recipient.
    pub concurrent_files_per_recipient: u64,
    /// The memory for making one file, in bytes.
    pub file_memory_bytes: u64,
    /// The most surrogates that are drawn for one view, for all recipients together.
    pub max_surrogates: u64,
    /// ZIP prefixes that the mask `zip3` does not show, in addition to the published ones.
    pub zip3_low_population: Vec<String>,
    /// Whether these prefixes replace the published ones.
    pub zip3_replaces_published: bool,
}

impl fmt::Debug for ViewSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.options.keys().collect();
        f.debug_struct("ViewSettings").field("root", &self.root).field("options", &names).finish_non_exhaustive()
    }
}

impl ViewSettings {
    /// Returns the root in the form of a storage, if there is one.
    pub fn target(&self) -> Option<StorageSettings> {
        let url = self.root.clone()?;
        Some(StorageSettings {
            name: "views".to_owned(),
            url,
            delivery: self.delivery,
            max_staleness_seconds: 0,
            options: self.options.clone(),
        })
    }

    /// Returns the number of files made at once.
    pub fn concurrent_files(&self) -> usize {
        match usize::try_from(self.concurrent_files) {
            Ok(0) | Err(_) => std::thread::available_parallelism().map_or(2, usize::from),
            Ok(files) => files,
        }
    }

    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        const YEAR: u64 = 366 * 86_400;
        const MIB: u64 = 1 << 20;
        problems.bound("views.idle_seconds", self.idle_seconds, 60..=YEAR, "copies made for each query cost the most");
        problems.bound("views.max_age_seconds", self.max_age_seconds, 3_600..=YEAR, "making copies anew costs");
        problems.bound("views.wait_seconds", self.wait_seconds, 1..=50, "clients give up on a request in a minute");
        problems.bound("views.refresh_seconds", self.refresh_seconds, 1..=86_400, "each look is one listing a table");
        problems.bound("views.active_days", self.active_days, 0..=366, "recipients gone for a year are gone");
        problems.bound("views.concurrent_files", self.concurrent_files, 0..=256, "each takes a thread and memory");
        let reason = "one recipient needs a file at least";
        problems.bound("views.concurrent_files_per_recipient", self.concurrent_files_per_recipient, 1..=256, reason);
        let reason = "a batch of rows and what is written of it must fit";
        problems.bound("views.file_memory_bytes", self.file_memory_bytes, 16 * MIB..=64 << 30, reason);
        let reason = "each takes about 150 bytes in the database for as long as its recipient lasts";
        problems.bound("views.max_surrogates", self.max_surrogates, 1..=1_000_000_000, reason);
        let is_prefix = |text: &String| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        if self.zip3_low_population.len() > 1_000 || !self.zip3_low_population.iter().all(is_prefix) {
            problems.add("views.zip3_low_population", "is a list of ZIP prefixes, three digits each, as texts");
        }
        let is_fingerprint = |text: &String| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if self.pseudonym_key.as_ref().is_some_and(|text| !is_fingerprint(text)) {
            problems.add("views.pseudonym_key", "is no fingerprint of a root key; `weir keys list` has them");
        }
        if let Some(url) = &self.root {
            // The value is not repeated, because it may contain credentials.
            match Url::parse(url) {
                Ok(parsed) if parsed.password().is_some() || parsed.query().is_some() => {
                    problems.add("views.root", "has credentials or a query; put credentials into options");
                }
                Ok(parsed) if SCHEMES.contains(&parsed.scheme()) => {}
                Ok(_) | Err(_) => problems.add("views.root", format!("is no URL of {}", SCHEMES.join(", "))),
            }
        }
    }
}
