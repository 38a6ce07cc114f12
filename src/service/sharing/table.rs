//! A table's version and metadata, and the steps that all requests about a table share.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Instant,
};

use crate::{
    domain::{
        access::{decision::Reason, limits::span},
        audit::action::Action,
        catalog::{delta::Metadata, requirements::columns_digest, schema::Schema, share::SharedObject},
        sharing::negotiation::{ClientCapabilities, Format, negotiate},
    },
    lake::{Feed, History, LakeError, Snapshot},
    service::{
        core::{error::ServiceError, places::Place},
        materialize::Entitled,
    },
    storage::TableLocation,
};

use super::{
    Caller, RequestedNames, Sharing, Stamp, TableDescription, TableHead, TablePath,
    as_of::{AsOf, timestamp_of},
    audited_request::{AuditedRequest, Granted, Subject},
    continuation::Pin,
};

/// What whoever asks for a table with an unconfirmed column is told.
pub(super) const UNCLASSIFIED: &str =
    "the data provider has not yet said what kind of data every column of this table holds; ask the data provider";

/// The reason code of a client that cannot read the table.
const CLIENT_LACKS_FEATURES: &str = "CLIENT_LACKS_FEATURES";

/// A table that the caller may read, before its log is read.
#[derive(Debug)]
pub(super) struct FoundTable {
    pub(super) granted: Granted,
    pub(super) object: SharedObject,
    /// The location of its files; for a view only once the version to read is known.
    pub(super) location: TableLocation,
    /// The recipient's entitlement, if the object is a view.
    pub(super) view: Option<Entitled>,
    /// The place of the request.
    pub(super) place: Place,
}

/// A request about a table that its caller may read, not yet answered or refused.
#[derive(Debug)]
pub struct Admitted<'a> {
    pub(super) attempt: AuditedRequest<'a>,
    pub(super) found: FoundTable,
    pub(super) path: &'a TablePath,
    pub(super) started: Instant,
}

impl Admitted<'_> {
    /// Refuses the request because of `error`.
    pub async fn refuse(mut self, error: ServiceError) -> ServiceError {
        let refused: Result<(), ServiceError> = self.attempt.settle(Err(error)).await;
        refused.err().unwrap_or_else(|| ServiceError::internal("a refusal was no error"))
    }

    /// Refuses a request, possibly about a table's past. If the object does not share that past, the answer says so
    /// first, so that it does not depend on other errors (Delta Sharing protocol, 1.3 to 1.5).
    pub async fn refuse_about(self, past: Option<Feed>, error: ServiceError) -> ServiceError {
        let not_shared = past.and_then(|past| self.found.require_feed(past, self.path).err());
        self.refuse(not_shared.unwrap_or(error)).await
    }
}

impl Sharing {
    /// Returns the newest version of a table, or the earliest that was committed at or after `since`.
    pub async fn table_version(
        &self,
        caller: &Caller,
        path: &TablePath,
        since: Option<&str>,
    ) -> Result<u64, ServiceError> {
        let mut attempt =
            AuditedRequest::begin(self, caller, Action::TableVersion, RequestedNames::Table(path)).await?;
        let found = self.find_version(&mut attempt, path, since).await;
        let (found, version) = attempt.settle(found).await?;
        attempt.event.table_version = Some(version);
        attempt.allow(&found.granted).await?;
        Ok(version)
    }

    async fn find_version(
        &self,
        attempt: &mut AuditedRequest<'_>,
        path: &TablePath,
        since: Option<&str>,
    ) -> Result<(FoundTable, u64), ServiceError> {
        let found = self.find_table(attempt, path).await?;
        let version = match since {
            None => self.newest_version(&found).await?,
            Some(since) => self.first_version_since(&found, since).await?,
        };
        Ok((found, version))
    }

