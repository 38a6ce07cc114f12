//! Reads a Parquet file from its storage: the footer, and the bytes of row groups as the decoder requests them.
//!
//! The size of each piece is limited before it is fetched or decompressed.

use std::{
    collections::VecDeque,
    io::{self, Read},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf, Bytes};
use object_store::path::Path;
use parquet::{
    errors::ParquetError,
    file::{
        metadata::{ParquetMetaData, ParquetMetaDataReader},
        reader::{ChunkReader, Length},
    },
};
use tokio_util::task::AbortOnDropHandle;

use super::{EngineError, error::Cause, job::Job};
use crate::storage::{Object, StorageError, TableLocation};

/// The length of the end of a file: the footer's length, and four letters.
const TAIL: u64 = 8;
/// The number of bytes fetched first from the end of a file; most footers are shorter.
const FIRST_FETCH: u64 = 64 << 10;
/// The number of bytes fetched for a page header, which may contain statistics.
const HEADER: u64 = 64 << 10;

/// An opened file and its footer.
#[derive(Debug)]
pub(super) struct ParquetFile {
    object: Arc<Object>,
    /// The footer.
    pub(super) metadata: Arc<ParquetMetaData>,
}

impl ParquetFile {
    /// Opens the file and reads its footer. `size` is the size stated in the log.
    pub(super) fn open(job: &Job, table: &TableLocation, path: &Path, size: u64) -> Result<Self, EngineError> {
        let object = job.wait(table.open(path))??;
        if object.size() != size || size < TAIL {
            return Err(EngineError::corrupt("it is not of the size that the log says"));
        }
        let fetch = |range| job.wait(object.fetch(&[range]))?.map_err(EngineError::from).map(|pieces| pieces.concat());
        let begin = size.saturating_sub(FIRST_FETCH);
        let end = fetch(begin..size)?;
        let (footer, length) = match end.split_at_checked(end.len().saturating_sub(TAIL as usize)) {
            Some((footer, [a, b, c, d, b'P', b'A', b'R', b'1'])) => (footer, u32::from_le_bytes([*a, *b, *c, *d])),
            Some((_, [.., b'P', b'A', b'R', b'E'])) => return Err(EngineError::Unsupported("a file is encrypted")),
            _ => return Err(EngineError::corrupt("it is no Parquet file")),
        };
        let length = u64::from(length);
        if length > (job.memory / 8) as u64 {
            return Err(EngineError::TooLarge("its footer is larger than the limit"));
        }
        let from = (size - TAIL).checked_sub(length).ok_or(EngineError::corrupt("its footer is cut off"))?;
        let metadata = if from >= begin {
            ParquetMetaDataReader::decode_metadata(&footer[(from - begin) as usize..])
        } else {
            ParquetMetaDataReader::decode_metadata(&fetch(from..size - TAIL)?)
        };
        let metadata = metadata.map_err(|error| undecodable("its footer is malformed", error))?;
        Ok(Self { object: Arc::new(object), metadata: Arc::new(metadata) })
    }

    /// Returns the number of rows of the file.
    pub(super) fn rows(&self) -> Result<usize, EngineError> {
        let rows = |sum: usize, group| sum.checked_add(self.rows_of(group).ok()?);
        (0..self.metadata.num_row_groups()).try_fold(0, rows).ok_or(EngineError::corrupt("its rows cannot be counted"))
    }

    /// Returns the number of rows of a row group.
    pub(super) fn rows_of(&self, group: usize) -> Result<usize, EngineError> {
        let rows = usize::try_from(self.metadata.row_group(group).num_rows());
        rows.map_err(|_| EngineError::corrupt("its rows cannot be counted"))
    }

    /// Returns the byte ranges of some leaves of a row group.
    fn chunks(&self, group: usize, leaves: &[usize]) -> Result<Vec<Range<u64>>, EngineError> {
        let columns = self.metadata.row_group(group).columns();
        let chunk = |leaf: &usize| {
            let column = columns.get(*leaf)?;
            let from = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            let from = u64::try_from(from).ok()?;
            let to = from.checked_add(u64::try_from(column.compressed_size()).ok()?)?;
            (to <= self.object.size()).then_some(from..to)
        };
        let chunks: Option<Vec<_>> = leaves.iter().map(chunk).collect();
        chunks.ok_or(EngineError::corrupt("its footer points beyond its end"))
    }
}

