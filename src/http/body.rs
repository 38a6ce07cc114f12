//! Request bodies: read only from authorised senders, within bounds of size and time, without keeping a place
//! meanwhile.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
};
use futures::StreamExt;
use http::StatusCode;
use tokio::time::timeout;

use super::{client, middleware::BodyWithin};

/// How much of a refused client's body is read and discarded, in bytes, so that a client that sends no more than that
/// can read the refusal.
const DISCARDED: usize = 256 * 1024;
/// How long a refused client's body is read.
const DISCARDED_WITHIN: Duration = Duration::from_millis(500);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It is longer than the limit.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// It broke off.
    Broken,
}

impl BodyFault {
    /// Returns the status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads a whole body.
pub async fn read(request: Request) -> Result<Bytes, BodyFault> {
    let place = client::place(request.extensions());
    let within = request.extensions().get::<BodyWithin>().copied();
    let reading = Bytes::from_request(request, &());
    let read = match within {
        Some(BodyWithin(within)) => place.aside(timeout(within, reading)).await.map_err(|_| BodyFault::TooSlow)?,
        None => reading.await,
    };
    read.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => BodyFault::TooLarge,
        _ => BodyFault::Broken,
    })
}

/// Reads and discards the part of a body that arrives soon: closing a connection with unread bytes would reset it, and
/// the answer would be lost.
pub async fn discard(request: Request) {
    let place = client::place(request.extensions());
    let discarding = async {
        let (mut discarded, mut body) = (0, Body::into_data_stream(request.into_body()));
        while let Some(Ok(chunk)) = body.next().await {
            discarded += chunk.len();
            if discarded > DISCARDED {
                return;
            }
        }
    };
    // However it ends, the client is answered.
    let _ = place.aside(timeout(DISCARDED_WITHIN, discarding)).await;
}
