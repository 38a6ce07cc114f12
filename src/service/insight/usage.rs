//! Usage: what the audit trail comes to, by hour and day, recipient and shared object.
//!
//! The sums are made from the trail itself, event by event in its order, so that they say the same by construction; how
//! far they go is kept with them. Any replica may count, and several do no harm. Never here: what an event counts as,
//! which `domain::usage` says.

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
    service::{
        Service,
        core::{error::ServiceError, pacing, page::PageRequest},
    },
    store::{
        StoreError, StoredEvent, Tx, UsageDay, UsageFilter, UsageGroup, UsageKey, UsageKeys, UsagePeriod, UsageSums,
    },
};

/// The most days that are compared with the trail at a time.
const MOST_DAYS: i64 = 400;
/// A day, in hours.
const DAY: i64 = 24;

/// What usage is asked for.
#[derive(Clone, Debug, Default)]
pub struct UsageQuery {
    /// By what it is put together.
    pub keys: UsageKeys,
    /// Only that of the recipient of this name or id.
    pub recipient: Option<String>,
    /// Only that of the share of this name or id.
    pub share: Option<String>,
    /// Only that of this shared object: `schema.name` with `share`, or its id.
    pub object: Option<String>,
    /// Only from this hour on.
    pub since: Option<DateTime<Utc>>,
    /// Only before this hour.
    pub until: Option<DateTime<Utc>>,
}

/// A page of usage.
#[derive(Clone, Debug)]
pub struct UsagePage {
    /// The sums, by time and then by id.
    pub items: Vec<UsageGroup>,
    /// Asks for the next page; `None` on the last one.
    pub next_page_token: Option<String>,
    /// The last event of the trail that was counted.
    pub through_seq: i64,
}

/// A day of the trail beside its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedDay {
    /// When it begins.
    pub start: DateTime<Utc>,
    /// What is there.
    pub day: UsageDay,
    /// Whether the sums by the hour are kept so long.
    pub has_hours: bool,
}

impl CheckedDay {
    /// Whether trail and sums say the same.
    pub fn agrees(&self) -> bool {
        self.day.in_days == self.day.in_trail && (!self.has_hours || self.day.in_hours == self.day.in_trail)
    }
}

/// Days that were compared.
#[derive(Clone, Debug)]
pub struct CheckedUsage {
    /// One by one.
    pub days: Vec<CheckedDay>,
    /// The first day that could be: earlier events live in the export only.
    pub since: DateTime<Utc>,
    /// The end of the last day.
    pub until: DateTime<Utc>,
}

impl Service {
    /// Counts what the trail has that was not counted yet.
    pub async fn count_usage(&self) -> Result<(), ServiceError> {
        loop {
            let begun = Instant::now();
            let progress = self.db.find_usage_progress().await?;
            let waiting = self.db.find_audit_head().await?.seq.saturating_sub(progress.seq);
            self.metrics.usage_waits_for(waiting);
            if waiting <= 0 {
                return Ok(());
            }
            let Some(key) = progress.address_key else {
                let mut key = [0; 32];
                rand::rng().fill_bytes(&mut key);
                let mut tx = self.db.begin().await?;
                tx.set_address_key(&key).await?;
                tx.commit().await?;
                continue;
            };
            // What was detached before it was counted is not there any more, and leaves a gap.
            let page = self.db.list_chain(progress.seq, pacing::PAGE).await?;
            let Some(last) = page.last().map(|(event, _)| event.seq) else { return Ok(()) };
            // A page takes milliseconds, which no request should wait for.
            let sums = spawn_blocking(move || sum_up(page.iter().map(|(event, _)| event), &key)).await;
            let sums = sums.map_err(ServiceError::internal)??;
            let mut tx: Tx = self.db.begin().await?;
            match tx.add_usage(progress.seq, last, &sums).await {
                Ok(()) => tx.commit().await?,
                // Another replica was faster; it goes on behind that.
                Err(StoreError::Stale) => {}
                Err(error) => return Err(error.into()),
            }
            pacing::rest_after_page(begun, waiting - i64::from(pacing::PAGE)).await;
        }
    }

