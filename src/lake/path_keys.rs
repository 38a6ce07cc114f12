//! Turns paths into sorted numeric keys. A file is found by key without a scan of all files, and pages follow the order
//! of keys, which is the same on every server, without a sort of all files.
//!
//! Keys are not unique: a lookup by key must also compare the path.

use arrow::array::{Array, StringArray};
use twox_hash::XxHash64;

/// Returns the key of `path`. Page tokens contain keys, so this function must never change.
pub(super) fn path_key(path: &str) -> u64 {
    XxHash64::oneshot(0, path.as_bytes())
}

/// The keys of the paths of some files, in ascending order, each with the row of its file.
#[derive(Debug)]
pub(super) struct PathKeys {
    keys: Box<[u64]>,
    rows: Box<[u16]>,
}

impl PathKeys {
    /// Computes the keys of `paths`, which must fit into one chunk.
    pub(super) fn of(paths: &StringArray) -> Self {
        debug_assert!(paths.len() <= usize::from(u16::MAX) + 1);
        let numbered = paths.iter().enumerate();
        let keyed = numbered.filter_map(|(row, path)| Some((path_key(path?), u16::try_from(row).ok()?)));
        let mut keyed: Vec<(u64, u16)> = keyed.collect();
        keyed.sort_unstable();
        Self { keys: keyed.iter().map(|(key, _)| *key).collect(), rows: keyed.iter().map(|(_, row)| *row).collect() }
    }

    /// Returns the rows whose path may have this key.
    pub(super) fn rows_of(&self, key: u64) -> impl Iterator<Item = usize> {
        let from = self.keys.partition_point(|own| *own < key);
        let same = self.keys[from..].iter().take_while(move |own| **own == key);
        same.zip(&self.rows[from..]).map(|(_, row)| usize::from(*row))
    }

    /// Returns the number of keys that are at most `key`.
    pub(super) fn position_behind(&self, key: u64) -> usize {
        self.keys.partition_point(|own| *own <= key)
    }

    /// Returns the key at `position` and its row.
    pub(super) fn at(&self, position: usize) -> Option<(u64, usize)> {
        Some((*self.keys.get(position)?, usize::from(*self.rows.get(position)?)))
    }

    pub(super) fn resident_bytes(&self) -> usize {
        size_of_val(&*self.keys) + size_of_val(&*self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Page tokens must also work on servers of other releases.
    #[test]
    fn keys_are_what_they_were() {
        assert_eq!(path_key(""), 0xef46_db37_51d8_e999);
        assert_eq!(path_key("a"), 0xd24e_c4f1_a98c_6e5b);
    }
}
