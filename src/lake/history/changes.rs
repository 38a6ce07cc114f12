//! A range of commits, checked as a whole before any of it is answered.

use std::{collections::HashMap, ops::RangeInclusive, sync::Arc};

use futures::future::try_join_all;

use super::{
    Commit, Feed, History, TableState,
    commit::{ActionKind, FileAction},
    timeline::Stamp,
};
use crate::{
    domain::delta::{Metadata, Protocol},
    lake::{LakeError, files::PartitionPairs},
};

/// The table property that has writers record changes.
const CHANGE_DATA_FEED: &str = "delta.enableChangeDataFeed";

/// Commits that are read together, by number and by bytes of their files. A larger one is read alone. This, parsed, is
/// what one request holds of the commits it walks through; the rest is the cache's.
const TOGETHER: usize = 16;
const TOGETHER_BYTES: u64 = 16 << 20;

/// What was committed in a range of versions.
///
/// Holds a few words for each version, and the range's metadata and protocols; commits are fetched again as they are
/// asked for, from memory where they were kept.
#[derive(Clone, Debug)]
pub struct Changes {
    history: History,
    feed: Feed,
    start: Arc<TableState>,
    outlines: Vec<Outline>,
    stamps: Vec<Stamp>,
    found: Arc<Missing>,
}

/// One version of a range, without its files.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The version.
    pub version: u64,
    /// When it was committed, in milliseconds since the epoch.
    pub committed_at: i64,
    /// New metadata.
    pub metadata: Option<Arc<Metadata>>,
    /// A new protocol.
    pub protocol: Option<Arc<Protocol>>,
    /// The number of files that the answer lists.
    pub n_files: usize,
    /// The sum of their sizes.
    pub bytes: u64,
    /// Whether one of them has a deletion vector.
    pub has_deletion_vectors: bool,
}

/// What removes left out, by path. A path names the same bytes forever, so that any add of it tells.
type Missing = HashMap<Box<str>, (u64, Box<PartitionPairs>)>;

impl Changes {
    pub(super) async fn read(history: &History, versions: RangeInclusive<u64>, feed: Feed) -> Result<Self, LakeError> {
        let (from, to) = versions.into_inner();
        if to > history.latest.version() {
            return Err(history.no_version(to, None).await);
        }
        let stamps = history.stamps(from, to).await?;
        let start = history.state_at(from).await?;
        if feed == Feed::Changes && !records_changes(&start.metadata) {
            return Err(LakeError::ChangesNotRecorded { location: history.url(), version: from });
        }
        let mut changes =
            Self { history: history.clone(), feed, start, outlines: Vec::new(), stamps, found: Arc::default() };
        changes.outline().await?;
        Ok(changes)
    }

    /// What the table was at the first version of the range.
    pub fn start(&self) -> &Arc<TableState> {
        &self.start
    }

    /// The versions of the range, in order.
    pub fn outlines(&self) -> &[Outline] {
        &self.outlines
    }

    /// The commit of the `index`-th version; what is selected of it knows its size and partition.
    pub async fn commit(&self, index: usize) -> Result<Option<Arc<Commit>>, LakeError> {
        let Some(stamp) = self.stamps.get(index) else { return Ok(None) };
        let commit = self.history.commit(stamp).await?;
        Ok(Some(self.completed(commit)))
    }

    async fn outline(&mut self) -> Result<(), LakeError> {
        let mut incomplete: HashMap<Box<str>, u64> = HashMap::new();
        let mut outlines = Vec::with_capacity(self.stamps.len());
        for stamps in together(&self.stamps) {
            for commit in self.history.commits(stamps).await? {
                let is_first = outlines.is_empty();
                if let Some(metadata) = &commit.metadata
                    && self.feed == Feed::Changes
                    && !is_first
                    && !records_changes(metadata)
                {
                    let version = commit.version;
                    return Err(LakeError::ChangesNotRecorded { location: self.history.url(), version });
                }
                let lacking = commit.selected(self.feed).filter(|file| is_incomplete(file));
                incomplete.extend(lacking.map(|file| (file.path.clone(), commit.version)));
                outlines.push(Outline::of(&commit, self.feed));
            }
        }
        if !incomplete.is_empty() {
            self.found = Arc::new(self.find_missing(incomplete).await?);
            for (outline, stamp) in outlines.iter_mut().zip(&self.stamps) {
                let commit = self.completed(self.history.commit(stamp).await?);
                outline.bytes = bytes(&commit, self.feed);
            }
        }
        self.outlines = outlines;
        Ok(())
    }

