//! Makes materializations: one job for each version of a table and set of readers (single flight).
//!
//! Servers divide a job's files through the register. The server that has claimed a materialization makes it; the
//! others wait for it, and take it over if that server goes silent.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream};
use tokio::{
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use uuid::Uuid;

use crate::{
    domain::{
        audit::{
            Actor, Event, Object,
            action::{Action, Kind},
        },
        catalog::schema::{ColumnPath, Schema},
        materialize::copy::{Copy, CopyKind, CopyState, object_key},
    },
    engine::{EngineError, MixFault, SourceFile},
    service::core::{error::ServiceError, places::Place},
    store::{MadeCopy, is_held},
};

use super::{
    Entitled, Materializer,
    served::{MaterializationState, Need, Served, Source},
    surrogates::SurrogateFault,
};

/// How long servers of an older release, which do not check whether a maker is alive, leave a claimed materialization
/// alone.
const HOLD: TimeDelta = TimeDelta::seconds(60);
/// How often a maker reports that it is alive; its claims outlast this by a few seconds.
const ALIVE_AGAIN: Duration = Duration::from_secs(2);
/// The number of materializations claimed at a time: enough to keep every processor busy, few enough to share the work
/// with other servers.
const CLAIM: usize = 32;
/// The number of finished materializations in one transaction.
const COMMIT: usize = 16;
/// How often to check whether another server has made what this one waits for.
const LOOK: Duration = Duration::from_millis(200);
/// How long a failed file is left alone after the first attempt; the time doubles with each attempt.
const FIRST_REST: TimeDelta = TimeDelta::seconds(30);
/// The longest such time.
const LONGEST_REST: TimeDelta = TimeDelta::hours(1);

/// A running job that makes materializations.
#[derive(Debug)]
pub(super) struct Job {
    progress: watch::Receiver<Progress>,
}

/// The progress of a job.
#[derive(Clone, Debug, Default)]
struct Progress {
    outcome: Option<Result<(), Arc<Failure>>>,
}

/// Why materializations could not be made, in terms that a recipient may see.
#[derive(Clone, Debug)]
enum Failure {
    /// A source file is missing, or has unexpected content.
    Unreadable(&'static str),
    /// Something cannot be reached at the moment.
    Unavailable(String),
    /// The limit for materializations is reached.
    TooMany(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(what) | Self::TooMany(what) => f.write_str(what),
            Self::Unavailable(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Failure {}

/// The message to recipients if one of their files cannot be made; the register has the reason.
const UNREADABLE: &str = "a file of this table cannot be prepared as the data provider wants it shared; ask the data \
                          provider, whose register of copies says why";

/// The message to recipients if no more may be made for them. [`TOO_MANY`] is the one if no more may be made at all.
const TOO_MANY_OF_RECIPIENT: &str = "as many versions of tables are kept ready for this recipient as may be; read the \
                                     latest version, or ask the data provider for more";
const TOO_MANY: &str = "the data provider keeps as much ready as it has room for; ask the data provider";
/// How long the sum of all materializations is trusted. Meanwhile this server's additions are counted, deletions are
/// not.
const SUMMED_FOR: Duration = Duration::from_secs(5);
/// When a recipient should try again; by then, unused materializations have been deleted.
const TOO_MANY_REST_SECONDS: u64 = 3_600;

/// The version that a job makes materializations of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Which {
    /// The newest version, which all readers of the view are served.
    Newest,
    /// A version that this recipient asked for; it counts against the recipient's quota.
    Asked(Uuid),
}

/// Identifies a job: one version for one set of readers. Jobs for different quotas are separate.
pub(super) type JobKey = (super::served::Key, Which);

/// The total size of materializations, as of its last computation.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptBytes {
    summed_at: Instant,
    bytes: u64,
}

/// Why one materialization was not made.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// The source file holds a column that the view does not show, or its writer's notes.
    #[error("the file holds more than the view shows")]
    HoldsMore,
    /// The source file lacks a column that must never be NULL.
    #[error("the file lacks a column that the view shows")]
    HoldsLess,
    /// The file could not be made or inspected.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its surrogates could not be drawn.
    #[error(transparent)]
    Surrogates(SurrogateFault),
    /// One of the files to be mixed could not be read.
    #[error("`{path}`: {error}")]
    Member {
        /// The file, as its table's log writes it.
        path: String,
        /// The reason.
        #[source]
        error: EngineError,
    },
}

impl Fault {
    /// Whether a new attempt may succeed without anybody repairing anything.
    fn is_temporary(&self) -> bool {
        let error = match self {
            Self::Engine(error) | Self::Member { error, .. } => error,
            Self::Surrogates(fault) => return fault.is_temporary(),
            Self::HoldsMore | Self::HoldsLess => return false,
        };
        matches!(error, EngineError::Unavailable(_) | EngineError::Full(_) | EngineError::Stopped)
    }

    /// Logs it for operators, with the path of the source file.
    fn log(&self, copy: &Copy) {
        let (source, error): (&str, &dyn std::error::Error) = match self {
            Self::Member { path, error } => (path, error),
            other => (&copy.source, other),
        };
        tracing::error!(copy.id = %copy.id, copy.source = source, error, "a copy could not be made");
    }

    /// The failure that waiting readers see.
    fn failure(&self) -> Failure {
        match self {
            Self::Engine(error) | Self::Member { error, .. } if self.is_temporary() => {
                Failure::Unavailable(error.to_string())
            }
            Self::Surrogates(fault) if self.is_temporary() => Failure::Unavailable(fault.to_string()),
            _ => Failure::Unreadable(UNREADABLE),
        }
    }
}

impl From<SurrogateFault> for Fault {
    fn from(fault: SurrogateFault) -> Self {
        match fault {
            SurrogateFault::File(error) => Self::Engine(error),
            fault => Self::Surrogates(fault),
        }
    }
}

impl From<Arc<Failure>> for ServiceError {
    fn from(failure: Arc<Failure>) -> Self {
        match &*failure {
            Failure::Unreadable(message) => Self::Unreadable { message: (*message).to_owned(), source: failure.into() },
            Failure::Unavailable(_) => {
                Self::Unavailable { what: "the storage behind this table", source: failure.into() }
            }
            Failure::TooMany(message) => {
                Self::Limited { message: (*message).to_owned(), retry_after_seconds: TOO_MANY_REST_SECONDS }
            }
        }
    }
}

impl Materializer {
    /// Serves the newest version of `source` that is ready for the readers of `view`: this version if its
    /// materializations exist or can be made in time, otherwise the version that they were served before.
    pub(in crate::service) async fn serve_newest(
        &self,
        view: &Entitled,
        source: &Source,
        place: &Place,
    ) -> Result<Arc<Served>, ServiceError> {
        self.note_asking(view, self.core.clock.now()).await?;
        if let MaterializationState::Ready(served) = self.state_of(view, source).await? {
            return Ok(served);
        }
        let job = self.start_job(view, source, Which::Newest)?;
        if let Some(failure) = job.failure() {
            return Err(failure.into());
        }
        if let Some(served) = self.served_before(view, source).await? {
            return Ok(served);
        }
        self.wait_for(view, source, &job, place).await
    }

    /// The number of the version that [`Self::serve_newest`] would serve now; also starts making what is missing.
    pub(in crate::service) async fn version_served(
        &self,
        view: &Entitled,
        source: &Source,
    ) -> Result<u64, ServiceError> {
        self.note_asking(view, self.core.clock.now()).await?;
        if !matches!(self.state_of(view, source).await?, MaterializationState::Ready(_)) {
            self.start_job(view, source, Which::Newest)?;
            if let Some(served) = self.served_before(view, source).await? {
                return Ok(served.snapshot.version());
            }
        }
        Ok(source.snapshot.version())
    }

    /// Serves exactly this version.
    pub(in crate::service) async fn serve_version(
        &self,
        view: &Entitled,
        source: &Source,
        place: &Place,
    ) -> Result<Arc<Served>, ServiceError> {
        self.note_asking(view, self.core.clock.now()).await?;
        if let MaterializationState::Ready(served) = self.state_of(view, source).await? {
            return Ok(served);
        }
        let job = self.start_job(view, source, Which::Asked(view.recipient_id))?;
        self.wait_for(view, source, &job, place).await
    }

    /// Starts making what `view` over `source` lacks, in the background.
    pub(in crate::service) async fn prepare(&self, view: &Entitled, source: &Source) -> Result<(), ServiceError> {
        if !matches!(self.state_of(view, source).await?, MaterializationState::Ready(_)) {
            self.start_job(view, source, Which::Newest)?;
        }
        Ok(())
    }

    /// The version that the readers of `view` were served before `source`, if it still exists.
    async fn served_before(&self, view: &Entitled, source: &Source) -> Result<Option<Arc<Served>>, ServiceError> {
        let Some(serving) = self.core.db.find_serving(view.set).await? else { return Ok(None) };
        let Ok(version) = u64::try_from(serving.table_version) else { return Ok(None) };
        if serving.delta_id != source.snapshot.metadata().id || version >= source.snapshot.version() {
            return Ok(None);
        }
        // A version outside the log's reach was served too long ago to matter.
        let Ok(snapshot) = self.lake.at_version(&source.location, version).await else { return Ok(None) };
        let before = Source { snapshot, location: source.location.clone() };
        match self.state_of(view, &before).await? {
            MaterializationState::Ready(served) => Ok(Some(served)),
            MaterializationState::Ungrouped { .. } | MaterializationState::Lacking { .. } => Ok(None),
        }
    }

    /// Waits for `job`; meanwhile the request leaves its place among the running ones to others.
    async fn wait_for(
        &self,
        view: &Entitled,
        source: &Source,
        job: &Job,
        place: &Place,
    ) -> Result<Arc<Served>, ServiceError> {
        let patience = Duration::from_secs(self.settings().wait_seconds);
        match place.aside(timeout(patience, job.outcome())).await {
            Ok(Ok(())) => {
                if let MaterializationState::Ready(served) = self.state_of(view, source).await? {
                    return Ok(served);
                }
            }
            Ok(Err(failure)) => return Err(failure.into()),
            Err(_) => {}
        }
        Err(ServiceError::NotReady(
            "this table is being prepared for you, which takes a moment the first time; try again".to_owned(),
        ))
    }

    /// Starts the job that makes `view` over `source`, or joins the running one.
    fn start_job(&self, view: &Entitled, source: &Source, which: Which) -> Result<Arc<Job>, ServiceError> {
        self.root()?;
        let key = (source.key(view), which);
        let mut jobs = self.jobs();
        if let Some(job) = jobs.get(&key) {
            return Ok(Arc::clone(job));
        }
        let (progress, watched) = watch::channel(Progress::default());
        let job = Arc::new(Job { progress: watched });
        jobs.insert(key.clone(), Arc::clone(&job));
        let (materializer, view, source) = (self.clone(), view.clone(), source.clone());
        tokio::spawn(async move {
            let _forget = Forget { materializer: materializer.clone(), key };
            let outcome = materializer.make_all(&view, &source, which).await;
            progress.send_modify(|progress| progress.outcome = Some(outcome.map_err(Arc::new)));
        });
        Ok(job)
    }

    /// Makes, or waits for, every missing materialization.
    async fn make_all(&self, view: &Entitled, source: &Source, which: Which) -> Result<(), Failure> {
        let started = Instant::now();
        let mut done = Done::default();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (kind, missing) = match self.state_of(view, source).await.map_err(unavailable)? {
                MaterializationState::Ready(_) => break,
                MaterializationState::Ungrouped { .. } => {
                    self.form_groups(view, source).await.map_err(unavailable)?;
                    continue;
                }
                MaterializationState::Lacking { kind, missing, .. } => (kind, missing),
            };
            let now = self.core.clock.now();
            let is_held = |copy: &Copy| is_held(copy, now);
            let failed = missing
                .iter()
                .filter_map(|(_, copy)| copy.as_ref())
                .find(|copy| copy.state == CopyState::Failed && copy.kind == CopyKind::File && is_held(copy));
            if failed.is_some() {
                return Err(Failure::Unreadable(UNREADABLE));
            }
            let free = missing.into_iter().filter(|(_, copy)| !copy.as_ref().is_some_and(is_held));
            let free: Vec<Need> = free.map(|(need, _)| need).collect();
            let mut has_claimed = false;
            for needs in free.chunks(CLAIM) {
                let claimed = match kind {
                    CopyKind::File => self.claim_room(view, source, needs, which).await?,
                    CopyKind::Source => self.claim(view, source, kind, needs).await.map_err(unavailable)?,
                };
                if !claimed.is_empty() {
                    has_claimed = true;
                    done.add(self.make_claimed(view, source, claimed).await?);
                }
            }
            if !has_claimed {
                // Another server is making the rest.
                looks.tick().await;
            }
        }
        if done.files > 0 {
            tracing::info!(view = %view.published.view, table.version = source.snapshot.version(), files = done.files,
                bytes = done.bytes, elapsed_ms = started.elapsed().as_millis(), "made copies");
            self.core.audit_writer.record_later(self.made_event(view, source, &done, started));
        }
        Ok(())
    }

    /// Claims materializations of files if there is room for them. Jobs of this server take turns, so each sees what
    /// the others have claimed; jobs of other servers may run at the same time.
    async fn claim_room(
        &self,
        view: &Entitled,
        source: &Source,
        needs: &[Need],
        which: Which,
    ) -> Result<Vec<(Need, Copy)>, Failure> {
        let mut room = self.inner.room.lock().await;
        self.check_room(view, which, &mut room).await?;
        let claimed = self.claim(view, source, CopyKind::File, needs).await.map_err(unavailable)?;
        if let Some(room) = room.as_mut() {
            let bytes = claimed.iter().map(|(_, copy)| copy.bytes).sum();
            room.bytes = room.bytes.saturating_add(bytes);
        }
        Ok(claimed)
    }

    /// Refuses to make more if the limit is reached, in all or for the recipient that asks. A materialization in
    /// progress counts with the size of its sources. Those of the newest version, which all readers of a view share, do
    /// not count against any recipient.
    async fn check_room(&self, view: &Entitled, which: Which, room: &mut Option<KeptBytes>) -> Result<(), Failure> {
        let settings = self.settings();
        let check = |most: u64, bytes: u64, message: &'static str| {
            if bytes < most {
                return Ok(());
            }
            tracing::warn!(view = %view.published.view, ?which, bytes, most, "no more copies are made");
            Err(Failure::TooMany(message))
        };
        if settings.max_bytes > 0 {
            let bytes = match room.filter(|room| room.summed_at.elapsed() < SUMMED_FOR) {
                Some(room) => room.bytes,
                None => {
                    let summed_at = Instant::now();
                    let bytes = self.core.db.sum_copy_bytes(None).await.map_err(|error| unavailable(error.into()))?;
                    room.insert(KeptBytes { summed_at, bytes }).bytes
                }
            };
            check(settings.max_bytes, bytes, TOO_MANY)?;
        }
        if let Which::Asked(recipient_id) = which
            && settings.max_bytes_per_recipient > 0
        {
            let bytes = self.core.db.sum_copy_bytes(Some(recipient_id)).await;
            let bytes = bytes.map_err(|error| unavailable(error.into()))?;
            check(settings.max_bytes_per_recipient, bytes, TOO_MANY_OF_RECIPIENT)?;
        }
        Ok(())
    }

    async fn claim(
        &self,
        view: &Entitled,
        source: &Source,
        kind: CopyKind,
        needs: &[Need],
    ) -> Result<Vec<(Need, Copy)>, ServiceError> {
        let now = self.core.clock.now();
        let mut claimed = Vec::new();
        let mut tx = self.core.db.begin().await?;
        tx.keep_server_alive(self.core.leases.holder(), now).await?;
        for need in needs {
            let Some(file) = source.snapshot.files().get(need.index) else { continue };
            let (object_key, bytes) = match kind {
                CopyKind::File => {
                    let more = need.more.iter().filter_map(|index| source.snapshot.files().get(*index));
                    let bytes = more.map(|file| file.size).fold(file.size, u64::saturating_add);
                    (object_key(need.unit, Uuid::new_v4()), bytes)
                }
                CopyKind::Source => (source.location.resolve(file.path)?.to_string(), 0),
            };
            let copy = Copy {
                id: Uuid::now_v7(),
                unit: need.unit,
                kind,
                view_id: view.set.view_id,
                view_version: view.set.view_version,
                rules: view.set.rules,
                source: match need.more.len() {
                    0 => file.path.to_owned(),
                    more => format!("{} and {more} more", file.path),
                },
                object_key,
                state: CopyState::Making,
                bytes,
                rows: 0,
                stats: None,
                created_at: now,
                needed_until: now,
                holder: self.core.leases.holder(),
                held_until: now + HOLD,
                attempts: 1,
                failure: None,
                deleted_at: None,
            };
            if tx.claim_copy(&copy, now).await? {
                claimed.push((need.clone(), copy));
            }
        }
        tx.commit().await?;
        Ok(claimed)
    }

    async fn make_claimed(
        &self,
        view: &Entitled,
        source: &Source,
        claimed: Vec<(Need, Copy)>,
    ) -> Result<Done, Failure> {
        let permits = self.permits_of(view.recipient_id);
        let most = usize::try_from(self.settings().concurrent_files_per_recipient).unwrap_or(1).max(1);
        let schema = Schema::parse(&source.snapshot.metadata().schema_string).map_err(|error| {
            tracing::error!(view = %view.published.view, %error, "the source's schema cannot be read");
            Failure::Unreadable(UNREADABLE)
        })?;
        let schema = Arc::new(view.published.plan.completed(&schema));
        let makings = claimed.into_iter().map(|(need, copy)| {
            let (permits, schema) = (Arc::clone(&permits), Arc::clone(&schema));
            async move { self.make_one(view, source, schema, need, copy, &permits).await }
        });
        let mut finished = Box::pin(stream::iter(makings).buffer_unordered(most).ready_chunks(COMMIT));
        let mut living = interval(ALIVE_AGAIN);
        living.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut done, mut failure) = (Done::default(), None);
        loop {
            tokio::select! {
                chunk = finished.next() => {
                    let Some(chunk) = chunk else { break };
                    match self.register(chunk).await.map_err(unavailable)? {
                        (made, None) => done.add(made),
                        (made, failed) => {
                            done.add(made);
                            failure = failed;
                        }
                    }
                }
                _ = living.tick() => self.keep_alive().await.map_err(unavailable)?,
            }
        }
        failure.map_or(Ok(done), Err)
    }

    async fn make_one(
        &self,
        view: &Entitled,
        source: &Source,
        schema: Arc<Schema>,
        need: Need,
        copy: Copy,
        permits: &Semaphore,
    ) -> (Copy, Result<MadeCopy, Fault>) {
        // The semaphore is never closed, so everyone who waits gets a turn.
        let _permit = permits.acquire().await;
        let made = match copy.kind {
            CopyKind::File => self.make_file(view, source, schema, &need, &copy).await,
            CopyKind::Source => self.look_into(view, source, &need, &copy).await,
        };
        (copy, made)
    }

    async fn make_file(
        &self,
        view: &Entitled,
        source: &Source,
        schema: Arc<Schema>,
        need: &Need,
        copy: &Copy,
    ) -> Result<MadeCopy, Fault> {
        let root = self.root().map_err(|error| EngineError::Full(Arc::new(error)))?;
        let engine = self.engine();
        let (writer, path) = (|| Arc::clone(root.writer()), || root.path(&copy.object_key));
        let made = if need.grouped_as_of.is_some() {
            let indices: Vec<usize> = std::iter::once(need.index).chain(need.more.iter().copied()).collect();
            let files = indices.iter().map(|index| source_file(source, Arc::clone(&schema), *index));
            let mut files = files.collect::<Result<Vec<_>, _>>()?;
            let key = || self.inner.unit_key.shuffle(need.unit);
            loop {
                let listed = engine.surrogate_digests(files.clone(), Arc::clone(&view.rules), usize::MAX).await;
                let mixed = match listed {
                    Ok(digests) => {
                        let rules = self.with_surrogates(view, digests).await?;
                        engine.mix(files.clone(), rules, key(), writer(), path()).await
                    }
                    Err(fault) => Err(fault),
                };
                let MixFault { file, error } = match mixed {
                    Ok(made) => break made,
                    Err(fault) => fault,
                };
                if let Some(at) = file
                    && let EngineError::Lacks(column) = &error
                    && self.excuse(source, &schema, &indices, &mut files, at, column).await?
                {
                    continue;
                }
                let path = file.and_then(|at| source.snapshot.files().get(*indices.get(at)?));
                return Err(match path.map(|file| file.path.to_owned()) {
                    Some(path) if indices.len() > 1 => Fault::Member { path, error },
                    _ => Fault::Engine(error),
                });
            }
        } else {
            let rules = self.rules_for_file(view, source, &schema, need.index, usize::MAX).await?;
            let make = |file| engine.make(file, Arc::clone(&rules), writer(), path());
            self.with_file(source, &schema, need.index, make).await?
        };
        if made.rows > 0 {
            root.settle(&copy.object_key).await.map_err(|error| EngineError::Full(Arc::new(error)))?;
        }
        Ok(MadeCopy { id: copy.id, bytes: made.bytes, rows: made.rows, stats: Some(made.stats) })
    }

    /// Checks from a source file's footer that it holds only the columns that the view shows.
    async fn look_into(&self, view: &Entitled, source: &Source, need: &Need, copy: &Copy) -> Result<MadeCopy, Fault> {
        let file = source.snapshot.files().get(need.index).ok_or(EngineError::Missing)?;
        let path = source.location.resolve(file.path).map_err(|_| EngineError::Missing)?;
        let footer = self.engine().footer(&source.location, &path, file.size).await?;
        let shown: Vec<ColumnPath> = view.published.plan.shown().into_iter().map(|shown| shown.name).collect();
        if footer.has_notes || footer.leaves.iter().any(|column| !shown.contains(column)) {
            return Err(Fault::HoldsMore);
        }
        let metadata = source.snapshot.metadata();
        let source_schema = Schema::parse(&metadata.schema_string).map_err(|_| EngineError::Missing)?;
        let is_needed = |column: &&ColumnPath| {
            let is_partition = matches!(column.0.as_slice(), [name] if metadata.partition_columns.contains(name));
            !is_partition && source_schema.lookup(column).is_ok_and(|found| !found.nullable())
        };
        if shown.iter().filter(is_needed).any(|column| !footer.leaves.contains(column)) {
            return Err(Fault::HoldsLess);
        }
        let rows = file.live_rows().unwrap_or_default();
        Ok(MadeCopy { id: copy.id, bytes: file.size, rows, stats: None })
    }

    /// Records successes and failures in the register.
    async fn register(
        &self,
        chunk: Vec<(Copy, Result<MadeCopy, Fault>)>,
    ) -> Result<(Done, Option<Failure>), ServiceError> {
        let (mut done, mut failure, mut lost) = (Done::default(), None, Vec::new());
        let holder = self.core.leases.holder();
        let mut tx = self.core.db.begin().await?;
        for (copy, made) in chunk {
            match made {
                Ok(made) => {
                    let is_ours = tx.complete_copy(&made, holder).await?;
                    match copy.kind {
                        CopyKind::Source => {}
                        CopyKind::File if is_ours => done.add(Done { files: 1, rows: made.rows, bytes: made.bytes }),
                        CopyKind::File => lost.push(copy.object_key),
                    }
                }
                Err(fault @ (Fault::HoldsMore | Fault::HoldsLess)) => {
                    // The columns of a file never change, so this would always fail.
                    let never = self.core.clock.now() + TimeDelta::days(36_500);
                    tx.fail_copy(copy.id, holder, &fault.to_string(), never).await?;
                }
                Err(fault) => {
                    fault.log(&copy);
                    self.core.metrics.copy_failed();
                    failure = Some(fault.failure());
                    if fault.is_temporary() {
                        // The next request may try again at once.
                        tx.drain_copy(copy.id, None).await?;
                    } else {
                        tx.fail_copy(copy.id, holder, &fault.to_string(), self.again_at(&copy)).await?;
                    }
                }
            }
        }
        tx.commit().await?;
        // Files that others took over, or that nobody may read any more, are not needed.
        for key in lost {
            self.root()?.delete(&key).await?;
        }
        self.core.metrics.copies_made(done.files, done.bytes);
        Ok((done, failure))
    }

    /// When a failed materialization is tried again.
    fn again_at(&self, copy: &Copy) -> DateTime<Utc> {
        let doublings = u32::try_from(copy.attempts.clamp(1, 16) - 1).unwrap_or(0);
        self.core.clock.now() + (FIRST_REST * 2i32.pow(doublings)).min(LONGEST_REST)
    }

    async fn keep_alive(&self) -> Result<(), ServiceError> {
        let mut tx = self.core.db.begin().await?;
        tx.keep_server_alive(self.core.leases.holder(), self.core.clock.now()).await?;
        Ok(tx.commit().await?)
    }

    /// The audit event for a job's work.
    fn made_event(&self, view: &Entitled, source: &Source, done: &Done, started: Instant) -> Event {
        let actor = Actor::system("weir");
        let published = &view.published.view;
        Event {
            object: Some(Object { kind: Kind::View, id: Some(published.id), name: Some(published.to_string()) }),
            recipient_id: Some(view.recipient_id),
            share_id: Some(view.share_id),
            table_version: Some(source.snapshot.version()),
            files: Some(done.files),
            rows: Some(done.rows),
            bytes: Some(done.bytes),
            duration_ms: Some(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)),
            ..Event::new(actor, Action::CopiesMake)
        }
    }
}

