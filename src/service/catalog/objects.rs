//! Objects: registered tables and views as they appear in a share.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    domain::{
        access::delivery::{Delivery, DeliveryFacts, effective},
        audit::{
            Event, Object,
            action::{Action, Kind},
        },
        catalog::{
            clients::{Clients, ReadNeeds},
            raw_disclosure::RawDisclosure,
            share::{ObjectSpec, Share, ShareSpec, SharedObject, SharedView, SourceName},
            table::Table,
        },
        core::{
            name::{Name, NameKind, name_key},
            spec::{Mode, tightened},
        },
        operators::{Permission, principal::Thing},
    },
    lake::Snapshot,
    service::{
        audit::write,
        core::{
            change::{Audited, Named, Put, audited, changed_spec, confirm, differing, new_spec},
            context::{OperatorContext, Run},
            declared,
            error::{FieldError, ServiceError},
            lookup,
            page::{Page, PageRequest},
            precondition::Precondition,
            unit::attempt,
        },
        materialize::PublishedView,
    },
    storage::TableLocation,
    store::Tx,
};

use super::{
    Catalog,
    disclosures::{self, Disclosure},
    raw_disclosures::{releases, widens},
    requirements,
    schema_holds::{NewestShape, SchemaHold, settle_shape},
    shares, tables,
};

/// The most readers that are checked when a view is put into a share.
const MAX_READERS: u32 = 10_000;

/// The name of an object.
#[derive(Clone, Copy, Debug)]
pub struct ObjectPath<'a> {
    /// The share that contains it.
    pub share: &'a str,
    /// The schema under which it appears.
    pub schema: &'a str,
    /// The name under which it appears.
    pub name: &'a str,
}

/// An object with the things it refers to.
#[derive(Clone, Debug)]
pub struct ObjectDetail {
    /// The object.
    pub object: SharedObject,
    /// The share that contains it.
    pub share: Share,
    /// The registered table behind it.
    pub table: Table,
    /// The delivery by storage and object; a recipient's settings can only change it to proxied.
    pub delivery: Delivery,
    /// The connectors that can read the newest version, if the log was just opened.
    pub clients: Option<Clients>,
    /// What its files disclose, if the log was read.
    pub disclosure: Option<RawDisclosure>,
    /// The schema hold; `None` if unknown, `Some(None)` if nothing is held back.
    pub schema_hold: Option<Option<SchemaHold>>,
    /// Whom the change would newly reach; only in a dry run.
    pub reach: Option<Disclosure>,
}

/// The change of an object, the schema that it holds included.
fn told(before: Option<&SharedObject>, after: Option<&SharedObject>) -> Audited {
    let accepted = |object: &SharedObject| match &object.accepted {
        None => Value::Null,
        Some(accepted) => json!({"version": accepted.version, "sha256": accepted.digest}),
    };
    audited(before.map(|object| &object.spec), after.map(|object| &object.spec)).and(
        "accepted_schema",
        before.map(accepted),
        after.map(accepted),
    )
}

/// Applies `named` to the spec that existed before. `newest` is the table's version, which is used if the start version
/// is absent from a new spec or given as null. `source` holds the full names of what the object shows.
fn spec_of(
    before: Option<&ObjectSpec>,
    named: &Named,
    mode: Mode,
    newest: i64,
    source: SourceName,
) -> Result<ObjectSpec, ServiceError> {
    let mut named = named.clone();
    let is_said = named.get("start_version").map(|version| !version.is_null());
    if is_said == Some(false) || (is_said.is_none() && before.is_none()) {
        named.insert("start_version".to_owned(), newest.into());
    }
    let read: Result<ObjectSpec, ServiceError> = match before {
        None => new_spec(&named),
        Some(before) => changed_spec(before, &named, mode),
    };
    let possible = 0..=newest.max(before.map_or(0, |before| before.start_version));
    let asked = named.get("start_version").and_then(Value::as_i64);
    let beyond = asked
        .filter(|asked| !possible.contains(asked))
        .map(|_| FieldError::new("start_version", format!("must be between 0 and the table's version, {newest}")));
    match (read, beyond) {
        (Ok(spec), None) => Ok(ObjectSpec { source, ..spec }),
        (Ok(_), Some(beyond)) => Err(ServiceError::Invalid(vec![beyond])),
        (Err(ServiceError::Invalid(errors)), beyond) => {
            Err(ServiceError::Invalid(errors.into_iter().chain(beyond).collect()))
        }
        (Err(error), _) => Err(error),
    }
}

