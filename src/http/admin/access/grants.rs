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

/// A grant to create: the right of one recipient to read one share for a time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantBody {
    /// The name of the share to grant.
    #[schema(value_type = String)]
    pub share: Text,
    /// The name of the recipient that may read it.
    #[schema(value_type = String)]
    pub recipient: Text,
    /// When access begins; now if absent or in the past.
    pub valid_from: Option<DateTime<Utc>>,
    /// When access ends. By default, and at most, `sharing.grant_max_seconds` after it begins (365 days unless
    /// configured otherwise).
    pub valid_until: Option<DateTime<Utc>>,
    /// What the data may be used for. Agreements and tables that name purposes allow no other. Recorded with every event and
    /// shown in reports. Required if `sharing.require_purpose` is set.
    #[schema(value_type = Option<String>)]
    pub purpose: Option<Text>,
    /// The contract that permits the grant, in its own words: an agreement for any purpose is made of them, which is active
    /// until `valid_until`, or else until the grant ends. This or `agreements` is required if `sharing.require_agreement` is
    /// set.
    pub agreement: Option<AgreementBody>,
    /// The names of agreements with the recipient that permit the grant: it allows access only while each of them is active
    /// and allows its purpose.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, example = json!(["acme-baa"]))]
    pub agreements: Vec<Text>,
    /// The id of a live grant of the same share and recipient, which ends at the moment when this one begins.
    pub replaces: Option<Uuid>,
}

/// The contract that permits a grant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgreementBody {
    /// The reference by which both parties know the contract, such as its number.
    #[serde(rename = "ref")]
    #[schema(value_type = String)]
    pub reference: Text,
    /// SHA-256 of the document, as 64 lower-case hexadecimal digits. Stored and shown; Weir neither fetches nor checks
    /// the document.
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{64}$")]
    pub sha256: Option<Sha256Hex>,
    /// When the agreement ends; access under the grant ends with it.
    pub valid_until: Option<DateTime<Utc>>,
}

/// Why access is revoked; `{}` gives no reason.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeBody {
    /// The reason, recorded in the audit trail.
    #[schema(value_type = Option<String>)]
    reason: Option<Text>,
}

impl RevokeBody {
    /// Returns the reason, if one was given.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_ref().map(|text| text.0.as_str())
    }
}

/// Filters a listing of grants.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantQuery {
    /// Only grants on this share, by name or id.
    #[param(value_type = Option<String>)]
    pub share: Option<Text>,
    /// Only grants of this recipient, by name or id.
    #[param(value_type = Option<String>)]
    pub recipient: Option<Text>,
    /// Only grants that allowed access at this moment, to see who could read what then.
    pub at: Option<DateTime<Utc>>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the previous page; absent for the first page.
    pub page_token: Option<String>,
}

/// A grant: the right of one recipient to read one share for a time.
#[derive(Debug, Serialize, ToSchema)]
pub struct GrantView {
    /// The grant's id.
    pub id: Uuid,
    /// The share's name; if the share is deleted, its last name.
    pub share: String,
    /// The share's id.
    pub share_id: Uuid,
    /// The recipient's name; if the recipient is deleted, its last name.
    pub recipient: String,
    /// The recipient's id.
    pub recipient_id: Uuid,
    /// The grant's state now.
    pub state: GrantState,
    /// When access begins.
    pub valid_from: DateTime<Utc>,
    /// When access ends (exclusive).
    pub valid_until: DateTime<Utc>,
    /// What the data may be used for. Agreements and tables that name purposes allow no other.
    pub purpose: Option<String>,
    /// The contract that permits the grant, as it was when the grant was made: its reference, or the names of the agreements.
    pub agreement: Option<AgreementView>,
    /// The names of the agreements on which the grant stands; they decide, whatever `agreement` says.
    pub agreements: Vec<String>,
    /// The operator that created the grant.
    pub granted_by: String,
    /// When the grant was created.
    pub created_at: DateTime<Utc>,
    /// How the grant was ended early; null if it was not.
    pub ending: Option<EndingView>,
    /// Only in a dry run: which recipients would newly see which columns and rows. The grant's `id` is all zeros then,
    /// unless an earlier request with the same `Idempotency-Key` has already created the grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub disclosure: Option<ReachView>,
}

/// The contract that permits a grant.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgreementView {
    /// The reference by which both parties know the contract, such as its number.
    #[serde(rename = "ref")]
    pub reference: String,
    /// SHA-256 of the document, as 64 lower-case hexadecimal digits. Stored and shown; Weir neither fetches nor checks
    /// the document.
    pub sha256: Option<String>,
    /// When the agreement was to end. It may have changed since.
    pub valid_until: Option<DateTime<Utc>>,
}

/// How a grant was ended early.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndingView {
    /// When access ended.
    pub at: DateTime<Utc>,
    /// The reason given; null if there is none.
    pub reason: Option<String>,
    /// The operator that ended it.
    pub ended_by: String,
    /// The id of the grant that replaced it; null if none did.
    pub replaced_by: Option<Uuid>,
}

/// The grants that were ended, and when that takes full effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevokedView {
    /// When access ended; every later request is refused.
    pub revoked_at: DateTime<Utc>,
    /// When the last presigned URL expires that was handed out before: it still opens its file until then. The time of
    /// the revocation if there is none.
    pub effective_by: DateTime<Utc>,
    /// How many presigned URLs are valid until then.
    pub outstanding_urls: i64,
    /// The ids of grants that still open the same shares to the same recipients, such as a renewal that has not begun.
    pub still_granted_by: Vec<Uuid>,
    /// The ids of the grants that were ended.
    pub grants: Vec<Uuid>,
}

