//! Where bytes live: a location URL becomes an object store, and object paths become URLs that clients can fetch.
//!
//! Lives here: normalising locations, opening stores, signing URLs. Never here: what a Delta log means.

use std::sync::Arc;

use object_store::{ObjectStore, path::Path};

/// One table's place: the storage that it belongs to and its path inside that storage's object store.
#[derive(Clone, Debug)]
pub struct TableLocation {
    store: Arc<dyn ObjectStore>,
    path: Path,
    url: String,
}

impl TableLocation {
    /// A table at `path` inside `store`, known to the outside as `url` (normalised, without a trailing slash).
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, url: impl Into<String>) -> Self {
        Self { store, path, url: url.into() }
    }
    /// The object store that holds the table; its root is the storage's root or bucket, not the table's.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }
    /// The table's root inside [`Self::store`].
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The normalised location, a stable key for caches.
    pub fn url(&self) -> &str {
        &self.url
    }
}
