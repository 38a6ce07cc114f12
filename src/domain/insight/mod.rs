//! What the trail comes to: usage, monthly reports, signals.

pub mod report;
pub mod signal;
pub mod usage;
pub mod webhook;
