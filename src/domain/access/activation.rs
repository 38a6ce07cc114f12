//! Activation: the link by which a recipient fetches its token itself, so that no operator ever sees it.
//!
//! Lives here: the code in the link, and the decision whether the link still works. Never here: making the token.

use std::{fmt, net::IpAddr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use rand::Rng;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    decision::{Bearer, Reason},
    geography::Geography,
    recipient::{RecipientState, network_allows},
};

/// The code of an activation link: 256 random bits. It exists only in the link, and is never stored or printed.
#[derive(Clone)]
pub struct ActivationCode(Zeroizing<String>);

impl ActivationCode {
    /// Generates a new random code.
    pub fn generate() -> Self {
        let mut bits = Zeroizing::new([0u8; 32]);
        rand::rng().fill_bytes(bits.as_mut());
        Self(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(bits.as_ref())))
    }

    /// Wraps a code that a caller presented. Any text is accepted, because only its hash is compared.
    pub fn presented(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The plain code, for the one answer that contains the link.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The hash, which is stored instead of the code.
    pub fn hash(&self) -> CodeHash {
        CodeHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for ActivationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ActivationCode(***)")
    }
}

/// SHA-256 of a code. Looking a code up by its hash leaks nothing through timing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CodeHash(pub [u8; 32]);

impl fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeHash(…)")
    }
}

/// The stored part of a token's link.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// The token that the link hands out.
    pub token_id: Uuid,
    /// When the link expires.
    pub expires_at: DateTime<Utc>,
    /// How long the token lives from its activation, in seconds.
    pub life_seconds: u64,
    /// The token that ends at the activation, if this is a rotation.
    pub ends_token_id: Option<Uuid>,
}

/// Decides whether a link may hand out its token now. Checks in the same order as the data plane: the code and its
/// state, freeze, the recipient's state, the networks of recipient and token.
pub fn decide_activation(
    found: Option<(&Activation, &Bearer)>,
    address: IpAddr,
    geography: Geography,
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
    match recipient.state.means() {
        Some(RecipientState::Active) => {}
        // A state that only a newer server knows lets nobody in.
        Some(RecipientState::Suspended) | None => return Err(Reason::RecipientSuspended),
        Some(RecipientState::Offboarded) => return Err(Reason::RecipientOffboarded),
    }
    if !network_allows(&recipient.spec.allowed_cidrs, address) || !network_allows(&token.allowed_cidrs, address) {
        return Err(Reason::AddressNotAllowed);
    }
    geography.check([], &recipient.spec)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use crate::domain::access::{
        decision::tests::{bearer, now},
        geography::{Country, GeoMode},
    };

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
        let geography = Geography { mode: GeoMode::Known, country: Country::parse("DE") };
        decide_activation(found, IpAddr::from([198, 51, 100, 7]), geography, now()).err()
    }

    #[test]
    fn a_code_is_long_random_and_never_printed() {
        let (a, b) = (ActivationCode::generate(), ActivationCode::generate());
        assert_ne!(a.reveal(), b.reveal());
        assert_eq!(a.reveal().len(), 43);
        assert!(!format!("{a:?} {:?}", a.hash()).contains(a.reveal()));
        assert_eq!(a.hash(), ActivationCode::presented(a.reveal()).hash());
    }

    /// Each row breaks one more thing than the row above, which also tests the order.
    #[test]
    fn the_first_failure_wins_in_the_fixed_order() {
        let (mut activation, mut bearer) = pending();
        assert_eq!(reason(Some((&activation, &bearer))), None);
        bearer.recipient.spec.country = Some("FR".into());
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::GeoDenied(Country::parse("DE"))));
        bearer.token.allowed_cidrs = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::AddressNotAllowed));
        bearer.token.allowed_cidrs = vec![];
        bearer.recipient.spec.allowed_cidrs = vec!["2001:db8::/32".parse().unwrap()];
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::AddressNotAllowed));
        bearer.recipient.state = RecipientState::Suspended.into();
        assert_eq!(reason(Some((&activation, &bearer))), Some(Reason::RecipientSuspended));
        bearer.recipient.state = RecipientState::Offboarded.into();
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
