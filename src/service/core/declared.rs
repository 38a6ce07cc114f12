//! The use cases of nouns that are only a name and a spec, the same for every such noun.
//!
//! Never here: parts of a single noun, such as the things that use it ([`InUse`]).

use std::fmt::Display;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    domain::{
        audit::{Event, Object, action::Action},
        core::{
            declared::{Declared, Plain},
            name::{Name, name_key},
            spec::{Mode, tightened},
            word::Words,
        },
        operators::{
            Permission,
            principal::{Separation, Thing},
        },
    },
    service::audit::write,
    store::{StoreError, Tx},
};

use super::{
    Core,
    change::{Named, Put, audited, changed_spec, confirm, differing, new_spec},
    context::OperatorContext,
    error::{FieldError, ServiceError},
    lookup,
    page::{Page, PageRequest},
    precondition::Precondition,
    unit::ChangeUnit,
};

/// Describes how a declared thing is used by others.
pub trait InUse: Plain {
    /// Returns the uses that prevent its deletion, each with what to do first.
    fn users(
        tx: &mut Tx,
        ctx: &OperatorContext,
        of: &Declared<Self>,
    ) -> impl Future<Output = Result<Vec<String>, ServiceError>> + Send;

    /// Refuses a thing that conflicts with others, before it is stored.
    fn settle(_tx: &mut Tx, _of: &Declared<Self>) -> impl Future<Output = Result<(), ServiceError>> + Send {
        async { Ok(()) }
    }

    /// Notes what a thing lacks that is asked for where duties are separated.
    fn lacks(&self, _separation: Separation) -> Vec<FieldError> {
        Vec::new()
    }

    /// Stores what follows from its spec beside it, once it is stored.
    fn derive(
        _tx: &mut Tx,
        _ctx: &OperatorContext,
        _of: &Declared<Self>,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send {
        async { Ok(()) }
    }

    /// Stores what follows from its deletion, before it is deleted.
    fn forget(
        _tx: &mut Tx,
        _of: &Declared<Self>,
        _now: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Ok(()) }
    }

    /// What scopes see of the thing of this name, be it there or not; `None` for a noun that no scope covers, whose routes
    /// need all or nothing.
    fn thing(_name: &str, _spec: Option<&Self>) -> Option<Thing> {
        None
    }

    /// What its events say beside its kind, id and name.
    fn tell(_of: &Declared<Self>, event: Event) -> Event {
        event
    }
}

/// Makes the error for a missing thing.
pub(in crate::service) fn not_found<S: Plain>(name: &str) -> ServiceError {
    ServiceError::NotFound { kind: S::KIND.as_str(), name: name.to_owned() }
}

fn event<S: InUse>(ctx: &OperatorContext, action: Action, of: &Declared<S>) -> Event {
    let object = Object { kind: S::KIND, id: Some(of.id), name: Some(of.name.to_string()) };
    S::tell(of, ctx.event(action, object))
}

/// A thing by its name as it stands in a transaction, where the operator may change it.
pub(in crate::service) async fn find<S: InUse>(
    tx: &mut Tx,
    ctx: &OperatorContext,
    name: &str,
) -> Result<Declared<S>, ServiceError> {
    let found: Option<Declared<S>> = match lookup::key(S::NAME, name) {
        Ok(key) => tx.find_declared(&key).await?,
        Err(_) => None,
    };
    require(ctx, Permission::ManageSharing, name, found.as_ref().map(|found| &found.spec))?;
    found.ok_or_else(|| not_found::<S>(name))
}

fn may<S: InUse>(ctx: &OperatorContext, permission: Permission, name: &str, spec: Option<&S>) -> bool {
    S::thing(name, spec).is_none_or(|thing| ctx.may(permission, &thing))
}

fn require<S: InUse>(
    ctx: &OperatorContext,
    permission: Permission,
    name: &str,
    spec: Option<&S>,
) -> Result<(), ServiceError> {
    S::thing(name, spec).map_or(Ok(()), |thing| ctx.require(permission, &thing))
}

/// Refuses a spec that lacks what is asked for where duties are separated.
fn require_whole<S: InUse>(ctx: &OperatorContext, spec: &S) -> Result<(), ServiceError> {
    let lacks = spec.lacks(ctx.principal.separation);
    if lacks.is_empty() { Ok(()) } else { Err(ServiceError::Invalid(lacks)) }
}