    /// Looks for what removes left out in the adds of the range, then in what the table was before it.
    async fn find_missing(&self, mut incomplete: HashMap<Box<str>, u64>) -> Result<Missing, LakeError> {
        let mut found = Missing::new();
        for stamps in together(&self.stamps) {
            for commit in self.history.commits(stamps).await? {
                for file in commit.files.iter().filter(|file| !is_incomplete(file)) {
                    if let (Some((path, _)), Some(size), Some(values)) =
                        (incomplete.remove_entry(&file.path), file.size, file.partition_values.clone())
                    {
                        found.insert(path, (size, values));
                    }
                }
            }
        }
        let Some(first_lacking) = incomplete.values().min().copied() else { return Ok(found) };
        let lost = |version| LakeError::IncompleteRemove { location: self.history.url(), version };
        let before = self.start.version.checked_sub(1).ok_or_else(|| lost(first_lacking))?;
        let before = self.history.at_version(before).await.map_err(|error| match error {
            LakeError::VersionNotFound { .. } => lost(first_lacking),
            other => other,
        })?;
        for file in before.files().iter() {
            if let Some((path, _)) = incomplete.remove_entry(file.path) {
                let values = file.partition_values().map(|(name, value)| (name.into(), value.map(Into::into)));
                found.insert(path, (file.size, values.collect()));
            }
        }
        match incomplete.values().min() {
            Some(&version) => Err(lost(version)),
            None => Ok(found),
        }
    }

    fn completed(&self, commit: Arc<Commit>) -> Arc<Commit> {
        if self.found.is_empty() || !commit.files.iter().any(|file| is_incomplete(file)) {
            return commit;
        }
        let mut commit = Commit::clone(&commit);
        for file in commit.files.iter_mut().filter(|file| is_incomplete(file)) {
            if let Some((size, values)) = self.found.get(&file.path) {
                file.size.get_or_insert(*size);
                file.partition_values.get_or_insert_with(|| values.clone());
            }
        }
        Arc::new(commit)
    }
}

impl Outline {
    fn of(commit: &Commit, feed: Feed) -> Self {
        Self {
            version: commit.version,
            committed_at: commit.committed_at,
            metadata: commit.metadata.clone().map(Arc::new),
            protocol: commit.protocol.clone().map(Arc::new),
            n_files: commit.selected(feed).count(),
            bytes: bytes(commit, feed),
            has_deletion_vectors: commit.selected(feed).any(|file| file.deletion_vector().is_some()),
        }
    }
}

impl History {
    /// Every version of the range, or the first that is missing.
    async fn stamps(&self, from: u64, to: u64) -> Result<Vec<Stamp>, LakeError> {
        let timeline = self.timeline().await?;
        let between = timeline.between(from, to);
        for (version, stamp) in (from..=to).zip(between.iter().map(Some).chain(std::iter::repeat(None))) {
            if stamp.is_none_or(|stamp| stamp.version != version) {
                return Err(match timeline.oldest() {
                    Some(oldest) if version < oldest => self.no_version(version, None).await,
                    _ => self.no_commit(version),
                });
            }
        }
        Ok(between.to_vec())
    }

    async fn commits(&self, stamps: &[Stamp]) -> Result<Vec<Arc<Commit>>, LakeError> {
        try_join_all(stamps.iter().map(|stamp| self.commit(stamp))).await
    }
}

/// Runs of commits that may be held at once.
fn together(stamps: &[Stamp]) -> impl Iterator<Item = &[Stamp]> {
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

fn bytes(commit: &Commit, feed: Feed) -> u64 {
    commit.selected(feed).fold(0, |sum, file| sum.saturating_add(file.size.unwrap_or(0)))
}

fn is_incomplete(file: &FileAction) -> bool {
    file.kind == ActionKind::Remove && (file.size.is_none() || file.partition_values.is_none())
}

fn records_changes(metadata: &Metadata) -> bool {
    metadata.configuration.get(CHANGE_DATA_FEED).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}
