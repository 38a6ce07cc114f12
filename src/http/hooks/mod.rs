//! Hooks: what other systems tell this server, in messages that they have signed. Errors are one line of JSON, as on the other
//! faces of this listener.
//!
//! Never here: whether a message is signed, or what it means.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use crate::{
    domain::access::hook::{Envelope, HookOutcome},
    service::{Services, core::error::ServiceError, sharing::Caller},
};

use super::{
    body::{self, BodyFault},
    client,
    middleware::Cause,
};

/// The largest message, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a sender waits before it tries again after an outage, in seconds.
const RETRY_AFTER_SECONDS: u64 = 5;

/// The hook of the contract system.
pub fn router() -> Router<Services> {
    let taking = post(take_agreement_event).layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    Router::new().route("/hooks/agreements", taking)
}

/// What the contract system is answered.
#[derive(Serialize)]
struct HookAnswer {
    /// Whether the agreement came to another state by this message.
    applied: bool,
    /// The agreement's name.
    agreement: String,
    /// The agreement's state after it.
    state: String,
    /// Why it changed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl From<HookOutcome> for HookAnswer {
    fn from(HookOutcome { agreement, state, why }: HookOutcome) -> Self {
        Self { applied: why.is_none(), agreement, state, why }
    }
}

/// Takes an event of the contract system. Its headers are looked at before its body is read.
async fn take_agreement_event(State(service): State<Services>, request: Request) -> Response {
    let caller = Caller {
        token: None,
        address: client::address(request.extensions()),
        user_agent: client::user_agent(request.headers()),
        request_id: client::request_id(request.extensions()),
        place: client::place(request.extensions()),
    };
    let envelope = envelope(request.headers());
    if let Err(error) = service.access.admit_agreement_event(&caller, &envelope).await {
        body::discard(request).await;
        return refuse(error, &caller.request_id);
    }
    let body = match body::read(request).await {
        Ok(body) => body,
        Err(fault) => return refuse_body(fault, &caller.request_id),
    };
    match service.access.take_agreement_event(&caller, &envelope, &body).await {
        Ok(outcome) => Json(HookAnswer::from(outcome)).into_response(),
        Err(error) => refuse(error, &caller.request_id),
    }
}

/// The headers of Standard Webhooks; what is no text is as good as missing.
fn envelope(headers: &HeaderMap) -> Envelope {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    Envelope {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signatures: header("webhook-signature"),
    }
}

fn refuse_body(fault: BodyFault, request_id: &str) -> Response {
    let (code, message) = match fault {
        BodyFault::TooLarge => ("REQUEST_TOO_LARGE", "the message is larger than 64 KiB; send less"),
        BodyFault::TooSlow => ("REQUEST_TIMEOUT", "the message did not arrive in time; send it again"),
        BodyFault::Broken => ("INVALID_PARAMETER_VALUE", "the message broke off; send it again"),
    };
    line(fault.status(), code, message, request_id)
}

fn refuse(error: ServiceError, request_id: &str) -> Response {
    let (status, code) = classify(&error);
    let message = match &error {
        ServiceError::NotFound { name, .. } => {
            format!(
                "there is no agreement `{name}`; register it with PUT /api/v1/agreements/{{name}}, then send it again"
            )
        }
        ServiceError::Internal(_) => "the server failed to answer; send it again".to_owned(),
        other => other.to_string(),
    };
    let mut response = line(status, code, &message, request_id);
    let wait = match &error {
        ServiceError::Limited { retry_after_seconds, .. } => Some(*retry_after_seconds),
        ServiceError::Unavailable { .. } => Some(RETRY_AFTER_SECONDS),
        _ => None,
    };
    response.headers_mut().extend(wait.map(|seconds| (header::RETRY_AFTER, HeaderValue::from(seconds))));
    response.extensions_mut().insert(Cause(Arc::new(error)));
    response
}

fn classify(error: &ServiceError) -> (StatusCode, &'static str) {
    match error {
        ServiceError::Unauthenticated { .. } => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
        ServiceError::NotFound { .. } => (StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST"),
        ServiceError::Conflict { .. } | ServiceError::PreconditionFailed => (StatusCode::CONFLICT, "CONFLICT"),
        ServiceError::Invalid(_) | ServiceError::Parameter(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "INVALID_PARAMETER_VALUE")
        }
        ServiceError::Limited { .. } => (StatusCode::TOO_MANY_REQUESTS, "REQUEST_LIMIT_EXCEEDED"),
        ServiceError::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
    }
}

/// An error in one line, as the protocol's are.
fn line(status: StatusCode, code: &str, message: &str, request_id: &str) -> Response {
    let body = json!({"errorCode": code, "message": message, "requestId": request_id});
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{body}\n")).into_response()
}
