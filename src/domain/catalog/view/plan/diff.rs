//! Compares two versions of a view as its readers see them.

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
        /// The column before; `None` if it is new.
        before: Option<Box<ShownLeaf>>,
        /// The column now; `None` if it is gone.
        after: Option<Box<ShownLeaf>>,
        /// The effect on readers.
        effect: ColumnEffect,
    },
    /// The row filter.
    Filter {
        /// The filter before; `None` if all rows were shown.
        before: Option<String>,
        /// The filter now; `None` if all rows are shown.
        after: Option<String>,
        /// The effect on readers.
        effect: ColumnEffect,
    },
    /// The layout of rows in files.
    Layout {
        /// The layout before.
        before: Layout,
        /// The layout now.
        after: Layout,
        /// The effect on readers: files that each hold one partition value reveal that value.
        effect: ColumnEffect,
    },
}

/// The effect of a change on readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnEffect {
    /// They see something new.
    Discloses,
    /// They no longer see something.
    Hides,
    /// They see something else, perhaps more.
    Changes,
}

/// Lists what changes for readers from `before` to `after`: columns that are new, different or gone, the filter, and
/// the layout over a source that is partitioned by `partition_columns`.
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

/// The effect of changing a column from `before` to `after`; `None` if it is unchanged.
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
