//! The change data feed (Delta Sharing protocol, 1.5).

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::HeaderMap;

use crate::{
    domain::audit::action::Action,
    lake::Feed,
    service::{
        Services,
        core::error::ServiceError,
        sharing::{
            as_of::timestamp_of,
            changes::{ChangesRequest, Moment},
            query::PageAsk,
        },
    },
};

use super::{
    CallerOf, Error,
    capabilities::Capabilities,
    extract::Wrong,
    file_id_hash::file_id_hash,
    query::{Asker, respond},
    query_body::{not_negative, positive_max_files},
    table::number_of,
};

/// What audit events call asking for changes.
const ACTION: Action = Action::TableChanges;

pub(super) async fn get_changes(
    State(service): State<Services>,
    headers: HeaderMap,
    of: CallerOf,
) -> Result<Response, Error> {
    let capabilities = Capabilities::read(&headers);
    let request = match request(&of, &headers, &capabilities) {
        Ok(request) => request,
        Err(wrong) => return Err(of.refuse_wrong(&service, ACTION, wrong).await),
    };
    let ends_with_action = capabilities.end_stream_action || request.page.max_files.is_some();
    let path = of.table_path();
    let admitted = service.sharing.admit_to_table(&of.caller, ACTION, &path).await.map_err(|error| of.error(error))?;
    let answer = service.sharing.query_changes(admitted, &request).await.map_err(|error| of.error(error))?;
    let response = respond(answer, Asker::of(&service, &of), &headers, &capabilities, ends_with_action);
    Ok(response.map_err(|error| of.error(error))?.into_response())
}

fn request(of: &CallerOf, headers: &HeaderMap, capabilities: &Capabilities) -> Result<ChangesRequest, Wrong> {
    let max_files =
        of.parameter("maxFiles").map(|text| positive_max_files(number_of("maxFiles", text)?)).transpose()?;
    ranged(of, headers, capabilities, max_files).map_err(Wrong::about(Feed::Changes))
}

fn ranged(
    of: &CallerOf,
    headers: &HeaderMap,
    capabilities: &Capabilities,
    max_files: Option<u32>,
) -> Result<ChangesRequest, ServiceError> {
    file_id_hash(headers)?;
    let starting = moment(of, "startingVersion", "startingTimestamp", "Multiple starting arguments")?;
    let ending = moment(of, "endingVersion", "endingTimestamp", "Multiple ending arguments")?;
    let starting = starting.ok_or_else(|| {
        ServiceError::Parameter(
            "No startingVersion or startingTimestamp provided for CDF read; provide one of them".to_owned(),
        )
    })?;
    Ok(ChangesRequest {
        declared: capabilities.declared.clone(),
        feed: Feed::Changes,
        starting,
        ending,
        include_historical_metadata: is_true(of, "includeHistoricalMetadata"),
        include_historical_protocol: is_true(of, "includeHistoricalProtocol"),
        page: PageAsk { max_files, page_token: of.parameter("pageToken").map(str::to_owned) },
    })
}

fn moment(of: &CallerOf, version: &str, timestamp: &str, both: &str) -> Result<Option<Moment>, ServiceError> {
    match (of.parameter(version), of.parameter(timestamp)) {
        (Some(_), Some(_)) => {
            Err(ServiceError::Parameter(format!("{both} provided for CDF read; provide only one of them")))
        }
        (Some(text), None) => Ok(Some(Moment::Version(not_negative(version, number_of(version, text)?)?))),
        (None, Some(text)) => Ok(Some(Moment::Timestamp(timestamp_of(timestamp, text)?))),
        (None, None) => Ok(None),
    }
}

/// Reads a boolean parameter in any case, because Python writes `True`; anything else is false.
fn is_true(of: &CallerOf, name: &str) -> bool {
    of.parameter(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}
