//! The API's own description: the OpenAPI document and a page to browse it, all of it inside the binary.
//!
//! Open to everybody, since it tells nothing about what this server holds.

use axum::{Router, http::header, response::IntoResponse, routing::get};
use utoipa::openapi::OpenApi;

/// Nothing but what the binary itself serves.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The routes that describe `document`.
pub fn router<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    // A document made of derived types always serialises.
    let document = bytes::Bytes::from(document.to_json().unwrap_or_default());
    let asset = |media_type: &'static str, body: &'static str| get(move || async move { answer(media_type, body) });
    Router::new()
        .route("/api/v1/openapi.json", get(move || async move { answer("application/json", document) }))
        .route("/api/docs", asset("text/html; charset=utf-8", include_str!("index.html")))
        .route("/api/docs/docs.js", asset("text/javascript; charset=utf-8", include_str!("docs.js")))
        .route("/api/docs/docs.css", asset("text/css; charset=utf-8", include_str!("docs.css")))
}

fn answer(media_type: &'static str, body: impl IntoResponse) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, body)
}
