//! What the server tells its operators: log lines on stderr and Prometheus metrics.
//!
//! Lives here: how lines and metrics look. Never here: what is worth saying, which its own module knows, nor the audit
//! trail, which is kept in the database and not in a log.

mod logging;
mod metrics;

pub use self::{
    logging::{Lines, TelemetryError, error_chain, init},
    metrics::{InFlight, Metrics, known_method},
};
