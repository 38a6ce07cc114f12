//! One table's place in its storage: what the floors above hold instead of a URL and a credential.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{
    GetOptions, GetResult, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, ObjectStoreExt, coalesce_ranges,
    path::Path,
};

use crate::domain::access::delivery::Delivery;

use super::{Storage, StorageError, location};

/// One table's place: the storage that it belongs to and its path inside that storage's object store.
#[derive(Clone, Debug)]
pub struct TableLocation {
    storage: Arc<Storage>,
    path: Path,
    url: String,
}

impl TableLocation {
    /// A table at `path` inside `store`, known to the outside as `url` (normalised, without a trailing slash). It belongs
    /// to no configured storage, cannot be signed for, and is therefore delivered proxied.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, url: impl Into<String>) -> Self {
        Self::in_storage(Arc::new(Storage::bare(store)), path, url.into())
    }

    pub(super) fn in_storage(storage: Arc<Storage>, path: Path, url: String) -> Self {
        Self { storage, path, url }
    }

    /// The object store that holds the table; its root is the storage's root or bucket, not the table's.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        self.storage.store()
    }

    /// The table's root inside [`Self::store`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The normalised location, a stable key for caches.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The name of the storage that it belongs to; empty if it belongs to none.
    pub fn storage_name(&self) -> &str {
        self.storage.name()
    }

    /// Whether listings come in the order of the names, as those of services do and those of local folders do not.
    pub fn lists_in_order(&self) -> bool {
        !self.url.starts_with("file:")
    }

    /// How old a look at the table's log may be that answers a request; zero where every request looks.
    pub fn max_staleness(&self) -> Duration {
        self.storage.max_staleness()
    }

    /// How the storage is configured to deliver; see [`Self::can_sign`] too.
    pub fn delivery(&self) -> Delivery {
        self.storage.delivery()
    }

    /// Whether URLs can be signed here without a network call for each; if not, files are delivered proxied.
    pub fn can_sign(&self) -> bool {
        self.storage.can_sign()
    }

    /// Whether it is worth signing this many URLs for one answer; if not, they are delivered proxied.
    pub fn can_sign_many(&self, n_urls: usize) -> bool {
        self.storage.can_sign_many(n_urls)
    }

    /// The object that a path written in the table's log names: strictly under the table's own place after exactly one
    /// percent-decode, or [`StorageError::Escapes`].
    pub fn resolve(&self, log_path: &str) -> Result<Path, StorageError> {
        location::resolve(&self.path, log_path)
    }

    /// When the credential that signs ends by itself; no URL outlives it, whatever it says. `None` if it does not end.
    pub async fn signing_until(&self) -> Result<Option<DateTime<Utc>>, StorageError> {
        self.storage.signing_until().await
    }

    /// One GET URL for each of `paths`, in their order, each dead at `expires_at` (cut to whole seconds) at the latest.
    ///
    /// Meant for a chunk of a long answer: it signs for the time that is left at the moment of signing, with the
    /// credential of that moment. `now` may lag behind the wall clock, as it does late in a long answer.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where [`Self::can_sign`] is false, [`StorageError::Expired`] when no time is left,
    /// [`StorageError::Unavailable`] when the credential cannot be had.
    pub async fn sign(
        &self,
        paths: &[Path],
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, StorageError> {
        self.storage.sign(paths, expires_at, now).await
    }

    /// Finds an object and holds on to the version found: what [`Object::read`] gives is of that version or an error.
    pub async fn open(&self, path: &Path) -> Result<Object, StorageError> {
        let meta = self.store().head(path).await?;
        Ok(Object { store: Arc::clone(self.store()), meta })
    }
}

/// An object that was found, ready to be read in ranges; no bytes have been fetched yet.
#[derive(Clone, Debug)]
pub struct Object {
    store: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
}

impl Object {
    /// In bytes.
    pub fn size(&self) -> u64 {
        self.meta.size
    }

    /// The entity tag with its quotes, ready for an `ETag` header, where the store has one.
    pub fn etag(&self) -> Option<&str> {
        self.meta.e_tag.as_deref()
    }

    /// When the object was last written.
    pub fn last_modified(&self) -> DateTime<Utc> {
        self.meta.last_modified
    }

    /// The bytes of `range`, cut to the object's end, as they arrive. A range that holds nothing gives an empty stream.
    pub async fn read(
        &self,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        let range = range.start..range.end.min(self.meta.size);
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        Ok(self.get(range).await?.into_stream().map_err(StorageError::from).boxed())
    }

    /// The bytes of each of `ranges`, all of which lie within the object, in as few requests as make sense.
    pub async fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StorageError> {
        let fetch = |range| async { Ok(self.get(range).await?.bytes().await?) };
        coalesce_ranges(ranges, fetch, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    async fn get(&self, range: Range<u64>) -> Result<GetResult, StorageError> {
        let options = GetOptions::new().with_range(Some(range)).with_if_match(self.meta.e_tag.clone());
        let found = self.store.get_opts(&self.meta.location, options).await?;
        // Not every store that speaks S3 heeds the condition.
        if found.meta.e_tag != self.meta.e_tag || found.meta.size != self.meta.size {
            return Err(StorageError::Changed { path: self.meta.location.to_string() });
        }
        Ok(found)
    }
}
