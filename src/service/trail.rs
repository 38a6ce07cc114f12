//! Writing the audit trail: no event, no data.
//!
//! Concurrent requests share one commit. A batch locks the chain's head, reads again what each request stands on,
//! decides again with what it finds, and writes allow or deny. Whatever tightens writes its own event under the same
//! lock, so that no allowing event can follow a revocation. Never here: what an event says.

#![cfg_attr(feature = "benchmark-without-audit", allow(dead_code))]

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    clock::Clock,
    desk::gather,
    error::ServiceError,
    quota::Quotas,
    signals::{Sighting, Signals},
};
use crate::{
    domain::{
        audit::{Event, Outcome},
        decision::{Allowed, Bearer, Credential, Facts, Reason, ShareAccess, Target, decide},
    },
    store::{Db, StoreError, Tx},
    telemetry::Metrics,
};

/// How many events wait for a commit before requests are turned away.
const QUEUE: usize = 4096;
/// How many events one commit takes.
const BATCH: usize = 512;

/// How long a token's last use stands before it is noted anew: one write a token and minute.
const USE_NOTED_EVERY: TimeDelta = TimeDelta::minutes(1);

/// What an allowed request stands on; looked at again under the lock before the event is written.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What shows who asks.
    pub credential: Credential,
    /// The recipient whose it is.
    pub recipient_id: Uuid,
    /// The recipient's revision that delivery was chosen by.
    pub recipient_revision: i64,
    /// The share that it reads, if it reads one.
    pub share_id: Option<Uuid>,
    /// The grant that allows, where one is needed.
    pub grant_id: Option<Uuid>,
    /// When what it stands on ended by itself, as it was when URLs were given their end.
    pub until: Option<DateTime<Utc>>,
    /// The object that it reads and its revision, if it reads one.
    pub object: Option<(Uuid, i64)>,
    /// Where the request came from.
    pub address: IpAddr,
}

impl Standing {
    /// Whether what was prepared still fits what is allowed now: by the same grant, for no longer, to the same
    /// recipient. Otherwise the answer must be prepared again.
    pub(super) fn fits(&self, allowed: &Allowed<'_>) -> bool {
        let shorter = match (self.until, allowed.until()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(before), Some(now)) => now < before,
        };
        let same_grant = self.share_id.is_none() || allowed.grant.map(|grant| grant.id) == self.grant_id;
        same_grant && !shorter && allowed.bearer.recipient.revision == self.recipient_revision
    }
}

/// The way into the audit trail for requests.
#[derive(Clone, Debug)]
pub struct Trail {
    queue: mpsc::Sender<Entry>,
    /// Events that nobody waits for, so that the last ones are not lost when the server stops.
    later: TaskTracker,
}

#[derive(Debug)]
struct Entry {
    event: Event,
    waiting: Waiting,
}

/// Who waits for an event to be durable, and what must still hold then.
#[derive(Debug)]
struct Waiting {
    standing: Option<Standing>,
    reply: oneshot::Sender<Result<Result<(), Reason>, Outage>>,
}

/// The trail could not be written; no data may leave.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the audit trail could not be written: {0}")]
struct Outage(String);

impl Trail {
    /// Starts the one writer of this process.
    pub fn start(db: Db, clock: Clock, metrics: Arc<Metrics>, signals: Arc<Signals>) -> Self {
        #[cfg(feature = "benchmark-without-audit")]
        tracing::error!("this build writes no audit trail: it is for benchmarks alone and must never serve anybody");
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(write_all(db, clock, metrics, signals, entries));
        Self { queue, later: TaskTracker::new() }
    }

    /// Writes `event`, and answers once it is durable.
    pub async fn record(&self, event: Event) -> Result<(), ServiceError> {
        self.submit(event, None).await.map(|_| ())
    }

    /// Writes `event` if what it stands on is still alive under the lock. Otherwise writes the refusal instead and
    /// answers its reason: nothing may be given out then.
    pub async fn record_allowed(&self, event: Event, standing: Standing) -> Result<Result<(), Reason>, ServiceError> {
        self.submit(event, Some(standing)).await
    }

