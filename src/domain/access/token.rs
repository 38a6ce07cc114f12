//! Bearer tokens: how they are generated, what is stored, and when they are valid.
//!
//! The plain token exists only in [`BearerToken`], which cannot be printed; only a hash is stored.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use rand::Rng;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

/// The prefix of every recipient's token, by which secret scanners find leaked ones.
pub const PREFIX: &str = "weir_";
/// The prefix of every operator's token.
pub const OPERATOR_PREFIX: &str = "weirop_";

/// A plain bearer token: 256 random bits. Shown once, never stored, never printed.
#[derive(Clone)]
pub struct BearerToken(Zeroizing<String>);

impl BearerToken {
    /// Generates a new random token for a recipient.
    pub fn generate() -> Self {
        Self::random(PREFIX)
    }

    /// Generates a new random token for an operator.
    pub fn generate_for_operator() -> Self {
        Self::random(OPERATOR_PREFIX)
    }

    fn random(prefix: &str) -> Self {
        let mut bits = Zeroizing::new([0u8; 32]);
        rand::rng().fill_bytes(bits.as_mut());
        Self(Zeroizing::new(format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(bits.as_ref()))))
    }

    /// Wraps a token that a caller presented. Any text is accepted, because only its hash is compared.
    pub fn presented(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The plain token, for the one answer that shows it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The hash, which is stored instead of the token.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(***)")
    }
}

/// SHA-256 of a token. A token has 256 random bits, so a plain hash cannot be reversed by search, and looking one up by
/// its hash leaks nothing through timing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// The stored part of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its identity, in answers and audit events.
    pub id: Uuid,
    /// The recipient that it authenticates.
    pub recipient_id: Uuid,
    /// The name of the recipient's credential that it belongs to.
    pub credential: String,
    /// The ids of the shares that it is valid for; empty means all of the recipient's.
    pub share_ids: Vec<Uuid>,
    /// The networks that it may come from, besides the recipient's own; empty means anywhere.
    pub allowed_cidrs: Vec<IpNet>,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
    /// When its secret was handed out; `None` while its activation is pending.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it expires; while its activation is pending, when the link expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it last authenticated a request, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it ends if it has not been used by then; `None` if an operator has seen it.
    pub unused_until: Option<DateTime<Utc>>,
}

/// The state of a token at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// Issued, but its secret is not handed out yet.
    Pending,
    /// Authenticates requests.
    Active,
    /// Past its end.
    Expired,
    /// Handed out by a link, and ended because it was not used in time.
    Unused,
    /// Ended by an operator or a rotation.
    Revoked,
}

impl Token {
    /// The token's state at `now`. Ends are exclusive: at `expires_at` itself it no longer works.
    pub fn state(&self, now: DateTime<Utc>) -> TokenState {
        if self.revoked_at.is_some_and(|at| at <= now) {
            TokenState::Revoked
        } else if self.expires_at.is_some_and(|at| at <= now) {
            TokenState::Expired
        } else if self.activated_at.is_none() {
            TokenState::Pending
        } else if self.last_used_at.is_none() && self.unused_until.is_some_and(|until| until <= now) {
            TokenState::Unused
        } else {
            TokenState::Active
        }
    }

    /// Whether the token counts towards the two that a credential may have.
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        matches!(self.state(now), TokenState::Pending | TokenState::Active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_random_and_never_printed() {
        let (a, b) = (BearerToken::generate(), BearerToken::generate());
        assert_ne!(a.reveal(), b.reveal());
        assert!(a.reveal().len() >= PREFIX.len() + 43);
        assert!(!format!("{a:?} {:?}", a.hash()).contains(&a.reveal()[PREFIX.len()..]));
        assert_eq!(a.hash(), BearerToken::presented(a.reveal()).hash());
    }
}
