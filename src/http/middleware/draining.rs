//! Draining: a server that is about to stop reports that it is not ready, and sends clients to other servers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderValue, Version, header};

/// Whether the server is about to stop. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// Marks the server as about to stop.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether the server is about to stop.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends each connection with its next answer while the server drains, so that the client's next request goes through
/// the load balancer. HTTP/2 has its own frame for that, which is sent when the listener stops.
pub async fn drain(State(draining): State<Draining>, request: Request, next: Next) -> Response {
    let may_close = request.version() < Version::HTTP_2;
    let mut response = next.run(request).await;
    if may_close && draining.is_on() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
