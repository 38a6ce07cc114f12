//! Parses an issuer's public keys (RFC 7517), and determines the algorithms for each.

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// The most keys of one issuer that are used.
const MOST_KEYS: usize = 100;

/// A key that verifies signatures.
#[derive(Clone, Debug)]
pub struct Key {
    id: Option<String>,
    /// The algorithms that the key may verify: those of its type, restricted to the issuer's choice if stated.
    pub algorithms: Vec<Algorithm>,
    /// The key itself.
    pub decoding: DecodingKey,
}

/// The keys of one issuer.
#[derive(Clone, Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Parses a key set. Keys of unsupported kinds, above all secret ones, are left out; an empty result is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| format!("its keys are no key set: {error}"))?;
        let keys: Vec<Key> = document.keys.into_iter().take(MOST_KEYS).filter_map(key).collect();
        if keys.is_empty() {
            return Err("it publishes no key that verifies signatures".to_owned());
        }
        Ok(Self(keys))
    }

    /// Returns the key with this id; without an id, the only key.
    pub fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (id, &self.0[..]) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let may_verify = match (&jwk.common.public_key_use, &jwk.common.key_operations) {
        (Some(PublicKeyUse::Signature), _) | (None, None) => true,
        (Some(_), _) => false,
        (None, Some(operations)) => operations.contains(&KeyOperations::Verify),
    };
    let mut algorithms = family(&jwk.algorithm)?;
    if let Some(named) = jwk.common.key_algorithm {
        algorithms.retain(|algorithm| KeyAlgorithm::from(*algorithm) == named);
    }
    if !may_verify || algorithms.is_empty() {
        return None;
    }
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { id: jwk.common.key_id, algorithms, decoding })
}

/// Returns the algorithms for the type of a key. A secret shared with the issuer proves nothing, so it has none.
fn family(parameters: &AlgorithmParameters) -> Option<Vec<Algorithm>> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    Some(match parameters {
        AlgorithmParameters::RSA(_) => vec![RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => vec![ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => vec![ES384],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => vec![EdDSA],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn algorithms(key: Value) -> Option<Vec<Algorithm>> {
        let set = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).ok()?;
        set.find(Some("k")).map(|key| key.algorithms.clone())
    }

    fn rsa(more: Value) -> Value {
        let mut key = json!({"kty": "RSA", "kid": "k", "n": "sXch", "e": "AQAB"});
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    }

    #[test]
    fn a_key_says_what_it_is_good_for() {
        assert_eq!(algorithms(rsa(json!({}))).unwrap().len(), 6);
        assert_eq!(algorithms(rsa(json!({"alg": "PS256", "use": "sig"}))), Some(vec![Algorithm::PS256]));
        let curve = |curve| json!({"kty": "EC", "kid": "k", "crv": curve, "x": "AA", "y": "AA"});
        assert_eq!(algorithms(curve("P-256")), Some(vec![Algorithm::ES256]));
        assert_eq!(algorithms(curve("P-384")), Some(vec![Algorithm::ES384]));
        let edwards = json!({"kty": "OKP", "kid": "k", "crv": "Ed25519", "x": "AA", "key_ops": ["verify"]});
        assert_eq!(algorithms(edwards), Some(vec![Algorithm::EdDSA]));
    }

    #[test]
    fn what_verifies_nothing_or_is_a_secret_is_left_out() {
        for key in [
            json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0", "alg": "HS256"}),
            rsa(json!({"alg": "HS256"})),
            rsa(json!({"alg": "none"})),
            rsa(json!({"use": "enc"})),
            rsa(json!({"key_ops": ["encrypt"]})),
            rsa(json!({"alg": "ES256"})),
            json!({"kty": "EC", "kid": "k", "crv": "P-521", "x": "AA", "y": "AA"}),
            json!({"kty": "EC", "kid": "k", "crv": "secp256k1", "x": "AA", "y": "AA"}),
            json!({"kty": "new"}),
            json!("key"),
        ] {
            assert_eq!(algorithms(key.clone()), None, "{key}");
        }
        for rubbish in ["", "[]", "{}", "{\"keys\": 5}", "<html>"] {
            assert!(KeySet::parse(rubbish.as_bytes()).is_err(), "{rubbish}");
        }
    }

    #[test]
    fn a_token_without_a_key_id_may_mean_the_only_key() {
        let other = json!({"kty": "RSA", "kid": "other", "n": "sXch", "e": "AQAB"});
        let set = |keys: &[Value]| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        assert!(set(&[rsa(json!({}))]).find(None).is_some());
        let two = set(&[rsa(json!({})), other]);
        assert!(two.find(None).is_none() && two.find(Some("k")).is_some() && two.find(Some("x")).is_none());
    }
}
