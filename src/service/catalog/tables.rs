//! Registered tables, which operators can share.

use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    domain::{
        audit::{
            Event, Object,
            action::{Action, Kind},
        },
        catalog::{
            clients::Clients,
            ownership::Ownership,
            table::{Table, TableSpec},
        },
        core::{
            message::quoted,
            name::{Name, NameKind},
            spec::{LONGEST_TEXT, Mode, check_text, tightened},
        },
        operators::{Permission, principal::Thing},
    },
    lake::{Column, LakeError, Snapshot},
    service::{
        access::purposes,
        audit::write,
        core::{
            change::{Named, Put, audited, changed_spec, confirm, differing, new_spec},
            context::OperatorContext,
            error::ServiceError,
            lookup,
            page::{Page, PageRequest},
            precondition::Precondition,
            unit::ChangeUnit,
        },
    },
    storage::{StorageError, TableLocation},
    store::Tx,
};

use super::{Catalog, columns, ownership, requirements};

/// A registered table and its newest snapshot.
#[derive(Clone, Debug)]
pub struct OpenedTable {
    /// The table.
    pub table: Table,
    /// Its newest snapshot.
    pub snapshot: Arc<Snapshot>,
}

/// What a table's newest snapshot says of it, without its files.
#[derive(Clone, Debug)]
pub struct DeltaSummary {
    /// The Delta table id.
    pub id: String,
    /// The version.
    pub version: u64,
    /// The reader features that a connector needs.
    pub reader_features: Vec<String>,
    /// The top-level columns.
    pub columns: Vec<Column>,
    /// The names of the partition columns.
    pub partition_columns: Vec<String>,
    /// The connectors that can read it.
    pub clients: Clients,
}

impl From<&Snapshot> for DeltaSummary {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            id: snapshot.metadata().id.clone(),
            version: snapshot.version(),
            reader_features: snapshot.required_features().iter().cloned().collect(),
            columns: snapshot.columns().to_vec(),
            partition_columns: snapshot.metadata().partition_columns.clone(),
            clients: Clients::of(&snapshot.shown()),
        }
    }
}

pub(super) fn event(ctx: &OperatorContext, action: Action, table: &Table) -> Event {
    let name = Some(table.name.to_string());
    Event {
        table_id: Some(table.id),
        registered_table: name.clone(),
        ..ctx.event(action, Object { kind: Kind::Table, id: Some(table.id), name })
    }
}

/// Parses the name of a registered table that is about to be created.
fn new_name(text: &str) -> Result<Name, ServiceError> {
    Name::parse(NameKind::RegisteredTable, text).map_err(|error| ServiceError::invalid("name", error.to_string()))
}

pub(in crate::service) fn not_found(name: &str) -> ServiceError {
    ServiceError::NotFound { kind: "table", name: name.to_owned() }
}

/// The table of this name as scopes see it, be it there or not.
pub(super) fn thing(name: &str, found: Option<&Table>) -> Thing {
    found.map_or_else(|| Thing::table(name, None), Table::thing)
}

/// A table by its name, where the operator has a permission for it.
pub(super) async fn find(
    tx: &mut Tx,
    ctx: &OperatorContext,
    permission: Permission,
    name: &str,
) -> Result<Table, ServiceError> {
    let found = match lookup::key(NameKind::RegisteredTable, name) {
        Ok(key) => tx.find_table(&key).await?,
        Err(_) => None,
    };
    ctx.require(permission, &thing(name, found.as_ref()))?;
    found.ok_or_else(|| not_found(name))
}

/// A table that was read before, as it stands in a transaction, where the operator has the permission for it there, too;
/// `None` where what was read of its log may no longer be its own.
pub(super) async fn still(
    tx: &mut Tx,
    ctx: &OperatorContext,
    permission: Permission,
    before: &Table,
) -> Result<Option<Table>, ServiceError> {
    let found = tx.find_table_by_id(before.id).await?;
    ctx.require(permission, &thing(before.name.as_str(), found.as_ref()))?;
    Ok(found.filter(|found| found.spec.location == before.spec.location))
}

/// Refuses to have a table lie somewhere, where the operator may not choose from all that there is: whoever looks after a
/// table of this name could look into another's data otherwise.
pub(super) fn require_placing(ctx: &OperatorContext) -> Result<(), ServiceError> {
    ctx.require(Permission::ManageCatalog, &Thing::EVERYTHING)
}

