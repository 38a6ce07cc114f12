//! Defines why a governed file could not be made. `Display` names no paths and no values; some messages name a column,
//! so they are only for operators. The message of a storage or decoder is the source; values that did not fit appear
//! nowhere.

use std::{error::Error, sync::Arc};

use crate::{domain::catalog::schema::ColumnPath, lake::VectorError, storage::StorageError};

/// The private cause of an error, for the operator's log.
pub(super) type Cause = Arc<dyn Error + Send + Sync>;

/// Why a governed file could not be made. Cheap to clone: all callers that wait for one file get the same error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The table's storage does not answer, or refuses access. The request may succeed later.
    #[error("the table's storage is not available; try again later")]
    Unavailable(#[source] Cause),
    /// A file named in the table's log is missing.
    #[error("a file of the table is missing; ask the table's owner to repair it")]
    Missing,
    /// A file does not follow its format, or does not match the log.
    #[error("a file of the table is corrupt: {what}; ask the table's owner to repair it")]
    Corrupt {
        /// The fault.
        what: &'static str,
        /// The decoder's error, unless it may quote a value.
        #[source]
        source: Option<Cause>,
    },
    /// The table uses something that this server does not support, or its schema does not fit the view.
    #[error("the table cannot be read: {0}")]
    Unsupported(&'static str),
    /// A file lacks a column that must not be NULL or that a mask or row filter reads, and is not known to be older
    /// than the column.
    #[error(
        "a file of the table lacks the column `{0}`, which is never NULL or which a mask or the row filter reads; ask \
         the table's owner to rewrite the file with it"
    )]
    Lacks(ColumnPath),
    /// Several columns of a file may be the one meant, or a column's name and id contradict each other.
    #[error(
        "a file of the table does not say clearly which of its columns is `{0}`; ask the table's owner to rewrite it"
    )]
    Unclear(ColumnPath),
    /// A file stores a column in a form that is not allowed for its type in the table.
    #[error(
        "a file of the table holds the column `{column}` as {found}, which is no form of the type that the table gives \
         it; ask the table's owner to rewrite the file"
    )]
    OtherType {
        /// The column.
        column: ColumnPath,
        /// A description of its type in the file.
        found: String,
    },
    /// A value does not fit the type of its column.
    #[error("a value does not fit its column's type; ask the table's owner to repair it")]
    Overflow,
    /// A part of a file needs more memory than a job may use.
    #[error("a file of the table is too large to be processed: {0}")]
    TooLarge(&'static str),
    /// The storage for copies does not accept a file: it is full, refuses access, or does not answer.
    #[error("the copy could not be written; check that the views' storage can be written and has space")]
    Full(#[source] Cause),
    /// The server is shutting down.
    #[error("the server is shutting down; try again later")]
    Stopped,
}

impl EngineError {
    /// Builds a [`Self::Corrupt`] without a source.
    pub(super) fn corrupt(what: &'static str) -> Self {
        Self::Corrupt { what, source: None }
    }

    /// Builds a [`Self::Full`] from an error of the storage for copies.
    pub(super) fn full(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Full(Arc::new(error))
    }
}

impl From<StorageError> for EngineError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NotFound { .. } => Self::Missing,
            StorageError::Escapes { .. } => Self::Unsupported("its log names a file by a path that is not served"),
            error => Self::Unavailable(Arc::new(error)),
        }
    }
}

impl From<VectorError> for EngineError {
    fn from(error: VectorError) -> Self {
        match error {
            VectorError::Missing => Self::Missing,
            VectorError::Storage(error) => error.into(),
            VectorError::Outside => Self::Unsupported("its log names a deletion vector by a path that is not served"),
            VectorError::TooLarge => Self::TooLarge("its deletion vector is larger than the limit"),
            VectorError::Malformed(source) => {
                Self::Corrupt { what: "its deletion vector is malformed", source: source.map(Arc::from) }
            }
        }
    }
}
