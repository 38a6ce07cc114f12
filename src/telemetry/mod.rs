//! Reports to operators: log lines on stderr, and Prometheus metrics.
//!
//! Defines the form of lines and metrics. Never here: the decision to report something, which belongs to each module,
//! and the audit trail, which is in the database and not in a log.

mod logging;
mod metrics;

pub use self::{
    logging::{Lines, TelemetryError, error_chain, init},
    metrics::{InFlight, Metrics, known_method},
};
