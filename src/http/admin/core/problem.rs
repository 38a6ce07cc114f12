//! Errors of the admin API: RFC 9457 problems with a code from one closed list.
//!
//! A handler answers a [`Problem`]; [`render`] writes its body, with the request's id. Never here: private causes,
//! which go to the log through [`Cause`].

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    http::{
        admin::Admin,
        middleware::{Cause, RequestId},
    },
    service::core::error::{FieldError, ServiceError},
};

/// How long a caller should wait before a retry after an outage.
const RETRY_AFTER_SECONDS: u32 = 5;

/// The kinds of problems. The list is closed, so that scripts can rely on it.
///
/// | code | status | meaning |
/// |---|---|---|
/// | `malformed_body` | 400 | the body is not a JSON object |
/// | `invalid_parameter` | 400 | a query parameter, a header or the path cannot be accepted |
/// | `unauthenticated` | 401 | the operator token is missing or not valid |
/// | `forbidden` | 403 | the operator may not do this, or not to this; `detail` names the roles that may |
/// | `SEPARATION` | 403 | it takes two people, and the operator is the first of them |
/// | `not_found` | 404 | there is no such thing, or no such route |
/// | `method_not_allowed` | 405 | the route knows other methods; `Allow` names them |
/// | `conflict` | 409 | it clashes with what is there; `errors` names fields that differ |
/// | `precondition_failed` | 412 | it was changed since it was read |
/// | `body_too_slow` | 408 | the body did not arrive in time |
/// | `body_too_large` | 413 | the body is too large |
/// | `unsupported_media_type` | 415 | the media type of the body is not accepted here |
/// | `invalid_input` | 422 | the input breaks a rule; `errors` names every field |
/// | `AGREEMENT_MISSING` | 422 | a class that would be shown asks for agreements that are not named; `errors` names type and class |
/// | `RAW_DISCLOSURE_UNACKNOWLEDGED` | 422 | a disclosure of a table's files is not acknowledged; `errors` names each |
/// | `table_not_servable` | 422 | the table cannot be read, or needs a feature that this server lacks |
/// | `too_many_requests` | 429 | too many failed attempts from this address; try again after `Retry-After` |
/// | `unavailable` | 503 | something that the server needs is unreachable; try again after `Retry-After` |
/// | `internal` | 500 | a fault of the server |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// The body is not a JSON object.
    MalformedBody,
    /// A query parameter, a header or the path cannot be accepted.
    InvalidParameter,
    /// The operator token is missing or not valid.
    Unauthenticated,
    /// The operator may not do this, or not to this; `detail` names the roles that may.
    Forbidden,
    /// It takes two people, and the operator is the first of them.
    #[serde(rename = "SEPARATION")]
    Separation,
    /// The thing or the route does not exist.
    NotFound,
    /// The route has other methods; `Allow` names them.
    MethodNotAllowed,
    /// The request conflicts with what exists.
    Conflict,
    /// The thing has changed since the etag in `If-Match`.
    PreconditionFailed,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The body is too large.
    BodyTooLarge,
    /// The media type of the body is not accepted here.
    UnsupportedMediaType,
    /// The input breaks a rule; `errors` names every field.
    InvalidInput,
    /// A class that would be shown asks for agreements that are not named; `errors` names type and class.
    #[serde(rename = "AGREEMENT_MISSING")]
    AgreementMissing,
    /// A disclosure of a table's files is not acknowledged; `errors` names each.
    #[serde(rename = "RAW_DISCLOSURE_UNACKNOWLEDGED")]
    RawDisclosureUnacknowledged,
    /// The table cannot be read, or needs a feature that this server lacks.
    TableNotServable,
    /// Too many failed attempts from this address; try again after `Retry-After`.
    TooManyRequests,
    /// Something that the server needs is unreachable; try again after `Retry-After`.
    Unavailable,
    /// A fault of the server.
    Internal,
}

