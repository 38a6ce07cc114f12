//! Signs GET URLs for one bucket (AWS Signature Version 4, query parameters), and computes the parts common to many
//! URLs only once.
//!
//! object_store signs the same URLs, but one at a time, with all steps and a new look at the clock for each; a test
//! compares the two. Never here: the choice of the credential, and the lifetime of a URL.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use hmac::{Hmac, Mac};
use http::Method;
use object_store::{
    StaticCredentialProvider,
    aws::{AmazonS3Builder, AwsCredential},
    path::Path,
    signer::Signer,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use url::{Position, form_urlencoded::byte_serialize};

use crate::domain::core::seal::{hex, hex_digits, hmac};

/// The characters that Signature Version 4 percent-encodes in a canonical query.
const STRICT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for a canonical path.
const STRICT_PATH: AsciiSet = STRICT.remove(b'/');

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The object name in the URL from which a bucket's address is learned.
const PROBE: &str = "probe";

/// The address of a bucket's objects in URLs.
#[derive(Clone, Debug)]
pub(super) struct Presigner {
    /// Everything before the path.
    origin: String,
    host: String,
    /// The prefix of all paths.
    root: String,
    region: String,
    requester_pays: bool,
}

impl Presigner {
    /// Learns a bucket's address from a URL that object_store signs for it with a dummy key, so that each option has
    /// the same effect on requests and URLs. `None` if object_store cannot sign such a URL.
    pub(super) fn learn(builder: &AmazonS3Builder) -> Option<Self> {
        let key = AwsCredential { key_id: PROBE.to_owned(), secret_key: PROBE.to_owned(), token: None };
        let store = builder.clone().with_credentials(Arc::new(StaticCredentialProvider::new(key)));
        let store = store.build().ok()?;
        let probe = Path::from(PROBE);
        let url = store.signed_url(Method::GET, &probe, Duration::from_secs(1)).now_or_never()?.ok()?;
        let value = |name: &str| url.query_pairs().find(|(own, _)| own == name).map(|(_, value)| value.into_owned());
        Some(Self {
            origin: url[..Position::AfterPort].to_owned(),
            host: url[Position::BeforeHost..Position::AfterPort].to_owned(),
            root: url.path().strip_suffix(PROBE)?.to_owned(),
            region: value("X-Amz-Credential")?.split('/').nth(2)?.to_owned(),
            requester_pays: value("x-amz-request-payer").is_some(),
        })
    }

    /// Prepares signatures by `credential` at `date`, valid for `seconds`.
    pub(super) fn at(&self, credential: &AwsCredential, date: DateTime<Utc>, seconds: u64) -> Presigning<'_> {
        let (day, date) = (date.format("%Y%m%d").to_string(), date.format("%Y%m%dT%H%M%SZ").to_string());
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let mut parameters = vec![
            ("X-Amz-Algorithm", ALGORITHM.to_owned()),
            ("X-Amz-Credential", format!("{}/{scope}", credential.key_id)),
            ("X-Amz-Date", date.clone()),
            ("X-Amz-Expires", seconds.to_string()),
            ("X-Amz-SignedHeaders", "host".to_owned()),
        ];
        if self.requester_pays {
            parameters.push(("x-amz-request-payer", "requester".to_owned()));
        }
        if let Some(token) = &credential.token {
            parameters.push(("X-Amz-Security-Token", token.clone()));
        }
        let joined = |mut pairs: Vec<String>| {
            pairs.iter_mut().skip(1).for_each(|pair| pair.insert(0, '&'));
            pairs.concat()
        };
        let query = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let query = joined(query.collect());
        parameters.sort_unstable();
        let canonical =
            parameters.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, &STRICT)));
        let canonical = joined(canonical.collect());

        let chain = [day.as_str(), &self.region, "s3", "aws4_request"];
        let first = format!("AWS4{}", credential.secret_key).into_bytes();
        let key = chain
            .iter()
            .fold(first, |key, part| hmac(&key).chain_update(part.as_bytes()).finalize().into_bytes().to_vec());
        Presigning {
            place: self,
            query,
            canonical_end: format!("\n{canonical}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", self.host),
            signature: hmac(&key).chain_update(format!("{ALGORITHM}\n{date}\n{scope}\n").as_bytes()),
        }
    }
}

