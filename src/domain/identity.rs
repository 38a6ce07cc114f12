//! Identities at issuers of OpenID Connect: what a recipient is bound to instead of having tokens.
//!
//! A JWT that the issuer signed for a bound identity is a token of the recipient, which ends when the JWT does. Never
//! here: signatures and keys, which are the adapter's.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::{decision::Bearer, recipient::Recipient, token::Token};

/// The credential that such tokens belong to.
const CREDENTIAL: &str = "oidc";

/// Whose JWTs are a recipient's: those of this issuer, made out to this audience, in which the claim has the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Its identity; another one for every binding, so that nothing outlives a change.
    #[serde(skip)]
    pub id: Uuid,
    /// The JWT's `iss`.
    pub issuer: String,
    /// What its `aud` is or holds.
    pub audience: String,
    /// The name of the claim.
    pub claim: String,
    /// What the claim is or holds.
    pub value: String,
}

impl Identity {
    /// Whether both mean the same JWTs.
    pub fn same(&self, other: &Self) -> bool {
        let Self { id: _, issuer, audience, claim, value } = self;
        (issuer, audience, claim, value) == (&other.issuer, &other.audience, &other.claim, &other.value)
    }
}

/// A recipient that was found by its identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// The recipient.
    pub recipient: Recipient,
    /// Whether everything is frozen.
    pub frozen: bool,
}

impl Holder {
    /// The bearer of one of the recipient's own tokens.
    pub fn with(self, token: Token) -> Bearer {
        Bearer { token, recipient: self.recipient, frozen: self.frozen }
    }

    /// The bearer of a JWT that ends at `until`; nobody where the recipient is bound to nothing any more.
    pub fn bearer(self, until: DateTime<Utc>) -> Option<Bearer> {
        let Self { recipient, frozen } = self;
        let token = Token {
            id: recipient.identity.as_ref()?.id,
            recipient_id: recipient.id,
            credential: CREDENTIAL.to_owned(),
            share_ids: Vec::new(),
            allowed_cidrs: Vec::new(),
            created_at: recipient.created_at,
            activated_at: Some(recipient.created_at),
            expires_at: Some(until),
            revoked_at: None,
            last_used_at: None,
            unused_until: None,
        };
        Some(Bearer { token, recipient, frozen })
    }
}
