//! Records of drills.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    domain::{audit::drill::DrillKind, operators::Permission},
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::AdminJson,
            problem::Problem,
            text::{Members, Text},
        },
    },
    service::audit::drills::Drill,
};

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new().merge(requiring(Permission::Operate, OpenApiRouter::new().routes(routes!(record_drill))))
}

/// The outcome of a drill.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillBody {
    /// Which drill was run.
    pub kind: DrillKind,
    /// Whether the drill found no fault.
    pub passed: bool,
    /// Measurements: whole numbers by name, times in milliseconds.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub measured: Members<u64>,
    /// The faults that were found.
    #[schema(value_type = Option<String>)]
    pub detail: Option<Text>,
}

/// A recorded outcome of a drill.
#[derive(Debug, Serialize, ToSchema)]
pub struct DrillView {
    /// Which drill was run.
    pub kind: DrillKind,
    /// Whether the drill found no fault.
    pub passed: bool,
    /// Measurements: whole numbers by name, times in milliseconds.
    pub measured: BTreeMap<String, u64>,
    /// The faults that were found; null if there are none.
    pub detail: Option<String>,
    /// When the outcome was recorded.
    pub recorded_at: DateTime<Utc>,
}

impl From<DrillBody> for Drill {
    fn from(body: DrillBody) -> Self {
        let measured = body.measured.0.into_iter().filter_map(|(name, value)| Some((name, value?)));
        Self {
            kind: body.kind,
            passed: body.passed,
            measured: measured.collect(),
            detail: body.detail.map(|text| text.0),
        }
    }
}

/// Records the outcome of a drill.
///
/// `weir drill` calls this. The audit trail lists outcomes as events with the action `drill.record`.
#[utoipa::path(
    post, path = "/drills", tag = "drills", request_body = DrillBody,
    responses((status = 201, description = "Recorded", body = DrillView)),
    extensions(("x-weir-cli" = json!({"example": "weir drill revocation", "own": true})))
)]
pub async fn record_drill(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminJson(body): AdminJson<DrillBody>,
) -> Result<(StatusCode, Json<DrillView>), Problem> {
    let drill = Drill::from(body);
    let recorded_at = admin.service.audit.record_drill(&ctx, &drill).await?;
    let Drill { kind, passed, measured, detail } = drill;
    Ok((StatusCode::CREATED, Json(DrillView { kind, passed, measured, detail, recorded_at })))
}
