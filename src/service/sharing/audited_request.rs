//! One request in progress: its caller, its decision, and the event that will record it.
//!
//! It makes forgetting the audit trail impossible: [`AuditedRequest::allow`] and [`AuditedRequest::refuse`] both write,
//! and nothing else ends an attempt.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        access::{
            decision::{Bearer, Facts, Reason, Refusal, ShareAccess, Target, decide, deciding, in_scope},
            geography::{self, Geography},
            grant::{Grant, in_force},
            recipient::Recipient,
            token::BearerToken,
        },
        audit::{
            Actor, ActorKind, Event, Object, Outcome,
            action::{Action, Kind},
        },
        catalog::{
            requirements::Requirements,
            share::{Share, SharedObject},
            table::Table,
        },
        core::{message::echoed, name::Name, nearest::nearest, word::Words},
    },
    service::{
        audit::write::AccessBasis,
        core::{
            error::ServiceError,
            places::Charged,
            rate_limiter::{CountedRefusal, RateLimits, Stream},
        },
    },
    store::StoreError,
};

use super::{
    Caller, RequestedNames, Sharing, TablePath,
    presented::{ISSUER_UNAVAILABLE, Presented},
    table::UNCLASSIFIED,
};

/// How often a running answer checks whether it is still allowed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How many of the names that a caller may list are searched for the one that it meant.
const LOOKED_THROUGH: u32 = 500;
/// The longest name that is echoed to a caller, in characters; of a longer one its beginning is enough to know it by.
const ECHOED: usize = 80;

/// A request in progress.
#[derive(Debug)]
pub(super) struct AuditedRequest<'a> {
    pub(super) service: &'a Sharing,
    pub(super) caller: &'a Caller,
    /// The event that will be written, filled in step by step.
    pub(super) event: Event,
    bearer: Option<Bearer>,
    /// The requested share, until it is decided on.
    access: Option<ShareAccess>,
    /// The requested object in it, until it is taken.
    found: Result<Option<(SharedObject, Table)>, Arc<StoreError>>,
    /// The purposes for which the table of the request may be used; `None` for any.
    allowed_purposes: Option<Vec<String>>,
    /// What the object of the request asks for, if one is read and that was derived.
    requirements: Option<Arc<Requirements>>,
    /// Whether an object is read of which every shown column must have a confirmed class.
    must_be_classified: bool,
    /// Where the caller is.
    geography: Geography,
    /// Why the caller is unknown, if there is no bearer.
    unknown: Reason,
    /// The object that is read and its revision, once it is found.
    object: Option<(Uuid, i64)>,
    /// The time of this request's decision.
    pub(super) now: DateTime<Utc>,
    /// Counts the request among its recipient's running ones, once the recipient is known.
    charged: Option<Charged>,
}

/// The result of an allowing decision, with its access basis.
#[derive(Debug)]
pub(super) struct Granted {
    /// The credential and recipient that read.
    pub(super) bearer: Bearer,
    /// The share, if the request is about one.
    pub(super) share: Option<Share>,
    /// When the access ends by itself.
    pub(super) until: Option<DateTime<Utc>>,
    /// When the allowing grant ends; `None` for a request about the recipient's own things.
    pub(super) grant_until: Option<DateTime<Utc>>,
    /// The access basis that the audit writer decides again.
    pub(super) basis: AccessBasis,
}

impl Granted {
    /// Returns the share that is read; an internal error if the decision was not about a share.
    pub(super) fn share(&self) -> Result<&Share, ServiceError> {
        self.share.as_ref().ok_or_else(|| ServiceError::internal("the decision was about no share"))
    }
}

/// The access basis of a long answer, for deciding again while it runs.
#[derive(Debug)]
pub(super) struct AccessRecheck {
    caller: Caller,
    basis: AccessBasis,
    share: Name,
    looked_at: Instant,
}

impl AccessRecheck {
    /// Checks whether the answer may continue, if [`LOOK_AGAIN`] has passed since the last check.
    pub(super) async fn look_again(&mut self, service: &Sharing) -> Result<(), ServiceError> {
        if self.looked_at.elapsed() >= LOOK_AGAIN {
            self.check(service).await?;
            self.looked_at = Instant::now();
        }
        Ok(())
    }

