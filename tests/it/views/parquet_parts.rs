//! Takes a Parquet file apart: its footer, every page decompressed, every dictionary, its rows, and all remaining
//! bytes.

use std::{collections::BTreeSet, ops::Range};

use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
    basic::Type as PhysicalType,
    column::{page::Page, reader::ColumnReader},
    data_type::AsBytes,
    file::{
        metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData},
        reader::{FileReader, SerializedFileReader},
        serialized_reader::ReadOptionsBuilder,
    },
};

use super::value::{Row, Value, from_array};

/// A file taken apart.
pub struct ParquetParts {
    pub metadata: ParquetMetaData,
    /// The top-level columns with their arrow types.
    pub columns: arrow::datatypes::Fields,
    pub rows: Vec<Row>,
    /// Every page decompressed, with its place.
    pub pages: Vec<(String, Vec<u8>)>,
    /// Dictionary entries that no row refers to.
    pub unused: Vec<(String, Vec<u8>)>,
    /// Bytes that belong to no page, index or footer.
    pub unexplained: Vec<Range<u64>>,
}

/// Takes a file apart.
pub fn take_apart(content: &[u8]) -> ParquetParts {
    let content = Bytes::copy_from_slice(content);
    let options = ReadOptionsBuilder::new().with_page_index().build();
    let reader = SerializedFileReader::new_with_options(content.clone(), options).unwrap();
    let metadata = reader.metadata().clone();
    let (mut pages, mut unused) = (Vec::new(), Vec::new());
    // The magic number.
    let mut explained = Vec::new();
    explained.push(0..4);
    for group in 0..reader.num_row_groups() {
        let row_group = reader.get_row_group(group).unwrap();
        for leaf in 0..row_group.num_columns() {
            let chunk = row_group.metadata().column(leaf);
            let place = format!("row group {group}, {}", chunk.column_path().string());
            let mut dictionary: Option<(Vec<u8>, usize)> = None;
            for page in row_group.get_column_page_reader(leaf).unwrap() {
                let page = page.unwrap();
                if let Page::DictionaryPage { buf, num_values, .. } = &page {
                    dictionary = Some((buf.to_vec(), *num_values as usize));
                }
                pages.push((place.clone(), page.buffer().to_vec()));
            }
            if let Some((buffer, entries)) = dictionary {
                let used = values(row_group.get_column_reader(leaf).unwrap(), row_group.metadata().num_rows());
                let entries = plain_values(chunk, &buffer, entries);
                unused.extend(
                    entries.into_iter().filter(|entry| !used.contains(entry)).map(|entry| (place.clone(), entry)),
                );
            }
            explained.extend(explained_by(chunk));
        }
    }
    let length = content.len() as u64;
    let footer = u32::from_le_bytes(content[content.len() - 8..][..4].try_into().unwrap());
    explained.push(length - 8 - u64::from(footer)..length);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(
        content,
        ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_page_index_policy(PageIndexPolicy::Skip),
    )
    .unwrap();
    let columns = builder.schema().fields().clone();
    let mut rows = Vec::new();
    for batch in builder.build().unwrap() {
        let batch = batch.unwrap();
        let columns: Vec<Vec<Value>> = batch.columns().iter().map(from_array).collect();
        rows.extend((0..batch.num_rows()).map(|at| columns.iter().map(|column| column[at].clone()).collect::<Row>()));
    }
    ParquetParts { metadata, columns, rows, pages, unused, unexplained: gaps(explained, length) }
}

/// The bytes of the file that belong to a column chunk and its indexes.
fn explained_by(chunk: &ColumnChunkMetaData) -> Vec<Range<u64>> {
    let (start, length) = chunk.byte_range();
    let range = |offset: Option<i64>, length: Option<i32>| {
        let offset = u64::try_from(offset?).unwrap();
        Some(offset..offset + u64::try_from(length?).unwrap())
    };
    let more = [
        range(chunk.column_index_offset(), chunk.column_index_length()),
        range(chunk.offset_index_offset(), chunk.offset_index_length()),
        range(chunk.bloom_filter_offset(), chunk.bloom_filter_length()),
    ];
    [Some(start..start + length)].into_iter().chain(more).flatten().collect()
}

fn gaps(mut explained: Vec<Range<u64>>, length: u64) -> Vec<Range<u64>> {
    explained.sort_by_key(|range| range.start);
    let (mut gaps, mut end) = (Vec::new(), 0);
    for range in explained {
        if range.start > end {
            gaps.push(end..range.start);
        }
        end = end.max(range.end);
    }
    if end < length {
        gaps.push(end..length);
    }
    gaps
}

/// The values of a column in a row group, as bytes.
fn values(reader: ColumnReader, rows: i64) -> BTreeSet<Vec<u8>> {
    let rows = usize::try_from(rows).unwrap();
    macro_rules! read {
        ($reader:expr) => {{
            let mut reader = $reader;
            let (mut found, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
            while {
                let (read, ..) =
                    reader.read_records(rows, Some(&mut definitions), Some(&mut repetitions), &mut found).unwrap();
                read > 0
            } {}
            found.iter().map(|value| value.as_bytes().to_vec()).collect()
        }};
    }
    match reader {
        ColumnReader::BoolColumnReader(reader) => read!(reader),
        ColumnReader::Int32ColumnReader(reader) => read!(reader),
        ColumnReader::Int64ColumnReader(reader) => read!(reader),
        ColumnReader::Int96ColumnReader(reader) => read!(reader),
        ColumnReader::FloatColumnReader(reader) => read!(reader),
        ColumnReader::DoubleColumnReader(reader) => read!(reader),
        ColumnReader::ByteArrayColumnReader(reader) => read!(reader),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => read!(reader),
    }
}

/// The entries of a dictionary, as bytes.
fn plain_values(chunk: &ColumnChunkMetaData, buffer: &[u8], entries: usize) -> Vec<Vec<u8>> {
    let width = match chunk.column_type() {
        PhysicalType::INT32 | PhysicalType::FLOAT => 4,
        PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
        PhysicalType::INT96 => 12,
        PhysicalType::FIXED_LEN_BYTE_ARRAY => usize::try_from(chunk.column_descr().type_length()).unwrap(),
        PhysicalType::BOOLEAN => panic!("booleans have no dictionary"),
        PhysicalType::BYTE_ARRAY => {
            let (mut rest, mut found) = (buffer, Vec::new());
            for _ in 0..entries {
                let (length, more) = rest.split_first_chunk::<4>().unwrap();
                let (value, more) = more.split_at(u32::from_le_bytes(*length) as usize);
                found.push(value.to_vec());
                rest = more;
            }
            assert!(rest.is_empty());
            return found;
        }
    };
    assert_eq!(buffer.len(), width * entries);
    buffer.chunks(width).map(<[u8]>::to_vec).collect()
}
