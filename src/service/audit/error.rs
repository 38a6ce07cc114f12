//! What can go wrong with the audit trail beyond its use cases.

use crate::{domain::audit::chain::Broken, storage::StorageError, store::StoreError};

/// Why the trail could not be verified, sealed or exported.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The trail was changed.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The database did not answer.
    #[error("the audit trail cannot be read")]
    Store(#[from] StoreError),
    /// The export's storage did not answer.
    #[error("the audit export cannot be reached")]
    Storage(#[from] StorageError),
    /// The operation is not allowed in this state.
    #[error("{0}")]
    Refused(String),
}
