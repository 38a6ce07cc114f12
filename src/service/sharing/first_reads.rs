//! Remembers announced reads of file URLs, so that the many ranges of one file do not cause as many audit events, and
//! no byte leaves unannounced. The first read of a URL by an address is an event that announces up to the whole file;
//! only reading beyond that causes another. Reads within the announced size are summed up in one event per URL, address
//! and minute.
//!
//! If an announcement is forgotten, it is only made again.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync;

use crate::domain::{
    access::limits::{ends_minute, minute},
    audit::{Event, action::Action, timestamp},
};

/// The action of the event that announces what is read of a URL.
pub(in crate::service) const FILE_READ: Action = Action::FileRead;
/// The action of the event that stands for the reads after it.
const SUMMARY: Action = Action::FileReadSummary;
/// How many readings one generation remembers; two are kept. About 20 MB when full.
const GENERATION: usize = 100_000;
/// How many readings are summed at the same time; when there are more, the sums are recorded early. About 10 MB when
/// full.
const MOST_SUMS: usize = 10_000;
/// The number of locks for announcements; readings that share a lock wait for each other.
const TURNS: usize = 256;

/// Remembers readings in bounded memory: when the young generation is full it becomes the old one.
#[derive(Debug)]
pub struct FirstReads {
    state: Mutex<State>,
    turns: Box<[sync::Mutex<()>]>,
}

impl Default for FirstReads {
    fn default() -> Self {
        Self { state: Mutex::default(), turns: (0..TURNS).map(|_| sync::Mutex::default()).collect() }
    }
}

type Key = [u8; 16];

/// One URL read by one address.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The digest of the URL and the address.
    key: Key,
}

impl Reading {
    /// Makes the reading of bytes behind the URL `sealed` by `address`.
    pub fn of(sealed: &str, address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { key: key(&["read", sealed, &address.to_string()]) }
    }

    /// Makes the reading of the file's size alone, which never covers its bytes.
    pub fn look(sealed: &str, address: IpAddr) -> Self {
        Self { key: key(&["look", sealed, &address.to_canonical().to_string()]) }
    }
}

/// How much of a reading was announced, and how much was read, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    announced: u64,
    read: u64,
}

#[derive(Debug, Default)]
struct State {
    young: HashMap<Key, Account>,
    old: HashMap<Key, Account>,
    minute: i64,
    sums: HashMap<Key, Sum>,
}

/// The later reads of one URL by one address in this minute.
#[derive(Debug)]
struct Sum {
    event: Event,
    reads: u64,
    bytes: u64,
}

impl FirstReads {
    /// Takes `bytes` from the announced bytes of `reading`; returns false if there are not enough.
    pub fn take(&self, reading: &Reading, bytes: u64) -> bool {
        let mut state = self.lock();
        let Some(account) = state.account(reading.key) else { return false };
        let read = account.read.saturating_add(bytes);
        let is_announced = read <= account.announced;
        if is_announced {
            account.read = read;
        }
        is_announced
    }

