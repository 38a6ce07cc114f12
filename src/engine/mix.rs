//! Mixes the shown rows of several source files into one order that reveals neither the file of a row nor its position
//! there.
//!
//! Each row gets a number derived from a secret key, and rows are written in the order of their numbers. Memory holds
//! only the rows with the lowest numbers; the files are read again for the next ones, until no rows are left. The
//! result does not depend on the number of passes.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray},
    buffer::BooleanBuffer,
    compute::interleave,
    datatypes::DataType,
};
use chacha20::{
    ChaCha20, Key, Nonce,
    cipher::{KeyIvInit, StreamCipher},
};

use crate::domain::materialize::copy::ShuffleKey;

use super::{EngineError, scan::keep};

/// The number of rows that are interleaved at once.
const ROWS: usize = 8 * 1024;
/// The most passes over the files.
const MOST_DRAWS: usize = 1_000;
/// The memory for a row in addition to its values, in bytes: its number, and its position in the order.
const ROW_OVERHEAD: usize = 32;

/// The numbers for the rows of one file.
pub(super) struct Numbers(ChaCha20);

impl Numbers {
    /// Starts the numbers for the file at index `file`.
    pub(super) fn of(key: &ShuffleKey, file: usize) -> Self {
        let mut nonce = Nonce::default();
        for (byte, number) in nonce.iter_mut().zip((file as u64).to_le_bytes()) {
            *byte = number;
        }
        Self(ChaCha20::new(Key::from_slice(&key.0), &nonce))
    }

    fn next(&mut self, rows: usize) -> Result<Vec<u64>, EngineError> {
        let mut bytes = vec![0; rows * size_of::<u64>()];
        self.0.try_apply_keystream(&mut bytes).map_err(|_| EngineError::Overflow)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Ok(bytes.chunks_exact(size_of::<u64>()).map(number).collect())
    }
}

/// One pass over the files: the rows whose numbers are in a range, as many of the lowest as fit into memory.
pub(super) struct Draw {
    from: u64,
    /// Inclusive; lowered when too many rows are in the range.
    to: u64,
    was_shrunk: bool,
    /// The number of earlier passes.
    before: usize,
    budget: usize,
    held: Vec<(Vec<u64>, StructArray)>,
    weight: usize,
}

impl Draw {
    /// Creates the first pass, which holds up to `budget` bytes.
    pub(super) fn first(budget: usize) -> Self {
        Self { from: 0, to: u64::MAX, was_shrunk: false, before: 0, budget, held: Vec::new(), weight: 0 }
    }

    /// Returns the next pass; `None` if this one had all remaining rows.
    pub(super) fn next(self) -> Result<Option<Self>, EngineError> {
        let Some(from) = self.to.checked_add(1) else { return Ok(None) };
        let before = self.before + 1;
        if before >= MOST_DRAWS {
            return Err(EngineError::TooLarge(
                "its rows do not fit into the memory for mixing, however often it is read",
            ));
        }
        // A range of the same width should have as many rows; if all of them fitted, a wider range is tried.
        let width = self.to - self.from;
        let width = if self.was_shrunk { width } else { width.saturating_mul(2).saturating_add(1) };
        let to = from.saturating_add(width);
        Ok(Some(Self { from, to, was_shrunk: false, before, held: Vec::new(), weight: 0, ..self }))
    }

    /// Takes the rows whose numbers are in the range. `make` converts them to the rows to write.
    pub(super) fn take(
        &mut self,
        rows: &StructArray,
        numbers: &mut Numbers,
        make: impl FnOnce(StructArray) -> Result<StructArray, EngineError>,
    ) -> Result<(), EngineError> {
        let mut numbers = numbers.next(rows.len())?;
        let Some(rows) = picked(rows, &mut numbers, self.from, self.to)? else { return Ok(()) };
        let made = compact(&(Arc::new(make(rows)?) as ArrayRef))?;
        self.hold(numbers, made.as_struct().clone());
        while self.weight > self.budget && self.shrink()? {}
        Ok(())
    }

    fn hold(&mut self, numbers: Vec<u64>, rows: StructArray) {
        self.weight += rows.get_array_memory_size() + numbers.len() * ROW_OVERHEAD;
        self.held.push((numbers, rows));
    }

    /// Drops about half of the rows, those with the highest numbers. Returns false if that is impossible.
    fn shrink(&mut self) -> Result<bool, EngineError> {
        let mut all: Vec<u64> = self.held.iter().flat_map(|(numbers, _)| numbers).copied().collect();
        let middle = all.len().saturating_sub(1) / 2;
        let Some(highest) = all.iter().max().copied() else { return Ok(false) };
        let (_, middle, _) = all.select_nth_unstable(middle);
        if *middle == highest {
            return Ok(false);
        }
        self.to = *middle;
        self.was_shrunk = true;
        self.weight = 0;
        for (mut numbers, rows) in std::mem::take(&mut self.held) {
            if let Some(rows) = picked(&rows, &mut numbers, self.from, self.to)? {
                let rows = compact(&(Arc::new(rows) as ArrayRef))?;
                self.hold(numbers, rows.as_struct().clone());
            }
        }
        Ok(true)
    }

