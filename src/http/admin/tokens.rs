//! Recipients' tokens.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, SecondsFormat, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Admin,
    auth::Operator,
    extract::{AdminJson, AdminPath, AdminQuery, CreatingJson},
    grants::RevokeBody,
    page::{PageQuery, PageView},
    problem::Problem,
    text::{List, Text},
};
use crate::{
    domain::token::TokenState,
    service::{
        context::OperatorContext,
        tokens::{IssuedToken, NewToken, RevokedToken, Rotation, TokenDetail},
    },
};

/// A token that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenBody {
    /// How long it lives; as configured where absent.
    #[schema(minimum = 1)]
    pub expires_in_seconds: Option<u64>,
    /// The credential that it belongs to, which has two live tokens at most; `default` where absent.
    #[schema(value_type = Option<String>)]
    pub credential: Option<Text>,
    /// Only these shares; all that the recipient is granted where empty.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub shares: List<Text>,
    /// Only from these networks, besides the recipient's own.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub allowed_cidrs: List<IpNet>,
    /// Whether the answer shows the token. Must be true for now.
    #[serde(default)]
    pub reveal: bool,
}

/// How a token is rotated.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationBody {
    /// How long the old token goes on at most; 0 ends it at once.
    pub existing_token_expire_in_seconds: u64,
    /// Whether the answer shows the new token. Must be true for now.
    #[serde(default)]
    pub reveal: bool,
}

/// A token, without the token itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    /// Its identity.
    pub id: Uuid,
    /// The credential that it belongs to.
    pub credential: String,
    /// Where it stands.
    #[schema(value_type = String, example = "active")]
    pub state: TokenState,
    /// Only these shares; all that the recipient is granted where empty.
    pub shares: Vec<String>,
    /// Only from these networks; anywhere where empty.
    #[schema(value_type = Vec<String>)]
    pub allowed_cidrs: Vec<IpNet>,
    /// When it was issued.
    pub created_at: DateTime<Utc>,
    /// When it was handed out.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl TokenView {
    fn new(TokenDetail { token, shares }: TokenDetail, now: DateTime<Utc>) -> Self {
        Self {
            state: token.state(now),
            id: token.id,
            credential: token.credential,
            shares,
            allowed_cidrs: token.allowed_cidrs,
            created_at: token.created_at,
            activated_at: token.activated_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
            last_used_at: token.last_used_at,
        }
    }
}

/// A token that was just issued; the only answer that ever shows it.
#[derive(Serialize, ToSchema)]
pub struct IssuedTokenView {
    /// Its identity.
    pub id: Uuid,
    /// The credential that it belongs to.
    pub credential: String,
    /// Where it stands.
    #[schema(value_type = String, example = "active")]
    pub state: TokenState,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
    /// The token itself.
    pub token: String,
    /// What connectors read: save it as a `.share` file.
    pub profile: ProfileView,
}

/// A profile of the Delta Sharing protocol.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileView {
    /// The format's version.
    #[schema(example = 1)]
    pub share_credentials_version: u32,
    /// Where the protocol is served.
    pub endpoint: String,
    /// The token itself.
    pub bearer_token: String,
    /// When the token ends.
    pub expiration_time: String,
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

/// What came of revoking a token.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevokedTokenView {
    /// From when on it authenticates nobody.
    pub revoked_at: DateTime<Utc>,
    /// When the last presigned URL that it was given dies.
    pub effective_by: DateTime<Utc>,
    /// How many presigned URLs live until then.
    pub outstanding_urls: i64,
}

