//! Operators who sign in by an issuer of OpenID Connect: one row for each, so that they can be listed and refused.
//!
//! Never here: what they may, which their token says.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Somebody who signs in by an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorIdentity {
    /// Its identity, under which it is recorded; see [`id_of`].
    pub id: Uuid,
    /// Who says who it is.
    pub issuer: String,
    /// What the issuer calls it; what can be seen of that.
    pub subject: String,
    /// Its name at the last sign-in.
    pub name: String,
    /// Since when it is refused, if it is.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When it first signed in.
    pub created_at: DateTime<Utc>,
    /// When the row was last changed.
    pub updated_at: DateTime<Utc>,
    /// Counts its changes, from 1; the etag.
    pub revision: i64,
}

/// The identity of whoever an issuer calls `subject`.
pub fn id_of(issuer: &str, subject: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{issuer}#{subject}").as_bytes())
}
