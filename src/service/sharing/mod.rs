//! The use cases of recipients: listing, describing, querying and fetching what they are granted.
//!
//! Every request takes the same path: find the caller, decide, open the snapshot, choose the files, write the audit
//! event (which decides again), and only then hand anything out. Start with [`query`]. Never here: the wire format.

pub mod as_of;
mod audited_request;
pub mod change_lines;
pub mod changes;
mod continuation;
pub mod delivery;
pub mod files;
pub mod first_reads;
mod governed;
pub mod listing;
pub mod preparers;
mod presented;
pub mod query;
pub(super) mod quota;
mod refusal;
pub mod snapshot_files;
pub mod stream;
pub mod table;

use std::{net::IpAddr, ops::Deref, sync::Arc};

use crate::{
    config::SharingSettings,
    domain::{
        access::{geography::Geography, token::BearerToken},
        audit::Personal,
        catalog::{
            delta::{Metadata, Protocol},
            share::SharedObject,
        },
        core::{
            name::{MAX_CHARACTERS, name_key},
            seal::Sealer,
        },
        materialize::copy::FileKey,
        sharing::negotiation::Format,
    },
    identity::Identities,
    lake::{Lake, LakeError, Snapshot, TableState},
    storage::{StorageError, Storages},
    store::{Reached, Seeker, Sought},
};

use self::{first_reads::FirstReads, preparers::Preparers};

use super::{
    catalog::Catalog,
    core::{Core, error::ServiceError, lookup_batcher::LookupBatcher, places::Place, rate_limiter::RateLimiter},
    materialize::Materializer,
};

/// The most bytes that a name can take in any spelling: four per character, and each may be decomposed into three.
const LONGEST_SPELLING: usize = MAX_CHARACTERS * 4 * 3;

/// The use cases of recipients. Cheap to clone, since every answer and every download keeps one.
#[derive(Clone, Debug)]
pub struct Sharing(Arc<SharingParts>);

impl From<SharingParts> for Sharing {
    fn from(parts: SharingParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Sharing {
    type Target = SharingParts;

    fn deref(&self) -> &SharingParts {
        &self.0
    }
}

/// What the use cases of recipients work with.
#[derive(Debug)]
pub struct SharingParts {
    /// What every service works with.
    pub core: Core,
    /// Says which version of a table an object's recipients are served.
    pub catalog: Catalog,
    /// Makes and keeps the copies of views.
    pub materializer: Materializer,
    /// Reads Delta tables.
    pub lake: Lake,
    /// The object stores.
    pub storages: Arc<Storages>,
    /// The trusted OpenID Connect issuers.
    pub identities: Identities,
    /// Looks up the facts for decisions, for concurrent requests together.
    pub lookups: LookupBatcher<Sought, Reached>,
    /// Prepares the chunks of large answers.
    pub preparers: Preparers,
    /// Seals file URLs.
    pub files: Sealer,
    /// The file URLs whose first read is already recorded.
    pub first_reads: Arc<FirstReads>,
    /// Counts requests and refusals in this server's memory.
    pub rate_limiter: Arc<RateLimiter>,
    /// The sharing settings.
    pub settings: Arc<SharingSettings>,
    /// Whether an object is read only if every column that it shows has a confirmed class.
    pub require_classification: bool,
    /// The address that clients know the server by, without a trailing slash.
    pub public_url: Arc<str>,
}

impl Sharing {
    /// Writes the events that sum up refusals and file reads. `all` includes those of the current minute, for when the
    /// server stops.
    pub fn record_summaries(&self, all: bool) {
        let now = self.core.clock.now();
        self.core.audit_writer.record_all_later(self.rate_limiter.summaries(now, all));
        self.core.audit_writer.record_all_later(self.first_reads.summaries(now, all));
    }

    /// Deletes the delivered bytes of expired URLs.
    pub async fn forget_ended_urls(&self) -> Result<(), ServiceError> {
        let mut tx = self.core.db.begin().await?;
        tx.delete_ended_urls(self.core.clock.now()).await?;
        Ok(tx.commit().await?)
    }
}

/// The sender of a request, before the token is looked up.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The bearer token presented, if any.
    pub token: Option<BearerToken>,
    /// The address that the request came from.
    pub address: IpAddr,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
    /// The request's id.
    pub request_id: String,
    /// The request's place among the running ones.
    pub place: Place,
}

impl Caller {
    /// Returns the personal data of the request, for the audit trail only.
    pub(super) fn personal(&self, geography: Geography) -> Personal {
        Personal {
            client_address: Some(self.address.to_string()),
            country: geography.country.map(|country| country.to_string()),
            user_agent: self.user_agent.clone(),
            ..Personal::default()
        }
    }
}

/// The names that lead to a table, as the caller spelt them.
#[derive(Clone, Debug)]
pub struct TablePath {
    /// The share.
    pub share: String,
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

/// The thing that a request asks for, as the caller spelt it.
#[derive(Clone, Copy, Debug)]
pub enum RequestedNames<'a> {
    /// The caller's own shares.
    Own,
    /// A share, or its contents.
    Share(&'a str),
    /// A table.
    Table(&'a TablePath),
}

impl RequestedNames<'_> {
    /// Builds the lookup key. Text too long to be a name is ignored.
    fn sought(self, by: Seeker) -> Sought {
        let key = |text: &str| (text.len() <= LONGEST_SPELLING).then(|| name_key(text));
        let (share, table) = match self {
            Self::Own => (None, None),
            Self::Share(share) => (key(share), None),
            Self::Table(path) => (key(&path.share), key(&path.schema).zip(key(&path.table))),
        };
        Sought { by, share, table }
    }
}

/// A table that the caller may read, at one version, in the negotiated format.
#[derive(Clone, Debug)]
pub struct TableHead {
    /// The object through which it is shared.
    pub object: SharedObject,
    /// The table's protocol, metadata and size.
    pub described: TableDescription,
    /// The version that the answer is about; for a range, the first.
    pub version: u64,
    /// The format that the client gets.
    pub format: Format,
    /// The versions that lines name.
    pub stamp: Stamp,
    /// The recipient's own ids for a governed table and its files; a raw table has the ids of its log.
    pub alias: Option<Alias>,
}

/// One recipient's ids for a governed table and its files, which prevent partners from comparing what they received.
#[derive(Clone, Debug)]
pub struct Alias {
    /// The table's id.
    pub table_id: String,
    /// The key for making file ids.
    pub file_key: FileKey,
}

/// A table at one version, with or without its files.
#[derive(Clone, Debug)]
pub enum TableDescription {
    /// With its files.
    Snapshot(Arc<Snapshot>),
    /// Without.
    State(Arc<TableState>),
}

impl TableDescription {
    /// Returns the protocol in force.
    pub fn protocol(&self) -> &Protocol {
        match self {
            Self::Snapshot(snapshot) => snapshot.protocol(),
            Self::State(state) => &state.protocol,
        }
    }

