//! Reading logs with the Delta kernel: a snapshot from nothing, or from the one before it.
//!
//! The kernel blocks, so all of this runs on blocking threads, a bounded number at once. Everything it reads comes
//! through a [`LogStore`].

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

/// The table as the kernel sees it: the root of a store that holds nothing else.
const ROOT: &str = "delta:///";

/// The table property that, when false, leaves checkpoints without the text of statistics.
const STATS_AS_JSON: &str = "delta.checkpoint.writeStatsAsJson";

/// Reader features under which a log can be read and its files be listed correctly. Whether a client can read those
/// files is another question.
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

/// Commits or checkpoint parts read ahead, and rows per batch: memory against round trips.
const READ_AHEAD_FILES: usize = 16;
const BATCH_ROWS: usize = 8 * 1024;

/// How far before the newest checkpoint the one may lie, in commits, that a snapshot is advanced from.
const COMMITS_KEPT: u64 = 100;

/// How many checkpoints besides the newest are tried before a log is read without any.
const OTHER_CHECKPOINTS: usize = 3;

/// What a look at a log finds.
#[derive(Debug)]
pub(super) struct Looked {
    /// The newest version.
    pub(super) newest: Option<LogTip>,
    /// What proves the version that was known, as it is now.
    pub(super) at_known: Option<LogTip>,
    /// Whether all that the newest version consists of is there. A commit that is gone is gone for those, too, who read it
    /// before.
    pub(super) is_whole: bool,
    /// The newest whole checkpoint no newer than the known version, where one was listed: a later look begins with it.
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

    /// Looks for the newest version, and at what the file that proves `known` looks like now; `begins` is a checkpoint or
    /// commit that a reader of the known version may begin with, from which the log is listed.
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

    /// The log as a store, for reads that need no kernel.
    pub(super) fn store(&self, location: &TableLocation) -> LogStore {
        LogStore::new(location, self.limits, Hidden::default())
    }

    /// Reads `version`, or the newest, from its checkpoint and commits.
    pub(super) async fn load(&self, location: &TableLocation, version: Option<u64>) -> Result<Snapshot, LakeError> {
        let read = move |log: &Log| {
            let kernel = log.open(version)?;
            let description = Description::of(&kernel)?;
            let files = log.scan(&kernel, &description)?;
            log.snapshot(kernel, description, files)
        };
        self.read_around(location, read).await
    }

    /// The protocol and metadata in force at `version`, without its files, and the checkpoint or commit that they were read
    /// from on.
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

    /// Reads a log around what is only a short cut through it: the pointer to the last checkpoint, which may outlive what
    /// it points to, and checkpoints that were cut short. Commits say the same, as long as they are there.
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

    /// Reads what was committed since `base`. Nothing where the files have to be listed anew: the table was replaced,
    /// or is partitioned differently, or the commits in between are gone.
    ///
    /// The kernel keeps all commits since the checkpoint that it began with. Where that lies far before `checkpoint`, it
    /// begins anew with the newest one.
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
            // The kernel panics on some logs that make no sense.
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

/// A read that came to nothing.
struct Failed {
    error: LakeError,
    /// A checkpoint that could not be read.
    bad_checkpoint: Option<u64>,
}

fn not_a_table(location: &TableLocation) -> LakeError {
    LakeError::NotATable { location: location.url().to_owned() }
}

/// What a failed read of `store` means.
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

/// Why a read came to nothing, before it is known what the store has noted.
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

/// How the kernel, which has no error for it, says that files are missing from a log.
const GAPS: [&str; 3] = ["contiguous", "LogSegment end version", "No files in log segment"];

/// The kernel has no error of its own for most faults of a log; what it cannot say is called malformed.
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
        // The kernel would take the commits that are left for the whole table.
        if kernel.log_segment().checkpoint_version.is_none() && self.store.tip_at(0).is_none() {
            return Err(Trouble::Log(LogFault::Gap, None));
        }
        Ok(kernel)
    }

    fn scan(&self, kernel: &SnapshotRef, description: &Description) -> Result<Files, Trouble> {
        // Checkpoints may keep statistics as columns alone. Those become text again only if the scan asks for columns
        // too, which makes it parse the text of everyone else; so it asks only where the table says that it is needed.
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

    /// The files of the checkpoint, as the commits behind it left them; nothing where the kernel has to read them.
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
                // Whatever is wrong with it, the kernel says it, or knows better.
                tracing::debug!(%error, "a checkpoint is left to the kernel");
                Ok(None)
            }
        }
    }

    /// The files of `base`, which were those of `version`, as the commits behind it left them.
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

/// Rows beyond a selection's end are selected, says the kernel.
fn is_selected(selection: &[bool]) -> impl Fn(usize) -> bool + '_ {
    |row| selection.get(row).copied().unwrap_or(true)
}

fn field<'a>(rows: &'a StructArray, name: &str) -> Result<&'a StructArray, Trouble> {
    rows.column_by_name(name).and_then(|column| column.as_struct_opt()).ok_or(Trouble::Log(LogFault::Malformed, None))
}

/// What a log says about its table.
struct Description {
    protocol: Protocol,
    metadata: Metadata,
    columns: Vec<Column>,
    /// Physical names.
    partition_columns: Arc<[String]>,
}

/// An action as a log spells it. The kernel's own ones show themselves completely only in this form.
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

/// See [`ProtocolAction`].
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

/// A protocol as the kernel read it.
pub(super) fn protocol_of(action: &delta_kernel::actions::Protocol) -> Result<Protocol, serde_json::Error> {
    spelled_out::<ProtocolAction>(action).map(Protocol::from)
}

/// Metadata as the kernel read it.
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

/// What `protocol` asks of a reader and is not met here.
pub(super) fn unreadable(protocol: &Protocol) -> Vec<String> {
    if protocol.min_reader_version > 3 {
        return vec![format!("minReaderVersion {}", protocol.min_reader_version)];
    }
    let features = protocol.reader_features.iter().flatten();
    features.filter(|feature| !READABLE_FEATURES.contains(&feature.as_str())).cloned().collect()
}

/// The kernel's default engine, kept inside the log.
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

/// Reads checkpoints and their sidecars. A log may name a sidecar by URL, and the kernel would fetch it from wherever
/// that is; here it is refused.
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

/// Waits for IO on the blocking thread that asks for it. The kernel is only ever called from such threads, so that no
/// runtime worker is held up, whatever the flavour of the runtime.
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
