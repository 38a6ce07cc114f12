//! Holds one version of one table as an immutable value.

use std::collections::BTreeSet;

use delta_kernel::{
    SnapshotRef,
    schema::{SchemaRef, StructType},
    table_features::ColumnMappingMode,
};

use crate::domain::catalog::{
    clients::ReadNeeds,
    delta::{Metadata, Protocol, required_features},
};

use super::{
    error::{LakeError, LogFault},
    files::{FileRef, Files, FilesBuilder},
    log_store::LogTip,
};

/// One version of one table: its protocol, metadata and files. Immutable and freely shareable.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) version: u64,
    pub(super) committed_at: i64,
    pub(super) protocol: Protocol,
    pub(super) metadata: Metadata,
    pub(super) columns: Vec<Column>,
    pub(super) files: Files,
    pub(super) size_bytes: u64,
    pub(super) schema: SchemaRef,
    pub(super) mapping: ColumnMappingMode,
    pub(super) required_features: BTreeSet<String>,
    /// Its place in a log; `None` for a snapshot assembled from files.
    pub(super) origin: Option<Origin>,
}

/// The place in a log from which a snapshot was read.
#[derive(Debug)]
pub(super) struct Origin {
    /// The commit that proves the version.
    pub(super) tip: LogTip,
    /// The kernel's snapshot, from which the next version is read.
    pub(super) kernel: SnapshotRef,
}

/// A top-level column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The logical name.
    pub name: String,
    /// The type, in the notation of SQL engines (`long`, `decimal(10,2)`, `array<string>`).
    pub data_type: String,
    /// Whether the column may hold nulls.
    pub is_nullable: bool,
    /// Whether the table is partitioned by it.
    pub is_partition: bool,
}

impl Snapshot {
    /// Assembles a snapshot from `files` that use logical column names. It belongs to no log and cannot be advanced.
    ///
    /// # Errors
    /// [`LakeError::CorruptLog`] if `metadata` has no valid schema, or the schema lacks one of its partition columns.
    pub fn assembled<'a>(
        version: u64,
        committed_at: i64,
        protocol: Protocol,
        metadata: Metadata,
        files: impl IntoIterator<Item = FileRef<'a>>,
    ) -> Result<Self, LakeError> {
        let malformed = |source: Option<serde_json::Error>| LakeError::CorruptLog {
            location: String::new(),
            fault: LogFault::Inconsistent,
            source: source.map(|source| std::sync::Arc::new(source) as _),
        };
        let schema: StructType =
            serde_json::from_str(&metadata.schema_string).map_err(|error| malformed(Some(error)))?;
        if metadata.partition_columns.iter().any(|name| schema.field(name).is_none()) {
            return Err(malformed(None));
        }
        let mut builder = FilesBuilder::new(metadata.partition_columns.as_slice().into());
        for file in files {
            builder.push(&file);
        }
        let files = builder.finish();
        Ok(Self {
            version,
            committed_at,
            required_features: required_features(&protocol, &metadata, files.has_deletion_vectors()),
            protocol,
            columns: columns(&schema, &metadata),
            metadata,
            size_bytes: files.size_bytes(),
            files,
            schema: schema.into(),
            mapping: ColumnMappingMode::None,
            origin: None,
        })
    }

    /// Returns the table version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the commit that proves the version; `None` if the snapshot was not read from a log.
    pub(super) fn tip(&self) -> Option<&LogTip> {
        self.origin.as_ref().map(|origin| &origin.tip)
    }

    /// Returns the version of the checkpoint with which a reader starts for this version, or 0 without one.
    pub(super) fn begins(&self) -> u64 {
        self.origin.as_ref().and_then(|origin| origin.kernel.log_segment().checkpoint_version).unwrap_or(0)
    }

    /// Returns a text that identifies this version among all that ever existed at this location, even if the table was
    /// replaced by one with the same id and version number.
    pub fn mark(&self) -> String {
        match self.tip() {
            Some(tip) => format!("{} {} {}", self.metadata.id, tip.version, tip.mark),
            None => format!("{} {}", self.metadata.id, self.version),
        }
    }

    /// Returns the commit time in milliseconds since the epoch: the in-commit timestamp if the table has them, else the
    /// modification time of the commit file.
    pub fn committed_at(&self) -> i64 {
        self.committed_at
    }

    /// Returns the `protocol` action in force.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Returns the `metaData` action in force.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the top-level columns, in the table's order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Returns the files that make up the table.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Returns the sum of the file sizes, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the number of live rows: the files' row counts minus deleted rows. `None` if a file has no count.
    pub fn rows(&self) -> Option<u64> {
        self.files.rows()
    }

    /// Returns the reader features that a client needs to read the files correctly.
    pub fn required_features(&self) -> &BTreeSet<String> {
        &self.required_features
    }

    /// Returns the requirements for a client that reads this snapshot.
    pub fn shown(&self) -> ReadNeeds<'_> {
        ReadNeeds {
            needed: &self.required_features,
            schema_string: &self.metadata.schema_string,
            partition_columns: &self.metadata.partition_columns,
            refusal: self.files.refusal(),
        }
    }

    /// Returns the memory that the snapshot uses, in bytes, including parts shared with other versions.
    pub fn resident_bytes(&self) -> usize {
        let properties: usize = self.metadata.configuration.iter().map(|(key, value)| key.len() + value.len()).sum();
        // The schema is kept as text and as columns, and the kernel holds several parsed copies.
        size_of::<Self>()
            + properties
            + 8 * self.metadata.schema_string.len()
            + self.origin.as_ref().map_or(0, |origin| origin.kernel.estimated_owned_heap_size_bytes())
            + self.files.resident_bytes()
    }
}

/// Returns the top-level columns of `schema`.
pub(super) fn columns(schema: &StructType, metadata: &Metadata) -> Vec<Column> {
    let column = |field: &delta_kernel::schema::StructField| Column {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        is_nullable: field.is_nullable(),
        is_partition: metadata.partition_columns.contains(field.name()),
    };
    schema.fields().map(column).collect()
}
