//! Endpoints for the platform: liveness, readiness and metrics.

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

use super::middleware::{AlreadyLogged, Draining};
use crate::service::Services;

/// Answers that this process is alive.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Answers whether the server is ready: an event could be written to the audit trail now, all essential tasks run, and
/// the server is not draining. A bucket's outage does not count, because it must not empty the load balancer.
pub async fn readyz(State((service, draining)): State<(Services, Draining)>) -> Response {
    if draining.is_on() {
        return not_ready("draining\n");
    }
    match service.core.check_ready().await {
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

/// Answers the metrics in the OpenMetrics text format that Prometheus reads.
pub async fn metrics(State(service): State<Services>) -> Response {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match service.core.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => {
            tracing::error!(error = %error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
