//! Querying a table: the answer streams, a chunk of lines at a time (Delta Sharing protocol, 1.4 and 2.1).

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{
    domain::{
        audit::action::Action,
        sharing::{negotiation::ClientCapabilities, predicate::Filter},
    },
    http::{
        body,
        stalls::{Source, watched},
    },
    lake::Feed,
    service::{
        Services,
        core::error::ServiceError,
        sharing::{
            TableHead,
            changes::{ChangesRequest, Moment},
            preparers::Prepared,
            query::{PageAsk, QueryRequest, digest},
            stream::{Answer, SignedChunk},
            table::Admitted,
        },
    },
};

use super::{
    CallerOf, Error,
    capabilities::Capabilities,
    extract::Wrong,
    file_id_hash::{echo_file_id_hash, file_id_hash},
    query_body::{QueryBody, QueryRange},
    table::head_headers,
    wire::{self, EndStreamAction, IdHash},
};

/// What audit events call a query.
const ACTION: Action = Action::TableQuery;
/// The longest body that is read on the spot, in bytes; far beyond those that connectors send.
const PARSED_AT_ONCE: usize = 16 * 1024;
/// The longest predicates that are kept in memory while a query runs, in bytes.
const KEPT_PREDICATES: usize = 16 * 1024;
/// The response header that says why an answer has no rows, if the provider can fix that.
const NO_ROWS: HeaderName = HeaderName::from_static("x-weir-no-rows");
/// No row matches the recipient's properties.
const RECIPIENT_PROPERTIES: HeaderValue = HeaderValue::from_static("recipient-properties");

