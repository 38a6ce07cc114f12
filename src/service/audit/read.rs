//! Lists events of the audit trail.
//!
//! A filter that one index serves is answered in one query. Any other search scans the trail in steps and stops in
//! time, so that no page takes long however long the trail is.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::{
    domain::audit::Outcome,
    service::core::{
        error::ServiceError,
        page::{Page, PageRequest},
    },
    store::{AuditFilter, AuditSpan, Order, StoredEvent},
};

use super::AuditLog;

/// The number of events in the first step. It doubles after every quick step, up to the longest, and starts again after
/// a slow one.
const FIRST_LOOK: i64 = 4_096;
const LONGEST_LOOK: i64 = 16_384;
/// The longest time that counts as a quick step.
const QUICK: Duration = Duration::from_millis(5);
/// The time after which a page is returned as it is, with where to continue. Leaves time for one more slow step.
const PATIENCE: Duration = Duration::from_millis(20);

/// Filters the events to list.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Only events about the recipient with this name or id.
    pub recipient: Option<String>,
    /// Only events about the share with this name or id.
    pub share: Option<String>,
    /// Only those about this registered table, by its name or id; or about a shared object, `schema.table` with `share` or its
    /// id.
    pub table: Option<String>,
    /// Only those about this shared object: `schema.name` with `share`, or its id.
    pub object: Option<String>,
    /// Only those of this action.
    pub action: Option<String>,
    /// Only events with this outcome.
    pub decision: Option<Outcome>,
    /// Only events at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Only events before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only events that follow this sequence number in the order of the listing.
    pub after_seq: Option<i64>,
    /// The order of the listing.
    pub order: Order,
}

/// A page of events.
#[derive(Clone, Debug)]
pub struct AuditPage {
    /// The events, and the token for the next page.
    pub page: Page<StoredEvent>,
    /// The last sequence number searched, if the page was cut short; events that match may follow it.
    pub looked_up_to: Option<i64>,
}

impl AuditLog {
    /// Lists events of the trail by sequence number.
    pub async fn list_audit_events(&self, query: &AuditQuery, page: &PageRequest) -> Result<AuditPage, ServiceError> {
        self.list_audit_events_within(query, page, PATIENCE).await
    }

    /// Does the same as [`Self::list_audit_events`] with another time limit.
    pub async fn list_audit_events_within(
        &self,
        query: &AuditQuery,
        page: &PageRequest,
        patience: Duration,
    ) -> Result<AuditPage, ServiceError> {
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
            filter.recipient_id = Some(self.core.filtered_recipient(recipient).await?);
        }
        if let Some(share) = &query.share {
            filter.share_id = Some(self.core.filtered_share(share).await?);
        }
        filter.about = match (&query.table, &query.object) {
            (None, None) => None,
            (Some(table), None) => Some(self.core.filtered_table(filter.share_id, table).await?),
            (None, Some(object)) => Some(self.core.filtered_object(filter.share_id, object).await?),
            (Some(_), Some(_)) => {
                let message = "`table` and `object` both say what events are about; send one of them";
                return Err(ServiceError::Parameter(message.into()));
            }
        };
        let opened = self.core.begin_page(page, format!("audit {filter:?}"))?;
        filter.after_seq = query.after_seq.or_else(|| opened.after.as_deref().and_then(|seq| seq.parse().ok()));
        let Found { events, looked_up_to } = self.search_audit(filter, opened.limit, patience).await?;
        let page = match looked_up_to {
            None => self.core.end_page(opened, events, |event| event.seq.to_string()),
            Some(seq) => self.core.break_page(opened, events, &seq.to_string()),
        };
        Ok(AuditPage { page, looked_up_to })
    }

    /// Searches the trail until `limit` events are found, `patience` is over, or the trail is done.
    async fn search_audit(
        &self,
        mut filter: AuditFilter,
        limit: u32,
        patience: Duration,
    ) -> Result<Found, ServiceError> {
        let begun = Instant::now();
        let mut events = Vec::new();
        let mut length = FIRST_LOOK;
        let places = self.places_of(&filter).await?;
        let last_of_all = places.len().saturating_sub(1);
        for (index, mut ahead) in places.into_iter().enumerate() {
            while let Some(within) = ahead.next(&filter, length) {
                let lacking = limit.saturating_sub(u32::try_from(events.len()).unwrap_or(u32::MAX));
                filter.within = Some(within);
                let looked = Instant::now();
                events.extend(self.core.db.list_audit(&filter, lacking).await?);
                if events.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
                    return Ok(Found { events, looked_up_to: None });
                }
                length = next_length(length, looked.elapsed());
                let is_end = index == last_of_all && ahead.is_empty();
                if !is_end && begun.elapsed() > patience {
                    let last = if filter.order == Order::Ascending { within.1 } else { within.0 };
                    return Ok(Found { events, looked_up_to: Some(last) });
                }
            }
        }
        Ok(Found { events, looked_up_to: None })
    }

    /// The ranges to search, in the order of the listing.
    async fn places_of(&self, filter: &AuditFilter) -> Result<Vec<Places>, ServiceError> {
        let (after, before) = match filter.order {
            Order::Ascending => (filter.after_seq.unwrap_or_default().max(0), i64::MAX),
            Order::Descending => (0, filter.after_seq.unwrap_or(i64::MAX)),
        };
        let head = self.core.db.find_audit_head().await?.seq;
        let whole = Places { first: after.saturating_add(1), last: head.min(before.saturating_sub(1)) };
        let mut places = if filter.since.is_none() && filter.until.is_none() {
            vec![whole]
        } else {
            let AuditSpan { first, last, sealed } = self.core.db.find_audit_span(filter.since, filter.until).await?;
            vec![whole.within(first, last), whole.within(sealed + 1, i64::MAX)]
        };
        if filter.order == Order::Descending {
            places.reverse();
        }
        Ok(places)
    }
}

