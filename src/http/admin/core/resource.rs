//! Answers with an etag, in the body and as a header.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::service::core::change::Put;

/// A thing with an etag.
pub trait Tagged: Serialize {
    /// Returns its etag, with quotes.
    fn etag(&self) -> &str;
}

/// Answers one thing with its etag.
#[derive(Debug)]
pub struct Resource<T>(pub StatusCode, pub T);

impl<T> Resource<T> {
    /// Answers 200 with the thing.
    pub fn found(view: T) -> Self {
        Self(StatusCode::OK, view)
    }

    /// Answers 201 if a PUT created the thing, 200 if it confirmed it.
    pub fn put(put: Put<T>) -> Self {
        match put {
            Put::Created(view) => Self(StatusCode::CREATED, view),
            Put::Confirmed(view) => Self(StatusCode::OK, view),
        }
    }
}

impl<T: Tagged> IntoResponse for Resource<T> {
    fn into_response(self) -> Response {
        let Self(status, view) = self;
        let etag = HeaderValue::from_str(view.etag()).ok();
        let mut response = (status, Json(view)).into_response();
        if let Some(etag) = etag {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }
}
