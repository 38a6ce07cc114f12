//! What surrounds every request, whichever face it is for.
//!
//! Lives here: the values that the layers around a request leave for its handler and the other way round.

mod draining;
mod encodings;
mod limits;
mod request;

use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::service::core::error::ServiceError;

pub use self::{
    draining::{Draining, drain},
    encodings::accept_identity,
    limits::{Limits, bound, contain},
    request::{Proxies, RequestLayer, follow},
};

/// The request's id, as its client sees it in `x-request-id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

/// Within what time the request's body has to arrive.
#[derive(Clone, Copy, Debug)]
pub struct BodyWithin(pub Duration);

/// Where the request came from, once trusted proxies are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Why a response is an error; left in its extensions, so that it is logged once, under the request's id.
#[derive(Clone, Debug)]
pub struct Cause(pub Arc<ServiceError>);

/// Left in the extensions of a response whose status is no fault of this request: what there was to log is logged.
#[derive(Clone, Copy, Debug)]
pub struct AlreadyLogged;