/// Builds the error for a failure of the decoder. Its messages contain positions and numbers, but no values, unless
/// they come from Arrow.
pub(super) fn undecodable(what: &'static str, error: ParquetError) -> EngineError {
    let source: Option<Cause> = match error {
        ParquetError::ArrowError(_) => None,
        error => Some(Arc::new(error)),
    };
    EngineError::Corrupt { what, source }
}

/// Fetches row groups one after the other. If they are small enough, each is fetched while the one before is decoded.
#[derive(Debug)]
pub(super) struct Fetcher {
    job: Job,
    object: Arc<Object>,
    /// The byte ranges of the coming row groups, in order.
    coming: VecDeque<Vec<Range<u64>>>,
    ahead: Option<AbortOnDropHandle<Result<Vec<Bytes>, StorageError>>>,
}

impl Fetcher {
    /// Creates a fetcher for these leaves of these row groups.
    pub(super) fn new(
        job: &Job,
        file: &ParquetFile,
        groups: Range<usize>,
        leaves: &[usize],
    ) -> Result<Self, EngineError> {
        let coming = groups.map(|group| file.chunks(group, leaves)).collect::<Result<_, _>>()?;
        let mut fetcher = Self { job: job.clone(), object: Arc::clone(&file.object), coming, ahead: None };
        fetcher.look_ahead();
        Ok(fetcher)
    }

    /// Returns the next row group.
    pub(super) fn next(&mut self) -> Result<Pages, EngineError> {
        let chunks = self.coming.pop_front().unwrap_or_default();
        let held = match self.ahead.take() {
            Some(ahead) => self.job.wait(ahead)?.map_err(|_| EngineError::Stopped)??,
            None => vec![Bytes::new(); chunks.len()],
        };
        self.look_ahead();
        // Decoded values may still hold the previous piece, so half the budget is used.
        let window = (self.budget() / 2 / chunks.len().max(1) as u64).max(HEADER);
        let mut chunks: Vec<_> = chunks.into_iter().zip(held).map(|(range, held)| Chunk::new(range, held)).collect();
        chunks.sort_by_key(|chunk| chunk.range.start);
        Ok(Pages { job: self.job.clone(), object: Arc::clone(&self.object), chunks, window, trouble: Arc::default() })
    }

    /// Starts to fetch the next row group, if all of it fits into the budget.
    fn look_ahead(&mut self) {
        let Some(chunks) = self.coming.front().cloned() else { return };
        if chunks.iter().map(|chunk| chunk.end - chunk.start).sum::<u64>() <= self.budget() {
            let object = Arc::clone(&self.object);
            let fetch = self.job.runtime().spawn(async move { object.fetch(&chunks).await });
            self.ahead = Some(AbortOnDropHandle::new(fetch));
        }
    }

    /// Returns the most bytes that a row group may take before it is decoded. Two row groups are held at a time.
    fn budget(&self) -> u64 {
        (self.job.memory / 4) as u64
    }
}

/// The bytes of one row group: prefetched as a whole, or fetched piece by piece on demand.
#[derive(Debug)]
pub(super) struct Pages {
    job: Job,
    object: Arc<Object>,
    /// Sorted by start.
    chunks: Vec<Chunk>,
    /// The number of bytes of a chunk that are fetched at once.
    window: u64,
    trouble: Trouble,
}

/// The first error beneath the decoder, which the decoder's own errors lose.
pub(super) type Trouble = Arc<Mutex<Option<EngineError>>>;

#[derive(Debug)]
struct Chunk {
    range: Range<u64>,
    /// A fetched part of the chunk, and its offset in the file.
    held: Mutex<(u64, Bytes)>,
}

impl Chunk {
    fn new(range: Range<u64>, held: Bytes) -> Self {
        Self { held: Mutex::new((range.start, held)), range }
    }
}

impl Pages {
    /// Returns the place of errors beneath the decoder, for when the decoder fails.
    pub(super) fn trouble(&self) -> Trouble {
        Arc::clone(&self.trouble)
    }

