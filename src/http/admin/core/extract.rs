//! Extractors that reject with a [`Problem`], and report all errors at once.

use std::marker::PhantomData;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request, path::ErrorKind, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Method, Uri, header, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::form_urlencoded;

use crate::{
    domain::core::spec::{Spec, check_names},
    http::body::{self, BodyFault},
    service::core::{change::Named, context::IdempotencyKey, precondition::Precondition},
};

use super::{
    auth::DRY_RUN,
    problem::{FieldProblem, Problem, ProblemCode},
};

/// The most problems of one body that are reported.
const MAX_PROBLEMS: usize = 20;
/// The header that makes a repeated creation answer with the result of the first.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest key, in characters.
const MAX_IDEMPOTENCY_KEY_CHARACTERS: usize = 255;

/// A JSON object as the request's body; the type refuses unknown fields.
#[derive(Debug)]
pub struct AdminJson<T>(pub T);

/// The fields of a spec that the body names. Unknown fields are refused here; the use case checks the rest.
#[derive(Debug)]
pub struct AdminFields<S> {
    /// As they were sent.
    pub named: Named,
    spec: PhantomData<S>,
}

/// A JSON object as the body of a request that creates something, with its `Idempotency-Key`.
#[derive(Debug)]
pub struct CreatingJson<T> {
    /// The body.
    pub body: T,
    /// The key, if one was sent.
    pub idempotency: Option<IdempotencyKey>,
}

/// The request's query parameters; the type refuses unknown ones.
#[derive(Debug)]
pub struct AdminQuery<T>(pub T);

/// The path's parameters.
#[derive(Debug)]
pub struct AdminPath<T>(pub T);

/// The `If-Match` condition, if one was sent.
#[derive(Debug)]
pub struct IfMatch(pub Option<Precondition>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for AdminJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        parse_object(&read(request).await?).map(Self)
    }
}

impl<S: Send + Sync, T: Spec> FromRequest<S> for AdminFields<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let named: Named = parse_object(&read(request).await?)?;
        check_names::<T>(&named).map_err(|errors| Problem::invalid(errors.into_iter().map(Into::into).collect()))?;
        Ok(Self { named, spec: PhantomData })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for CreatingJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let key = request.headers().get(IDEMPOTENCY_KEY).cloned();
        let route = format!("{} {}", request.method(), request.uri().path());
        let bytes = read(request).await?;
        let body = parse_object(&bytes)?;
        let idempotency = match key {
            None => None,
            Some(key) => Some(IdempotencyKey::new(idempotency_key(&key)?, &route, &bytes)),
        };
        Ok(Self { body, idempotency })
    }
}

fn idempotency_key(value: &HeaderValue) -> Result<&str, Problem> {
    let key = value.to_str().ok().filter(|key| (1..=MAX_IDEMPOTENCY_KEY_CHARACTERS).contains(&key.len()));
    key.ok_or_else(|| {
        let detail = format!(
            "`Idempotency-Key` must be 1 to {MAX_IDEMPOTENCY_KEY_CHARACTERS} visible ASCII characters, such as a UUID"
        );
        Problem::new(ProblemCode::InvalidParameter, detail)
    })
}

async fn read(request: Request) -> Result<Bytes, Problem> {
    check_content_type(request.method(), request.headers())?;
    body::read(request).await.map_err(|fault| match fault {
        BodyFault::TooLarge => {
            Problem::new(ProblemCode::BodyTooLarge, "the body is larger than this server reads; send less")
        }
        BodyFault::TooSlow => {
            Problem::new(ProblemCode::BodyTooSlow, "the body did not arrive in time; send it at once")
        }
        BodyFault::Broken => Problem::new(ProblemCode::MalformedBody, "the body ended early; send it again"),
    })
}

fn check_content_type(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = named.split(';').next().unwrap_or_default().trim();
    let accepted = media_type.eq_ignore_ascii_case("application/json")
        || (method == Method::PATCH && media_type.eq_ignore_ascii_case("application/merge-patch+json"));
    if accepted {
        return Ok(());
    }
    let detail = if method == Method::PATCH {
        "send the body as `application/merge-patch+json` or `application/json`"
    } else {
        "send the body as `application/json`"
    };
    Err(Problem::new(ProblemCode::UnsupportedMediaType, detail))
}

