//! A snapshot's file list in columns: a handful of buffers per chunk of files, whatever the number of files.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayBuilder, ArrayRef, AsArray, Int32Array, Int64Array, Int64Builder, MapArray, StringArray,
        StringBuilder, StructArray, UInt64Array, UInt64Builder,
    },
    datatypes::{Int32Type, Int64Type},
    error::ArrowError,
};

use super::{
    deletion_vector::DeletionVector,
    statistics::{KeptColumns, Sources},
};

/// Files per chunk. A chunk is what one changed version copies of the last one, and bounds the text offsets well below
/// their 32 bits.
const CHUNK_FILES: usize = 32 * 1024;

/// The files of one snapshot, immutable. Chunks that did not change are shared between versions.
///
/// The order is stable for as long as the snapshot lives, but not across versions or servers.
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
    /// The path, verbatim: ids are digests of this very text, and it is not yet to be trusted.
    pub path: &'a str,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the epoch.
    pub modification_time: i64,
    /// Whether the commit that added the file changed data. Snapshots do not keep it, and say true.
    pub data_change: bool,
    /// Statistics as JSON text.
    pub stats: Option<&'a str>,
    /// The rows of the file that are deleted.
    pub deletion_vector: Option<DeletionVectorRef<'a>>,
    pub(super) partition_columns: &'a [String],
    pub(super) partition_source: PartitionSource<'a>,
}

/// A file's deletion vector as the log describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionVectorRef<'a> {
    /// `u` (relative, encoded), `i` (inline) or `p` (absolute path).
    pub storage_type: &'a str,
    /// The path or the vector itself, as the storage type says.
    pub path_or_inline: &'a str,
    /// Where in the file the vector begins.
    pub offset: Option<i32>,
    /// Bytes of the vector.
    pub size_in_bytes: i32,
    /// Number of deleted rows.
    pub cardinality: i64,
}

impl DeletionVectorRef<'_> {
    /// Whether this is the vector that the kernel names `unique_id` (Delta protocol, derived fields).
    fn has_id(&self, unique_id: &str) -> bool {
        let rest = unique_id.strip_prefix(self.storage_type).and_then(|rest| rest.strip_prefix(self.path_or_inline));
        match (rest, self.offset) {
            (Some(rest), Some(offset)) => rest.strip_prefix('@').is_some_and(|text| text.parse() == Ok(offset)),
            (Some(rest), None) => rest.is_empty(),
            (None, _) => false,
        }
    }
}

/// Values by physical column name, as one action of a log spells them.
pub type PartitionPairs = [(Box<str>, Option<Box<str>>)];

#[derive(Clone, Copy, Debug)]
pub(super) enum PartitionSource<'a> {
    Columns {
        columns: &'a [StringArray],
        row: usize,
    },
    Map {
        keys: &'a StringArray,
        values: &'a StringArray,
        from: usize,
        to: usize,
    },
    /// Carries the names too; the columns are then not asked.
    Pairs(&'a PartitionPairs),
}

impl<'a> FileRef<'a> {
    /// A file that no log describes: nothing of it is deleted, and `partition_values` has the table's order.
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

    /// Each partition column's physical name and its value as the log spells it, always in the same order: the table's
    /// for a file of a snapshot, the names' for a file of a commit.
    pub fn partition_values(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        let (names, source) = (self.partition_columns, self.partition_source);
        let len = if let PartitionSource::Pairs(pairs) = source { pairs.len() } else { names.len() };
        (0..len).map(move |index| match source {
            PartitionSource::Columns { columns, row } => (names[index].as_str(), text(&columns[index], row)),
            PartitionSource::Map { keys, values, from, to } => {
                let name = names[index].as_str();
                let entry = (from..to).find(|&entry| text(keys, entry) == Some(name));
                (name, entry.and_then(|entry| text(values, entry)))
            }
            PartitionSource::Pairs(pairs) => (&*pairs[index].0, pairs[index].1.as_deref()),
        })
    }
}

fn text(array: &StringArray, row: usize) -> Option<&str> {
    array.is_valid(row).then(|| array.value(row))
}

#[derive(Debug)]
pub(super) struct Chunk {
    path: StringArray,
    size: UInt64Array,
    modification_time: Int64Array,
    stats: StringArray,
    partition_values: Vec<StringArray>,
    /// Sorted by row; most tables have none.
    deletion_vectors: Vec<(usize, DeletionVector)>,
    /// What predicates asked for so far.
    kept_columns: KeptColumns,
}

impl Chunk {
    pub(super) fn len(&self) -> usize {
        self.path.len()
    }