impl Catalog {
    /// Registers a table, or confirms that it is registered as described. Opens its log once, so that an unreadable
    /// table is refused here and not only when a recipient reads it.
    pub async fn put_table(
        &self,
        ctx: &OperatorContext,
        name: &str,
        named: &Named,
    ) -> Result<Put<OpenedTable>, ServiceError> {
        let name = new_name(name)?;
        let known = self.core.db.find_table(name.key()).await?;
        match &known {
            Some(known) => ctx.require(Permission::ManageCatalog, &known.thing())?,
            None => require_placing(ctx)?,
        }
        let asked: TableSpec = match &known {
            Some(known) => changed_spec(&known.spec, named, Mode::Whole)?,
            None => new_spec(named)?,
        };
        if known.as_ref().is_none_or(|known| known.spec.location != asked.location) {
            require_placing(ctx)?;
        }
        let (location, snapshot) = self.open_log(&asked.location).await?;
        let spec = TableSpec { location: location.url().to_owned(), ..asked };

        let mut unit = self.core.begin_change(ctx).await?;
        let done = self.put_table_in(&mut unit, name, spec, snapshot).await?;
        unit.commit().await?;
        Ok(done)
    }

    /// Registers the table in an open change; `snapshot` is the newest of the location that `spec` names.
    pub async fn put_table_in(
        &self,
        unit: &mut ChangeUnit,
        name: Name,
        spec: TableSpec,
        snapshot: Arc<Snapshot>,
    ) -> Result<Put<OpenedTable>, ServiceError> {
        let (tx, ctx) = unit.parts();
        if let Some(existing) = tx.find_table(name.key()).await? {
            ctx.require(Permission::ManageCatalog, &existing.thing())?;
            confirm("table", name.as_str(), &existing.spec, &spec)?;
            return Ok(Put::Confirmed(OpenedTable { table: existing, snapshot }));
        }
        require_placing(ctx)?;
        let table = Table {
            id: Uuid::now_v7(),
            name,
            spec,
            delta_id: snapshot.metadata().id.clone(),
            created_at: ctx.now,
            updated_at: ctx.now,
            revision: 1,
        };
        require_declared(tx, &table).await?;
        require_steward(tx, &table).await?;
        tx.insert_table(&table).await?;
        let event = audited(None, Some(&table.spec)).told_by(event(ctx, Action::TableCreate, &table));
        write::append(tx, event, ctx.now).await?;
        Ok(Put::Created(OpenedTable { table, snapshot }))
    }

    /// A registered table.
    pub async fn get_table(&self, ctx: &OperatorContext, name: &str) -> Result<Table, ServiceError> {
        self.table_for(ctx, Permission::ReadSharing, name).await
    }

    /// A registered table, where the operator has a permission for it.
    pub(super) async fn table_for(
        &self,
        ctx: &OperatorContext,
        permission: Permission,
        name: &str,
    ) -> Result<Table, ServiceError> {
        let found = self.known_table(name).await?;
        ctx.require(permission, &thing(name, found.as_ref()))?;
        found.ok_or_else(|| not_found(name))
    }

    /// Registered tables by name with who answers for them, as far as the operator may see them: all, or those that are
    /// ownerless or not.
    pub async fn list_registered_tables(
        &self,
        ctx: &OperatorContext,
        is_ownerless: Option<bool>,
        page: &PageRequest,
    ) -> Result<Page<(Table, Ownership)>, ServiceError> {
        let listing = is_ownerless.map_or_else(|| "tables".to_owned(), |is| format!("tables, ownerless: {is}"));
        let opened = self.core.begin_page(page, listing)?;
        let tables = self.core.db.list_tables(opened.after.as_deref(), opened.limit).await?;
        let page = self.core.end_page(opened, tables, |table| table.name.key().to_owned());
        let Page { items, next_page_token } = page.filter(|table| ctx.may(Permission::ReadSharing, &table.thing()));
        let known = self.ownership_of(&items).await?;
        let items = items.into_iter().zip(known).collect();
        let asked = |(_, known): &(Table, Ownership)| is_ownerless.is_none_or(|asked| asked == known.is_ownerless);
        Ok(Page { items, next_page_token }.filter(asked))
    }

