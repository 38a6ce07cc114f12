//! Reads logs with the Delta kernel: a whole snapshot, or the next one from the one before.
//!
//! The kernel blocks, so it runs on blocking threads, a limited number at once. It reads everything through a
//! [`LogStore`].

use std::{collections::BTreeMap, future::Future, num::NonZero, sync::Arc};

use arrow::array::{AsArray, StructArray};
use delta_kernel::{
    DeltaResult, Engine, EvaluationHandler, FileDataReadResultIterator, FileMeta, JsonHandler, ParquetFooter,
    ParquetHandler, PredicateRef, Snapshot as KernelSnapshot, SnapshotRef, StorageHandler,
    engine::arrow_data::ArrowEngineData, engine_data::FilteredEngineData, scan::StatsOptions, schema::SchemaRef,
};
use delta_kernel_engine::{DefaultEngine, DefaultEngineBuilder, executor::TaskExecutor};
use futures::{FutureExt, future::BoxFuture};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{runtime::Handle, sync::Semaphore};
use url::Url;

use crate::{
    domain::catalog::delta::{Metadata, Protocol, required_features},
    storage::TableLocation,
};

use super::{
    actions::{LogJson, read_files},
    checkpoint,
    disclosed_stats::StatsShape,
    error::{Cause, LakeError, LogFault},
    files::{Dropped, Files, FilesBuilder},
    flaw,
    log_store::{Failure, Hidden, LogLimits, LogStore, LogTip},
    snapshot::{Column, Origin, Snapshot, columns},
};

/// The table's URL for the kernel: the root of a store that contains only this table.
const ROOT: &str = "delta:///";

/// The table property that, when false, leaves the statistics' text out of checkpoints.
const STATS_AS_JSON: &str = "delta.checkpoint.writeStatsAsJson";

/// The reader features with which this server reads a log and lists its files correctly. Whether a client can read
/// those files is decided elsewhere.
const READABLE_FEATURES: [&str; 11] = [
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "variantType",
    "variantType-preview",
    "variantShredding",
    "variantShredding-preview",
];

/// The number of commits or checkpoint parts to read ahead. This and the number of rows per batch trade memory for
/// fewer waits.
const READ_AHEAD_FILES: usize = 16;
const BATCH_ROWS: usize = 8 * 1024;

/// If the checkpoint of a snapshot is at least this many commits older than the newest one, the snapshot is advanced
/// from the newest checkpoint.
const COMMITS_KEPT: u64 = 100;

/// The number of checkpoints besides the newest that are tried before a log is read without checkpoints.
const OTHER_CHECKPOINTS: usize = 3;

/// The result of a look at a log.
#[derive(Debug)]
pub(super) struct Looked {
    /// The newest version.
    pub(super) newest: Option<LogTip>,
    /// The file that proves the known version, as it is now.
    pub(super) at_known: Option<LogTip>,
    /// Whether all files that the newest version needs are still there. A missing commit counts even if it was read
    /// before.
    pub(super) is_whole: bool,
    /// The newest complete checkpoint at or before the known version, if one was listed. A later look starts with it.
    pub(super) checkpoint: Option<u64>,
}

/// Loads and advances snapshots.
#[derive(Clone, Debug)]
pub(super) struct Loader {
    limits: LogLimits,
    permits: Arc<Semaphore>,
}

impl Loader {
    pub(super) fn new(limits: LogLimits, concurrent_loads: usize) -> Self {
        Self { limits, permits: Arc::new(Semaphore::new(concurrent_loads.max(1))) }
    }

    /// Lists the log to find the newest version and the file that now proves `known`. The listing starts at `begins`, a
    /// checkpoint or commit from which the known version can be read.
    pub(super) async fn probe(
        &self,
        location: &TableLocation,
        known: Option<u64>,
        begins: Option<u64>,
    ) -> Result<Looked, LakeError> {
        let store = self.store(location);
        let probed = store.probe(begins, known).await.map_err(|error| match store.failure() {
            Some(Failure::Log(LogFault::MissingFile)) => not_a_table(location),
            _ => failed(location, &store, error),
        });
        let (newest, at_known) = probed?;
        let is_whole = newest.as_ref().is_none_or(|newest| store.holds_all_until(newest.version));
        let checkpoint = store.checkpoint_until(known.unwrap_or(u64::MAX));
        Ok(Looked { newest, at_known, is_whole, checkpoint })
    }