/// Reads the source from a request, if it has one.
fn source_in(named: &Named) -> Result<Option<SourceName>, ServiceError> {
    match named.get("source") {
        None => Ok(None),
        Some(Value::Null) => Err(ServiceError::invalid("source", "must not be null; name a table or view")),
        Some(source) => {
            let read: Result<SourceName, _> = serde_path_to_error::deserialize(source);
            read.map(Some).map_err(|error| {
                let below = match error.path().to_string() {
                    path if path == "." => String::new(),
                    path => format!(".{path}"),
                };
                ServiceError::invalid(format!("source{below}"), error.inner().to_string())
            })
        }
    }
}

/// The source by its full names.
fn source_name(table: &Table, view: Option<&SharedView>) -> SourceName {
    match view {
        None => SourceName::Table(table.name.to_string()),
        Some(view) => SourceName::View(view.to_string()),
    }
}

fn not_found(path: ObjectPath<'_>) -> ServiceError {
    ServiceError::NotFound { kind: "object", name: format!("{}.{}.{}", path.share, path.schema, path.name) }
}

/// An object with its share and its table, as they were found, where the operator has a permission for the share or for the
/// table.
fn found_for(
    ctx: &OperatorContext,
    permission: Permission,
    path: ObjectPath<'_>,
    share: Option<Share>,
    found: Option<(SharedObject, Table)>,
) -> Result<(Share, SharedObject, Table), ServiceError> {
    let thing = share.as_ref().map_or_else(|| Thing::share(path.share, None), Share::thing);
    match &found {
        Some((_, table)) => ctx.require_any(permission, [&table.thing(), &thing])?,
        None => ctx.require(permission, &thing)?,
    }
    let share = share.ok_or_else(|| shares::not_found(path.share))?;
    let (object, table) = found.ok_or_else(|| not_found(path))?;
    Ok((share, object, table))
}

/// The keys of an object's schema and name, if these can be names.
fn keys(path: ObjectPath<'_>) -> Option<(String, String)> {
    Some((lookup::key(NameKind::Schema, path.schema).ok()?, lookup::key(NameKind::Table, path.name).ok()?))
}

/// The same as [`Service::find_detail`] within a transaction.
async fn find_in(
    tx: &mut Tx,
    ctx: &OperatorContext,
    permission: Permission,
    path: ObjectPath<'_>,
) -> Result<(Share, SharedObject, Table), ServiceError> {
    let share = match lookup::key(NameKind::Share, path.share) {
        Ok(key) => tx.find_share(&key).await?,
        Err(_) => None,
    };
    let found = match (&share, keys(path)) {
        (Some(share), Some((schema, name))) => tx.find_object(share.id, &schema, &name).await?,
        _ => None,
    };
    found_for(ctx, permission, path, share, found)
}

fn event(ctx: &OperatorContext, action: Action, detail: &ObjectDetail) -> Event {
    let ObjectDetail { object, share, table, .. } = detail;
    let name = format!("{}.{}.{}", share.name, object.schema, object.name);
    Event {
        share: Some(share.name.to_string()),
        share_id: Some(share.id),
        schema: Some(object.schema.to_string()),
        table: Some(object.name.to_string()),
        object_id: Some(object.id),
        table_id: Some(table.id),
        registered_table: Some(table.name.to_string()),
        ..ctx.event(action, Object { kind: Kind::Object, id: Some(object.id), name: Some(name) })
    }
}

/// The version from which a table is shared by default.
fn shared_version(snapshot: &Snapshot) -> Result<i64, ServiceError> {
    i64::try_from(snapshot.version()).map_err(ServiceError::internal)
}

