//! Stores a snapshot's file list in columns: a few buffers per chunk of files.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::BinaryHeap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{
    array::{
        Array, ArrayBuilder, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Int32Array, Int64Array, Int64Builder,
        MapArray, StringArray, StringBuilder, StructArray, UInt64Array, UInt64Builder,
    },
    buffer::BooleanBuffer,
    compute::{concat, filter},
    datatypes::{Int32Type, Int64Type},
    error::ArrowError,
};

use crate::{
    domain::catalog::schema::{Among, find_name},
    storage::path_refusal,
};

use super::{
    checkpoint::{Fault, on_all_cores},
    deletion_vector::{DeletionVector, VectorPlace},
    disclosed_stats::StatsShape,
    path_keys::{PathKeys, path_key},
    statistics::{KeptColumns, Sources},
};

/// The number of files per chunk. A new version copies only the chunks that changed.
pub(super) const CHUNK_FILES: usize = 32 * 1024;
/// The most bytes of statistics per chunk, well below the range of the 32-bit text offsets.
pub(super) const CHUNK_STATS: usize = 1 << 29;

/// The files of one snapshot, immutable. Versions share the chunks that did not change.
///
/// The order is stable within one snapshot, but may differ between versions and servers.
#[derive(Clone, Debug)]
pub struct Files {
    partition_columns: Arc<[String]>,
    chunks: Vec<Arc<Chunk>>,
    /// For each chunk, the number of files before it.
    starts: Vec<usize>,
    len: usize,
}

/// One file as the log describes it.
#[derive(Clone, Copy, Debug)]
pub struct FileRef<'a> {
    /// The path exactly as in the log: file ids are digests of this text. Not yet validated.
    pub path: &'a str,
    /// The size in bytes.
    pub size: u64,
    /// The modification time in milliseconds since the epoch.
    pub modification_time: i64,
    /// Whether the commit that added the file changed data. Always true for files of a snapshot, which does not keep
    /// it.
    pub data_change: bool,
    /// The statistics as JSON text.
    pub stats: Option<&'a str>,
    /// The deletion vector, if rows of the file are deleted.
    pub deletion_vector: Option<DeletionVectorRef<'a>>,
    pub(super) partition_columns: &'a [String],
    pub(super) partition_source: PartitionSource<'a>,
}

/// A file's deletion vector as the log describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionVectorRef<'a> {
    /// The storage type: `u` (relative, encoded), `i` (inline) or `p` (absolute path).
    pub storage_type: &'a str,
    /// The path or the vector itself, depending on the storage type.
    pub path_or_inline: &'a str,
    /// The offset of the vector in its file.
    pub offset: Option<i32>,
    /// The size of the vector in bytes.
    pub size_in_bytes: i32,
    /// The number of deleted rows.
    pub cardinality: i64,
}

impl DeletionVectorRef<'_> {
    /// Returns whether the kernel calls this vector `unique_id` (Delta protocol, derived fields).
    fn has_id(&self, unique_id: &str) -> bool {
        let rest = unique_id.strip_prefix(self.storage_type).and_then(|rest| rest.strip_prefix(self.path_or_inline));
        match (rest, self.offset) {
            (Some(rest), Some(offset)) => rest.strip_prefix('@').is_some_and(|text| text.parse() == Ok(offset)),
            (Some(rest), None) => rest.is_empty(),
            (None, _) => false,
        }
    }
}