/// The length of the next step after a step of `length` events that took `took`.
fn next_length(length: i64, took: Duration) -> i64 {
    if took < QUICK { LONGEST_LOOK.min(length * 2) } else { FIRST_LOOK }
}

/// The result of a search.
struct Found {
    events: Vec<StoredEvent>,
    /// The last sequence number searched, if the search was cut short.
    looked_up_to: Option<i64>,
}

/// A range of sequence numbers still to search, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Places {
    first: i64,
    last: i64,
}

impl Places {
    fn within(self, first: i64, last: i64) -> Self {
        Self { first: self.first.max(first), last: self.last.min(last) }
    }

    fn is_empty(self) -> bool {
        self.first > self.last
    }

    /// Takes the next range off: all that is left if an index leads from match to match, otherwise `length` events.
    fn next(&mut self, filter: &AuditFilter, length: i64) -> Option<(i64, i64)> {
        if self.is_empty() {
            return None;
        }
        let is_long = !has_own_index(filter) && self.last - self.first >= length;
        let taken = match filter.order {
            Order::Ascending => (self.first, if is_long { self.first + length - 1 } else { self.last }),
            Order::Descending => (if is_long { self.last - length + 1 } else { self.first }, self.last),
        };
        match filter.order {
            Order::Ascending => self.first = taken.1.saturating_add(1),
            Order::Descending => self.last = taken.0.saturating_sub(1),
        }
        Some(taken)
    }
}

/// Whether one index finds exactly the events that match.
fn has_own_index(filter: &AuditFilter) -> bool {
    let chosen = [
        filter.recipient_id.is_some(),
        filter.share_id.is_some(),
        filter.about.is_some(),
        filter.action.is_some(),
        filter.decision.is_some(),
    ];
    // A filter by time alone is resolved to ranges first.
    chosen.iter().filter(|chosen| **chosen).count() <= 1
        && filter.decision != Some(Outcome::Allow)
        && (filter.since.is_none() && filter.until.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured: the slowest events took 2.1 µs each.
    #[test]
    fn a_page_takes_well_under_a_tenth_of_a_second_whatever_its_events_take() {
        let slowest = Duration::from_nanos(3_000);
        // How long a page takes if events take `first` each in the first `n_first` steps and `then` each after those.
        let page = |first: Duration, n_first: u32, then: Duration| {
            let (mut length, mut begun) = (FIRST_LOOK, Duration::ZERO);
            for look in 0.. {
                let each = if look < n_first { first } else { then };
                let took = each * u32::try_from(length).unwrap();
                begun += took;
                if begun > PATIENCE {
                    break;
                }
                length = next_length(length, took);
            }
            begun
        };
        let longest = [1, 50, 300, 1_000, 3_000]
            .iter()
            .flat_map(|nanos| (0..20).map(|n_first| page(Duration::from_nanos(*nanos), n_first, slowest)))
            .max();
        assert!(longest < Some(Duration::from_millis(75)), "{longest:?}");
        // Quick events are searched in long steps.
        assert_eq!((0..4).fold(FIRST_LOOK, |length, _| next_length(length, Duration::ZERO)), LONGEST_LOOK);
        assert_eq!(next_length(LONGEST_LOOK, QUICK), FIRST_LOOK);
    }

    #[test]
    fn places_are_looked_at_once_each_and_in_order() {
        let combined =
            AuditFilter { action: Some("x".into()), decision: Some(Outcome::Deny), ..AuditFilter::default() };
        let descending = AuditFilter { order: Order::Descending, ..combined.clone() };
        let taken = |filter: &AuditFilter| {
            let mut places = Places { first: 1, last: 25 };
            std::iter::from_fn(|| places.next(filter, 10)).collect::<Vec<_>>()
        };
        assert_eq!(taken(&combined), [(1, 10), (11, 20), (21, 25)]);
        assert_eq!(taken(&descending), [(16, 25), (6, 15), (1, 5)]);
        assert_eq!(taken(&AuditFilter::default()), [(1, 25)]);
        assert_eq!(Places { first: 5, last: 4 }.next(&combined, 10), None);
    }
}
