//! Shares.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Admin,
    auth::Operator,
    extract::{AdminJson, AdminPath, AdminQuery, IfMatch},
    page::{PageQuery, PageView},
    problem::Problem,
    resource::{Resource, Tagged},
    text::{Members, Text, texts},
};
use crate::{
    domain::share::Share,
    service::{change::Change, precondition::etag, shares::ShareChange},
};

/// What a share should be (PUT) or how it changes (PATCH).
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareBody {
    /// A name for people.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub display_name: Change<Text>,
    /// What recipients are told about it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub description: Change<Text>,
    /// Properties that recipients see.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    pub properties: Change<Members<Text>>,
}

impl From<ShareBody> for ShareChange {
    fn from(body: ShareBody) -> Self {
        Self {
            display_name: body.display_name.map(|text| text.0),
            description: body.description.map(|text| text.0),
            properties: body.properties.map(texts),
        }
    }
}

/// A share.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShareView {
    /// Its identity, which recipients see too.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// A name for people.
    pub display_name: Option<String>,
    /// What recipients are told about it.
    pub description: Option<String>,
    /// Properties that recipients see.
    pub properties: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change; for `If-Match`.
    pub etag: String,
}

impl Tagged for ShareView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl From<Share> for ShareView {
    fn from(share: Share) -> Self {
        Self {
            etag: etag(share.id, share.revision),
            id: share.id,
            name: share.name.to_string(),
            display_name: share.display_name,
            description: share.description,
            properties: share.properties,
            created_at: share.created_at,
            updated_at: share.updated_at,
        }
    }
}

/// Creates a share, or confirms that it is as described.
#[utoipa::path(
    put, path = "/shares/{share}", tag = "shares", params(("share" = String, Path)), request_body = ShareBody,
    responses(
        (status = 201, description = "Created", body = ShareView),
        (status = 200, description = "As described", body = ShareView)
    )
)]
pub async fn put_share(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ShareBody>,
) -> Result<Resource<ShareView>, Problem> {
    let put = admin.service.put_share(&ctx, &name, body.into()).await?;
    Ok(Resource::put(put.map(ShareView::from)))
}

/// Answers a share.
#[utoipa::path(
    get, path = "/shares/{share}", tag = "shares", params(("share" = String, Path)),
    responses((status = 200, body = ShareView))
)]
pub async fn get_share(
    State(admin): State<Admin>,
    AdminPath(name): AdminPath<String>,
) -> Result<Resource<ShareView>, Problem> {
    Ok(Resource::found(admin.service.get_share_settings(&name).await?.into()))
}

/// Lists shares by name.
#[utoipa::path(
    get, path = "/shares", tag = "shares", params(PageQuery), responses((status = 200, body = PageView<ShareView>))
)]
pub async fn list_shares(
    State(admin): State<Admin>,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<ShareView>>, Problem> {
    let page = admin.service.list_all_shares(&page.into()).await?;
    Ok(Json(PageView::new(page, ShareView::from)))
}

/// Changes a share.
#[utoipa::path(
    patch, path = "/shares/{share}", tag = "shares",
    params(("share" = String, Path), ("If-Match" = Option<String>, Header)),
    request_body(content((ShareBody = "application/merge-patch+json"), (ShareBody = "application/json"))),
    responses((status = 200, body = ShareView))
)]
pub async fn update_share(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
    AdminJson(body): AdminJson<ShareBody>,
) -> Result<Resource<ShareView>, Problem> {
    let share = admin.service.update_share(&ctx, &name, condition.as_ref(), body.into()).await?;
    Ok(Resource::found(share.into()))
}

/// Deletes a share that holds nothing and that nobody is granted.
#[utoipa::path(
    delete, path = "/shares/{share}", tag = "shares",
    params(("share" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Deleted"))
)]
pub async fn delete_share(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.delete_share(&ctx, &name, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
