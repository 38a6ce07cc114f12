//! Stores roll-ups of the audit trail: sums by hour and day, recipient and shared object; how far the trail is counted;
//! and digests of addresses, to count distinct ones.
//!
//! The progress moves in the transaction that adds the sums, and only from where the counting began: however many
//! servers count or die, no event is lost or counted twice. Never here: what an event counts as.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::insight::usage::{Usage, hour_start},
    store::{
        Result, StoreError, Tx,
        core::value::{Micros, digest},
        on_tx, one_row, reads, writes,
    },
};

/// The most rows in one insert; each has 28 of SQLite's 32,766 arguments.
const LONGEST_INSERT: usize = 256;
/// The most rows that one call erases.
const LONGEST_ERASURE: i64 = 5_000;
/// A day, in hours.
const DAY: i64 = 24;

/// The period of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsagePeriod {
    /// An hour.
    Hour,
    /// A day (UTC).
    Day,
}

impl UsagePeriod {
    /// Both periods; every event counts in each.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// The first hour of the period that contains `hour`, both counted from 1970.
    pub fn start_of(self, hour: i64) -> i64 {
        match self {
            Self::Hour => hour,
            Self::Day => hour.div_euclid(DAY) * DAY,
        }
    }
}

/// The key of a sum; an id is nil if the events name none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageKey {
    /// The period.
    pub period: UsagePeriod,
    /// Its first hour, counted from 1970.
    pub start: i64,
    /// The recipient.
    pub recipient_id: Uuid,
    /// The share.
    pub share_id: Uuid,
    /// The shared object; its column is called `table_id`.
    pub object_id: Uuid,
}

/// The sums of a range of events.
#[derive(Clone, Debug, Default)]
pub struct UsageSums {
    /// The sums by key.
    pub counts: Vec<(UsageKey, Usage)>,
    /// The digests of the callers' addresses by key.
    pub addresses: Vec<(UsageKey, [u8; 16])>,
    /// The last names of recipients, shares and objects.
    pub names: Vec<(Uuid, String)>,
}

/// How far the trail is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageProgress {
    /// The last event counted.
    pub seq: i64,
    /// The first hour with hourly sums.
    pub hours_from: i64,
    /// The first hour with digests of addresses.
    pub addresses_from: i64,
    /// The key of the digests, once there is one.
    pub address_key: Option<[u8; 32]>,
}

/// What sums are grouped by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageKeys {
    /// By hour or day.
    pub period: Option<UsagePeriod>,
    /// By recipient.
    pub recipient: bool,
    /// By share.
    pub share: bool,
    /// By shared object.
    pub object: bool,
}

/// Filters the sums to group; a `None` filters nothing.
#[derive(Clone, Debug)]
pub struct UsageFilter {
    /// The period of the sums to read.
    pub period: UsagePeriod,
    /// Only sums of this recipient.
    pub recipient_id: Option<Uuid>,
    /// Only sums of this share.
    pub share_id: Option<Uuid>,
    /// Only those about this shared object.
    pub object_id: Option<Uuid>,
    /// Only those from this hour on.
    pub since: Option<i64>,
    /// Only sums before this hour.
    pub until: Option<i64>,
    /// What to group by.
    pub keys: UsageKeys,
}

/// A group of sums. A key that was not grouped by is `None`; an id is nil if the events name none.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageGroup {
    /// The first hour of the period.
    pub start: Option<i64>,
    /// The recipient.
    pub recipient_id: Option<Uuid>,
    /// The recipient's last name.
    pub recipient: Option<String>,
    /// The share.
    pub share_id: Option<Uuid>,
    /// The share's last name.
    pub share: Option<String>,
    /// The shared object.
    pub object_id: Option<Uuid>,
    /// Its last name, `schema.table`.
    pub object: Option<String>,
    /// The sums.
    pub usage: Usage,
    /// The number of distinct addresses; `None` if it is unknown or the digests are erased.
    pub addresses: Option<i64>,
}

/// A day of the trail beside its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct UsageDay {
    /// The number of the day's events in the trail, of those counted so far.
    pub in_trail: i64,
    /// The number of events in the day's sums.
    pub in_days: i64,
    /// The number of events in the sums of the day's hours.
    pub in_hours: i64,
    /// The last event counted.
    pub through_seq: i64,
}