/// Returns why a file is refused because of its path or its deletion vector's path; `None` if it is served.
pub(super) fn refusal_of(path: &str, vector: Option<DeletionVectorRef<'_>>) -> Option<&'static str> {
    path_refusal(path).or_else(|| match vector?.place() {
        VectorPlace::File(path) => path_refusal(&path),
        VectorPlace::Inline | VectorPlace::Absolute | VectorPlace::Malformed => None,
    })
}

/// Partition values by physical column name, as written in one action of a log.
pub type PartitionPairs = [(Box<str>, Option<Box<str>>)];

#[derive(Clone, Copy, Debug)]
pub(super) enum PartitionSource<'a> {
    Columns {
        columns: &'a [StringArray],
        has_keys: &'a [BooleanArray],
        row: usize,
    },
    Map {
        keys: &'a StringArray,
        values: &'a StringArray,
        from: usize,
        to: usize,
    },
    /// Includes the names, so `partition_columns` is not used.
    Pairs(&'a PartitionPairs),
}

impl<'a> FileRef<'a> {
    /// Creates a file that is not from a log and has no deleted rows. `partition_values` must be in the table's order.
    pub fn new(
        path: &'a str,
        size: u64,
        modification_time: i64,
        stats: Option<&'a str>,
        partition_values: &'a PartitionPairs,
    ) -> Self {
        Self {
            path,
            size,
            modification_time,
            data_change: true,
            stats,
            deletion_vector: None,
            partition_columns: &[],
            partition_source: PartitionSource::Pairs(partition_values),
        }
    }

    /// Returns why the file is refused because of its path or its deletion vector's path; `None` if it is served.
    pub fn refusal(&self) -> Option<&'static str> {
        refusal_of(self.path, self.deletion_vector)
    }

    /// Returns the physical name of each partition column and its value as written in the log. Files of a snapshot use
    /// the table's column order, files of a commit the order of names. The value is `None` for NULL and also if the log
    /// has no value for the column; [`Self::unsaid_partition_columns`] tells the two apart.
    pub fn partition_values(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        self.partition_entries().map(|(name, entry)| (name, entry.flatten()))
    }

    /// Returns the physical names of the partition columns for which the log gives this file neither a value nor NULL:
    /// no key matches the column, or several do.
    pub fn unsaid_partition_columns(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.partition_entries().filter(|(_, entry)| entry.is_none()).map(|(name, _)| name)
    }

    /// Returns each partition column with its entry in the log, if there is one.
    fn partition_entries(&self) -> impl Iterator<Item = (&'a str, Option<Option<&'a str>>)> + use<'a> {
        let (names, source) = (self.partition_columns, self.partition_source);
        let len = if let PartitionSource::Pairs(pairs) = source { pairs.len() } else { names.len() };
        (0..len).map(move |index| match source {
            PartitionSource::Columns { columns, has_keys, row } => {
                let has_key = has_keys[index].value(row);
                (names[index].as_str(), has_key.then(|| text(&columns[index], row)))
            }
            PartitionSource::Map { keys, values, from, to } => {
                let name = names[index].as_str();
                (name, entry_of(keys, from..to, name).map(|entry| text(values, entry)))
            }
            PartitionSource::Pairs(pairs) => (&*pairs[index].0, Some(pairs[index].1.as_deref())),
        })
    }
}

/// Returns the index of the entry for the partition column `name`: the last with exactly this name, else the only one
/// whose name differs just in case.
pub(super) fn entry_of(keys: &StringArray, entries: Range<usize>, name: &str) -> Option<usize> {
    // No column has an empty name.
    match find_name(entries.clone().map(|entry| text(keys, entry).unwrap_or_default()), name) {
        Among::At(at) => Some(entries.start + at),
        Among::Nowhere | Among::Somewhere => None,
    }
}

fn text(array: &StringArray, row: usize) -> Option<&str> {
    array.is_valid(row).then(|| array.value(row))
}

/// The log's data on a number of files, as columns of equal length. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) path: StringArray,
    pub(super) size: UInt64Array,
    pub(super) modification_time: Int64Array,
    pub(super) stats: StringArray,
    /// In the order of the partition columns.
    pub(super) partition_values: Vec<StringArray>,
    /// Whether the log has an entry (a value or NULL) for the partition column; in the same order.
    pub(super) has_keys: Vec<BooleanArray>,
    /// Sorted by row; empty for most tables.
    pub(super) deletion_vectors: Vec<(usize, DeletionVector)>,
}

impl Columns {
    fn deletion_vector(&self, row: usize) -> Option<DeletionVectorRef<'_>> {
        let found = self.deletion_vectors.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        Some(self.deletion_vectors[found].1.as_ref())
    }

    fn file<'a>(&'a self, partition_columns: &'a [String], row: usize) -> FileRef<'a> {
        FileRef {
            path: self.path.value(row),
            size: self.size.value(row),
            modification_time: self.modification_time.value(row),
            data_change: true,
            stats: text(&self.stats, row),
            deletion_vector: self.deletion_vector(row),
            partition_columns,
            partition_source: PartitionSource::Columns {
                columns: &self.partition_values,
                has_keys: &self.has_keys,
                row,
            },
        }
    }

    /// Returns the rows that are not in `dropped`, which must be sorted.
    fn without(&self, dropped: &[usize]) -> Result<Self, ArrowError> {
        let is_kept = |row: usize| dropped.binary_search(&row).is_err();
        let kept = BooleanArray::from(BooleanBuffer::collect_bool(self.path.len(), is_kept));
        self.try_map(|column| filter(column, &kept), {
            let kept = self.deletion_vectors.iter().filter(|(row, _)| is_kept(*row));
            kept.map(|(row, vector)| (row - dropped.partition_point(|at| at < row), vector.clone())).collect()
        })
    }

    /// Appends the rows of `other`, which must have the same columns.
    fn with(&self, other: &Self) -> Result<Self, ArrowError> {
        let mut others = other.arrays();
        self.try_map(
            |column| match others.next() {
                Some(other) => concat(&[column, other]),
                None => Err(malformed("partitionValues")),
            },
            {
                let moved = other.deletion_vectors.iter().map(|(row, vector)| (row + self.path.len(), vector.clone()));
                self.deletion_vectors.iter().cloned().chain(moved).collect()
            },
        )
    }

    fn arrays(&self) -> impl Iterator<Item = &dyn Array> {
        let first: [&dyn Array; 4] = [&self.path, &self.size, &self.modification_time, &self.stats];
        let values = self.partition_values.iter().map(|column| column as &dyn Array);
        first.into_iter().chain(values).chain(self.has_keys.iter().map(|column| column as &dyn Array))
    }

    /// Applies `change` to each column, in the order of [`Self::arrays`].
    fn try_map(
        &self,
        mut change: impl FnMut(&dyn Array) -> Result<ArrayRef, ArrowError>,
        deletion_vectors: Vec<(usize, DeletionVector)>,
    ) -> Result<Self, ArrowError> {
        Ok(Self {
            path: change(&self.path)?.as_string().clone(),
            size: change(&self.size)?.as_primitive().clone(),
            modification_time: change(&self.modification_time)?.as_primitive().clone(),
            stats: change(&self.stats)?.as_string().clone(),
            partition_values: {
                let changed = self.partition_values.iter().map(|column| Ok(change(column)?.as_string().clone()));
                changed.collect::<Result<_, ArrowError>>()?
            },
            has_keys: {
                let changed = self.has_keys.iter().map(|column| Ok(change(column)?.as_boolean().clone()));
                changed.collect::<Result<_, ArrowError>>()?
            },
            deletion_vectors,
        })
    }

    /// Frees the spare capacity that buffers gain as they grow. A buffer that is shared keeps its size.
    fn shrink(&mut self) {
        self.size.shrink_to_fit();
        self.modification_time.shrink_to_fit();
        let texts = [&mut self.path, &mut self.stats].into_iter().chain(&mut self.partition_values);
        texts.for_each(StringArray::shrink_to_fit);
    }

    fn resident_bytes(&self) -> usize {
        let vectors = self.deletion_vectors.iter().map(|(_, vector)| {
            size_of::<(usize, DeletionVector)>() + vector.storage_type.len() + vector.path_or_inline.len() + 2 * 16
        });
        self.arrays().map(|column| column.get_array_memory_size()).sum::<usize>() + vectors.sum::<usize>()
    }
}

