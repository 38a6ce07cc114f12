//! Recipients' tokens.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, SecondsFormat, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{access::token::TokenState, operators::Permission},
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::{AdminJson, AdminPath, AdminQuery, CreatingJson},
            page::{PageQuery, PageView},
            problem::Problem,
            text::{List, Text},
        },
    },
    service::{
        access::{
            grants::Effect,
            tokens::{Issued, IssuedToken, NewToken, RevokedToken, Rotation, TokenDetail},
        },
        core::context::OperatorContext,
    },
};

use super::grants::RevokeBody;

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(
            Permission::ReadTokens,
            OpenApiRouter::new().routes(routes!(list_tokens)).routes(routes!(get_token)),
        ))
        .merge(requiring(
            Permission::TightenEverywhere,
            OpenApiRouter::new().routes(routes!(revoke_token)).routes(routes!(cancel_activation)),
        ))
        .merge(requiring(
            Permission::ManageRecipients,
            OpenApiRouter::new().routes(routes!(issue_token)).routes(routes!(rotate_token)),
        ))
}

/// A token to issue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenBody {
    /// How long the token lives, counted from when it is handed out. Default `sharing.token_default_seconds` (90 days
    /// unless configured otherwise), at most `sharing.token_max_seconds`.
    #[schema(minimum = 1)]
    pub expires_in_seconds: Option<u64>,
    /// The credential that the token belongs to; `default` if absent. A credential has at most two live tokens: one in
    /// use and its successor.
    #[schema(value_type = Option<String>)]
    pub credential: Option<Text>,
    /// The names of the only shares that the token opens; all shares granted to the recipient if empty.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub shares: List<Text>,
    /// The only networks (CIDR) from which the token is accepted, besides the recipient's own restriction; no further
    /// restriction if empty.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub allowed_cidrs: List<IpNet>,
    /// Whether to return the token itself; otherwise the answer has a link where the recipient fetches it.
    #[serde(default)]
    pub reveal: bool,
}

/// How to rotate a token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationBody {
    /// How long the old token stays valid at most. With 0 it ends at once if `reveal` or `force` is set, and otherwise
    /// when the recipient fetches the new one.
    pub existing_token_expire_in_seconds: u64,
    /// Whether to return the new token itself; otherwise the answer has a link where the recipient fetches it.
    #[serde(default)]
    pub reveal: bool,
    /// Whether 0 ends the old token now, even though the recipient does not have the new one yet.
    #[serde(default)]
    pub force: bool,
}

/// A recipient's token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    /// The token's id.
    pub id: Uuid,
    /// The credential that the token belongs to.
    pub credential: String,
    /// `pending` (not fetched yet), `active`, `unused` (fetched but not used in time, so refused), `expired` or
    /// `revoked`.
    #[schema(value_type = String, example = "active")]
    pub state: TokenState,
    /// The only shares that the token opens; all shares granted to the recipient if empty.
    pub shares: Vec<String>,
    /// The only networks from which the token is accepted, besides the recipient's own restriction; no further
    /// restriction if empty.
    #[schema(value_type = Vec<String>)]
    pub allowed_cidrs: Vec<IpNet>,
    /// When the token was issued.
    pub created_at: DateTime<Utc>,
    /// When the token was handed out; null while it is pending.
    pub activated_at: Option<DateTime<Utc>>,
    /// When the token expires; null while it is pending, since its life begins when it is fetched.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the link to fetch the token expires; only while the token is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_expires_at: Option<DateTime<Utc>>,
    /// When the token was revoked; null if it was not.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When the token was last used, to the minute; null if it never was.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl TokenView {
    fn new(TokenDetail { token, shares }: TokenDetail, now: DateTime<Utc>) -> Self {
        // A token that was not fetched expires with its link.
        let (expires_at, activation_expires_at) = match token.activated_at {
            Some(_) => (token.expires_at, None),
            None => (None, token.expires_at),
        };
        Self {
            state: token.state(now),
            id: token.id,
            credential: token.credential,
            shares,
            allowed_cidrs: token.allowed_cidrs,
            created_at: token.created_at,
            activated_at: token.activated_at,
            expires_at,
            activation_expires_at,
            revoked_at: token.revoked_at,
            last_used_at: token.last_used_at,
        }
    }
}

/// A token that was just issued. No other answer ever shows the token or its link.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum IssuedView {
    /// Without `reveal`: the link.
    Pending(PendingTokenView),
    /// With `reveal`: the token.
    Revealed(Box<IssuedTokenView>),
}

