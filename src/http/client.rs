//! The sender of a request, from its headers and the middleware's findings; read in one way for every face.

use std::net::IpAddr;

use http::{Extensions, HeaderMap, header};

use crate::service::core::places::Place;

use super::middleware::{ClientAddress, RequestId};

/// The longest credential that is accepted, in bytes.
const MAX_CREDENTIAL: usize = 16 * 1024;
/// How much of a user agent is stored, in characters.
const KEPT_USER_AGENT: usize = 512;

/// Returns the token of `Authorization: Bearer …` (RFC 6750, 2.1; the scheme's case does not matter, RFC 9110, 11.1).
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok().filter(|value| value.len() <= MAX_CREDENTIAL)?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns the client's `User-Agent`, cut to the stored length.
pub fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok())?;
    Some(text.chars().take(KEPT_USER_AGENT).collect())
}

/// Returns the address that the request came from.
pub fn address(extensions: &Extensions) -> IpAddr {
    extensions.get::<ClientAddress>().map_or(IpAddr::from([127, 0, 0, 1]), |address| address.0)
}

/// Returns the request's place among the running ones.
pub fn place(extensions: &Extensions) -> Place {
    extensions.get::<Place>().cloned().unwrap_or_default()
}

/// Returns the request's id; empty if no layer assigned one.
pub fn request_id(extensions: &Extensions) -> String {
    extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn token(value: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())]);
        bearer_token(&headers).map(str::to_owned)
    }

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        for value in ["Bearer abc", "bearer abc", "BEARER   abc "] {
            assert_eq!(token(value).as_deref(), Some("abc"), "{value}");
        }
        let long = format!("Bearer {}", "x".repeat(MAX_CREDENTIAL));
        for value in ["", "Bearer", "Basic abc", "abc", "Bearerabc", &long] {
            assert_eq!(token(value), None, "{value}");
        }
        assert_eq!(bearer_token(&HeaderMap::new()), None);
    }
}
