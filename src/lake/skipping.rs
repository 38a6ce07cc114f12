//! Finds the files of a snapshot that a client needs, using partition values and statistics.
//!
//! A file is left out only if none of its rows can match, or if the files before it hold enough rows. A file may be
//! kept needlessly, but is never left out wrongly. Hints use logical column names, the log physical ones; the schema
//! has both.

use std::sync::Arc;

use delta_kernel::schema::StructField;

use crate::domain::sharing::predicate::{Claim, ColumnName, Filter, Outcomes, Predicate, Test, ValueType};

use super::{
    files::Chunk,
    judging::GivenUp,
    snapshot::Snapshot,
    statistics::{BoundTest, ColumnKey},
};

/// Marks a text column with a collation, which does not sort by bytes.
const COLLATIONS: &str = "__COLLATIONS";
/// Marks a column whose type was changed.
const TYPE_CHANGES: &str = "delta.typeChanges";

/// The most columns that the hints of one request may use, far above real use. Each is read for every file.
const MOST_COLUMNS: usize = 64;

/// The order in which files are listed, and so the order in which a limit takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The order in the snapshot.
    Snapshot,
    /// The order of the keys of their paths, which is the same on every server.
    Key,
}

/// The outcome of a predicate for each file of a snapshot.
struct Verdicts {
    outcomes: Vec<Outcomes>,
    /// Whether columns had to be read, which are now cached in the snapshot.
    has_read: bool,
}

/// A leaf of a predicate, bound to a column of a snapshot.
#[derive(Debug)]
struct BoundLeaf {
    /// The index among the columns that the predicate needs.
    column: usize,
    test: BoundTest,
}

impl Snapshot {
    /// Returns the indices of the files that `filter` needs, in `order`, or `None` for all of them; and whether columns
    /// had to be read, which are now cached in the snapshot. If the work is given up, it ends soon with an arbitrary
    /// result.
    pub(super) fn select(&self, filter: &Filter, order: Order, given_up: &GivenUp) -> (Option<Vec<u32>>, bool) {
        let Verdicts { outcomes, has_read } = self.judge(filter, given_up);
        let is_kept = |&index: &u32| outcomes.get(index as usize).is_some_and(|outcome| !outcome.cannot_match());
        let kept = self.all_indices().filter(is_kept);
        let selected = match (order, filter.limit) {
            (Order::Snapshot, None) => kept.collect(),
            (Order::Snapshot, Some(limit)) => self.until_enough(limit, &outcomes, kept),
            (Order::Key, None) => self.files().by_key(kept),
            (Order::Key, Some(limit)) => self.until_enough(limit, &outcomes, self.files().by_key(kept).into_iter()),
        };
        ((selected.len() < self.files().len()).then_some(selected), has_read)
    }

    fn all_indices(&self) -> impl Iterator<Item = u32> {
        0..u32::try_from(self.files().len()).unwrap_or(u32::MAX)
    }

    /// Takes files until `limit` rows are certain to match. A file that may or may not match does not count, because
    /// rows of later files could be lost.
    fn until_enough(&self, limit: u64, outcomes: &[Outcomes], files: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut matching = 0u64;
        files
            .take_while(|&index| {
                let is_wanted = matching < limit;
                let must_match = outcomes.get(index as usize).is_some_and(|outcome| outcome.must_match());
                let rows = || self.files().get(index as usize).and_then(|file| file.live_rows());
                matching = matching.saturating_add(if must_match { rows().unwrap_or(0) } else { 0 });
                is_wanted
            })
            .collect()
    }

    fn judge(&self, filter: &Filter, given_up: &GivenUp) -> Verdicts {
        let (predicate, columns) = self.bind(filter);
        let mut verdicts = Verdicts { outcomes: Vec::with_capacity(self.files().len()), has_read: false };
        for chunk in self.files().chunks() {
            if given_up.is_so() {
                break;
            }
            let (outcomes, has_read) = evaluate(&predicate, &columns, chunk, given_up);
            verdicts.outcomes.extend(outcomes);
            verdicts.has_read |= has_read;
        }
        verdicts
    }

