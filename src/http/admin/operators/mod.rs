//! Operators, their tokens, and who the caller is.

mod groups;
mod identities;

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        core::word::AsWritten,
        operators::{Operator, OperatorSpec, OperatorToken, OperatorTokenState, Permission, Role, principal::Binding},
    },
    service::{
        core::context::Credential,
        core::{context::OperatorContext, precondition::etag},
    },
};

use super::{
    Admin,
    access::{grants::RevokeBody, recipients::ReasonBody},
    core::{
        auth::{Operator as Caller, requiring},
        extract::{AdminFields, AdminJson, AdminPath, AdminQuery, CreatingJson, IfMatch},
        page::{PageQuery, PageView},
        problem::Problem,
        resource::{Resource, Tagged},
    },
};

/// The operations here, each with the permission that it needs.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(Permission::SignIn, OpenApiRouter::new().routes(routes!(whoami))))
        .merge(requiring(
            Permission::ReadOperators,
            OpenApiRouter::new()
                .routes(routes!(list_operators))
                .routes(routes!(get_operator))
                .routes(routes!(list_operator_tokens)),
        ))
        .merge(groups::routes())
        .merge(identities::routes())
        .merge(requiring(
            Permission::ManageOperators,
            OpenApiRouter::new()
                .routes(routes!(put_operator, update_operator, delete_operator))
                .routes(routes!(disable_operator))
                .routes(routes!(enable_operator))
                .routes(routes!(issue_operator_token))
                .routes(routes!(revoke_operator_token)),
        ))
}

/// An operator: a person or machine that uses the admin API.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperatorView {
    /// The operator's id; audit events have it as `actor.id`.
    pub id: Uuid,
    /// The operator's name.
    pub name: String,
    /// The operator's settings.
    #[serde(flatten)]
    pub spec: OperatorSpec,
    /// When the operator was disabled, and refused from then on; null if it is enabled.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When the operator was created.
    pub created_at: DateTime<Utc>,
    /// When the operator was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change of the operator; send it as `If-Match` to change only what you have read.
    pub etag: String,
}

impl Tagged for OperatorView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl From<Operator> for OperatorView {
    fn from(operator: Operator) -> Self {
        Self {
            etag: etag(operator.id, operator.revision),
            id: operator.id,
            name: operator.name.to_string(),
            spec: operator.spec,
            disabled_at: operator.disabled_at,
            created_at: operator.created_at,
            updated_at: operator.updated_at,
        }
    }
}

/// A token to issue to an operator.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorTokenBody {
    /// How long the token lives. Default `operators.token_default_seconds` (30 days unless configured otherwise), at
    /// most `operators.token_max_seconds`.
    #[schema(minimum = 1)]
    pub expires_in_seconds: Option<u64>,
}

/// A token of an operator, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperatorTokenView {
    /// The token's id; audit events have it as `actor.token_id`.
    pub id: Uuid,
    /// `active`, `expired` or `revoked`.
    #[schema(value_type = String, example = "active")]
    pub state: OperatorTokenState,
    /// When the token was issued.
    pub created_at: DateTime<Utc>,
    /// When the token expires.
    pub expires_at: DateTime<Utc>,
    /// When the token was revoked; null if it was not.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl OperatorTokenView {
    fn new(token: OperatorToken, now: DateTime<Utc>) -> Self {
        Self {
            id: token.id,
            state: token.state(now),
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
        }
    }
}

/// A token that was just issued to an operator. No other answer ever shows it.
#[derive(Serialize, ToSchema)]
pub struct IssuedOperatorTokenView {
    /// The token's id.
    pub id: Uuid,
    /// When the token expires.
    pub expires_at: DateTime<Utc>,
    /// The token's secret.
    pub token: String,
}

/// The operator that made this request.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhoamiView {
    /// The operator's id; null for the bootstrap token.
    pub id: Option<Uuid>,
    /// The operator's name.
    pub name: String,
    /// Its role; of several, the highest-ranking one.
    #[schema(value_type = Option<Role>)]
    pub role: Option<AsWritten<Role>>,
    /// Its roles, and where each counts.
    pub bindings: Vec<Binding>,
    /// When the token that was sent ends by itself; null for the bootstrap token.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Returns the operator that the token belongs to.
