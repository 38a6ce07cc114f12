//! Daily byte limits: counts the bytes issued and delivered to recipients with such a limit, under the audit head's
//! lock, so that several servers together never exceed it.
//!
//! A URL's bytes are counted when it is handed out. For a URL served through a server, delivered bytes are counted
//! across all addresses and servers: bytes beyond the file's size count again. Counting begins when the limit is set; a
//! recipient without one costs nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        access::{
            decision::{Bearer, Reason},
            limits::day,
        },
        audit::Event,
    },
    store::{StoreError, Tx, UrlBytes, UrlDigest},
};

/// Delivered bytes of the file behind a URL whose bytes were counted when it was handed out.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// The URL.
    pub url: UrlDigest,
    /// The file's size.
    pub size: u64,
    /// How many bytes are read now.
    pub bytes: u64,
    /// When the URL expires.
    pub ends_at: DateTime<Utc>,
}

/// The bytes issued today and delivered through URLs, for recipients with a limit.
#[derive(Debug)]
pub(in crate::service) struct Quotas {
    day: i64,
    /// The issued bytes by recipient, and whether they have changed.
    issued: HashMap<Uuid, (u64, bool)>,
    /// The delivered bytes by URL, and whether they have changed.
    urls: HashMap<UrlDigest, (UrlBytes, bool)>,
}

impl Quotas {
    /// Reads the bytes issued on the day of `now` to those recipients of `bearers` that have a limit, and the bytes
    /// delivered of their URLs among `read`.
    pub(in crate::service) async fn read<'a>(
        tx: &mut Tx,
        bearers: impl Iterator<Item = &'a Bearer>,
        read: impl Iterator<Item = (Uuid, UrlDigest)>,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let (day, mut issued) = (day(now), HashMap::new());
        for bearer in bearers {
            let recipient = &bearer.recipient;
            if recipient.spec.limits.bytes_per_day.is_some() && !issued.contains_key(&recipient.id) {
                let bytes = tx.find_bytes_issued(recipient.id, day).await?;
                issued.insert(recipient.id, (u64::try_from(bytes).unwrap_or_default(), false));
            }
        }
        let limited = read.filter(|(recipient_id, _)| issued.contains_key(recipient_id));
        let urls: Vec<UrlDigest> = limited.map(|(_, url)| url).collect();
        let found = tx.find_url_bytes(&urls).await?;
        let urls = found.into_iter().map(|read| (read.url, (read, false))).collect();
        Ok(Self { day, issued, urls })
    }

    /// Counts the bytes that `event` issues, or the `delivered` bytes that were not counted before, for `bearer`'s
    /// recipient; refuses them if they exceed the limit.
    pub(in crate::service) fn spend(
        &mut self,
        bearer: &Bearer,
        event: &Event,
        delivered: Option<&Delivered>,
    ) -> Result<(), Reason> {
        let Some(limit) = bearer.recipient.spec.limits.bytes_per_day else { return Ok(()) };
        let Some((issued, is_changed)) = self.issued.get_mut(&bearer.recipient.id) else { return Ok(()) };
        let (bytes, read) = match delivered {
            None => (event.bytes.unwrap_or_default(), None),
            Some(delivered) => {
                let before = self.urls.get(&delivered.url).map_or(0, |(read, _)| read.bytes);
                let before = u64::try_from(before).unwrap_or_default();
                let after = before.saturating_add(delivered.bytes);
                let beyond = |bytes: u64| bytes.saturating_sub(delivered.size);
                (beyond(after) - beyond(before), Some((delivered, after)))
            }
        };
        if bytes > 0 {
            let after = issued.saturating_add(bytes);
            if after > limit {
                return Err(Reason::BytesPerDay);
            }
            (*issued, *is_changed) = (after, true);
        }
        if let Some((delivered, bytes)) = read {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            let read = UrlBytes { url: delivered.url, bytes, ends_at: delivered.ends_at };
            self.urls.insert(delivered.url, (read, true));
        }
        Ok(())
    }

    /// Stores the changed numbers.
    pub(in crate::service) async fn write(&self, tx: &mut Tx) -> Result<(), StoreError> {
        for (recipient_id, (bytes, _)) in self.issued.iter().filter(|(_, (_, is_changed))| *is_changed) {
            tx.update_bytes_issued(*recipient_id, self.day, i64::try_from(*bytes).unwrap_or(i64::MAX)).await?;
        }
        let changed = self.urls.values().filter(|(_, is_changed)| *is_changed);
        tx.update_url_bytes(&changed.map(|(read, _)| *read).collect::<Vec<_>>()).await
    }
}
