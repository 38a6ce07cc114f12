//! Bounds every request: how many run at once, how long one may take to answer, and that a panic stays its own.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use futures::FutureExt;
use tokio::sync::Semaphore;

use crate::{http::fault, service::error::ServiceError};

/// The bounds.
#[derive(Clone, Debug)]
pub struct Limits {
    running: Arc<Semaphore>,
    answer_within: Duration,
}

impl Limits {
    /// At most `concurrent` requests at once, each answered (its headers sent) within `answer_within`.
    pub fn new(concurrent: usize, answer_within: Duration) -> Self {
        Self { running: Arc::new(Semaphore::new(concurrent.min(Semaphore::MAX_PERMITS))), answer_within }
    }
}

/// Turns a request away when too many are running, gives up on one that takes too long, and contains a panic.
pub async fn bound(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let face = fault::Face::of(&request);
    let busy = |what, why: &'static str| face.respond(ServiceError::Unavailable { what, source: why.into() });
    let Ok(permit) = limits.running.try_acquire_owned() else {
        return busy("the server", "too many requests at once; see server.max_concurrent_requests");
    };
    let answer = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind();
    let response = match tokio::time::timeout(limits.answer_within, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => face.respond(ServiceError::internal("a handler panicked")),
        Err(_elapsed) => busy("an answer in time", "the request took too long; see server.request_timeout_seconds"),
    };
    drop(permit);
    response
}