/// Refuses whoever may not share the table, or not in this share: who may do either alone would show others' data, or show
/// its own to others' recipients.
fn require_both(ctx: &OperatorContext, share: &Share, table: &Table) -> Result<(), ServiceError> {
    ctx.require(Permission::ManageSharing, &share.thing())?;
    ctx.require(Permission::ManageSharing, &table.thing())
}

impl Catalog {
    /// Puts a table or view into a share, or confirms that it is there as described; a dry run says whom this would
    /// reach.
    pub async fn put_object(
        &self,
        ctx: &OperatorContext,
        path: ObjectPath<'_>,
        named: &Named,
    ) -> Result<Put<ObjectDetail>, ServiceError> {
        attempt(|| self.try_put_object(ctx, path, named)).await
    }

    /// Tries once to put an object into a share. `None` if what was read before the chain's lock was another's by then.
    async fn try_put_object(
        &self,
        ctx: &OperatorContext,
        path: ObjectPath<'_>,
        named: &Named,
    ) -> Result<Option<Put<ObjectDetail>>, ServiceError> {
        let (schema, name) = parse_names(path)?;
        let share: Share = self.core.declared_for(ctx, Permission::ManageSharing, path.share).await?;
        let existing = self.core.db.find_object(share.id, schema.key(), name.key()).await?;
        let (table, view) = match (source_in(named)?, &existing) {
            (Some(source), _) => self.named_source(ctx, &source).await?,
            (None, Some((object, table))) => (table.clone(), object.view.clone()),
            (None, None) => return Err(ServiceError::invalid("source", "is missing; name a table or view")),
        };
        require_both(ctx, &share, &table)?;
        let (location, snapshot) = self.open_log(&table.spec.location).await?;
        let newest = shared_version(&snapshot)?;
        let disclosed = match view {
            None => Some(self.log_disclosure(&location, &snapshot, &snapshot).await?),
            Some(_) => None,
        };
        let shape = NewestShape::of(&snapshot);
        let published = self.published(view.as_ref()).await?;
        let clients = match &published {
            None => Clients::of(&snapshot.shown()),
            Some(published) => {
                let (needed, metadata) = (published.required_features(), published.metadata());
                Clients::of(&ReadNeeds {
                    needed: &needed,
                    schema_string: &metadata.schema_string,
                    partition_columns: &metadata.partition_columns,
                    refusal: None,
                })
            }
        };
        let clients = Some(clients);

        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let share = declared::find::<ShareSpec>(tx, ctx, path.share).await?;
        let Some(table) = tables::still(tx, ctx, Permission::ManageSharing, &table).await? else {
            return Ok(None);
        };
        if let Some((object, old_table)) = tx.find_object(share.id, schema.key(), name.key()).await? {
            let before = self.detail(share, object, old_table);
            let mut after = before.clone();
            let source = source_name(&table, view.as_ref());
            after.object.spec = spec_of(Some(&before.object.spec), named, Mode::Whole, newest, source)?;
            let shown = format!("{}.{}.{}", path.share, path.schema, path.name);
            confirm("object", &shown, &before.object.spec, &after.object.spec)?;
            let ctx = unit.abandon();
            let looked_at = self.looked_at(before, &location, &snapshot, Run::Real).await?;
            // An object that already exists discloses nothing new.
            let reach = (ctx.is_dry()).then(Disclosure::default);
            return Ok(Some(Put::Confirmed(ObjectDetail { clients, reach, ..looked_at })));
        }
        if let Some(view) = &view
            && tx.find_view_version(view.id, view.version).await?.is_none()
        {
            return Ok(None);
        }
        let mut object = SharedObject {
            id: Uuid::now_v7(),
            share_id: share.id,
            schema,
            name,
            table_id: table.id,
            spec: spec_of(None, named, Mode::Whole, newest, source_name(&table, view.as_ref()))?,
            view,
            accepted: None,
            requirements: None,
            created_at: ctx.now,
            updated_at: ctx.now,
            revision: 1,
        };
        settle_shape(&mut object, &shape)?;
        self.require_acknowledged(&object, disclosed.as_ref())?;
        check_readers(tx, &object, published.as_deref(), ctx.now).await?;
        let asked = requirements::approved(tx, ctx, &object).await?;
        requirements::require_readable(&object, &asked)?;
        let object = requirements::asking(object, asked.clone());
        if ctx.is_dry() {
            let ctx = unit.abandon();
            let reach = self.newly_shown(&share, &object, &table, ctx.now).await?;
            let detail = self.detail(share, object, table);
            let looked_at = self.looked_at(detail, &location, &snapshot, ctx.run).await?;
            return Ok(Some(Put::Confirmed(ObjectDetail { clients, reach: Some(reach), ..looked_at })));
        }
        tx.insert_object(&object).await?;
        tx.put_requirements(&object, &asked, ctx.now).await?;
        if object.accepted.is_some() {
            tx.update_accepted_schema(object.id, Some(shape.shape()?)).await?;
        }
        let detail = self.detail(share, object, table);
        let event = told(None, Some(&detail.object)).told_by(event(ctx, Action::ObjectCreate, &detail));
        write::append(tx, event, ctx.now).await?;
        let ctx = unit.commit().await?;
        self.materializer.prepare_object(&detail.object);
        let looked_at = self.looked_at(detail, &location, &snapshot, ctx.run).await?;
        Ok(Some(Put::Created(ObjectDetail { clients, ..looked_at })))
    }