#[derive(FromRow)]
struct ProgressRow {
    seq: i64,
    hours_from: i64,
    addresses_from: i64,
    address_key: Option<Vec<u8>>,
}

#[derive(FromRow)]
struct GroupRow {
    start: Option<i64>,
    recipient_id: Option<Uuid>,
    recipient: Option<String>,
    share_id: Option<Uuid>,
    share: Option<String>,
    table_id: Option<Uuid>,
    table_name: Option<String>,
    parts: i64,
    first_start: i64,
    events: i64,
    requests: i64,
    file_reads: i64,
    denials: i64,
    files: i64,
    row_count: i64,
    answers_without_rows: i64,
    bytes_issued: i64,
    bytes_delivered: Option<i64>,
    addresses: i64,
    addresses_lost: i64,
    answers: i64,
    answer_ms: i64,
    within_10: i64,
    within_30: i64,
    within_100: i64,
    within_300: i64,
    within_1000: i64,
    within_3000: i64,
    within_10000: i64,
    within_30000: i64,
    within_100000: i64,
    beyond: i64,
    distinct_addresses: i64,
    addresses_from: i64,
}

impl From<GroupRow> for UsageGroup {
    fn from(row: GroupRow) -> Self {
        // A single sum stores its number; several need the digests to compare.
        let addresses = match row.parts {
            _ if row.addresses_lost > 0 => None,
            1 => Some(row.addresses),
            _ if row.first_start >= row.addresses_from => Some(row.distinct_addresses),
            _ => None,
        };
        Self {
            start: row.start,
            recipient_id: row.recipient_id,
            recipient: row.recipient,
            share_id: row.share_id,
            share: row.share,
            object_id: row.table_id,
            object: row.table_name,
            usage: Usage {
                events: row.events,
                requests: row.requests,
                file_reads: row.file_reads,
                denials: row.denials,
                files: row.files,
                rows: row.row_count,
                answers_without_rows: row.answers_without_rows,
                bytes_issued: row.bytes_issued,
                bytes_delivered: row.bytes_delivered,
                addresses_lost: row.addresses_lost,
                answers: row.answers,
                answer_ms: row.answer_ms,
                latency: [
                    row.within_10,
                    row.within_30,
                    row.within_100,
                    row.within_300,
                    row.within_1000,
                    row.within_3000,
                    row.within_10000,
                    row.within_30000,
                    row.within_100000,
                    row.beyond,
                ],
            },
            addresses,
        }
    }
}

/// The columns that are summed, apart from `bytes_delivered`, which may be unknown.
const SUMMED: [&str; 22] = [
    "events",
    "requests",
    "file_reads",
    "denials",
    "files",
    "row_count",
    "answers_without_rows",
    "bytes_issued",
    "addresses",
    "addresses_lost",
    "answers",
    "answer_ms",
    "within_10",
    "within_30",
    "within_100",
    "within_300",
    "within_1000",
    "within_3000",
    "within_10000",
    "within_30000",
    "within_100000",
    "beyond",
];

/// The numbers of [`SUMMED`], in the same order.
fn summed(usage: &Usage, addresses: i64) -> [i64; SUMMED.len()] {
    let [l0, l1, l2, l3, l4, l5, l6, l7, l8, l9] = usage.latency;
    [
        usage.events,
        usage.requests,
        usage.file_reads,
        usage.denials,
        usage.files,
        usage.rows,
        usage.answers_without_rows,
        usage.bytes_issued,
        addresses,
        usage.addresses_lost,
        usage.answers,
        usage.answer_ms,
        l0,
        l1,
        l2,
        l3,
        l4,
        l5,
        l6,
        l7,
        l8,
        l9,
    ]
}

impl UsageKeys {
    /// The columns to group by in `usage_counts`, each with its expression, in the order of the listing.
    fn expressions(self) -> Vec<(&'static str, &'static str)> {
        let time = self.period.map(|period| match period {
            UsagePeriod::Hour => ("start", "start"),
            UsagePeriod::Day => ("start", "start / 24 * 24"),
        });
        let ids = [("recipient_id", self.recipient), ("share_id", self.share), ("table_id", self.object)];
        let ids = ids.into_iter().filter(|(_, is_asked)| *is_asked).map(|(column, _)| (column, column));
        time.into_iter().chain(ids).collect()
    }
}

