//! Monthly reports: whether they are made without being asked for.

use serde::Deserialize;

/// `[reports]`.
#[derive(Clone, Debug, Deserialize)]
pub struct ReportSettings {
    /// Whether each month's report of all recipients is made once the month is over.
    pub monthly: bool,
}
