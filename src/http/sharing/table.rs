//! A table's version and metadata (Delta Sharing protocol, 1.2 and 1.3).

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{CallerOf, Error, NDJSON, TABLE_VERSION, capabilities, capabilities::Capabilities, wire};
use crate::service::{
    Service,
    error::ServiceError,
    sharing::{TableHead, TablePath},
};

impl CallerOf {
    /// The names that lead to a table.
    pub(super) fn table_path(&self) -> TablePath {
        TablePath { share: self.name("share"), schema: self.name("schema"), table: self.name("table") }
    }
}

pub(super) async fn get_version(State(service): State<Service>, of: CallerOf) -> Result<Response, Error> {
    if of.parameter("startingTimestamp").is_some() {
        return Err(of.error(no_history()));
    }
    let version = service.table_version(&of.caller, &of.table_path()).await.map_err(|error| of.error(error))?;
    Ok(([(TABLE_VERSION, HeaderValue::from(version))], ()).into_response())
}

pub(super) async fn get_metadata(
    State(service): State<Service>,
    headers: HeaderMap,
    of: CallerOf,
) -> Result<Response, Error> {
    if of.parameter("version").is_some() || of.parameter("timestamp").is_some() {
        return Err(of.error(no_history()));
    }
    let capabilities = Capabilities::read(&headers);
    let head = service.table_metadata(&of.caller, &of.table_path(), &capabilities.declared).await;
    let head = head.map_err(|error| of.error(error))?;
    let lines = wire::head_lines(&head).map_err(|error| of.error(error))?;
    Ok((head_headers(&head, &capabilities, false), lines).into_response())
}

/// The headers of every answer about a table.
pub(super) fn head_headers(head: &TableHead, capabilities: &Capabilities, ends_with_action: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, NDJSON);
    headers.insert(HeaderName::from_static(TABLE_VERSION), HeaderValue::from(head.snapshot.version()));
    if let Ok(value) = HeaderValue::from_str(&capabilities.answer(head.format, ends_with_action)) {
        headers.insert(HeaderName::from_static(capabilities::HEADER), value);
    }
    headers
}

fn no_history() -> ServiceError {
    ServiceError::Parameter(
        "Reading table by version or timestamp is not supported because history sharing is not enabled; read the \
         latest version instead"
            .to_owned(),
    )
}
