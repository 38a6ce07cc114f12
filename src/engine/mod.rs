//! Makes governed files: one source file of a table, or several mixed ([`mix`]), become one file with exactly what a
//! view shows of them.
//!
//! Start at [`Engine::make`]. A source file is read ([`scan`]) and mapped to the table's columns ([`columns`]); deleted
//! rows and rows hidden by a condition ([`condition`]) are left out; the view's columns are computed from the rest
//! ([`output`], [`masking`], [`surrogates`]), cut into batches that reveal nothing of the removed rows ([`cut`]), and written
//! ([`writer`]). The home of DataFusion. Never here: the choice of the view, its recipients, and the place of its
//! files.

mod columns;
mod condition;
mod cut;
mod error;
mod file;
mod footer;
mod job;
mod json;
mod masking;
mod mix;
mod output;
mod partition;
mod sample;
mod scan;
mod statistics;
mod surrogates;
mod types;
mod wanted;
mod writer;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::{array::Array, buffer::BooleanBuffer};
use chrono::NaiveDate;
use object_store::{ObjectStore, path::Path};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    domain::{
        catalog::{
            classes::Sample,
            delta::Metadata,
            schema::{ColumnPath, Field, Schema},
            view::{
                mask::{LowZips, Mask, PseudonymKeys},
                plan::{Output, ViewPlan},
                row_filter::Condition,
            },
        },
        materialize::copy::ShuffleKey,
    },
    lake::{DeletionVector, FileRef},
    storage::TableLocation,
};

pub use error::EngineError;
pub use footer::Footer;
pub use surrogates::Surrogates;
pub use wanted::ColumnMapping;

use condition::Filter;
use file::ParquetFile;
use job::Job;
use mix::{Draw, Numbers};
use output::Outputs;
use scan::Scan;
use statistics::Statistics;
use wanted::{Marks, Wanted};
use writer::Writer;

/// The least memory that a job can work with, in bytes.
const LEAST_MEMORY: u64 = 64 << 20;

/// The limits on the engine's use of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// The number of governed files made at once; as many previews and counts may run in addition.
    pub concurrent_files: usize,
    /// The memory that each of them may use for reading, in bytes; at least 64 MiB. A file with a part that does not
    /// fit is refused. Writing takes up to 150 MiB in addition, whatever the file, and mixing up to half of this value.
    pub job_memory_bytes: u64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { concurrent_files: 2, job_memory_bytes: 256 << 20 }
    }
}

/// Makes governed files. Cheap to clone; clones share the limits.
#[derive(Clone, Debug)]
pub struct Engine {
    memory: usize,
    files: Arc<Semaphore>,
    looks: Arc<Semaphore>,
}

/// One source file of a table as a snapshot describes it; made by [`Self::new`] alone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SourceFile {
    /// The table's location.
    pub location: TableLocation,
    /// The path in the table's store, resolved under the table.
    pub path: Path,
    /// The size stated in the log, in bytes.
    pub size: u64,
    /// The table's columns.
    pub schema: Arc<Schema>,
    /// The way in which files name the columns.
    pub mapping: ColumnMapping,
    /// The file's partition values by physical name, as written in the log.
    pub partition_values: Vec<(String, Option<String>)>,
    /// The physical names of partition columns for which the log has no value in this file.
    pub unsaid: Vec<String>,
    /// The deletion vector, if rows of the file are deleted.
    pub deletion_vector: Option<DeletionVector>,
    /// Columns known to have been added to the table after the file. Where the file lacks them they are NULL, even if a
    /// mask or row filter reads them.
    pub added_later: Vec<ColumnPath>,
}

/// The rules for a copy: the plan, the condition, and the keys.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The view's plan.
    pub plan: Arc<ViewPlan>,
    /// The condition for rows to be shown; without one, all rows are shown.
    pub condition: Option<Condition>,
    /// The keys for pseudonyms.
    pub keys: PseudonymKeys,
    /// The current day, in UTC.
    pub today: NaiveDate,
    /// The ZIP prefixes that must not be shown.
    pub zips: LowZips,
    /// The surrogates of the file's values, if the view shows surrogates.
    pub surrogates: Surrogates,
}

