//! Files served through the server: sealed URLs, byte ranges, streaming.
//!
//! Never here: whether a URL is still valid.

use std::io;

use axum::{
    body::Bytes,
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::service::{Services, core::error::ServiceError, sharing::files::Delivery};

use super::{
    client, fault,
    sharing::{self, caller},
    stalls::{Source, watched},
};

impl Source for Delivery {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        Some(self.next_chunk().await?.map_err(io::Error::other))
    }

    async fn look_again(&mut self) -> Result<(), ServiceError> {
        Delivery::look_again(self).await
    }
}

/// The requested part of a file: all, a range, or a range that cannot be satisfied (RFC 9110, 14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// First and last byte, inclusive.
    Bytes(u64, u64),
    Unsatisfiable,
}

/// The reason codes of requests that are allowed but cannot be answered.
const RANGE_NOT_SATISFIABLE: &str = "RANGE_NOT_SATISFIABLE";
const METHOD_NOT_ALLOWED: &str = "METHOD_NOT_ALLOWED";

/// Refuses and records another method on a sealed URL.
pub async fn refuse_method(
    State(service): State<Services>,
    sealed: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let caller = caller(&parts, client::request_id(&parts.extensions));
    let sealed = sealed.map_or_else(|_| String::new(), |Path(sealed)| sealed);
    let message = fault::message_of(StatusCode::METHOD_NOT_ALLOWED);
    let refused = match service.sharing.open_file(&caller, &sealed).await {
        Ok(file) => service.sharing.refuse_file(file, METHOD_NOT_ALLOWED, message).await,
        Err(error) => error,
    };
    match refused {
        ServiceError::Parameter(_) => {
            sharing::Error::status(StatusCode::METHOD_NOT_ALLOWED, message, &caller.request_id).into_response()
        }
        error => sharing::Error::new(error, &caller.request_id).into_response(),
    }
}

/// Answers `GET` and `HEAD` of a sealed URL.
pub async fn get_file(
    State(service): State<Services>,
    sealed: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let request_id = client::request_id(&parts.extensions);
    let caller = caller(&parts, request_id.clone());
    let fail = |error| sharing::Error::new(error, &request_id).into_response();
    // A URL that is not UTF-8 was never issued; the empty text stands for it, which was never issued either.
    let sealed = sealed.map_or_else(|_| String::new(), |Path(sealed)| sealed);
    let file = match service.sharing.open_file(&caller, &sealed).await {
        Ok(file) => file,
        Err(error) => return fail(error),
    };
    let size = file.object.size();
    let etag = file.etag.as_ref().and_then(|etag| HeaderValue::from_str(etag).ok());
    let part = wanted(&parts.headers, size, etag.as_ref());
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(etag) = etag {
        headers.insert(header::ETAG, etag);
    }
    let (status, range) = match part {
        Part::Unsatisfiable => {
            let message = "no byte of the file lies in the range; ask for bytes below its size";
            let refused = service.sharing.refuse_file(file, RANGE_NOT_SATISFIABLE, message).await;
            if !matches!(refused, ServiceError::Parameter(_)) {
                return fail(refused);
            }
            let error = sharing::Error::status(StatusCode::RANGE_NOT_SATISFIABLE, message, &request_id);
            let mut response = error.into_response();
            response.headers_mut().extend(content_range(&format!("bytes */{size}")));
            return response;
        }
        Part::Whole => (StatusCode::OK, 0..size),
        Part::Bytes(first, last) => {
            headers.extend(content_range(&format!("bytes {first}-{last}/{size}")));
            (StatusCode::PARTIAL_CONTENT, first..last + 1)
        }
    };
    let length = range.end - range.start;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if parts.method == Method::HEAD {
        return match service.sharing.describe(file).await {
            Ok(()) => (status, headers).into_response(),
            Err(error) => fail(error),
        };
    }
    match service.sharing.deliver(file, range).await {
        Ok(delivery) => (status, headers, watched(delivery, service.sharing.settings.stalled())).into_response(),
        Err(error) => fail(error),
    }
}

fn content_range(value: &str) -> Option<(http::HeaderName, HeaderValue)> {
    HeaderValue::from_str(value).ok().map(|value| (header::CONTENT_RANGE, value))
}

/// Which part is asked for. A range of another version (`If-Range`), of another unit, of several parts or that is no
/// range at all is ignored, as RFC 9110 allows.
fn wanted(headers: &HeaderMap, size: u64, etag: Option<&HeaderValue>) -> Part {
    let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else { return Part::Whole };
    if headers.get(header::IF_RANGE).is_some_and(|validator| Some(validator) != etag) {
        return Part::Whole;
    }
    let Some((unit, spec)) = range.split_once('=') else { return Part::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Part::Whole;
    }
    match (first.trim(), last.trim()) {
        ("", suffix) => match suffix.parse::<u64>() {
            Ok(0) => Part::Unsatisfiable,
            Ok(_) if size == 0 => Part::Unsatisfiable,
            Ok(length) => Part::Bytes(size.saturating_sub(length), size - 1),
            Err(_) => Part::Whole,
        },
        (first, last) => match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), _) if first >= size => Part::Unsatisfiable,
            (Ok(first), Ok(last)) if last < first => Part::Whole,
            (Ok(first), Ok(last)) => Part::Bytes(first, last.min(size - 1)),
            (Ok(first), Err(_)) if last.is_empty() => Part::Bytes(first, size - 1),
            _ => Part::Whole,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &str, size: u64) -> Part {
        let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_str(range).unwrap())]);
        wanted(&headers, size, None)
    }

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        assert_eq!(part("bytes=0-3", 10), Part::Bytes(0, 3));
        assert_eq!(part("bytes=4-", 10), Part::Bytes(4, 9));
        assert_eq!(part("bytes=-4", 10), Part::Bytes(6, 9));
        assert_eq!(part("bytes=-40", 10), Part::Bytes(0, 9));
        assert_eq!(part("bytes=8-99", 10), Part::Bytes(8, 9));
        for unsatisfiable in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(part(unsatisfiable, 10), Part::Unsatisfiable, "{unsatisfiable}");
        }
        assert_eq!(part("bytes=-1", 0), Part::Unsatisfiable);
        for ignored in
            ["bytes=3-1", "bytes=a-b", "bytes=0-1,3-4", "rows=0-1", "bytes", "bytes=-", "bytes=0-18446744073709551616"]
        {
            assert_eq!(part(ignored, 10), Part::Whole, "{ignored}");
        }
    }
}
