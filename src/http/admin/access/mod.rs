//! Recipients, tokens, grants, agreements, purposes, exceptions and freezes.

pub(super) mod agreements;
pub(super) mod exceptions;
pub(super) mod freezes;
pub(super) mod grants;
pub(super) mod purposes;
pub(super) mod recipients;
pub(super) mod tokens;
pub(super) mod use_cases;

use utoipa_axum::router::OpenApiRouter;

use super::Admin;

/// Builds the routes of this room.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(agreements::routes())
        .merge(exceptions::routes())
        .merge(freezes::routes())
        .merge(grants::routes())
        .merge(purposes::routes())
        .merge(recipients::routes())
        .merge(tokens::routes())
        .merge(use_cases::routes())
}
