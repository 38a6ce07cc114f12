//! Identities at OpenID Connect issuers, to which a recipient is bound instead of having tokens.
//!
//! A JWT that the issuer signed for a bound identity acts as a token of the recipient that ends when the JWT does.
//! Never here: signatures and keys, which the adapter checks.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::core::spec::FieldError;

use super::{decision::Bearer, recipient::Recipient, token::Token};

/// The name of the credential for such tokens.
const CREDENTIAL: &str = "oidc";

/// The longest issuer, audience, claim or value, in bytes: four of them fit into one entry of a database index.
pub const LONGEST_IDENTITY_TEXT: usize = 500;

/// Claims that many tokens share, so that they do not identify a recipient.
const SHARED_CLAIMS: [&str; 2] = ["iss", "aud"];

/// The identity of a recipient at an OpenID Connect issuer. The recipient's tokens are JWTs of this issuer for this
/// audience that have this value in this claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = OidcBody)]
pub struct Identity {
    /// The id of the binding; every change of it makes a new one, so that nothing outlives a change.
    #[serde(skip)]
    pub id: Uuid,
    /// The issuer's URL, exactly as in the tokens' `iss`; one of `[[identity.issuer]]` in the configuration.
    #[schema(example = "https://login.example.org/realms/partners")]
    pub issuer: String,
    /// The audience in the tokens' `aud`; one of the issuer's `audiences` in the configuration.
    #[schema(example = "weir")]
    pub audience: String,
    /// The claim that identifies the recipient, such as `azp` or `sub`; not `iss` or `aud`.
    #[schema(example = "azp")]
    pub claim: String,
    /// The value of the claim; if the claim is a list, one of its items.
    #[schema(example = "acme-reader")]
    pub value: String,
}

impl Identity {
    /// Adds the problems of this identity as a field of a recipient.
    pub fn check(&self, problems: &mut Vec<FieldError>) {
        let Self { id: _, issuer, audience, claim, value } = self;
        for (name, text) in [("issuer", issuer), ("audience", audience), ("claim", claim), ("value", value)] {
            if !(1..=LONGEST_IDENTITY_TEXT).contains(&text.len()) {
                let message = format!("is needed, as 1 to {LONGEST_IDENTITY_TEXT} bytes");
                problems.push(FieldError::new(format!("oidc.{name}"), message));
            }
        }
        if SHARED_CLAIMS.contains(&claim.as_str()) {
            let message = "says the same in the tokens of many; name one that tells the recipient, such as `sub`";
            problems.push(FieldError::new("oidc.claim", message));
        }
    }

    /// Whether both match the same JWTs.
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
    /// Whether a freeze is in force.
    pub frozen: bool,
}

impl Holder {
    /// Makes the bearer of one of the recipient's own tokens.
    pub fn with(self, token: Token) -> Bearer {
        Bearer { token, recipient: self.recipient, frozen: self.frozen }
    }

    /// Makes the bearer of a JWT that expires at `until`; `None` if the recipient is no longer bound to an identity.
    pub fn bearer(self, until: DateTime<Utc>) -> Option<Bearer> {
        let Self { recipient, frozen } = self;
        let token = Token {
            id: recipient.spec.oidc.as_ref()?.id,
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
