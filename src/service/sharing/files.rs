//! Serves files through the server: opens a sealed URL and decides everything anew.
//!
//! A sealed URL proves only that the server once handed it out. Token, grant, object and path are looked up again on
//! every request, so that a revocation ends it at once. Never here: byte ranges and headers.

use std::{fmt, ops::Range};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream::BoxStream};
use object_store::path::Path;
use uuid::Uuid;

use crate::{
    domain::{
        access::decision::{Credential, Reason},
        catalog::{share::SharedObject, table::Table},
        core::seal::NotSealed,
    },
    service::core::{error::ServiceError, rate_limiter::Stream},
    storage::{Object, StorageError, TableLocation},
    store::{Seeker, Sought},
};

use super::{
    Caller, Sharing,
    audited_request::{AccessRecheck, AuditedRequest, Granted, Subject},
    first_reads::{FILE_READ, Reading, url_digest},
    quota::Delivered,
};

/// Marks a URL as directly downloadable for every connector; without one of a few such parameters, the Python client's
/// delta reader looks for the path on its own disk (Delta Sharing protocol, 3.5).
const DOWNLOADABLE: &str = "X-Databricks-Signature=weir";

/// The reason code of an expired sealed URL.
const URL_EXPIRED: &str = "URL_EXPIRED";
/// The reason code of a sealed URL whose object now points elsewhere.
const FILE_MOVED: &str = "FILE_MOVED";

/// The first byte of a sealed URL: handed out to a token of this server, or to a JWT.
const TOKEN: u8 = 0;
const IDENTITY: u8 = 1;

/// The contents of a sealed file URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFile {
    /// The credential that it was handed out to; that of a JWT ends with the URL.
    pub credential: Credential,
    /// The object that it was read through.
    pub object_id: Uuid,
    /// When it expires, in whole seconds.
    pub expires_at: DateTime<Utc>,
    /// The file's path in its store.
    pub path: String,
}

/// A file that may be read; its read must be recorded before anything about it is answered.
#[derive(Debug)]
pub struct OpenedFile<'a> {
    /// The file in its store.
    pub object: Object,
    /// This recipient's entity tag with its quotes, if the store has one. It reveals nothing about the store's tag, and
    /// differs for every recipient.
    pub etag: Option<String>,
    attempt: AuditedRequest<'a>,
    granted: Granted,
    sealed: String,
    stream: Stream,
}

/// The access basis of a running download. Counts as a stream as long as it lives.
#[derive(Debug)]
struct Running {
    service: Sharing,
    recheck: AccessRecheck,
    _stream: Stream,
}

/// A running download of a file's bytes.
pub struct Delivery {
    bytes: BoxStream<'static, Result<Bytes, StorageError>>,
    running: Running,
}

impl Delivery {
    /// Returns the next bytes, or the error that ends the download, such as the end of its access.
    pub async fn next_chunk(&mut self) -> Option<Result<Bytes, ServiceError>> {
        Some(match self.bytes.next().await? {
            Ok(chunk) => self.look_again().await.map(|()| chunk),
            Err(error) => Err(error.into()),
        })
    }

    /// Checks whether the access of the running download still holds.
    pub async fn look_again(&mut self) -> Result<(), ServiceError> {
        self.running.recheck.look_again(&self.running.service).await
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("running", &self.running).finish_non_exhaustive()
    }
}

impl SealedFile {
    /// Returns the credential to look up at `now`. A URL expires no later than the JWT that it was handed out to. The
    /// credential of an expired URL is extended beyond `now`, so that the URL is refused as expired.
    fn credential_at(&self, now: DateTime<Utc>) -> Credential {
        match self.credential {
            Credential::Identity { id, until } => {
                Credential::Identity { id, until: until.max(now + TimeDelta::seconds(1)) }
            }
            token => token,
        }
    }

    /// Returns the bytes that are sealed before the path.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(41);
        let (kind, id) = match self.credential {
            Credential::Token(id) => (TOKEN, id),
            Credential::Identity { id, .. } => (IDENTITY, id),
        };
        bytes.push(kind);
        for id in [id, self.object_id] {
            bytes.extend_from_slice(id.as_bytes());
        }
        bytes.extend_from_slice(&self.expires_at.timestamp().to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (object_id, rest) = rest.split_first_chunk::<16>()?;
        let (expires_at, path) = rest.split_first_chunk::<8>()?;
        let (id, until) = (Uuid::from_bytes(*id), DateTime::from_timestamp(i64::from_be_bytes(*expires_at), 0)?);
        Some(Self {
            credential: match *kind {
                TOKEN => Credential::Token(id),
                IDENTITY => Credential::Identity { id, until },
                _ => return None,
            },
            object_id: Uuid::from_bytes(*object_id),
            expires_at: until,
            path: String::from_utf8(path.to_vec()).ok()?,
        })
    }
}

