//! Azure Blob Storage and Data Lake Storage.
//!
//! Opens containers, and chooses the key for signing. URLs are signed here (see [`sas`]) and not by object_store, which
//! signs the percent-encoded path where Azure verifies the decoded one, so that every file of a partition such as
//! `x=A%2FA` would be refused; and which fetches a new delegation key for every call.
//!
//! A storage configured with a SAS token cannot sign: a SAS cannot be restricted to one file or get another expiry, and
//! handing it out would grant access to everything it opens. Its files are delivered proxied.

mod delegation;
mod sas;

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, SubsecRound, Utc};
use delegation::DelegationKeys;
use object_store::{
    azure::{AzureConfigKey as Key, MicrosoftAzureBuilder},
    path::Path,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sas::Sas;
use url::Url;
use zeroize::Zeroizing;

use super::{
    StorageError,
    bounded::{client_options, retries},
    location::Account,
    options::Options,
    storages::{Opened, UrlSigner},
};

/// The credentials that platforms provide in the environment; all other options must be configured.
const ENVIRONMENT: [&str; 6] = [
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_AUTHORITY_HOST",
    "AZURE_FEDERATED_TOKEN_FILE",
    "IDENTITY_ENDPOINT",
];

const PUBLIC_CLOUD: &str = "core.windows.net";
const FABRIC: &str = "fabric.microsoft.com";

/// The characters that are percent-encoded in a blob's name.
const BLOB_NAME: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'=');

/// Returns whether object_store has an option of this name for Azure.
pub(super) fn knows(option: &str) -> bool {
    option.parse::<Key>().is_ok()
}

/// Opens a container, and returns its account. Sends no request yet.
pub(super) fn open(
    container: &str,
    account: Option<&Account>,
    options: Options,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(Account, Opened), Vec<StorageError>> {
    let builder = configure(&options, environment)?.with_container_name(container);
    let value = |key| builder.get_config_value(&key);
    let is_on = |key| value(key).is_some_and(|flag: String| flag != "false");

    if is_on(Key::UseEmulator) {
        return Err(options.problem(
            "set azure_storage_endpoint (http://127.0.0.1:10000/devstoreaccount1) and its account key instead of \
             azure_storage_use_emulator",
        ));
    }
    let account = match (account, value(Key::AccountName)) {
        (Some(account), Some(name)) if account.name != name => {
            return Err(options.problem("its url and azure_storage_account_name name different accounts"));
        }
        (Some(account), _) => account.clone(),
        (None, Some(name)) => {
            let suffix = if is_on(Key::UseFabricEndpoint) { FABRIC } else { PUBLIC_CLOUD };
            Account { name, suffix: suffix.to_owned() }
        }
        (None, None) => {
            return Err(options.problem(
                "no account is named; write abfss://container@account.dfs.core.windows.net/… or set \
                 azure_storage_account_name",
            ));
        }
    };
    let endpoint = value(Key::Endpoint).unwrap_or_else(|| format!("https://{}.blob.{}", account.name, account.suffix));
    let endpoint = endpoint.trim_end_matches('/').to_owned();
    let service = Url::parse(&endpoint).map_err(|error| options.problem(format!("`{endpoint}` is no URL: {error}")))?;

    // This is object_store's own order when it chooses the credential for requests.
    let has = |key| value(key).is_some();
    let has_identity =
        has(Key::ClientId) && has(Key::AuthorityId) && (has(Key::FederatedTokenFile) || has(Key::ClientSecret));
    let signing = match value(Key::AccessKey) {
        _ if is_on(Key::SkipSignature) || account.suffix == FABRIC => Signing::Impossible,
        _ if has(Key::Token) => Signing::Delegated,
        Some(key) => {
            let key = BASE64_STANDARD.decode(key.trim());
            Signing::Account(key.map_err(|_| options.problem("azure_storage_account_key is not base64"))?)
        }
        None if has(Key::SasKey) && !has_identity => Signing::Impossible,
        None => Signing::Delegated,
    };

    let builder = builder.with_account(&account.name).with_endpoint(endpoint.clone());
    let store = builder.build().map_err(|error| options.problem(error.to_string()))?;
    let key = match signing {
        Signing::Impossible => None,
        Signing::Account(key) => Some(SigningKey::Account(Zeroizing::new(key))),
        Signing::Delegated => {
            let keys = DelegationKeys::new(service.clone(), Arc::clone(store.credentials()));
            Some(SigningKey::Delegated(keys.map_err(|error| options.problem(error.to_string()))?))
        }
    };
    let signer = key.map(|key| {
        let container_url = format!("{endpoint}/{container}");
        let resource = format!("/blob/{}/{container}", account.name);
        UrlSigner::Azure(SasSigner { container_url, resource, https_only: service.scheme() == "https", key })
    });
    Ok((account, Opened { store: Arc::new(store), signer }))
}

enum Signing {
    Account(Vec<u8>),
    Delegated,
    Impossible,
}

fn configure(
    options: &Options,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<MicrosoftAzureBuilder, Vec<StorageError>> {
    let mut builder = MicrosoftAzureBuilder::new().with_client_options(client_options()).with_retry(retries());
    let mut has_credential = false;
    for (name, value) in &options.values {
        let key = name.parse::<Key>().map_err(|error| options.problem(error.to_string()))?;
        has_credential |= matches!(key, Key::AccessKey | Key::SasKey | Key::Token | Key::ClientSecret);
        builder = builder.with_config(key, value);
    }
    // A configured credential is not combined with the machine's identity.
    for name in ENVIRONMENT.iter().filter(|_| !has_credential) {
        if let (Ok(key), Some(value)) = (name.to_ascii_lowercase().parse::<Key>(), environment(name))
            && builder.get_config_value(&key).is_none()
        {
            builder = builder.with_config(key, value);
        }
    }
    Ok(builder)
}

/// Signs GET URLs for one container.
pub(super) struct SasSigner {
    /// The container's URL, without a trailing slash.
    container_url: String,
    /// The container's name in signatures: `/blob/{account}/{container}`.
    resource: String,
    https_only: bool,
    key: SigningKey,
}

enum SigningKey {
    Account(Zeroizing<Vec<u8>>),
    Delegated(DelegationKeys),
}

impl SasSigner {
    pub async fn sign(
        &self,
        paths: &[Path],
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, StorageError> {
        let ends_at = expires_at.trunc_subsecs(0);
        if ends_at <= now {
            return Err(StorageError::Expired { expires_at, now });
        }
        let held;
        let (key, delegation, ends_at) = match &self.key {
            SigningKey::Account(key) => (key, None, ends_at),
            SigningKey::Delegated(keys) => {
                held = keys.lasting_until(ends_at, now).await?;
                (&held.secret, Some(&*held), ends_at.min(held.expires_at))
            }
        };
        let sign_one = |path: &Path| {
            let resource = format!("{}/{path}", self.resource);
            let sas = Sas { resource: &resource, ends_at, https_only: self.https_only, delegation };
            let name = utf8_percent_encode(path.as_ref(), BLOB_NAME);
            sas.query(key).map(|query| format!("{}/{name}?{query}", self.container_url))
        };
        paths.iter().map(sign_one).collect()
    }
}
