//! Settings for reading Delta logs: the memory to use.

use serde::Deserialize;

use super::problems::Problems;

/// `[lake]`.
#[derive(Clone, Debug, Deserialize)]
pub struct LakeSettings {
    /// Memory for table snapshots and commits, in bytes.
    pub cache_bytes: u64,
    /// The largest commit file that is read, in bytes.
    pub max_commit_bytes: u64,
}

impl LakeSettings {
    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        const MIB: u64 = 1 << 20;
        const TIB: u64 = 1 << 40;
        problems.bound("lake.cache_bytes", self.cache_bytes, MIB..=TIB, "it must hold at least one small snapshot");
        problems.bound("lake.max_commit_bytes", self.max_commit_bytes, MIB..=TIB, "ordinary commits reach megabytes");
    }
}
