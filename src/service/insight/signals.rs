//! Finds what operators should be told without asking, once each: ends that come near, recipients' new networks, bursts
//! of refusals, a trail that is sealed or exported late, schemas on hold, freezes.
//!
//! A signal is queued for each webhook that wants its kind, in the transaction of its cause if there is one. Timers
//! find the same signal again on every replica; the queue keeps it once. Never here: sending, which is in
//! `notifications`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    config::{AuditSettings, NotifySettings},
    domain::{
        access::limits::{minute, span},
        insight::signal::{Signal, SignalKind, network_of},
    },
    notify::{Messenger, NotifyError},
    service::core::error::ServiceError,
    store::{Db, StoreError, StoredEvent, Tx},
};

/// The most signals that one transaction queues.
const TOLD_AT_ONCE: usize = 100;
/// The most entries that each memory keeps; what is forgotten is looked up in the database again.
const MOST_REMEMBERED: usize = 50_000;
/// The most pairs of minute and caller for which refusals are counted.
const MOST_TALLIES: usize = 20_000;
/// The most networks of one recipient that are told; for a recipient that is everywhere, a new one means nothing.
const MOST_NETWORKS: i64 = 1_000;

/// Knows which webhooks want which signals, and remembers what was told.
#[derive(Debug)]
pub struct Signals {
    pub(in crate::service) settings: NotifySettings,
    pub(in crate::service) messenger: Messenger,
    /// The age from which an event without a checkpoint is late.
    pub(super) sealed_within: TimeDelta,
    /// The age from which an unexported checkpoint is late; `None` without an export.
    pub(super) exported_within: Option<TimeDelta>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    told: HashSet<(SignalKind, String, String)>,
    /// The day on which a recipient was last stored with a network.
    networks: HashMap<(Uuid, IpNet), i64>,
    pub(super) denials: Denials,
}

/// The refusals of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Denials {
    /// The newest event counted.
    pub(super) after: Option<i64>,
    /// The counts by minute and recipient; without a recipient, those of unknown callers and of operators.
    tallies: BTreeMap<(i64, Option<Uuid>), Tally>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) recipient: Option<String>,
    pub(super) count: u64,
    pub(super) reasons: BTreeMap<String, u64>,
}

/// A recipient's allowed request and where it came from.
#[derive(Clone, Debug)]
pub(in crate::service) struct Sighting {
    pub(in crate::service) recipient_id: Uuid,
    pub(in crate::service) recipient: String,
    pub(in crate::service) address: IpAddr,
}

impl Signals {
    /// Creates the signals for these webhooks, with the limits of this trail's settings.
    pub fn new(settings: NotifySettings, audit: &AuditSettings) -> Result<Self, NotifyError> {
        let late = span(settings.checkpoint_late_seconds);
        Ok(Self {
            messenger: Messenger::new(&settings.webhook)?,
            settings,
            sealed_within: span(audit.checkpoint_seconds) + late,
            exported_within: audit.export.url.as_ref().map(|_| late),
            memory: Mutex::default(),
        })
    }

    /// The names of the webhooks.
    pub fn webhooks(&self) -> impl Iterator<Item = &str> {
        self.settings.webhook.iter().map(|webhook| webhook.name.as_str())
    }

