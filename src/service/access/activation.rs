//! Activation: a recipient fetches its token itself, by a link that works once.
//!
//! Viewing a link does not use it up, since mail scanners open every link. The token is created when it is fetched,
//! under the audit chain's lock, and appears only in that answer.

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        access::{
            activation::{Activation, ActivationCode, decide_activation},
            decision::{Bearer, Reason},
            geography::{self, Geography},
            limits::span,
            profile::Profile,
            recipient::Recipient,
            token::{BearerToken, Token},
        },
        audit::{
            Actor, Event, Object, Outcome,
            action::{Action, Kind},
            timestamp,
        },
        core::word::Words,
    },
    service::{
        audit::write,
        core::{context::OperatorContext, error::ServiceError, rate_limiter::RateLimits},
        sharing::Caller,
    },
    store::{StoreError, Tx},
};

use super::{Access, tokens};

/// What an activation page shows.
#[derive(Clone, Debug)]
pub struct ActivationOffer {
    /// The data provider's name.
    pub provider: String,
    /// The recipient's display name.
    pub recipient: String,
    /// When the link expires.
    pub expires_at: DateTime<Utc>,
    /// How long the token lives once it is fetched, in seconds.
    pub life_seconds: u64,
    /// Whom to ask for help; empty if the operator names nobody.
    pub support_contact: String,
}

/// A token that was just handed out.
pub struct ActivatedToken {
    /// The profile file for the recipient's connectors; it cannot be shown again.
    pub profile: Profile,
    /// The recipient's name, used as the file's name.
    pub recipient: String,
}

type Found = Option<(Activation, Bearer)>;

impl Access {
    /// Tells what the link with this code offers, without using it up.
    pub async fn view_activation(
        &self,
        caller: &Caller,
        code: &ActivationCode,
    ) -> Result<ActivationOffer, ServiceError> {
        let now = self.core.clock.now();
        self.refuse_flood(caller, Action::ActivationView, now).await?;
        let found = match self.core.db.find_activation(&code.hash()).await? {
            None => None,
            Some(activation) => {
                let bearer = self.core.db.find_bearer_by_id(activation.token_id).await?;
                bearer.map(|bearer| (activation, bearer))
            }
        };
        let geography = self.core.geography(caller.address);
        let event = activation_event(caller, geography, Action::ActivationView, found.as_ref());
        match decide(&found, caller, geography, now) {
            Ok((activation, bearer)) => {
                self.core.audit_writer.record(event).await?;
                Ok(ActivationOffer {
                    provider: self.provider(),
                    recipient: shown_name(&bearer.recipient),
                    expires_at: activation.expires_at,
                    life_seconds: activation.life_seconds,
                    support_contact: self.settings.support_contact.clone(),
                })
            }
            Err(reason) => Err(self.refuse_activation(caller, event, reason, now).await),
        }
    }

    /// Creates the token of the link with this code and returns the profile that holds it. Works once.
    pub async fn activate_token(&self, caller: &Caller, code: &ActivationCode) -> Result<ActivatedToken, ServiceError> {
        let now = self.core.clock.now();
        self.refuse_flood(caller, Action::TokenActivate, now).await?;
        let (hash, geography) = (code.hash(), self.core.geography(caller.address));
        // An unknown code must not make other requests wait for the chain's lock.
        let found = match self.core.db.find_activation(&hash).await? {
            None => None,
            Some(_) => {
                let mut tx = self.core.db.begin().await?;
                tx.lock_audit_head().await?;
                let (found, now) = (find(&mut tx, code).await?, self.core.clock.now());
                if let Ok((activation, bearer)) = decide(&found, caller, geography, now) {
                    let event = activation_event(caller, geography, Action::TokenActivate, found.as_ref());
                    let activated = self.hand_out(&mut tx, event, activation, bearer, now).await?;
                    tx.commit().await?;
                    return Ok(activated);
                }
                found
            }
        };
        let event = activation_event(caller, geography, Action::TokenActivate, found.as_ref());
        let reason = decide(&found, caller, geography, now).err().unwrap_or(Reason::ActivationUnknown);
        Err(self.refuse_activation(caller, event, reason, now).await)
    }

