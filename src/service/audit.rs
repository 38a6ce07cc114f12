//! Reading the audit trail, and recording what operators do that changes nothing.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{
    Service,
    context::OperatorContext,
    error::ServiceError,
    meter,
    page::{Page, PageRequest},
};
use crate::{
    domain::{
        audit::{Event, Object, Outcome},
        decision::Reason,
    },
    store::{AuditFilter, Order, StoredEvent},
};

/// How much of a path is kept, in characters; more than any name has.
const LONGEST_PATH: usize = 1_000;

/// Which events are listed.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Only those about the recipient of this name or id.
    pub recipient: Option<String>,
    /// Only those about the share of this name or id.
    pub share: Option<String>,
    /// Only those about this shared object: `schema.table` with `share`, or its id.
    pub table: Option<String>,
    /// Only those of this action.
    pub action: Option<String>,
    /// Only those that were decided so.
    pub decision: Option<Outcome>,
    /// Only those from this moment on.
    pub since: Option<DateTime<Utc>>,
    /// Only those before this moment.
    pub until: Option<DateTime<Utc>>,
    /// Only those behind this place, in the order of the listing.
    pub after_seq: Option<i64>,
    /// The order of the listing.
    pub order: Order,
}

/// What an operator asked for.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The route's template.
    pub route: &'a str,
    /// The request's method.
    pub method: String,
    /// Its path, which holds names and ids and never a secret.
    pub path: String,
}

impl Service {
    /// Events of the trail, by their place in it.
    pub async fn list_audit_events(
        &self,
        query: &AuditQuery,
        page: &PageRequest,
    ) -> Result<Page<StoredEvent>, ServiceError> {
        if query.after_seq.is_some() && page.page_token.is_some() {
            let message = "`after_seq` and `page_token` both say where to go on; send one of them";
            return Err(ServiceError::Parameter(message.into()));
        }
        let mut filter = AuditFilter {
            action: query.action.clone(),
            decision: query.decision,
            since: query.since,
            until: query.until,
            order: query.order,
            ..AuditFilter::default()
        };
        if let Some(recipient) = &query.recipient {
            filter.recipient_id = Some(self.filtered_recipient(recipient).await?);
        }
        if let Some(share) = &query.share {
            filter.share_id = Some(self.filtered_share(share).await?);
        }
        if let Some(table) = &query.table {
            filter.table_id = Some(self.filtered_object(filter.share_id, table).await?);
        }
        let opened = self.begin_page(page, format!("audit {filter:?}"))?;
        filter.after_seq = query.after_seq.or_else(|| opened.after.as_deref().and_then(|seq| seq.parse().ok()));
        let events = self.db.list_audit(&filter, opened.limit).await?;
        Ok(self.end_page(opened, events, |event| event.seq.to_string()))
    }

    /// Records that somebody without a valid credential called `route`; of a flood the first of each minute, and the
    /// rest in one event. Whoever goes on all the same is told to slow down.
    pub async fn record_failed_authentication(&self, ctx: &OperatorContext, route: &str) -> Result<(), ServiceError> {
        let mut event = route_event(ctx, "auth.failed", route);
        event.decision = Outcome::Deny;
        event.reason = Some("OPERATOR_TOKEN_UNKNOWN".into());
        let address = event.personal.client_address.as_deref().and_then(|address| address.parse().ok());
        let address = address.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let noted = self.meter.authentication_failed(address, None, &event, self.failure_tolerance(), ctx.now);
        meter::record(&self.trail, noted.summaries);
        if noted.is_recorded {
            self.trail.record(event).await?;
        }
        if noted.is_limited {
            return Err(ServiceError::Limited {
                message: "too many failed attempts from this address; wait a minute, then check the token".to_owned(),
                retry_after_seconds: Reason::TooManyFailures.retry_after_seconds(ctx.now),
            });
        }
        Ok(())
    }

    /// Records that an operator asked for a change that was refused for `reason`, a stable code.
    pub async fn record_refused_change(
        &self,
        ctx: &OperatorContext,
        asked: Asked<'_>,
        reason: String,
    ) -> Result<(), ServiceError> {
        let path: String = asked.path.chars().take(LONGEST_PATH).collect();
        self.trail
            .record(Event {
                decision: Outcome::Deny,
                reason: Some(reason.into()),
                change: Some(json!({"method": asked.method, "path": path})),
                ..route_event(ctx, "admin.change", asked.route)
            })
            .await
    }

    /// Records that an operator read `route`.
    pub async fn record_reading(&self, ctx: &OperatorContext, route: &str) -> Result<(), ServiceError> {
        self.trail.record(route_event(ctx, "admin.read", route)).await
    }
}

fn route_event(ctx: &OperatorContext, action: &'static str, route: &str) -> Event {
    ctx.event(action, Object { kind: "route".into(), id: None, name: Some(route.to_owned()) })
}
