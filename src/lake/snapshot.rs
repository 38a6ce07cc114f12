//! One version of one table, as an immutable value.

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

/// One version of one table: what it is, and which files it consists of. Never changes; share it freely.
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
    /// Where in a log it was read; nowhere for what was put together from files.
    pub(super) origin: Option<Origin>,
}

/// Where in a log a snapshot was read.
#[derive(Debug)]
pub(super) struct Origin {
    /// The commit that proves the version.
    pub(super) tip: LogTip,
    /// What the next version is advanced from.
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
    /// A table put together from `files` whose names for columns are the logical ones: no log was read for it, and none
    /// leads on from it.
    ///
    /// # Errors
    /// [`LakeError::CorruptLog`] where `metadata` holds no schema, or does not hold its partition columns.
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

    /// The table version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The commit that proves the version, where a log has one.
    pub(super) fn tip(&self) -> Option<&LogTip> {
        self.origin.as_ref().map(|origin| &origin.tip)
    }

    /// The checkpoint or commit that a reader of the log begins with for this version.
    pub(super) fn begins(&self) -> u64 {
        self.origin.as_ref().and_then(|origin| origin.kernel.log_segment().checkpoint_version).unwrap_or(0)
    }

    /// Tells this version of this table from every other there ever was at its place: also from one of the same number
    /// and id that was written in its stead.
    pub fn mark(&self) -> String {
        match self.tip() {
            Some(tip) => format!("{} {} {}", self.metadata.id, tip.version, tip.mark),
            None => format!("{} {}", self.metadata.id, self.version),
        }
    }

    /// When the version was committed, in milliseconds since the epoch: the in-commit timestamp where the table keeps
    /// one, else the time of the commit's file.
    pub fn committed_at(&self) -> i64 {
        self.committed_at
    }

    /// The `protocol` action in force.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// The `metaData` action in force.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Top-level columns, in the table's order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The files that make up the table.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The sum of the files' sizes, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// How many rows are live: the files' counts less their deleted rows. `None` where a file has no count.
    pub fn rows(&self) -> Option<u64> {
        self.files.rows()
    }

    /// The reader features without which this snapshot's files cannot be read correctly.
    pub fn required_features(&self) -> &BTreeSet<String> {
        &self.required_features
    }

    /// What a client is to read of it.
    pub fn shown(&self) -> ReadNeeds<'_> {
        ReadNeeds {
            needed: &self.required_features,
            schema_string: &self.metadata.schema_string,
            partition_columns: &self.metadata.partition_columns,
            refusal: self.files.refusal(),
        }
    }

    /// Bytes of memory that the snapshot holds, including what it shares with other versions.
    pub fn resident_bytes(&self) -> usize {
        let properties: usize = self.metadata.configuration.iter().map(|(key, value)| key.len() + value.len()).sum();
        // The schema is kept as text, as columns, and parsed several times over by the kernel.
        size_of::<Self>()
            + properties
            + 8 * self.metadata.schema_string.len()
            + self.origin.as_ref().map_or(0, |origin| origin.kernel.estimated_owned_heap_size_bytes())
            + self.files.resident_bytes()
    }
}

/// The top-level columns of `schema`.
pub(super) fn columns(schema: &StructType, metadata: &Metadata) -> Vec<Column> {
    let column = |field: &delta_kernel::schema::StructField| Column {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        is_nullable: field.is_nullable(),
        is_partition: metadata.partition_columns.contains(field.name()),
    };
    schema.fields().map(column).collect()
}
