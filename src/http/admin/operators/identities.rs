//! Operators who sign in by an issuer of OpenID Connect.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::operators::{Permission, identity::OperatorIdentity},
    http::admin::{
        Admin,
        access::recipients::ReasonBody,
        core::{
            auth::{Operator, requiring},
            extract::{AdminJson, AdminPath, AdminQuery, IfMatch},
            page::{PageQuery, PageView},
            problem::Problem,
            resource::{Resource, Tagged},
        },
    },
    service::core::precondition::etag,
};

/// The operations here, each with the permission that it needs.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(
            Permission::ReadOperators,
            OpenApiRouter::new().routes(routes!(list_operator_identities)).routes(routes!(get_operator_identity)),
        ))
        .merge(requiring(
            Permission::ManageOperators,
            OpenApiRouter::new()
                .routes(routes!(delete_operator_identity))
                .routes(routes!(disable_operator_identity))
                .routes(routes!(enable_operator_identity)),
        ))
}

/// Somebody who signs in by an issuer. What it may, its token says.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperatorIdentityView {
    /// Its identity; what it does is recorded under it.
    pub id: Uuid,
    /// The issuer that says who it is.
    #[schema(example = "https://login.example.org/realms/staff")]
    pub issuer: String,
    /// What the issuer calls it.
    pub subject: String,
    /// Its name at the last sign-in.
    pub name: String,
    /// Since when it is refused, if it is.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When it first signed in.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change; for `If-Match`.
    pub etag: String,
}

impl Tagged for OperatorIdentityView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl From<OperatorIdentity> for OperatorIdentityView {
    fn from(identity: OperatorIdentity) -> Self {
        Self {
            etag: etag(identity.id, identity.revision),
            id: identity.id,
            issuer: identity.issuer,
            subject: identity.subject,
            name: identity.name,
            disabled_at: identity.disabled_at,
            created_at: identity.created_at,
            updated_at: identity.updated_at,
        }
    }
}

/// Lists those who have signed in by the operators' issuer, by their first sign-in.
#[utoipa::path(
    get, path = "/operator-identities", tag = "operators", params(PageQuery),
    responses((status = 200, body = PageView<OperatorIdentityView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir operator list-identities",
        "columns": ["id", "name", "issuer", "disabled_at", "created_at"],
    })))
)]
pub async fn list_operator_identities(
    State(admin): State<Admin>,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<OperatorIdentityView>>, Problem> {
    let page = admin.service.operators.list_operator_identities(&page.into()).await?;
    Ok(Json(PageView::new(page, OperatorIdentityView::from)))
}

/// Answers one who has signed in by the operators' issuer.
#[utoipa::path(
    get, path = "/operator-identities/{id}", tag = "operators", params(("id" = Uuid, Path)),
    responses((status = 200, body = OperatorIdentityView)),
    extensions(("x-weir-cli" = json!({"example": "weir operator get-identity 0198c5d0-7c4e-5c1e-a5f3-2f6a0c9b1d22"})))
)]
pub async fn get_operator_identity(
    State(admin): State<Admin>,
    AdminPath(id): AdminPath<Uuid>,
) -> Result<Resource<OperatorIdentityView>, Problem> {
    Ok(Resource::found(admin.service.operators.get_operator_identity(id).await?.into()))
}

/// Refuses somebody everything, whatever the issuer says, until it is enabled.
#[utoipa::path(
    post, path = "/operator-identities/{id}/disable", tag = "operators", params(("id" = Uuid, Path)),
    request_body = ReasonBody, responses((status = 200, body = OperatorIdentityView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir operator disable-identity 0198c5d0-7c4e-5c1e-a5f3-2f6a0c9b1d22 --reason 'left'",
        "confirm": "it is refused everything at once",
    })))
)]
pub async fn disable_operator_identity(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(id): AdminPath<Uuid>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<OperatorIdentityView>, Problem> {
    Ok(Resource::found(admin.service.operators.disable_operator_identity(&ctx, id, &body.reason.0).await?.into()))
}

/// Lets somebody in again whom the issuer vouches for.
#[utoipa::path(
    post, path = "/operator-identities/{id}/enable", tag = "operators", params(("id" = Uuid, Path)),
    request_body = ReasonBody, responses((status = 200, body = OperatorIdentityView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir operator enable-identity 0198c5d0-7c4e-5c1e-a5f3-2f6a0c9b1d22 --reason 'back'",
    })))
)]
pub async fn enable_operator_identity(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(id): AdminPath<Uuid>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<OperatorIdentityView>, Problem> {
    Ok(Resource::found(admin.service.operators.enable_operator_identity(&ctx, id, &body.reason.0).await?.into()))
}

/// Forgets somebody who is not disabled; another sign-in is a first one.
#[utoipa::path(
    delete, path = "/operator-identities/{id}", tag = "operators",
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Forgotten")),
    extensions(("x-weir-cli" = json!({
        "example": "weir operator forget-identity 0198c5d0-7c4e-5c1e-a5f3-2f6a0c9b1d22",
        "confirm": "its next sign-in is a first one",
    })))
)]
pub async fn delete_operator_identity(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(id): AdminPath<Uuid>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.operators.delete_operator_identity(&ctx, id, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
