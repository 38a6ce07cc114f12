//! Why a governed file could not be made. `Display` names no path and no value; a column only where an operator has to
//! know which, so that it is for operators alone. What a storage or a decoder said is the source, and values that did
//! not fit are nowhere.

use std::{error::Error, sync::Arc};

use crate::{domain::catalog::schema::ColumnPath, lake::VectorError, storage::StorageError};

/// The private cause of an error, for the operator's log.
pub(super) type Cause = Arc<dyn Error + Send + Sync>;

/// What went wrong. Cheap to clone: everyone who waited for one file gets the same error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The table's storage does not answer, or refuses. It may do so later.
    #[error("the table's storage is not available; try again later")]
    Unavailable(#[source] Cause),
    /// A file that the table's log names is not there.
    #[error("a file of the table is missing; ask the table's owner to repair it")]
    Missing,
    /// A file is not what its format or the log says.
    #[error("a file of the table is corrupt: {what}; ask the table's owner to repair it")]
    Corrupt {
        /// What about it.
        what: &'static str,
        /// What the decoder said, where that cannot hold a value.
        #[source]
        source: Option<Cause>,
    },
    /// Something that this server does not read, or a schema that does not fit the view.
    #[error("the table cannot be read: {0}")]
    Unsupported(&'static str),
    /// A file lacks a column that may not be NULL, or that a mask or a row filter reads, and is not known to be older
    /// than the column.
    #[error(
        "a file of the table lacks the column `{0}`, which is never NULL or which a mask or the row filter reads; ask \
         the table's owner to rewrite the file with it"
    )]
    Lacks(ColumnPath),
    /// Several columns of a file may be the one that is meant, or its name and its id contradict each other.
    #[error(
        "a file of the table does not say clearly which of its columns is `{0}`; ask the table's owner to rewrite it"
    )]
    Unclear(ColumnPath),
    /// A file has a column in a form that no writer may choose for the type that the table gives it.
    #[error(
        "a file of the table holds the column `{column}` as {found}, which is no form of the type that the table gives \
         it; ask the table's owner to rewrite the file"
    )]
    OtherType {
        /// The column.
        column: ColumnPath,
        /// What it is in the file, in words.
        found: String,
    },
    /// A value does not fit the type that it should have.
    #[error("a value does not fit its column's type; ask the table's owner to repair it")]
    Overflow,
    /// A part of a file needs more memory than a job may take.
    #[error("a file of the table is too large to be processed: {0}")]
    TooLarge(&'static str),
    /// The storage of the copies does not take a file: it is full, refuses, or does not answer.
    #[error("the copy could not be written; check that the views' storage can be written and has space")]
    Full(#[source] Cause),
    /// The server is shutting down.
    #[error("the server is shutting down; try again later")]
    Stopped,
}

impl EngineError {
    /// A fault that needs no further words.
    pub(super) fn corrupt(what: &'static str) -> Self {
        Self::Corrupt { what, source: None }
    }

    /// A failure of the storage that the copies are written to.
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
