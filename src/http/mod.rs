//! The front end that speaks HTTP: it translates and decides nothing.
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
use crate::service::Service;

/// Lines compress well even at the lowest effort, and nobody should wait for more.
fn compression() -> CompressionLayer {
    CompressionLayer::new().quality(CompressionLevel::Fastest)
}

/// What the routers are built from.
#[derive(Clone, Debug)]
pub struct Faces {
    /// The use cases.
    pub service: Service,
    /// Follows requests.
    pub requests: RequestLayer,
    /// Bounds what recipients send.
    pub limits: Limits,
    /// Bounds what operators send, apart, so that nothing that recipients do keeps them out.
    pub admin_limits: Limits,
    /// Whether the server is about to stop.
    pub draining: Draining,
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Where the sharing protocol lives.
    pub prefix: String,
    /// What the admin API needs besides the use cases.
    pub admin: admin::Admin,
}

impl Faces {
    /// Everything on one listener.
    pub fn all(&self) -> Router {
        self.finish(self.sharing_routes().merge(self.admin_routes()))
    }

    /// What recipients use.
    pub fn sharing_only(&self) -> Router {
        self.finish(self.sharing_routes())
    }

    /// What operators and monitoring use.
    pub fn admin_only(&self) -> Router {
        self.finish(self.admin_routes())
    }

    fn sharing_routes(&self) -> Router {
        let lines = sharing::router().layer(compression()).layer(map_request(middleware::accept_identity));
        Router::new()
            // Never the files' bytes: they are compressed already, and ranges are of what is stored.
            .nest(&self.prefix, lines)
            .route("/files/{sealed}", get(files::get_file).fallback(files::refuse_method))
            .merge(activation::router())
            .with_state(self.service.clone())
            .layer(from_fn_with_state(self.limits.clone(), middleware::bound))
    }

    fn admin_routes(&self) -> Router {
        let metrics = Router::new().route("/metrics", get(operations::metrics)).with_state(self.service.clone());
        let (api, _document) = admin::router(self.admin.clone());
        api.merge(metrics).layer(from_fn_with_state(self.admin_limits.clone(), middleware::bound))
    }

    /// What every listener answers, and what surrounds every request.
    fn finish(&self, router: Router) -> Router {
        let contact = sharing::Contact(self.service.settings.support_contact.as_str().into());
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
