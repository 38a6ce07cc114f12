//! Operators who sign in by an issuer: kept at their first sign-in, listed, refused and let in again.
//!
//! Never here: whether what they present is genuine, which is `sign_in`.

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        audit::{
            Actor, Event, Object, Personal,
            action::{Action, Kind},
        },
        core::message::echoed,
        operators::{OperatorReason, identity::OperatorIdentity},
    },
    service::{
        audit::write,
        catalog::ownership,
        core::{
            context::{Asked, OperatorContext},
            error::ServiceError,
            page::{Page, PageRequest, created_key},
            precondition::Precondition,
        },
    },
    store::{StoreError, Tx},
};

use super::Operators;

/// How many are kept; nobody else is let in.
const MOST: i64 = 10_000;
/// How much of a subject is kept, in characters.
const LONGEST_SUBJECT: usize = 255;

/// Who an issuer says that somebody is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) issuer: &'a str,
    pub(super) subject: &'a str,
}

fn not_found(id: Uuid) -> ServiceError {
    ServiceError::NotFound { kind: "operator identity", name: id.to_string() }
}

fn object(identity: &OperatorIdentity) -> Object {
    Object { kind: Kind::OperatorIdentity, id: Some(identity.id), name: Some(identity.name.clone()) }
}

async fn find(tx: &mut Tx, id: Uuid) -> Result<OperatorIdentity, ServiceError> {
    tx.find_operator_identity(id).await?.ok_or_else(|| not_found(id))
}

/// Disables `identity` in a transaction that holds the chain's lock.
pub(in crate::service) async fn disable_in(
    tx: &mut Tx,
    ctx: &OperatorContext,
    identity: OperatorIdentity,
    reason: &str,
) -> Result<OperatorIdentity, StoreError> {
    let after = OperatorIdentity { disabled_at: Some(ctx.now), updated_at: ctx.now, ..identity };
    let after = tx.update_operator_identity(after).await?;
    let event = ctx.event(Action::OperatorIdentityDisable, object(&after));
    let event = Event { change: Some(json!({"reason": reason})), ..event };
    write::append(tx, event, ctx.now).await?;
    Ok(after)
}

/// Keeps somebody disabled who is not known here, in a transaction that holds the chain's lock: the first sign-in must not
/// let in whom somebody has refused.
pub(in crate::service) async fn keep_disabled_in(
    tx: &mut Tx,
    ctx: &OperatorContext,
    id: Uuid,
    name: &str,
    reason: &str,
) -> Result<(), StoreError> {
    let (issuer, subject) = (String::new(), String::new());
    let (name, created_at, updated_at) = (name.to_owned(), ctx.now, ctx.now);
    let new = OperatorIdentity { id, issuer, subject, name, disabled_at: None, created_at, updated_at, revision: 1 };
    tx.insert_operator_identity(&new).await?;
    disable_in(tx, ctx, new, reason).await.map(drop)
}

