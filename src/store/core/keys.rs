//! Stores fingerprints of the root keys that have been active on this database. Never here: a key.

use chrono::{DateTime, Utc};

use crate::store::{Result, Tx, reads, writes};

use super::value::Micros;

reads! {
    /// Lists the fingerprints of all root keys that were ever active, in the order of their first use.
    pub async fn list_key_fingerprints(self, db) -> Result<Vec<String>> {
        let sql = "SELECT fingerprint FROM key_fingerprints ORDER BY first_seen_at, fingerprint";
        Ok(sqlx::query_scalar(sql).fetch_all(db).await?)
    }

    /// When a root key first was a server's active one; `None` if it never was.
    pub async fn find_key_first_seen(self, db, fingerprint: &str) -> Result<Option<DateTime<Utc>>> {
        let sql = "SELECT first_seen_at FROM key_fingerprints WHERE fingerprint = $1";
        let at: Option<Micros> = sqlx::query_scalar(sql).bind(fingerprint).fetch_optional(db).await?;
        Ok(at.map(|at| at.0))
    }
}

impl Tx {
    /// Stores an active root key's fingerprint; returns false if it is already known, and then keeps the time of its
    /// first use.
    pub async fn remember_key_fingerprint(&mut self, fingerprint: &str, seen_at: DateTime<Utc>) -> Result<bool> {
        const SQL: &str = "INSERT INTO key_fingerprints (fingerprint, first_seen_at) VALUES ($1, $2) \
            ON CONFLICT (fingerprint) DO NOTHING";
        let at = Micros::from(seen_at);
        let added = writes!(self, db => sqlx::query(SQL).bind(fingerprint).bind(at).execute(db).await?.rows_affected());
        Ok(added == 1)
    }
}
