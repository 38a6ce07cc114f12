//! Signs messages to webhooks with the headers and signatures of Standard Webhooks 1.0. Never here: sending.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::Mac;
use zeroize::Zeroizing;

use crate::domain::core::seal::hmac;

/// The prefix of a secret, as receivers' libraries expect it.
const PREFIX: &str = "whsec_";
/// The allowed length of a secret in bytes, from Standard Webhooks.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The signing secret that a receiver shares with this server. Hidden in debug output; wiped when dropped.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl WebhookSecret {
    /// Parses a secret: `whsec_` followed by 24 to 64 bytes in base64.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?);
        BYTES.contains(&bytes.len()).then_some(Self(bytes))
    }

    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let head = format!("{id}.{timestamp}.");
        let mac = hmac(&self.0).chain_update(head.as_bytes()).chain_update(body.as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
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
    fn what_is_no_secret_is_none() {
        for text in ["", "whsec_", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA"] {
            assert!(WebhookSecret::parse(text).is_none(), "{text}");
        }
        let long = format!("whsec_{}", BASE64_STANDARD.encode([0u8; 65]));
        assert!(WebhookSecret::parse(&long).is_none());
    }
}
