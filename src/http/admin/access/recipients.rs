//! Recipients.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        access::{
            profile::OauthProfile,
            recipient::{Recipient, RecipientSpec, RecipientState},
        },
        core::{spec::Spec, word::AsWritten},
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
            text::Text,
        },
    },
    service::{access::grants::Effect, core::precondition::etag},
};

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(
            Permission::ReadRecipients,
            OpenApiRouter::new()
                .routes(routes!(list_recipients))
                .routes(routes!(get_recipient))
                .routes(routes!(get_profile)),
        ))
        .merge(requiring(Permission::TightenEverywhere, OpenApiRouter::new().routes(routes!(suspend_recipient))))
        .merge(requiring(
            Permission::ManageRecipients,
            OpenApiRouter::new()
                .routes(routes!(put_recipient, update_recipient, delete_recipient))
                .routes(routes!(resume_recipient))
                .routes(routes!(offboard_recipient)),
        ))
}

/// Why this is done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    /// The reason, recorded in the audit trail.
    #[schema(value_type = String)]
    pub reason: Text,
}

/// A recipient: a partner that reads shares.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecipientView {
    /// The recipient's id.
    pub id: Uuid,
    /// The recipient's name.
    pub name: String,
    /// `active`, `suspended` (refused until resumed) or `offboarded` (ended for good).
    #[schema(value_type = String, example = "active")]
    pub state: AsWritten<RecipientState>,
    /// The recipient's settings. `oidc` also shows its `id`, which changes with every change of the binding; audit
    /// events have it as `token_id`.
    #[serde(flatten)]
    #[schema(value_type = RecipientSpec)]
    pub spec: Map<String, Value>,
    /// When the recipient was created.
    pub created_at: DateTime<Utc>,
    /// When the recipient was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change of the recipient; send it as `If-Match` to change only what you have read.
    pub etag: String,
}

impl Tagged for RecipientView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

/// A recipient that was suspended or offboarded, and when that takes full effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoppedView {
    /// The recipient.
    #[serde(flatten)]
    pub recipient: RecipientView,
    /// When the last presigned URL expires that was handed out to it before: it still opens its file until then. The
    /// time of the change if there is none.
    pub effective_by: DateTime<Utc>,
    /// How many presigned URLs are valid until then.
    pub outstanding_urls: i64,
}

impl Tagged for StoppedView {
    fn etag(&self) -> &str {
        &self.recipient.etag
    }
}

impl From<(Recipient, Effect)> for StoppedView {
    fn from((recipient, effect): (Recipient, Effect)) -> Self {
        let Effect { effective_by, outstanding_urls } = effect;
        Self { recipient: recipient.into(), effective_by, outstanding_urls }
    }
}

impl From<Recipient> for RecipientView {
    fn from(recipient: Recipient) -> Self {
        let mut spec = recipient.spec.fields();
        if let (Some(identity), Some(Value::Object(shown))) = (&recipient.spec.oidc, spec.get_mut("oidc")) {
            shown.insert("id".to_owned(), identity.id.to_string().into());
        }
        Self {
            etag: etag(recipient.id, recipient.revision),
            id: recipient.id,
            name: recipient.name.to_string(),
            state: recipient.state,
            spec,
            created_at: recipient.created_at,
            updated_at: recipient.updated_at,
        }
    }
}

/// Creates an active recipient, or confirms that it exists as described.
#[utoipa::path(
    put, path = "/recipients/{recipient}", tag = "recipients", params(("recipient" = String, Path)),
    request_body = RecipientSpec,
    responses(
        (status = 201, description = "Created", body = RecipientView),
        (status = 200, description = "Exists as described", body = RecipientView)
    ),
    extensions(("x-weir-cli" = json!({
        "example": "weir recipient put acme --display-name 'Acme Re' --contacts security=soc@acme.example",
    })))
)]
pub async fn put_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminFields { named, .. }: AdminFields<RecipientSpec>,
) -> Result<Resource<RecipientView>, Problem> {
    let put = admin.service.access.put_recipient(&ctx, &name, &named).await?;
    Ok(Resource::put(put.map(RecipientView::from)))
}

/// Returns a recipient.
#[utoipa::path(
    get, path = "/recipients/{recipient}", tag = "recipients", params(("recipient" = String, Path)),
    responses((status = 200, body = RecipientView)),
    extensions(("x-weir-cli" = json!({"example": "weir recipient get acme"})))
)]
pub async fn get_recipient(
    State(admin): State<Admin>,
    AdminPath(name): AdminPath<String>,
) -> Result<Resource<RecipientView>, Problem> {
    Ok(Resource::found(admin.service.access.get_recipient(&name).await?.into()))
}

