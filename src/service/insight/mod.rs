//! Works on the audit trail's data: usage, monthly reports, signals and notifications.

pub mod notifications;
pub mod report_verification;
pub mod reports;
pub mod signals;
pub mod usage;