    /// Cancels an unused link and its token.
    pub async fn cancel_activation(
        &self,
        ctx: &OperatorContext,
        recipient: &str,
        id: Uuid,
    ) -> Result<(), ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let recipient = tokens::find_recipient(tx, recipient).await?;
        let token = tokens::find_token(tx, &recipient, id).await?;
        if token.activated_at.is_some() {
            let message = format!("token `{id}` is handed out already; revoke it instead");
            return Err(ServiceError::conflict(message));
        }
        // A link that was cancelled earlier keeps that time.
        if token.revoked_at.is_none() {
            tx.revoke_token(token.id, ctx.now).await?;
            let change = json!({"after": {"revoked_at": timestamp(ctx.now)}});
            let event =
                Event { change: Some(change), ..tokens::event(ctx, Action::ActivationCancel, &recipient, &token) };
            write::append(tx, event, ctx.now).await?;
            unit.commit().await?;
        }
        Ok(())
    }

    /// The address of a link's page.
    pub fn activation_url(&self, code: &ActivationCode) -> String {
        format!("{}/activate/{}", self.public_url, code.reveal())
    }

    /// Revokes tokens that were fetched by a link but not used in time. They are refused in any case; this also ends
    /// them in the records. Several servers may run it at once.
    pub async fn revoke_unused_tokens(&self) -> Result<u64, ServiceError> {
        /// How many tokens one transaction revokes: it holds the chain's lock, so other requests wait.
        const AT_ONCE: u32 = 100;
        let now = self.core.clock.now();
        if self.core.db.list_unused_tokens(now, 1).await?.is_empty() {
            return Ok(0);
        }
        let ctx = OperatorContext::system("unused tokens", now);
        let mut unit = self.core.begin_change(&ctx).await?;
        let (tx, ctx) = unit.parts();
        let mut revoked = 0;
        for token in tx.list_unused_tokens(now, AT_ONCE).await? {
            if let Some(recipient) = tx.find_recipient_by_id(token.recipient_id).await? {
                self.end_token(tx, ctx, &recipient, &token, Some("never used")).await?;
                revoked += 1;
            }
        }
        unit.commit().await?;
        Ok(revoked)
    }

    async fn hand_out(
        &self,
        tx: &mut Tx,
        event: Event,
        activation: &Activation,
        bearer: &Bearer,
        now: DateTime<Utc>,
    ) -> Result<ActivatedToken, ServiceError> {
        let secret = BearerToken::generate();
        let expires_at = now.checked_add_signed(span(activation.life_seconds)).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let unused = self.settings.unused_revoke_seconds;
        let unused_until = (unused > 0).then(|| now.checked_add_signed(span(unused))).flatten();
        tx.activate_token(bearer.token.id, &secret.hash(), now, expires_at, unused_until).await?;
        let change = json!({"after": {
            "expires_at": timestamp(expires_at),
            "unused_until": unused_until.map(timestamp),
            "ends": activation.ends_token_id,
        }});
        let event = Event { change: Some(change), ..event };
        write::append(tx, event, now).await?;
        if let Some(old) = activation.ends_token_id {
            match tx.shorten_token(old, now).await {
                // It expired, or was revoked meanwhile.
                Ok(()) | Err(StoreError::Stale) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(ActivatedToken {
            profile: Profile::new(&self.endpoint(), secret.reveal(), expires_at),
            recipient: bearer.recipient.name.to_string(),
        })
    }

    /// Hears nobody who has failed too often in this minute, right codes included: there is nothing that a person does
    /// so often.
    async fn refuse_flood(&self, caller: &Caller, action: Action, now: DateTime<Utc>) -> Result<(), ServiceError> {
        if self.rate_limiter.activation_is_limited(caller.address, self.activation_limits(), now) {
            let event = activation_event(caller, self.core.geography(caller.address), action, None);
            return Err(self.refuse_activation(caller, event, Reason::TooManyFailures, now).await);
        }
        Ok(())
    }

    /// Records a refusal and returns the error for the caller.
    async fn refuse_activation(
        &self,
        caller: &Caller,
        mut event: Event,
        reason: Reason,
        now: DateTime<Utc>,
    ) -> ServiceError {
        self.core.metrics.decided(event.action.as_str(), Outcome::Deny.as_str(), reason.code());
        event.decision = Outcome::Deny;
        event.reason = Some(reason.code().into());
        let noted = self.rate_limiter.activation_failed(caller.address, &event, self.activation_limits(), now);
        self.core.audit_writer.record_all_later(noted.summaries);
        if noted.is_recorded
            && let Err(unavailable) = self.core.audit_writer.record(event).await
        {
            return unavailable;
        }
        if noted.is_limited {
            return too_many(now);
        }
        ServiceError::Denied { reason, message: message(reason, caller) }
    }

    fn activation_limits(&self) -> RateLimits {
        RateLimits {
            recorded: self.settings.failures_recorded_per_minute,
            answered: self.settings.activation_failures_per_minute,
        }
    }

    /// The data provider's name from the settings, or the server's host if there is none.
    fn provider(&self) -> String {
        let named = self.settings.provider_name.trim();
        if !named.is_empty() {
            return named.to_owned();
        }
        let host = url::Url::parse(&self.public_url).ok().and_then(|url| url.host_str().map(str::to_owned));
        host.unwrap_or_else(|| self.public_url.to_string())
    }
}

async fn find(tx: &mut Tx, code: &ActivationCode) -> Result<Found, StoreError> {
    let Some(activation) = tx.find_activation(&code.hash()).await? else { return Ok(None) };
    let bearer = tx.find_bearer_by_id(activation.token_id).await?;
    Ok(bearer.map(|bearer| (activation, bearer)))
}

fn decide<'a>(
    found: &'a Found,
    caller: &Caller,
    geography: Geography,
    now: DateTime<Utc>,
) -> Result<(&'a Activation, &'a Bearer), Reason> {
    let found = found.as_ref().map(|(activation, bearer)| (activation, bearer));
    decide_activation(found, caller.address, geography, now)?;
    found.ok_or(Reason::ActivationUnknown)
}