    /// Decides again with the current facts, and returns the refusal, if any.
    async fn check(&mut self, service: &Sharing) -> Result<(), ServiceError> {
        self.basis.geography = service.core.geography(self.basis.address);
        let ids = self.basis.ids();
        let facts = service.core.db.find_access_facts(&[ids]).await?.remove(&ids);
        let decided = self.basis.decide(facts.as_ref(), service.core.clock.now());
        decided.map(drop).map_err(|reason| {
            let subject = Subject::share(self.share.as_str());
            ServiceError::Denied { reason, message: message(reason, Some(&subject), &self.caller) }
        })
    }
}

impl<'a> AuditedRequest<'a> {
    /// Finds the caller and the requested things, and begins the event of `action`.
    pub(super) async fn begin(
        service: &'a Sharing,
        caller: &'a Caller,
        action: Action,
        asked: RequestedNames<'_>,
    ) -> Result<Self, ServiceError> {
        match service.find_presented(caller, asked, service.core.clock.now()).await? {
            Ok(Presented { reached, unknown, subject }) => {
                let (bearer, access, found) =
                    reached.map_or((None, None, Ok(None)), |reached| (reached.bearer, reached.access, reached.object));
                let mut attempt = Self { access, ..Self::of(service, caller, action, bearer) };
                if let Ok(Some((object, table))) = &found {
                    attempt.reads(object, table);
                }
                attempt.found = found;
                attempt.unknown = unknown;
                attempt.event.personal.subject = subject;
                Ok(attempt)
            }
            Err(error) => {
                let mut attempt = Self::of(service, caller, action, None);
                Err(attempt.refuse_unauthenticated(ISSUER_UNAVAILABLE, error.into()).await)
            }
        }
    }

    /// Begins the event of `action` by a caller who was already looked up.
    pub(super) fn of(service: &'a Sharing, caller: &'a Caller, action: Action, bearer: Option<Bearer>) -> Self {
        let recipient = bearer.as_ref().map(|bearer| &bearer.recipient);
        let mut event = Event::new(
            Actor {
                kind: if recipient.is_some() { ActorKind::Recipient } else { ActorKind::Anonymous },
                id: recipient.map(|recipient| recipient.id),
                name: recipient.map(|recipient| recipient.name.to_string()),
                ..Actor::ANONYMOUS
            },
            action,
        );
        event.request_id = Some(caller.request_id.clone());
        event.recipient = event.actor.name.clone();
        event.recipient_id = event.actor.id;
        event.token_id = bearer.as_ref().map(|bearer| bearer.token.id);
        let geography = service.core.geography(caller.address);
        event.personal = caller.personal(geography);
        let (access, found, object, unknown) = (None, Ok(None), None, Reason::TokenUnknown);
        let (now, charged, allowed_purposes) = (service.core.clock.now(), None, None);
        Self {
            service,
            caller,
            event,
            bearer,
            access,
            found,
            allowed_purposes,
            requirements: None,
            must_be_classified: false,
            geography,
            unknown,
            object,
            now,
            charged,
        }
    }

    /// Has the decision ask for what an object and its table ask for.
    pub(super) fn reads(&mut self, object: &SharedObject, table: &Table) {
        self.allowed_purposes.clone_from(&table.spec.allowed_purposes);
        self.requirements.clone_from(&object.requirements);
        self.must_be_classified = self.service.require_classification;
    }

    /// Decides on a request about the recipient's own things.
    pub(super) async fn decide_own(&mut self) -> Result<Granted, ServiceError> {
        let granted = self.decide(None, Target::Own).await?;
        self.count_request(granted).await
    }

