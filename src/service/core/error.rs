//! The error of every use case: one type for every face to translate.

use std::{error::Error, sync::Arc};

pub use crate::domain::core::spec::FieldError;
use crate::{domain::access::decision::Reason, store::StoreError};

/// Why a use case failed or was refused. Messages are for the caller: they hold no path, no secret and no hidden name.
/// Sources are for the server's log.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A recipient's request was refused by the decision.
    #[error("refused: {}", .reason.code())]
    Denied {
        /// The reason.
        reason: Reason,
        /// The message for the caller.
        message: String,
    },
    /// The caller has reached a limit, and may try again later.
    #[error("{message}")]
    Limited {
        /// The message for the caller.
        message: String,
        /// When a retry may succeed, in seconds.
        retry_after_seconds: u64,
    },
    /// The operator's credential is missing or wrong.
    #[error("{message}")]
    Unauthenticated {
        /// The message for the caller.
        message: String,
    },
    /// The operator is known, and what it may is not enough.
    #[error("{message}")]
    Forbidden {
        /// The stable code of why, as the audit trail has it.
        reason: &'static str,
        /// What the caller is told.
        message: String,
    },
    /// The operator would do alone what takes two.
    #[error("{0}")]
    Separation(String),
    /// The requested thing does not exist.
    #[error("{kind} `{name}` not found")]
    NotFound {
        /// Its noun.
        kind: &'static str,
        /// The requested name.
        name: String,
    },
    /// The requested thing has expired.
    #[error("{0}")]
    Expired(String),
    /// The input breaks rules; all of them are listed.
    #[error("invalid input: {}", list(.0))]
    Invalid(Vec<FieldError>),
    /// A class that would be shown asks for agreements that are not named.
    #[error("an agreement is missing: {}", list(.0))]
    AgreementMissing(Vec<FieldError>),
    /// The disclosure of a table's files, raw or under a view, must be acknowledged.
    #[error("what the table's files disclose is not acknowledged: {}", list(.0))]
    Unacknowledged(Vec<FieldError>),
    /// A parameter of the request cannot be accepted.
    #[error("{0}")]
    Parameter(String),
    /// The request's body cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// The table needs a feature that this client, or this server, does not support.
    #[error("{0}")]
    Unsupported(String),
    /// The table's data cannot be read in its current state.
    #[error("{message}")]
    Unreadable {
        /// The message for the caller.
        message: String,
        /// The private cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The request conflicts with the current state.
    #[error("{message}")]
    Conflict {
        /// The message for the caller.
        message: String,
        /// The fields that differ, if that is the conflict.
        fields: Vec<String>,
    },
    /// The thing was changed since the caller read it.
    #[error("changed since it was read; read it again and repeat the change")]
    PreconditionFailed,
    /// The requested thing is still being made.
    #[error("{0}")]
    NotReady(String),
    /// A required service cannot be reached at the moment.
    #[error("{what} is not reachable at the moment; try again")]
    Unavailable {
        /// The unreachable service, without its address.
        what: &'static str,
        /// The private cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// An error of the server itself.
    #[error("internal error")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect::<Vec<_>>().join("; ")
}

impl ServiceError {
    /// Makes an error about one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// Makes an internal error with its cause.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Internal(source.into())
    }

    /// Makes a conflict that is not about single fields.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict { message: message.into(), fields: Vec::new() }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        Arc::new(error).into()
    }
}

/// Converts an error that several requests may share.
impl From<Arc<StoreError>> for ServiceError {
    fn from(error: Arc<StoreError>) -> Self {
        match &*error {
            StoreError::Unstorable(_) => Self::Parameter(format!("{error}; use another time or text")),
            StoreError::Stale => Self::PreconditionFailed,
            StoreError::Conflict(constraint) => Self::conflict(constraint.to_string()),
            outage if outage.is_outage() => Self::Unavailable { what: "the database", source: error.into() },
            _ => Self::internal(error),
        }
    }
}
