//! Objects that do not follow every change of a schema. If a table's schema is not the accepted one, or does not fit a
//! view, an older version is served, until an operator accepts the new schema or shows another version of the view.
//!
//! Never here: finding that version in a log, which the lake does, or the form of an answer about it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    domain::{
        catalog::{
            delta::Metadata,
            shape::{AcceptedShape, Shape},
            share::{OnSchemaChange, Share, SharedObject},
            table::Table,
        },
        core::seal::hex,
        insight::signal::{Signal, SignalKind},
    },
    lake::{LakeError, Snapshot},
    service::{core::error::ServiceError, materialize::PublishedView},
    storage::TableLocation,
};

use super::Catalog;

/// The number of objects that are read from the database together, and that are checked at the same time.
const PAGE: u32 = 100;
const TOGETHER: usize = 8;
/// The most schema changes that a signal lists.
const TOLD_CHANGES: usize = 20;

/// A schema hold: the newest version of a table is held back from an object's recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaHold {
    /// The version that is served; `None` if the log has none left with the accepted schema.
    pub serving_version: Option<u64>,
    /// The table's newest version.
    pub newest_version: u64,
    /// When the first held-back version was committed, if the log says so.
    pub since: Option<DateTime<Utc>>,
    /// How the accepted schema became the newest one, in words.
    pub changes: Vec<String>,
}

impl SchemaHold {
    /// Whether `other` holds back the same change; further versions may have been added meanwhile.
    fn is_of_the_same_change(&self, other: &Self) -> bool {
        (self.serving_version, &self.changes) == (other.serving_version, &other.changes)
    }
}

/// The last known state of objects that hold their schema, in this server's memory.
#[derive(Debug, Default)]
pub struct SchemaHolds {
    seen: Mutex<HashMap<Uuid, Seen>>,
}

#[derive(Clone, Debug)]
struct Seen {
    /// The object's revision.
    revision: i64,
    /// The table's newest snapshot when it was checked.
    latest: Weak<Snapshot>,
    newest_version: u64,
    hold: Option<SchemaHold>,
}

impl SchemaHolds {
    fn seen(&self) -> MutexGuard<'_, HashMap<Uuid, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last known state of `object` in its current revision, however old.
    fn of(&self, object: &SharedObject) -> Option<Seen> {
        self.seen().get(&object.id).filter(|seen| seen.revision == object.revision).cloned()
    }

    /// The hold when it was last checked; `None` if it never was.
    pub(in crate::service) fn last_seen(&self, object: &SharedObject) -> Option<Option<SchemaHold>> {
        match object.spec.schema_change() {
            OnSchemaChange::Follow if object.view.is_none() => Some(None),
            OnSchemaChange::Follow | OnSchemaChange::Hold => self.of(object).map(|seen| seen.hold),
        }
    }

    /// Remembers the state of `object`, and logs it if it differs from the one before; returns the number of objects on
    /// hold.
    fn saw(&self, object: &SharedObject, latest: &Arc<Snapshot>, hold: Option<SchemaHold>) -> usize {
        let seen = Seen {
            revision: object.revision,
            latest: Arc::downgrade(latest),
            newest_version: latest.version(),
            hold: hold.clone(),
        };
        let (before, n_held) = {
            let mut all = self.seen();
            let before = all.insert(object.id, seen).and_then(|seen| seen.hold);
            (before, count(&all))
        };
        let name = format!("{}.{}", object.schema, object.name);
        match (before, hold) {
            (Some(before), Some(hold)) if before.is_of_the_same_change(&hold) => {}
            (_, Some(hold)) => tracing::warn!(
                object.id = %object.id, object.name = name, hold.serving_version = hold.serving_version,
                table.version = hold.newest_version, changes = hold.changes.join("; "),
                "a table's schema changed; its recipients are served the newest version that fits"
            ),
            (Some(_), None) => tracing::info!(
                object.id = %object.id, object.name = name, table.version = latest.version(),
                "a table's schema fits again; its recipients are served its newest version"
            ),
            (None, None) => {}
        }
        n_held
    }

    fn keep_only(&self, ids: &HashSet<Uuid>) -> usize {
        let mut all = self.seen();
        all.retain(|id, _| ids.contains(id));
        count(&all)
    }
}

fn count(seen: &HashMap<Uuid, Seen>) -> usize {
    seen.values().filter(|seen| seen.hold.is_some()).count()
}

/// What an object requires of its table's metadata.
#[derive(Debug)]
enum Asks<'a> {
    /// The accepted shape.
    Shape(&'a AcceptedShape),
    /// The columns that a view reads.
    View(Arc<PublishedView>),
}

