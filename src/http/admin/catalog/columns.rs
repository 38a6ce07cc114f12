//! Columns of registered tables and what kind of data they hold.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        catalog::column::{ClassifiedColumn, ColumnEvidence, ColumnSpec, ColumnState},
        core::word::Words,
        operators::Permission,
    },
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::{AdminFields, AdminJson, AdminPath, AdminQuery, IfMatch},
            page::PageView,
            problem::{Problem, ProblemCode},
            resource::{Resource, Tagged},
            text::{List, Text},
        },
    },
    service::{
        catalog::columns::{ColumnDecision, ColumnQuery, PATIENCE_SECONDS, ScanOutcome, ScanSummary},
        core::{
            change::Named,
            error::ServiceError,
            page::PageRequest,
            precondition::{Precondition, etag},
        },
    },
};

use super::impact::ImpactView;

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(Permission::ReadSharing, OpenApiRouter::new().routes(routes!(list_columns))))
        .merge(requiring(Permission::PreviewData, OpenApiRouter::new().routes(routes!(scan_table))))
        .merge(requiring(
            Permission::ClassifyColumns,
            OpenApiRouter::new().routes(routes!(update_column)).routes(routes!(update_columns)),
        ))
}

/// How a table is scanned.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScanBody {
    /// How long to wait for the end, in seconds; 0 leaves the scan to a job at once.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 10, default = 10)]
    pub wait_seconds: Option<u64>,
}

/// What a scan found, in numbers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScanView {
    /// `done`.
    pub state: &'static str,
    /// The version that was read.
    pub table_version: u64,
    /// The columns of the table, nested ones counted.
    pub columns: usize,
    /// Those that were not there at the last scan.
    pub new: usize,
    /// Those that the table no longer has.
    pub gone: usize,
    /// Those whose values could not be read, in a file at least; their `evidence.problem` says why.
    pub unreadable: usize,
    /// Those that somebody confirmed or rejected.
    pub decided: usize,
    /// Those that nobody decided about and nothing is proposed for.
    pub unclassified: usize,
    /// Those that nobody decided about, by proposed class.
    #[schema(example = json!({"PII": 3, "PHI": 1}))]
    pub proposed: BTreeMap<String, usize>,
}

/// A scan that goes on as a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueuedScanView {
    /// `queued`.
    pub state: &'static str,
    /// The job; `GET /jobs` lists it until it is done. Null in a dry run.
    pub job: Option<Uuid>,
}

impl From<ScanSummary> for ScanView {
    fn from(summary: ScanSummary) -> Self {
        let ScanSummary { table_version, columns, new, gone, unreadable, decided, unclassified, proposed } = summary;
        Self { state: "done", table_version, columns, new, gone, unreadable, decided, unclassified, proposed }
    }
}

/// A column of a registered table.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClassifiedColumnView {
    /// The column's id.
    pub id: Uuid,
    /// The path, nested columns with dots: `member.ssn`, `phones.element`.
    pub path: String,
    /// The type, as SQL engines write it.
    #[serde(rename = "type")]
    #[schema(example = "string")]
    pub data_type: String,
    /// What was decided, or is proposed.
    #[serde(flatten)]
    pub spec: ColumnSpec,
    /// What the last scan found: numbers, and never a value.
    pub evidence: Option<ColumnEvidence>,
    /// Who confirmed or rejected it.
    pub decided_by: Option<String>,
    /// When that was.
    pub decided_at: Option<DateTime<Utc>>,
    /// What the decision would mean for what is shared; only in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub impact: Option<ImpactView>,
    /// When a scan no longer found it in the table.
    pub gone_at: Option<DateTime<Utc>>,
    /// When a scan found it first.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// Changes with every change of the column; send it as `If-Match` to decide only about what you have read.
    pub etag: String,
}

impl Tagged for ClassifiedColumnView {
    fn etag(&self) -> &str {
        &self.etag
    }
}

