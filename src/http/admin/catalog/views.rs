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

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(
            Permission::ReadSharing,
            OpenApiRouter::new().routes(routes!(list_views)).routes(routes!(get_view)).routes(routes!(diff_view)),
        ))
        .merge(requiring(
            Permission::ManageCatalog,
            OpenApiRouter::new().routes(routes!(put_view, update_view, delete_view)).routes(routes!(publish_view)),
        ))
        .merge(requiring(Permission::PreviewData, OpenApiRouter::new().routes(routes!(preview_view))))
}

/// A view: its draft and its published versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewResponse {
    /// The view's id.
    pub id: Uuid,
    /// The view's dotted name.
    pub name: String,
    /// The view's settings: the draft, or without one the columns, rows and layout of the newest version.
    #[serde(flatten)]
    pub spec: ViewSpec,
    /// Whether there is a draft: settings that differ from the newest version, or a view without any version.
    pub draft: bool,
    /// The published versions, newest first; the newest hundred.
    pub versions: Vec<ViewVersionView>,
    /// How many of the copies that recipients read are ready; only when one view is requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preparation: Vec<PreparationView>,
    /// What is valid but shows more than it seems to: of ages, of direct identifiers, or through the row filter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ViewWarning>,
    /// When the view was created.
    pub created_at: DateTime<Utc>,
    /// When the view was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change of the view; send it as `If-Match` to change only what you have read.
    pub etag: String,
}

/// A warning about a view.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewWarning {
    /// What the warning is about: `W_AGE` (a mask shows more of an age than HIPAA's safe harbor allows), `W_DIRECT_ID`
    /// (a column that seems to identify a person directly is shown as it is, or under a weak mask) or
    /// `W_FILTER_ON_MASKED` (the row filter reads a column that is shown masked).
    #[schema(example = "W_AGE")]
    pub code: &'static str,
    /// The place in the view, as a path.
    #[schema(example = "columns[2].mask")]
    pub field: String,
    /// What is wrong there, and what to do about it.
    pub message: String,
}

impl From<view::Warning> for ViewWarning {
    fn from(view::Warning { code, field, message }: view::Warning) -> Self {
        Self { code: code.as_str(), field, message }
    }
}

/// A published version of a view.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewVersionView {
    /// The version's number; objects name the version as `name@vN`.
    pub version: i64,
    /// The layout of its files.
    pub layout: Layout,
    /// The operator that published it.
    pub published_by: String,
    /// When it was published.
    pub published_at: DateTime<Utc>,
}

/// How many copies of a version are ready for recipients with equal entitlements, who share them.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreparationView {
    /// The view's version.
    pub version: i64,
    /// The names of these recipients.
    pub recipients: Vec<String>,
    /// The newest version of the table that the view fits.
    pub table_version: u64,
    /// The version of the table that they are served now; null before the first is ready.
    pub served_version: Option<i64>,
    /// How many files `table_version` has for them.
    pub files: usize,
    /// How many of these files are ready.
    pub ready: usize,
    /// How many of these files could not be made; `GET /copies?state=failed` says why.
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

/// How to publish a view; `{}` if nothing needs acknowledging.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishBody {
    /// Partition columns that the view hides or masks and that the layout `source` still reveals, because each file
    /// holds the rows of one value. Publishing with that layout requires all of them here.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub acknowledge: Option<List<Text>>,
}

/// The version that was published.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishedView {
    /// The version's number.
    pub version: i64,
    /// The name of the version, as objects use it.
    #[schema(example = "claims.claims_fraud@v1")]
    pub view: String,
    /// The layout of its files.
    pub layout: Layout,
    /// The operator that published it.
    pub published_by: String,
    /// When it was published.
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

/// What to preview.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewBody {
    /// The recipient to preview as, by name.
    #[schema(value_type = String)]
    pub recipient: Text,
    /// The name of the share through which the recipient would read; matters only for pseudonyms with `per` set to
    /// `share`.
    #[schema(value_type = Option<String>)]
    pub share: Option<Text>,
    /// The number of a published version; by default the draft, or the newest version if there is no draft.
    pub version: Option<i64>,
    /// The most rows to show.
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<usize>,
}

