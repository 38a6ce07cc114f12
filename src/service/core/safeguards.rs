//! Remembers since when settings that restrict sharing are off: each start of a server records what is no longer as it was
//! recorded last. Servers with different settings record a change at each of their starts.
//!
//! Never here: which settings these are.

use chrono::{SubsecRound, TimeDelta};
use serde_json::json;

use crate::{
    domain::{
        audit::{
            Actor, Event, Object,
            action::{Action, Kind},
        },
        core::safeguard::{Safeguard, SafeguardRecord},
    },
    service::audit::write,
    store::StoreError,
};

use super::Core;

impl Core {
    /// Records the values that settings have from this start on, where they differ from what was recorded last, and tells the
    /// metrics which are off since when. A change is an event; the first value of a setting is none.
    pub async fn remember_safeguards(&self, safeguards: &[Safeguard]) -> Result<(), StoreError> {
        let mut changed = Vec::new();
        for safeguard in safeguards {
            let last = self.db.find_safeguard(safeguard.setting).await?;
            match last.filter(|last| is_as(last, safeguard)) {
                Some(last) => self.tell_safeguard(safeguard, &last),
                None => changed.push(safeguard),
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin_change().await?;
        tx.lock_audit_head().await?;
        let now = self.clock.now().trunc_subsecs(6);
        let mut told = Vec::new();
        for safeguard in changed {
            let Safeguard { setting, value, is_off } = safeguard;
            let last = tx.find_safeguard(setting).await?;
            if let Some(last) = last.clone().filter(|last| is_as(last, safeguard)) {
                told.push((safeguard, last));
                continue;
            }
            // A clock that was ahead has recorded the last one.
            let since = last.as_ref().map_or(now, |last| now.max(last.since + TimeDelta::microseconds(1)));
            tx.insert_safeguard(setting, since, value, *is_off).await?;
            if let Some(last) = &last {
                let object = Object { kind: Kind::Setting, id: None, name: Some((*setting).to_owned()) };
                let change = json!({"before": {"value": last.value}, "after": {"value": value}});
                let event = Event {
                    object: Some(object),
                    change: Some(change),
                    ..Event::new(Actor::system("settings"), Action::SettingUpdate)
                };
                write::append(&mut tx, event, now).await?;
            }
            let record =
                SafeguardRecord { setting: (*setting).to_owned(), since, value: value.clone(), is_off: *is_off };
            told.push((safeguard, record));
        }
        tx.commit().await?;
        told.iter().for_each(|(safeguard, record)| self.tell_safeguard(safeguard, record));
        Ok(())
    }

    fn tell_safeguard(&self, safeguard: &Safeguard, record: &SafeguardRecord) {
        if safeguard.is_off {
            self.metrics.safeguard_is_off(safeguard.setting, record.since.timestamp());
        }
    }
}

fn is_as(record: &SafeguardRecord, safeguard: &Safeguard) -> bool {
    record.value == safeguard.value && record.is_off == safeguard.is_off
}
