//! GCS V4 signatures, verified by OpenSSL over a canonical request built here.

use std::{
    fs,
    path::{Path as FilePath, PathBuf},
    process::Command,
};

use chrono::{TimeDelta, Utc};
use object_store::path::Path;
use sha2::{Digest, Sha256};
use url::Url;

use super::{open, options, settings};

fn openssl(arguments: &[&str]) -> bool {
    Command::new("openssl").args(arguments).output().expect("openssl is installed").status.success()
}

/// A temporary service account, in the format of Google's console.
fn service_account(directory: &FilePath) -> (PathBuf, PathBuf) {
    let (private, public) = (directory.join("key.pem"), directory.join("public.pem"));
    let (private_name, public_name) = (private.to_str().unwrap(), public.to_str().unwrap());
    assert!(openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", private_name]));
    assert!(openssl(&["pkey", "-in", private_name, "-pubout", "-out", public_name]));
    let account = serde_json::json!({
        "type": "service_account",
        "client_email": "weir@test.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": fs::read_to_string(private).unwrap(),
    });
    let file = directory.join("account.json");
    fs::write(&file, account.to_string()).unwrap();
    (file, public)
}

/// Percent-encodes everything but the unreserved characters of RFC 3986, as in a canonical request.
fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[tokio::test]
async fn service_account_signature_is_what_google_verifies() {
    let directory = tempfile::tempdir().unwrap();
    let (account, public) = service_account(directory.path());
    let options = options(&[("google_service_account", account.to_str().unwrap())]);
    let table = open(settings("lake", "gs://lake", options)).locate("gs://lake/t").unwrap();
    assert!(table.can_sign() && table.can_sign_many(50_000) && !table.can_sign_many(50_001));
    let path = table.resolve("x=A%252FA/p%20%C3%B6.parquet").unwrap();
    let url = table.sign(&[path], Utc::now() + TimeDelta::hours(1), Utc::now()).await.unwrap().remove(0);

    let url = Url::parse(&url).unwrap();
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let signature = pairs.pop().filter(|(name, _)| name == "X-Goog-Signature").unwrap().1;
    let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).unwrap().1.clone();
    assert_eq!(value("X-Goog-SignedHeaders"), "host");
    assert!((3598..=3600).contains(&value("X-Goog-Expires").parse::<u64>().unwrap()));
    let resource: Vec<_> = ["lake", "t", "x=A%2FA", "p ö.parquet"].into_iter().map(encode).collect();
    let mut query: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    query.sort();
    let canonical = format!(
        "GET\n/{}\n{}\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD",
        resource.join("/"),
        query.join("&")
    );
    let scope = value("X-Goog-Credential").split_once('/').unwrap().1.to_owned();
    let digest: String = Sha256::digest(&canonical).iter().map(|byte| format!("{byte:02x}")).collect();
    let to_sign = format!("GOOG4-RSA-SHA256\n{}\n{scope}\n{digest}", value("X-Goog-Date"));

    let signature: Vec<u8> = signature
        .as_bytes()
        .chunks(2)
        .map(|hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap())
        .collect();
    let (signed_file, signature_file) = (directory.path().join("signed"), directory.path().join("signature"));
    fs::write(&signed_file, &to_sign).unwrap();
    fs::write(&signature_file, signature).unwrap();
    let [public, signature_file, signed_file] =
        [public, signature_file, signed_file].map(|path| path.to_str().unwrap().to_owned());
    let verify = ["dgst", "-sha256", "-verify", &public, "-signature", &signature_file, &signed_file];
    assert!(openssl(&verify), "the signature does not verify for:\n{canonical}\n{to_sign}");
    fs::write(&signed_file, to_sign.replace("GOOG4", "GOOG5")).unwrap();
    assert!(!openssl(&verify));
}

#[tokio::test]
async fn name_that_a_url_parser_would_walk_up_stays_under_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let (account, _) = service_account(directory.path());
    let options = options(&[("google_service_account", account.to_str().unwrap())]);
    let table = open(settings("lake", "gs://lake", options)).locate("gs://lake/t").unwrap();
    for (written, expected) in [
        ("%252e%252e/secret", "/lake/t/%252e%252e/secret"),
        ("a%3Fgeneration=1", "/lake/t/a%3Fgeneration%3D1"),
        ("a%23b", "/lake/t/a%23b"),
    ] {
        let path = table.resolve(written).unwrap();
        let url = table.sign(&[path], Utc::now() + TimeDelta::hours(1), Utc::now()).await.unwrap().remove(0);
        assert_eq!(Url::parse(&url).unwrap().path(), expected);
    }
}

#[test]
fn credential_without_a_private_key_cannot_sign() {
    let directory = tempfile::tempdir().unwrap();
    let user = directory.path().join("user.json");
    let text = r#"{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}"#;
    fs::write(&user, text).unwrap();
    let user_options = options(&[("google_application_credentials", user.to_str().unwrap())]);
    assert!(!open(settings("lake", "gs://lake", user_options)).locate("gs://lake/t").unwrap().can_sign());
    // The identity from the metadata server, which has no file.
    assert!(!open(settings("lake", "gs://lake", options(&[]))).locate("gs://lake/t").unwrap().can_sign());
}

#[tokio::test]
async fn more_than_signature_version_4_allows_is_cut_to_a_week() {
    let directory = tempfile::tempdir().unwrap();
    let (account, _) = service_account(directory.path());
    let options = options(&[("google_service_account", account.to_str().unwrap())]);
    let table = open(settings("lake", "gs://lake", options)).locate("gs://lake/t").unwrap();
    let urls = table.sign(&[Path::from("t/p")], Utc::now() + TimeDelta::days(30), Utc::now()).await.unwrap();
    assert!(urls[0].contains("X-Goog-Expires=604800"), "{}", urls[0]);
}
