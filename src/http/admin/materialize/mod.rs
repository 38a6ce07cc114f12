//! The register of copies: all files that the server has written from shared data.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{materialize::copy::CopyState, operators::Permission},
    service::{
        core::page::PageRequest,
        materialize::{CopiesQuery, ListedCopy, Reconciled},
    },
};

use super::{
    Admin,
    core::{
        auth::{Operator, requiring},
        extract::{AdminJson, AdminQuery},
        page::PageView,
        problem::{Problem, ProblemCode},
    },
};

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(Permission::ReadRecipients, OpenApiRouter::new().routes(routes!(list_copies))))
        .merge(requiring(Permission::Operate, OpenApiRouter::new().routes(routes!(reconcile_copies))))
}

/// Filters a listing of copies.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CopyQuery {
    /// Only copies of this view, by name or id.
    pub view: Option<String>,
    /// Only copies in this state: `making`, `ready`, `failed`, `draining` or `deleted`. All except `deleted` if absent.
    pub state: Option<String>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the previous page; absent for the first page.
    pub page_token: Option<String>,
}

/// A copy: a file that the server made for a view, or a source file that holds no more than the view shows.
#[derive(Debug, Serialize, ToSchema)]
pub struct CopyView {
    /// The copy's id.
    pub id: Uuid,
    /// `file` for a file that the server wrote, `source` for a source file that is handed out itself.
    pub kind: &'static str,
    /// The view and its version.
    #[schema(example = "claims.claims_fraud@v1")]
    pub view: String,
    /// The source file, as the table's log names it.
    pub source: String,
    /// The file's path below `views.root`; for a source file, its path in its own store.
    pub object_key: String,
    /// The recipients for whom it was made. Recipients with equal entitlements share a copy.
    pub recipients: Vec<String>,
    /// `making`, `ready`, `failed`, `draining` (deleted once the last URL to it has expired) or `deleted`.
    pub state: &'static str,
    /// The copy's size in bytes: 0 if it has no rows and was not written; the size of its sources while it is being
    /// made.
    pub bytes: u64,
    /// The number of rows.
    pub rows: u64,
    /// When making it began.
    pub created_at: DateTime<Utc>,
    /// When it will be deleted if no recipient reads it before, or when it was deleted.
    pub expires_at: DateTime<Utc>,
    /// Why it could not be made.
    pub failure: Option<String>,
}

impl From<ListedCopy> for CopyView {
    fn from(ListedCopy { copy, view, recipients, expires_at }: ListedCopy) -> Self {
        Self {
            id: copy.id,
            kind: copy.kind.as_str(),
            view,
            source: copy.source,
            object_key: copy.object_key,
            recipients,
            state: copy.state.as_str(),
            bytes: copy.bytes,
            rows: copy.rows,
            created_at: copy.created_at,
            expires_at,
            failure: copy.failure,
        }
    }
}

/// An empty object, `{}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileBody {}

/// How the register of copies and the store differ.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReconciledView {
    /// The number of ready copies in the register that were checked.
    pub copies: u64,
    /// Objects in the store that the register does not name, at most a thousand; they are left in place.
    pub orphans: Vec<String>,
    /// The ids of copies whose file is gone, at most a thousand; they are made again when they are needed.
    pub missing: Vec<Uuid>,
}

impl From<Reconciled> for ReconciledView {
    fn from(Reconciled { copies, orphans, missing }: Reconciled) -> Self {
        Self { copies, orphans, missing }
    }
}

/// Lists copies in the order of their creation.
#[utoipa::path(
    get, path = "/copies", tag = "copies", params(CopyQuery), responses((status = 200, body = PageView<CopyView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir copy list --state failed",
        "columns": ["id", "view", "source", "state", "bytes", "rows", "recipients", "failure"],
    })))
)]
pub async fn list_copies(
    State(admin): State<Admin>,
    AdminQuery(query): AdminQuery<CopyQuery>,
) -> Result<Json<PageView<CopyView>>, Problem> {
    let state = query.state.map(|word| {
        CopyState::parse(&word).ok_or_else(|| {
            let detail = "`state` must be making, ready, failed, draining or deleted";
            Problem::new(ProblemCode::InvalidParameter, detail)
        })
    });
    let asked = CopiesQuery { view: query.view, state: state.transpose()? };
    let page = PageRequest { max_results: query.max_results, page_token: query.page_token };
    let page = admin.service.materializer.list_copies(&asked, &page).await?;
    Ok(Json(PageView::new(page, CopyView::from)))
}

/// Compares the register of copies with the store, and returns the differences.
///
/// The server does the same once a day and reports the result in its metrics.
#[utoipa::path(
    post, path = "/copies/reconcile", tag = "copies", request_body = ReconcileBody,
    responses((status = 200, body = ReconciledView)),
    extensions(("x-weir-cli" = json!({"example": "weir copy reconcile"})))
)]
pub async fn reconcile_copies(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminJson(ReconcileBody {}): AdminJson<ReconcileBody>,
) -> Result<Json<ReconciledView>, Problem> {
    Ok(Json(admin.service.materializer.reconcile_copies(&ctx).await?.into()))
}
