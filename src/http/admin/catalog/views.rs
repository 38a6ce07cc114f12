//! Governed views.

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        catalog::view::{
            self, Layout, ViewSpec,
            plan::{self, ColumnEffect, layout_of},
        },
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
            text::{List, Text},
        },
    },
    service::{
        catalog::views::{Preview, PreviewRequest, Published, RowDiff, ViewDetail, ViewDiff},
        core::precondition::etag,
        materialize::Preparation,
    },
};

/// The operations here, each with the permission that it needs.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(
            Permission::ReadSharing,
            OpenApiRouter::new().routes(routes!(list_views)).routes(routes!(get_view)).routes(routes!(diff_view)),
        ))
        .merge(requiring(
            Permission::ManageSharing,
            OpenApiRouter::new()
                .routes(routes!(put_view, update_view, delete_view))
                .routes(routes!(publish_view))
                .routes(routes!(preview_view)),
        ))
}

/// A view.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewResponse {
    /// Its identity.
    pub id: Uuid,
    /// Its dotted name.
    pub name: String,
    /// What was set of it; where nothing is being worked on, the columns, rows and layout of the newest version.
    #[serde(flatten)]
    pub spec: ViewSpec,
    /// Whether there is a draft that differs from the newest version.
    pub draft: bool,
    /// Published versions, the newest first; at most a hundred.
    pub versions: Vec<ViewVersionView>,
    /// How far the copies are that recipients read; only where one view is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preparation: Vec<PreparationView>,
    /// What is well formed, and may still not be meant: masks that show more of an age than HIPAA's safe harbor lets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ViewWarning>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change; for `If-Match`.
    pub etag: String,
}

/// Something about a view that an operator should know.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewWarning {
    /// The place as a path into the view.
    #[schema(example = "columns[2].mask")]
    pub field: String,
    /// What it is, and what to do about it.
    pub message: String,
}

impl From<view::Problem> for ViewWarning {
    fn from(problem: view::Problem) -> Self {
        Self { field: problem.field, message: problem.message }
    }
}

/// A published version.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewVersionView {
    /// Its number; objects name it as `name@vN`.
    pub version: i64,
    /// The layout that it was published with.
    pub layout: Layout,
    /// Who published it.
    pub published_by: String,
    /// When.
    pub published_at: DateTime<Utc>,
}

/// How far the copies of some recipients are.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreparationView {
    /// The view's version.
    pub version: i64,
    /// The recipients, who have equal entitlements and share their copies.
    pub recipients: Vec<String>,
    /// The newest version of the table that the view fits.
    pub table_version: u64,
    /// The version that they are served; absent before the first is ready.
    pub served_version: Option<i64>,
    /// How many files the newest version has for them.
    pub files: usize,
    /// How many of those are ready.
    pub ready: usize,
    /// How many could not be made; `GET /copies?state=failed` says why.
    pub failed: usize,
}

impl From<Preparation> for PreparationView {
    fn from(preparation: Preparation) -> Self {
        let Preparation { version, recipients, table_version, served_version, files, ready, failed } = preparation;
        Self { version, recipients, table_version, served_version, files, ready, failed }
    }
}

impl Tagged for ViewResponse {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl From<ViewDetail> for ViewResponse {
    fn from(ViewDetail { view, table: _, versions, preparation }: ViewDetail) -> Self {
        let version = |version: view::ViewVersion| ViewVersionView {
            version: version.version,
            layout: layout_of(&version.definition),
            published_by: version.published_by,
            published_at: version.published_at,
        };
        Self {
            etag: etag(view.id, view.revision),
            id: view.id,
            name: view.name.to_string(),
            warnings: view.spec.definition().warnings().into_iter().map(Into::into).collect(),
            spec: view.spec,
            draft: view.is_draft,
            versions: versions.into_iter().map(version).collect(),
            preparation: preparation.into_iter().map(Into::into).collect(),
            created_at: view.created_at,
            updated_at: view.updated_at,
        }
    }
}

/// How a view is published; `{}` where there is nothing to say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishBody {
    /// Partition columns of the table that the view hides or masks, and that the layout `source` tells of all the same:
    /// each of its files holds the rows of one value.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub acknowledge: Option<List<Text>>,
}

/// What came of publishing.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishedView {
    /// The newest version's number.
    pub version: i64,
    /// How objects name it.
    #[schema(example = "claims.claims_fraud@v1")]
    pub view: String,
    /// How its rows lie in files.
    pub layout: Layout,
    /// Who published it.
    pub published_by: String,
    /// When.
    pub published_at: DateTime<Utc>,
}

