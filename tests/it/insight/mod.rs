//! What the server tells about itself: usage, reports, and signals to webhooks.

mod notifications;
pub mod notify;
mod reports;
mod usage;
