//! Reading the audit trail.

use chrono::{DateTime, Utc};

use super::{
    Service,
    error::ServiceError,
    page::{Page, PageRequest},
};
use crate::{
    domain::audit::Outcome,
    store::{AuditFilter, Order, StoredEvent},
};

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
}
