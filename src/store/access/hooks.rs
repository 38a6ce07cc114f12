//! What contract systems told of agreements: each message with its answer, and the order of an agreement's events.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    domain::access::hook::{EventOrder, HookOutcome},
    store::{
        Result, StoreError, Tx,
        core::value::{Micros, digest, micros, time},
        one_row, reads, writes,
    },
};

/// A message that was taken, with its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredHookEvent {
    /// Its id; ids of different hooks are independent.
    pub id: String,
    /// SHA-256 of its body, which distinguishes a repeated message from another with the same id.
    pub body_digest: [u8; 32],
    /// When it was taken.
    pub received_at: DateTime<Utc>,
    /// What it was answered.
    pub outcome: HookOutcome,
}

#[derive(FromRow)]
struct HookEventRow {
    event_id: String,
    body_digest: Vec<u8>,
    received_at: Micros,
    subject: String,
    state: String,
    why: Option<String>,
}

impl TryFrom<HookEventRow> for StoredHookEvent {
    type Error = StoreError;

    fn try_from(row: HookEventRow) -> Result<Self> {
        Ok(Self {
            id: row.event_id,
            body_digest: digest("hook_events.body_digest", &row.body_digest)?,
            received_at: row.received_at.0,
            outcome: HookOutcome { agreement: row.subject, state: row.state, why: row.why },
        })
    }
}

reads! {
    /// Finds the message with this id that a hook has taken.
    pub async fn find_hook_event(self, db, hook: &str, id: &str) -> Result<Option<StoredHookEvent>> {
        const SQL: &str = "SELECT event_id, body_digest, received_at, subject, state, why FROM hook_events \
            WHERE hook = $1 AND event_id = $2";
        let row: Option<HookEventRow> = sqlx::query_as(SQL).bind(hook).bind(id).fetch_optional(db).await?;
        row.map(StoredHookEvent::try_from).transpose()
    }

    /// Whether a message was taken before this time.
    pub async fn has_hook_events_before(self, db, before: DateTime<Utc>) -> Result<bool> {
        const SQL: &str = "SELECT 1 FROM hook_events WHERE received_at < $1 LIMIT 1";
        let found: Option<i32> = sqlx::query_scalar(SQL).bind(Micros::from(before)).fetch_optional(db).await?;
        Ok(found.is_some())
    }

    /// Finds the order of the events that a contract system told of an agreement.
    pub async fn find_event_order(self, db, agreement_id: Uuid) -> Result<EventOrder> {
        const SQL: &str = "SELECT event_at, event_moved_at FROM agreement_terms WHERE agreement_id = $1";
        let row: Option<(Option<Micros>, Option<Micros>)> =
            sqlx::query_as(SQL).bind(agreement_id).fetch_optional(db).await?;
        let (newest, moved_at) = row.unwrap_or_default();
        Ok(EventOrder { newest: time(newest), moved_at: time(moved_at) })
    }
}

impl Tx {
    /// Stores a message that was taken, with its answer.
    pub async fn insert_hook_event(&mut self, hook: &str, event: &StoredHookEvent) -> Result<()> {
        const SQL: &str = "INSERT INTO hook_events (hook, event_id, body_digest, received_at, subject, state, why) \
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let HookOutcome { agreement, state, why } = &event.outcome;
        writes!(self, db => sqlx::query(SQL)
            .bind(hook)
            .bind(&event.id)
            .bind(&event.body_digest[..])
            .bind(Micros::from(event.received_at))
            .bind(agreement)
            .bind(state)
            .bind(why.as_deref())
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Sets the order of the events of an agreement.
    pub async fn update_event_order(&mut self, agreement_id: Uuid, order: EventOrder) -> Result<()> {
        const SQL: &str = "UPDATE agreement_terms SET event_at = $2, event_moved_at = $3 WHERE agreement_id = $1";
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(agreement_id)
            .bind(micros(order.newest))
            .bind(micros(order.moved_at))
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)
    }

    /// Deletes messages that were taken before this time; returns their number.
    pub async fn delete_hook_events(&mut self, before: DateTime<Utc>) -> Result<u64> {
        const SQL: &str = "DELETE FROM hook_events WHERE received_at < $1";
        let at = Micros::from(before);
        Ok(writes!(self, db => sqlx::query(SQL).bind(at).execute(db).await?.rows_affected()))
    }
}
