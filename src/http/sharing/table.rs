//! A table's version and metadata (Delta Sharing protocol, 1.2 and 1.3).

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    domain::audit::action::Action,
    lake::Feed,
    service::{
        Services,
        core::error::ServiceError,
        sharing::{
            TableHead, TablePath,
            as_of::{AsOf, timestamp_of},
        },
    },
};

use super::{
    CallerOf, Error, NDJSON, TABLE_VERSION,
    capabilities::{self, Capabilities},
    extract::Wrong,
    file_id_hash::{echo_file_id_hash, file_id_hash},
    query_body::not_negative,
    wire,
};

impl CallerOf {
    /// Returns the path of the requested table.
    pub(super) fn table_path(&self) -> TablePath {
        TablePath { share: self.name("share"), schema: self.name("schema"), table: self.name("table") }
    }
}

pub(super) async fn get_version(State(service): State<Services>, of: CallerOf) -> Result<Response, Error> {
    let since = of.parameter("startingTimestamp");
    let version =
        service.sharing.table_version(&of.caller, &of.table_path(), since).await.map_err(|error| of.error(error))?;
    Ok(([(TABLE_VERSION, HeaderValue::from(version))], ()).into_response())
}

pub(super) async fn get_metadata(
    State(service): State<Services>,
    headers: HeaderMap,
    of: CallerOf,
) -> Result<Response, Error> {
    let parsed = as_of(&of).and_then(|as_of| Ok((as_of, file_id_hash(&headers)?)));
    let (as_of, chosen_hash) = match parsed {
        Ok(parsed) => parsed,
        Err(wrong) => return Err(of.refuse_wrong(&service, Action::TableMetadata, wrong).await),
    };
    let capabilities = Capabilities::read(&headers);
    let head = service.sharing.table_metadata(&of.caller, &of.table_path(), as_of, &capabilities.declared).await;
    let head = head.map_err(|error| of.error(error))?;
    let lines = wire::head_lines(&head).map_err(|error| of.error(error))?;
    // Always exactly two lines, because Spark refuses a third.
    let mut headers = head_headers(&head, &capabilities, false);
    echo_file_id_hash(&mut headers, chosen_hash);
    Ok((headers, lines).into_response())
}

fn as_of(of: &CallerOf) -> Result<AsOf, Wrong> {
    match (of.parameter("version"), of.parameter("timestamp")) {
        (Some(_), Some(_)) => {
            Err(ServiceError::Parameter("Please only provide one of: version,timestamp".to_owned()).into())
        }
        (Some(text), None) => Ok(AsOf::Version(not_negative("version", number_of("version", text)?)?)),
        (None, Some(text)) => {
            let at = timestamp_of("timestamp", text).map_err(Wrong::about(Feed::Files))?;
            Ok(AsOf::Timestamp(at))
        }
        (None, None) => Ok(AsOf::Latest),
    }
}

/// Parses a whole number in a query parameter.
pub(super) fn number_of(name: &str, text: &str) -> Result<i64, ServiceError> {
    text.parse().map_err(|_| {
        ServiceError::Parameter(format!("{name}: expected a number but the string didn't have the appropriate format"))
    })
}

/// Returns the headers of every answer about a table.
pub(super) fn head_headers(head: &TableHead, capabilities: &Capabilities, ends_with_action: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, NDJSON);
    headers.insert(HeaderName::from_static(TABLE_VERSION), HeaderValue::from(head.version));
    if let Ok(value) = HeaderValue::from_str(&capabilities.answer(head.format, ends_with_action)) {
        headers.insert(HeaderName::from_static(capabilities::HEADER), value);
    }
    headers
}
