//! Freezes: periods in which nothing is handed out.
//!
//! A freeze covers everything: the column `scope` has no other value, and prevents two freezes at the same time.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use crate::store::{
    Result, Tx,
    core::value::{Micros, time},
    one_row, reads, writes,
};

/// A period in which nothing is handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct Freeze {
    /// Its identity.
    pub id: Uuid,
    /// The reason, in the operator's words.
    pub reason: String,
    /// The operator who ordered it.
    pub frozen_by: String,
    /// When it began.
    pub frozen_at: DateTime<Utc>,
    /// The operator who ended it.
    pub lifted_by: Option<String>,
    /// When it ended.
    pub lifted_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct FreezeRow {
    id: Uuid,
    reason: String,
    frozen_by: String,
    frozen_at: Micros,
    lifted_by: Option<String>,
    lifted_at: Option<Micros>,
}

impl From<FreezeRow> for Freeze {
    fn from(row: FreezeRow) -> Self {
        Self {
            id: row.id,
            reason: row.reason,
            frozen_by: row.frozen_by,
            frozen_at: row.frozen_at.0,
            lifted_by: row.lifted_by,
            lifted_at: time(row.lifted_at),
        }
    }
}

reads! {
    /// Finds the current freeze.
    pub async fn find_freeze(self, db) -> Result<Option<Freeze>> {
        let sql = "SELECT id, reason, frozen_by, frozen_at, lifted_by, lifted_at FROM freezes \
                   WHERE scope = 'everything' AND lifted_at IS NULL";
        let row: Option<FreezeRow> = sqlx::query_as(sql).fetch_optional(db).await?;
        Ok(row.map(Freeze::from))
    }
}

impl Tx {
    /// Freezes everything; [`Constraint::FreezeLive`](crate::store::Constraint::FreezeLive) if everything is frozen
    /// already.
    pub async fn insert_freeze(
        &mut self,
        id: Uuid,
        reason: &str,
        frozen_by: &str,
        frozen_at: DateTime<Utc>,
    ) -> Result<()> {
        const SQL: &str = "INSERT INTO freezes (id, scope, reason, frozen_by, frozen_at) \
            VALUES ($1, 'everything', $2, $3, $4)";
        let at = Micros::from(frozen_at);
        writes!(self, db => sqlx::query(SQL)
            .bind(id)
            .bind(reason)
            .bind(frozen_by)
            .bind(at)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Ends the current freeze; `StoreError::Stale` if nothing is frozen.
    pub async fn lift_freeze(&mut self, lifted_by: &str, lifted_at: DateTime<Utc>) -> Result<()> {
        const SQL: &str =
            "UPDATE freezes SET lifted_by = $1, lifted_at = $2 WHERE scope = 'everything' AND lifted_at IS NULL";
        let at = Micros::from(lifted_at);
        let lifted = writes!(self, db => sqlx::query(SQL)
            .bind(lifted_by)
            .bind(at)
            .execute(db)
            .await?
            .rows_affected());
        one_row(lifted)
    }
}
