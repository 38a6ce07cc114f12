//! Reads the database's own clock, which can reveal that a server's clock is wrong.

use chrono::{DateTime, Utc};

use crate::store::{Db, Result};

impl Db {
    /// The time on the database's machine; `None` for SQLite, which runs on this machine.
    pub async fn find_time(&self) -> Result<Option<DateTime<Utc>>> {
        let Self::Postgres { pool, .. } = self else { return Ok(None) };
        Ok(Some(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(pool).await?))
    }
}
