//! The activation page: a recipient looks at its link, and fetches its profile with one button.
//!
//! Plain pages that work without scripts. Programs that ask for JSON, or for nothing in particular, get errors as JSON.
//! Never here: whether a link still works.

mod headers;

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRequestParts, Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use serde_json::json;

use crate::{
    domain::access::{
        activation::ActivationCode,
        decision::{Reason, Refusal},
    },
    render::{
        RenderError,
        activation::{OfferPage, RefusalPage},
    },
    service::{
        Services,
        access::activation::{ActivatedToken, ActivationOffer},
        core::error::ServiceError,
        sharing::Caller,
    },
};

use super::{client, middleware::Cause};

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
/// How long a caller waits before trying again what an outage refused, in seconds.
const RETRY_AFTER_SECONDS: u64 = 5;

/// The page of every link.
pub fn router() -> Router<Services> {
    Router::new().route("/activate/{code}", get(show).post(activate))
}

/// Who looks at a link, and how it wants to be told.
struct Visitor {
    caller: Caller,
    reads_html: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let caller = Caller {
            token: None,
            address: client::address(&parts.extensions),
            user_agent: client::user_agent(&parts.headers),
            request_id: client::request_id(&parts.extensions),
            place: client::place(&parts.extensions),
        };
        // Every browser names it, and hardly any program does.
        let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let reads_html = accept.is_some_and(|accept| accept.contains("text/html"));
        Ok(Self { caller, reads_html })
    }
}

type Code = Result<Path<String>, PathRejection>;

/// A code that is no text is as unknown as any other.
fn presented(code: Code) -> String {
    code.map(|Path(code)| code).unwrap_or_default()
}

/// Shows what the link offers. Mail scanners follow links, so that this uses nothing up.
async fn show(State(service): State<Services>, code: Code, visitor: Visitor) -> Response {
    let code = presented(code);
    match service.access.view_activation(&visitor.caller, &ActivationCode::presented(&code)).await {
        Ok(offer) => shown(StatusCode::OK, offer_page(&offer).page()),
        Err(error) => refuse(&service, &visitor, error),
    }
}

/// Hands out the profile, once.
async fn activate(State(service): State<Services>, code: Code, visitor: Visitor) -> Response {
    let code = presented(code);
    match service.access.activate_token(&visitor.caller, &ActivationCode::presented(&code)).await {
        Ok(activated) => download(&activated),
        Err(error) => refuse(&service, &visitor, error),
    }
}

fn offer_page(offer: &ActivationOffer) -> OfferPage<'_> {
    OfferPage {
        provider: &offer.provider,
        recipient: &offer.recipient,
        expires_at: offer.expires_at,
        life_seconds: offer.life_seconds,
        support_contact: &offer.support_contact,
    }
}

fn shown(status: StatusCode, page: Result<String, RenderError>) -> Response {
    match page {
        Ok(page) => (status, headers::of(HTML), page).into_response(),
        Err(error) => {
            let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
            response.extensions_mut().insert(Cause(Arc::new(ServiceError::internal(error))));
            response
        }
    }
}

fn download(activated: &ActivatedToken) -> Response {
    let mut headers = headers::of(JSON);
    headers.extend(attachment(&activated.recipient).map(|value| (header::CONTENT_DISPOSITION, value)));
    match serde_json::to_string_pretty(&activated.profile) {
        Ok(profile) => (headers, profile + "\n").into_response(),
        // A struct of texts and a number always serialises.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// `attachment` with the recipient's name as the file's, plain for everybody and in full where it is not ASCII
/// (RFC 6266, 4.3).
fn attachment(recipient: &str) -> Option<HeaderValue> {
    let plain: String =
        recipient.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    let mut value = format!("attachment; filename=\"{plain}.share\"");
    if plain != recipient {
        let encoded = percent_encoding::utf8_percent_encode(recipient, percent_encoding::NON_ALPHANUMERIC);
        value.push_str(&format!("; filename*=UTF-8''{encoded}.share"));
    }
    HeaderValue::from_str(&value).ok()
}

fn refuse(service: &Services, visitor: &Visitor, error: ServiceError) -> Response {
    let (status, code, title) = classify(&error);
    let message = match &error {
        ServiceError::Denied { message, .. } | ServiceError::Limited { message, .. } => message.clone(),
        ServiceError::Unavailable { .. } | ServiceError::NotReady(_) => {
            "the server cannot answer at the moment; try again in a minute".to_owned()
        }
        _ => "the server failed to answer; try again, and tell the data provider the request's number".to_owned(),
    };
    let (contact, request_id) = (&service.sharing.settings.support_contact, &visitor.caller.request_id);
    let mut response = if visitor.reads_html {
        shown(status, RefusalPage { title, message: &message, support_contact: contact, request_id }.page())
    } else {
        let mut body = json!({"errorCode": code, "message": message, "requestId": request_id});
        if !contact.is_empty() {
            body["contact"] = contact.as_str().into();
        }
        (status, headers::of(JSON), format!("{body}\n")).into_response()
    };
    response.headers_mut().extend(retry_after(&error));
    response.extensions_mut().insert(Cause(Arc::new(error)));
    response
}

fn retry_after(error: &ServiceError) -> Option<(header::HeaderName, HeaderValue)> {
    let seconds = match error {
        ServiceError::Limited { retry_after_seconds, .. } => *retry_after_seconds,
        ServiceError::Unavailable { .. } | ServiceError::NotReady(_) => RETRY_AFTER_SECONDS,
        _ => return None,
    };
    Some((header::RETRY_AFTER, HeaderValue::from(seconds)))
}

/// Status, code and title of a refusal.
fn classify(error: &ServiceError) -> (StatusCode, &'static str, &'static str) {
    match error {
        ServiceError::Denied { reason, .. } => match reason.refusal() {
            Refusal::Gone => (StatusCode::GONE, reason.code(), title_of_gone(*reason)),
            Refusal::Forbidden => (StatusCode::FORBIDDEN, "PERMISSION_DENIED", "Not allowed"),
            _ => (StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST", "No such link"),
        },
        ServiceError::Limited { .. } => (StatusCode::TOO_MANY_REQUESTS, "REQUEST_LIMIT_EXCEEDED", "Too many attempts"),
        ServiceError::Unavailable { .. } | ServiceError::NotReady(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "Not available")
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "Something went wrong"),
    }
}

fn title_of_gone(reason: Reason) -> &'static str {
    match reason {
        Reason::ActivationUsed => "This link has been used",
        Reason::ActivationCancelled => "This link was cancelled",
        _ => "This link has expired",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_its_recipient_whatever_the_name() {
        assert_eq!(attachment("acme").unwrap(), "attachment; filename=\"acme.share\"");
        let value = attachment("Müller\"\r\n").unwrap();
        assert_eq!(value, "attachment; filename=\"M_ller___.share\"; filename*=UTF-8''M%C3%BCller%22%0D%0A.share");
    }
}
