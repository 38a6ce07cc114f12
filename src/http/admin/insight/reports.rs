//! Making and listing monthly reports, and serving their files.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{core::word::AsWritten, insight::report::ReportFile, operators::Permission},
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::{AdminJson, AdminPath, AdminQuery},
            page::PageView,
            problem::{Problem, ProblemCode},
            text::Text,
        },
    },
    render,
    service::{
        core::{error::ServiceError, page::PageRequest},
        insight::reports::{FiledReport, NewReport, ReportQuery},
    },
    store::{ReportState, StoredReport},
};

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(
            Permission::ReadAudit,
            OpenApiRouter::new()
                .routes(routes!(list_reports))
                .routes(routes!(get_report))
                .routes(routes!(get_report_file))
                .routes(routes!(preview_report)),
        ))
        .merge(requiring(Permission::Operate, OpenApiRouter::new().routes(routes!(create_report))))
}

/// The content security policy of a report's page: its own styles, and nothing else.
const PAGE_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox");

/// Which report to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportBody {
    /// A month that is over, as `YYYY-MM`. A month that is not over has a preview instead.
    #[schema(value_type = String, example = "2026-11")]
    pub month: Text,
    /// The recipient to report on, by name or id; all recipients if absent.
    #[schema(value_type = Option<String>)]
    pub recipient: Option<Text>,
}

/// Filters a listing of reports.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReportParameters {
    /// Only reports of this month, as `YYYY-MM`.
    #[param(value_type = Option<String>, example = "2026-11")]
    pub month: Option<Text>,
    /// Only reports on this recipient, by name or id.
    #[param(value_type = Option<String>)]
    pub recipient: Option<Text>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the previous page; absent for the first page.
    pub page_token: Option<String>,
}

/// A file of a report.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportFileView {
    /// The file's size in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
}

/// A monthly report.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportView {
    /// The report's id.
    pub id: Uuid,
    /// The month that it covers.
    #[schema(example = "2026-11")]
    pub month: String,
    /// The id of the recipient that it is about; null for all recipients.
    pub recipient_id: Option<Uuid>,
    /// The recipient's name when the report was requested; null for all recipients.
    pub recipient: Option<String>,
    /// `making`, `ready` or `failed`.
    #[schema(value_type = String)]
    pub state: AsWritten<ReportState>,
    /// Why the report could not be made; requesting it again tries again.
    pub failure: Option<String>,
    /// Who requested the report.
    pub requested_by: String,
    /// When it was requested.
    pub requested_at: DateTime<Utc>,
    /// When it was finished.
    pub ready_at: Option<DateTime<Utc>>,
    /// The sequence number of the checkpoint of the audit trail that covers the report's events.
    pub checkpoint_seq: Option<i64>,
    /// The files by name, once the report is ready; absent in listings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub files: Option<BTreeMap<&'static str, ReportFileView>>,
}

impl From<StoredReport> for ReportView {
    fn from(report: StoredReport) -> Self {
        Self {
            id: report.id,
            month: report.month.to_string(),
            recipient_id: report.recipient_id,
            recipient: report.recipient,
            state: report.state,
            failure: report.failure,
            requested_by: report.requested_by,
            requested_at: report.requested_at,
            ready_at: report.ready_at,
            checkpoint_seq: report.checkpoint_seq,
            files: None,
        }
    }
}

impl From<FiledReport> for ReportView {
    fn from(FiledReport { report, files }: FiledReport) -> Self {
        let files = files.into_iter().map(|stored| {
            let view = ReportFileView { bytes: stored.entry.bytes, sha256: stored.entry.sha256 };
            (stored.file.as_str(), view)
        });
        Self { files: Some(files.collect()), ..report.into() }
    }
}

/// Makes the report of a month, or returns it if it exists.
///
/// A report never changes once it is made. The report of a busy month may take longer: the answer is then 202 with the
/// state `making`; get it by its id until it is `ready`.
#[utoipa::path(
    post, path = "/reports", tag = "reports", request_body = ReportBody,
    responses(
        (status = 200, description = "It exists already", body = ReportView),
        (status = 201, description = "Made", body = ReportView),
        (status = 202, description = "It is being made", body = ReportView),
    ),
    extensions(("x-weir-cli" = json!({"example": "weir report --month 2026-10 --output-dir report", "own": true})))
)]
pub async fn create_report(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminJson(body): AdminJson<ReportBody>,
) -> Result<(StatusCode, Json<ReportView>), Problem> {
    let asked = NewReport { month: body.month.0, recipient: body.recipient.map(|text| text.0) };
    let (filed, is_new) = admin.service.jobs.create_report(&ctx, &asked).await?;
    let status = match filed.report.state.means() {
        Some(ReportState::Making) | None => StatusCode::ACCEPTED,
        Some(ReportState::Ready | ReportState::Failed) if is_new => StatusCode::CREATED,
        Some(ReportState::Ready | ReportState::Failed) => StatusCode::OK,
    };
    Ok((status, Json(filed.into())))
}

