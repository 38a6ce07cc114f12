//! Defines the failures of a storage, so that callers can tell "missing" from "refused" and "down".

use std::{error::Error, path::PathBuf};

/// A failure between a location and its bytes.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The object does not exist.
    #[error("`{path}` does not exist in its storage")]
    NotFound {
        /// The object's path in the store.
        path: String,
    },
    /// The storage refused the credential, or a path led outside a local root.
    #[error("the storage refused access to `{path}`; check the storage's credential and the object's permissions")]
    Denied {
        /// The object's path in the store.
        path: String,
        /// The store's error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The object was replaced since it was opened.
    #[error("`{path}` was replaced while it was read; open it again")]
    Changed {
        /// The object's path in the store.
        path: String,
    },
    /// The storage gave no usable answer: an outage, so the request may succeed later.
    #[error("the storage is unavailable; try again later")]
    Unavailable {
        /// The store's error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The storage does not support the operation.
    #[error("the storage cannot do this: {what}")]
    Unsupported {
        /// The operation.
        what: String,
    },
    /// A location that is invalid or unsafe.
    #[error("location `{location}` is not usable: {reason}")]
    BadLocation {
        /// The location as written.
        location: String,
        /// The problem, or what to write instead.
        reason: &'static str,
    },
    /// A location in a service or bucket that no storage covers.
    #[error(
        "location `{location}` lies outside every configured storage; add a [[storage]] whose url is a prefix of it"
    )]
    OutsideStorages {
        /// The location, normalised.
        location: String,
    },
    /// A path from a table's log that does not stay under the table.
    #[error("path `{path}` in the table's log is refused: {reason}")]
    Escapes {
        /// The path as written in the log.
        path: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The requested expiry of a URL has already passed.
    #[error("a URL that ends at {expires_at} cannot be signed at {now}")]
    Expired {
        /// The requested expiry.
        expires_at: chrono::DateTime<chrono::Utc>,
        /// The time of signing.
        now: chrono::DateTime<chrono::Utc>,
    },
    /// A configured storage that cannot be opened.
    #[error("storage `{name}`: {reason}")]
    Configuration {
        /// The storage's name.
        name: String,
        /// The problem and its solution.
        reason: String,
    },
    /// A local root that contains a secret or the database, which a table could then reach.
    #[error("storage `{name}`: `{}` lies inside its root; move it, or serve a directory that does not hold it", guarded.display())]
    GuardedInside {
        /// The storage's name.
        name: String,
        /// The file that must not be reachable.
        guarded: PathBuf,
    },
}

impl StorageError {
    /// Returns whether a retry may help; the caller then answers 503 with `Retry-After`.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Builds an outage with its cause.
    pub(crate) fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable { source: source.into() }
    }
}

impl From<object_store::Error> for StorageError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as Store;
        match error {
            Store::NotFound { path, .. } => Self::NotFound { path },
            Store::PermissionDenied { path, source } | Store::Unauthenticated { path, source } => {
                Self::Denied { path, source }
            }
            Store::Precondition { path, .. } | Store::NotModified { path, .. } => Self::Changed { path },
            Store::NotSupported { source } => Self::Unsupported { what: source.to_string() },
            Store::NotImplemented { operation, .. } => Self::Unsupported { what: operation },
            // Other errors say nothing about the object: no answer, an invalid answer, or a 5xx after retries.
            other => Self::unavailable(other),
        }
    }
}
