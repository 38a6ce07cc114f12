//! Stores checkpoints of the audit chain and detachments, and reads the chain for verification.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, Executor, FromRow};
use uuid::Uuid;

use crate::store::{
    CLOCKS_APART, Db, Result, StoreError, Tx, TxConnection,
    core::value::{Micros, time},
    reads, writes,
};

use super::{EventRow, StoredEvent};

/// A stored checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCheckpoint {
    /// The newest event covered.
    pub seq: i64,
    /// The newest event covered by the checkpoint before; 0 for the first.
    pub previous_seq: i64,
    /// The Merkle tree up to here, in a form that can be extended.
    pub frontier: Vec<u8>,
    /// The signed text.
    pub note: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was exported with its events; `None` if it was not.
    pub exported_at: Option<DateTime<Utc>>,
}

/// Where the events of a time range can be: from `first` to `last`, or after `sealed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditSpan {
    /// The first event that may be in the range.
    pub first: i64,
    /// The last sealed event that may be in the range.
    pub last: i64,
    /// The newest event covered by a checkpoint; times of later events are not indexed by checkpoints.
    pub sealed: i64,
}

/// A time later than every event.
const FOREVER: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 0) {
    Some(time) => time,
    None => DateTime::UNIX_EPOCH,
};

#[derive(FromRow)]
struct CheckpointRow {
    seq: i64,
    previous_seq: i64,
    frontier: Vec<u8>,
    note: String,
    created_at: Micros,
    exported_at: Option<Micros>,
}

impl From<CheckpointRow> for StoredCheckpoint {
    fn from(row: CheckpointRow) -> Self {
        let CheckpointRow { seq, previous_seq, frontier, note, created_at, exported_at } = row;
        Self { seq, previous_seq, frontier, note, created_at: created_at.0, exported_at: time(exported_at) }
    }
}

/// The columns for searching and counting that are stored beside an event's text. They must agree with the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// When the event was written.
    pub at: DateTime<Utc>,
    /// What was done.
    pub action: String,
    /// `allow` or `deny`.
    pub decision: String,
    /// The recipient.
    pub recipient_id: Option<Uuid>,
    /// The share.
    pub share_id: Option<Uuid>,
    /// What the text calls a table: the registered one, and a shared object where an earlier release wrote the event.
    pub table_id: Option<Uuid>,
    /// The shared object.
    pub object_id: Option<Uuid>,
    /// The token.
    pub token_id: Option<Uuid>,
    /// The grant.
    pub grant_id: Option<Uuid>,
    /// How many presigned URLs were handed out.
    pub presigned_files: Option<i64>,
    /// When the last of them expires.
    pub presigned_until: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct ChainRow {
    #[sqlx(flatten)]
    event: EventRow,
    at: Micros,
    action: String,
    decision: String,
    recipient_id: Option<Uuid>,
    share_id: Option<Uuid>,
    table_id: Option<Uuid>,
    object_id: Option<Uuid>,
    token_id: Option<Uuid>,
    grant_id: Option<Uuid>,
    presigned_files: Option<i64>,
    presigned_until: Option<Micros>,
}

impl TryFrom<ChainRow> for (StoredEvent, Derived) {
    type Error = StoreError;

    fn try_from(row: ChainRow) -> Result<Self> {
        let derived = Derived {
            at: row.at.0,
            action: row.action,
            decision: row.decision,
            recipient_id: row.recipient_id,
            share_id: row.share_id,
            table_id: row.table_id,
            object_id: row.object_id,
            token_id: row.token_id,
            grant_id: row.grant_id,
            presigned_files: row.presigned_files,
            presigned_until: time(row.presigned_until),
        };
        Ok((row.event.try_into()?, derived))
    }
}

macro_rules! select_checkpoints {
    () => {
        "SELECT seq, previous_seq, frontier, note, created_at, exported_at FROM audit_checkpoints "
    };
}

