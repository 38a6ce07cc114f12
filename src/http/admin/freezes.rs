//! The brake: nothing is handed out to anybody while it is on.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Admin, auth::Operator, extract::AdminJson, problem::Problem, recipients::ReasonBody};
use crate::store::Freeze;

/// A stretch of time in which nothing is handed out.
#[derive(Debug, Serialize, ToSchema)]
pub struct FreezeView {
    /// Its identity.
    pub id: Uuid,
    /// Why.
    pub reason: String,
    /// Who ordered it.
    pub frozen_by: String,
    /// From when on.
    pub frozen_at: DateTime<Utc>,
    /// Who ended it.
    pub lifted_by: Option<String>,
    /// When it ended.
    pub lifted_at: Option<DateTime<Utc>>,
}

impl From<Freeze> for FreezeView {
    fn from(freeze: Freeze) -> Self {
        Self {
            id: freeze.id,
            reason: freeze.reason,
            frozen_by: freeze.frozen_by,
            frozen_at: freeze.frozen_at,
            lifted_by: freeze.lifted_by,
            lifted_at: freeze.lifted_at,
        }
    }
}

/// Freezes everything: every recipient is refused until it is lifted.
#[utoipa::path(
    post, path = "/freeze", tag = "freezes", request_body = ReasonBody, responses((status = 200, body = FreezeView))
)]
pub async fn freeze(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Json<FreezeView>, Problem> {
    Ok(Json(admin.service.freeze(&ctx, &body.reason.0).await?.into()))
}

/// Lifts the freeze.
#[utoipa::path(
    post, path = "/unfreeze", tag = "freezes", request_body = ReasonBody, responses((status = 200, body = FreezeView))
)]
pub async fn unfreeze(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Json<FreezeView>, Problem> {
    Ok(Json(admin.service.unfreeze(&ctx, &body.reason.0).await?.into()))
}
