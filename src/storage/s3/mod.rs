//! S3 and services with the same protocol.
//!
//! Opens buckets with a credential whose expiry is known, and signs GET URLs with it.

mod credentials;
mod presign;
mod source;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
pub use credentials::{Clock, S3Credentials};
use object_store::{
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    path::Path,
};
use presign::Presigner;
pub use source::{CredentialSource, SourceError};

use super::{
    StorageError,
    bounded::{client_options, retries},
    options::Options,
    storages::{Opened, UrlSigner},
    window::seconds_left,
};

/// The region and identity that platforms provide in the environment; all other options must be configured.
const REGION: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
const IDENTITY: [&str; 9] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// Returns whether object_store has an option of this name for S3.
pub(super) fn knows(option: &str) -> bool {
    option.parse::<AmazonS3ConfigKey>().is_ok()
}

/// Adds a checksum to uploads unless `options` configure one: buckets with object lock refuse uploads without it.
pub(super) fn with_checksum(mut options: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_checksum = |name: &String| matches!(name.to_ascii_lowercase().parse(), Ok(AmazonS3ConfigKey::Checksum));
    if !options.keys().any(is_checksum) {
        options.insert(AmazonS3ConfigKey::Checksum.as_ref().to_owned(), "sha256".to_owned());
    }
    options
}

/// Opens a bucket. Sends no request yet.
pub(super) fn open(
    bucket: &str,
    options: Options,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Opened, Vec<StorageError>> {
    let keys =
        || options.values.iter().filter_map(|(name, value)| Some((name.parse::<AmazonS3ConfigKey>().ok()?, value)));
    let mut builder = AmazonS3Builder::new().with_client_options(client_options()).with_retry(retries());
    // A configured identity is not combined with parts of the environment's.
    let identity = || IDENTITY.iter().filter_map(|name| name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>().ok());
    let has_identity = keys().any(|(key, _)| identity().any(|other| other == key));
    for name in REGION.iter().chain(IDENTITY.iter().filter(|_| !has_identity)) {
        if let (Ok(key), Some(value)) = (name.to_ascii_lowercase().parse(), environment(name)) {
            builder = builder.with_config(key, value);
        }
    }
    for (key, value) in keys() {
        builder = builder.with_config(key, value);
    }
    builder = builder.with_bucket_name(bucket);

    let is_on = |key| builder.get_config_value(&key).is_some_and(|value: String| is_true(&value));
    // Directory buckets (S3 Express) need a special session in each signature.
    let is_unsigned = is_on(AmazonS3ConfigKey::SkipSignature) || is_on(AmazonS3ConfigKey::S3Express);
    // With a customer-provided key, each request must carry that key in a header, so a URL alone is not enough.
    let has_customer_key = options.values.keys().any(|name| name.ends_with("sse_customer_key_base64"));
    let source = CredentialSource::choose(&builder).map_err(|reason| options.problem(reason))?;
    let credentials =
        S3Credentials::new(source, Arc::new(Utc::now)).map_err(|error| options.problem(error.to_string()))?;
    let credentials = Arc::new(credentials);
    let presigner = if is_unsigned || has_customer_key { None } else { Presigner::learn(&builder) };
    let builder = builder.with_credentials(Arc::clone(&credentials) as _);
    let store = builder.build().map_err(|error| options.problem(error.to_string()))?;
    let signer = presigner.map(|presigner| S3Signer { presigner, credentials });
    Ok(Opened { store: Arc::new(store), signer: signer.map(UrlSigner::S3) })
}

/// Parses a flag in the same way as object_store.
fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y")
}

/// Signs GET URLs for one bucket (AWS Signature Version 4, query parameters).
pub(super) struct S3Signer {
    presigner: Presigner,
    credentials: Arc<S3Credentials>,
}

impl S3Signer {
    pub async fn signing_until(&self) -> Result<Option<DateTime<Utc>>, StorageError> {
        Ok(self.credentials.session().await.map_err(StorageError::unavailable)?.expires_at)
    }

    pub async fn sign(
        &self,
        paths: &[Path],
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, StorageError> {
        let session = self.credentials.session().await.map_err(StorageError::unavailable)?;
        // Stores refuse a signature dated ahead of their own clocks.
        let today = Utc::now();
        let signing = self.presigner.at(&session.credential, today, seconds_left(expires_at, now.max(today))?);
        Ok(paths.iter().map(|path| signing.sign(path)).collect())
    }
}