/// The result of making a governed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The file's size in bytes; 0 if there is no file because no row is shown.
    pub bytes: u64,
    /// The number of rows.
    pub rows: u64,
    /// The statistics, in the text form of a log.
    pub stats: String,
}

/// Why several files could not be mixed, and which of them caused it.
#[derive(Clone, Debug)]
pub struct MixFault {
    /// The index of the source file that caused the fault, if one did.
    pub file: Option<usize>,
    /// The cause.
    pub error: EngineError,
}

impl From<EngineError> for MixFault {
    fn from(error: EngineError) -> Self {
        Self { file: None, error }
    }
}

/// The number of rows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The rows that are not deleted.
    pub live: u64,
    /// The live rows that are shown.
    pub shown: u64,
}

impl SourceFile {
    /// Describes a file of the table at `location`, whose log has `metadata`. `schema` is parsed from that metadata.
    pub fn new(
        location: &TableLocation,
        metadata: &Metadata,
        schema: &Arc<Schema>,
        file: &FileRef<'_>,
    ) -> Result<Self, EngineError> {
        let unsaid: Vec<String> = file.unsaid_partition_columns().map(str::to_owned).collect();
        let values = file.partition_values().map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        Ok(Self {
            location: location.clone(),
            path: location.resolve(file.path)?,
            size: file.size,
            schema: Arc::clone(schema),
            mapping: ColumnMapping::of(metadata),
            partition_values: values.filter(|(name, _)| !unsaid.contains(name)).collect(),
            unsaid,
            deletion_vector: file.deletion_vector.map(DeletionVector::from),
            added_later: Vec::new(),
        })
    }

    fn live_rows(&self, job: &Job, rows: usize) -> Result<Option<BooleanBuffer>, EngineError> {
        let Some(vector) = &self.deletion_vector else { return Ok(None) };
        Ok(Some(job.wait(vector.live_rows(&self.location, rows))??))
    }

    /// Returns the columns to read for `marks` and `condition`.
    fn wanted(&self, mut marks: Marks, condition: Option<&Condition>) -> Result<Vec<Wanted>, EngineError> {
        for column in condition.iter().flat_map(|condition| condition.columns()) {
            marks.column(&column);
        }
        marks.of(&self.schema.fields, self.mapping)
    }
}

impl Rules {
    /// Opens `source` for those columns of the view that `is_made` selects.
    fn open(
        &self,
        job: &Job,
        source: &SourceFile,
        is_made: impl Fn(&Field) -> bool,
    ) -> Result<(Scan, Outputs), EngineError> {
        let mut marks = Marks::default();
        let shown = self.plan.schema.fields.iter().zip(&self.plan.outputs).filter(|(field, _)| is_made(field));
        shown.for_each(|(_, output)| marks.outputs(std::slice::from_ref(output)));
        let wanted = source.wanted(marks, self.condition.as_ref())?;
        let filter = self.condition.as_ref().map(|condition| Filter::new(condition, &wanted)).transpose()?;
        let scan = Scan::open(job, source, &wanted, filter)?;
        Ok((scan, Outputs::new(self, wanted, is_made)?))
    }
}

/// Whether a shown column has surrogates in it.
fn shows_surrogates(output: &Output) -> bool {
    match output {
        Output::Value { mask, .. } => matches!(mask, Some(Mask::Surrogate { .. })),
        Output::Struct { fields, .. } => fields.iter().any(|field| shows_surrogates(&field.output)),
        Output::List { element, .. } => shows_surrogates(element),
        Output::Map { value, .. } => shows_surrogates(value),
    }
}

/// Builds the error for a panic in a decoder, which is caused by the file.
fn undecodable() -> EngineError {
    EngineError::corrupt("it cannot be decoded")
}

impl Engine {
    /// Creates an engine.
    pub fn new(settings: EngineSettings) -> Self {
        let permits = || Arc::new(Semaphore::new(settings.concurrent_files.clamp(1, Semaphore::MAX_PERMITS)));
        let memory = usize::try_from(settings.job_memory_bytes.max(LEAST_MEMORY)).unwrap_or(usize::MAX);
        Self { memory, files: permits(), looks: permits() }
    }

