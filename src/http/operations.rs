//! What a platform asks of a server: is it alive, is it ready, what does it count.

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

use super::middleware::{AlreadyLogged, Draining};
use crate::service::Service;

/// Alive: this process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: an event could be written to the audit trail now, everything that should run does, and the server is not about to
/// stop. A bucket's outage does not count, because it must not empty the load balancer.
pub async fn readyz(State((service, draining)): State<(Service, Draining)>) -> Response {
    if draining.is_on() {
        return not_ready("draining\n");
    }
    match service.check_ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "not ready");
            not_ready("requests cannot be served now; the log says why\n")
        }
    }
}

fn not_ready(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Extension(AlreadyLogged), why).into_response()
}

/// The metrics, in the OpenMetrics text format that Prometheus reads.
pub async fn metrics(State(service): State<Service>) -> Response {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match service.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
