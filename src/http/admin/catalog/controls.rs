//! Controls.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        catalog::control::{Control, ControlSpec},
        operators::Permission,
    },
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::{AdminFields, AdminPath, AdminQuery, IfMatch},
            page::{PageQuery, PageView},
            problem::Problem,
            resource::{Resource, Tagged},
        },
    },
    service::{catalog::impact::Impact, core::precondition::etag},
};

use super::impact::ImpactView;

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    let reading = OpenApiRouter::new().routes(routes!(list_controls)).routes(routes!(get_control));
    let changing = OpenApiRouter::new().routes(routes!(put_control, update_control, delete_control));
    requiring(Permission::ReadSharing, reading).merge(requiring(Permission::ManageControls, changing))
}

/// What is asked wherever data of a class is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct ControlView {
    /// Its id.
    pub id: Uuid,
    /// The class.
    #[schema(example = "PHI")]
    pub name: String,
    /// What is asked.
    #[serde(flatten)]
    pub spec: ControlSpec,
    /// What the change would mean for what is shared; only in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub impact: Option<ImpactView>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change; send it as `If-Match` to change only what you have read.
    pub etag: String,
}

impl Tagged for ControlView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl From<Control> for ControlView {
    fn from(control: Control) -> Self {
        Self {
            etag: etag(control.id, control.revision),
            id: control.id,
            name: control.name.to_string(),
            spec: control.spec,
            impact: None,
            created_at: control.created_at,
            updated_at: control.updated_at,
        }
    }
}

impl ControlView {
    fn with(self, impact: Option<Impact>) -> Self {
        Self { impact: impact.map(Into::into), ..self }
    }
}

/// Declares what is asked wherever data of a class is shown, or confirms that it is as described.
///
/// It holds for what is shared now. A dry run says in `impact` which columns would be masked otherwise, and whom it would cut
/// off.
#[utoipa::path(
    put, path = "/controls/{class}", tag = "controls", params(("class" = String, Path)), request_body = ControlSpec,
    responses(
        (status = 201, description = "Created", body = ControlView),
        (status = 200, description = "Exists as described", body = ControlView)
    ),
    extensions(("x-weir-cli" = json!({
        "example": "weir control put PHI --requires BAA --min-mask-direct '\"hash\"' --raw refuse"
    })))
)]
pub async fn put_control(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(class): AdminPath<String>,
    AdminFields { named, .. }: AdminFields<ControlSpec>,
) -> Result<Resource<ControlView>, Problem> {
    let (put, impact) = admin.service.catalog.put_control(&ctx, &class, &named).await?;
    Ok(Resource::put(put.map(|control| ControlView::from(control).with(impact))))
}

/// Returns the control of a class.
#[utoipa::path(
    get, path = "/controls/{class}", tag = "controls", params(("class" = String, Path)),
    responses((status = 200, body = ControlView)),
    extensions(("x-weir-cli" = json!({"example": "weir control get PHI"})))
)]
pub async fn get_control(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(class): AdminPath<String>,
) -> Result<Resource<ControlView>, Problem> {
    Ok(Resource::found(admin.service.core.read_declared::<ControlSpec>(&ctx, &class).await?.into()))
}

/// Lists controls by class.
#[utoipa::path(
    get, path = "/controls", tag = "controls", params(PageQuery),
    responses((status = 200, body = PageView<ControlView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir control list", "columns": ["name", "requires", "raw", "max_grant_days"]
    })))
)]
pub async fn list_controls(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<ControlView>>, Problem> {
    let page = admin.service.core.list_declared::<ControlSpec>(&ctx, &page.into()).await?;
    Ok(Json(PageView::new(page, ControlView::from)))
}

/// Changes what is asked for a class.
///
/// What tightens holds at the next request; a weaker mask waits until the view is shared in another version, unless whoever
/// set the stronger one takes it back within a day. A dry run says in `impact` which columns would be masked otherwise, and
/// whom it would cut off.
#[utoipa::path(
    patch, path = "/controls/{class}", tag = "controls",
    params(("class" = String, Path), ("If-Match" = Option<String>, Header)),
    request_body(content((ControlSpec = "application/merge-patch+json"), (ControlSpec = "application/json"))),
    responses((status = 200, body = ControlView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir control update PHI --min-mask-direct '\"redact\"' --dry-run"
    })))
)]
pub async fn update_control(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(class): AdminPath<String>,
    IfMatch(condition): IfMatch,
    AdminFields { named, .. }: AdminFields<ControlSpec>,
) -> Result<Resource<ControlView>, Problem> {
    let (control, impact) = admin.service.catalog.update_control(&ctx, &class, condition.as_ref(), &named).await?;
    Ok(Resource::found(ControlView::from(control).with(impact)))
}

/// Deletes the control of a class that no shared table holds.
#[utoipa::path(
    delete, path = "/controls/{class}", tag = "controls",
    params(("class" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Deleted")),
    extensions(("x-weir-cli" = json!({
        "example": "weir control delete PHI", "confirm": "nothing is asked for the class any more"
    })))
)]
pub async fn delete_control(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(class): AdminPath<String>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.core.delete_declared::<ControlSpec>(&ctx, &class, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
