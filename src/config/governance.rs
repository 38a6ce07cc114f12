//! Governance: which duties are kept apart.

use serde::Deserialize;

use crate::domain::operators::principal::Separation;

/// `[governance]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct GovernanceSettings {
    /// Whether running the server and reading its data are kept apart.
    pub separation: Separation,
}
