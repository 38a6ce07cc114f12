//! Which metadata was in force when, found by walking back from the newest version, and remembered.
//!
//! A commit is read once for what it did to the metadata, whoever asks; between two changes the log itself tells what
//! was in force. Never here: which metadata somebody wants.

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

/// The most commits that are looked at behind the newest one.
const MOST_COMMITS: u64 = 100_000;
/// The most changes of metadata that are remembered of one table.
const MOST_EPOCHS: usize = 1_000;
/// The most commits that are looked at for everything that the metadata once was.
const MOST_COMMITS_FOR_ALL: u64 = 10_000;
/// Commits that are read together, by number and by bytes of their files. The first reads are smaller: mostly the change
/// is among the newest commits.
const TOGETHER: usize = 32;
const TOGETHER_BYTES: u64 = 16 << 20;

/// The metadata of the versions from one change of it to the next.
#[derive(Clone, Debug)]
struct Epoch {
    /// The last of these versions.
    last: u64,
    metadata: Arc<Metadata>,
}

/// What a table's metadata was, as far back as somebody asked.
#[derive(Clone, Debug)]
pub(super) struct Epochs {
    /// The newest commit that was looked at.
    through: Stamp,
    /// The oldest version whose commit was looked at; one more than the newest version at first.
    looked: u64,
    /// Newest first, without gaps; never empty.
    epochs: VecDeque<Epoch>,
    /// Whether nothing older is to be found: the log does not tell it any more, or it is too much to keep.
    is_whole: bool,
}

impl Epochs {
    /// What the newest version alone tells.
    fn new(newest: Stamp, metadata: &Metadata) -> Self {
        let epoch = Epoch { last: newest.version, metadata: Arc::new(metadata.clone()) };
        Self { through: newest, looked: newest.version + 1, epochs: VecDeque::from([epoch]), is_whole: false }
    }

    /// Takes in the commit after the newest one.
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

    /// Bytes of memory held.
    pub(super) fn resident_bytes(&self) -> usize {
        let held = |metadata: &Metadata| {
            let properties = metadata.configuration.iter().map(|(key, value)| key.len() + value.len() + 64);
            metadata.schema_string.len() + properties.sum::<usize>() + 512
        };
        size_of::<Self>() + self.epochs.iter().map(|epoch| held(&epoch.metadata)).sum::<usize>()
    }
}

impl Lake {
    /// The newest version, no newer than `latest`, whose metadata fits; `None` where the log holds none any more.
    ///
    /// Costs nothing where `latest` fits. Otherwise commits are read back to the last one that fits, which is remembered:
    /// asking again reads only what was committed since, and asks `fits` once for each change of the metadata between.
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
    /// Everything that the table's metadata was, newest first, each with the last version that it was in force at; as far
    /// as the log tells, and of a very long log its newest part and its oldest version.
    pub async fn all_metadata(&self) -> Result<Vec<(u64, Arc<Metadata>)>, LakeError> {
        let newest_alone = || vec![(self.latest.version(), Arc::new(self.latest.metadata().clone()))];
        let known = match self.walk(|_| false, MOST_COMMITS_FOR_ALL).await {
            Ok((_, Some(known))) => known,
            Ok((_, None)) => return Ok(newest_alone()),
            Err(error @ LakeError::Unavailable { .. }) => return Err(error),
            // An old commit that cannot be read tells as little as one that is gone.
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

    /// Whether the file at `path` was in the table at the newest version whose metadata is such; as far as the log tells.
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

    /// Walks back until some metadata fits, over at most `most` commits: the last version that it was in force at, and
    /// what is known now. Nothing is known where the log does not even hold the newest commit.
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
        // Somebody whose look is older than what is known walks for itself.
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
            // Kept with every step, so that whoever comes after an interrupted walk goes on with it.
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

    /// What is known, with the commits up to `version`; nothing where they do not follow what is known.
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

    /// Looks at some commits older than those that are known; answers whether there may be more to find.
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

    /// The new metadata of each of these commits; `None` where one of them is gone.
    async fn metadata_changes(&self, stamps: &[Stamp]) -> Result<Option<Vec<Option<Arc<Metadata>>>>, LakeError> {
        // Whoever asks for changes has use for these outlines, too.
        match try_join_all(stamps.iter().map(|stamp| self.outline(stamp, Feed::Files))).await {
            Ok(outlines) => Ok(Some(outlines.into_iter().map(|outline| outline.metadata).collect())),
            Err(LakeError::CommitNotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What was read; nothing where the log no longer holds it.
fn readable<T>(read: Result<T, LakeError>) -> Result<Option<T>, LakeError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(LakeError::VersionNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last commits, at most `most` and those that may be held at once, which lead up to `version` without a gap.
fn tail(stamps: &[Stamp], version: u64, most: usize) -> &[Stamp] {
    let mut bytes = 0u64;
    let fits = |(stamp, expected): &(&Stamp, u64)| {
        bytes = bytes.saturating_add(stamp.size);
        stamp.version == *expected && (bytes <= TOGETHER_BYTES || *expected + 1 == version)
    };
    let len = stamps.iter().rev().take(most).zip((0..version).rev()).take_while(fits).count();
    &stamps[stamps.len() - len..]
}
