//! Every way a storage can fail, told apart so that callers can tell "missing" from "refused" from "down".

use std::{error::Error, path::PathBuf};

/// What went wrong between a location and its bytes.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The object does not exist.
    #[error("`{path}` does not exist in its storage")]
    NotFound {
        /// The object's path inside the store.
        path: String,
    },
    /// The storage refused our credential, or a path led out of a local root.
    #[error("the storage refused access to `{path}`; check the storage's credential and the object's permissions")]
    Denied {
        /// The object's path inside the store.
        path: String,
        /// What the store said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The object is no longer the one that was opened.
    #[error("`{path}` was replaced while it was read; open it again")]
    Changed {
        /// The object's path inside the store.
        path: String,
    },
    /// The storage does not answer, or not usefully: an outage, to be tried again later.
    #[error("the storage is unavailable; try again later")]
    Unavailable {
        /// What the store said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The storage cannot do what was asked of it.
    #[error("the storage cannot do this: {what}")]
    Unsupported {
        /// What was asked.
        what: String,
    },
    /// A location that cannot be understood or is not safe.
    #[error("location `{location}` is not usable: {reason}")]
    BadLocation {
        /// The location as it was written.
        location: String,
        /// What to write instead.
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
        /// The path as the log writes it.
        path: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The moment at which a URL should die has already passed.
    #[error("a URL that ends at {expires_at} cannot be signed at {now}")]
    Expired {
        /// When the URL should have died.
        expires_at: chrono::DateTime<chrono::Utc>,
        /// The moment of signing.
        now: chrono::DateTime<chrono::Utc>,
    },
    /// A configured storage that cannot be opened.
    #[error("storage `{name}`: {reason}")]
    Configuration {
        /// The storage's name.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A local root that would put a secret or the database within reach of a table.
    #[error("storage `{name}`: `{}` lies inside its root; move it, or serve a directory that does not hold it", guarded.display())]
    GuardedInside {
        /// The storage's name.
        name: String,
        /// The file that must not be reachable.
        guarded: PathBuf,
    },
}

impl StorageError {
    /// Whether trying again later may help: the caller answers 503 with `Retry-After`.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// An outage with its cause.
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
            // Whatever is left is no statement about the object: no answer, a broken answer, a 5xx after retries.
            other => Self::unavailable(other),
        }
    }
}
