//! The HTTP front end: it translates requests and answers, and decides nothing.
//!
//! Lives here: routes, extractors, bodies, headers, listeners. Never here: a rule, a query, a transaction.

mod activation;
pub mod admin;
mod body;
pub mod certificates;
mod client;
mod connections;
mod fault;
mod files;
mod hooks;
pub mod listen;
pub mod middleware;
mod operations;
pub mod sharing;
mod stalls;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::{from_fn_with_state, map_request},
    routing::get,
};

use tower_http::{CompressionLevel, compression::CompressionLayer};

use self::middleware::{Draining, Limits, RequestLayer};
pub use self::{admin::NO_SUCH_OPERATION, fault::NO_SUCH_ROUTE};
use crate::service::Services;

/// Compresses at the lowest effort: lines compress well even so, and clients should not wait for more.
fn compression() -> CompressionLayer {
    CompressionLayer::new().quality(CompressionLevel::Fastest)
}

/// The parts that the routers are built from.
#[derive(Clone, Debug)]
pub struct Faces {
    /// The use cases.
    pub service: Services,
    /// Follows requests.
    pub requests: RequestLayer,
    /// Bounds recipients' requests.
    pub limits: Limits,
    /// Bounds operators' requests separately, so that recipients cannot keep operators out.
    pub admin_limits: Limits,
    /// Whether the server is about to stop.
    pub draining: Draining,
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// The path prefix of the sharing protocol.
    pub prefix: String,
    /// The state of the admin API.
    pub admin: admin::Admin,
}

impl Faces {
    /// Builds the router that serves everything on one listener.
    pub fn all(&self) -> Router {
        self.finish(self.sharing_routes().merge(self.admin_routes()))
    }

    /// Builds the router of the listener for recipients.
    pub fn sharing_only(&self) -> Router {
        self.finish(self.sharing_routes())
    }

    /// Builds the router of the listener for operators and monitoring.
    pub fn admin_only(&self) -> Router {
        self.finish(self.admin_routes())
    }

    fn sharing_routes(&self) -> Router {
        let hooks = if self.service.access.hears_contract_system() { hooks::router() } else { Router::new() };
        let lines = sharing::router().layer(compression()).layer(map_request(middleware::accept_identity));
        Router::new()
            // File bytes are never compressed: they are compressed already, and ranges refer to stored bytes.
            .nest(&self.prefix, lines)
            .route("/files/{sealed}", get(files::get_file).fallback(files::refuse_method))
            .merge(activation::router())
            .merge(hooks)
            .with_state(self.service.clone())
            .layer(from_fn_with_state(self.limits.clone(), middleware::bound))
    }

    fn admin_routes(&self) -> Router {
        let metrics = Router::new().route("/metrics", get(operations::metrics)).with_state(self.service.clone());
        let (api, _document) = admin::router(self.admin.clone());
        api.merge(metrics).layer(from_fn_with_state(self.admin_limits.clone(), middleware::bound))
    }

    /// Adds health checks, fallbacks and the layers around every request.
    fn finish(&self, router: Router) -> Router {
        let contact = sharing::Contact(self.service.sharing.settings.support_contact.as_str().into());
        let health = Router::new()
            .route("/healthz", get(operations::healthz))
            .route("/readyz", get(operations::readyz))
            .with_state((self.service.clone(), self.draining.clone()))
            .layer(from_fn_with_state(self.limits.answer_within, middleware::contain));
        router
            .merge(health)
            .method_not_allowed_fallback(fault::method_not_allowed)
            .fallback(fault::not_found)
            .layer(DefaultBodyLimit::max(self.max_body_bytes))
            .layer(from_fn_with_state(self.draining.clone(), middleware::drain))
            .layer(from_fn_with_state(contact, sharing::write_errors))
            .layer(from_fn_with_state(self.requests.clone(), middleware::follow))
    }
}