    /// Deletes sums by the hour that are older than they are kept.
    pub async fn erase_usage_hours(&self) -> Result<(), ServiceError> {
        let days = self.usage.hour_retention_days;
        let kept_since = self.clock.now().checked_sub_signed(span(days.saturating_mul(86_400)));
        let Some(before) = kept_since.filter(|_| days > 0).map(|at| UsagePeriod::Day.start_of(hour(at))) else {
            return Ok(());
        };
        while self.db.find_hours_before(before).await? {
            let mut tx = self.db.begin().await?;
            tx.delete_usage_hours(before).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Usage, put together as it was asked for.
    pub async fn list_usage(&self, query: &UsageQuery, page: &PageRequest) -> Result<UsagePage, ServiceError> {
        let (since, until) = (whole_hour("since", query.since)?, whole_hour("until", query.until)?);
        let cuts_days = [since, until].into_iter().flatten().any(|hour| UsagePeriod::Day.start_of(hour) != hour);
        let period = if query.keys.period == Some(UsagePeriod::Hour) || cuts_days {
            UsagePeriod::Hour
        } else {
            UsagePeriod::Day
        };
        let progress = self.db.find_usage_progress().await?;
        if period == UsagePeriod::Hour && cuts_days && since.unwrap_or_default() < progress.hours_from {
            let from = hour_start(progress.hours_from).format("%Y-%m-%d");
            return Err(ServiceError::Parameter(format!(
                "usage by the hour is kept from {from} on; let `since` and `until` be whole days (UTC), or later"
            )));
        }
        let mut filter =
            UsageFilter { period, recipient_id: None, share_id: None, object_id: None, since, until, keys: query.keys };
        if let Some(recipient) = &query.recipient {
            filter.recipient_id = Some(self.filtered_recipient(recipient).await?);
        }
        if let Some(share) = &query.share {
            filter.share_id = Some(self.filtered_share(share).await?);
        }
        if let Some(object) = &query.object {
            filter.object_id = Some(self.filtered_object(filter.share_id, object).await?);
        }
        let opened = self.begin_page(page, format!("usage {filter:?}"))?;
        let after = opened.after.as_deref().and_then(|cursor| read_cursor(cursor, period));
        let groups = self.db.list_usage(&filter, after.as_ref(), opened.limit).await?;
        let page = self.end_page(opened, groups, write_cursor);
        Ok(UsagePage { items: page.items, next_page_token: page.next_page_token, through_seq: progress.seq })
    }

    /// Compares days of the trail with their sums: the days from `since` to `until`, at most [`MOST_DAYS`] of them and
    /// the newest where nothing is said.
    pub async fn check_usage(
        &self,
        since: Option<DateTime<Utc>>,
        until: Option<DateTime<Utc>>,
    ) -> Result<CheckedUsage, ServiceError> {
        let now = self.clock.now();
        let day_of = |at: DateTime<Utc>| UsagePeriod::Day.start_of(hour(at));
        for (name, at) in [("since", since), ("until", until)] {
            if at.is_some_and(|at| hour_start(day_of(at)) != at) {
                return Err(ServiceError::Parameter(format!("`{name}` must be the beginning of a day in UTC")));
            }
        }
        let until = until.map_or(day_of(now) + DAY, hour);
        let first = self.db.find_first_event_at().await?.map_or(until, day_of);
        // Of the day on which the trail was cut only a part is here.
        let detached = self.db.find_detached_through().await?.is_some();
        let comparable = if detached { first + DAY } else { first };
        let since = since.map_or_else(|| comparable.max(until - MOST_DAYS * DAY), |at| hour(at).max(comparable));
        if until.saturating_sub(since) > MOST_DAYS * DAY {
            return Err(ServiceError::Parameter(format!("ask for at most {MOST_DAYS} days at a time")));
        }
        let hours_from = self.db.find_usage_progress().await?.hours_from;
        let mut days = Vec::new();
        let mut start = since;
        while start < until {
            let day = self.db.find_usage_day(start).await?;
            days.push(CheckedDay { start: hour_start(start), day, has_hours: start >= hours_from });
            start += DAY;
        }
        Ok(CheckedUsage { days, since: hour_start(since), until: hour_start(until) })
    }
}

/// What these events come to, hour by hour and day by day.
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

/// A digest that tells an address from others, and which address it is only to whoever has the key and tries them all.
/// The key lies beside the digests, as do the addresses themselves for the same time: what it adds is that a digest alone
/// says nothing, and that it is nobody else's.
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

/// Where a page ended.
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
