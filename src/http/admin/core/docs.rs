//! The API's own description: the OpenAPI document and a page to browse it, all of it inside the binary.
//!
//! Open to everybody, since it tells nothing about what this server holds.

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use utoipa::openapi::OpenApi;

use crate::render::api_docs;

/// Nothing but what the binary itself serves.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The routes that describe `document`.
pub fn router<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    let page = match api_docs::page(&serde_json::to_value(document).unwrap_or_default()) {
        Ok(page) => Some(Bytes::from(page)),
        Err(error) => {
            tracing::error!(%error, "/api/docs cannot be shown");
            None
        }
    };
    // A document made of derived types always serialises.
    let document = Bytes::from(document.to_json().unwrap_or_default());
    let asset = |media_type: &'static str, body: &'static str| get(move || async move { answer(media_type, body) });
    Router::new()
        .route("/api/v1/openapi.json", get(move || async move { answer("application/json", document) }))
        .route("/api/docs", get(move || async move { shown(page) }))
        .route("/api/docs/docs.js", asset("text/javascript; charset=utf-8", api_docs::SCRIPT))
        .route("/api/docs/docs.css", asset("text/css; charset=utf-8", api_docs::STYLE))
}

fn shown(page: Option<Bytes>) -> Response {
    page.map_or_else(
        || StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        |page| answer("text/html; charset=utf-8", page),
    )
}

fn answer(media_type: &'static str, body: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, body).into_response()
}
