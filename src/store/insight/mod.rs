//! Usage, reports and notifications, kept.

pub(super) mod notifications;
pub(super) mod reports;
pub(super) mod usage;
