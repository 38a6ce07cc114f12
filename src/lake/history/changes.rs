//! Reads a range of commits, and checks all of it before any part is answered.

use std::{
    collections::HashMap,
    iter,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::try_join_all;

use crate::{
    domain::catalog::{
        delta::{Metadata, Protocol},
        schema::{Among, Schema, find_name},
    },
    lake::{
        LakeError, StatsShape,
        files::{PartitionPairs, refusal_of},
    },
};

use super::{
    Commit, Feed, History, TableState,
    commit::{ActionKind, FileAction},
    timeline::Stamp,
};

/// The table property that makes writers record changes.
const CHANGE_DATA_FEED: &str = "delta.enableChangeDataFeed";

/// The most commits, and the most bytes of their files, that are read at once; a larger commit is read alone. Parsed,
/// this is the memory that one request uses for the commits it reads; all else is in the cache.
const TOGETHER: usize = 32;
const TOGETHER_BYTES: u64 = 16 << 20;

/// The commits of a range of versions.
///
/// Holds a few words per version, the metadata and protocols of the range, and the last commit requested. Other commits
/// are fetched on demand, from the cache if they are there.
#[derive(Clone, Debug)]
pub struct Changes {
    history: History,
    start: Arc<TableState>,
    outlines: Vec<Outline>,
    stamps: Vec<Stamp>,
    missing: Arc<Missing>,
    /// The last commit requested. Answering from a large commit requests it many times, and it may not fit into the
    /// cache.
    last: Arc<Mutex<Option<Arc<Commit>>>>,
    /// The last shape used.
    shape: Arc<Mutex<Option<KnownShape>>>,
}

/// A shape, and the index of the version in the range whose metadata it is from.
type KnownShape = (usize, Arc<Shape>);

/// The statistics and partition columns that files may have under one metadata.
#[derive(Debug)]
struct Shape {
    /// The columns that statistics may mention.
    stats: StatsShape,
    /// Physical names of the partition columns.
    partition_columns: Vec<String>,
}

impl Shape {
    fn of(metadata: &Metadata) -> Self {
        let schema = Schema::parse(&metadata.schema_string).ok();
        let fields = schema.as_ref().map(|schema| schema.fields.as_slice()).unwrap_or_default();
        let partition_columns = fields
            .iter()
            .filter(|field| metadata.partition_columns.contains(&field.name))
            .map(|field| field.physical_name(metadata.maps_columns()).to_owned());
        Self { stats: StatsShape::of(metadata), partition_columns: partition_columns.collect() }
    }

    fn is_foreign(&self, stats: Option<&str>) -> bool {
        stats.is_some_and(|text| !self.stats.fits(text))
    }

    /// Returns the partition values under the table's own column names; `None` if the log spells all of them that way
    /// already. Names that differ only in case are corrected.
    fn respelt(&self, pairs: &PartitionPairs) -> Option<Box<PartitionPairs>> {
        let is_known = |name: &str| self.partition_columns.iter().any(|column| column == name);
        if pairs.iter().all(|(name, _)| is_known(name)) {
            return None;
        }
        let mut respelt: Box<PartitionPairs> = pairs.into();
        for column in &self.partition_columns {
            if let Among::At(at) = find_name(pairs.iter().map(|(name, _)| &**name), column)
                && let Some((name, _)) = respelt.get_mut(at)
            {
                *name = column.as_str().into();
            }
        }
        respelt.sort_by(|(one, _), (next, _)| one.cmp(next));
        Some(respelt)
    }
}

/// One version of a range, without its files.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The version.
    pub version: u64,
    /// The commit time in milliseconds since the epoch.
    pub committed_at: i64,
    /// The new metadata, if it changed.
    pub metadata: Option<Arc<Metadata>>,
    /// The new protocol, if it changed.
    pub protocol: Option<Arc<Protocol>>,
    /// The number of files that the answer lists.
    pub n_files: usize,
    /// The sum of their sizes in bytes.
    pub bytes: u64,
    /// Whether one of them has a deletion vector.
    pub has_deletion_vectors: bool,
    /// The paths of removes among them that lack a size or partition values.
    lacking: Arc<[Box<str>]>,
    /// Why the first refused file is refused because of its path; `None` if all files are served.
    refusal: Option<&'static str>,
}

