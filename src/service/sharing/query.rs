//! Queries of a table: the files of one version, each behind a URL that expires.
//!
//! URLs are made while the answer streams, a chunk at a time, all with the one expiry that was decided and recorded, so
//! that memory does not grow with the table. Never here: the wire format.

use std::{sync::Arc, time::Instant};

use sha2::{Digest, Sha256};

use crate::{
    domain::{
        access::limits::span,
        core::{seal::hex, word::Words},
        sharing::{negotiation::ClientCapabilities, predicate::Filter},
    },
    lake::{Order, Snapshot},
    service::{core::error::ServiceError, materialize::Entitled},
};

use super::{
    Disclosed, Sharing, TableHead,
    as_of::AsOf,
    audited_request::AuditedRequest,
    continuation::{Continuations, PageToken, RefreshToken},
    delivery::Signer,
    snapshot_files::{Chosen, SnapshotFiles},
    stream::{Answer, Ending, Lines},
    table::{Admitted, FoundTable},
};

/// The most files in a page, whatever the client asks for.
const MAX_PAGE: usize = 100_000;

/// A client's query of a table.
#[derive(Clone, Debug, Default)]
pub struct QueryRequest {
    /// The client's capabilities.
    pub declared: ClientCapabilities,
    /// The requested version.
    pub as_of: AsOf,
    /// The predicates as they were sent, or their digest if they are long.
    pub predicates: Option<String>,
    /// Their digest.
    pub predicate_digest: Option<String>,
    /// The rows that the client wants, according to its hints.
    pub filter: Filter,
    /// The requested page.
    pub page: PageAsk,
    /// A refresh token, which pins the version that it was issued for.
    pub refresh_token: Option<String>,
    /// Whether the client wants a refresh token.
    pub include_refresh_token: bool,
}

/// The requested page of an answer.
#[derive(Clone, Debug, Default)]
pub struct PageAsk {
    /// The most files.
    pub max_files: Option<u32>,
    /// The page token of the previous page.
    pub page_token: Option<String>,
}

impl Sharing {
    /// Answers a query: opens the table, records the event, and begins to sign.
    pub async fn query_table(&self, admitted: Admitted<'_>, request: &QueryRequest) -> Result<Answer, ServiceError> {
        let Admitted { mut attempt, found, started, .. } = admitted;
        attempt.event.predicate_digest.clone_from(&request.predicate_digest);
        let prepared = self.prepare_query(&mut attempt, found, request).await;
        let (found, head, files, tokens) = attempt.settle(prepared).await?;
        let disclosed = Disclosed { files: files.len(), rows: files.rows(), bytes: files.size_bytes() };
        let now = attempt.now;
        let mut answer = self.answer(attempt, &found, head, files.into(), disclosed, started).await?;
        answer.lacks_properties = self.lacks_properties(&found, now).await;
        (answer.next_page_token, answer.refresh_token) = tokens;
        Ok(answer)
    }

    /// Opens the table, and chooses the files and the tokens that continue the query.
    async fn prepare_query(
        &self,
        attempt: &mut AuditedRequest<'_>,
        mut found: FoundTable,
        request: &QueryRequest,
    ) -> Result<(FoundTable, TableHead, SnapshotFiles, (Option<String>, Option<String>)), ServiceError> {
        let continuations = self.continuations(attempt, &found);
        let parameters = request.parameters();
        let page =
            request.page.page_token.as_ref().map(|token| continuations.open_page(token, &parameters)).transpose()?;
        let refresh = request.refresh_token.as_ref().map(|token| continuations.open_refresh(token)).transpose()?;
        let pinned = page.as_ref().map(PageToken::pin).or(refresh.as_ref().map(RefreshToken::pin));
        let (snapshot, stamp) = self.snapshot_as_of(&mut found, request.as_of, pinned).await?;
        let head = self.agree(attempt, &found, Arc::clone(&snapshot), &request.declared, stamp).await?;

        let selected = self.lake.select(&found.location, &snapshot, &request.filter, request.page.order()).await;
        let (chosen, next) = request.page.cut(&snapshot, selected, page.map(|page| page.after));
        let (version, began_at) = (head.version, pinned.map_or(attempt.now, |pin| pin.began_at));
        let next_page = |after| continuations.next_page((version, version), &parameters, after, began_at);
        let next_page_token = next.map(next_page);
        let refresh_token = request.include_refresh_token.then(|| continuations.refresh(version, began_at));
        let files = SnapshotFiles::new(snapshot, chosen);
        files.require_served()?;
        Ok((found, head, files, (next_page_token, refresh_token)))
    }

