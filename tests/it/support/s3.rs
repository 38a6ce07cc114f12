//! An S3 server in this process, over a temporary directory. It checks every signature and its expiry, and the rights
//! of each key.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path as FilePath,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use object_store::{
    ObjectStoreExt,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    auth::SimpleAuth,
    s3_error,
    service::S3ServiceBuilder,
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// The bucket of the tables.
pub const BUCKET: &str = "lake";
/// The bucket that the audit trail is exported to.
pub const AUDIT_BUCKET: &str = "audit";
/// The bucket of the copies of views.
pub const COPIES_BUCKET: &str = "copies";
const SECRET: &str = "test-secret-key-that-signs";

/// The credentials that sign a request.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// May do anything.
    Owner,
    /// May read tables.
    Lake,
    /// May read and add exported files, but not delete.
    Audit,
    /// May read, write and delete copies.
    Copies,
}

impl Key {
    const ALL: [Self; 4] = [Self::Owner, Self::Lake, Self::Audit, Self::Copies];

    fn id(self) -> &'static str {
        match self {
            Self::Owner => "owner-key-id",
            Self::Lake => "lake-key-id",
            Self::Audit => "audit-key-id",
            Self::Copies => "copies-key-id",
        }
    }

    fn secret(self) -> String {
        format!("{SECRET}-for-{}", self.id())
    }
}

/// The rights of each key, and a gate that can hold requests.
#[derive(Clone, Debug)]
struct Rules {
    /// Whether only the owner may write now.
    is_read_only: Arc<AtomicBool>,
    is_closed: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

#[async_trait]
impl S3Access for Rules {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let key = context.credentials().map_or("", |credentials| credentials.access_key.as_str());
        if key == Key::Owner.id() {
            return Ok(());
        }
        if *self.is_closed.borrow() {
            self.waiting.send_modify(|waiting| *waiting += 1);
            let _ = self.is_closed.subscribe().wait_for(|is_closed| !is_closed).await;
            self.waiting.send_modify(|waiting| *waiting -= 1);
        }
        let bucket = context.s3_path().get_bucket_name();
        let (operation, may_write) = (context.s3_op().name(), !self.is_read_only.load(Ordering::Relaxed));
        let reads = matches!(operation, "GetObject" | "HeadObject" | "ListObjectsV2");
        let puts = operation == "PutObject" && may_write;
        // A bucket with object lock accepts no upload without a checksum.
        let adds = puts && context.headers().contains_key("x-amz-checksum-sha256");
        let in_parts = ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload"];
        let deletes = ["DeleteObject", "DeleteObjects"].contains(&operation) && may_write;
        let may = match key {
            "lake-key-id" => bucket == Some(BUCKET) && reads,
            "audit-key-id" => bucket == Some(AUDIT_BUCKET) && (reads || adds),
            "copies-key-id" => {
                let adds = puts || in_parts.contains(&operation) && may_write;
                bucket == Some(COPIES_BUCKET) && (reads || adds || deletes)
            }
            _ => false,
        };
        if may { Ok(()) } else { Err(s3_error!(AccessDenied, "not yours")) }
    }
}

/// A running server with these buckets. Stops when dropped.
pub struct S3Server {
    address: SocketAddr,
    directory: tempfile::TempDir,
    rules: Rules,
    task: Option<JoinHandle<()>>,
}

impl S3Server {
    /// Starts on a free port of the loopback interface.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for bucket in [BUCKET, AUDIT_BUCKET, COPIES_BUCKET] {
            std::fs::create_dir(directory.path().join(bucket)).unwrap();
        }
        let rules = Rules {
            is_read_only: Arc::default(),
            is_closed: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
        };
        let mut server = Self { address: ([127, 0, 0, 1], 0).into(), directory, rules, task: None };
        server.resume().await;
        server
    }

    /// Stops the server and its connections, like an outage. Its objects remain.
    pub async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Serves again on the same port.
    pub async fn resume(&mut self) {
        let files = s3s_fs::FileSystem::new(self.directory.path()).unwrap();
        let mut builder = S3ServiceBuilder::new(files);
        let mut keys = SimpleAuth::new();
        for key in Key::ALL {
            keys.register(key.id().to_owned(), key.secret().into());
        }
        builder.set_auth(keys);
        builder.set_access(self.rules.clone());
        let service = builder.build();
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let service = service.clone();
                connections.spawn(async move {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        }));
    }

    /// Refuses or allows writes by any key but the owner's.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.rules.is_read_only.store(is_read_only, Ordering::Relaxed);
    }

    /// Holds every request that the owner did not sign.
    pub fn hold(&self) {
        self.rules.is_closed.send_replace(true);
    }

    /// Waits until a request is held.
    pub async fn is_holding(&self) {
        self.rules.waiting.subscribe().wait_for(|waiting| *waiting > 0).await.unwrap();
    }

    /// Releases the held requests and lets others pass.
    pub fn release(&self) {
        self.rules.is_closed.send_replace(false);
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The options of a `[[storage]]` with a URL `s3://lake/…`.
    pub fn options(&self) -> BTreeMap<String, String> {
        self.options_of(Key::Lake)
    }

    /// The options for signing with `key`.
    pub fn options_of(&self, key: Key) -> BTreeMap<String, String> {
        let options = [
            ("aws_endpoint", self.endpoint()),
            ("aws_region", "us-east-1".to_owned()),
            ("aws_access_key_id", key.id().to_owned()),
            ("aws_secret_access_key", key.secret()),
            ("aws_allow_http", "true".to_owned()),
        ];
        options.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// The owner's client of a bucket.
    pub fn store(&self, bucket: &str) -> AmazonS3 {
        let options = self.options_of(Key::Owner).into_iter().map(|(name, value)| (name.parse().unwrap(), value));
        let builder = options.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
        builder.with_bucket_name(bucket).build().unwrap()
    }

    /// Writes one object of the lake. Nothing in `key` is decoded.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.store(BUCKET).put(&Path::parse(key).unwrap(), bytes.into().into()).await.unwrap();
    }

    /// Writes every file below `directory` under `prefix` in the lake.
    pub async fn put_directory(&self, directory: &FilePath, prefix: &str) {
        self.put_all(BUCKET, directory, &format!("{prefix}/")).await;
    }

    /// Writes every file below `directory` to a bucket.
    pub async fn put_files(&self, bucket: &str, directory: &FilePath) {
        self.put_all(bucket, directory, "").await;
    }

    async fn put_all(&self, bucket: &str, directory: &FilePath, prefix: &str) {
        let store = self.store(bucket);
        let mut pending = vec![directory.to_owned()];
        while let Some(next) = pending.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    let name = path.strip_prefix(directory).unwrap().to_str().unwrap();
                    let key = Path::parse(format!("{prefix}{name}")).unwrap();
                    store.put(&key, std::fs::read(&path).unwrap().into()).await.unwrap();
                }
            }
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
