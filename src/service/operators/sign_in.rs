//! Authenticates operators at the admin API by token or JWT and checks that their role has the route's permission, and
//! again under the audit chain's lock before a change.
//!
//! Never here: operators and their tokens as such, which are in `operators`.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{
    config::{OperatorSettings, OperatorSignInSettings},
    domain::{
        access::{decision::Reason, token::BearerToken},
        audit::{Actor, ActorKind, Event, Object, Outcome, Personal},
        core::{name::is_invisible, secret::Secret},
        operators::{
            BOOTSTRAP, Operator, OperatorBearer, OperatorReason, Permission, Role, decide_operator, decide_role,
        },
    },
    identity::{IdentityError, Refused, Side, Verified},
    service::{
        Service,
        core::{
            context::{EventFlag, OperatorContext, Run},
            error::ServiceError,
            places::Place,
            rate_limiter::{self, CountedRefusal},
        },
    },
    store::Tx,
};

/// The action of events that record what an operator read.
const READ: &str = "admin.read";
/// The longest name of an operator, in characters.
const LONGEST_NAME: usize = 255;
/// The most characters of a path that are stored; more than any name has.
const LONGEST_PATH: usize = 1_000;

/// How operators sign in.
#[derive(Clone)]
pub struct SignIn {
    /// The SHA-256 of the bootstrap token, if there is one.
    bootstrap: Option<[u8; 32]>,
    /// The settings of operator tokens.
    pub settings: OperatorSettings,
}

impl SignIn {
    /// Creates a sign-in by tokens, and by the bootstrap token if there is one.
    pub fn new(bootstrap_token: Option<&Secret>, settings: OperatorSettings) -> Self {
        Self { bootstrap: bootstrap_token.map(|token| digest(token.expose())), settings }
    }

    fn is_bootstrap(&self, token: &str) -> bool {
        // Digests all have one length, and comparing them tells nothing about the token.
        self.bootstrap.is_some_and(|bootstrap| bootstrap.ct_eq(&digest(token)).into())
    }

    /// Admits the bootstrap token until there is an admin, or always if the settings keep it.
    fn decide_bootstrap(&self, has_admin: bool) -> Result<Role, OperatorReason> {
        if has_admin && !self.settings.keep_bootstrap_token {
            return Err(OperatorReason::BootstrapRetired);
        }
        Ok(Role::Admin)
    }
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The credential that an operator presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The server itself, or its command line on the database.
    System,
    /// The bootstrap token.
    Bootstrap,
    /// An operator's token.
    Token {
        /// The token's id.
        id: Uuid,
        /// When it expires.
        expires_at: DateTime<Utc>,
    },
    /// A JWT of the operators' issuer.
    Identity {
        /// The role that its claims give.
        role: Role,
        /// When it expires.
        expires_at: DateTime<Utc>,
    },
}

/// A request to the admin API.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The route's template.
    pub route: String,
    /// The request's method, or a placeholder for an unknown one.
    pub method: String,
    /// The request's path, which contains names and ids but no secrets.
    pub path: String,
    /// Whether the route changes nothing.
    pub reads: bool,
    /// Whether this is a dry run.
    pub run: Run,
    /// The permission that the route needs.
    pub needed: Permission,
    /// The request's id.
    pub request_id: String,
    /// The personal data of the request.
    pub personal: Personal,
    /// The request's place among the requests in progress.
    pub place: Place,
}

/// The result of looking up a presented token.
struct Presented {
    /// The operator that it belongs to, even if it has ended.
    actor: Actor,
    admitted: Result<(Role, Credential), OperatorReason>,
}

