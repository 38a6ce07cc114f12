//! Geography: from which file the country of an address is read, and how much is asked of it.

use std::path::PathBuf;

use serde::Deserialize;

use crate::domain::{access::geography::GeoMode, core::word::Words};

use super::{empty_as_none, problems::Problems};

/// `[geography]`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct GeographySettings {
    /// The file that says which country an address is in.
    #[serde(deserialize_with = "empty_as_none")]
    pub database_file: Option<PathBuf>,
    /// What is asked of the country of every recipient's request.
    pub mode: GeoMode,
}

impl GeographySettings {
    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.mode != GeoMode::Off && self.database_file.is_none() {
            let message = format!(
                "is not set, and geography.mode is \"{}\"; name a country file in MaxMind's format, or use \"off\"",
                self.mode.as_str()
            );
            problems.add("geography.database_file", message);
        }
    }
}
