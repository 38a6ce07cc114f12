//! Finds the metadata in force at each version by walking back from the newest version, and caches it.
//!
//! Each commit is read once for its change of metadata, shared by all callers; between two changes, the log itself
//! gives the metadata in force. Never here: the choice of metadata that a caller needs.

use std::{collections::VecDeque, sync::Arc};

use futures::future::try_join_all;

use crate::{
    domain::catalog::delta::Metadata,
    lake::{Lake, LakeError, Snapshot},
    storage::TableLocation,
};

use super::{
    Feed, History,
    changes::together,
    timeline::{Stamp, Timeline},
};

/// The most commits that are examined, from the newest one back.
const MOST_COMMITS: u64 = 100_000;
/// The most epochs of metadata that are cached per table.
const MOST_EPOCHS: usize = 1_000;
/// The most commits that are examined to list all past metadata.
const MOST_COMMITS_FOR_ALL: u64 = 10_000;
/// The most commits, and the most bytes of their files, that are read at once. The first reads are smaller, because the
/// change is mostly among the newest commits.
const TOGETHER: usize = 32;
const TOGETHER_BYTES: u64 = 16 << 20;

/// The metadata between two changes of it.
#[derive(Clone, Debug)]
struct Epoch {
    /// The last version with this metadata.
    last: u64,
    metadata: Arc<Metadata>,
}

/// A table's past metadata, as far back as it was requested.
#[derive(Clone, Debug)]
pub(super) struct Epochs {
    /// The newest commit examined.
    through: Stamp,
    /// The oldest version whose commit was examined; initially the newest version plus 1.
    looked: u64,
    /// Newest first, without gaps; never empty.
    epochs: VecDeque<Epoch>,
    /// Whether older metadata is unavailable: the log no longer has it, or the limit is reached.
    is_whole: bool,
}

impl Epochs {
    /// Starts with the newest version alone.
    fn new(newest: Stamp, metadata: &Metadata) -> Self {
        let epoch = Epoch { last: newest.version, metadata: Arc::new(metadata.clone()) };
        Self { through: newest, looked: newest.version + 1, epochs: VecDeque::from([epoch]), is_whole: false }
    }

    /// Adds the commit that follows the newest one.
    fn advance(&mut self, stamp: Stamp, metadata: Option<Arc<Metadata>>) {
        match (metadata, self.epochs.front_mut()) {
            (None, Some(newest)) => newest.last = stamp.version,
            (Some(metadata), _) => self.epochs.push_front(Epoch { last: stamp.version, metadata }),
            (None, None) => {}
        }
        self.through = stamp;
        if self.epochs.len() > MOST_EPOCHS
            && let Some(oldest) = self.epochs.pop_back()
        {
            self.looked = self.looked.max(oldest.last + 1);
            self.is_whole = true;
        }
    }

    fn n_looked_at(&self) -> u64 {
        (self.through.version + 1).saturating_sub(self.looked)
    }

    /// Returns the memory used, in bytes.
    pub(super) fn resident_bytes(&self) -> usize {
        let held = |metadata: &Metadata| {
            let properties = metadata.configuration.iter().map(|(key, value)| key.len() + value.len() + 64);
            metadata.schema_string.len() + properties.sum::<usize>() + 512
        };
        size_of::<Self>() + self.epochs.iter().map(|epoch| held(&epoch.metadata)).sum::<usize>()
    }
}

impl Lake {
    /// Returns the newest version, up to `latest`, whose metadata fits; `None` if the log no longer has one.
    ///
    /// Costs nothing if `latest` fits. Otherwise this reads commits back to the last version that fits, and caches the
    /// result: another call reads only commits since then, and calls `fits` once per change of metadata in between.
    pub async fn newest_that(
        &self,
        location: &TableLocation,
        latest: &Arc<Snapshot>,
        fits: impl Fn(&Metadata) -> bool + Send + Sync,
    ) -> Result<Option<Arc<Snapshot>>, LakeError> {
        if fits(latest.metadata()) {
            return Ok(Some(latest.clone()));
        }
        let history = self.history_until(location, latest.clone()).await;
        let (Some(version), _) = history.walk(fits, MOST_COMMITS).await? else { return Ok(None) };
        readable(history.at_version(version).await)
    }
}

