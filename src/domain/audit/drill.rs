//! Drills: rehearsals of what must work on a bad day.
//!
//! Never here: the steps of a drill, which are in the command line.

use serde::{Deserialize, Serialize};

/// What is rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrillKind {
    /// A grant and a token are revoked, and every replica refuses.
    Revocation,
    /// A token is rotated, and nothing breaks in between.
    Rotation,
    /// An export of the audit trail is tampered with, and verification finds it.
    AuditTamper,
    /// A backup is restored, and what was revoked since stays revoked.
    Restore,
}

impl DrillKind {
    /// The word for the kind in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revocation => "revocation",
            Self::Rotation => "rotation",
            Self::AuditTamper => "audit_tamper",
            Self::Restore => "restore",
        }
    }
}
