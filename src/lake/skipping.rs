//! Which files of a snapshot a client needs, as far as partition values and statistics tell.
//!
//! A file is left out only where no row of it can match, or where the files before it hold enough rows; it may be kept
//! for nothing, never left out wrongly. Hints name columns logically, the log names them physically; the schema knows
//! both.

use std::{ops::Range, sync::Arc};

use delta_kernel::schema::StructField;

use super::{
    files::Chunk,
    snapshot::Snapshot,
    statistics::{BoundTest, ColumnKey},
};
use crate::domain::predicate::{Claim, ColumnName, Filter, Outcomes, Predicate, Test, ValueType};

/// Marks a text column whose order is not that of its bytes.
const COLLATIONS: &str = "__COLLATIONS";
/// Marks a column that had other types before.
const TYPE_CHANGES: &str = "delta.typeChanges";

/// Some of a snapshot's files, in the snapshot's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Which files; `None` for all of them.
    files: Option<Vec<u32>>,
    len: usize,
    bytes: u64,
    rows: Option<u64>,
}

impl Selection {
    /// Every file.
    pub fn all(snapshot: &Snapshot) -> Self {
        Self { files: None, len: snapshot.files().len(), bytes: snapshot.size_bytes(), rows: snapshot.rows() }
    }

    /// The number of files.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no file is selected.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sum of the files' sizes, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many live rows the files hold; `None` where the log does not count them all.
    pub fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// The indices in the snapshot of the selected files with these numbers, as far as there are so many.
    pub fn indices(&self, numbers: Range<usize>) -> Vec<usize> {
        let numbers = numbers.start.min(self.len)..numbers.end.min(self.len);
        match &self.files {
            None => numbers.collect(),
            Some(files) => files.get(numbers).into_iter().flatten().map(|&index| index as usize).collect(),
        }
    }

    fn push(&mut self, index: usize, size: u64, live_rows: Option<u64>) {
        // A table of more files than 32 bits count would not fit into memory.
        if let (Some(files), Ok(index)) = (&mut self.files, u32::try_from(index)) {
            files.push(index);
        }
        self.len += 1;
        self.bytes = self.bytes.saturating_add(size);
        self.rows = self.rows.zip(live_rows).and_then(|(sum, rows)| sum.checked_add(rows));
    }
}

/// One leaf of a predicate tied to a snapshot's column.
#[derive(Debug)]
struct BoundLeaf {
    /// The column's place among those that the predicate needs.
    column: usize,
    test: BoundTest,
}

impl Snapshot {
    /// The files that `filter` needs, and whether columns had to be read for it, which the snapshot now holds.
    pub(super) fn select(&self, filter: &Filter) -> (bool, Selection) {
        let mut selection = Selection { files: Some(Vec::new()), len: 0, bytes: 0, rows: Some(0) };
        let mut has_grown = false;
        let (predicate, columns) = self.bind(filter);
        // Rows that match for certain, among the files selected so far.
        let mut matching = 0u64;
        let is_enough = |matching: u64| filter.limit.is_some_and(|limit| matching >= limit);
        for (start, chunk) in self.files().chunks() {
            if is_enough(matching) {
                break;
            }
            let (outcomes, was_read) = evaluate(&predicate, &columns, chunk);
            has_grown |= was_read;
            for (row, outcome) in outcomes.into_iter().enumerate() {
                if outcome.cannot_match() {
                    continue;
                }
                if is_enough(matching) {
                    break;
                }
                let live_rows = chunk.live_rows(row);
                selection.push(start + row, chunk.size(row), live_rows);
                // A file that only may match counts nothing, or else matching rows of later files would be lost.
                matching = matching.saturating_add(live_rows.filter(|_| outcome.must_match()).unwrap_or(0));
            }
        }
        if selection.len == self.files().len() {
            selection.files = None;
        }
        (has_grown, selection)
    }