impl Sharing {
    /// Makes URLs of files served through the server, sealed like `like` but with `paths`.
    pub(super) fn file_urls(&self, like: &SealedFile, paths: &[Path]) -> Vec<String> {
        // As text, sealed bytes grow by a third.
        let (head, longest) = (like.head(), paths.iter().map(|path| path.as_ref().len()).max().unwrap_or_default());
        let length = self.public_url.len() + 16 + DOWNLOADABLE.len() + (longest + head.len() + 64) / 3 * 4;
        let mut sealing = self.files.sealing();
        let url = |path: &Path| {
            let mut url = String::with_capacity(length);
            url.push_str(&self.public_url);
            url.push_str("/files/");
            sealing.seal(&[&head, path.as_ref().as_bytes()], b"", &mut url);
            url.push('?');
            url.push_str(DOWNLOADABLE);
            url
        };
        paths.iter().map(url).collect()
    }

    /// Opens the file behind a sealed URL if it may still be read.
    pub async fn open_file<'a>(&'a self, caller: &'a Caller, sealed: &str) -> Result<OpenedFile<'a>, ServiceError> {
        let Ok(file) = self.open_seal(sealed) else {
            return Err(AuditedRequest::of(self, caller, FILE_READ, None).refuse(Reason::FileUnknown, None).await);
        };
        let bearer = self.find_again(file.credential_at(self.core.clock.now())).await?;
        let found = self.core.db.find_object_by_id(file.object_id).await?;
        let access = match (&bearer, &found) {
            (Some(bearer), Some((share, ..))) => {
                let (by, share) = (Seeker::Recipient(bearer.recipient.id), Some(share.name.key().to_owned()));
                self.lookups.find(Sought { by, share, table: None }).await?.and_then(|reached| reached.access)
            }
            _ => None,
        };
        let mut attempt = AuditedRequest::of(self, caller, FILE_READ, bearer);
        if let Some((_, object, table)) = &found {
            attempt.reads(object, table);
        }
        let granted = attempt.decide_access(access.as_ref(), &Subject::file()).await?;
        let Some((_, object, table)) = found else {
            return Err(attempt.refuse(Reason::TableNotFound, Some(&Subject::file())).await);
        };
        attempt.name_object(&object, &table);
        attempt.event.url_expires_at = Some(file.expires_at);
        attempt.event.delivery = Some("proxied");
        if file.expires_at <= attempt.now {
            let error = ServiceError::Expired("this URL has expired; query the table again".to_owned());
            return Err(attempt.refuse_with(URL_EXPIRED, error).await);
        }
        let place = self.place_of(&file, &object, &table, &granted, attempt.now).await;
        let Some((location, path)) = attempt.settle(place).await? else {
            let error = ServiceError::Expired("the table has moved or changed; query it again".to_owned());
            return Err(attempt.refuse_with(FILE_MOVED, error).await);
        };
        let stream = attempt.begin_stream(&granted).await?;
        let opened = location.open(&path).await.inspect_err(|error| {
            if error.is_outage() {
                self.core.metrics.storage_failed(location.storage_name());
            }
        });
        let object = attempt.settle(opened.map_err(ServiceError::from)).await?;
        let etag = object.etag().map(|etag| {
            let parts = [granted.bearer.recipient.id.as_bytes(), path.as_ref().as_bytes(), etag.as_bytes()];
            format!("\"{}\"", self.files.digest(b"etag", &parts))
        });
        Ok(OpenedFile { object, etag, attempt, granted, sealed: sealed.to_owned(), stream })
    }

    /// Records a read of only the file's properties, such as its size.
    pub async fn describe(&self, file: OpenedFile<'_>) -> Result<(), ServiceError> {
        self.record_read(file, 0).await.map(drop)
    }

    /// Records a request for a readable file that cannot be answered, and returns an error with `message`.
    pub async fn refuse_file(&self, file: OpenedFile<'_>, code: &'static str, message: &str) -> ServiceError {
        let OpenedFile { mut attempt, .. } = file;
        attempt.refuse_with(code, ServiceError::Parameter(message.to_owned())).await
    }

