//! The layers around every request of every face.
//!
//! Lives here: the values that these layers and the handlers leave for each other.

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

/// The request's id, which the client sees in `x-request-id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

/// The time within which the request's body must arrive.
#[derive(Clone, Copy, Debug)]
pub struct BodyWithin(pub Duration);

/// The address that the request came from, according to trusted proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The cause of an error response; left in its extensions, so that it is logged once, under the request's id.
#[derive(Clone, Debug)]
pub struct Cause(pub Arc<ServiceError>);

/// Marks, in the extensions of a response, that its cause has been logged and its status is not this request's fault.
#[derive(Clone, Copy, Debug)]
pub struct AlreadyLogged;