    /// An object, and what its table's log tells of it; without that where the log cannot be looked at.
    pub async fn get_object(&self, ctx: &OperatorContext, path: ObjectPath<'_>) -> Result<ObjectDetail, ServiceError> {
        let detail = self.find_detail(ctx, Permission::ReadSharing, path).await?;
        let looked_at = async {
            let (location, snapshot) = self.open_log(&detail.table.spec.location).await?;
            self.looked_at(detail.clone(), &location, &snapshot, Run::Real).await
        };
        match looked_at.await {
            Ok(looked_at) => Ok(looked_at),
            Err(error) => {
                tracing::warn!(object.id = %detail.object.id, %error, "an object's table could not be looked at");
                Ok(detail)
            }
        }
    }

    /// An object, where the operator has a permission for its share or for its table.
    async fn find_detail(
        &self,
        ctx: &OperatorContext,
        permission: Permission,
        path: ObjectPath<'_>,
    ) -> Result<ObjectDetail, ServiceError> {
        let share = match lookup::key(NameKind::Share, path.share) {
            Ok(key) => self.core.db.find_share(&key).await?,
            Err(_) => None,
        };
        let found = match (&share, keys(path)) {
            (Some(share), Some((schema, name))) => self.core.db.find_object(share.id, &schema, &name).await?,
            _ => None,
        };
        let (share, object, table) = found_for(ctx, permission, path, share, found)?;
        Ok(self.detail(share, object, table))
    }

    /// A share's objects by schema and name.
    pub async fn list_objects(
        &self,
        ctx: &OperatorContext,
        share: &str,
        page: &PageRequest,
    ) -> Result<Page<ObjectDetail>, ServiceError> {
        let share: Share = self.core.read_declared(ctx, share).await?;
        let opened = self.core.begin_page(page, format!("objects of {}", share.id))?;
        // Names contain no spaces, so a space can separate the keys.
        let after = opened.after.as_deref().and_then(|after| after.split_once(' '));
        let objects = self.core.db.list_objects(share.id, None, after, opened.limit).await?;
        let detailed = objects.into_iter().map(|(object, table)| self.detail(share.clone(), object, table)).collect();
        Ok(self.core.end_page(opened, detailed, |detail: &ObjectDetail| {
            format!("{} {}", detail.object.schema.key(), detail.object.name.key())
        }))
    }

    /// Changes how a table or view is shared; the table behind it stays the same.
    pub async fn update_object(
        &self,
        ctx: &OperatorContext,
        path: ObjectPath<'_>,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<ObjectDetail, ServiceError> {
        attempt(|| self.try_update_object(ctx, path, condition, named)).await
    }