    /// The columns that were read for predicates, and what they are read from.
    pub(super) fn columns(&self) -> (&KeptColumns, Sources<'_>) {
        (&self.kept_columns, Sources { stats: &self.stats, partition_values: &self.partition_values })
    }

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
            partition_source: PartitionSource::Columns { columns: &self.partition_values, row },
        }
    }

    fn resident_bytes(&self) -> usize {
        let columns: [&dyn Array; 4] = [&self.path, &self.size, &self.modification_time, &self.stats];
        let vectors = self.deletion_vectors.iter().map(|(_, vector)| {
            size_of::<(usize, DeletionVector)>() + vector.storage_type.len() + vector.path_or_inline.len() + 2 * 16
        });
        columns.iter().map(|column| column.get_array_memory_size()).sum::<usize>()
            + self.partition_values.iter().map(Array::get_array_memory_size).sum::<usize>()
            + vectors.sum::<usize>()
            + self.kept_columns.resident_bytes()
    }
}

impl Files {
    /// The number of files.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Physical names of the partition columns, as the log's partition values are keyed, in the table's order.
    pub fn partition_columns(&self) -> &[String] {
        &self.partition_columns
    }

    /// The file at `index`, counted from 0 in the order of [`Self::iter`].
    pub fn get(&self, index: usize) -> Option<FileRef<'_>> {
        let chunk = self.starts.partition_point(|&start| start <= index).checked_sub(1)?;
        let row = index - self.starts[chunk];
        let chunk = &self.chunks[chunk];
        (row < chunk.len()).then(|| chunk.file(&self.partition_columns, row))
    }

    /// Every file.
    pub fn iter(&self) -> impl Iterator<Item = FileRef<'_>> + Send {
        self.chunks.iter().flat_map(|chunk| (0..chunk.len()).map(|row| chunk.file(&self.partition_columns, row)))
    }

    /// The files in chunks, in order.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter().map(Arc::as_ref)
    }

    /// Whether some file has a deletion vector.
    pub fn has_deletion_vectors(&self) -> bool {
        self.chunks.iter().any(|chunk| !chunk.deletion_vectors.is_empty())
    }

    /// The sum of the files' sizes, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// Bytes of memory held, including what is shared with other versions.
    pub fn resident_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| size_of::<Chunk>() + chunk.resident_bytes()).sum()
    }
}

/// The files, by path and then by deletion vector, that a newer version does not take over from an older one.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    by_path: HashMap<String, Vec<Option<String>>>,
}

impl Dropped {
    pub(super) fn insert(&mut self, path: &str, deletion_vector_id: Option<&str>) {
        self.by_path.entry(path.to_owned()).or_default().push(deletion_vector_id.map(str::to_owned));
    }

    fn contains(&self, chunk: &Chunk, row: usize) -> bool {
        // Nearly every file of a large table is asked for by its path alone.
        self.by_path.get(chunk.path.value(row)).is_some_and(|ids| {
            let vector = chunk.deletion_vector(row);
            ids.iter().any(|id| match (id, &vector) {
                (None, None) => true,
                (Some(id), Some(vector)) => vector.has_id(id),
                _ => false,
            })
        })
    }
}

/// Fills a [`Files`], one file at a time.
pub(super) struct FilesBuilder {
    partition_columns: Arc<[String]>,
    chunks: Vec<Arc<Chunk>>,
    path: StringBuilder,
    size: UInt64Builder,
    modification_time: Int64Builder,
    stats: StringBuilder,
    partition_values: Vec<StringBuilder>,
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
            deletion_vectors: Vec::new(),
            partition_columns,
        }
    }

    /// A builder that begins with the files of an older version, without those that are `dropped`.
    pub(super) fn from_base(base: &Files, dropped: &Dropped) -> Self {
        let mut builder = Self::new(base.partition_columns.clone());
        for chunk in &base.chunks {
            let is_dropped = |&row: &usize| dropped.contains(chunk, row);
            // Small chunks are melted together, so that many small commits do not leave many chunks.
            let is_small = chunk.len() < CHUNK_FILES / 2;
            if is_small || (0..chunk.len()).any(|row| is_dropped(&row)) {
                for row in (0..chunk.len()).filter(|row| !is_dropped(row)) {
                    builder.push(&chunk.file(&base.partition_columns, row));
                }
            } else {
                builder.chunks.push(chunk.clone());
            }
        }
        builder
    }

    pub(super) fn push(&mut self, file: &FileRef<'_>) {
        if let Some(vector) = &file.deletion_vector {
            self.deletion_vectors.push((self.size.len(), DeletionVector::from(*vector)));
        }
        self.path.append_value(file.path);
        self.size.append_value(file.size);
        self.modification_time.append_value(file.modification_time);
        self.stats.append_option(file.stats);
        for (builder, (_, value)) in self.partition_values.iter_mut().zip(file.partition_values()) {
            builder.append_option(value);
        }
        if self.size.len() == CHUNK_FILES {
            self.close_chunk();
        }
    }

    fn close_chunk(&mut self) {
        let closed = Chunk {
            path: shrunk(&mut self.path),
            size: self.size.finish(),
            modification_time: self.modification_time.finish(),
            stats: shrunk(&mut self.stats),
            partition_values: self.partition_values.iter_mut().map(shrunk).collect(),
            deletion_vectors: std::mem::take(&mut self.deletion_vectors),
            kept_columns: KeptColumns::default(),
        };
        self.chunks.push(Arc::new(closed));
    }

    pub(super) fn finish(mut self) -> Files {
        if !self.size.is_empty() {
            self.close_chunk();
        }
        let mut len = 0;
        let starts = self
            .chunks
            .iter()
            .map(|chunk| {
                let start = len;
                len += chunk.len();
                start
            })
            .collect();
        Files { partition_columns: self.partition_columns, chunks: self.chunks, starts, len }
    }

    /// Adds the selected rows of one batch of `add` actions, in whichever of the kernel's two shapes: `constants` is
    /// where partition values are found.
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