    fn fail(&self, error: EngineError) -> ParquetError {
        let text = error.to_string();
        lock(&self.trouble).get_or_insert(error);
        ParquetError::General(text)
    }

    /// Returns the bytes from `start` on: at least `least` of them, if the chunk has that many.
    fn bytes(&self, start: u64, least: u64) -> Result<Bytes, ParquetError> {
        let after = self.chunks.partition_point(|chunk| chunk.range.start <= start);
        // In a malformed file, the chunks of several leaves may overlap; any of them has the bytes.
        let chunk = self.chunks[..after].iter().rev().find(|chunk| start < chunk.range.end);
        let Some(chunk) = chunk else { return Err(ParquetError::EOF("a page lies outside of its column".to_owned())) };
        let end = start.saturating_add(least).min(chunk.range.end);
        let mut held = lock(&chunk.held);
        let is_held = |held: &(u64, Bytes)| held.0 <= start && end <= held.0 + held.1.len() as u64;
        if !is_held(&held) {
            if end - start > (self.job.memory / 4) as u64 {
                return Err(self.fail(EngineError::TooLarge("a page of it is larger than the limit")));
            }
            let range = start..start.saturating_add(least.max(self.window)).min(chunk.range.end);
            let fetched = self.job.wait(self.object.fetch(&[range]));
            let fetched = fetched.and_then(|fetched| Ok(fetched?)).map_err(|error| self.fail(error))?;
            *held = (start, fetched.into_iter().next().unwrap_or_default());
        }
        Ok(held.1.slice((start - held.0) as usize..))
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.object.size()
    }
}

impl ChunkReader for Pages {
    type T = Header;

    fn get_read(&self, start: u64) -> Result<Header, ParquetError> {
        let bytes = self.bytes(start, HEADER)?;
        Ok(Header { bytes, limit: (self.job.memory / 4) as u64, is_begun: false, trouble: self.trouble() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.bytes(start, length as u64)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF("a page is cut off".to_owned()));
        }
        Ok(bytes.slice(..length))
    }
}

/// A page header as the decoder reads it. Headers of pages that are too large for memory are rejected here.
pub(super) struct Header {
    bytes: Bytes,
    limit: u64,
    is_begun: bool,
    trouble: Trouble,
}

impl Read for Header {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_begun {
            self.is_begun = true;
            if claims(&self.bytes).is_some_and(|claims| claims > self.limit) {
                let error = EngineError::TooLarge("a page of it is larger than the limit");
                lock(&self.trouble).get_or_insert(error);
                return Err(io::ErrorKind::OutOfMemory.into());
            }
        }
        self.bytes.chunk().read(buffer).inspect(|read| self.bytes.advance(*read))
    }
}

/// Returns the memory that a page will need according to its header (Thrift's compact protocol): its uncompressed size,
/// or room for each value of a dictionary if that is more. `None` if this is not a page header; the decoder reports
/// that.
fn claims(header: &[u8]) -> Option<u64> {
    const I32: u8 = 5;
    const STRUCT: u8 = 12;
    const UNCOMPRESSED_SIZE: u8 = 2;
    const DICTIONARY: u8 = 7;
    const VIEW: u64 = size_of::<u128>() as u64;
    let (mut at, mut field, mut bytes) = (header, 0_u8, 0);
    loop {
        let (&byte, rest) = at.split_first()?;
        at = rest;
        // Each field states the increase of its number over the one before.
        field = field.checked_add(byte >> 4)?;
        match byte & 0x0F {
            I32 => {
                let number = varint(&mut at)?;
                if field == UNCOMPRESSED_SIZE {
                    bytes = number;
                }
            }
            STRUCT if field == DICTIONARY && *at.first()? == 0x10 | I32 => {
                at = &at[1..];
                return Some(bytes.max(varint(&mut at)?.saturating_mul(VIEW)));
            }
            _ => return Some(bytes),
        }
    }
}

/// Reads a zigzag number. Negative numbers, which are invalid here, become larger than any limit.
fn varint(at: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = at.split_first()?;
        *at = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(if number & 1 == 0 { number >> 1 } else { u64::MAX });
        }
    }
    None
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
