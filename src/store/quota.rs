//! What was issued to recipients whose bytes are limited, day by day.

use uuid::Uuid;

use super::{Result, Tx, on_tx, reads};

reads! {
    /// The bytes issued to a recipient on this day (counted from 1970, UTC), as far as they were counted.
    pub async fn find_bytes_issued(self, db, recipient_id: Uuid, day: i64) -> Result<i64> {
        const SQL: &str = "SELECT bytes FROM recipient_days WHERE recipient_id = $1 AND day = $2";
        let found: Option<i64> = sqlx::query_scalar(SQL).bind(recipient_id).bind(day).fetch_optional(db).await?;
        Ok(found.unwrap_or_default())
    }
}

impl Tx {
    /// Sets the bytes issued to a recipient on this day; whoever does holds the audit head's lock since it read them.
    pub async fn update_bytes_issued(&mut self, recipient_id: Uuid, day: i64, bytes: i64) -> Result<()> {
        const SQL: &str = "INSERT INTO recipient_days (recipient_id, day, bytes) VALUES ($1, $2, $3) \
            ON CONFLICT (recipient_id, day) DO UPDATE SET bytes = excluded.bytes";
        on_tx!(self, db => sqlx::query(SQL).bind(recipient_id).bind(day).bind(bytes).execute(db).await?.rows_affected());
        Ok(())
    }
}
