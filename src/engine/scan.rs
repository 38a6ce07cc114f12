//! Reads a source file in batches: its live rows as columns of the table, without the rows that a condition hides.

use std::{
    ops::Range,
    sync::{Arc, PoisonError},
};

use arrow::{
    array::{Array, BooleanArray, RecordBatch, StructArray},
    buffer::BooleanBuffer,
    compute::filter,
};
use parquet::{
    arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    basic::Type as PhysicalType,
    errors::ParquetError,
};

use super::{
    EngineError, SourceFile,
    columns::Columns,
    condition::Filter,
    file::{Fetcher, ParquetFile, Trouble, undecodable},
    job::Job,
    wanted::Wanted,
};

/// The number of rows decoded at once; fewer if they are wide.
const BATCH_ROWS: usize = 8 * 1024;

/// A source file that is being read.
pub(super) struct Scan {
    job: Job,
    file: ParquetFile,
    columns: Columns,
    /// Which rows are live; `None` if all are.
    live: Option<BooleanBuffer>,
    filter: Option<Filter>,
    rows: usize,
    /// The row groups that are not started yet.
    groups: Range<usize>,
    fetcher: Fetcher,
    current: Option<Group>,
    /// The number of rows read so far.
    row: usize,
}

/// A row group that is being decoded.
struct Group {
    reader: ParquetRecordBatchReader,
    trouble: Trouble,
    /// The number of rows still to come.
    left: usize,
}

impl Scan {
    /// Opens `source` to read the `wanted` columns of the rows that `filter` shows.
    pub(super) fn open(
        job: &Job,
        source: &SourceFile,
        wanted: &[Wanted],
        filter: Option<Filter>,
    ) -> Result<Self, EngineError> {
        let file = ParquetFile::open(job, &source.location, &source.path, source.size)?;
        let columns = Columns::find(wanted, source, Arc::clone(&file.metadata))?;
        let rows = file.rows()?;
        let live = source.live_rows(job, rows)?;
        let (mut filter, mut groups) = (filter, 0..file.metadata.num_row_groups());
        // Partition values may decide for the whole file.
        let (row, are_constant) = columns.constants()?;
        if let Some(deciding) = filter.take_if(|filter| filter.sees_only(&are_constant))
            && deciding.shown(&row)?.count_set_bits() == 0
        {
            groups = 0..0;
        }
        let fetcher = Fetcher::new(job, &file, groups.clone(), &columns.leaves)?;
        let (job, current) = (job.clone(), None);
        Ok(Self { job, file, columns, live, filter, rows, groups, fetcher, current, row: 0 })
    }

    /// Returns the number of live rows.
    pub(super) fn live_rows(&self) -> usize {
        self.live.as_ref().map_or(self.rows, BooleanBuffer::count_set_bits)
    }

    /// Returns the next shown rows, at least one; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<StructArray>, EngineError> {
        loop {
            self.job.go_on()?;
            let Some(group) = &mut self.current else {
                let Some(index) = self.groups.next() else { return Ok(None) };
                self.current = Some(self.begin(index)?);
                continue;
            };
            let Some(batch) = group.next()? else {
                self.current = None;
                continue;
            };
            let memory = batch.get_array_memory_size();
            if memory > self.job.memory / 2 {
                return Err(EngineError::TooLarge("some of its rows are larger than the limit"));
            }
            let rows = self.columns.of(&batch)?;
            let from = self.row;
            self.row += rows.len();
            let live = self.live.as_ref().map(|live| live.slice(from, rows.len()));
            let shown = self.filter.as_ref().map(|filter| filter.shown(&rows)).transpose()?;
            let kept = match (live, shown) {
                (Some(live), Some(shown)) => &live & &shown,
                (Some(kept), None) | (None, Some(kept)) => kept,
                (None, None) => return Ok(Some(rows)),
            };
            match kept.count_set_bits() {
                0 => {}
                all if all == rows.len() => return Ok(Some(rows)),
                _ => return Ok(Some(keep(&rows, kept)?)),
            }
        }
    }

    fn begin(&mut self, index: usize) -> Result<Group, EngineError> {
        let (pages, left) = (self.fetcher.next()?, self.file.rows_of(index)?);
        let trouble = pages.trouble();
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(pages, self.columns.file.clone())
            .with_row_groups(vec![index])
            .with_projection(self.columns.projection())
            .with_batch_size(self.batch_rows(index)?)
            .build()
            .map_err(|error| failed(&trouble, Some(error)))?;
        Ok(Group { reader, trouble, left })
    }

    /// Returns the number of rows of a row group to decode at once, based on the sizes in the footer.
    fn batch_rows(&self, index: usize) -> Result<usize, EngineError> {
        let group = self.file.metadata.row_group(index);
        let mut bytes = 0_u64;
        for column in self.columns.leaves.iter().filter_map(|leaf| group.columns().get(*leaf)) {
            let values = u64::try_from(column.num_values()).unwrap_or(u64::MAX);
            bytes = bytes.saturating_add(values.saturating_mul(size_of::<u128>() as u64));
            if matches!(column.column_type(), PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY) {
                bytes = bytes.saturating_add(u64::try_from(column.uncompressed_size()).unwrap_or(u64::MAX));
            }
        }
        let row = bytes / (self.file.rows_of(index)? as u64).max(1);
        match (self.job.memory / 8) as u64 / row.max(1) {
            0 => Err(EngineError::TooLarge("some of its rows are larger than the limit")),
            rows => Ok(usize::try_from(rows).unwrap_or(BATCH_ROWS).min(BATCH_ROWS)),
        }
    }
}

impl Group {
    /// Returns the next rows; `None` after exactly as many rows as the footer states.
    fn next(&mut self) -> Result<Option<RecordBatch>, EngineError> {
        match self.reader.next() {
            Some(Ok(batch)) => {
                let left = self.left.checked_sub(batch.num_rows());
                self.left = left.ok_or(EngineError::corrupt("it has more rows than its footer says"))?;
                Ok(Some(batch))
            }
            // Arrow's message may quote values.
            Some(Err(_)) => Err(failed(&self.trouble, None)),
            None if self.left > 0 => Err(EngineError::corrupt("it has fewer rows than its footer says")),
            None => Ok(None),
        }
    }
}

/// Returns the reason why the decoder failed: an error beneath it, else the file itself.
fn failed(trouble: &Trouble, error: Option<ParquetError>) -> EngineError {
    let noted = trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
    noted.unwrap_or_else(|| match error {
        Some(error) => undecodable("it cannot be decoded", error),
        None => EngineError::corrupt("it cannot be decoded"),
    })
}

/// Returns the rows that are `kept`.
pub(super) fn keep(rows: &StructArray, kept: BooleanBuffer) -> Result<StructArray, EngineError> {
    let kept = filter(rows, &BooleanArray::new(kept, None)).map_err(|_| EngineError::Overflow)?;
    kept.as_any().downcast_ref::<StructArray>().cloned().ok_or(EngineError::Overflow)
}
