//! Materializations (copies): the governed files that recipients of views read instead of source files.
//!
//! Lives here: who shares which materializations ([`Entitled`]), which files are mixed ([`mixing`]), making
//! ([`making`]), the surrogates in them ([`surrogates`]), assembling a table from them ([`served`]), deleting them
//! ([`keeping`]), and the register for operators. Never here: the content of a materialization, which the engine makes,
//! or who may read it, which the decision says.

mod keeping;
mod making;
mod mixing;
mod older;
mod published;
mod register;
mod served;
mod surrogates;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use moka::future::Cache;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    config::{SharingSettings, ViewSettings},
    domain::{
        access::recipient::Recipient,
        catalog::{
            share::SharedView,
            view::{
                mask::{LowZips, PseudonymKeys, Scope},
                plan::Today,
            },
        },
        core::seal::RootKey,
        materialize::copy::{Entitlement, FileKey, UnitKey},
    },
    engine::{Engine, Rules, Surrogates},
    lake::Lake,
    storage::{CopyRoot, Storages, TableLocation},
    store::{CopySet, EntitlementRow, StoreError, SurrogateStore},
};

use self::making::{Job, JobKey, KeptBytes};

pub use self::{
    keeping::Reconciled,
    register::{CopiesQuery, ListedCopy, Preparation},
};
pub(super) use self::{
    published::{PublishedView, PublishedViews, plan_of},
    served::{Served, Source},
    surrogates::SurrogateFault,
};
use super::core::{Core, error::ServiceError};

/// The number of published versions kept in memory; each takes a few kilobytes and never changes.
const KEPT_VERSIONS: u64 = 10_000;
/// How often a recipient's request is recorded again, so that not every query causes a write.
const ASKING_NOTED_EVERY: Duration = Duration::from_secs(600);

/// How long a server remembers which set of surrogates is a recipient's.
const SET_REMEMBERED: Duration = Duration::from_secs(10);

/// The memory in bytes for the groups of mixed files; evicted groups are read again.
const GROUPS_BYTES: u64 = 64 << 20;

fn groups_weight(_: &Uuid, groups: &Arc<mixing::Groups>) -> u32 {
    let bytes = groups.capacity() * (size_of::<(Uuid, (Uuid, i64))>() + 1);
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// Makes materializations and keeps this server's state about them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Materializer {
    core: Core,
    lake: Lake,
    storages: Arc<Storages>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The location of materializations; without one, views can only be previewed.
    root: Option<CopyRoot>,
    engine: Engine,
    unit_key: UnitKey,
    /// The key from which pseudonym keys are derived, and its number among all keys of the installation.
    root_key: RootKey,
    key_version: u32,
    /// The ZIP prefixes that are not shown.
    zips: LowZips,
    settings: ViewSettings,
    longest_url: TimeDelta,
    published: Cache<published::PublishedKey, Arc<PublishedView>>,
    served: Cache<served::Key, Arc<Served>>,
    /// The table that each set's readers were last served, while it is in memory.
    latest: Mutex<HashMap<CopySet, Weak<Served>>>,
    /// The groups of the files in the last served version, by scope; a cache of the register.
    groups: Cache<Uuid, Arc<mixing::Groups>>,
    /// Scopes and the views that are recorded as using them.
    scopes: Cache<(Uuid, Uuid), ()>,
    jobs: Mutex<HashMap<JobKey, Arc<Job>>>,
    /// Locked while claiming materializations.
    room: tokio::sync::Mutex<Option<KeptBytes>>,
    recipients: Mutex<HashMap<Uuid, Weak<Semaphore>>>,
    noted: Cache<(CopySet, Uuid, Uuid), ()>,
    surrogates: SurrogateStore,
    /// The sets of surrogates of recipients that asked in the last seconds.
    surrogate_sets: Cache<Uuid, Uuid>,
}

/// What materializations are made with.
#[derive(Clone, Debug)]
pub struct MaterializerParts {
    /// The location of materializations, if there is one.
    pub root: Option<CopyRoot>,
    /// The engine that makes files.
    pub engine: Engine,
    /// The root key from which keys for pseudonyms and units are derived.
    pub root_key: RootKey,
    /// The root key's number among all keys that this installation ever had, from 1; it is part of pseudonyms.
    pub key_version: u32,
    /// The settings of views.
    pub settings: ViewSettings,
    /// The memory in bytes for tables assembled from materializations.
    pub cache_bytes: u64,
    /// The place of surrogates.
    pub surrogates: SurrogateStore,
}

