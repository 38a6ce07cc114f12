//! Signing in to the admin API: who presents a token or a JWT, whether it holds what the route needs, and the same again
//! under the audit trail's lock before anything changes.
//!
//! Never here: what operators are made of, which is `operators`, nor on which thing somebody acts, which each use case
//! decides with the thing in hand ([`OperatorContext::require`]).

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    config::{GovernanceSettings, OperatorSettings, OperatorSignInSettings},
    domain::{
        access::{decision::Reason, token::BearerToken},
        audit::{
            Actor, ActorKind, Event, Object, Outcome,
            action::{Action, Kind},
        },
        core::{name::is_invisible, secret::Secret, word::AsWritten},
        operators::{
            BOOTSTRAP, Operator, OperatorBearer, OperatorReason, Permission, Role, decide_operator,
            group::{Group, Member},
            identity::id_of,
            principal::{self, Binding, Lack, Principal, Separation, Thing},
        },
    },
    identity::{IdentityError, Refused, Side, Verified},
    service::core::{
        context::{Asked, Credential, EventFlag, OperatorContext},
        error::ServiceError,
        rate_limiter::{self, CountedRefusal},
    },
    store::Tx,
};

use super::{Operators, groups, identities::Seen, refusals::refusal};

/// The action of events that tell what an operator read.
const READ: Action = Action::AdminRead;
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
    /// Whether running the server and reading its data are kept apart.
    pub separation: Separation,
}

impl SignIn {
    /// Sign-in by tokens, and by the bootstrap token where there is one.
    pub fn new(bootstrap_token: Option<&Secret>, settings: OperatorSettings, governance: &GovernanceSettings) -> Self {
        let bootstrap = bootstrap_token.map(|token| digest(token.expose()));
        Self { bootstrap, settings, separation: governance.separation }
    }

    fn is_bootstrap(&self, token: &str) -> bool {
        // Digests all have one length, and comparing them tells nothing about the token.
        self.bootstrap.is_some_and(|bootstrap| bootstrap.ct_eq(&digest(token)).into())
    }

    /// The bootstrap token is for whoever makes the first admin.
    fn decide_bootstrap(&self, has_admin: bool) -> Result<Vec<Binding>, OperatorReason> {
        if has_admin && !self.settings.keep_bootstrap_token {
            return Err(OperatorReason::BootstrapRetired);
        }
        Ok(vec![Binding::everywhere(Role::Admin.into())])
    }

    /// Who has these roles.
    fn principal(&self, bindings: Vec<Binding>) -> Principal {
        Principal { bindings, separation: self.separation }
    }
}

