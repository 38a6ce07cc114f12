//! Treats an answer without a content coding as acceptable to every client.

use axum::extract::Request;
use http::{HeaderValue, header::ACCEPT_ENCODING};

/// Accepts an answer without a content coding with the least weight, so that the client's preferred codings win.
const LEAST: &str = "identity;q=0.001";

/// Ignores a client's exclusion of answers without a content coding (RFC 9110, 12.4.1): when the coding is chosen, the
/// answer is already decided and recorded, and must not be refused.
pub async fn accept_identity(mut request: Request) -> Request {
    let accepted = request.headers().get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let codings: Vec<&str> = accepted.flat_map(|value| value.split(',')).map(str::trim).collect();
    let excludes = |coding: &&str| coding.split_once(';').is_some_and(|(_, weight)| weight.contains(['q', 'Q']));
    if codings.iter().any(excludes) {
        let is_identity =
            |coding: &str| coding.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("identity");
        let others = codings.into_iter().filter(|coding| !(is_identity(coding) && excludes(coding)));
        let value = others.chain([LEAST]).collect::<Vec<_>>().join(", ");
        if let Ok(value) = HeaderValue::from_str(&value) {
            request.headers_mut().insert(ACCEPT_ENCODING, value);
        }
    }
    request
}
