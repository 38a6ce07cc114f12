//! Streaming answers: files are signed chunk by chunk, and the end of the answer is recorded in the audit trail.

use std::{ops::Range, sync::Arc, time::Instant};

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        access::decision::Reason,
        audit::{Event, Outcome},
    },
    service::core::{error::ServiceError, rate_limiter::Stream},
};

use super::{
    Sharing, TableHead,
    audited_request::AccessRecheck,
    change_lines::{ChangeLines, CommitLines},
    delivery::{SignedUrls, Signer},
    preparers::{Prepared, Preparers},
    snapshot_files::SnapshotFiles,
};

/// How many files are signed before the answer begins; few, so that the first byte leaves soon.
const FIRST_CHUNK: usize = 64;
/// How many files are signed at a time after that: enough to be worth a thread, and few enough that others wait for a
/// core for less than a millisecond.
const CHUNK: usize = 256;

/// The lines of an answer, and its position in them.
#[derive(Debug)]
pub enum Lines {
    /// The files of a version.
    Snapshot {
        /// All of them.
        files: SnapshotFiles,
        /// The first that is not signed yet.
        next: usize,
    },
    /// The actions of commits.
    Changes(Box<ChangeLines>),
}

impl From<SnapshotFiles> for Lines {
    fn from(files: SnapshotFiles) -> Self {
        Self::Snapshot { files, next: 0 }
    }
}

impl Lines {
    /// Returns the next lines, for at most `most` files; `None` after the last.
    async fn next(&mut self, most: usize) -> Result<Option<Content>, ServiceError> {
        match self {
            Self::Snapshot { files, next } => {
                let range = *next..files.len().min(*next + most);
                *next = range.end;
                Ok((!range.is_empty()).then(|| Content::Files { files: files.clone(), range }))
            }
            Self::Changes(lines) => Ok(lines.next(most).await?.map(Content::Commit)),
        }
    }
}

/// Lines of an answer with the URLs of their files.
#[derive(Debug)]
pub struct SignedChunk {
    /// The content of the lines.
    pub content: Content,
    /// Their URLs.
    pub urls: SignedUrls,
}

/// The content of some lines of an answer.
#[derive(Debug)]
pub enum Content {
    /// Files of a version.
    Files {
        /// The files of the answer.
        files: SnapshotFiles,
        /// The range of these lines.
        range: Range<usize>,
    },
    /// The actions of a commit.
    Commit(CommitLines),
}

impl Content {
    /// Signs the files of these lines.
    async fn sign(self, signer: &Signer) -> Result<SignedChunk, ServiceError> {
        let urls = match &self {
            Self::Files { files, range } => files.sign(signer, range.clone()).await?,
            Self::Commit(lines) => {
                let files = lines.files().map(|file| (&*file.path, file.deletion_vector()));
                let mut urls = signer.sign(files).await?;
                urls.unite(lines.files().map(|file| &*file.path));
                urls
            }
        };
        Ok(SignedChunk { content: self, urls })
    }
}

/// An answer about a table: its description, and its lines as they are signed.
#[derive(Debug)]
pub struct Answer {
    /// The description of the table.
    pub head: Arc<TableHead>,
    /// When every URL of this answer expires, in whole seconds.
    pub expires_at: DateTime<Utc>,
    /// Whether it hands out any URLs.
    pub has_files: bool,
    /// The token for the next page, if there is one.
    pub next_page_token: Option<String>,
    /// The token for fresh URLs of the same version, if the client wants it.
    pub refresh_token: Option<String>,
    /// Whether it has no rows because of the recipient's own properties.
    pub lacks_properties: bool,
    lines: Lines,
    signer: Arc<Signer>,
    preparers: Preparers,
    first: Option<SignedChunk>,
    ending: Option<Ending>,
}