    /// Tries once to change an object. `None` if it was another one once the chain's lock was held than the one that was
    /// read before.
    async fn try_update_object(
        &self,
        ctx: &OperatorContext,
        path: ObjectPath<'_>,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<Option<ObjectDetail>, ServiceError> {
        let found = self.find_detail(ctx, Permission::ManageSharing, path).await?;
        require_both(ctx, &found.share, &found.table)?;
        let (location, snapshot) = self.open_log(&found.table.spec.location).await?;
        let newest = shared_version(&snapshot)?;
        let (disclosed, newest_disclosed) = match found.object.view {
            None => {
                let served = self.served(&found.object, &location, &snapshot).await?.snapshot;
                let served = served.as_ref().unwrap_or(&snapshot);
                let newest = self.log_disclosure(&location, &snapshot, &snapshot).await?;
                (Some(self.log_disclosure(&location, &snapshot, served).await?), Some(newest))
            }
            Some(_) => (None, None),
        };
        let shape = NewestShape::of(&snapshot);
        let view = match source_in(named)? {
            None => found.object.view.clone(),
            Some(source) => self.changed_source(ctx, &found, &source).await?,
        };
        let published = self.published(view.as_ref()).await?;
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let (share, object, table) = find_in(tx, ctx, Permission::ManageSharing, path).await?;
        let before = self.detail(share, object, table);
        require_both(ctx, &before.share, &before.table)?;
        Precondition::check(condition, before.object.id, before.object.revision)?;
        let is_other = (before.object.id, before.object.revision) != (found.object.id, found.object.revision);
        if is_other || before.table.spec.location != found.table.spec.location {
            return Ok(None);
        }
        let mut after = before.clone();
        let is_acknowledging = named.contains_key("acknowledge");
        let source = source_name(&before.table, view.as_ref());
        after.object.spec = spec_of(Some(&before.object.spec), named, Mode::Merge, newest, source)?;
        after.object.view = view;
        settle_shape(&mut after.object, &shape)?;
        let is_released = releases(&before.object, &after.object, snapshot.metadata());
        let is_wider = is_released || widens(&before.object, &after.object);
        if is_acknowledging || is_wider {
            let disclosed = if is_released { &newest_disclosed } else { &disclosed };
            self.require_acknowledged(&after.object, disclosed.as_ref())?;
        }
        check_readers(tx, &after.object, published.as_deref(), ctx.now).await?;
        let version = |object: &SharedObject| object.view.as_ref().map(|view| view.version);
        let is_republished = version(&before.object) != version(&after.object);
        let asked = requirements::approved(tx, ctx, &after.object).await?;
        if is_wider || is_republished {
            requirements::require_readable(&after.object, &asked)?;
        }
        after.object = requirements::asking(after.object, asked.clone());
        if ctx.is_dry() {
            let ctx = unit.abandon();
            let reach = match is_wider || before.object.view != after.object.view {
                true => self.newly_shown(&after.share, &after.object, &after.table, ctx.now).await?,
                false => Disclosure::default(),
            };
            let looked_at = self.looked_at(after, &location, &snapshot, ctx.run).await?;
            return Ok(Some(ObjectDetail { reach: Some(reach), ..looked_at }));
        }
        let is_same = differing(&before.object.spec, &after.object.spec).is_empty();
        if is_same && before.object.accepted == after.object.accepted {
            let ctx = unit.abandon();
            return Ok(Some(self.looked_at(before, &location, &snapshot, ctx.run).await?));
        }
        after.object.updated_at = ctx.now;
        if before.object.accepted != after.object.accepted {
            let accepted = after.object.accepted.as_ref().map(|_| shape.shape()).transpose()?;
            tx.update_accepted_schema(after.object.id, accepted).await?;
        }
        let object = tx.update_object(after.object).await?;
        tx.put_requirements(&object, &asked, ctx.now).await?;
        let after = self.detail(after.share, object, after.table);
        let change = told(Some(&before.object), Some(&after.object));
        let event = change.told_by(event(ctx, Action::ObjectUpdate, &after));
        write::append(tx, event, ctx.now).await?;
        let ctx = unit.commit().await?;
        self.materializer.prepare_object(&after.object);
        Ok(Some(self.looked_at(after, &location, &snapshot, ctx.run).await?))
    }

