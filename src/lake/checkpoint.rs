//! The files of a Parquet checkpoint, straight from its columns into a snapshot's.
//!
//! Reads only the columns that a snapshot keeps, and row groups on all cores. Answers with nothing whatever is not laid
//! out as expected (JSON checkpoints, statistics as columns alone, unusual types): the kernel reads those, and says what
//! is wrong with them. Never here: what commits did since.

use std::{
    io::Read,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Int64Array, MapArray, RecordBatch, StringArray, StringBuilder,
        StructArray, UInt64Array,
    },
    buffer::ScalarBuffer,
    compute::{filter, filter_record_batch},
    datatypes::Int64Type,
};
use bytes::{Buf, Bytes};
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
        metadata::{ParquetMetaData, ParquetMetaDataReader},
        reader::{ChunkReader, Length},
    },
};
use tokio::runtime::Handle;

use super::{
    files::{CHUNK_FILES, CHUNK_STATS, Chunk, Columns, Files, FilesBuilder, deletion_vectors},
    log_store::LogStore,
};

/// What a snapshot keeps of an `add` action.
const KEPT: [&str; 6] =
    ["add.path", "add.partitionValues", "add.size", "add.modificationTime", "add.stats", "add.deletionVector"];
const SIDECAR: &str = "sidecar.path";
const SIDECARS: &str = "_delta_log/_sidecars";
/// The end of a checkpoint that is fetched first, in bytes: most footers fit.
const FOOTER: usize = 64 << 10;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// The files of the checkpoint that `segment` begins with; `None` where the kernel has to read it.
///
/// Blocks; `handle` is where the reads run.
pub(super) fn files(
    store: &Arc<LogStore>,
    handle: &Handle,
    segment: &LogSegment,
    partition_columns: &Arc<[String]>,
) -> Result<Option<Files>, Fault> {
    let mut parts = Vec::new();
    for part in &segment.listed.checkpoint_parts {
        let Some(part) = Part::open(store, handle, Path::from_url_path(part.location.location.path())?)? else {
            return Ok(None);
        };
        parts.push(part);
    }
    let mut sidecars = Vec::new();
    for part in &parts {
        let Some(names) = part.sidecars()? else { return Ok(None) };
        for name in names {
            match Part::open(store, handle, Path::from_iter([Path::from(SIDECARS).as_ref(), &name].join("/").split('/')))? {
                Some(sidecar) => sidecars.push(sidecar),
                None => return Ok(None),
            }
        }
    }
    parts.extend(sidecars);
    let parts: Vec<_> = parts.into_iter().filter(|part| part.has_files).collect();
    if parts.iter().any(|part| !part.has_texts) {
        return Ok(None);
    }
    read(&parts, partition_columns).map(Some)
}
