//! Who calls the admin API: every route below `/api/v1` is behind [`authenticate`].

use axum::{
    extract::{FromRequestParts, MatchedPath, OriginalUri, Request, State},
    http::{Method, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Admin,
    problem::{Problem, ProblemCode},
};
use crate::{
    domain::audit::{Actor, Personal},
    http::client,
    service::{
        audit::Asked,
        context::{OperatorContext, Told},
        error::ServiceError,
    },
};

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

/// Lets operators pass, and records every use of their tokens as well as those who are none: what only reads leaves no
/// event of its own, and neither does a change that was refused or that changed nothing.
pub async fn authenticate(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    let service = &admin.service;
    let actor = client::bearer_token(request.headers()).and_then(|token| admin.operators.authenticate(token));
    let personal = Personal {
        client_address: Some(client::address(request.extensions()).to_string()),
        user_agent: client::user_agent(request.headers()),
        ..Personal::default()
    };
    let context = OperatorContext {
        actor: actor.clone().unwrap_or(Actor::ANONYMOUS),
        request_id: Some(client::request_id(request.extensions())),
        personal,
        now: service.clock.now(),
        idempotency: None,
        told: Told::default(),
    };
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    if actor.is_none() {
        let detail = "send `Authorization: Bearer <operator token>` with a valid token";
        let recorded = service.record_failed_authentication(&context, route).await;
        return unless_unrecorded(recorded, || Problem::new(ProblemCode::Unauthenticated, detail).into_response());
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        if let Err(error) = service.record_reading(&context, route).await {
            return Problem::from(error).into_response();
        }
        request.extensions_mut().insert(context);
        return next.run(request).await;
    }
    // Without it the path is the one below where this is nested.
    let uri = request.extensions().get::<OriginalUri>().map_or(request.uri(), |original| &original.0);
    let asked = Asked { route, method: request.method().to_string(), path: uri.path().to_owned() };
    request.extensions_mut().insert(context.clone());
    let response = next.run(request).await;
    let recorded = match response.extensions().get::<Problem>() {
        Some(problem) => service.record_refused_change(&context, asked, problem.code.reason()).await,
        // What was there already was shown.
        None if !context.told.is_told() => service.record_reading(&context, route).await,
        None => Ok(()),
    };
    unless_unrecorded(recorded, || response)
}

/// The answer, unless what it tells could not be recorded.
fn unless_unrecorded(recorded: Result<(), ServiceError>, answer: impl FnOnce() -> Response) -> Response {
    recorded.map_or_else(|error| Problem::from(error).into_response(), |()| answer())
}