    /// Returns the first version since a time. Checks that history is shared before it parses the time, so that a table
    /// without history always gives the same answer (Delta Sharing protocol, 1.2).
    async fn first_version_since(&self, found: &FoundTable, since: &str) -> Result<u64, ServiceError> {
        found.require_history()?;
        let at = timestamp_of("startingTimestamp", since)?;
        let history = self.history_of(found).await?;
        let version = history.first_version_since(at.timestamp_millis()).await?;
        let first = found.first_version();
        if version < first {
            return Err(ServiceError::Parameter(format!(
                "You can only query table data since version {first}.The provided timestamp({since}) corresponds to \
                 {version}."
            )));
        }
        Ok(version)
    }

    /// Returns a table's protocol and metadata.
    pub async fn table_metadata(
        &self,
        caller: &Caller,
        path: &TablePath,
        as_of: AsOf,
        declared: &ClientCapabilities,
    ) -> Result<TableHead, ServiceError> {
        let mut attempt =
            AuditedRequest::begin(self, caller, Action::TableMetadata, RequestedNames::Table(path)).await?;
        let found = self.find_head(&mut attempt, path, as_of, declared).await;
        let (found, head) = attempt.settle(found).await?;
        attempt.allow(&found.granted).await?;
        Ok(head)
    }

    async fn find_head(
        &self,
        attempt: &mut AuditedRequest<'_>,
        path: &TablePath,
        as_of: AsOf,
        declared: &ClientCapabilities,
    ) -> Result<(FoundTable, TableHead), ServiceError> {
        let mut found = self.find_table(attempt, path).await?;
        let (snapshot, stamp) = self.snapshot_as_of(&mut found, as_of, None).await?;
        let stamp = Stamp { files: None, ..stamp };
        let head = self.agree(attempt, &found, snapshot, declared, stamp).await?;
        Ok((found, head))
    }