    /// Binds the hints to this snapshot's columns. A hint about an unknown column is ignored.
    fn bind(&self, filter: &Filter) -> (Predicate<BoundLeaf>, Vec<ColumnKey>) {
        let mut columns = Vec::new();
        let hints = filter.hints().iter().map(|hint| {
            let bound = hint.bind(&mut |claim| self.bind_claim(claim, &mut columns));
            bound.unwrap_or(Predicate::Known(Outcomes::ANYTHING))
        });
        (Predicate::All(hints.collect()), columns)
    }

    /// Binds one claim; `None` if there is no such column.
    fn bind_claim(&self, claim: &Claim, columns: &mut Vec<ColumnKey>) -> Option<Predicate<BoundLeaf>> {
        let field = self.find_field(&claim.column)?;
        let unknown = Some(Predicate::Known(Outcomes::ANYTHING));
        let value_type = type_of(&field);
        if claim.column.value_type.is_some_and(|claimed| Some(claimed) != value_type) {
            return unknown;
        }
        let (value_type, test) = match (&claim.test, value_type) {
            // Whether there are nulls does not depend on the type.
            (Test::IsNull, value_type) => (value_type.unwrap_or(ValueType::Text), BoundTest::IsNull),
            (Test::Compare(comparison, literal), Some(value_type)) => match literal.resolve(value_type) {
                Some(value) => (value_type, BoundTest::Compare(*comparison, value)),
                None => return unknown,
            },
            (Test::Compare(..), None) => return unknown,
        };
        let name: Arc<str> = field.physical_name(self.mapping).into();
        let partition = self.files().partition_columns().iter().position(|own| **own == *name);
        let key = ColumnKey { name, partition, value_type };
        let column = match columns.iter().position(|own| *own == key) {
            Some(column) => column,
            // Each column is read for every file.
            None if columns.len() == MOST_COLUMNS => return unknown,
            None => {
                columns.push(key);
                columns.len() - 1
            }
        };
        Some(Predicate::Leaf(BoundLeaf { column, test }))
    }

    /// Finds a top-level column by name. An exact match wins; otherwise case is ignored if only one column matches.
    fn find_field(&self, column: &ColumnName) -> Option<StructField> {
        let schema = &self.schema;
        let find = |name: &str| {
            let fields = || schema.fields();
            let mut similar = fields().filter(|field| field.name().eq_ignore_ascii_case(name));
            let exact = fields().find(|field| field.name() == name);
            exact.or_else(|| similar.next().filter(|_| similar.next().is_none()))
        };
        if !column.is_partition {
            return find(&column.name).cloned();
        }
        // `partitionValues` qualifies a partition column, unless the table has a column of that name.
        let is_partition = |field: &&StructField| self.metadata.partition_columns.contains(field.name());
        let is_struct = find("partitionValues").is_some();
        if is_struct { None } else { find(&column.name).filter(is_partition).cloned() }
    }
}

/// Returns the type for comparing a column's bounds; `None` if they cannot be compared.
fn type_of(field: &StructField) -> Option<ValueType> {
    let value_type = ValueType::from_delta(&field.data_type().to_string())?;
    let has = |key: &str| field.metadata().contains_key(key);
    let is_comparable = match value_type {
        ValueType::Text => !has(COLLATIONS),
        // Digits written for a float may parse to a different double.
        ValueType::Double => !has(TYPE_CHANGES),
        _ => true,
    };
    is_comparable.then_some(value_type)
}

/// Evaluates the predicate for each file of a chunk. Also returns whether columns had to be read.
fn evaluate(
    predicate: &Predicate<BoundLeaf>,
    columns: &[ColumnKey],
    chunk: &Chunk,
    given_up: &GivenUp,
) -> (Vec<Outcomes>, bool) {
    let (kept, sources) = chunk.columns();
    let (bounds, was_read) = kept.find(columns, sources);
    let outcomes = predicate.evaluate(chunk.len(), &mut |leaf| {
        let found = columns.get(leaf.column).filter(|_| !given_up.is_so()).and_then(|key| bounds.get(key));
        found.map_or_else(|| vec![Outcomes::ANYTHING; chunk.len()], |bounds| bounds.outcomes(&leaf.test))
    });
    (outcomes, was_read)
}