/// Appends the conditions of `$filter`.
macro_rules! push_filter {
    ($query:ident, $filter:ident) => {
        $query.push("period = ").push_bind($filter.period.as_str());
        for (column, id) in [
            (" AND recipient_id = ", $filter.recipient_id),
            (" AND share_id = ", $filter.share_id),
            (" AND table_id = ", $filter.object_id),
        ] {
            if let Some(id) = id {
                $query.push(column).push_bind(id);
            }
        }
        for (condition, hour) in [(" AND start >= ", $filter.since), (" AND start < ", $filter.until)] {
            if let Some(hour) = hour {
                $query.push(condition).push_bind(hour);
            }
        }
    };
}

reads! {
    /// Finds how far the trail is counted.
    pub async fn find_usage_progress(self, db) -> Result<UsageProgress> {
        let sql = "SELECT seq, hours_from, addresses_from, address_key FROM usage_progress WHERE id = 1";
        let row: Option<ProgressRow> = sqlx::query_as(sql).fetch_optional(db).await?;
        let row = row.ok_or(StoreError::Corrupt("usage_progress"))?;
        let key = row.address_key.map(|key| digest("usage_progress.address_key", &key)).transpose()?;
        let ProgressRow { seq, hours_from, addresses_from, .. } = row;
        Ok(UsageProgress { seq, hours_from, addresses_from, address_key: key })
    }

    /// Lists sums grouped as in `filter`, by time and then by id, after the group `after`.
    pub async fn list_usage(self, db, filter: &UsageFilter, after: Option<&UsageKey>, limit: u32) -> Result<Vec<UsageGroup>> {
        let keys = filter.keys.expressions();
        let mut query = QueryBuilder::new("SELECT g.*, r.name AS recipient, s.name AS share, t.name AS table_name, \
            p.addresses_from, (SELECT COUNT(DISTINCT a.digest) FROM usage_addresses a WHERE ");
        push_filter!(query, filter);
        for (column, expression) in &keys {
            query.push(" AND ").push(expression).push(" = g.").push(column);
        }
        query.push(") AS distinct_addresses FROM (SELECT COUNT(*) AS parts, MIN(start) AS first_start");
        for column in SUMMED.into_iter().chain(["bytes_delivered"]) {
            query.push(", CAST(SUM(").push(column).push(") AS BIGINT) AS ").push(column);
        }
        for (column, kind) in
            [("start", "BIGINT"), ("recipient_id", "uuid"), ("share_id", "uuid"), ("table_id", "uuid")]
        {
            match keys.iter().find(|(key, _)| *key == column) {
                Some((_, expression)) => query.push(", ").push(expression),
                None => query.push(", CAST(NULL AS ").push(kind).push(")"),
            };
            query.push(" AS ").push(column);
        }
        query.push(" FROM usage_counts WHERE ");
        push_filter!(query, filter);
        let list = keys.iter().map(|(_, expression)| *expression).collect::<Vec<_>>().join(", ");
        if let Some(after) = after.filter(|_| !keys.is_empty()) {
            query.push(" AND (").push(list.as_str()).push(") > (");
            let mut values = query.separated(", ");
            for (column, _) in &keys {
                match *column {
                    "start" => values.push_bind(after.start),
                    "recipient_id" => values.push_bind(after.recipient_id),
                    "share_id" => values.push_bind(after.share_id),
                    _ => values.push_bind(after.object_id),
                };
            }
            query.push(")");
        }
        if keys.is_empty() {
            // One group, or none if there is nothing to sum.
            query.push(" HAVING COUNT(*) > 0");
        } else {
            query.push(" GROUP BY ").push(list.as_str()).push(" ORDER BY ").push(list.as_str());
            query.push(" LIMIT ").push_bind(i64::from(limit));
        }
        query.push(") g JOIN usage_progress p ON p.id = 1 LEFT JOIN usage_names r ON r.id = g.recipient_id \
            LEFT JOIN usage_names s ON s.id = g.share_id LEFT JOIN usage_names t ON t.id = g.table_id \
            ORDER BY g.start, g.recipient_id, g.share_id, g.table_id");
        let rows: Vec<GroupRow> = query.build_query_as().fetch_all(db).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Counts the events of the day that starts with the hour `start`, in the trail and in the sums, at one moment.
    pub async fn find_usage_day(self, db, start: i64) -> Result<UsageDay> {
        const SQL: &str = "SELECT \
            (SELECT COUNT(*) FROM audit_events WHERE at >= $1 AND at < $2 AND seq <= p.seq) AS in_trail, \
            CAST(COALESCE((SELECT SUM(events) FROM usage_counts WHERE period = 'day' AND start = $3), 0) AS BIGINT) \
            AS in_days, \
            CAST(COALESCE((SELECT SUM(events) FROM usage_counts WHERE period = 'hour' AND start >= $3 AND start < $4), 0) \
            AS BIGINT) AS in_hours, p.seq AS through_seq FROM usage_progress p WHERE p.id = 1";
        let (from, to) = (hour_start(start), hour_start(start.saturating_add(DAY)));
        Ok(sqlx::query_as(SQL)
            .bind(Micros::from(from))
            .bind(Micros::from(to))
            .bind(start)
            .bind(start.saturating_add(DAY))
            .fetch_one(db)
            .await?)
    }

    /// Finds when the oldest event in the database was written.
    pub async fn find_first_event_at(self, db) -> Result<Option<DateTime<Utc>>> {
        let sql = "SELECT at FROM audit_events ORDER BY seq LIMIT 1";
        let at: Option<Micros> = sqlx::query_scalar(sql).fetch_optional(db).await?;
        Ok(at.map(|at| at.0))
    }

    /// Whether there are digests of addresses from before the hour `before`.
    pub async fn find_usage_erasable(self, db, before: i64) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM usage_addresses WHERE period IN ('hour', 'day') AND start < $1)";
        Ok(sqlx::query_scalar(sql).bind(before).fetch_one(db).await?)
    }

    /// Whether there are hourly sums from before the hour `before`.
    pub async fn find_hours_before(self, db, before: i64) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM usage_counts WHERE period = 'hour' AND start < $1)";
        Ok(sqlx::query_scalar(sql).bind(before).fetch_one(db).await?)
    }
}

