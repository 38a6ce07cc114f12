//! One request on its way: who asks, what is decided, and the event that will tell of it.
//!
//! Whoever goes this way cannot forget the audit trail: [`Attempt::allow`] and [`Attempt::refuse`] both write, and
//! nothing else ends an attempt.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::{Caller, TablePath};
use crate::{
    domain::{
        audit::{Actor, ActorKind, Event, Object, Outcome, Personal},
        decision::{Bearer, Facts, Reason, ShareAccess, Target, decide},
        name::name_key,
        share::{Share, SharedObject},
        table::Table,
    },
    service::{Service, error::ServiceError, trail::Standing},
};

/// The longest name that is echoed to a caller, in characters.
const ECHOED: usize = 255;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) service: &'a Service,
    pub(super) caller: &'a Caller,
    /// The event that will be written, filled in on the way.
    pub(super) event: Event,
    bearer: Option<Bearer>,
    /// The time that this request is decided at.
    pub(super) now: DateTime<Utc>,
}

/// What a decision found, and what it stands on.
#[derive(Debug)]
pub(super) struct Granted {
    /// Who reads.
    pub(super) bearer: Bearer,
    /// The share that is read, if one is.
    pub(super) share: Option<Share>,
    /// When what this stands on ends by itself.
    pub(super) until: Option<DateTime<Utc>>,
    /// What the audit trail looks at again.
    pub(super) standing: Standing,
}

impl Granted {
    /// The share that is read; an internal error where the decision was about none.
    pub(super) fn share(&self) -> Result<&Share, ServiceError> {
        self.share.as_ref().ok_or_else(|| ServiceError::internal("the decision was about no share"))
    }
}

impl<'a> Attempt<'a> {
    /// Finds the caller, and begins the event of `action`.
    pub(super) async fn begin(
        service: &'a Service,
        caller: &'a Caller,
        action: &'static str,
    ) -> Result<Self, ServiceError> {
        let bearer = match &caller.token {
            Some(token) => service.db.find_bearer(&token.hash()).await?,
            None => None,
        };
        Ok(Self::of(service, caller, action, bearer))
    }

    /// Begins the event of `action` by a caller who was already looked up.
    pub(super) fn of(service: &'a Service, caller: &'a Caller, action: &'static str, bearer: Option<Bearer>) -> Self {
        let recipient = bearer.as_ref().map(|bearer| &bearer.recipient);
        let mut event = Event::new(
            Actor {
                kind: if recipient.is_some() { ActorKind::Recipient } else { ActorKind::Anonymous },
                id: recipient.map(|recipient| recipient.id),
                name: recipient.map(|recipient| recipient.name.to_string()),
            },
            action,
        );
        event.request_id = Some(caller.request_id.clone());
        event.recipient = event.actor.name.clone();
        event.recipient_id = event.actor.id;
        event.token_id = bearer.as_ref().map(|bearer| bearer.token.id);
        event.personal =
            Personal { client_address: Some(caller.address.to_string()), user_agent: caller.user_agent.clone() };
        Self { service, caller, event, bearer, now: service.clock.now() }
    }

    /// Decides on something of the recipient's own.
    pub(super) async fn decide_own(&mut self) -> Result<Granted, ServiceError> {
        self.decide(None, Target::Own).await
    }

    /// Decides on a share and anything under it.
    pub(super) async fn decide_share(&mut self, share: &str, subject: &Subject<'_>) -> Result<Granted, ServiceError> {
        let access = match &self.bearer {
            Some(bearer) => self.service.db.find_share_access(bearer.recipient.id, &name_key(share)).await?,
            None => None,
        };
        self.decide_access(access.as_ref(), subject).await
    }

    /// Decides on a share that was already looked up.
    pub(super) async fn decide_access(
        &mut self,
        access: Option<&ShareAccess>,
        subject: &Subject<'_>,
    ) -> Result<Granted, ServiceError> {
        self.decide(Some(subject), Target::Share(access)).await
    }

