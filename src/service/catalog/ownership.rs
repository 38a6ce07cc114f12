//! Says who answers for tables and whether they still can, and tells once when they cannot.
//!
//! Never here: what makes an operator or a group unable to answer, which `domain::operators::owner` says.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        audit::timestamp,
        catalog::{domain::Domain, ownership::Ownership, share::Share, table::Table},
        core::{
            message::quoted,
            name::{NameKind, name_key},
        },
        insight::signal::{Signal, SignalKind},
        operators::{
            Permission,
            group::identity_in,
            owner::{KnownOwner, group_gone_since, operator_gone_since},
        },
    },
    service::core::{
        Core,
        context::OperatorContext,
        error::{FieldError, ServiceError},
        lookup,
    },
    store::{StoreError, Tx},
};

use super::Catalog;

/// The tables read at a time.
const PAGE: u32 = 500;
/// The most tables of one share that are looked at when it is granted.
const MOST_TABLES: u32 = 10_000;
/// The most tables that one refusal names.
const NAMED: usize = 20;
/// The most names that one query looks up.
const NAMES_AT_ONCE: usize = 1_000;

/// A table's ownership, and since when its owner cannot answer, if it cannot.
#[derive(Clone, Debug)]
struct Known {
    ownership: Ownership,
    gone_since: Option<DateTime<Utc>>,
}

/// Since when nobody of these names can answer, by the names' keys; names of which somebody can are left out.
async fn find_gone(
    tx: &mut Tx,
    names: BTreeSet<String>,
    now: DateTime<Utc>,
) -> Result<HashMap<String, DateTime<Utc>>, StoreError> {
    let keys: Vec<String> = names.into_iter().collect();
    let mut groups = Vec::new();
    let mut former: HashMap<String, DateTime<Utc>> = HashMap::new();
    for keys in keys.chunks(NAMES_AT_ONCE) {
        groups.extend(tx.find_owning_groups(keys).await?);
        former.extend(tx.find_former_owners(keys).await?);
    }
    let members = groups.iter().flat_map(|group| group.spec.member_keys());
    let all: BTreeSet<String> = keys.iter().cloned().chain(members).collect();
    let (ids, operators): (Vec<String>, Vec<String>) = all.into_iter().partition(|key| identity_in(key).is_some());
    let ids: Vec<Uuid> = ids.iter().filter_map(|key| identity_in(key)).collect();
    let mut standing: HashMap<String, Option<DateTime<Utc>>> = HashMap::new();
    for keys in operators.chunks(NAMES_AT_ONCE) {
        let found = tx.find_owning_operators(keys).await?;
        standing.extend(found.into_iter().map(|operator| {
            let since = operator_gone_since(operator.disabled_at, operator.last_token_ends_at, now);
            (operator.name_key, since)
        }));
    }
    for ids in ids.chunks(NAMES_AT_ONCE) {
        let found = tx.find_operator_identities(ids).await?;
        standing.extend(found.into_iter().map(|identity| (identity.id.to_string(), identity.disabled_at)));
    }
    let mut gone = HashMap::new();
    for key in keys {
        let own = standing.get(&key).copied();
        let of_groups = groups.iter().filter(|group| group.name.key() == key).map(|group| {
            let since = |member: String| match standing.get(&member) {
                Some(since) => *since,
                // Whoever signs in by an issuer may do so for the first time; an operator that is not there cannot answer.
                None => identity_in(&member).is_none().then_some(group.updated_at),
            };
            let members: Vec<_> = group.spec.member_keys().into_iter().map(since).collect();
            group_gone_since(&members, group.updated_at)
        });
        let those = own.into_iter().chain(of_groups).collect();
        let known = KnownOwner { those, deleted_at: former.get(&key).copied() };
        if let Some(since) = known.gone_since() {
            gone.insert(key, since);
        }
    }
    Ok(gone)
}

/// Looks at the domains and the owners of tables; answers in their order.
async fn look(tx: &mut Tx, tables: &[Table], now: DateTime<Utc>) -> Result<Vec<Known>, StoreError> {
    let domain_key = |table: &Table| table.spec.domain.as_deref().map(name_key);
    let keys: BTreeSet<String> = tables.iter().filter_map(domain_key).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let mut domains: HashMap<String, Domain> = HashMap::new();
    for keys in keys.chunks(NAMES_AT_ONCE) {
        let found = tx.find_domains(keys).await?;
        domains.extend(found.into_iter().map(|domain| (domain.name.key().to_owned(), domain)));
    }
    let ownership = |table: &Table, gone: &HashMap<String, DateTime<Utc>>| {
        let domain = domain_key(table).and_then(|key| domains.get(&key)).map(|domain| &domain.spec);
        Ownership::of(&table.spec, domain, |owner| gone.contains_key(&name_key(owner)))
    };
    let owners = tables.iter().filter_map(|table| ownership(table, &HashMap::new()).owner);
    let gone = find_gone(tx, owners.map(|owner| name_key(&owner)).collect(), now).await?;
    let known = tables.iter().map(|table| {
        let ownership = ownership(table, &gone);
        let gone_since = ownership.owner.as_deref().and_then(|owner| gone.get(&name_key(owner))).copied();
        Known { ownership, gone_since }
    });
    Ok(known.collect())
}

