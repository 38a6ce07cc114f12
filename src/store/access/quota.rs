//! The bytes issued each day to recipients with a byte limit, and the bytes delivered of the URLs that they read.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use crate::store::{
    Result, Tx,
    core::value::{Micros, digest, padded},
    reads, writes,
};

/// The digest of a file URL.
pub type UrlDigest = [u8; 16];

/// The bytes delivered of a file URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlBytes {
    /// The URL.
    pub url: UrlDigest,
    /// The bytes read of its file, by all readers.
    pub bytes: i64,
    /// When the URL expires, and this record with it.
    pub ends_at: DateTime<Utc>,
}

reads! {
    /// Returns the counted bytes issued to a recipient on this day (in days since 1970, UTC).
    pub async fn find_bytes_issued(self, db, recipient_id: Uuid, day: i64) -> Result<i64> {
        const SQL: &str = "SELECT bytes FROM recipient_days WHERE recipient_id = $1 AND day = $2";
        let found: Option<i64> = sqlx::query_scalar(SQL).bind(recipient_id).bind(day).fetch_optional(db).await?;
        Ok(found.unwrap_or_default())
    }

    /// Returns the bytes delivered of those of `urls` that were read; for short lists.
    pub async fn find_url_bytes(self, db, urls: &[UrlDigest]) -> Result<Vec<UrlBytes>> {
        if urls.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new("SELECT url, bytes, ends_at FROM url_reads WHERE url IN (");
        let mut list = query.separated(", ");
        for url in padded(urls) {
            list.push_bind(url.to_vec());
        }
        query.push(")");
        let rows: Vec<(Vec<u8>, i64, Micros)> = query.build_query_as().fetch_all(db).await?;
        let read = |(url, bytes, ends_at): (Vec<u8>, i64, Micros)| {
            Ok(UrlBytes { url: digest("url_reads.url", &url)?, bytes, ends_at: ends_at.0 })
        };
        rows.into_iter().map(read).collect()
    }
}

impl Tx {
    /// Sets the bytes issued to a recipient on this day; the caller has held the audit head's lock since it read them.
    pub async fn update_bytes_issued(&mut self, recipient_id: Uuid, day: i64, bytes: i64) -> Result<()> {
        const SQL: &str = "INSERT INTO recipient_days (recipient_id, day, bytes) VALUES ($1, $2, $3) \
            ON CONFLICT (recipient_id, day) DO UPDATE SET bytes = excluded.bytes";
        writes!(self, db => sqlx::query(SQL).bind(recipient_id).bind(day).bind(bytes).execute(db).await?.rows_affected());
        Ok(())
    }

    /// Sets the bytes delivered of distinct URLs; the caller has held the audit head's lock since it read them.
    pub async fn update_url_bytes(&mut self, urls: &[UrlBytes]) -> Result<()> {
        if urls.is_empty() {
            return Ok(());
        }
        writes!(self, db => {
            let mut query = QueryBuilder::new("INSERT INTO url_reads (url, bytes, ends_at) ");
            query.push_values(urls, |mut row, read| {
                row.push_bind(read.url.to_vec()).push_bind(read.bytes).push_bind(Micros::from(read.ends_at));
            });
            query.push(" ON CONFLICT (url) DO UPDATE SET bytes = excluded.bytes");
            query.build().execute(db).await?.rows_affected()
        });
        Ok(())
    }

    /// Deletes the records of URLs that expired before `now`.
    pub async fn delete_ended_urls(&mut self, now: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "DELETE FROM url_reads WHERE ends_at < $1";
        writes!(self, db => sqlx::query(SQL).bind(Micros::from(now)).execute(db).await?.rows_affected());
        Ok(())
    }
}
