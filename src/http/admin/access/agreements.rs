//! Agreements: the contracts that grants stand on.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        access::agreement::{AgreementSpec, AgreementStep},
        operators::Permission,
    },
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
    service::{
        access::{agreements::KnownAgreement, grants::Effect},
        core::{context::OperatorContext, precondition::etag},
    },
};

use super::recipients::ReasonBody;

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    let reading = OpenApiRouter::new().routes(routes!(list_agreements)).routes(routes!(get_agreement));
    let changing = OpenApiRouter::new()
        .routes(routes!(put_agreement, update_agreement, delete_agreement))
        .routes(routes!(submit_agreement))
        .routes(routes!(activate_agreement))
        .routes(routes!(suspend_agreement))
        .routes(routes!(resume_agreement))
        .routes(routes!(terminate_agreement));
    requiring(Permission::ReadRecipients, reading).merge(requiring(Permission::ManageAgreements, changing))
}

/// A contract with a recipient.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgreementDetailView {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// `draft`, `in_review`, `active`, `expiring` (active, and its end is near), `expired`, `suspended` or `terminated`; words
    /// of newer servers are shown as they are. Only `active` and `expiring` agreements that have begun allow access.
    #[schema(example = "active")]
    pub state: String,
    /// Since when somebody has brought it to its state; time alone leads to `expiring` and `expired`.
    pub state_since: DateTime<Utc>,
    /// When it ends by time: its end, or its review.
    pub ends_at: DateTime<Utc>,
    /// Its settings.
    #[serde(flatten)]
    pub spec: AgreementSpec,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change; send it as `If-Match` to change only what you have read.
    pub etag: String,
}

impl Tagged for AgreementDetailView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl AgreementDetailView {
    fn new(KnownAgreement { agreement, terms }: KnownAgreement, now: DateTime<Utc>) -> Self {
        Self {
            etag: etag(agreement.id, agreement.revision),
            id: agreement.id,
            name: agreement.name.to_string(),
            state: terms.shown_state(agreement.spec.notice(), now),
            state_since: terms.state_since,
            ends_at: terms.ends_at,
            spec: agreement.spec,
            created_at: agreement.created_at,
            updated_at: agreement.updated_at,
        }
    }
}

/// An agreement that was suspended or terminated, and when that takes full effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoppedAgreementView {
    /// The agreement.
    #[serde(flatten)]
    pub agreement: AgreementDetailView,
    /// When the last presigned URL expires that was handed out under its grants: it still opens its file until then. The time
    /// of the change if there is none.
    pub effective_by: DateTime<Utc>,
    /// How many presigned URLs are valid until then.
    pub outstanding_urls: i64,
}

impl Tagged for StoppedAgreementView {
    fn etag(&self) -> &str {
        &self.agreement.etag
    }
}

/// Registers an agreement as a draft, or confirms that it is as described.
///
/// A draft allows nothing: activate it once it is signed.
#[utoipa::path(
    put, path = "/agreements/{agreement}", tag = "agreements", params(("agreement" = String, Path)),
    request_body = AgreementSpec,
    responses(
        (status = 201, description = "Created", body = AgreementDetailView),
        (status = 200, description = "Exists as described", body = AgreementDetailView)
    ),
    extensions(("x-weir-cli" = json!({
        "example": "weir agreement put acme-nda --recipient acme --type custom --document-uri clm://4711 --purposes fraud_analytics --valid-from 2026-12-01 --valid-until 2027-11-30",
    })))
)]
pub async fn put_agreement(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminFields { named, .. }: AdminFields<AgreementSpec>,
) -> Result<Resource<AgreementDetailView>, Problem> {
    let put = admin.service.access.put_agreement(&ctx, &name, &named).await?;
    Ok(Resource::put(put.map(|known| AgreementDetailView::new(known, admin.service.core.clock.now()))))
}

/// Returns an agreement.
#[utoipa::path(
    get, path = "/agreements/{agreement}", tag = "agreements", params(("agreement" = String, Path)),
    responses((status = 200, body = AgreementDetailView)),
    extensions(("x-weir-cli" = json!({"example": "weir agreement get acme-nda"})))
)]
pub async fn get_agreement(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
) -> Result<Resource<AgreementDetailView>, Problem> {
    let known = admin.service.access.get_agreement(&ctx, &name).await?;
    Ok(Resource::found(AgreementDetailView::new(known, admin.service.core.clock.now())))
}

