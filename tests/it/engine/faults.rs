//! Broken files, failing storages and callers that go away: the result is an error without any value, no partial file,
//! and never rows that do not exist.

use std::{fmt, panic, sync::Arc};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde_json::json;
use tokio::sync::Semaphore;
use weir::{
    domain::catalog::schema::Schema,
    engine::{Engine, EngineError, EngineSettings},
    storage::TableLocation,
};

use crate::support::watched_store::WatchedStore;

use super::sample::{cells, engine, make, parquet, read, rules, schema, show, source, source_of, try_make};

const SECRET: &str = "SECRET-0815";

fn table() -> Schema {
    schema(&[("id", json!("long")), ("text", json!("string"))])
}

fn batch(rows: i64) -> RecordBatch {
    let texts = (0..rows).map(|row| format!("{SECRET} {}", row % 97));
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef),
        ("text", Arc::new(StringArray::from_iter_values(texts))),
    ])
    .unwrap()
}

/// The result of the decoder alone; `None` if it fails or panics.
fn plainly(content: &Bytes) -> Option<Vec<Vec<Option<String>>>> {
    let content = content.clone();
    let read = move || {
        let batches = ParquetRecordBatchReaderBuilder::try_new(content).ok()?.build().ok()?;
        let batches = batches.collect::<std::result::Result<Vec<_>, _>>().ok()?;
        Some(batches.iter().flat_map(cells).collect())
    };
    panic::catch_unwind(read).ok().flatten()
}

#[tokio::test]
async fn lt22_broken_files_are_errors_without_values_or_what_they_hold_and_no_panics() {
    let rules = show(&table(), &["id", "text"]);
    let (mut refused, mut read_all_the_same) = (0, 0);
    for properties in [
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())),
        WriterProperties::builder().set_compression(Compression::SNAPPY).set_dictionary_enabled(false),
    ] {
        let content = parquet(&[batch(3_000), batch(2_000)], properties.set_data_page_row_count_limit(500).build());
        for fiftieth in 0..=50 {
            let at = (content.len() * fiftieth / 50).min(content.len() - 1);
            let mut changed = content.to_vec();
            changed[at] ^= 0x55;
            let mut blank = content.to_vec();
            blank[at..(at + 40).min(content.len())].fill(0);
            for broken in [changed, blank, content[..at].to_vec(), content[at..].to_vec()] {
                let broken = Bytes::from(broken);
                match try_make(&source(broken.clone(), &table()).await, &rules).await {
                    Err(error) => {
                        let said = format!("{error} {error:?}");
                        assert!(!said.contains("SECRET") && !said.contains("0815"), "{said}");
                        assert!(!error.to_string().contains("text"), "{error}");
                        refused += 1;
                    }
                    // Whatever the broken file contains: never other rows and never fewer.
                    Ok((made, copy)) => {
                        assert_eq!(made.rows, 5_000);
                        let shown = cells(&read(&copy.unwrap()));
                        assert_eq!(Some(shown), plainly(&broken), "at {at}");
                        read_all_the_same += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 200 && read_all_the_same > 0, "{refused} {read_all_the_same}");
}

#[tokio::test]
async fn lt22_a_result_that_does_not_fit_is_an_overflow_without_the_value() {
    let table = schema(&[("at", json!("timestamp"))]);
    let column = Arc::new(TimestampMicrosecondArray::from(vec![0, i64::MIN + 815]).with_timezone("UTC")) as ArrayRef;
    let source = source_of(&[RecordBatch::try_from_iter([("at", column)]).unwrap()], &table).await;
    let view = json!({"columns": [{"name": "at", "mask": {"date_trunc": {"unit": "year"}}}]});
    let error = try_make(&source, &rules(&table, &[], view, json!({}))).await.unwrap_err();
    assert!(matches!(error, EngineError::Overflow));
    assert!(!format!("{error} {error:?}").chars().any(|c| c.is_ascii_digit()), "{error:?}");
}

#[tokio::test]
async fn missing_files_and_storages_that_are_down_are_told_apart() {
    let rules = show(&table(), &["id"]);
    let mut source = source_of(&[batch(10)], &table()).await;
    let there = source.path.clone();
    source.path = Path::from("t/elsewhere");
    assert!(matches!(try_make(&source, &rules).await, Err(EngineError::Missing)));
    source.path = there;
    let store = WatchedStore::new(source.location.store().clone());
    source.location = TableLocation::new(Arc::new(store.clone()), Path::from("t"), "memory://t");
    assert!(try_make(&source, &rules).await.is_ok());
    store.set_down(true);
    let error = try_make(&source, &rules).await.unwrap_err();
    assert!(matches!(error, EngineError::Unavailable(_)) && !error.to_string().contains("secret-host"), "{error}");
    // A file with another size than in the log is refused.
    store.set_down(false);
    source.size += 1;
    assert!(matches!(try_make(&source, &rules).await, Err(EngineError::Corrupt { .. })));
}

/// A store for copies that lets one upload start per permit, and may be full.
#[derive(Debug)]
pub struct Gate {
    inner: InMemory,
    /// How many uploads may start.
    pub permits: Semaphore,
    /// How many uploads have arrived.
    pub arrived: Semaphore,
    is_full: bool,
}

impl Gate {
    /// Lets `permits` uploads through, to a store that is full if `is_full`.
    pub fn new(permits: usize, is_full: bool) -> Arc<Self> {
        let (permits, arrived) = (Semaphore::new(permits), Semaphore::new(0));
        Arc::new(Self { inner: InMemory::new(), permits, arrived, is_full })
    }

    /// Waits until another upload has arrived.
    pub async fn arrival(&self) {
        self.arrived.acquire().await.expect("it is never closed").forget();
    }

    async fn pass(&self) -> Result<()> {
        self.arrived.add_permits(1);
        self.permits.acquire().await.expect("it is never closed").forget();
        if self.is_full {
            return Err(Error::Generic { store: "gate", source: "no space left on secret-host".into() });
        }
        Ok(())
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.pass().await?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.pass().await?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Texts that do not compress.
fn noise(rows: u64) -> RecordBatch {
    let texts = (0..rows).map(|row| {
        let mut state = row + 1;
        let letter = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (state >> 59) as u8 % 26)
        };
        (0..1_000).map(letter).collect::<String>()
    });
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(0..i64::try_from(rows).unwrap())) as ArrayRef),
        ("text", Arc::new(StringArray::from_iter_values(texts))),
    ])
    .unwrap()
}

