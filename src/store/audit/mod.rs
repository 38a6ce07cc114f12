//! Stores the audit trail: one chain for all replicas, appended to under a lock on its head row.

pub(super) mod checkpoints;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, Postgres, QueryBuilder, SqliteConnection, Transaction};
use uuid::Uuid;

use crate::domain::{
    access::delivery::Delivery,
    audit::{Event, Head, Link, Outcome},
    core::word::Words,
};

use self::checkpoints::Derived;

use super::{
    Result, StoreError, Tx, TxConnection,
    core::value::{Micros, digest, micros, padded, time},
    one_row, reads, writes,
};

/// The most events in one insert on SQLite, which allows 32,766 arguments.
const LONGEST_INSERT: usize = 256;

/// The most personal parts that one call erases.
pub const LONGEST_ERASURE: i64 = 5_000;

/// A stored event.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its place in the chain.
    pub seq: i64,
    /// The hash of the event before.
    pub prev_hash: [u8; 32],
    /// Its own hash.
    pub hash: [u8; 32],
    /// The canonical JSON text that is hashed.
    pub body: String,
    /// The personal part; `None` if there is none or it was erased.
    pub personal: Option<StoredPersonal>,
}

/// The personal part of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPersonal {
    /// The salt of the commitment in the event's body.
    pub salt: [u8; 16],
    /// The canonical JSON text.
    pub text: String,
}

#[derive(FromRow)]
pub(super) struct EventRow {
    seq: i64,
    prev_hash: Vec<u8>,
    hash: Vec<u8>,
    body: String,
    salt: Option<Vec<u8>>,
    personal: Option<String>,
}

impl TryFrom<EventRow> for StoredEvent {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self> {
        let personal = match (row.salt, row.personal) {
            (Some(salt), Some(text)) => {
                let salt = salt.try_into().map_err(|_| StoreError::Corrupt("audit_personal.salt"))?;
                Some(StoredPersonal { salt, text })
            }
            _ => None,
        };
        Ok(Self {
            seq: row.seq,
            prev_hash: digest("audit_events.prev_hash", &row.prev_hash)?,
            hash: digest("audit_events.hash", &row.hash)?,
            body: row.body,
            personal,
        })
    }
}

/// The order in which events are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

/// Filters the events to list; a `None` filters nothing.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only events about this recipient.
    pub recipient_id: Option<Uuid>,
    /// Only events about this share.
    pub share_id: Option<Uuid>,
    /// Only those about this shared object or registered table.
    pub about: Option<Uuid>,
    /// Only those of this action.
    pub action: Option<String>,
    /// Only events with this outcome.
    pub decision: Option<Outcome>,
    /// Only events at or after this time.
    pub since: Option<DateTime<Utc>>,
    /// Only events before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only events that follow this place in the order of the listing.
    pub after_seq: Option<i64>,
    /// The order of the listing.
    pub order: Order,
    /// Only events in this range of places, both ends included.
    pub within: Option<(i64, i64)>,
}

/// The presigned URLs that were handed out and are still live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// The number of URLs.
    pub urls: i64,
    /// When the last one expires; `None` if none is live.
    pub until: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct HeadRow {
    seq: i64,
    hash: Vec<u8>,
}

impl TryFrom<HeadRow> for Head {
    type Error = StoreError;

    fn try_from(row: HeadRow) -> Result<Self> {
        Ok(Self { seq: row.seq, hash: digest("audit_head.hash", &row.hash)? })
    }
}

#[derive(FromRow)]
struct OutstandingRow {
    urls: i64,
    until: Option<Micros>,
}