    /// Returns the log as a store, for reads without the kernel.
    pub(super) fn store(&self, location: &TableLocation) -> LogStore {
        LogStore::new(location, self.limits, Hidden::default())
    }

    /// Reads `version`, or the newest one, from its checkpoint and commits.
    pub(super) async fn load(&self, location: &TableLocation, version: Option<u64>) -> Result<Snapshot, LakeError> {
        let read = move |log: &Log| {
            let kernel = log.open(version)?;
            let description = Description::of(&kernel)?;
            let files = log.scan(&kernel, &description)?;
            log.snapshot(kernel, description, files)
        };
        self.read_around(location, read).await
    }

    /// Returns the protocol and metadata in force at `version`, without files, and the version of the checkpoint they
    /// were read from, or 0 without one.
    pub(super) async fn describe(
        &self,
        location: &TableLocation,
        version: u64,
    ) -> Result<(Protocol, Metadata, u64), LakeError> {
        let read = move |log: &Log| {
            let kernel = log.open(Some(version))?;
            let Description { protocol, metadata, .. } = Description::of(&kernel)?;
            Ok((protocol, metadata, kernel.log_segment().checkpoint_version.unwrap_or(0)))
        };
        self.read_around(location, read).await
    }

    /// Reads a log; if that fails, reads it again without the shortcuts that may be damaged: first without the pointer
    /// to the last checkpoint, which may outlive its target, then without truncated checkpoints. The commits contain
    /// the same information, as long as they exist.
    async fn read_around<T: Send + 'static>(
        &self,
        location: &TableLocation,
        read: impl Fn(&Log) -> Result<T, Trouble> + Clone + Send + 'static,
    ) -> Result<T, LakeError> {
        let is_log = |error: &LakeError| matches!(error, LakeError::CorruptLog { .. } | LakeError::NotATable { .. });
        let error = match self.read(location, Hidden::default(), read.clone()).await {
            Err(Failed { error, .. }) if is_log(&error) => error,
            outcome => return outcome.map_err(|failed| failed.error),
        };
        let mut hidden = Hidden { hint: true, ..Hidden::default() };
        for checkpoints_left in (0..=OTHER_CHECKPOINTS).rev() {
            let failed = match self.read(location, hidden, read.clone()).await {
                Err(failed) if is_log(&failed.error) => failed,
                outcome => return outcome.map_err(|failed| failed.error),
            };
            let Some(bad) = failed.bad_checkpoint else { break };
            tracing::warn!(
                table.location = location.url(), checkpoint = bad, error = %failed.error,
                "a checkpoint cannot be read; the commits before it are read instead"
            );
            hidden.checkpoints_from = Some(if checkpoints_left > 1 { bad } else { 0 });
        }
        Err(error)
    }

    /// Reads the commits since `base`. Returns `None` if the files must be listed anew: the table was replaced, is
    /// partitioned differently, or commits in between are gone.
    ///
    /// The kernel keeps all commits since the checkpoint it started with. If that one is much older than `checkpoint`,
    /// this starts with the newest checkpoint instead.
    pub(super) async fn advance(
        &self,
        location: &TableLocation,
        base: Arc<Snapshot>,
        checkpoint: Option<u64>,
    ) -> Result<Option<Snapshot>, LakeError> {
        if checkpoint.is_some_and(|checkpoint| checkpoint.saturating_sub(base.begins()) >= COMMITS_KEPT) {
            match self.advance_from(location, Arc::clone(&base), true).await {
                Ok(Some(snapshot)) => return Ok(Some(snapshot)),
                Err(error @ LakeError::Unavailable { .. }) => return Err(error),
                Ok(None) => {}
                Err(error) => tracing::debug!(table.location = location.url(), %error, "no later checkpoint is read"),
            }
        }
        self.advance_from(location, base, false).await
    }

    async fn advance_from(
        &self,
        location: &TableLocation,
        base: Arc<Snapshot>,
        begins_anew: bool,
    ) -> Result<Option<Snapshot>, LakeError> {
        let hidden = match begins_anew {
            true => Hidden::default(),
            false => Hidden { checkpoints_from: Some(base.version + 1), ..Hidden::default() },
        };
        self.read(location, hidden, move |log| {
            let Some(origin) = &base.origin else { return Ok(None) };
            let kernel = match begins_anew {
                true => log.open(None)?,
                false => KernelSnapshot::builder_from(origin.kernel.clone()).build(&log.engine)?,
            };
            if kernel.log_segment().checkpoint_version.is_some_and(|version| version > base.version) {
                return Ok(None);
            }
            let description = Description::of(&kernel)?;
            let is_same_table = description.metadata.id == base.metadata.id
                && *description.partition_columns == *base.files.partition_columns();
            if !is_same_table || kernel.version() <= base.version {
                return Ok(None);
            }
            match log.scan_since(&kernel, base.version, &base.files)? {
                Some(files) => log.snapshot(kernel, description, files).map(Some),
                None => Ok(None),
            }
        })
        .await
        .map_err(|failed| failed.error)
    }

    async fn read<T: Send + 'static>(
        &self,
        location: &TableLocation,
        hidden: Hidden,
        read: impl FnOnce(&Log) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Failed> {
        let store = Arc::new(LogStore::new(location, self.limits, hidden));
        let _permit = self.permits.acquire().await;
        let log = Log { engine: LogEngine::new(store.clone()), store: store.clone(), runtime: Handle::current() };
        let outcome = tokio::task::spawn_blocking(move || read(&log)).await;
        let trouble = match outcome {
            Ok(Ok(read)) => return Ok(read),
            Ok(Err(trouble)) => trouble,
            // The kernel panics on some invalid logs.
            Err(error) if error.is_panic() => Trouble::Log(LogFault::Malformed, Some(Arc::new(error))),
            Err(shutdown) => {
                return Err(Failed { error: unavailable(location, Arc::new(shutdown)), bad_checkpoint: None });
            }
        };
        let bad_checkpoint = store.bad_checkpoint();
        let error = match (store.failure(), trouble) {
            (Some(Failure::Storage(source)), _) => unavailable(location, source),
            (Some(Failure::Log(fault)), trouble) => corrupt(location, fault, trouble.into_source()),
            (None, Trouble::Unsupported(features)) => {
                LakeError::Unsupported { location: location.url().to_owned(), features }
            }
            (None, trouble) if store.saw_nothing() => {
                tracing::debug!(error = ?trouble.into_source(), "no log found");
                not_a_table(location)
            }
            (None, Trouble::Log(fault, source)) => corrupt(location, fault, source),
            (None, Trouble::Kernel(delta_kernel::Error::MaxCatalogVersion(_))) => LakeError::Unsupported {
                location: location.url().to_owned(),
                features: vec!["catalogManaged".to_owned()],
            },
            (None, Trouble::Kernel(error)) => {
                let fault = fault_of(&error);
                let may_be_schema = matches!(fault, LogFault::Malformed | LogFault::Inconsistent);
                match store.schema().filter(|_| may_be_schema).and_then(|text| flaw::of_schema(&text)) {
                    Some(reason) => LakeError::UnreadableSchema { location: location.url().to_owned(), reason },
                    None => corrupt(location, fault, Some(Arc::new(error))),
                }
            }
        };
        Err(Failed { error, bad_checkpoint })
    }
}