impl From<ClassifiedColumn> for ClassifiedColumnView {
    fn from(column: ClassifiedColumn) -> Self {
        // One that is proposed again waits for somebody, whoever decided about it before.
        let is_decided = column.spec.state.means() != Some(ColumnState::Proposed);
        let (decided_by, decided_at) = column.decided.filter(|_| is_decided).unzip();
        Self {
            etag: etag(column.id, column.revision),
            id: column.id,
            path: column.path,
            data_type: column.data_type,
            spec: column.spec,
            evidence: column.evidence,
            decided_by,
            decided_at,
            impact: None,
            gone_at: column.gone_at,
            created_at: column.created_at,
            updated_at: column.updated_at,
        }
    }
}

/// Filters a listing of columns.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ColumnParameters {
    /// Only columns that are `proposed`, `confirmed` or `rejected`.
    pub state: Option<String>,
    /// Only columns with this class.
    #[param(value_type = Option<String>, example = "PII")]
    pub class: Option<Text>,
    /// Columns that the table no longer has, instead of those that it has.
    #[param(default = false)]
    pub gone: Option<bool>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the previous page; absent for the first page.
    pub page_token: Option<String>,
}

/// Decisions about several columns.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnsBody {
    /// The columns, at most 200; all of them are changed, or none.
    #[schema(value_type = Vec<ColumnDecisionBody>)]
    pub columns: List<ColumnDecisionBody>,
}

/// A decision about one of several columns.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnDecisionBody {
    /// The column's path.
    #[schema(value_type = String, example = "member.ssn")]
    pub path: Text,
    /// The kind of data. Whoever names it and no state confirms it.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "PII")]
    pub class: Option<Text>,
    /// Whether the column tells who somebody is: `direct`, `quasi`, `business_key` or `none`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub role: Option<Text>,
    /// `confirmed`, `rejected` or `proposed`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub state: Option<Text>,
    /// The etag that the column must have.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub etag: Option<Text>,
}

impl From<ColumnDecisionBody> for ColumnDecision {
    fn from(body: ColumnDecisionBody) -> Self {
        let fields = [("class", body.class), ("role", body.role), ("state", body.state)];
        let named = fields.into_iter().filter_map(|(field, text)| Some((field.to_owned(), Value::String(text?.0))));
        Self {
            path: body.path.0,
            condition: body.etag.map(|etag| Precondition::new(vec![etag.0])),
            named: named.collect::<Named>(),
        }
    }
}

/// The columns that were decided about.
#[derive(Debug, Serialize, ToSchema)]
pub struct ColumnsView {
    /// The columns, in the order of the request.
    pub items: Vec<ClassifiedColumnView>,
    /// What the decisions would mean for what is shared; only in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub impact: Option<ImpactView>,
}

/// Scans a table: proposes what kind of data each column holds, by its name and by a sample of its values.
///
/// Reads some rows of up to three files, and keeps rates and numbers, never a value. What somebody confirmed or rejected
/// stays. The scan is recorded as an access to data. A scan that takes longer than `wait_seconds` goes on as a job: the
/// answer is then 202 with the state `queued`.
#[utoipa::path(
    post, path = "/tables/{name}/scan", tag = "tables",
    params(("name" = String, Path, description = "The table's dotted name")), request_body = ScanBody,
    responses(
        (status = 200, description = "Done", body = ScanView),
        (status = 202, description = "It goes on as a job", body = QueuedScanView)
    ),
    extensions(("x-weir-cli" = json!({"example": "weir table scan claims.claims"})))
)]
pub async fn scan_table(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ScanBody>,
) -> Result<Response, Problem> {
    let seconds = body.wait_seconds.unwrap_or(PATIENCE_SECONDS);
    if seconds > PATIENCE_SECONDS {
        let message = format!("must be at most {PATIENCE_SECONDS}");
        return Err(ServiceError::invalid("wait_seconds", message).into());
    }
    Ok(match admin.service.catalog.scan_table(&ctx, &name, Duration::from_secs(seconds)).await? {
        ScanOutcome::Done(summary) => Json(ScanView::from(summary)).into_response(),
        ScanOutcome::Queued(job) => {
            let queued = QueuedScanView { state: "queued", job: job.map(|job| job.id) };
            (StatusCode::ACCEPTED, Json(queued)).into_response()
        }
    })
}