impl Answer {
    /// Makes an answer and signs its first lines. Nothing may leave before it is recorded and [`Self::begin`] is
    /// called.
    pub(super) async fn new(
        head: TableHead,
        mut lines: Lines,
        signer: Signer,
        preparers: Preparers,
        expires_at: DateTime<Utc>,
        has_files: bool,
    ) -> Result<Self, ServiceError> {
        let first = match lines.next(FIRST_CHUNK).await? {
            Some(content) => Some(content.sign(&signer).await?),
            None => None,
        };
        Ok(Self {
            head: Arc::new(head),
            expires_at,
            has_files,
            next_page_token: None,
            refresh_token: None,
            lacks_properties: false,
            lines,
            signer: Arc::new(signer),
            preparers,
            first,
            ending: None,
        })
    }

    /// Begins the recorded answer; `ending` will record how it ends.
    pub(super) fn begin(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// Takes the first lines with their URLs, which were signed before the answer began.
    pub fn take_first(&mut self) -> Option<SignedChunk> {
        self.first.take()
    }

    /// Starts signing the next lines and passing them to `finish` in the background; returns `None` after the last.
    pub async fn prepare_next<T: Send + 'static>(
        &mut self,
        finish: impl FnOnce(SignedChunk) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<Option<Prepared<T>>, ServiceError> {
        let content = self.lines.next(CHUNK).await?;
        Ok(content.map(|content| {
            let signer = Arc::clone(&self.signer);
            self.preparers.prepare(move |runtime| finish(runtime.block_on(content.sign(&signer))?))
        }))
    }

    /// Counts `files` as handed out.
    pub fn hand_out(&mut self, files: usize) {
        if let Some(ending) = &mut self.ending {
            ending.files += super::as_u64(files);
        }
    }

    /// Records that the whole answer was handed out.
    pub fn complete(&mut self) {
        if let Some(ending) = self.ending.take() {
            ending.tell(true);
        }
    }

    /// Checks at intervals whether the decision still holds: a slow reader must get no URLs after a revocation. If it
    /// does not, ends the answer and records the reason in the audit trail.
    pub async fn look_again(&mut self) -> Result<(), ServiceError> {
        let Some(ending) = &mut self.ending else {
            return Err(ServiceError::internal("the answer has ended"));
        };
        let looked = ending.look_again().await;
        if let Err(error) = &looked
            && let Some(ending) = self.ending.take()
        {
            ending.refuse(error);
        }
        looked
    }
}

/// Records an answer that is dropped midway as aborted.
impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            ending.tell(false);
        }
    }
}

/// Records in the audit trail how an answer ended; until then the answer counts as a running stream.
#[derive(Debug)]
pub(super) struct Ending {
    service: Sharing,
    event: Event,
    started: Instant,
    /// The number of files handed out so far.
    files: u64,
    _stream: Stream,
    recheck: AccessRecheck,
}

impl Ending {
    /// Makes the ending of the answer that `event` recorded; `recheck` holds its access basis.
    pub(super) fn new(
        service: &Sharing,
        event: Event,
        started: Instant,
        stream: Stream,
        recheck: AccessRecheck,
    ) -> Self {
        Self { service: service.clone(), event, started, files: 0, _stream: stream, recheck }
    }

    async fn look_again(&mut self) -> Result<(), ServiceError> {
        self.recheck.look_again(&self.service).await
    }

    fn refuse(mut self, error: &ServiceError) {
        if let ServiceError::Denied { reason, .. } = error {
            self.event.decision = Outcome::Deny;
            self.event.reason = Some(reason.code().into());
            if let Reason::GeoDenied(seen) = reason {
                self.event.personal.country = seen.map(|country| country.to_string());
            }
        }
        self.tell(false);
    }

    /// Records how the answer ended.
    fn tell(self, is_complete: bool) {
        let mut event = self.event;
        event.action = event.action.ended(is_complete);
        if !is_complete {
            (event.files, event.rows, event.bytes) = (Some(self.files), None, None);
        }
        // The URLs were counted when they were allowed.
        event.url_expires_at = None;
        event.duration_ms = Some(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        // The disclosure itself was recorded before the answer began, so nothing needs to wait for this event.
        self.service.core.audit_writer.record_later(event);
    }
}