impl History {
    /// Returns all metadata that the table had, newest first, each with the last version at which it was in force, as
    /// far as the log has it. For a very long log, returns the newest part and the oldest version.
    pub async fn all_metadata(&self) -> Result<Vec<(u64, Arc<Metadata>)>, LakeError> {
        let newest_alone = || vec![(self.latest.version(), Arc::new(self.latest.metadata().clone()))];
        let known = match self.walk(|_| false, MOST_COMMITS_FOR_ALL).await {
            Ok((_, Some(known))) => known,
            Ok((_, None)) => return Ok(newest_alone()),
            Err(error @ LakeError::Unavailable { .. }) => return Err(error),
            // An unreadable old commit is treated like one that is gone.
            Err(error) => {
                tracing::debug!(table.location = self.location.url(), %error, "a table's past could not be read");
                return Ok(newest_alone());
            }
        };
        let mut all: Vec<_> = known.epochs.iter().map(|epoch| (epoch.last, Arc::clone(&epoch.metadata))).collect();
        if let Some(oldest) = self.timeline().await?.oldest().filter(|oldest| !known.is_whole && *oldest < known.looked)
            && let Some(state) = readable(self.state_at(oldest).await)?
        {
            all.push((oldest, Arc::new(state.metadata.clone())));
        }
        Ok(all)
    }

    /// Returns whether the file at `path` was in the table at the newest version whose metadata satisfies `is_such`, as
    /// far as the log has it.
    pub async fn was_in_table_when(
        &self,
        path: &str,
        is_such: impl Fn(&Metadata) -> bool + Send + Sync,
    ) -> Result<bool, LakeError> {
        let all = self.all_metadata().await?;
        match all.iter().find(|(_, metadata)| is_such(metadata)) {
            Some((last, _)) => Ok(self.at_version(*last).await?.files().contains(path)),
            None => Ok(false),
        }
    }

    /// Walks back over at most `most` commits until some metadata fits. Returns the last version with that metadata,
    /// and the epochs known by then; no epochs if the log does not have the newest commit.
    async fn walk(
        &self,
        fits: impl Fn(&Metadata) -> bool + Send + Sync,
        most: u64,
    ) -> Result<(Option<u64>, Option<Arc<Epochs>>), LakeError> {
        let timeline = Arc::clone(self.timeline().await?);
        let Some(newest) = timeline.find(self.latest.version()).copied() else { return Ok((None, None)) };
        let past = &self.lake.past;
        let find = |epochs: &Epochs, from: usize| {
            epochs.epochs.iter().skip(from).find(|epoch| fits(&epoch.metadata)).map(|epoch| epoch.last)
        };
        if let Some(known) = past.epochs.get(&self.table).await.filter(|known| known.through == newest)
            && let Some(version) = find(&known, 0)
        {
            return Ok((Some(version), Some(known)));
        }
        let turn = past.looking.get_with_by_ref(&self.table, async { Arc::default() }).await;
        let _turn = turn.lock().await;
        let known = past.epochs.get(&self.table).await;
        // A caller with an older view of the log must not overwrite newer cached epochs.
        let is_kept = known.as_ref().is_none_or(|known| known.through.version <= newest.version);
        let advanced = match known {
            Some(known) if known.through == newest => Some((*known).clone()),
            Some(known) => self.advanced(&known, &timeline, newest.version).await?,
            None => None,
        };
        let mut known = advanced.unwrap_or_else(|| Epochs::new(newest, self.latest.metadata()));
        let mut asked = 0;
        loop {
            let found = find(&known, asked);
            asked = known.epochs.len();
            let goes_on =
                found.is_none() && known.n_looked_at() < most && self.look_back(&mut known, &timeline).await?;
            // Cached at every step, so that a later call can continue an interrupted walk.
            let kept = Arc::new(known);
            if is_kept {
                past.epochs.insert(self.table.clone(), Arc::clone(&kept)).await;
            }
            if !goes_on {
                return Ok((found, Some(kept)));
            }
            known = Arc::unwrap_or_clone(kept);
        }
    }

