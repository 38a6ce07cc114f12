//! What a use case answers when it does not do what was asked; one type for every face to translate.

use std::{error::Error, sync::Arc};

pub use crate::domain::core::spec::FieldError;
use crate::{domain::access::decision::Reason, store::StoreError};

/// Why a use case did not do what was asked. Messages are for the caller: they hold no path, no secret and no hidden
/// name. Sources are for the operator's log.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A recipient's request was refused by the decision.
    #[error("refused: {}", .reason.code())]
    Denied {
        /// Why.
        reason: Reason,
        /// What the caller is told.
        message: String,
    },
    /// A caller that may, but not now.
    #[error("{message}")]
    Limited {
        /// What the caller is told.
        message: String,
        /// When asking again may help, in seconds.
        retry_after_seconds: u64,
    },
    /// The operator's credential is missing or wrong.
    #[error("{message}")]
    Unauthenticated {
        /// What the caller is told.
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
    /// There is no such thing.
    #[error("{kind} `{name}` not found")]
    NotFound {
        /// Its noun.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// It was there, and is over.
    #[error("{0}")]
    Expired(String),
    /// The input breaks rules, all of which are named.
    #[error("invalid input: {}", list(.0))]
    Invalid(Vec<FieldError>),
    /// What a table's files disclose, raw or under a view, has to be acknowledged.
    #[error("what the table's files disclose is not acknowledged: {}", list(.0))]
    Unacknowledged(Vec<FieldError>),
    /// A parameter of the request cannot be accepted.
    #[error("{0}")]
    Parameter(String),
    /// The request's body cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// The table needs something that this client, or this server, cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// The table's data cannot be read as it is.
    #[error("{message}")]
    Unreadable {
        /// What the caller is told.
        message: String,
        /// The private cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It clashes with what is there.
    #[error("{message}")]
    Conflict {
        /// What the caller is told.
        message: String,
        /// The fields that differ, where that is the clash.
        fields: Vec<String>,
    },
    /// The thing was changed since the caller read it.
    #[error("changed since it was read; read it again and repeat the change")]
    PreconditionFailed,
    /// What is asked for is being made, and not there yet.
    #[error("{0}")]
    NotReady(String),
    /// Something that this needs is out of reach for now.
    #[error("{what} is not reachable at the moment; try again")]
    Unavailable {
        /// What is out of reach, without its address.
        what: &'static str,
        /// The private cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A fault of ours.
    #[error("internal error")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect::<Vec<_>>().join("; ")
}

impl ServiceError {
    /// An error about one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// A fault of ours with its cause.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Internal(source.into())
    }

    /// A clash that is not about single fields.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict { message: message.into(), fields: Vec::new() }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        Arc::new(error).into()
    }
}

/// An error that several requests may share.
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
