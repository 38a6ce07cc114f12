//! Bearer tokens: how they are made, what is kept of them, when they are alive.
//!
//! The token itself exists only in [`BearerToken`], which cannot be printed; everything kept is a hash.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use rand::Rng;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Every recipient's token begins with this, so that secret scanners can find one that leaked.
pub const PREFIX: &str = "weir_";
/// Every operator's token begins with this.
pub const OPERATOR_PREFIX: &str = "weirop_";

/// A bearer token in clear: 256 random bits. Shown once, never kept, never printed.
#[derive(Clone)]
pub struct BearerToken(Zeroizing<String>);

impl BearerToken {
    /// A new random token of a recipient.
    pub fn generate() -> Self {
        Self::random(PREFIX)
    }

    /// A new random token of an operator.
    pub fn generate_for_operator() -> Self {
        Self::random(OPERATOR_PREFIX)
    }

    fn random(prefix: &str) -> Self {
        let mut bits = Zeroizing::new([0u8; 32]);
        rand::rng().fill_bytes(bits.as_mut());
        Self(Zeroizing::new(format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(bits.as_ref()))))
    }

    /// A token that somebody presented; any text is accepted, since only its hash is ever compared.
    pub fn presented(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The token in clear, for the one answer that shows it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of the token.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(***)")
    }
}

/// SHA-256 of a token. A token has 256 random bits, so a plain hash cannot be searched, and looking one up by its
/// hash tells nothing by its time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its identity, in answers and audit events.
    pub id: Uuid,
    /// The recipient that it authenticates.
    pub recipient_id: Uuid,
    /// The name of the recipient's credential that it belongs to.
    pub credential: String,
    /// Only these shares, by id; all of the recipient's where empty.
    pub share_ids: Vec<Uuid>,
    /// Only from these networks, besides the recipient's own; anywhere where empty.
    pub allowed_cidrs: Vec<IpNet>,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
    /// When its secret was handed out; `None` while its activation is pending.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it stops working by itself; while its activation is pending, when the link does.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it last authenticated a request, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it ends if nobody has used it by then; `None` where an operator has seen it.
    pub unused_until: Option<DateTime<Utc>>,
}

/// Where a token stands at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// Issued; its secret is not yet handed out.
    Pending,
    /// Authenticates requests.
    Active,
    /// Past its end.
    Expired,
    /// Handed out by a link, and ended because nobody used it in time.
    Unused,
    /// Ended by somebody.
    Revoked,
}

impl Token {
    /// Where the token stands at `now`. An end is exclusive: at `expires_at` itself it no longer works.
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
