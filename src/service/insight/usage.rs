//! Sums up usage from the audit trail by hour and day, recipient and shared object.
//!
//! Events are counted from the trail in order, and the last one counted is stored with the sums, so the sums always
//! agree with the trail. Several replicas may count at once. Never here: what an event counts as, which is in
//! `domain::insight::usage`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use chrono::{DateTime, TimeDelta, Utc};
use hmac::Mac;
use rand::Rng;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::{
    domain::{
        access::limits::span,
        audit::recorded::Recorded,
        core::seal::hmac,
        insight::usage::{Usage, hour, hour_start},
    },
    service::core::{error::ServiceError, pacing, page::PageRequest},
    store::{
        StoreError, StoredEvent, Tx, UsageDay, UsageFilter, UsageGroup, UsageKey, UsageKeys, UsagePeriod, UsageSums,
    },
};

use super::Insight;

/// The most days that are compared with the trail at a time.
const MOST_DAYS: i64 = 400;
/// A day, in hours.
const DAY: i64 = 24;

/// The usage to list.
#[derive(Clone, Debug, Default)]
pub struct UsageQuery {
    /// What to group by.
    pub keys: UsageKeys,
    /// Only usage of the recipient with this name or id.
    pub recipient: Option<String>,
    /// Only usage of the share with this name or id.
    pub share: Option<String>,
    /// Only that of this shared object: `schema.name` with `share`, or its id.
    pub object: Option<String>,
    /// Only from this hour on.
    pub since: Option<DateTime<Utc>>,
    /// Only usage before this hour.
    pub until: Option<DateTime<Utc>>,
}

/// A page of usage.
#[derive(Clone, Debug)]
pub struct UsagePage {
    /// The sums, ordered by time and then by id.
    pub items: Vec<UsageGroup>,
    /// The token for the next page; `None` on the last one.
    pub next_page_token: Option<String>,
    /// The last event of the trail that is in the sums.
    pub through_seq: i64,
}

/// A day's sums beside the day's events in the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedDay {
    /// The start of the day.
    pub start: DateTime<Utc>,
    /// The counts by trail, hours and days.
    pub day: UsageDay,
    /// Whether the hourly sums of that day are still kept.
    pub has_hours: bool,
}

impl CheckedDay {
    /// Whether the trail and the sums agree.
    pub fn agrees(&self) -> bool {
        self.day.in_days == self.day.in_trail && (!self.has_hours || self.day.in_hours == self.day.in_trail)
    }
}

/// The result of comparing days with the trail.
#[derive(Clone, Debug)]
pub struct CheckedUsage {
    /// The days compared.
    pub days: Vec<CheckedDay>,
    /// The first day compared; earlier events may be in the export only.
    pub since: DateTime<Utc>,
    /// The end of the last day.
    pub until: DateTime<Utc>,
}

impl Insight {
    /// Counts the events that are not in the sums yet.
    pub async fn count_usage(&self) -> Result<(), ServiceError> {
        loop {
            let begun = Instant::now();
            let progress = self.core.db.find_usage_progress().await?;
            let waiting = self.core.db.find_audit_head().await?.seq.saturating_sub(progress.seq);
            self.core.metrics.usage_waits_for(waiting);
            if waiting <= 0 {
                return Ok(());
            }
            let Some(key) = progress.address_key else {
                let mut key = [0; 32];
                rand::rng().fill_bytes(&mut key);
                let mut tx = self.core.db.begin().await?;
                tx.set_address_key(&key).await?;
                tx.commit().await?;
                continue;
            };
            // Events that were detached before they were counted are gone and leave a gap.
            let page = self.core.db.list_chain(progress.seq, pacing::PAGE).await?;
            let Some(last) = page.last().map(|(event, _)| event.seq) else { return Ok(()) };
            // A page takes milliseconds; no request should wait that long.
            let sums = spawn_blocking(move || sum_up(page.iter().map(|(event, _)| event), &key)).await;
            let sums = sums.map_err(ServiceError::internal)??;
            let mut tx: Tx = self.core.db.begin().await?;
            match tx.add_usage(progress.seq, last, &sums).await {
                Ok(()) => tx.commit().await?,
                // Another replica was faster; continue after its events.
                Err(StoreError::Stale) => {}
                Err(error) => return Err(error.into()),
            }
            pacing::rest_after_page(begun, waiting - i64::from(pacing::PAGE)).await;
        }
    }

