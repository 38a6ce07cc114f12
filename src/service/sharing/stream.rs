//! An answer that streams: its files are signed chunk by chunk, and the audit trail learns how it ended.

use std::{ops::Range, sync::Arc, time::Instant};

use chrono::{DateTime, Utc};
use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::{
    domain::audit::{Event, Outcome},
    service::{
        Service,
        core::{error::ServiceError, rate_limiter::Stream},
    },
};

use super::{
    TableHead,
    audited_request::AccessRecheck,
    changes::{ChangeLines, CommitLines},
    delivery::{SignedUrls, Signer},
    query::SnapshotFiles,
};

/// How the event is called of an answer that was broken off.
const ABORTED: &str = "aborted";
/// How many files are signed before the answer begins; few, so that the first byte leaves soon.
const FIRST_CHUNK: usize = 64;
/// How many files are signed at a time after that: enough that a thread is worth its start, and few enough that whoever
/// waits for a core waits for less than a millisecond.
const CHUNK: usize = 256;

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
    /// The next lines, of at most `most` files; `None` after the last.
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

/// Prepares chunks of large answers on threads of their own, one for each core: a large answer then has all cores that are
/// free, and small requests, which run elsewhere, wait for none of it. Clones are one.
#[derive(Clone, Debug)]
pub struct Preparers(Arc<Semaphore>);

impl Default for Preparers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))))
    }
}

/// A chunk that is being prepared; given up when dropped.
pub type Prepared<T> = AbortOnDropHandle<Result<T, ServiceError>>;

impl Preparers {
    /// Signs `content`, and has `finish` make something of it.
    fn prepare<T: Send + 'static>(
        &self,
        content: Content,
        signer: Arc<Signer>,
        finish: impl FnOnce(SignedChunk) -> Result<T, ServiceError> + Send + 'static,
    ) -> Prepared<T> {
        let permits = Arc::clone(&self.0);
        let prepare = async move {
            let permit = permits.acquire_owned().await.map_err(ServiceError::internal)?;
            let runtime = Handle::current();
            let work = move || {
                // Held to the end of the work, which goes on if it is given up meanwhile.
                let _permit = permit;
                finish(runtime.block_on(content.sign(&signer))?)
            };
            spawn_blocking(work).await.map_err(ServiceError::internal)?
        };
        AbortOnDropHandle::new(tokio::spawn(prepare.in_current_span()))
    }
}

/// An answer about a table: what it is, and its lines as they are signed.
#[derive(Debug)]
pub struct Answer {
    /// What the table is.
    pub head: Arc<TableHead>,
    /// When every URL of this answer ends, in whole seconds.
    pub expires_at: DateTime<Utc>,
    /// Whether it hands out any URL.
    pub has_files: bool,
    /// Asks for the next page, where there is one.
    pub next_page_token: Option<String>,
    /// Asks for fresh URLs of the same version, where that was wanted.
    pub refresh_token: Option<String>,
    /// Whether it has no row because of the recipient's own properties.
    pub lacks_properties: bool,
    lines: Lines,
    signer: Arc<Signer>,
    preparers: Preparers,
    first: Option<SignedChunk>,
    ending: Option<Ending>,
}

impl Answer {
    /// An answer whose first lines are signed. Nothing may leave before it was recorded and [`Self::begin`] told so.
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

    /// The answer was recorded; `ending` tells how it goes on.
    pub(super) fn begin(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// The first lines with their URLs, which were signed before the answer began.
    pub fn take_first(&mut self) -> Option<SignedChunk> {
        self.first.take()
    }

    /// Has the next lines signed and `finish` make something of them, while the caller goes on; `None` after the last.
    pub async fn prepare_next<T: Send + 'static>(
        &mut self,
        finish: impl FnOnce(SignedChunk) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<Option<Prepared<T>>, ServiceError> {
        let content = self.lines.next(CHUNK).await?;
        Ok(content.map(|content| self.preparers.prepare(content, Arc::clone(&self.signer), finish)))
    }

    /// Counts `files` as handed out.
    pub fn hand_out(&mut self, files: usize) {
        if let Some(ending) = &mut self.ending {
            ending.files += super::as_u64(files);
        }
    }

    /// All of it was handed out.
    pub fn complete(&mut self) {
        if let Some(ending) = self.ending.take() {
            ending.tell("completed");
        }
    }

    /// Looks now and then whether what was decided still holds: a slow reader must get no URLs after a revocation. An
    /// answer that may not go on is ended, and says why in the audit trail.
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
    recheck: AccessRecheck,
}

impl Ending {
    /// The ending of the answer that `event` recorded and that stands on `recheck`.
    pub(super) fn new(
        service: &Service,
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
        self.service.audit_writer.record_later(event);
    }
}
