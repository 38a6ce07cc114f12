//! Querying a table: the files of its newest snapshot, each behind a URL that ends.
//!
//! URLs are made while the answer streams, a chunk at a time, all with the one expiry that was decided and recorded
//! (the table's size never shows in memory). Never here: what a line looks like.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use object_store::path::Path;
use sha2::{Digest, Sha256};

use super::{
    Caller, TableHead, TablePath,
    attempt::{Attempt, Granted, Hold},
    files::SealedFile,
    table::FoundTable,
};
use crate::{
    domain::{
        audit::{Event, Outcome},
        delivery::{Delivery, DeliveryFacts, effective, too_short_to_presign},
        negotiation::Declared,
        seal::hex,
        share::SharedObject,
    },
    lake::{FileRef, VectorPlace},
    service::{Service, error::ServiceError},
    storage::TableLocation,
};

/// How many files are signed before the answer begins; few, so that the first byte leaves soon.
const FIRST_CHUNK: usize = 64;
/// How many files are signed at a time after that.
const CHUNK: usize = 512;
/// How long an answer goes on signing before it looks whether it still may.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a client asks of a table.
#[derive(Clone, Debug, Default)]
pub struct QueryRequest {
    /// What the client can read.
    pub declared: Declared,
    /// The predicates as they were sent, for the audit's digest.
    pub predicates: Option<String>,
}

/// The answer to a query: what the table is, and its files as they are signed.
#[derive(Debug)]
pub struct QueryAnswer {
    /// What the table is.
    pub head: TableHead,
    /// When every URL of this answer ends, in whole seconds.
    pub expires_at: DateTime<Utc>,
    /// The files.
    pub files: SignedFiles,
}

/// Files of a snapshot with the URLs that open them.
#[derive(Debug)]
pub struct SignedChunk {
    /// Which of the snapshot's files.
    pub range: Range<usize>,
    /// A URL for each of them.
    pub urls: Vec<String>,
    /// For each of them whose deletion vector is a file: its path in the table, and a URL for it.
    pub vectors: Vec<Option<(String, String)>>,
}

/// Signs a snapshot's files, chunk by chunk. Tells the audit trail how it ended, also when it is dropped midway.
#[derive(Debug)]
pub struct SignedFiles {
    signer: Signer,
    head: TableHead,
    first: Option<SignedChunk>,
    next: usize,
    ending: Option<Ending>,
    /// What the answer stands on, and when that was last looked at.
    hold: Hold,
    looked_at: Instant,
}

impl Service {
    /// Decides, opens, records, and begins to sign.
    pub async fn query_table(
        &self,
        caller: &Caller,
        path: &TablePath,
        request: &QueryRequest,
    ) -> Result<QueryAnswer, ServiceError> {
        let started = Instant::now();
        let mut attempt = Attempt::begin(self, caller, "table.query").await?;
        attempt.event.predicate_digest = request.predicates.as_ref().map(|text| hex(&Sha256::digest(text.as_bytes())));
        let found = self.find_table(&mut attempt, path).await?;
        let head = self.open_table(&mut attempt, &found, &request.declared).await?;
        let n_files = head.snapshot.files().len();
        let (delivery, expires_at) = self.choose_delivery(&found, n_files, attempt.now).await?;
        let signer = Signer::new(self, &found, delivery, expires_at);
        // Signing the first chunk before anything is recorded finds the storage's faults while they can still be said.
        let first = signer.sign(&head, 0..n_files.min(FIRST_CHUNK)).await?;

        attempt.event.delivery = Some(delivery.as_str());
        attempt.event.files = Some(as_u64(n_files));
        attempt.event.bytes = Some(head.snapshot.size_bytes());
        attempt.event.rows = head.snapshot.rows();
        attempt.event.url_expires_at = (n_files > 0).then_some(expires_at);
        let event = attempt.allow(&found.granted).await?;
        self.metrics.files_issued(delivery.as_str(), as_u64(n_files), head.snapshot.size_bytes());

        let ending = Ending { service: self.clone(), event, started };
        let next = first.range.end;
        let hold = Hold::new(caller, found.granted)?;
        let looked_at = Instant::now();
        let files =
            SignedFiles { signer, head: head.clone(), first: Some(first), next, ending: Some(ending), hold, looked_at };
        Ok(QueryAnswer { head, expires_at, files })
    }

    /// How the files are delivered, and until when: never longer than what the decision stands on, nor than the
    /// credential that signs.
    async fn choose_delivery(
        &self,
        found: &FoundTable,
        n_files: usize,
        now: DateTime<Utc>,
    ) -> Result<(Delivery, DateTime<Utc>), ServiceError> {
        let delivery = effective_delivery(&found.location, &found.object, &found.granted);
        if delivery == Delivery::Presigned && found.location.can_sign_many(n_files) {
            let signing_until = found.location.signing_until().await?;
            let until = [found.granted.until, signing_until].into_iter().flatten().min();
            if until.is_none_or(|until| !too_short_to_presign(until, now)) {
                return Ok((Delivery::Presigned, expiry(now, self.settings.url_ttl_seconds, until)));
            }
        }
        Ok((Delivery::Proxied, expiry(now, self.settings.proxied_url_ttl_seconds, found.granted.until)))
    }
}

/// What storage, recipient and object come to.
fn effective_delivery(location: &TableLocation, object: &SharedObject, granted: &Granted) -> Delivery {
    let (recipient, token) = (&granted.bearer.recipient, &granted.bearer.token);
    effective(DeliveryFacts {
        storage: location.delivery(),
        storage_can_sign: location.can_sign(),
        recipient: recipient.delivery,
        recipient_has_networks: !recipient.allowed_cidrs.is_empty() || !token.allowed_cidrs.is_empty(),
        object: object.delivery,
        presigned_despite_networks: object.presigned_despite_networks,
    })
}