    /// Decides on the requested share and everything under it.
    pub(super) async fn decide_share(&mut self, subject: &Subject<'_>) -> Result<Granted, ServiceError> {
        let access = self.access.take();
        let decided = self.decide_access(access.as_ref(), subject).await;
        match decided {
            Ok(granted) => self.count_request(granted).await,
            Err(error) => {
                // A valid caller's request for an unavailable share counts; an invalid caller uses up nobody's limit.
                if let (ServiceError::Denied { reason, .. }, Some(bearer)) = (&error, &self.bearer)
                    && reason.is_of_share()
                {
                    self.is_within_limit(&bearer.recipient);
                }
                Err(error)
            }
        }
    }

    /// Counts an allowed request, and refuses it if it exceeds its recipient's limit.
    async fn count_request(&mut self, granted: Granted) -> Result<Granted, ServiceError> {
        match self.is_within_limit(&granted.bearer.recipient) {
            true => Ok(granted),
            false => Err(self.refuse(Reason::RequestsPerMinute, None).await),
        }
    }

    /// Counts a request, and returns whether it is within its recipient's limit per minute.
    fn is_within_limit(&self, recipient: &Recipient) -> bool {
        let limit = recipient.spec.limits.requests_per_minute.unwrap_or(self.service.settings.requests_per_minute);
        let (is_within, summaries) = self.service.rate_limiter.request(recipient.id, limit, self.now);
        self.service.core.audit_writer.record_all_later(summaries);
        is_within
    }

