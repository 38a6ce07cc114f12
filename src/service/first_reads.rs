//! Which file URLs were read before, so that the ranges of one read make one audit event.
//!
//! Forgetting one only means that it is recorded again.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};

/// How many URLs one generation remembers; two are kept. About 10 MB when full.
const GENERATION: usize = 100_000;

/// Remembers URLs in bounded memory: when the young generation is full it becomes the old one.
#[derive(Debug, Default)]
pub struct FirstReads(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<[u8; 16]>,
    old: HashSet<[u8; 16]>,
}

impl FirstReads {
    /// Whether `sealed` was read before.
    pub fn contains(&self, sealed: &str) -> bool {
        let (generations, key) = (self.lock(), key(sealed));
        generations.young.contains(&key) || generations.old.contains(&key)
    }

    /// Remembers that `sealed` was read.
    pub fn insert(&self, sealed: &str) {
        let mut generations = self.lock();
        if generations.young.len() >= GENERATION {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key(sealed));
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A digest, so that no URL that opens anything stays in memory.
fn key(sealed: &str) -> [u8; 16] {
    let digest = Sha256::digest(sealed.as_bytes());
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_newest_are_remembered() {
        let reads = FirstReads::default();
        for i in 0..(2 * GENERATION + 10) {
            reads.insert(&i.to_string());
        }
        assert!(reads.contains(&(2 * GENERATION).to_string()));
        assert!(!reads.contains("0"));
        let generations = reads.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
    }
}