impl From<Published> for PublishedView {
    fn from(Published { view, version, layout, .. }: Published) -> Self {
        Self {
            layout,
            view: format!("{}@v{}", view.name, version.version),
            version: version.version,
            published_by: version.published_by,
            published_at: version.published_at,
        }
    }
}

/// What is asked of a preview.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewBody {
    /// The recipient to see as.
    #[schema(value_type = String)]
    pub recipient: Text,
    /// The share that it would read through; only pseudonyms of a share's own depend on it.
    #[schema(value_type = Option<String>)]
    pub share: Option<Text>,
    /// A published version; the draft where absent, or the newest version where there is no draft.
    pub version: Option<i64>,
    /// At most so many rows.
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
}

/// What a recipient would read, as evidence.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewView {
    /// View, recipient, table and its version, the columns shown with their masks, the columns hidden, rows visible and
    /// in all (null where counting took too long), and the rows as the recipient's connector would read them.
    pub evidence: Map<String, Value>,
    /// SHA-256 of the evidence in canonical JSON (RFC 8785), in hex.
    pub digest: String,
}

/// Which versions are compared.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiffQuery {
    /// The older version's number.
    pub from: i64,
    /// The newer version's number.
    pub to: i64,
    /// The recipient whose rows are counted.
    pub recipient: Option<String>,
}

/// What changes for readers between two versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewDiffView {
    /// The older version.
    pub from: i64,
    /// The newer one.
    pub to: i64,
    /// Column by column, then the filter and the layout of files.
    pub changes: Vec<ViewChangeView>,
    /// What that means in rows for the recipient that was named; null where counting took too long.
    pub rows: Option<RowDiffView>,
}

/// One difference.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewChangeView {
    /// `column`, `row_filter` or `layout`.
    pub kind: &'static str,
    /// The column's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub column: Option<String>,
    /// What it was; null where it is new.
    #[schema(value_type = Option<Value>)]
    pub before: Value,
    /// What it is; null where it is gone.
    #[schema(value_type = Option<Value>)]
    pub after: Value,
    /// `discloses`, `hides` or `changes`.
    pub effect: &'static str,
}

/// How many rows a recipient sees under two versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowDiffView {
    /// The table's version that was counted.
    pub table_version: u64,
    /// Rows in all.
    pub total: u64,
    /// Rows seen under the older version.
    pub before: u64,
    /// Rows seen under the newer one.
    pub after: u64,
    /// Rows seen under the newer one alone.
    pub newly_visible: u64,
    /// Rows seen under the older one alone.
    pub no_longer_visible: u64,
}

impl From<RowDiff> for RowDiffView {
    fn from(rows: RowDiff) -> Self {
        let RowDiff { table_version, total, before, after, newly_visible, no_longer_visible } = rows;
        Self { table_version, total, before, after, newly_visible, no_longer_visible }
    }
}

impl From<ViewDiff> for ViewDiffView {
    fn from(ViewDiff { from, to, changes, rows }: ViewDiff) -> Self {
        Self { from, to, changes: changes.into_iter().map(Into::into).collect(), rows: rows.map(Into::into) }
    }
}

impl From<plan::Change> for ViewChangeView {
    fn from(change: plan::Change) -> Self {
        let shown = |shown: Option<Box<plan::ShownLeaf>>| match shown {
            None => Value::Null,
            Some(shown) => serde_json::json!({
                "from": shown.from.to_string(),
                "type": shown.data_type.to_string(),
                "mask": shown.mask.as_ref().map(|mask| mask.to_json()),
            }),
        };
        match change {
            plan::Change::Column { name, before, after, effect } => Self {
                kind: "column",
                column: Some(name.to_string()),
                before: shown(before),
                after: shown(after),
                effect: word(effect),
            },
            plan::Change::Filter { before, after, effect } => Self {
                kind: "row_filter",
                column: None,
                before: before.into(),
                after: after.into(),
                effect: word(effect),
            },
            plan::Change::Layout { before, after, effect } => Self {
                kind: "layout",
                column: None,
                before: serde_json::json!(before),
                after: serde_json::json!(after),
                effect: word(effect),
            },
        }
    }
}

fn word(effect: ColumnEffect) -> &'static str {
    match effect {
        ColumnEffect::Discloses => "discloses",
        ColumnEffect::Hides => "hides",
        ColumnEffect::Changes => "changes",
    }
}

