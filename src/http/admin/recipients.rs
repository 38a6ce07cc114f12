//! Recipients.

use std::{collections::BTreeMap, num::NonZeroU64};

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Admin,
    auth::Operator,
    extract::{AdminJson, AdminPath, AdminQuery, IfMatch},
    page::{PageQuery, PageView},
    problem::Problem,
    resource::{Resource, Tagged},
    text::{List, Members, Property, Text, texts},
};
use crate::{
    domain::{
        delivery::Delivery,
        identity::Identity,
        limits::RecipientLimits,
        profile::OauthProfile,
        recipient::{Recipient, RecipientState},
    },
    service::{
        change::Change,
        grants::Effect,
        precondition::etag,
        recipients::{IdentityChange, LimitsChange, RecipientChange},
    },
};

/// What a recipient should be (PUT) or how it changes (PATCH).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipientBody {
    /// A name for people.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub display_name: Change<Text>,
    /// Contacts by role. Kept and shown; nobody is written to, and nothing depends on them.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>, example = json!({"security": "soc@acme.example"}))]
    pub contacts: Change<Members<Text>>,
    /// Properties that row filters may refer to: texts, numbers, booleans, or lists of these.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Value>>)]
    pub properties: Change<Members<Property>>,
    /// The networks that it may come from; anywhere where empty.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, example = json!(["198.51.100.0/24"]))]
    pub allowed_cidrs: Change<List<IpNet>>,
    /// `proxied` where its files must always come through the server.
    #[serde(default)]
    #[schema(value_type = Option<Delivery>)]
    pub delivery: Change<Delivery>,
    /// The identity at an issuer of OpenID Connect that it is bound to instead of having tokens.
    #[serde(default)]
    #[schema(value_type = Option<OidcBody>)]
    pub oidc: Change<OidcBody>,
    /// How much it may ask for.
    #[serde(default)]
    #[schema(value_type = Option<LimitsBody>)]
    pub limits: Change<LimitsBody>,
    /// Free text for operators.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub description: Change<Text>,
}

/// The identity that a recipient is bound to: all four are needed, and together no other recipient's.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcBody {
    /// The issuer, one that the settings name; its tokens' `iss`.
    #[serde(default)]
    #[schema(value_type = String, example = "https://login.example.org/realms/partners")]
    pub issuer: Change<Text>,
    /// What its tokens are made out to, one of the issuer's audiences in the settings; their `aud`.
    #[serde(default)]
    #[schema(value_type = String, example = "weir")]
    pub audience: Change<Text>,
    /// The claim that tells the recipient.
    #[serde(default)]
    #[schema(value_type = String, example = "azp")]
    pub claim: Change<Text>,
    /// What the claim is or, where it is a list, holds.
    #[serde(default)]
    #[schema(value_type = String, example = "acme-reader")]
    pub value: Change<Text>,
}

impl From<OidcBody> for IdentityChange {
    fn from(body: OidcBody) -> Self {
        Self {
            issuer: body.issuer.map(|text| text.0),
            audience: body.audience.map(|text| text.0),
            claim: body.claim.map(|text| text.0),
            value: body.value.map(|text| text.0),
        }
    }
}

/// The identity that a recipient is bound to.
#[derive(Debug, Serialize, ToSchema)]
pub struct OidcView {
    /// Its identity; another one after every change. Audit events have it as `token_id`.
    pub id: Uuid,
    /// The issuer.
    pub issuer: String,
    /// What its tokens are made out to.
    pub audience: String,
    /// The claim that tells the recipient.
    pub claim: String,
    /// What the claim is or holds.
    pub value: String,
}

impl From<Identity> for OidcView {
    fn from(identity: Identity) -> Self {
        let Identity { id, issuer, audience, claim, value } = identity;
        Self { id, issuer, audience, claim, value }
    }
}

/// How much a recipient may ask for; what is null or absent is not limited. Beyond a limit requests are answered 429
/// with `Retry-After`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsBody {
    /// Requests of the protocol in a minute, on each server; files that come through it are not counted.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub requests_per_minute: Change<NonZeroU64>,
    /// Answers that stream at the same time, on each server: queries, and files that come through it.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub concurrent_streams: Change<NonZeroU64>,
    /// Bytes that queries issue, and files read again deliver, in a day (UTC), on all servers. Counted from when it is set.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub bytes_per_day: Change<NonZeroU64>,
}

