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

/// Which copies are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CopyQuery {
    /// Only those of this view.
    pub view: Option<String>,
    /// `making`, `ready`, `failed`, `draining` or `deleted`; all but the deleted where absent.
    pub state: Option<String>,
    /// At most so many items.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the page before.
    pub page_token: Option<String>,
}

/// A governed file that the server wrote, or a source file that it found to hold no more than a view shows.
#[derive(Debug, Serialize, ToSchema)]
pub struct CopyView {
    /// Its identity.
    pub id: Uuid,
    /// `file`, or `source` for a source file that is handed out itself.
    pub kind: &'static str,
    /// The view and its version.
    #[schema(example = "claims.claims_fraud@v1")]
    pub view: String,
    /// The source file, as its table's log names it.
    pub source: String,
    /// Where it lies below the place of copies; a source file's path in its own store.
    pub object_key: String,
    /// The recipients that it was made for; those with equal entitlements share one.
    pub recipients: Vec<String>,
    /// `making`, `ready`, `failed`, `draining` or `deleted`.
    pub state: &'static str,
    /// Its size; 0 where no row is shown and nothing was written, and that of its sources while it is being made.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When it goes if nobody asks any more, or went.
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

/// There is nothing to say about it; `{}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileBody {}

/// What the register and the store do not agree about.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReconciledView {
    /// How many copies of the register were looked for.
    pub copies: u64,
    /// Objects that no row of the register names, the first thousand; they are left where they are.
    pub orphans: Vec<String>,
    /// Copies whose object is gone; they are made anew when they are needed.
    pub missing: Vec<Uuid>,
}

impl From<Reconciled> for ReconciledView {
    fn from(Reconciled { copies, orphans, missing }: Reconciled) -> Self {
        Self { copies, orphans, missing }
    }
}

/// Lists copies in the order of their making.
#[utoipa::path(
    get, path = "/copies", tag = "copies", params(CopyQuery), responses((status = 200, body = PageView<CopyView>))
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
    let page = admin.service.list_copies(&asked, &page).await?;
    Ok(Json(PageView::new(page, CopyView::from)))
}

/// Compares the register with the store, and answers what they do not agree about.
///
/// Also done once a day, and told by metrics.
#[utoipa::path(
    post, path = "/copies/reconcile", tag = "copies", request_body = ReconcileBody,
    responses((status = 200, body = ReconciledView))
)]
pub async fn reconcile_copies(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminJson(ReconcileBody {}): AdminJson<ReconcileBody>,
) -> Result<Json<ReconciledView>, Problem> {
    Ok(Json(admin.service.reconcile_copies(&ctx).await?.into()))
}
