//! Writes a governed file: Parquet with nothing but its rows, and always the same bytes for the same rows.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, StructArray},
    datatypes::{Fields, Schema},
};
use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, buffered::BufWriter, path::Path};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath as ParquetPath,
};
use tokio::io::AsyncWriteExt;

use super::{EngineError, Made, cut::Cutter, job::Job, statistics::Statistics};

/// The writer's name in the footer. It has no version, because the bytes must not change with releases.
const CREATED_BY: &str = "weir";
/// The most rows in a row group; see also [`ROW_GROUP_BYTES`]. All limits here are fixed, so that servers with
/// different settings write the same file.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// The most bytes in a row group, as written. A row group is held in memory until it ends, and once more while it is
/// sent.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// The number of bytes collected before they are sent.
const PART: usize = 8 << 20;
/// The number of parts that are sent at once.
const PARTS: usize = 2;

/// A governed file that is being written.
pub(super) struct Writer {
    job: Job,
    cutter: Cutter,
    file: File,
}

struct File {
    parquet: ArrowWriter<Vec<u8>>,
    store: Arc<dyn ObjectStore>,
    path: Path,
    upload: BufWriter,
    /// Whether the whole file was sent, so that it may exist in the store.
    is_ended: bool,
    statistics: Statistics,
    bytes: u64,
    rows: u64,
}

impl Writer {
    /// Starts a file with these columns at `path` in `store`. Only the leaves in `statistics` get column statistics.
    pub(super) fn new(
        job: &Job,
        fields: &Fields,
        statistics: Statistics,
        store: Arc<dyn ObjectStore>,
        path: Path,
    ) -> Result<Self, EngineError> {
        let schema = Arc::new(Schema::new(fields.clone()));
        let level = ZstdLevel::try_new(1).map_err(unwritable)?;
        let mut properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_statistics_enabled(EnabledStatistics::None);
        for leaf in statistics.leaves() {
            properties =
                properties.set_column_statistics_enabled(ParquetPath::new(leaf.to_vec()), EnabledStatistics::Page);
        }
        let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
        let parquet =
            ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options).map_err(unwritable)?;
        let upload = BufWriter::with_capacity(Arc::clone(&store), path.clone(), PART).with_max_concurrency(PARTS);
        let file = File { parquet, store, path, upload, is_ended: false, statistics, bytes: 0, rows: 0 };
        Ok(Self { job: job.clone(), cutter: Cutter::new(schema), file })
    }

    /// Adds rows.
    pub(super) fn write(&mut self, rows: StructArray) -> Result<(), EngineError> {
        let (job, file) = (&self.job, &mut self.file);
        self.cutter.push(rows, |batch| file.write(job, &batch))
    }

    /// Finishes the file. Without any rows, no file is written.
    pub(super) fn finish(&mut self) -> Result<Made, EngineError> {
        let (job, file) = (&self.job, &mut self.file);
        self.cutter.end(|batch| file.write(job, &batch))?;
        if file.rows == 0 {
            return Ok(Made { bytes: 0, rows: 0, stats: file.statistics.json(0, &[]) });
        }
        let footer = file.parquet.finish().map_err(unwritable)?;
        file.send(job)?;
        file.is_ended = true;
        job.wait(file.upload.shutdown())?.map_err(EngineError::full)?;
        // If the caller is gone, the file must be abandoned.
        job.go_on()?;
        Ok(Made { bytes: file.bytes, rows: file.rows, stats: file.statistics.json(file.rows, footer.row_groups()) })
    }

    /// Removes everything that was sent, as far as possible.
    pub(super) fn abandon(mut self) {
        let file = &mut self.file;
        let undone = match file.is_ended {
            false => self.job.finish(file.upload.abort()),
            true => self.job.finish(file.store.delete(&file.path)),
        };
        if let Err(error) = undone
            && !matches!(error, object_store::Error::NotFound { .. })
        {
            tracing::warn!(%error, "what was written of an abandoned copy could not be removed");
        }
    }
}

impl File {
    fn write(&mut self, job: &Job, batch: &RecordBatch) -> Result<(), EngineError> {
        job.go_on()?;
        self.statistics.see(batch);
        let row_groups = self.parquet.flushed_row_groups().len();
        self.parquet.write(batch).map_err(unwritable)?;
        self.rows += batch.num_rows() as u64;
        if self.parquet.flushed_row_groups().len() > row_groups {
            self.send(job)?;
        }
        Ok(())
    }

    fn send(&mut self, job: &Job) -> Result<(), EngineError> {
        let bytes = Bytes::from(std::mem::take(self.parquet.inner_mut()));
        self.bytes += bytes.len() as u64;
        job.wait(self.upload.put(bytes))?.map_err(EngineError::full)
    }
}

/// Builds the error for a failed encoding. The message is dropped because it may quote a value. The encoder supports
/// all types that can be shown, so this should not happen.
fn unwritable(_: ParquetError) -> EngineError {
    EngineError::Unsupported("a column that the view shows cannot be written")
}
