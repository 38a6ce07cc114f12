//! Azurite, Microsoft's emulator of Azure Blob Storage (npm `azurite`), started per test.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::Utc;
use hmac::{Hmac, Mac};
use object_store::{
    ObjectStoreExt,
    azure::{MicrosoftAzure, MicrosoftAzureBuilder},
    path::Path,
};
use sha2::Sha256;

/// The only account.
pub const ACCOUNT: &str = "weirtest";
/// The only container.
pub const CONTAINER: &str = "lake";
const KEY: &str = "d2VpciB0ZXN0cyBzaWduIHdpdGggdGhpcyBhY2NvdW50IGtleQ==";

/// A running Azurite with the container [`CONTAINER`]. Stops when dropped.
pub struct Azurite {
    process: Child,
    endpoint: String,
    _directory: tempfile::TempDir,
}

impl Azurite {
    /// Starts the executable in `WEIR_TEST_AZURITE` (`…/node_modules/.bin/azurite-blob`). If it is not set, the test is
    /// skipped with a message, or fails under `CI=true`.
    pub async fn start() -> Option<Self> {
        let Some(command) = std::env::var_os("WEIR_TEST_AZURITE") else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "WEIR_TEST_AZURITE is not set");
            eprintln!("skipped: set WEIR_TEST_AZURITE to an azurite-blob executable (npm install azurite)");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let mut process = Command::new(command)
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--disableTelemetry", "--skipApiVersionCheck"])
            .arg("--location")
            .arg(directory.path())
            .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            line.unwrap().split_once("successfully listens on ").map(|(_, address)| address.trim().to_owned())
        });
        // If its output is not read, Azurite blocks on its next line.
        std::thread::spawn(move || lines.for_each(drop));
        let endpoint = format!("{}/{ACCOUNT}", address.expect("azurite says where it listens"));
        let azurite = Self { process, endpoint, _directory: directory };
        azurite.create_container().await;
        Some(azurite)
    }

    /// The options of a `[[storage]]` with a URL `az://lake/…`.
    pub fn options(&self) -> BTreeMap<String, String> {
        let options = [
            ("azure_storage_endpoint", self.endpoint.as_str()),
            ("azure_storage_account_name", ACCOUNT),
            ("azure_storage_account_key", KEY),
            ("azure_allow_http", "true"),
        ];
        options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// A client of the container with write access.
    pub fn store(&self) -> MicrosoftAzure {
        let options = self.options().into_iter().map(|(name, value)| (name.parse().unwrap(), value));
        let builder =
            options.fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| builder.with_config(key, value));
        builder.with_container_name(CONTAINER).build().unwrap()
    }

    /// Writes one blob. Nothing in `name` is decoded.
    pub async fn put(&self, name: &str, bytes: &'static [u8]) {
        self.store().put(&Path::parse(name).unwrap(), bytes.into()).await.unwrap();
    }

    /// Creates the container. object_store cannot, so the request is signed by hand (Shared Key).
    async fn create_container(&self) {
        let date = Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let text = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2022-11-02\n\
             /{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64_STANDARD.decode(KEY).unwrap()).unwrap();
        mac.update(text.as_bytes());
        let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        let request = reqwest::Client::new()
            .put(format!("{}/{CONTAINER}?restype=container", self.endpoint))
            .header("x-ms-date", date)
            .header("x-ms-version", "2022-11-02")
            .header("authorization", format!("SharedKey {ACCOUNT}:{signature}"))
            .header("content-length", "0");
        request.send().await.unwrap().error_for_status().unwrap();
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
