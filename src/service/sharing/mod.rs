//! What recipients do: list, look at, query and fetch what they are granted.
//!
//! Every request takes the same way: find the caller, decide, open the snapshot, choose the files, write the audit
//! event (which decides again), and only then hand anything out. Start with [`query`]. Never here: what a line looks
//! like on the wire.

mod attempt;
pub mod files;
pub mod listing;
pub mod query;
pub mod table;

use std::{net::IpAddr, sync::Arc};

use crate::{
    domain::{negotiation::Format, share::SharedObject, token::BearerToken},
    lake::{LakeError, Snapshot},
    service::error::ServiceError,
    storage::StorageError,
};

/// Who sends a request, before anybody has looked the token up.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The bearer token presented, if any.
    pub token: Option<BearerToken>,
    /// Where the request came from.
    pub address: IpAddr,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
    /// The request's id.
    pub request_id: String,
}

/// The names that lead to a table, as the caller spelt them.
#[derive(Clone, Debug)]
pub struct TablePath {
    /// The share.
    pub share: String,
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

/// A table that the caller may read, at one version, in the format agreed.
#[derive(Clone, Debug)]
pub struct TableHead {
    /// The object through which it is shared.
    pub object: SharedObject,
    /// What is shared of it.
    pub snapshot: Arc<Snapshot>,
    /// The format that the client gets.
    pub format: Format,
}

/// A lake's fault as the caller may know it.
impl From<LakeError> for ServiceError {
    fn from(error: LakeError) -> Self {
        match &error {
            LakeError::Unavailable { .. } => Self::Unavailable { what: "the table's storage", source: error.into() },
            LakeError::Unsupported { .. } => Self::Unsupported(error.to_string()),
            LakeError::VersionNotFound { .. }
            | LakeError::CommitNotFound { .. }
            | LakeError::TimestampTooEarly { .. }
            | LakeError::TimestampTooLate { .. }
            | LakeError::ChangesNotRecorded { .. }
            | LakeError::IncompleteRemove { .. } => Self::Malformed(error.to_string()),
            LakeError::NotATable { .. } | LakeError::CorruptLog { .. } => {
                Self::Unreadable { message: error.to_string(), source: error.into() }
            }
            LakeError::Demo { .. } => Self::internal(error),
        }
    }
}

/// A storage's fault as the caller may know it.
impl From<StorageError> for ServiceError {
    fn from(error: StorageError) -> Self {
        let unreadable =
            |message: &str, error: StorageError| Self::Unreadable { message: message.to_owned(), source: error.into() };
        match error {
            StorageError::Unavailable { .. } => Self::Unavailable { what: "the table's storage", source: error.into() },
            StorageError::NotFound { .. } | StorageError::Changed { .. } => unreadable(
                "table files missing: the file is no longer in its storage; read the table again or ask the provider",
                error,
            ),
            StorageError::Denied { .. } => unreadable(
                "permission denied: the provider's server may not read the table's storage; ask the provider",
                error,
            ),
            StorageError::Escapes { .. } => unreadable(
                "the table refers to files outside its own folder, which are never shared; ask the provider",
                error,
            ),
            StorageError::Unsupported { .. }
            | StorageError::BadLocation { .. }
            | StorageError::OutsideStorages { .. }
            | StorageError::Expired { .. }
            | StorageError::Configuration { .. }
            | StorageError::GuardedInside { .. } => Self::internal(error),
        }
    }
}
