//! Who is calling, by the word of an issuer of OpenID Connect: JWTs, and the keys that prove them.
//!
//! The one home of jsonwebtoken. What a token says is believed only once it is signed by a key that its issuer, one that
//! the settings name, publishes; the algorithm is the key's, never the token's. Start with [`Identities::verify`].
//! Never here: whose a token is, or what its holder may do.

mod error;
mod fetch;
mod issuer;
mod keys;
mod token;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Validation, dangerous::insecure_decode, decode, decode_header};

pub use self::{
    error::{IdentityError, Refused},
    token::Claims,
};
use self::{fetch::Fetcher, issuer::Issuer};
use crate::config::{IdentitySettings, OperatorSignInSettings};

/// The longest token that is looked at, in bytes.
const LONGEST_TOKEN: usize = 8 * 1024;

/// Which side of the server a token is for; neither's are good for the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Reading shares.
    Recipients,
    /// The admin API.
    Operators,
}

/// A token whose issuer signed it for this server, and which has not ended.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who signed it, by the URL in the settings.
    pub issuer: String,
    /// Those audiences of this side that it is made out to.
    pub audiences: Vec<String>,
    /// What it says.
    pub claims: Claims,
    /// When it ends, with what clocks may differ by.
    pub until: DateTime<Utc>,
}

/// The issuers that are believed. Cloning shares their keys.
#[derive(Clone, Debug)]
pub struct Identities {
    issuers: Vec<Arc<Issuer>>,
    operators: OperatorSignInSettings,
    skew: TimeDelta,
    longest: Longest,
}

/// The longest life of a token, whoever issued it, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Longest {
    /// Of a recipient's.
    pub recipients: u64,
    /// Of an operator's.
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
    /// The issuers of the settings, whose tokens live for `longest` at most. Nothing is fetched before the first token
    /// comes.
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

    /// Whether `text` has the form of a JWT and could come from one of the issuers. The server's own tokens have no dots.
    pub fn may_be_token(&self, text: &str) -> bool {
        !self.issuers.is_empty() && text.contains('.')
    }

    /// The settings of operators' sign-in.
    pub fn operators(&self) -> &OperatorSignInSettings {
        &self.operators
    }

    /// Whether recipients may be bound to identities at `issuer` by tokens made out to `audience`.
    pub fn knows(&self, issuer: &str, audience: &str) -> bool {
        let known = self.find(issuer);
        known.is_some_and(|issuer| issuer.settings.audiences.iter().any(|known| known == audience))
    }

    /// The issuers with the audiences that recipients may be bound to, for messages.
    pub fn known(&self) -> impl Iterator<Item = (&str, &[String])> {
        let issuers = self.issuers.iter().map(|issuer| (issuer.settings.url.as_str(), &issuer.settings.audiences[..]));
        issuers.filter(|(_, audiences)| !audiences.is_empty())
    }

    /// Where the clients of `issuer` get their tokens, and the scope that they ask for.
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
        // Nothing of this is believed yet; it says only by whose keys to look.
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

    /// Those audiences of `side` that the token is made out to. One that is good for both sides is good for neither.
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

/// The signature alone, by the key's algorithms: the times are judged by the clock that is passed in, and who signed for
/// whom by the settings.
fn validation(key: &keys::Key) -> Validation {
    let mut validation = Validation::default();
    validation.algorithms.clone_from(&key.algorithms);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation
}
