//! Exceptions: what is let pass by a rule that forbids it.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{access::exception::ExceptionSpec, operators::Permission},
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::{AdminFields, AdminJson, AdminPath, AdminQuery, IfMatch},
            page::{PageQuery, PageView},
            problem::Problem,
            resource::{Resource, Tagged},
        },
    },
    service::{access::exceptions::KnownException, core::precondition::etag},
};

use super::recipients::ReasonBody;

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    let reading = OpenApiRouter::new().routes(routes!(list_exceptions)).routes(routes!(get_exception));
    let changing = OpenApiRouter::new()
        .routes(routes!(put_exception, update_exception, delete_exception))
        .routes(routes!(end_exception));
    let approving = OpenApiRouter::new().routes(routes!(approve_exception));
    requiring(Permission::ReadRecipients, reading)
        .merge(requiring(Permission::ManageExceptions, changing))
        .merge(requiring(Permission::ApproveExceptions, approving))
}

/// What is let pass by a rule that forbids it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExceptionView {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// `proposed` (waits for a second operator), `active`, `ended` or `expired`; words of newer servers are shown as they are.
    #[schema(example = "proposed")]
    pub state: String,
    /// Since when somebody has brought it to its state; time alone leads to `expired`.
    pub state_since: DateTime<Utc>,
    /// The operator who proposed it, or changed it last so that it allows more.
    pub proposed_by: String,
    /// The operator who approved it.
    pub approved_by: Option<String>,
    /// Its settings.
    #[serde(flatten)]
    pub spec: ExceptionSpec,
    /// When it was first proposed.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change; send it as `If-Match` to change only what you have read.
    pub etag: String,
}

impl Tagged for ExceptionView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl From<KnownException> for ExceptionView {
    fn from(known: KnownException) -> Self {
        let KnownException { exception, state, state_since, proposed_by, approved_by } = known;
        Self {
            etag: etag(exception.id, exception.revision),
            id: exception.id,
            name: exception.name.to_string(),
            state,
            state_since,
            proposed_by,
            approved_by,
            spec: exception.spec,
            created_at: exception.created_at,
            updated_at: exception.updated_at,
        }
    }
}

/// Proposes an exception, or confirms that it is as described.
///
/// It allows nothing before another operator has approved it.
#[utoipa::path(
    put, path = "/exceptions/{exception}", tag = "exceptions", params(("exception" = String, Path)),
    request_body = ExceptionSpec,
    responses(
        (status = 201, description = "Proposed", body = ExceptionView),
        (status = 200, description = "Exists as described", body = ExceptionView)
    ),
    extensions(("x-weir-cli" = json!({
        "example": "weir exception put regulator --rule raw_class --object table:claims.claims --reason 'audit 4711' --expires-at 2027-03-01",
    })))
)]
pub async fn put_exception(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminFields { named, .. }: AdminFields<ExceptionSpec>,
) -> Result<Resource<ExceptionView>, Problem> {
    let put = admin.service.access.put_exception(&ctx, &name, &named).await?;
    Ok(Resource::put(put.map(ExceptionView::from)))
}

/// Returns an exception.
#[utoipa::path(
    get, path = "/exceptions/{exception}", tag = "exceptions", params(("exception" = String, Path)),
    responses((status = 200, body = ExceptionView)),
    extensions(("x-weir-cli" = json!({"example": "weir exception get regulator"})))
)]
pub async fn get_exception(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
) -> Result<Resource<ExceptionView>, Problem> {
    Ok(Resource::found(admin.service.access.get_exception(&ctx, &name).await?.into()))
}

/// Lists exceptions by name.
#[utoipa::path(
    get, path = "/exceptions", tag = "exceptions", params(PageQuery),
    responses((status = 200, body = PageView<ExceptionView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir exception list",
        "columns": ["name", "rule", "object", "state", "expires_at", "proposed_by", "approved_by"],
    })))
)]
pub async fn list_exceptions(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<ExceptionView>>, Problem> {
    let page = admin.service.access.list_exceptions(&ctx, &page.into()).await?;
    Ok(Json(PageView::new(page, ExceptionView::from)))
}

/// Changes an exception that has neither ended nor expired.
///
/// One that allows more by it (another rule or object, a later end) is `proposed` again, and waits for another operator.
#[utoipa::path(
    patch, path = "/exceptions/{exception}", tag = "exceptions",
    params(("exception" = String, Path), ("If-Match" = Option<String>, Header)),
    request_body(content((ExceptionSpec = "application/merge-patch+json"), (ExceptionSpec = "application/json"))),
    responses((status = 200, body = ExceptionView)),
    extensions(("x-weir-cli" = json!({"example": "weir exception update regulator --expires-at 2027-01-15"})))
)]
pub async fn update_exception(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
    AdminFields { named, .. }: AdminFields<ExceptionSpec>,
) -> Result<Resource<ExceptionView>, Problem> {
    let known = admin.service.access.update_exception(&ctx, &name, condition.as_ref(), &named).await?;
    Ok(Resource::found(known.into()))
}

/// Deletes an exception that is not active.
#[utoipa::path(
    delete, path = "/exceptions/{exception}", tag = "exceptions",
    params(("exception" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Deleted")),
    extensions(("x-weir-cli" = json!({
        "example": "weir exception delete regulator",
        "confirm": "only its past stays on record",
    })))
)]
pub async fn delete_exception(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.core.delete_declared::<ExceptionSpec>(&ctx, &name, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Approves a proposed exception: it is active until it expires or is ended.
///
/// 403 with the code `SEPARATION` for whoever proposed it.
#[utoipa::path(
    post, path = "/exceptions/{exception}/approve", tag = "exceptions", params(("exception" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = ExceptionView)),
    extensions(("x-weir-cli" = json!({"example": "weir exception approve regulator --reason 'checked'"})))
)]
pub async fn approve_exception(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<ExceptionView>, Problem> {
    let known = admin.service.access.approve_exception(&ctx, &name, &body.reason.0).await?;
    Ok(Resource::found(known.into()))
}

/// Ends an exception at once, proposed or active.
#[utoipa::path(
    post, path = "/exceptions/{exception}/end", tag = "exceptions", params(("exception" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = ExceptionView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir exception end regulator --reason 'audit is over'",
        "confirm": "it ends for good",
    })))
)]
pub async fn end_exception(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<ExceptionView>, Problem> {
    let known = admin.service.access.end_exception(&ctx, &name, &body.reason.0).await?;
    Ok(Resource::found(known.into()))
}