/// Stores a changed spec and its event.
async fn update_in<S: InUse>(
    tx: &mut Tx,
    ctx: &OperatorContext,
    before: &Declared<S>,
    spec: S,
    reason: Option<&str>,
) -> Result<Declared<S>, ServiceError> {
    let after = tx.update_declared(Declared { spec, updated_at: ctx.now, ..before.clone() }).await?;
    S::derive(tx, ctx, &after).await?;
    let mut told = audited(Some(&before.spec), Some(&after.spec));
    if let Some(reason) = reason {
        told = told.because(reason);
    }
    write::append(tx, told.told_by(event(ctx, S::ACTIONS.update, &after)), ctx.now).await?;
    Ok(after)
}

/// Sets those of the recorded values that tighten a thing, in a transaction that holds the chain's lock; whether there
/// were any.
pub(in crate::service) async fn tighten_in<S: InUse>(
    tx: &mut Tx,
    ctx: &OperatorContext,
    (id, name): (Uuid, &str),
    recorded: &Map<String, Value>,
    reason: &str,
) -> Result<bool, ServiceError> {
    let found = tx.find_declared::<S>(&name_key(name)).await?.filter(|found| found.id == id);
    let Some(before) = found else { return Ok(false) };
    let spec = tightened(&before.spec, recorded);
    if spec == before.spec {
        return Ok(false);
    }
    update_in(tx, ctx, &before, spec, Some(reason)).await?;
    Ok(true)
}

/// Deletes a thing in a transaction that holds the chain's lock.
pub(in crate::service) async fn delete_in<S: InUse>(
    tx: &mut Tx,
    ctx: &OperatorContext,
    gone: &Declared<S>,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    S::forget(tx, gone, ctx.now).await?;
    tx.delete_declared(gone).await?;
    let mut told = audited(Some(&gone.spec), None);
    if let Some(reason) = reason {
        told = told.because(reason);
    }
    write::append(tx, told.told_by(event(ctx, S::ACTIONS.delete, gone)), ctx.now).await
}

pub(in crate::service) fn invalid_name<S: Plain>(error: impl Display) -> ServiceError {
    ServiceError::invalid(S::KIND.as_str(), error.to_string())
}

impl Core {
    /// Creates a thing, or confirms that it is as described.
    pub async fn put_declared<S: InUse>(
        &self,
        ctx: &OperatorContext,
        name: &str,
        named: &Named,
    ) -> Result<Put<Declared<S>>, ServiceError> {
        let name = Name::parse(S::NAME, name).map_err(invalid_name::<S>)?;
        let mut unit = self.begin_change(ctx).await?;
        let done = self.put_declared_in::<S>(&mut unit, name, named).await?;
        unit.commit().await?;
        Ok(done)
    }

    /// Does the same as [`Self::put_declared`] in an open change.
    pub async fn put_declared_in<S: InUse>(
        &self,
        unit: &mut ChangeUnit,
        name: Name,
        named: &Named,
    ) -> Result<Put<Declared<S>>, ServiceError> {
        let (tx, ctx) = unit.parts();
        if let Some(existing) = tx.find_declared::<S>(name.key()).await? {
            require(ctx, Permission::ManageSharing, name.as_str(), Some(&existing.spec))?;
            let spec: S = changed_spec(&existing.spec, named, Mode::Whole)?;
            confirm(S::KIND.as_str(), name.as_str(), &existing.spec, &spec)?;
            return Ok(Put::Confirmed(existing));
        }
        let spec = match new_spec(named) {
            Ok(spec) => spec,
            // What is wrong with it is told to those alone who could make it.
            Err(error) => {
                return Err(require::<S>(ctx, Permission::ManageSharing, name.as_str(), None).err().unwrap_or(error));
            }
        };
        require(ctx, Permission::ManageSharing, name.as_str(), Some(&spec))?;
        let new = Declared::new(name, spec, ctx.now);
        require_whole(ctx, &new.spec)?;
        S::settle(tx, &new).await?;
        tx.insert_declared(&new).await?;
        S::derive(tx, ctx, &new).await?;
        let event = audited(None, Some(&new.spec)).told_by(event(ctx, S::ACTIONS.create, &new));
        write::append(tx, event, ctx.now).await?;
        Ok(Put::Created(new))
    }

