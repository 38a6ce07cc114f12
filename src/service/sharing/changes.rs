//! What changed in a table: queries from a starting version, and the change data feed.
//!
//! Both walk a range of commits whose ends are fixed before anything is answered. Never here: which of a commit's
//! actions count, which is the lake's to say, and what a line looks like.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        catalog::delta::{DELETION_VECTORS, Metadata, Protocol, required_features},
        sharing::negotiation::ClientCapabilities,
    },
    lake::{Changes, Commit, Feed, FileAction, History, Outline},
    service::{Service, core::error::ServiceError},
};

use super::{
    Stamp, TableDescription, TableHead, TablePath,
    audited_request::AuditedRequest,
    continuation::PageToken,
    query::{Disclosed, PageAsk, digest},
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

/// What a client asks of a table's changes.
#[derive(Clone, Debug)]
pub struct ChangesRequest {
    /// What the client can read.
    pub declared: ClientCapabilities,
    /// Files added and removed, or the change data feed.
    pub feed: Feed,
    /// Where the range begins.
    pub starting: Moment,
    /// Where it ends, inclusive; the newest version where absent.
    pub ending: Option<Moment>,
    /// Whether metadata is told as it was; otherwise only as it is now.
    pub include_historical_metadata: bool,
    /// Whether protocol changes are told, in delta format.
    pub include_historical_protocol: bool,
    /// How much is answered at once.
    pub page: PageAsk,
}

impl Service {
    /// Walks the range, records, and begins to sign.
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

    /// Opens the table, and reads the range.
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
            // A token does not keep open what the object shares no more.
            Some(page) => (found.shares_since(page.first, request.feed)?, page.last),
            None => request.range(&history, &found).await?,
        };
        let changes = history.changes(first..=last, request.feed).await?;
        found.require_accepted_throughout(&changes)?;
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
        let (lines, disclosed, next) = ChangeLines::cut(changes, request.feed, tells, &request.page, position);
        let next_page = |at| continuations.next_page((first, last), &parameters, super::as_u64(at), began_at);
        let next_page_token = next.map(next_page);
        Ok((found, head, (lines, disclosed), next_page_token))
    }
}

impl FoundTable {
    /// Refuses a range in which the table had a schema that came and went unaccepted.
    fn require_accepted_throughout(&self, changes: &Changes) -> Result<(), ServiceError> {
        self.require_accepted(changes.start().version, &changes.start().metadata)?;
        let changed =
            changes.outlines().iter().filter_map(|outline| Some((outline.version, outline.metadata.as_deref()?)));
        let mut changed = changed;
        changed.try_for_each(|(version, metadata)| self.require_accepted(version, metadata))
    }

    /// `first`, if the object shares what came since.
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

    /// Refuses what the object does not share.
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
    /// What a later page must repeat. The page's size may differ.
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

    /// The versions that are asked for: a time at the beginning means the first commit at it or later, one at the end
    /// the last commit at it or before (Delta Sharing protocol, 1.4 and 1.5).
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
            // Streams ask for ranges that reach beyond what there is.
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

/// The reader features that some version of the range, or some file in it, needs.
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

/// Which actions besides files an answer tells.
#[derive(Clone, Copy, Debug)]
struct Tells {
    metadata: bool,
    protocol: bool,
}

/// The lines of a range of commits, and how far they came.
#[derive(Debug)]
pub struct ChangeLines {
    changes: Changes,
    feed: Feed,
    tells: Tells,
    /// What is left, the next last.
    left: Vec<Part>,
}

/// What of one version an answer lists.
#[derive(Clone, Debug)]
struct Part {
    /// Which version of the range.
    index: usize,
    /// Which of its files.
    files: Range<usize>,
    /// Whether its other actions are told here.
    tells: bool,
}

impl ChangeLines {
    /// Cuts a range to the page that begins behind `position` files, and answers where the next one begins. Only files
    /// count towards a page's size.
    fn cut(
        changes: Changes,
        feed: Feed,
        tells: Tells,
        page: &PageAsk,
        position: usize,
    ) -> (Self, Disclosed, Option<usize>) {
        let all: usize = changes.outlines().iter().map(|outline| outline.n_files).sum();
        let begin = position.min(all);
        let end = begin.saturating_add(page.most()).min(all);
        let mut left = Vec::new();
        let mut disclosed = Disclosed { files: end - begin, rows: None, bytes: 0 };
        let mut before = 0;
        for (index, outline) in changes.outlines().iter().enumerate() {
            let after = before + outline.n_files;
            let files = begin.clamp(before, after) - before..end.clamp(before, after) - before;
            // A version's other actions come with its first file; those without files where they stand.
            let tells = index > 0 && begin <= before && (before < end || end == all);
            if !files.is_empty() || tells {
                disclosed.bytes += share_of(outline, files.len());
                left.push(Part { index, files, tells });
            }
            before = after;
        }
        left.reverse();
        (Self { changes, feed, tells, left }, disclosed, (end < all).then_some(end))
    }

    /// The next lines of one version, of at most `most` files; `None` after the last.
    pub(super) async fn next(&mut self, most: usize) -> Result<Option<CommitLines>, ServiceError> {
        let Some(mut part) = self.left.pop() else { return Ok(None) };
        let missing = || ServiceError::internal("a version of the range is gone");
        let outline = self.changes.outlines().get(part.index).cloned().ok_or_else(missing)?;
        // A file whose deletion vector was replaced is removed and added, which must be signed together.
        let most = if outline.has_deletion_vectors { part.files.len() } else { most };
        let now = part.files.start..part.files.end.min(part.files.start + most);
        let tells = part.tells;
        if now.end < part.files.end {
            part = Part { files: now.end..part.files.end, tells: false, ..part };
            self.left.push(part.clone());
        }
        let commit = self.changes.commit(part.index).await?.ok_or_else(missing)?;
        let protocol = outline.protocol.filter(|_| tells && self.tells.protocol);
        let metadata = outline.metadata.filter(|_| tells && self.tells.metadata);
        Ok(Some(CommitLines { commit, feed: self.feed, files: now, protocol, metadata }))
    }
}

/// The bytes of some of a version's files, where only their sum is known.
fn share_of(outline: &Outline, n_files: usize) -> u64 {
    if n_files == outline.n_files {
        return outline.bytes;
    }
    outline.bytes / super::as_u64(outline.n_files.max(1)) * super::as_u64(n_files)
}

/// Lines of one commit.
#[derive(Debug)]
pub struct CommitLines {
    /// The commit.
    pub commit: Arc<Commit>,
    /// A new protocol to tell.
    pub protocol: Option<Arc<Protocol>>,
    /// New metadata to tell.
    pub metadata: Option<Arc<Metadata>>,
    feed: Feed,
    files: Range<usize>,
}

impl CommitLines {
    /// The files to list.
    pub fn files(&self) -> impl Iterator<Item = &FileAction> + Clone + Send {
        // Selecting again costs less than keeping what was selected.
        let selected: Vec<&FileAction> = self.commit.selected(self.feed).collect();
        let files = selected.get(self.files.clone()).map(<[_]>::to_vec).unwrap_or_default();
        files.into_iter()
    }
}
