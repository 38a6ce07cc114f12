//! Takes an answer as it is for acceptable, whatever a client says of content codings.

use axum::extract::Request;
use http::{HeaderValue, header::ACCEPT_ENCODING};

/// The weight of an answer as it is beside codings that the client would rather have.
const LEAST: &str = "identity;q=0.001";

/// Disregards that a client excludes an answer without a content coding (RFC 9110, 12.4.1): what is decided and recorded
/// by the time a coding is chosen is not refused after all.
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
