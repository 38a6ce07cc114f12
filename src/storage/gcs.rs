//! Google Cloud Storage.
//!
//! URLs are signed only with a service account's private key, which takes one RSA operation each. Without one, Google
//! needs a network call to sign each URL, so files are delivered proxied instead.

use std::{fs, sync::Arc};

use chrono::{DateTime, Utc};
use object_store::{
    gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey as Key},
    path::Path,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{
    StorageError,
    bounded::{client_options, retries},
    options::Options,
    storages::{Opened, UrlSigner},
    window,
};

/// The variable in which platforms name the credential file.
const ENVIRONMENT: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// The only host for which object_store's signatures are valid.
const SIGNED_HOST: &str = "https://storage.googleapis.com";

/// The characters that are percent-encoded in an object's name, in URLs and in the canonical request.
const OBJECT_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Returns whether object_store has an option of this name for GCS.
pub(super) fn knows(option: &str) -> bool {
    option.parse::<Key>().is_ok()
}

/// Opens a bucket. Sends no request yet.
pub(super) fn open(
    bucket: &str,
    options: Options,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Opened, Vec<StorageError>> {
    let client_options = client_options().with_allow_http(false);
    let mut builder = GoogleCloudStorageBuilder::new().with_client_options(client_options).with_retry(retries());
    if let Some(path) = environment(ENVIRONMENT) {
        builder = builder.with_config(Key::ApplicationCredentials, path);
    }
    for (name, value) in &options.values {
        let key = name.parse::<Key>().map_err(|error| options.problem(error.to_string()))?;
        builder = builder.with_config(key, value);
    }
    builder = builder.with_bucket_name(bucket);
    let can_sign = has_private_key(&builder);
    let store = builder.build().map_err(|error| options.problem(error.to_string()))?;
    let signer = can_sign.then(|| UrlSigner::Gcs(GcsSigner { store: store.clone() }));
    Ok(Opened { store: Arc::new(store), signer })
}

/// Returns whether object_store will use a service account's private key, for the host that its signatures are valid
/// for.
fn has_private_key(builder: &GoogleCloudStorageBuilder) -> bool {
    #[derive(Deserialize)]
    struct Credential {
        private_key: Option<String>,
        gcs_base_url: Option<String>,
        #[serde(default)]
        disable_oauth: bool,
    }
    let value = |key| builder.get_config_value(&key);
    let is_unsigned = value(Key::SkipSignature).is_some_and(|flag| flag != "false");
    let text = value(Key::ServiceAccountKey).or_else(|| {
        let path = value(Key::ServiceAccount).or_else(|| value(Key::ApplicationCredentials))?;
        fs::read_to_string(path).ok()
    });
    let credential = text.and_then(|text| serde_json::from_str::<Credential>(&text).ok());
    credential.is_some_and(|credential| {
        let base_url = value(Key::BaseUrl).or(credential.gcs_base_url);
        let is_signed_host = base_url.is_none_or(|url| url.trim_end_matches('/') == SIGNED_HOST);
        credential.private_key.is_some() && !credential.disable_oauth && !is_unsigned && is_signed_host
    })
}

/// Signs GET URLs for one bucket (GCS V4, RSA).
pub(super) struct GcsSigner {
    store: GoogleCloudStorage,
}

impl GcsSigner {
    pub async fn sign(
        &self,
        paths: &[Path],
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, StorageError> {
        let mut urls = Vec::with_capacity(paths.len());
        for path in paths {
            // object_store's signer puts the name into the URL unencoded: `%2e%2e` in it would lead outside the table,
            // and `x=A%2FA` would name another object. So it gets the percent-encoded name.
            let name = utf8_percent_encode(path.as_ref(), OBJECT_NAME).to_string();
            let name = Path::parse(name).map_err(object_store::Error::from)?;
            urls.push(window::sign_one(&self.store, &name, expires_at, now).await?);
            // An RSA signature takes long, so other tasks on this thread get a turn.
            tokio::task::yield_now().await;
        }
        Ok(urls)
    }
}