    /// Begins a streaming answer, which counts as a stream as long as the returned value lives.
    pub(super) async fn begin_stream(&mut self, granted: &Granted) -> Result<Stream, ServiceError> {
        let recipient = &granted.bearer.recipient;
        let limit = recipient.spec.limits.concurrent_streams.unwrap_or(self.service.settings.concurrent_streams);
        match self.service.rate_limiter.begin_stream(recipient.id, limit) {
            Some(stream) => Ok(stream),
            None => Err(self.refuse(Reason::ConcurrentStreams, None).await),
        }
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
                kind: Kind::Share,
                id: Some(access.share.id),
                name: Some(access.share.name.to_string()),
            });
        } else if let Some(subject) = subject {
            // Names only of what exists: what a caller makes up may be personal, and the trail is for ever.
            self.event.object = Some(Object { kind: subject.kind, id: None, name: None });
        }
        let bearer = self.bearer.take();
        if let Some(bearer) = bearer.as_ref().filter(|_| self.charged.is_none()) {
            self.charged = self.caller.place.charge(bearer.recipient.id);
        }
        let allowed_purposes = self.allowed_purposes.as_deref();
        let (address, geography) = (self.caller.address, self.geography);
        let facts = Facts {
            now: self.now,
            address,
            bearer: bearer.as_ref(),
            target,
            allowed_purposes,
            requirements: self.requirements.as_deref(),
            must_be_classified: self.must_be_classified,
            geography,
        };
        let decision = decide(facts).map(|allowed| (allowed.until(), allowed.grant.cloned()));
        let share = match target {
            Target::Share(Some(access)) => Some(access.share.clone()),
            Target::Share(None) | Target::Own => None,
        };
        match (decision, bearer) {
            (Ok(_), Some(_)) if self.charged.is_none() => Err(self.refuse(Reason::ConcurrentRequests, None).await),
            (Ok((until, grant)), Some(bearer)) => {
                let grant_until = grant.as_ref().map(|grant| grant.until(self.now));
                let grant_id = grant.as_ref().map(|grant| grant.id);
                if let Some(grant) = &grant {
                    self.name_grant(grant);
                }
                let basis = AccessBasis {
                    credential: bearer.credential(),
                    recipient_id: bearer.recipient.id,
                    recipient_revision: bearer.recipient.revision,
                    share_id: share.as_ref().map(|share| share.id),
                    grant_id,
                    until,
                    object: None,
                    address: self.caller.address,
                    must_be_classified: self.must_be_classified,
                    geography,
                    delivered: None,
                };
                Ok(Granted { bearer, share, until, grant_until, basis })
            }
            (Ok(_) | Err(Reason::TokenUnknown), None) => Err(self.refuse(self.unknown, subject).await),
            (Err(reason), bearer) => {
                self.bearer = bearer;
                if let Target::Share(Some(access)) = target
                    && let Some(grant) = deciding(access, self.now).filter(|_| reason.is_of_grant())
                {
                    self.name_grant(grant);
                }
                Err(self.refuse(reason, subject).await)
            }
        }
    }

    /// Names the grant that decided in the event, with what it is for and what it stands on.
    fn name_grant(&mut self, grant: &Grant) {
        self.event.grant_id = Some(grant.id);
        self.event.purpose.clone_from(&grant.purpose);
        self.event.agreement = grant.agreement.as_ref().map(|agreement| agreement.reference.clone());
    }

    /// Takes the object at `path` in the share that was decided on, or refuses the request.
    pub(super) async fn take_object(&mut self, path: &TablePath) -> Result<(SharedObject, Table), ServiceError> {
        match std::mem::replace(&mut self.found, Ok(None))? {
            Some((object, table)) => {
                self.name_object(&object, &table);
                Ok((object, table))
            }
            None => Err(self.refuse(Reason::TableNotFound, Some(&Subject::table(path))).await),
        }
    }

    /// Names `object` in the event, and the registered table that it shows.
    pub(super) fn name_object(&mut self, object: &SharedObject, table: &Table) {
        self.object = Some((object.id, object.revision));
        self.event.schema = Some(object.schema.to_string());
        self.event.table = Some(object.name.to_string());
        self.event.object_id = Some(object.id);
        self.event.table_id = Some(table.id);
        self.event.registered_table = Some(table.name.to_string());
        self.event.object =
            Some(Object { kind: Kind::Object, id: Some(object.id), name: Some(object.name.to_string()) });
    }

    /// Writes the refusal, and returns the error for the caller.
    pub(super) async fn refuse(&mut self, reason: Reason, subject: Option<&Subject<'_>>) -> ServiceError {
        let mut error = refusal(reason, subject, self.caller, self.now);
        match reason.refusal() {
            Refusal::Unauthenticated => self.refuse_unauthenticated(reason.code(), error).await,
            Refusal::NotFound if reason == Reason::FileUnknown => self.refuse_unsealed(reason, error).await,
            Refusal::Limited | Refusal::Forbidden | Refusal::NotFound | Refusal::Gone => {
                let noted = self.note_refusal(reason.code());
                // The search costs more than the refusal, so in a flood only recorded refusals get it.
                if noted.is_recorded
                    && let ServiceError::Denied { message, .. } = &mut error
                    && let Some(meant) = self.meant(reason, subject).await
                {
                    let joint = if message.ends_with('.') { " Did" } else { "; did" };
                    message.push_str(&format!("{joint} you mean '{meant}'?"));
                }
                self.record_noted(noted, error).await
            }
        }
    }

    /// Finds the name that was probably meant instead of a missing one, among those that the caller may list.
    async fn meant(&self, reason: Reason, subject: Option<&Subject<'_>>) -> Option<String> {
        let [share, rest @ ..] = subject?.names.as_slice() else { return None };
        match reason {
            Reason::ShareNotGranted | Reason::TokenOutOfScope => {
                let bearer = self.bearer.as_ref()?;
                let found =
                    self.service.core.db.list_share_access(bearer.recipient.id, None, LOOKED_THROUGH).await.ok()?;
                let readable = found.iter().filter(|access| {
                    in_force(&access.grants, self.now).is_some() && in_scope(&bearer.token, access.share.id)
                });
                let near = nearest(share, readable.map(|access| access.share.name.as_str()))?;
                Some(std::iter::once(near).chain(rest.iter().copied()).collect::<Vec<_>>().join("/"))
            }
            Reason::SchemaNotFound | Reason::TableNotFound => {
                let objects =
                    self.service.core.db.list_objects(self.event.share_id?, None, None, LOOKED_THROUGH).await.ok()?;
                let named = |object: &SharedObject| match rest.len() {
                    1 => object.schema.to_string(),
                    _ => format!("{}/{}", object.schema, object.name),
                };
                let known: Vec<String> = objects.iter().map(|(object, _)| named(object)).collect();
                let near = nearest(&rest.join("/"), known.iter().map(String::as_str))?;
                Some(format!("{}/{near}", Subject::share(share).shown()))
            }
            _ => None,
        }
    }

    /// Refuses a failed authentication. The first of a minute are recorded, and the rest summed up; a flood is answered
    /// 429.
    async fn refuse_unauthenticated(&mut self, code: &'static str, error: ServiceError) -> ServiceError {
        self.deny(code);
        let hash = self.caller.token.as_ref().map(BearerToken::hash);
        let limits = RateLimits::of_failures(&self.service.settings);
        let noted = self.service.rate_limiter.authentication_failed(
            self.caller.address,
            hash.as_ref(),
            &self.event,
            limits,
            self.now,
        );
        let error =
            if noted.is_limited { refusal(Reason::TooManyFailures, None, self.caller, self.now) } else { error };
        self.record_noted(noted, error).await
    }

    /// Refuses a URL that the server did not seal. The first of a minute are recorded.
    async fn refuse_unsealed(&mut self, reason: Reason, error: ServiceError) -> ServiceError {
        self.deny(reason.code());
        let limits = RateLimits::of_failures(&self.service.settings);
        let noted = self.service.rate_limiter.unsealed(self.caller.address, &self.event, limits, self.now);
        self.record_noted(noted, error).await
    }

    async fn record_noted(&mut self, noted: CountedRefusal, error: ServiceError) -> ServiceError {
        self.service.core.audit_writer.record_all_later(noted.summaries);
        if !noted.is_recorded {
            return error;
        }
        match self.service.core.audit_writer.record(self.event.clone()).await {
            Ok(()) => error,
            Err(unavailable) => unavailable,
        }
    }

    fn deny(&mut self, code: &'static str) {
        self.service.core.metrics.decided(self.event.action.as_str(), Outcome::Deny.as_str(), code);
        self.event.decision = Outcome::Deny;
        self.event.reason = Some(code.into());
        (self.event.files, self.event.rows, self.event.bytes) = (None, None, None);
    }

    /// Writes a refusal with `code`, which need not come from the decision (a client may be unable to read the table).
    /// The first refusals of a recipient in a minute are recorded, and the rest summed up.
    pub(super) async fn refuse_with(&mut self, code: &'static str, error: ServiceError) -> ServiceError {
        let noted = self.note_refusal(code);
        self.record_noted(noted, error).await
    }

    fn note_refusal(&mut self, code: &'static str) -> CountedRefusal {
        self.deny(code);
        let limits = RateLimits::of_failures(&self.service.settings);
        match self.event.recipient_id {
            Some(id) => self.service.rate_limiter.recipient_refused(id, &self.event, limits, self.now),
            None => CountedRefusal { is_recorded: true, ..CountedRefusal::default() },
        }
    }

    /// Returns the recheck for a long answer about `granted`.
    pub(super) fn recheck(&self, granted: &Granted) -> Result<AccessRecheck, ServiceError> {
        let share = granted.share()?.name.clone();
        Ok(AccessRecheck { caller: self.caller.clone(), basis: self.basis(granted), share, looked_at: Instant::now() })
    }

    fn basis(&self, granted: &Granted) -> AccessBasis {
        AccessBasis { object: self.object, ..granted.basis.clone() }
    }

    /// Passes on what was prepared for an answer. A failed preparation ends the attempt, and is recorded unless a
    /// refusal was recorded already.
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

    /// Writes the event if its access basis still holds; only then may anything be handed out. Returns the event for
    /// later events about the same answer.
    pub(super) async fn allow(self, granted: &Granted) -> Result<Event, ServiceError> {
        self.pass(granted, true).await
    }

    /// Counts bytes delivered of a file that was announced already, if that is still allowed; writes the event only if
    /// it is not.
    pub(super) async fn count(self, granted: &Granted) -> Result<Event, ServiceError> {
        self.pass(granted, false).await
    }

    async fn pass(mut self, granted: &Granted, is_told: bool) -> Result<Event, ServiceError> {
        let spends = self.spends(granted);
        if let Some((id, revision, bytes)) = spends
            && self.service.rate_limiter.is_spent(id, revision, bytes, self.now)
        {
            return Err(self.refuse(Reason::BytesPerDay, None).await);
        }
        let (trail, event, basis) = (&self.service.core.audit_writer, self.event.clone(), self.basis(granted));
        let outcome = match is_told {
            true => trail.record_allowed(event, basis).await?,
            false => trail.count_allowed(event, basis).await?,
        };
        let code = outcome.err().map_or("", Reason::code);
        if is_told || outcome.is_err() {
            self.service.core.metrics.decided(
                self.event.action.as_str(),
                if outcome.is_ok() { "allow" } else { "deny" },
                code,
            );
        }
        match outcome {
            Ok(()) => Ok(self.event),
            Err(reason) => {
                if let (Reason::BytesPerDay, Some((id, revision, bytes))) = (reason, spends) {
                    self.service.rate_limiter.spent(id, revision, bytes, self.now);
                }
                let share = self.event.share.as_deref().unwrap_or_default();
                Err(refusal(reason, Some(&Subject { kind: Kind::Share, names: vec![share] }), self.caller, self.now))
            }
        }
    }

    /// Returns whose daily bytes this spends, with the recipient's revision and the number of bytes, if the recipient
    /// has such a limit. For a delivered file the id is that of the URL, whose first bytes spend nothing.
    fn spends(&self, granted: &Granted) -> Option<(Uuid, i64, u64)> {
        let recipient = &granted.bearer.recipient;
        recipient.spec.limits.bytes_per_day?;
        if let Some(delivered) = &granted.basis.delivered {
            return Some((Uuid::from_bytes(delivered.url), recipient.revision, delivered.bytes));
        }
        let bytes = self.event.bytes.filter(|bytes| *bytes > 0)?;
        Some((recipient.id, recipient.revision, bytes))
    }
}

