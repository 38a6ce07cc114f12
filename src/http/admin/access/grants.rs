//! Grants, and the revocation of access.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        access::grant::{Agreement, GrantState},
        operators::Permission,
    },
    http::admin::{
        Admin,
        catalog::disclosures::ReachView,
        core::{
            auth::{Operator, requiring},
            extract::{AdminJson, AdminPath, AdminQuery, CreatingJson},
            page::PageView,
            problem::Problem,
            text::{Sha256Hex, Text},
        },
    },
    service::{
        access::grants::{GrantsQuery, NewGrant, PreviewedGrant, Revoked},
        core::{context::OperatorContext, page::PageRequest},
    },
    store::NamedGrant,
};

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(
            Permission::ReadSharing,
            OpenApiRouter::new().routes(routes!(list_grants)).routes(routes!(get_grant)),
        ))
        .merge(requiring(
            Permission::Tighten,
            OpenApiRouter::new()
                .routes(routes!(revoke_grant))
                .routes(routes!(revoke_share))
                .routes(routes!(revoke_share_from_recipient)),
        ))
        .merge(requiring(Permission::ManageSharing, OpenApiRouter::new().routes(routes!(create_grant))))
}

/// A grant that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantBody {
    /// The share's name.
    #[schema(value_type = String)]
    pub share: Text,
    /// The recipient's name.
    #[schema(value_type = String)]
    pub recipient: Text,
    /// From when on; now where absent or past.
    pub valid_from: Option<DateTime<Utc>>,
    /// Until when; as long as is configured where absent.
    pub valid_until: Option<DateTime<Utc>>,
    /// What the data may be used for. Recorded with every event and reported; nothing is refused because of it.
    #[schema(value_type = Option<String>)]
    pub purpose: Option<Text>,
    /// The contract that it stands on.
    pub agreement: Option<AgreementBody>,
    /// The live grant of the same share and recipient that it takes the place of.
    pub replaces: Option<Uuid>,
}

/// The contract that a grant stands on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgreementBody {
    /// The reference that both sides know the document by.
    #[serde(rename = "ref")]
    #[schema(value_type = String)]
    pub reference: Text,
    /// SHA-256 of the document, in lower-case hex. Kept and shown; no document is fetched or compared.
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{64}$")]
    pub sha256: Option<Sha256Hex>,
    /// When the agreement ends, and access with it.
    pub valid_until: Option<DateTime<Utc>>,
}

/// Why access is ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeBody {
    /// For the audit trail.
    #[schema(value_type = Option<String>)]
    reason: Option<Text>,
}

impl RevokeBody {
    /// Returns the reason, if one was given.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_ref().map(|text| text.0.as_str())
    }
}

/// Which grants.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantQuery {
    /// Only those on the share of this name or id.
    #[param(value_type = Option<String>)]
    pub share: Option<Text>,
    /// Only those of the recipient of this name or id.
    #[param(value_type = Option<String>)]
    pub recipient: Option<Text>,
    /// Only those that allowed at this moment: who could read what then.
    pub at: Option<DateTime<Utc>>,
    /// At most so many items.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the page before.
    pub page_token: Option<String>,
}

/// A grant.
#[derive(Debug, Serialize, ToSchema)]
pub struct GrantView {
    /// Its identity.
    pub id: Uuid,
    /// The share's name; its last one where the share is gone.
    pub share: String,
    /// The share's identity.
    pub share_id: Uuid,
    /// The recipient's name; its last one where the recipient is gone.
    pub recipient: String,
    /// The recipient's identity.
    pub recipient_id: Uuid,
    /// Where it stands.
    pub state: GrantState,
    /// From when on it allows.
    pub valid_from: DateTime<Utc>,
    /// Until when it allows; exclusive.
    pub valid_until: DateTime<Utc>,
    /// What the data may be used for. Recorded with every event and reported; nothing is refused because of it.
    pub purpose: Option<String>,
    /// The contract that it stands on.
    pub agreement: Option<AgreementView>,
    /// The operator that granted it.
    pub granted_by: String,
    /// When it was granted.
    pub created_at: DateTime<Utc>,
    /// How it was ended before its time, if it was.
    pub ending: Option<EndingView>,
    /// Whom it would reach with which columns and rows; only of a dry run, whose `id` is all zeros unless the same request
    /// (`Idempotency-Key`) has made the grant before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub disclosure: Option<ReachView>,
}

/// The contract that a grant stands on.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgreementView {
    /// The reference that both sides know the document by.
    #[serde(rename = "ref")]
    pub reference: String,
    /// SHA-256 of the document, in lower-case hex. Kept and shown; no document is fetched or compared.
    pub sha256: Option<String>,
    /// When the agreement ends, and access with it.
    pub valid_until: Option<DateTime<Utc>>,
}

/// How a grant was ended before its time.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndingView {
    /// From when on it no longer allows.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: Option<String>,
    /// Who ended it.
    pub ended_by: String,
    /// The grant that took its place, if one did.
    pub replaced_by: Option<Uuid>,
}

/// What came of ending access.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevokedView {
    /// From when on nothing is allowed any more.
    pub revoked_at: DateTime<Utc>,
    /// When the last presigned URL that was handed out dies.
    pub effective_by: DateTime<Utc>,
    /// How many presigned URLs live until then.
    pub outstanding_urls: i64,
    /// Grants that go on to open the same share to the same recipient, such as a renewal whose window has not begun.
    pub still_granted_by: Vec<Uuid>,
    /// The grants that were ended.
    pub grants: Vec<Uuid>,
}

