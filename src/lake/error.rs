//! What can go wrong with a table's log. `Display` never names a path or URL, so that it may be shown to a recipient;
//! the location is a field and the cause is the source.

use std::{error::Error, fmt, sync::Arc};

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
    /// The version is not (or no longer) in the log.
    #[error("the table has no version {version}; its newest is {newest}")]
    VersionNotFound {
        /// The table.
        location: String,
        /// The version asked for.
        version: u64,
        /// The newest version there is.
        newest: u64,
        /// What the reader of the log said, if it said something.
        #[source]
        source: Option<Cause>,
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
