//! Tables and their columns, domains, shares, objects and views.

pub(super) mod columns;
pub(super) mod controls;
pub(super) mod disclosures;
pub(super) mod discovery;
pub(super) mod domains;
pub(super) mod exposure;
pub(super) mod impact;
pub(super) mod objects;
pub(super) mod shares;
pub(super) mod tables;
pub(super) mod views;

use utoipa_axum::router::OpenApiRouter;

use super::Admin;

/// Builds the routes of this room.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(columns::routes())
        .merge(controls::routes())
        .merge(exposure::routes())
        .merge(domains::routes())
        .merge(discovery::routes())
        .merge(objects::routes())
        .merge(shares::routes())
        .merge(tables::routes())
        .merge(views::routes())
}