/// A chunk of files, with values derived from them that are often needed.
#[derive(Debug)]
pub(super) struct Chunk {
    columns: Columns,
    size_bytes: u64,
    /// The number of live rows; `None` if a file has no count.
    rows: Option<u64>,
    keys: PathKeys,
    /// Whether a file is refused because of its path.
    has_refused: bool,
    /// Columns that were read for predicates.
    kept_columns: KeptColumns,
    /// The mark of the shape that the statistics are known to have, or 0 if they were not checked.
    stats_shape: AtomicU64,
}

impl Chunk {
    pub(super) fn new(mut columns: Columns) -> Self {
        columns.shrink();
        let files = || (0..columns.path.len()).map(|row| columns.file(&[], row));
        Self {
            size_bytes: files().fold(0, |sum, file| sum.saturating_add(file.size)),
            rows: files().try_fold(0u64, |sum, file| sum.checked_add(file.live_rows()?)),
            keys: PathKeys::of(&columns.path),
            has_refused: files().any(|file| file.refusal().is_some()),
            kept_columns: KeptColumns::default(),
            stats_shape: AtomicU64::new(0),
            columns,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.columns.path.len()
    }

    /// Returns these files with only the statistics that `shape` allows; returns this chunk if nothing has to be
    /// removed.
    fn with_stats_of(self: &Arc<Self>, shape: &StatsShape) -> Arc<Self> {
        let stats = &self.columns.stats;
        let chunk = if stats.iter().flatten().all(|text| shape.fits(text)) {
            Arc::clone(self)
        } else {
            let stats = stats.iter().map(|text| match text {
                Some(text) if shape.fits(text) => Some(Cow::Borrowed(text)),
                Some(text) => shape.rebuilt(text).map(Cow::Owned),
                None => None,
            });
            Arc::new(Self::new(Columns { stats: stats.collect(), ..self.columns.clone() }))
        };
        chunk.stats_shape.store(shape.mark(), Ordering::Relaxed);
        chunk
    }

    /// Returns the columns that were read for predicates, and the arrays that they are read from.
    pub(super) fn columns(&self) -> (&KeptColumns, Sources<'_>) {
        let columns = &self.columns;
        (&self.kept_columns, Sources { stats: &columns.stats, partition_values: &columns.partition_values })
    }

    fn resident_bytes(&self) -> usize {
        self.columns.resident_bytes() + self.keys.resident_bytes() + self.kept_columns.resident_bytes()
    }
}

impl Files {
    /// Returns these files with only the statistics that `shape` allows. Chunks already checked for this shape are
    /// skipped.
    pub(super) fn with_stats_of(mut self, shape: &StatsShape) -> Result<Self, Fault> {
        let is_new = |chunk: &&mut Arc<Chunk>| chunk.stats_shape.load(Ordering::Relaxed) != shape.mark();
        let mut new: Vec<&mut Arc<Chunk>> = self.chunks.iter_mut().filter(is_new).collect();
        let chunks: Vec<Arc<Chunk>> = new.iter().map(|chunk| Arc::clone(chunk)).collect();
        let seen = on_all_cores(&chunks, |chunk| Ok(vec![chunk.with_stats_of(shape)]))?;
        new.iter_mut().zip(seen).for_each(|(chunk, seen)| **chunk = seen);
        Ok(self)
    }