impl Materializer {
    /// Builds a materializer.
    pub fn new(
        core: &Core,
        lake: &Lake,
        storages: &Arc<Storages>,
        settings: &SharingSettings,
        parts: MaterializerParts,
    ) -> Self {
        let weight = |_: &served::Key, served: &Arc<Served>| {
            u32::try_from(served.resident_bytes().div_ceil(1024)).unwrap_or(u32::MAX)
        };
        let inner = Inner {
            unit_key: UnitKey::new(&parts.root_key),
            root: parts.root,
            engine: parts.engine,
            root_key: parts.root_key,
            key_version: parts.key_version,
            zips: LowZips::new(&parts.settings.zip3_low_population, parts.settings.zip3_replaces_published),
            settings: parts.settings,
            longest_url: longest_url(settings),
            published: Cache::new(KEPT_VERSIONS),
            served: Cache::builder().max_capacity(parts.cache_bytes / 1024).weigher(weight).build(),
            latest: Mutex::default(),
            groups: Cache::builder().max_capacity(GROUPS_BYTES / 1024).weigher(groups_weight).build(),
            jobs: Mutex::default(),
            room: Default::default(),
            scopes: Cache::new(KEPT_VERSIONS),
            recipients: Mutex::default(),
            noted: Cache::builder().max_capacity(100_000).time_to_live(ASKING_NOTED_EVERY).build(),
            surrogates: parts.surrogates,
            surrogate_sets: Cache::builder().max_capacity(100_000).time_to_live(SET_REMEMBERED).build(),
        };
        Self { core: core.clone(), lake: lake.clone(), storages: Arc::clone(storages), inner: Arc::new(inner) }
    }

    /// The settings of views.
    pub fn settings(&self) -> &ViewSettings {
        &self.inner.settings
    }

    /// The engine that makes and inspects files.
    pub(super) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// The location of materializations; the error says how to configure one.
    pub(super) fn root(&self) -> Result<&CopyRoot, ServiceError> {
        self.inner.root.as_ref().ok_or_else(|| {
            ServiceError::conflict("this server has no place for copies; set `views.root` and start it again")
        })
    }

    /// The key for the ids of a table's files, for the one recipient that knows the table by this id.
    pub(super) fn file_key(&self, table_id: Uuid) -> FileKey {
        self.inner.unit_key.file_key(table_id)
    }

    /// The place of copies, where there is one.
    pub(super) fn place(&self) -> Option<TableLocation> {
        self.inner.root.as_ref().map(|root| root.location().clone())
    }

    /// Whether there is a location for materializations.
    pub fn has_root(&self) -> bool {
        self.inner.root.is_some()
    }

    /// Whether a table's location and the location of materializations overlap.
    pub fn meets(&self, location: &str) -> bool {
        self.inner.root.as_ref().is_some_and(|root| root.meets(location))
    }

    /// The table that a set's readers were last served, if it is still in memory.
    fn latest(&self, set: CopySet) -> Option<Arc<Served>> {
        self.inner.latest.lock().unwrap_or_else(PoisonError::into_inner).get(&set)?.upgrade()
    }

    fn remember(&self, set: CopySet, served: &Arc<Served>) {
        let mut latest = self.inner.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.retain(|_, served| served.strong_count() > 0);
        latest.insert(set, Arc::downgrade(served));
    }

