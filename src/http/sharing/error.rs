//! Errors of the sharing protocol: one line of JSON with `errorCode`, `message` and `requestId`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{domain::access::decision::Refusal, http::middleware::Cause, service::core::error::ServiceError};

use super::wire::to_line;

/// The code of a request that is allowed, but not now.
const LIMITED: &str = "REQUEST_LIMIT_EXCEEDED";
/// How long a client should wait before it tries again after an outage, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// An error as a recipient sees it. Connectors retry every 5xx for minutes, so a client's mistake must never become one
/// (Delta Sharing protocol, 1.0 and 3.3).
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    code: &'static str,
    message: String,
    request_id: String,
    cause: Option<ServiceError>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    error_code: &'a str,
    message: &'a str,
    request_id: &'a str,
}

impl Error {
    /// Converts `error` for a recipient, without private causes.
    pub fn new(error: ServiceError, request_id: &str) -> Self {
        let (status, code) = classify(&error);
        let message = match &error {
            ServiceError::Denied { message, .. }
            | ServiceError::Limited { message, .. }
            | ServiceError::Unreadable { message, .. } => message.clone(),
            ServiceError::Internal(_) => {
                "the server failed to answer; try again, and tell the data provider the requestId".to_owned()
            }
            ServiceError::NotFound { kind, name } if name.is_empty() => {
                format!("no such {kind}; query the table again or ask the data provider")
            }
            other => other.to_string(),
        };
        Self { status, code, message, request_id: request_id.to_owned(), cause: Some(error) }
    }

    /// Returns what an answer that has already begun can still report: the status that it would have had, and the
    /// message.
    pub(super) fn midway(self, contact: &str) -> (StatusCode, String) {
        (self.status, signed(&self.message, &self.request_id, contact))
    }

    /// Makes an error for a status that HTTP itself calls for.
    pub fn status(status: StatusCode, message: &str, request_id: &str) -> Self {
        let code = match status {
            StatusCode::NOT_FOUND => "RESOURCE_DOES_NOT_EXIST",
            StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "UNSUPPORTED_MEDIA_TYPE",
            StatusCode::REQUEST_TIMEOUT => "REQUEST_TIMEOUT",
            StatusCode::PAYLOAD_TOO_LARGE => "REQUEST_TOO_LARGE",
            _ => "INVALID_PARAMETER_VALUE",
        };
        Self { status, code, message: message.to_owned(), request_id: request_id.to_owned(), cause: None }
    }
}

/// The contents of an error, until [`write_errors`] writes its body.
#[derive(Clone, Debug)]
struct ErrorText {
    code: &'static str,
    message: String,
    request_id: String,
}

/// The support contact for recipients; empty for none.
#[derive(Clone, Debug)]
pub struct Contact(pub Arc<str>);

/// Writes the body of an error that a handler, an extractor or a fallback left in its response. Connectors show little
/// more than the message, so it ends with the request's id and the support contact.
pub async fn write_errors(State(contact): State<Contact>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let Some(ErrorText { code, message, request_id }) = response.extensions_mut().remove::<ErrorText>() else {
        return response;
    };
    let message = signed(&message, &request_id, &contact.0);
    let line = to_line(&ErrorBody { error_code: code, message: &message, request_id: &request_id });
    // The length of the empty body may be set already.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.map(|_| Body::from(line))
}

fn signed(message: &str, request_id: &str, contact: &str) -> String {
    match contact {
        "" => format!("{message} (request {request_id})"),
        contact => format!("{message} (request {request_id}, contact {contact})"),
    }
}

fn classify(error: &ServiceError) -> (StatusCode, &'static str) {
    match error {
        ServiceError::Denied { reason, .. } => match reason.refusal() {
            Refusal::Unauthenticated => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
            Refusal::Forbidden => (StatusCode::FORBIDDEN, forbidden_code(reason.code())),
            Refusal::NotFound => (StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST"),
            Refusal::Gone => (StatusCode::GONE, "RESOURCE_DOES_NOT_EXIST"),
            Refusal::Limited => (StatusCode::TOO_MANY_REQUESTS, LIMITED),
        },
        ServiceError::Limited { .. } => (StatusCode::TOO_MANY_REQUESTS, LIMITED),
        ServiceError::Unauthenticated { .. } => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
        ServiceError::Forbidden { .. } | ServiceError::Separation(_) => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
        ServiceError::NotFound { .. } => (StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST"),
        ServiceError::Expired(_) => (StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
        ServiceError::Parameter(_)
        | ServiceError::Invalid(_)
        | ServiceError::Unacknowledged(_)
        | ServiceError::AgreementMissing(_)
        | ServiceError::Conflict { .. }
        | ServiceError::PreconditionFailed => (StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE"),
        ServiceError::Malformed(_) => (StatusCode::BAD_REQUEST, "MALFORMED_REQUEST"),
        ServiceError::Unsupported(_) => (StatusCode::BAD_REQUEST, "UNSUPPORTED_OPERATION"),
        ServiceError::Unreadable { .. } => (StatusCode::BAD_REQUEST, "RESOURCE_DOES_NOT_EXIST"),
        ServiceError::Unavailable { .. } | ServiceError::NotReady(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
        }
        ServiceError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
    }
}

/// Returns the code of a 403. What an agreement, a purpose or the caller's country does not allow has its own code, because
/// its remedy differs.
fn forbidden_code(reason: &'static str) -> &'static str {
    match reason {
        "AGREEMENT_ENDED"
        | "AGREEMENT_INACTIVE"
        | "PURPOSE_NOT_ALLOWED"
        | "AGREEMENT_MISSING"
        | "UNCLASSIFIED_COLUMN"
        | "RAW_NOT_ALLOWED"
        | "GEO_DENIED" => reason,
        _ => "PERMISSION_DENIED",
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, super::JSON);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if let Some(ServiceError::Limited { retry_after_seconds, .. }) = &self.cause {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(*retry_after_seconds));
        }
        let Self { code, message, request_id, .. } = self;
        response.extensions_mut().insert(ErrorText { code, message, request_id });
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause(Arc::new(cause)));
        }
        response
    }
}
