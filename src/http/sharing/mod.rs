//! The Delta Sharing protocol for recipients' connectors.
//!
//! Lives here: paths, parameters, bodies, headers and lines. Never here: access decisions, or finding files.

mod capabilities;
mod changes;
mod error;
mod extract;
mod file_id_hash;
mod listing;
mod query;
mod query_body;
mod table;
mod wire;

use axum::{
    Router,
    extract::{Request, State},
    routing::{get, head, post},
};
use http::{HeaderValue, StatusCode};

use crate::{
    domain::audit::action::Action,
    service::{Services, core::error::ServiceError, sharing::RequestedNames},
};

use super::{client, fault};

pub use self::{
    error::{Contact, Error, write_errors},
    extract::{CallerOf, caller},
};

/// The content type of answers with one JSON object.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// The content type of answers with many lines.
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson; charset=utf-8");
/// The response header with a table's version.
const TABLE_VERSION: &str = "delta-table-version";

/// Builds the protocol's routes, relative to its prefix.
pub fn router() -> Router<Services> {
    const TABLE: &str = "/shares/{share}/schemas/{schema}/tables/{table}";
    Router::new()
        .route("/shares", get(listing::list_shares))
        .route("/shares/{share}", get(listing::get_share))
        .route("/shares/{share}/schemas", get(listing::list_schemas))
        .route("/shares/{share}/schemas/{schema}/tables", get(listing::list_tables))
        .route("/shares/{share}/all-tables", get(listing::list_all_tables))
        .route(TABLE, head(table::get_version))
        .route(&format!("{TABLE}/version"), get(table::get_version))
        .route(&format!("{TABLE}/metadata"), get(table::get_metadata))
        .route(&format!("{TABLE}/query"), post(query::query_table))
        .route(&format!("{TABLE}/changes"), get(changes::get_changes))
        .route(&format!("{TABLE}/queries/{{query_id}}"), post(get_query))
        .route(&format!("{TABLE}/temporary-table-credentials"), post(get_credentials))
        .fallback(refuse_route)
        .method_not_allowed_fallback(refuse_method)
}

/// Answers that there is no such route, and records it like every refusal.
async fn refuse_route(State(service): State<Services>, request: Request) -> Error {
    refuse_unrouted(&service, request, StatusCode::NOT_FOUND).await
}

/// Answers that the route does not take this method, and records it.
async fn refuse_method(State(service): State<Services>, request: Request) -> Error {
    refuse_unrouted(&service, request, StatusCode::METHOD_NOT_ALLOWED).await
}

async fn refuse_unrouted(service: &Services, request: Request, status: StatusCode) -> Error {
    let (parts, _) = request.into_parts();
    let caller = caller(&parts, client::request_id(&parts.extensions));
    let unknown = ServiceError::NotFound { kind: "route", name: String::new() };
    match service.sharing.refuse_request(&caller, extract::UNKNOWN_REQUEST, RequestedNames::Own, unknown).await {
        ServiceError::NotFound { .. } => Error::status(status, fault::message_of(status), &caller.request_id),
        error => Error::new(error, &caller.request_id),
    }
}

/// Answers that there is no such query: all queries are answered at once, so none has an id.
async fn get_query(State(service): State<Services>, of: CallerOf) -> Error {
    let error = ServiceError::NotFound { kind: "query", name: String::new() };
    of.refuse_table(&service, Action::TableQueryStatus, error).await
}

/// Refuses credentials: files can be read only by their URLs, and the answer says so.
async fn get_credentials(State(service): State<Services>, of: CallerOf) -> Error {
    let message = "this server hands out no storage credentials; query the table instead";
    let error = ServiceError::Unsupported(message.to_owned());
    of.refuse_table(&service, Action::TableCredentials, error).await
}
