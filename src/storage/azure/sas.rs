//! Builds shared access signatures for reading one blob.
//!
//! See Azure Storage REST, "Create a service SAS" and "Create a user delegation SAS". Both sign the blob's raw name,
//! not its form in URLs. No start time is stated, so a service whose clock is behind accepts the URL at once.

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use url::form_urlencoded::Serializer;

use super::delegation::DelegationKey;
use crate::storage::StorageError;

/// The version that defines the string to sign.
pub(super) const VERSION: &str = "2022-11-02";

/// The contents of one signature.
pub(super) struct Sas<'a> {
    /// `/blob/{account}/{container}/{blob}`, without percent-encoding.
    pub resource: &'a str,
    pub ends_at: DateTime<Utc>,
    pub https_only: bool,
    /// The user-delegation key that signs; without one, the account's own key signs.
    pub delegation: Option<&'a DelegationKey>,
}

impl Sas<'_> {
    /// Returns the query string for reading the blob, signed with `key`.
    pub fn query(&self, key: &[u8]) -> Result<String, StorageError> {
        let expiry = self.ends_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let protocol = if self.https_only { "https" } else { "" };
        let delegation = self.delegation.map(DelegationKey::signed_fields);

        let mut fields = vec!["r", "", &expiry, self.resource];
        match &delegation {
            // Before the address come the authorised and unauthorised user and the correlation id.
            Some(signed) => fields.extend(signed.iter().map(|(_, value)| *value).chain(["", "", ""])),
            // Before the address comes the stored access policy.
            None => fields.push(""),
        }
        // Address, protocol, version, resource kind, snapshot, encryption scope, and five response headers.
        fields.extend(["", protocol, VERSION, "b", "", "", "", "", "", "", ""]);

        let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(StorageError::unavailable)?;
        mac.update(fields.join("\n").as_bytes());
        let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());

        let mut query = Serializer::new(String::new());
        query.append_pair("sv", VERSION);
        if self.https_only {
            query.append_pair("spr", protocol);
        }
        query.append_pair("se", &expiry).append_pair("sr", "b").append_pair("sp", "r");
        query.extend_pairs(delegation.iter().flatten());
        Ok(query.append_pair("sig", &signature).finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signatures by the JavaScript SDK (`@azure/storage-blob` 12.32.0, `generateBlobSASQueryParameters`) for the
    /// same blob, expiry and keys.
    const BY_ACCOUNT: &str = "g7IKQX0GxT0CJmDD2o6FfskIJUvh4kkxET6VU+eCUl0=";
    const BY_DELEGATION: &str = "rYh/DHnROHJETuTZt9VIBLGI11lSupGcUB/p9LxoGnk=";

    fn parameter(query: &str, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
    }

    fn sas(delegation: Option<&DelegationKey>) -> Sas<'_> {
        let resource = "/blob/acct/lake/t/x=A%2FA/p ö.parquet";
        Sas { resource, ends_at: "2026-01-01T01:00:00Z".parse().unwrap(), https_only: true, delegation }
    }

    #[test]
    fn account_key_signs_as_the_sdk_does() {
        let query = sas(None).query(b"weir-test-vector-account-key-0001").unwrap();
        assert_eq!(parameter(&query, "sig").unwrap(), BY_ACCOUNT);
        assert_eq!(parameter(&query, "sp").unwrap(), "r");
    }

    #[test]
    fn delegation_key_signs_as_the_sdk_does() {
        let key = DelegationKey::of_test_vector();
        let query = sas(Some(&key)).query(&key.secret).unwrap();
        assert_eq!(parameter(&query, "sig").unwrap(), BY_DELEGATION);
        assert_eq!(parameter(&query, "ske").unwrap(), "2026-01-02T00:00:00Z");
    }
}
