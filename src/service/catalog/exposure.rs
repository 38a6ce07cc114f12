//! Exposure: which recipient sees which column, by which object, with which mask, under which agreements, until when.
//!
//! It asks the function that decides and the plan that masks, so that it cannot say something else than they do. Never here:
//! what anybody has read, which the audit trail tells.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        access::{
            decision::{Reason, decide_grant},
            recipient::{Recipient, RecipientState},
        },
        catalog::{
            column::ClassifiedColumn,
            schema::Schema,
            share::{Share, SharedObject},
            table::Table,
            view::mask::Mask,
        },
        operators::Permission,
    },
    service::core::{context::OperatorContext, error::ServiceError},
    store::{GrantFilter, NamedGrant},
};

use super::Catalog;

/// The most objects that one answer describes, and the most grants of one share.
const MOST_OBJECTS: u32 = 1_000;
const MOST_GRANTS: u32 = 1_000;

/// Who sees what of a table, or what a recipient sees.
#[derive(Clone, Debug, Default)]
pub struct Exposure {
    /// The objects.
    pub objects: Vec<ExposedObject>,
    /// The columns of the tables, by table and path.
    pub columns: Vec<ExposedColumn>,
    /// Whether objects or grants were left out, because there are too many.
    pub is_cut: bool,
}

/// A shared object, and who reads it.
#[derive(Clone, Debug)]
pub struct ExposedObject {
    /// `share.schema.name`.
    pub object: String,
    /// What it shows: a table or a version of a view.
    pub source: String,
    /// Whom a grant in force opens it to.
    pub readers: Vec<Reader>,
}

/// A recipient with a grant in force.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The recipient.
    pub recipient: String,
    /// The grant.
    pub grant_id: Uuid,
    /// What it is for.
    pub purpose: Option<String>,
    /// The agreements that it names.
    pub agreements: Vec<String>,
    /// When it ends by itself.
    pub until: DateTime<Utc>,
    /// Why it reads nothing all the same.
    pub refused: Option<Reason>,
}

/// A column of a registered table.
#[derive(Clone, Debug)]
pub struct ExposedColumn {
    /// The table.
    pub table: String,
    /// The path.
    pub path: String,
    /// What was decided about it or proposed; `None` if no scan has found it.
    pub column: Option<ClassifiedColumn>,
    /// Where it is shown.
    pub shown: Vec<ShownAs>,
}

/// How an object shows a column.
#[derive(Clone, Debug)]
pub struct ShownAs {
    /// `share.schema.name`.
    pub object: String,
    /// The name that readers see.
    pub name: String,
    /// The mask in effect.
    pub mask: Option<Mask>,
}

impl Catalog {
    /// Who sees which column of a table, where and with which mask.
    pub async fn exposure_of_table(&self, ctx: &OperatorContext, name: &str) -> Result<Exposure, ServiceError> {
        let table = self.table_for(ctx, Permission::ReadSharing, name).await?;
        let objects = self.core.db.list_objects_of_table(table.id, MOST_OBJECTS).await?;
        let is_cut = objects.len() >= usize::try_from(MOST_OBJECTS).unwrap_or(usize::MAX);
        let mut exposure = Exposure { is_cut, ..Exposure::default() };
        let mut columns = self.columns_of_table(&table).await?;
        for (share, object, table) in objects {
            if !ctx.may(Permission::ReadSharing, &share.thing()) && !ctx.may(Permission::ReadSharing, &table.thing()) {
                continue;
            }
            self.expose(&mut exposure, &mut columns, (&share, &object, &table), None, ctx.now).await?;
        }
        exposure.columns = columns.into_values().collect();
        Ok(exposure)
    }

