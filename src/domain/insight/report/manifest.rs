//! What makes a report provable: the hashes of its files, the checkpoint that covers its events, and a signature.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::core::seal::hex;

use super::{EventRange, Month, Party};

/// What `format` of a manifest says.
pub const MANIFEST_FORMAT: &str = "weir-report-manifest/1";
/// The first line of what is signed. A checkpoint's is its chain's name, so that neither can pass for the other.
const STATEMENT: &str = "weir-report-statement/1";

/// A file of a report, as its manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its size.
    pub bytes: u64,
    /// Its hash, in hex.
    pub sha256: String,
}

impl FileEntry {
    /// The entry of a file with this content.
    pub fn of(content: &[u8]) -> Self {
        Self { bytes: content.len() as u64, sha256: hex(&Sha256::digest(content)) }
    }
}

/// What a report's files are, and what they stand on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`].
    pub format: String,
    /// The month.
    pub month: Month,
    /// The recipient that the report is about; `None` for all.
    pub recipient: Option<Party>,
    /// When the report was made.
    pub made_at: DateTime<Utc>,
    /// The version of Weir that made it.
    pub weir: String,
    /// The events that the report stands on.
    pub events: EventRange,
    /// The files, by name.
    pub files: BTreeMap<String, FileEntry>,
    /// A checkpoint that covers the last of these events: its signed text.
    pub checkpoint: String,
    /// The key that signs the manifest, as `weir audit key` prints it.
    pub key: String,
}

impl Manifest {
    /// Reads a manifest.
    pub fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().filter(|manifest: &Self| manifest.format == MANIFEST_FORMAT)
    }

    /// As it is kept and signed.
    pub fn json(&self) -> String {
        // Every key is a text, and nothing here fails to serialize.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// What is signed of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement(String);

impl Statement {
    /// The statement about the manifest that is `json`.
    pub fn of(json: &[u8]) -> Self {
        Self(format!("{STATEMENT}\nmanifest.json\nsha256 {}\n", hex(&Sha256::digest(json))))
    }

    /// The text that is signed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