    /// Accepts the table's current schema for an object that holds its schema. Its recipients are served the newest
    /// version again, and may read all earlier versions that the object shares. A dry run says what this would show to
    /// whom.
    pub async fn accept_schema(
        &self,
        ctx: &OperatorContext,
        path: ObjectPath<'_>,
        reason: Option<&str>,
    ) -> Result<ObjectDetail, ServiceError> {
        attempt(|| self.try_accept_schema(ctx, path, reason)).await
    }

    /// Tries once to accept a schema. `None` if the object showed another table once the chain's lock was held.
    async fn try_accept_schema(
        &self,
        ctx: &OperatorContext,
        path: ObjectPath<'_>,
        reason: Option<&str>,
    ) -> Result<Option<ObjectDetail>, ServiceError> {
        let found = self.find_detail(ctx, Permission::ManageSharing, path).await?;
        require_both(ctx, &found.share, &found.table)?;
        let (location, snapshot) = self.open_log(&found.table.spec.location).await?;
        let shape = NewestShape::of(&snapshot);
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let (share, object, table) = find_in(tx, ctx, Permission::ManageSharing, path).await?;
        let before = self.detail(share, object, table);
        require_both(ctx, &before.share, &before.table)?;
        if before.object.id != found.object.id || before.table.spec.location != found.table.spec.location {
            return Ok(None);
        }
        if before.object.view.is_some() {
            let message =
                "the object shows a view, which holds by itself what no longer fits; publish a version that does";
            return Err(ServiceError::conflict(message));
        }
        if before.object.accepted.is_none() {
            let message = "the object follows its table's schema, so that there is none to accept; set \
                           `on_schema_change` to `hold` first";
            return Err(ServiceError::conflict(message));
        }
        let mut after = before.clone();
        after.object.accepted = Some(shape.accepted()?);
        if ctx.is_dry() {
            let ctx = unit.abandon();
            let reach = match releases(&before.object, &after.object, snapshot.metadata()) {
                true => self.newly_shown(&after.share, &after.object, &after.table, ctx.now).await?,
                false => Disclosure::default(),
            };
            let looked_at = self.looked_at(after, &location, &snapshot, ctx.run).await?;
            return Ok(Some(ObjectDetail { reach: Some(reach), ..looked_at }));
        }
        if before.object.accepted == after.object.accepted {
            let ctx = unit.abandon();
            return Ok(Some(self.looked_at(before, &location, &snapshot, ctx.run).await?));
        }
        let accepted = tx.find_accepted_schema(after.object.id).await?;
        let changes =
            accepted.map(|accepted| Ok::<_, ServiceError>(accepted.changes_to(shape.shape()?))).transpose()?;
        tx.update_accepted_schema(after.object.id, Some(shape.shape()?)).await?;
        after.object.updated_at = ctx.now;
        let object = tx.update_object(after.object).await?;
        let after = self.detail(after.share, object, after.table);
        let mut told = told(Some(&before.object), Some(&after.object));
        told.change["changes"] = json!(changes);
        told.change["reason"] = json!(reason);
        let event = told.told_by(event(ctx, Action::ObjectAcceptSchema, &after));
        write::append(tx, event, ctx.now).await?;
        let ctx = unit.commit().await?;
        Ok(Some(self.looked_at(after, &location, &snapshot, ctx.run).await?))
    }

    /// Takes an object out of a share; recipients no longer see it.
    pub async fn delete_object(
        &self,
        ctx: &OperatorContext,
        path: ObjectPath<'_>,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        // Whose table it is may take it out of any share.
        let (share, object, table) = find_in(tx, ctx, Permission::ManageSharing, path).await?;
        Precondition::check(condition, object.id, object.revision)?;
        self.delete_object_in(tx, ctx, (share, object, table), None).await?;
        unit.commit().await?;
        Ok(())
    }

