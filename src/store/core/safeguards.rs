//! Stores which values the settings had that restrict sharing, each from a start of a server on.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use crate::{
    domain::core::safeguard::SafeguardRecord,
    store::{Result, Tx, reads, writes},
};

use super::value::Micros;

#[derive(FromRow)]
struct SafeguardRow {
    setting: String,
    since: Micros,
    value: String,
    is_off: bool,
}

impl From<SafeguardRow> for SafeguardRecord {
    fn from(SafeguardRow { setting, since, value, is_off }: SafeguardRow) -> Self {
        Self { setting, since: since.0, value, is_off }
    }
}

reads! {
    /// Lists the newest records, ordered by setting and time.
    pub async fn list_safeguards(self, db, limit: u32) -> Result<Vec<SafeguardRecord>> {
        const SQL: &str = "SELECT setting, since, value, is_off FROM (\
            SELECT setting, since, value, is_off FROM safeguards ORDER BY since DESC LIMIT $1) newest \
            ORDER BY setting, since";
        let rows: Vec<SafeguardRow> = sqlx::query_as(SQL).bind(i64::from(limit)).fetch_all(db).await?;
        Ok(rows.into_iter().map(SafeguardRecord::from).collect())
    }

    /// Finds the value that a setting was last recorded with.
    pub async fn find_safeguard(self, db, setting: &str) -> Result<Option<SafeguardRecord>> {
        const SQL: &str = "SELECT setting, since, value, is_off FROM safeguards WHERE setting = $1 \
            ORDER BY since DESC LIMIT 1";
        let row: Option<SafeguardRow> = sqlx::query_as(SQL).bind(setting).fetch_optional(db).await?;
        Ok(row.map(SafeguardRecord::from))
    }
}

impl Tx {
    /// Records the value that a setting has from a time on.
    pub async fn insert_safeguard(
        &mut self,
        setting: &str,
        since: DateTime<Utc>,
        value: &str,
        is_off: bool,
    ) -> Result<()> {
        const SQL: &str = "INSERT INTO safeguards (setting, since, value, is_off) VALUES ($1, $2, $3, $4)";
        writes!(self, db => sqlx::query(SQL)
            .bind(setting)
            .bind(Micros::from(since))
            .bind(value)
            .bind(is_off)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }
}