#[utoipa::path(
    get, path = "/whoami", tag = "operators", responses((status = 200, body = WhoamiView)),
    extensions(("x-weir-cli" = json!({"example": "weir whoami"})))
)]
pub async fn whoami(Caller(ctx): Caller) -> Json<WhoamiView> {
    let expires_at = match ctx.credential {
        Credential::Token { expires_at, .. } | Credential::Identity { expires_at, .. } => Some(expires_at),
        Credential::Bootstrap | Credential::System => None,
    };
    let (name, bindings) = (ctx.operator_name(), ctx.principal.bindings);
    Json(WhoamiView { id: ctx.actor.id, name, role: ctx.actor.role, bindings, expires_at })
}

/// Creates an operator, or confirms that it exists as described. A new operator needs a token before it can do
/// anything.
#[utoipa::path(
    put, path = "/operators/{operator}", tag = "operators", params(("operator" = String, Path)),
    request_body = OperatorSpec,
    responses(
        (status = 201, description = "Created", body = OperatorView),
        (status = 200, description = "Exists as described", body = OperatorView)
    ),
    extensions(("x-weir-cli" = json!({"example": "weir operator put ann --role owner"})))
)]
pub async fn put_operator(
    State(admin): State<Admin>,
    Caller(ctx): Caller,
    AdminPath(name): AdminPath<String>,
    AdminFields { named, .. }: AdminFields<OperatorSpec>,
) -> Result<Resource<OperatorView>, Problem> {
    let put = admin.service.operators.put_operator(&ctx, &name, &named).await?;
    Ok(Resource::put(put.map(OperatorView::from)))
}

/// Returns an operator.
#[utoipa::path(
    get, path = "/operators/{operator}", tag = "operators", params(("operator" = String, Path)),
    responses((status = 200, body = OperatorView)),
    extensions(("x-weir-cli" = json!({"example": "weir operator get ann"})))
)]
pub async fn get_operator(
    State(admin): State<Admin>,
    AdminPath(name): AdminPath<String>,
) -> Result<Resource<OperatorView>, Problem> {
    Ok(Resource::found(admin.service.operators.get_operator(&name).await?.into()))
}

/// Lists operators by name.
#[utoipa::path(
    get, path = "/operators", tag = "operators", params(PageQuery),
    responses((status = 200, body = PageView<OperatorView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir operator list",
        "columns": ["name", "role", "disabled_at", "updated_at"],
    })))
)]
pub async fn list_operators(
    State(admin): State<Admin>,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<OperatorView>>, Problem> {
    let page = admin.service.operators.list_operators(&page.into()).await?;
    Ok(Json(PageView::new(page, OperatorView::from)))
}

/// Changes an operator.
///
/// 409 if it is an admin that would no longer be one, and no other enabled admin has a valid token.
#[utoipa::path(
    patch, path = "/operators/{operator}", tag = "operators",
    params(("operator" = String, Path), ("If-Match" = Option<String>, Header)),
    request_body(content((OperatorSpec = "application/merge-patch+json"), (OperatorSpec = "application/json"))),
    responses((status = 200, body = OperatorView)),
    extensions(("x-weir-cli" = json!({"example": "weir operator update ann --role auditor"})))
)]
pub async fn update_operator(
    State(admin): State<Admin>,
    Caller(ctx): Caller,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
    AdminFields { named, .. }: AdminFields<OperatorSpec>,
) -> Result<Resource<OperatorView>, Problem> {
    let operator = admin.service.operators.update_operator(&ctx, &name, condition.as_ref(), &named).await?;
    Ok(Resource::found(operator.into()))
}