    /// Writes `event` without keeping anybody waiting: for what only tells how something already recorded went on.
    pub fn record_later(&self, event: Event) {
        let trail = self.clone();
        self.later.spawn(async move {
            if let Err(error) = trail.record(event).await {
                tracing::error!(error = %error, "an event that tells of an answer's end could not be recorded");
            }
        });
    }

    /// Waits until everything that was to be recorded later is.
    pub async fn finish(&self) {
        self.later.close();
        self.later.wait().await;
    }

    async fn submit(&self, event: Event, standing: Option<Standing>) -> Result<Result<(), Reason>, ServiceError> {
        let (reply, answer) = oneshot::channel();
        let unavailable = |source: Outage| ServiceError::Unavailable { what: "the audit trail", source: source.into() };
        let entry = Entry { event, waiting: Waiting { standing, reply } };
        self.queue.try_send(entry).map_err(|error| unavailable(Outage(error.to_string())))?;
        match answer.await {
            Ok(outcome) => outcome.map_err(unavailable),
            Err(_) => Err(unavailable(Outage("the writer ended".into()))),
        }
    }
}

/// Writes the event of an operator's change in the transaction that makes the change.
pub async fn append(tx: &mut Tx, event: Event, now: DateTime<Utc>) -> Result<(), StoreError> {
    let mut head = tx.lock_audit_head().await?;
    tx.append_audit(&mut head, &[event], now).await?;
    Ok(())
}

async fn write_all(
    db: Db,
    clock: Clock,
    metrics: Arc<Metrics>,
    signals: Arc<Signals>,
    mut entries: mpsc::Receiver<Entry>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while gather(&mut entries, &mut batch, BATCH).await > 0 {
        let started = Instant::now();
        let (mut events, waiting): (Vec<Event>, Vec<Waiting>) =
            batch.drain(..).map(|entry| (entry.event, entry.waiting)).unzip();
        let outcome = write_batch(&db, &clock, &signals, &mut events, &waiting).await;
        metrics.audit_committed(events.len(), started.elapsed());
        match outcome {
            Ok(decisions) => {
                for (waiting, decision) in waiting.into_iter().zip(decisions) {
                    // A caller that went away needs no answer; its event stands.
                    let _ = waiting.reply.send(Ok(decision));
                }
            }
            Err(error) => {
                tracing::error!(error = %error, events = events.len(), "audit batch failed; its requests are refused");
                for waiting in waiting {
                    let _ = waiting.reply.send(Err(Outage(error.to_string())));
                }
            }
        }
    }
}

/// What a batch costs without the trail: a transaction that does nothing. Only a benchmark is ever built like this; see
/// `benches/audit_cost.py`.
#[cfg(feature = "benchmark-without-audit")]
async fn write_batch(
    db: &Db,
    _clock: &Clock,
    _signals: &Signals,
    events: &mut [Event],
    _waiting: &[Waiting],
) -> Result<Vec<Result<(), Reason>>, StoreError> {
    let mut tx = db.begin().await?;
    tx.ping().await?;
    tx.commit().await?;
    Ok(vec![Ok(()); events.len()])
}

#[cfg(not(feature = "benchmark-without-audit"))]
async fn write_batch(
    db: &Db,
    clock: &Clock,
    signals: &Signals,
    events: &mut [Event],
    waiting: &[Waiting],
) -> Result<Vec<Result<(), Reason>>, StoreError> {
    let mut tx = db.begin().await?;
    let mut head = tx.lock_audit_head().await?;
    let live = Live::read(&mut tx, waiting).await?;
    let now = clock.now();
    let mut quotas = Quotas::read(&mut tx, live.bearers.values(), now).await?;
    let (mut used, mut sightings) = (HashSet::new(), Vec::new());
    let mut decisions = Vec::with_capacity(waiting.len());
    for (event, waiting) in events.iter_mut().zip(waiting) {
        let decision = match &waiting.standing {
            None => Ok(()),
            Some(standing) => live.allow(standing, event, &mut quotas, now).map(|token| {
                used.extend(token);
                sightings.push(Sighting {
                    recipient_id: standing.recipient_id,
                    recipient: event.recipient.clone().unwrap_or_default(),
                    address: standing.address,
                });
            }),
        };
        if let Err(reason) = decision {
            refuse(event, reason);
        }
        decisions.push(decision);
    }
    tx.append_audit(&mut head, events, now).await?;
    quotas.write(&mut tx).await?;
    tx.update_tokens_used(&used.into_iter().collect::<Vec<_>>(), now).await?;
    let noted = signals.note_networks(&mut tx, &sightings, now).await?;
    tx.commit().await?;
    signals.remember_networks(noted, now);
    Ok(decisions)
}