#[tokio::test]
async fn a_storage_that_takes_nothing_leaves_nothing_and_says_so() {
    let rules = show(&table(), &["id", "text"]);
    for batch in [batch(10), noise(30_000)] {
        let source = source_of(&[batch], &table()).await;
        let store = Gate::new(1, true);
        let path = Path::from("m/1");
        let error = engine().make(source, rules.clone(), store.clone(), path.clone()).await.unwrap_err();
        assert!(matches!(error, EngineError::Full(_)) && !error.to_string().contains("secret-host"), "{error}");
        assert!(matches!(store.inner.head(&path).await, Err(Error::NotFound { .. })));
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_file() {
    let rules = show(&table(), &["id", "text"]);
    // One file that is uploaded at once, and one of 30 MiB that is uploaded in parts.
    for batch in [batch(10), noise(30_000)] {
        let source = source_of(&[batch], &table()).await;
        let store = Gate::new(0, false);
        let engine = Engine::new(EngineSettings { concurrent_files: 1, ..EngineSettings::default() });
        let path = Path::from("m/1");
        let making = tokio::spawn({
            let (engine, source, rules, store) = (engine.clone(), source.clone(), rules.clone(), store.clone());
            let path = path.clone();
            async move { engine.make(source, rules, store, path).await }
        });
        store.arrival().await;
        making.abort();
        assert!(making.await.unwrap_err().is_cancelled());
        store.permits.add_permits(10);
        // There is one permit, which the abandoned work returns when it ends.
        let other = engine.make(source.clone(), rules.clone(), Arc::new(InMemory::new()), Path::from("other")).await;
        assert!(other.unwrap().rows > 0);
        let found = store.inner.head(&path).await;
        assert!(matches!(found, Err(Error::NotFound { .. })), "{found:?}");
        // The same copy can be made again.
        let made = engine.make(source.clone(), rules.clone(), store.clone(), path.clone()).await.unwrap();
        assert_eq!(store.inner.head(&path).await.unwrap().size, made.bytes);
        assert_eq!(make(&source, &rules).await.0, made);
    }
}
