//! Background work: jobs that are due, running or dead.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        core::{
            job::{JobKind, JobState},
            message::quoted,
            word::{AsWritten, Words},
        },
        operators::Permission,
    },
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::{AdminJson, AdminPath, AdminQuery},
            page::PageView,
            problem::{Problem, ProblemCode},
        },
    },
    service::core::page::PageRequest,
    store::{Job, JobFilter},
};

/// The operations here, each with the permission that it needs.
pub(in crate::http::admin) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(Permission::ReadAudit, OpenApiRouter::new().routes(routes!(list_jobs))))
        .merge(requiring(Permission::Operate, OpenApiRouter::new().routes(routes!(retry_job))))
}

/// Which jobs are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobQuery {
    /// `report` or `scan`; all kinds where absent.
    pub kind: Option<String>,
    /// `due`, `running` or `dead`; all where absent.
    pub state: Option<String>,
    /// At most so many items.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the page before.
    pub page_token: Option<String>,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobView {
    /// Its identity.
    pub id: Uuid,
    /// What it does.
    #[schema(example = "report")]
    pub kind: String,
    /// What it is about; of a report its id, of a scan the table's. There is one job for each kind and key.
    pub key: String,
    /// `due`, `running` or `dead`.
    #[schema(value_type = String)]
    pub state: AsWritten<JobState>,
    /// How many attempts it had since it was queued.
    pub attempts: i64,
    /// When it was queued first.
    pub created_at: DateTime<Utc>,
    /// When the next attempt is due; null while it runs, and when it is dead.
    pub due_at: Option<DateTime<Utc>>,
    /// Until when a server holds it; null where none does.
    pub held_until: Option<DateTime<Utc>>,
    /// When it was given up.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    pub failure: Option<String>,
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            kind: job.kind,
            key: job.key,
            attempts: job.attempts,
            created_at: job.created_at,
            due_at: (job.state == JobState::Due).then_some(job.due_at),
            state: job.state,
            held_until: job.held_until,
            ended_at: job.ended_at,
            failure: job.failure,
        }
    }
}

/// The value that `parse` makes of a parameter.
fn parsed<T>(
    name: &str,
    text: Option<String>,
    parse: fn(&str) -> Option<T>,
    known: &[&'static str],
) -> Result<Option<T>, Problem> {
    let wrong = || Problem::new(ProblemCode::InvalidParameter, format!("`{name}` must be one of {}", quoted(known)));
    text.map(|text| parse(&text).ok_or_else(wrong)).transpose()
}

/// There is nothing to say about it; `{}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBody {}

/// Lists jobs, the oldest first; finished jobs are deleted.
#[utoipa::path(
    get, path = "/jobs", tag = "jobs", params(JobQuery),
    responses((status = 200, body = PageView<JobView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir job list --state dead",
        "columns": ["id", "kind", "key", "state", "attempts", "due_at", "failure"],
    })))
)]
pub async fn list_jobs(
    State(admin): State<Admin>,
    AdminQuery(query): AdminQuery<JobQuery>,
) -> Result<Json<PageView<JobView>>, Problem> {
    let states: Vec<&str> = JobState::ALL.iter().map(|(state, _)| *state).collect();
    let filter = JobFilter {
        kind: parsed("kind", query.kind, JobKind::parse, &JobKind::ALL.map(JobKind::as_str))?,
        state: parsed("state", query.state, JobState::parse, &states)?,
    };
    let page = PageRequest { max_results: query.max_results, page_token: query.page_token };
    let page = admin.service.jobs.list_jobs(filter, &page).await?;
    Ok(Json(PageView::new(page, JobView::from)))
}

/// Queues a dead job again, with its attempt count reset.
#[utoipa::path(
    post, path = "/jobs/{id}/retry", tag = "jobs", params(("id" = Uuid, Path)),
    request_body = RetryBody, responses((status = 200, body = JobView)),
    extensions(("x-weir-cli" = json!({"example": "weir job retry 0198c5a2-6f1e-7c3b-9d00-3a1b2c3d4e5f"})))
)]
pub async fn retry_job(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(id): AdminPath<Uuid>,
    AdminJson(RetryBody {}): AdminJson<RetryBody>,
) -> Result<Json<JobView>, Problem> {
    Ok(Json(admin.service.jobs.retry_job(&ctx, id).await?.into()))
}
