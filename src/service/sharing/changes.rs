//! Changes of a table: queries from a starting version, and the change data feed.
//!
//! Both walk a range of commits whose ends are fixed before anything is answered. Never here: the selection of a
//! commit's actions, which is the lake's task, and the wire format.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        catalog::delta::{DELETION_VECTORS, Metadata, Protocol, required_features},
        sharing::negotiation::ClientCapabilities,
    },
    lake::{Changes, Feed, History},
    service::core::error::ServiceError,
};

use super::{
    Disclosed, Sharing, Stamp, TableDescription, TableHead, TablePath,
    audited_request::AuditedRequest,
    change_lines::{ChangeLines, Tells},
    continuation::PageToken,
    query::{PageAsk, digest},
    stream::{Answer, Lines},
    table::{Admitted, FoundTable},
};

/// One end of a range, as a client names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A version.
    Version(u64),
    /// A time.
    Timestamp(DateTime<Utc>),
}

/// A client's query for a table's changes.
#[derive(Clone, Debug)]
pub struct ChangesRequest {
    /// The client's capabilities.
    pub declared: ClientCapabilities,
    /// Files added and removed, or the change data feed.
    pub feed: Feed,
    /// Where the range begins.
    pub starting: Moment,
    /// Where it ends, inclusive; by default at the newest version.
    pub ending: Option<Moment>,
    /// Whether the answer includes metadata as it was; otherwise only as of the end.
    pub include_historical_metadata: bool,
    /// Whether the answer includes protocol changes, in delta format.
    pub include_historical_protocol: bool,
    /// The requested page.
    pub page: PageAsk,
}

impl Sharing {
    /// Answers a query for changes: walks the range, records the event, and begins to sign.
    pub async fn query_changes(
        &self,
        admitted: Admitted<'_>,
        request: &ChangesRequest,
    ) -> Result<Answer, ServiceError> {
        let Admitted { mut attempt, found, path, started } = admitted;
        let prepared = self.prepare_changes(&mut attempt, found, path, request).await;
        let (found, head, (lines, disclosed), next_page_token) = attempt.settle(prepared).await?;
        let mut answer =
            self.answer(attempt, &found, head, Lines::Changes(Box::new(lines)), disclosed, started).await?;
        answer.next_page_token = next_page_token;
        Ok(answer)
    }

    /// Opens the table and reads the range.
    async fn prepare_changes(
        &self,
        attempt: &mut AuditedRequest<'_>,
        found: FoundTable,
        path: &TablePath,
        request: &ChangesRequest,
    ) -> Result<(FoundTable, TableHead, (ChangeLines, Disclosed), Option<String>), ServiceError> {
        found.require_raw("what changed since a version")?;
        found.require_feed(request.feed, path)?;
        let continuations = self.continuations(attempt, &found);
        let parameters = request.parameters();
        let page =
            request.page.page_token.as_ref().map(|token| continuations.open_page(token, &parameters)).transpose()?;

        let history = self.history_of(&found).await?;
        let (first, last) = match &page {
            // A token does not extend access to versions that the object no longer shares.
            Some(page) => (found.shares_since(page.first, request.feed)?, page.last),
            None => request.range(&history, &found).await?,
        };
        let changes = history.changes(first..=last, request.feed).await?;
        found.require_accepted_throughout(&changes)?;
        self.require_classified(&found, &changes.start().metadata).await?;
        for metadata in changes.outlines().iter().filter_map(|outline| outline.metadata.as_deref()) {
            self.require_classified(&found, metadata).await?;
        }
        attempt.event.table_version = Some(last);
        let format = self.negotiate(attempt, &needed_features(&changes), &request.declared).await?;
        let tells = Tells {
            metadata: request.feed == Feed::Files || request.include_historical_metadata,
            protocol: request.include_historical_protocol
                && format == crate::domain::sharing::negotiation::Format::Delta,
        };
        let described = if tells.metadata {
            TableDescription::State(Arc::clone(changes.start()))
        } else {
            TableDescription::State(history.state_at(last).await?)
        };
        let head_version = if tells.metadata { first } else { last };
        let stamp =
            Stamp { metadata: Some(head_version), protocol: tells.protocol.then_some(head_version), files: None };
        let head = TableHead { object: found.object.clone(), described, version: first, format, stamp, alias: None };

        let began_at = page.as_ref().map_or(attempt.now, PageToken::began_at);
        let position = page.map_or(0, |page| usize::try_from(page.after).unwrap_or(usize::MAX));
        let (lines, disclosed, next) = ChangeLines::cut(changes, request.feed, tells, request.page.most(), position);
        let next_page = |at| continuations.next_page((first, last), &parameters, super::as_u64(at), began_at);
        let next_page_token = next.map(next_page);
        Ok((found, head, (lines, disclosed), next_page_token))
    }
}

