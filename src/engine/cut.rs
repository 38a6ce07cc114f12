//! Cuts rows into new batches. The pages and row groups of the written file end where batches end, so batches must
//! depend only on the rows shown, never on the number of hidden rows in between.

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StructArray},
    compute::BatchCoalescer,
    datatypes::{ByteViewType, DataType, SchemaRef},
};

use super::EngineError;

/// The number of rows in a batch.
const ROWS: usize = 8 * 1024;
/// The weight in bytes at which a batch ends early.
const BYTES: usize = 8 << 20;

/// Cuts rows into batches.
pub(super) struct Cutter {
    waiting: BatchCoalescer,
    /// The weight of the waiting rows.
    weight: usize,
}

impl Cutter {
    /// Creates a cutter for rows with these columns.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { waiting: BatchCoalescer::new(schema, ROWS), weight: 0 }
    }

    /// Adds rows, and passes each full batch to `write`.
    pub(super) fn push(
        &mut self,
        rows: StructArray,
        mut write: impl FnMut(RecordBatch) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut rows = rows;
        while !rows.is_empty() {
            let room = ROWS - self.waiting.get_buffered_rows();
            let mut taken = room.min(rows.len());
            let mut weight = weigh(&rows, 0, taken);
            let mut is_full = taken == room;
            if self.weight + weight >= BYTES {
                // Row by row, so that the batch ends at the same row regardless of how the rows arrive.
                (taken, weight) = (0, 0);
                while taken < room.min(rows.len()) && self.weight + weight < BYTES {
                    weight += weigh(&rows, taken, 1);
                    taken += 1;
                }
                is_full = taken == room || self.weight + weight >= BYTES;
            }
            let batch = RecordBatch::from(rows.slice(0, taken));
            rows = rows.slice(taken, rows.len() - taken);
            if is_full && self.waiting.is_empty() {
                write(batch)?;
                self.weight = 0;
                continue;
            }
            self.waiting.push_batch(batch).map_err(|_| EngineError::Overflow)?;
            self.weight += weight;
            if is_full {
                self.end(&mut write)?;
            }
        }
        Ok(())
    }

    /// Passes the rows that still wait to `write`.
    pub(super) fn end(
        &mut self,
        mut write: impl FnMut(RecordBatch) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.weight = 0;
        self.waiting.finish_buffered_batch().map_err(|_| EngineError::Overflow)?;
        self.waiting.next_completed_batch().map_or(Ok(()), &mut write)
    }
}

/// Weighs some rows: the bytes of their texts, plus eight bytes per value. The weight depends only on the values.
fn weigh(rows: &StructArray, from: usize, count: usize) -> usize {
    rows.columns().iter().map(|column| weigh_column(column, from, count)).sum()
}

fn weigh_column(column: &ArrayRef, from: usize, count: usize) -> usize {
    const VALUE: usize = 8;
    let nested = |offsets: &[i32], inner: &ArrayRef| {
        let ends = offsets.get(from).zip(offsets.get(from + count));
        let range = ends.and_then(|(from, to)| Some((usize::try_from(*from).ok()?, usize::try_from(*to).ok()?)));
        let (from, to) = range.unwrap_or_default();
        weigh_column(inner, from, to.saturating_sub(from))
    };
    count * VALUE
        + match column.data_type() {
            DataType::Utf8View => bytes(column.as_string_view(), from, count),
            DataType::BinaryView => bytes(column.as_binary_view(), from, count),
            DataType::Struct(_) => weigh(column.as_struct(), from, count),
            DataType::List(_) => nested(column.as_list::<i32>().offsets(), column.as_list::<i32>().values()),
            DataType::Map(..) => {
                let map = column.as_map();
                nested(map.offsets(), map.keys()) + nested(map.offsets(), map.values())
            }
            _ => 0,
        }
}

/// Sums the lengths of texts; a view begins with the length.
fn bytes<T: ByteViewType>(views: &arrow::array::GenericByteViewArray<T>, from: usize, count: usize) -> usize {
    let slice = views.views().get(from..from + count).unwrap_or_default();
    match views.nulls() {
        None => slice.iter().map(|view| *view as u32 as usize).sum(),
        Some(nulls) => {
            (from..).zip(slice).filter(|(at, _)| nulls.is_valid(*at)).map(|(_, view)| *view as u32 as usize).sum()
        }
    }
}