    /// Returns the number of files.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no files.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether a file has exactly this path.
    pub fn contains(&self, path: &str) -> bool {
        let key = path_key(path);
        self.chunks.iter().any(|chunk| chunk.keys.rows_of(key).any(|row| chunk.columns.path.value(row) == path))
    }

    /// Returns the physical names of the partition columns, in the table's order. The log's partition values are keyed
    /// by these names.
    pub fn partition_columns(&self) -> &[String] {
        &self.partition_columns
    }

    /// Returns the file at `index`, counted from 0 in the order of [`Self::iter`].
    pub fn get(&self, index: usize) -> Option<FileRef<'_>> {
        let chunk = self.starts.partition_point(|&start| start <= index).checked_sub(1)?;
        let row = index - self.starts[chunk];
        let chunk = &self.chunks[chunk];
        (row < chunk.len()).then(|| chunk.columns.file(&self.partition_columns, row))
    }

    /// Iterates over all files.
    pub fn iter(&self) -> impl Iterator<Item = FileRef<'_>> + Send {
        self.chunks
            .iter()
            .flat_map(|chunk| (0..chunk.len()).map(|row| chunk.columns.file(&self.partition_columns, row)))
    }

    /// Returns the first `most` files whose key is greater than `after`, in key order, and the last key of this page if
    /// there are more files. The cost depends on the size of the page, not on the number of files.
    ///
    /// Files with the same key stay together: the page is a little shorter for that, or longer if they alone exceed
    /// `most`.
    pub fn page(&self, after: Option<u64>, most: usize) -> (Vec<u32>, Option<u64>) {
        let heads = self.chunks.iter().enumerate().filter_map(|(chunk, files)| {
            let position = after.map_or(0, |after| files.keys.position_behind(after));
            Some(Reverse((files.keys.at(position)?, chunk, position)))
        });
        let mut heads: BinaryHeap<_> = heads.collect();
        let merged = std::iter::from_fn(|| {
            let Reverse(((key, row), chunk, position)) = heads.pop()?;
            if let Some(next) = self.chunks[chunk].keys.at(position + 1) {
                heads.push(Reverse((next, chunk, position + 1)));
            }
            Some((key, u32::try_from(self.starts[chunk] + row).unwrap_or(u32::MAX)))
        });
        cut_page(merged, most)
    }

    /// Returns the same page, but only of the files in `selected`, which must be in key order.
    pub fn page_of(&self, selected: &[u32], after: Option<u64>, most: usize) -> (Vec<u32>, Option<u64>) {
        let begin = selected.partition_point(|&index| self.key(index) <= after);
        cut_page(selected[begin..].iter().filter_map(|&index| Some((self.key(index)?, index))), most)
    }

    /// Returns the key of the file at `index`.
    pub fn key(&self, index: u32) -> Option<u64> {
        self.get(index as usize).map(|file| path_key(file.path))
    }

    /// Sorts these files by key.
    pub(super) fn by_key(&self, indices: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut keyed: Vec<_> = indices.map(|index| (self.key(index), index)).collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, index)| index).collect()
    }

    /// Returns the chunks, in order.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter().map(Arc::as_ref)
    }

    /// Returns whether a file has a deletion vector.
    pub fn has_deletion_vectors(&self) -> bool {
        self.chunks.iter().any(|chunk| !chunk.columns.deletion_vectors.is_empty())
    }

    /// Returns why the first refused file is refused because of its path; `None` if all files are served.
    pub fn refusal(&self) -> Option<&'static str> {
        if self.has_refused() { self.iter().find_map(|file| file.refusal()) } else { None }
    }

    /// Returns whether a file is refused because of its path.
    pub fn has_refused(&self) -> bool {
        self.chunks.iter().any(|chunk| chunk.has_refused)
    }

    /// Returns the sum of the file sizes, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.chunks.iter().fold(0, |sum, chunk| sum.saturating_add(chunk.size_bytes))
    }

    /// Returns the number of live rows: the files' row counts minus deleted rows. `None` if a file has no count.
    pub fn rows(&self) -> Option<u64> {
        self.chunks.iter().try_fold(0u64, |sum, chunk| sum.checked_add(chunk.rows?))
    }

    /// Returns the memory used, in bytes, including parts shared with other versions.
    pub fn resident_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| size_of::<Chunk>() + chunk.resident_bytes()).sum()
    }
}

/// Takes the first `most` of `files`, which are in key order, and returns the last key if more files follow.
fn cut_page(files: impl Iterator<Item = (u64, u32)>, most: usize) -> (Vec<u32>, Option<u64>) {
    let most = most.max(1);
    let mut page: Vec<(u64, u32)> = Vec::new();
    let mut has_more = false;
    for (key, index) in files {
        let (first, last) = (page.first().map(|file| file.0), page.last().map(|file| file.0));
        if page.len() >= most && last != Some(key) {
            has_more = true;
            break;
        }
        if page.len() == most && first != Some(key) {
            // Not all files with the last key fit.
            page.retain(|file| file.0 != key);
            has_more = true;
            break;
        }
        page.push((key, index));
    }
    let next = page.last().map(|file| file.0).filter(|_| has_more);
    (page.into_iter().map(|file| file.1).collect(), next)
}

