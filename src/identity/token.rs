//! Reads the contents of a JWT: its claims, each named once, and its times.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::Header;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::error::Refused;

/// The header types of tokens that show who calls, if stated (RFC 7519, 5.1; RFC 9068, 2.1). Other tokens of an issuer,
/// such as logout notices, have types of their own and must not be accepted.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// A JWT's claims. A token with a repeated claim is refused, because its signer and its reader may use different
/// values.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;

        impl<'de> Visitor<'de> for Named {
            type Value = Map<String, Value>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut claims = Map::new();
                while let Some(name) = map.next_key::<String>()? {
                    if claims.contains_key(&name) {
                        return Err(A::Error::custom("a claim is named twice"));
                    }
                    claims.insert(name, map.next_value()?);
                }
                Ok(claims)
            }
        }

        deserializer.deserialize_map(Named).map(Self)
    }
}

impl Claims {
    /// Returns the claim's value if it is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Returns the claim's value if it is a text, or the texts in it if it is a list.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flat_map(texts)
    }

    /// Returns each claim with each text that is its value or in its list of values.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(name, value)| texts(value).map(|text| (name.as_str(), text)))
    }

    /// Returns the time in a claim, in seconds since 1970 (RFC 7519, 2, "NumericDate").
    fn time(&self, name: &'static str) -> Result<Option<DateTime<Utc>>, Refused> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        // Fractions are allowed, and cut off.
        let seconds = value.as_i64().or_else(|| value.as_f64().filter(|seconds| seconds.is_finite()).map(|s| s as i64));
        let time = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        time.map(Some).ok_or(Refused::Claim(name))
    }
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    items.iter().filter_map(Value::as_str)
}

/// Refuses a header that requires more than a signature by one of the issuer's keys. Key locations in the header
/// (`jku`, `jwk`, `x5u`, `x5c`) are ignored.
pub fn check_header(header: &Header) -> Result<(), Refused> {
    let kind = header.typ.as_deref().map(str::to_ascii_lowercase);
    let kind = kind.as_deref().map(|kind| kind.strip_prefix("application/").unwrap_or(kind));
    if header.crit.is_some() || kind.is_some_and(|kind| !TYPES.contains(&kind)) {
        return Err(Refused::Header);
    }
    Ok(())
}

/// Returns the token's expiry plus `skew`. Refuses a token that has expired, is not valid yet, or lives for longer than
/// `longest`: since it was issued, or from now on if it does not state when.
pub fn check_times(
    claims: &Claims,
    now: DateTime<Utc>,
    skew: TimeDelta,
    longest: TimeDelta,
) -> Result<DateTime<Utc>, Refused> {
    let expires_at = claims.time("exp")?.ok_or(Refused::Claim("exp"))?;
    let until = expires_at.checked_add_signed(skew).unwrap_or(DateTime::<Utc>::MAX_UTC);
    if until <= now {
        return Err(Refused::Expired);
    }
    for begins in ["nbf", "iat"] {
        if claims.time(begins)?.is_some_and(|at| at > now + skew) {
            return Err(Refused::NotYet);
        }
    }
    let begins = claims.time("iat")?.unwrap_or(now);
    if expires_at.signed_duration_since(begins) > longest {
        return Err(Refused::LivesTooLong);
    }
    Ok(until)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm;
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        serde_json::from_value(value).unwrap()
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_claim_that_is_named_twice_is_none() {
        assert!(serde_json::from_str::<Claims>(r#"{"sub": "a", "aud": "b", "sub": "a"}"#).is_err());
        assert!(serde_json::from_str::<Claims>(r#"{"sub": "a", "s\u0075b": "b"}"#).is_err());
        for body in ["[]", "null", "\"x\"", "1"] {
            assert!(serde_json::from_str::<Claims>(body).is_err());
        }
    }

    #[test]
    fn claims_are_texts_or_lists_of_texts() {
        let claims = claims(json!({"sub": "a", "groups": ["x", 1, "y", ["z"]], "n": 5, "o": {"p": "q"}}));
        assert_eq!(claims.texts("groups").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!((claims.text("groups"), claims.texts("n").count(), claims.texts("none").count()), (None, 0, 0));
        let mut pairs: Vec<_> = claims.pairs().collect();
        pairs.sort_unstable();
        assert_eq!(pairs, [("groups", "x"), ("groups", "y"), ("sub", "a")]);
    }

    #[test]
    fn times_may_differ_by_the_skew_and_no_more() {
        let (skew, longest) = (TimeDelta::seconds(60), TimeDelta::hours(1));
        let check = |value: Value, now| check_times(&claims(value), at(now), skew, longest);
        let base = 1_790_000_000;
        assert_eq!(check(json!({"exp": base}), 59), Ok(at(60)));
        assert_eq!(check(json!({"exp": base}), 60), Err(Refused::Expired));
        assert_eq!(check(json!({"exp": 1_790_000_000.9}), 59), Ok(at(60)));
        for begins in ["nbf", "iat"] {
            assert_eq!(check(json!({"exp": base + 600, begins: base + 60}), 0), Ok(at(660)));
            assert_eq!(check(json!({"exp": base + 600, begins: base + 61}), 0), Err(Refused::NotYet));
            assert_eq!(check(json!({"exp": base + 600, begins: "soon"}), 0), Err(Refused::Claim(begins)));
        }
        for missing in [json!({}), json!({"exp": null}), json!({"exp": "1790000600"}), json!({"exp": 1e300})] {
            assert_eq!(check(missing, 0), Err(Refused::Claim("exp")));
        }
    }

    #[test]
    fn a_token_lives_no_longer_than_is_allowed_wherever_in_its_life_it_is_shown() {
        let longest = TimeDelta::hours(1);
        let check = |value: Value, now| check_times(&claims(value), at(now), TimeDelta::seconds(60), longest);
        let base = 1_790_000_000;
        for now in [0, 1_800, 3_599] {
            assert_eq!(check(json!({"iat": base, "exp": base + 3_600}), now), Ok(at(3_660)));
            assert_eq!(check(json!({"iat": base, "exp": base + 3_601}), now), Err(Refused::LivesTooLong));
        }
        assert_eq!(check(json!({"exp": base + 3_600}), 0), Ok(at(3_660)));
        for claims in
            [json!({"exp": base + 3_601}), json!({"exp": 8_000_000_000_000_i64}), json!({"iat": 0, "exp": base})]
        {
            assert_eq!(check(claims, 0), Err(Refused::LivesTooLong));
        }
    }

    #[test]
    fn headers_that_ask_for_more_are_refused() {
        let header = |typ: Option<&str>| Header { typ: typ.map(str::to_owned), ..Header::new(Algorithm::RS256) };
        for typ in [None, Some("JWT"), Some("at+jwt"), Some("application/at+JWT")] {
            assert_eq!(check_header(&header(typ)), Ok(()), "{typ:?}");
        }
        assert_eq!(check_header(&header(Some("logout+jwt"))), Err(Refused::Header));
        let critical = Header { crit: Some(vec!["b64".into()]), ..header(None) };
        assert_eq!(check_header(&critical), Err(Refused::Header));
    }
}