/// Deletes an operator and its tokens; what it did stays in the audit trail.
///
/// 409 if it is an enabled admin, and no other one has a valid token.
#[utoipa::path(
    delete, path = "/operators/{operator}", tag = "operators",
    params(("operator" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Deleted")),
    extensions(("x-weir-cli" = json!({"example": "weir operator delete ann", "confirm": "its tokens end"})))
)]
pub async fn delete_operator(
    State(admin): State<Admin>,
    Caller(ctx): Caller,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.operators.delete_operator(&ctx, &name, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Disables an operator: it is refused everything until it is enabled.
///
/// 409 if it is an admin, and no other enabled admin has a valid token.
#[utoipa::path(
    post, path = "/operators/{operator}/disable", tag = "operators", params(("operator" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = OperatorView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir operator disable ann --reason 'on leave'",
        "confirm": "it is refused everything at once",
    })))
)]
pub async fn disable_operator(
    State(admin): State<Admin>,
    Caller(ctx): Caller,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<OperatorView>, Problem> {
    Ok(Resource::found(admin.service.operators.disable_operator(&ctx, &name, &body.reason.0).await?.into()))
}

/// Enables a disabled operator; its tokens that have not ended work again.
#[utoipa::path(
    post, path = "/operators/{operator}/enable", tag = "operators", params(("operator" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = OperatorView)),
    extensions(("x-weir-cli" = json!({"example": "weir operator enable ann --reason 'back'"})))
)]
pub async fn enable_operator(
    State(admin): State<Admin>,
    Caller(ctx): Caller,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<OperatorView>, Problem> {
    Ok(Resource::found(admin.service.operators.enable_operator(&ctx, &name, &body.reason.0).await?.into()))
}

/// Issues a token to an operator.
///
/// An operator has at most ten valid tokens. With an `Idempotency-Key`, a repeated request is 409 and names the token,
/// because a token is shown only once.
#[utoipa::path(
    post, path = "/operators/{operator}/tokens", tag = "operators",
    params(("operator" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = OperatorTokenBody,
    responses((status = 201, description = "Issued; no other answer shows the token", body = IssuedOperatorTokenView)),
    extensions(("x-weir-cli" = json!({"example": "weir operator issue-token ann --expires-in 30d"})))
)]
pub async fn issue_operator_token(
    State(admin): State<Admin>,
    Caller(ctx): Caller,
    AdminPath(name): AdminPath<String>,
    CreatingJson { body, idempotency }: CreatingJson<OperatorTokenBody>,
) -> Result<(StatusCode, Json<IssuedOperatorTokenView>), Problem> {
    let ctx = OperatorContext { idempotency, ..ctx };
    let issued = admin.service.operators.issue_operator_token(&ctx, &name, body.expires_in_seconds).await?;
    let view = IssuedOperatorTokenView {
        id: issued.token.id,
        expires_at: issued.token.expires_at,
        token: issued.secret.reveal().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Lists an operator's tokens in the order of their creation.
#[utoipa::path(
    get, path = "/operators/{operator}/tokens", tag = "operators", params(("operator" = String, Path), PageQuery),
    responses((status = 200, body = PageView<OperatorTokenView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir operator list-tokens ann",
        "columns": ["id", "state", "created_at", "expires_at"],
    })))
)]
pub async fn list_operator_tokens(
    State(admin): State<Admin>,
    AdminPath(name): AdminPath<String>,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<OperatorTokenView>>, Problem> {
    let page = admin.service.operators.list_operator_tokens(&name, &page.into()).await?;
    Ok(Json(PageView::new(page, |token| OperatorTokenView::new(token, admin.service.core.clock.now()))))
}

/// Revokes an operator's token now.
#[utoipa::path(
    post, path = "/operators/{operator}/tokens/{id}/revoke", tag = "operators",
    params(("operator" = String, Path), ("id" = Uuid, Path)), request_body = RevokeBody,
    responses((status = 200, body = OperatorTokenView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir operator revoke-token ann 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22 --reason 'lost laptop'",
        "confirm": "it ends at once",
    })))
)]
pub async fn revoke_operator_token(
    State(admin): State<Admin>,
    Caller(ctx): Caller,
    AdminPath((name, id)): AdminPath<(String, Uuid)>,
    AdminJson(body): AdminJson<RevokeBody>,
) -> Result<Json<OperatorTokenView>, Problem> {
    let token = admin.service.operators.revoke_operator_token(&ctx, &name, id, body.reason()).await?;
    Ok(Json(OperatorTokenView::new(token, admin.service.core.clock.now())))
}