    /// Decides on a request about a table before its contents are parsed, and finds the table.
    pub async fn admit_to_table<'a>(
        &'a self,
        caller: &'a Caller,
        action: Action,
        path: &'a TablePath,
    ) -> Result<Admitted<'a>, ServiceError> {
        let started = Instant::now();
        let mut attempt = AuditedRequest::begin(self, caller, action, RequestedNames::Table(path)).await?;
        let found = self.find_table(&mut attempt, path).await;
        let found = attempt.settle(found).await?;
        Ok(Admitted { attempt, found, path, started })
    }

    /// Decides on a request, and finds the table in its storage.
    pub(super) async fn find_table(
        &self,
        attempt: &mut AuditedRequest<'_>,
        path: &TablePath,
    ) -> Result<FoundTable, ServiceError> {
        let granted = attempt.decide_share(&Subject::table(path)).await?;
        let (object, table) = attempt.take_object(path).await?;
        let location = self.storages.locate(&table.spec.location)?;
        let view = match &object.view {
            None => None,
            Some(view) => {
                attempt.event.view = Some(view.to_string());
                let share_id = granted.share()?.id;
                Some(self.materializer.entitle(view, &granted.bearer.recipient, share_id, attempt.now).await?)
            }
        };
        Ok(FoundTable { granted, object, location, view, place: attempt.caller.place.clone() })
    }

    /// Returns the requested version as its reader sees it, and sets the location of its files in `found`.
    pub(super) async fn snapshot_as_of(
        &self,
        found: &mut FoundTable,
        as_of: AsOf,
        pinned: Option<Pin>,
    ) -> Result<(Arc<Snapshot>, Stamp), ServiceError> {
        match found.view.clone() {
            None => {
                let (snapshot, stamp) = self.source_as_of(found, as_of, pinned).await?;
                self.require_classified(found, snapshot.metadata()).await?;
                Ok((snapshot, stamp))
            }
            Some(view) => self.governed_as_of(found, &view, as_of, pinned).await,
        }
    }

    /// Refuses a raw table with a column that nobody has confirmed the class of, where every column must have a confirmed one.
    pub(super) async fn require_classified(&self, found: &FoundTable, metadata: &Metadata) -> Result<(), ServiceError> {
        if !self.require_classification || found.object.view.is_some() {
            return Ok(());
        }
        let schema = Schema::parse(&metadata.schema_string).map_err(ServiceError::internal)?;
        let mut paths: Vec<String> = schema.leaves().iter().map(|(path, _)| path.to_string()).collect();
        paths.sort_unstable();
        let digest = columns_digest(paths.iter().map(String::as_str));
        let known = found.object.requirements.as_ref().and_then(|requirements| requirements.columns.as_ref());
        if known == Some(&digest) {
            return Ok(());
        }
        // An older version may have fewer columns.
        let columns = self.core.db.all_columns(found.object.table_id).await?;
        let confirmed = columns.iter().filter(|column| column.gone_at.is_none() && column.is_confirmed());
        let confirmed: HashSet<&str> = confirmed.map(|column| column.path.as_str()).collect();
        match paths.iter().all(|path| confirmed.contains(path.as_str())) {
            true => Ok(()),
            false => Err(ServiceError::Denied { reason: Reason::UnclassifiedColumn, message: UNCLASSIFIED.to_owned() }),
        }
    }

    /// Returns the requested version, or the one that a token `pinned`, with the versions for its lines. Older versions
    /// need history, back to the object's first shared version (Delta Sharing protocol, 1.3 and 1.4).
    pub(super) async fn source_as_of(
        &self,
        found: &FoundTable,
        as_of: AsOf,
        pinned: Option<Pin>,
    ) -> Result<(Arc<Snapshot>, Stamp), ServiceError> {
        if pinned.is_none() && as_of == AsOf::Latest {
            return Ok((self.newest_of(found).await?, Stamp::default()));
        }
        if as_of != AsOf::Latest {
            found.require_history()?;
        }
        let history = self.history_of(found).await?;
        let version = match (pinned, as_of) {
            // A pinned version can be read only while the object still shares it.
            (Some(pin), AsOf::Latest) => found.shared(pin.version)?,
            (Some(pin), _) => found.readable(pin.version)?,
            (None, AsOf::Latest) => history.latest().version(),
            (None, AsOf::Version(version)) => found.readable(version)?,
            (None, AsOf::Timestamp(at)) => found.readable(history.version_as_of(at.timestamp_millis()).await?)?,
        };
        if let Some(pin) = pinned {
            self.require_young(found, &history, pin).await?;
        }
        let snapshot = history.at_version(version).await?;
        found.require_accepted(version, snapshot.metadata())?;
        if as_of == AsOf::Latest {
            return Ok((snapshot, Stamp::default()));
        }
        // The commit time as requests by time use it; if the commit is no longer in the log, the snapshot's own time.
        let committed_at = history.committed_at(version).await.unwrap_or_else(|_| snapshot.committed_at());
        Ok((snapshot, Stamp::of_version(version, committed_at)))
    }

    /// Refuses a pinned version that was replaced long ago, if the object shares no history: such a pin is for
    /// finishing an answer, not for reading data that was deleted since.
    async fn require_young(&self, found: &FoundTable, history: &History, pin: Pin) -> Result<(), ServiceError> {
        let Pin { version, began_at } = pin;
        if found.object.spec.history || version >= history.latest().version() {
            return Ok(());
        }
        // It was the newest when it was pinned, whatever the writer's clock says. A missing commit is an old one.
        let replaced_at = match history.committed_at(version + 1).await {
            Ok(at) => at.max(began_at.timestamp_millis()),
            Err(LakeError::CommitNotFound { .. } | LakeError::VersionNotFound { .. }) => began_at.timestamp_millis(),
            Err(error) => return Err(error.into()),
        };
        let age = self.core.clock.now().timestamp_millis().saturating_sub(replaced_at);
        if age < span(self.settings.unshared_version_seconds).num_milliseconds() {
            return Ok(());
        }
        Err(ServiceError::Parameter(format!(
            "Version {version} of this table was replaced too long ago, and its history is not shared; send the query \
             without the token, which reads the latest version"
        )))
    }

    /// Returns the newest version that the caller is served.
    pub(super) async fn newest_of(&self, found: &FoundTable) -> Result<Arc<Snapshot>, ServiceError> {
        let latest = self.lake.latest(&found.location).await.map_err(|error| match error {
            LakeError::UnreadableSchema { .. } if found.view.is_none() => ServiceError::Unsupported(error.to_string()),
            other => other.into(),
        })?;
        let served = self.catalog.served(&found.object, &found.location, &latest).await?;
        served.snapshot.ok_or_else(|| ServiceError::Unreadable {
            message: "the data provider holds this table at a version that is no longer there; ask the data provider \
                      to share it as it is now"
                .to_owned(),
            source: "no version that fits is left in the table's log".into(),
        })
    }

    /// Returns the table's history up to the newest version that the caller is served, as if there were no later one.
    pub(super) async fn history_of(&self, found: &FoundTable) -> Result<History, ServiceError> {
        let newest = self.newest_of(found).await?;
        Ok(self.lake.history_until(&found.location, newest).await)
    }

    /// Negotiates the format with the client, and builds the table's head.
    pub(super) async fn agree(
        &self,
        attempt: &mut AuditedRequest<'_>,
        found: &FoundTable,
        snapshot: Arc<Snapshot>,
        declared: &ClientCapabilities,
        stamp: Stamp,
    ) -> Result<TableHead, ServiceError> {
        let version = snapshot.version();
        attempt.event.table_version = Some(version);
        let format = self.negotiate(attempt, snapshot.required_features(), declared).await?;
        let described = TableDescription::Snapshot(snapshot);
        let alias = found.view.as_ref().map(|view| self.alias(view));
        Ok(TableHead { object: found.object.clone(), described, version, format, stamp, alias })
    }

    /// Chooses the format, or records that the client cannot read the table.
    pub(super) async fn negotiate(
        &self,
        attempt: &mut AuditedRequest<'_>,
        needed: &BTreeSet<String>,
        declared: &ClientCapabilities,
    ) -> Result<Format, ServiceError> {
        match negotiate(needed, declared) {
            Ok(format) => {
                attempt.event.format = Some(format.as_str());
                Ok(format)
            }
            Err(error) => {
                let error = ServiceError::Unsupported(error.to_string());
                Err(attempt.refuse_with(CLIENT_LACKS_FEATURES, error).await)
            }
        }
    }
}