    /// What a recipient sees, in all shares that it reads.
    pub async fn exposure_of_recipient(&self, ctx: &OperatorContext, name: &str) -> Result<Exposure, ServiceError> {
        let recipient = self.named_recipient(ctx, name).await?;
        let filter =
            GrantFilter { recipient_id: Some(recipient.id), in_force_at: Some(ctx.now), ..GrantFilter::default() };
        let mut exposure = Exposure::default();
        let mut tables: HashMap<Uuid, BTreeMap<String, ExposedColumn>> = HashMap::new();
        for named in self.core.db.list_grants(&filter, None, MOST_GRANTS).await? {
            let Some(share) = self.core.db.find_share_by_id(named.grant.share_id).await? else { continue };
            let objects = self.core.db.list_objects(share.id, None, None, MOST_OBJECTS).await?;
            exposure.is_cut |= objects.len() >= usize::try_from(MOST_OBJECTS).unwrap_or(usize::MAX);
            for (object, table) in objects {
                let columns = match tables.entry(table.id) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => unknown.insert(self.columns_of_table(&table).await?),
                };
                self.expose(&mut exposure, columns, (&share, &object, &table), Some(&recipient), ctx.now).await?;
            }
        }
        let columns = tables.into_values().flat_map(BTreeMap::into_values);
        exposure.columns = columns.filter(|column| !column.shown.is_empty()).collect();
        exposure.columns.sort_by(|one, other| (&one.table, &one.path).cmp(&(&other.table, &other.path)));
        Ok(exposure)
    }

    /// Every column of a table by path: those in its log, and those that a scan has found.
    async fn columns_of_table(&self, table: &Table) -> Result<BTreeMap<String, ExposedColumn>, ServiceError> {
        let known = self.core.db.all_columns(table.id).await?;
        let known = known.into_iter().filter(|column| column.gone_at.is_none());
        let exposed = |path: String, column| {
            let column = ExposedColumn { table: table.name.to_string(), path: path.clone(), column, shown: Vec::new() };
            (path, column)
        };
        let mut columns: BTreeMap<_, _> = known.map(|column| exposed(column.path.clone(), Some(column))).collect();
        // What cannot be looked at now is described by what is known of it.
        if let Ok(snapshot) = self.snapshot_of(table).await
            && let Ok(schema) = Schema::parse(&snapshot.metadata().schema_string)
        {
            for (path, _) in schema.leaves() {
                let (path, column) = exposed(path.to_string(), None);
                columns.entry(path).or_insert(column);
            }
        }
        Ok(columns)
    }

    /// Adds what an object shows, and whom; `only` this recipient if there is one.
    async fn expose(
        &self,
        exposure: &mut Exposure,
        columns: &mut BTreeMap<String, ExposedColumn>,
        (share, object, table): (&Share, &SharedObject, &Table),
        only: Option<&Recipient>,
        now: DateTime<Utc>,
    ) -> Result<(), ServiceError> {
        let name = format!("{}.{}.{}", share.name, object.schema, object.name);
        let filter = GrantFilter {
            share_id: Some(share.id),
            recipient_id: only.map(|recipient| recipient.id),
            in_force_at: Some(now),
            ..GrantFilter::default()
        };
        let grants = self.core.db.list_grants(&filter, None, MOST_GRANTS).await?;
        exposure.is_cut |= grants.len() >= usize::try_from(MOST_GRANTS).unwrap_or(usize::MAX);
        let mut readers = Vec::with_capacity(grants.len());
        for named in grants {
            let Some(recipient) = self.core.db.find_recipient_by_id(named.grant.recipient_id).await? else { continue };
            readers.push(self.reader(&named, &recipient, object, table, now));
        }
        readers.sort_by(|one, other| one.recipient.cmp(&other.recipient));
        let source = match &object.view {
            None => {
                for column in columns.values_mut() {
                    let name_shown = column.path.clone();
                    column.shown.push(ShownAs { object: name.clone(), name: name_shown, mask: None });
                }
                table.name.to_string()
            }
            Some(view) => {
                let published = self.materializer.published_view(view).await?;
                for leaf in published.plan.shown() {
                    let path = leaf.from.to_string();
                    let column = columns.entry(path.clone()).or_insert_with(|| ExposedColumn {
                        table: table.name.to_string(),
                        path,
                        column: None,
                        shown: Vec::new(),
                    });
                    column.shown.push(ShownAs { object: name.clone(), name: leaf.name.to_string(), mask: leaf.mask });
                }
                view.to_string()
            }
        };
        exposure.objects.push(ExposedObject { object: name, source, readers });
        Ok(())
    }

    fn reader(
        &self,
        named: &NamedGrant,
        recipient: &Recipient,
        object: &SharedObject,
        table: &Table,
        now: DateTime<Utc>,
    ) -> Reader {
        let decided = match recipient.state.means() {
            Some(RecipientState::Active) => decide_grant(
                &named.grant,
                table.spec.allowed_purposes.as_deref(),
                object.requirements.as_deref(),
                self.require_classification,
                now,
            ),
            // A state that this server does not know is no reason to read.
            Some(RecipientState::Suspended) | None => Err(Reason::RecipientSuspended),
            Some(RecipientState::Offboarded) => Err(Reason::RecipientOffboarded),
        };
        let class_until = decided.as_ref().ok().copied().flatten();
        let until = named.grant.until(now);
        Reader {
            recipient: recipient.name.to_string(),
            grant_id: named.grant.id,
            purpose: named.grant.purpose.clone(),
            agreements: named.agreements.clone(),
            until: class_until.map_or(until, |end| end.min(until)),
            refused: decided.err(),
        }
    }
}