impl SignIn {
    /// Decides again, inside the transaction of a change: an operator that was disabled, demoted or deleted, or whose
    /// token ended, changes nothing any more. Answers the actor as it is now, and what it may.
    pub(in crate::service) async fn admit_again(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        now: DateTime<Utc>,
    ) -> Result<(Actor, Principal), ServiceError> {
        let (actor, bindings) = match ctx.credential {
            Credential::System => return Ok((ctx.actor.clone(), ctx.principal.clone())),
            Credential::Bootstrap => (ctx.actor.clone(), self.decide_bootstrap(tx.has_admin(None, now).await?)),
            Credential::Identity { role, expires_at } => {
                let id = ctx.actor.id.unwrap_or_default();
                let bindings = by_identity(role, &groups::of_in(tx, Member::Identity(id)).await?);
                let kept = tx.find_operator_identity(id).await?;
                let bindings = if now >= expires_at {
                    Err(OperatorReason::TokenExpired)
                } else if kept.is_some_and(|kept| kept.disabled_at.is_some()) {
                    Err(OperatorReason::Disabled)
                } else {
                    Ok(bindings)
                };
                (ctx.actor.clone(), bindings)
            }
            Credential::Token { id, .. } => {
                let bearer = tx.find_operator_bearer_by_id(id).await?;
                let groups = match &bearer {
                    Some(bearer) => groups::of_in(tx, member_of(bearer)).await?,
                    None => Vec::new(),
                };
                let bindings =
                    decide_operator(bearer.as_ref(), now).and_then(|operator| known(by_operator(operator, &groups)));
                (bearer.map_or(Actor::ANONYMOUS, |bearer| actor_of(&bearer, &groups)), bindings)
            }
        };
        let principal = bindings.map(|bindings| self.principal(bindings));
        let decided = principal.and_then(|principal| {
            decide_route(&principal, ctx.needed)?;
            Ok(principal)
        });
        match decided {
            Ok(principal) => Ok((actor, principal)),
            Err(reason) => Err(refusal(reason, &actor)),
        }
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
            Some(bearer) => groups::of(&self.core.db, member_of(bearer)).await?,
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
        let groups = groups::of(&self.core.db, Member::Identity(id)).await?;
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
        rate_limiter::record(&self.core.audit_writer, noted.summaries);
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

/// The highest-ranking of these roles.
fn strongest<'a>(roles: impl Iterator<Item = &'a AsWritten<Role>>) -> Option<&'a AsWritten<Role>> {
    let rank = |role: &AsWritten<Role>| Role::RANKED.iter().position(|ranked| role.means() == Some(*ranked));
    roles.filter_map(|role| Some((rank(role)?, role))).min_by_key(|(rank, _)| *rank).map(|(_, role)| role)
}

/// Decides whether somebody holds what a route needs, of whatever thing.
fn decide_route(principal: &Principal, needed: Permission) -> Result<(), OperatorReason> {
    if principal.holds(needed) {
        return Ok(());
    }
    let lack = principal::decide(principal, needed, &Thing::EVERYTHING).err().unwrap_or(Lack::Role(needed));
    Err(OperatorReason::Lacks(lack))
}

/// What an operator is, by itself and by its groups.
fn by_operator(operator: &Operator, groups: &[Group]) -> Vec<Binding> {
    operator.spec.all_bindings().into_iter().chain(groups::bindings_of(groups)).collect()
}

/// The bindings, unless all are to roles of a newer server.
fn known(bindings: Vec<Binding>) -> Result<Vec<Binding>, OperatorReason> {
    let is_known = bindings.is_empty() || bindings.iter().any(|binding| binding.role.means().is_some());
    if is_known { Ok(bindings) } else { Err(OperatorReason::RoleUnknown) }
}

/// What somebody is whom an issuer vouches for, by the role that its token names and by its groups.
fn by_identity(role: Option<Role>, groups: &[Group]) -> Vec<Binding> {
    role.map(|role| Binding::everywhere(role.into())).into_iter().chain(groups::bindings_of(groups)).collect()
}

/// Whoever holds a token, as groups name it.
fn member_of(bearer: &OperatorBearer) -> Member<'_> {
    Member::Operator(bearer.operator.name.key())
}

fn actor_of(bearer: &OperatorBearer, groups: &[Group]) -> Actor {
    let OperatorBearer { token, operator } = bearer;
    let bindings = by_operator(operator, groups);
    let Operator { id, name, spec, .. } = operator;
    let role = spec.role.as_ref().or_else(|| strongest(bindings.iter().map(|binding| &binding.role)));
    Actor {
        kind: ActorKind::Operator,
        id: Some(*id),
        name: Some(name.to_string()),
        role: role.cloned(),
        token_id: Some(token.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_in(token: Option<&Secret>, keep_bootstrap_token: bool) -> SignIn {
        let settings = OperatorSettings { keep_bootstrap_token, token_max_seconds: 60, token_default_seconds: 60 };
        SignIn::new(token, settings, &GovernanceSettings::default())
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
        let admin = vec![Binding::everywhere(Role::Admin.into())];
        assert_eq!(decide(false, false), Ok(admin.clone()));
        assert_eq!(decide(false, true), Err(OperatorReason::BootstrapRetired));
        assert_eq!(decide(true, true), Ok(admin));
    }
}