/// The subject of a request, for messages that name it.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    kind: Kind,
    names: Vec<&'a str>,
}

impl<'a> Subject<'a> {
    pub(super) fn share(share: &'a str) -> Self {
        Self { kind: Kind::Share, names: vec![share] }
    }

    pub(super) fn schema(share: &'a str, schema: &'a str) -> Self {
        Self { kind: Kind::Schema, names: vec![share, schema] }
    }

    pub(super) fn table(path: &'a TablePath) -> Self {
        Self { kind: Kind::Object, names: vec![&path.share, &path.schema, &path.table] }
    }

    /// Makes the subject of a file behind a sealed URL, which has no names that a caller may see.
    pub(super) fn file() -> Self {
        Self { kind: Kind::File, names: vec![] }
    }

    /// Returns the names as the caller spelt them, each cut to a bounded length.
    fn shown(&self) -> String {
        self.names.iter().map(|name| echoed(name, ECHOED)).collect::<Vec<_>>().join("/")
    }
}

/// Returns the reason code of a request that was allowed but could not be answered.
fn failure_code(error: &ServiceError) -> &'static str {
    match error {
        ServiceError::Denied { reason, .. } => reason.code(),
        ServiceError::Limited { .. } => "LIMITED",
        ServiceError::Unauthenticated { .. }
        | ServiceError::Forbidden { .. }
        | ServiceError::Separation(_)
        | ServiceError::Invalid(_)
        | ServiceError::Unacknowledged(_)
        | ServiceError::AgreementMissing(_)
        | ServiceError::Parameter(_)
        | ServiceError::Malformed(_)
        | ServiceError::Conflict { .. }
        | ServiceError::PreconditionFailed => "REQUEST_INVALID",
        ServiceError::NotFound { .. } => "NOT_FOUND",
        ServiceError::Expired(_) => "EXPIRED",
        ServiceError::Unsupported(_) => "NOT_SUPPORTED",
        ServiceError::Unreadable { .. } => "TABLE_UNREADABLE",
        ServiceError::NotReady(_) => "PREPARING",
        ServiceError::Unavailable { .. } => "UNAVAILABLE",
        ServiceError::Internal(_) => "INTERNAL",
    }
}

