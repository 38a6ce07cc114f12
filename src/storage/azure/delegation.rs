//! Obtains user-delegation keys, which sign URLs if only an identity is configured and no account key.

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use object_store::azure::{AzureCredential, AzureCredentialProvider};
use reqwest::StatusCode;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;
use zeroize::Zeroizing;

use super::sas::VERSION;
use crate::storage::StorageError;

/// The lifetime requested for a key, unless a URL needs a longer one.
const LIFE: TimeDelta = TimeDelta::days(1);
/// The longest lifetime that Azure grants.
const LONGEST: TimeDelta = TimeDelta::days(7);
/// The tolerated difference between clocks.
const SKEW: TimeDelta = TimeDelta::minutes(5);

/// One account's delegation key, fetched once for concurrent callers, and again when a URL would outlive it.
pub(super) struct DelegationKeys {
    endpoint: Url,
    credentials: AzureCredentialProvider,
    http: reqwest::Client,
    held: Mutex<Option<Arc<DelegationKey>>>,
}

/// A key and Azure's data about it, which every signature repeats.
pub(super) struct DelegationKey {
    pub secret: Zeroizing<Vec<u8>>,
    pub expires_at: DateTime<Utc>,
    signed: SignedKey,
}

impl DelegationKey {
    /// Returns the parameters that identify the key, in signing order.
    pub fn signed_fields(&self) -> [(&'static str, &str); 6] {
        let signed = &self.signed;
        [
            ("skoid", &signed.oid),
            ("sktid", &signed.tid),
            ("skt", &signed.start),
            ("ske", &signed.expiry),
            ("sks", &signed.service),
            ("skv", &signed.version),
        ]
    }
}

#[derive(Deserialize)]
struct SignedKey {
    #[serde(rename = "SignedOid")]
    oid: String,
    #[serde(rename = "SignedTid")]
    tid: String,
    #[serde(rename = "SignedStart")]
    start: String,
    #[serde(rename = "SignedExpiry")]
    expiry: String,
    #[serde(rename = "SignedService")]
    service: String,
    #[serde(rename = "SignedVersion")]
    version: String,
    #[serde(rename = "Value")]
    value: String,
}

impl SignedKey {
    fn open(mut self) -> Result<DelegationKey, StorageError> {
        let value = Zeroizing::new(std::mem::take(&mut self.value));
        let secret = Zeroizing::new(BASE64_STANDARD.decode(value.as_bytes()).map_err(StorageError::unavailable)?);
        let expires_at = self.expiry.parse().map_err(|error: chrono::ParseError| StorageError::unavailable(error))?;
        Ok(DelegationKey { secret, expires_at, signed: self })
    }
}

impl DelegationKeys {
    pub fn new(service: Url, credentials: AzureCredentialProvider) -> reqwest::Result<Self> {
        let mut endpoint = service;
        endpoint.set_path(&format!("{}/", endpoint.path().trim_end_matches('/')));
        endpoint.set_query(Some("restype=service&comp=userdelegationkey"));
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(8))
            .connect_timeout(Duration::from_secs(3))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { endpoint, credentials, http, held: Mutex::new(None) })
    }

    /// Returns a key that lasts until `ends_at`, or as long as Azure allows.
    pub async fn lasting_until(
        &self,
        ends_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Arc<DelegationKey>, StorageError> {
        let latest = now + LONGEST - SKEW;
        // Held during the request, so that concurrent callers wait for its result.
        let mut held = self.held.lock().await;
        match held.as_ref() {
            Some(key) if key.expires_at >= ends_at.min(latest) => Ok(Arc::clone(key)),
            _ => {
                let key = Arc::new(self.fetch(now - SKEW, ends_at.max(now + LIFE).min(latest)).await?);
                Ok(Arc::clone(held.insert(key)))
            }
        }
    }

    async fn fetch(&self, start: DateTime<Utc>, expiry: DateTime<Utc>) -> Result<DelegationKey, StorageError> {
        let credential = self.credentials.get_credential().await?;
        let AzureCredential::BearerToken(token) = credential.as_ref() else {
            return Err(StorageError::Unsupported { what: "a delegation key needs an identity".to_owned() });
        };
        let [start, expiry] = [start, expiry].map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
        let request = self
            .http
            .post(self.endpoint.clone())
            .bearer_auth(token)
            .header("x-ms-version", VERSION)
            .body(format!("<KeyInfo><Start>{start}</Start><Expiry>{expiry}</Expiry></KeyInfo>"));
        let answer = request.send().await.map_err(StorageError::unavailable)?;
        let status = answer.status();
        let answer = answer.error_for_status().map_err(|error| match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => StorageError::Denied {
                path: "the user-delegation key (it needs the role `Storage Blob Delegator`)".to_owned(),
                source: error.into(),
            },
            _ => StorageError::unavailable(error),
        })?;
        let answer = Zeroizing::new(answer.text().await.map_err(StorageError::unavailable)?);
        quick_xml::de::from_str::<SignedKey>(&answer).map_err(StorageError::unavailable)?.open()
    }
}

#[cfg(test)]
impl DelegationKey {
    /// The key with which the test vectors in [`super::sas`] were signed.
    pub(super) fn of_test_vector() -> Self {
        let signed = SignedKey {
            oid: "11111111-1111-1111-1111-111111111111".to_owned(),
            tid: "22222222-2222-2222-2222-222222222222".to_owned(),
            start: "2026-01-01T00:00:00Z".to_owned(),
            expiry: "2026-01-02T00:00:00Z".to_owned(),
            service: "b".to_owned(),
            version: VERSION.to_owned(),
            value: BASE64_STANDARD.encode("weir-test-vector-delegation-key"),
        };
        signed.open().unwrap()
    }
}
