//! Objects that do not follow every change of a schema: which version is served of a table whose schema is no longer the
//! accepted one, until an operator accepts the new one, or no longer fits a view, until another version of it is shown.
//!
//! Never here: how the version is found in a log, which is the lake's, or what an answer about it looks like.

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
    service::{Service, core::error::ServiceError, materialize::PublishedView},
    storage::TableLocation,
};

/// How many objects are read from the database together, and looked at at the same time.
const PAGE: u32 = 100;
const TOGETHER: usize = 8;
/// How many changes of a schema a signal lists.
const TOLD_CHANGES: usize = 20;

/// What is held back from an object's recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaHold {
    /// The version that is served; nothing where the log no longer holds one with the accepted schema.
    pub serving_version: Option<u64>,
    /// The table's newest version.
    pub newest_version: u64,
    /// When the first version was committed that is held back, where the log tells.
    pub since: Option<DateTime<Utc>>,
    /// How the accepted schema became the newest one, in words.
    pub changes: Vec<String>,
}

impl SchemaHold {
    /// Whether `other` holds back the same change; the table may have moved on under it.
    fn is_of_the_same_change(&self, other: &Self) -> bool {
        (self.serving_version, &self.changes) == (other.serving_version, &other.changes)
    }
}

/// What was last seen of the objects that hold their schema.
#[derive(Debug, Default)]
pub struct SchemaHolds {
    seen: Mutex<HashMap<Uuid, Seen>>,
}

#[derive(Clone, Debug)]
struct Seen {
    /// Of the object.
    revision: i64,
    /// The table's newest snapshot at the time.
    latest: Weak<Snapshot>,
    newest_version: u64,
    hold: Option<SchemaHold>,
}

impl SchemaHolds {
    fn seen(&self) -> MutexGuard<'_, HashMap<Uuid, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen of `object` as it is, whenever that was.
    fn of(&self, object: &SharedObject) -> Option<Seen> {
        self.seen().get(&object.id).filter(|seen| seen.revision == object.revision).cloned()
    }

    /// What is held back, as it was when somebody last looked; `None` where nobody has.
    pub(in crate::service) fn last_seen(&self, object: &SharedObject) -> Option<Option<SchemaHold>> {
        match object.spec.on_schema_change {
            OnSchemaChange::Follow if object.view.is_none() => Some(None),
            OnSchemaChange::Follow | OnSchemaChange::Hold => self.of(object).map(|seen| seen.hold),
        }
    }

    /// Keeps what was seen of `object`, and says so in the log where it is something else than before.
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

/// What an object asks of its table's metadata.
#[derive(Debug)]
enum Asks<'a> {
    /// The shape that was accepted.
    Shape(&'a AcceptedShape),
    /// What a view reads.
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

/// What recipients of an object are served of its table.
#[derive(Clone, Debug)]
pub(in crate::service) struct ServedVersion {
    /// The newest version that they see; nothing where no version is left that they may.
    pub(in crate::service) snapshot: Option<Arc<Snapshot>>,
    /// What is held back from them.
    pub(in crate::service) hold: Option<SchemaHold>,
}

impl Service {
    /// What recipients of `object` are served, `latest` being its table's newest version. Costs nothing while neither
    /// has changed since somebody asked.
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
                    // Cleaned away since; what is left is looked for below.
                    Err(LakeError::VersionNotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            None => {}
        }
        let served = self.find_served(object, &asks, location, latest).await?;
        let n_held = self.schema_holds.saw(object, latest, served.hold.clone());
        self.metrics.objects_on_hold_are(n_held);
        Ok(served)
    }

    /// What recipients of `object` would be served if it was like this. Nothing of it is remembered: the object is another.
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

    /// What `object` asks of its table's metadata, if anything.
    async fn asks_of<'a>(&self, object: &'a SharedObject) -> Result<Option<Asks<'a>>, ServiceError> {
        Ok(match (&object.view, &object.accepted) {
            (Some(view), _) => Some(Asks::View(self.published_view(view).await?)),
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
            Asks::Shape(_) => match (self.db.find_accepted_schema(object.id).await?, Shape::of(latest.metadata())) {
                (Some(accepted), Ok(newest)) => accepted.changes_to(&newest),
                (_, Err(error)) => vec![format!("the schema cannot be understood: {error}")],
                (None, Ok(_)) => Vec::new(),
            },
        };
        let since = match held {
            Some(held) => {
                let history = self.lake.history_until(location, Arc::clone(latest)).await;
                // Told where the log tells it; nobody's answer depends on it.
                history.committed_at(held.version() + 1).await.ok().and_then(DateTime::from_timestamp_millis)
            }
            None => None,
        };
        let serving_version = held.map(|held| held.version());
        Ok(SchemaHold { serving_version, newest_version: latest.version(), since, changes })
    }

    /// Looks at every object that holds its schema, whether or not somebody reads it, so that operators learn of a
    /// change from the metrics and the log. A table without a new version costs one listing.
    pub async fn watch_schemas(&self) -> Result<(), ServiceError> {
        let (mut listed, mut after) = (HashSet::new(), Uuid::nil());
        loop {
            let page = self.db.list_holding_objects(after, PAGE).await?;
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
            self.tell_once(held.collect(), self.clock.now()).await?;
        }
        self.metrics.objects_on_hold_are(self.schema_holds.keep_only(&listed));
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

/// Tells what is held back from the recipients of `object`.
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

/// Accepts the newest shape for an object that holds its schema and has none accepted, and forgets it for one that follows.
pub(in crate::service) fn settle_shape(object: &mut SharedObject, newest: &NewestShape) -> Result<(), ServiceError> {
    match object.spec.on_schema_change {
        OnSchemaChange::Follow => object.accepted = None,
        OnSchemaChange::Hold if object.accepted.is_none() && object.view.is_none() => {
            object.accepted = Some(newest.accepted()?);
        }
        OnSchemaChange::Hold => {}
    }
    Ok(())
}

/// The shape of a table's newest version, for whoever accepts it.
#[derive(Debug)]
pub(in crate::service) struct NewestShape {
    version: u64,
    shape: Result<Shape, crate::domain::catalog::schema::SchemaError>,
}

impl NewestShape {
    pub(in crate::service) fn of(snapshot: &Snapshot) -> Self {
        Self { version: snapshot.version(), shape: Shape::of(snapshot.metadata()) }
    }

    /// The shape; input that cannot be accepted where it is none.
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