/// Drafts a view, or confirms that it is as described.
///
/// Everything is checked against the table's newest schema, and every problem is named with its place. A draft
/// discloses nothing before it is published.
#[utoipa::path(
    put, path = "/views/{name}", tag = "views", params(("name" = String, Path, description = "A dotted name")),
    request_body = ViewSpec,
    responses((status = 201, description = "Drafted", body = ViewResponse), (status = 200, description = "Exists as described", body = ViewResponse))
)]
pub async fn put_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminFields { named, .. }: AdminFields<ViewSpec>,
) -> Result<Resource<ViewResponse>, Problem> {
    let put = admin.service.put_view(&ctx, &name, &named).await?;
    Ok(Resource::put(put.map(ViewResponse::from)))
}

/// Answers a view, and how far the copies are that its recipients read.
#[utoipa::path(
    get, path = "/views/{name}", tag = "views", params(("name" = String, Path, description = "A dotted name")),
    responses((status = 200, body = ViewResponse))
)]
pub async fn get_view(
    State(admin): State<Admin>,
    AdminPath(name): AdminPath<String>,
) -> Result<Resource<ViewResponse>, Problem> {
    Ok(Resource::found(admin.service.get_view(&name).await?.into()))
}

/// Lists views by name.
#[utoipa::path(
    get, path = "/views", tag = "views", params(PageQuery), responses((status = 200, body = PageView<ViewResponse>))
)]
pub async fn list_views(
    State(admin): State<Admin>,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<ViewResponse>>, Problem> {
    let page = admin.service.list_views(&page.into()).await?;
    Ok(Json(PageView::new(page, ViewResponse::from)))
}

/// Changes the draft of a view's next version; what is published stays as it is.
#[utoipa::path(
    patch, path = "/views/{name}", tag = "views",
    params(("name" = String, Path, description = "A dotted name"), ("If-Match" = Option<String>, Header)),
    request_body(content((ViewSpec = "application/merge-patch+json"), (ViewSpec = "application/json"))),
    responses((status = 200, body = ViewResponse))
)]
pub async fn update_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
    AdminFields { named, .. }: AdminFields<ViewSpec>,
) -> Result<Resource<ViewResponse>, Problem> {
    let view = admin.service.update_view(&ctx, &name, condition.as_ref(), &named).await?;
    Ok(Resource::found(view.into()))
}

/// Forgets a view that no object shows; its copies are deleted.
#[utoipa::path(
    delete, path = "/views/{name}", tag = "views",
    params(("name" = String, Path, description = "A dotted name"), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Forgotten"))
)]
pub async fn delete_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.delete_view(&ctx, &name, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Publishes the draft as the view's next version.
///
/// Objects go on to show the version that they name. Where nothing has changed since the newest version, that one is
/// answered. A layout that tells of a partition column which the view hides has to be acknowledged (422).
#[utoipa::path(
    post, path = "/views/{name}/publish", tag = "views",
    params(("name" = String, Path, description = "A dotted name")), request_body = PublishBody,
    responses(
        (status = 201, description = "Published", body = PublishedView),
        (status = 200, description = "Nothing had changed", body = PublishedView)
    )
)]
pub async fn publish_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<PublishBody>,
) -> Result<(StatusCode, Json<PublishedView>), Problem> {
    let acknowledged = body.acknowledge.map(|columns| columns.0.into_iter().map(|text| text.0).collect());
    let published = admin.service.publish_view(&ctx, &name, &acknowledged.unwrap_or_default()).await?;
    let status = if published.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(published.into())))
}

/// Shows the rows that a recipient's connector would read.
///
/// They are made by the same steps as the recipient's files. Recorded as an access to data.
#[utoipa::path(
    post, path = "/views/{name}/preview", tag = "views",
    params(("name" = String, Path, description = "A dotted name")), request_body = PreviewBody,
    responses((status = 200, body = PreviewView))
)]
pub async fn preview_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<PreviewBody>,
) -> Result<Json<PreviewView>, Problem> {
    let request = PreviewRequest {
        recipient: body.recipient.0,
        share: body.share.map(|share| share.0),
        version: body.version,
        limit: body.limit,
    };
    let Preview { evidence, digest } = admin.service.preview_view(&ctx, &name, &request).await?;
    Ok(Json(PreviewView { evidence, digest }))
}

/// Compares two published versions: what readers newly see, and what they no longer do.
#[utoipa::path(
    get, path = "/views/{name}/diff", tag = "views",
    params(("name" = String, Path, description = "A dotted name"), DiffQuery),
    responses((status = 200, body = ViewDiffView))
)]
pub async fn diff_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminQuery(query): AdminQuery<DiffQuery>,
) -> Result<Json<ViewDiffView>, Problem> {
    let versions = (query.from, query.to);
    let diff = admin.service.diff_view(&ctx, &name, versions, query.recipient.as_deref()).await?;
    Ok(Json(diff.into()))
}