/// The data that removes omit, by path. A path always refers to the same bytes, so any add of the path has this data.
type Missing = HashMap<Box<str>, (u64, Box<PartitionPairs>)>;

impl Changes {
    pub(super) async fn read(history: &History, versions: RangeInclusive<u64>, feed: Feed) -> Result<Self, LakeError> {
        let (from, to) = versions.into_inner();
        let newest = history.latest.version();
        if to > newest {
            return Err(history.no_version(to, None).await);
        }
        let stamps = history.stamps(from, to).await?;
        let mut outlines = Vec::with_capacity(stamps.len());
        for stamps in together(&stamps) {
            outlines.extend(try_join_all(stamps.iter().map(|stamp| history.outline(stamp, feed))).await?);
        }
        if let Some(reason) = outlines.iter().find_map(|outline| outline.refusal) {
            return Err(LakeError::PathNotServed { location: history.url(), reason });
        }
        let later = || outlines.iter().skip(1);
        let start = if to == newest && later().all(Outline::keeps_state) {
            // The state has not changed since; so streams that follow a table do not need the kernel.
            Arc::new(TableState::of(&history.latest, from))
        } else {
            history.state_at(from).await?
        };
        if feed == Feed::Changes {
            let changed = later().filter_map(|outline| Some((outline.version, outline.metadata.as_deref()?)));
            let mut described = iter::once((from, &start.metadata)).chain(changed);
            if let Some((version, _)) = described.find(|(_, metadata)| !records_changes(metadata)) {
                return Err(LakeError::ChangesNotRecorded { location: history.url(), version });
            }
        }
        let mut times: Vec<i64> = outlines.iter().map(|outline| outline.committed_at).collect();
        history.date(&stamps, &mut times).await?;
        for (outline, time) in outlines.iter_mut().zip(times) {
            outline.committed_at = time;
        }
        let missing = find_missing(history, &stamps, &outlines).await?;
        for outline in &mut outlines {
            let sizes = outline.lacking.iter().filter_map(|path| missing.get(path)).map(|(size, _)| size);
            outline.bytes = sizes.fold(outline.bytes, |sum, size| sum.saturating_add(*size));
        }
        let (missing, last, shape) = (Arc::new(missing), Arc::default(), Arc::default());
        Ok(Self { history: history.clone(), start, outlines, stamps, missing, last, shape })
    }

    /// Returns the table's protocol and metadata at the first version of the range.
    pub fn start(&self) -> &Arc<TableState> {
        &self.start
    }

    /// Returns the versions of the range, in order.
    pub fn outlines(&self) -> &[Outline] {
        &self.outlines
    }

    /// Returns the commit of the version at `index`, with the size and partition values of each selected file filled
    /// in.
    pub async fn commit(&self, index: usize) -> Result<Option<Arc<Commit>>, LakeError> {
        let Some(stamp) = self.stamps.get(index) else { return Ok(None) };
        let last = self.last().clone();
        if let Some(last) = last.filter(|last| last.version == stamp.version) {
            return Ok(Some(last));
        }
        let mut commit = self.disclosed(index, self.completed(self.history.commit(stamp).await?));
        if let Some(outline) = self.outlines.get(index)
            && outline.committed_at != commit.committed_at
        {
            commit = Arc::new(Commit { committed_at: outline.committed_at, ..Commit::clone(&commit) });
        }
        *self.last() = Some(commit.clone());
        Ok(Some(commit))
    }

