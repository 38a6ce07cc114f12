//! Governance: which duties are kept apart.

use serde::Deserialize;

use crate::domain::operators::principal::Separation;

/// `[governance]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct GovernanceSettings {
    /// Whether running the server and reading its data are kept apart.
    pub separation: Separation,
    /// Whether an object is read only if every column that it shows has a confirmed class.
    pub require_classification: bool,
}