    fn forget(&self, set: CopySet) {
        self.inner.latest.lock().unwrap_or_else(PoisonError::into_inner).remove(&set);
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<JobKey, Arc<Job>>> {
        self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The semaphore that limits how many files of one recipient are made at a time.
    fn permits_of(&self, recipient_id: Uuid) -> Arc<Semaphore> {
        let mut recipients = self.inner.recipients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(permits) = recipients.get(&recipient_id).and_then(Weak::upgrade) {
            return permits;
        }
        recipients.retain(|_, permits| permits.strong_count() > 0);
        let most = usize::try_from(self.inner.settings.concurrent_files_per_recipient).unwrap_or(1).max(1);
        let permits = Arc::new(Semaphore::new(most));
        recipients.insert(recipient_id, Arc::downgrade(&permits));
        permits
    }
}

/// The longest lifetime of a URL to a materialization.
fn longest_url(settings: &SharingSettings) -> TimeDelta {
    let seconds = settings.url_ttl_seconds.max(settings.proxied_url_ttl_seconds);
    i64::try_from(seconds).ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::days(7))
}

/// A version of a view as one recipient may read it.
#[derive(Clone, Debug)]
pub(super) struct Entitled {
    /// The version.
    pub(super) published: Arc<PublishedView>,
    /// The set of materializations that it reads.
    pub(super) set: CopySet,
    /// The rules by which these are made.
    pub(super) rules: Arc<Rules>,
    pub(super) recipient_id: Uuid,
    pub(super) share_id: Uuid,
    /// The recipient's surrogates, if the view shows any.
    pub(super) surrogates: Option<Uuid>,
}

impl Entitled {
    /// The id by which this recipient, and no other, knows the table.
    pub(super) fn table_id(&self) -> Uuid {
        let mut name = Vec::with_capacity(56);
        name.extend_from_slice(&self.set.view_version.to_be_bytes());
        name.extend_from_slice(&self.set.rules.0);
        name.extend_from_slice(self.recipient_id.as_bytes());
        name.extend_from_slice(self.share_id.as_bytes());
        Uuid::new_v5(&self.set.view_id, &name)
    }
}

impl Materializer {
    /// Determines what a recipient may see of a view through a share at this moment.
    pub(super) async fn entitle(
        &self,
        view: &SharedView,
        recipient: &Recipient,
        share_id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Entitled, ServiceError> {
        let published = self.published_view(view).await?;
        Ok(self.entitle_to(published, recipient, share_id, now).await?)
    }

    /// Like [`Self::entitle`], for a version that is already loaded.
    pub(super) async fn entitle_to(
        &self,
        published: Arc<PublishedView>,
        recipient: &Recipient,
        share_id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Entitled, StoreError> {
        let surrogates = self.surrogate_set(&published, recipient.id, now).await?;
        let inner = &self.inner;
        let references = &published.references;
        let today = now.date_naive();
        let named = references.properties.iter();
        let properties = named.filter_map(|name| Some((name.as_str(), recipient.spec.properties.get(name)?))).collect();
        let uses = |scope| references.scopes.contains(&scope);
        let entitlement = Entitlement {
            view_id: published.view.id,
            view_version: published.view.version,
            properties,
            recipient_id: uses(Scope::Recipient).then_some(recipient.id),
            share_id: uses(Scope::Share).then_some(share_id),
            key_version: (!references.scopes.is_empty()).then_some(inner.key_version),
            day: (references.today == Today::Day).then_some(today),
            year: (references.today >= Today::Year).then_some(today.year()),
            zips: references.zips.then(|| inner.zips.text()),
            surrogates,
            masks: published.masks_digest.as_deref(),
        };
        let set =
            CopySet { view_id: published.view.id, view_version: published.view.version, rules: entitlement.rules() };
        let rules = Rules {
            condition: published.plan.filter.as_ref().map(|filter| filter.bind(&recipient.spec.properties, today)),
            plan: Arc::clone(&published.plan),
            keys: PseudonymKeys::new(&inner.root_key, inner.key_version, recipient.id, share_id),
            today,
            zips: inner.zips.clone(),
            surrogates: Surrogates::default(),
        };
        Ok(Entitled { published, set, rules: Arc::new(rules), recipient_id: recipient.id, share_id, surrogates })
    }

    /// Records that a recipient asked for its materializations, so that they are made in advance from now on.
    async fn note_asking(&self, view: &Entitled, now: DateTime<Utc>) -> Result<(), ServiceError> {
        let key = (view.set, view.recipient_id, view.share_id);
        if self.inner.noted.contains_key(&key) {
            return Ok(());
        }
        let row =
            EntitlementRow { set: view.set, recipient_id: view.recipient_id, share_id: view.share_id, asked_at: now };
        let mut tx = self.core.db.begin().await?;
        tx.touch_entitlement(&row).await?;
        tx.commit().await?;
        self.inner.noted.insert(key, ()).await;
        Ok(())
    }

    /// The longest lifetime of a URL to a materialization.
    fn longest_url(&self) -> TimeDelta {
        self.inner.longest_url
    }
}