impl From<LimitsBody> for LimitsChange {
    fn from(body: LimitsBody) -> Self {
        Self {
            requests_per_minute: body.requests_per_minute.map(NonZeroU64::get),
            concurrent_streams: body.concurrent_streams.map(NonZeroU64::get),
            bytes_per_day: body.bytes_per_day.map(NonZeroU64::get),
        }
    }
}

/// How much a recipient may ask for; what is null is not limited.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitsView {
    /// Requests of the protocol in a minute, on each server; null for the settings' default.
    pub requests_per_minute: Option<u64>,
    /// Answers that stream at the same time, on each server; null for the settings' default.
    pub concurrent_streams: Option<u64>,
    /// Bytes that queries issue, and files read again deliver, in a day (UTC), on all servers.
    pub bytes_per_day: Option<u64>,
}

impl From<RecipientLimits> for LimitsView {
    fn from(limits: RecipientLimits) -> Self {
        let RecipientLimits { requests_per_minute, concurrent_streams, bytes_per_day } = limits;
        Self { requests_per_minute, concurrent_streams, bytes_per_day }
    }
}

impl From<RecipientBody> for RecipientChange {
    fn from(body: RecipientBody) -> Self {
        let properties = |members: Members<Property>| {
            members.0.into_iter().map(|(key, value)| (key, value.map(|property| property.0))).collect()
        };
        Self {
            display_name: body.display_name.map(|text| text.0),
            contacts: body.contacts.map(texts),
            properties: body.properties.map(properties),
            allowed_cidrs: body.allowed_cidrs.map(|list| list.0),
            delivery: body.delivery,
            oidc: body.oidc.map(IdentityChange::from),
            limits: body.limits.map(LimitsChange::from),
            description: body.description.map(|text| text.0),
        }
    }
}

/// Why something is done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    /// For the audit trail.
    #[schema(value_type = String)]
    pub reason: Text,
}

/// A recipient.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecipientView {
    /// Its identity.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Where it stands.
    #[schema(value_type = String, example = "active")]
    pub state: RecipientState,
    /// A name for people.
    pub display_name: Option<String>,
    /// Contacts by role. Kept and shown; nobody is written to, and nothing depends on them.
    pub contacts: BTreeMap<String, String>,
    /// Properties that row filters may refer to.
    pub properties: BTreeMap<String, Value>,
    /// The networks that it may come from; anywhere where empty.
    #[schema(value_type = Vec<String>)]
    pub allowed_cidrs: Vec<IpNet>,
    /// `proxied` where its files must always come through the server.
    pub delivery: Option<Delivery>,
    /// The identity that it is bound to instead of having tokens.
    pub oidc: Option<OidcView>,
    /// How much it may ask for.
    pub limits: LimitsView,
    /// Free text for operators.
    pub description: Option<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change; for `If-Match`.
    pub etag: String,
}

impl Tagged for RecipientView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

/// A recipient that is refused everything, and when that takes full effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoppedView {
    /// The recipient.
    #[serde(flatten)]
    pub recipient: RecipientView,
    /// When the last presigned URL that was handed out to it dies.
    pub effective_by: DateTime<Utc>,
    /// How many presigned URLs live until then.
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
        Self {
            etag: etag(recipient.id, recipient.revision),
            id: recipient.id,
            name: recipient.name.to_string(),
            state: recipient.state,
            display_name: recipient.display_name,
            contacts: recipient.contacts,
            properties: recipient.properties,
            allowed_cidrs: recipient.allowed_cidrs,
            delivery: recipient.delivery,
            oidc: recipient.identity.map(OidcView::from),
            limits: recipient.limits.into(),
            description: recipient.description,
            created_at: recipient.created_at,
            updated_at: recipient.updated_at,
        }
    }
}

/// Creates a recipient, active, or confirms that it is as described.
#[utoipa::path(
    put, path = "/recipients/{recipient}", tag = "recipients", params(("recipient" = String, Path)),
    request_body = RecipientBody,
    responses(
        (status = 201, description = "Created", body = RecipientView),
        (status = 200, description = "As described", body = RecipientView)
    )
)]
pub async fn put_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<RecipientBody>,
) -> Result<Resource<RecipientView>, Problem> {
    let put = admin.service.put_recipient(&ctx, &name, body.into()).await?;
    Ok(Resource::put(put.map(RecipientView::from)))
}