/// The body of the two queries for outstanding URLs by id; `$column` is the id's column.
macro_rules! outstanding {
    ($db:ident, $column:literal, $ids:ident, $now:ident) => {{
        if $ids.is_empty() {
            return Ok(Outstanding { urls: 0, until: None });
        }
        let mut query = QueryBuilder::new(
            "SELECT CAST(COALESCE(SUM(presigned_files), 0) AS BIGINT) AS urls, MAX(presigned_until) AS until \
             FROM audit_events WHERE presigned_until > ",
        );
        query.push_bind(Micros::from($now)).push(concat!(" AND ", $column, " IN ("));
        let mut list = query.separated(", ");
        for id in padded($ids) {
            list.push_bind(id);
        }
        query.push(")");
        let row: OutstandingRow = query.build_query_as().fetch_one($db).await?;
        Ok(Outstanding { urls: row.urls, until: time(row.until) })
    }};
}

reads! {
    /// Finds the chain's newest link.
    pub async fn find_audit_head(self, db) -> Result<Head> {
        let row: Option<HeadRow> = sqlx::query_as("SELECT seq, hash FROM audit_head WHERE id = 1").fetch_optional(db).await?;
        row.ok_or(StoreError::Corrupt("audit_head"))?.try_into()
    }

    /// Lists events by their place in the chain.
    pub async fn list_audit(self, db, filter: &AuditFilter, limit: u32) -> Result<Vec<StoredEvent>> {
        // Their personal parts are looked up for those alone that are listed.
        let mut query = QueryBuilder::new("SELECT a.seq, a.prev_hash, a.hash, a.body, p.salt, p.personal FROM (");
        let (behind, direction) = match filter.order {
            Order::Ascending => (" AND seq > ", ""),
            Order::Descending => (" AND seq < ", " DESC"),
        };
        // Each column has its index, and an event has the id in one of them.
        let columns: &[&str] = if filter.about.is_some() { &["object_id", "table_id"] } else { &[""] };
        for (index, column) in columns.iter().enumerate() {
        query.push(if index == 0 { "SELECT * FROM (" } else { " UNION ALL SELECT * FROM (" });
        query.push("SELECT seq, prev_hash, hash, body FROM audit_events WHERE TRUE");
        for (column, id) in
            [("recipient_id", filter.recipient_id), ("share_id", filter.share_id), (*column, filter.about)]
        {
            if let Some(id) = id {
                query.push(" AND ").push(column).push(" = ").push_bind(id);
            }
        }
        if let Some(action) = &filter.action {
            query.push(" AND action = ").push_bind(action.as_str());
        }
        if let Some(decision) = filter.decision {
            // As a literal, so that the partial indexes on refusals apply.
            query.push(" AND decision = '").push(decision.as_str()).push("'");
        }
        if let Some(since) = filter.since {
            query.push(" AND at >= ").push_bind(Micros::from(since));
        }
        if let Some(until) = filter.until {
            query.push(" AND at < ").push_bind(Micros::from(until));
        }
        if let Some((first, last)) = filter.within {
            query.push(" AND seq >= ").push_bind(first).push(" AND seq <= ").push_bind(last);
        }
        if let Some(seq) = filter.after_seq {
            query.push(behind).push_bind(seq);
        }
        query.push(" ORDER BY seq").push(direction).push(" LIMIT ").push_bind(i64::from(limit)).push(") AS found");
        }
        query.push(") AS a LEFT JOIN audit_personal p ON p.seq = a.seq ORDER BY a.seq").push(direction);
        query.push(" LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<EventRow> = query.build_query_as().fetch_all(db).await?;
        rows.into_iter().map(StoredEvent::try_from).collect()
    }

    /// Counts the presigned URLs handed out under these grants that are live at `now`.
    pub async fn find_outstanding_of_grants(self, db, ids: &[Uuid], now: DateTime<Utc>) -> Result<Outstanding> {
        outstanding!(db, "grant_id", ids, now)
    }

    /// Counts the presigned URLs handed out to these tokens that are live at `now`.
    pub async fn find_outstanding_of_tokens(self, db, ids: &[Uuid], now: DateTime<Utc>) -> Result<Outstanding> {
        outstanding!(db, "token_id", ids, now)
    }

    /// Counts the presigned URLs handed out to a recipient, or to all, that are live at `now`.
    pub async fn find_outstanding(self, db, recipient_id: Option<Uuid>, now: DateTime<Utc>) -> Result<Outstanding> {
        // By token, since the index on live URLs is by token.
        let mut query = QueryBuilder::new(
            "SELECT CAST(COALESCE(SUM(a.presigned_files), 0) AS BIGINT) AS urls, MAX(a.presigned_until) AS until \
             FROM tokens k JOIN audit_events a ON a.token_id = k.id WHERE a.presigned_until > "
        );
        query.push_bind(Micros::from(now));
        if let Some(recipient_id) = recipient_id {
            query.push(" AND k.recipient_id = ").push_bind(recipient_id);
        }
        let row: OutstandingRow = query.build_query_as().fetch_one(db).await?;
        Ok(Outstanding { urls: row.urls, until: time(row.until) })
    }
}

macro_rules! insert_events {
    () => {
        "INSERT INTO audit_events (seq, prev_hash, hash, body, at, action, decision, recipient_id, share_id, table_id, \
         object_id, token_id, grant_id, presigned_files, presigned_until) "
    };
}

macro_rules! insert_personal {
    () => {
        "INSERT INTO audit_personal (seq, salt, personal) "
    };
}

macro_rules! move_head {
    () => {
        "UPDATE audit_head SET seq = "
    };
}

/// An event's place with the salt and text of its personal part.
type Personal<'a> = (i64, (&'a [u8; 16], &'a str));

/// An event as a row: its text, and the columns for searching and counting.
struct Row<'a> {
    seq: i64,
    prev_hash: &'a [u8; 32],
    hash: &'a [u8; 32],
    body: &'a str,
    at: DateTime<Utc>,
    action: &'a str,
    decision: &'a str,
    recipient_id: Option<Uuid>,
    share_id: Option<Uuid>,
    table_id: Option<Uuid>,
    object_id: Option<Uuid>,
    token_id: Option<Uuid>,
    grant_id: Option<Uuid>,
    presigned_files: Option<i64>,
    presigned_until: Option<DateTime<Utc>>,
    /// The salt and text of the personal part, which has a row of its own.
    personal: Option<(&'a [u8; 16], &'a str)>,
}

