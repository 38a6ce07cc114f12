//! Reading Delta logs: how much memory it may take.

use serde::Deserialize;

use super::problems::Problems;

/// `[lake]`.
#[derive(Clone, Debug, Deserialize)]
pub struct LakeSettings {
    /// Bytes of memory for table snapshots.
    pub cache_bytes: u64,
    /// The largest single commit file that is read, in bytes.
    pub max_commit_bytes: u64,
}

impl LakeSettings {
    /// Finds what is wrong beyond types.
    pub(super) fn check(&self, problems: &mut Problems) {
        const MIB: u64 = 1 << 20;
        const TIB: u64 = 1 << 40;
        problems.bound("lake.cache_bytes", self.cache_bytes, MIB..=TIB, "it must hold at least one small snapshot");
        problems.bound("lake.max_commit_bytes", self.max_commit_bytes, MIB..=TIB, "ordinary commits reach megabytes");
    }
}