    /// Adds the commits up to `version` to the known epochs; `None` if they do not follow on from them.
    async fn advanced(&self, known: &Epochs, timeline: &Timeline, version: u64) -> Result<Option<Epochs>, LakeError> {
        let Some((first, stamps)) = timeline.between(known.through.version, version).split_first() else {
            return Ok(None);
        };
        let follows =
            *first == known.through && (first.version + 1..=version).eq(stamps.iter().map(|stamp| stamp.version));
        if !follows {
            return Ok(None);
        }
        let mut known = known.clone();
        for stamps in together(stamps) {
            let Some(changes) = self.metadata_changes(stamps).await? else { return Ok(None) };
            for (stamp, metadata) in stamps.iter().zip(changes) {
                known.advance(*stamp, metadata);
            }
        }
        Ok(Some(known))
    }

    /// Examines some older commits. Returns whether more may be found.
    async fn look_back(&self, known: &mut Epochs, timeline: &Timeline) -> Result<bool, LakeError> {
        if known.is_whole {
            return Ok(false);
        }
        let older = known.looked.checked_sub(1).map_or(&[][..], |last| timeline.up_to(last));
        let at_once = usize::try_from(known.n_looked_at()).unwrap_or(TOGETHER).clamp(1, TOGETHER);
        let stamps = tail(older, known.looked, at_once);
        let Some(changes) = self.metadata_changes(stamps).await?.filter(|changes| !changes.is_empty()) else {
            known.is_whole = true;
            return Ok(false);
        };
        for (stamp, change) in stamps.iter().zip(changes).rev() {
            if change.is_some() {
                let before = match stamp.version.checked_sub(1).filter(|_| known.epochs.len() < MOST_EPOCHS) {
                    Some(last) => readable(self.state_at(last).await)?.map(|state| (last, state)),
                    None => None,
                };
                let Some((last, state)) = before else {
                    known.is_whole = true;
                    return Ok(false);
                };
                known.epochs.push_back(Epoch { last, metadata: Arc::new(state.metadata.clone()) });
                known.looked = stamp.version;
                return Ok(true);
            }
            known.looked = stamp.version;
        }
        Ok(true)
    }

    /// Returns the new metadata of each commit; `None` if one of the commits is gone.
    async fn metadata_changes(&self, stamps: &[Stamp]) -> Result<Option<Vec<Option<Arc<Metadata>>>>, LakeError> {
        // Queries for changes use these cached outlines too.
        match try_join_all(stamps.iter().map(|stamp| self.outline(stamp, Feed::Files))).await {
            Ok(outlines) => Ok(Some(outlines.into_iter().map(|outline| outline.metadata).collect())),
            Err(LakeError::CommitNotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Maps a version that the log no longer has to `None`.
fn readable<T>(read: Result<T, LakeError>) -> Result<Option<T>, LakeError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(LakeError::VersionNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the last commits before `version` without a gap, limited to `most` and to the bytes that may be held at
/// once.
fn tail(stamps: &[Stamp], version: u64, most: usize) -> &[Stamp] {
    let mut bytes = 0u64;
    let fits = |(stamp, expected): &(&Stamp, u64)| {
        bytes = bytes.saturating_add(stamp.size);
        stamp.version == *expected && (bytes <= TOGETHER_BYTES || *expected + 1 == version)
    };
    let len = stamps.iter().rev().take(most).zip((0..version).rev()).take_while(fits).count();
    &stamps[stamps.len() - len..]
}