/// Makes the error for a refused caller.
fn refusal(reason: Reason, subject: Option<&Subject<'_>>, caller: &Caller, now: DateTime<Utc>) -> ServiceError {
    let message = message(reason, subject, caller);
    match reason.refusal() {
        Refusal::Limited => ServiceError::Limited { message, retry_after_seconds: reason.retry_after_seconds(now) },
        _ => ServiceError::Denied { reason, message },
    }
}

/// Returns the message for a refused caller. Below a share that was never granted, every message is that of a name that
/// does not exist; below one whose grant ended, all messages are alike.
fn message(reason: Reason, subject: Option<&Subject<'_>>, caller: &Caller) -> String {
    let share = subject.and_then(|subject| subject.names.first().copied()).unwrap_or_default();
    match reason {
        Reason::TooManyFailures => {
            "too many failed attempts from this address or with this token; wait a minute, then check the profile file"
                .to_owned()
        }
        Reason::RequestsPerMinute => {
            "this recipient has sent as many requests as it may in a minute; wait, or ask the data provider for more"
                .to_owned()
        }
        Reason::ConcurrentRequests => {
            "as many requests of this recipient are being answered as may at once; wait, and send fewer at once"
                .to_owned()
        }
        Reason::ConcurrentStreams => {
            "as many answers are streaming to this recipient as may at once; wait, or ask the data provider for more"
                .to_owned()
        }
        Reason::BytesPerDay => {
            "this would be more data than this recipient may read in a day; wait until tomorrow (UTC), or ask the data \
             provider for more"
                .to_owned()
        }
        Reason::AccessChanged => {
            "what this answer stands on was changed while it was prepared; send the request again".to_owned()
        }
        Reason::TokenUnknown
        | Reason::TokenPending
        | Reason::TokenRevoked
        | Reason::TokenExpired
        | Reason::TokenUnused => {
            "the bearer token is missing, unknown, expired or revoked; ask the data provider for a new profile file"
                .to_owned()
        }
        Reason::IdentityInvalid | Reason::IdentityExpired => {
            "the access token is expired, malformed, or not meant for this server; get a new one from the identity \
             provider, and check the profile file's token endpoint, client and scope"
                .to_owned()
        }
        Reason::IdentityUnbound => {
            "the access token belongs to nobody whom the data provider knows; tell the data provider the client that it \
             was issued to"
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
        Reason::AgreementInactive => {
            "the agreement that access stands on is not in force: it is suspended, terminated, or not yet active; ask the data \
             provider"
                .to_owned()
        }
        Reason::PurposeNotAllowed => {
            "this data may not be used for the purpose that access was granted for; ask the data provider which purposes the \
             agreement allows"
                .to_owned()
        }
        Reason::AgreementMissing => {
            "this data may be read only under a contract that your access does not stand on; ask the data provider which one \
             it needs"
                .to_owned()
        }
        Reason::UnclassifiedColumn => UNCLASSIFIED.to_owned(),
        Reason::RawNotAllowed => {
            "the data provider no longer shares data of this kind in this way; ask the data provider for a view of it"
                .to_owned()
        }
        Reason::GeoDenied(seen) => geography::refusal(seen),
        Reason::FileUnknown => "no such file; query the table again or ask the data provider".to_owned(),
        Reason::ActivationUnknown
        | Reason::ActivationUsed
        | Reason::ActivationCancelled
        | Reason::ActivationExpired
        | Reason::ShareNotGranted
        | Reason::TokenOutOfScope
        | Reason::SchemaNotFound
        | Reason::TableNotFound => match subject {
            Some(subject) if subject.kind == Kind::Object => format!(
                "[Share/Schema/Table] '{}' does not exist, please contact your share provider for further \
                     information.",
                subject.shown()
            ),
            Some(subject) if subject.kind == Kind::File => {
                "this file is not shared any more; query the table again or ask the data provider".to_owned()
            }
            Some(subject) => {
                format!("{} '{}' not found; check the name or ask the data provider", subject.kind, subject.shown())
            }
            None => "not found; ask the data provider".to_owned(),
        },
    }
}