    async fn decide(&mut self, subject: Option<&Subject<'_>>, target: Target<'_>) -> Result<Granted, ServiceError> {
        if let Target::Share(Some(access)) = target {
            self.event.share = Some(access.share.name.to_string());
            self.event.share_id = Some(access.share.id);
            self.event.object = Some(Object {
                kind: Cow::Borrowed("share"),
                id: Some(access.share.id),
                name: Some(access.share.name.to_string()),
            });
        } else if let Some(subject) = subject {
            self.event.object = Some(Object { kind: subject.kind.into(), id: None, name: Some(subject.shown()) });
        }
        let bearer = self.bearer.take();
        let facts = Facts { now: self.now, address: self.caller.address, bearer: bearer.as_ref(), target };
        let decision = decide(facts).map(|allowed| (allowed.until(), allowed.grant.cloned()));
        let share = match target {
            Target::Share(Some(access)) => Some(access.share.clone()),
            Target::Share(None) | Target::Own => None,
        };
        match (decision, bearer) {
            (Ok((until, grant)), Some(bearer)) => {
                if let Some(grant) = grant {
                    self.event.grant_id = Some(grant.id);
                    self.event.purpose = grant.purpose;
                    self.event.agreement = grant.agreement.map(|agreement| agreement.reference);
                }
                let standing = Standing {
                    token_id: bearer.token.id,
                    recipient_id: bearer.recipient.id,
                    share_id: share.as_ref().map(|share| share.id),
                    address: self.caller.address,
                };
                Ok(Granted { bearer, share, until, standing })
            }
            (Ok(_), None) => Err(self.refuse(Reason::TokenUnknown, subject).await),
            (Err(reason), _) => Err(self.refuse(reason, subject).await),
        }
    }

    /// Finds the object that `path` names inside the share that was decided on.
    pub(super) async fn find_object(
        &mut self,
        granted: &Granted,
        path: &TablePath,
    ) -> Result<(SharedObject, Table), ServiceError> {
        let (schema, table) = (name_key(&path.schema), name_key(&path.table));
        match self.service.db.find_object(granted.share()?.id, &schema, &table).await? {
            Some((object, table)) => {
                self.name_object(&object);
                Ok((object, table))
            }
            None => Err(self.refuse(Reason::TableNotFound, Some(&Subject::table(path))).await),
        }
    }

    /// Names `object` in the event.
    pub(super) fn name_object(&mut self, object: &SharedObject) {
        self.event.schema = Some(object.schema.to_string());
        self.event.table = Some(object.name.to_string());
        self.event.table_id = Some(object.id);
        self.event.object =
            Some(Object { kind: "table".into(), id: Some(object.id), name: Some(object.name.to_string()) });
    }

    /// Writes the refusal, and answers what the caller is told.
    pub(super) async fn refuse(&mut self, reason: Reason, subject: Option<&Subject<'_>>) -> ServiceError {
        let message = message(reason, subject, self.caller);
        self.refuse_with(reason.code(), ServiceError::Denied { reason, message }).await
    }

    /// Writes a refusal that is not the decision's own, such as a client that cannot read the table.
    pub(super) async fn refuse_with(&mut self, code: &'static str, error: ServiceError) -> ServiceError {
        self.service.metrics.decided(Outcome::Deny.as_str(), code);
        self.event.decision = Outcome::Deny;
        self.event.reason = Some(code.into());
        (self.event.files, self.event.rows, self.event.bytes) = (None, None, None);
        match self.service.trail.record(self.event.clone()).await {
            Ok(()) => error,
            Err(unavailable) => unavailable,
        }
    }

    /// Passes on what was prepared for an answer. What could not be prepared ends the attempt, and is recorded unless
    /// the decision itself was.
    pub(super) async fn settle<T>(&mut self, prepared: Result<T, ServiceError>) -> Result<T, ServiceError> {
        match prepared {
            Ok(prepared) => Ok(prepared),
            Err(error) if self.event.decision == Outcome::Deny => Err(error),
            Err(error) => {
                self.event.url_expires_at = None;
                Err(self.refuse_with(failure_code(&error), error).await)
            }
        }
    }

    /// Writes the event if what it stands on is still alive; only then may anything be handed out. Answers the event
    /// as it was written, for those that follow it.
    pub(super) async fn allow(self, granted: &Granted) -> Result<Event, ServiceError> {
        let outcome = self.service.trail.record_allowed(self.event.clone(), granted.standing.clone()).await?;
        let code = outcome.err().map_or("", Reason::code);
        self.service.metrics.decided(if outcome.is_ok() { "allow" } else { "deny" }, code);
        match outcome {
            Ok(()) => Ok(self.event),
            Err(reason) => {
                let share = self.event.share.as_deref().unwrap_or_default();
                let message = message(reason, Some(&Subject { kind: "share", names: vec![share] }), self.caller);
                Err(ServiceError::Denied { reason, message })
            }
        }
    }
}

