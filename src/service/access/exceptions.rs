//! Proposes exceptions, has a second operator approve them, and ends them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        access::exception::{
            Exception, ExceptionObject, ExceptionObjectKind, ExceptionSpec, ExceptionState, ExceptionStatus,
            ExceptionTarget,
        },
        audit::{
            Event, Object,
            action::{Action, Kind},
        },
        core::{
            declared::Plain,
            name::{Name, name_key},
            spec::{Effect, FieldError, effects},
            word::Words,
        },
    },
    service::{
        access::Access,
        audit::write,
        core::{
            change::{Named, Put},
            context::OperatorContext,
            declared::{InUse, find},
            error::ServiceError,
            page::{Page, PageRequest},
            precondition::Precondition,
            unit::ChangeUnit,
        },
    },
    store::Tx,
};

/// An exception with its status.
#[derive(Clone, Debug)]
pub struct KnownException {
    /// The exception.
    pub exception: Exception,
    /// The state that people are shown.
    pub state: String,
    /// Since when somebody has brought it to its state; time alone leads to `expired`.
    pub state_since: DateTime<Utc>,
    /// Who proposed it, or changed it last so that it allows more.
    pub proposed_by: String,
    /// Who approved it.
    pub approved_by: Option<String>,
}

impl KnownException {
    fn new(exception: Exception, status: ExceptionStatus, now: DateTime<Utc>) -> Self {
        Self {
            exception,
            state: status.shown_state(now).to_owned(),
            state_since: status.state_since,
            proposed_by: status.proposed_by,
            approved_by: status.approved_by,
        }
    }
}

impl InUse for ExceptionSpec {
    async fn users(tx: &mut Tx, ctx: &OperatorContext, exception: &Exception) -> Result<Vec<String>, ServiceError> {
        let status = tx.find_exception_statuses(&[exception.id]).await?.remove(&exception.id);
        let is_active = status.is_some_and(|status| status.allows(ctx.now));
        Ok(if is_active { vec!["is active (end it first)".to_owned()] } else { Vec::new() })
    }

    /// Checks that its object is there and its end lies ahead, and that it is not over.
    async fn settle(tx: &mut Tx, exception: &Exception) -> Result<(), ServiceError> {
        let (spec, now) = (&exception.spec, exception.updated_at);
        if let Some(status) = tx.find_exception_statuses(&[exception.id]).await?.remove(&exception.id) {
            let shown = status.shown_state(now);
            if ["ended", "expired"].contains(&shown) {
                let message = format!("exception `{}` is {shown}; propose another one", exception.name);
                return Err(ServiceError::conflict(message));
            }
        }
        let mut wrong = Vec::new();
        if let Some(message) = spec.wrong_end(now) {
            wrong.push(FieldError::new("expires_at", message));
        }
        if find_target(tx, spec).await?.is_none() {
            let message = "names nothing that is there; a view needs a published version";
            wrong.push(FieldError::new("object", message));
        }
        if wrong.is_empty() { Ok(()) } else { Err(ServiceError::Invalid(wrong)) }
    }

    /// Stores what is asked of it. A new one is proposed by nobody yet.
    async fn derive(tx: &mut Tx, _: &OperatorContext, exception: &Exception) -> Result<(), ServiceError> {
        let known = tx.find_exception_statuses(&[exception.id]).await?.remove(&exception.id);
        let target = find_target(tx, &exception.spec).await?;
        let before = known.unwrap_or_else(|| proposed(exception));
        let status = ExceptionStatus {
            rule: exception.spec.rule.clone(),
            target: target.unwrap_or_else(|| before.target.clone()),
            expires_at: exception.spec.expires_at,
            ..before
        };
        Ok(tx.set_exception_status(&status).await?)
    }
}

/// The status of a new exception that nobody answers for yet.
fn proposed(exception: &Exception) -> ExceptionStatus {
    ExceptionStatus {
        exception_id: exception.id,
        rule: exception.spec.rule.clone(),
        target: ExceptionTarget { kind: ExceptionObjectKind::Table.into(), id: Uuid::nil(), version: None },
        expires_at: exception.spec.expires_at,
        state: ExceptionState::Proposed.into(),
        state_since: exception.created_at,
        proposer: String::new(),
        proposed_by: String::new(),
        approved_by: None,
    }
}

