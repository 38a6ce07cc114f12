//! The lines of files: a snapshot's, and what commits added, removed and recorded as changes (Delta Sharing protocol,
//! 2.2, 2.3, 2.5 to 2.8).

use md5::Md5;
use serde::{Serialize, Serializer, ser::SerializeMap};
use sha2::{Digest, Sha256};

use crate::{
    domain::{
        copy::{FileKey, stable_part},
        negotiation::Format,
        seal::hex,
    },
    lake::{ActionKind, DeletionVectorRef, FileRef},
    service::sharing::delivery::SignedVector,
};

/// Which digest of a file's path is its id (`fileidhash`, Delta Sharing protocol, 2.5).
pub type IdHash = Format;

/// What every file line says besides the file.
#[derive(Clone, Copy)]
pub(super) struct Said<'s> {
    /// How ids are made.
    pub(super) hash: IdHash,
    /// What they are made with where the recipient's ids are its own.
    pub(super) key: Option<&'s FileKey>,
    /// The version that the line belongs to, and when it was committed.
    pub(super) stamp: Option<(u64, i64)>,
    /// When the URLs end.
    pub(super) expiration: i64,
}

impl Said<'_> {
    /// The id of the file at `path`, the path as the log writes it: MD5 in parquet answers and SHA-256 in delta ones,
    /// unless the client chose. Ids order files inside Spark's streaming checkpoints, so that providers who move from
    /// the reference server need the same ones. A governed file's has the same length, and tells nobody else anything.
    fn id(&self, path: &str) -> String {
        if let Some(key) = self.key {
            let mut id = key.id(stable_part(path));
            if self.hash == IdHash::Parquet {
                id.truncate(MD5_CHARACTERS);
            }
            return id;
        }
        match self.hash {
            IdHash::Parquet => hex(&Md5::digest(path.as_bytes())),
            IdHash::Delta => hex(&Sha256::digest(path.as_bytes())),
        }
    }

    fn version(&self) -> Option<u64> {
        self.stamp.map(|stamp| stamp.0)
    }

    fn timestamp(&self) -> Option<i64> {
        self.stamp.map(|stamp| stamp.1)
    }
}

/// The characters of an MD5 in hex.
const MD5_CHARACTERS: usize = 32;

/// A file under the key that says what it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum FileLine<F> {
    File(F),
    Add(F),
    Cdf(F),
    Remove(F),
}

impl<'a> FileLine<ParquetFile<'a>> {
    /// A parquet-format line: of a snapshot's file, or of what a commit did with one.
    pub(super) fn parquet(kind: Option<ActionKind>, file: &FileRef<'a>, url: &'a str, said: Said<'_>) -> Self {
        // Statistics belong to files that are part of the table.
        let has_stats = !matches!(kind, Some(ActionKind::Remove | ActionKind::Cdc));
        let line = ParquetFile {
            url,
            id: said.id(file.path),
            partition_values: PartitionValues(*file),
            size: file.size,
            stats: file.stats.filter(|_| has_stats),
            version: said.version(),
            timestamp: said.timestamp(),
            expiration_timestamp: said.expiration,
        };
        match kind {
            None => Self::File(line),
            Some(ActionKind::Add) => Self::Add(line),
            Some(ActionKind::Cdc) => Self::Cdf(line),
            Some(ActionKind::Remove) => Self::Remove(line),
        }
    }
}

impl<'a> FileLine<DeltaFile<'a>> {
    /// A delta-format line; whatever was done, its key is `file`.
    pub(super) fn delta(
        kind: Option<ActionKind>,
        file: &FileRef<'a>,
        url: &'a str,
        vector: Option<&'a SignedVector>,
        said: Said<'_>,
    ) -> Self {
        let deletion_vector = file.deletion_vector.map(|descriptor| deletion_vector(descriptor, vector));
        let partition_values = PartitionValues(*file);
        let action = match kind {
            None | Some(ActionKind::Add) => DeltaAction::Add(Add {
                path: url,
                partition_values,
                size: file.size,
                modification_time: file.modification_time,
                data_change: file.data_change,
                stats: file.stats,
                deletion_vector,
            }),
            Some(ActionKind::Remove) => DeltaAction::Remove(Remove {
                path: url,
                deletion_timestamp: file.modification_time,
                data_change: file.data_change,
                extended_file_metadata: true,
                partition_values,
                size: file.size,
                deletion_vector,
            }),
            Some(ActionKind::Cdc) => {
                DeltaAction::Cdc(Cdc { path: url, partition_values, size: file.size, data_change: false })
            }
        };
        Self::File(DeltaFile {
            id: said.id(file.path),
            // Spark's cache key of the vector's file; it fails without one (2.7).
            deletion_vector_file_id: vector.map(|vector| said.id(&vector.path)),
            version: said.version(),
            timestamp: said.timestamp(),
            expiration_timestamp: said.expiration,
            delta_single_action: action,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ParquetFile<'a> {
    url: &'a str,
    id: String,
    partition_values: PartitionValues<'a>,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    expiration_timestamp: i64,
}

/// Every partition column with its value; nulls are written, because Spark takes a missing key for an error.
struct PartitionValues<'a>(FileRef<'a>);

impl Serialize for PartitionValues<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.partition_values() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeltaFile<'a> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_vector_file_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    expiration_timestamp: i64,
    delta_single_action: DeltaAction<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum DeltaAction<'a> {
    Add(Add<'a>),
    Remove(Remove<'a>),
    Cdc(Cdc<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Add<'a> {
    path: &'a str,
    partition_values: PartitionValues<'a>,
    size: u64,
    modification_time: i64,
    data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_vector: Option<DeletionVector<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Remove<'a> {
    path: &'a str,
    deletion_timestamp: i64,
    data_change: bool,
    extended_file_metadata: bool,
    partition_values: PartitionValues<'a>,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_vector: Option<DeletionVector<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cdc<'a> {
    path: &'a str,
    partition_values: PartitionValues<'a>,
    size: u64,
    data_change: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeletionVector<'a> {
    storage_type: &'a str,
    path_or_inline_dv: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i32>,
    size_in_bytes: i32,
    cardinality: i64,
}

/// A vector in a file becomes an absolute one whose path is the signed URL; an inline one stays what it is (2.7).
fn deletion_vector<'a>(descriptor: DeletionVectorRef<'a>, vector: Option<&'a SignedVector>) -> DeletionVector<'a> {
    let (storage_type, path_or_inline_dv) = match vector {
        Some(vector) => ("p", vector.url.as_str()),
        None => (descriptor.storage_type, descriptor.path_or_inline),
    };
    DeletionVector {
        storage_type,
        path_or_inline_dv,
        offset: descriptor.offset,
        size_in_bytes: descriptor.size_in_bytes,
        cardinality: descriptor.cardinality,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_reference_servers() {
        let id = |hash| Said { hash, key: None, stamp: None, expiration: 0 }.id("");
        assert_eq!(id(IdHash::Parquet), "d41d8cd98f00b204e9800998ecf8427e");
        assert!(id(IdHash::Delta).starts_with("e3b0c44298fc1c149afbf4c8996fb924"));
    }
}
