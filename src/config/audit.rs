//! Settings of the audit trail: how often it is sealed, where it is exported, and how long personal parts are kept.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use url::Url;

use super::{
    empty_as_none,
    problems::Problems,
    storage::{Delivery, SCHEMES, StorageSettings},
};

/// `[audit]`.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditSettings {
    /// The longest time between checkpoints, in seconds.
    pub checkpoint_seconds: u64,
    /// The number of events after which a checkpoint is made earlier.
    pub checkpoint_events: u64,
    /// The age at which personal parts are erased, in days; 0 means never.
    pub personal_retention_days: u64,
    /// The destination for checkpoints and events.
    pub export: ExportSettings,
}

/// `[audit.export]`.
#[derive(Clone, Deserialize)]
pub struct ExportSettings {
    /// The folder or object-store prefix; `None` without an export.
    #[serde(deserialize_with = "empty_as_none")]
    pub url: Option<String>,
    /// The object store's options. Values may be secrets, so they are never printed.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl fmt::Debug for ExportSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.options.keys().collect();
        f.debug_struct("ExportSettings").field("url", &self.url).field("options", &names).finish()
    }
}

impl ExportSettings {
    /// Returns the target in the form of a storage, if there is one.
    pub fn target(&self) -> Option<StorageSettings> {
        self.url.as_deref().map(|url| self.target_at(url))
    }

    /// Returns whether the target is a folder that does not exist.
    pub fn is_missing_folder(&self) -> bool {
        let url = self.url.as_deref().and_then(|url| Url::parse(url).ok());
        let folder = url.filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok());
        folder.is_some_and(|folder| !folder.exists())
    }

    /// Returns the target at another url, with the same options.
    pub fn target_at(&self, url: &str) -> StorageSettings {
        StorageSettings {
            name: "audit.export".to_owned(),
            url: url.to_owned(),
            delivery: Delivery::default(),
            max_staleness_seconds: 0,
            options: self.options.clone(),
        }
    }
}

impl AuditSettings {
    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        let reason = "too often costs, too seldom leaves the newest events unsealed";
        problems.bound("audit.checkpoint_seconds", self.checkpoint_seconds, 1..=86_400, reason);
        let reason = "one checkpoint's events are one file, held in memory";
        problems.bound("audit.checkpoint_events", self.checkpoint_events, 1..=100_000, reason);
        let reason = "a century is for ever; write 0";
        problems.bound("audit.personal_retention_days", self.personal_retention_days, 0..=36_500, reason);
        if let Some(url) = &self.export.url {
            // The value is not repeated, because it may contain credentials.
            match Url::parse(url) {
                Ok(parsed) if parsed.password().is_some() || parsed.query().is_some() => {
                    problems.add("audit.export.url", "has credentials or a query; put credentials into options");
                }
                Ok(parsed) if SCHEMES.contains(&parsed.scheme()) => {}
                Ok(_) | Err(_) => {
                    problems.add("audit.export.url", format!("is no URL of {}", SCHEMES.join(", ")));
                }
            }
        }
    }
}
