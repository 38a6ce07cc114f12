//! Defines usage, monthly reports, signals and the signatures of webhooks.

pub mod report;
pub mod signal;
pub mod usage;
pub mod webhook;