impl<'a> From<(&'a Event, &'a Link)> for Row<'a> {
    fn from((event, link): (&'a Event, &'a Link)) -> Self {
        let presigned = event.delivery == Some(Delivery::Presigned.as_str());
        Self {
            seq: link.seq,
            prev_hash: &link.prev_hash,
            hash: &link.hash,
            body: &link.body,
            at: link.at,
            action: event.action.as_str(),
            decision: event.decision.as_str(),
            recipient_id: event.recipient_id,
            share_id: event.share_id,
            table_id: event.table_id,
            object_id: event.object_id,
            token_id: event.token_id,
            grant_id: event.grant_id,
            presigned_files: event.files.filter(|_| presigned).map(i64::try_from).and_then(Result::ok),
            presigned_until: event.url_expires_at.filter(|_| presigned),
            personal: link.personal.as_deref().map(|text| (&link.salt, text)),
        }
    }
}

impl<'a> From<&'a (StoredEvent, Derived)> for Row<'a> {
    fn from((event, derived): &'a (StoredEvent, Derived)) -> Self {
        Self {
            seq: event.seq,
            prev_hash: &event.prev_hash,
            hash: &event.hash,
            body: &event.body,
            at: derived.at,
            action: &derived.action,
            decision: &derived.decision,
            recipient_id: derived.recipient_id,
            share_id: derived.share_id,
            table_id: derived.table_id,
            object_id: derived.object_id,
            token_id: derived.token_id,
            grant_id: derived.grant_id,
            presigned_files: derived.presigned_files,
            presigned_until: derived.presigned_until,
            personal: None,
        }
    }
}