impl Operators {
    /// Lets in whoever is not disabled; keeps one that signs in for the first time, or under another name.
    pub(super) async fn keep_identity(
        &self,
        actor: &Actor,
        seen: Seen<'_>,
        asked: &Asked,
        now: DateTime<Utc>,
    ) -> Result<Result<(), OperatorReason>, ServiceError> {
        let (Some(id), Some(name)) = (actor.id, actor.name.as_ref()) else {
            return Ok(Err(OperatorReason::IdentityInvalid));
        };
        let decide = |found: &OperatorIdentity| match found.disabled_at {
            Some(_) => Some(Err(OperatorReason::Disabled)),
            None if found.name == *name => Some(Ok(())),
            None => None,
        };
        if let Some(decided) = self.core.db.find_operator_identity(id).await?.as_ref().and_then(decide) {
            return Ok(decided);
        }
        let mut tx = self.core.begin_locked().await?;
        let found = tx.find_operator_identity(id).await?;
        if let Some(decided) = found.as_ref().and_then(decide) {
            return Ok(decided);
        }
        let (identity, action, change) = match found {
            Some(found) => {
                let change = json!({"before": {"name": found.name}, "after": {"name": name}});
                let renamed = OperatorIdentity { name: name.clone(), updated_at: now, ..found };
                (tx.update_operator_identity(renamed).await?, Action::OperatorIdentityUpdate, change)
            }
            None if tx.count_operator_identities().await? >= MOST => return Ok(Err(OperatorReason::IdentitiesFull)),
            None => {
                let new = OperatorIdentity {
                    id,
                    issuer: seen.issuer.to_owned(),
                    subject: echoed(seen.subject, LONGEST_SUBJECT),
                    name: name.clone(),
                    disabled_at: None,
                    created_at: now,
                    updated_at: now,
                    revision: 1,
                };
                tx.insert_operator_identity(&new).await?;
                (new, Action::OperatorIdentityCreate, json!({"after": {"issuer": seen.issuer}}))
            }
        };
        let event = Event {
            object: Some(object(&identity)),
            change: Some(change),
            request_id: Some(asked.request_id.clone()),
            personal: Personal { subject: Some(echoed(seen.subject, LONGEST_SUBJECT)), ..asked.personal.clone() },
            ..Event::new(actor.clone(), action)
        };
        write::append(&mut tx, event, now).await?;
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// Somebody who signs in by an issuer.
    pub async fn get_operator_identity(&self, id: Uuid) -> Result<OperatorIdentity, ServiceError> {
        self.core.db.find_operator_identity(id).await?.ok_or_else(|| not_found(id))
    }

    /// Everybody who signs in by an issuer, by the first sign-in.
    pub async fn list_operator_identities(&self, page: &PageRequest) -> Result<Page<OperatorIdentity>, ServiceError> {
        let opened = self.core.begin_page(page, "operator identities".into())?;
        let identities = self.core.db.list_operator_identities(opened.after_created(), opened.limit).await?;
        Ok(self.core.end_page(opened, identities, |identity| created_key(identity.created_at, identity.id)))
    }

    /// Refuses somebody everything, whatever the issuer says, until it is enabled.
    pub async fn disable_operator_identity(
        &self,
        ctx: &OperatorContext,
        id: Uuid,
        reason: &str,
    ) -> Result<OperatorIdentity, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let identity = find(tx, id).await?;
        if identity.disabled_at.is_some() {
            return Ok(identity);
        }
        let after = disable_in(tx, ctx, identity, reason).await?;
        let ctx = unit.commit().await?;
        ownership::tell_after(&self.core, &ctx).await;
        Ok(after)
    }

    /// Lets somebody in again whom the issuer vouches for.
    pub async fn enable_operator_identity(
        &self,
        ctx: &OperatorContext,
        id: Uuid,
        reason: &str,
    ) -> Result<OperatorIdentity, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let identity = find(tx, id).await?;
        if identity.disabled_at.is_none() {
            return Ok(identity);
        }
        let after = OperatorIdentity { disabled_at: None, updated_at: ctx.now, ..identity };
        let after = tx.update_operator_identity(after).await?;
        let event = ctx.event(Action::OperatorIdentityEnable, object(&after));
        let event = Event { change: Some(json!({"reason": reason})), ..event };
        write::append(tx, event, ctx.now).await?;
        unit.commit().await?;
        Ok(after)
    }

    /// Forgets somebody who is not disabled; another sign-in is a first one.
    pub async fn delete_operator_identity(
        &self,
        ctx: &OperatorContext,
        id: Uuid,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let identity = find(tx, id).await?;
        Precondition::check(condition, identity.id, identity.revision)?;
        if identity.disabled_at.is_some() {
            let message = "this identity is disabled, and forgotten it would be let in again; enable it first";
            return Err(ServiceError::conflict(message));
        }
        tx.delete_operator_identity(identity.id, identity.revision).await?;
        let event = ctx.event(Action::OperatorIdentityDelete, object(&identity));
        let event = Event { change: Some(json!({"before": {"issuer": identity.issuer}})), ..event };
        write::append(tx, event, ctx.now).await?;
        unit.commit().await?;
        Ok(())
    }
}
