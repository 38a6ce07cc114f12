//! Activation: the link by which a recipient fetches a token itself, so that no operator ever sees it.
//!
//! Lives here: the code in the link, and whether it still hands out a token. Never here: making the token.

use std::{fmt, net::IpAddr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use rand::Rng;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    decision::{Bearer, Reason},
    recipient::{RecipientState, network_allows},
};

/// The code of an activation link: 256 random bits. In the link alone, never kept, never printed.
#[derive(Clone)]
pub struct ActivationCode(Zeroizing<String>);

impl ActivationCode {
    /// A new random code.
    pub fn generate() -> Self {
        let mut bits = Zeroizing::new([0u8; 32]);
        rand::rng().fill_bytes(bits.as_mut());
        Self(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(bits.as_ref())))
    }

    /// A code that somebody presented; any text is accepted, since only its hash is ever compared.
    pub fn presented(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The code in clear, for the one answer that holds the link.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of the code.
    pub fn hash(&self) -> CodeHash {
        CodeHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for ActivationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActivationCode(***)")
    }
}

/// SHA-256 of a code; looking one up by it tells nothing by its time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CodeHash(pub [u8; 32]);

impl fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeHash(…)")
    }
}

/// The link of a token, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// The token that it hands out.
    pub token_id: Uuid,
    /// When it stops working by itself.
    pub expires_at: DateTime<Utc>,
    /// How long the token lives from its activation, in seconds.
    pub life_seconds: u64,
    /// The token that ends with the activation: the one that was rotated.
    pub ends_token_id: Option<Uuid>,
}

/// Decides whether a link hands out its token now. The order is the data plane's: the code and its state, freeze, the
/// recipient's state, the networks of recipient and token.
pub fn decide_activation(
    found: Option<(&Activation, &Bearer)>,
    address: IpAddr,
    now: DateTime<Utc>,
) -> Result<(), Reason> {
    let (activation, bearer) = found.ok_or(Reason::ActivationUnknown)?;
    let (token, recipient) = (&bearer.token, &bearer.recipient);
    if token.activated_at.is_some() {
        return Err(Reason::ActivationUsed);
    }
    if token.revoked_at.is_some_and(|at| at <= now) {
        return Err(Reason::ActivationCancelled);
    }
    if activation.expires_at <= now {
        return Err(Reason::ActivationExpired);
    }
    if bearer.frozen {
        return Err(Reason::Frozen);
    }
    match recipient.state {
        RecipientState::Active => {}
        RecipientState::Suspended => return Err(Reason::RecipientSuspended),
        RecipientState::Offboarded => return Err(Reason::RecipientOffboarded),
    }
    if !network_allows(&recipient.spec.allowed_cidrs, address) || !network_allows(&token.allowed_cidrs, address) {
        return Err(Reason::AddressNotAllowed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use crate::domain::access::decision::tests::{bearer, now};

    use super::*;

    fn pending() -> (Activation, Bearer) {
        let mut bearer = bearer();
        bearer.token.activated_at = None;
        bearer.token.expires_at = Some(now() + TimeDelta::hours(72));
        let activation = Activation {
            token_id: bearer.token.id,
            expires_at: now() + TimeDelta::hours(72),
            life_seconds: 3600,
            ends_token_id: None,
        };
        (activation, bearer)
    }

    fn reason(found: Option<(&Activation, &Bearer)>) -> Option<Reason> {
        decide_activation(found, IpAddr::from([198, 51, 100, 7]), now()).err()
    }

    #[test]
    fn a_code_is_long_random_and_never_printed() {
        let (a, b) = (ActivationCode::generate(), ActivationCode::generate());
        assert_ne!(a.reveal(), b.reveal());
        assert_eq!(a.reveal().len(), 43);
        assert!(!format!("{a:?} {:?}", a.hash()).contains(a.reveal()));
        assert_eq!(a.hash(), ActivationCode::presented(a.reveal()).hash());
    }

    /// Each row breaks one thing more than the row above it, so that the order shows too.
    #[test]
    fn the_first_failure_wins_in_the_fixed_order() {
        let (mut activation, mut bearer) = pending();
        assert_eq!(reason(Some((&activation, &bearer))), None);
        bearer.token.allowed_cidrs = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::AddressNotAllowed));
        bearer.token.allowed_cidrs = vec![];
        bearer.recipient.spec.allowed_cidrs = vec!["2001:db8::/32".parse().unwrap()];
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::AddressNotAllowed));
        bearer.recipient.state = RecipientState::Suspended;
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::RecipientSuspended));
        bearer.recipient.state = RecipientState::Offboarded;
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::RecipientOffboarded));
        bearer.frozen = true;
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::Frozen));
        activation.expires_at = now();
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::ActivationExpired));
        bearer.token.revoked_at = Some(now());
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::ActivationCancelled));
        bearer.token.activated_at = Some(now());
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::ActivationUsed));
        assert_eq!(reason(None), Some(Reason::ActivationUnknown));
    }
}