    /// Returns the metadata in force.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Snapshot(snapshot) => snapshot.metadata(),
            Self::State(state) => &state.metadata,
        }
    }

    /// Returns the table's numbers of bytes and of files, if they are known.
    pub fn size(&self) -> Option<(u64, usize)> {
        match self {
            Self::Snapshot(snapshot) => Some((snapshot.size_bytes(), snapshot.files().len())),
            Self::State(_) => None,
        }
    }
}

/// The versions that the lines of an answer name (Delta Sharing protocol, 2.4); an answer about the newest version
/// names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The version in the `metaData` line.
    pub metadata: Option<u64>,
    /// The version in the `protocol` line.
    pub protocol: Option<u64>,
    /// The version in file lines, and the time of its commit in milliseconds since the epoch.
    pub files: Option<(u64, i64)>,
}

impl Stamp {
    /// Makes the stamp of an answer to a request by version or timestamp.
    fn of_version(version: u64, committed_at: i64) -> Self {
        Self { metadata: Some(version), protocol: None, files: Some((version, committed_at)) }
    }
}

/// The amount of data that an answer hands out, for the audit trail.
#[derive(Clone, Copy, Debug)]
struct Disclosed {
    /// The number of files.
    files: usize,
    /// The number of rows, if the statistics of all files give one.
    rows: Option<u64>,
    /// The number of bytes.
    bytes: u64,
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Converts a lake's error to one that the caller may see.
impl From<LakeError> for ServiceError {
    fn from(error: LakeError) -> Self {
        match &error {
            LakeError::Unavailable { .. } => Self::Unavailable { what: "the table's storage", source: error.into() },
            LakeError::Unsupported { .. } => Self::Unsupported(error.to_string()),
            // A reader of a view may not know the table's columns.
            LakeError::UnreadableSchema { .. } => Self::Unsupported(
                "the table has a column of a type that this server does not read; ask the data provider".to_owned(),
            ),
            LakeError::VersionNotFound { .. }
            | LakeError::TimestampTooEarly { .. }
            | LakeError::TimestampTooLate { .. } => Self::Malformed(error.to_string()),
            LakeError::ChangesNotRecorded { .. } => Self::Parameter(error.to_string()),
            LakeError::NotATable { .. }
            | LakeError::CorruptLog { .. }
            | LakeError::CommitNotFound { .. }
            | LakeError::IncompleteRemove { .. }
            | LakeError::PathNotServed { .. } => Self::Unreadable { message: error.to_string(), source: error.into() },
            LakeError::Demo { .. } => Self::internal(error),
        }
    }
}

/// Converts a storage's error to one that the caller may see.
impl From<StorageError> for ServiceError {
    fn from(error: StorageError) -> Self {
        let unreadable =
            |message: &str, error: StorageError| Self::Unreadable { message: message.to_owned(), source: error.into() };
        if let StorageError::Escapes { reason, .. } = error {
            return LakeError::PathNotServed { location: String::new(), reason }.into();
        }
        match error {
            StorageError::Unavailable { .. } => Self::Unavailable { what: "the table's storage", source: error.into() },
            StorageError::NotFound { .. } | StorageError::Changed { .. } => unreadable(
                "table files missing: the file is no longer in its storage; read the table again or ask the provider",
                error,
            ),
            StorageError::Denied { .. } => unreadable(
                "permission denied: the provider's server may not read the table's storage; ask the provider",
                error,
            ),
            StorageError::Escapes { .. }
            | StorageError::Unsupported { .. }
            | StorageError::BadLocation { .. }
            | StorageError::OutsideStorages { .. }
            | StorageError::Expired { .. }
            | StorageError::Configuration { .. }
            | StorageError::GuardedInside { .. } => Self::internal(error),
        }
    }
}
