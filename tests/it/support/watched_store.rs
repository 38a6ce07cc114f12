//! An object store that counts its requests and can be told to fail. It stands in for a cloud store.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};

/// Wraps a store; clones share the counts.
#[derive(Clone, Debug)]
pub struct WatchedStore {
    inner: Arc<dyn ObjectStore>,
    watch: Arc<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    listings: Mutex<usize>,
    names: AtomicUsize,
    reads: Mutex<Vec<String>>,
    is_down: AtomicBool,
    cuts: AtomicBool,
}

impl WatchedStore {
    /// Watches `inner`.
    pub fn new(inner: impl ObjectStore) -> Self {
        Self { inner: Arc::new(inner), watch: Arc::default() }
    }

    /// The number of listings so far.
    pub fn listings(&self) -> usize {
        *self.watch.listings.lock().unwrap()
    }

    /// The number of names listed so far.
    pub fn names_listed(&self) -> usize {
        self.watch.names.load(Ordering::SeqCst)
    }

    /// The paths read so far, one per request.
    pub fn reads(&self) -> Vec<String> {
        self.watch.reads.lock().unwrap().clone()
    }

    /// Makes every request fail from now on, or none.
    pub fn set_down(&self, is_down: bool) {
        self.watch.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Drops the last byte of every body from now on, or of none.
    pub fn set_cut(&self, cuts: bool) {
        self.watch.cuts.store(cuts, Ordering::SeqCst);
    }

    /// The bodies as sent.
    fn cut(&self, mut bodies: Vec<Bytes>) -> Vec<Bytes> {
        if self.watch.cuts.load(Ordering::SeqCst) {
            bodies.iter_mut().for_each(|body| body.truncate(body.len().saturating_sub(1)));
        }
        bodies
    }

    fn check(&self) -> Result<()> {
        if self.watch.is_down.load(Ordering::SeqCst) {
            return Err(object_store::Error::Generic { store: "watched", source: "secret-host is down".into() });
        }
        Ok(())
    }

    fn note_listing(&self) -> Result<()> {
        *self.watch.listings.lock().unwrap() += 1;
        self.check()
    }

    /// Counts the names of a listing.
    fn counted(&self, listing: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let watch = self.watch.clone();
        listing.inspect(move |_| _ = watch.names.fetch_add(1, Ordering::SeqCst)).boxed()
    }

    fn note_read(&self, location: &Path) -> Result<()> {
        self.watch.reads.lock().unwrap().push(location.to_string());
        self.check()
    }
}

impl fmt::Display for WatchedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WatchedStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.note_read(location)?;
        let is_head = options.head;
        let result = self.inner.get_opts(location, options).await?;
        if is_head {
            return Ok(result);
        }
        let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
        let body = self.cut(vec![result.bytes().await?]);
        let payload = GetResultPayload::Stream(stream::iter(body.into_iter().map(Ok)).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.note_read(location)?;
        Ok(self.cut(self.inner.get_ranges(location, ranges).await?))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.note_listing() {
            Ok(()) => self.counted(self.inner.list(prefix)),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.note_listing() {
            Ok(()) => self.counted(self.inner.list_with_offset(prefix, offset)),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.note_listing()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