impl ProblemCode {
    /// Returns the code for a status that HTTP itself calls for.
    pub fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::BodyTooSlow,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            other if other.is_client_error() => Self::InvalidParameter,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            _ => Self::Internal,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::MalformedBody | Self::InvalidParameter => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::Separation => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::InvalidInput
            | Self::AgreementMissing
            | Self::RawDisclosureUnacknowledged
            | Self::TableNotServable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Its name in the manner of the audit trail's reasons.
    fn reason(self) -> String {
        let name = serde_json::to_value(self).ok();
        name.as_ref().and_then(Value::as_str).unwrap_or_default().to_ascii_uppercase()
    }

    fn title(self) -> &'static str {
        match self {
            Self::MalformedBody => "The body cannot be read",
            Self::InvalidParameter => "A parameter cannot be accepted",
            Self::Unauthenticated => "Not authenticated",
            Self::Forbidden => "Not allowed",
            Self::Separation => "It takes two people",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Conflict => "Conflict",
            Self::PreconditionFailed => "Changed in the meantime",
            Self::BodyTooSlow => "The body did not arrive in time",
            Self::BodyTooLarge => "The body is too large",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::InvalidInput => "The input cannot be accepted",
            Self::AgreementMissing => "An agreement is missing",
            Self::RawDisclosureUnacknowledged => "Disclosures are not acknowledged",
            Self::TableNotServable => "The table cannot be served",
            Self::TooManyRequests => "Too many failed attempts",
            Self::Unavailable => "Not available at the moment",
            Self::Internal => "Internal error",
        }
    }
}

/// A field that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// The field, dotted if nested.
    pub field: String,
    /// What is wrong with the field, and what to do.
    pub message: String,
}

/// An error answer (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemView {
    /// Always `about:blank`; `code` tells problems apart.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// A short text for the code.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The kind of problem, for programs.
    pub code: ProblemCode,
    /// What is wrong, and what to do next.
    pub detail: String,
    /// Every field that cannot be accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldProblem>,
    /// The request's id; the server's log has more under it.
    pub request_id: String,
}

/// The error answer of a handler.
#[derive(Clone, Debug)]
pub struct Problem {
    pub(in crate::http::admin) code: ProblemCode,
    detail: String,
    pub(in crate::http::admin) errors: Vec<FieldProblem>,
    cause: Option<Cause>,
    /// Whether it is for somebody who may not see all that there is, so that it names nothing that was not asked for.
    pub(super) names_nothing: bool,
}

impl Problem {
    /// Makes a problem without fields.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), cause: None, names_nothing: false }
    }

    /// Why, in the manner of the audit trail's reasons.
    pub fn reason(&self) -> String {
        match self.cause.as_ref().map(|Cause(error)| error.as_ref()) {
            Some(ServiceError::Forbidden { reason, .. }) => (*reason).to_owned(),
            _ => self.code.reason(),
        }
    }

    /// Makes a problem about input that breaks rules.
    pub fn invalid(errors: Vec<FieldProblem>) -> Self {
        let list: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
        Self { errors, ..Self::new(ProblemCode::InvalidInput, list.join("; ")) }
    }
}