impl FoundTable {
    /// Fails if the object does not share its history.
    pub(super) fn require_history(&self) -> Result<(), ServiceError> {
        if self.object.spec.history {
            return Ok(());
        }
        Err(ServiceError::Parameter(
            "Reading table by version or timestamp is not supported because history sharing is not enabled on this \
             table; read its latest version, or ask the data provider to share its history"
                .to_owned(),
        ))
    }

    /// Returns `version` if the object shares its history and that version.
    pub(super) fn readable(&self, version: u64) -> Result<u64, ServiceError> {
        self.require_history()?;
        self.shared(version)
    }

    /// Returns `version` if it is not older than the first shared version.
    fn shared(&self, version: u64) -> Result<u64, ServiceError> {
        let first = self.first_version();
        if version < first {
            return Err(ServiceError::Parameter(format!(
                "You can only query table data since version {first}; ask for that version or a later one"
            )));
        }
        Ok(version)
    }

    /// Refuses `version`, at which `metadata` was in force, if it is later than the accepted version and has another
    /// schema.
    pub(super) fn require_accepted(&self, version: u64, metadata: &Metadata) -> Result<(), ServiceError> {
        match &self.object.accepted {
            Some(accepted) if version > accepted.version && !accepted.fits(metadata) => {
                Err(ServiceError::Parameter(format!(
                    "Version {version} is not shared, because the table had another schema then; ask for other \
                     versions, or ask the data provider to accept the table's schema as it is now"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Returns the oldest version that the object shares.
    pub(super) fn first_version(&self) -> u64 {
        u64::try_from(self.object.spec.start_version).unwrap_or(0)
    }
}