/// A failed read.
struct Failed {
    error: LakeError,
    /// The checkpoint that could not be read, if that was the cause.
    bad_checkpoint: Option<u64>,
}

fn not_a_table(location: &TableLocation) -> LakeError {
    LakeError::NotATable { location: location.url().to_owned() }
}

/// Turns a failed read of `store` into an error of the lake.
pub(super) fn failed(location: &TableLocation, store: &LogStore, error: object_store::Error) -> LakeError {
    match store.failure() {
        Some(Failure::Log(fault)) => corrupt(location, fault, Some(Arc::new(error))),
        Some(Failure::Storage(_)) | None => unavailable(location, Arc::new(error)),
    }
}

pub(super) fn corrupt(location: &TableLocation, fault: LogFault, source: Option<Cause>) -> LakeError {
    LakeError::CorruptLog { location: location.url().to_owned(), fault, source }
}

pub(super) fn unavailable(location: &TableLocation, source: Cause) -> LakeError {
    LakeError::Unavailable { location: location.url().to_owned(), source }
}

/// Why a read failed, before the notes of the store are considered.
enum Trouble {
    Kernel(delta_kernel::Error),
    Log(LogFault, Option<Cause>),
    Unsupported(Vec<String>),
}

impl Trouble {
    fn into_source(self) -> Option<Cause> {
        match self {
            Self::Kernel(error) => Some(Arc::new(error)),
            Self::Log(_, source) => source,
            Self::Unsupported(_) => None,
        }
    }
}

