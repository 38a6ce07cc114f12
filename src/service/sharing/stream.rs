//! An answer that streams: its files are signed chunk by chunk, and the audit trail learns how it ended.

use std::{ops::Range, time::Instant};

use chrono::{DateTime, Utc};

use super::{
    TableHead,
    attempt::Hold,
    changes::{ChangeLines, CommitLines},
    delivery::{SignedUrls, Signer},
    query::SnapshotFiles,
};
use crate::{
    domain::audit::{Event, Outcome},
    service::{Service, error::ServiceError, meter::Stream},
};

/// How the event is called of an answer that was broken off.
const ABORTED: &str = "aborted";
/// How many files are signed before the answer begins; few, so that the first byte leaves soon.
const FIRST_CHUNK: usize = 64;
/// How many files are signed at a time after that.
const CHUNK: usize = 512;

/// What an answer lists, and how far it came.
#[derive(Debug)]
pub enum Lines {
    /// The files of a version.
    Snapshot {
        /// All of them.
        files: SnapshotFiles,
        /// The first that is not signed yet.
        next: usize,
    },
    /// What commits did.
    Changes(Box<ChangeLines>),
}

impl From<SnapshotFiles> for Lines {
    fn from(files: SnapshotFiles) -> Self {
        Self::Snapshot { files, next: 0 }
    }
}

impl Lines {
    /// Signs the next lines, of at most `most` files; `None` after the last.
    async fn sign_next(&mut self, signer: &Signer, most: usize) -> Result<Option<SignedChunk>, ServiceError> {
        match self {
            Self::Snapshot { files, next } => {
                let range = *next..files.len().min(*next + most);
                if range.is_empty() {
                    return Ok(None);
                }
                let urls = files.sign(signer, range.clone()).await?;
                *next = range.end;
                Ok(Some(SignedChunk { content: Content::Files { files: files.clone(), range }, urls }))
            }
            Self::Changes(lines) => match lines.next(most).await? {
                None => Ok(None),
                Some(lines) => {
                    let files = lines.files().map(|file| (&*file.path, file.deletion_vector()));
                    let mut urls = signer.sign(files).await?;
                    urls.unite(lines.files().map(|file| &*file.path));
                    Ok(Some(SignedChunk { content: Content::Commit(lines), urls }))
                }
            },
        }
    }
}

/// Lines of an answer with the URLs that open their files.
#[derive(Debug)]
pub struct SignedChunk {
    /// What the lines say.
    pub content: Content,
    /// Their URLs.
    pub urls: SignedUrls,
}

/// What some lines of an answer say.
#[derive(Debug)]
pub enum Content {
    /// Files of a version.
    Files {
        /// The files of the answer.
        files: SnapshotFiles,
        /// Which of them.
        range: Range<usize>,
    },
    /// What a commit did.
    Commit(CommitLines),
}

/// An answer about a table: what it is, and its lines as they are signed.
#[derive(Debug)]
pub struct Answer {
    /// What the table is.
    pub head: TableHead,
    /// When every URL of this answer ends, in whole seconds.
    pub expires_at: DateTime<Utc>,
    /// Whether it hands out any URL.
    pub has_files: bool,
    /// Asks for the next page, where there is one.
    pub next_page_token: Option<String>,
    /// Asks for fresh URLs of the same version, where that was wanted.
    pub refresh_token: Option<String>,
    lines: Lines,
    signer: Signer,
    first: Option<SignedChunk>,
    ending: Option<Ending>,
}

impl Answer {
    /// An answer whose first lines are signed. Nothing may leave before it was recorded and [`Self::begin`] told so.
    pub(super) async fn new(
        head: TableHead,
        mut lines: Lines,
        signer: Signer,
        expires_at: DateTime<Utc>,
        has_files: bool,
    ) -> Result<Self, ServiceError> {
        let first = lines.sign_next(&signer, FIRST_CHUNK).await?;
        Ok(Self {
            head,
            expires_at,
            has_files,
            next_page_token: None,
            refresh_token: None,
            lines,
            signer,
            first,
            ending: None,
        })
    }

    /// The answer was recorded; `ending` tells how it goes on.
    pub(super) fn begin(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// The next lines with their URLs; `None` after the last.
    pub async fn next_chunk(&mut self) -> Option<Result<SignedChunk, ServiceError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(self.count(first)));
        }
        if let Err(error) = self.look_again().await {
            return Some(Err(error));
        }
        match self.lines.sign_next(&self.signer, CHUNK).await {
            Ok(Some(chunk)) => Some(Ok(self.count(chunk))),
            Err(error) => Some(Err(error)),
            Ok(None) => {
                if let Some(ending) = self.ending.take() {
                    ending.tell("completed");
                }
                None
            }
        }
    }

    /// Counts the files that are handed out with `chunk`.
    fn count(&mut self, chunk: SignedChunk) -> SignedChunk {
        if let Some(ending) = &mut self.ending {
            ending.files += super::as_u64(chunk.urls.files.len());
        }
        chunk
    }

    /// Looks now and then whether what was decided still holds: a slow reader must get no URLs after a revocation. An
    /// answer that may not go on is ended, and says why in the audit trail.
    async fn look_again(&mut self) -> Result<(), ServiceError> {
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

/// An answer that is dropped midway was aborted.
impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            ending.tell(ABORTED);
        }
    }
}

/// Tells the audit trail how an answer ended; until then it counts as a running stream.
#[derive(Debug)]
pub(super) struct Ending {
    service: Service,
    event: Event,
    started: Instant,
    /// How many files were handed out so far.
    files: u64,
    _stream: Stream,
    hold: Hold,
}

impl Ending {
    /// The ending of the answer that `event` recorded and that stands on `hold`.
    pub(super) fn new(service: &Service, event: Event, started: Instant, stream: Stream, hold: Hold) -> Self {
        Self { service: service.clone(), event, started, files: 0, _stream: stream, hold }
    }

    async fn look_again(&mut self) -> Result<(), ServiceError> {
        self.hold.look_again(&self.service).await
    }

    fn refuse(mut self, error: &ServiceError) {
        if let ServiceError::Denied { reason, .. } = error {
            self.event.decision = Outcome::Deny;
            self.event.reason = Some(reason.code().into());
        }
        self.tell(ABORTED);
    }

    fn tell(self, how: &'static str) {
        let mut event = self.event;
        event.action = format!("{}.{how}", event.action).into();
        if how == ABORTED {
            (event.files, event.rows, event.bytes) = (Some(self.files), None, None);
        }
        // Its URLs were counted when they were allowed.
        event.url_expires_at = None;
        event.duration_ms = Some(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        // The disclosure itself was recorded before the answer began, so that nobody needs to wait for this.
        self.service.trail.record_later(event);
    }
}
