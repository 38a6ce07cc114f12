//! Notifications to webhooks: delivered, waiting, and given up.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    domain::{
        core::word::{AsWritten, Words},
        operators::Permission,
    },
    http::admin::{
        Admin,
        core::{
            auth::{Operator, requiring},
            extract::{AdminJson, AdminPath, AdminQuery},
            jobs::RetryBody,
            page::PageView,
            problem::{Problem, ProblemCode},
        },
    },
    service::core::page::PageRequest,
    store::{Notification, NotificationState},
};

/// Builds the routes of this module, each with the permission that it requires.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .merge(requiring(Permission::ReadAudit, OpenApiRouter::new().routes(routes!(list_notifications))))
        .merge(requiring(Permission::Operate, OpenApiRouter::new().routes(routes!(retry_notification))))
}

/// Filters a listing of notifications.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NotificationQuery {
    /// Only notifications in this state: `pending`, `delivered` or `dead` (given up). All if absent.
    pub state: Option<String>,
    /// The most items on a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub max_results: Option<u32>,
    /// The `next_page_token` of the previous page; absent for the first page.
    pub page_token: Option<String>,
}

/// One signal on its way to one webhook.
#[derive(Debug, Serialize, ToSchema)]
pub struct NotificationView {
    /// The notification's id; the receiver gets it as `webhook-id`.
    pub id: Uuid,
    /// The webhook's name in the configuration.
    pub webhook: String,
    /// The kind of signal.
    #[serde(rename = "type")]
    #[schema(example = "token.ending")]
    pub kind: String,
    /// `pending`, `delivered` or `dead`.
    #[schema(value_type = String)]
    pub state: AsWritten<NotificationState>,
    /// How often it was sent since it was last queued.
    pub attempts: i64,
    /// When the signal was noticed.
    pub created_at: DateTime<Utc>,
    /// When it will be sent next; null unless it is `pending`.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it was delivered or given up.
    pub ended_at: Option<DateTime<Utc>>,
    /// Why the last attempt failed.
    pub failure: Option<String>,
    /// The message that the webhook receives.
    #[schema(value_type = Object)]
    pub message: Value,
}

impl From<Notification> for NotificationView {
    fn from(notification: Notification) -> Self {
        let is_pending = notification.state == NotificationState::Pending;
        Self {
            id: notification.id,
            webhook: notification.webhook,
            kind: notification.kind,
            state: notification.state,
            attempts: notification.attempts,
            created_at: notification.created_at,
            next_attempt_at: is_pending.then_some(notification.next_attempt_at),
            ended_at: notification.ended_at,
            failure: notification.failure,
            message: serde_json::from_str(&notification.body).unwrap_or_default(),
        }
    }
}

/// Lists notifications in the order of their making.
///
/// Notifications that were delivered or given up are kept for 30 days.
#[utoipa::path(
    get, path = "/notifications", tag = "notifications", params(NotificationQuery),
    responses((status = 200, body = PageView<NotificationView>)),
    extensions(("x-weir-cli" = json!({
        "example": "weir notification list --state dead",
        "columns": ["id", "webhook", "type", "state", "attempts", "created_at", "failure"],
        "limit": 100,
    })))
)]
pub async fn list_notifications(
    State(admin): State<Admin>,
    AdminQuery(query): AdminQuery<NotificationQuery>,
) -> Result<Json<PageView<NotificationView>>, Problem> {
    let state = query.state.map(|word| {
        NotificationState::parse(&word)
            .ok_or_else(|| Problem::new(ProblemCode::InvalidParameter, "`state` must be pending, delivered or dead"))
    });
    let page = PageRequest { max_results: query.max_results, page_token: query.page_token };
    let page = admin.service.insight.list_notifications(state.transpose()?, &page).await?;
    Ok(Json(PageView::new(page, NotificationView::from)))
}

/// Queues a notification that was given up again.
#[utoipa::path(
    post, path = "/notifications/{id}/retry", tag = "notifications", params(("id" = Uuid, Path)),
    request_body = RetryBody, responses((status = 200, body = NotificationView)),
    extensions(("x-weir-cli" = json!({"example": "weir notification retry 0198c5a2-6f1e-7c3b-9d00-3a1b2c3d4e5f"})))
)]
pub async fn retry_notification(
    State(admin): State<Admin>,
    Operator(ctx): Operator,
    AdminPath(id): AdminPath<Uuid>,
    AdminJson(RetryBody {}): AdminJson<RetryBody>,
) -> Result<Json<NotificationView>, Problem> {
    Ok(Json(admin.service.insight.retry_notification(&ctx, id).await?.into()))
}