/// The files of an older version that a newer version drops, each by path and deletion vector.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    files: Vec<DroppedFile>,
}

#[derive(Debug)]
struct DroppedFile {
    key: u64,
    path: String,
    deletion_vector_id: Option<String>,
}

impl Dropped {
    pub(super) fn insert(&mut self, path: &str, deletion_vector_id: Option<&str>) {
        let (key, path) = (path_key(path), path.to_owned());
        self.files.push(DroppedFile { key, path, deletion_vector_id: deletion_vector_id.map(str::to_owned) });
    }

    /// Returns the dropped rows of `chunk`, sorted. Costs one search per dropped file, not a scan of all files.
    fn rows_in(&self, chunk: &Chunk) -> Vec<usize> {
        let mut rows: Vec<usize> = self.files.iter().flat_map(|file| file.rows_in(chunk)).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}

impl DroppedFile {
    fn rows_in(&self, chunk: &Chunk) -> impl Iterator<Item = usize> {
        chunk.keys.rows_of(self.key).filter(|&row| {
            chunk.columns.path.value(row) == self.path
                && match (&self.deletion_vector_id, chunk.columns.deletion_vector(row)) {
                    (None, None) => true,
                    (Some(id), Some(vector)) => vector.has_id(id),
                    _ => false,
                }
        })
    }
}

/// Builds a [`Files`], file by file or in whole chunks.
pub(super) struct FilesBuilder {
    partition_columns: Arc<[String]>,
    chunks: Vec<Arc<Chunk>>,
    path: StringBuilder,
    size: UInt64Builder,
    modification_time: Int64Builder,
    stats: StringBuilder,
    partition_values: Vec<StringBuilder>,
    has_keys: Vec<BooleanBuilder>,
    deletion_vectors: Vec<(usize, DeletionVector)>,
}

impl FilesBuilder {
    pub(super) fn new(partition_columns: Arc<[String]>) -> Self {
        Self {
            chunks: Vec::new(),
            path: StringBuilder::new(),
            size: UInt64Builder::new(),
            modification_time: Int64Builder::new(),
            stats: StringBuilder::new(),
            partition_values: partition_columns.iter().map(|_| StringBuilder::new()).collect(),
            has_keys: partition_columns.iter().map(|_| BooleanBuilder::new()).collect(),
            deletion_vectors: Vec::new(),
            partition_columns,
        }
    }

    /// Starts with the files of an older version, except those in `dropped`.
    pub(super) fn from_base(base: &Files, dropped: &Dropped) -> Result<Self, ArrowError> {
        let mut builder = Self::new(base.partition_columns.clone());
        for chunk in &base.chunks {
            match &*dropped.rows_in(chunk) {
                [] => builder.chunks.push(chunk.clone()),
                rows => builder.chunks.push(Arc::new(Chunk::new(chunk.columns.without(rows)?))),
            }
        }
        Ok(builder)
    }

    /// Adds files that are already in columns; a chunk must not exceed the limits for chunks.
    pub(super) fn push_chunk(&mut self, chunk: Chunk) {
        self.close_chunk();
        self.chunks.push(Arc::new(chunk));
    }

    pub(super) fn push(&mut self, file: &FileRef<'_>) {
        if let Some(vector) = &file.deletion_vector {
            self.deletion_vectors.push((self.size.len(), DeletionVector::from(*vector)));
        }
        self.path.append_value(file.path);
        self.size.append_value(file.size);
        self.modification_time.append_value(file.modification_time);
        self.stats.append_option(file.stats);
        let builders = self.partition_values.iter_mut().zip(&mut self.has_keys);
        for ((values, has_keys), (_, entry)) in builders.zip(file.partition_entries()) {
            values.append_option(entry.flatten());
            has_keys.append_value(entry.is_some());
        }
        if self.size.len() == CHUNK_FILES || self.stats.values_slice().len() > CHUNK_STATS {
            self.close_chunk();
        }
    }

    fn close_chunk(&mut self) {
        if self.size.is_empty() {
            return;
        }
        let closed = Chunk::new(Columns {
            path: self.path.finish(),
            size: self.size.finish(),
            modification_time: self.modification_time.finish(),
            stats: self.stats.finish(),
            partition_values: self.partition_values.iter_mut().map(StringBuilder::finish).collect(),
            has_keys: self.has_keys.iter_mut().map(BooleanBuilder::finish).collect(),
            deletion_vectors: std::mem::take(&mut self.deletion_vectors),
        });
        self.chunks.push(Arc::new(closed));
    }

    pub(super) fn finish(mut self) -> Files {
        self.close_chunk();
        let chunks = compacted(self.chunks);
        let mut len = 0;
        let starts = chunks
            .iter()
            .map(|chunk| {
                let start = len;
                len += chunk.len();
                start
            })
            .collect();
        Files { partition_columns: self.partition_columns, chunks, starts, len }
    }

