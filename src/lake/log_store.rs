//! Gives the kernel an object store of one table, read-only and bounded, and records what was read from it.
//!
//! Its root is the table's root, so a log cannot name an object outside the table, and object names never pass through
//! a URL. It records two things that the kernel's errors lose: the identity of each commit, and whether the storage or
//! the log caused a failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt, TryStreamExt, future, stream, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path, prefix::PrefixStore,
};

use super::error::LogFault;
use crate::storage::TableLocation;

pub(super) const LOG: &str = "_delta_log";
const HINT: &str = "_last_checkpoint";

/// Identifies one stored commit: a different mark under the same name means that the commit was rewritten.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileMark {
    pub(super) size: u64,
    pub(super) modified_at: DateTime<Utc>,
    e_tag: Option<String>,
}

impl From<&ObjectMeta> for FileMark {
    fn from(meta: &ObjectMeta) -> Self {
        Self { size: meta.size, modified_at: meta.last_modified, e_tag: meta.e_tag.clone() }
    }
}

/// A version and the file that proves it: its commit, or its checkpoint if the commit was cleaned up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogTip {
    pub(super) version: u64,
    pub(super) mark: FileMark,
}

impl fmt::Display for FileMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e_tag = self.e_tag.as_deref().unwrap_or_default();
        write!(f, "{} {} {e_tag}", self.size, self.modified_at.timestamp_micros())
    }
}

/// The limits of one read of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLimits {
    pub(super) commit_bytes: u64,
    pub(super) entries: usize,
}

/// The first failure beneath the kernel.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    Storage(Arc<object_store::Error>),
    Log(LogFault),
}

/// The parts of a log that are hidden from the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hidden {
    /// Checkpoints from this version on, either because the kernel would start over from one although a few commits
    /// suffice, or because one is unreadable.
    pub(super) checkpoints_from: Option<u64>,
    /// The pointer to the last checkpoint, which is only a hint and may be wrong.
    pub(super) hint: bool,
}

#[derive(Debug, Default)]
struct Notes {
    commits: BTreeMap<u64, FileMark>,
    checkpoints: BTreeMap<u64, FileMark>,
    /// The checkpoints with all files listed.
    complete: BTreeSet<u64>,
    /// Files of multi-part checkpoints: version, number of parts, and part number.
    parts: BTreeSet<(u64, u32, u32)>,
    failure: Option<Failure>,
    /// The text of the newest schema that was read.
    schema: Option<String>,
    /// The oldest checkpoint that could not be read.
    bad_checkpoint: Option<u64>,
}

impl Notes {
    /// Records a file of a checkpoint.
    fn note_part(&mut self, version: u64, part: Option<(u32, u32)>) {
        let Some((parts, part)) = part else {
            self.complete.insert(version);
            return;
        };
        self.parts.insert((version, parts, part));
        let listed = self.parts.range((version, parts, 0)..=(version, parts, u32::MAX)).count();
        if u32::try_from(listed) == Ok(parts) {
            self.complete.insert(version);
        }
    }
}

#[derive(Debug)]
pub(super) struct LogStore {
    table: PrefixStore<Arc<dyn ObjectStore>>,
    limits: LogLimits,
    hidden: Hidden,
    /// Listing stops after this commit; effective only if listings are ordered.
    until: u64,
    lists_in_order: bool,
    notes: Arc<Mutex<Notes>>,
}

enum LogFile {
    Commit(u64),
    /// The version and, for a multi-part checkpoint, the number of parts and the part number.
    Checkpoint(u64, Option<(u32, u32)>),
    Compaction,
}

impl LogFile {
    /// Classifies a listed object; `None` if a read of the log does not need it. That includes checksum files, because
    /// metadata is read from the log itself, never from a summary.
    fn of(path: &Path) -> Option<Self> {
        let mut parts = path.parts();
        let (folder, name) = (parts.next()?, parts.next()?);
        if folder.as_ref() != LOG || parts.next().is_some() {
            return None;
        }
        let name = name.as_ref();
        let digits = name.get(..20).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        let version = digits.parse().ok()?;
        match name.get(20..)? {
            ".json" => Some(Self::Commit(version)),
            rest if rest.ends_with(".compacted.json") => Some(Self::Compaction),
            rest => rest.strip_prefix(".checkpoint.").map(|rest| Self::Checkpoint(version, part(rest))),
        }
    }
}

/// Parses the number of parts and the part number from a name such as `0000000001.0000000003.parquet`.
fn part(rest: &str) -> Option<(u32, u32)> {
    let (part, rest) = rest.split_once('.')?;
    let (parts, _) = rest.split_once('.')?;
    Some((parts.parse().ok()?, part.parse().ok()?))
}