    /// Ties the hints to this snapshot's columns. A hint about a column that is not there tells nothing.
    fn bind(&self, filter: &Filter) -> (Predicate<BoundLeaf>, Vec<ColumnKey>) {
        let mut columns = Vec::new();
        let hints = filter.hints().iter().map(|hint| {
            let bound = hint.bind(&mut |claim| self.bind_claim(claim, &mut columns));
            bound.unwrap_or(Predicate::Known(Outcomes::ANYTHING))
        });
        (Predicate::All(hints.collect()), columns)
    }

    /// `None` where there is no such column.
    fn bind_claim(&self, claim: &Claim, columns: &mut Vec<ColumnKey>) -> Option<Predicate<BoundLeaf>> {
        let field = self.find_field(&claim.column)?;
        let unknown = Some(Predicate::Known(Outcomes::ANYTHING));
        let value_type = type_of(&field);
        if claim.column.value_type.is_some_and(|claimed| Some(claimed) != value_type) {
            return unknown;
        }
        let (value_type, test) = match (&claim.test, value_type) {
            // Whether there are nulls does not depend on what the others are.
            (Test::IsNull, value_type) => (value_type.unwrap_or(ValueType::Text), BoundTest::IsNull),
            (Test::Compare(comparison, literal), Some(value_type)) => match literal.resolve(value_type) {
                Some(value) => (value_type, BoundTest::Compare(*comparison, value)),
                None => return unknown,
            },
            (Test::Compare(..), None) => return unknown,
        };
        let mode = self.kernel.table_configuration().column_mapping_mode();
        let name: Arc<str> = field.physical_name(mode).into();
        let partition = self.files().partition_columns().iter().position(|own| **own == *name);
        let key = ColumnKey { name, partition, value_type };
        let column = columns.iter().position(|own| *own == key).unwrap_or_else(|| {
            columns.push(key);
            columns.len() - 1
        });
        Some(Predicate::Leaf(BoundLeaf { column, test }))
    }

    /// The top-level column of that name; case counts only where two names differ by nothing else.
    fn find_field(&self, column: &ColumnName) -> Option<StructField> {
        let schema = self.kernel.schema();
        let find = |name: &str| {
            let fields = || schema.fields();
            let mut similar = fields().filter(|field| field.name().eq_ignore_ascii_case(name));
            let exact = fields().find(|field| field.name() == name);
            exact.or_else(|| similar.next().filter(|_| similar.next().is_none()))
        };
        if !column.is_partition {
            return find(&column.name).cloned();
        }
        // Unless it is qualified by a struct of that name.
        let is_partition = |field: &&StructField| self.metadata.partition_columns.contains(field.name());
        let is_struct = find("partitionValues").is_some();
        if is_struct { None } else { find(&column.name).filter(is_partition).cloned() }
    }
}

/// The type as which a column's bounds can be compared.
fn type_of(field: &StructField) -> Option<ValueType> {
    let value_type = ValueType::from_delta(&field.data_type().to_string())?;
    let has = |key: &str| field.metadata().contains_key(key);
    let is_comparable = match value_type {
        ValueType::Text => !has(COLLATIONS),
        // The decimal digits that stand for a float stand for another double.
        ValueType::Double => !has(TYPE_CHANGES),
        _ => true,
    };
    is_comparable.then_some(value_type)
}

/// What the predicate comes to for each file of a chunk, and whether columns had to be read.
fn evaluate(predicate: &Predicate<BoundLeaf>, columns: &[ColumnKey], chunk: &Chunk) -> (Vec<Outcomes>, bool) {
    let (kept, sources) = chunk.columns();
    let (bounds, was_read) = kept.find(columns, sources);
    let outcomes = predicate.evaluate(chunk.len(), &mut |leaf| {
        let found = columns.get(leaf.column).and_then(|key| bounds.get(key));
        found.map_or_else(|| vec![Outcomes::ANYTHING; chunk.len()], |bounds| bounds.outcomes(&leaf.test))
    });
    (outcomes, was_read)
}
