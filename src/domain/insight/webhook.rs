//! Signs messages to webhooks, and verifies messages to this server's hooks, with the headers and signatures of Standard
//! Webhooks 1.0. Never here: sending, or what a message says.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::core::seal::hmac;

/// The prefix of a secret, as receivers' libraries expect it.
const PREFIX: &str = "whsec_";
/// The allowed length of a secret in bytes, from Standard Webhooks.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The version of the signatures, before each.
const VERSION: &str = "v1,";
/// The most signatures of one message that are looked at.
const MOST_SIGNATURES: usize = 16;

/// The signing secret that another system shares with this server. Hidden in debug output; wiped when dropped.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl WebhookSecret {
    /// Parses a secret: `whsec_` followed by 24 to 64 bytes in base64.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?);
        BYTES.contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The code of a message, before it is signed with it or compared.
    fn mac(&self, id: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
        let head = format!("{id}.{timestamp}.");
        hmac(&self.0).chain_update(head.as_bytes()).chain_update(body)
    }

    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mac = self.mac(id, timestamp, body.as_bytes());
        format!("{VERSION}{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// Whether one of these signatures is this secret's; compares in constant time.
    fn has_signed(&self, id: &str, timestamp: i64, body: &[u8], signatures: &[Vec<u8>]) -> bool {
        signatures.iter().any(|signature| self.mac(id, timestamp, body).verify_slice(signature).is_ok())
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(***)")
    }
}

/// Writes the value of `webhook-signature` for the message `id`, sent at `timestamp` (seconds since 1970): one
/// signature per secret, so that a receiver with either secret can verify while they are rotated.
pub fn signatures(secrets: &[WebhookSecret], id: &str, timestamp: i64, body: &str) -> String {
    secrets.iter().map(|secret| secret.sign(id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

/// Whether a message was signed with one of `secrets`: `presented` is its `webhook-signature`, which may hold several
/// signatures, separated by spaces; those of other versions are left out.
pub fn is_signed(secrets: &[WebhookSecret], id: &str, timestamp: i64, body: &[u8], presented: &str) -> bool {
    let signatures = presented.split_ascii_whitespace().filter_map(|signature| signature.strip_prefix(VERSION));
    let signatures = signatures.take(MOST_SIGNATURES).filter_map(|text| BASE64_STANDARD.decode(text).ok());
    let signatures: Vec<Vec<u8>> = signatures.collect();
    secrets.iter().any(|secret| secret.has_signed(id, timestamp, body, &signatures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        // The example of the Standard Webhooks libraries.
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signatures(&[secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_secret_signs() {
        let secrets = [[1u8; 24], [2; 24]]
            .map(|bytes| WebhookSecret::parse(&format!("whsec_{}", BASE64_STANDARD.encode(bytes))).unwrap());
        let both = signatures(&secrets, "a", 1, "{}");
        let (one, two) = both.split_once(' ').unwrap();
        assert_eq!(one, signatures(&secrets[..1], "a", 1, "{}"));
        assert_eq!(two, signatures(&secrets[1..], "a", 1, "{}"));
        assert_ne!(one, two);
    }

    #[test]
    fn a_message_is_signed_if_one_of_its_signatures_is_of_one_of_the_secrets() {
        let secrets = [[1u8; 24], [2; 24], [3; 24]]
            .map(|bytes| WebhookSecret::parse(&format!("whsec_{}", BASE64_STANDARD.encode(bytes))).unwrap());
        let (known, foreign) = secrets.split_at(2);
        let is_signed = |presented: &str| is_signed(known, "a", 1, b"{}", presented);
        let of = |secrets: &[WebhookSecret]| signatures(secrets, "a", 1, "{}");
        for presented in [of(&known[..1]), of(&known[1..]), of(&secrets), format!("v1a,x {}  ", of(known))] {
            assert!(is_signed(&presented), "{presented}");
        }
        let own = of(&known[..1]);
        let code = own.trim_start_matches("v1,");
        let many = format!("{} {own}", vec!["v1,AAAA"; MOST_SIGNATURES].join(" "));
        for presented in ["", "v1,", "v1,!", code, &format!("v2,{code}"), &own[..own.len() - 4], &of(foreign), &many] {
            assert!(!is_signed(presented), "{presented}");
        }
        for (id, timestamp, body) in [("b", 1, "{}"), ("a", 2, "{}"), ("a", 1, "{ }")] {
            assert!(!super::is_signed(known, id, timestamp, body.as_bytes(), &own));
        }
        assert!(!super::is_signed(&[], "a", 1, b"{}", &own));
    }

    #[test]
    fn what_is_no_secret_is_none() {
        for text in ["", "whsec_", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA"] {
            assert!(WebhookSecret::parse(text).is_none(), "{text}");
        }
        let long = format!("whsec_{}", BASE64_STANDARD.encode([0u8; 65]));
        assert!(WebhookSecret::parse(&long).is_none());
    }
}
