//! Settings of usage, the sums over the audit trail: how long hourly sums are kept.

use serde::Deserialize;

use super::problems::Problems;

/// `[usage]`.
#[derive(Clone, Debug, Deserialize)]
pub struct UsageSettings {
    /// The time for which hourly sums are kept, in days; 0 means forever. Daily sums are always kept.
    pub hour_retention_days: u64,
}

impl UsageSettings {
    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.bound("usage.hour_retention_days", self.hour_retention_days, 0..=36_500, "for ever is written 0");
    }
}