/// Lists recipients by name.
#[utoipa::path(
    get, path = "/recipients", tag = "recipients", params(PageQuery),
    responses((status = 200, body = PageView<RecipientView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir recipient list",
        "columns": ["name", "state", "display_name", "delivery", "updated_at"],
    })))
)]
pub async fn list_recipients(
    State(admin): State<Admin>,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<RecipientView>>, Problem> {
    let page = admin.service.access.list_recipients(&page.into()).await?;
    Ok(Json(PageView::new(page, RecipientView::from)))
}

/// Returns the profile for the connectors of a recipient that is bound to an OpenID Connect issuer.
///
/// The client's secret is a placeholder to fill in, because Weir never sees it; so is the client's id, unless the
/// recipient is bound by a claim that holds it. 409 if the recipient is not bound to an issuer: its profile comes with
/// each token.
#[utoipa::path(
    get, path = "/recipients/{recipient}/profile", tag = "recipients", params(("recipient" = String, Path)),
    responses((status = 200, body = OauthProfile)),
    extensions(("x-weir-cli" = json!({"example": "weir recipient profile acme --profile acme.share", "profile": ""})))
)]
pub async fn get_profile(
    State(admin): State<Admin>,
    AdminPath(name): AdminPath<String>,
) -> Result<Json<OauthProfile>, Problem> {
    Ok(Json(admin.service.access.get_profile(&name).await?))
}

/// The options of a change to a recipient.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UpdateQuery {
    /// Changes properties even if the recipient then sees no row of a view that it reads.
    #[serde(default)]
    pub force: bool,
}

/// Changes a recipient.
///
/// A change of properties after which the recipient would see no row of a view that it reads is refused, and the answer
/// names the views; `force=true` makes the change anyway.
#[utoipa::path(
    patch, path = "/recipients/{recipient}", tag = "recipients",
    params(("recipient" = String, Path), UpdateQuery, ("If-Match" = Option<String>, Header)),
    request_body(content((RecipientSpec = "application/merge-patch+json"), (RecipientSpec = "application/json"))),
    responses((status = 200, body = RecipientView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir recipient update acme --properties 'plans=[\"gold\"]' --unset contacts.sales",
    })))
)]
pub async fn update_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminQuery(query): AdminQuery<UpdateQuery>,
    IfMatch(condition): IfMatch,
    AdminFields { named, .. }: AdminFields<RecipientSpec>,
) -> Result<Resource<RecipientView>, Problem> {
    let recipient = admin.service.access.update_recipient(&ctx, &name, condition.as_ref(), &named, query.force).await?;
    Ok(Resource::found(recipient.into()))
}

/// Deletes a recipient that has no grant and no token left; its history stays in the audit trail.
#[utoipa::path(
    delete, path = "/recipients/{recipient}", tag = "recipients",
    params(("recipient" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Deleted")),
    extensions(("x-weir-cli" = json!({
        "example": "weir recipient delete acme",
        "confirm": "only its past stays on record",
    })))
)]
pub async fn delete_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.access.delete_recipient(&ctx, &name, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Suspends a recipient: it is refused everything until it is resumed.
#[utoipa::path(
    post, path = "/recipients/{recipient}/suspend", tag = "recipients", params(("recipient" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = StoppedView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir recipient suspend acme --reason 'incident 4711'",
        "confirm": "it is refused everything at once",
    })))
)]
pub async fn suspend_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<StoppedView>, Problem> {
    Ok(Resource::found(admin.service.access.suspend_recipient(&ctx, &name, &body.reason.0).await?.into()))
}

/// Resumes a suspended recipient: it may read what it is granted again.
#[utoipa::path(
    post, path = "/recipients/{recipient}/resume", tag = "recipients", params(("recipient" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = RecipientView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir recipient resume acme --reason 'incident 4711 closed'",
        "confirm": "it may read again what it is granted",
    })))
)]
pub async fn resume_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<RecipientView>, Problem> {
    Ok(Resource::found(admin.service.access.resume_recipient(&ctx, &name, &body.reason.0).await?.into()))
}

/// Ends a recipient for good, with its grants and tokens; its history is kept.
#[utoipa::path(
    post, path = "/recipients/{recipient}/offboard", tag = "recipients", params(("recipient" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = StoppedView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir recipient offboard acme --reason 'contract ended'",
        "confirm": "it ends for good, with its grants and tokens",
    })))
)]
pub async fn offboard_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<StoppedView>, Problem> {
    Ok(Resource::found(admin.service.access.offboard_recipient(&ctx, &name, &body.reason.0).await?.into()))
}
