//! The context of an operator's request: the first argument of every use case for operators.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    domain::{
        audit::{Actor, ActorKind, Event, Object, Personal, action::Action},
        operators::{
            OperatorReason, Permission, Role,
            principal::{self, Principal, Thing},
        },
    },
    service::operators::refusals::refusal,
};

use super::{error::ServiceError, places::Place};

/// The parts of an operator's request that use cases need.
#[derive(Clone, Debug)]
pub struct OperatorContext {
    /// The acting operator or server.
    pub actor: Actor,
    /// What it may.
    pub principal: Principal,
    /// What shows that it is the actor; looked at again before anything changes.
    pub credential: Credential,
    /// The permission that the route requires.
    pub needed: Permission,
    /// The request's id, if there is a request.
    pub request_id: Option<String>,
    /// The personal data of the request, for the audit trail only.
    pub personal: Personal,
    /// The time of the request; for a change, the time at which its transaction begins.
    pub now: DateTime<Utc>,
    /// Whether the request is carried out or only rehearsed.
    pub run: Run,
    /// Makes a repeated creation answer with the result of the first.
    pub idempotency: Option<IdempotencyKey>,
    /// Whether the request has led to an event.
    pub event_flag: EventFlag,
}

/// The credential that an operator presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The server itself, its command line on the database, or a hook whose signature was verified.
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
        /// The role that it names, if any; its groups may have some.
        role: Option<Role>,
        /// When it ends.
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

/// A caller's `Idempotency-Key` with the digest of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub(super) key: String,
    /// The digest of the route and the body.
    pub(super) request_digest: [u8; 32],
}

impl IdempotencyKey {
    /// Makes the key `key`, sent to `route` with the request `body`.
    pub fn new(key: &str, route: &str, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [route.as_bytes(), body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self { key: key.to_owned(), request_digest: hash.finalize().into() }
    }
}

/// Whether a change is made or only rehearsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Run {
    /// The change is made.
    #[default]
    Real,
    /// A dry run: everything is done except storing the result.
    Dry,
}

/// Whether a request has led to its own event; shared by the copies of its context.
#[derive(Clone, Debug, Default)]
pub struct EventFlag(Arc<AtomicBool>);

impl EventFlag {
    /// Returns whether the request has led to an event.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl OperatorContext {
    /// Makes the context of the server acting by itself, for example when it makes its demo.
    pub fn system(name: &str, now: DateTime<Utc>) -> Self {
        Self {
            actor: Actor::system(name),
            principal: Principal::server(),
            credential: Credential::System,
            needed: Permission::SignIn,
            request_id: None,
            personal: Personal::default(),
            now,
            run: Run::Real,
            idempotency: None,
            event_flag: EventFlag::default(),
        }
    }

    /// Makes the context of another system, acting as `name` by a message that it has signed.
    pub(in crate::service) fn hook(name: &str, request_id: &str, personal: Personal, now: DateTime<Utc>) -> Self {
        let actor = Actor { kind: ActorKind::Hook, ..Actor::system(name) };
        Self { actor, request_id: Some(request_id.to_owned()), personal, ..Self::system(name, now) }
    }

    /// Whether the operator may do something to a thing.
    pub(in crate::service) fn may(&self, permission: Permission, thing: &Thing) -> bool {
        principal::may(&self.principal, permission, thing)
    }

    /// Refuses what the operator may not do to a thing. What is not there is asked for by its name all the same, so that
    /// nobody learns what there is.
    pub(in crate::service) fn require(&self, permission: Permission, thing: &Thing) -> Result<(), ServiceError> {
        let decided = principal::decide(&self.principal, permission, thing);
        decided.map_err(|lack| refusal(OperatorReason::Lacks(lack), &self.actor))
    }

    /// Refuses to move a thing between domains, unless the operator may share what is in either: by its domain a thing
    /// comes under other people's roles. A role that counts for the thing by its name is not enough.
    pub(in crate::service) fn require_moving(&self, from: &Thing, to: &Thing) -> Result<(), ServiceError> {
        let (from, to) = (from.domain_alone(), to.domain_alone());
        if from == to {
            return Ok(());
        }
        self.require(Permission::ManageSharing, &from)?;
        self.require(Permission::ManageSharing, &to)
    }

    /// Refuses what the operator may do to none of these things.
    pub(in crate::service) fn require_any(
        &self,
        permission: Permission,
        things: [&Thing; 2],
    ) -> Result<(), ServiceError> {
        let [one, other] = things;
        if self.may(permission, one) { Ok(()) } else { self.require(permission, other) }
    }

    /// Whether messages may name what the operator did not ask for.
    pub fn sees_everything(&self) -> bool {
        self.principal.sees_everything()
    }

    /// Whether nothing is to be kept of what is asked.
    pub fn is_dry(&self) -> bool {
        self.run == Run::Dry
    }

    /// Returns the operator's name, which grants and their endings record.
    pub fn operator_name(&self) -> String {
        self.actor.name.clone().unwrap_or_default()
    }

    /// Returns the operator's identity for idempotency keys: its id if it has one, because another operator may get its
    /// name later.
    pub(in crate::service) fn operator_key(&self) -> String {
        self.actor.id.map_or_else(|| self.operator_name(), |id| id.to_string())
    }

    /// An event of `action` on `object` by this actor.
    pub(in crate::service) fn event(&self, action: Action, object: Object) -> Event {
        // The event of a dry run is not kept, so that another one tells that the operator asked.
        self.event_flag.0.store(!self.is_dry(), Ordering::Relaxed);
        Event {
            object: Some(object),
            request_id: self.request_id.clone(),
            personal: self.personal.clone(),
            ..Event::new(self.actor.clone(), action)
        }
    }
}