impl From<FieldError> for FieldProblem {
    fn from(error: FieldError) -> Self {
        Self { field: error.field, message: error.message }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let detail = error.to_string();
        let code = match &error {
            ServiceError::Unauthenticated { .. } => ProblemCode::Unauthenticated,
            ServiceError::Forbidden { .. } => ProblemCode::Forbidden,
            ServiceError::Separation(_) => ProblemCode::Separation,
            ServiceError::Limited { .. } => ProblemCode::TooManyRequests,
            // Only recipients are denied, and only they use file URLs, which expire.
            ServiceError::Denied { .. } | ServiceError::Expired(_) | ServiceError::Internal(_) => ProblemCode::Internal,
            ServiceError::NotFound { .. } => ProblemCode::NotFound,
            ServiceError::Invalid(errors) => {
                return Self::invalid(errors.iter().cloned().map(FieldProblem::from).collect());
            }
            ServiceError::AgreementMissing(errors) => {
                let errors = errors.iter().cloned().map(FieldProblem::from).collect();
                return Self { errors, ..Self::new(ProblemCode::AgreementMissing, detail) };
            }
            ServiceError::Unacknowledged(errors) => {
                let errors = errors.iter().cloned().map(FieldProblem::from).collect();
                return Self { errors, ..Self::new(ProblemCode::RawDisclosureUnacknowledged, detail) };
            }
            ServiceError::Parameter(_) => ProblemCode::InvalidParameter,
            ServiceError::Malformed(_) => ProblemCode::MalformedBody,
            ServiceError::Unsupported(_) | ServiceError::Unreadable { .. } => ProblemCode::TableNotServable,
            ServiceError::Conflict { fields, .. } => {
                let differs = |field: &String| FieldProblem {
                    field: field.clone(),
                    message: "has another value; change it with PATCH".into(),
                };
                let errors = fields.iter().map(differs).collect();
                return Self { errors, ..Self::new(ProblemCode::Conflict, detail) };
            }
            ServiceError::PreconditionFailed => ProblemCode::PreconditionFailed,
            ServiceError::Unavailable { .. } | ServiceError::NotReady(_) => ProblemCode::Unavailable,
        };
        Self { cause: Some(Cause(Arc::new(error))), ..Self::new(code, detail) }
    }
}

impl IntoResponse for Problem {
    /// Answers the status, and leaves the problem for [`render`] to write.
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the body of a problem that a handler, an extractor or a fallback left in its response, with the request's id.
/// For a missing name it adds the name that was probably meant, or the call that lists the existing ones.
pub async fn render(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let mut response = next.run(request).await;
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let mut rendered = problem.directed(&admin).await.write(&request_id);
    if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
        rendered.headers_mut().insert(header::ALLOW, allow);
    }
    rendered
}

impl Problem {
    /// Adds what to do next if a thing was not found by its name.
    async fn directed(self, admin: &Admin) -> Self {
        let Some(Cause(error)) = self.cause.as_ref().filter(|_| !self.names_nothing) else { return self };
        let ServiceError::NotFound { kind, name } = error.as_ref() else { return self };
        let next = match (admin.service.core.suggest(kind, name).await, *kind) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, "share" | "table" | "view" | "recipient" | "operator" | "group") => {
                format!("GET /{kind}s lists what there is")
            }
            (None, "object") => {
                let share = name.rsplitn(3, '.').nth(2).unwrap_or_default();
                format!("GET /shares/{share}/objects lists what there is")
            }
            (None, _) => return self,
        };
        Self { detail: format!("{}; {next}", self.detail), ..self }
    }

    /// Writes the whole response.
    pub fn write(self, request_id: &str) -> Response {
        let Self { code, detail, errors, cause, .. } = self;
        let status = code.status();
        let view = ProblemView {
            kind: "about:blank",
            title: code.title(),
            status: status.as_u16(),
            code,
            detail,
            errors,
            request_id: request_id.to_owned(),
        };
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(view)).into_response();
        match code {
            ProblemCode::Unauthenticated => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            ProblemCode::Unavailable => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
        if let Some(Cause(error)) = &cause
            && let ServiceError::Limited { retry_after_seconds, .. } = **error
        {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
        }
        if let Some(cause) = cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_asks_to_come_back_and_keeps_its_cause_out_of_the_answer() {
        let error = ServiceError::Unavailable { what: "the table's storage", source: "10.0.0.1 refused".into() };
        let response = Problem::from(error).write("r1");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        assert!(response.extensions().get::<Cause>().is_some());
        let problem = Problem::from(ServiceError::internal("secret cause"));
        assert_eq!((problem.code, problem.detail.as_str()), (ProblemCode::Internal, "internal error"));
    }

    #[test]
    fn a_conflict_names_the_fields_that_differ() {
        let error = ServiceError::Conflict { message: "differs".into(), fields: vec!["owner".into()] };
        let problem = Problem::from(error);
        assert_eq!((problem.code, problem.errors[0].field.as_str()), (ProblemCode::Conflict, "owner"));
    }
}
