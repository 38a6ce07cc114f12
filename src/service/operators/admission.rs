//! Who is let in to the admin API, and on what record: by a token, a JWT of the operators' issuer, or the bootstrap token.
//!
//! Never here: what they may, which [`super::sign_in`] says before the work and again under the audit trail's lock.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::{
    config::OperatorSignInSettings,
    domain::{
        access::{decision::Reason, token::BearerToken},
        audit::{
            Actor, ActorKind, Event, Object, Outcome,
            action::{Action, Kind},
        },
        core::{name::is_invisible, word::AsWritten},
        operators::{
            BOOTSTRAP, OperatorReason, Role, decide_operator, group::Member, identity::id_of, principal::Principal,
        },
    },
    identity::{IdentityError, Refused, Side, Verified},
    service::core::{
        context::{Asked, Credential, EventFlag, OperatorContext},
        error::ServiceError,
        rate_limiter::CountedRefusal,
    },
};

use super::{
    Operators,
    identities::Seen,
    membership,
    refusals::refusal,
    sign_in::{actor_of, by_identity, by_operator, decide_route, known, member_of, strongest},
};

/// The action of events that tell what an operator read.
const READ: Action = Action::AdminRead;
/// The longest name of an operator, in characters.
const LONGEST_NAME: usize = 255;
/// The most characters of a path that are stored; more than any name has.
const LONGEST_PATH: usize = 1_000;

/// The result of looking up a presented token.
struct Presented {
    /// The operator that it belongs to, even if it has ended.
    actor: Actor,
    admitted: Result<(Principal, Credential), OperatorReason>,
}

impl Operators {
    /// Admits the holder of `token` to the route, or records the refusal.
    pub async fn admit_operator(&self, token: Option<&str>, asked: &Asked) -> Result<OperatorContext, ServiceError> {
        let now = self.core.clock.now();
        let Presented { actor, admitted } = self.look_up_operator(token, asked, now).await?;
        let (principal, credential) = match admitted {
            Ok(admitted) => admitted,
            Err(reason) => {
                self.record_failed_authentication(&actor, asked, reason, now).await?;
                return Err(refusal(reason, &actor));
            }
        };
        if let Err(reason) = decide_route(&principal, asked.needed) {
            self.record_refusal(&actor, asked, reason.code().to_owned()).await?;
            return Err(refusal(reason, &actor));
        }
        Ok(OperatorContext {
            actor,
            principal,
            credential,
            needed: asked.needed,
            request_id: Some(asked.request_id.clone()),
            personal: asked.personal.clone(),
            now,
            run: asked.run,
            idempotency: None,
            event_flag: EventFlag::default(),
        })
    }

    async fn look_up_operator(
        &self,
        token: Option<&str>,
        asked: &Asked,
        now: DateTime<Utc>,
    ) -> Result<Presented, ServiceError> {
        let Some(token) = token else {
            return Ok(Presented { actor: Actor::ANONYMOUS, admitted: Err(OperatorReason::TokenUnknown) });
        };
        if self.core.sign_in.is_bootstrap(token) {
            let has_admin = self.core.db.has_admin(None, now).await?;
            let admitted = self.core.sign_in.decide_bootstrap(has_admin);
            let admitted = admitted.map(|bindings| (self.core.sign_in.principal(bindings), Credential::Bootstrap));
            if has_admin && admitted.is_ok() {
                tracing::warn!(
                    "the bootstrap token is used though an admin can sign in; unset WEIR_BOOTSTRAP_TOKEN, or \
                     operators.keep_bootstrap_token"
                );
            }
            let (name, role) = (Some(BOOTSTRAP.to_owned()), Some(Role::Admin.into()));
            let actor = Actor { kind: ActorKind::Operator, name, role, ..Actor::ANONYMOUS };
            return Ok(Presented { actor, admitted });
        }
        if self.identities.may_be_token(token) {
            // Its issuer may have to be asked for its keys first.
            return Ok(match asked.place.aside(self.identities.verify(token, Side::Operators, now)).await {
                Ok(verified) => self.identified(&verified, asked, now).await?,
                Err(error) => {
                    tracing::warn!(error = %error, "an operator's JWT is refused");
                    let reason = match error {
                        IdentityError::Refused(Refused::Expired) => OperatorReason::TokenExpired,
                        IdentityError::Refused(_) => OperatorReason::IdentityInvalid,
                        IdentityError::Unavailable { .. } | IdentityError::Client(_) => {
                            OperatorReason::IssuerUnavailable
                        }
                    };
                    Presented { actor: Actor::ANONYMOUS, admitted: Err(reason) }
                }
            });
        }
        let bearer = self.core.db.find_operator_bearer(&BearerToken::presented(token).hash()).await?;
        let groups = match &bearer {
            Some(bearer) => membership::of(&self.core.db, member_of(bearer)).await?,
            None => Vec::new(),
        };
        let admitted = decide_operator(bearer.as_ref(), now).and_then(|operator| known(by_operator(operator, &groups)));
        Ok(match bearer {
            None => Presented { actor: Actor::ANONYMOUS, admitted: Err(OperatorReason::TokenUnknown) },
            Some(bearer) => {
                let credential = Credential::Token { id: bearer.token.id, expires_at: bearer.token.expires_at };
                let admitted = admitted.map(|bindings| (self.core.sign_in.principal(bindings), credential));
                Presented { actor: actor_of(&bearer, &groups), admitted }
            }
        })
    }

