//! Settings of monthly reports: whether they are made automatically, and the provider's name.

use serde::Deserialize;

use super::{empty_as_none, problems::Problems};

/// The longest name of a provider, in characters.
const MAX_NAME: usize = 200;

/// `[reports]`.
#[derive(Clone, Debug, Deserialize)]
pub struct ReportSettings {
    /// Whether each month's report on all recipients is made automatically once the month is over.
    pub monthly: bool,
    /// The provider's name in reports.
    #[serde(deserialize_with = "empty_as_none")]
    pub provider_name: Option<String>,
}

impl ReportSettings {
    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        let is_wrong = |name: &String| name.chars().count() > MAX_NAME || name.chars().any(char::is_control);
        if self.provider_name.as_ref().is_some_and(is_wrong) {
            problems.add("reports.provider_name", format!("is no name; use at most {MAX_NAME} characters on one line"));
        }
    }
}
