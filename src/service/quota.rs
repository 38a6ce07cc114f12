//! Bytes a day: what recipients with such a limit were issued and delivered, counted under the audit head's lock, so that
//! several servers together never go beyond it.
//!
//! A URL's bytes are counted when it is handed out; a server that they come through counts them again whenever they are
//! read another time. Counting begins with the limit: a recipient without one costs nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        audit::Event,
        decision::{Bearer, Reason},
        limits::day,
    },
    store::{StoreError, Tx},
};

/// What was issued today, as far as it is limited.
#[derive(Debug)]
pub(super) struct Quotas {
    day: i64,
    /// By recipient; whether a number has changed.
    issued: HashMap<Uuid, (u64, bool)>,
}

impl Quotas {
    /// Reads what the recipients of `bearers` that have a limit were issued on the day of `now`.
    pub(super) async fn read<'a>(
        tx: &mut Tx,
        bearers: impl Iterator<Item = &'a Bearer>,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let (day, mut issued) = (day(now), HashMap::new());
        for bearer in bearers {
            let recipient = &bearer.recipient;
            if recipient.limits.bytes_per_day.is_some() && !issued.contains_key(&recipient.id) {
                let bytes = tx.find_bytes_issued(recipient.id, day).await?;
                issued.insert(recipient.id, (u64::try_from(bytes).unwrap_or_default(), false));
            }
        }
        Ok(Self { day, issued })
    }

    /// Counts what `event` issues or delivers to `bearer`'s recipient, if it is still within the limit and was not counted
    /// before.
    pub(super) fn spend(&mut self, bearer: &Bearer, event: &Event, was_issued: bool) -> Result<(), Reason> {
        let Some(limit) = bearer.recipient.limits.bytes_per_day else { return Ok(()) };
        let Some((issued, is_changed)) = self.issued.get_mut(&bearer.recipient.id) else { return Ok(()) };
        let Some(bytes) = event.bytes.filter(|bytes| *bytes > 0 && !was_issued) else { return Ok(()) };
        let after = issued.saturating_add(bytes);
        if after > limit {
            return Err(Reason::BytesPerDay);
        }
        (*issued, *is_changed) = (after, true);
        Ok(())
    }

    /// Keeps what has changed.
    pub(super) async fn write(&self, tx: &mut Tx) -> Result<(), StoreError> {
        for (recipient_id, (bytes, _)) in self.issued.iter().filter(|(_, (_, is_changed))| *is_changed) {
            tx.update_bytes_issued(*recipient_id, self.day, i64::try_from(*bytes).unwrap_or(i64::MAX)).await?;
        }
        Ok(())
    }
}