impl Asks<'_> {
    fn fits(&self, metadata: &Metadata) -> bool {
        match self {
            Self::Shape(accepted) => accepted.fits(metadata),
            Self::View(published) => published.fits(metadata),
        }
    }
}

/// The version of a table that an object's recipients are served.
#[derive(Clone, Debug)]
pub(in crate::service) struct ServedVersion {
    /// The newest version that they see; `None` if no version is left that they may see.
    pub(in crate::service) snapshot: Option<Arc<Snapshot>>,
    /// The hold, if the table's newest version is held back from them.
    pub(in crate::service) hold: Option<SchemaHold>,
}

impl Catalog {
    /// Determines what recipients of `object` are served; `latest` is its table's newest version. Cheap if neither has
    /// changed since the last call.
    pub(in crate::service) async fn served(
        &self,
        object: &SharedObject,
        location: &TableLocation,
        latest: &Arc<Snapshot>,
    ) -> Result<ServedVersion, ServiceError> {
        let Some(asks) = self.asks_of(object).await? else {
            return Ok(ServedVersion { snapshot: Some(Arc::clone(latest)), hold: None });
        };
        let seen = self.schema_holds.of(object).filter(|seen| seen.latest.ptr_eq(&Arc::downgrade(latest)));
        match seen.map(|seen| seen.hold) {
            Some(None) => return Ok(ServedVersion { snapshot: Some(Arc::clone(latest)), hold: None }),
            Some(hold @ Some(SchemaHold { serving_version: None, .. })) => {
                return Ok(ServedVersion { snapshot: None, hold });
            }
            Some(Some(hold)) => {
                let history = self.lake.history_until(location, Arc::clone(latest)).await;
                match history.at_version(hold.serving_version.unwrap_or_default()).await {
                    Ok(snapshot) => return Ok(ServedVersion { snapshot: Some(snapshot), hold: Some(hold) }),
                    // It was cleaned up since; another one is searched for below.
                    Err(LakeError::VersionNotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            None => {}
        }
        let served = self.find_served(object, &asks, location, latest).await?;
        let n_held = self.schema_holds.saw(object, latest, served.hold.clone());
        self.core.metrics.objects_on_hold_are(n_held);
        Ok(served)
    }

    /// Determines what recipients of `object` would be served. Remembers nothing, because the object is hypothetical.
    pub(in crate::service) async fn would_be_served(
        &self,
        object: &SharedObject,
        location: &TableLocation,
        latest: &Arc<Snapshot>,
    ) -> Result<ServedVersion, ServiceError> {
        match self.asks_of(object).await? {
            Some(asks) => self.find_served(object, &asks, location, latest).await,
            None => Ok(ServedVersion { snapshot: Some(Arc::clone(latest)), hold: None }),
        }
    }

    /// What `object` requires of its table's metadata, if anything.
    async fn asks_of<'a>(&self, object: &'a SharedObject) -> Result<Option<Asks<'a>>, ServiceError> {
        Ok(match (&object.view, &object.accepted) {
            (Some(view), _) => Some(Asks::View(self.materializer.published_view(view).await?)),
            (None, Some(accepted)) => Some(Asks::Shape(accepted)),
            (None, None) => None,
        })
    }

    async fn find_served(
        &self,
        object: &SharedObject,
        asks: &Asks<'_>,
        location: &TableLocation,
        latest: &Arc<Snapshot>,
    ) -> Result<ServedVersion, ServiceError> {
        let snapshot = self.lake.newest_that(location, latest, |metadata| asks.fits(metadata)).await?;
        let hold = match &snapshot {
            Some(snapshot) if snapshot.version() == latest.version() => None,
            held => Some(self.describe_hold(object, asks, location, held.as_ref(), latest).await?),
        };
        Ok(ServedVersion { snapshot, hold })
    }

    async fn describe_hold(
        &self,
        object: &SharedObject,
        asks: &Asks<'_>,
        location: &TableLocation,
        held: Option<&Arc<Snapshot>>,
        latest: &Arc<Snapshot>,
    ) -> Result<SchemaHold, ServiceError> {
        let changes = match asks {
            Asks::View(published) => published.misfits(latest.metadata()),
            Asks::Shape(_) => match (self.core.db.find_accepted_schema(object.id).await?, Shape::of(latest.metadata()))
            {
                (Some(accepted), Ok(newest)) => accepted.changes_to(&newest),
                (_, Err(error)) => vec![format!("the schema cannot be understood: {error}")],
                (None, Ok(_)) => Vec::new(),
            },
        };
        let since = match held {
            Some(held) => {
                let history = self.lake.history_until(location, Arc::clone(latest)).await;
                // Added if the log has it; no answer depends on it.
                history.committed_at(held.version() + 1).await.ok().and_then(DateTime::from_timestamp_millis)
            }
            None => None,
        };
        let serving_version = held.map(|held| held.version());
        Ok(SchemaHold { serving_version, newest_version: latest.version(), since, changes })
    }

    /// Checks every object that holds its schema, even if nobody reads it, so that operators see changes in the metrics
    /// and the log. A table without a new version costs one listing.
    pub async fn watch_schemas(&self) -> Result<(), ServiceError> {
        let (mut listed, mut after) = (HashSet::new(), Uuid::nil());
        loop {
            let page = self.core.db.list_holding_objects(after, PAGE).await?;
            let Some((_, last, _)) = page.last() else { break };
            after = last.id;
            listed.extend(page.iter().map(|(_, object, _)| object.id));
            let look = async |(_, object, table): &(Share, SharedObject, Table)| {
                if let Err(error) = self.look_at(object, table).await {
                    tracing::debug!(object.id = %object.id, %error, "a table's schema could not be looked at");
                }
            };
            stream::iter(&page).for_each_concurrent(TOGETHER, look).await;
            let held = page.iter().filter_map(|(share, object, table)| {
                let hold = self.schema_holds.of(object)?.hold?;
                Some(signal(share, object, table, &hold))
            });
            self.core.signals.tell_once(&self.core.db, held.collect(), self.core.clock.now()).await?;
        }
        self.core.metrics.objects_on_hold_are(self.schema_holds.keep_only(&listed));
        Ok(())
    }

    async fn look_at(&self, object: &SharedObject, table: &Table) -> Result<(), ServiceError> {
        let location = self.storages.locate(&table.spec.location)?;
        let newest = self.lake.latest_version(&location).await?;
        if self.schema_holds.of(object).is_some_and(|seen| seen.newest_version == newest) {
            return Ok(());
        }
        let latest = self.lake.latest(&location).await?;
        self.served(object, &location, &latest).await.map(drop)
    }
}

/// Builds the signal about what is held back from the recipients of `object`.
fn signal(share: &Share, object: &SharedObject, table: &Table, hold: &SchemaHold) -> Signal {
    let mut change = Sha256::new().chain_update(hold.serving_version.unwrap_or(u64::MAX).to_be_bytes());
    hold.changes.iter().for_each(|line| change.update(format!("{line}\n")));
    Signal {
        kind: SignalKind::SchemaHold,
        subject: object.id.to_string(),
        mark: hex(&change.finalize()[..16]),
        data: json!({
            "share": share.name.as_str(), "object": format!("{}.{}", object.schema, object.name),
            "object_id": object.id, "table": table.name.as_str(), "serving_version": hold.serving_version,
            "newest_version": hold.newest_version, "changes": &hold.changes[..hold.changes.len().min(TOLD_CHANGES)],
        }),
    }
}

/// Accepts the newest shape for an object that holds its schema but has no accepted shape yet, and removes the accepted
/// shape from an object that follows.
pub(in crate::service) fn settle_shape(object: &mut SharedObject, newest: &NewestShape) -> Result<(), ServiceError> {
    match object.spec.schema_change() {
        OnSchemaChange::Follow => object.accepted = None,
        OnSchemaChange::Hold if object.accepted.is_none() && object.view.is_none() => {
            object.accepted = Some(newest.accepted()?);
        }
        OnSchemaChange::Hold => {}
    }
    Ok(())
}

/// The shape of a table's newest version, ready to be accepted.
#[derive(Debug)]
pub(in crate::service) struct NewestShape {
    version: u64,
    shape: Result<Shape, crate::domain::catalog::schema::SchemaError>,
}

impl NewestShape {
    pub(in crate::service) fn of(snapshot: &Snapshot) -> Self {
        Self { version: snapshot.version(), shape: Shape::of(snapshot.metadata()) }
    }

    /// The shape; an input error if the schema cannot be understood.
    pub(in crate::service) fn shape(&self) -> Result<&Shape, ServiceError> {
        self.shape.as_ref().map_err(|error| {
            let message = format!("cannot be `hold`: the table's schema cannot be understood ({error}); use `follow`");
            ServiceError::invalid("on_schema_change", message)
        })
    }

    pub(in crate::service) fn accepted(&self) -> Result<AcceptedShape, ServiceError> {
        Ok(AcceptedShape { version: self.version, digest: self.shape()?.digest() })
    }
}
