//! Takes what a contract system tells of agreements, by messages that it has signed: each once, and by the events' own times.
//!
//! Never here: what an event means for an agreement, which `domain::access::hook` says, nor how an agreement is moved, which
//! `agreements` does for operators and for this alike.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    domain::{
        access::{
            decision::Reason,
            geography::Geography,
            hook::{AGREEMENTS, Envelope, EventOrder, HookEvent, HookOutcome, HookReason, Verdict, judge},
        },
        audit::{
            Actor, Event, Object, Outcome,
            action::{Action, Kind},
            timestamp,
        },
        core::{message::echoed, word::Words},
        insight::webhook::is_signed,
    },
    service::{
        audit::write,
        core::{context::OperatorContext, error::ServiceError, rate_limiter::RateLimits},
        sharing::Caller,
    },
    store::StoredHookEvent,
};

use super::{
    Access,
    agreements::{Because, KnownAgreement, move_in},
    grant_agreements::find_agreement,
};

/// The route of the contract system, as audit events name it.
const ROUTE: &str = "/hooks/agreements";
/// How much of an unknown name is repeated, in characters.
const LONGEST_ECHO: usize = 100;
/// How long messages are remembered. Senders repeat them for days.
const REMEMBERED: TimeDelta = TimeDelta::days(30);

impl Access {
    /// Whether a contract system is heard; without a secret, nothing of its hook is there.
    pub fn hears_contract_system(&self) -> bool {
        !self.agreement_secrets.is_empty()
    }

    /// Refuses, before its body is read, a message from an address that has failed too often, and one whose headers cannot be
    /// those of a fresh message.
    pub async fn admit_agreement_event(&self, caller: &Caller, envelope: &Envelope) -> Result<(), ServiceError> {
        let now = self.core.clock.now();
        if self.rate_limiter.hook_is_limited(caller.address, self.hook_limits(), now) {
            return Err(self.refuse_signature(caller, Reason::TooManyFailures.code(), now).await);
        }
        match envelope.signed_at(now) {
            Ok(_) => Ok(()),
            Err(reason) => Err(self.refuse_signature(caller, reason.code(), now).await),
        }
    }