/// Returns the path of the commit of `version` within the table.
pub(super) fn commit_path(version: u64) -> Path {
    Path::from_iter([LOG, &format!("{version:020}.json")])
}

impl LogStore {
    pub(super) fn new(location: &TableLocation, limits: LogLimits, hidden: Hidden) -> Self {
        let table = PrefixStore::new(location.store().clone(), location.path().clone());
        let lists_in_order = location.lists_in_order();
        Self { table, limits, hidden, until: u64::MAX, lists_in_order, notes: Arc::default() }
    }

    /// Returns this store with listings that stop after the commit of `version`.
    pub(super) fn until(self, version: u64) -> Self {
        Self { until: if self.lists_in_order { version } else { u64::MAX }, ..self }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        lock(&self.notes)
    }

    /// Returns the first failure that was recorded; later ones follow from it.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.notes().failure.clone()
    }

    pub(super) fn fail(&self, fault: LogFault) {
        self.notes().failure.get_or_insert(Failure::Log(fault));
    }

    /// Records that a checkpoint, or a file that it refers to, could not be read.
    pub(super) fn note_bad_checkpoint(&self, path: &str) {
        let version = match Path::from_url_path(path).ok().and_then(|path| LogFile::of(&path)) {
            Some(LogFile::Checkpoint(version, _)) => Some(version),
            Some(_) => return,
            // A file outside the log's naming scheme, such as a sidecar, is attributed to the newest checkpoint.
            None => self.notes().checkpoints.keys().next_back().copied(),
        };
        let mut notes = self.notes();
        notes.bad_checkpoint = notes.bad_checkpoint.into_iter().chain(version).min();
    }

    /// Returns the oldest checkpoint that could not be read.
    pub(super) fn bad_checkpoint(&self) -> Option<u64> {
        self.notes().bad_checkpoint
    }

    /// Records the text of a schema. The first one is the newest; later calls are ignored.
    pub(super) fn note_schema(&self, text: &str) {
        self.notes().schema.get_or_insert_with(|| text.to_owned());
    }

    /// Returns the text of the newest schema that was read, valid or not.
    pub(super) fn schema(&self) -> Option<String> {
        self.notes().schema.clone()
    }

    /// Returns the file that proves `version`, if it was listed.
    pub(super) fn tip_at(&self, version: u64) -> Option<LogTip> {
        let notes = self.notes();
        let mark = notes.commits.get(&version).or_else(|| notes.checkpoints.get(&version))?.clone();
        Some(LogTip { version, mark })
    }

    /// Returns whether neither commits nor checkpoints were listed.
    pub(super) fn saw_nothing(&self) -> bool {
        let notes = self.notes();
        notes.commits.is_empty() && notes.checkpoints.is_empty()
    }

    /// Takes the listed commits, and returns the version of the oldest listed checkpoint.
    pub(super) fn take_commits(&self) -> (BTreeMap<u64, FileMark>, Option<u64>) {
        let mut notes = self.notes();
        let oldest_checkpoint = notes.checkpoints.keys().next().copied();
        (std::mem::take(&mut notes.commits), oldest_checkpoint)
    }

    fn newest(&self) -> Option<LogTip> {
        let newest = {
            let notes = self.notes();
            notes.commits.keys().next_back().copied().max(notes.checkpoints.keys().next_back().copied())
        };
        self.tip_at(newest?)
    }

    /// Returns whether the listed files form a complete log up to `version`: all commits from the first one on, or from
    /// the one after a complete checkpoint.
    pub(super) fn holds_all_until(&self, version: u64) -> bool {
        let notes = self.notes();
        let mut missing = Some(version);
        for listed in notes.commits.range(..=version).rev().map(|(version, _)| *version) {
            if missing != Some(listed) {
                break;
            }
            missing = listed.checked_sub(1);
        }
        missing.is_none_or(|missing| notes.complete.range(missing..=version).next().is_some())
    }

    /// Returns the newest complete checkpoint listed at or before `version`.
    pub(super) fn checkpoint_until(&self, version: u64) -> Option<u64> {
        self.notes().complete.range(..=version).next_back().copied()
    }

    /// Lists the log, from version `from` on if given. Returns the newest version, and the file that now proves
    /// `known`.
    pub(super) async fn probe(
        &self,
        from: Option<u64>,
        known: Option<u64>,
    ) -> Result<(Option<LogTip>, Option<LogTip>)> {
        let folder = Path::from(LOG);
        // The offset sorts before every name that belongs to the version.
        let offset = folder.clone().join(from.map_or_else(|| "0".to_owned(), |version| format!("{version:020}")));
        self.table_list(Some(&folder), Some(&offset)).try_for_each(|_| future::ready(Ok(()))).await?;
        Ok((self.newest(), known.and_then(|version| self.tip_at(version))))
    }

    fn table_list(&self, prefix: Option<&Path>, offset: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = match offset {
            Some(offset) => self.table.list_with_offset(prefix, offset),
            None => self.table.list(prefix),
        };
        let (hidden, limit, until, notes) = (self.hidden, self.limits.entries, self.until, self.notes.clone());
        // Local folders are listed in arbitrary order, but the kernel needs sorted entries.
        let sorted = async move {
            let mut entries = Vec::new();
            let mut listed = listed;
            while let Some(meta) = listed.try_next().await.inspect_err(|error| note_storage(&notes, error))? {
                let Some(file) = LogFile::of(&meta.location) else { continue };
                let mut notes = lock(&notes);
                if entries.len() == limit {
                    notes.failure.get_or_insert(Failure::Log(LogFault::TooManyEntries));
                    return Err(refused("too many files in the log"));
                }
                match file {
                    LogFile::Commit(version) if version > until => break,
                    LogFile::Commit(version) => drop(notes.commits.insert(version, FileMark::from(&meta))),
                    LogFile::Checkpoint(version, _) if hidden.checkpoints_from.is_some_and(|from| version >= from) => {
                        continue;
                    }
                    LogFile::Checkpoint(version, part) => {
                        notes.checkpoints.insert(version, FileMark::from(&meta));
                        notes.note_part(version, part);
                    }
                    LogFile::Compaction => {}
                }
                entries.push(meta);
            }
            entries.sort_unstable_by(|a, b| a.location.cmp(&b.location));
            Ok(stream::iter(entries.into_iter().map(Ok)))
        };
        stream::once(sorted).try_flatten().boxed()
    }
}