    /// Waits until no other request announces this reading, so that concurrent ranges share one event.
    pub async fn turn(&self, reading: &Reading) -> sync::MutexGuard<'_, ()> {
        self.turns[usize::from(reading.key[0]) % TURNS].lock().await
    }

    /// Remembers that `announced` more bytes are on record, of which `bytes` are read at once.
    pub fn announce(&self, reading: &Reading, announced: u64, bytes: u64) {
        let mut state = self.lock();
        let account = state.open(reading.key);
        account.announced = account.announced.saturating_add(announced);
        account.read = account.read.saturating_add(bytes);
    }

    /// Counts `bytes` taken from the announced bytes of `reading`; `event` describes the file. Returns the summary
    /// events that are due.
    pub fn add(&self, reading: &Reading, event: &Event, bytes: u64, now: DateTime<Utc>) -> Vec<Event> {
        let (mut state, key) = (self.lock(), reading.key);
        let mut due = state.turn(now);
        if state.sums.len() >= MOST_SUMS && !state.sums.contains_key(&key) {
            due.extend(state.take());
        }
        let sum = state.sums.entry(key).or_insert_with(|| Sum { event: event.clone(), reads: 0, bytes: 0 });
        (sum.reads, sum.bytes) = (sum.reads + 1, sum.bytes.saturating_add(bytes));
        due
    }

    /// Returns the summary events of past minutes, and with `all` also that of the current minute.
    pub fn summaries(&self, now: DateTime<Utc>, all: bool) -> Vec<Event> {
        let mut state = self.lock();
        if all { state.take() } else { state.turn(now) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn account(&mut self, key: Key) -> Option<&mut Account> {
        match self.young.get_mut(&key) {
            Some(account) => Some(account),
            None => self.old.get_mut(&key),
        }
    }

    /// Returns the account of `key` in the young generation.
    fn open(&mut self, key: Key) -> &mut Account {
        if self.young.len() >= GENERATION && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        let before = self.old.remove(&key).unwrap_or_default();
        self.young.entry(key).or_insert(before)
    }

    fn turn(&mut self, now: DateTime<Utc>) -> Vec<Event> {
        let current = minute(now);
        if !ends_minute(self.minute, current) {
            return Vec::new();
        }
        let due = self.take();
        self.minute = current;
        due
    }

    fn take(&mut self) -> Vec<Event> {
        let since = DateTime::from_timestamp(self.minute.saturating_mul(60), 0).unwrap_or_default();
        let sums = std::mem::take(&mut self.sums).into_values();
        // The bytes were counted when they were announced.
        let summary = |Sum { event, reads, bytes }| Event {
            action: SUMMARY,
            bytes: None,
            files: None,
            request_id: None,
            change: Some(json!({"reads": reads, "bytes": bytes, "minute": timestamp(since)})),
            ..event
        };
        sums.map(summary).collect()
    }
}

/// Returns the digest that identifies the URL `sealed` for all readers.
pub(in crate::service) fn url_digest(sealed: &str) -> Key {
    key(&["url", sealed])
}

/// Returns a digest, so that no working URL stays in memory.
fn key(parts: &[&str]) -> Key {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Actor;

    fn reading(url: &str) -> Reading {
        Reading::of(url, IpAddr::from([192, 0, 2, 1]))
    }

    #[test]
    fn memory_is_bounded_and_the_newest_are_remembered() {
        let reads = FirstReads::default();
        for i in 0..(2 * GENERATION + 10) {
            reads.announce(&reading(&i.to_string()), 1, 0);
        }
        assert!(reads.take(&reading(&(2 * GENERATION).to_string()), 1));
        assert!(!reads.take(&reading("0"), 1));
        let state = reads.lock();
        assert!(state.young.len() + state.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn nothing_is_read_beyond_what_was_announced() {
        let reads = FirstReads::default();
        assert!(!reads.take(&reading("url"), 1));
        reads.announce(&reading("url"), 100, 10);
        assert!(!reads.take(&Reading::of("url", IpAddr::from([192, 0, 2, 2])), 1), "another address");
        assert!(!reads.take(&Reading::look("url", IpAddr::from([192, 0, 2, 1])), 0), "a look is no read");
        assert!(reads.take(&reading("url"), 90));
        assert!(!reads.take(&reading("url"), 1));
        reads.announce(&reading("url"), 100, 1);
        assert!(reads.take(&reading("url"), 99) && !reads.take(&reading("url"), 1));
    }

    #[test]
    fn ranges_after_the_first_are_one_event_a_minute() {
        let (reads, event) = (FirstReads::default(), Event::new(Actor::ANONYMOUS, FILE_READ));
        let at = |seconds: i64| DateTime::from_timestamp(1_790_000_040 + seconds, 0).unwrap();
        for seconds in 0..50 {
            assert!(reads.add(&reading("url"), &event, 10, at(seconds)).is_empty());
        }
        let due = reads.add(&reading("url"), &event, 10, at(60));
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].action, due[0].bytes), (Action::FileReadSummary, None));
        let change = due[0].change.as_ref().unwrap();
        assert_eq!((&change["reads"], &change["bytes"]), (&json!(50), &json!(500)));
        assert_eq!(reads.summaries(at(61), true).len(), 1);
    }
}
