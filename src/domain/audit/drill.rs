//! Drills: rehearsals of what must work on a bad day.
//!
//! Never here: the steps of a drill, which are in the command line.

use serde::{Deserialize, Serialize};

/// A drill: a rehearsal of something that must work on a bad day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrillKind {
    /// Revokes a grant and a token; every replica must refuse.
    Revocation,
    /// Ends an agreement, by time and for good; every replica must refuse.
    AgreementEnd,
    /// Rotates a token; access must not break in between.
    Rotation,
    /// Tampers with a copy of the audit export; verification must find it.
    AuditTamper,
    /// Restores a backup; what was revoked since must stay revoked.
    Restore,
}

impl DrillKind {
    /// The word for the kind in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revocation => "revocation",
            Self::AgreementEnd => "agreement_end",
            Self::Rotation => "rotation",
            Self::AuditTamper => "audit_tamper",
            Self::Restore => "restore",
        }
    }
}
