//! Who the caller is.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Operator;

/// The operator that called.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhoamiView {
    /// Its name.
    pub name: String,
    /// What it may do.
    #[schema(example = "admin")]
    pub role: &'static str,
}

/// Tells who the operator token belongs to.
#[utoipa::path(get, path = "/whoami", tag = "operators", responses((status = 200, body = WhoamiView)))]
pub async fn whoami(Operator(ctx): Operator) -> Json<WhoamiView> {
    // The bootstrap token is the only one there is, and it may do everything.
    Json(WhoamiView { name: ctx.operator_name(), role: "admin" })
}
