//! Roll-ups of the audit trail: how long those by the hour are kept.

use serde::Deserialize;

use super::problems::Problems;

/// `[usage]`.
#[derive(Clone, Debug, Deserialize)]
pub struct UsageSettings {
    /// How long sums by the hour are kept, in days; 0 = for ever. Those by the day always are.
    pub hour_retention_days: u64,
}

impl UsageSettings {
    /// Finds what is wrong beyond types.
    pub(super) fn check(&self, problems: &mut Problems) {
        problems.bound("usage.hour_retention_days", self.hour_retention_days, 0..=36_500, "for ever is written 0");
    }
}
