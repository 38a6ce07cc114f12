//! Finds the holder of a request's credential: a token of this server, or a JWT of a trusted issuer.

use chrono::{DateTime, Utc};

use crate::{
    domain::access::{
        decision::{Bearer, Credential, Reason},
        identity::LONGEST_IDENTITY_TEXT,
    },
    identity::{IdentityError, Refused, Side, Verified},
    service::core::error::ServiceError,
    store::{Reached, Seeker, StoreError},
};

use super::{Caller, RequestedNames, Sharing};

/// The most claim texts of a JWT that are looked up; a JWT of the accepted size cannot hold more.
const MOST_TEXTS: usize = 2_048;
/// The longest subject that is stored, in characters.
const KEPT_SUBJECT: usize = 255;
/// The reason code of a JWT that cannot be verified because its issuer does not answer.
pub(super) const ISSUER_UNAVAILABLE: &str = "ISSUER_UNAVAILABLE";

/// The result of looking up a credential.
#[derive(Debug)]
pub(super) struct Presented {
    /// The holder and the requested things, before any decision.
    pub(super) reached: Option<Reached>,
    /// The reason to refuse a credential without a holder.
    pub(super) unknown: Reason,
    /// The subject according to the issuer.
    pub(super) subject: Option<String>,
}

impl Presented {
    /// Makes the result for a missing credential, or for one refused because of `reason`.
    pub(super) fn nobody(reason: Reason) -> Self {
        Self { reached: None, unknown: reason, subject: None }
    }
}

impl Sharing {
    /// Finds the holder of the caller's token, and the requested things. The inner error is only for a JWT whose issuer
    /// does not answer.
    pub(super) async fn find_presented(
        &self,
        caller: &Caller,
        asked: RequestedNames<'_>,
        now: DateTime<Utc>,
    ) -> Result<Result<Presented, IdentityError>, ServiceError> {
        let Some(token) = &caller.token else { return Ok(Ok(Presented::nobody(Reason::TokenUnknown))) };
        if !self.identities.may_be_token(token.reveal()) {
            let reached = self.lookups.find(asked.sought(Seeker::Token(token.hash()))).await?;
            return Ok(Ok(Presented { reached, ..Presented::nobody(Reason::TokenUnknown) }));
        }
        // The issuer's keys may have to be fetched first.
        match caller.place.aside(self.identities.verify(token.reveal(), Side::Recipients, now)).await {
            Ok(verified) => Ok(Ok(self.find_holder_of(&verified, asked).await?)),
            Err(IdentityError::Refused(why)) => {
                tracing::info!(why = %why, "a recipient's JWT is refused");
                let expired = why == Refused::Expired;
                Ok(Ok(Presented::nobody(if expired { Reason::IdentityExpired } else { Reason::IdentityInvalid })))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    async fn find_holder_of(&self, verified: &Verified, asked: RequestedNames<'_>) -> Result<Presented, ServiceError> {
        let audiences: Vec<&str> = verified.audiences.iter().map(String::as_str).collect();
        // Claims that no recipient can be bound to are not looked up.
        let could_be_bound = |text: &str| text.len() <= LONGEST_IDENTITY_TEXT && !text.contains(char::is_control);
        let claims = verified.claims.pairs().filter(|(name, value)| could_be_bound(name) && could_be_bound(value));
        let claims: Vec<(&str, &str)> = claims.take(MOST_TEXTS).collect();
        let mut holders = self.core.db.list_holders(&verified.issuer, &audiences, &claims).await?;
        // A JWT that matches several recipients is refused.
        let holder = if holders.len() == 1 { holders.pop() } else { None };
        if holder.is_none() {
            tracing::info!(issuer = verified.issuer, "a recipient's JWT is refused: no one recipient is bound to it");
        }
        let subject = verified.claims.text("sub").map(|subject| subject.chars().take(KEPT_SUBJECT).collect());
        let reached = match holder.and_then(|holder| holder.bearer(verified.until)) {
            None => None,
            Some(bearer) if matches!(asked, RequestedNames::Own) => {
                Some(Reached { bearer: Some(bearer), access: None, object: Ok(None) })
            }
            Some(bearer) => {
                let sought = asked.sought(Seeker::Recipient(bearer.recipient.id));
                self.lookups.find(sought).await?.map(|reached| Reached { bearer: Some(bearer), ..reached })
            }
        };
        Ok(Presented { reached, unknown: Reason::IdentityUnbound, subject })
    }

    /// Looks up again the holder of the credential that something was handed out to.
    pub(super) async fn find_again(&self, credential: Credential) -> Result<Option<Bearer>, StoreError> {
        match credential {
            Credential::Token(id) => self.core.db.find_bearer_by_id(id).await,
            Credential::Identity { id, until } => {
                let holder = self.core.db.find_holder(id).await?;
                Ok(holder.and_then(|holder| holder.bearer(until)))
            }
        }
    }
}

impl From<IdentityError> for ServiceError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Unavailable { .. } => {
                Self::Unavailable { what: "the identity provider", source: error.into() }
            }
            IdentityError::Refused(_) | IdentityError::Client(_) => Self::internal(error),
        }
    }
}
