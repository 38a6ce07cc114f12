//! Keeps the newest snapshot of each table in memory, and looks for a newer version on each request, unless the storage
//! tolerates an older one.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use moka::future::Cache;
use tokio::task::JoinError;

use crate::{domain::sharing::predicate::Filter, storage::TableLocation, telemetry::Metrics};

use super::{
    error::LakeError,
    history::HistoryCache,
    judging::{GivenUp, Judges},
    kernel::Loader,
    log_store::{LogLimits, LogTip},
    single_flight::SingleFlight,
    skipping::Order,
    snapshot::Snapshot,
};

/// The number of tables whose last version is remembered, at a few hundred bytes each. Beyond that, the least used ones
/// are forgotten and looked up from scratch.
const REMEMBERED_TABLES: u64 = 100_000;

/// The largest table, in files, that is filtered on the caller's thread; this takes a few milliseconds.
const SELECTED_AT_ONCE: usize = 2_048;
/// The most comparisons per file that are made on the caller's thread.
const COMPARED_AT_ONCE: usize = 32;
/// The most comparisons of files with the hints of one request: a tenth of a second or two. Hints beyond that are
/// ignored and keep every file.
const MOST_COMPARISONS: usize = 50_000_000;

/// Commits get the size of the cache divided by this; snapshots get the rest.
const COMMITS_SHARE: u64 = 8;

/// The limits of a [`Lake`].
#[derive(Clone, Copy, Debug)]
pub struct LakeSettings {
    /// Memory for snapshots and commits, in bytes. A snapshot that does not fit is loaded for each use.
    pub cache_bytes: u64,
    /// The largest commit that is read, in bytes. Each commit is parsed as a whole.
    pub max_commit_bytes: u64,
    /// The most commits and checkpoints in one listing of a log.
    pub max_log_entries: usize,
    /// The number of logs that are read at once; further reads wait.
    pub concurrent_loads: usize,
}

impl Default for LakeSettings {
    fn default() -> Self {
        let concurrent_loads = std::thread::available_parallelism().map_or(2, usize::from);
        Self { cache_bytes: 1 << 30, max_commit_bytes: 1 << 29, max_log_entries: 1_000_000, concurrent_loads }
    }
}

/// Reads all tables and caches them. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Lake(Arc<Held>);

impl Deref for Lake {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.0
    }
}

/// The shared state of a [`Lake`].
#[derive(Clone, Debug)]
pub struct Held {
    pub(super) loader: Loader,
    tables: Cache<String, Arc<Table>>,
    snapshots: Cache<SnapshotKey, Arc<Snapshot>>,
    pub(super) past: HistoryCache,
    judges: Judges,
    metrics: Option<Arc<Metrics>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SnapshotKey {
    url: String,
    /// Grows by one each time a different table is found at this location.
    generation: u64,
    version: u64,
}

type Answer<T> = Result<T, LakeError>;

/// State kept for a table besides its cached snapshots.
#[derive(Debug, Default)]
struct Table {
    latest: Arc<SingleFlight<Answer<Arc<Snapshot>>>>,
    version: Arc<SingleFlight<Answer<u64>>>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    generation: u64,
    table_id: Option<String>,
    tip: Option<LogTip>,
    /// The version at which looks start to list the log: the newest complete checkpoint that was seen at or before the
    /// version of `tip`, or the checkpoint with which the reader began.
    begins: u64,
    /// The start of the last look that found nothing newer than `tip`.
    looked_at: Option<Instant>,
    /// The newest snapshot; found here as long as it is in use, even if the cache had no room for it.
    snapshot: Weak<Snapshot>,
}

impl Memory {
    /// Starts later looks at this checkpoint, unless they already start later. It must be no newer than the version of
    /// `tip`.
    fn begin_with(&mut self, checkpoint: Option<u64>) {
        self.begins = self.begins.max(checkpoint.unwrap_or(0));
    }
}

impl Table {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the last look is recent enough for the storage of `location`.
    fn is_known(&self, location: &TableLocation) -> bool {
        let tolerated = location.max_staleness();
        !tolerated.is_zero() && self.memory().looked_at.is_some_and(|at| at.elapsed() < tolerated)
    }
}

impl Lake {
    /// Creates an empty lake with the limits in `settings`.
    pub fn new(settings: LakeSettings) -> Self {
        // Weights have 32 bits, so they are counted in kibibytes.
        let weight = |_: &SnapshotKey, snapshot: &Arc<Snapshot>| {
            u32::try_from(snapshot.resident_bytes().div_ceil(1024)).unwrap_or(u32::MAX)
        };
        let limits = LogLimits { commit_bytes: settings.max_commit_bytes, entries: settings.max_log_entries };
        Self(Arc::new(Held {
            loader: Loader::new(limits, settings.concurrent_loads),
            tables: Cache::new(REMEMBERED_TABLES),
            snapshots: Cache::builder()
                .max_capacity((settings.cache_bytes - settings.cache_bytes / COMMITS_SHARE) / 1024)
                .weigher(weight)
                .build(),
            past: HistoryCache::new(settings.cache_bytes / COMMITS_SHARE),
            judges: Judges::default(),
            metrics: None,
        }))
    }

