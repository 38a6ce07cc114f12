//! Reads the files of a Parquet checkpoint from its columns directly into those of a snapshot.
//!
//! Reads only the columns that a snapshot keeps, with row groups spread over all cores. Answers `None` for unexpected
//! layouts (JSON checkpoints, statistics only as columns, sidecars in unusual places); the kernel reads those and
//! reports their faults. Never here: the commits after the checkpoint.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Int64Array, MapArray, StringArray, StringBuilder,
        StructArray, UInt64Array,
    },
    compute::{filter_record_batch, is_not_null},
    datatypes::Schema,
    error::ArrowError,
    record_batch::RecordBatch,
};
use bytes::{Buf, Bytes, buf::Reader};
use delta_kernel::log_segment::LogSegment;
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        async_reader::MetadataFetch,
    },
    errors::ParquetError,
    file::{
        metadata::ParquetMetaDataReader,
        reader::{ChunkReader, Length},
    },
};
use tokio::runtime::Handle;

use super::{
    files::{
        CHUNK_FILES, CHUNK_STATS, Chunk, Columns, Files, FilesBuilder, deletion_vectors, entry_of, longs, malformed,
        strings,
    },
    log_store::LogStore,
};

/// The parts of an `add` action that a snapshot keeps.
const KEPT: [&str; 6] =
    ["add.path", "add.partitionValues", "add.size", "add.modificationTime", "add.stats", "add.deletionVector"];
/// The columns of [`KEPT`] that a checkpoint must have to be read here.
const NEEDED: [&str; 3] = ["add.path", "add.size", "add.stats"];
/// The column of a checkpoint that names its sidecars. The next constant is the folder of the sidecars.
const SIDECAR: &str = "sidecar.path";
const SIDECARS: [&str; 2] = ["_delta_log", "_sidecars"];
/// The number of bytes fetched first from the end of a checkpoint; most footers fit.
const FOOTER: usize = 64 << 10;

pub(super) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Returns the files of the checkpoint that `segment` begins with; `None` if the kernel must read it.
///
/// Blocks the thread. The reads run on `runtime`.
pub(super) fn files(
    store: &Arc<LogStore>,
    runtime: &Handle,
    segment: &LogSegment,
    partition_columns: &Arc<[String]>,
) -> Result<Option<Files>, Fault> {
    let open = |path| Part::open(store, runtime, path);
    let mut parts = Vec::new();
    for part in &segment.listed.checkpoint_parts {
        if part.extension != "parquet" {
            return Ok(None);
        }
        parts.push(open(Path::from_url_path(part.location.location.path())?)?);
    }
    let mut names = Vec::new();
    for part in &parts {
        names.extend(part.sidecars()?);
    }
    for name in names {
        // A log may name a sidecar by URL, which is left to the kernel to refuse.
        if name.contains(['/', ':', '%']) {
            return Ok(None);
        }
        parts.push(open(Path::from_iter(SIDECARS.into_iter().chain([name.as_str()])))?);
    }
    parts.retain(Part::has_files);
    if parts.is_empty() || !parts.iter().all(|part| NEEDED.iter().all(|name| part.has(name))) {
        return Ok(None);
    }
    let groups = parts.iter().flat_map(|part| (0..part.row_groups()).map(move |index| (part, index)));
    let groups: Vec<_> = groups.collect();
    let mut files = FilesBuilder::new(partition_columns.clone());
    for chunk in on_all_cores(&groups, |(part, index)| part.read(*index, partition_columns))? {
        files.push_chunk(chunk);
    }
    Ok(Some(files.finish()))
}

/// Applies `work` to each of `items` on all cores, and returns the results in order.
pub(super) fn on_all_cores<I: Sync, T: Send>(
    items: &[I],
    work: impl Fn(&I) -> Result<Vec<T>, Fault> + Sync,
) -> Result<Vec<T>, Fault> {
    let waiting = Mutex::new(items.iter().enumerate().collect::<VecDeque<_>>());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let run = || {
        let mut done = Vec::new();
        while let Some((index, item)) = next() {
            match work(item) {
                Ok(made) => done.push((index, made)),
                Err(fault) => {
                    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    return Err(fault);
                }
            }
        }
        Ok(done)
    };
    let cores = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let mut done = thread::scope(|scope| {
        let helpers: Vec<_> = (1..cores).map(|_| scope.spawn(run)).collect();
        let mut done = run()?;
        for helper in helpers {
            done.extend(helper.join().map_err(|_| "a checkpoint's reader panicked")??);
        }
        Ok::<_, Fault>(done)
    })?;
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().flat_map(|(_, made)| made).collect())
}

/// One file of a checkpoint, with its footer read.
struct Part<'a> {
    store: &'a Arc<LogStore>,
    runtime: &'a Handle,
    path: Path,
    footer: ArrowReaderMetadata,
}