/// A token that the recipient has yet to fetch.
#[derive(Serialize, ToSchema)]
pub struct PendingTokenView {
    /// The token's id.
    pub id: Uuid,
    /// The credential that the token belongs to.
    pub credential: String,
    /// Always `pending`.
    #[schema(value_type = String, example = "pending")]
    pub state: TokenState,
    /// The page where the recipient fetches the token, once. Anyone with this link can fetch it: send it to the
    /// recipient only.
    pub activation_url: String,
    /// When the link expires.
    pub activation_expires_at: DateTime<Utc>,
}

/// A token that was just issued, with its secret.
#[derive(Serialize, ToSchema)]
pub struct IssuedTokenView {
    /// The token's id.
    pub id: Uuid,
    /// The credential that the token belongs to.
    pub credential: String,
    /// Always `active`.
    #[schema(value_type = String, example = "active")]
    pub state: TokenState,
    /// When the token expires.
    pub expires_at: DateTime<Utc>,
    /// The token's secret.
    pub token: String,
    /// The profile for connectors; save it as a `.share` file.
    pub profile: ProfileView,
}

/// A profile file of the Delta Sharing protocol, for connectors.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileView {
    /// The version of the profile format.
    #[schema(example = 1)]
    pub share_credentials_version: u32,
    /// The URL of the sharing protocol.
    pub endpoint: String,
    /// The token's secret.
    pub bearer_token: String,
    /// When the token expires.
    pub expiration_time: String,
}

impl IssuedView {
    fn new(issued: Issued, admin: &Admin, now: DateTime<Utc>) -> Self {
        match issued {
            Issued::Revealed(issued) => Self::Revealed(Box::new(IssuedTokenView::new(issued, &admin.endpoint, now))),
            Issued::Pending(pending) => Self::Pending(PendingTokenView {
                id: pending.token.id,
                state: pending.token.state(now),
                activation_url: admin.service.access.activation_url(&pending.code),
                activation_expires_at: pending.expires_at,
                credential: pending.token.credential,
            }),
        }
    }
}

impl IssuedTokenView {
    fn new(issued: IssuedToken, endpoint: &str, now: DateTime<Utc>) -> Self {
        let profile = ProfileView {
            share_credentials_version: 1,
            endpoint: endpoint.to_owned(),
            bearer_token: issued.secret.reveal().to_owned(),
            expiration_time: issued.expires_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        };
        Self {
            id: issued.token.id,
            state: issued.token.state(now),
            credential: issued.token.credential,
            expires_at: issued.expires_at,
            token: issued.secret.reveal().to_owned(),
            profile,
        }
    }
}

/// A token that was revoked, and when that takes full effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevokedTokenView {
    /// When the token ended; every later request with it is refused.
    pub revoked_at: DateTime<Utc>,
    /// When the last presigned URL expires that was handed out to it before: it still opens its file until then. The
    /// time of the revocation if there is none.
    pub effective_by: DateTime<Utc>,
    /// How many presigned URLs are valid until then.
    pub outstanding_urls: i64,
}

/// Issues a token to a recipient.
///
/// Without `reveal` the answer is a link to a page where the recipient fetches its profile, once; the token's life
/// begins then, and no operator ever sees it. Pending tokens count towards the two that a credential may have.
///
/// With an `Idempotency-Key`, a repeated request is 409 and names the token, because a token is shown only once.
#[utoipa::path(
    post, path = "/recipients/{recipient}/tokens", tag = "tokens",
    params(("recipient" = String, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = TokenBody,
    responses((status = 201, description = "Issued; no other answer shows the token or its link", body = IssuedView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir token issue acme --expires-in 90d --profile acme.share",
        "profile": "/profile",
    })))
)]
pub async fn issue_token(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(recipient): AdminPath<String>,
    CreatingJson { body, idempotency }: CreatingJson<TokenBody>,
) -> Result<(StatusCode, Json<IssuedView>), Problem> {
    let ctx = OperatorContext { idempotency, ..ctx };
    let asked = NewToken {
        expires_in_seconds: body.expires_in_seconds,
        credential: body.credential.map(|text| text.0),
        shares: body.shares.0.into_iter().map(|text| text.0).collect(),
        allowed_cidrs: body.allowed_cidrs.0,
        reveal: body.reveal,
    };
    let issued = admin.service.access.issue_token(&ctx, &recipient, asked).await?;
    Ok((StatusCode::CREATED, Json(IssuedView::new(issued, &admin, admin.service.core.clock.now()))))
}

