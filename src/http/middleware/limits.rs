//! Bounds every request: how many run at once, how long an answer may take to begin, and how long a body may take to
//! arrive; and contains panics.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use futures::FutureExt;

use crate::{
    http::{client, fault},
    service::core::{
        error::ServiceError,
        places::{Place, Places},
    },
};

use super::BodyWithin;

/// The bounds of one face.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The places of requests that run at once.
    pub places: Places,
    /// The time within which an answer must begin.
    pub answer_within: Duration,
    /// The time within which a request's body must arrive.
    pub body_within: Duration,
}

/// Leaves a request's place when it is answered, abandoned, or its client has gone.
struct Leaving(Place);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Gives a request a place, or turns it away if there is none; gives up on a request that takes too long, and contains
/// panics.
pub async fn bound(State(limits): State<Limits>, mut request: Request, next: Next) -> Response {
    let face = fault::Face::of(&request);
    let place = match limits.places.enter(client::address(request.extensions())).await {
        Ok(place) => place,
        Err(error) => return face.respond(error),
    };
    let _leaving = Leaving(place.clone());
    request.extensions_mut().insert(place);
    request.extensions_mut().insert(BodyWithin(limits.body_within));
    answer(&face, limits.answer_within, request, next).await
}

/// Limits the time and contains panics of cheap requests that need no place, such as health checks.
pub async fn contain(State(answer_within): State<Duration>, request: Request, next: Next) -> Response {
    answer(&fault::Face::of(&request), answer_within, request, next).await
}

async fn answer(face: &fault::Face, within: Duration, request: Request, next: Next) -> Response {
    let answer = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(within, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => face.respond(ServiceError::internal("a handler panicked")),
        Err(_elapsed) => face.respond(ServiceError::Unavailable {
            what: "an answer in time",
            source: "the request took too long; see server.request_timeout_seconds".into(),
        }),
    }
}