impl fmt::Display for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogStore({})", self.table)
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(reason: impl Into<Box<dyn Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic { store: "log", source: reason.into() }
}

/// Passes a body through, and fails unless it has exactly `length` bytes: half a commit would parse as a smaller
/// commit.
fn whole(body: BoxStream<'static, Result<Bytes>>, length: u64) -> impl Stream<Item = Result<Bytes>> {
    let step = |(mut body, left): (BoxStream<'static, Result<Bytes>>, u64)| async move {
        match body.try_next().await? {
            Some(bytes) => match left.checked_sub(bytes.len() as u64) {
                Some(left) => Ok(Some((bytes, (body, left)))),
                None => Err(refused("the storage sent more than it said")),
            },
            None if left == 0 => Ok(None),
            None => Err(refused("the storage sent less than it said")),
        }
    };
    stream::try_unfold((body, length), step).fuse()
}

/// Records a storage error. Object store errors cannot be cloned, so the notes keep only its text.
fn note_storage(notes: &Mutex<Notes>, error: &object_store::Error) {
    let failure = match error {
        object_store::Error::NotFound { .. } => Failure::Log(LogFault::MissingFile),
        other => Failure::Storage(Arc::new(refused(other.to_string()))),
    };
    lock(notes).failure.get_or_insert(failure);
}

#[async_trait]
impl ObjectStore for LogStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_hint = location.filename() == Some(HINT);
        if is_hint && self.hidden.hint {
            return Err(object_store::Error::NotFound { path: location.to_string(), source: "hidden".into() });
        }
        let mut result = match self.table.get_opts(location, options).await {
            Err(error @ object_store::Error::NotFound { .. }) if is_hint => return Err(error),
            other => other.inspect_err(|error| note_storage(&self.notes, error))?,
        };
        // Commits are parsed as a whole. Checkpoints are read by row group and need no limit.
        if (is_hint || location.extension() == Some("json")) && result.meta.size > self.limits.commit_bytes {
            self.fail(LogFault::TooLarge);
            return Err(refused("commit over the size limit"));
        }
        if let GetResultPayload::Stream(body) = result.payload {
            let notes = self.notes.clone();
            let length = result.range.end.saturating_sub(result.range.start);
            let body = whole(body, length).inspect_err(move |error| note_storage(&notes, error)).boxed();
            result.payload = GetResultPayload::Stream(body);
        }
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.table.get_ranges(location, ranges).await.inspect_err(|error| note_storage(&self.notes, error))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.table_list(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.table_list(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> Result<ListResult> {
        Err(object_store::Error::NotImplemented { operation: "list_with_delimiter".into(), implementer: "log".into() })
    }

    async fn put_opts(&self, _location: &Path, _payload: PutPayload, _options: PutOptions) -> Result<PutResult> {
        Err(read_only("put"))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only("put_multipart"))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        locations.map(|_| Err(read_only("delete"))).boxed()
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(read_only("copy"))
    }
}

fn read_only(operation: &str) -> object_store::Error {
    object_store::Error::NotImplemented { operation: operation.into(), implementer: "log (read-only)".into() }
}
