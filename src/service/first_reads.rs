//! Which file URLs were read before, so that the many ranges of one file do not make as many audit events: the first
//! read of a URL is an event of its own, and those that follow are summed, one event a URL and minute.
//!
//! Forgetting one only means that it is recorded again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::domain::{
    audit::{Event, timestamp},
    limits::minute,
};

/// The action of a URL's first read.
pub(super) const FILE_READ: &str = "file.read";
/// The action of the event that stands for the reads after it.
const SUMMARY: &str = "file.read.summary";
/// How many URLs one generation remembers; two are kept. About 10 MB when full.
const GENERATION: usize = 100_000;
/// How many URLs are summed at a time; when there are more, what was summed is told early. Some 10 MB when full.
const MOST_SUMS: usize = 10_000;

/// Remembers URLs in bounded memory: when the young generation is full it becomes the old one.
#[derive(Debug, Default)]
pub struct FirstReads(Mutex<State>);

type Key = [u8; 16];

#[derive(Debug, Default)]
struct State {
    young: HashSet<Key>,
    old: HashSet<Key>,
    minute: i64,
    sums: HashMap<Key, Sum>,
}

/// The later reads of one URL in this minute.
#[derive(Debug)]
struct Sum {
    event: Event,
    reads: u64,
    bytes: u64,
}

impl FirstReads {
    /// Whether `sealed` was read before.
    pub fn contains(&self, sealed: &str) -> bool {
        let (state, key) = (self.lock(), key(sealed));
        state.young.contains(&key) || state.old.contains(&key)
    }

    /// Remembers that `sealed` was read.
    pub fn insert(&self, sealed: &str) {
        let mut state = self.lock();
        if state.young.len() >= GENERATION {
            state.old = std::mem::take(&mut state.young);
        }
        state.young.insert(key(sealed));
    }

    /// Counts `bytes` that were read of `sealed` after its first read; `event` describes the file. Answers the events
    /// that are due.
    pub fn add(&self, sealed: &str, event: &Event, bytes: u64, now: DateTime<Utc>) -> Vec<Event> {
        let (mut state, key) = (self.lock(), key(sealed));
        let mut due = state.turn(now);
        if state.sums.len() >= MOST_SUMS && !state.sums.contains_key(&key) {
            due.extend(state.take());
        }
        let sum = state.sums.entry(key).or_insert_with(|| Sum { event: event.clone(), reads: 0, bytes: 0 });
        (sum.reads, sum.bytes) = (sum.reads + 1, sum.bytes.saturating_add(bytes));
        due
    }

    /// The sums of minutes that are over; of this one, too, where `all` is asked for.
    pub fn summaries(&self, now: DateTime<Utc>, all: bool) -> Vec<Event> {
        let mut state = self.lock();
        if all { state.take() } else { state.turn(now) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn turn(&mut self, now: DateTime<Utc>) -> Vec<Event> {
        let current = minute(now);
        if current <= self.minute {
            return Vec::new();
        }
        let due = self.take();
        self.minute = current;
        due
    }

    fn take(&mut self) -> Vec<Event> {
        let since = DateTime::from_timestamp(self.minute.saturating_mul(60), 0).unwrap_or_default();
        let sums = std::mem::take(&mut self.sums).into_values();
        let summary = |Sum { event, reads, bytes }| Event {
            action: SUMMARY.into(),
            bytes: Some(bytes),
            files: None,
            request_id: None,
            change: Some(json!({"reads": reads, "minute": timestamp(since)})),
            ..event
        };
        sums.map(summary).collect()
    }
}

/// A digest, so that no URL that opens anything stays in memory.
fn key(sealed: &str) -> Key {
    let digest = Sha256::digest(sealed.as_bytes());
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Actor;

    #[test]
    fn memory_is_bounded_and_the_newest_are_remembered() {
        let reads = FirstReads::default();
        for i in 0..(2 * GENERATION + 10) {
            reads.insert(&i.to_string());
        }
        assert!(reads.contains(&(2 * GENERATION).to_string()));
        assert!(!reads.contains("0"));
        let state = reads.lock();
        assert!(state.young.len() + state.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn ranges_after_the_first_are_one_event_a_minute() {
        let (reads, event) = (FirstReads::default(), Event::new(Actor::ANONYMOUS, FILE_READ));
        let at = |seconds: i64| DateTime::from_timestamp(1_790_000_040 + seconds, 0).unwrap();
        for seconds in 0..50 {
            assert!(reads.add("url", &event, 10, at(seconds)).is_empty());
        }
        let due = reads.add("url", &event, 10, at(60));
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].action.as_ref(), due[0].bytes), ("file.read.summary", Some(500)));
        assert_eq!(due[0].change.as_ref().unwrap()["reads"], 50);
        assert_eq!(reads.summaries(at(61), true).len(), 1);
    }
}