    /// Who an operator is by a JWT of the operators' issuer. Subjects are the issuer's own; the identity under which one
    /// is recorded is made of both. Whoever is let in is kept, and no longer let in once it is disabled.
    async fn identified(
        &self,
        verified: &Verified,
        asked: &Asked,
        now: DateTime<Utc>,
    ) -> Result<Presented, ServiceError> {
        let OperatorSignInSettings { role_claim, name_claim, roles, .. } = self.identities.operators();
        let Verified { issuer, claims, until, .. } = verified;
        let Some(subject) = claims.text("sub") else {
            return Ok(Presented { actor: Actor::ANONYMOUS, admitted: Err(OperatorReason::IdentityInvalid) });
        };
        let role = strongest(claims.texts(role_claim).filter_map(|value| roles.get(value)));
        let id = id_of(issuer, subject);
        let groups = membership::of(&self.core.db, Member::Identity(id)).await?;
        let bindings = by_identity(role.and_then(AsWritten::means), &groups);
        let is_shown = |c: &char| !c.is_control() && !is_invisible(*c);
        let name = claims.text(name_claim).unwrap_or(subject).chars().filter(is_shown).take(LONGEST_NAME);
        let actor = Actor {
            kind: ActorKind::Operator,
            id: Some(id),
            name: Some(name.collect()),
            role: role.or_else(|| strongest(bindings.iter().map(|binding| &binding.role))).cloned(),
            token_id: None,
        };
        if bindings.is_empty() {
            return Ok(Presented { actor, admitted: Err(OperatorReason::IdentityWithoutRole) });
        }
        let kept = self.keep_identity(&actor, Seen { issuer, subject }, asked, now).await?;
        let admitted = kept.map(|()| {
            let role = role.and_then(AsWritten::means);
            (self.core.sign_in.principal(bindings), Credential::Identity { role, expires_at: *until })
        });
        Ok(Presented { actor, admitted })
    }

    /// Records a request without a valid credential. In a flood, the first of each minute are recorded and the rest
    /// summed up in one event. A caller that continues is told to slow down.
    async fn record_failed_authentication(
        &self,
        actor: &Actor,
        asked: &Asked,
        reason: OperatorReason,
        now: DateTime<Utc>,
    ) -> Result<(), ServiceError> {
        let mut event = route_event(actor, asked, Action::AuthFailed);
        event.decision = Outcome::Deny;
        event.reason = Some(reason.code().into());
        let address = event.personal.client_address.as_deref().and_then(|address| address.parse().ok());
        let address = address.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let noted = self.rate_limiter.authentication_failed(address, None, &event, self.failure_limits, now);
        let is_limited = noted.is_limited;
        self.record_noted(noted, event).await?;
        if is_limited {
            return Err(ServiceError::Limited {
                message: "too many failed attempts from this address; wait a minute, then check the token".to_owned(),
                retry_after_seconds: Reason::TooManyFailures.retry_after_seconds(now),
            });
        }
        Ok(())
    }

    /// Records that an operator's request was refused for `reason`, a stable code. Floods are summed up as above.
    pub async fn record_refusal(&self, actor: &Actor, asked: &Asked, reason: String) -> Result<(), ServiceError> {
        let mut event = Event {
            decision: Outcome::Deny,
            reason: Some(reason.into()),
            change: Some(json!({"method": asked.method})),
            ..route_event(actor, asked, if asked.reads { READ } else { Action::AdminChange })
        };
        // The path may be anything the caller made up, so it is stored where it can be erased.
        event.personal.path = Some(asked.path.chars().take(LONGEST_PATH).collect());
        let (operator, limits) = (actor.id.unwrap_or_default(), self.failure_limits);
        let noted = self.rate_limiter.operator_refused(operator, &event, limits, self.core.clock.now());
        self.record_noted(noted, event).await
    }

    async fn record_noted(&self, noted: CountedRefusal, event: Event) -> Result<(), ServiceError> {
        self.core.audit_writer.record_all_later(noted.summaries);
        if noted.is_recorded { self.core.audit_writer.record(event).await } else { Ok(()) }
    }

    /// Records that an operator read something.
    pub async fn record_reading(&self, actor: &Actor, asked: &Asked) -> Result<(), ServiceError> {
        self.core.audit_writer.record(route_event(actor, asked, READ)).await
    }
}

fn route_event(actor: &Actor, asked: &Asked, action: Action) -> Event {
    Event {
        object: Some(Object { kind: Kind::Route, id: None, name: Some(asked.route.clone()) }),
        request_id: Some(asked.request_id.clone()),
        personal: asked.personal.clone(),
        ..Event::new(actor.clone(), action)
    }
}
