//! Etags and the conditions that callers set with them (RFC 9110, 13.1.1).

use uuid::Uuid;

use super::error::ServiceError;

/// Returns the etag of a thing at `revision`; its id tells a thing that was deleted and created again from the first
/// one.
pub fn etag(id: Uuid, revision: i64) -> String {
    format!("\"{}.{revision}\"", id.simple())
}

/// The etags that a caller expects a thing to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    etags: Vec<String>,
}

impl Precondition {
    /// Makes a condition that holds for any of `etags`, or for every existing thing if one is `*`.
    pub fn new(etags: Vec<String>) -> Self {
        Self { etags }
    }

    /// Refuses the request if the thing has changed since the caller read it.
    pub(in crate::service) fn check(condition: Option<&Self>, id: Uuid, revision: i64) -> Result<(), ServiceError> {
        let Some(Self { etags }) = condition else { return Ok(()) };
        let current = etag(id, revision);
        let holds = etags.iter().any(|etag| *etag == "*" || *etag == current);
        if holds { Ok(()) } else { Err(ServiceError::PreconditionFailed) }
    }
}