/// Notes that a name is nobody's who could answer: no operator's, no group's, and no id of somebody who signs in by an
/// issuer.
pub(super) async fn unknown(tx: &mut Tx, field: &str, name: Option<&str>) -> Result<Option<FieldError>, ServiceError> {
    let Some(name) = name else { return Ok(None) };
    if identity_in(name).is_some() {
        return Ok(None);
    }
    if let Ok(key) = lookup::key(NameKind::Operator, name) {
        let keys = [key];
        let is_known =
            !tx.find_owning_operators(&keys).await?.is_empty() || !tx.find_owning_groups(&keys).await?.is_empty();
        if is_known {
            return Ok(None);
        }
    }
    let message = "names no operator and no group; GET /operators and GET /groups list who there is";
    Ok(Some(FieldError::new(field, message)))
}

/// Refuses to grant a share that shows tables whose owner cannot answer any more.
pub(in crate::service) async fn require_owned(
    tx: &mut Tx,
    ctx: &OperatorContext,
    share: &Share,
) -> Result<(), ServiceError> {
    let tables = tx.list_tables_in(share.id, MOST_TABLES).await?;
    let known = look(tx, &tables, ctx.now).await?;
    let ownerless = tables.iter().zip(known).filter(|(_, known)| known.ownership.is_ownerless);
    let ownerless: Vec<&Table> = ownerless.map(|(table, _)| table).collect();
    if ownerless.is_empty() {
        return Ok(());
    }
    // What the share shows is known to whoever may grant it; what it stands on may not be.
    let seen = ownerless.iter().filter(|table| ctx.may(Permission::ReadSharing, &table.thing()));
    let names: Vec<&str> = seen.take(NAMED).map(|table| table.name.as_str()).collect();
    let (which, next) = match names.first() {
        Some(first) => {
            (format!("tables without an owner who can answer: {}", quoted(&names)), format!("/tables/{first}"))
        }
        None => ("a table without an owner who can answer".to_owned(), "/tables/{name}".to_owned()),
    };
    Err(ServiceError::conflict(format!(
        "share `{}` shows {which}; name another owner (`owner` in PATCH {next}, or that of its domain), or enable the \
         present one, and grant it then",
        share.name
    )))
}

/// Tells every table whose owner cannot answer any more, once for each such end.
async fn tell_ownerless(core: &Core) -> Result<(), ServiceError> {
    if !core.signals.want(SignalKind::TableOwnerless) {
        return Ok(());
    }
    let now = core.clock.now();
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut tx = core.db.begin_reading().await?;
        let tables = tx.list_tables(after.as_deref(), PAGE).await?;
        let known = look(&mut tx, &tables, now).await?;
        tx.commit().await?;
        let ownerless = tables.iter().zip(&known).filter(|(_, known)| known.ownership.is_ownerless);
        found.extend(ownerless.map(|(table, known)| signal(table, known)));
        match tables.last() {
            Some(last) => after = Some(last.name.key().to_owned()),
            None => break,
        }
    }
    core.signals.tell_once(&core.db, found, now).await
}

fn signal(table: &Table, Known { ownership, gone_since }: &Known) -> Signal {
    let owner = ownership.owner.as_deref().unwrap_or_default();
    let since = gone_since.map(timestamp);
    Signal {
        kind: SignalKind::TableOwnerless,
        subject: table.id.to_string(),
        mark: format!("{} {}", name_key(owner), since.as_deref().unwrap_or_default()),
        data: json!({
            "table": table.name.to_string(), "table_id": table.id, "owner": owner, "domain": table.spec.domain,
            "since": since,
        }),
    }
}

/// Tells what a change has left without an owner, once it is committed. What fails here the next sweep makes up for.
pub(in crate::service) async fn tell_after(core: &Core, ctx: &OperatorContext) {
    if ctx.is_dry() {
        return;
    }
    if let Err(error) = tell_ownerless(core).await {
        tracing::warn!(%error, "tables without an owner could not be told; they are told later");
    }
}

impl Catalog {
    /// Who answers for these tables, in their order.
    pub async fn ownership_of(&self, tables: &[Table]) -> Result<Vec<Ownership>, ServiceError> {
        let mut tx = self.core.db.begin_reading().await?;
        let known = look(&mut tx, tables, self.core.clock.now()).await?;
        tx.commit().await?;
        Ok(known.into_iter().map(|known| known.ownership).collect())
    }

    /// Tells tables whose owner cannot answer any more.
    pub async fn tell_ownerless(&self) -> Result<(), ServiceError> {
        tell_ownerless(&self.core).await
    }
}