    /// Writes the governed file of `source` to `path` in `store`: the shown rows, with the view's columns except
    /// partition columns. If no row is shown, nothing is written.
    ///
    /// The same source and rules always give the same bytes. If the caller goes away before the end, the work stops,
    /// and everything written is removed.
    pub async fn make(
        &self,
        source: SourceFile,
        rules: Arc<Rules>,
        store: Arc<dyn ObjectStore>,
        path: Path,
    ) -> Result<Made, EngineError> {
        Job::run(Arc::clone(&self.files), self.memory, move |job| {
            let is_made = |field: &Field| !rules.plan.partition_columns.contains(&field.name);
            let statistics = Statistics::of(&rules.plan, is_made);
            let (mut scan, outputs) = rules.open(&job, &source, is_made)?;
            let mut writer = Writer::new(&job, outputs.fields(), statistics, store, path)?;
            let mut make = || {
                while let Some(rows) = scan.next()? {
                    writer.write(outputs.of(rows)?)?;
                }
                writer.finish()
            };
            // Decoders panic on some malformed files; the parts already sent must be removed then too.
            let made = catch_unwind(AssertUnwindSafe(&mut make));
            let made = made.unwrap_or_else(|_| Err(undecodable()));
            if made.is_err() {
                writer.abandon();
            }
            made
        })
        .await
    }

    /// Writes one governed file of several source files with equal shown partition values to `path` in `store`: the
    /// same rows as [`Self::make`] writes for each, in an order that is determined by `key` alone.
    ///
    /// The same sources, rules and key always give the same bytes, regardless of memory. Sources that do not fit into
    /// memory are read several times.
    pub async fn mix(
        &self,
        sources: Vec<SourceFile>,
        rules: Arc<Rules>,
        key: ShuffleKey,
        store: Arc<dyn ObjectStore>,
        path: Path,
    ) -> Result<Made, MixFault> {
        let made = Job::run(Arc::clone(&self.files), self.memory, move |job| {
            let is_made = |field: &Field| !rules.plan.partition_columns.contains(&field.name);
            let Some(first) = sources.first() else { return Err(EngineError::Missing) };
            let fields = match rules.open(&job, first, is_made) {
                Ok((_, outputs)) => outputs.fields().clone(),
                Err(error) => return Ok(Err(MixFault { file: Some(0), error })),
            };
            let mut writer = Writer::new(&job, &fields, Statistics::of(&rules.plan, is_made), store, path)?;
            let mut at = None;
            let mut make = || {
                let mut draw = Some(Draw::first(job.memory / 2));
                while let Some(mut drawn) = draw.take() {
                    for (index, source) in sources.iter().enumerate() {
                        at = Some(index);
                        let mut numbers = Numbers::of(&key, index);
                        let (mut scan, outputs) = rules.open(&job, source, is_made)?;
                        while let Some(rows) = scan.next()? {
                            drawn.take(&rows, &mut numbers, |rows| outputs.of(rows))?;
                        }
                    }
                    at = None;
                    drawn.write(|rows| writer.write(rows))?;
                    draw = drawn.next()?;
                }
                writer.finish()
            };
            let made = catch_unwind(AssertUnwindSafe(&mut make)).unwrap_or_else(|_| Err(undecodable()));
            if made.is_err() {
                writer.abandon();
            }
            Ok(made.map_err(|error| MixFault { file: at, error }))
        });
        made.await?
    }

