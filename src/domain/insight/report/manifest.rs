//! Defines the manifest that makes a report provable: the hashes of its files, the checkpoint that covers its events,
//! and a signature.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::core::seal::hex;

use super::{EventRange, Month, Party};

/// The `format` of a manifest.
pub const MANIFEST_FORMAT: &str = "weir-report-manifest/1";
/// The first line of the signed text. A checkpoint's first line is its chain's name, so neither can pass for the other.
const STATEMENT: &str = "weir-report-statement/1";

/// The entry of a file in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The file's size.
    pub bytes: u64,
    /// The file's SHA-256 in hex.
    pub sha256: String,
}

impl FileEntry {
    /// Creates the entry of a file with this content.
    pub fn of(content: &[u8]) -> Self {
        Self { bytes: content.len() as u64, sha256: hex(&Sha256::digest(content)) }
    }
}

/// Describes a report's files and the events they cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format: String,
    /// The month.
    pub month: Month,
    /// The recipient that the report covers; `None` for all.
    pub recipient: Option<Party>,
    /// When the report was made.
    pub made_at: DateTime<Utc>,
    /// The version of Weir that made it.
    pub weir: String,
    /// The events that the report covers.
    pub events: EventRange,
    /// The entries by file name.
    pub files: BTreeMap<String, FileEntry>,
    /// The signed text of a checkpoint that covers the last of these events.
    pub checkpoint: String,
    /// The key that signs the manifest, as printed by `weir audit key`.
    pub key: String,
}

impl Manifest {
    /// Reads a manifest from JSON.
    pub fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().filter(|manifest: &Self| manifest.format == MANIFEST_FORMAT)
    }

    /// Writes the manifest as it is stored and signed.
    pub fn json(&self) -> String {
        // Every key is a string, so this cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// The text that is signed for a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement(String);

impl Statement {
    /// Writes the statement about the manifest `json`.
    pub fn of(json: &[u8]) -> Self {
        Self(format!("{STATEMENT}\nmanifest.json\nsha256 {}\n", hex(&Sha256::digest(json))))
    }

    /// The text to sign.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
