//! Grants: who may read which share, until when, for what.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::agreement::{AgreementLack, AgreementSuccession};

/// The contract behind a grant, as the grant has it: its reference, or the names of its agreements. What of it decides is in
/// [`Grant::agreements`].
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
    /// The contract behind it, as it was when the grant was made.
    pub agreement: Option<Agreement>,
    /// The agreements that it names, each of which must allow access now, with those that take their place.
    pub agreements: Vec<AgreementSuccession>,
    /// The operator that granted it.
    pub granted_by: String,
    /// When it was granted.
    pub created_at: DateTime<Utc>,
    /// Its early end, if it has one.
    pub ending: Option<Ending>,
}

/// The state of a grant: `scheduled` (not begun), `active`, `expired`, `revoked`, `agreement_ended` (by time),
/// `agreement_inactive`, or `purpose_not_allowed`.
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
    /// The time of one of its agreements is over.
    AgreementEnded,
    /// One of its agreements is not in force, for another reason than time.
    AgreementInactive,
    /// One of its agreements does not allow its purpose.
    PurposeNotAllowed,
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
        } else {
            match self.agreements_allow(now) {
                Ok(()) => GrantState::Active,
                Err(AgreementLack::Ended) => GrantState::AgreementEnded,
                Err(AgreementLack::Inactive) => GrantState::AgreementInactive,
                Err(AgreementLack::Purpose) => GrantState::PurposeNotAllowed,
            }
        }
    }

    /// When the grant ends if no operator changes anything, as it stands at `now`.
    pub fn until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.agreement_end(now).map_or(self.valid_until, |end| end.min(self.valid_until))
    }

    /// When the first of its agreements ends by time, as they stand at `now`. A grant without agreements of their own, which
    /// a server of an earlier release has made, has the end that it was given.
    pub fn agreement_end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.agreements.is_empty() {
            true => self.agreement.as_ref().and_then(|agreement| agreement.valid_until),
            false => self.agreements.iter().filter_map(|agreement| agreement.ends_at(now)).min(),
        }
    }

    /// Whether one of the agreements that decide at `now` is of this type and covers a class.
    pub fn covers(&self, kind: &str, class: &str, now: DateTime<Utc>) -> bool {
        self.agreements.iter().any(|agreement| agreement.covers(kind, class, now))
    }

    /// The regions that each of its agreements states at `now`, of those that state any.
    pub fn regions(&self, now: DateTime<Utc>) -> impl Iterator<Item = &[String]> {
        self.agreements.iter().filter_map(move |agreement| agreement.regions(now))
    }

    /// Whether all of its agreements allow its purpose at `now`. One that is not in force is said before one that does not
    /// allow the purpose.
    fn agreements_allow(&self, now: DateTime<Utc>) -> Result<(), AgreementLack> {
        if self.agreements.is_empty() {
            let is_over = self.agreement_end(now).is_some_and(|end| end <= now);
            return if is_over { Err(AgreementLack::Ended) } else { Ok(()) };
        }
        let purpose = self.purpose.as_deref();
        let mut lacks = self.agreements.iter().filter_map(|agreement| agreement.allows(purpose, now).err());
        let first = lacks.next();
        match first {
            Some(AgreementLack::Purpose) => {
                Err(lacks.find(|lack| *lack != AgreementLack::Purpose).unwrap_or(AgreementLack::Purpose))
            }
            Some(lack) => Err(lack),
            None => Ok(()),
        }
    }
}

/// The grant in force at `now`, among the grants of one recipient on one share.
pub fn in_force(grants: &[Grant], now: DateTime<Utc>) -> Option<&Grant> {
    grants.iter().find(|grant| grant.state(now) == GrantState::Active)
}
