//! Querying a table: the answer streams, a chunk of lines at a time (Delta Sharing protocol, 1.4 and 2.1).

use std::io;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request, State},
    response::{IntoResponse, Response},
};
use futures::stream;
use http::{HeaderMap, StatusCode, header};

use super::{CallerOf, Error, capabilities::Capabilities, query_body::QueryBody, table::head_headers, wire};
use crate::service::{
    Service,
    error::ServiceError,
    sharing::query::{QueryAnswer, QueryRequest},
};

pub(super) async fn query_table(
    State(service): State<Service>,
    of: CallerOf,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Error> {
    expect_json(&headers, &of)?;
    let bytes = read_body(request, &of).await?;
    let body = QueryBody::parse(&bytes).map_err(|error| of.error(error))?;
    let capabilities = Capabilities::read(&headers);
    let query = QueryRequest { declared: capabilities.declared.clone(), predicates: body.predicates() };
    let answer = service.query_table(&of.caller, &of.table_path(), &query).await.map_err(|error| of.error(error))?;
    // An EndStreamAction that nobody asked for breaks the Python client; a page size asks for one, too.
    let ends_with_action = capabilities.end_stream_action || body.max_files.is_some();
    let lines = wire::head_lines(&answer.head).map_err(|error| of.error(error))?;
    let headers = head_headers(&answer.head, &capabilities, ends_with_action);
    Ok((headers, stream_lines(lines, answer, ends_with_action)).into_response())
}

/// A body without a content type is JSON; one with another type is refused.
fn expect_json(headers: &HeaderMap, of: &CallerOf) -> Result<(), Error> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence.is_empty() || essence == "application/json" || essence.ends_with("+json") {
        return Ok(());
    }
    let message = "the body must be JSON; send Content-Type: application/json";
    Err(Error::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message, &of.caller.request_id))
}

async fn read_body(request: Request, of: &CallerOf) -> Result<Bytes, Error> {
    Bytes::from_request(request, &()).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = "the request body is too large; send fewer predicates";
            Error::status(StatusCode::PAYLOAD_TOO_LARGE, message, &of.caller.request_id)
        }
        _ => of.error(ServiceError::Malformed("the request body could not be read to its end".to_owned())),
    })
}

enum Step {
    Head(Vec<u8>),
    Files,
    Done,
}

/// The answer's body. A fault midway is said in the EndStreamAction where the client asked for one; otherwise the
/// connection is cut, so that nobody takes half a table for a whole one.
fn stream_lines(head: Vec<u8>, answer: QueryAnswer, ends_with_action: bool) -> Body {
    let stream = stream::unfold((Step::Head(head), answer), move |(step, mut answer)| async move {
        match step {
            Step::Head(lines) => Some((Ok(Bytes::from(lines)), (Step::Files, answer))),
            Step::Files => match answer.files.next_chunk().await {
                Some(Ok(chunk)) => {
                    let lines = wire::file_lines(&answer.head, &chunk, answer.expires_at);
                    Some((Ok(Bytes::from(lines)), (Step::Files, answer)))
                }
                Some(Err(error)) => Some((fail(&error, ends_with_action), (Step::Done, answer))),
                None if ends_with_action => {
                    let expires_at = (!answer.head.snapshot.files().is_empty()).then_some(answer.expires_at);
                    Some((Ok(Bytes::from(wire::end_line(expires_at, None))), (Step::Done, answer)))
                }
                None => None,
            },
            Step::Done => None,
        }
    });
    Body::from_stream(stream)
}

fn fail(error: &ServiceError, ends_with_action: bool) -> Result<Bytes, io::Error> {
    let message = match error {
        ServiceError::Denied { reason, message } => {
            tracing::info!(reason = reason.code(), "an answer was ended midway: what it stood on has ended");
            message.as_str()
        }
        error => {
            tracing::error!(error = %error, "an answer failed midway");
            "the server could not finish this answer; send the query again"
        }
    };
    if ends_with_action {
        Ok(Bytes::from(wire::end_line(None, Some(message))))
    } else {
        Err(io::Error::other("the answer could not be finished"))
    }
}