impl Tx {
    /// Sets the key of the digests of addresses, unless there is one.
    pub async fn set_address_key(&mut self, key: &[u8; 32]) -> Result<()> {
        const SQL: &str = "UPDATE usage_progress SET address_key = $1 WHERE id = 1 AND address_key IS NULL";
        writes!(self, db => sqlx::query(SQL).bind(&key[..]).execute(db).await?.rows_affected());
        Ok(())
    }

    /// Adds the sums of the events after `from` up to `to`, and moves the progress to `to`. Fails with
    /// [`StoreError::Stale`] if another server has counted meanwhile.
    pub async fn add_usage(&mut self, from: i64, to: i64, sums: &UsageSums) -> Result<()> {
        const MOVE: &str = "UPDATE usage_progress SET seq = $2 WHERE id = 1 AND seq = $1";
        let moved = writes!(self, db => sqlx::query(MOVE).bind(from).bind(to).execute(db).await?.rows_affected());
        one_row(moved)?;
        let mut new_addresses = std::collections::HashMap::new();
        for chunk in sums.addresses.chunks(LONGEST_INSERT) {
            for key in self.insert_addresses(chunk).await? {
                *new_addresses.entry(key).or_insert(0) += 1;
            }
        }
        for chunk in sums.counts.chunks(LONGEST_INSERT) {
            self.add_counts(chunk, &new_addresses).await?;
        }
        for chunk in sums.names.chunks(LONGEST_INSERT) {
            writes!(self, db => {
                let mut query = QueryBuilder::new("INSERT INTO usage_names (id, name) ");
                query.push_values(chunk, |mut row, (id, name)| {
                    row.push_bind(id).push_bind(name.as_str());
                });
                query.push(" ON CONFLICT (id) DO UPDATE SET name = excluded.name");
                query.build().execute(db).await?.rows_affected()
            });
        }
        Ok(())
    }

