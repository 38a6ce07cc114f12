//! Stores the outcome of requests with an `Idempotency-Key`. Never here: a secret that such a request issued.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use crate::store::{Result, StoreError, Tx, reads, writes};

use super::value::{Micros, digest};

/// A completed request, and what it created.
#[derive(Clone, Debug, PartialEq)]
pub struct IdempotencyRecord {
    /// The operator that sent it; keys of different operators are independent.
    pub operator: String,
    /// Its `Idempotency-Key`.
    pub key: String,
    /// SHA-256 of the request, which distinguishes a replay from another request with the same key.
    pub request_digest: [u8; 32],
    /// The identity of what it created.
    pub resource_id: Uuid,
    /// The HTTP status of its answer.
    pub status: u16,
    /// When it was completed.
    pub created_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct IdempotencyRow {
    operator: String,
    idempotency_key: String,
    request_digest: Vec<u8>,
    resource_id: Uuid,
    status: i64,
    created_at: Micros,
}

impl TryFrom<IdempotencyRow> for IdempotencyRecord {
    type Error = StoreError;

    fn try_from(row: IdempotencyRow) -> Result<Self> {
        Ok(Self {
            operator: row.operator,
            key: row.idempotency_key,
            request_digest: digest("idempotency_keys.request_digest", &row.request_digest)?,
            resource_id: row.resource_id,
            status: row.status.try_into().map_err(|_| StoreError::Corrupt("idempotency_keys.status"))?,
            created_at: row.created_at.0,
        })
    }
}

reads! {
    /// Finds the outcome of the request that an operator sent with this key.
    pub async fn find_idempotency(self, db, operator: &str, key: &str) -> Result<Option<IdempotencyRecord>> {
        let sql = "SELECT operator, idempotency_key, request_digest, resource_id, status, created_at \
                   FROM idempotency_keys WHERE operator = $1 AND idempotency_key = $2";
        let row: Option<IdempotencyRow> = sqlx::query_as(sql).bind(operator).bind(key).fetch_optional(db).await?;
        row.map(IdempotencyRecord::try_from).transpose()
    }
}

impl Tx {
    /// Stores the outcome of a request; [`Constraint::IdempotencyKey`](crate::store::Constraint::IdempotencyKey) if the
    /// key was already used, even by a concurrent replay.
    pub async fn insert_idempotency(&mut self, record: &IdempotencyRecord) -> Result<()> {
        const SQL: &str = "INSERT INTO idempotency_keys \
            (operator, idempotency_key, request_digest, resource_id, status, created_at) \
            VALUES ($1, $2, $3, $4, $5, $6)";
        writes!(self, db => sqlx::query(SQL)
            .bind(&record.operator)
            .bind(&record.key)
            .bind(&record.request_digest[..])
            .bind(record.resource_id)
            .bind(i64::from(record.status))
            .bind(Micros::from(record.created_at))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Deletes requests older than `before`; returns their number.
    pub async fn delete_idempotency(&mut self, before: DateTime<Utc>) -> Result<u64> {
        const SQL: &str = "DELETE FROM idempotency_keys WHERE created_at < $1";
        let at = Micros::from(before);
        Ok(writes!(self, db => sqlx::query(SQL).bind(at).execute(db).await?.rows_affected()))
    }
}