    /// Signs the first lines, records the disclosure, and only then returns the answer.
    pub(super) async fn answer(
        &self,
        mut attempt: AuditedRequest<'_>,
        found: &FoundTable,
        head: TableHead,
        lines: Lines,
        disclosed: Disclosed,
        started: Instant,
    ) -> Result<Answer, ServiceError> {
        let stream = attempt.begin_stream(&found.granted).await?;
        let chosen = self.choose_delivery(found, disclosed.files, attempt.now).await;
        let (delivery, expires_at) = attempt.settle(chosen).await?;
        let n_files = super::as_u64(disclosed.files);
        attempt.event.delivery = Some(delivery.as_str());
        attempt.event.files = Some(n_files);
        attempt.event.rows = disclosed.rows;
        attempt.event.bytes = Some(disclosed.bytes);
        attempt.event.url_expires_at = (n_files > 0).then_some(expires_at);
        let signer = Signer::new(self, found, delivery, expires_at);
        // Signing the first chunk before anything is recorded finds storage errors while they can still be reported.
        let answer = Answer::new(head, lines, signer, self.preparers.clone(), expires_at, n_files > 0).await;
        let mut answer = attempt.settle(answer).await?;
        let recheck = attempt.recheck(&found.granted)?;
        let event = attempt.allow(&found.granted).await?;
        self.core.metrics.files_issued(delivery.as_str(), n_files, disclosed.bytes);
        answer.begin(Ending::new(self, event, started, stream, recheck));
        Ok(answer)
    }

    /// Returns the sealer of this recipient's tokens for this object.
    pub(super) fn continuations<'a>(&'a self, attempt: &AuditedRequest<'_>, found: &FoundTable) -> Continuations<'a> {
        Continuations {
            sealer: &self.core.pages,
            recipient_id: found.granted.bearer.recipient.id,
            object_id: found.object.id,
            shown: found.view.as_ref().map(Entitled::table_id),
            now: attempt.now,
            refresh_life: span(self.settings.refresh_token_seconds),
        }
    }
}

impl QueryRequest {
    /// Returns the digest of the parameters that later pages must repeat; the page's size may differ.
    fn parameters(&self) -> String {
        digest(&format!("{:?}|{:?}|{:?}|{:?}", self.as_of, self.predicates, self.filter.limit, self.declared))
    }
}

impl PageAsk {
    /// Returns the most files that this page may have.
    pub(super) fn most(&self) -> usize {
        self.max_files.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX).min(MAX_PAGE))
    }

    /// Returns the order of files. Pages use path keys, whose order is the same on every replica and after every
    /// reload.
    fn order(&self) -> Order {
        if self.max_files.is_none() && self.page_token.is_none() { Order::Snapshot } else { Order::Key }
    }

    /// Cuts the selected files (`None` for all) to the page that begins after the key `after`, and returns the key
    /// after which the next page begins.
    fn cut(&self, snapshot: &Snapshot, selected: Option<Vec<u32>>, after: Option<u64>) -> (Chosen, Option<u64>) {
        let files = snapshot.files();
        if self.order() == Order::Snapshot {
            return (selected.map_or(Chosen::All(files.len()), Chosen::These), None);
        }
        let (page, next) = match selected {
            None => files.page(after, self.most()),
            Some(selected) => files.page_of(&selected, after, self.most()),
        };
        (Chosen::These(page), next)
    }
}

/// Returns the digest of a text, to store or compare instead of the text.
pub fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}