/// Turns an allowing event into the record of its refusal: what would have been disclosed was not.
fn refuse(event: &mut Event, reason: Reason) {
    event.decision = Outcome::Deny;
    event.reason = Some(reason.code().into());
    (event.files, event.rows, event.bytes, event.url_expires_at) = (None, None, None, None);
}

/// Credentials and grants as they are under the lock.
struct Live {
    bearers: HashMap<Credential, Bearer>,
    /// By recipient and share.
    accesses: HashMap<(Uuid, Uuid), ShareAccess>,
    /// The revisions of those objects that are still shared.
    objects: HashMap<Uuid, i64>,
}

impl Live {
    async fn read(tx: &mut Tx, waiting: &[Waiting]) -> Result<Self, StoreError> {
        let standings = || waiting.iter().filter_map(|waiting| waiting.standing.as_ref());
        let credentials: HashSet<Credential> = standings().map(|standing| standing.credential).collect();
        let pairs: HashSet<(Uuid, Uuid)> =
            standings().filter_map(|standing| Some((standing.recipient_id, standing.share_id?))).collect();
        let pairs: Vec<(Uuid, Uuid)> = pairs.into_iter().collect();
        let object_ids: HashSet<Uuid> = standings().filter_map(|standing| Some(standing.object?.0)).collect();
        let mut objects = HashMap::with_capacity(object_ids.len());
        for id in object_ids {
            if let Some((_, object, _)) = tx.find_object_by_id(id).await? {
                objects.insert(id, object.revision);
            }
        }
        let (bearers, accesses) = (find_bearers(tx, credentials).await?, tx.find_share_accesses(&pairs).await?);
        Ok(Self { bearers, accesses, objects })
    }

    /// Decides, and counts what `event` issues; answers the token if its last use is to be noted anew.
    fn allow(
        &self,
        standing: &Standing,
        event: &Event,
        quotas: &mut Quotas,
        now: DateTime<Utc>,
    ) -> Result<Option<Uuid>, Reason> {
        self.decide(standing, now)?;
        let Some(bearer) = self.bearers.get(&standing.credential) else { return Ok(None) };
        quotas.spend(bearer, event)?;
        let is_noted = bearer.token.last_used_at.is_some_and(|at| now < at + USE_NOTED_EVERY);
        Ok(match standing.credential {
            Credential::Token(id) => (!is_noted).then_some(id),
            Credential::Identity { .. } => None,
        })
    }

    fn decide(&self, standing: &Standing, now: DateTime<Utc>) -> Result<(), Reason> {
        let target = match standing.share_id {
            None => Target::Own,
            Some(share_id) => Target::Share(self.accesses.get(&(standing.recipient_id, share_id))),
        };
        let bearer = self.bearers.get(&standing.credential);
        let allowed = decide(Facts { now, address: standing.address, bearer, target })?;
        let same_object = standing.object.is_none_or(|(id, revision)| self.objects.get(&id) == Some(&revision));
        if same_object && standing.fits(&allowed) { Ok(()) } else { Err(Reason::AccessChanged) }
    }
}

async fn find_bearers(
    tx: &mut Tx,
    credentials: HashSet<Credential>,
) -> Result<HashMap<Credential, Bearer>, StoreError> {
    let (mut token_ids, mut identity_ids) = (Vec::new(), Vec::new());
    for credential in &credentials {
        match credential {
            Credential::Token(id) => token_ids.push(*id),
            Credential::Identity { id, .. } => identity_ids.push(*id),
        }
    }
    let (mut tokens, holders) = (tx.find_bearers(&token_ids).await?, tx.find_holders(&identity_ids).await?);
    let found = credentials.into_iter().filter_map(|credential| {
        let bearer = match credential {
            Credential::Token(id) => tokens.remove(&id),
            Credential::Identity { id, until } => holders.get(&id).cloned().and_then(|holder| holder.bearer(until)),
        };
        Some((credential, bearer?))
    });
    Ok(found.collect())
}