impl Service {
    /// Admits the holder of `token` to the route, or records the refusal.
    pub async fn admit_operator(&self, token: Option<&str>, asked: &Asked) -> Result<OperatorContext, ServiceError> {
        let now = self.clock.now();
        let Presented { actor, admitted } = self.look_up_operator(token, &asked.place, now).await?;
        let (role, credential) = match admitted {
            Ok(admitted) => admitted,
            Err(reason) => {
                self.record_failed_authentication(&actor, asked, reason, now).await?;
                return Err(refusal(reason, &actor));
            }
        };
        if let Err(reason) = decide_role(role, asked.needed) {
            self.record_refusal(&actor, asked, reason.code().to_owned()).await?;
            return Err(refusal(reason, &actor));
        }
        Ok(OperatorContext {
            actor,
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

    /// Decides again inside a change's transaction: an operator that was disabled, demoted or deleted, or whose token
    /// ended, can no longer change anything. Returns the actor as it is now.
    pub(in crate::service) async fn admit_again(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        now: DateTime<Utc>,
    ) -> Result<Actor, ServiceError> {
        let (actor, role) = match ctx.credential {
            Credential::System => return Ok(ctx.actor.clone()),
            Credential::Bootstrap => (ctx.actor.clone(), self.sign_in.decide_bootstrap(tx.has_admin(None, now).await?)),
            Credential::Identity { role, expires_at } => {
                let role = if now < expires_at { Ok(role) } else { Err(OperatorReason::TokenExpired) };
                (ctx.actor.clone(), role)
            }
            Credential::Token { id, .. } => {
                let bearer = tx.find_operator_bearer_by_id(id).await?;
                let role = decide_operator(bearer.as_ref(), now).map(|operator| operator.spec.role);
                (bearer.map_or(Actor::ANONYMOUS, |bearer| actor_of(&bearer)), role)
            }
        };
        match role.and_then(|role| decide_role(role, ctx.needed)) {
            Ok(()) => Ok(actor),
            Err(reason) => Err(refusal(reason, &actor)),
        }
    }

    async fn look_up_operator(
        &self,
        token: Option<&str>,
        place: &Place,
        now: DateTime<Utc>,
    ) -> Result<Presented, ServiceError> {
        let Some(token) = token else {
            return Ok(Presented { actor: Actor::ANONYMOUS, admitted: Err(OperatorReason::TokenUnknown) });
        };
        if self.sign_in.is_bootstrap(token) {
            let has_admin = self.db.has_admin(None, now).await?;
            let admitted = self.sign_in.decide_bootstrap(has_admin).map(|role| (role, Credential::Bootstrap));
            if has_admin && admitted.is_ok() {
                tracing::warn!(
                    "the bootstrap token is used though an admin can sign in; unset WEIR_BOOTSTRAP_TOKEN, or \
                     operators.keep_bootstrap_token"
                );
            }
            let (name, role) = (Some(BOOTSTRAP.to_owned()), Some(Role::Admin));
            let actor = Actor { kind: ActorKind::Operator, name, role, ..Actor::ANONYMOUS };
            return Ok(Presented { actor, admitted });
        }
        if self.identities.may_be_token(token) {
            // The issuer may have to be asked for its keys first.
            return Ok(match place.aside(self.identities.verify(token, Side::Operators, now)).await {
                Ok(verified) => self.identified(&verified),
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
        let bearer = self.db.find_operator_bearer(&BearerToken::presented(token).hash()).await?;
        let admitted = decide_operator(bearer.as_ref(), now).map(|operator| operator.spec.role);
        Ok(match bearer {
            None => Presented { actor: Actor::ANONYMOUS, admitted: Err(OperatorReason::TokenUnknown) },
            Some(bearer) => {
                let credential = Credential::Token { id: bearer.token.id, expires_at: bearer.token.expires_at };
                Presented { actor: actor_of(&bearer), admitted: admitted.map(|role| (role, credential)) }
            }
        })
    }

    /// Identifies an operator by a verified JWT of the operators' issuer. A subject is unique only at its issuer, so
    /// the recorded id is derived from both.
    fn identified(&self, verified: &Verified) -> Presented {
        let OperatorSignInSettings { role_claim, name_claim, roles, .. } = self.identities.operators();
        let Verified { issuer, claims, until, .. } = verified;
        let Some(subject) = claims.text("sub") else {
            return Presented { actor: Actor::ANONYMOUS, admitted: Err(OperatorReason::IdentityInvalid) };
        };
        let named: Vec<Role> = claims.texts(role_claim).filter_map(|value| roles.get(value).copied()).collect();
        let role = Role::ALL.into_iter().find(|role| named.contains(role));
        let is_shown = |c: &char| !c.is_control() && !is_invisible(*c);
        let name = claims.text(name_claim).unwrap_or(subject).chars().filter(is_shown).take(LONGEST_NAME);
        let actor = Actor {
            kind: ActorKind::Operator,
            id: Some(Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{issuer}#{subject}").as_bytes())),
            name: Some(name.collect()),
            role,
            token_id: None,
        };
        let admitted = role.map(|role| (role, Credential::Identity { role, expires_at: *until }));
        Presented { actor, admitted: admitted.ok_or(OperatorReason::IdentityWithoutRole) }
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
        let mut event = route_event(actor, asked, "auth.failed");
        event.decision = Outcome::Deny;
        event.reason = Some(reason.code().into());
        let address = event.personal.client_address.as_deref().and_then(|address| address.parse().ok());
        let address = address.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let noted = self.rate_limiter.authentication_failed(address, None, &event, self.failure_limits(), now);
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
            ..route_event(actor, asked, if asked.reads { READ } else { "admin.change" })
        };
        // The path may be anything the caller made up, so it is stored where it can be erased.
        event.personal.path = Some(asked.path.chars().take(LONGEST_PATH).collect());
        let (operator, limits) = (actor.id.unwrap_or_default(), self.failure_limits());
        let noted = self.rate_limiter.operator_refused(operator, &event, limits, self.clock.now());
        self.record_noted(noted, event).await
    }

    async fn record_noted(&self, noted: CountedRefusal, event: Event) -> Result<(), ServiceError> {
        rate_limiter::record(&self.audit_writer, noted.summaries);
        if noted.is_recorded { self.audit_writer.record(event).await } else { Ok(()) }
    }

    /// Records that an operator read something.
    pub async fn record_reading(&self, actor: &Actor, asked: &Asked) -> Result<(), ServiceError> {
        self.audit_writer.record(route_event(actor, asked, READ)).await
    }
}

fn route_event(actor: &Actor, asked: &Asked, action: &'static str) -> Event {
    Event {
        object: Some(Object { kind: "route".into(), id: None, name: Some(asked.route.clone()) }),
        request_id: Some(asked.request_id.clone()),
        personal: asked.personal.clone(),
        ..Event::new(actor.clone(), action)
    }
}

fn actor_of(OperatorBearer { token, operator }: &OperatorBearer) -> Actor {
    let Operator { id, name, spec, .. } = operator;
    Actor {
        kind: ActorKind::Operator,
        id: Some(*id),
        name: Some(name.to_string()),
        role: Some(spec.role),
        token_id: Some(token.id),
    }
}

/// Builds the answer for a refusal. Unknown, expired and revoked tokens get the same one.
fn refusal(reason: OperatorReason, actor: &Actor) -> ServiceError {
    let unauthenticated = |message: &str| ServiceError::Unauthenticated { message: message.to_owned() };
    match reason {
        OperatorReason::TokenUnknown | OperatorReason::TokenExpired | OperatorReason::TokenRevoked => {
            unauthenticated("send `Authorization: Bearer <operator token>` with a token that is valid")
        }
        OperatorReason::Disabled => unauthenticated("this operator is disabled; ask an admin to enable it"),
        OperatorReason::IdentityInvalid => {
            unauthenticated("send a token that the operators' issuer made out to this server's operators")
        }
        OperatorReason::IdentityWithoutRole => ServiceError::Forbidden {
            message: "the token names no role that the settings know (`identity.operators.roles`); ask an admin"
                .to_owned(),
        },
        OperatorReason::IssuerUnavailable => {
            ServiceError::Unavailable { what: "the identity provider", source: "its keys cannot be had".into() }
        }
        OperatorReason::BootstrapRetired => unauthenticated(
            "the bootstrap token has retired, because an admin can sign in; use an operator's token, made with \
             `weir operator create` or by an admin",
        ),
        OperatorReason::RoleLacks(needed) => {
            let roles: Vec<String> = needed.roles().iter().map(|role| format!("`{}`", role.as_str())).collect();
            let name = actor.name.as_deref().unwrap_or_default();
            let role = actor.role.map_or("", Role::as_str);
            let roles = roles.join(" or ");
            ServiceError::Forbidden {
                message: format!("this needs the role {roles}, and `{name}` is `{role}`; ask somebody who has it"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_in(token: Option<&Secret>, keep_bootstrap_token: bool) -> SignIn {
        let settings = OperatorSettings { keep_bootstrap_token, token_max_seconds: 60, token_default_seconds: 60 };
        SignIn::new(token, settings)
    }

    #[test]
    fn only_the_bootstrap_token_is_the_bootstrap_token_and_nothing_is_without_one() {
        let token = Secret::new("0123456789abcdef0123456789abcdef");
        let with = sign_in(Some(&token), false);
        assert!(with.is_bootstrap(token.expose()));
        assert!(!with.is_bootstrap("0123456789abcdef0123456789abcdeF"));
        assert!(!with.is_bootstrap(""));
        assert!(!sign_in(None, false).is_bootstrap(""));
    }

    #[test]
    fn the_bootstrap_token_retires_with_the_first_admin_unless_it_is_kept() {
        let decide = |keep, has_admin| sign_in(None, keep).decide_bootstrap(has_admin);
        assert_eq!(decide(false, false), Ok(Role::Admin));
        assert_eq!(decide(false, true), Err(OperatorReason::BootstrapRetired));
        assert_eq!(decide(true, true), Ok(Role::Admin));
    }
}
