//! Lists the commits of a log, in order, with the times of their files.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
};

use crate::lake::log_store::{FileMark, LogTip};

/// The commits found by listing a log, oldest first. There may be gaps.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    stamps: Vec<Stamp>,
}

/// The file of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) version: u64,
    /// Changes if the file is rewritten.
    pub(super) mark: u64,
    /// The size in bytes.
    pub(super) size: u64,
    /// The file's modification time in milliseconds since the epoch, raised to at least one more than that of the
    /// commit before, because the clocks of storages and writers differ (Delta Sharing protocol, 1.8).
    pub(super) file_time: i64,
}

impl Stamp {
    /// Returns whether `commits` contain this one, unchanged.
    pub(super) fn is_among(&self, commits: &BTreeMap<u64, FileMark>) -> bool {
        commits.get(&self.version).is_some_and(|mark| digest(mark) == self.mark)
    }
}

impl Timeline {
    /// Creates a timeline of the commits from the oldest readable version on.
    pub(super) fn new(commits: BTreeMap<u64, FileMark>, oldest_checkpoint: Option<u64>) -> Self {
        let oldest = if commits.contains_key(&0) { Some(0) } else { oldest_checkpoint };
        let mut timeline = Self { stamps: Vec::with_capacity(commits.len()) };
        if let Some(oldest) = oldest {
            timeline.push(commits.range(oldest..));
        }
        timeline
    }

    /// Adds the commits that a listing from [`Self::newest`] on has found; `None` if the newest commit is gone or
    /// changed.
    pub(super) fn extended(mut self, commits: &BTreeMap<u64, FileMark>) -> Option<Self> {
        let last = self.stamps.last()?;
        if commits.get(&last.version).map(digest) != Some(last.mark) {
            return None;
        }
        self.push(commits.range(last.version + 1..));
        Some(self)
    }

    fn push<'a>(&mut self, commits: impl Iterator<Item = (&'a u64, &'a FileMark)>) {
        for (&version, mark) in commits {
            let not_before = self.stamps.last().map_or(i64::MIN, |last| last.file_time.saturating_add(1));
            let file_time = mark.modified_at.timestamp_millis().max(not_before);
            self.stamps.push(Stamp { version, mark: digest(mark), size: mark.size, file_time });
        }
    }

    pub(super) fn newest(&self) -> Option<u64> {
        self.stamps.last().map(|stamp| stamp.version)
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.stamps.first().map(|stamp| stamp.version)
    }

    pub(super) fn find(&self, version: u64) -> Option<&Stamp> {
        self.stamps.binary_search_by_key(&version, |stamp| stamp.version).ok().map(|at| &self.stamps[at])
    }

    /// Returns whether `tip` is one of these commits, unchanged.
    pub(super) fn holds(&self, tip: &LogTip) -> bool {
        self.find(tip.version).is_some_and(|stamp| stamp.mark == digest(&tip.mark))
    }

    pub(super) fn up_to(&self, version: u64) -> &[Stamp] {
        &self.stamps[..self.stamps.partition_point(|stamp| stamp.version <= version)]
    }

    pub(super) fn slice(&self, range: &Range<usize>) -> &[Stamp] {
        self.stamps.get(range.clone()).unwrap_or_default()
    }

    pub(super) fn between(&self, from: u64, to: u64) -> &[Stamp] {
        let start = self.stamps.partition_point(|stamp| stamp.version < from);
        let end = self.stamps.partition_point(|stamp| stamp.version <= to);
        self.stamps.get(start..end).unwrap_or_default()
    }

    pub(super) fn resident_bytes(&self) -> usize {
        size_of::<Self>() + self.stamps.capacity() * size_of::<Stamp>()
    }
}

fn digest(mark: &FileMark) -> u64 {
    let mut hasher = DefaultHasher::new();
    mark.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectMeta, path::Path};

    use super::*;

    fn mark(time: i64, size: u64) -> FileMark {
        let last_modified = chrono::DateTime::from_timestamp_millis(time).unwrap();
        FileMark::from(&ObjectMeta { location: Path::from("x"), last_modified, size, e_tag: None, version: None })
    }

    fn marks(times: &[(u64, i64)]) -> BTreeMap<u64, FileMark> {
        times.iter().map(|&(version, time)| (version, mark(time, 1))).collect()
    }

    fn times(timeline: &Timeline) -> Vec<(u64, i64)> {
        timeline.up_to(u64::MAX).iter().map(|stamp| (stamp.version, stamp.file_time)).collect()
    }

    #[test]
    fn each_file_is_dated_after_the_one_before() {
        let timeline = Timeline::new(marks(&[(0, 10), (1, 10), (2, 5), (3, 13), (4, 12)]), None);
        assert_eq!(times(&timeline), [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)]);
    }

    #[test]
    fn an_extension_goes_on_where_the_timeline_ends() {
        let all = marks(&[(0, 10), (1, 20), (2, 15)]);
        let extended = Timeline::new(marks(&[(0, 10), (1, 20)]), None)
            .extended(&all.range(1..).map(|(v, m)| (*v, m.clone())).collect());
        assert_eq!(times(&extended.unwrap()), times(&Timeline::new(all, None)));
    }

    #[test]
    fn a_timeline_whose_end_was_written_anew_is_not_extended() {
        let timeline = || Timeline::new(marks(&[(0, 10), (1, 20)]), None);
        let mut rewritten = marks(&[(1, 20), (2, 30)]);
        rewritten.insert(1, mark(20, 2));
        assert!(timeline().extended(&rewritten).is_none());
        assert!(timeline().extended(&marks(&[(2, 30)])).is_none());
    }

    #[test]
    fn commits_that_nothing_readable_begins_with_do_not_count() {
        let commits = || marks(&[(3, 10), (4, 20), (5, 30)]);
        assert_eq!(Timeline::new(commits(), Some(4)).oldest(), Some(4));
        assert_eq!(Timeline::new(commits(), None).oldest(), None);
        assert_eq!(Timeline::new(marks(&[(0, 1), (4, 20)]), Some(4)).oldest(), Some(0));
    }

    #[test]
    fn a_range_is_cut_from_what_there_is() {
        let timeline = Timeline::new(marks(&[(0, 1), (1, 2), (3, 4)]), None);
        let versions = |from, to| timeline.between(from, to).iter().map(|stamp| stamp.version).collect::<Vec<_>>();
        assert_eq!(versions(1, 3), [1, 3]);
        assert!(versions(2, 2).is_empty());
        assert!(versions(3, 1).is_empty());
        assert_eq!(versions(0, u64::MAX), [0, 1, 3]);
    }
}