    fn last(&self) -> MutexGuard<'_, Option<Arc<Commit>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the commit with statistics limited to the table's columns at that version, and partition values under
    /// the table's column names.
    fn disclosed(&self, index: usize, commit: Arc<Commit>) -> Arc<Commit> {
        let says_something = |file: &FileAction| {
            file.stats.is_some() || file.partition_values.as_ref().is_some_and(|values| !values.is_empty())
        };
        if !commit.files.iter().any(says_something) {
            return commit;
        }
        let shape = self.shape(index);
        let respelt = |file: &FileAction| file.partition_values.as_ref().and_then(|values| shape.respelt(values));
        let is_foreign = |file: &FileAction| shape.is_foreign(file.stats.as_deref());
        if !commit.files.iter().any(|file| is_foreign(file) || respelt(file).is_some()) {
            return commit;
        }
        let mut commit = Commit::clone(&commit);
        for file in &mut commit.files {
            if is_foreign(file) {
                file.stats = file.stats.as_ref().and_then(|text| shape.stats.rebuilt(text)).map(Into::into);
            }
            if let Some(values) = respelt(file) {
                file.partition_values = Some(values);
            }
        }
        Arc::new(commit)
    }

    /// Returns the shape in force at the version at `index`; computed once per metadata.
    fn shape(&self, index: usize) -> Arc<Shape> {
        let so_far = self.outlines.iter().enumerate().skip(1).take(index);
        let changed = so_far.rev().find_map(|(at, outline)| Some((at, outline.metadata.as_deref()?)));
        let (at, metadata) = changed.unwrap_or((0, &self.start.metadata));
        let mut known = self.shape.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((known_at, shape)) if *known_at == at => Arc::clone(shape),
            _ => {
                let shape = Arc::new(Shape::of(metadata));
                *known = Some((at, Arc::clone(&shape)));
                shape
            }
        }
    }

    fn completed(&self, commit: Arc<Commit>) -> Arc<Commit> {
        if self.missing.is_empty() || !commit.files.iter().any(is_incomplete) {
            return commit;
        }
        let mut commit = Commit::clone(&commit);
        for file in commit.files.iter_mut().filter(|file| is_incomplete(file)) {
            if let Some((size, values)) = self.missing.get(&file.path) {
                file.size.get_or_insert(*size);
                file.partition_values.get_or_insert_with(|| values.clone());
            }
        }
        Arc::new(commit)
    }
}

/// Finds the data omitted from removes: first in the adds of the range, then in the version before the range.
async fn find_missing(history: &History, stamps: &[Stamp], outlines: &[Outline]) -> Result<Missing, LakeError> {
    let lacking = outlines.iter().flat_map(|outline| outline.lacking.iter().map(|path| (&**path, outline.version)));
    let mut lacking: HashMap<&str, u64> = lacking.collect();
    let mut found = Missing::new();
    for stamps in together(if lacking.is_empty() { &[] } else { stamps }) {
        for commit in history.commits(stamps).await? {
            for file in commit.files.iter().filter(|file| file.kind != ActionKind::Cdc) {
                if let (Some(size), Some(values)) = (file.size, &file.partition_values)
                    && lacking.remove(&*file.path).is_some()
                {
                    found.insert(file.path.clone(), (size, values.clone()));
                }
            }
        }
    }
    let (Some(first), Some(from)) = (lacking.values().min().copied(), stamps.first()) else { return Ok(found) };
    let lost = |version| LakeError::IncompleteRemove { location: history.url(), version };
    let before = from.version.checked_sub(1).ok_or_else(|| lost(first))?;
    let before = history.at_version(before).await.map_err(|error| match error {
        LakeError::VersionNotFound { .. } => lost(first),
        other => other,
    })?;
    for file in before.files().iter() {
        if lacking.remove(file.path).is_some() {
            let values = file.partition_values().map(|(name, value)| (name.into(), value.map(Into::into)));
            found.insert(file.path.into(), (file.size, values.collect()));
        }
    }
    match lacking.values().min() {
        Some(&version) => Err(lost(version)),
        None => Ok(found),
    }
}