    /// Finds the location of a URL's file, if it still belongs to the object: since then, the object may have been
    /// pointed to another table, and the recipient's entitlement to a view may have changed.
    async fn place_of(
        &self,
        file: &SealedFile,
        object: &SharedObject,
        table: &Table,
        granted: &Granted,
        now: DateTime<Utc>,
    ) -> Result<Option<(TableLocation, Path)>, ServiceError> {
        let path = Path::parse(&file.path).map_err(ServiceError::internal)?;
        let location = match &object.view {
            None => Some(self.storages.locate(&table.spec.location)?),
            Some(view) => {
                let share_id = granted.share()?.id;
                let source = self.storages.locate(&table.spec.location)?;
                self.materializer
                    .find_copy_place(view, &granted.bearer.recipient, share_id, &source, &path, now)
                    .await?
            }
        };
        Ok(location.filter(|location| path.prefix_matches(location.path())).map(|location| (location, path)))
    }

    /// Records the read of `range`, and returns its bytes for delivery.
    pub async fn deliver(&self, file: OpenedFile<'_>, range: Range<u64>) -> Result<Delivery, ServiceError> {
        let length = range.end.saturating_sub(range.start);
        let (object, running) = self.record_read(file, length).await?;
        let bytes = object.read(range).await?;
        self.core.metrics.bytes_proxied(length);
        Ok(Delivery { bytes, running })
    }

    /// Announces up to the whole file at the first read of a URL by an address, and again when more than that is read:
    /// no byte leaves before its event is committed. Reads within the announced size belong to the same disclosure and
    /// are only summed up, although each was decided; for a recipient with a daily byte limit they are counted first.
    async fn record_read(&self, file: OpenedFile<'_>, bytes: u64) -> Result<(Object, Running), ServiceError> {
        let OpenedFile { object, mut attempt, mut granted, sealed, stream, .. } = file;
        let recheck = attempt.recheck(&granted)?;
        let address = attempt.caller.address;
        if bytes > 0 {
            let ends_at = attempt.event.url_expires_at.unwrap_or(attempt.now);
            let (url, size) = (url_digest(&sealed), object.size());
            granted.basis.delivered = Some(Delivered { url, size, bytes, ends_at });
        }
        let reading = if bytes == 0 { Reading::look(&sealed, address) } else { Reading::of(&sealed, address) };
        let mut is_announced = self.first_reads.take(&reading, bytes);
        if !is_announced {
            let _turn = self.first_reads.turn(&reading).await;
            // Another range of the same file may have been announced meanwhile.
            is_announced = self.first_reads.take(&reading, bytes);
            if !is_announced {
                let announced = if bytes == 0 { 0 } else { object.size().max(bytes) };
                attempt.event.files = Some(u64::from(bytes > 0));
                attempt.event.bytes = Some(announced);
                attempt.allow(&granted).await?;
                // It is remembered only after it is recorded, so that no range can overtake the event.
                self.first_reads.announce(&reading, announced, bytes);
                return Ok((object, Running { service: self.clone(), recheck, _stream: stream }));
            }
        }
        let is_counted = bytes > 0 && granted.bearer.recipient.spec.limits.bytes_per_day.is_some();
        let event = if is_counted { attempt.count(&granted).await? } else { attempt.event };
        let due = self.first_reads.add(&reading, &event, bytes, self.core.clock.now());
        self.core.audit_writer.record_all_later(due);
        Ok((object, Running { service: self.clone(), recheck, _stream: stream }))
    }

    fn open_seal(&self, sealed: &str) -> Result<SealedFile, NotSealed> {
        self.files.open(sealed, b"").and_then(|bytes| SealedFile::from_bytes(&bytes).ok_or(NotSealed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_comes_back() {
        let file = SealedFile {
            credential: Credential::Token(Uuid::from_u128(1)),
            object_id: Uuid::from_u128(3),
            expires_at: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
            path: "claims/plan=HMO/part-0.parquet".into(),
        };
        let sealed = |file: &SealedFile| [&*file.head(), file.path.as_bytes()].concat();
        assert_eq!(SealedFile::from_bytes(&sealed(&file)), Some(file.clone()));
        let until = file.expires_at;
        let of_identity = SealedFile { credential: Credential::Identity { id: Uuid::from_u128(1), until }, ..file };
        assert_eq!(SealedFile::from_bytes(&sealed(&of_identity)), Some(of_identity));
        assert_eq!(SealedFile::from_bytes(&[0; 30]), None);
    }
}