    /// Adds the selected rows of one batch of `add` actions, in either of the kernel's two layouts. `constants` is the
    /// struct that holds the partition values.
    pub(super) fn push_batch(
        &mut self,
        adds: &StructArray,
        constants: &StructArray,
        is_selected: impl Fn(usize) -> bool,
    ) -> Result<(), ArrowError> {
        let batch = AddBatch::try_new(adds, constants)?;
        let partition_columns = self.partition_columns.clone();
        for row in (0..adds.len()).filter(|&row| is_selected(row)) {
            if let Some(file) = batch.file(&partition_columns, row)? {
                self.push(&file);
            }
        }
        Ok(())
    }
}

/// Merges neighbouring chunks until each is at least twice as large as the next, or two do not fit into one. Many small
/// commits thus do not leave many chunks, and a file is copied only a few times, not with every commit.
fn compacted(chunks: Vec<Arc<Chunk>>) -> Vec<Arc<Chunk>> {
    let mut compacted: Vec<Arc<Chunk>> = Vec::with_capacity(chunks.len());
    for chunk in chunks.into_iter().filter(|chunk| chunk.len() > 0) {
        compacted.push(chunk);
        while let [.., before, last] = &compacted[..] {
            let is_room = before.len() + last.len() <= CHUNK_FILES
                && before.columns.stats.values().len() + last.columns.stats.values().len() <= CHUNK_STATS;
            if !is_room || before.len() >= 2 * last.len() {
                break;
            }
            let Ok(columns) = before.columns.with(&last.columns) else { break };
            compacted.truncate(compacted.len() - 2);
            compacted.push(Arc::new(Chunk::new(columns)));
        }
    }
    compacted
}

/// The columns of a batch that describe deletion vectors.
struct VectorBatch<'a> {
    whole: &'a StructArray,
    storage_type: &'a StringArray,
    path_or_inline: &'a StringArray,
    offset: &'a Int32Array,
    size_in_bytes: &'a Int32Array,
    cardinality: &'a Int64Array,
}

impl<'a> VectorBatch<'a> {
    fn try_new(whole: &'a StructArray) -> Result<Self, ArrowError> {
        Ok(Self {
            storage_type: strings(whole, "storageType")?,
            path_or_inline: strings(whole, "pathOrInlineDv")?,
            offset: integers(whole, "offset")?,
            size_in_bytes: integers(whole, "sizeInBytes")?,
            cardinality: longs(whole, "cardinality")?,
            whole,
        })
    }

    fn get(&self, row: usize) -> Option<DeletionVectorRef<'a>> {
        (self.whole.is_valid(row) && self.storage_type.is_valid(row)).then(|| DeletionVectorRef {
            storage_type: self.storage_type.value(row),
            path_or_inline: self.path_or_inline.value(row),
            offset: self.offset.is_valid(row).then(|| self.offset.value(row)),
            size_in_bytes: self.size_in_bytes.value(row),
            cardinality: self.cardinality.value(row),
        })
    }
}

/// Returns the rows of `whole` that have a deletion vector, in order.
pub(super) fn deletion_vectors(whole: &StructArray) -> Result<Vec<(usize, DeletionVector)>, ArrowError> {
    let batch = VectorBatch::try_new(whole)?;
    Ok((0..whole.len()).filter_map(|row| Some((row, DeletionVector::from(batch.get(row)?)))).collect())
}

struct AddBatch<'a> {
    path: &'a StringArray,
    size: &'a Int64Array,
    modification_time: &'a Int64Array,
    stats: &'a StringArray,
    partition_values: &'a MapArray,
    vectors: VectorBatch<'a>,
}

pub(super) fn malformed(what: &str) -> ArrowError {
    ArrowError::SchemaError(format!("`{what}` is not what an add action has there"))
}

fn column<'a>(of: &'a StructArray, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    of.column_by_name(name).ok_or_else(|| malformed(name))
}

pub(super) fn strings<'a>(of: &'a StructArray, name: &str) -> Result<&'a StringArray, ArrowError> {
    column(of, name)?.as_string_opt::<i32>().ok_or_else(|| malformed(name))
}

pub(super) fn longs<'a>(of: &'a StructArray, name: &str) -> Result<&'a Int64Array, ArrowError> {
    column(of, name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| malformed(name))
}

fn integers<'a>(of: &'a StructArray, name: &str) -> Result<&'a Int32Array, ArrowError> {
    column(of, name)?.as_primitive_opt::<Int32Type>().ok_or_else(|| malformed(name))
}