impl Outline {
    fn of(commit: &Commit, feed: Feed) -> Self {
        let complete = || commit.selected(feed).filter(|file| !is_incomplete(file));
        Self {
            version: commit.version,
            committed_at: commit.committed_at,
            metadata: commit.metadata.clone().map(Arc::new),
            protocol: commit.protocol.clone().map(Arc::new),
            n_files: commit.selected(feed).count(),
            bytes: complete().fold(0, |sum, file| sum.saturating_add(file.size.unwrap_or(0))),
            has_deletion_vectors: commit.selected(feed).any(|file| file.deletion_vector().is_some()),
            refusal: commit.selected(feed).find_map(|file| refusal_of(&file.path, file.deletion_vector())),
            lacking: commit.selected(feed).filter(|file| is_incomplete(file)).map(|file| file.path.clone()).collect(),
        }
    }

    /// Returns whether this version keeps the protocol and metadata of the one before.
    fn keeps_state(&self) -> bool {
        self.metadata.is_none() && self.protocol.is_none()
    }

    /// Returns the memory used, in bytes.
    pub(super) fn resident_bytes(&self) -> usize {
        let metadata = self.metadata.as_ref().map_or(0, |metadata| 1024 + metadata.schema_string.len());
        size_of::<Self>() + metadata + self.lacking.iter().map(|path| path.len() + 16).sum::<usize>()
    }
}

impl History {
    /// Returns every commit of the range; fails if one is missing.
    async fn stamps(&self, from: u64, to: u64) -> Result<Vec<Stamp>, LakeError> {
        let mut timeline = self.timeline().await?.clone();
        // Cached commits may be gone meanwhile, and must then be reported as missing. The look at the newest version
        // listed only the newest part of the log.
        if from < self.seen_from {
            let (commits, _) = self.list_commits(Some(from), Some(to)).await?;
            if !timeline.between(from, to).iter().all(|stamp| stamp.is_among(&commits)) {
                timeline = self.find_timeline(true).await?;
            }
        }
        let between = timeline.between(from, to);
        for (version, stamp) in (from..=to).zip(between.iter().map(Some).chain(iter::repeat(None))) {
            if stamp.is_none_or(|stamp| stamp.version != version) {
                return Err(match timeline.oldest() {
                    Some(oldest) if version < oldest => self.no_version(version, None).await,
                    _ => self.no_commit(version),
                });
            }
        }
        Ok(between.to_vec())
    }

    pub(super) async fn outline(&self, stamp: &Stamp, feed: Feed) -> Result<Outline, LakeError> {
        let key = (self.key(stamp), feed);
        if let Some(outline) = self.lake.past.outlines.get(&key).await {
            return Ok(outline);
        }
        let outline = Outline::of(&*self.commit(stamp).await?, feed);
        self.lake.past.outlines.insert(key, outline.clone()).await;
        Ok(outline)
    }

    async fn commits(&self, stamps: &[Stamp]) -> Result<Vec<Arc<Commit>>, LakeError> {
        try_join_all(stamps.iter().map(|stamp| self.commit(stamp))).await
    }
}

/// Splits commits into runs that may be held in memory at once.
pub(super) fn together(stamps: &[Stamp]) -> impl Iterator<Item = &[Stamp]> {
    let mut rest = stamps;
    std::iter::from_fn(move || {
        let mut bytes = 0u64;
        let fits = |stamp: &&Stamp| {
            bytes = bytes.saturating_add(stamp.size);
            bytes <= TOGETHER_BYTES
        };
        let len = rest.iter().take(TOGETHER).take_while(fits).count().max(1).min(rest.len());
        let (run, others) = rest.split_at(len);
        rest = others;
        (!run.is_empty()).then_some(run)
    })
}

fn is_incomplete(file: &FileAction) -> bool {
    file.kind == ActionKind::Remove && (file.size.is_none() || file.partition_values.is_none())
}

fn records_changes(metadata: &Metadata) -> bool {
    metadata.configuration.get(CHANGE_DATA_FEED).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}