/// Lists a recipient's tokens in the order of their creation.
#[utoipa::path(
    get, path = "/recipients/{recipient}/tokens", tag = "tokens", params(("recipient" = String, Path), PageQuery),
    responses((status = 200, body = PageView<TokenView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir token list acme",
        "columns": ["id", "credential", "state", "expires_at", "last_used_at"],
    })))
)]
pub async fn list_tokens(
    State(admin): State<Admin>,
    AdminPath(recipient): AdminPath<String>,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<TokenView>>, Problem> {
    let page = admin.service.access.list_tokens(&recipient, &page.into()).await?;
    Ok(Json(PageView::new(page, |detail| TokenView::new(detail, admin.service.core.clock.now()))))
}

/// Returns a token, without its secret.
#[utoipa::path(
    get, path = "/recipients/{recipient}/tokens/{id}", tag = "tokens",
    params(("recipient" = String, Path), ("id" = Uuid, Path)), responses((status = 200, body = TokenView)),
    extensions(("x-weir-cli" = json!({"example": "weir token get acme 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22"})))
)]
pub async fn get_token(
    State(admin): State<Admin>,
    AdminPath((recipient, id)): AdminPath<(String, Uuid)>,
) -> Result<Json<TokenView>, Problem> {
    let detail = admin.service.access.get_token(&recipient, id).await?;
    Ok(Json(TokenView::new(detail, admin.service.core.clock.now())))
}

/// Revokes a token now.
#[utoipa::path(
    post, path = "/recipients/{recipient}/tokens/{id}/revoke", tag = "tokens",
    params(("recipient" = String, Path), ("id" = Uuid, Path)), request_body = RevokeBody,
    responses((status = 200, body = RevokedTokenView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir token revoke acme 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22 --reason 'leaked'",
        "confirm": "it ends at once",
    })))
)]
pub async fn revoke_token(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath((recipient, id)): AdminPath<(String, Uuid)>,
    AdminJson(body): AdminJson<RevokeBody>,
) -> Result<Json<RevokedTokenView>, Problem> {
    let RevokedToken { revoked_at, effect: Effect { effective_by, outstanding_urls } } =
        admin.service.access.revoke_token(&ctx, &recipient, id, body.reason()).await?;
    Ok(Json(RevokedTokenView { revoked_at, effective_by, outstanding_urls }))
}

/// Cancels a link that has not been used, and its token with it.
///
/// 409 if the token is already fetched: revoke it instead.
#[utoipa::path(
    delete, path = "/recipients/{recipient}/tokens/{id}/activation", tag = "tokens",
    params(("recipient" = String, Path), ("id" = Uuid, Path)),
    responses((status = 204, description = "Cancelled")),
    extensions(("x-weir-cli" = json!({
        "example": "weir token cancel acme 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22",
        "confirm": "the link hands out nothing any more",
    })))
)]
pub async fn cancel_activation(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath((recipient, id)): AdminPath<(String, Uuid)>,
) -> Result<StatusCode, Problem> {
    admin.service.access.cancel_activation(&ctx, &recipient, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Issues a successor to a token; the old token stays valid for a while.
///
/// The successor has the old token's credential, shares, networks and length of life. The old token's life can only be
/// shortened. `Idempotency-Key` works as for issuing.
#[utoipa::path(
    post, path = "/recipients/{recipient}/tokens/{id}/rotate", tag = "tokens",
    params(("recipient" = String, Path), ("id" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = RotationBody,
    responses((status = 201, description = "Issued; no other answer shows the token or its link", body = IssuedView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir token rotate acme 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22 --existing-token-expire-in 7d",
        "profile": "/profile",
    })))
)]
pub async fn rotate_token(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath((recipient, id)): AdminPath<(String, Uuid)>,
    CreatingJson { body, idempotency }: CreatingJson<RotationBody>,
) -> Result<(StatusCode, Json<IssuedView>), Problem> {
    let ctx = OperatorContext { idempotency, ..ctx };
    let rotation = Rotation {
        existing_token_expire_in_seconds: body.existing_token_expire_in_seconds,
        reveal: body.reveal,
        force: body.force,
    };
    let issued = admin.service.access.rotate_token(&ctx, &recipient, id, rotation).await?;
    Ok((StatusCode::CREATED, Json(IssuedView::new(issued, &admin, admin.service.core.clock.now()))))
}