/// Encodes a value for a URL's query.
fn encoded(value: &str) -> String {
    byte_serialize(value.as_bytes()).collect()
}

/// The common parts of URLs signed at the same time.
pub(super) struct Presigning<'a> {
    place: &'a Presigner,
    query: String,
    /// The part of the canonical request after the path.
    canonical_end: String,
    /// The signature's state before the part that depends on the path.
    signature: Hmac<Sha256>,
}

impl Presigning<'_> {
    /// Returns the signed URL of the object at `path`.
    pub(super) fn sign(&self, path: &Path) -> String {
        const SIGNATURE: &str = "&X-Amz-Signature=";
        let place = self.place;
        let length = place.origin.len() + place.root.len() + path.as_ref().len() + self.query.len();
        let mut url = String::with_capacity(length + SIGNATURE.len() + 64 + 16);
        url.push_str(&place.origin);
        url.push_str(&place.root);
        url.extend(utf8_percent_encode(path.as_ref(), &STRICT_PATH));
        let request = Sha256::new_with_prefix(b"GET\n")
            .chain_update(&url.as_bytes()[place.origin.len()..])
            .chain_update(self.canonical_end.as_bytes())
            .finalize();
        url.push('?');
        url.push_str(&self.query);
        url.push_str(SIGNATURE);
        let signature = self.signature.clone().chain_update(hex(&request).as_bytes()).finalize().into_bytes();
        url.extend(hex_digits(&signature).map(char::from));
        url
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDateTime;
    use object_store::aws::AmazonS3;
    use proptest::prelude::*;

    use super::*;

    fn builders() -> Vec<AmazonS3Builder> {
        let plain = || AmazonS3Builder::new().with_bucket_name("lake").with_region("eu-central-1");
        vec![
            plain(),
            plain().with_virtual_hosted_style_request(true),
            plain().with_endpoint("http://127.0.0.1:9000").with_allow_http(true),
            plain().with_endpoint("https://lake.example.com:8443/").with_virtual_hosted_style_request(true),
            plain().with_request_payer(true),
            plain().with_bucket_name("a.b-c"),
        ]
    }

    fn keys() -> Vec<AwsCredential> {
        let key = |key_id: &str, token: Option<&str>| AwsCredential {
            key_id: key_id.to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            token: token.map(str::to_owned),
        };
        vec![key("AKIDEXAMPLE", None), key("ASIA*~ 1", Some("FwoGZXIvYXdzE/+=~* ä"))]
    }

    fn check(builder: &AmazonS3Builder, key: &AwsCredential, path: &Path, seconds: u64) {
        let provider = |key: &AwsCredential| {
            let AwsCredential { key_id, secret_key, token } = key;
            AwsCredential { key_id: key_id.clone(), secret_key: secret_key.clone(), token: token.clone() }
        };
        let store: AmazonS3 =
            builder.clone().with_credentials(Arc::new(StaticCredentialProvider::new(provider(key)))).build().unwrap();
        let theirs = store.signed_url(Method::GET, path, Duration::from_secs(seconds)).now_or_never().unwrap().unwrap();
        let date = theirs.query_pairs().find(|(name, _)| name == "X-Amz-Date").unwrap().1.into_owned();
        let date = NaiveDateTime::parse_from_str(&date, "%Y%m%dT%H%M%SZ").unwrap().and_utc();
        let ours = Presigner::learn(builder).unwrap().at(key, date, seconds).sign(path);
        assert_eq!(ours, theirs.as_str());
    }

    proptest! {
        #[test]
        fn urls_are_those_of_object_store(
            path in proptest::collection::vec("[ -~äß€😀]{1,12}", 1..5), seconds in 1u64..604_800, which in 0usize..12,
        ) {
            let path = path.iter().map(|part| part.replace('/', "_")).collect::<Vec<_>>();
            let path = Path::from_iter(path);
            let (builders, keys) = (builders(), keys());
            check(&builders[which % builders.len()], &keys[which / builders.len()], &path, seconds);
        }
    }

    #[test]
    fn every_option_and_key_signs_as_object_store_does() {
        for builder in builders() {
            for key in keys() {
                for path in ["t/part-0.parquet", "a=1%2F2/x y.parquet", "größe/100%/~_-.parquet", "a+b/c&d=e"] {
                    check(&builder, &key, &Path::parse(path).unwrap(), 3600);
                }
            }
        }
    }
}
