//! Settings of the log: its format and level.

use serde::Deserialize;

use super::problems::Problems;

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
pub struct LogSettings {
    /// The format of a line.
    pub format: LogFormat,
    /// The level, optionally per module: `info,weir::lake=debug`.
    pub level: String,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

impl LogSettings {
    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        for directive in self.level.split(',') {
            let (module, level) = directive.trim().split_once('=').unwrap_or(("weir", directive.trim()));
            let module_is_plain =
                !module.is_empty() && module.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
            if !module_is_plain || !matches!(level, "off" | "error" | "warn" | "info" | "debug" | "trace") {
                problems.add(
                    "log.level",
                    format!("`{directive}` is no level; use off, error, warn, info, debug or trace, or `module=level`"),
                );
            }
        }
    }
}
