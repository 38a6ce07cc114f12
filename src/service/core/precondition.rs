//! Etags and the conditions that callers set with them (RFC 9110, 13.1.1).

use uuid::Uuid;

use super::error::ServiceError;

/// The etag of something that was changed `revision` times; the identity keeps a thing that was deleted and made again
/// apart from the first one.
pub fn etag(id: Uuid, revision: i64) -> String {
    format!("\"{}.{revision}\"", id.simple())
}

/// What a caller believes to be the thing's etag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    etags: Vec<String>,
}

impl Precondition {
    /// A condition that holds for any of `etags`, or for everything that exists where one is `*`.
    pub fn new(etags: Vec<String>) -> Self {
        Self { etags }
    }

    /// Refuses where the thing is no longer what the caller read.
    pub(in crate::service) fn check(condition: Option<&Self>, id: Uuid, revision: i64) -> Result<(), ServiceError> {
        let Some(Self { etags }) = condition else { return Ok(()) };
        let current = etag(id, revision);
        let holds = etags.iter().any(|etag| *etag == "*" || *etag == current);
        if holds { Ok(()) } else { Err(ServiceError::PreconditionFailed) }
    }
}
