//! Governed files: one source file of a table, or several that are mixed ([`mix`]), become one file that holds what a view
//! shows of them, and nothing else.
//!
//! Start at [`Engine::make`]. A source file is read ([`scan`]) as the table's columns whatever it calls them
//! ([`columns`]), its deleted rows and those that a condition hides ([`condition`]) are left out, the view's columns are
//! made of what remains ([`output`], [`masking`]), cut into batches that say nothing of what is gone ([`cut`]), and
//! written ([`writer`]). The home of DataFusion. Never here: which view, for whom, and where its files are kept.

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
mod scan;
mod statistics;
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

use crate::{
    domain::{
        catalog::{
            delta::Metadata,
            schema::{ColumnPath, Field, Schema},
            view::{
                mask::{LowZips, PseudonymKeys},
                plan::ViewPlan,
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

/// How much of the machine the engine may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Governed files that are made at once; as many previews and counts run beside them.
    pub concurrent_files: usize,
    /// Memory that each of them may take for what it reads, in bytes; at least 64 MiB. A file of which a part does not
    /// fit is refused. What is written takes up to 150 MiB beside, whatever the file, and rows that are mixed up to half as
    /// much again.
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
    /// The table.
    pub location: TableLocation,
    /// The file in the table's store, resolved under the table.
    pub path: Path,
    /// Its size as the log has it, in bytes.
    pub size: u64,
    /// The table's columns.
    pub schema: Arc<Schema>,
    /// How its files call them.
    pub mapping: ColumnMapping,
    /// The file's partition values by physical name, as the log spells them.
    pub partition_values: Vec<(String, Option<String>)>,
    /// Partition columns, by physical name, of which the log does not say what they are in the file.
    pub unsaid: Vec<String>,
    /// Which of its rows are deleted.
    pub deletion_vector: Option<DeletionVector>,
    /// Columns of which it is known that they were added to the table when the file was in it already: what it lacks of
    /// them is NULL, whoever reads them.
    pub added_later: Vec<ColumnPath>,
}

/// What rules a copy: the plan, the rows, and the keys.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The view.
    pub plan: Arc<ViewPlan>,
    /// Which rows are shown; all of them where there is none.
    pub condition: Option<Condition>,
    /// What pseudonyms are made with.
    pub keys: PseudonymKeys,
    /// The day, in UTC.
    pub today: NaiveDate,
    /// The ZIP prefixes that are not shown.
    pub zips: LowZips,
}

/// A governed file that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its size; 0 where there is none, because no row is shown.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Its statistics, as the text that a log holds.
    pub stats: String,
}

/// Why several files could not become one, and at which of them that showed.
#[derive(Clone, Debug)]
pub struct MixFault {
    /// The place of the file among those that were mixed, where it was one of them.
    pub file: Option<usize>,
    /// Why.
    pub error: EngineError,
}

impl From<EngineError> for MixFault {
    fn from(error: EngineError) -> Self {
        Self { file: None, error }
    }
}

/// How many rows a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// That are not deleted.
    pub live: u64,
    /// That are shown, of those.
    pub shown: u64,
}

impl SourceFile {
    /// A file of a table at `location`, whose log says `metadata`, with `schema` read from it.
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

    /// What has to be read of it for `outputs` and `condition`.
    fn wanted(&self, mut marks: Marks, condition: Option<&Condition>) -> Result<Vec<Wanted>, EngineError> {
        for column in condition.iter().flat_map(|condition| condition.columns()) {
            marks.column(&column);
        }
        marks.of(&self.schema.fields, self.mapping)
    }
}

impl Rules {
    /// Reads `source` as the view's columns, those that `is_made` picks.
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

/// What a decoder takes for its own mistake is the file's.
fn undecodable() -> EngineError {
    EngineError::corrupt("it cannot be decoded")
}

impl Engine {
    /// An engine that has made nothing yet.
    pub fn new(settings: EngineSettings) -> Self {
        let permits = || Arc::new(Semaphore::new(settings.concurrent_files.clamp(1, Semaphore::MAX_PERMITS)));
        let memory = usize::try_from(settings.job_memory_bytes.max(LEAST_MEMORY)).unwrap_or(usize::MAX);
        Self { memory, files: permits(), looks: permits() }
    }

    /// Writes the governed file of `source` to `path` in `store`: the view's columns that are no partition values, of
    /// the rows that are shown. Where no row is shown, nothing is written.
    ///
    /// The same source and rules give the same bytes. If the caller goes away before the end, the work stops, and what
    /// was written is taken back.
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
            // Decoders panic on some malformed files; what was sent has to go all the same.
            let made = catch_unwind(AssertUnwindSafe(&mut make));
            let made = made.unwrap_or_else(|_| Err(undecodable()));
            if made.is_err() {
                writer.abandon();
            }
            made
        })
        .await
    }

    /// Writes one governed file of several source files, whose shown partition values are the same, to `path` in `store`:
    /// what [`Self::make`] writes of each, its rows in an order that `key` alone tells.
    ///
    /// The same sources, rules and key give the same bytes, whatever the memory. Sources that do not fit into it are read
    /// several times.
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

    /// The first `limit` rows of `source` as the view shows them, partition values among them.
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

    /// How many rows of `source` are live, and how many of them `condition` shows.
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

    /// What a Parquet file tells whoever is handed it as it is.
    pub async fn footer(&self, location: &TableLocation, path: &Path, size: u64) -> Result<Footer, EngineError> {
        let (location, path) = (location.clone(), path.clone());
        Job::run(Arc::clone(&self.looks), self.memory, move |job| {
            Footer::of(&ParquetFile::open(&job, &location, &path, size)?.metadata)
        })
        .await
    }
}