/// `now` plus `ttl_seconds` or `until`, whichever comes first, cut to the whole seconds that signatures know.
fn expiry(now: DateTime<Utc>, ttl_seconds: u64, until: Option<DateTime<Utc>>) -> DateTime<Utc> {
    let ttl = i64::try_from(ttl_seconds).ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::MAX);
    let end = now.checked_add_signed(ttl).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let end = until.map_or(end, |until| until.min(end));
    end.duration_trunc(TimeDelta::seconds(1)).unwrap_or(end)
}

/// Makes URLs for one answer.
#[derive(Debug)]
struct Signer {
    service: Service,
    location: TableLocation,
    delivery: Delivery,
    expires_at: DateTime<Utc>,
    /// What a sealed URL names besides the file.
    sealed: SealedFile,
}

impl Signer {
    fn new(service: &Service, found: &FoundTable, delivery: Delivery, expires_at: DateTime<Utc>) -> Self {
        let sealed = SealedFile {
            token_id: found.granted.bearer.token.id,
            object_id: found.object.id,
            expires_at,
            path: String::new(),
        };
        Self { service: service.clone(), location: found.location.clone(), delivery, expires_at, sealed }
    }

    async fn sign(&self, head: &TableHead, range: Range<usize>) -> Result<SignedChunk, ServiceError> {
        let files = || range.clone().filter_map(|index| head.snapshot.files().get(index));
        let mut paths = Vec::with_capacity(range.len());
        for file in files() {
            paths.push(self.location.resolve(file.path)?);
        }
        // Deletion vectors follow the data files, so that one call signs both.
        let mut vectors = Vec::with_capacity(range.len());
        for file in files() {
            let path = vector_path(&file)?;
            if let Some(path) = &path {
                paths.push(self.location.resolve(path)?);
            }
            vectors.push(path);
        }
        let mut urls = self.urls(&paths).await?;
        let mut vector_urls = urls.split_off(vectors.len()).into_iter();
        let vectors = vectors.into_iter().map(|path| path.zip(vector_urls.next())).collect();
        Ok(SignedChunk { range, urls, vectors })
    }

    async fn urls(&self, paths: &[Path]) -> Result<Vec<String>, ServiceError> {
        match self.delivery {
            Delivery::Presigned => Ok(self.location.sign(paths, self.expires_at, self.service.clock.now()).await?),
            Delivery::Proxied => Ok(paths
                .iter()
                .map(|path| {
                    let file = SealedFile { path: path.as_ref().to_owned(), ..self.sealed.clone() };
                    self.service.file_url(&file)
                })
                .collect()),
        }
    }
}

/// Where a file's deletion vector lies, as a path in the table; `None` where it has none or carries it inline.
fn vector_path(file: &FileRef<'_>) -> Result<Option<String>, ServiceError> {
    match file.deletion_vector.map(|vector| vector.place()) {
        None | Some(VectorPlace::Inline) => Ok(None),
        Some(VectorPlace::File(path)) => Ok(Some(path)),
        Some(VectorPlace::Absolute) => Err(ServiceError::Unsupported(
            "Table contains absolute paths, which are never shared; ask the data provider".to_owned(),
        )),
        Some(VectorPlace::Malformed) => Err(ServiceError::Unsupported(
            "the table's log holds a deletion vector that cannot be understood; ask the data provider".to_owned(),
        )),
    }
}

impl SignedFiles {
    /// The next files with their URLs; `None` after the last.
    pub async fn next_chunk(&mut self) -> Option<Result<SignedChunk, ServiceError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let n_files = self.head.snapshot.files().len();
        if self.next >= n_files {
            if let Some(ending) = self.ending.take() {
                ending.tell("table.query.completed");
            }
            return None;
        }
        if let Err(error) = self.look_again().await {
            // Nothing more is signed, however often this is asked again.
            self.next = n_files;
            if let Some(mut ending) = self.ending.take() {
                if let ServiceError::Denied { reason, .. } = &error {
                    ending.event.decision = Outcome::Deny;
                    ending.event.reason = Some(reason.code().into());
                }
                ending.tell("table.query.aborted");
            }
            return Some(Err(error));
        }
        let range = self.next..n_files.min(self.next + CHUNK);
        self.next = range.end;
        Some(self.signer.sign(&self.head, range).await)
    }

    /// Looks whether what was decided still holds, at most once a [`LOOK_AGAIN`]: a slow reader must not be given URLs
    /// after a revocation.
    async fn look_again(&mut self) -> Result<(), ServiceError> {
        if self.looked_at.elapsed() < LOOK_AGAIN {
            return Ok(());
        }
        let service = &self.signer.service;
        self.hold.check(service).await?;
        self.looked_at = Instant::now();
        Ok(())
    }
}

impl Drop for SignedFiles {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            ending.tell("table.query.aborted");
        }
    }
}

/// Tells the audit trail how an answer ended.
#[derive(Debug)]
struct Ending {
    service: Service,
    event: Event,
    started: Instant,
}

impl Ending {
    fn tell(self, action: &'static str) {
        let mut event = self.event;
        event.action = action.into();
        // Its URLs were counted when they were allowed.
        event.url_expires_at = None;
        event.duration_ms = Some(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        // The disclosure itself was recorded before the answer began, so that nobody needs to wait for this.
        self.service.trail.record_later(event);
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
