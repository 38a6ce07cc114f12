//! What can go wrong with a table's log. `Display` never names a path or URL, so that it may be shown to a recipient;
//! the location is a field and the cause is the source.

use std::{error::Error, fmt, sync::Arc};

use chrono::{DateTime, SecondsFormat};

/// The private cause of an error, kept for the operator's log.
pub(super) type Cause = Arc<dyn Error + Send + Sync + 'static>;

/// Why a table could not be opened. Cheap to clone: everyone who waited for one load gets the same error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LakeError {
    /// There is no Delta log at the location.
    #[error("there is no delta table at this location; check that it names the folder that holds `_delta_log`")]
    NotATable {
        /// The location asked for.
        location: String,
    },
    /// The log is there, but does not make sense.
    #[error("the table's log cannot be read: {fault}; ask the table's owner to repair it")]
    CorruptLog {
        /// The table.
        location: String,
        /// What is wrong, in words that name no path.
        fault: LogFault,
        /// What the reader of the log said, if it said something.
        #[source]
        source: Option<Cause>,
    },
    /// Reading the table needs features that this server does not have.
    #[error("the table needs reader features that are not supported: {}", .features.join(", "))]
    Unsupported {
        /// The table.
        location: String,
        /// The features, as the log names them.
        features: Vec<String>,
    },
    /// The table's schema holds what this server does not read. Names columns, and so is only for those who may know them.
    #[error("the table cannot be served: {reason}")]
    UnreadableSchema {
        /// The table.
        location: String,
        /// Which column, and why.
        reason: String,
    },
    /// The version is not (or no longer) in the log.
    #[error("{}", version_not_found(*.version, *.oldest, *.newest))]
    VersionNotFound {
        /// The table.
        location: String,
        /// The version asked for.
        version: u64,
        /// The oldest version that can still be read, where it is known.
        oldest: Option<u64>,
        /// The newest version there is.
        newest: u64,
        /// What the reader of the log said, if it said something.
        #[source]
        source: Option<Cause>,
    },
    /// The log does not hold the commit of a version that lies within what it covers.
    #[error("table files missing: the log does not hold the commit of version {version}; ask for later versions")]
    CommitNotFound {
        /// The table.
        location: String,
        /// The version whose commit is missing.
        version: u64,
    },
    /// A moment before the first commit that is left.
    #[error("The provided timestamp ({}) is before the earliest available version {version}, which was committed at \
             {}; ask for that moment or a later one", moment(*.asked_at), moment(*.committed_at))]
    TimestampTooEarly {
        /// The table.
        location: String,
        /// What was asked for, in milliseconds since the epoch.
        asked_at: i64,
        /// The earliest version.
        version: u64,
        /// When it was committed, in milliseconds since the epoch.
        committed_at: i64,
    },
    /// A moment after the newest commit.
    #[error("The provided timestamp ({}) is after the latest available version {version}, which was committed at {}; \
             ask for that moment or an earlier one", moment(*.asked_at), moment(*.committed_at))]
    TimestampTooLate {
        /// The table.
        location: String,
        /// What was asked for, in milliseconds since the epoch.
        asked_at: i64,
        /// The newest version.
        version: u64,
        /// When it was committed, in milliseconds since the epoch.
        committed_at: i64,
    },
    /// Change data was asked for, of a version at which the table did not record it.
    #[error(
        "change data was not recorded for version {version}; ask for versions since \
             `delta.enableChangeDataFeed` was set to true"
    )]
    ChangesNotRecorded {
        /// The table.
        location: String,
        /// The first such version in the range.
        version: u64,
    },
    /// An old writer removed a file without saying its size or partition, and the log says it nowhere else.
    #[error("version {version} removes a file whose size or partition the log no longer tells; ask for later versions")]
    IncompleteRemove {
        /// The table.
        location: String,
        /// The version that removes the file.
        version: u64,
    },
    /// The log names a file by a path that is not served.
    #[error("the table's log names a file by a path that is not served: {reason}; ask the data provider")]
    PathNotServed {
        /// The table.
        location: String,
        /// What is wrong with the path.
        reason: &'static str,
    },
    /// The storage did not answer, or refused. It may do so later; nothing is known about the table.
    #[error("the table's storage is not available; try again later")]
    Unavailable {
        /// The table.
        location: String,
        /// What the storage said.
        #[source]
        source: Cause,
    },
    /// The demo lake could not be written.
    #[error("the demo lake could not be written; check that its directory is writable and has space")]
    Demo {
        /// The directory or file concerned.
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

/// RFC 3339 with milliseconds, or the number where it is beyond all calendars.
fn moment(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis)
        .map_or_else(|| millis.to_string(), |at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFault {
    /// A commit or checkpoint is not what its format asks for.
    Malformed,
    /// A commit or a checkpoint part between others is missing.
    Gap,
    /// A file that the log refers to is missing.
    MissingFile,
    /// A commit is larger than this server is willing to read.
    TooLarge,
    /// The log holds more files than this server is willing to list.
    TooManyEntries,
    /// A checkpoint refers to a file outside the log.
    OutsideLog,
    /// There is no `protocol` or no `metaData` action.
    Incomplete,
    /// The protocol, schema or table properties contradict themselves.
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
