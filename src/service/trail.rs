//! Writing the audit trail: no event, no data.
//!
//! Concurrent requests share one commit. A batch locks the chain's head, reads again what each request stands on,
//! decides again with what it finds, and writes allow or deny. Whatever tightens writes its own event under the same
//! lock, so that no allowing event can follow a revocation. Never here: what an event says.

#![cfg_attr(feature = "benchmark-without-audit", allow(dead_code))]

use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Instant};

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
        decision::{Allowed, Bearer, Credential, Facts, Reason, Target, decide},
    },
    store::{Db, Footing, Ground, Line, StoreError, Tx},
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
    /// Whether the bytes that it is about were counted for its recipient when their URL was handed out.
    pub was_issued: bool,
}

impl Standing {
    /// What is read again of it.
    pub(super) fn footing(&self) -> Footing {
        let Self { credential, recipient_id, share_id, .. } = *self;
        Footing { credential, recipient_id, share_id, object_id: self.object.map(|(id, _)| id) }
    }

    /// Decides again on what is now where this stands.
    pub(super) fn decide<'a>(&self, ground: Option<&'a Ground>, now: DateTime<Utc>) -> Result<Allowed<'a>, Reason> {
        let target = match self.share_id {
            None => Target::Own,
            Some(_) => Target::Share(ground.and_then(|ground| ground.access.as_ref())),
        };
        let bearer = ground.and_then(|ground| ground.bearer.as_ref());
        let allowed = decide(Facts { now, address: self.address, bearer, target })?;
        let revision = ground.and_then(|ground| ground.object);
        let same_object = self.object.is_none_or(|(_, before)| revision == Some(before));
        if same_object && self.fits(&allowed) { Ok(allowed) } else { Err(Reason::AccessChanged) }
    }

    /// Whether what was prepared still fits what is allowed now: by the same grant, for no longer, to the same
    /// recipient. Otherwise the answer must be prepared again.
    fn fits(&self, allowed: &Allowed<'_>) -> bool {
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
        tokio::spawn(write_all(db.apart(Line::Trail), clock, metrics, signals, entries));
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
    let footings: HashSet<Footing> =
        waiting.iter().filter_map(|waiting| waiting.standing.as_ref()).map(Standing::footing).collect();
    let grounds = tx.find_grounds(&footings.into_iter().collect::<Vec<_>>()).await?;
    let now = clock.now();
    let bearers = grounds.values().filter_map(|ground| ground.bearer.as_ref());
    let mut quotas = Quotas::read(&mut tx, bearers, now).await?;
    let (mut used, mut sightings) = (HashSet::new(), Vec::new());
    let mut decisions = Vec::with_capacity(waiting.len());
    for (event, waiting) in events.iter_mut().zip(waiting) {
        let decision = match &waiting.standing {
            None => Ok(()),
            Some(standing) => {
                let allowed = standing.decide(grounds.get(&standing.footing()), now);
                let spent = allowed.and_then(|allowed| spend(standing, allowed.bearer, event, &mut quotas, now));
                spent.map(|token| {
                    used.extend(token);
                    sightings.push(Sighting {
                        recipient_id: standing.recipient_id,
                        recipient: event.recipient.clone().unwrap_or_default(),
                        address: standing.address,
                    });
                })
            }
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

/// Counts what `event` issues or delivers, and answers the token if its last use is to be noted anew.
fn spend(
    standing: &Standing,
    bearer: &Bearer,
    event: &Event,
    quotas: &mut Quotas,
    now: DateTime<Utc>,
) -> Result<Option<Uuid>, Reason> {
    quotas.spend(bearer, event, standing.was_issued)?;
    let is_noted = bearer.token.last_used_at.is_some_and(|at| now < at + USE_NOTED_EVERY);
    Ok(match standing.credential {
        Credential::Token(id) => (!is_noted).then_some(id),
        Credential::Identity { .. } => None,
    })
}
