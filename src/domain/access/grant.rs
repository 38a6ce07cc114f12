//! Grants: who may read which share, until when, for what.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The contract behind a grant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// The document's reference, known to both sides.
    #[serde(rename = "ref")]
    pub reference: String,
    /// SHA-256 of the document, in lower-case hex.
    pub sha256: Option<String>,
    /// When the agreement ends, and access with it.
    pub valid_until: Option<DateTime<Utc>>,
}

/// The early end of a grant.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// When the grant ends.
    pub at: DateTime<Utc>,
    /// The operator's reason.
    pub reason: Option<String>,
    /// The operator that ended it.
    pub ended_by: String,
    /// The grant that replaced it, if any.
    pub replaced_by: Option<Uuid>,
}

/// A recipient's permission to read a share during a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Its identity.
    pub id: Uuid,
    /// The share that may be read.
    pub share_id: Uuid,
    /// The recipient that may read it.
    pub recipient_id: Uuid,
    /// The start of its window.
    pub valid_from: DateTime<Utc>,
    /// The end of its window; exclusive.
    pub valid_until: DateTime<Utc>,
    /// The purpose for which the data may be used.
    pub purpose: Option<String>,
    /// The contract behind it.
    pub agreement: Option<Agreement>,
    /// The operator that granted it.
    pub granted_by: String,
    /// When it was granted.
    pub created_at: DateTime<Utc>,
    /// Its early end, if it has one.
    pub ending: Option<Ending>,
}

/// The state of a grant: `scheduled` (not begun), `active`, `expired`, `revoked`, or `agreement_ended`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// It has not begun.
    Scheduled,
    /// It allows access.
    Active,
    /// It is past its end.
    Expired,
    /// It was revoked or replaced.
    Revoked,
    /// Its agreement has ended.
    AgreementEnded,
}

impl Grant {
    /// The grant's state at `now`. Ends are exclusive: at that very moment it no longer allows.
    pub fn state(&self, now: DateTime<Utc>) -> GrantState {
        if self.ending.as_ref().is_some_and(|ending| ending.at <= now) {
            GrantState::Revoked
        } else if self.valid_until <= now {
            GrantState::Expired
        } else if now < self.valid_from {
            GrantState::Scheduled
        } else if self.agreement_end().is_some_and(|end| end <= now) {
            GrantState::AgreementEnded
        } else {
            GrantState::Active
        }
    }

    /// When the grant ends if no operator changes it.
    pub fn until(&self) -> DateTime<Utc> {
        self.agreement_end().map_or(self.valid_until, |end| end.min(self.valid_until))
    }

    fn agreement_end(&self) -> Option<DateTime<Utc>> {
        self.agreement.as_ref().and_then(|agreement| agreement.valid_until)
    }
}

/// The grant in force at `now`, among the grants of one recipient on one share.
pub fn in_force(grants: &[Grant], now: DateTime<Utc>) -> Option<&Grant> {
    grants.iter().find(|grant| grant.state(now) == GrantState::Active)
}