/// What a recipient would read, as evidence.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewView {
    /// The view, recipient, table and table version; the columns shown with their masks, and the columns hidden; the
    /// number of rows visible and in total (null if counting took too long); and the rows as the recipient would read
    /// them.
    pub evidence: Map<String, Value>,
    /// SHA-256 of `evidence` as canonical JSON (RFC 8785), in hex.
    pub digest: String,
}

/// Which versions to compare.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiffQuery {
    /// The number of the older version.
    pub from: i64,
    /// The number of the newer version.
    pub to: i64,
    /// The name of a recipient whose visible rows are counted under both versions.
    pub recipient: Option<String>,
}

/// What changes for readers between two versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewDiffView {
    /// The number of the older version.
    pub from: i64,
    /// The number of the newer version.
    pub to: i64,
    /// The differences: of columns, then of the row filter and of the layout.
    pub changes: Vec<ViewChangeView>,
    /// How many rows the named recipient sees under each version; null if no recipient was named, or if counting took
    /// too long.
    pub rows: Option<RowDiffView>,
}

/// One difference between two versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct ViewChangeView {
    /// What differs: `column`, `row_filter` or `layout`.
    pub kind: &'static str,
    /// The column's name; only for `column`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub column: Option<String>,
    /// The column, filter or layout of the older version; null if it has none.
    #[schema(value_type = Option<Value>)]
    pub before: Value,
    /// The column, filter or layout of the newer version; null if it has none.
    #[schema(value_type = Option<Value>)]
    pub after: Value,
    /// What readers notice: `discloses` (they see more), `hides` (they see less) or `changes` (they see something
    /// else).
    pub effect: &'static str,
}

/// How many rows a recipient sees under two versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowDiffView {
    /// The table version whose rows were counted.
    pub table_version: u64,
    /// All rows of the table.
    pub total: u64,
    /// Rows that the older version shows.
    pub before: u64,
    /// Rows that the newer version shows.
    pub after: u64,
    /// Rows that only the newer version shows.
    pub newly_visible: u64,
    /// Rows that only the older version shows.
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

/// Drafts a view, or confirms that it exists as described.
///
/// The draft is checked against the table's newest schema, and 422 names every problem with its place. A draft
/// discloses nothing until it is published.
#[utoipa::path(
    put, path = "/views/{name}", tag = "views", params(("name" = String, Path, description = "The view's dotted name")),
    request_body = ViewSpec,
    responses(
        (status = 201, description = "Drafted", body = ViewResponse),
        (status = 200, description = "Exists as described", body = ViewResponse)
    ),
    extensions(("x-weir-cli" = json!({"example": "weir view put claims.claims_fraud --file view.json"})))
)]
pub async fn put_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminFields { named, .. }: AdminFields<ViewSpec>,
) -> Result<Resource<ViewResponse>, Problem> {
    let put = admin.service.catalog.put_view(&ctx, &name, &named).await?;
    Ok(Resource::put(put.map(ViewResponse::from)))
}

/// Returns a view, and how many of the copies that its recipients read are ready.
#[utoipa::path(
    get, path = "/views/{name}", tag = "views", params(("name" = String, Path, description = "The view's dotted name")),
    responses((status = 200, body = ViewResponse)),
    extensions(("x-weir-cli" = json!({"example": "weir view get claims.claims_fraud"})))
)]
pub async fn get_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
) -> Result<Resource<ViewResponse>, Problem> {
    Ok(Resource::found(admin.service.catalog.get_view(&ctx, &name).await?.into()))
}

/// Lists views by name.
#[utoipa::path(
    get, path = "/views", tag = "views", params(PageQuery), responses((status = 200, body = PageView<ViewResponse>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir view list",
        "columns": ["name", "source", "draft", "updated_at"],
    })))
)]
pub async fn list_views(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminQuery(page): AdminQuery<PageQuery>,
) -> Result<Json<PageView<ViewResponse>>, Problem> {
    let page = admin.service.catalog.list_views(&ctx, &page.into()).await?;
    Ok(Json(PageView::new(page, ViewResponse::from)))
}