/// Builders double their buffers as they grow; what is kept should not hold the slack.
fn shrunk(builder: &mut StringBuilder) -> StringArray {
    let mut array = builder.finish();
    array.shrink_to_fit();
    array
}

struct AddBatch<'a> {
    path: &'a StringArray,
    size: &'a Int64Array,
    modification_time: &'a Int64Array,
    stats: &'a StringArray,
    partition_values: &'a MapArray,
    deletion_vector: &'a StructArray,
    storage_type: &'a StringArray,
    path_or_inline: &'a StringArray,
    offset: &'a Int32Array,
    size_in_bytes: &'a Int32Array,
    cardinality: &'a Int64Array,
}

fn malformed(what: &str) -> ArrowError {
    ArrowError::SchemaError(format!("`{what}` is not what an add action has there"))
}

fn column<'a>(of: &'a StructArray, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    of.column_by_name(name).ok_or_else(|| malformed(name))
}

fn strings<'a>(of: &'a StructArray, name: &str) -> Result<&'a StringArray, ArrowError> {
    column(of, name)?.as_string_opt::<i32>().ok_or_else(|| malformed(name))
}

fn longs<'a>(of: &'a StructArray, name: &str) -> Result<&'a Int64Array, ArrowError> {
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
            storage_type: strings(deletion_vector, "storageType")?,
            path_or_inline: strings(deletion_vector, "pathOrInlineDv")?,
            offset: integers(deletion_vector, "offset")?,
            size_in_bytes: integers(deletion_vector, "sizeInBytes")?,
            cardinality: longs(deletion_vector, "cardinality")?,
            deletion_vector,
        })
    }

    /// The file in `row`, or nothing where the row holds no add action.
    fn file(&self, partition_columns: &'a [String], row: usize) -> Result<Option<FileRef<'a>>, ArrowError> {
        let Some(path) = text(self.path, row) else { return Ok(None) };
        let size = self.size.is_valid(row).then(|| self.size.value(row)).and_then(|size| u64::try_from(size).ok());
        let has_vector = self.deletion_vector.is_valid(row) && self.storage_type.is_valid(row);
        let deletion_vector = has_vector.then(|| DeletionVectorRef {
            storage_type: self.storage_type.value(row),
            path_or_inline: self.path_or_inline.value(row),
            offset: self.offset.is_valid(row).then(|| self.offset.value(row)),
            size_in_bytes: self.size_in_bytes.value(row),
            cardinality: self.cardinality.value(row),
        });
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
            deletion_vector,
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
            partition_source: PartitionSource::Columns { columns: &[], row: 0 },
        };
        builder.push(&file);
    }

    fn numbered(count: usize) -> Files {
        let mut builder = FilesBuilder::new(Arc::new([]));
        (0..count).for_each(|number| push(&mut builder, &number.to_string(), None));
        builder.finish()
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
        let mut builder = FilesBuilder::from_base(&base, &dropped);
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
            let mut builder = FilesBuilder::from_base(&files, &Dropped::default());
            push(&mut builder, &format!("commit {commit}"), None);
            files = builder.finish();
        }
        assert_eq!((files.len(), files.chunks.len()), (110, 1));
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
        let left = FilesBuilder::from_base(&base, &dropped).finish();
        let left: Vec<_> = left.iter().map(|file| (file.path.to_owned(), file.deletion_vector.is_some())).collect();
        assert_eq!(left, [("a".to_owned(), true), ("c".to_owned(), false)]);
    }
}