    /// Takes a message of the contract system. A message that was taken before is answered as it was then.
    pub async fn take_agreement_event(
        &self,
        caller: &Caller,
        envelope: &Envelope,
        body: &[u8],
    ) -> Result<HookOutcome, ServiceError> {
        let now = self.core.clock.now();
        let signed_at = match envelope.signed_at(now) {
            Ok(at) if is_signed(&self.agreement_secrets, &envelope.id, at, body, &envelope.signatures) => Ok(at),
            Ok(_) => Err(HookReason::SignatureInvalid),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = signed_at {
            return Err(self.refuse_signature(caller, reason.code(), now).await);
        }
        let body_digest: [u8; 32] = Sha256::digest(body).into();
        if let Some(known) = self.core.db.find_hook_event(AGREEMENTS, &envelope.id).await? {
            return answered_before(known, body_digest);
        }
        let event = HookEvent::read(body, now).map_err(ServiceError::Invalid)?;
        let ctx = OperatorContext::hook(AGREEMENTS, &caller.request_id, caller.personal(Geography::default()), now);
        let mut unit = self.core.begin_change(&ctx).await?;
        let (tx, ctx) = unit.parts();
        if let Some(known) = tx.find_hook_event(AGREEMENTS, &envelope.id).await? {
            return answered_before(known, body_digest);
        }
        let Some((agreement, kept)) = find_agreement(tx, &event.agreement).await? else {
            let unknown = Event::new(ctx.actor.clone(), event.step.action());
            drop(unit);
            self.record_hook_refusal(caller, unknown, HookReason::AgreementUnknown.code(), now).await?;
            return Err(ServiceError::NotFound { kind: "agreement", name: echoed(&event.agreement, LONGEST_ECHO) });
        };
        let order = tx.find_event_order(agreement.id).await?;
        let verdict = judge(&event, &kept.terms, order, ctx.now);
        let origin = json!({"id": envelope.id, "occurred_at": timestamp(event.occurred_at)});
        let (known, why) = match verdict {
            Verdict::Moves(to) => {
                let because = Because { reason: &event.reason, event: Some(origin) };
                (move_in(tx, ctx, agreement, &kept, (event.step, to), because).await?, None)
            }
            Verdict::Stays | Verdict::Outdated(_) | Verdict::NotAllowed => {
                let known = KnownAgreement::new(agreement, Some(kept.clone()));
                let shown = known.shown_state(ctx.now);
                let (reason, why) = match verdict {
                    Verdict::Outdated(newest) => {
                        let newest = timestamp(newest);
                        let why =
                            format!("it is `{shown}`, and what is known of it is of {newest}, which is not older");
                        (Some(HookReason::EventOutdated), why)
                    }
                    Verdict::NotAllowed => {
                        let why = format!("it is `{shown}`, so it cannot be {}", event.step.as_str());
                        (Some(HookReason::StepNotAllowed), why)
                    }
                    _ => (None, format!("it is `{shown}` already")),
                };
                if let Some(reason) = reason {
                    let refused = Event {
                        decision: Outcome::Deny,
                        reason: Some(reason.code().into()),
                        change: Some(json!({"reason": event.reason, "event": origin})),
                        agreement: Some(known.agreement.name.to_string()),
                        recipient: Some(known.agreement.spec.recipient.clone()),
                        recipient_id: Some(kept.recipient_id),
                        ..ctx.event(event.step.action(), known.object())
                    };
                    write::append(tx, refused, ctx.now).await?;
                    self.core.metrics.decided(event.step.action().as_str(), Outcome::Deny.as_str(), reason.code());
                }
                (known, Some(why))
            }
        };
        let moved_at = if why.is_none() { Some(ctx.now) } else { order.moved_at };
        let after = EventOrder { newest: verdict.newest(&event, order), moved_at };
        if why.is_none() || after != order {
            tx.update_event_order(known.agreement.id, after).await?;
        }
        let outcome =
            HookOutcome { agreement: known.agreement.name.to_string(), state: known.shown_state(ctx.now), why };
        let id = envelope.id.clone();
        let taken = StoredHookEvent { id, body_digest, received_at: ctx.now, outcome: outcome.clone() };
        tx.insert_hook_event(AGREEMENTS, &taken).await?;
        unit.commit().await?;
        Ok(outcome)
    }

    /// Forgets messages that no sender repeats any more. Several servers may run it at once.
    pub async fn forget_hook_events(&self) -> Result<(), ServiceError> {
        let before = self.core.clock.now() - REMEMBERED;
        if !self.core.db.has_hook_events_before(before).await? {
            return Ok(());
        }
        let mut tx = self.core.db.begin().await?;
        tx.delete_hook_events(before).await?;
        Ok(tx.commit().await?)
    }

    /// Records a message that nobody is known to have signed, and returns the error for its sender.
    async fn refuse_signature(&self, caller: &Caller, code: &'static str, now: DateTime<Utc>) -> ServiceError {
        let object = Object { kind: Kind::Route, id: None, name: Some(ROUTE.to_owned()) };
        let event = Event { object: Some(object), ..Event::new(Actor::ANONYMOUS, Action::AuthFailed) };
        let refused = ServiceError::Unauthenticated {
            message:
                "the message is not signed with a secret that is known here, or was not signed within five minutes \
                      of now; sign `webhook-id.webhook-timestamp.body` anew, and check secret and clock"
                    .to_owned(),
        };
        self.record_hook_refusal(caller, event, code, now).await.err().unwrap_or(refused)
    }

    /// Records a refused message, of a flood its sum; the error is for a sender that has to slow down, or for an outage.
    async fn record_hook_refusal(
        &self,
        caller: &Caller,
        event: Event,
        code: &'static str,
        now: DateTime<Utc>,
    ) -> Result<(), ServiceError> {
        let event = Event {
            decision: Outcome::Deny,
            reason: Some(code.into()),
            request_id: Some(caller.request_id.clone()),
            personal: caller.personal(Geography::default()),
            ..event
        };
        self.core.metrics.decided(event.action.as_str(), Outcome::Deny.as_str(), code);
        let noted = self.rate_limiter.hook_refused(caller.address, &event, self.hook_limits(), now);
        self.core.audit_writer.record_all_later(noted.summaries);
        if noted.is_recorded {
            self.core.audit_writer.record(event).await?;
        }
        match noted.is_limited {
            true => Err(ServiceError::Limited {
                message: "too many refused messages from this address; wait a minute, then check the secret".to_owned(),
                retry_after_seconds: Reason::TooManyFailures.retry_after_seconds(now),
            }),
            false => Ok(()),
        }
    }

    fn hook_limits(&self) -> RateLimits {
        RateLimits::of_failures(&self.settings)
    }
}

/// What a message with this id was answered before, if it is the same message.
fn answered_before(known: StoredHookEvent, body_digest: [u8; 32]) -> Result<HookOutcome, ServiceError> {
    if known.body_digest == body_digest {
        return Ok(known.outcome);
    }
    Err(ServiceError::conflict("another message with this webhook-id was taken before; give every message its own id"))
}