/// The thing that an exception is for, if it is there.
async fn find_target(tx: &mut Tx, spec: &ExceptionSpec) -> Result<Option<ExceptionTarget>, ServiceError> {
    let Ok(ExceptionObject { kind, name, version }) = ExceptionObject::parse(&spec.object) else { return Ok(None) };
    let id = match (kind, version) {
        (ExceptionObjectKind::View, Some(number)) => match tx.find_view(name.key()).await? {
            Some((view, _)) => tx.find_view_version(view.id, number).await?.map(|_| view.id),
            None => None,
        },
        (ExceptionObjectKind::View, None) => None,
        (ExceptionObjectKind::Table, _) => tx.find_table(name.key()).await?.map(|table| table.id),
        (ExceptionObjectKind::Share, _) => tx.find_share(name.key()).await?.map(|share| share.id),
    };
    Ok(id.map(|id| ExceptionTarget { kind: kind.into(), id, version }))
}

/// An exception by its name, with its status.
async fn find_known(
    tx: &mut Tx,
    ctx: &OperatorContext,
    name: &str,
) -> Result<(Exception, ExceptionStatus), ServiceError> {
    let exception = find::<ExceptionSpec>(tx, ctx, name).await?;
    let status = tx.find_exception_statuses(&[exception.id]).await?.remove(&exception.id);
    let status = status.unwrap_or_else(|| proposed(&exception));
    Ok((exception, status))
}

/// Brings an exception to another state; the transaction must hold the chain's lock.
async fn move_in(
    tx: &mut Tx,
    ctx: &OperatorContext,
    (exception, before): (Exception, ExceptionStatus),
    after: ExceptionStatus,
    action: Action,
    reason: &str,
) -> Result<KnownException, ServiceError> {
    let exception = tx.update_declared(Exception { updated_at: ctx.now, ..exception }).await?;
    tx.set_exception_status(&after).await?;
    let change = json!({"before": {"state": before.state}, "after": {"state": after.state}, "reason": reason});
    let object = Object { kind: Kind::Exception, id: Some(exception.id), name: Some(exception.name.to_string()) };
    write::append(tx, Event { change: Some(change), ..ctx.event(action, object) }, ctx.now).await?;
    Ok(KnownException::new(exception, after, ctx.now))
}

fn ended(status: &ExceptionStatus, now: DateTime<Utc>) -> ExceptionStatus {
    ExceptionStatus { state: ExceptionState::Ended.into(), state_since: now, ..status.clone() }
}

/// Ends an exception again that was ended before the database was restored; false where it is over, or is not there. The
/// transaction must hold the chain's lock.
pub(in crate::service) async fn tighten(
    tx: &mut Tx,
    ctx: &OperatorContext,
    (id, name): (Uuid, &str),
    reason: &str,
) -> Result<bool, ServiceError> {
    let found = tx.find_declared::<ExceptionSpec>(&name_key(name)).await?.filter(|found| found.id == id);
    let Some(exception) = found else { return Ok(false) };
    let status = tx.find_exception_statuses(&[id]).await?.remove(&id).unwrap_or_else(|| proposed(&exception));
    if status.state.means() == Some(ExceptionState::Ended) {
        return Ok(false);
    }
    let after = ended(&status, ctx.now);
    move_in(tx, ctx, (exception, status), after, Action::ExceptionEnd, reason).await?;
    Ok(true)
}

impl Access {
    /// Proposes an exception, or confirms that it is as described.
    pub async fn put_exception(
        &self,
        ctx: &OperatorContext,
        name: &str,
        named: &Named,
    ) -> Result<Put<KnownException>, ServiceError> {
        let invalid =
            |error: &dyn std::fmt::Display| ServiceError::invalid(Kind::Exception.to_string(), error.to_string());
        let name = Name::parse(ExceptionSpec::NAME, name).map_err(|error| invalid(&error))?;
        let mut unit = self.core.begin_change(ctx).await?;
        let put = self.put_exception_in(&mut unit, name, named).await?;
        unit.commit().await?;
        Ok(put)
    }

    /// Does the same as [`Self::put_exception`] in an open change.
    pub async fn put_exception_in(
        &self,
        unit: &mut ChangeUnit,
        name: Name,
        named: &Named,
    ) -> Result<Put<KnownException>, ServiceError> {
        match self.core.put_declared_in::<ExceptionSpec>(unit, name, named).await? {
            Put::Created(exception) => {
                let (tx, ctx) = unit.parts();
                let status = propose(tx, ctx, &exception).await?;
                Ok(Put::Created(KnownException::new(exception, status, ctx.now)))
            }
            Put::Confirmed(exception) => {
                let (tx, ctx) = unit.parts();
                let status = tx.find_exception_statuses(&[exception.id]).await?.remove(&exception.id);
                let status = status.unwrap_or_else(|| proposed(&exception));
                Ok(Put::Confirmed(KnownException::new(exception, status, ctx.now)))
            }
        }
    }

    /// Changes an exception that is not over. One that allows more by it is proposed again, by whoever changes it.
    pub async fn update_exception(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<KnownException, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let done = self.update_exception_in(&mut unit, name, condition, named).await?;
        unit.commit().await?;
        Ok(done)
    }