/// Lists agreements by name.
#[utoipa::path(
    get, path = "/agreements", tag = "agreements", params(PageQuery),
    responses((status = 200, body = PageView<AgreementDetailView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir agreement list",
        "columns": ["name", "recipient", "type", "state", "ends_at", "purposes"],
    })))
)]
pub async fn list_agreements(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<AgreementDetailView>>, Problem> {
    let page = admin.service.access.list_agreements(&ctx, &page.into()).await?;
    let now = admin.service.core.clock.now();
    Ok(Json(PageView::new(page, |known| AgreementDetailView::new(known, now))))
}

/// Changes an agreement: its terms, not its state. What changes counts for the next request.
#[utoipa::path(
    patch, path = "/agreements/{agreement}", tag = "agreements",
    params(("agreement" = String, Path), ("If-Match" = Option<String>, Header)),
    request_body(content((AgreementSpec = "application/merge-patch+json"), (AgreementSpec = "application/json"))),
    responses((status = 200, body = AgreementDetailView)),
    extensions(("x-weir-cli" = json!({"example": "weir agreement update acme-nda --valid-until 2028-11-30"})))
)]
pub async fn update_agreement(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
    AdminFields { named, .. }: AdminFields<AgreementSpec>,
) -> Result<Resource<AgreementDetailView>, Problem> {
    let known = admin.service.access.update_agreement(&ctx, &name, condition.as_ref(), &named).await?;
    Ok(Resource::found(AgreementDetailView::new(known, admin.service.core.clock.now())))
}

/// Deletes an agreement that no grant names, and never named.
#[utoipa::path(
    delete, path = "/agreements/{agreement}", tag = "agreements",
    params(("agreement" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Deleted")),
    extensions(("x-weir-cli" = json!({
        "example": "weir agreement delete acme-nda",
        "confirm": "only its past stays on record",
    })))
)]
pub async fn delete_agreement(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.core.delete_declared::<AgreementSpec>(&ctx, &name, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn moved(
    admin: &Admin,
    ctx: &OperatorContext,
    name: &str,
    step: AgreementStep,
    body: &ReasonBody,
) -> Result<(AgreementDetailView, Effect), Problem> {
    let (known, effect) = admin.service.access.move_agreement(ctx, name, step, &body.reason.0).await?;
    Ok((AgreementDetailView::new(known, admin.service.core.clock.now()), effect))
}

async fn stopped(
    admin: &Admin,
    ctx: &OperatorContext,
    name: &str,
    step: AgreementStep,
    body: &ReasonBody,
) -> Result<Resource<StoppedAgreementView>, Problem> {
    let (agreement, Effect { effective_by, outstanding_urls }) = moved(admin, ctx, name, step, body).await?;
    Ok(Resource::found(StoppedAgreementView { agreement, effective_by, outstanding_urls }))
}

/// Hands a draft over to be reviewed and signed.
#[utoipa::path(
    post, path = "/agreements/{agreement}/submit", tag = "agreements", params(("agreement" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = AgreementDetailView)),
    extensions(("x-weir-cli" = json!({"example": "weir agreement submit acme-nda --reason 'sent to legal'"})))
)]
pub async fn submit_agreement(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<AgreementDetailView>, Problem> {
    Ok(Resource::found(moved(&admin, &ctx, &name, AgreementStep::Submit, &body).await?.0))
}

/// Puts an agreement in force: it is signed. From `draft` or `in_review`; 409 otherwise.
#[utoipa::path(
    post, path = "/agreements/{agreement}/activate", tag = "agreements", params(("agreement" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = AgreementDetailView)),
    extensions(("x-weir-cli" = json!({"example": "weir agreement activate acme-nda --reason 'signed'"})))
)]
pub async fn activate_agreement(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<AgreementDetailView>, Problem> {
    Ok(Resource::found(moved(&admin, &ctx, &name, AgreementStep::Activate, &body).await?.0))
}

/// Interrupts an agreement: grants that name it allow nothing until it is resumed. From `active` or `expiring`; 409
/// otherwise.
#[utoipa::path(
    post, path = "/agreements/{agreement}/suspend", tag = "agreements", params(("agreement" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = StoppedAgreementView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir agreement suspend acme-nda --reason 'audit overdue'",
        "confirm": "grants that name it allow nothing until it is resumed",
    })))
)]
pub async fn suspend_agreement(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<StoppedAgreementView>, Problem> {
    stopped(&admin, &ctx, &name, AgreementStep::Suspend, &body).await
}

/// Puts a suspended agreement in force again; 409 for any other.
#[utoipa::path(
    post, path = "/agreements/{agreement}/resume", tag = "agreements", params(("agreement" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = AgreementDetailView)),
    extensions(("x-weir-cli" = json!({"example": "weir agreement resume acme-nda --reason 'audit passed'"})))
)]
pub async fn resume_agreement(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<AgreementDetailView>, Problem> {
    Ok(Resource::found(moved(&admin, &ctx, &name, AgreementStep::Resume, &body).await?.0))
}

/// Ends an agreement for good, whatever its state: grants that name it allow nothing any more.
#[utoipa::path(
    post, path = "/agreements/{agreement}/terminate", tag = "agreements", params(("agreement" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = StoppedAgreementView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir agreement terminate acme-nda --reason 'cancelled'",
        "confirm": "it ends for good, and grants that name it allow nothing any more",
    })))
)]
pub async fn terminate_agreement(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<StoppedAgreementView>, Problem> {
    stopped(&admin, &ctx, &name, AgreementStep::Terminate, &body).await
}