    /// Lists the digests of the values that the first `limit` shown rows of each source file show as surrogates, each
    /// once and in no order. Nothing is read if the view shows none.
    pub async fn surrogate_digests(
        &self,
        sources: Vec<SourceFile>,
        rules: Arc<Rules>,
        limit: usize,
    ) -> Result<Vec<Uuid>, MixFault> {
        let shown = rules.plan.schema.fields.iter().zip(&rules.plan.outputs);
        let shown = shown.filter(|(_, output)| shows_surrogates(&output.output)).map(|(field, _)| field.name.clone());
        let names: Vec<String> = shown.collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let listed = Job::run(Arc::clone(&self.looks), self.memory, move |job| {
            let surrogates = Surrogates::listing(job.memory);
            let rules = Rules { surrogates: surrogates.clone(), ..(*rules).clone() };
            let list = |source: &SourceFile| -> Result<(), EngineError> {
                let (mut scan, outputs) = rules.open(&job, source, |field| names.contains(&field.name))?;
                let mut left = limit;
                while left > 0
                    && let Some(rows) = scan.next()?
                {
                    let rows = rows.slice(0, rows.len().min(left));
                    left -= rows.len();
                    outputs.of(rows)?;
                }
                Ok(())
            };
            for (at, source) in sources.iter().enumerate() {
                let listed = catch_unwind(AssertUnwindSafe(|| list(source))).unwrap_or_else(|_| Err(undecodable()));
                if let Err(error) = listed {
                    return Ok(Err(MixFault { file: Some(at), error }));
                }
            }
            Ok(Ok(surrogates.listed()))
        });
        listed.await?
    }

    /// Returns the first `limit` rows of `source` as the view shows them, including partition values.
    pub async fn preview(
        &self,
        source: SourceFile,
        rules: Arc<Rules>,
        limit: usize,
    ) -> Result<Vec<Map<String, Value>>, EngineError> {
        Job::run(Arc::clone(&self.looks), self.memory, move |job| {
            let (mut scan, outputs) = rules.open(&job, &source, |_| true)?;
            let mut shown = Vec::new();
            while shown.len() < limit
                && let Some(rows) = scan.next()?
            {
                let rows = rows.slice(0, rows.len().min(limit - shown.len()));
                shown.extend(json::rows(&outputs.of(rows)?));
            }
            Ok(shown)
        })
        .await
    }

    /// Takes up to `rows` values of each of the columns at `paths` from the first rows of `source`: for each path those that
    /// are not null.
    pub async fn sample(
        &self,
        source: SourceFile,
        paths: Vec<ColumnPath>,
        rows: usize,
    ) -> Result<Vec<Vec<Sample>>, EngineError> {
        Job::run(Arc::clone(&self.looks), self.memory, move |job| {
            let mut marks = Marks::default();
            paths.iter().for_each(|path| marks.value(path));
            let mut scan = Scan::open(&job, &source, &source.wanted(marks, None)?, None)?;
            let mut taken = vec![Vec::new(); paths.len()];
            let mut left = rows;
            while left > 0
                && let Some(batch) = scan.next()?
            {
                let batch = batch.slice(0, batch.len().min(left));
                left -= batch.len();
                for (path, taken) in paths.iter().zip(&mut taken) {
                    sample::take(&batch, &path.0, rows, taken);
                }
            }
            Ok(taken)
        })
        .await
    }

    /// Counts the live rows of `source`, and those of them that `condition` shows.
    pub async fn count(&self, source: SourceFile, condition: Option<Condition>) -> Result<Counted, EngineError> {
        Job::run(Arc::clone(&self.looks), self.memory, move |job| {
            let wanted = source.wanted(Marks::default(), condition.as_ref())?;
            let filter = condition.as_ref().map(|condition| Filter::new(condition, &wanted)).transpose()?;
            let has_condition = filter.is_some();
            let mut scan = Scan::open(&job, &source, &wanted, filter)?;
            let live = scan.live_rows() as u64;
            let mut shown = 0;
            while has_condition && let Some(rows) = scan.next()? {
                shown += rows.len() as u64;
            }
            Ok(Counted { live, shown: if has_condition { shown } else { live } })
        })
        .await
    }

    /// Reads the data that a Parquet file's footer discloses when the file is passed on unchanged.
    pub async fn footer(&self, location: &TableLocation, path: &Path, size: u64) -> Result<Footer, EngineError> {
        let (location, path) = (location.clone(), path.clone());
        Job::run(Arc::clone(&self.looks), self.memory, move |job| {
            Footer::of(&ParquetFile::open(&job, &location, &path, size)?.metadata)
        })
        .await
    }
}