    /// The registered table of this name, if there is one.
    pub(super) async fn known_table(&self, name: &str) -> Result<Option<Table>, ServiceError> {
        match lookup::key(NameKind::RegisteredTable, name) {
            Ok(key) => Ok(self.core.db.find_table(&key).await?),
            Err(_) => Ok(None),
        }
    }

    /// Changes a table's spec. Another location is refused while the table is shared, because recipients would get
    /// other data under the same name.
    pub async fn update_table(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
    ) -> Result<Table, ServiceError> {
        let known = self.known_table(name).await?;
        ctx.require(Permission::ManageCatalog, &thing(name, known.as_ref()))?;
        let moved = match named.get("location") {
            Some(Value::String(location)) if check_text(location, LONGEST_TEXT).is_ok() => {
                if known.as_ref().is_none_or(|known| known.spec.location != *location) {
                    require_placing(ctx)?;
                }
                Some(self.open_log(location).await?)
            }
            // Other values are refused below.
            _ => None,
        };
        let mut unit = self.core.begin_change(ctx).await?;
        let done = self.update_table_in(&mut unit, name, condition, named, moved).await?;
        unit.commit().await?;
        Ok(done)
    }

    /// Changes the table in an open change; `moved` is the other location, opened, where `named` has one.
    pub async fn update_table_in(
        &self,
        unit: &mut ChangeUnit,
        name: &str,
        condition: Option<&Precondition>,
        named: &Named,
        moved: Option<(TableLocation, Arc<Snapshot>)>,
    ) -> Result<Table, ServiceError> {
        let (tx, ctx) = unit.parts();
        let before = find(tx, ctx, Permission::ManageCatalog, name).await?;
        Precondition::check(condition, before.id, before.revision)?;
        let mut after = Table { spec: changed_spec(&before.spec, named, Mode::Merge)?, ..before.clone() };
        if let Some((location, _)) = &moved {
            after.spec.location = location.url().to_owned();
        }
        if differing(&before.spec, &after.spec).is_empty() {
            return Ok(before);
        }
        ctx.require(Permission::ManageCatalog, &after.thing())?;
        ctx.require_moving(&before.thing(), &after.thing())?;
        if before.spec.location != after.spec.location {
            require_placing(ctx)?;
        }
        if before.spec.allowed_purposes != after.spec.allowed_purposes {
            require_declared(tx, &after).await?;
        }
        if before.spec.steward != after.spec.steward {
            require_steward(tx, &after).await?;
        }
        if let Some((_, snapshot)) = moved.filter(|_| before.spec.location != after.spec.location) {
            let users = users(tx, before.id).await?;
            if !users.is_empty() {
                let message = format!(
                    "table `{name}` is shared as {}; remove it there before it moves, or register the other location \
                     under another name",
                    quoted(&users)
                );
                return Err(ServiceError::conflict(message));
            }
            after.delta_id = snapshot.metadata().id.clone();
            let reopened = columns::reopen(tx, before.id, ctx.now).await?;
            requirements::settle_columns(tx, ctx, before.id, &reopened).await?;
        }
        after.updated_at = ctx.now;
        let after = tx.update_table(after).await?;
        let event = audited(Some(&before.spec), Some(&after.spec)).told_by(event(ctx, Action::TableUpdate, &after));
        write::append(tx, event, ctx.now).await?;
        Ok(after)
    }

    /// Removes a table that is not shared; its data stays.
    pub async fn delete_table(
        &self,
        ctx: &OperatorContext,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        self.delete_table_in(&mut unit, name, condition).await?;
        unit.commit().await?;
        Ok(())
    }

    /// Does the same as [`Self::delete_table`] in an open change.
    pub async fn delete_table_in(
        &self,
        unit: &mut ChangeUnit,
        name: &str,
        condition: Option<&Precondition>,
    ) -> Result<(), ServiceError> {
        let (tx, ctx) = unit.parts();
        let table = find(tx, ctx, Permission::ManageCatalog, name).await?;
        Precondition::check(condition, table.id, table.revision)?;
        let users = users(tx, table.id).await?;
        if !users.is_empty() {
            let message = format!("table `{name}` is shared as {}; remove it there first", quoted(&users));
            return Err(ServiceError::conflict(message));
        }
        tx.delete_table(table.id, table.revision).await?;
        let event = audited(Some(&table.spec), None).told_by(event(ctx, Action::TableDelete, &table));
        write::append(tx, event, ctx.now).await?;
        Ok(())
    }