    /// Passes the rows to `write`, in the order of their numbers.
    pub(super) fn write(
        &mut self,
        mut write: impl FnMut(StructArray) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let held = std::mem::take(&mut self.held);
        let mut order: Vec<(u64, usize, usize)> = Vec::new();
        for (batch, (numbers, _)) in held.iter().enumerate() {
            order.extend(numbers.iter().enumerate().map(|(row, number)| (*number, batch, row)));
        }
        order.sort_unstable();
        let batches: Vec<&dyn Array> = held.iter().map(|(_, rows)| rows as &dyn Array).collect();
        for part in order.chunks(ROWS) {
            let places: Vec<(usize, usize)> = part.iter().map(|(_, batch, row)| (*batch, *row)).collect();
            let rows = interleave(&batches, &places).map_err(|_| EngineError::Overflow)?;
            write(rows.as_struct_opt().ok_or(EngineError::Overflow)?.clone())?;
        }
        Ok(())
    }
}

/// Returns the rows whose numbers are between `from` and `to`, and keeps only their numbers; `None` if there are none.
fn picked(rows: &StructArray, numbers: &mut Vec<u64>, from: u64, to: u64) -> Result<Option<StructArray>, EngineError> {
    let is_due = |number: &u64| (from..=to).contains(number);
    let due = BooleanBuffer::collect_bool(numbers.len(), |row| numbers.get(row).is_some_and(is_due));
    numbers.retain(is_due);
    Ok(match numbers.len() {
        0 => None,
        all if all == rows.len() => Some(rows.clone()),
        _ => Some(keep(rows, due)?),
    })
}

/// Copies the values into buffers of their own: decoded texts otherwise keep the whole buffer of their page alive.
fn compact(array: &ArrayRef) -> Result<ArrayRef, EngineError> {
    Ok(match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().map(compact).collect::<Result<_, _>>()?;
            let made = StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len());
            Arc::new(made.map_err(|_| EngineError::Overflow)?)
        }
        DataType::List(field) => {
            let list = array.as_list::<i32>();
            let values = compact(list.values())?;
            let made = ListArray::try_new(Arc::clone(field), list.offsets().clone(), values, list.nulls().cloned());
            Arc::new(made.map_err(|_| EngineError::Overflow)?)
        }
        DataType::Map(field, is_sorted) => {
            let map = array.as_map();
            let entries = compact(&(Arc::new(map.entries().clone()) as ArrayRef))?.as_struct().clone();
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            let made = MapArray::try_new(Arc::clone(field), offsets, entries, nulls, *is_sorted);
            Arc::new(made.map_err(|_| EngineError::Overflow)?)
        }
        _ => Arc::clone(array),
    })
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{AsArray, Int64Array, StringViewArray},
        datatypes::{Field, Fields, Int64Type},
    };

    use super::*;

    /// Draws rows, one with a text of length `long`. Returns the number of passes, and the ids in order.
    fn drawn(rows: i64, giant: i64, long: usize, budget: usize, key: u8) -> (usize, Vec<i64>) {
        let fields =
            Fields::from(vec![Field::new("id", DataType::Int64, false), Field::new("text", DataType::Utf8View, false)]);
        let text = |id: i64| "x".repeat(if id == giant { long } else { 40 });
        let batches: Vec<StructArray> = (0..rows)
            .step_by(1_000)
            .map(|from| {
                let ids = from..rows.min(from + 1_000);
                let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(ids.clone().map(text)));
                StructArray::new(fields.clone(), vec![Arc::new(Int64Array::from_iter_values(ids)), texts], None)
            })
            .collect();
        let (mut draws, mut out) = (0, Vec::new());
        let mut draw = Some(Draw::first(budget));
        while let Some(mut drawn) = draw.take() {
            let mut numbers = Numbers::of(&ShuffleKey([key; 32]), 0);
            batches.iter().for_each(|batch| drawn.take(batch, &mut numbers, Ok).unwrap());
            let write = |rows: StructArray| {
                out.extend_from_slice(rows.column(0).as_primitive::<Int64Type>().values());
                Ok(())
            };
            drawn.write(write).unwrap();
            draws += 1;
            draw = drawn.next().unwrap();
        }
        (draws, out)
    }

    #[test]
    fn one_giant_row_does_not_have_the_files_read_again_for_every_few_others() {
        let (rows, budget) = (20_000, 1 << 20);
        let (_, plain) = drawn(rows, -1, 0, 64 << 20, 1);
        for key in 0..8 {
            let (draws, mut out) = drawn(rows, 777, 4 << 20, budget, key);
            assert!(draws <= 60, "{draws} draws with key {key}");
            if key == 1 {
                assert_eq!(out, plain, "the order does not depend on the draws");
            }
            out.sort_unstable();
            assert!(out.into_iter().eq(0..rows), "{key}");
        }
    }

    #[test]
    fn draws_come_to_an_end() {
        let mut draw = Draw { to: 0, was_shrunk: true, ..Draw::first(1) };
        let mut draws = 1;
        let error = loop {
            match draw.next() {
                Ok(next) => draw = Draw { was_shrunk: true, ..next.unwrap() },
                Err(error) => break error,
            }
            draws += 1;
        };
        assert!(draws == MOST_DRAWS && matches!(error, EngineError::TooLarge(_)), "{draws} {error:?}");
    }
}
