//! Limits the wait for a cloud store, so that an outage shows within seconds, not minutes.
//!
//! object_store's request timeout covers a whole body, which would cut off a large file on a slow line. It is therefore
//! off, and this wrapper limits the time to an answer, including retries, and the silence within one. It also refuses
//! writes, because Weir never changes a lake.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use object_store::{
    BackoffConfig, ClientOptions, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    RetryConfig, path::Path,
};
use tokio::time::timeout;

/// The longest wait for the start of an answer, or for the next page of a listing.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest silence within an answer.
const SILENCE: Duration = Duration::from_secs(30);

/// Returns the default options of cloud clients; a storage's own options override them.
pub(super) fn client_options() -> ClientOptions {
    ClientOptions::new().with_timeout_disabled().with_connect_timeout(Duration::from_secs(3))
}

/// Returns few retries with short waits. If a table does not answer, the caller gets a 503 and retries itself.
pub(super) fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        },
        max_retries: 3,
        retry_timeout: Duration::from_secs(8),
    }
}

/// A read-only cloud store that answers in time or fails.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    store: S,
    answer: Duration,
    silence: Duration,
}

impl<S: ObjectStore> Bounded<S> {
    /// Wraps `store`.
    pub fn new(store: S) -> Self {
        Self { store, answer: ANSWER, silence: SILENCE }
    }

    fn read_only<T>(&self) -> Result<T> {
        Err(Error::NotSupported { source: format!("{} is read only here", self.store).into() })
    }
}

impl<S: ObjectStore> fmt::Display for Bounded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.store, f)
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Bounded<S> {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let answer = timeout(self.answer, self.store.get_opts(location, options)).await;
        let mut result = answer.map_err(|_| silent(self.answer))??;
        if let GetResultPayload::Stream(bytes) = result.payload {
            result.payload = GetResultPayload::Stream(impatient(bytes, self.silence));
        }
        Ok(result)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        impatient(self.store.list(prefix), self.answer)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        impatient(self.store.list_with_offset(prefix, offset), self.answer)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        // The pages of a very large directory are fetched one after the other.
        timeout(self.silence, self.store.list_with_delimiter(prefix)).await.map_err(|_| silent(self.silence))?
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        self.read_only()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.read_only()
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::iter([self.read_only()]).boxed()
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        self.read_only()
    }
}

/// Passes items through, and ends with an error if the next one takes longer than `patience`.
fn impatient<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    patience: Duration,
) -> BoxStream<'static, Result<T>> {
    stream::unfold(Some(items), move |items| async move {
        let mut items = items?;
        match timeout(patience, items.next()).await {
            Ok(item) => item.map(|item| (item, Some(items))),
            Err(_) => Some((Err(silent(patience)), None)),
        }
    })
    // The reader of Delta logs polls listings after their end, which `unfold` does not allow.
    .fuse()
    .boxed()
}

fn silent(patience: Duration) -> Error {
    Error::Generic { store: "cloud", source: format!("no answer for {patience:?}").into() }
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt, memory::InMemory};

    use super::*;

    #[tokio::test]
    async fn a_stream_that_ended_stays_ended() {
        let mut items = impatient(stream::iter([Ok(1)]).boxed(), Duration::from_secs(1));
        assert!(items.next().await.is_some());
        assert!(items.next().await.is_none());
        assert!(items.next().await.is_none());
    }

    #[tokio::test]
    async fn silence_ends_a_stream_with_an_error() {
        let one_then_nothing = stream::iter([Ok(1)]).chain(stream::pending()).boxed();
        let items: Vec<_> = impatient(one_then_nothing, Duration::from_millis(1)).collect().await;
        assert!(matches!(items.as_slice(), [Ok(1), Err(Error::Generic { .. })]), "{items:?}");
    }

    #[tokio::test]
    async fn server_that_accepts_and_says_nothing_is_an_outage() {
        let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = object_store::aws::AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", mute.local_addr().unwrap()))
            .with_client_options(client_options().with_allow_http(true))
            .with_bucket_name("lake")
            .with_access_key_id("k")
            .with_secret_access_key("s")
            .build()
            .unwrap();
        let store = Bounded { answer: Duration::from_millis(50), ..Bounded::new(store) };
        let path = Path::from("t/p");
        assert!(matches!(store.head(&path).await, Err(Error::Generic { .. })));
        assert!(matches!(store.list(None).next().await, Some(Err(Error::Generic { .. }))));
    }

    #[tokio::test]
    async fn lake_is_never_written() {
        let store = Bounded::new(InMemory::new());
        let path = Path::from("t/p");
        assert!(matches!(store.put(&path, "x".into()).await, Err(Error::NotSupported { .. })));
        assert!(matches!(store.delete(&path).await, Err(Error::NotSupported { .. })));
        assert!(matches!(store.copy(&path, &path).await, Err(Error::NotSupported { .. })));
    }
}