    /// Whether any webhook wants signals of this kind.
    pub(in crate::service) fn want(&self, kind: SignalKind) -> bool {
        self.settings.webhook.iter().any(|webhook| webhook.wants(kind))
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `signal` for every webhook that wants it, unless it was told before.
    pub(in crate::service) async fn tell(
        &self,
        tx: &mut Tx,
        signal: &Signal,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        for webhook in self.settings.webhook.iter().filter(|webhook| webhook.wants(signal.kind)) {
            tx.insert_notification(&webhook.name, signal, now).await?;
        }
        Ok(())
    }

    /// Stores where recipients read from and tells new networks. Returns what to remember once the transaction is
    /// committed.
    pub(in crate::service) async fn note_networks(
        &self,
        tx: &mut Tx,
        sightings: &[Sighting],
        now: DateTime<Utc>,
    ) -> Result<Vec<(Uuid, IpNet)>, StoreError> {
        let mut noted: Vec<(Uuid, IpNet)> = Vec::new();
        if !self.want(SignalKind::NetworkFirstSeen) {
            return Ok(noted);
        }
        for Sighting { recipient_id, recipient, address } in sightings {
            let seen = (*recipient_id, network_of(*address));
            if noted.contains(&seen) || self.memory().networks.get(&seen) == Some(&day(now)) {
                continue;
            }
            let (known, is_known) = tx.find_networks(seen.0, seen.1).await?;
            if is_known || known < MOST_NETWORKS {
                tx.note_network(seen.0, seen.1, now).await?;
            }
            if !is_known && known < MOST_NETWORKS {
                let signal = first_seen(*recipient_id, recipient, seen.1, known, now);
                self.tell(tx, &signal, now).await?;
            }
            noted.push(seen);
        }
        Ok(noted)
    }

    /// Remembers what [`Self::note_networks`] returned, once it is committed.
    pub(in crate::service) fn remember_networks(&self, noted: Vec<(Uuid, IpNet)>, now: DateTime<Utc>) {
        let mut memory = self.memory();
        if memory.networks.len() >= MOST_REMEMBERED {
            memory.networks.clear();
        }
        memory.networks.extend(noted.into_iter().map(|seen| (seen, day(now))));
    }

    /// Queues the signals that were not told before.
    pub(in crate::service) async fn tell_once(
        &self,
        db: &Db,
        mut signals: Vec<Signal>,
        now: DateTime<Utc>,
    ) -> Result<(), ServiceError> {
        let key = |signal: &Signal| (signal.kind, signal.subject.clone(), signal.mark.clone());
        {
            let mut memory = self.memory();
            if memory.told.len() >= MOST_REMEMBERED {
                memory.told.clear();
            }
            signals.retain(|signal| !memory.told.contains(&key(signal)));
        }
        for signals in signals.chunks(TOLD_AT_ONCE) {
            let mut tx = db.begin().await?;
            for signal in signals {
                self.tell(&mut tx, signal, now).await?;
            }
            tx.commit().await?;
            self.memory().told.extend(signals.iter().map(key));
        }
        Ok(())
    }
}

fn day(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(86_400)
}

fn first_seen(recipient_id: Uuid, recipient: &str, network: IpNet, known: i64, now: DateTime<Utc>) -> Signal {
    Signal {
        kind: SignalKind::NetworkFirstSeen,
        subject: recipient_id.to_string(),
        // A network that was erased and returns is new again.
        mark: format!("{network} {}", day(now)),
        data: json!({
            "recipient": recipient, "recipient_id": recipient_id, "network": network.to_string(), "known_networks": known,
        }),
    }
}

impl Denials {
    /// Counts a refusal, or all refusals that a summary event stands for.
    pub(super) fn add(&mut self, event: &StoredEvent) {
        let Ok(body) = serde_json::from_str::<Value>(&event.body) else { return };
        let text = |name: &str| body[name].as_str();
        let at = text("at").and_then(|at| DateTime::parse_from_rfc3339(at).ok()).map(|at| at.to_utc());
        let Some(at) = at else { return };
        let recipient_id = text("recipient_id").and_then(|id| Uuid::parse_str(id).ok());
        let key = (minute(at), recipient_id);
        if self.tallies.len() >= MOST_TALLIES && !self.tallies.contains_key(&key) {
            return;
        }
        let tally = self.tallies.entry(key).or_default();
        let count = body["change"]["count"].as_u64().filter(|_| body["change"]["refused"].is_string()).unwrap_or(1);
        tally.recipient = text("recipient").map(str::to_owned);
        tally.count = tally.count.saturating_add(count);
        *tally.reasons.entry(text("reason").unwrap_or("OTHER").to_owned()).or_default() += count;
    }

    /// Forgets the minutes before `since` and sums up the rest by recipient.
    pub(super) fn sums(&mut self, since: DateTime<Utc>) -> HashMap<Option<Uuid>, Tally> {
        let first = minute(since);
        self.tallies.retain(|(at, _), _| *at > first);
        let mut sums: HashMap<Option<Uuid>, Tally> = HashMap::new();
        for ((_, recipient_id), tally) in &self.tallies {
            let sum = sums.entry(*recipient_id).or_default();
            sum.recipient.clone_from(&tally.recipient);
            sum.count = sum.count.saturating_add(tally.count);
            for (reason, count) in &tally.reasons {
                *sum.reasons.entry(reason.clone()).or_default() += count;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(seq: i64, at: &str, more: Value) -> StoredEvent {
        let mut body = json!({"at": at, "reason": "TOKEN_UNKNOWN"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        StoredEvent { seq, prev_hash: [0; 32], hash: [0; 32], body: body.to_string(), personal: None }
    }

    #[test]
    fn refusals_are_summed_by_caller_within_the_window() {
        let (mut denials, acme) = (Denials::default(), Uuid::from_u128(1));
        for (seq, at) in ["10:00:10", "10:02:00", "10:02:59"].into_iter().enumerate() {
            denials.add(&refusal(seq as i64, &format!("2026-09-01T{at}Z"), json!({})));
        }
        let of_acme = json!({"recipient": "acme", "recipient_id": acme, "reason": "GRANT_EXPIRED"});
        denials.add(&refusal(4, "2026-09-01T10:01:00Z", of_acme));
        let summary = json!({"change": {"refused": "shares.list", "count": 40}});
        denials.add(&refusal(5, "2026-09-01T10:03:00Z", summary));
        let sums = denials.sums("2026-09-01T10:00:30Z".parse().unwrap());
        assert_eq!(sums[&None].count, 42, "the first is out of the window");
        assert_eq!(sums[&None].reasons["TOKEN_UNKNOWN"], 42);
        assert_eq!((sums[&Some(acme)].count, sums[&Some(acme)].recipient.as_deref()), (1, Some("acme")));
        assert!(denials.sums("2026-09-01T10:03:00Z".parse().unwrap()).is_empty());
    }
}