impl GrantView {
    fn new(NamedGrant { grant, share, recipient, agreements }: NamedGrant, now: DateTime<Utc>) -> Self {
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
            agreements,
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
            agreements: body.agreements.into_iter().map(|text| text.0).collect(),
            replaces: body.replaces,
        }
    }
}

/// Grants a share to a recipient.
///
/// Grants of one share to one recipient never overlap in time: 409 names the live grant, unless `replaces` ends it at
/// the same moment. 409, too, while the share shows an ownerless table, and 422 for what goes beyond the recipient's
/// `purposes` and `ceiling`. With an `Idempotency-Key`, a repeated request returns the grant that the first one created.
#[utoipa::path(
    post, path = "/grants", tag = "grants", params(("Idempotency-Key" = Option<String>, Header)),
    request_body = GrantBody,
    responses(
        (status = 201, description = "Granted", body = GrantView),
        (status = 200, description = "A dry run: the grant that would be created", body = GrantView)
    ),
    extensions(("x-weir-cli" = json!({
        "example": "weir grant create --share insurer --recipient acme --purpose fraud_analytics --valid-until 2027-06-30",
        "discloses": true,
    })))
)]
pub async fn create_grant(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    CreatingJson { body, idempotency }: CreatingJson<GrantBody>,
) -> Result<(StatusCode, Json<GrantView>), Problem> {
    let ctx = OperatorContext { idempotency, ..ctx };
    if ctx.is_dry() {
        let PreviewedGrant { named, disclosure } = admin.service.access.preview_grant(&ctx, body.into()).await?;
        let named = GrantView::new(named, admin.service.core.clock.now());
        let previewed = GrantView { disclosure: Some(disclosure.into()), ..named };
        return Ok((StatusCode::OK, Json(previewed)));
    }
    let named = admin.service.access.create_grant(&ctx, body.into()).await?;
    Ok((StatusCode::CREATED, Json(GrantView::new(named, admin.service.core.clock.now()))))
}

/// Lists grants in the order of their creation.
#[utoipa::path(
    get, path = "/grants", tag = "grants", params(GrantQuery), responses((status = 200, body = PageView<GrantView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir grant list --recipient acme --at 2026-11-01",
        "columns": ["id", "share", "recipient", "state", "valid_from", "valid_until", "purpose"],
    })))
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
    let page = admin.service.access.list_grants(&ctx, &filter, &page).await?;
    Ok(Json(PageView::new(page, |named| GrantView::new(named, admin.service.core.clock.now()))))
}

/// Returns a grant.
#[utoipa::path(
    get, path = "/grants/{id}", tag = "grants", params(("id" = Uuid, Path)),
    responses((status = 200, body = GrantView)),
    extensions(("x-weir-cli" = json!({"example": "weir grant get 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22"})))
)]
pub async fn get_grant(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(id): AdminPath<Uuid>,
) -> Result<Json<GrantView>, Problem> {
    Ok(Json(GrantView::new(admin.service.access.get_grant(&ctx, id).await?, admin.service.core.clock.now())))
}

/// Ends a grant now.
#[utoipa::path(
    post, path = "/grants/{id}/revoke", tag = "grants", params(("id" = Uuid, Path)), request_body = RevokeBody,
    responses((status = 200, body = RevokedView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir grant revoke 0198c5d0-7c4e-7c1e-a5f3-2f6a0c9b1d22 --reason 'contract ended'",
        "confirm": "access ends at once",
    })))
)]
pub async fn revoke_grant(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(id): AdminPath<Uuid>,
    AdminJson(body): AdminJson<RevokeBody>,
) -> Result<Json<RevokedView>, Problem> {
    Ok(Json(admin.service.access.revoke_grant(&ctx, id, body.reason()).await?.into()))
}

/// Ends every grant on a share, including grants that have not begun.
#[utoipa::path(
    post, path = "/shares/{share}/revoke", tag = "grants", params(("share" = String, Path)),
    request_body = RevokeBody, responses((status = 200, body = RevokedView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir share revoke-all insurer --reason 'withdrawn'",
        "confirm": "every recipient's access ends at once",
    })))
)]
pub async fn revoke_share(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(share): AdminPath<String>,
    AdminJson(body): AdminJson<RevokeBody>,
) -> Result<Json<RevokedView>, Problem> {
    Ok(Json(admin.service.access.revoke_share(&ctx, &share, None, body.reason()).await?.into()))
}

/// Ends every grant of a recipient on a share, including grants that have not begun.
#[utoipa::path(
    post, path = "/shares/{share}/recipients/{recipient}/revoke", tag = "grants",
    params(("share" = String, Path), ("recipient" = String, Path)), request_body = RevokeBody,
    responses((status = 200, body = RevokedView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir share revoke insurer acme --reason 'contract ended'",
        "confirm": "the recipient's access ends at once",
    })))
)]
pub async fn revoke_share_from_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath((share, recipient)): AdminPath<(String, String)>,
    AdminJson(body): AdminJson<RevokeBody>,
) -> Result<Json<RevokedView>, Problem> {
    Ok(Json(admin.service.access.revoke_share(&ctx, &share, Some(&recipient), body.reason()).await?.into()))
}
