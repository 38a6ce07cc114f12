//! Represents a table's place in its storage; higher floors use it instead of a URL and a credential.

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

/// One table's place: its storage, and its path in the object store of that storage.
#[derive(Clone, Debug)]
pub struct TableLocation {
    storage: Arc<Storage>,
    path: Path,
    url: String,
}

impl TableLocation {
    /// Creates a location at `path` in `store`, with the public name `url` (normalised, without a trailing slash). It
    /// belongs to no configured storage and cannot be signed, so it is delivered proxied.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, url: impl Into<String>) -> Self {
        Self::in_storage(Arc::new(Storage::bare(store)), path, url.into())
    }

    pub(super) fn in_storage(storage: Arc<Storage>, path: Path, url: String) -> Self {
        Self { storage, path, url }
    }

    /// Returns the object store with the table. Its root is the storage's root or bucket, not the table's.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        self.storage.store()
    }

    /// Returns the table's root in [`Self::store`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the normalised location, a stable key for caches.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the location of a folder of [`Self::store`], at this place or below it; `None` for one elsewhere.
    pub fn url_of(&self, folder: &Path) -> Option<String> {
        let names: Vec<_> = folder.prefix_match(&self.path)?.collect();
        Some(location::extended(&self.url, names.iter().map(AsRef::as_ref)))
    }

    /// Returns the name of the storage; empty if there is none.
    pub fn storage_name(&self) -> &str {
        self.storage.name()
    }

    /// Returns whether listings are sorted by name, as in all services but not in local folders.
    pub fn lists_in_order(&self) -> bool {
        !self.url.starts_with("file:")
    }

    /// Returns the greatest age of a look at the table's log that may still answer a request; zero means that every
    /// request looks.
    pub fn max_staleness(&self) -> Duration {
        self.storage.max_staleness()
    }

    /// Returns the storage's configured delivery; see also [`Self::can_sign`].
    pub fn delivery(&self) -> Delivery {
        self.storage.delivery()
    }

    /// Returns whether URLs can be signed without a network call for each; otherwise files are delivered proxied.
    pub fn can_sign(&self) -> bool {
        self.storage.can_sign()
    }

    /// Returns whether signing this many URLs for one answer is worthwhile; otherwise files are delivered proxied.
    pub fn can_sign_many(&self, n_urls: usize) -> bool {
        self.storage.can_sign_many(n_urls)
    }

    /// Resolves a path from the table's log to an object strictly under the table, after exactly one percent-decode.
    /// Fails with [`StorageError::Escapes`] for all other paths.
    pub fn resolve(&self, log_path: &str) -> Result<Path, StorageError> {
        location::resolve(&self.path, log_path)
    }

    /// Returns the expiry of the signing credential; no URL outlives it, whatever the URL states. `None` if it does not
    /// expire.
    pub async fn signing_until(&self) -> Result<Option<DateTime<Utc>>, StorageError> {
        self.storage.signing_until().await
    }

    /// Returns a GET URL for each of `paths`, in order. Each ends at `expires_at` (cut to whole seconds) at the latest.
    ///
    /// Meant for a chunk of a long answer: signs for the time left when it is called, with the credential of that
    /// moment. `now` may lag behind the wall clock, as it does late in a long answer.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] if [`Self::can_sign`] is false, [`StorageError::Expired`] if no time is left,
    /// [`StorageError::Unavailable`] if the credential cannot be obtained.
    pub async fn sign(
        &self,
        paths: &[Path],
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, StorageError> {
        self.storage.sign(paths, expires_at, now).await
    }

    /// Finds an object and remembers its version: [`Object::read`] returns bytes of that version, or an error.
    pub async fn open(&self, path: &Path) -> Result<Object, StorageError> {
        let meta = self.store().head(path).await?;
        Ok(Object { store: Arc::clone(self.store()), meta })
    }
}

/// An object that was found and can be read in ranges; no bytes have been fetched yet.
#[derive(Clone, Debug)]
pub struct Object {
    store: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
}

impl Object {
    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.meta.size
    }

    /// Returns the entity tag with quotes, as in an `ETag` header, if the store has one.
    pub fn etag(&self) -> Option<&str> {
        self.meta.e_tag.as_deref()
    }

    /// Returns the time of the last write.
    pub fn last_modified(&self) -> DateTime<Utc> {
        self.meta.last_modified
    }

    /// Streams the bytes of `range`, limited to the object's end. An empty range gives an empty stream.
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

    /// Fetches the bytes of each of `ranges`, which must be within the object, with as few requests as reasonable.
    pub async fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StorageError> {
        let fetch = |range| async { Ok(self.get(range).await?.bytes().await?) };
        coalesce_ranges(ranges, fetch, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    async fn get(&self, range: Range<u64>) -> Result<GetResult, StorageError> {
        let options = GetOptions::new().with_range(Some(range)).with_if_match(self.meta.e_tag.clone());
        let found = self.store.get_opts(&self.meta.location, options).await?;
        // Not all services with the S3 protocol honour the condition.
        if found.meta.e_tag != self.meta.e_tag || found.meta.size != self.meta.size {
            return Err(StorageError::Changed { path: self.meta.location.to_string() });
        }
        Ok(found)
    }
}