impl<'a> Part<'a> {
    fn open(store: &'a Arc<LogStore>, runtime: &'a Handle, path: Path) -> Result<Self, Fault> {
        let footer = runtime.block_on(async {
            let size = store.head(&path).await?.size;
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER));
            Ok::<_, Fault>(reader.load_and_finish(Fetch { store, path: &path }, size).await?)
        })?;
        // The Arrow types hinted in the file depend on its writer, so they are ignored.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        Ok(Self { store, runtime, path, footer: ArrowReaderMetadata::try_new(Arc::new(footer), options)? })
    }

    fn row_groups(&self) -> usize {
        self.footer.metadata().num_row_groups()
    }

    fn has(&self, name: &str) -> bool {
        self.leaves(name).next().is_some()
    }

    fn has_files(&self) -> bool {
        self.has("add.path")
    }

    /// Returns the indices of the leaf columns under `name`.
    fn leaves(&self, name: &str) -> impl Iterator<Item = usize> {
        let columns = self.footer.parquet_schema().columns().iter().enumerate();
        let is_under =
            move |path: &str| path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        columns.filter(move |(_, column)| is_under(&column.path().string())).map(|(index, _)| index)
    }

    /// Returns the names of the checkpoint's sidecar files.
    fn sidecars(&self) -> Result<Vec<String>, Fault> {
        let leaves: Vec<_> = self.leaves(SIDECAR).collect();
        let mut names = Vec::new();
        if leaves.is_empty() {
            return Ok(names);
        }
        for index in 0..self.row_groups() {
            for batch in self.batches(index, &leaves, CHUNK_FILES)? {
                let batch = batch?;
                names.extend(strings(action(&batch, "sidecar")?, "path")?.iter().flatten().map(str::to_owned));
            }
        }
        Ok(names)
    }

    /// Returns the files of one row group.
    fn read(&self, index: usize, partition_columns: &[String]) -> Result<Vec<Chunk>, Fault> {
        let leaves: Vec<_> = KEPT.iter().flat_map(|name| self.leaves(name)).collect();
        let group = self.footer.metadata().row_group(index);
        let rows = usize::try_from(group.num_rows())?.max(1);
        let stats = self.leaves("add.stats").map(|leaf| group.column(leaf).uncompressed_size()).sum::<i64>();
        // Limits the batch so that its text offsets do not overflow; dictionaries may hide the true size.
        let at_once = CHUNK_STATS / 8 / (usize::try_from(stats)? / rows).max(1);
        let mut chunks = Vec::new();
        for batch in self.batches(index, &leaves, at_once.clamp(1, CHUNK_FILES))? {
            let batch = batch?;
            let found = columns(action(&batch, "add")?, partition_columns)?;
            // This leaves the chunk as the only owner of its buffers, so it can free their spare capacity.
            drop(batch);
            chunks.extend(found.map(Chunk::new));
        }
        Ok(chunks)
    }

    /// Reads some columns of one row group, fetched together.
    fn batches(
        &self,
        index: usize,
        leaves: &[usize],
        rows: usize,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>>, Fault> {
        let group = self.footer.metadata().row_group(index);
        let ranges: Vec<_> = leaves.iter().map(|&leaf| group.column(leaf).byte_range()).collect();
        let ranges: Vec<_> = ranges.into_iter().map(|(start, length)| start..start.saturating_add(length)).collect();
        let fetched = self.runtime.block_on(self.store.get_ranges(&self.path, &ranges))?;
        let pieces = Pieces(ranges.into_iter().map(|range| range.start).zip(fetched).collect());
        let mask = ProjectionMask::leaves(self.footer.parquet_schema(), leaves.iter().copied());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(pieces, self.footer.clone());
        Ok(reader.with_row_groups(vec![index]).with_projection(mask).with_batch_size(rows).build()?)
    }
}

/// Returns the actions of one kind.
fn action<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StructArray, ArrowError> {
    batch.column_by_name(name).and_then(|actions| actions.as_struct_opt()).ok_or_else(|| malformed(name))
}