reads! {
    /// Finds the newest checkpoint.
    pub async fn find_last_checkpoint(self, db) -> Result<Option<StoredCheckpoint>> {
        let sql = concat!(select_checkpoints!(), "ORDER BY seq DESC LIMIT 1");
        let row: Option<CheckpointRow> = sqlx::query_as(sql).fetch_optional(db).await?;
        Ok(row.map(Into::into))
    }

    /// Finds the checkpoint whose newest event is `seq`.
    pub async fn find_checkpoint(self, db, seq: i64) -> Result<Option<StoredCheckpoint>> {
        let sql = concat!(select_checkpoints!(), "WHERE seq = $1");
        let row: Option<CheckpointRow> = sqlx::query_as(sql).bind(seq).fetch_optional(db).await?;
        Ok(row.map(Into::into))
    }

    /// Lists checkpoints after `after`, oldest first.
    pub async fn list_checkpoints(self, db, after: i64, limit: u32) -> Result<Vec<StoredCheckpoint>> {
        let sql = concat!(select_checkpoints!(), "WHERE seq > $1 ORDER BY seq LIMIT $2");
        let rows: Vec<CheckpointRow> =
            sqlx::query_as(sql).bind(after).bind(i64::from(limit)).fetch_all(db).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Lists checkpoints that are not exported, oldest first.
    pub async fn list_unexported_checkpoints(self, db, limit: u32) -> Result<Vec<StoredCheckpoint>> {
        let sql = concat!(select_checkpoints!(), "WHERE exported_at IS NULL ORDER BY seq LIMIT $1");
        let rows: Vec<CheckpointRow> = sqlx::query_as(sql).bind(i64::from(limit)).fetch_all(db).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Narrows down where the events of a time range are, by the times of checkpoints. The span may hold others too.
    pub async fn find_audit_span(
        self, db, since: Option<DateTime<Utc>>, until: Option<DateTime<Utc>>
    ) -> Result<AuditSpan> {
        // Servers of the previous release store checkpoints without times.
        const FIRST: &str = "(SELECT previous_seq + 1 FROM audit_checkpoints \
            WHERE last_at IS NULL OR last_at >= $1 ORDER BY seq LIMIT 1)";
        const LAST: &str = "(SELECT seq FROM audit_checkpoints \
            WHERE first_at IS NULL OR first_at < $2 ORDER BY seq DESC LIMIT 1)";
        let sql = AssertSqlSafe(format!(
            "SELECT {FIRST}, {LAST}, (SELECT MAX(seq) FROM audit_checkpoints)"
        ));
        let since = Micros::from(since.unwrap_or(DateTime::UNIX_EPOCH));
        let until = Micros::from(until.unwrap_or(FOREVER));
        let row: (Option<i64>, Option<i64>, Option<i64>) =
            sqlx::query_as(sql).bind(since).bind(until).fetch_one(db).await?;
        let sealed = row.2.unwrap_or_default();
        Ok(AuditSpan { first: row.0.unwrap_or(sealed + 1), last: row.1.unwrap_or_default(), sealed })
    }

    /// Finds the newest event that was exported with its checkpoint.
    pub async fn find_exported_through(self, db) -> Result<Option<i64>> {
        let sql = "SELECT MAX(seq) FROM audit_checkpoints WHERE exported_at IS NOT NULL";
        Ok(sqlx::query_scalar(sql).fetch_one(db).await?)
    }

    /// Finds the last event that is in the export only; `None` if every event is in the database.
    pub async fn find_detached_through(self, db) -> Result<Option<i64>> {
        Ok(sqlx::query_scalar("SELECT MAX(through_seq) FROM audit_detachments").fetch_one(db).await?)
    }

    /// Finds the last event written before `before`.
    pub async fn find_last_seq_before(self, db, before: DateTime<Utc>) -> Result<Option<i64>> {
        let sql = "SELECT seq FROM audit_events WHERE at < $1 ORDER BY at DESC, seq DESC LIMIT 1";
        Ok(sqlx::query_scalar(sql).bind(Micros::from(before)).fetch_optional(db).await?)
    }

    /// Finds the first and last place of the events written at or after `since` and before `until`.
    pub async fn find_seqs_between(
        self, db, since: DateTime<Utc>, until: DateTime<Utc>
    ) -> Result<Option<(i64, i64)>> {
        let sql = "SELECT MIN(seq), MAX(seq) FROM audit_events WHERE at >= $1 AND at < $2";
        let (first, last): (Option<i64>, Option<i64>) =
            sqlx::query_as(sql).bind(Micros::from(since)).bind(Micros::from(until)).fetch_one(db).await?;
        Ok(first.zip(last))
    }

    /// Whether an event written before `before` still has its personal part.
    pub async fn find_erasable(self, db, before: DateTime<Utc>) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM audit_personal WHERE seq <= \
            (SELECT seq FROM audit_events WHERE at < $1 ORDER BY at DESC LIMIT 1))";
        Ok(sqlx::query_scalar(sql).bind(Micros::from(before)).fetch_one(db).await?)
    }

    /// Finds when the last presigned URL expires that an event up to `through` handed out.
    pub async fn find_last_presigned_until(self, db, through: i64) -> Result<Option<DateTime<Utc>>> {
        let sql = "SELECT MAX(presigned_until) FROM audit_events WHERE presigned_until IS NOT NULL AND seq <= $1";
        let until: Option<Micros> = sqlx::query_scalar(sql).bind(through).fetch_one(db).await?;
        Ok(time(until))
    }

    /// Counts the events up to `through` that still have their personal part.
    pub async fn count_personal(self, db, through: i64) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT COUNT(*) FROM audit_personal WHERE seq <= $1").bind(through).fetch_one(db).await?)
    }

    /// Lists events after `after` for verification, with their derived columns.
    pub async fn list_chain(self, db, after: i64, limit: u32) -> Result<Vec<(StoredEvent, Derived)>> {
        // The bound on `p.seq` keeps a merge join from starting at the chain's first event.
        let sql = "SELECT a.seq, a.prev_hash, a.hash, a.body, p.salt, p.personal, a.at, a.action, a.decision, \
            a.recipient_id, a.share_id, a.table_id, a.object_id, a.token_id, a.grant_id, a.presigned_files, a.presigned_until \
            FROM audit_events a LEFT JOIN audit_personal p ON p.seq = a.seq AND p.seq > $1 \
            WHERE a.seq > $1 ORDER BY a.seq LIMIT $2";
        let rows: Vec<ChainRow> = sqlx::query_as(sql).bind(after).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}