    /// Stores digests and returns the keys of those that are new.
    async fn insert_addresses(&mut self, addresses: &[(UsageKey, [u8; 16])]) -> Result<Vec<UsageKey>> {
        let rows: Vec<(String, i64, Uuid, Uuid, Uuid)> = on_tx!(self, db => {
            let mut query = QueryBuilder::new(
                "INSERT INTO usage_addresses (period, start, recipient_id, share_id, table_id, digest) ",
            );
            query.push_values(addresses, |mut row, (key, digest)| {
                row.push_bind(key.period.as_str())
                    .push_bind(key.start)
                    .push_bind(key.recipient_id)
                    .push_bind(key.share_id)
                    .push_bind(key.object_id)
                    .push_bind(&digest[..]);
            });
            query.push(" ON CONFLICT DO NOTHING RETURNING period, start, recipient_id, share_id, table_id");
            query.build_query_as().fetch_all(db).await?
        });
        let key = |(period, start, recipient_id, share_id, object_id): (String, i64, Uuid, Uuid, Uuid)| {
            let period = if period == UsagePeriod::Day.as_str() { UsagePeriod::Day } else { UsagePeriod::Hour };
            UsageKey { period, start, recipient_id, share_id, object_id }
        };
        Ok(rows.into_iter().map(key).collect())
    }

    async fn add_counts(
        &mut self,
        counts: &[(UsageKey, Usage)],
        new_addresses: &std::collections::HashMap<UsageKey, i64>,
    ) -> Result<()> {
        writes!(self, db => {
            let mut query = QueryBuilder::new(
                "INSERT INTO usage_counts (period, start, recipient_id, share_id, table_id, bytes_delivered, ",
            );
            query.push(SUMMED.join(", ")).push(") ");
            query.push_values(counts, |mut row, (key, usage)| {
                row.push_bind(key.period.as_str())
                    .push_bind(key.start)
                    .push_bind(key.recipient_id)
                    .push_bind(key.share_id)
                    .push_bind(key.object_id)
                    .push_bind(usage.bytes_delivered);
                for number in summed(usage, new_addresses.get(key).copied().unwrap_or_default()) {
                    row.push_bind(number);
                }
            });
            query.push(" ON CONFLICT (period, start, recipient_id, share_id, table_id) DO UPDATE SET bytes_delivered = \
                COALESCE(usage_counts.bytes_delivered + excluded.bytes_delivered, usage_counts.bytes_delivered, \
                excluded.bytes_delivered)");
            for column in SUMMED {
                query.push(format!(", {column} = usage_counts.{column} + excluded.{column}"));
            }
            query.build().execute(db).await?.rows_affected()
        });
        Ok(())
    }

    /// Erases digests of addresses from before the hour `before`, at most [`LONGEST_ERASURE`] per call, and notes from
    /// where digests are complete. Returns how many.
    pub async fn delete_usage_addresses(&mut self, before: i64) -> Result<u64> {
        const MOVE: &str = "UPDATE usage_progress SET addresses_from = $1 WHERE id = 1 AND addresses_from < $1";
        const SQL: &str = "DELETE FROM usage_addresses WHERE (period, start, recipient_id, share_id, table_id, digest) IN \
            (SELECT period, start, recipient_id, share_id, table_id, digest FROM usage_addresses \
            WHERE period IN ('hour', 'day') AND start < $1 LIMIT $2)";
        writes!(self, db => sqlx::query(MOVE).bind(before).execute(db).await?.rows_affected());
        Ok(writes!(self, db => sqlx::query(SQL).bind(before).bind(LONGEST_ERASURE).execute(db).await?.rows_affected()))
    }

    /// Deletes hourly sums from before the hour `before`, at most [`LONGEST_ERASURE`] per call, and notes from where
    /// hourly sums are complete. Returns how many. Daily sums remain.
    pub async fn delete_usage_hours(&mut self, before: i64) -> Result<u64> {
        const MOVE: &str = "UPDATE usage_progress SET hours_from = $1 WHERE id = 1 AND hours_from < $1";
        const SQL: &str = "DELETE FROM usage_counts WHERE (period, start, recipient_id, share_id, table_id) IN \
            (SELECT period, start, recipient_id, share_id, table_id FROM usage_counts \
            WHERE period = 'hour' AND start < $1 LIMIT $2)";
        writes!(self, db => sqlx::query(MOVE).bind(before).execute(db).await?.rows_affected());
        Ok(writes!(self, db => sqlx::query(SQL).bind(before).bind(LONGEST_ERASURE).execute(db).await?.rows_affected()))
    }
}