/// Lists a table's columns by path, as the last scan and people left them.
///
/// A table that was never scanned has none.
#[utoipa::path(
    get, path = "/tables/{name}/columns", tag = "tables",
    params(("name" = String, Path, description = "The table's dotted name"), ColumnParameters),
    responses((status = 200, body = PageView<ClassifiedColumnView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir table columns claims.claims --state proposed",
        "columns": ["path", "type", "class", "role", "state", "evidence.confidence"],
    })))
)]
pub async fn list_columns(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminQuery(query): AdminQuery<ColumnParameters>,
) -> Result<Json<PageView<ClassifiedColumnView>>, Problem> {
    let wrong = || {
        let detail = format!("`state` must be one of {}", ColumnState::listed());
        Problem::new(ProblemCode::InvalidParameter, detail)
    };
    let state = query.state.map(|text| ColumnState::parse(&text).ok_or_else(wrong)).transpose()?;
    let class = query.class.map(|class| class.0);
    let filter = ColumnQuery { state, class, is_gone: query.gone.unwrap_or_default() };
    let page = PageRequest { max_results: query.max_results, page_token: query.page_token };
    let page = admin.service.catalog.list_columns(&ctx, &name, &filter, &page).await?;
    Ok(Json(PageView::new(page, ClassifiedColumnView::from)))
}

/// Decides about a column: confirms or rejects what is proposed, or sets class and role by hand.
///
/// Whoever names `class` or `role` and no `state` confirms. What the class's control asks for holds for what is shared now; a
/// dry run says in `impact` which columns would be masked otherwise, and whom that would cut off.
#[utoipa::path(
    patch, path = "/tables/{name}/columns/{path}", tag = "tables",
    params(
        ("name" = String, Path, description = "The table's dotted name"),
        ("path" = String, Path, description = "The column's path, nested columns with dots"),
        ("If-Match" = Option<String>, Header)
    ),
    request_body(content(
        (ColumnSpec = "application/merge-patch+json"),
        (ColumnSpec = "application/json")
    )),
    responses((status = 200, body = ClassifiedColumnView)),
    extensions(("x-weir-cli" = json!({
        "example": "weir table classify claims.claims member_id --class PHI --role direct --state confirmed",
    })))
)]
pub async fn update_column(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath((name, path)): AdminPath<(String, String)>,
    IfMatch(condition): IfMatch,
    AdminFields { named, .. }: AdminFields<ColumnSpec>,
) -> Result<Resource<ClassifiedColumnView>, Problem> {
    let decision = ColumnDecision { path: path.clone(), condition, named };
    let (decided, impact) = admin.service.catalog.decide_columns(&ctx, &name, &[decision]).await?;
    let missing = || ServiceError::NotFound { kind: "column", name: path };
    let column = ClassifiedColumnView::from(decided.into_iter().next().ok_or_else(missing)?);
    Ok(Resource::found(ClassifiedColumnView { impact: impact.map(Into::into), ..column }))
}

/// Decides about several columns at once: about all of them, or none.
#[utoipa::path(
    patch, path = "/tables/{name}/columns", tag = "tables",
    params(("name" = String, Path, description = "The table's dotted name")), request_body = ColumnsBody,
    responses((status = 200, body = ColumnsView)),
    extensions(("x-weir-cli" = json!({"example": "weir table classify-all claims.claims --file decided.json"})))
)]
pub async fn update_columns(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(name): AdminPath<String>,
    AdminJson(body): AdminJson<ColumnsBody>,
) -> Result<Json<ColumnsView>, Problem> {
    let decisions: Vec<ColumnDecision> = body.columns.0.into_iter().map(Into::into).collect();
    let (decided, impact) = admin.service.catalog.decide_columns(&ctx, &name, &decisions).await?;
    let items = decided.into_iter().map(ClassifiedColumnView::from).collect();
    Ok(Json(ColumnsView { items, impact: impact.map(Into::into) }))
}
