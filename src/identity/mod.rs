//! Verifies identities from OpenID Connect issuers: JWTs, and the keys that prove them.
//!
//! The one home of jsonwebtoken. A token is trusted only if it is signed with a key published by its issuer, which must
//! be in the settings; the key determines the algorithm, never the token. Start with [`Identities::verify`]. Never
//! here: the owner of a token, or the rights of its holder.

mod error;
mod fetch;
mod issuer;
mod keys;
mod token;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Validation, dangerous::insecure_decode, decode, decode_header};

use self::issuer::Issuer;
pub use self::{
    error::{IdentityError, Refused},
    fetch::{Fetcher, Unfetched},
    token::Claims,
};
use crate::config::{IdentitySettings, OperatorSignInSettings};

/// The longest token that is examined, in bytes.
const LONGEST_TOKEN: usize = 8 * 1024;

/// The side of the server for which a token is valid. Tokens of one side are not accepted on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Reading shares.
    Recipients,
    /// The admin API.
    Operators,
}

/// A token that its issuer signed for this server, and that has not expired.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The issuer's URL from the settings.
    pub issuer: String,
    /// The token's audiences that belong to this side.
    pub audiences: Vec<String>,
    /// The token's claims.
    pub claims: Claims,
    /// The expiry, plus the tolerated clock difference.
    pub until: DateTime<Utc>,
}

/// The trusted issuers. Clones share their keys.
#[derive(Clone, Debug)]
pub struct Identities {
    issuers: Vec<Arc<Issuer>>,
    operators: OperatorSignInSettings,
    skew: TimeDelta,
    longest: Longest,
}

/// The longest lifetime of a token from any issuer, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Longest {
    /// The limit for recipients.
    pub recipients: u64,
    /// The limit for operators.
    pub operators: u64,
}

impl Longest {
    fn on(self, side: Side) -> TimeDelta {
        let longest = match side {
            Side::Recipients => self.recipients,
            Side::Operators => self.operators,
        };
        i64::try_from(longest).ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::MAX)
    }
}

impl Identities {
    /// Creates the issuers of the settings; their tokens may live for `longest`. Nothing is fetched before the first
    /// token arrives.
    pub fn new(settings: &IdentitySettings, longest: Longest) -> Result<Self, IdentityError> {
        let timeout = Duration::from_secs(settings.fetch_timeout_seconds);
        let fetcher = Fetcher::new(timeout, settings.allow_http_loopback)?;
        let issuers = settings.issuer.iter().map(|issuer| Arc::new(Issuer::new(issuer.clone(), fetcher.clone())));
        Ok(Self {
            issuers: issuers.collect(),
            operators: settings.operators.clone(),
            skew: TimeDelta::seconds(i64::try_from(settings.clock_skew_seconds).unwrap_or_default()),
            longest,
        })
    }

    /// Returns whether `text` may be a JWT of one of the issuers. The server's own tokens have no dots.
    pub fn may_be_token(&self, text: &str) -> bool {
        !self.issuers.is_empty() && text.contains('.')
    }

    /// Returns the settings of operators' sign-in.
    pub fn operators(&self) -> &OperatorSignInSettings {
        &self.operators
    }

    /// Returns whether recipients may be bound to identities of `issuer` with tokens for `audience`.
    pub fn knows(&self, issuer: &str, audience: &str) -> bool {
        let known = self.find(issuer);
        known.is_some_and(|issuer| issuer.settings.audiences.iter().any(|known| known == audience))
    }

    /// Iterates over the issuers with their audiences for recipients, for messages.
    pub fn known(&self) -> impl Iterator<Item = (&str, &[String])> {
        let issuers = self.issuers.iter().map(|issuer| (issuer.settings.url.as_str(), &issuer.settings.audiences[..]));
        issuers.filter(|(_, audiences)| !audiences.is_empty())
    }

    /// Returns the token endpoint and the scope for clients of `issuer`.
    pub async fn client_settings(
        &self,
        issuer: &str,
        now: DateTime<Utc>,
    ) -> Result<(String, Option<String>), IdentityError> {
        let issuer = self.find(issuer).ok_or(Refused::IssuerUnknown)?;
        Ok((issuer.token_endpoint(now).await?, issuer.settings.scope.clone()))
    }

    /// Verifies `token`, presented at `now` on `side`.
    pub async fn verify(&self, token: &str, side: Side, now: DateTime<Utc>) -> Result<Verified, IdentityError> {
        if token.len() > LONGEST_TOKEN {
            return Err(Refused::TooLong.into());
        }
        // Nothing here is trusted yet; it only tells which keys to use.
        let header = decode_header(token).map_err(Refused::malformed)?;
        token::check_header(&header)?;
        let claims: Claims = insecure_decode(token).map_err(Refused::malformed)?.claims;
        let issuer = claims.text("iss").and_then(|issuer| self.find(issuer)).ok_or(Refused::IssuerUnknown)?;
        let key = issuer.key(header.kid.as_deref(), now).await?;
        if !key.algorithms.contains(&header.alg) {
            return Err(Refused::Algorithm.into());
        }
        let claims: Claims = decode(token, &key.decoding, &validation(&key)).map_err(Refused::signature)?.claims;
        let audiences = self.audiences(&claims, issuer, side)?;
        let until = token::check_times(&claims, now, self.skew, self.longest.on(side))?;
        Ok(Verified { issuer: issuer.settings.url.clone(), audiences, claims, until })
    }

    fn find(&self, url: &str) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| issuer.settings.url == url)
    }

    /// Returns the token's audiences that belong to `side`. A token with audiences of both sides is refused.
    fn audiences(&self, claims: &Claims, issuer: &Issuer, side: Side) -> Result<Vec<String>, Refused> {
        let named: Vec<&str> = claims.texts("aud").collect();
        let is_operators = |audience: &str| self.operators.issuer.is_some() && audience == self.operators.audience;
        let is_recipients = |audience: &str| {
            let mut audiences = self.issuers.iter().flat_map(|issuer| &issuer.settings.audiences);
            audiences.any(|known| known == audience)
        };
        let (accepted, foreign): (Vec<&str>, bool) = match side {
            Side::Recipients => {
                let audiences = &issuer.settings.audiences;
                let accepted = named.iter().filter(|audience| audiences.iter().any(|known| known == *audience));
                (accepted.copied().collect(), named.iter().any(|audience| is_operators(audience)))
            }
            Side::Operators => {
                let signs_in = self.operators.issuer.as_ref() == Some(&issuer.settings.url);
                let accepted = named.iter().filter(|audience| signs_in && is_operators(audience));
                (accepted.copied().collect(), named.iter().any(|audience| is_recipients(audience)))
            }
        };
        if accepted.is_empty() || foreign {
            return Err(Refused::Audience);
        }
        Ok(accepted.into_iter().map(str::to_owned).collect())
    }
}

/// Configures a check of only the signature, with the key's algorithms: times are checked with the clock that is passed
/// in, and issuer and audience against the settings.
fn validation(key: &keys::Key) -> Validation {
    let mut validation = Validation::default();
    validation.algorithms.clone_from(&key.algorithms);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation
}