impl From<delta_kernel::Error> for Trouble {
    fn from(error: delta_kernel::Error) -> Self {
        Self::Kernel(error)
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Self {
        Self::Log(LogFault::Malformed, Some(Arc::new(error)))
    }
}

impl From<arrow::error::ArrowError> for Trouble {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Log(LogFault::Malformed, Some(Arc::new(error)))
    }
}

/// Parts of the kernel's messages for files missing from a log; it has no error type for that.
const GAPS: [&str; 3] = ["contiguous", "LogSegment end version", "No files in log segment"];

/// Finds the fault behind a kernel error. The kernel has no error types for most faults; unknown ones count as
/// malformed.
fn fault_of(error: &delta_kernel::Error) -> LogFault {
    use delta_kernel::Error as Kernel;
    match error {
        Kernel::Backtraced { source, .. } => fault_of(source),
        Kernel::FileNotFound(_) => LogFault::MissingFile,
        Kernel::InvalidCheckpoint(_) => LogFault::Gap,
        Kernel::Generic(message) if GAPS.iter().any(|gap| message.contains(gap)) => LogFault::Gap,
        Kernel::Generic(message) if message.contains("artition column") => LogFault::Inconsistent,
        Kernel::MissingMetadata | Kernel::MissingProtocol | Kernel::MissingMetadataAndProtocol => LogFault::Incomplete,
        Kernel::InvalidProtocol(_)
        | Kernel::InvalidColumnMappingMode(_)
        | Kernel::Schema(_)
        | Kernel::Unsupported(_) => LogFault::Inconsistent,
        _ => LogFault::Malformed,
    }
}

/// One read of one log.
struct Log {
    engine: LogEngine,
    store: Arc<LogStore>,
    runtime: Handle,
}

impl Log {
    fn open(&self, version: Option<u64>) -> Result<SnapshotRef, Trouble> {
        let mut builder = KernelSnapshot::builder_for(ROOT);
        if let Some(version) = version {
            builder = builder.at_version(version);
        }
        let kernel = builder.build(&self.engine)?;
        // The kernel would take the remaining commits for the whole table.
        if kernel.log_segment().checkpoint_version.is_none() && self.store.tip_at(0).is_none() {
            return Err(Trouble::Log(LogFault::Gap, None));
        }
        Ok(kernel)
    }