impl Tx {
    /// Locks the chain's head until the transaction ends. No other transaction can append, revoke or grant meanwhile:
    /// each takes this lock first and reads the facts for its decision afterwards.
    pub async fn lock_audit_head(&mut self) -> Result<Head> {
        const SQL: &str = "SELECT seq, hash FROM audit_head WHERE id = 1 FOR UPDATE";
        let row: Option<HeadRow> = match &mut self.connection {
            // A dry run waits for no lock.
            _ if self.is_rehearsal => return self.find_audit_head().await,
            // On SQLite the transaction has been alone from the start.
            TxConnection::Sqlite(_) => return self.find_audit_head().await,
            TxConnection::Postgres(tx) => sqlx::query_as(SQL).fetch_optional(&mut **tx).await?,
        };
        row.ok_or(StoreError::Corrupt("audit_head"))?.try_into()
    }

    /// Appends `events` to the chain and moves `head`, which [`Tx::lock_audit_head`] returned in this transaction.
    /// Returns the new links.
    pub async fn append_audit(&mut self, head: &mut Head, events: &[Event], at: DateTime<Utc>) -> Result<Vec<Link>> {
        let before = *head;
        let links: Vec<Link> = events.iter().map(|event| head.append(event, at)).collect();
        let rows: Vec<Row<'_>> = events.iter().zip(&links).map(Row::from).collect();
        self.extend_audit(before, *head, &rows).await?;
        Ok(links)
    }

    /// Appends events exactly as they were once written. `head` is what [`Tx::lock_audit_head`] returned in this
    /// transaction. Their personal parts are lost.
    pub async fn take_over_audit(&mut self, head: &mut Head, events: &[(StoredEvent, Derived)]) -> Result<()> {
        let before = *head;
        let rows: Vec<Row<'_>> = events.iter().map(Row::from).collect();
        if let Some((last, _)) = events.last() {
            *head = Head { seq: last.seq, hash: last.hash };
        }
        self.extend_audit(before, *head, &rows).await
    }

