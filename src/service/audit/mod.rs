//! The audit trail: written, read, sealed, exported, verified and recovered.

pub mod drills;
pub mod error;
pub mod export;
pub mod read;
pub mod recover;
pub mod seal;
pub mod verify;
pub mod write;

use self::seal::AuditSealer;

use super::core::Core;

/// The use cases about the audit trail.
#[derive(Clone, Debug)]
pub struct AuditLog {
    /// What every service works with.
    pub core: Core,
    /// Seals and exports the trail, and erases personal data in it.
    pub sealer: AuditSealer,
}
