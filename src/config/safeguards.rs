//! Which settings restrict sharing, and may be off: `weir doctor`, the metrics and every report tell those that are.

use crate::domain::{core::safeguard::Safeguard, operators::principal::Separation};

use super::{RawSharing, Settings};

impl Settings {
    /// The settings that restrict sharing, one in each line.
    pub fn safeguards(&self) -> Vec<Safeguard> {
        let (governance, sharing) = (&self.governance, &self.sharing);
        let raw = sharing.raw_sharing();
        vec![
            Safeguard::word(
                "governance.separation",
                governance.separation.as_str(),
                governance.separation == Separation::Off,
            ),
            Safeguard::flag("governance.require_classification", governance.require_classification),
            Safeguard::flag("sharing.require_purpose", sharing.require_purpose),
            Safeguard::flag("sharing.require_agreement", sharing.require_agreement),
            Safeguard::word("sharing.raw", raw.as_str(), raw == RawSharing::Allow),
        ]
    }
}