impl GrantView {
    fn new(NamedGrant { grant, share, recipient }: NamedGrant, now: DateTime<Utc>) -> Self {
        Self {
            state: grant.state(now),
            id: grant.id,
            share,
            share_id: grant.share_id,
            recipient,
            recipient_id: grant.recipient_id,
            valid_from: grant.valid_from,
            valid_until: grant.valid_until,
            purpose: grant.purpose,
            agreement: grant.agreement.map(|agreement| AgreementView {
                reference: agreement.reference,
                sha256: agreement.sha256,
                valid_until: agreement.valid_until,
            }),
            granted_by: grant.granted_by,
            created_at: grant.created_at,
            ending: grant.ending.map(|ending| EndingView {
                at: ending.at,
                reason: ending.reason,
                ended_by: ending.ended_by,
                replaced_by: ending.replaced_by,
            }),
            disclosure: None,
        }
    }
}

impl From<Revoked> for RevokedView {
    fn from(revoked: Revoked) -> Self {
        Self {
            revoked_at: revoked.revoked_at,
            effective_by: revoked.effect.effective_by,
            outstanding_urls: revoked.effect.outstanding_urls,
            still_granted_by: revoked.still_granted_by,
            grants: revoked.grants,
        }
    }
}

impl From<GrantBody> for NewGrant {
    fn from(body: GrantBody) -> Self {
        Self {
            share: body.share.0,
            recipient: body.recipient.0,
            valid_from: body.valid_from,
            valid_until: body.valid_until,
            purpose: body.purpose.map(|text| text.0),
            agreement: body.agreement.map(|agreement| Agreement {
                reference: agreement.reference.0,
                sha256: agreement.sha256.map(|digest| digest.0),
                valid_until: agreement.valid_until,
            }),
            replaces: body.replaces,
        }
    }
}

/// Grants a share to a recipient.
///
/// Windows of one share and recipient never overlap: 409 names the live grant, unless `replaces` ends it in the same
/// moment. Honours `Idempotency-Key`.
#[utoipa::path(
    post, path = "/grants", tag = "grants", params(("Idempotency-Key" = Option<String>, Header)),
    request_body = GrantBody,
    responses(
        (status = 201, description = "Granted", body = GrantView),
        (status = 200, description = "What would be granted, by a dry run", body = GrantView)
    )
)]
pub async fn create_grant(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    CreatingJson { body, idempotency }: CreatingJson<GrantBody>,
) -> Result<(StatusCode, Json<GrantView>), Problem> {
    let ctx = OperatorContext { idempotency, ..ctx };
    if ctx.is_dry() {
        let PreviewedGrant { named, disclosure } = admin.service.preview_grant(&ctx, body.into()).await?;
        let named = GrantView::new(named, admin.service.clock.now());
        let previewed = GrantView { disclosure: Some(disclosure.into()), ..named };
        return Ok((StatusCode::OK, Json(previewed)));
    }
    let named = admin.service.create_grant(&ctx, body.into()).await?;
    Ok((StatusCode::CREATED, Json(GrantView::new(named, admin.service.clock.now()))))
}

/// Lists grants by their creation.
#[utoipa::path(
    get, path = "/grants", tag = "grants", params(GrantQuery), responses((status = 200, body = PageView<GrantView>))
)]
pub async fn list_grants(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminQuery(query): AdminQuery<GrantQuery>,
) -> Result<Json<PageView<GrantView>>, Problem> {
    let page = PageRequest { max_results: query.max_results, page_token: query.page_token };
    let filter = GrantsQuery {
        share: query.share.map(|text| text.0),
        recipient: query.recipient.map(|text| text.0),
        at: query.at,
    };
    let page = admin.service.list_grants(&ctx, &filter, &page).await?;
    Ok(Json(PageView::new(page, |named| GrantView::new(named, admin.service.clock.now()))))
}

/// Answers a grant.
#[utoipa::path(
    get, path = "/grants/{id}", tag = "grants", params(("id" = Uuid, Path)),
    responses((status = 200, body = GrantView))
)]
pub async fn get_grant(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(id): AdminPath<Uuid>,
) -> Result<Json<GrantView>, Problem> {
    Ok(Json(GrantView::new(admin.service.get_grant(&ctx, id).await?, admin.service.clock.now())))
}

/// Ends a grant now.
#[utoipa::path(
    post, path = "/grants/{id}/revoke", tag = "grants", params(("id" = Uuid, Path)), request_body = RevokeBody,
    responses((status = 200, body = RevokedView))
)]
pub async fn revoke_grant(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(id): AdminPath<Uuid>,
    AdminJson(body): AdminJson<RevokeBody>,
) -> Result<Json<RevokedView>, Problem> {
    Ok(Json(admin.service.revoke_grant(&ctx, id, body.reason()).await?.into()))
}

/// Ends every current and future grant on a share.
#[utoipa::path(
    post, path = "/shares/{share}/revoke", tag = "grants", params(("share" = String, Path)),
    request_body = RevokeBody, responses((status = 200, body = RevokedView))
)]
pub async fn revoke_share(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(share): AdminPath<String>,
    AdminJson(body): AdminJson<RevokeBody>,
) -> Result<Json<RevokedView>, Problem> {
    Ok(Json(admin.service.revoke_share(&ctx, &share, None, body.reason()).await?.into()))
}

/// Ends every current and future grant of a recipient on a share.
#[utoipa::path(
    post, path = "/shares/{share}/recipients/{recipient}/revoke", tag = "grants",
    params(("share" = String, Path), ("recipient" = String, Path)), request_body = RevokeBody,
    responses((status = 200, body = RevokedView))
)]
pub async fn revoke_share_from_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath((share, recipient)): AdminPath<(String, String)>,
    AdminJson(body): AdminJson<RevokeBody>,
) -> Result<Json<RevokedView>, Problem> {
    Ok(Json(admin.service.revoke_share(&ctx, &share, Some(&recipient), body.reason()).await?.into()))
}
