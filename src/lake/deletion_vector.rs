//! Reads deletion vectors: where they are stored, and which rows they delete (Delta protocol, "Deletion Vectors").

use std::{error::Error, sync::Arc};

use arrow::{array::BooleanBufferBuilder, buffer::BooleanBuffer};
use bytes::Bytes;
use delta_kernel::{
    DeltaResult, FileMeta, FileSlice, StorageHandler,
    actions::deletion_vector::{DeletionVectorDescriptor, DeletionVectorStorageType},
};
use url::Url;
use uuid::Uuid;

use super::files::DeletionVectorRef;
use crate::storage::{StorageError, TableLocation};

/// The length of the encoded UUID at the end of a relative vector's text, in characters.
const ENCODED_UUID: usize = 20;
/// The largest vector that is read, in bytes; enough to delete every other of half a billion rows.
const MAX_VECTOR: u64 = 64 << 20;
/// The bytes around a vector in its file: its size before, its checksum after.
const FRAME: u64 = 4 + 4;
/// The length of the format version, the first byte of a file of vectors.
const VERSION: u64 = 1;
/// The URL under which the kernel's reader sees a vector.
const ROOT: &str = "delta:///";

/// Where a vector is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VectorPlace {
    /// In the log itself.
    Inline,
    /// In a file at this path relative to the table.
    File(String),
    /// In a file that the log names by an absolute URL.
    Absolute,
    /// The descriptor is invalid.
    Malformed,
}

/// An owned copy of a file's deletion vector as described in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletionVector {
    pub(super) storage_type: Box<str>,
    pub(super) path_or_inline: Box<str>,
    offset: Option<i32>,
    size_in_bytes: i32,
    cardinality: i64,
}

/// Why the rows that a vector deletes cannot be determined. Names no path.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// The vector's file is missing.
    #[error("the deletion vector's file is missing")]
    Missing,
    /// The storage does not answer, or refuses access.
    #[error("the deletion vector's file cannot be read")]
    Storage(#[source] StorageError),
    /// The vector is at a path that is not served.
    #[error("the deletion vector is named by a path that is not served")]
    Outside,
    /// The vector is larger than the server's limit.
    #[error("the deletion vector is larger than the limit")]
    TooLarge,
    /// The vector does not follow its format or does not match the log.
    #[error("the deletion vector is malformed")]
    Malformed(#[source] Option<Box<dyn Error + Send + Sync>>),
}

impl From<delta_kernel::Error> for VectorError {
    fn from(error: delta_kernel::Error) -> Self {
        Self::Malformed(Some(Box::new(error)))
    }
}

impl DeletionVectorRef<'_> {
    /// Returns where the vector is stored.
    pub fn place(&self) -> VectorPlace {
        match self.storage_type {
            "i" => VectorPlace::Inline,
            "u" => self.relative_path().map_or(VectorPlace::Malformed, VectorPlace::File),
            "p" => VectorPlace::Absolute,
            _ => VectorPlace::Malformed,
        }
    }

    fn relative_path(&self) -> Option<String> {
        let split = self.path_or_inline.len().checked_sub(ENCODED_UUID)?;
        let (prefix, encoded) = self.path_or_inline.split_at_checked(split)?;
        let uuid = Uuid::from_slice(&z85::decode(encoded).ok()?).ok()?;
        let name = format!("deletion_vector_{uuid}.bin");
        Some(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
    }
}

impl From<DeletionVectorRef<'_>> for DeletionVector {
    fn from(vector: DeletionVectorRef<'_>) -> Self {
        Self {
            storage_type: vector.storage_type.into(),
            path_or_inline: vector.path_or_inline.into(),
            offset: vector.offset,
            size_in_bytes: vector.size_in_bytes,
            cardinality: vector.cardinality,
        }
    }
}