    fn scan(&self, kernel: &SnapshotRef, description: &Description) -> Result<Files, Trouble> {
        // Checkpoints may store statistics only as columns. The kernel turns those back into text only if the scan
        // requests columns too, which also makes it parse all existing text; so this is requested only if the table
        // needs it.
        let has_texts = !matches!(
            description.metadata.configuration.get(STATS_AS_JSON),
            Some(value) if value.eq_ignore_ascii_case("false")
        );
        if has_texts && let Some(files) = self.scan_checkpoint(kernel, description)? {
            return Ok(files);
        }
        let stats = if has_texts { StatsOptions::json_only() } else { StatsOptions::all() };
        let scan = kernel.clone().scan_builder().with_stats(stats).without_row_transforms().build()?;
        let mut files = FilesBuilder::new(description.partition_columns.clone());
        for batch in scan.scan_metadata(&self.engine)? {
            let (adds, selection) = rows(batch?.scan_files)?;
            files.push_batch(&adds, field(&adds, "fileConstantValues")?, is_selected(&selection))?;
        }
        Ok(files.finish())
    }

    /// Returns the files of the checkpoint with the later commits applied; `None` if the kernel must read them.
    fn scan_checkpoint(&self, kernel: &SnapshotRef, description: &Description) -> Result<Option<Files>, Trouble> {
        let Some(version) = kernel.log_segment().checkpoint_version else { return Ok(None) };
        let columns = &description.partition_columns;
        match checkpoint::files(&self.store, &self.runtime, kernel.log_segment(), columns) {
            Ok(Some(files)) if kernel.version() > version => self.scan_since(kernel, version, &files),
            Ok(files) => Ok(files),
            Err(source) if matches!(self.store.failure(), Some(Failure::Storage(_))) => {
                Err(Trouble::Log(LogFault::MissingFile, Some(source.into())))
            }
            Err(error) => {
                // The kernel either reads the checkpoint or reports the fault.
                tracing::debug!(%error, "a checkpoint is left to the kernel");
                Ok(None)
            }
        }
    }

    /// Returns the files of `base`, which belong to `version`, with the later commits applied.
    fn scan_since(&self, kernel: &SnapshotRef, version: u64, base: &Files) -> Result<Option<Files>, Trouble> {
        let Some(scan) = kernel.clone().incremental_scan_builder(version).build(&self.engine)? else {
            return Ok(None);
        };
        let listing = scan.into_listing()?;
        let mut dropped = Dropped::default();
        for key in listing.summary.removes.iter().chain(&listing.summary.live_adds) {
            dropped.insert(key.path(), key.dv_unique_id());
        }
        let mut files = FilesBuilder::from_base(base, &dropped)?;
        for batch in listing.add_files {
            let (actions, selection) = rows(batch)?;
            let adds = field(&actions, "add")?;
            files.push_batch(adds, adds, is_selected(&selection))?;
        }
        Ok(Some(files.finish()))
    }

    fn snapshot(&self, kernel: SnapshotRef, description: Description, files: Files) -> Result<Snapshot, Trouble> {
        let version = kernel.version();
        let tip = self.store.tip_at(version).ok_or(Trouble::Log(LogFault::Gap, None))?;
        let in_commit = kernel.get_in_commit_timestamp(&self.engine)?;
        let files = files.with_stats_of(&StatsShape::of(&description.metadata));
        let files = files.map_err(|source| Trouble::Log(LogFault::Malformed, Some(source.into())))?;
        Ok(Snapshot {
            version,
            committed_at: in_commit.unwrap_or_else(|| tip.mark.modified_at.timestamp_millis()),
            required_features: required_features(
                &description.protocol,
                &description.metadata,
                files.has_deletion_vectors(),
            ),
            protocol: description.protocol,
            metadata: description.metadata,
            columns: description.columns,
            size_bytes: files.size_bytes(),
            files,
            schema: kernel.schema(),
            mapping: kernel.table_configuration().column_mapping_mode(),
            origin: Some(Origin { tip, kernel }),
        })
    }
}

fn rows(batch: FilteredEngineData) -> Result<(StructArray, Vec<bool>), Trouble> {
    let (data, selection) = batch.into_parts();
    Ok((StructArray::from(ArrowEngineData::try_from_engine_data(data)?.record_batch().clone()), selection))
}

/// Returns the test for selected rows. The kernel defines rows beyond the end of a selection as selected.
fn is_selected(selection: &[bool]) -> impl Fn(usize) -> bool + '_ {
    |row| selection.get(row).copied().unwrap_or(true)
}