/// Parses a JSON object as `T`. Notes and removes each member that cannot be accepted, so that further errors are
/// found.
fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let malformed = |detail: String| Problem::new(ProblemCode::MalformedBody, detail);
    let mut members = match serde_json::from_slice(bytes) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return Err(malformed("the body is no JSON object; send `{…}`".into())),
        Err(_) if bytes.is_empty() => {
            return Err(malformed("the body is empty; send a JSON object, `{}` if there is nothing to say".into()));
        }
        Err(error) => return Err(malformed(format!("the body is no JSON: {error}"))),
    };
    let (mut problems, mut taken_out) = (Vec::new(), Vec::new());
    while problems.len() < MAX_PROBLEMS {
        let error = match serde_path_to_error::deserialize::<_, T>(Value::Object(members.clone())) {
            Ok(value) if problems.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(error) => error,
        };
        let message = error.inner().to_string();
        let field = match error.path().to_string() {
            path if path != "." => path,
            // Only the message names a missing or unknown member.
            _ => message.split('`').nth(1).unwrap_or("body").to_owned(),
        };
        let member = field.split(['.', '[']).next().unwrap_or_default().to_owned();
        if taken_out.contains(&member) {
            break;
        }
        problems.push(FieldProblem { field, message });
        if members.remove(&member).is_none() {
            break;
        }
        taken_out.push(member);
    }
    Err(Problem::invalid(problems))
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for AdminQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        // The dry-run parameter was read before, for all operations.
        let own = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != DRY_RUN);
        let own = form_urlencoded::Serializer::new(String::new()).extend_pairs(own).finish();
        let uri = Uri::builder().path_and_query(format!("/?{own}")).build().unwrap_or_default();
        match Query::try_from_uri(&uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                let mut source: &dyn std::error::Error = &rejection;
                while let Some(inner) = source.source() {
                    source = inner;
                }
                Err(Problem::new(ProblemCode::InvalidParameter, format!("query parameters: {source}")))
            }
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for AdminPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => Err(match error.kind() {
                ErrorKind::InvalidUtf8InPathParam { .. } => {
                    Problem::new(ProblemCode::InvalidParameter, "the path is not UTF-8; percent-encode it as UTF-8")
                }
                // An id that is not a UUID names nothing.
                _ => Problem::new(ProblemCode::NotFound, "there is nothing with this id; ids are UUIDs"),
            }),
            Err(_) => Err(Problem::new(ProblemCode::NotFound, "there is nothing here")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut etags = Vec::new();
        for value in parts.headers.get_all(header::IF_MATCH) {
            let text = value.to_str().map_err(|_| {
                Problem::new(
                    ProblemCode::InvalidParameter,
                    "`If-Match` is no list of etags; send the `etag` as answered",
                )
            })?;
            etags.extend(text.split(',').map(|etag| etag.trim().to_owned()));
        }
        Ok(Self((!etags.is_empty()).then(|| Precondition::new(etags))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Body {
        location: String,
        count: Option<u32>,
        names: Option<Vec<String>>,
    }

    #[test]
    fn every_problem_of_a_body_is_reported_at_once() {
        let body = br#"{"location": 1, "count": -1, "names": ["a", 2], "nmaes": [], "other": 1}"#;
        let Problem { errors, .. } = parse_object::<Body>(body).unwrap_err();
        let mut fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        fields.sort_unstable();
        // A field that is missing because its value was removed is not reported twice.
        assert_eq!(fields, ["count", "location", "names[1]", "nmaes", "other"], "{errors:?}");
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for body in [&b""[..], b"[]", b"1", b"{", b"null", b"{\"a\":1}}", b"\xff"] {
            assert_eq!(parse_object::<Body>(body).unwrap_err().code, ProblemCode::MalformedBody, "{body:?}");
        }
    }
}