/// Answers a query. The body is read only after the caller's access to the table is decided.
pub(super) async fn query_table(
    State(service): State<Services>,
    of: CallerOf,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Error> {
    let path = of.table_path();
    let admitted = match service.sharing.admit_to_table(&of.caller, ACTION, &path).await {
        Ok(admitted) => admitted,
        Err(error) => {
            body::discard(request).await;
            return Err(of.error(error));
        }
    };
    let capabilities = Capabilities::read(&headers);
    let parsed = match read_body(&headers, request).await {
        Ok(bytes) => parse(&service, bytes, capabilities.declared.clone()).await,
        Err(fault) => return Err(fault.refuse(admitted, &of).await),
    };
    let hashed = parsed.and_then(|query| {
        file_id_hash(&headers)?;
        Ok(query)
    });
    let query = match hashed {
        Ok(query) => query,
        Err(Wrong { error, past }) => return Err(of.error(admitted.refuse_about(past, error).await)),
    };
    let answer = match &query.asked {
        RequestedNames::Snapshot(request) => service.sharing.query_table(admitted, request).await,
        RequestedNames::Since(request) => service.sharing.query_changes(admitted, request).await,
    };
    let answer = answer.map_err(|error| of.error(error))?;
    // An EndStreamAction breaks a Python client that did not ask for one; these requests ask for one.
    let ends_with_action = capabilities.end_stream_action || query.wants_end;
    let response = respond(answer, Asker::of(&service, &of), &headers, &capabilities, ends_with_action);
    Ok(response.map_err(|error| of.error(error))?.into_response())
}

/// The client's context for an answer: the request's id and the contact for messages, and how long a stall may last.
#[derive(Debug)]
pub(super) struct Asker {
    request_id: String,
    contact: String,
    /// How long the client may read nothing of its answer.
    patience: Duration,
}

impl Asker {
    pub(super) fn of(service: &Services, of: &CallerOf) -> Self {
        Self {
            request_id: of.caller.request_id.clone(),
            contact: service.sharing.settings.support_contact.clone(),
            patience: service.sharing.settings.stalled(),
        }
    }
}

/// Returns the headers and the streamed body of an answer.
pub(super) fn respond(
    answer: Answer,
    asker: Asker,
    request_headers: &HeaderMap,
    capabilities: &Capabilities,
    ends_with_action: bool,
) -> Result<(HeaderMap, Body), ServiceError> {
    let patience = asker.patience;
    let chosen_hash = file_id_hash(request_headers)?;
    let head = wire::head_lines(&answer.head)?;
    let mut headers = head_headers(&answer.head, capabilities, ends_with_action);
    echo_file_id_hash(&mut headers, chosen_hash);
    if answer.lacks_properties {
        headers.insert(NO_ROWS, RECIPIENT_PROPERTIES);
    }
    let id_hash = chosen_hash.unwrap_or(answer.head.format);
    let lines = Lines { answer, id_hash, ahead: VecDeque::with_capacity(AHEAD) };
    let streaming = Streaming { step: Step::Head(head), lines, asker, ends_with_action };
    Ok((headers, watched(streaming, patience)))
}

/// A parsed query.
struct Query {
    asked: RequestedNames,
    /// Whether the query asks for something that only an EndStreamAction can carry.
    wants_end: bool,
}

enum RequestedNames {
    Snapshot(QueryRequest),
    Since(ChangesRequest),
}

impl Query {
    fn parse(bytes: &[u8], declared: ClientCapabilities) -> Result<Self, Wrong> {
        let body = QueryBody::parse(bytes)?;
        let wants_end = body.include_refresh_token || body.max_files.is_some();
        let page = PageAsk { max_files: body.max_files, page_token: body.page_token.clone() };
        let asked = match body.range {
            QueryRange::Snapshot(as_of) => {
                let predicates = body.predicates();
                let predicate_digest = predicates.as_deref().map(digest);
                // Long predicates are not kept while the query runs.
                let is_long = predicates.as_ref().is_some_and(|text| text.len() > KEPT_PREDICATES);
                RequestedNames::Snapshot(QueryRequest {
                    declared,
                    as_of,
                    predicates: if is_long { predicate_digest.clone() } else { predicates },
                    predicate_digest,
                    filter: Filter::from_hints(
                        &body.predicate_hints,
                        body.json_predicate_hints.as_deref(),
                        body.limit_hint,
                    ),
                    page,
                    refresh_token: body.refresh_token,
                    include_refresh_token: body.include_refresh_token,
                })
            }
            QueryRange::Since { starting, ending } => RequestedNames::Since(ChangesRequest {
                declared,
                feed: Feed::Files,
                starting: Moment::Version(starting),
                ending: ending.map(Moment::Version),
                include_historical_metadata: true,
                include_historical_protocol: body.include_historical_protocol,
                page,
            }),
        };
        Ok(Self { asked, wants_end })
    }
}

/// Parses a body; a long one on a separate thread, so that other requests do not wait for it.
async fn parse(service: &Services, bytes: Bytes, declared: ClientCapabilities) -> Result<Query, Wrong> {
    if bytes.len() <= PARSED_AT_ONCE {
        return Query::parse(&bytes, declared);
    }
    let parsed = service.sharing.lake.judges().apart(move |_| Query::parse(&bytes, declared)).await;
    parsed.map_err(ServiceError::internal)?
}

/// A body that cannot be read.
struct BodyFault {
    status: StatusCode,
    message: &'static str,
}

impl BodyFault {
    /// Refuses the request because of its body.
    async fn refuse(self, admitted: Admitted<'_>, of: &CallerOf) -> Error {
        let error = admitted.refuse(ServiceError::Malformed(self.message.to_owned())).await;
        match error {
            ServiceError::Malformed(_) if self.status != StatusCode::BAD_REQUEST => {
                Error::status(self.status, self.message, &of.caller.request_id)
            }
            error => of.error(error),
        }
    }
}

/// Reads a body. Without a content type it is taken for JSON; other types are refused.
async fn read_body(headers: &HeaderMap, request: Request) -> Result<Bytes, BodyFault> {
    if let Some(value) = headers.get(header::CONTENT_TYPE) {
        let essence = value.to_str().unwrap_or("unreadable").split(';').next().unwrap_or_default();
        let essence = essence.trim().to_ascii_lowercase();
        if !(essence.is_empty() || essence == "application/json" || essence.ends_with("+json")) {
            let message = "the body must be JSON; send Content-Type: application/json";
            return Err(BodyFault { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, message });
        }
    }
    body::read(request).await.map_err(|fault| {
        let message = match fault {
            body::BodyFault::TooLarge => "the request body is too large; send fewer predicates",
            body::BodyFault::TooSlow => "the request body did not arrive in time; send it at once",
            body::BodyFault::Broken => "the request body could not be read to its end; send it again",
        };
        BodyFault { status: fault.status(), message }
    })
}

/// How many chunks are prepared ahead of sending: those in work, and some more to cover the time of sending.
const AHEAD: usize = 4;

enum Step {
    Head(Vec<u8>),
    Lines,
    Done,
}

/// The lines of an answer that is being sent.
struct Lines {
    answer: Answer,
    id_hash: IdHash,
    ahead: VecDeque<Prepared<Written>>,
}

/// Serialised lines, and how many files they hand out.
struct Written {
    lines: Vec<u8>,
    files: usize,
}

impl Lines {
    /// Returns the next lines; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, ServiceError> {
        let (id_hash, expires_at) = (self.id_hash, self.answer.expires_at);
        let write = |head: Arc<TableHead>| {
            move |chunk: SignedChunk| {
                let lines = wire::chunk_lines(&head, &chunk, id_hash, expires_at)?;
                Ok(Written { lines, files: chunk.urls.files.len() })
            }
        };
        if let Some(first) = self.answer.take_first() {
            return write(Arc::clone(&self.answer.head))(first).map(|written| Some(self.hand_out(written)));
        }
        // Access is checked right before sending, regardless of when the lines were prepared.
        self.answer.look_again().await?;
        while self.ahead.len() < AHEAD {
            match self.answer.prepare_next(write(Arc::clone(&self.answer.head))).await? {
                Some(prepared) => self.ahead.push_back(prepared),
                None => break,
            }
        }
        let Some(next) = self.ahead.pop_front() else {
            self.answer.complete();
            return Ok(None);
        };
        let written = next.await.map_err(ServiceError::internal)??;
        Ok(Some(self.hand_out(written)))
    }

    fn hand_out(&mut self, written: Written) -> Bytes {
        self.answer.hand_out(written.files);
        written.lines.into()
    }
}