    /// Returns this lake with its cache and storage events counted in `metrics`.
    pub fn counted_by(self, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Held { metrics: Some(metrics), ..Arc::unwrap_or_clone(self.0) }))
    }

    /// Returns the newest version of a table. It includes every commit finished before this call, except those made
    /// within the time that the location's storage tolerates ([`TableLocation::max_staleness`]).
    ///
    /// Costs one listing while nothing has changed. Concurrent callers share the listing and any load that follows.
    pub async fn latest(&self, location: &TableLocation) -> Result<Arc<Snapshot>, LakeError> {
        let table = self.table(location).await;
        if table.is_known(location)
            && let Some(known) = self.recall(&table, location).await
        {
            return Ok(known);
        }
        let look = {
            let (lake, table, location) = (self.clone(), table.clone(), location.clone());
            async move { lake.look(&table, &location).await }
        };
        self.count_outage(location, table.latest.pass(look).await.map_err(|error| aborted(location, error))?)
    }

    /// Returns the number of the newest version, as fresh as [`Self::latest`]. Costs one listing.
    pub async fn latest_version(&self, location: &TableLocation) -> Result<u64, LakeError> {
        let table = self.table(location).await;
        if table.is_known(location)
            && let Some(tip) = &table.memory().tip
        {
            return Ok(tip.version);
        }
        let look = {
            let (lake, table, location) = (self.clone(), table.clone(), location.clone());
            async move { lake.look_at_version(&table, &location).await }
        };
        self.count_outage(location, table.version.pass(look).await.map_err(|error| aborted(location, error))?)
    }

    /// Returns one version of the table that is at `location` now.
    pub async fn at_version(&self, location: &TableLocation, version: u64) -> Result<Arc<Snapshot>, LakeError> {
        self.history(location).await?.at_version(version).await
    }

    /// Returns how often a different table was found at `location`, and the version from which the last looks listed
    /// its log.
    pub(super) async fn seen(&self, location: &TableLocation) -> (u64, u64) {
        let table = self.table(location).await;
        let memory = table.memory();
        (memory.generation, memory.begins)
    }

    /// Loads an older version of the table of `generation`.
    pub(super) async fn load_version(
        &self,
        location: &TableLocation,
        generation: u64,
        version: u64,
    ) -> Result<Arc<Snapshot>, LakeError> {
        let key = SnapshotKey { url: location.url().to_owned(), generation, version };
        let load = async { self.loader.load(location, Some(version)).await.map(Arc::new) };
        self.snapshots.try_get_with(key, load).await.map_err(|error| (*error).clone())
    }

    /// Drops a version from the cache.
    pub(super) async fn forget_version(&self, location: &TableLocation, generation: u64, version: u64) {
        self.snapshots.invalidate(&SnapshotKey { url: location.url().to_owned(), generation, version }).await;
    }

    /// Returns a version if it is in the cache.
    pub(super) async fn cached_version(
        &self,
        location: &TableLocation,
        generation: u64,
        version: u64,
    ) -> Option<Arc<Snapshot>> {
        self.snapshots.get(&SnapshotKey { url: location.url().to_owned(), generation, version }).await
    }

    /// Returns the pool for slow computations, such as filtering the files of a large table.
    pub fn judges(&self) -> &Judges {
        &self.judges
    }

    /// Returns the indices of the files of `snapshot` that a client needs, in `order`; `None` means all of them.
    ///
    /// The first predicate on a column reads that column for every file. For large tables this happens on another
    /// thread.
    pub async fn select(
        &self,
        location: &TableLocation,
        snapshot: &Arc<Snapshot>,
        filter: &Filter,
        order: Order,
    ) -> Option<Vec<u32>> {
        if filter.is_everything() {
            return None;
        }
        let files = snapshot.files().len();
        let (selected, has_grown) = if files <= SELECTED_AT_ONCE && filter.passes() <= COMPARED_AT_ONCE {
            snapshot.select(filter, order, &GivenUp::default())
        } else {
            let (own, filter) = (snapshot.clone(), filter.within(MOST_COMPARISONS / files.max(1)));
            match self.judges.apart(move |given_up| own.select(&filter, order, given_up)).await {
                Ok(selected) => selected,
                Err(error) => {
                    tracing::error!(table.location = location.url(), %error, "files were not selected; all are kept");
                    return None;
                }
            }
        };
        if has_grown {
            self.weigh_anew(location, snapshot).await;
        }
        selected
    }

    /// Tells the cache that a snapshot has grown, so that the cache stays within its budget.
    async fn weigh_anew(&self, location: &TableLocation, snapshot: &Arc<Snapshot>) {
        let generation = self.table(location).await.memory().generation;
        let key = SnapshotKey { url: location.url().to_owned(), generation, version: snapshot.version };
        if self.snapshots.get(&key).await.is_some_and(|cached| Arc::ptr_eq(&cached, snapshot)) {
            self.snapshots.insert(key, snapshot.clone()).await;
            self.tell_weight().await;
        }
    }

    /// Reports the size of the cached snapshots to the metrics.
    async fn tell_weight(&self) {
        let Some(metrics) = &self.metrics else { return };
        // The weight is only updated once the cache has run its pending tasks.
        self.snapshots.run_pending_tasks().await;
        metrics.snapshot_cache_is(self.snapshots.weighted_size() * 1024);
    }

    async fn table(&self, location: &TableLocation) -> Arc<Table> {
        self.tables.get_with_by_ref(location.url(), async { Arc::default() }).await
    }

    fn count_outage<T>(&self, location: &TableLocation, answer: Answer<T>) -> Answer<T> {
        if let (Some(metrics), Err(LakeError::Unavailable { .. })) = (&self.metrics, &answer) {
            metrics.storage_failed(location.storage_name());
        }
        answer
    }

    async fn look_at_version(&self, table: &Table, location: &TableLocation) -> Answer<u64> {
        let begun = Instant::now();
        let (tip, begins) = {
            let memory = table.memory();
            (memory.tip.clone(), memory.tip.as_ref().map(|_| memory.begins))
        };
        let mut looked = self.loader.probe(location, tip.as_ref().map(|tip| tip.version), begins).await?;
        if tip.is_some() && looked.at_known != tip {
            looked = self.loader.probe(location, None, None).await?;
        }
        if !looked.is_whole {
            // The full read reports the fault of the log.
            return Ok(self.look_anew(table, location).await?.version());
        }
        let mut memory = table.memory();
        if looked.newest.is_some() && memory.tip == looked.newest {
            memory.looked_at = Some(begun);
        }
        if tip.is_some() && looked.at_known == tip && memory.tip == tip {
            memory.begin_with(looked.checkpoint);
        }
        drop(memory);
        let newest = looked.newest.map(|tip| tip.version);
        newest.ok_or_else(|| LakeError::NotATable { location: location.url().to_owned() })
    }

    async fn look(&self, table: &Table, location: &TableLocation) -> Answer<Arc<Snapshot>> {
        let begun = Instant::now();
        let found = self.look_anew(table, location).await;
        table.memory().looked_at = found.is_ok().then_some(begun);
        found
    }

    async fn look_anew(&self, table: &Table, location: &TableLocation) -> Answer<Arc<Snapshot>> {
        let Some(known) = self.recall(table, location).await else {
            return self.load(table, location).await;
        };
        let begins = table.memory().begins;
        let looked = self.loader.probe(location, Some(known.version), Some(begins)).await?;
        if looked.at_known.as_ref() != known.tip() {
            tracing::info!(table.location = location.url(), table.version = known.version, "table was replaced");
            table.memory().generation += 1;
            return self.load(table, location).await;
        }
        if !looked.is_whole {
            tracing::warn!(table.location = location.url(), "commits are missing from a table's log; reading it anew");
            return self.load(table, location).await;
        }
        table.memory().begin_with(looked.checkpoint);
        if looked.newest.is_none_or(|newest| newest.version <= known.version) {
            if let Some(metrics) = &self.metrics {
                metrics.snapshot_hit();
            }
            return Ok(known);
        }
        match self.loader.advance(location, known, looked.checkpoint).await {
            Ok(Some(snapshot)) => Ok(self.keep(table, location, snapshot, looked.checkpoint).await),
            Ok(None) => self.load(table, location).await,
            Err(error @ LakeError::Unavailable { .. }) => Err(error),
            Err(error) => {
                tracing::warn!(table.location = location.url(), %error, "table could not be advanced; loading it anew");
                self.load(table, location).await
            }
        }
    }

    async fn recall(&self, table: &Table, location: &TableLocation) -> Option<Arc<Snapshot>> {
        let (key, in_use) = {
            let memory = table.memory();
            let version = memory.tip.as_ref()?.version;
            let key = SnapshotKey { url: location.url().to_owned(), generation: memory.generation, version };
            (key, memory.snapshot.upgrade())
        };
        // A lookup in the cache counts as a use, which keeps the tables that are read in the cache.
        self.snapshots.get(&key).await.or(in_use)
    }

    async fn load(&self, table: &Table, location: &TableLocation) -> Answer<Arc<Snapshot>> {
        let started = Instant::now();
        match self.loader.load(location, None).await {
            Ok(snapshot) => {
                if let Some(metrics) = &self.metrics {
                    metrics.snapshot_missed();
                    metrics.snapshot_loaded(started.elapsed());
                }
                Ok(self.keep(table, location, snapshot, None).await)
            }
            Err(error) => {
                let mut memory = table.memory();
                (memory.tip, memory.snapshot) = (None, Weak::new());
                Err(error)
            }
        }
    }

    /// Stores the newest snapshot. `checkpoint` is the newest checkpoint that was seen while reading it.
    async fn keep(
        &self,
        table: &Table,
        location: &TableLocation,
        snapshot: Snapshot,
        checkpoint: Option<u64>,
    ) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        let key = {
            let mut memory = table.memory();
            if memory.table_id.as_ref().is_some_and(|id| *id != snapshot.metadata.id) {
                memory.generation += 1;
            }
            memory.table_id = Some(snapshot.metadata.id.clone());
            memory.tip = snapshot.tip().cloned();
            memory.begins = snapshot.begins();
            memory.begin_with(checkpoint);
            memory.snapshot = Arc::downgrade(&snapshot);
            SnapshotKey { url: location.url().to_owned(), generation: memory.generation, version: snapshot.version }
        };
        self.snapshots.insert(key, snapshot.clone()).await;
        self.tell_weight().await;
        snapshot
    }
}

/// Builds the error for a look that ended early. Only a shutdown or a defect of the server causes this, so the table is
/// reported as unavailable, not as corrupt.
fn aborted(location: &TableLocation, error: Arc<JoinError>) -> LakeError {
    LakeError::Unavailable { location: location.url().to_owned(), source: error }
}