    /// A thing by its name, for an operator.
    pub async fn read_declared<S: InUse>(
        &self,
        ctx: &OperatorContext,
        name: &str,
    ) -> Result<Declared<S>, ServiceError> {
        self.declared_for(ctx, Permission::ReadSharing, name).await
    }

    /// A thing by its name, where the operator has a permission for it; whether it is there or not, it is told otherwise in
    /// the same words.
    pub(in crate::service) async fn declared_for<S: InUse>(
        &self,
        ctx: &OperatorContext,
        permission: Permission,
        name: &str,
    ) -> Result<Declared<S>, ServiceError> {
        let found = self.get_declared::<S>(name).await;
        require(ctx, permission, name, found.as_ref().ok().map(|found| &found.spec))?;
        found
    }

    /// A thing by its name.
    pub(in crate::service) async fn get_declared<S: Plain>(&self, name: &str) -> Result<Declared<S>, ServiceError> {
        self.db.find_declared(&lookup::key(S::NAME, name)?).await?.ok_or_else(|| not_found::<S>(name))
    }

    /// Things by name, as far as the operator may see them.
    pub async fn list_declared<S: InUse>(
        &self,
        ctx: &OperatorContext,
        page: &PageRequest,
    ) -> Result<Page<Declared<S>>, ServiceError> {
        let opened = self.begin_page(page, S::TABLE.into())?;
        let found = self.db.list_declared(opened.after.as_deref(), opened.limit).await?;
        let page = self.end_page(opened, found, |of: &Declared<S>| of.name.key().to_owned());
        Ok(page.filter(|of| may(ctx, Permission::ReadSharing, of.name.as_str(), Some(&of.spec))))
    }

    /// Changes a thing.
    pub async fn update_declared<S: InUse>(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<Declared<S>, ServiceError> {
        let mut unit = self.begin_change(ctx).await?;
        let done = self.update_declared_in::<S>(&mut unit, name, condition, named).await?;
        unit.commit().await?;
        Ok(done)
    }

    /// Does the same as [`Self::update_declared`] in an open change.
    pub async fn update_declared_in<S: InUse>(
        &self,
        unit: &mut ChangeUnit,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<Declared<S>, ServiceError> {
        let (tx, ctx) = unit.parts();
        let before = find::<S>(tx, ctx, name).await?;
        Precondition::check(condition, before.id, before.revision)?;
        let spec = changed_spec(&before.spec, named, Mode::Merge)?;
        let after = Declared { spec, updated_at: ctx.now, ..before.clone() };
        if differing(&before.spec, &after.spec).is_empty() {
            return Ok(before);
        }
        require(ctx, Permission::ManageSharing, name, Some(&after.spec))?;
        if let (Some(from), Some(to)) = (S::thing(name, Some(&before.spec)), S::thing(name, Some(&after.spec))) {
            ctx.require_moving(&from, &to)?;
        }
        require_whole(ctx, &after.spec)?;
        S::settle(tx, &after).await?;
        let after = update_in(tx, ctx, &before, after.spec, None).await?;
        Ok(after)
    }

    /// Deletes a thing that nothing uses.
    pub async fn delete_declared<S: InUse>(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let mut unit = self.begin_change(ctx).await?;
        self.delete_declared_in::<S>(&mut unit, name, condition).await?;
        unit.commit().await?;
        Ok(())
    }

    /// Does the same as [`Self::delete_declared`] in an open change.
    pub async fn delete_declared_in<S: InUse>(
        &self,
        unit: &mut ChangeUnit,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let (tx, ctx) = unit.parts();
        let gone = find::<S>(tx, ctx, name).await?;
        Precondition::check(condition, gone.id, gone.revision)?;
        let users = S::users(tx, ctx, &gone).await?;
        if !users.is_empty() {
            return Err(ServiceError::conflict(format!("{} `{name}` {}", S::KIND, users.join(" and "))));
        }
        delete_in(tx, ctx, &gone, None).await?;
        Ok(())
    }
}