impl FoundTable {
    /// Refuses a range in which the table had a schema that was never accepted.
    fn require_accepted_throughout(&self, changes: &Changes) -> Result<(), ServiceError> {
        self.require_accepted(changes.start().version, &changes.start().metadata)?;
        let changed =
            changes.outlines().iter().filter_map(|outline| Some((outline.version, outline.metadata.as_deref()?)));
        let mut changed = changed;
        changed.try_for_each(|(version, metadata)| self.require_accepted(version, metadata))
    }

    /// Returns `first` if the object shares the changes since that version.
    fn shares_since(&self, first: u64, feed: Feed) -> Result<u64, ServiceError> {
        let shared = self.first_version();
        if first >= shared {
            return Ok(first);
        }
        let what = if feed == Feed::Files { "data" } else { "changes" };
        Err(ServiceError::Parameter(format!(
            "You can only query table {what} since version {shared}; start there or later"
        )))
    }

    /// Refuses a feed that the object does not share.
    pub(super) fn require_feed(&self, feed: Feed, path: &TablePath) -> Result<(), ServiceError> {
        match feed {
            Feed::Files => self.require_history(),
            Feed::Changes if self.object.spec.history && self.object.spec.cdf => Ok(()),
            Feed::Changes => Err(ServiceError::Parameter(format!(
                "cdf is not enabled on table {}.{}.{}; ask the data provider to share its change data feed",
                path.share, path.schema, path.table
            ))),
        }
    }
}

impl ChangesRequest {
    /// Returns the digest of the parameters that later pages must repeat; the page's size may differ.
    fn parameters(&self) -> String {
        digest(&format!(
            "{:?}|{:?}|{:?}|{}|{}|{:?}",
            self.feed,
            self.starting,
            self.ending,
            self.include_historical_metadata,
            self.include_historical_protocol,
            self.declared
        ))
    }

    /// Returns the first and last requested version. A starting time means the first commit at or after it, an ending
    /// time the last commit at or before it (Delta Sharing protocol, 1.4 and 1.5).
    async fn range(&self, history: &History, found: &FoundTable) -> Result<(u64, u64), ServiceError> {
        let newest = history.latest().version();
        let refused = |message: String| Err(ServiceError::Parameter(message));
        let first = match self.starting {
            Moment::Version(version) => version,
            Moment::Timestamp(at) => history.first_version_since(at.timestamp_millis()).await?,
        };
        if first > newest {
            return refused(format!(
                "Start version cannot be greater than the latest version of the table({newest}); start at or before it"
            ));
        }
        let first = found.shares_since(first, self.feed)?;
        let last = match (self.ending, self.feed) {
            (None, _) => newest,
            (Some(Moment::Version(version)), Feed::Files) if version > newest => {
                return refused(format!(
                    "Provided end version({version}) is invalid: the latest version of the table is {newest}"
                ));
            }
            // Streams ask for ranges beyond the newest version.
            (Some(Moment::Version(version)), _) => version.min(newest),
            (Some(Moment::Timestamp(at)), _) => history.last_version_until(at.timestamp_millis()).await?,
        };
        if last < first {
            return refused(format!(
                "CDF range from start {first} to end {last} was invalid. End cannot be before start."
            ));
        }
        Ok((first, last))
    }
}

/// Returns the reader features that any version or file of the range needs.
fn needed_features(changes: &Changes) -> BTreeSet<String> {
    let start = changes.start();
    let (mut protocol, mut metadata): (&Protocol, &Metadata) = (&start.protocol, &start.metadata);
    let mut needed = required_features(protocol, metadata, false);
    for outline in changes.outlines() {
        protocol = outline.protocol.as_deref().unwrap_or(protocol);
        metadata = outline.metadata.as_deref().unwrap_or(metadata);
        let has_changed = outline.protocol.is_some() || outline.metadata.is_some();
        if has_changed || (outline.has_deletion_vectors && !needed.contains(DELETION_VECTORS)) {
            needed.extend(required_features(protocol, metadata, outline.has_deletion_vectors));
        }
    }
    needed
}
