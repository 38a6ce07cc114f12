//! Reads a table's past: versions by time, older versions, and single commits.
//!
//! Start at [`History`]. Each commit is read once from the log, and kept in a cache of limited size. Never here: limits
//! on the history that is shared, or the lines of an answer.

mod changes;
mod commit;
mod epochs;
mod timeline;

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use bytes::Bytes;
use futures::future::try_join_all;
use moka::future::Cache;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};
use tokio::sync::{Mutex, OnceCell, Semaphore};

pub use changes::{Changes, Outline};
pub use commit::{ActionKind, Commit, Feed, FileAction};

use crate::{
    domain::catalog::delta::{Metadata, Protocol},
    storage::TableLocation,
};

use self::{
    commit::{CommitText, MalformedCommit, leading_timestamp},
    epochs::Epochs,
    timeline::{Stamp, Timeline},
};

use super::{
    Lake, LakeError, LogFault, Snapshot,
    error::Cause,
    kernel::{corrupt, failed, unavailable, unreadable},
    log_store::{Failure, FileMark, commit_path},
};

/// The table property that makes writers put a timestamp into each commit.
const IN_COMMIT_TIMESTAMPS: &str = "delta.enableInCommitTimestamps";
/// The first version with such a timestamp, if the property was set later than version 0.
const IN_COMMIT_SINCE: &str = "delta.inCommitTimestampEnablementVersion";

/// Memory for timelines, in bytes; each commit of a log takes 32.
const TIMELINE_BYTES: u64 = 64 << 20;
/// Memory for the times of logs with in-commit timestamps out of order, in bytes; each commit takes 8.
const SETTLED_BYTES: u64 = 16 << 20;
/// The number of cached in-commit timestamps of single commits.
const REMEMBERED_TIMES: u64 = 100_000;
/// Memory for outlines of commits, in bytes; most take a few hundred.
const OUTLINE_BYTES: u64 = 64 << 20;
/// Memory for protocols and metadata of older versions, in bytes.
const STATE_BYTES: u64 = 32 << 20;
/// Memory for the epochs of metadata, in bytes.
const EPOCH_BYTES: u64 = 32 << 20;
/// The total size of commits that are read at once, in kibibytes. A larger commit is read alone.
const READING_KIB: u32 = 64 << 10;
/// The number of commits on either side of the result that are also checked for descending times. Writers must keep
/// times ascending (Delta protocol, in-commit timestamps), and most do.
const LOOK_AROUND: usize = 8;
/// The largest number of commits whose timestamps are always all read.
const ALL_LOOKED_AT: usize = 64;
/// The number of in-commit timestamps that are read at once.
const TIMES_TOGETHER: usize = 16;
/// The number of bytes of a commit that are read first to find its in-commit timestamp.
const LEADING_BYTES: u64 = 8 << 10;

/// One table's past, as of one look at its log; later commits are not visible. Cheap to clone.
#[derive(Clone, Debug)]
pub struct History {
    lake: Lake,
    table: TableKey,
    location: TableLocation,
    latest: Arc<Snapshot>,
    /// The version from which the look at the newest version listed the log.
    seen_from: u64,
    /// Listed on first use.
    timeline: Arc<OnceCell<Arc<Timeline>>>,
}

/// A table's protocol and metadata at one version, without its files.
#[derive(Debug)]
pub struct TableState {
    /// The version.
    pub version: u64,
    /// The `protocol` in force.
    pub protocol: Protocol,
    /// The `metaData` in force.
    pub metadata: Metadata,
    /// The version of the checkpoint it was read from, or 0 without one.
    begins: u64,
}

impl TableState {
    /// Takes the state at `version` from `snapshot`, which must have the same protocol and metadata.
    fn of(snapshot: &Snapshot, version: u64) -> Self {
        let (protocol, metadata) = (snapshot.protocol().clone(), snapshot.metadata().clone());
        Self { version, protocol, metadata, begins: snapshot.begins() }
    }
}