impl DeletionVector {
    /// Returns the vector in the form that a snapshot uses.
    pub fn as_ref(&self) -> DeletionVectorRef<'_> {
        DeletionVectorRef {
            storage_type: &self.storage_type,
            path_or_inline: &self.path_or_inline,
            offset: self.offset,
            size_in_bytes: self.size_in_bytes,
            cardinality: self.cardinality,
        }
    }

    /// Returns which of the `rows` rows of a file are live: true for each live row.
    ///
    /// # Errors
    /// A vector that differs from the log in any way is an error: it must delete exactly the stated number of rows, all
    /// within the file, and match its checksum if it has one.
    pub async fn live_rows(&self, table: &TableLocation, rows: usize) -> Result<BooleanBuffer, VectorError> {
        let size = u64::try_from(self.size_in_bytes).map_err(|_| VectorError::Malformed(None))?;
        if size > MAX_VECTOR {
            return Err(VectorError::TooLarge);
        }
        let (kind, text, file) = match self.as_ref().place() {
            VectorPlace::Inline => (DeletionVectorStorageType::Inline, &*self.path_or_inline, Bytes::new()),
            VectorPlace::File(path) => {
                let file = self.fetch(table, &path, size).await?;
                (DeletionVectorStorageType::PersistedAbsolute, ROOT, file)
            }
            VectorPlace::Absolute => return Err(VectorError::Outside),
            VectorPlace::Malformed => return Err(VectorError::Malformed(None)),
        };
        // The kernel's reader assumes that the first four bytes exist.
        if text.len() < 5 {
            return Err(VectorError::Malformed(None));
        }
        let descriptor = DeletionVectorDescriptor::try_new(kind, text, None, self.size_in_bytes, self.cardinality)?;
        let root = Url::parse(ROOT).map_err(|error| VectorError::Malformed(Some(error.into())))?;
        let deleted = descriptor.read(Arc::new(Fetched(file)), &root)?;
        let is_within = deleted.max().is_none_or(|last| usize::try_from(last).is_ok_and(|last| last < rows));
        if !is_within || u64::try_from(self.cardinality) != Ok(deleted.len()) {
            return Err(VectorError::Malformed(None));
        }
        let mut live = BooleanBufferBuilder::new(rows);
        live.append_n(rows, true);
        for row in &deleted {
            live.set_bit(usize::try_from(row).unwrap_or(usize::MAX), false);
        }
        Ok(live.finish())
    }

    /// Fetches a vector and its format version, so that the result is a file with only this vector.
    async fn fetch(&self, table: &TableLocation, path: &str, size: u64) -> Result<Bytes, VectorError> {
        let failed = |error| match error {
            StorageError::NotFound { .. } => VectorError::Missing,
            StorageError::Escapes { .. } => VectorError::Outside,
            error => VectorError::Storage(error),
        };
        let from = u64::try_from(self.offset.unwrap_or(1)).map_err(|_| VectorError::Malformed(None))?;
        let vector = from..from + size + FRAME;
        let file = table.open(&table.resolve(path).map_err(failed)?).await.map_err(failed)?;
        if from < VERSION || file.size() < vector.end {
            return Err(VectorError::Malformed(None));
        }
        Ok(file.fetch(&[0..VERSION, vector]).await.map_err(failed)?.concat().into())
    }
}

/// The storage for the kernel's reader: one file, already fetched.
struct Fetched(Bytes);

impl StorageHandler for Fetched {
    fn read_files(&self, files: Vec<FileSlice>) -> DeltaResult<Box<dyn Iterator<Item = DeltaResult<Bytes>>>> {
        let bytes = self.0.clone();
        Ok(Box::new(files.into_iter().map(move |_| Ok(bytes.clone()))))
    }

    fn list_from(&self, _: &Url) -> DeltaResult<Box<dyn Iterator<Item = DeltaResult<FileMeta>>>> {
        Err(delta_kernel::Error::unsupported("a deletion vector has no neighbours"))
    }

    fn copy_atomic(&self, _: &Url, _: &Url) -> DeltaResult<()> {
        Err(delta_kernel::Error::unsupported("a deletion vector is only read"))
    }

    fn put(&self, _: &Url, _: Bytes, _: bool) -> DeltaResult<()> {
        Err(delta_kernel::Error::unsupported("a deletion vector is only read"))
    }

    fn head(&self, _: &Url) -> DeltaResult<FileMeta> {
        Err(delta_kernel::Error::unsupported("a deletion vector is only read"))
    }

    fn delete(&self, _: &Url) -> DeltaResult<()> {
        Err(delta_kernel::Error::unsupported("a deletion vector is only read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(storage_type: &str, path_or_inline: &str) -> VectorPlace {
        DeletionVectorRef { storage_type, path_or_inline, offset: Some(1), size_in_bytes: 1, cardinality: 1 }.place()
    }

    /// The example of the Delta protocol, "Deletion Vector Descriptor Schema".
    #[test]
    fn relative_vectors_lie_where_the_protocol_says() {
        let file = "deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin";
        assert_eq!(place("u", "ab^-aqEH.-t@S}K{vb[*k^"), VectorPlace::File(format!("ab/{file}")));
        assert_eq!(place("u", "^-aqEH.-t@S}K{vb[*k^"), VectorPlace::File(file.to_owned()));
    }

    #[test]
    fn nonsense_is_called_so() {
        for (kind, text) in [("u", ""), ("u", "short"), ("u", "ä^-aqEH.-t@S}K{vb[*k"), ("x", "a")] {
            assert_eq!(place(kind, text), VectorPlace::Malformed, "{kind} {text}");
        }
        assert_eq!(place("p", "s3://a/b"), VectorPlace::Absolute);
        assert_eq!(place("i", "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"), VectorPlace::Inline);
    }
}