    /// Inserts `rows` and moves the head past them.
    async fn extend_audit(&mut self, from: Head, to: Head, rows: &[Row<'_>]) -> Result<()> {
        if self.is_rehearsal {
            return Ok(());
        }
        let personal: Vec<_> = rows.iter().filter_map(|row| Some((row.seq, row.personal?))).collect();
        let moved = match &mut self.connection {
            TxConnection::Sqlite(tx) => extend_by_values(tx, from, to, rows, &personal).await?,
            TxConnection::Postgres(tx) => extend_by_columns(tx, from, to, rows, &personal).await?,
        };
        // The head moved, so it was not locked in this transaction.
        one_row(moved)
    }

    /// Erases the personal parts of events written before `before`, at most [`LONGEST_ERASURE`] per call to keep the
    /// transaction short. Returns how many.
    pub async fn delete_audit_personal(&mut self, before: DateTime<Utc>) -> Result<u64> {
        // Places follow the order of times, so the newest such event ends a range of the key.
        const SQL: &str = "DELETE FROM audit_personal WHERE seq IN (SELECT seq FROM audit_personal WHERE seq <= \
            (SELECT seq FROM audit_events WHERE at < $1 ORDER BY at DESC LIMIT 1) ORDER BY seq LIMIT $2)";
        let at = Micros::from(before);
        Ok(writes!(self, db => sqlx::query(SQL).bind(at).bind(LONGEST_ERASURE).execute(db).await?.rows_affected()))
    }
}

/// Extends the chain with one argument per value. Returns how many head rows were moved.
async fn extend_by_values(
    tx: &mut SqliteConnection,
    from: Head,
    to: Head,
    rows: &[Row<'_>],
    personal: &[Personal<'_>],
) -> Result<u64> {
    for rows in power_of_two_chunks(rows) {
        let mut query = QueryBuilder::new(insert_events!());
        query.push_values(rows, |mut values, row| {
            values
                .push_bind(row.seq)
                .push_bind(&row.prev_hash[..])
                .push_bind(&row.hash[..])
                .push_bind(row.body)
                .push_bind(Micros::from(row.at))
                .push_bind(row.action)
                .push_bind(row.decision)
                .push_bind(row.recipient_id)
                .push_bind(row.share_id)
                .push_bind(row.table_id)
                .push_bind(row.object_id)
                .push_bind(row.token_id)
                .push_bind(row.grant_id)
                .push_bind(row.presigned_files)
                .push_bind(micros(row.presigned_until));
        });
        query.build().execute(&mut *tx).await?;
    }
    for entries in power_of_two_chunks(personal) {
        let mut query = QueryBuilder::new(insert_personal!());
        query.push_values(entries, |mut values, (seq, (salt, text))| {
            values.push_bind(seq).push_bind(&salt[..]).push_bind(*text);
        });
        query.build().execute(&mut *tx).await?;
    }
    let head = sqlx::query(concat!(move_head!(), "$1, hash = $2 WHERE id = 1 AND seq = $3"));
    Ok(head.bind(to.seq).bind(&to.hash[..]).bind(from.seq).execute(&mut *tx).await?.rows_affected())
}

/// Extends the chain with one array per column, in a single statement: thousands of arguments cost PostgreSQL more than
/// the rows do, and every request waits for each round trip. Returns how many head rows were moved.
async fn extend_by_columns(
    tx: &mut Transaction<'static, Postgres>,
    from: Head,
    to: Head,
    rows: &[Row<'_>],
    personal: &[Personal<'_>],
) -> Result<u64> {
    const SQL: &str = concat!(
        "WITH events AS (",
        insert_events!(),
        "SELECT * FROM UNNEST($1::int8[], $2::bytea[], $3::bytea[], $4::text[], $5::timestamptz[], $6::text[], \
         $7::text[], $8::uuid[], $9::uuid[], $10::uuid[], $11::uuid[], $12::uuid[], $13::uuid[], $14::int8[], \
         $15::timestamptz[])), \
         personal AS (",
        insert_personal!(),
        "SELECT * FROM UNNEST($16::int8[], $17::bytea[], $18::text[])) ",
        move_head!(),
        "$19, hash = $20 WHERE id = 1 AND seq = $21"
    );
    fn column<'r, T>(rows: &'r [Row<'r>], of: impl Fn(&'r Row<'r>) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    let extended = sqlx::query(SQL)
        .bind(column(rows, |row| row.seq))
        .bind(column(rows, |row| &row.prev_hash[..]))
        .bind(column(rows, |row| &row.hash[..]))
        .bind(column(rows, |row| row.body))
        .bind(column(rows, |row| Micros::from(row.at).0))
        .bind(column(rows, |row| row.action))
        .bind(column(rows, |row| row.decision))
        .bind(column(rows, |row| row.recipient_id))
        .bind(column(rows, |row| row.share_id))
        .bind(column(rows, |row| row.table_id))
        .bind(column(rows, |row| row.object_id))
        .bind(column(rows, |row| row.token_id))
        .bind(column(rows, |row| row.grant_id))
        .bind(column(rows, |row| row.presigned_files))
        .bind(column(rows, |row| time(micros(row.presigned_until))))
        .bind(personal.iter().map(|(seq, _)| *seq).collect::<Vec<_>>())
        .bind(personal.iter().map(|(_, (salt, _))| &salt[..]).collect::<Vec<_>>())
        .bind(personal.iter().map(|(_, (_, text))| *text).collect::<Vec<_>>())
        .bind(to.seq)
        .bind(&to.hash[..])
        .bind(from.seq);
    Ok(extended.execute(&mut **tx).await?.rows_affected())
}

/// Splits `items` into chunks whose lengths are powers of two, longest first, so that lists of any length share a few
/// statement texts, which stay prepared.
fn power_of_two_chunks<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = LONGEST_INSERT.min(1 << items.len().checked_ilog2()?);
        let (chunk, rest) = items.split_at(length);
        items = rest;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_powers_of_two_and_nothing_is_lost() {
        for length in [0usize, 1, 2, 3, 7, 255, 256, 257, 1000] {
            let items: Vec<usize> = (0..length).collect();
            let pieces: Vec<&[usize]> = power_of_two_chunks(&items).collect();
            assert!(pieces.iter().all(|piece| piece.len().is_power_of_two() && piece.len() <= LONGEST_INSERT));
            assert_eq!(pieces.concat(), items);
        }
    }
}