    /// Finds a location's storage and opens the log there.
    pub(in crate::service) async fn open_log(
        &self,
        location: &str,
    ) -> Result<(TableLocation, Arc<Snapshot>), ServiceError> {
        let located = self.storages.locate(location).map_err(|error| refused_place("location", error))?;
        if self.materializer.meets(located.url()) {
            let message = "and the place of copies (`views.root`) lie in each other; tables and copies never share one";
            return Err(ServiceError::invalid("location", message));
        }
        let snapshot = self.lake.latest(&located).await.map_err(refused_log)?;
        Ok((located, snapshot))
    }

    /// Reads the newest snapshot of a registered table.
    pub(in crate::service) async fn snapshot_of(&self, table: &Table) -> Result<Arc<Snapshot>, ServiceError> {
        Ok(self.open_log(&table.spec.location).await?.1)
    }
}

/// Sets again what a table was tightened to before the database was restored; false where nothing is tighter by it, or the
/// table is not there. The transaction must hold the chain's lock.
pub(in crate::service) async fn tighten(
    tx: &mut Tx,
    ctx: &OperatorContext,
    id: Uuid,
    recorded: &Map<String, Value>,
    reason: &str,
) -> Result<bool, ServiceError> {
    let Some(before) = tx.find_table_by_id(id).await? else { return Ok(false) };
    let spec = tightened(&before.spec, recorded);
    if spec == before.spec {
        return Ok(false);
    }
    let after = tx.update_table(Table { spec, updated_at: ctx.now, ..before.clone() }).await?;
    let change = audited(Some(&before.spec), Some(&after.spec)).because(reason);
    write::append(tx, change.told_by(event(ctx, Action::TableUpdate, &after)), ctx.now).await?;
    Ok(true)
}

/// Refuses a steward who is not there.
async fn require_steward(tx: &mut Tx, table: &Table) -> Result<(), ServiceError> {
    match ownership::unknown(tx, "steward", table.spec.steward.as_deref()).await? {
        None => Ok(()),
        Some(wrong) => Err(ServiceError::Invalid(vec![wrong])),
    }
}

/// Refuses purposes that are not declared.
async fn require_declared(tx: &mut Tx, table: &Table) -> Result<(), ServiceError> {
    let names = table.spec.allowed_purposes.as_deref().unwrap_or_default();
    let wrong = purposes::undeclared(tx, "allowed_purposes", names).await?;
    if wrong.is_empty() { Ok(()) } else { Err(ServiceError::Invalid(wrong)) }
}

/// Lists the objects and views that use a table, up to a message's length.
async fn users(tx: &mut Tx, table_id: Uuid) -> Result<Vec<String>, ServiceError> {
    let objects = tx.list_objects_of_table(table_id, 20).await?;
    let shared = objects.iter().map(|(share, object, _)| format!("{}.{}.{}", share.name, object.schema, object.name));
    let views = tx.list_views_of_table(table_id, 20).await?;
    Ok(shared.chain(views.iter().map(|name| format!("view {name}"))).collect())
}

/// Why what `field` names is no place for tables.
pub(super) fn refused_place(field: &str, error: StorageError) -> ServiceError {
    if error.is_outage() {
        return ServiceError::Unavailable { what: "the table's storage", source: error.into() };
    }
    ServiceError::invalid(field, error.to_string())
}

pub(super) fn refused_log(error: LakeError) -> ServiceError {
    match error {
        LakeError::NotATable { .. } => ServiceError::invalid("location", error.to_string()),
        LakeError::Unsupported { .. } | LakeError::UnreadableSchema { .. } => {
            ServiceError::Unsupported(error.to_string())
        }
        LakeError::Unavailable { .. } => {
            ServiceError::Unavailable { what: "the table's storage", source: error.into() }
        }
        LakeError::CorruptLog { .. }
        | LakeError::VersionNotFound { .. }
        | LakeError::CommitNotFound { .. }
        | LakeError::TimestampTooEarly { .. }
        | LakeError::TimestampTooLate { .. }
        | LakeError::ChangesNotRecorded { .. }
        | LakeError::IncompleteRemove { .. }
        | LakeError::PathNotServed { .. } => {
            ServiceError::Unreadable { message: error.to_string(), source: error.into() }
        }
        LakeError::Demo { .. } => ServiceError::internal(error),
    }
}