/// The answer's body. An error midway is reported in the EndStreamAction if the client asked for one; otherwise the
/// connection is cut, so that a partial table is not mistaken for the whole.
struct Streaming {
    step: Step,
    lines: Lines,
    asker: Asker,
    ends_with_action: bool,
}

impl Source for Streaming {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        match std::mem::replace(&mut self.step, Step::Lines) {
            Step::Head(head) => Some(Ok(Bytes::from(head))),
            Step::Lines => match self.lines.next().await {
                Ok(Some(next)) => Some(Ok(next)),
                Err(error) => {
                    self.step = Step::Done;
                    Some(fail(error, &self.asker, self.ends_with_action))
                }
                Ok(None) if self.ends_with_action => {
                    self.step = Step::Done;
                    let answer = &mut self.lines.answer;
                    let expires_at = answer.has_files.then_some(answer.expires_at);
                    let end = EndStreamAction {
                        refresh_token: answer.refresh_token.take(),
                        next_page_token: answer.next_page_token.take(),
                        min_url_expiration_timestamp: expires_at.map(|at| at.timestamp_millis()),
                        ..EndStreamAction::default()
                    };
                    Some(Ok(Bytes::from(wire::end_line(&end))))
                }
                Ok(None) => None,
            },
            Step::Done => {
                self.step = Step::Done;
                None
            }
        }
    }

    async fn look_again(&mut self) -> Result<(), ServiceError> {
        match self.step {
            Step::Head(_) | Step::Lines => self.lines.answer.look_again().await,
            Step::Done => Ok(()),
        }
    }
}

fn fail(error: ServiceError, asker: &Asker, ends_with_action: bool) -> Result<Bytes, io::Error> {
    match &error {
        ServiceError::Denied { reason, .. } => {
            tracing::info!(reason = reason.code(), "an answer was ended midway: what it stood on has ended");
        }
        error => tracing::error!(error = %error, "an answer failed midway"),
    }
    if !ends_with_action {
        return Err(io::Error::other("the answer could not be finished"));
    }
    let (status, message) = Error::new(error, &asker.request_id).midway(&asker.contact);
    let end = EndStreamAction {
        error_message: Some(message),
        http_status_error_code: Some(status.as_u16()),
        ..EndStreamAction::default()
    };
    Ok(Bytes::from(wire::end_line(&end)))
}
