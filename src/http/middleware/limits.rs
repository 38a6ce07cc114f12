//! Bounds every request: how many run at once, how long one may take to answer, how long its body may take to arrive, and
//! that a panic stays its own.

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
    /// How many run at once.
    pub places: Places,
    /// Within what time an answer begins.
    pub answer_within: Duration,
    /// Within what time a request's body arrives.
    pub body_within: Duration,
}

/// Leaves a request's place when it is answered, given up, or its client has gone.
struct Leaving(Place);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Gives a request its place, or turns it away where there is none; gives up on one that takes too long, and contains a
/// panic.
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

/// The same for what has to be answered however much else is asked, and asks for next to nothing.
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
