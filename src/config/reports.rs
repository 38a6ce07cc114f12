//! Monthly reports: whether they are made without being asked for, and in whose name.

use serde::Deserialize;

use super::{empty_as_none, problems::Problems};

/// The longest name of a provider, in characters.
const MAX_NAME: usize = 200;

/// `[reports]`.
#[derive(Clone, Debug, Deserialize)]
pub struct ReportSettings {
    /// Whether each month's report of all recipients is made once the month is over.
    pub monthly: bool,
    /// The provider's name, as reports carry it.
    #[serde(deserialize_with = "empty_as_none")]
    pub provider_name: Option<String>,
}

impl ReportSettings {
    /// Finds what is wrong beyond types.
    pub(super) fn check(&self, problems: &mut Problems) {
        let is_wrong = |name: &String| name.chars().count() > MAX_NAME || name.chars().any(char::is_control);
        if self.provider_name.as_ref().is_some_and(is_wrong) {
            problems.add("reports.provider_name", format!("is no name; use at most {MAX_NAME} characters on one line"));
        }
    }
}
