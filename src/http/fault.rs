//! Errors outside of handlers (no such route, overload, panic), in the format of the face that was asked.

use axum::{
    extract::{FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use crate::service::core::error::ServiceError;

use super::{admin, middleware::RequestId, sharing};

/// The face that a request is for, and the request id for its errors.
#[derive(Clone, Debug)]
pub struct Face {
    is_admin: bool,
    request_id: String,
}

impl Face {
    /// Returns the face that `request` is for.
    pub fn of(request: &Request) -> Self {
        Self::new(request.uri().path(), request.extensions().get::<RequestId>())
    }

    fn new(path: &str, request_id: Option<&RequestId>) -> Self {
        let is_admin = path == "/api" || path.starts_with("/api/");
        Self { is_admin, request_id: request_id.map(|id| id.0.clone()).unwrap_or_default() }
    }

    /// Answers `error` in the face's format.
    pub fn respond(&self, error: ServiceError) -> Response {
        if self.is_admin {
            admin::problem(error, &self.request_id)
        } else {
            sharing::Error::new(error, &self.request_id).into_response()
        }
    }

    /// Answers a status that HTTP itself calls for.
    fn status(&self, status: StatusCode, message: &str) -> Response {
        if self.is_admin {
            admin::problem_of_status(status, message, &self.request_id)
        } else {
            sharing::Error::status(status, message, &self.request_id).into_response()
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Face {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::new(parts.uri.path(), parts.extensions.get::<RequestId>()))
    }
}

/// The message for a path without a route.
pub const NO_SUCH_ROUTE: &str = "no such route; check the path";

/// Returns the message for a missing route or method.
pub fn message_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => "this route does not take this method; check the API's documentation",
        _ => NO_SUCH_ROUTE,
    }
}

/// Answers that there is no such route.
pub async fn not_found(face: Face) -> Response {
    face.status(StatusCode::NOT_FOUND, NO_SUCH_ROUTE)
}

/// Answers that the route does not take this method.
pub async fn method_not_allowed(face: Face) -> Response {
    face.status(StatusCode::METHOD_NOT_ALLOWED, message_of(StatusCode::METHOD_NOT_ALLOWED))
}
