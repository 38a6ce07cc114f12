//! Usage, reports and notifications.

pub(super) mod notifications;
pub(super) mod reports;
pub(super) mod usage;

use utoipa_axum::router::OpenApiRouter;

use super::Admin;

/// Builds the routes of this room.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().merge(notifications::routes()).merge(reports::routes()).merge(usage::routes())
}
