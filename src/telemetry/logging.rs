//! Log lines: structured, on stderr, as text or JSON.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt};

use crate::config::{LogFormat, LogSettings};

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level cannot be parsed.
    #[error("log.level `{level}` cannot be used: {source}; write `info`, or `info,weir::lake=debug`")]
    Level {
        /// What was written.
        level: String,
        /// The cause.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else in this process has set up logging.
    #[error("logging is already set up: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends the process's log lines to stderr as `settings` say. To be called once, before anything is logged.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let is_terminal = std::io::stderr().is_terminal();
    subscriber(settings, std::io::stderr, is_terminal)?.try_init()?;
    Ok(())
}

fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
    colours: bool,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(directives(&settings.level))
        .map_err(|source| TelemetryError::Level { level: settings.level.clone(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    Ok(match settings.format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_span_list(false).finish()),
    })
}

/// A bare level is ours: libraries stay at `warn` unless named, because HTTP and storage clients log URLs with their
/// signatures at the finer levels.
fn directives(level: &str) -> String {
    let directives = level.split(',').map(str::trim).map(|directive| match directive {
        "info" | "debug" | "trace" => format!("warn,weir={directive}"),
        other => other.to_owned(),
    });
    directives.collect::<Vec<_>>().join(",")
}

/// An error with its sources, outermost first.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = LogSettings { format, level: level.to_owned() };
        tracing::subscriber::with_default(subscriber(&settings, move || writer.clone(), false).unwrap(), log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_and_the_span() {
        let line = logged(LogFormat::Json, "info", || {
            let _span = tracing::info_span!("request", id = "r-1").entered();
            tracing::info!(route = "/shares", "served");
        });
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["message"], "served");
        assert_eq!(line["route"], "/shares");
        assert_eq!(line["span"]["id"], "r-1");
    }

    #[test]
    fn finer_levels_do_not_reach_into_libraries() {
        let lines = logged(LogFormat::Text, "debug", || {
            tracing::debug!("ours");
            tracing::debug!(target: "reqwest::connect", "https://bucket/file?X-Amz-Signature=abc");
            tracing::warn!(target: "reqwest", "theirs");
        });
        assert!(lines.contains("ours") && lines.contains("theirs") && !lines.contains("Signature"), "{lines}");
    }

    #[test]
    fn library_is_heard_when_named() {
        let lines = logged(LogFormat::Text, "info,sqlx=debug", || tracing::debug!(target: "sqlx", "SELECT 1"));
        assert!(lines.contains("SELECT 1"), "{lines}");
    }
}