/// Answers a recipient.
#[utoipa::path(
    get, path = "/recipients/{recipient}", tag = "recipients", params(("recipient" = String, Path)),
    responses((status = 200, body = RecipientView))
)]
pub async fn get_recipient(
    State(admin): State<Admin>,
    AdminPath(name): AdminPath<String>,
) -> Result<Resource<RecipientView>, Problem> {
    Ok(Resource::found(admin.service.get_recipient(&name).await?.into()))
}

/// Lists recipients by name.
#[utoipa::path(
    get, path = "/recipients", tag = "recipients", params(PageQuery),
    responses((status = 200, body = PageView<RecipientView>))
)]
pub async fn list_recipients(
    State(admin): State<Admin>,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<RecipientView>>, Problem> {
    let page = admin.service.list_recipients(&page.into()).await?;
    Ok(Json(PageView::new(page, RecipientView::from)))
}

/// Answers the profile of a recipient that is bound to an issuer.
///
/// The client's secret, and its id where the recipient is bound to another claim, are placeholders to be filled in. 409
/// where the recipient has tokens: its profile comes with each.
#[utoipa::path(
    get, path = "/recipients/{recipient}/profile", tag = "recipients", params(("recipient" = String, Path)),
    responses((status = 200, body = OauthProfile))
)]
pub async fn get_profile(
    State(admin): State<Admin>,
    AdminPath(name): AdminPath<String>,
) -> Result<Json<OauthProfile>, Problem> {
    Ok(Json(admin.service.get_profile(&name).await?))
}

/// How a recipient may be changed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UpdateQuery {
    /// Changes properties even where the recipient then sees no row of a view that it reads.
    #[serde(default)]
    pub force: bool,
}

/// Changes a recipient.
///
/// Properties that would leave it without a row of a view that it reads are refused, with the views named, unless they
/// are forced.
#[utoipa::path(
    patch, path = "/recipients/{recipient}", tag = "recipients",
    params(("recipient" = String, Path), UpdateQuery, ("If-Match" = Option<String>, Header)),
    request_body(content((RecipientBody = "application/merge-patch+json"), (RecipientBody = "application/json"))),
    responses((status = 200, body = RecipientView))
)]
pub async fn update_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminQuery(query): AdminQuery<UpdateQuery>,
    IfMatch(condition): IfMatch,
    AdminJson(body): AdminJson<RecipientBody>,
) -> Result<Resource<RecipientView>, Problem> {
    let recipient = admin.service.update_recipient(&ctx, &name, condition.as_ref(), body.into(), query.force).await?;
    Ok(Resource::found(recipient.into()))
}

/// Deletes a recipient that can read nothing any more; its past stays on record.
#[utoipa::path(
    delete, path = "/recipients/{recipient}", tag = "recipients",
    params(("recipient" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Deleted"))
)]
pub async fn delete_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.delete_recipient(&ctx, &name, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses a recipient everything until it is resumed.
#[utoipa::path(
    post, path = "/recipients/{recipient}/suspend", tag = "recipients", params(("recipient" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = StoppedView))
)]
pub async fn suspend_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<StoppedView>, Problem> {
    Ok(Resource::found(admin.service.suspend_recipient(&ctx, &name, &body.reason.0).await?.into()))
}

/// Lets a suspended recipient read again what it is granted.
#[utoipa::path(
    post, path = "/recipients/{recipient}/resume", tag = "recipients", params(("recipient" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = RecipientView))
)]
pub async fn resume_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<RecipientView>, Problem> {
    Ok(Resource::found(admin.service.resume_recipient(&ctx, &name, &body.reason.0).await?.into()))
}

/// Ends a recipient for good, with its grants and tokens; its history is kept.
#[utoipa::path(
    post, path = "/recipients/{recipient}/offboard", tag = "recipients", params(("recipient" = String, Path)),
    request_body = ReasonBody, responses((status = 200, body = StoppedView))
)]
pub async fn offboard_recipient(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ReasonBody>,
) -> Result<Resource<StoppedView>, Problem> {
    Ok(Resource::found(admin.service.offboard_recipient(&ctx, &name, &body.reason.0).await?.into()))
}
