//! Defines the errors of a table's log. `Display` never names a path or URL, so it may be shown to a recipient; the
//! location is a field, and the cause is the source.

use std::{error::Error, fmt, sync::Arc};

use chrono::{DateTime, SecondsFormat};

/// The private cause of an error, for the operator's log.
pub(super) type Cause = Arc<dyn Error + Send + Sync + 'static>;

/// Why a table could not be read. Cheap to clone: all callers that share a load get the same error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LakeError {
    /// There is no Delta log at the location.
    #[error("there is no delta table at this location; check that it names the folder that holds `_delta_log`")]
    NotATable {
        /// The location of the request.
        location: String,
    },
    /// The log exists, but is invalid.
    #[error("the table's log cannot be read: {fault}; ask the table's owner to repair it")]
    CorruptLog {
        /// The table's location.
        location: String,
        /// The fault, described without paths.
        fault: LogFault,
        /// The error of the reader, if there is one.
        #[source]
        source: Option<Cause>,
    },
    /// The table requires reader features that this server does not support.
    #[error("the table needs reader features that are not supported: {}", .features.join(", "))]
    Unsupported {
        /// The table's location.
        location: String,
        /// The features, as named in the log.
        features: Vec<String>,
    },
    /// The table's schema contains something that this server does not support. Names columns, so it must only be shown
    /// to those who may know them.
    #[error("the table cannot be served: {reason}")]
    UnreadableSchema {
        /// The table's location.
        location: String,
        /// The column and the reason.
        reason: String,
    },
    /// The version is not in the log, or no longer.
    #[error("{}", version_not_found(*.version, *.oldest, *.newest))]
    VersionNotFound {
        /// The table's location.
        location: String,
        /// The requested version.
        version: u64,
        /// The oldest readable version, if known.
        oldest: Option<u64>,
        /// The newest version.
        newest: u64,
        /// The error of the reader, if there is one.
        #[source]
        source: Option<Cause>,
    },
    /// The commit of a version within the range of the log is missing.
    #[error("table files missing: the log does not hold the commit of version {version}; ask for later versions")]
    CommitNotFound {
        /// The table's location.
        location: String,
        /// The version whose commit is missing.
        version: u64,
    },
    /// The requested time is before the first remaining commit.
    #[error("The provided timestamp ({}) is before the earliest available version {version}, which was committed at \
             {}; ask for that moment or a later one", moment(*.asked_at), moment(*.committed_at))]
    TimestampTooEarly {
        /// The table's location.
        location: String,
        /// The requested time, in milliseconds since the epoch.
        asked_at: i64,
        /// The earliest version.
        version: u64,
        /// Its commit time, in milliseconds since the epoch.
        committed_at: i64,
    },
    /// The requested time is after the newest commit.
    #[error("The provided timestamp ({}) is after the latest available version {version}, which was committed at {}; \
             ask for that moment or an earlier one", moment(*.asked_at), moment(*.committed_at))]
    TimestampTooLate {
        /// The table's location.
        location: String,
        /// The requested time, in milliseconds since the epoch.
        asked_at: i64,
        /// The newest version.
        version: u64,
        /// Its commit time, in milliseconds since the epoch.
        committed_at: i64,
    },
    /// Change data was requested for a version at which the table did not record it.
    #[error(
        "change data was not recorded for version {version}; ask for versions since \
             `delta.enableChangeDataFeed` was set to true"
    )]
    ChangesNotRecorded {
        /// The table's location.
        location: String,
        /// The first such version in the range.
        version: u64,
    },
    /// An old writer removed a file without stating its size or partition values, and they are nowhere else in the log.
    #[error("version {version} removes a file whose size or partition the log no longer tells; ask for later versions")]
    IncompleteRemove {
        /// The table's location.
        location: String,
        /// The version that removes the file.
        version: u64,
    },
    /// The log contains a file path that is refused.
    #[error("the table's log names a file by a path that is not served: {reason}; ask the data provider")]
    PathNotServed {
        /// The table's location.
        location: String,
        /// Why the path is refused.
        reason: &'static str,
    },
    /// The storage did not answer, or refused access. The request may succeed later; nothing is known about the table.
    #[error("the table's storage is not available; try again later")]
    Unavailable {
        /// The table's location.
        location: String,
        /// The error of the storage.
        #[source]
        source: Cause,
    },
    /// The demo lake could not be written.
    #[error("the demo lake could not be written; check that its directory is writable and has space")]
    Demo {
        /// The directory.
        path: String,
        /// The cause.
        #[source]
        source: Cause,
    },
}

fn version_not_found(version: u64, oldest: Option<u64>, newest: u64) -> String {
    match oldest {
        _ if version > newest => format!(
            "Cannot load table version {version}: it is after the latest available version {newest}; ask for that or an \
             earlier one"
        ),
        Some(oldest) if version < oldest => format!(
            "Cannot load table version {version}: it is before the earliest available version {oldest}; ask for that or \
             a later one"
        ),
        _ => format!(
            "Cannot load table version {version}: the log no longer holds what it consists of; the latest available \
             version is {newest}"
        ),
    }
}

/// Formats a time as RFC 3339 with milliseconds, or as a number if it is out of range.
fn moment(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis)
        .map_or_else(|| millis.to_string(), |at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// A fault of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFault {
    /// A commit or checkpoint does not follow its format.
    Malformed,
    /// A commit or a checkpoint part is missing between others.
    Gap,
    /// A file that the log refers to is missing.
    MissingFile,
    /// A commit is larger than the server's limit.
    TooLarge,
    /// The log holds more files than the server's limit.
    TooManyEntries,
    /// A checkpoint refers to a file outside the log.
    OutsideLog,
    /// There is no `protocol` or no `metaData` action.
    Incomplete,
    /// The protocol, schema or table properties contradict each other.
    Inconsistent,
}

impl fmt::Display for LogFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a commit or checkpoint is malformed",
            Self::Gap => "commits or checkpoint parts are missing",
            Self::MissingFile => "a file that the log refers to is missing",
            Self::TooLarge => "a commit is larger than the limit",
            Self::TooManyEntries => "the log holds more files than the limit",
            Self::OutsideLog => "a checkpoint refers to a file outside the log",
            Self::Incomplete => "it has no protocol or no metadata",
            Self::Inconsistent => {
                "its protocol (reader version and features), schema or properties contradict each other"
            }
        })
    }
}
