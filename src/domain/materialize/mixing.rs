//! Groups a table's files for mixing: decides which of them become one file, so that a file reveals as little as
//! possible about its source files' partitions.
//!
//! Never here: reading a row, or where groups are stored.

use std::collections::HashMap;

/// The usual size of a group's source files in bytes, small enough to be mixed in a few rounds.
const GROUP_BYTES: u64 = 128 << 20;
/// The largest size of a group's source files in bytes, used to include files of other partitions.
const MOST_BYTES: u64 = 1 << 30;
/// The fewest files of a group, if there are enough.
const LEAST_FILES: usize = 4;
/// The most files of a group.
const MOST_FILES: usize = 1_024;

/// A file that will be grouped with others.
#[derive(Clone, Debug)]
pub struct Groupable<'a> {
    /// All of its partition values.
    pub partition: Vec<Option<&'a str>>,
    /// An unpredictable number.
    pub chance: u128,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Assigns files to groups; returns for each file the number of its group, from 0.
///
/// Each group gets files of as many partitions as possible. If there are too few files of other partitions for all
/// groups, the groups become fewer and larger, up to a bound.
pub fn group(files: &[Groupable<'_>]) -> Vec<usize> {
    let groups = number(files);
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by(|one, other| {
        let key = |at: &usize| (&files[*at].partition, files[*at].chance);
        key(one).cmp(&key(other))
    });
    let mut dealt = vec![0; files.len()];
    for (turn, file) in order.into_iter().enumerate() {
        dealt[file] = turn % groups;
    }
    dealt
}

/// Chooses the number of groups.
fn number(files: &[Groupable<'_>]) -> usize {
    let bytes = files.iter().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
    let parts = |of: u64| usize::try_from(bytes.div_ceil(of)).unwrap_or(usize::MAX);
    let mut counts: HashMap<&[Option<&str>], usize> = HashMap::new();
    files.iter().for_each(|file| *counts.entry(&file.partition).or_default() += 1);
    let most_common = counts.values().copied().max().unwrap_or_default();
    // Each group should have a file that is not of the most common partition, if there are any.
    let others = match files.len() - most_common {
        0 => usize::MAX,
        others => others,
    };
    let wanted = parts(GROUP_BYTES).min(files.len() / LEAST_FILES).min(others);
    let needed = parts(MOST_BYTES).max(files.len().div_ceil(MOST_FILES));
    wanted.max(needed).clamp(1, files.len().max(1))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Makes files of these partitions, counts and sizes in MiB, in an unpredictable order within each.
    fn files(of: &[(&'static str, usize, u64)]) -> Vec<Groupable<'static>> {
        let mut state = 1u128;
        let mut file = |value: &'static str, mib: u64| {
            state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
            Groupable { partition: vec![Some(value)], chance: state, bytes: mib << 20 }
        };
        let mut files = Vec::new();
        for &(value, count, mib) in of {
            files.extend((0..count).map(|_| file(value, mib)));
        }
        files
    }

    /// The number of files and of partitions in each group.
    fn shape(files: &[Groupable<'_>]) -> Vec<(usize, usize)> {
        let mut groups: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (file, group) in files.iter().zip(group(files)) {
            groups.entry(group).or_default().push(file.partition[0].unwrap());
        }
        groups.values().map(|values| (values.len(), values.iter().collect::<BTreeSet<_>>().len())).collect()
    }

    #[test]
    fn a_small_commit_is_one_group() {
        assert_eq!(shape(&files(&[("a", 1, 1)])), [(1, 1)]);
        assert_eq!(shape(&files(&[("a", 3, 1), ("b", 2, 1), ("c", 1, 1)])), [(6, 3)]);
        assert_eq!(group(&[]), [0; 0]);
    }

    #[test]
    fn every_group_has_files_of_several_partitions() {
        let shape = shape(&files(&[("a", 40, 32), ("b", 40, 32), ("c", 40, 32)]));
        assert_eq!(shape.len(), 30);
        assert!(shape.iter().all(|(files, partitions)| *files == 4 && *partitions >= 3), "{shape:?}");
    }

    #[test]
    fn groups_grow_where_one_partition_has_nearly_everything() {
        // By size there would be eleven groups, but only two files are of another partition.
        assert_eq!(shape(&files(&[("a", 42, 32), ("b", 2, 32)])), [(22, 2), (22, 2)]);
        // Groups grow no further than the bound.
        let shape = shape(&files(&[("a", 400, 32), ("b", 1, 32)]));
        assert_eq!(shape.len(), 13);
        // With only one partition there is nothing to hide, so only the size counts.
        assert_eq!(self::shape(&files(&[("a", 40, 32)])).len(), 10);
    }

    #[test]
    fn neither_bytes_nor_files_of_a_group_are_without_end() {
        assert_eq!(shape(&files(&[("a", 2, 1_024), ("b", 2, 1_024)])).len(), 4);
        let many = shape(&files(&[("a", 3_000, 0), ("b", 3_000, 0)]));
        assert!(many.iter().all(|(files, partitions)| *files <= MOST_FILES && *partitions == 2), "{many:?}");
    }
}