fn shown_name(recipient: &Recipient) -> String {
    recipient.spec.display_name.clone().unwrap_or_else(|| recipient.name.to_string())
}

/// An event about a link. Whoever holds one is not authenticated, so that the actor is nobody; the recipient is the
/// one that the link was made for.
fn activation_event(
    caller: &Caller,
    geography: Geography,
    action: Action,
    found: Option<&(Activation, Bearer)>,
) -> Event {
    let mut event = Event::new(Actor::ANONYMOUS, action);
    event.request_id = Some(caller.request_id.clone());
    event.personal = caller.personal(geography);
    if let Some((_, Bearer { token, recipient, .. })) = found {
        let Token { id, credential, .. } = token;
        event.object = Some(Object { kind: Kind::Token, id: Some(*id), name: Some(credential.clone()) });
        event.token_id = Some(*id);
        event.recipient = Some(recipient.name.to_string());
        event.recipient_id = Some(recipient.id);
    }
    event
}

fn too_many(now: DateTime<Utc>) -> ServiceError {
    ServiceError::Limited {
        message: "too many failed attempts from this address; wait a minute, then check the link".to_owned(),
        retry_after_seconds: Reason::TooManyFailures.retry_after_seconds(now),
    }
}

fn message(reason: Reason, caller: &Caller) -> String {
    match reason {
        Reason::ActivationUsed => {
            "this link has been used: the profile was downloaded with it; if that was not you, tell the data provider \
             at once, and otherwise ask for a new link"
        }
        Reason::ActivationCancelled => "this link was cancelled; ask the data provider for a new one",
        Reason::ActivationExpired => "this link has expired; ask the data provider for a new one",
        Reason::Frozen => "the data provider has paused all sharing; try again later or ask the data provider",
        Reason::RecipientSuspended => {
            "the data provider has suspended this recipient's access; ask the data provider to resume it"
        }
        Reason::RecipientOffboarded => {
            "this recipient's access has ended for good; ask the data provider for a new agreement"
        }
        Reason::AddressNotAllowed => {
            return format!(
                "requests from the address {} are not allowed; use an allowed network or ask the data provider to add \
                 it",
                caller.address.to_canonical()
            );
        }
        Reason::GeoDenied(seen) => return geography::refusal(seen),
        _ => "there is no such link; check that it was copied whole, or ask the data provider for a new one",
    }
    .to_owned()
}
