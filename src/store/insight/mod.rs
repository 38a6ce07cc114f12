//! Stores usage, reports and notifications.

pub(super) mod notifications;
pub(super) mod reports;
pub(super) mod usage;
