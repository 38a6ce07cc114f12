//! The use cases of nouns that are only a name and a spec, the same for every such noun.
//!
//! Never here: parts of a single noun, such as the things that use it ([`InUse`]).

use std::fmt::Display;

use crate::{
    domain::{
        audit::{Event, Object, action::Action},
        core::{
            declared::{Declared, Plain},
            name::Name,
            spec::Mode,
            word::Words,
        },
        operators::{Permission, principal::Thing},
    },
    service::{Service, audit::write},
    store::Tx,
};

use super::{
    change::{Named, Put, audited, changed_spec, confirm, differing, new_spec},
    context::OperatorContext,
    error::ServiceError,
    lookup,
    page::{Page, PageRequest},
    precondition::Precondition,
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

    /// Stores what follows from its spec beside it, once it is stored.
    fn derive(_tx: &mut Tx, _of: &Declared<Self>) -> impl Future<Output = Result<(), ServiceError>> + Send {
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

async fn find<S: InUse>(tx: &mut Tx, ctx: &OperatorContext, name: &str) -> Result<Declared<S>, ServiceError> {
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

fn invalid_name<S: Plain>(error: impl Display) -> ServiceError {
    ServiceError::invalid(S::KIND.as_str(), error.to_string())
}

impl Service {
    /// Creates a thing, or confirms that it is as described.
    pub async fn put_declared<S: InUse>(
        &self,
        ctx: &OperatorContext,
        name: &str,
        named: &Named,
    ) -> Result<Put<Declared<S>>, ServiceError> {
        let name = Name::parse(S::NAME, name).map_err(invalid_name::<S>)?;
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
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
        S::settle(&mut tx, &new).await?;
        tx.insert_declared(&new).await?;
        S::derive(&mut tx, &new).await?;
        let event = audited(None, Some(&new.spec)).told_by(event(ctx, S::ACTIONS.create, &new));
        write::append(&mut tx, event, ctx.now).await?;
        tx.commit().await?;
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
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        let before = find::<S>(&mut tx, ctx, name).await?;
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
        S::settle(&mut tx, &after).await?;
        let after = tx.update_declared(after).await?;
        S::derive(&mut tx, &after).await?;
        let event = audited(Some(&before.spec), Some(&after.spec)).told_by(event(ctx, S::ACTIONS.update, &after));
        write::append(&mut tx, event, ctx.now).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Deletes a thing that nothing uses.
    pub async fn delete_declared<S: InUse>(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let (mut tx, ref ctx) = self.begin_change(ctx).await?;
        let gone = find::<S>(&mut tx, ctx, name).await?;
        Precondition::check(condition, gone.id, gone.revision)?;
        let users = S::users(&mut tx, ctx, &gone).await?;
        if !users.is_empty() {
            return Err(ServiceError::conflict(format!("{} `{name}` {}", S::KIND, users.join(" and "))));
        }
        tx.delete_declared(&gone).await?;
        let event = audited(Some(&gone.spec), None).told_by(event(ctx, S::ACTIONS.delete, &gone));
        write::append(&mut tx, event, ctx.now).await?;
        Ok(tx.commit().await?)
    }
}