/// What happened to the space of deleted rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reclaimed {
    /// That many bytes were returned to the disk.
    GivenBack(u64),
    /// The database reuses the space.
    Reusable,
    /// The database reuses the space. It would return it to the disk if no server used the file.
    Kept,
    /// Nothing yet: the role may not vacuum every table.
    Refused,
}

/// Whether the role may vacuum the trail's tables: as owner of the tables or of the database or, since PostgreSQL 17,
/// with the MAINTAIN privilege.
const MAY_VACUUM: &str = "SELECT bool_and(pg_has_role(c.relowner, 'USAGE') OR pg_has_role(d.datdba, 'USAGE') \
    OR CASE WHEN current_setting('server_version_num')::int >= 170000 \
    THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE FALSE END) FROM pg_class c, pg_database d \
    WHERE c.oid IN ('audit_events'::regclass, 'audit_personal'::regclass) AND d.datname = current_database()";

impl Db {
    /// Frees the space of detached events. A SQLite file is rewritten unless a server uses it, since the server would
    /// have to wait. On PostgreSQL, needs the role that owns the tables.
    pub async fn reclaim_audit(&self) -> Result<Reclaimed> {
        match self {
            Self::Postgres { pool, .. } => {
                // A connection of its own, whose statements may take as long as a large table needs.
                let mut connection = pool.acquire().await?.detach();
                connection.execute("SET statement_timeout = 0").await?;
                // PostgreSQL only warns about tables that the role may not vacuum.
                let reclaimed = match sqlx::query_scalar(MAY_VACUUM).fetch_one(&mut connection).await? {
                    true => {
                        connection.execute("VACUUM (ANALYZE) audit_events").await?;
                        connection.execute("VACUUM (ANALYZE) audit_personal").await?;
                        Reclaimed::Reusable
                    }
                    false => Reclaimed::Refused,
                };
                connection.close().await?;
                Ok(reclaimed)
            }
            Self::Sqlite { writer, .. } => {
                let _lock = match self.lock_server() {
                    Ok(lock) => lock,
                    Err(StoreError::Locked(_)) => return Ok(Reclaimed::Kept),
                    Err(error) => return Err(error),
                };
                const SIZE: &str = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
                let before: i64 = sqlx::query_scalar(SIZE).fetch_one(writer).await?;
                sqlx::query("VACUUM").execute(writer).await?;
                // Until this, the file keeps its length and the log takes as much again.
                sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(writer).await?;
                let after: i64 = sqlx::query_scalar(SIZE).fetch_one(writer).await?;
                Ok(Reclaimed::GivenBack(u64::try_from(before - after).unwrap_or_default()))
            }
        }
    }
}