/// The work that was done.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    files: u64,
    rows: u64,
    bytes: u64,
}

impl Done {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

impl Job {
    fn failure(&self) -> Option<Arc<Failure>> {
        self.progress.borrow().outcome.clone()?.err()
    }

    /// Waits for the end of the job.
    async fn outcome(&self) -> Result<(), Arc<Failure>> {
        let mut progress = self.progress.clone();
        let ended = progress.wait_for(|progress| progress.outcome.is_some()).await;
        let outcome = ended.ok().and_then(|progress| progress.outcome.clone());
        outcome.unwrap_or_else(|| Err(Arc::new(Failure::Unavailable("the work was broken off".to_owned()))))
    }
}

/// Removes a job from the list when it ends, however it ends.
struct Forget {
    materializer: Materializer,
    key: JobKey,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.materializer.jobs().remove(&self.key);
    }
}

fn unavailable(error: ServiceError) -> Failure {
    tracing::error!(error = &error as &dyn std::error::Error, "copies could not be made for now");
    Failure::Unavailable(error.to_string())
}

/// Prepares a file of the source for the engine.
pub(super) fn source_file(source: &Source, schema: Arc<Schema>, index: usize) -> Result<SourceFile, EngineError> {
    let file = source.snapshot.files().get(index).ok_or(EngineError::Missing)?;
    SourceFile::new(&source.location, source.snapshot.metadata(), &schema, &file)
}