/// The cached past of all tables. Clones share everything.
#[derive(Clone, Debug)]
pub(super) struct HistoryCache {
    timelines: Cache<TableKey, Arc<Timeline>>,
    commits: Cache<CommitKey, Arc<Commit>>,
    /// Kept longer than commits, so that each page of a long answer reads only its own commits.
    outlines: Cache<(CommitKey, Feed), Outline>,
    times: Cache<CommitKey, i64>,
    /// The times of short logs, and of logs in which a commit's timestamp is not after the one before.
    settled: Cache<TableKey, Arc<Settled>>,
    states: Cache<CommitKey, Arc<TableState>>,
    epochs: Cache<TableKey, Arc<Epochs>>,
    /// Locks held while commits are read to find changes of metadata.
    looking: Cache<TableKey, Arc<Mutex<()>>>,
    /// Locks held while a log is listed, so that concurrent callers share the listing.
    listing: Cache<TableKey, Arc<Mutex<()>>>,
    reading: Arc<Semaphore>,
}

type TableKey = (Arc<str>, u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CommitKey {
    table: TableKey,
    version: u64,
    mark: u64,
}

impl HistoryCache {
    pub(super) fn new(commit_bytes: u64) -> Self {
        let kib = |bytes: usize| u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        Self {
            timelines: Cache::builder()
                .max_capacity(TIMELINE_BYTES / 1024)
                .weigher(move |_, timeline: &Arc<Timeline>| kib(timeline.resident_bytes()))
                .build(),
            commits: Cache::builder()
                .max_capacity(commit_bytes / 1024)
                .weigher(move |_, commit: &Arc<Commit>| kib(commit.resident_bytes()))
                .build(),
            outlines: Cache::builder()
                .max_capacity(OUTLINE_BYTES)
                .weigher(|_, outline: &Outline| u32::try_from(outline.resident_bytes()).unwrap_or(u32::MAX))
                .build(),
            times: Cache::new(REMEMBERED_TIMES),
            settled: Cache::builder()
                .max_capacity(SETTLED_BYTES / 1024)
                .weigher(move |_, settled: &Arc<Settled>| kib(512 + settled.times.capacity() * size_of::<i64>()))
                .build(),
            states: Cache::builder()
                .max_capacity(STATE_BYTES / 1024)
                .weigher(move |_, state: &Arc<TableState>| kib(1024 + 2 * state.metadata.schema_string.len()))
                .build(),
            epochs: Cache::builder()
                .max_capacity(EPOCH_BYTES / 1024)
                .weigher(move |_, epochs: &Arc<Epochs>| kib(epochs.resident_bytes()))
                .build(),
            looking: Cache::new(10_000),
            listing: Cache::new(10_000),
            reading: Arc::new(Semaphore::new(READING_KIB as usize)),
        }
    }
}

impl Lake {
    /// Looks at a table's log, and returns its history, which is as fresh as [`Lake::latest`].
    ///
    /// Costs one listing while nothing has changed. The first query by time or for commits lists the whole log; later
    /// ones list only the new commits.
    pub async fn history(&self, location: &TableLocation) -> Result<History, LakeError> {
        Ok(self.history_until(location, self.latest(location).await?).await)
    }

    /// Returns the past of a table as if `latest` were its newest version; later commits are not visible.
    pub async fn history_until(&self, location: &TableLocation, latest: Arc<Snapshot>) -> History {
        let (generation, seen_from) = self.seen(location).await;
        History {
            lake: self.clone(),
            table: (Arc::from(location.url()), generation),
            location: location.clone(),
            latest,
            seen_from,
            timeline: Arc::default(),
        }
    }
}

impl History {
    /// Returns the newest version.
    pub fn latest(&self) -> &Arc<Snapshot> {
        &self.latest
    }

    /// Returns one version of the table.
    ///
    /// # Errors
    /// [`LakeError::VersionNotFound`] if the version does not exist yet, or no longer.
    pub async fn at_version(&self, version: u64) -> Result<Arc<Snapshot>, LakeError> {
        if version == self.latest.version() {
            return Ok(self.latest.clone());
        }
        if version > self.latest.version() {
            return Err(self.no_version(version, None).await);
        }
        let cached = self.lake.cached_version(&self.location, self.table.1, version).await;
        if let Some(snapshot) = cached
            && !self.holds(snapshot.begins(), version).await?
        {
            self.lake.forget_version(&self.location, self.table.1, version).await;
        }
        match self.lake.load_version(&self.location, self.table.1, version).await {
            Ok(snapshot) => Ok(snapshot),
            Err(error) => Err(self.old_version_failed(version, error).await),
        }
    }

    /// Returns the table's protocol and metadata at one version. Much cheaper than [`Self::at_version`], because no
    /// files are listed.
    ///
    /// # Errors
    /// The same as [`Self::at_version`].
    pub async fn state_at(&self, version: u64) -> Result<Arc<TableState>, LakeError> {
        if version > self.latest.version() {
            return Err(self.no_version(version, None).await);
        }
        let (location, generation) = (&self.location, self.table.1);
        let cached = if version == self.latest.version() {
            Some(self.latest.clone())
        } else {
            self.lake.cached_version(location, generation, version).await
        };
        let key = CommitKey { table: self.table.clone(), version, mark: 0 };
        let known = match cached {
            Some(snapshot) => Some(Arc::new(TableState::of(&snapshot, version))),
            None => self.lake.past.states.get(&key).await,
        };
        if let Some(known) = known {
            if version == self.latest.version() || self.holds(known.begins, version).await? {
                return Ok(known);
            }
            self.lake.past.states.invalidate(&key).await;
        }
        let describe = async {
            let (protocol, metadata, begins) = self.lake.loader.describe(location, version).await?;
            Ok(Arc::new(TableState { version, protocol, metadata, begins }))
        };
        match self.lake.past.states.try_get_with(key, describe).await {
            Ok(state) => Ok(state),
            Err(error) => Err(self.old_version_failed(version, LakeError::clone(&error)).await),
        }
    }

    /// Returns whether the log still holds all files needed for `version`, from the checkpoint or commit `begins` on. A
    /// cached version is only used if the log would still give it.
    async fn holds(&self, begins: u64, version: u64) -> Result<bool, LakeError> {
        if begins >= self.seen_from {
            return Ok(true);
        }
        let store = self.lake.loader.store(&self.location).until(version);
        match store.probe(Some(begins), None).await {
            Ok(_) => Ok(store.holds_all_until(version)),
            Err(error) => Err(failed(&self.location, &store, error)),
        }
    }

    /// Returns the newest version committed at or before `at_ms` (milliseconds since the epoch).
    ///
    /// # Errors
    /// [`LakeError::TimestampTooEarly`], [`LakeError::TimestampTooLate`].
    pub async fn version_as_of(&self, at_ms: i64) -> Result<u64, LakeError> {
        let commits = self.dated_commits().await?;
        if at_ms > commits.newest.1 {
            return Err(self.too_late(at_ms, commits.newest));
        }
        self.last_until(&commits, at_ms).await
    }

    /// Returns the newest version committed at or before `at_ms`, even if `at_ms` is after the newest commit.
    ///
    /// # Errors
    /// [`LakeError::TimestampTooEarly`].
    pub async fn last_version_until(&self, at_ms: i64) -> Result<u64, LakeError> {
        let commits = self.dated_commits().await?;
        self.last_until(&commits, at_ms).await
    }

    /// Returns the earliest version committed at or after `at_ms` (milliseconds since the epoch).
    ///
    /// # Errors
    /// [`LakeError::TimestampTooLate`].
    pub async fn first_version_since(&self, at_ms: i64) -> Result<u64, LakeError> {
        let commits = self.dated_commits().await?;
        if at_ms > commits.newest.1 {
            return Err(self.too_late(at_ms, commits.newest));
        }
        if let Some(first) = commits.in_commit().first()
            && at_ms > self.in_commit_time(first).await?
        {
            let at = self.partition(commits.in_commit(), |time| time < at_ms).await?;
            return Ok(commits.in_commit().get(at).map_or(commits.newest.0, |stamp| stamp.version));
        }
        let at = commits.by_file().partition_point(|stamp| stamp.file_time < at_ms);
        let found = commits.by_file().get(at).or(commits.in_commit().first());
        Ok(found.map_or(commits.newest.0, |stamp| stamp.version))
    }

    /// Returns the earliest version that can be queried by time or for changes, and its commit time in milliseconds
    /// since the epoch.
    pub async fn earliest(&self) -> Result<(u64, i64), LakeError> {
        let commits = self.dated_commits().await?;
        match commits.by_file().first().or(commits.in_commit().first()) {
            Some(first) => Ok((first.version, self.time_of(first).await?)),
            None => Ok(commits.newest),
        }
    }

    /// Returns the commit time of a version in milliseconds since the epoch, by the same rules as the queries by time.
    pub async fn committed_at(&self, version: u64) -> Result<i64, LakeError> {
        let timeline = self.timeline().await?;
        let stamp = timeline.find(version).ok_or_else(|| self.no_commit(version))?;
        self.time_of(stamp).await
    }

    /// Reads and checks the commits of a range of versions, both ends included.
    ///
    /// # Errors
    /// [`LakeError::VersionNotFound`] if the range ends after the newest version, or its first version can no longer be
    /// read; [`LakeError::CommitNotFound`] if a commit in it is missing; [`LakeError::ChangesNotRecorded`] for
    /// [`Feed::Changes`] if the table did not record changes throughout the range; [`LakeError::IncompleteRemove`] if
    /// an old writer omitted data that cannot be found elsewhere; [`LakeError::PathNotServed`] if a file of the range
    /// has a path that is refused.
    pub async fn changes(&self, versions: RangeInclusive<u64>, feed: Feed) -> Result<Changes, LakeError> {
        Changes::read(self, versions, feed).await
    }

    /// Passes the commits up to `version` to `see`, newest first, until `see` returns false, the log ends, or a commit
    /// cannot be read.
    ///
    /// # Errors
    /// [`LakeError::Unavailable`].
    pub async fn walk_back(&self, version: u64, mut see: impl FnMut(&Commit) -> bool) -> Result<(), LakeError> {
        let stamps = self.timeline().await?.up_to(version).to_vec();
        let mut expected = version;
        for stamp in stamps.iter().rev() {
            // Commits before a gap did not lead to this version.
            if stamp.version != expected {
                break;
            }
            let commit = match self.commit(stamp).await {
                Ok(commit) => commit,
                Err(error @ LakeError::Unavailable { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, version = stamp.version, "a commit of the past cannot be read");
                    break;
                }
            };
            let Some(before) = stamp.version.checked_sub(1).filter(|_| see(&commit)) else { break };
            expected = before;
        }
        Ok(())
    }

    /// Passes the path of every file of every readable version to `see`. Returns false if the paths are not known to be
    /// complete: commits are missing or unreadable, there are more than `most` commits, or one is newer than this
    /// history.
    ///
    /// # Errors
    /// [`LakeError::Unavailable`].
    pub async fn name_files(&self, most: u64, mut see: impl FnMut(&str)) -> Result<bool, LakeError> {
        let (commits, oldest_checkpoint) = self.list_commits(None, None).await?;
        let newest = self.latest.version();
        let oldest = if commits.contains_key(&0) { Some(0) } else { oldest_checkpoint };
        let Some(oldest) = oldest.filter(|oldest| newest.checked_sub(*oldest).is_some_and(|n| n <= most)) else {
            return Ok(false);
        };
        let is_whole = (oldest + 1..=newest).all(|version| commits.contains_key(&version));
        if !is_whole || commits.keys().next_back().is_some_and(|last| *last > newest) {
            return Ok(false);
        }
        for file in self.latest.files().iter() {
            see(file.path);
        }
        // A file that is in an older version but not in the newest was removed by a commit in between.
        let mut reached = newest + 1;
        let look = |commit: &Commit| {
            if commit.version > oldest {
                reached = commit.version;
                let files = commit.files.iter().filter(|file| file.kind != ActionKind::Cdc);
                files.for_each(|file| see(&file.path));
            }
            commit.version > oldest + 1
        };
        self.walk_back(newest, look).await?;
        Ok(reached == oldest + 1)
    }

    async fn timeline(&self) -> Result<&Arc<Timeline>, LakeError> {
        self.timeline.get_or_try_init(|| self.find_timeline(false)).await
    }

    /// Brings the cached timeline up to date, or lists the log from the beginning.
    async fn find_timeline(&self, anew: bool) -> Result<Arc<Timeline>, LakeError> {
        let past = &self.lake.past;
        let turn = past.listing.get_with_by_ref(&self.table, async { Arc::default() }).await;
        let _turn = turn.lock().await;
        let known = if anew { None } else { past.timelines.get(&self.table).await };
        let timeline = match known {
            Some(known) if self.latest.tip().is_some_and(|tip| known.holds(tip)) => return Ok(known),
            Some(known) => {
                let (commits, _) = self.list_commits(known.newest(), None).await?;
                (*known).clone().extended(&commits)
            }
            None => None,
        };
        let timeline = match timeline {
            Some(timeline) => timeline,
            None => {
                let (commits, oldest_checkpoint) = self.list_commits(None, None).await?;
                Timeline::new(commits, oldest_checkpoint)
            }
        };
        let timeline = Arc::new(timeline);
        past.timelines.insert(self.table.clone(), timeline.clone()).await;
        Ok(timeline)
    }

    /// Lists the existing commits from `since` to `until`, and returns the version of the oldest checkpoint listed.
    async fn list_commits(
        &self,
        since: Option<u64>,
        until: Option<u64>,
    ) -> Result<(BTreeMap<u64, FileMark>, Option<u64>), LakeError> {
        let store = self.lake.loader.store(&self.location).until(until.unwrap_or(u64::MAX));
        match store.probe(since, None).await {
            Ok(_) => Ok(store.take_commits()),
            Err(error) => Err(failed(&self.location, &store, error)),
        }
    }

    /// Returns the existing commits, split by the clock that dates them.
    async fn dated_commits(&self) -> Result<DatedCommits, LakeError> {
        let mut timeline = self.timeline().await?.clone();
        // Cached commits may have been cleaned up meanwhile, oldest first.
        if let Some(oldest) = timeline.oldest()
            && !self.has_commit(oldest).await?
        {
            timeline = self.find_timeline(true).await?;
        }
        let stamps = timeline.up_to(self.latest.version());
        let Some(last) = stamps.last() else { return Err(self.no_commit(self.latest.version())) };
        let split = match self.in_commit_since()? {
            Some(since) => stamps.partition_point(|stamp| stamp.version < since),
            None => stamps.len(),
        };
        let newest = (last.version, self.time_of(last).await?);
        let (by_file, in_commit) = (0..split, split..stamps.len());
        Ok(DatedCommits { timeline, by_file, in_commit, newest })
    }

    async fn last_until(&self, commits: &DatedCommits, at_ms: i64) -> Result<u64, LakeError> {
        let mut earliest = None;
        if let Some(first) = commits.in_commit().first() {
            let began_at = self.in_commit_time(first).await?;
            if at_ms >= began_at {
                let at = self.partition(commits.in_commit(), |time| time <= at_ms).await?;
                return Ok(commits.in_commit()[at.saturating_sub(1)].version);
            }
            earliest = Some((first.version, began_at));
        }
        let at = commits.by_file().partition_point(|stamp| stamp.file_time <= at_ms);
        if let Some(found) = at.checked_sub(1) {
            return Ok(commits.by_file()[found].version);
        }
        let by_file = commits.by_file().first().map(|stamp| (stamp.version, stamp.file_time));
        let (version, committed_at) = by_file.or(earliest).unwrap_or(commits.newest);
        Err(LakeError::TimestampTooEarly { location: self.url(), asked_at: at_ms, version, committed_at })
    }

    /// Returns the number of `commits` whose times satisfy `is_first`, which must hold for a prefix of them. `commits`
    /// must be all commits with in-commit timestamps.
    ///
    /// Uses a binary search, as if the times ascended, which they nearly always do. If the times read along the way do
    /// not ascend, the timestamps of all commits are read, once.
    async fn partition(&self, commits: &[Stamp], is_first: impl Fn(i64) -> bool) -> Result<usize, LakeError> {
        let placed = |settled: &Settled| settled.of(commits).partition_point(|time| is_first(*time));
        if let Some(settled) = self.settled(commits, false).await? {
            return Ok(placed(&settled));
        }
        let mut seen = BTreeMap::new();
        for end in [0, commits.len().saturating_sub(1)] {
            seen.insert(end, self.in_commit_time(&commits[end]).await?);
        }
        let (mut from, mut to) = (0, commits.len());
        while from < to {
            let middle = from + (to - from) / 2;
            let time = self.in_commit_time(&commits[middle]).await?;
            seen.insert(middle, time);
            if is_first(time) { from = middle + 1 } else { to = middle }
        }
        let around = from.saturating_sub(LOOK_AROUND)..commits.len().min(from + LOOK_AROUND);
        seen.extend(around.clone().zip(self.in_commit_times(&commits[around]).await?));
        if seen.values().is_sorted_by(|one, next| one < next) {
            return Ok(from);
        }
        Ok(self.settled(commits, true).await?.map_or(from, |settled| placed(&settled)))
    }

    /// Returns strictly ascending times for `commits`, which must be all commits with in-commit timestamps. Cached, and
    /// extended by new commits. Returns `None` for a long log whose times ascend; its commits' own timestamps apply.
    /// `falls` tells that the caller found times out of order.
    async fn settled(&self, commits: &[Stamp], falls: bool) -> Result<Option<Arc<Settled>>, LakeError> {
        let known = self.lake.past.settled.get(&self.table).await.filter(|known| known.goes_with(commits));
        if let Some(known) = known.as_ref().filter(|known| known.times.len() >= commits.len()) {
            return Ok(Some(Arc::clone(known)));
        }
        let fell = falls || known.as_ref().is_some_and(|known| known.falls);
        if !fell && commits.len() > ALL_LOOKED_AT {
            return Ok(None);
        }
        let mut settled = known.map_or_else(Settled::default, Arc::unwrap_or_clone);
        let new = &commits[settled.times.len()..];
        settled.extend(new, &self.in_commit_times(new).await?);
        let settled = Arc::new(settled);
        self.lake.past.settled.insert(self.table.clone(), Arc::clone(&settled)).await;
        Ok(Some(settled))
    }

    /// Returns the timestamp that each commit states. A commit that was cleaned up meanwhile gets the lowest time, so
    /// it does not shift later ones.
    async fn in_commit_times(&self, commits: &[Stamp]) -> Result<Vec<i64>, LakeError> {
        let mut times = Vec::with_capacity(commits.len());
        for commits in commits.chunks(TIMES_TOGETHER) {
            times.extend(try_join_all(commits.iter().map(|stamp| self.said_time(stamp))).await?);
        }
        Ok(times)
    }

    async fn said_time(&self, stamp: &Stamp) -> Result<i64, LakeError> {
        match self.in_commit_time(stamp).await {
            Err(LakeError::CommitNotFound { .. }) => Ok(i64::MIN),
            read => read,
        }
    }

    /// Makes the times in `said` strictly ascend, with the same result for every query. `stamps` are consecutive
    /// commits, and `said` holds the times that they state.
    async fn date(&self, stamps: &[Stamp], said: &mut [i64]) -> Result<(), LakeError> {
        let Some(since) = self.in_commit_since()? else { return Ok(()) };
        let at = stamps.partition_point(|stamp| stamp.version < since);
        let (Some(first), Some(last)) = (stamps.get(at), stamps.last()) else { return Ok(()) };
        let timeline = self.timeline().await?;
        let all = timeline.between(since, last.version);
        let n_before = all.partition_point(|stamp| stamp.version < first.version);
        let settled = match self.settled(all, false).await? {
            Some(settled) => settled,
            None => {
                let mut times = self.in_commit_times(&all[n_before.saturating_sub(LOOK_AROUND)..n_before]).await?;
                times.extend_from_slice(&said[at..]);
                if times.is_sorted_by(|one, next| one < next) {
                    return Ok(());
                }
                let Some(settled) = self.settled(all, true).await? else { return Ok(()) };
                settled
            }
        };
        for (said, time) in said[at..].iter_mut().zip(settled.of(all).iter().skip(n_before)) {
            *said = *time;
        }
        Ok(())
    }

    /// Returns the first version with an in-commit timestamp according to the newest metadata; `None` without such
    /// timestamps.
    fn in_commit_since(&self) -> Result<Option<u64>, LakeError> {
        let properties = &self.latest.metadata().configuration;
        if properties.get(IN_COMMIT_TIMESTAMPS).is_none_or(|value| !value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match properties.get(IN_COMMIT_SINCE).map(|since| since.parse()) {
            None => Ok(Some(0)),
            Some(Ok(since)) => Ok(Some(since)),
            Some(Err(_)) => Err(corrupt(&self.location, LogFault::Inconsistent, None)),
        }
    }

    async fn time_of(&self, stamp: &Stamp) -> Result<i64, LakeError> {
        let mut time = [stamp.file_time];
        if self.in_commit_since()?.is_some_and(|since| stamp.version >= since) {
            time = [self.in_commit_time(stamp).await?];
            self.date(&[*stamp], &mut time).await?;
        }
        Ok(time[0])
    }

    /// Returns the timestamp that the commit itself states, regardless of earlier commits.
    async fn in_commit_time(&self, stamp: &Stamp) -> Result<i64, LakeError> {
        if stamp.version == self.latest.version() {
            return Ok(self.latest.committed_at());
        }
        let read = async {
            if let Some(commit) = self.lake.past.commits.get(&self.key(stamp)).await {
                return Ok(commit.committed_at);
            }
            for bytes in [LEADING_BYTES.min(stamp.size), stamp.size] {
                let text = self.read_commit(stamp, Some(bytes)).await?;
                if let Some(time) = leading_timestamp(&text, bytes == stamp.size) {
                    let time = time.map_err(|error| self.malformed(error))?;
                    return time.ok_or_else(|| corrupt(&self.location, LogFault::Inconsistent, None));
                }
            }
            Err(corrupt(&self.location, LogFault::Malformed, None))
        };
        self.lake.past.times.try_get_with(self.key(stamp), read).await.map_err(|error| LakeError::clone(&error))
    }

    /// Returns one commit, from the cache or the log.
    async fn commit(&self, stamp: &Stamp) -> Result<Arc<Commit>, LakeError> {
        let read = async {
            let kib = u32::try_from(stamp.size.div_ceil(1024)).unwrap_or(READING_KIB).clamp(1, READING_KIB);
            // The semaphore is never closed.
            let _reading = self.lake.past.reading.acquire_many(kib).await;
            let text = self.read_commit(stamp, None).await?;
            let version = stamp.version;
            let parsed = tokio::task::spawn_blocking(move || CommitText::parse(version, &text)).await;
            let CommitText { in_commit_timestamp, mut commit } = match parsed {
                Ok(parsed) => parsed.map_err(|error| self.malformed(error))?,
                Err(error) => return Err(unavailable(&self.location, Arc::new(error))),
            };
            let is_in_commit = self.in_commit_since()?.is_some_and(|since| version >= since);
            commit.committed_at = match (is_in_commit, in_commit_timestamp) {
                (true, Some(time)) => time,
                (true, None) => return Err(corrupt(&self.location, LogFault::Inconsistent, None)),
                (false, _) => stamp.file_time,
            };
            let features = commit.protocol.as_ref().map(unreadable).unwrap_or_default();
            if !features.is_empty() {
                return Err(LakeError::Unsupported { location: self.url(), features });
            }
            Ok(Arc::new(commit))
        };
        self.lake.past.commits.try_get_with(self.key(stamp), read).await.map_err(|error| LakeError::clone(&error))
    }

    async fn has_commit(&self, version: u64) -> Result<bool, LakeError> {
        let store = self.lake.loader.store(&self.location);
        match store.head(&commit_path(version)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(&self.location, &store, error)),
        }
    }

    /// Reads the file of a commit, or its first `bytes`.
    async fn read_commit(&self, stamp: &Stamp, bytes: Option<u64>) -> Result<Bytes, LakeError> {
        let store = self.lake.loader.store(&self.location);
        let options = GetOptions::new().with_range(bytes.filter(|bytes| *bytes < stamp.size).map(|bytes| 0..bytes));
        let text = async { store.get_opts(&commit_path(stamp.version), options).await?.bytes().await };
        text.await.map_err(|error| match store.failure() {
            Some(Failure::Log(LogFault::MissingFile)) => self.no_commit(stamp.version),
            _ => failed(&self.location, &store, error),
        })
    }

    fn key(&self, stamp: &Stamp) -> CommitKey {
        CommitKey { table: self.table.clone(), version: stamp.version, mark: stamp.mark }
    }

    fn url(&self) -> String {
        self.location.url().to_owned()
    }

    /// Translates the failure to read an older version. The newest version was readable, so missing files mean that the
    /// old one was cleaned up.
    async fn old_version_failed(&self, version: u64, error: LakeError) -> LakeError {
        match error {
            LakeError::CorruptLog { source, fault: LogFault::Gap | LogFault::MissingFile, .. } => {
                self.no_version(version, source).await
            }
            LakeError::NotATable { .. } => self.no_version(version, None).await,
            other => other,
        }
    }

    async fn no_version(&self, version: u64, source: Option<Cause>) -> LakeError {
        let newest = self.latest.version();
        // Needed only for the message; a failure here is ignored.
        let oldest = match version <= newest {
            true => self.find_timeline(true).await.ok().and_then(|timeline| timeline.oldest()),
            false => None,
        };
        LakeError::VersionNotFound { location: self.url(), version, oldest, newest, source }
    }

    fn no_commit(&self, version: u64) -> LakeError {
        LakeError::CommitNotFound { location: self.url(), version }
    }

    fn too_late(&self, asked_at: i64, (version, committed_at): (u64, i64)) -> LakeError {
        LakeError::TimestampTooLate { location: self.url(), asked_at, version, committed_at }
    }

    fn malformed(&self, error: MalformedCommit) -> LakeError {
        corrupt(&self.location, LogFault::Malformed, Some(Arc::new(error)))
    }
}

/// The times of the commits with in-commit timestamps, each at least a millisecond after the one before.
#[derive(Clone, Debug, Default)]
struct Settled {
    /// The first and last of these commits.
    ends: Option<(Stamp, Stamp)>,
    times: Vec<i64>,
    /// Whether a commit's timestamp is not after the one before it.
    falls: bool,
}

impl Settled {
    /// Returns whether these are the times of the first of `commits`, or of all of them and later ones.
    fn goes_with(&self, commits: &[Stamp]) -> bool {
        let Some((first, last)) = self.ends else { return false };
        let is_last = |stamp: &Stamp| *stamp == last;
        commits.first() == Some(&first)
            && (commits.len() <= self.times.len() || commits.get(self.times.len() - 1).is_some_and(is_last))
    }

    /// Adds the following commits with the times that they state.
    fn extend(&mut self, commits: &[Stamp], said: &[i64]) {
        for time in said {
            let not_before = self.times.last().map_or(i64::MIN, |last| last.saturating_add(1));
            self.falls |= *time < not_before;
            self.times.push((*time).max(not_before));
        }
        if let (Some(first), Some(last)) = (commits.first(), commits.last()) {
            let first = self.ends.map_or(*first, |(first, _)| first);
            self.ends = Some((first, *last));
        }
    }

    /// Returns the times of `commits`; call only if [`Self::goes_with`] is true for them.
    fn of(&self, commits: &[Stamp]) -> &[i64] {
        &self.times[..commits.len().min(self.times.len())]
    }
}

/// The commits up to the newest version: first those dated by their files, then those with in-commit timestamps.
struct DatedCommits {
    timeline: Arc<Timeline>,
    by_file: Range<usize>,
    in_commit: Range<usize>,
    /// The newest version and its time.
    newest: (u64, i64),
}

impl DatedCommits {
    fn by_file(&self) -> &[Stamp] {
        self.timeline.slice(&self.by_file)
    }

    fn in_commit(&self) -> &[Stamp] {
        self.timeline.slice(&self.in_commit)
    }
}

#[cfg(test)]
mod tests {
    use super::Settled;

    fn settled(said: &[i64]) -> Vec<i64> {
        let mut settled = Settled::default();
        said.chunks(3).for_each(|said| settled.extend(&[], said));
        settled.times
    }

    #[test]
    fn no_commit_is_dated_before_the_one_before_it() {
        assert!(settled(&[]).is_empty());
        assert_eq!(settled(&[10, 20, 30]), [10, 20, 30]);
        assert_eq!(settled(&[100, 50, 60, 200, 200]), [100, 101, 102, 200, 201]);
        let fallen: Vec<i64> = std::iter::once(1_000).chain(0..40).collect();
        let times = settled(&fallen);
        assert_eq!((times[1], times[40]), (1_001, 1_040), "however far back the one was that is later");
    }
}