/// Issues a token to a recipient.
///
/// Honours `Idempotency-Key`; a replay is 409 and names the token, because a token is shown once.
#[utoipa::path(
    post, path = "/recipients/{recipient}/tokens", tag = "tokens",
    params(("recipient" = String, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = TokenBody,
    responses((status = 201, description = "Issued, and shown once", body = IssuedTokenView))
)]
pub async fn issue_token(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(recipient): AdminPath<String>,
    CreatingJson { body, idempotency }: CreatingJson<TokenBody>,
) -> Result<(StatusCode, Json<IssuedTokenView>), Problem> {
    let ctx = OperatorContext { idempotency, ..ctx };
    let asked = NewToken {
        expires_in_seconds: body.expires_in_seconds,
        credential: body.credential.map(|text| text.0),
        shares: body.shares.0.into_iter().map(|text| text.0).collect(),
        allowed_cidrs: body.allowed_cidrs.0,
        reveal: body.reveal,
    };
    let issued = admin.service.issue_token(&ctx, &recipient, asked).await?;
    Ok((StatusCode::CREATED, Json(IssuedTokenView::new(issued, &admin.endpoint, admin.service.clock.now()))))
}

/// Lists a recipient's tokens by their creation.
#[utoipa::path(
    get, path = "/recipients/{recipient}/tokens", tag = "tokens", params(("recipient" = String, Path), PageQuery),
    responses((status = 200, body = PageView<TokenView>))
)]
pub async fn list_tokens(
    State(admin): State<Admin>,
    AdminPath(recipient): AdminPath<String>,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<TokenView>>, Problem> {
    let page = admin.service.list_tokens(&recipient, &page.into()).await?;
    Ok(Json(PageView::new(page, |detail| TokenView::new(detail, admin.service.clock.now()))))
}

/// Answers a token, without the token itself.
#[utoipa::path(
    get, path = "/recipients/{recipient}/tokens/{id}", tag = "tokens",
    params(("recipient" = String, Path), ("id" = Uuid, Path)), responses((status = 200, body = TokenView))
)]
pub async fn get_token(
    State(admin): State<Admin>,
    AdminPath((recipient, id)): AdminPath<(String, Uuid)>,
) -> Result<Json<TokenView>, Problem> {
    let detail = admin.service.get_token(&recipient, id).await?;
    Ok(Json(TokenView::new(detail, admin.service.clock.now())))
}

/// Ends a token now.
#[utoipa::path(
    post, path = "/recipients/{recipient}/tokens/{id}/revoke", tag = "tokens",
    params(("recipient" = String, Path), ("id" = Uuid, Path)), request_body = RevokeBody,
    responses((status = 200, body = RevokedTokenView))
)]
pub async fn revoke_token(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath((recipient, id)): AdminPath<(String, Uuid)>,
    AdminJson(body): AdminJson<RevokeBody>,
) -> Result<Json<RevokedTokenView>, Problem> {
    let RevokedToken { revoked_at, effective_by, outstanding_urls } =
        admin.service.revoke_token(&ctx, &recipient, id, body.reason()).await?;
    Ok(Json(RevokedTokenView { revoked_at, effective_by, outstanding_urls }))
}

/// Issues a token in the place of another, which goes on for a while.
///
/// It can only shorten the old token's life. Honours `Idempotency-Key` as issuing does.
#[utoipa::path(
    post, path = "/recipients/{recipient}/tokens/{id}/rotate", tag = "tokens",
    params(("recipient" = String, Path), ("id" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = RotationBody,
    responses((status = 201, description = "Issued, and shown once", body = IssuedTokenView))
)]
pub async fn rotate_token(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath((recipient, id)): AdminPath<(String, Uuid)>,
    CreatingJson { body, idempotency }: CreatingJson<RotationBody>,
) -> Result<(StatusCode, Json<IssuedTokenView>), Problem> {
    let ctx = OperatorContext { idempotency, ..ctx };
    let rotation =
        Rotation { existing_token_expire_in_seconds: body.existing_token_expire_in_seconds, reveal: body.reveal };
    let issued = admin.service.rotate_token(&ctx, &recipient, id, rotation).await?;
    Ok((StatusCode::CREATED, Json(IssuedTokenView::new(issued, &admin.endpoint, admin.service.clock.now()))))
}