/// What a request is about, for the messages that name it.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    kind: &'static str,
    names: Vec<&'a str>,
}

impl<'a> Subject<'a> {
    pub(super) fn share(share: &'a str) -> Self {
        Self { kind: "share", names: vec![share] }
    }

    pub(super) fn schema(share: &'a str, schema: &'a str) -> Self {
        Self { kind: "schema", names: vec![share, schema] }
    }

    pub(super) fn table(path: &'a TablePath) -> Self {
        Self { kind: "table", names: vec![&path.share, &path.schema, &path.table] }
    }

    /// A file behind a sealed URL, which names nothing that a caller may see.
    pub(super) fn file() -> Self {
        Self { kind: "file", names: vec![] }
    }

    /// The names as the caller spelt them, cut to a length that is worth echoing.
    fn shown(&self) -> String {
        let joined = self.names.join("/");
        joined.chars().filter(|c| !c.is_control()).take(ECHOED * 3).collect()
    }
}

/// The reason code of a request that was allowed and could not be answered all the same.
fn failure_code(error: &ServiceError) -> &'static str {
    match error {
        ServiceError::Denied { reason, .. } => reason.code(),
        ServiceError::Unauthenticated
        | ServiceError::Invalid(_)
        | ServiceError::Parameter(_)
        | ServiceError::Malformed(_)
        | ServiceError::Conflict { .. }
        | ServiceError::PreconditionFailed => "REQUEST_INVALID",
        ServiceError::NotFound { .. } => "NOT_FOUND",
        ServiceError::Expired(_) => "EXPIRED",
        ServiceError::Unsupported(_) => "NOT_SUPPORTED",
        ServiceError::Unreadable { .. } => "TABLE_UNREADABLE",
        ServiceError::Unavailable { .. } => "UNAVAILABLE",
        ServiceError::Internal(_) => "INTERNAL",
    }
}

/// What the caller is told. Below a share that was never granted everything reads like a name that does not exist;
/// below one whose grant ended everything reads alike.
fn message(reason: Reason, subject: Option<&Subject<'_>>, caller: &Caller) -> String {
    let share = subject.and_then(|subject| subject.names.first().copied()).unwrap_or_default();
    match reason {
        Reason::TokenUnknown | Reason::TokenPending | Reason::TokenRevoked | Reason::TokenExpired => {
            "the bearer token is missing, unknown, expired or revoked; ask the data provider for a new profile file"
                .to_owned()
        }
        Reason::Frozen => {
            "the data provider has paused all sharing; try again later or ask the data provider".to_owned()
        }
        Reason::RecipientSuspended => {
            "the data provider has suspended this recipient's access; ask the data provider to resume it".to_owned()
        }
        Reason::RecipientOffboarded => {
            "this recipient's access has ended for good; ask the data provider for a new agreement".to_owned()
        }
        Reason::AddressNotAllowed => format!(
            "requests from the address {} are not allowed; use an allowed network or ask the data provider to add it",
            caller.address.to_canonical()
        ),
        Reason::GrantRevoked | Reason::GrantExpired if share.is_empty() => {
            "access to this share has ended; ask the data provider to renew it".to_owned()
        }
        Reason::GrantRevoked | Reason::GrantExpired => {
            format!("access to share '{}' has ended; ask the data provider to renew it", Subject::share(share).shown())
        }
        Reason::AgreementEnded => {
            "the agreement that access stands on has ended; ask the data provider to renew it".to_owned()
        }
        Reason::ShareNotGranted | Reason::TokenOutOfScope | Reason::SchemaNotFound | Reason::TableNotFound => {
            match subject {
                Some(subject) if subject.kind == "table" => format!(
                    "[Share/Schema/Table] '{}' does not exist, please contact your share provider for further \
                     information.",
                    subject.shown()
                ),
                Some(subject) if subject.kind == "file" => {
                    "this file is not shared any more; query the table again or ask the data provider".to_owned()
                }
                Some(subject) => {
                    format!("{} '{}' not found; check the name or ask the data provider", subject.kind, subject.shown())
                }
                None => "not found; ask the data provider".to_owned(),
            }
        }
    }
}
