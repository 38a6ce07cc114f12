//! Follows one request: gives it an id and an address, counts it, and logs it once with what went wrong.
//!
//! Logs hold the route's template, never the path: paths under `/files/` and `/activate/` are secrets, and query
//! strings may contain some.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{ConnectInfo, MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use ipnet::IpNet;
use tracing::Instrument;
use uuid::Uuid;

use super::{AlreadyLogged, Cause, ClientAddress, RequestId};
use crate::telemetry::{InFlight, Metrics, error_chain};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The state of [`follow`].
#[derive(Clone, Debug)]
pub struct RequestLayer {
    /// The trusted proxies.
    pub proxies: Arc<Proxies>,
    /// Counts requests.
    pub metrics: Arc<Metrics>,
}

/// The networks of proxies whose `X-Forwarded-For` is trusted.
#[derive(Clone, Debug, Default)]
pub struct Proxies(pub Vec<IpNet>);

impl Proxies {
    /// Returns the client's address: reading from the right, the first one that is not a trusted proxy's. An entry that
    /// is not an address ends the search, since nothing to the left of it can be trusted.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut address = peer.to_canonical();
        let hops = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = hops.flat_map(|value| value.split(',')).map(str::trim).collect();
        for hop in hops.into_iter().rev() {
            if !self.0.iter().any(|network| network.contains(&address)) {
                break;
            }
            match parse_hop(hop) {
                Some(hop) => address = hop,
                None => break,
            }
        }
        address
    }
}

/// Parses an address, with or without a port: some proxies write the port, too.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let address = hop.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

/// Follows a request as the outermost layer of every route: assigns its id and address, counts and logs it.
pub async fn follow(State(layer): State<RequestLayer>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let in_flight = layer.metrics.request_started();
    let id = Uuid::now_v7().to_string();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let peer = peer.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let address = layer.proxies.client_address(peer, request.headers());
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(ClientAddress(address));

    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        method = %method,
        route = route.as_deref().unwrap_or("(none)"),
        client = %address,
    );
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    let (status, took) = (response.status(), started.elapsed());
    layer.metrics.request_answered(method.as_str(), route.as_deref(), status.as_u16(), took);
    let _entered = span.enter();
    let cause = response.extensions().get::<Cause>().map(|cause| error_chain(cause.0.as_ref()));
    let (status, ms) = (status.as_u16(), took.as_millis());
    match (status, cause) {
        (500.., None) if response.extensions().get::<AlreadyLogged>().is_some() => {
            tracing::info!(status, ms, "answered")
        }
        (500.., cause) => tracing::error!(status, ms, cause = cause.as_deref().unwrap_or("unknown"), "answered"),
        (_, Some(cause)) => tracing::info!(status, ms, cause, "answered"),
        (_, None) => tracing::info!(status, ms, "answered"),
    }
    drop(_entered);
    // The request is in flight until its body is sent or dropped.
    response.map(|body| Body::new(Flying { body, _in_flight: in_flight }))
}

/// A response body that keeps its request in flight until it is sent.
struct Flying {
    body: Body,
    _in_flight: InFlight,
}

impl HttpBody for Flying {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let proxies = Proxies(trusted.iter().map(|network| network.parse().unwrap()).collect());
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(X_FORWARDED_FOR, value.parse().unwrap());
        }
        proxies.client_address(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(client(&[], "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client(&["192.0.2.0/24"], "192.0.2.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(&["192.0.2.0/24"], "192.0.2.1", &["10.9.8.7, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(&["192.0.2.0/24"], "192.0.2.1", &["198.51.100.7, 192.0.2.9"]), "198.51.100.7");
        assert_eq!(client(&["192.0.2.0/24"], "192.0.2.1", &["198.51.100.7", "192.0.2.9"]), "198.51.100.7");
        assert_eq!(client(&["192.0.2.0/24"], "192.0.2.1", &["198.51.100.7, unknown"]), "192.0.2.1");
        assert_eq!(client(&["192.0.2.0/24"], "::ffff:192.0.2.1", &["[2001:db8::7]:443"]), "2001:db8::7");
    }
}
