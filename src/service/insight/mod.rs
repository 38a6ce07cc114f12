//! Works on the audit trail's data: usage, monthly reports, signals and notifications.

mod alerts;
pub mod notifications;
pub mod report_verification;
pub mod reports;
pub mod signals;
pub mod usage;

use crate::config::{ReportSettings, UsageSettings};

use super::{audit::seal::AuditSealer, core::Core};

/// The use cases on what the trail tells.
#[derive(Clone, Debug)]
pub struct Insight {
    /// What every service works with.
    pub core: Core,
    /// Signs reports.
    pub audit_sealer: AuditSealer,
    /// The usage settings.
    pub usage: UsageSettings,
    /// The report settings.
    pub reports: ReportSettings,
}