    /// Takes an object out of its share in a transaction that holds the chain's lock.
    pub(in crate::service) async fn delete_object_in(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        (share, object, table): (Share, SharedObject, Table),
        reason: Option<&str>,
    ) -> Result<(), ServiceError> {
        tx.delete_object(object.id, object.revision).await?;
        let detail = self.detail(share, object, table);
        let mut change = told(Some(&detail.object), None);
        if let Some(reason) = reason {
            change = change.because(reason);
        }
        let event = change.told_by(event(ctx, Action::ObjectDelete, &detail));
        Ok(write::append(tx, event, ctx.now).await?)
    }

    /// Sets those of the recorded values that tighten an object, in a transaction that holds the chain's lock; whether
    /// there were any. Which schema it held cannot be told from its events, so that none is held again.
    pub(in crate::service) async fn tighten_object(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        id: Uuid,
        recorded: &Map<String, Value>,
        reason: &str,
    ) -> Result<bool, ServiceError> {
        let Some((share, object, table)) = tx.find_object_by_id(id).await? else { return Ok(false) };
        let mut recorded = recorded.clone();
        recorded.remove("on_schema_change");
        let before = object.clone();
        let spec = tightened(&before.spec, &recorded);
        if spec == before.spec {
            return Ok(false);
        }
        let object = tx.update_object(SharedObject { spec, updated_at: ctx.now, ..object }).await?;
        let asked = requirements::approved(tx, ctx, &object).await?;
        tx.put_requirements(&object, &asked, ctx.now).await?;
        let detail = self.detail(share, object, table);
        let change = told(Some(&before), Some(&detail.object)).because(reason);
        write::append(tx, change.told_by(event(ctx, Action::ObjectUpdate, &detail)), ctx.now).await?;
        Ok(true)
    }

    /// What a source names: a table, and the version of a view over it.
    async fn named_source(
        &self,
        ctx: &OperatorContext,
        source: &SourceName,
    ) -> Result<(Table, Option<SharedView>), ServiceError> {
        match source {
            SourceName::Table(name) => Ok((self.registered(ctx, Permission::ManageSharing, name).await?, None)),
            SourceName::View(reference) => {
                let (view, table) = self.shared_view(ctx, reference).await?;
                Ok((table, Some(view)))
            }
        }
    }

    /// The view version that an object will show. Everything else about the source must stay, because recipients would
    /// otherwise get other data under the same id.
    async fn changed_source(
        &self,
        ctx: &OperatorContext,
        found: &ObjectDetail,
        source: &SourceName,
    ) -> Result<Option<SharedView>, ServiceError> {
        let is_same = match (source, &found.object.view) {
            (SourceName::Table(name), None) => name_key(name) == found.table.name.key(),
            (SourceName::View(reference), Some(view)) => {
                let (named, _) = self.shared_view(ctx, reference).await?;
                if named.id == view.id {
                    return Ok(Some(named));
                }
                false
            }
            (SourceName::Table(_), Some(_)) | (SourceName::View(_), None) => false,
        };
        if is_same {
            return Ok(found.object.view.clone());
        }
        let message = "cannot change but for a view's version: recipients would be handed other data under the same \
                       id; remove the object and add it again";
        Err(ServiceError::invalid("source", message))
    }

    /// The registered table that a source names, where the operator has a permission for it.
    pub(in crate::service) async fn registered(
        &self,
        ctx: &OperatorContext,
        permission: Permission,
        name: &str,
    ) -> Result<Table, ServiceError> {
        let found = self.known_table(name).await?;
        ctx.require(permission, &tables::thing(name, found.as_ref()))?;
        match found {
            Some(table) => Ok(table),
            None if ctx.sees_everything() => Err(ServiceError::invalid("source.table", self.core.no_table(name).await)),
            None => Err(ServiceError::invalid("source.table", "names no registered table")),
        }
    }

