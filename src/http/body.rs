//! Bodies of requests: read only of those who may send them, within bounds of size and time, while others have the place.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
};
use futures::StreamExt;
use http::StatusCode;
use tokio::time::timeout;

use super::{client, middleware::BodyWithin};

/// How much of a body is thrown away unread for a client that is refused before it, in bytes. One that has sent no more
/// than that gets to see why.
const DISCARDED: usize = 256 * 1024;
/// For how long.
const DISCARDED_WITHIN: Duration = Duration::from_millis(500);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It is longer than what is read.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// It broke off.
    Broken,
}

impl BodyFault {
    /// How it shows to the client.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads a body to its end.
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

/// Throws a body away that nobody asks for any more, as far as it comes soon: a connection that is closed with bytes to
/// be read is reset, and the answer lost with it.
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