    /// Deletes hourly sums that are older than the retention.
    pub async fn erase_usage_hours(&self) -> Result<(), ServiceError> {
        let days = self.usage.hour_retention_days;
        let kept_since = self.core.clock.now().checked_sub_signed(span(days.saturating_mul(86_400)));
        let Some(before) = kept_since.filter(|_| days > 0).map(|at| UsagePeriod::Day.start_of(hour(at))) else {
            return Ok(());
        };
        while self.core.db.find_hours_before(before).await? {
            let mut tx = self.core.db.begin().await?;
            tx.delete_usage_hours(before).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Lists usage, grouped as requested.
    pub async fn list_usage(&self, query: &UsageQuery, page: &PageRequest) -> Result<UsagePage, ServiceError> {
        let (since, until) = (whole_hour("since", query.since)?, whole_hour("until", query.until)?);
        let cuts_days = [since, until].into_iter().flatten().any(|hour| UsagePeriod::Day.start_of(hour) != hour);
        let period = if query.keys.period == Some(UsagePeriod::Hour) || cuts_days {
            UsagePeriod::Hour
        } else {
            UsagePeriod::Day
        };
        let progress = self.core.db.find_usage_progress().await?;
        if period == UsagePeriod::Hour && cuts_days && since.unwrap_or_default() < progress.hours_from {
            let from = hour_start(progress.hours_from).format("%Y-%m-%d");
            return Err(ServiceError::Parameter(format!(
                "usage by the hour is kept from {from} on; let `since` and `until` be whole days (UTC), or later"
            )));
        }
        let mut filter =
            UsageFilter { period, recipient_id: None, share_id: None, object_id: None, since, until, keys: query.keys };
        if let Some(recipient) = &query.recipient {
            filter.recipient_id = Some(self.core.filtered_recipient(recipient).await?);
        }
        if let Some(share) = &query.share {
            filter.share_id = Some(self.core.filtered_share(share).await?);
        }
        if let Some(object) = &query.object {
            filter.object_id = Some(self.core.filtered_object(filter.share_id, object).await?);
        }
        let opened = self.core.begin_page(page, format!("usage {filter:?}"))?;
        let after = opened.after.as_deref().and_then(|cursor| read_cursor(cursor, period));
        let groups = self.core.db.list_usage(&filter, after.as_ref(), opened.limit).await?;
        let page = self.core.end_page(opened, groups, write_cursor);
        Ok(UsagePage { items: page.items, next_page_token: page.next_page_token, through_seq: progress.seq })
    }

    /// Compares each day's events in the trail with the sums, from `since` to `until`: at most [`MOST_DAYS`] days; by
    /// default the newest.
    pub async fn check_usage(
        &self,
        since: Option<DateTime<Utc>>,
        until: Option<DateTime<Utc>>,
    ) -> Result<CheckedUsage, ServiceError> {
        let now = self.core.clock.now();
        let day_of = |at: DateTime<Utc>| UsagePeriod::Day.start_of(hour(at));
        for (name, at) in [("since", since), ("until", until)] {
            if at.is_some_and(|at| hour_start(day_of(at)) != at) {
                return Err(ServiceError::Parameter(format!("`{name}` must be the beginning of a day in UTC")));
            }
        }
        let until = until.map_or(day_of(now) + DAY, hour);
        let first = self.core.db.find_first_event_at().await?.map_or(until, day_of);
        // The database holds only part of the day at which the trail was cut.
        let detached = self.core.db.find_detached_through().await?.is_some();
        let comparable = if detached { first + DAY } else { first };
        let since = since.map_or_else(|| comparable.max(until - MOST_DAYS * DAY), |at| hour(at).max(comparable));
        if until.saturating_sub(since) > MOST_DAYS * DAY {
            return Err(ServiceError::Parameter(format!("ask for at most {MOST_DAYS} days at a time")));
        }
        let hours_from = self.core.db.find_usage_progress().await?.hours_from;
        let mut days = Vec::new();
        let mut start = since;
        while start < until {
            let day = self.core.db.find_usage_day(start).await?;
            days.push(CheckedDay { start: hour_start(start), day, has_hours: start >= hours_from });
            start += DAY;
        }
        Ok(CheckedUsage { days, since: hour_start(since), until: hour_start(until) })
    }
}

/// Sums up events by hour and by day.
fn sum_up<'a>(
    events: impl Iterator<Item = &'a StoredEvent>,
    address_key: &[u8; 32],
) -> Result<UsageSums, ServiceError> {
    let (mut counts, mut addresses) = (BTreeMap::<UsageKey, Usage>::new(), BTreeSet::new());
    let mut names = BTreeMap::new();
    for stored in events {
        let personal = stored.personal.as_ref().map(|personal| personal.text.as_str());
        let event = Recorded::read(&stored.body, personal)
            .ok_or_else(|| ServiceError::internal(format!("event {} of the trail cannot be read", stored.seq)))?;
        let usage = Usage::of(&event);
        let digest = Usage::address_of(&event).map(|address| digest(address_key, address));
        let hour = hour(event.at);
        for period in UsagePeriod::ALL {
            let key = UsageKey {
                period,
                start: period.start_of(hour),
                recipient_id: event.recipient_id.unwrap_or_default(),
                share_id: event.share_id.unwrap_or_default(),
                object_id: event.shared_object().unwrap_or_default(),
            };
            counts.entry(key).or_default().add(&usage);
            addresses.extend(digest.map(|digest| (key, digest)));
        }
        let object = (event.shared_object(), event.dotted_table());
        for (id, name) in [(event.recipient_id, event.recipient), (event.share_id, event.share), object] {
            if let (Some(id), Some(name)) = (id, name) {
                names.insert(id, name);
            }
        }
    }
    Ok(UsageSums {
        counts: counts.into_iter().collect(),
        addresses: addresses.into_iter().collect(),
        names: names.into_iter().collect(),
    })
}

/// Digests an address. Only a holder of the key can find the address, by trying them all. The key is stored beside the
/// digests, and for the same time so are the addresses: the key ensures that a digest alone says nothing and matches
/// none of another database.
fn digest(key: &[u8; 32], address: &str) -> [u8; 16] {
    let digest = hmac(key).chain_update(address.as_bytes()).finalize().into_bytes();
    std::array::from_fn(|i| digest[i])
}

fn whole_hour(name: &str, at: Option<DateTime<Utc>>) -> Result<Option<i64>, ServiceError> {
    match at {
        Some(at) if at - hour_start(hour(at)) != TimeDelta::zero() => Err(ServiceError::Parameter(format!(
            "usage is counted by the hour; let `{name}` be a whole one, such as {}",
            hour_start(hour(at)).format("%Y-%m-%dT%H:%M:%SZ")
        ))),
        at => Ok(at.map(hour)),
    }
}

/// Encodes where a page ended.
fn write_cursor(group: &UsageGroup) -> String {
    let id = |id: Option<Uuid>| id.unwrap_or_default();
    let start = group.start.unwrap_or_default();
    format!("{start} {} {} {}", id(group.recipient_id), id(group.share_id), id(group.object_id))
}

fn read_cursor(cursor: &str, period: UsagePeriod) -> Option<UsageKey> {
    let mut parts = cursor.split(' ');
    let start = parts.next()?.parse().ok()?;
    let mut id = || parts.next()?.parse::<Uuid>().ok();
    Some(UsageKey { period, start, recipient_id: id()?, share_id: id()?, object_id: id()? })
}
