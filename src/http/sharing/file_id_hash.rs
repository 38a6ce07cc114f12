//! The `fileidhash` header: it chooses the digest of a file's path that is the file's id (Delta Sharing protocol, 1.0).

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::service::core::error::ServiceError;

use super::wire::IdHash;

const FILE_ID_HASH: HeaderName = HeaderName::from_static("fileidhash");

/// Returns the digest that the client chose; `None` if it leaves the choice to the format.
pub(super) fn file_id_hash(headers: &HeaderMap) -> Result<Option<IdHash>, ServiceError> {
    let Some(value) = headers.get(FILE_ID_HASH) else { return Ok(None) };
    let raw = String::from_utf8_lossy(value.as_bytes());
    match raw.trim().to_ascii_lowercase().as_str() {
        "parquet" => Ok(Some(IdHash::Parquet)),
        "delta" => Ok(Some(IdHash::Delta)),
        _ => {
            let shown: String = raw.chars().take(64).collect();
            Err(ServiceError::Parameter(format!("Unsupported fileidhash: '{shown}'; use parquet or delta")))
        }
    }
}

/// Repeats the client's choice in the answer, because Spark fails a query without it.
pub(super) fn echo_file_id_hash(headers: &mut HeaderMap, chosen: Option<IdHash>) {
    if let Some(chosen) = chosen {
        headers.insert(FILE_ID_HASH, HeaderValue::from_static(chosen.as_str()));
    }
}