    /// Describes what an object shows to those who may read its share.
    async fn newly_shown(
        &self,
        share: &Share,
        object: &SharedObject,
        table: &Table,
        now: DateTime<Utc>,
    ) -> Result<Disclosure, ServiceError> {
        let reached = self.reached_in(share.id, now).await?;
        let shown = self.shown_object(share, object, table, disclosures::deadline()).await?;
        Ok(Disclosure { objects: vec![shown], ..reached })
    }

    fn detail(&self, share: Share, object: SharedObject, table: Table) -> ObjectDetail {
        let delivery = self.effective_delivery(&object, &table);
        let schema_hold = self.schema_holds.last_seen(&object);
        ObjectDetail { object, share, table, delivery, clients: None, disclosure: None, schema_hold, reach: None }
    }

    /// Loads the view version that an object shows, if it shows one.
    async fn published(&self, view: Option<&SharedView>) -> Result<Option<Arc<PublishedView>>, ServiceError> {
        match view {
            Some(view) => Ok(Some(self.materializer.published_view(view).await?)),
            None => Ok(None),
        }
    }

    /// Adds the facts from the table's log, whose newest version is `latest`. In a dry run they are about a
    /// hypothetical object, so they are not remembered.
    async fn looked_at(
        &self,
        detail: ObjectDetail,
        location: &TableLocation,
        latest: &Arc<Snapshot>,
        run: Run,
    ) -> Result<ObjectDetail, ServiceError> {
        let served = match run {
            Run::Real => self.served(&detail.object, location, latest).await?,
            Run::Dry => self.would_be_served(&detail.object, location, latest).await?,
        };
        if detail.object.view.is_some() {
            return Ok(ObjectDetail { schema_hold: Some(served.hold), ..detail });
        }
        let disclosed = self.log_disclosure(location, latest, served.snapshot.as_ref().unwrap_or(latest)).await?;
        let disclosure = Some(disclosed.of(&detail.object));
        Ok(ObjectDetail { disclosure, schema_hold: Some(served.hold), ..detail })
    }

    /// The delivery by object and storage, or for views the location of materializations, without a recipient. A
    /// storage that is no longer configured gives proxied delivery.
    fn effective_delivery(&self, object: &SharedObject, table: &Table) -> Delivery {
        let place = match object.view {
            None => self.storages.locate(&table.spec.location).ok(),
            Some(_) => self.materializer.place(),
        };
        let Some(location) = place else { return Delivery::Proxied };
        effective(DeliveryFacts {
            storage: location.delivery(),
            storage_can_sign: location.can_sign(),
            recipient: None,
            recipient_has_networks: false,
            object: object.delivery(),
            presigned_despite_networks: object.spec.presigned_despite_networks,
        })
    }
}

/// Refuses to show a view to recipients that lack a property its filter needs.
async fn check_readers(
    tx: &mut Tx,
    object: &SharedObject,
    published: Option<&PublishedView>,
    now: DateTime<Utc>,
) -> Result<(), ServiceError> {
    let Some(published) = published.filter(|published| published.plan.filter.is_some()) else { return Ok(()) };
    for recipient in tx.list_readers(object.share_id, now, MAX_READERS).await? {
        published.check_properties(&recipient, "source.view")?;
    }
    Ok(())
}

fn parse_names(path: ObjectPath<'_>) -> Result<(Name, Name), ServiceError> {
    let (schema, name) = (Name::parse(NameKind::Schema, path.schema), Name::parse(NameKind::Table, path.name));
    match (schema, name) {
        (Ok(schema), Ok(name)) => Ok((schema, name)),
        (schema, name) => {
            let errors = [("schema", schema.err()), ("name", name.err())];
            let error = |(field, error): (&str, Option<_>)| {
                let error: crate::domain::core::name::NameError = error?;
                Some(FieldError { field: field.to_owned(), message: error.to_string() })
            };
            Err(ServiceError::Invalid(errors.into_iter().filter_map(error).collect()))
        }
    }
}
