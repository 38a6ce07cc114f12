//! Signing in to the admin API: who presents a token or a JWT, whether it holds what the route needs, and the same again
//! under the audit trail's lock before anything changes.
//!
//! Never here: what operators are made of, which is `operators`, nor on which thing somebody acts, which each use case
//! decides with the thing in hand ([`OperatorContext::require`]).

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    config::{GovernanceSettings, OperatorSettings},
    domain::{
        audit::{Actor, ActorKind},
        core::{secret::Secret, word::AsWritten},
        operators::{
            Operator, OperatorBearer, OperatorReason, Permission, Role, decide_operator,
            group::{Group, Member},
            principal::{self, Binding, Lack, Principal, Separation, Thing},
        },
    },
    service::core::{
        context::{Credential, OperatorContext},
        error::ServiceError,
    },
    store::Tx,
};

use super::{membership, refusals::refusal};

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

    pub(super) fn is_bootstrap(&self, token: &str) -> bool {
        // Digests all have one length, and comparing them tells nothing about the token.
        self.bootstrap.is_some_and(|bootstrap| bootstrap.ct_eq(&digest(token)).into())
    }

    /// The bootstrap token is for whoever makes the first admin.
    pub(super) fn decide_bootstrap(&self, has_admin: bool) -> Result<Vec<Binding>, OperatorReason> {
        if has_admin && !self.settings.keep_bootstrap_token {
            return Err(OperatorReason::BootstrapRetired);
        }
        Ok(vec![Binding::everywhere(Role::Admin.into())])
    }

    /// Who has these roles.
    pub(super) fn principal(&self, bindings: Vec<Binding>) -> Principal {
        Principal { bindings, separation: self.separation }
    }

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
                let bindings = by_identity(role, &membership::of_in(tx, Member::Identity(id)).await?);
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
                    Some(bearer) => membership::of_in(tx, member_of(bearer)).await?,
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

/// Decides whether somebody holds what a route needs, of whatever thing.
pub(super) fn decide_route(principal: &Principal, needed: Permission) -> Result<(), OperatorReason> {
    if principal.holds(needed) {
        return Ok(());
    }
    let lack = principal::decide(principal, needed, &Thing::EVERYTHING).err().unwrap_or(Lack::Role(needed));
    Err(OperatorReason::Lacks(lack))
}

/// What an operator is, by itself and by its groups.
pub(super) fn by_operator(operator: &Operator, groups: &[Group]) -> Vec<Binding> {
    operator.spec.all_bindings().into_iter().chain(membership::bindings_of(groups)).collect()
}

/// The bindings, unless all are to roles of a newer server.
pub(super) fn known(bindings: Vec<Binding>) -> Result<Vec<Binding>, OperatorReason> {
    let is_known = bindings.is_empty() || bindings.iter().any(|binding| binding.role.means().is_some());
    if is_known { Ok(bindings) } else { Err(OperatorReason::RoleUnknown) }
}

/// What somebody is whom an issuer vouches for, by the role that its token names and by its groups.
pub(super) fn by_identity(role: Option<Role>, groups: &[Group]) -> Vec<Binding> {
    role.map(|role| Binding::everywhere(role.into())).into_iter().chain(membership::bindings_of(groups)).collect()
}

/// Whoever holds a token, as groups name it.
pub(super) fn member_of(bearer: &OperatorBearer) -> Member<'_> {
    Member::Operator(bearer.operator.name.key())
}

pub(super) fn actor_of(bearer: &OperatorBearer, groups: &[Group]) -> Actor {
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

/// The highest-ranking of these roles.
pub(super) fn strongest<'a>(roles: impl Iterator<Item = &'a AsWritten<Role>>) -> Option<&'a AsWritten<Role>> {
    let rank = |role: &AsWritten<Role>| Role::RANKED.iter().position(|ranked| role.means() == Some(*ranked));
    roles.filter_map(|role| Some((rank(role)?, role))).min_by_key(|(rank, _)| *rank).map(|(_, role)| role)
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
