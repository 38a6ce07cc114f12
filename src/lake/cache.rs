//! The newest snapshots of all tables, held in memory and never older than the question.

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

/// Tables whose last version is remembered. Each costs a few hundred bytes; beyond this, the least used ones are
/// looked up from the beginning again.
const REMEMBERED_TABLES: u64 = 100_000;

/// The largest table, in files, whose files are selected without leaving the caller's thread: a few milliseconds.
const SELECTED_AT_ONCE: usize = 2_048;
/// The most comparisons that are made there, for each file.
const COMPARED_AT_ONCE: usize = 32;
/// How often the hints of one request are compared with a file, in all: a tenth of a second or two. Hints beyond that keep
/// every file.
const MOST_COMPARISONS: usize = 50_000_000;

/// The part of the cache that commits get; snapshots get the rest.
const COMMITS_SHARE: u64 = 8;

/// The bounds of the lake.
#[derive(Clone, Copy, Debug)]
pub struct LakeSettings {
    /// Memory for snapshots and commits, in bytes. A snapshot larger than this is loaded for each use.
    pub cache_bytes: u64,
    /// The largest commit that is read, in bytes; a commit is parsed as a whole.
    pub max_commit_bytes: u64,
    /// The largest number of commits and checkpoints in one listing of a log.
    pub max_log_entries: usize,
    /// How many logs are read at once; others wait.
    pub concurrent_loads: usize,
}

impl Default for LakeSettings {
    fn default() -> Self {
        let concurrent_loads = std::thread::available_parallelism().map_or(2, usize::from);
        Self { cache_bytes: 1 << 30, max_commit_bytes: 1 << 29, max_log_entries: 1_000_000, concurrent_loads }
    }
}

/// All tables. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Lake(Arc<Held>);

impl Deref for Lake {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.0
    }
}

/// What a lake holds.
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
    /// Counts how often another table was found in the place of this one.
    generation: u64,
    version: u64,
}

type Answer<T> = Result<T, LakeError>;

/// What is remembered of a table beyond its cached snapshots.
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
    /// The newest whole checkpoint that was seen and is no newer than that version, or what a reader began with: looks
    /// list the log from here on.
    begins: u64,
    /// When the last look began that found nothing newer than `tip`.
    looked_at: Option<Instant>,
    /// Found again as long as someone uses it, even where the cache had no room.
    snapshot: Weak<Snapshot>,
}

impl Memory {
    /// Has later looks begin with this checkpoint, which is no newer than the version of the tip, unless they begin later.
    fn begin_with(&mut self, checkpoint: Option<u64>) {
        self.begins = self.begins.max(checkpoint.unwrap_or(0));
    }
}

impl Table {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last look is recent enough for the storage of `location`.
    fn is_known(&self, location: &TableLocation) -> bool {
        let tolerated = location.max_staleness();
        !tolerated.is_zero() && self.memory().looked_at.is_some_and(|at| at.elapsed() < tolerated)
    }
}

impl Lake {
    /// An empty cache within `settings`.
    pub fn new(settings: LakeSettings) -> Self {
        // Weights are 32 bits; in kibibytes they reach far enough.
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

    /// The same lake, which counts what it does in `metrics`.
    pub fn counted_by(self, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Held { metrics: Some(metrics), ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The newest version of a table; every commit that was finished before this call is in it, or was before the call by
    /// as much as the location's storage tolerates ([`TableLocation::max_staleness`]).
    ///
    /// Costs one listing while nothing has changed. Callers who ask at the same time share it, and the load that may
    /// follow.
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

    /// The number of the newest version, as new as [`Self::latest`]. Costs one listing.
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

    /// One version of a table, of the table that is there now.
    pub async fn at_version(&self, location: &TableLocation, version: u64) -> Result<Arc<Snapshot>, LakeError> {
        self.history(location).await?.at_version(version).await
    }

    /// How often another table was found at `location`, and from which version on the last looks saw its log.
    pub(super) async fn seen(&self, location: &TableLocation) -> (u64, u64) {
        let table = self.table(location).await;
        let memory = table.memory();
        (memory.generation, memory.begins)
    }

    /// A version older than the newest, which was `generation`'s.
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

    /// The version, if it is in the cache.
    pub(super) async fn cached_version(
        &self,
        location: &TableLocation,
        generation: u64,
        version: u64,
    ) -> Option<Arc<Snapshot>> {
        self.snapshots.get(&SnapshotKey { url: location.url().to_owned(), generation, version }).await
    }

    /// Those who do what takes a while, such as judging a large table's files.
    pub fn judges(&self) -> &Judges {
        &self.judges
    }

    /// The indices of the files of `snapshot` that a client needs, in `order`; `None` for all of them.
    ///
    /// The first predicate on a column reads it for every file, which another thread does for large tables.
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

    /// Tells the cache that a snapshot holds more than it did, so that its budget stays true.
    async fn weigh_anew(&self, location: &TableLocation, snapshot: &Arc<Snapshot>) {
        let generation = self.table(location).await.memory().generation;
        let key = SnapshotKey { url: location.url().to_owned(), generation, version: snapshot.version };
        if self.snapshots.get(&key).await.is_some_and(|cached| Arc::ptr_eq(&cached, snapshot)) {
            self.snapshots.insert(key, snapshot.clone()).await;
            self.tell_weight().await;
        }
    }

    /// Tells how much the cached snapshots hold.
    async fn tell_weight(&self) {
        let Some(metrics) = &self.metrics else { return };
        // The weight is what it was before until the cache has tidied up.
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
            // Whoever reads the log says what is wrong with it.
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
        // Asking the cache counts as a use, so that the budget goes to the tables that are read.
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

    /// Keeps the newest snapshot; `checkpoint` is the newest one that was seen on the way to it.
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

/// A look ends early only when the server shuts down, or through a defect; the table is not to blame either way.
fn aborted(location: &TableLocation, error: Arc<JoinError>) -> LakeError {
    LakeError::Unavailable { location: location.url().to_owned(), source: error }
}
