//! What a new version of a view changes for its readers.

use std::collections::{HashMap, HashSet};

use crate::domain::catalog::{schema::ColumnPath, view::Layout};

use super::{ShownLeaf, ViewPlan};

/// One difference between two versions of a view.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A shown column or field.
    Column {
        /// Its name.
        name: ColumnPath,
        /// What it was; nothing where it is new.
        before: Option<Box<ShownLeaf>>,
        /// What it is; nothing where it is gone.
        after: Option<Box<ShownLeaf>>,
        /// What that means for readers.
        effect: ColumnEffect,
    },
    /// The row filter.
    Filter {
        /// What it was; nothing where all rows were shown.
        before: Option<String>,
        /// What it is.
        after: Option<String>,
        /// What that means for readers.
        effect: ColumnEffect,
    },
    /// How the rows are laid out in files.
    Layout {
        /// What it was.
        before: Layout,
        /// What it is.
        after: Layout,
        /// What that means for readers: files of one partition value each tell of it.
        effect: ColumnEffect,
    },
}

/// What a change means for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnEffect {
    /// They see what they did not see.
    Discloses,
    /// They no longer see what they saw.
    Hides,
    /// They see something else, perhaps more.
    Changes,
}

/// What readers of `before` find changed in `after`: columns that are new or other, columns that are gone, the filter,
/// and the layout over a source that is partitioned by `partition_columns`.
pub fn changes(before: &ViewPlan, after: &ViewPlan, partition_columns: &[String]) -> Vec<Change> {
    let (was, is) = (before.shown(), after.shown());
    let old: HashMap<&ColumnPath, &ShownLeaf> = was.iter().map(|shown| (&shown.name, shown)).collect();
    let new: HashSet<&ColumnPath> = is.iter().map(|shown| &shown.name).collect();
    let column = |before: Option<&ShownLeaf>, after: Option<&ShownLeaf>, effect| {
        let name = after.or(before)?.name.clone();
        Some(Change::Column {
            name,
            before: before.cloned().map(Box::new),
            after: after.cloned().map(Box::new),
            effect,
        })
    };
    let other = is.iter().filter_map(|shown| {
        let before = old.get(&shown.name).copied();
        let effect = before.map_or(Some(ColumnEffect::Discloses), |before| effect(before, shown))?;
        column(before, Some(shown), effect)
    });
    let gone = was.iter().filter(|shown| !new.contains(&shown.name));
    let mut changes: Vec<Change> =
        other.chain(gone.filter_map(|shown| column(Some(shown), None, ColumnEffect::Hides))).collect();
    let effect = match (&before.filter, &after.filter) {
        (None, None) => None,
        (None, Some(_)) => Some(ColumnEffect::Hides),
        (Some(_), None) => Some(ColumnEffect::Discloses),
        (Some(one), Some(other)) => (one != other).then_some(ColumnEffect::Changes),
    };
    changes.extend(effect.map(|effect| Change::Filter {
        before: before.pinned.definition.row_filter.clone(),
        after: after.pinned.definition.row_filter.clone(),
        effect,
    }));
    let effect = match (before.layout_over(partition_columns), after.layout_over(partition_columns)) {
        (Layout::Source, Layout::Mixed) => Some(ColumnEffect::Hides),
        (Layout::Mixed, Layout::Source) => Some(ColumnEffect::Discloses),
        (Layout::Source, Layout::Source) | (Layout::Mixed, Layout::Mixed) => None,
    };
    changes.extend(effect.map(|effect| Change::Layout {
        before: before.layout_over(partition_columns),
        after: after.layout_over(partition_columns),
        effect,
    }));
    changes
}

/// What it means that a column was `before` and is `after`; nothing where it is the same.
fn effect(before: &ShownLeaf, after: &ShownLeaf) -> Option<ColumnEffect> {
    if before == after {
        None
    } else if before.from != after.from {
        Some(ColumnEffect::Changes)
    } else {
        Some(match (&before.mask, &after.mask) {
            (None, Some(_)) => ColumnEffect::Hides,
            (Some(_), None) => ColumnEffect::Discloses,
            _ => ColumnEffect::Changes,
        })
    }
}