impl Tx {
    /// Stores a checkpoint. Fails with [`crate::store::Constraint::CheckpointTaken`] if the one before has a successor
    /// already.
    pub async fn insert_checkpoint(&mut self, checkpoint: &StoredCheckpoint) -> Result<()> {
        // Both ends and a count in one read: MIN or MAX alone would scan the index on all times.
        const SQL: &str = "INSERT INTO audit_checkpoints \
            (seq, previous_seq, frontier, note, created_at, exported_at, first_at, last_at) \
            SELECT $1, $2, $3, $4, $5, NULL, span.first_at, span.last_at FROM (\
            SELECT MIN(at) AS first_at, MAX(at) AS last_at, COUNT(*) AS events FROM audit_events \
            WHERE seq > $2 AND seq <= $1) AS span";
        writes!(self, db => sqlx::query(SQL)
            .bind(checkpoint.seq)
            .bind(checkpoint.previous_seq)
            .bind(&checkpoint.frontier[..])
            .bind(checkpoint.note.as_str())
            .bind(Micros::from(checkpoint.created_at))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Marks a checkpoint and its events as exported.
    pub async fn update_checkpoint_exported(&mut self, seq: i64, at: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "UPDATE audit_checkpoints SET exported_at = $2 WHERE seq = $1";
        writes!(self, db => sqlx::query(SQL).bind(seq).bind(Micros::from(at)).execute(db).await?.rows_affected());
        Ok(())
    }

    /// Takes or renews the lease `name` until `until`; returns false if another holder's has not ended at `now`. A
    /// lease that ends more than [`CLOCKS_APART`] after `until` comes from a clock that was ahead and is ignored.
    pub async fn take_lease(
        &mut self,
        name: &str,
        holder: Uuid,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<bool> {
        const SQL: &str = "INSERT INTO leases (name, holder, held_until) VALUES ($1, $2, $3) \
            ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until \
            WHERE leases.holder = excluded.holder OR leases.held_until <= $4 OR leases.held_until > $5";
        let taken = writes!(self, db => sqlx::query(SQL)
            .bind(name)
            .bind(holder)
            .bind(Micros::from(until))
            .bind(Micros::from(now))
            .bind(Micros::from(until + CLOCKS_APART))
            .execute(db)
            .await?
            .rows_affected());
        Ok(taken == 1)
    }

    /// Deletes the events up to the exported checkpoint `through`, records the detachment and returns how many. The
    /// triggers that forbid deletion are lifted in this transaction only, which needs the role that owns the tables.
    pub async fn detach_audit(&mut self, through: i64, at: DateTime<Utc>) -> Result<u64> {
        const STUB: &str = "INSERT INTO audit_detachments (through_seq, detached_at) VALUES ($1, $2)";
        let personal = "DELETE FROM audit_personal WHERE seq <= $1";
        let events = "DELETE FROM audit_events WHERE seq <= $1";
        let at = Micros::from(at);
        if let TxConnection::Postgres(tx) = &mut self.connection {
            // On a large trail the deletes take longer than the session's limit.
            tx.execute("SET LOCAL statement_timeout = 0").await?;
        }
        writes!(self, db => sqlx::query(STUB).bind(through).bind(at).execute(db).await?.rows_affected());
        writes!(self, db => sqlx::query(personal).bind(through).execute(db).await?.rows_affected());
        Ok(match &mut self.connection {
            TxConnection::Postgres(tx) => {
                tx.execute("ALTER TABLE audit_events DISABLE TRIGGER audit_events_append_only").await?;
                let deleted = sqlx::query(events).bind(through).execute(&mut **tx).await?.rows_affected();
                tx.execute("ALTER TABLE audit_events ENABLE TRIGGER audit_events_append_only").await?;
                deleted
            }
            TxConnection::Sqlite(tx) => {
                const FIND: &str =
                    "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'audit_events_no_delete'";
                // SQLite cannot disable a trigger, only drop it and create it again.
                let trigger: String = sqlx::query_scalar(FIND).fetch_one(&mut **tx).await?;
                tx.execute("DROP TRIGGER audit_events_no_delete").await?;
                let deleted = sqlx::query(events).bind(through).execute(&mut **tx).await?.rows_affected();
                tx.execute(AssertSqlSafe(trigger)).await?;
                deleted
            }
        })
    }
}
