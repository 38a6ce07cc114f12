//! Who calls the admin API: every route below `/api/v1` is behind [`authenticate`].

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Admin,
    problem::{Problem, ProblemCode},
};
use crate::{
    domain::audit::{Actor, Personal},
    http::middleware::{ClientAddress, RequestId},
    service::context::OperatorContext,
};

/// How much of a `User-Agent` is kept, in characters.
const MAX_USER_AGENT_CHARACTERS: usize = 512;

/// The operator that was authenticated, as use cases need it.
#[derive(Debug)]
pub struct Operator(pub OperatorContext);

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let context = parts.extensions.get::<OperatorContext>().cloned();
        context.map(Self).ok_or_else(|| Problem::new(ProblemCode::Unauthenticated, "the operator token is missing"))
    }
}

/// Lets operators pass, and records those who are none. What only reads leaves no event of its own, so that the use of
/// the token is recorded here.
pub async fn authenticate(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    let actor = bearer_token(request.headers()).and_then(|token| admin.operators.authenticate(token));
    let context = OperatorContext {
        actor: actor.clone().unwrap_or(Actor::ANONYMOUS),
        request_id: request.extensions().get::<RequestId>().map(|id| id.0.clone()),
        personal: personal(&request),
        now: admin.service.clock.now(),
        idempotency: None,
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str);
    let recorded = match (&actor, reads) {
        (None, _) => admin.service.record_failed_authentication(&context, route).await,
        (Some(_), true) => admin.service.record_reading(&context, route).await,
        (Some(_), false) => Ok(()),
    };
    if let Err(error) = recorded {
        return Problem::from(error).into_response();
    }
    if actor.is_none() {
        let detail = "send `Authorization: Bearer <operator token>` with a valid token";
        return Problem::new(ProblemCode::Unauthenticated, detail).into_response();
    }
    request.extensions_mut().insert(context);
    next.run(request).await
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn personal(request: &Request) -> Personal {
    let user_agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    Personal {
        client_address: request.extensions().get::<ClientAddress>().map(|address| address.0.to_string()),
        user_agent: user_agent.map(|text| text.chars().take(MAX_USER_AGENT_CHARACTERS).collect()),
    }
}