    /// Does the same as [`Self::update_exception`] in an open change.
    pub async fn update_exception_in(
        &self,
        unit: &mut ChangeUnit,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<KnownException, ServiceError> {
        let (tx, ctx) = unit.parts();
        let (before, status) = find_known(tx, ctx, name).await?;
        let after = self.core.update_declared_in::<ExceptionSpec>(unit, name, condition, named).await?;
        let (tx, ctx) = unit.parts();
        let loosens = effects(&before.spec, &after.spec).iter().any(|(_, effect)| *effect == Effect::Loosens);
        let status = if loosens { propose(tx, ctx, &after).await? } else { status };
        let status = ExceptionStatus { expires_at: after.spec.expires_at, ..status };
        Ok(KnownException::new(after, status, ctx.now))
    }

    /// An exception.
    pub async fn get_exception(&self, ctx: &OperatorContext, name: &str) -> Result<KnownException, ServiceError> {
        let exception = self.core.read_declared::<ExceptionSpec>(ctx, name).await?;
        let status = self.core.db.find_exception_statuses(&[exception.id]).await?.remove(&exception.id);
        let status = status.unwrap_or_else(|| proposed(&exception));
        Ok(KnownException::new(exception, status, self.core.clock.now()))
    }

    /// Exceptions by name.
    pub async fn list_exceptions(
        &self,
        ctx: &OperatorContext,
        page: &PageRequest,
    ) -> Result<Page<KnownException>, ServiceError> {
        let Page { items, next_page_token } = self.core.list_declared::<ExceptionSpec>(ctx, page).await?;
        let ids: Vec<Uuid> = items.iter().map(|exception| exception.id).collect();
        let mut statuses: HashMap<Uuid, ExceptionStatus> = self.core.db.find_exception_statuses(&ids).await?;
        let now = self.core.clock.now();
        let known = items.into_iter().map(|exception| {
            let status = statuses.remove(&exception.id).unwrap_or_else(|| proposed(&exception));
            KnownException::new(exception, status, now)
        });
        Ok(Page { items: known.collect(), next_page_token })
    }

    /// Approves a proposed exception, by another operator than the one who proposed it.
    pub async fn approve_exception(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
    ) -> Result<KnownException, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let (exception, status) = find_known(tx, ctx, name).await?;
        if status.shown_state(ctx.now) != ExceptionState::Proposed.as_str() {
            let shown = status.shown_state(ctx.now);
            let message = format!("exception `{name}` is {shown}, and only one that is proposed can be approved");
            return Err(ServiceError::conflict(message));
        }
        if status.proposer.is_empty() || status.proposer == ctx.operator_key() {
            let message = format!(
                "exception `{name}` was proposed by `{}`, and nobody approves what they propose; ask another operator \
                 who is `compliance`",
                status.proposed_by
            );
            return Err(ServiceError::Separation(message));
        }
        let after = ExceptionStatus {
            state: ExceptionState::Active.into(),
            state_since: ctx.now,
            approved_by: Some(ctx.operator_name()),
            ..status.clone()
        };
        let known = move_in(tx, ctx, (exception, status), after, Action::ExceptionApprove, reason).await?;
        unit.commit().await?;
        Ok(known)
    }

    /// Ends an exception now; one that is over already stays as it is.
    pub async fn end_exception(
        &self,
        ctx: &OperatorContext,
        name: &str,
        reason: &str,
    ) -> Result<KnownException, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let (exception, status) = find_known(tx, ctx, name).await?;
        if status.state.means() == Some(ExceptionState::Ended) || status.expires_at <= ctx.now {
            return Ok(KnownException::new(exception, status, ctx.now));
        }
        let after = ended(&status, ctx.now);
        let known = move_in(tx, ctx, (exception, status), after, Action::ExceptionEnd, reason).await?;
        unit.commit().await?;
        Ok(known)
    }
}

/// Stores that the operator proposes an exception as it stands now.
async fn propose(tx: &mut Tx, ctx: &OperatorContext, exception: &Exception) -> Result<ExceptionStatus, ServiceError> {
    // A dry run does not read back what it stored.
    let known = tx.find_exception_statuses(&[exception.id]).await?.remove(&exception.id);
    let target = find_target(tx, &exception.spec).await?;
    let known = known.unwrap_or_else(|| proposed(exception));
    let status = ExceptionStatus {
        rule: exception.spec.rule.clone(),
        target: target.unwrap_or_else(|| known.target.clone()),
        expires_at: exception.spec.expires_at,
        state: ExceptionState::Proposed.into(),
        state_since: ctx.now,
        proposer: ctx.operator_key(),
        proposed_by: ctx.operator_name(),
        approved_by: None,
        ..known
    };
    tx.set_exception_status(&status).await?;
    Ok(status)
}