/// Returns the rows of a batch that hold files; `None` if there are none.
fn columns(adds: &StructArray, partition_columns: &[String]) -> Result<Option<Columns>, Fault> {
    let path = strings(adds, "path")?;
    if path.null_count() == path.len() {
        return Ok(None);
    }
    if path.null_count() > 0 {
        let kept: BooleanArray = is_not_null(path)?;
        let fields = RecordBatch::try_new(Arc::new(Schema::new(adds.fields().clone())), adds.columns().to_vec())?;
        return columns(&StructArray::from(filter_record_batch(&fields, &kept)?), partition_columns);
    }
    let size = longs(adds, "size")?;
    if size.null_count() > 0 || size.values().iter().any(|size| *size < 0) {
        return Err(malformed("size").into());
    }
    let modification_time = match adds.column_by_name("modificationTime") {
        Some(_) => {
            let times = longs(adds, "modificationTime")?;
            Int64Array::from_iter_values(times.iter().map(Option::unwrap_or_default))
        }
        None => Int64Array::from_value(0, adds.len()),
    };
    let (partition_values, has_keys) = match adds.column_by_name("partitionValues") {
        _ if partition_columns.is_empty() => (Vec::new(), Vec::new()),
        values => {
            let map = values.and_then(|values| values.as_map_opt()).ok_or_else(|| malformed("partitionValues"))?;
            partition_values(map, partition_columns)?
        }
    };
    let vectors = adds.column_by_name("deletionVector");
    let vectors = vectors.map(|vectors| vectors.as_struct_opt().ok_or_else(|| malformed("deletionVector")));
    Ok(Some(Columns {
        path: path.clone(),
        size: UInt64Array::new(size.values().inner().clone().into(), None),
        modification_time,
        stats: strings(adds, "stats")?.clone(),
        partition_values,
        has_keys,
        deletion_vectors: vectors.transpose()?.map(deletion_vectors).transpose()?.unwrap_or_default(),
    }))
}

/// Returns the values of each partition column, in order, and whether each row has an entry for it.
fn partition_values(
    map: &MapArray,
    partition_columns: &[String],
) -> Result<(Vec<StringArray>, Vec<BooleanArray>), Fault> {
    let texts = |array: &'_ ArrayRef| array.as_string_opt::<i32>().cloned().ok_or_else(|| malformed("partitionValues"));
    let (keys, values) = (texts(map.keys())?, texts(map.values())?);
    let column = |(place, name): (usize, &String)| {
        let mut column = StringBuilder::with_capacity(map.len(), 0);
        let mut has_keys = BooleanBuilder::with_capacity(map.len());
        for bounds in map.value_offsets().windows(2) {
            // A null map has no entries.
            let entries = usize::try_from(bounds[0])?..usize::try_from(bounds[1])?;
            let is_named = |entry: &usize| keys.is_valid(*entry) && keys.value(*entry) == name;
            // Entries are nearly always in the table's order.
            let usual = (entries.start + place).min(entries.end.saturating_sub(1));
            let entry = Some(usual).filter(|entry| entries.contains(entry) && is_named(entry));
            let entry = entry.or_else(|| entry_of(&keys, entries, name));
            column.append_option(entry.filter(|entry| values.is_valid(*entry)).map(|entry| values.value(entry)));
            has_keys.append_value(entry.is_some());
        }
        Ok::<_, Fault>((column.finish(), has_keys.finish()))
    };
    partition_columns.iter().enumerate().map(column).collect()
}

/// Fetches a footer.
struct Fetch<'a> {
    store: &'a Arc<LogStore>,
    path: &'a Path,
}

impl MetadataFetch for Fetch<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.store
            .get_range(self.path, range)
            .map(|got| got.map_err(|error| ParquetError::External(error.into())))
            .boxed()
    }
}

/// The fetched pieces of a file, each with its offset in the file.
struct Pieces(Vec<(u64, Bytes)>);

impl Pieces {
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let holds = |(at, bytes): &&(u64, Bytes)| *at <= start && start - at < bytes.len() as u64;
        let (at, bytes) = self.0.iter().find(holds).ok_or_else(outside)?;
        Ok(bytes.slice(usize::try_from(start - at).map_err(|_| outside())?..))
    }
}

fn outside() -> ParquetError {
    ParquetError::EOF("a column lies outside of its own range".to_owned())
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.0.iter().map(|(at, bytes)| at + bytes.len() as u64).max().unwrap_or(0)
    }
}

impl ChunkReader for Pieces {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        if bytes.len() < length { Err(outside()) } else { Ok(bytes.slice(..length)) }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::MapBuilder;

    use super::*;

    #[test]
    fn a_partition_value_is_found_in_another_case_and_missed_where_there_is_none() {
        let cases: [&[(&str, Option<&str>)]; 5] = [
            &[("day", Some("x"))],
            &[("a", None), ("DAY", Some("x"))],
            &[("Day", None)],
            &[("Day", Some("x")), ("DAY", Some("y"))],
            &[],
        ];
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for entries in cases {
            for (key, value) in entries {
                map.keys().append_value(key);
                map.values().append_option(*value);
            }
            map.append(true).unwrap();
        }
        let (values, has_keys) = partition_values(&map.finish(), &["day".to_owned()]).unwrap();
        let values: Vec<_> = values[0].iter().collect();
        let has_keys: Vec<_> = has_keys[0].iter().flatten().collect();
        assert_eq!(values, [Some("x"), Some("x"), None, None, None]);
        assert_eq!(has_keys, [true, true, true, false, false]);
    }
}