/// Lists reports in the order in which they were requested.
#[utoipa::path(
    get, path = "/reports", tag = "reports", params(ReportParameters),
    responses((status = 200, body = PageView<ReportView>)),
    extensions(("x-weir-cli" = json!({"example": "weir report list", "own": true})))
)]
pub async fn list_reports(
    State(admin): State<Admin>,
    AdminQuery(query): AdminQuery<ReportParameters>,
) -> Result<Json<PageView<ReportView>>, Problem> {
    let page = PageRequest { max_results: query.max_results, page_token: query.page_token };
    let query = ReportQuery { month: query.month.map(|text| text.0), recipient: query.recipient.map(|text| text.0) };
    let page = admin.service.insight.list_reports(&query, &page).await?;
    Ok(Json(PageView::new(page, ReportView::from)))
}

/// Returns a report and the list of its files.
#[utoipa::path(
    get, path = "/reports/{id}", tag = "reports", params(("id" = Uuid, Path)),
    responses((status = 200, body = ReportView)),
    extensions(("x-weir-cli" = json!({"example": "weir report list --month 2026-10", "own": true})))
)]
pub async fn get_report(
    State(admin): State<Admin>,
    AdminPath(id): AdminPath<Uuid>,
) -> Result<Json<ReportView>, Problem> {
    Ok(Json(admin.service.insight.get_report(id).await?.into()))
}

/// Returns a file of a report, byte for byte as it was made.
///
/// One of `report.html`, `report.csv`, `report.json`, `manifest.json` and `manifest.sig`.
#[utoipa::path(
    get, path = "/reports/{id}/{file}", tag = "reports", params(("id" = Uuid, Path), ("file" = String, Path)),
    responses((status = 200, content(
        (String = "text/html"), (String = "text/csv"), (String = "application/json"), (String = "text/plain")
    ))),
    extensions(("x-weir-cli" = json!({"example": "weir report --month 2026-10 --format html", "own": true})))
)]
pub async fn get_report_file(
    State(admin): State<Admin>,
    AdminPath((id, file)): AdminPath<(Uuid, String)>,
) -> Result<Response, Problem> {
    let unknown = || {
        let files = ReportFile::ALL.map(ReportFile::as_str).join(", ");
        Problem::new(ProblemCode::NotFound, format!("a report has no such file; it has {files}"))
    };
    let file = ReportFile::parse(&file).ok_or_else(unknown)?;
    let (report, content) = admin.service.insight.get_report_file(id, file).await?;
    Ok(answer(file, &format!("weir-{}", report.month), content))
}

/// Which month to preview.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewParameters {
    /// The current month, as `YYYY-MM`: one that has begun and is not over.
    #[param(value_type = String, example = "2026-11")]
    pub month: Text,
    /// The recipient to report on, by name or id; all recipients if absent.
    #[param(value_type = Option<String>)]
    pub recipient: Option<Text>,
}

/// Returns a file of the report of a month that is not over, as it would be now.
///
/// One of `report.html`, `report.csv` and `report.json`, marked as a preview. It is counted on request, and neither
/// stored nor signed.
#[utoipa::path(
    get, path = "/reports/preview/{file}", tag = "reports", params(("file" = String, Path), PreviewParameters),
    responses((status = 200, content((String = "text/html"), (String = "text/csv"), (String = "application/json")))),
    extensions(("x-weir-cli" = json!({"example": "weir report --month 2026-11 --recipient acme", "own": true})))
)]
pub async fn preview_report(
    State(admin): State<Admin>,
    AdminPath(file): AdminPath<String>,
    AdminQuery(query): AdminQuery<PreviewParameters>,
) -> Result<Response, Problem> {
    let unknown = || {
        let files = ReportFile::LISTED.map(ReportFile::as_str).join(", ");
        Problem::new(ProblemCode::NotFound, format!("a preview has no such file; it has {files}"))
    };
    let file = ReportFile::parse(&file).filter(|file| ReportFile::LISTED.contains(file)).ok_or_else(unknown)?;
    let asked = NewReport { month: query.month.0, recipient: query.recipient.map(|text| text.0) };
    let report = admin.service.insight.preview_report(&asked).await?;
    let content = render::report::file(&report, file).map_err(ServiceError::internal)?;
    Ok(answer(file, &format!("weir-{}-preview", report.month), content.into_bytes()))
}

/// Answers a file to be saved under a name that begins with `name`.
fn answer(file: ReportFile, name: &str, content: Vec<u8>) -> Response {
    let kind = match file {
        ReportFile::Html => "text/html; charset=utf-8",
        ReportFile::Csv => "text/csv; charset=utf-8",
        ReportFile::Json | ReportFile::Manifest => "application/json",
        ReportFile::Signature => "text/plain; charset=utf-8",
    };
    // Only the month is used: names may contain characters that a header cannot hold.
    let name = format!("attachment; filename=\"{name}-{}\"", file.as_str());
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("attachment"))),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
    ];
    (headers, content).into_response()
}
