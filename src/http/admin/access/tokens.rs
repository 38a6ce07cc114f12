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
    /// Whether the answer shows the token, instead of a link by which the recipient fetches it.
    #[serde(default)]
    pub reveal: bool,
}

/// How a token is rotated.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationBody {
    /// How long the old token goes on at most; 0 ends it at once with `reveal`, and otherwise when the new one is
    /// fetched.
    pub existing_token_expire_in_seconds: u64,
    /// Whether the answer shows the new token, instead of a link by which the recipient fetches it.
    #[serde(default)]
    pub reveal: bool,
    /// Whether 0 ends the old token now, though nobody has the new one yet.
    #[serde(default)]
    pub force: bool,
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
    /// When it ends by itself; its life begins when it is fetched.
    pub expires_at: Option<DateTime<Utc>>,
    /// While it is pending: when its link ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used.
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

/// A token that was just issued; the only answer that ever shows it, or the link to it.
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
    /// Its identity.
    pub id: Uuid,
    /// The credential that it belongs to.
    pub credential: String,
    /// Where it stands.
    #[schema(value_type = String, example = "pending")]
    pub state: TokenState,
    /// The page where the recipient fetches it, once. Whoever has it can, so send it to nobody else.
    pub activation_url: String,
    /// When the page stops handing it out.
    pub activation_expires_at: DateTime<Utc>,
}

/// A token that was just issued and is shown.
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

impl IssuedView {
    fn new(issued: Issued, admin: &Admin, now: DateTime<Utc>) -> Self {
        match issued {
            Issued::Revealed(issued) => Self::Revealed(Box::new(IssuedTokenView::new(issued, &admin.endpoint, now))),
            Issued::Pending(pending) => Self::Pending(PendingTokenView {
                id: pending.token.id,
                state: pending.token.state(now),
                activation_url: admin.service.activation_url(&pending.code),
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
/// Without `reveal` the answer is a link to a page where the recipient fetches its profile, once; the token's life
/// begins then, and no operator ever sees it. Pending tokens count towards the two that a credential may have.
///
/// Honours `Idempotency-Key`; a replay is 409 and names the token, because a token is shown once.
#[utoipa::path(
    post, path = "/recipients/{recipient}/tokens", tag = "tokens",
    params(("recipient" = String, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = TokenBody,
    responses((status = 201, description = "Issued; the token or its link is shown once", body = IssuedView))
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
    let issued = admin.service.issue_token(&ctx, &recipient, asked).await?;
    Ok((StatusCode::CREATED, Json(IssuedView::new(issued, &admin, admin.service.clock.now()))))
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
    let RevokedToken { revoked_at, effect: Effect { effective_by, outstanding_urls } } =
        admin.service.revoke_token(&ctx, &recipient, id, body.reason()).await?;
    Ok(Json(RevokedTokenView { revoked_at, effective_by, outstanding_urls }))
}

/// Ends a link that nobody has used, and with it its token.
///
/// 409 where the token is fetched already: revoke that instead.
#[utoipa::path(
    delete, path = "/recipients/{recipient}/tokens/{id}/activation", tag = "tokens",
    params(("recipient" = String, Path), ("id" = Uuid, Path)),
    responses((status = 204, description = "The link hands out nothing any more"))
)]
pub async fn cancel_activation(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath((recipient, id)): AdminPath<(String, Uuid)>,
) -> Result<StatusCode, Problem> {
    admin.service.cancel_activation(&ctx, &recipient, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Issues a token in the place of another, which goes on for a while.
///
/// It can only shorten the old token's life. Honours `Idempotency-Key` as issuing does.
#[utoipa::path(
    post, path = "/recipients/{recipient}/tokens/{id}/rotate", tag = "tokens",
    params(("recipient" = String, Path), ("id" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = RotationBody,
    responses((status = 201, description = "Issued; the token or its link is shown once", body = IssuedView))
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
    let issued = admin.service.rotate_token(&ctx, &recipient, id, rotation).await?;
    Ok((StatusCode::CREATED, Json(IssuedView::new(issued, &admin, admin.service.clock.now()))))
}