/// Changes the draft of a view's next version; published versions stay as they are.
#[utoipa::path(
    patch, path = "/views/{name}", tag = "views",
    params(("name" = String, Path, description = "The view's dotted name"), ("If-Match" = Option<String>, Header)),
    request_body(content((ViewSpec = "application/merge-patch+json"), (ViewSpec = "application/json"))),
    responses((status = 200, body = ViewResponse)),
    extensions(("x-weir-cli" = json!({
        "example": "weir view update claims.claims_fraud --row-filter \"plan = 'gold'\"",
    })))
)]
pub async fn update_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
    AdminFields { named, .. }: AdminFields<ViewSpec>,
) -> Result<Resource<ViewResponse>, Problem> {
    let view = admin.service.catalog.update_view(&ctx, &name, condition.as_ref(), &named).await?;
    Ok(Resource::found(view.into()))
}

/// Deletes a view that no object shows; its copies are deleted, too.
#[utoipa::path(
    delete, path = "/views/{name}", tag = "views",
    params(("name" = String, Path, description = "The view's dotted name"), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Deleted")),
    extensions(("x-weir-cli" = json!({
        "example": "weir view delete claims.claims_fraud",
        "confirm": "its versions and their copies go",
    })))
)]
pub async fn delete_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    IfMatch(condition): IfMatch,
) -> Result<StatusCode, Problem> {
    admin.service.catalog.delete_view(&ctx, &name, condition.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Publishes the draft as the view's next version.
///
/// Objects keep showing the version that they name. If nothing has changed, the newest version is returned. 422 if the
/// layout reveals a partition column that the view hides or masks, until `acknowledge` names the column.
#[utoipa::path(
    post, path = "/views/{name}/publish", tag = "views",
    params(("name" = String, Path, description = "The view's dotted name")), request_body = PublishBody,
    responses(
        (status = 201, description = "Published", body = PublishedView),
        (status = 200, description = "Nothing has changed; the newest version", body = PublishedView)
    ),
    extensions(("x-weir-cli" = json!({
        "example": "weir view publish claims.claims_fraud",
        "confirm": "what is published is never changed",
    })))
)]
pub async fn publish_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<PublishBody>,
) -> Result<(StatusCode, Json<PublishedView>), Problem> {
    let acknowledged = body.acknowledge.map(|columns| columns.0.into_iter().map(|text| text.0).collect());
    let published = admin.service.catalog.publish_view(&ctx, &name, &acknowledged.unwrap_or_default()).await?;
    let status = if published.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(published.into())))
}

/// Shows the rows that a recipient's connector would read.
///
/// They are made in the same steps as the recipient's files. The preview is recorded as an access to data.
#[utoipa::path(
    post, path = "/views/{name}/preview", tag = "views",
    params(("name" = String, Path, description = "The view's dotted name")), request_body = PreviewBody,
    responses((status = 200, body = PreviewView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir view preview claims.claims_fraud --recipient acme --limit 5",
    })))
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
    let Preview { evidence, digest } = admin.service.catalog.preview_view(&ctx, &name, &request).await?;
    Ok(Json(PreviewView { evidence, digest }))
}

/// Compares two published versions: what readers newly see, and what they no longer see.
#[utoipa::path(
    get, path = "/views/{name}/diff", tag = "views",
    params(("name" = String, Path, description = "The view's dotted name"), DiffQuery),
    responses((status = 200, body = ViewDiffView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir view diff claims.claims_fraud 1 2 --recipient acme",
        "positional": ["from", "to"],
    })))
)]
pub async fn diff_view(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminQuery(query): AdminQuery<DiffQuery>,
) -> Result<Json<ViewDiffView>, Problem> {
    let versions = (query.from, query.to);
    let diff = admin.service.catalog.diff_view(&ctx, &name, versions, query.recipient.as_deref()).await?;
    Ok(Json(diff.into()))
}