impl<'a> AddBatch<'a> {
    fn try_new(adds: &'a StructArray, constants: &'a StructArray) -> Result<Self, ArrowError> {
        let deletion_vector =
            column(adds, "deletionVector")?.as_struct_opt().ok_or_else(|| malformed("deletionVector"))?;
        let partition_values =
            column(constants, "partitionValues")?.as_map_opt().ok_or_else(|| malformed("partitionValues"))?;
        Ok(Self {
            path: strings(adds, "path")?,
            size: longs(adds, "size")?,
            modification_time: longs(adds, "modificationTime")?,
            stats: strings(adds, "stats")?,
            partition_values,
            vectors: VectorBatch::try_new(deletion_vector)?,
        })
    }

    /// Returns the file in `row`; `None` if the row is not an add action.
    fn file(&self, partition_columns: &'a [String], row: usize) -> Result<Option<FileRef<'a>>, ArrowError> {
        let Some(path) = text(self.path, row) else { return Ok(None) };
        let size = self.size.is_valid(row).then(|| self.size.value(row)).and_then(|size| u64::try_from(size).ok());
        let (keys, values) = (self.partition_values.keys(), self.partition_values.values());
        let offsets = self.partition_values.value_offsets();
        // A null map has no entries.
        let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
        Ok(Some(FileRef {
            path,
            size: size.ok_or_else(|| malformed("size"))?,
            modification_time: if self.modification_time.is_valid(row) { self.modification_time.value(row) } else { 0 },
            data_change: true,
            stats: text(self.stats, row),
            deletion_vector: self.vectors.get(row),
            partition_columns,
            partition_source: PartitionSource::Map {
                keys: keys.as_string_opt::<i32>().ok_or_else(|| malformed("partitionValues"))?,
                values: values.as_string_opt::<i32>().ok_or_else(|| malformed("partitionValues"))?,
                from,
                to,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(builder: &mut FilesBuilder, path: &str, deletion_vector: Option<DeletionVectorRef<'_>>) {
        let file = FileRef {
            path,
            size: 1,
            modification_time: 2,
            data_change: true,
            stats: None,
            deletion_vector,
            partition_columns: &[],
            partition_source: PartitionSource::Columns { columns: &[], has_keys: &[], row: 0 },
        };
        builder.push(&file);
    }

    fn numbered(count: usize) -> Files {
        let mut builder = FilesBuilder::new(Arc::new([]));
        (0..count).for_each(|number| push(&mut builder, &number.to_string(), None));
        builder.finish()
    }

    #[test]
    fn a_chunk_holds_no_slack() {
        let mut columns = numbered(1).chunks[0].columns.without(&[]).unwrap();
        let mut paths = StringBuilder::with_capacity(1_000, 1 << 20);
        paths.append_value("0");
        columns.path = paths.finish();
        let slack = columns.resident_bytes();
        let chunk = Chunk::new(columns);
        assert!(slack > 1 << 20 && chunk.columns.resident_bytes() < 4_096, "{}", chunk.columns.resident_bytes());
    }

    #[test]
    fn a_partition_value_is_found_in_another_case_and_missed_where_there_is_none() {
        let of = |entries: &[(&str, Option<&str>)]| {
            let keys: StringArray = entries.iter().map(|(key, _)| Some(*key)).collect();
            let values: StringArray = entries.iter().map(|(_, value)| *value).collect();
            let names = [String::from("day")];
            let file = FileRef {
                partition_columns: &names,
                partition_source: PartitionSource::Map { keys: &keys, values: &values, from: 0, to: entries.len() },
                ..FileRef::new("a", 1, 2, None, &[])
            };
            let mut builder = FilesBuilder::new(names.clone().into());
            builder.push(&file);
            let mut dropped = Dropped::default();
            dropped.insert("gone", None);
            let files = FilesBuilder::from_base(&builder.finish(), &dropped).unwrap().finish();
            let kept = files.get(0).unwrap();
            let told = |file: &FileRef<'_>| {
                let value = file.partition_values().next().unwrap().1.map(str::to_owned);
                (file.unsaid_partition_columns().next().is_none(), value)
            };
            assert_eq!(told(&file), told(&kept));
            told(&kept)
        };
        assert_eq!(of(&[("day", Some("1"))]), (true, Some("1".into())));
        assert_eq!(of(&[("day", None), ("DAY", Some("1"))]), (true, None));
        assert_eq!(of(&[("x", Some("2")), ("DAY", Some("1"))]), (true, Some("1".into())));
        assert_eq!(of(&[("Day", None)]), (true, None));
        for unsaid in [&[][..], &[("x", Some("2"))], &[("Day", Some("1")), ("DAY", Some("1"))]] {
            assert_eq!(of(unsaid), (false, None), "{unsaid:?}");
        }
    }

    #[test]
    fn files_are_found_by_index_across_chunks() {
        let files = numbered(2 * CHUNK_FILES + 5);
        assert_eq!((files.len(), files.chunks.len()), (2 * CHUNK_FILES + 5, 3));
        for index in [0, 1, CHUNK_FILES - 1, CHUNK_FILES, 2 * CHUNK_FILES, 2 * CHUNK_FILES + 4] {
            assert_eq!(files.get(index).unwrap().path, index.to_string());
        }
        assert!(files.get(files.len()).is_none());
        assert!(files.iter().enumerate().all(|(index, file)| file.path == index.to_string()));
        assert!(numbered(0).is_empty() && numbered(0).get(0).is_none());
    }

    #[test]
    fn chunks_that_did_not_change_are_shared_between_versions() {
        let base = numbered(2 * CHUNK_FILES);
        let mut dropped = Dropped::default();
        dropped.insert("7", None);
        let mut builder = FilesBuilder::from_base(&base, &dropped).unwrap();
        push(&mut builder, "new", None);
        let next = builder.finish();
        assert_eq!(next.len(), base.len());
        assert!(next.chunks.iter().any(|chunk| Arc::ptr_eq(chunk, &base.chunks[1])));
        assert!(next.iter().all(|file| file.path != "7"));
    }

    #[test]
    fn many_small_commits_leave_few_chunks() {
        let mut files = numbered(10);
        for commit in 0..100 {
            let mut builder = FilesBuilder::from_base(&files, &Dropped::default()).unwrap();
            push(&mut builder, &format!("commit {commit}"), None);
            files = builder.finish();
        }
        assert_eq!(files.len(), 110);
        assert!(files.chunks.len() <= 7, "{}", files.chunks.len());
    }

    #[test]
    fn chunks_stay_few_when_most_files_are_dropped_again_and_again() {
        let mut files = numbered(0);
        for round in 0..20 {
            let mut dropped = Dropped::default();
            files.iter().skip(round).for_each(|file| dropped.insert(file.path, None));
            let mut builder = FilesBuilder::from_base(&files, &dropped).unwrap();
            (0..1000).for_each(|number| push(&mut builder, &format!("{round} {number}"), None));
            files = builder.finish();
            assert_eq!(files.len(), round + 1000);
        }
        assert!(files.chunks.len() <= 10, "{}", files.chunks.len());
    }

    #[test]
    fn pages_hold_every_file_once_whatever_the_chunks() {
        let whole = numbered(CHUNK_FILES + 2_000);
        let mut pieces = numbered(1_500);
        for start in [1_500, 20_000, CHUNK_FILES] {
            let mut builder = FilesBuilder::from_base(&pieces, &Dropped::default()).unwrap();
            let end = if start == 1_500 {
                20_000
            } else if start == 20_000 {
                CHUNK_FILES
            } else {
                whole.len()
            };
            (start..end).for_each(|number| push(&mut builder, &number.to_string(), None));
            pieces = builder.finish();
        }
        let read = |files: &Files| {
            let (mut after, mut paths) = (None, Vec::new());
            loop {
                let (page, next) = files.page(after, 777);
                assert!(page.len() == 777 || next.is_none());
                paths.extend(page.iter().map(|&index| files.get(index as usize).unwrap().path.to_owned()));
                match next {
                    Some(next) => after = Some(next),
                    None => return paths,
                }
            }
        };
        let mut paths = read(&whole);
        assert_eq!(paths, read(&pieces));
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), whole.len());
    }

    #[test]
    fn files_of_one_key_share_a_page() {
        let vector = |offset| DeletionVectorRef {
            storage_type: "u",
            path_or_inline: "abc",
            offset: Some(offset),
            size_in_bytes: 1,
            cardinality: 1,
        };
        let mut builder = FilesBuilder::new(Arc::new([]));
        for offset in 0..3 {
            push(&mut builder, "same", Some(vector(offset)));
        }
        (0..3).for_each(|number| push(&mut builder, &number.to_string(), None));
        let files = builder.finish();
        for most in 1..7 {
            let (mut after, mut seen, mut pages) = (None, Vec::new(), 0);
            loop {
                let (page, next) = files.page(after, most);
                let same = page.iter().filter(|&&index| files.get(index as usize).unwrap().path == "same").count();
                assert!(same == 0 || same == 3, "{most}");
                assert!(!page.is_empty() && (page.len() <= most || page.len() == 3), "{most}");
                seen.extend(page);
                pages += 1;
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5], "{most} {pages}");
        }
    }

    #[test]
    fn a_file_is_dropped_by_path_and_deletion_vector_together() {
        let vector = |offset| DeletionVectorRef {
            storage_type: "u",
            path_or_inline: "abc",
            offset,
            size_in_bytes: 1,
            cardinality: 1,
        };
        let mut builder = FilesBuilder::new(Arc::new([]));
        push(&mut builder, "a", Some(vector(Some(12))));
        push(&mut builder, "a", Some(vector(Some(1))));
        push(&mut builder, "b", Some(vector(None)));
        push(&mut builder, "c", None);
        let base = builder.finish();
        let mut dropped = Dropped::default();
        dropped.insert("a", Some("uabc@1"));
        dropped.insert("b", Some("uabc"));
        dropped.insert("c", Some("uabc"));
        let left = FilesBuilder::from_base(&base, &dropped).unwrap().finish();
        let left: Vec<_> = left.iter().map(|file| (file.path.to_owned(), file.deletion_vector.is_some())).collect();
        assert_eq!(left, [("a".to_owned(), true), ("c".to_owned(), false)]);
    }
}
