//! An S3 server in this process that checks every signature and its expiry, over a directory that vanishes with it.

use std::{collections::BTreeMap, net::SocketAddr, path::Path as FilePath};

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
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

/// The one bucket.
pub const BUCKET: &str = "lake";
const KEY_ID: &str = "test-key-id";
const SECRET: &str = "test-secret-key-that-signs";

/// A running server with the bucket [`BUCKET`]; it stops when dropped.
pub struct S3Server {
    address: SocketAddr,
    directory: tempfile::TempDir,
    task: Option<JoinHandle<()>>,
}

impl S3Server {
    /// Starts on a free port of the loopback address.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let mut server = Self { address: ([127, 0, 0, 1], 0).into(), directory, task: None };
        server.resume().await;
        server
    }

    /// Ends the server and its connections, as an outage does; its objects stay.
    pub async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Serves again, on the same port.
    pub async fn resume(&mut self) {
        let files = s3s_fs::FileSystem::new(self.directory.path()).unwrap();
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
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

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The options of a `[[storage]]` whose url is `s3://lake/…`.
    pub fn options(&self) -> BTreeMap<String, String> {
        let endpoint = self.endpoint();
        let options = [
            ("aws_endpoint", endpoint.as_str()),
            ("aws_region", "us-east-1"),
            ("aws_access_key_id", KEY_ID),
            ("aws_secret_access_key", SECRET),
            ("aws_allow_http", "true"),
        ];
        options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// A client of the bucket that may write, for preparing tables.
    pub fn store(&self) -> AmazonS3 {
        let options = self.options().into_iter().map(|(name, value)| (name.parse().unwrap(), value));
        let builder = options.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
        builder.with_bucket_name(BUCKET).build().unwrap()
    }

    /// Writes one object; `key` is its name as it is, nothing in it is decoded.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.store().put(&Path::parse(key).unwrap(), bytes.into().into()).await.unwrap();
    }

    /// Writes every file below `directory` under `prefix`.
    pub async fn put_directory(&self, directory: &FilePath, prefix: &str) {
        let mut pending = vec![directory.to_owned()];
        while let Some(next) = pending.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    let name = path.strip_prefix(directory).unwrap().to_str().unwrap();
                    self.put(&format!("{prefix}/{name}"), std::fs::read(&path).unwrap()).await;
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
