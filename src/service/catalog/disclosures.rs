//! Determines whom a change would newly reach, and with which columns and rows, before the change is made.
//!
//! A dry run takes no lock and stores nothing. Never here: what a raw table's files hold beyond what a query shows.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::{
    domain::catalog::{
        schema::Schema,
        share::{Share, SharedObject},
        table::Table,
        view::mask::Mask,
    },
    service::core::error::ServiceError,
    store::GrantFilter,
};

use super::Catalog;

/// The most objects, and the most recipients, that are listed.
const MOST_TOLD: u32 = 200;

/// The number of objects that are inspected at the same time.
const TOGETHER: usize = 16;
/// How long to wait for tables that are not in memory, in total, because the caller waits too.
const PATIENCE: Duration = Duration::from_secs(5);

/// The deadline for tables that are requested now.
pub(in crate::service) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// What a change newly discloses, and to whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disclosure {
    /// The recipients that it reaches; empty if nothing is newly disclosed.
    pub recipients: Vec<Reached>,
    /// The objects that they see.
    pub objects: Vec<ShownObject>,
    /// Whether recipients or objects are missing from these lists because there are too many.
    pub is_cut: bool,
}

/// A recipient that a change reaches.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// Its name.
    pub recipient: String,
    /// When its access begins.
    pub valid_from: DateTime<Utc>,
    /// When its access ends.
    pub valid_until: DateTime<Utc>,
}

/// An object as recipients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownObject {
    /// Its name: share, schema and table.
    pub object: String,
    /// The registered table or the view version behind it.
    pub source: String,
    /// Its columns; `None` if the table cannot be read now.
    pub columns: Option<Vec<ShownColumn>>,
    /// The filter on its rows; `None` for all rows.
    pub rows: Option<String>,
    /// Whether older versions are shown.
    pub history: bool,
    /// Whether the change data feed is shown.
    pub cdf: bool,
}

/// A column as recipients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownColumn {
    /// Its name; dotted for a field.
    pub name: String,
    /// The mask on its values; `None` if they are shown unchanged.
    pub mask: Option<Mask>,
}

impl Catalog {
    /// Lists the recipients that may read a share now or later.
    pub(in crate::service) async fn reached_in(
        &self,
        share_id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Disclosure, ServiceError> {
        let filter = GrantFilter { share_id: Some(share_id), open_at: Some(now), ..GrantFilter::default() };
        let mut grants = self.core.db.list_grants(&filter, None, MOST_TOLD + 1).await?;
        let is_cut = grants.len() > MOST_TOLD as usize;
        grants.truncate(MOST_TOLD as usize);
        let reached = grants.into_iter().map(|named| Reached {
            valid_from: named.grant.valid_from,
            valid_until: named.grant.until(now),
            recipient: named.recipient,
        });
        Ok(Disclosure { recipients: reached.collect(), objects: Vec::new(), is_cut })
    }

    /// Lists everything that a share shows.
    pub(in crate::service) async fn shown_in(&self, share: &Share) -> Result<Disclosure, ServiceError> {
        let mut objects = self.core.db.list_objects(share.id, None, None, MOST_TOLD + 1).await?;
        let is_cut = objects.len() > MOST_TOLD as usize;
        objects.truncate(MOST_TOLD as usize);
        let until = deadline();
        let shown: Vec<_> =
            objects.iter().map(|(object, table)| self.shown_object(share, object, table, until)).collect();
        let shown = stream::iter(shown).buffered(TOGETHER).try_collect().await?;
        Ok(Disclosure { recipients: Vec::new(), objects: shown, is_cut })
    }

    /// Describes what an object shows; a table's columns are waited for `until` then.
    pub(in crate::service) async fn shown_object(
        &self,
        share: &Share,
        object: &SharedObject,
        table: &Table,
        until: Instant,
    ) -> Result<ShownObject, ServiceError> {
        let (source, columns, rows) = match &object.view {
            Some(view) => {
                let plan = &self.materializer.published_view(view).await?.plan;
                let shown = plan.shown().into_iter();
                let columns = shown.map(|shown| ShownColumn { name: shown.name.to_string(), mask: shown.mask });
                (view.to_string(), Some(columns.collect()), plan.pinned.definition.row_filter.clone())
            }
            None => (table.name.to_string(), self.raw_columns(table, until).await, None),
        };
        let object_name = format!("{}.{}.{}", share.name, object.schema, object.name);
        Ok(ShownObject {
            object: object_name,
            source,
            columns,
            rows,
            history: object.spec.history,
            cdf: object.spec.cdf,
        })
    }

    async fn raw_columns(&self, table: &Table, until: Instant) -> Option<Vec<ShownColumn>> {
        let opened = match timeout_at(until, self.open_log(&table.spec.location)).await {
            Ok(opened) => opened,
            Err(_) => Err(ServiceError::internal("the table's log was not read in time")),
        };
        let (_, snapshot) = opened
            .inspect_err(|error| {
                tracing::warn!(table.name = %table.name, %error, "what a table shows could not be looked at");
            })
            .ok()?;
        let schema = Schema::parse(&snapshot.metadata().schema_string).ok()?;
        Some(schema.fields.into_iter().map(|field| ShownColumn { name: field.name, mask: None }).collect())
    }
}
