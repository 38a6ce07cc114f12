//! The database's own clock, by which a server's can be told to be wrong.

use chrono::{DateTime, Utc};

use crate::store::{Db, Result};

impl Db {
    /// What time it is on the database's machine; `None` on SQLite, which is on this one.
    pub async fn find_time(&self) -> Result<Option<DateTime<Utc>>> {
        let Self::Postgres { pool, .. } = self else { return Ok(None) };
        Ok(Some(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(pool).await?))
    }
}