fn field<'a>(rows: &'a StructArray, name: &str) -> Result<&'a StructArray, Trouble> {
    rows.column_by_name(name).and_then(|column| column.as_struct_opt()).ok_or(Trouble::Log(LogFault::Malformed, None))
}

/// A log's description of its table.
struct Description {
    protocol: Protocol,
    metadata: Metadata,
    columns: Vec<Column>,
    /// Physical names.
    partition_columns: Arc<[String]>,
}

/// A protocol action as written in a log. The kernel's own type exposes all of it only through serialization.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProtocolAction {
    min_reader_version: i32,
    min_writer_version: i32,
    reader_features: Option<Vec<String>>,
    writer_features: Option<Vec<String>>,
}

impl From<ProtocolAction> for Protocol {
    fn from(action: ProtocolAction) -> Self {
        Self {
            min_reader_version: action.min_reader_version,
            min_writer_version: action.min_writer_version,
            reader_features: action.reader_features,
            writer_features: action.writer_features,
        }
    }
}

/// A metadata action, for the same reason as [`ProtocolAction`].
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetadataAction {
    id: String,
    name: Option<String>,
    description: Option<String>,
    format: FormatOfFiles,
    schema_string: String,
    partition_columns: Vec<String>,
    created_time: Option<i64>,
    #[serde(default)]
    configuration: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct FormatOfFiles {
    provider: String,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

impl From<MetadataAction> for Metadata {
    fn from(action: MetadataAction) -> Self {
        Self {
            id: action.id,
            name: action.name,
            description: action.description,
            format_provider: action.format.provider,
            format_options: action.format.options,
            schema_string: action.schema_string,
            partition_columns: action.partition_columns,
            configuration: action.configuration,
            created_time: action.created_time,
        }
    }
}

fn spelled_out<T: DeserializeOwned>(action: &impl serde::Serialize) -> Result<T, serde_json::Error> {
    serde_json::to_value(action).and_then(serde_json::from_value)
}

/// Converts the kernel's protocol.
pub(super) fn protocol_of(action: &delta_kernel::actions::Protocol) -> Result<Protocol, serde_json::Error> {
    spelled_out::<ProtocolAction>(action).map(Protocol::from)
}

/// Converts the kernel's metadata.
pub(super) fn metadata_of(action: &delta_kernel::actions::Metadata) -> Result<Metadata, serde_json::Error> {
    spelled_out::<MetadataAction>(action).map(Metadata::from)
}

impl Description {
    fn of(kernel: &SnapshotRef) -> Result<Self, Trouble> {
        let configuration = kernel.table_configuration();
        let protocol = protocol_of(configuration.protocol())?;
        check_readable(&protocol)?;
        let metadata = metadata_of(configuration.metadata())?;
        let schema = kernel.schema();
        let columns = columns(&schema, &metadata);
        let mode = configuration.column_mapping_mode();
        let partition_columns = metadata
            .partition_columns
            .iter()
            .map(|name| schema.field(name).map(|field| field.physical_name(mode).to_owned()))
            .collect::<Option<_>>()
            .ok_or(Trouble::Log(LogFault::Inconsistent, None))?;
        Ok(Self { protocol, metadata, columns, partition_columns })
    }
}

fn check_readable(protocol: &Protocol) -> Result<(), Trouble> {
    let unreadable = unreadable(protocol);
    if unreadable.is_empty() { Ok(()) } else { Err(Trouble::Unsupported(unreadable)) }
}

/// Returns the reader version or features that `protocol` requires and this server does not support.
pub(super) fn unreadable(protocol: &Protocol) -> Vec<String> {
    if protocol.min_reader_version > 3 {
        return vec![format!("minReaderVersion {}", protocol.min_reader_version)];
    }
    let features = protocol.reader_features.iter().flatten();
    features.filter(|feature| !READABLE_FEATURES.contains(&feature.as_str())).cloned().collect()
}

/// The kernel's default engine, restricted to the log.
struct LogEngine {
    inner: DefaultEngine<BlockingThread>,
    json: Arc<dyn JsonHandler>,
    parquet: Arc<dyn ParquetHandler>,
}

impl LogEngine {
    fn new(store: Arc<LogStore>) -> Self {
        let positive = |number| NonZero::new(number).unwrap_or(NonZero::<usize>::MIN);
        let inner = DefaultEngineBuilder::new(store.clone())
            .with_task_executor(Arc::new(BlockingThread(Handle::current())))
            .with_buffer_size(positive(READ_AHEAD_FILES))
            .with_batch_size(positive(BATCH_ROWS))
            .build();
        let json = Arc::new(LogJson { inner: inner.json_handler(), store: store.clone() });
        let parquet = Arc::new(LogParquet { inner: inner.parquet_handler(), store });
        Self { inner, json, parquet }
    }
}

impl Engine for LogEngine {
    fn evaluation_handler(&self) -> Arc<dyn EvaluationHandler> {
        self.inner.evaluation_handler()
    }
    fn storage_handler(&self) -> Arc<dyn StorageHandler> {
        self.inner.storage_handler()
    }
    fn json_handler(&self) -> Arc<dyn JsonHandler> {
        self.json.clone()
    }
    fn parquet_handler(&self) -> Arc<dyn ParquetHandler> {
        self.parquet.clone()
    }
}

/// Reads checkpoints and their sidecars. A log may name a sidecar by URL, which the kernel would fetch from anywhere;
/// such names are refused here.
struct LogParquet {
    inner: Arc<dyn ParquetHandler>,
    store: Arc<LogStore>,
}

impl LogParquet {
    fn check(&self, file: &FileMeta) -> DeltaResult<()> {
        let url = &file.location;
        let is_ours = url.as_str().starts_with(ROOT) && url.query().is_none() && url.path().starts_with("/_delta_log/");
        if is_ours {
            return Ok(());
        }
        self.store.fail(LogFault::OutsideLog);
        Err(delta_kernel::Error::generic("a checkpoint refers to a file outside the log"))
    }
}

impl ParquetHandler for LogParquet {
    fn read_parquet_files(
        &self,
        files: &[FileMeta],
        physical_schema: SchemaRef,
        predicate: Option<PredicateRef>,
    ) -> DeltaResult<FileDataReadResultIterator> {
        files.iter().try_for_each(|file| self.check(file))?;
        let read = |schema| self.inner.read_parquet_files(files, schema, predicate);
        read_files(&self.store, files, &physical_schema, read)
    }

    fn write_parquet_file(
        &self,
        _location: Url,
        _data: delta_kernel::DeltaResultIteratorStatic<Box<dyn delta_kernel::EngineData>>,
    ) -> DeltaResult<()> {
        Err(delta_kernel::Error::Unsupported("the log is read-only".into()))
    }

    fn read_parquet_footer(&self, file: &FileMeta) -> DeltaResult<ParquetFooter> {
        self.check(file)?;
        self.inner.read_parquet_footer(file).inspect_err(|_| self.store.note_bad_checkpoint(file.location.path()))
    }
}

/// Waits for IO on the calling blocking thread. The kernel is called only from such threads, so it never blocks a
/// runtime worker, whatever the flavour of the runtime.
#[derive(Debug)]
struct BlockingThread(Handle);

impl TaskExecutor for BlockingThread {
    type Guard<'a> = tokio::runtime::EnterGuard<'a>;

    fn block_on<T>(&self, task: T) -> T::Output
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        self.0.block_on(task)
    }

    fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.spawn(task);
    }

    fn spawn_blocking<T, R>(&self, task: T) -> BoxFuture<'_, DeltaResult<R>>
    where
        T: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.0.spawn_blocking(task).map(|outcome| outcome.map_err(delta_kernel::Error::join_failure)).boxed()
    }

    fn enter(&self) -> Self::Guard<'_> {
        self.0.enter()
    }
}
