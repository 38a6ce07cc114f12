//! Freezes: nothing is handed out to anybody while one is on.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::operators::Permission,
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::AdminJson,
            problem::Problem,
            text::Text,
        },
    },
    service::access::grants::Effect,
    store::Freeze,
};

use super::recipients::ReasonBody;

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(Permission::TightenEverywhere, OpenApiRouter::new().routes(routes!(freeze))))
        .merge(requiring(Permission::LiftFreeze, OpenApiRouter::new().routes(routes!(unfreeze))))
}

/// A freeze: a time during which every recipient is refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct FreezeView {
    /// The freeze's id.
    pub id: Uuid,
    /// The reason given.
    pub reason: String,
    /// Who ordered the freeze.
    pub frozen_by: String,
    /// When the freeze began.
    pub frozen_at: DateTime<Utc>,
    /// Who lifted the freeze; null while it lasts.
    pub lifted_by: Option<String>,
    /// When the freeze was lifted; null while it lasts.
    pub lifted_at: Option<DateTime<Utc>>,
}

/// A freeze, and when it takes full effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct FrozenView {
    /// The freeze.
    #[serde(flatten)]
    pub freeze: FreezeView,
    /// When the last presigned URL expires that was handed out before: it still opens its file until then. The time of
    /// the freeze if there is none.
    pub effective_by: DateTime<Utc>,
    /// How many presigned URLs are valid until then.
    pub outstanding_urls: i64,
}

impl From<(Freeze, Effect)> for FrozenView {
    fn from((freeze, effect): (Freeze, Effect)) -> Self {
        let Effect { effective_by, outstanding_urls } = effect;
        Self { freeze: freeze.into(), effective_by, outstanding_urls }
    }
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

/// Freezes everything: every recipient is refused until the freeze is lifted.
///
/// If everything is already frozen, that freeze stays in force and is returned.
#[utoipa::path(
    post, path = "/freeze", tag = "freezes", request_body = ReasonBody, responses((status = 200, body = FrozenView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir freeze --reason 'incident 4711'",
        "confirm": "every recipient is refused at once",
    })))
)]
pub async fn freeze(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Json<FrozenView>, Problem> {
    Ok(Json(admin.service.access.freeze(&ctx, &body.reason.0).await?.into()))
}

/// Why the freeze is lifted; `{}` gives no reason.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnfreezeBody {
    /// The reason, recorded in the audit trail.
    #[schema(value_type = Option<String>)]
    reason: Option<Text>,
}

/// Lifts the freeze.
///
/// 409 if nothing is frozen.
#[utoipa::path(
    post, path = "/unfreeze", tag = "freezes", request_body = UnfreezeBody, responses((status = 200, body = FreezeView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir unfreeze --reason 'incident 4711 closed'",
        "confirm": "recipients may read again what they are granted",
    })))
)]
pub async fn unfreeze(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminJson(body): AdminJson<UnfreezeBody>,
) -> Result<Json<FreezeView>, Problem> {
    let reason = body.reason.as_ref().map(|reason| reason.0.as_str());
    Ok(Json(admin.service.access.unfreeze(&ctx, reason).await?.into()))
}
