//! Writing the audit trail: no event, no data.
//!
//! Concurrent requests share one commit. A batch locks the chain's head, reads again what each request stands on,
//! decides again with what it finds, and writes allow or deny. Whatever tightens writes its own event under the same
//! lock, so that no allowing event can follow a revocation. Never here: what an event says.

#![cfg_attr(feature = "benchmark-without-audit", allow(dead_code))]

use std::{
    collections::{HashSet, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use rand::Rng;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{
    domain::{
        access::decision::{Allowed, Bearer, Credential, Facts, Reason, Target, decide},
        audit::{Event, Outcome},
    },
    service::{
        core::{clock::Clock, error::ServiceError, lookup_batcher::gather, vitals::Vitals},
        insight::signals::{Sighting, Signals},
        sharing::quota::{Delivered, Quotas},
    },
    store::{AccessBasisIds, AccessFacts, Cause, Db, PoolRole, StoreError, Tx},
    telemetry::{Metrics, error_chain},
};

/// How many events wait for a commit before requests are turned away.
const QUEUE: usize = 4096;
/// How many events one commit takes.
const BATCH: usize = 512;

/// How many events that nobody waits for are kept while others have the chain.
const KEPT: usize = 4096;
/// How long is waited for something new before those are tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a token's last use stands before it is noted anew: one write a token and minute.
const USE_NOTED_EVERY: TimeDelta = TimeDelta::minutes(1);

/// How long a request waits for its event to last. Who revokes waits longer, and is first when the chain is free.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what was written shows that more can be.
const SHOWN_FOR: Duration = Duration::from_secs(1);
/// How long is waited for the proof that writing works again, once it did not.
const SECOND_PATIENCE: Duration = Duration::from_secs(1);
/// How much is written to see whether there is room: about as much as an event takes.
const FILLER: usize = 8192;

/// What an allowed request stands on; looked at again under the lock before the event is written.
#[derive(Clone, Debug)]
pub struct AccessBasis {
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
    /// What is read of a URL that was handed out, where that is what it is about.
    pub delivered: Option<Delivered>,
}

impl AccessBasis {
    /// What is read again of it.
    pub(in crate::service) fn ids(&self) -> AccessBasisIds {
        let Self { credential, recipient_id, share_id, .. } = *self;
        AccessBasisIds { credential, recipient_id, share_id, object_id: self.object.map(|(id, _)| id) }
    }

    /// Decides again on what is now where this stands.
    pub(in crate::service) fn decide<'a>(
        &self,
        facts: Option<&'a AccessFacts>,
        now: DateTime<Utc>,
    ) -> Result<Allowed<'a>, Reason> {
        let target = match self.share_id {
            None => Target::Own,
            Some(_) => Target::Share(facts.and_then(|facts| facts.access.as_ref())),
        };
        let bearer = facts.and_then(|facts| facts.bearer.as_ref());
        let allowed = decide(Facts { now, address: self.address, bearer, target })?;
        let revision = facts.and_then(|facts| facts.object);
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
pub struct AuditWriter {
    queue: mpsc::Sender<Entry>,
    /// Events that nobody waits for, so that the last ones are not lost when the server stops.
    later: TaskTracker,
    turns: Turns,
    condition: Arc<Condition>,
    metrics: Arc<Metrics>,
    /// Held by whoever asks the writer for a proof that it can write.
    proving: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
enum Entry {
    /// An event is to be written.
    Event(Box<(Event, Waiting)>),
    /// Somebody wants to know whether events could be written.
    Proof(oneshot::Sender<Result<(), Outage>>),
}

/// Who waits for an event to be durable, and what must still hold then.
#[derive(Debug)]
struct Waiting {
    basis: Option<AccessBasis>,
    /// Whether the event is written; where it is on record already, it is written as a refusal alone.
    is_told: bool,
    /// When nobody waits any more, and nothing is written; never where it has to be written all the same.
    until: Option<Instant>,
    reply: oneshot::Sender<Result<Result<(), Reason>, Outage>>,
}

/// The trail could not be written; no data may leave.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the audit trail could not be written ({cause}): {what}")]
struct Outage {
    cause: Cause,
    what: String,
}

impl Outage {
    fn of(error: &StoreError) -> Self {
        Self { cause: error.cause(), what: error_chain(error) }
    }

    fn silent(what: &str) -> Self {
        Self { cause: Cause::Silent, what: what.to_owned() }
    }
}

impl From<Outage> for ServiceError {
    fn from(outage: Outage) -> Self {
        Self::Unavailable { what: "the audit trail", source: outage.into() }
    }
}

/// How the last writing went.
#[derive(Debug, Default)]
struct Condition(Mutex<Option<Result<Instant, Cause>>>);

impl Condition {
    fn lock(&self) -> MutexGuard<'_, Option<Result<Instant, Cause>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_shown(&self) -> bool {
        matches!(*self.lock(), Some(Ok(at)) if at.elapsed() < SHOWN_FOR)
    }

    fn is_bad(&self) -> bool {
        matches!(*self.lock(), Some(Err(_)))
    }

    /// Remembers how it went, and tells what is new about it.
    fn note(&self, outcome: Result<(), &Outage>) {
        let noted = outcome.map(|()| Instant::now()).map_err(|outage| outage.cause);
        let before = self.lock().replace(noted);
        match (before, outcome) {
            (Some(Err(before)), Err(outage)) if before == outage.cause => {}
            (_, Err(outage)) => tracing::error!(cause = %outage.cause, error = %outage,
                "the audit trail cannot be written; every request is refused, and the server is not ready"),
            (Some(Err(_)), Ok(())) => tracing::info!("the audit trail is written again"),
            (_, Ok(())) => {}
        }
    }
}

/// The order of those who want the chain in this process: a change that came before a batch has it before the batch.
#[derive(Clone, Debug)]
struct Turns(Arc<watch::Sender<(u64, u64)>>);

/// The turn of a change, until it has the chain or gives up.
#[derive(Debug)]
pub(in crate::service) struct Turn(Turns);

impl Turns {
    fn take(&self) -> Turn {
        self.0.send_modify(|(came, _)| *came += 1);
        Turn(self.clone())
    }

    /// Waits for the changes that have come, as long as requests would; whether all have had their turn.
    async fn let_pass(&self) -> bool {
        let mut watched = self.0.subscribe();
        let (came, _) = *watched.borrow();
        timeout(PATIENCE, watched.wait_for(|(_, left)| *left >= came)).await.is_ok()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.send_modify(|(_, left)| *left += 1);
    }
}

impl AuditWriter {
    /// Starts the one writer of this process.
    pub fn start(db: Db, clock: Clock, metrics: Arc<Metrics>, signals: Arc<Signals>, vitals: &Vitals) -> Self {
        #[cfg(feature = "benchmark-without-audit")]
        tracing::error!("this build writes no audit trail: it is for benchmarks alone and must never serve anybody");
        let (queue, mut entries) = mpsc::channel(QUEUE);
        let (turns, condition) = (Turns(Arc::new(watch::Sender::new((0, 0)))), Arc::new(Condition::default()));
        let writer = Writer {
            db: db.apart(PoolRole::AuditWriter),
            id: Uuid::now_v7(),
            clock,
            metrics: Arc::clone(&metrics),
            signals,
            turns: turns.clone(),
            condition: Arc::clone(&condition),
        };
        let vitals = vitals.clone();
        tokio::spawn(
            async move { while vitals.watch("audit trail", writer.write_all(&mut entries)).await.is_none() {} },
        );
        Self { queue, later: TaskTracker::new(), turns, condition, metrics, proving: Arc::default() }
    }

    /// Has requests wait for a change that wants the chain, until it has it.
    pub(in crate::service) fn take_turn(&self) -> Turn {
        self.turns.take()
    }

    /// Whether the last writing failed.
    pub(in crate::service) fn was_refused(&self) -> bool {
        self.condition.is_bad()
    }

    /// Whether an event could be written now: what was written a moment ago shows it, or something is.
    pub async fn check(&self) -> Result<(), ServiceError> {
        let proof = async {
            let _alone = self.proving.lock().await;
            if self.condition.is_shown() {
                return Ok(());
            }
            let (reply, answer) = oneshot::channel();
            self.queue.try_send(Entry::Proof(reply)).map_err(|error| Outage::silent(&error.to_string()))?;
            answer.await.unwrap_or_else(|_| Err(Outage::silent("the writer ended")))
        };
        let patience = if self.condition.is_bad() { SECOND_PATIENCE } else { PATIENCE };
        let proven = timeout(patience, proof).await;
        Ok(proven.unwrap_or_else(|_| Err(Outage::silent("the database does not answer in time")))?)
    }

    /// Writes `event`, and answers once it is durable.
    pub async fn record(&self, event: Event) -> Result<(), ServiceError> {
        self.submit(event, None, true, Some(PATIENCE)).await.map(|_| ())
    }

    /// Writes `event` if what it stands on is still alive under the lock. Otherwise writes the refusal instead and
    /// answers its reason: nothing may be given out then.
    pub async fn record_allowed(&self, event: Event, basis: AccessBasis) -> Result<Result<(), Reason>, ServiceError> {
        self.submit(event, Some(basis), true, Some(PATIENCE)).await
    }

    /// The same for what is on record already and is only counted: `event` is written if it is refused.
    pub async fn count_allowed(&self, event: Event, basis: AccessBasis) -> Result<Result<(), Reason>, ServiceError> {
        self.submit(event, Some(basis), false, Some(PATIENCE)).await
    }

    /// Writes `event` without keeping anybody waiting: for what only tells how something already recorded went on. While
    /// others have the chain it is kept; what is lost all the same is counted.
    pub fn record_later(&self, event: Event) {
        let trail = self.clone();
        self.later.spawn(async move {
            if let Err(error) = trail.submit(event, None, true, None).await {
                trail.metrics.audit_event_lost();
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an event that tells of an answer's end could not be recorded"
                );
            }
        });
    }

    /// Waits until everything that was to be recorded later is.
    pub async fn finish(&self) {
        self.later.close();
        self.later.wait().await;
    }

    async fn submit(
        &self,
        event: Event,
        basis: Option<AccessBasis>,
        is_told: bool,
        patience: Option<Duration>,
    ) -> Result<Result<(), Reason>, ServiceError> {
        let (reply, answer) = oneshot::channel();
        let until = patience.map(|patience| Instant::now() + patience);
        let waiting = Waiting { basis, is_told, until, reply };
        let sent = self.queue.try_send(Entry::Event(Box::new((event, waiting))));
        sent.map_err(|error| Outage::silent(&error.to_string()))?;
        let answer = match patience {
            Some(patience) => timeout(patience, answer).await,
            None => Ok(answer.await),
        };
        let answer = answer.map_err(|_| Outage::silent("the audit chain was not free in time"))?;
        Ok(answer.map_err(|_| Outage::silent("the writer ended"))??)
    }
}

/// Writes the event of an operator's change in the transaction that makes the change.
pub async fn append(tx: &mut Tx, event: Event, now: DateTime<Utc>) -> Result<(), StoreError> {
    let mut head = tx.lock_audit_head().await?;
    tx.append_audit(&mut head, &[event], now).await?;
    Ok(())
}

/// What writes the events of this process's requests.
struct Writer {
    db: Db,
    /// What it proves by that it can write.
    id: Uuid,
    clock: Clock,
    metrics: Arc<Metrics>,
    signals: Arc<Signals>,
    turns: Turns,
    condition: Arc<Condition>,
}

impl Writer {
    async fn write_all(&self, entries: &mut mpsc::Receiver<Entry>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut kept: VecDeque<(Event, Waiting)> = VecDeque::new();
        loop {
            let again = kept.len().min(BATCH / 2);
            let gathered = gather(entries, &mut batch, BATCH - again);
            let gathered = if again == 0 { Ok(gathered.await) } else { timeout(PAUSE, gathered).await };
            if gathered == Ok(0) {
                return;
            }
            batch.extend(kept.drain(..again).map(|entry| Entry::Event(Box::new(entry))));
            let is_free = self.turns.let_pass().await;
            let started = Instant::now();
            let (mut events, mut waiting, mut proofs) = (Vec::with_capacity(batch.len()), Vec::new(), Vec::new());
            for entry in batch.drain(..) {
                match entry {
                    Entry::Proof(reply) => proofs.push(reply),
                    // Its request was refused: nothing happened.
                    Entry::Event(late) if late.1.until.is_some_and(|until| until <= started) => {}
                    Entry::Event(entry) => {
                        events.push(entry.0);
                        waiting.push(entry.1);
                    }
                }
            }
            if events.is_empty() && proofs.is_empty() {
                continue;
            }
            let outcome = if is_free {
                self.write(&mut events, &waiting).await.map_err(|error| Outage::of(&error))
            } else {
                let what = "changes wait for the audit chain, and go first".to_owned();
                Err(Outage { cause: Cause::Locked, what })
            };
            if !events.is_empty() {
                self.metrics.audit_committed(events.len(), started.elapsed());
            }
            self.condition.note(outcome.as_ref().map(|_| ()));
            for proof in proofs {
                // Whoever asked may have gone.
                let _ = proof.send(outcome.as_ref().map(|_| ()).map_err(Outage::clone));
            }
            match outcome {
                Ok(decisions) => {
                    for (waiting, decision) in waiting.into_iter().zip(decisions) {
                        // A caller that went away needs no answer; its event stands.
                        let _ = waiting.reply.send(Ok(decision));
                    }
                }
                Err(outage) => {
                    // Behind a lock nothing was written for certain, and it is free again soon.
                    let is_soon = outage.cause == Cause::Locked;
                    for (event, waiting) in events.into_iter().zip(waiting) {
                        if is_soon && waiting.until.is_none() && kept.len() < KEPT {
                            kept.push_back((event, waiting));
                        } else {
                            let _ = waiting.reply.send(Err(outage.clone()));
                        }
                    }
                }
            }
        }
    }

    async fn write(&self, events: &mut Vec<Event>, waiting: &[Waiting]) -> Result<Vec<Result<(), Reason>>, StoreError> {
        if events.is_empty() {
            self.prove().await
        } else {
            write_batch(&self.db, &self.clock, &self.signals, events, waiting).await
        }
    }

    /// Does all that writing events takes, and writes none: takes the chain's head, and as much room as an event.
    async fn prove(&self) -> Result<Vec<Result<(), Reason>>, StoreError> {
        let mut filler = vec![0; FILLER];
        // What cannot be compressed.
        rand::rng().fill_bytes(&mut filler);
        let mut tx = self.db.begin().await?;
        tx.lock_audit_head().await?;
        tx.write_filler(self.id, self.clock.now(), &filler).await?;
        tx.commit().await?;
        Ok(Vec::new())
    }
}

/// What a batch costs without the trail: a transaction that does nothing. Only a benchmark is ever built like this; see
/// `benches/report/small.py`.
#[cfg(feature = "benchmark-without-audit")]
async fn write_batch(
    db: &Db,
    _clock: &Clock,
    _signals: &Signals,
    _events: &mut Vec<Event>,
    waiting: &[Waiting],
) -> Result<Vec<Result<(), Reason>>, StoreError> {
    let mut tx = db.begin().await?;
    tx.ping().await?;
    tx.commit().await?;
    Ok(vec![Ok(()); waiting.len()])
}

#[cfg(not(feature = "benchmark-without-audit"))]
async fn write_batch(
    db: &Db,
    clock: &Clock,
    signals: &Signals,
    events: &mut Vec<Event>,
    waiting: &[Waiting],
) -> Result<Vec<Result<(), Reason>>, StoreError> {
    let mut tx = db.begin().await?;
    let mut head = tx.lock_audit_head().await?;
    let ids: HashSet<AccessBasisIds> =
        waiting.iter().filter_map(|waiting| waiting.basis.as_ref()).map(AccessBasis::ids).collect();
    let facts = tx.find_access_facts(&ids.into_iter().collect::<Vec<_>>()).await?;
    let now = clock.now();
    let bearers = facts.values().filter_map(|facts| facts.bearer.as_ref());
    let standings = waiting.iter().filter_map(|waiting| waiting.basis.as_ref());
    let read = standings.filter_map(|basis| Some((basis.recipient_id, basis.delivered?.url)));
    let mut quotas = Quotas::read(&mut tx, bearers, read, now).await?;
    let (mut used, mut sightings) = (HashSet::new(), Vec::new());
    let mut decisions = Vec::with_capacity(waiting.len());
    for (event, waiting) in events.iter_mut().zip(waiting) {
        let decision = match &waiting.basis {
            None => Ok(()),
            Some(basis) => {
                let allowed = basis.decide(facts.get(&basis.ids()), now);
                let spent = allowed.and_then(|allowed| spend(basis, allowed.bearer, event, &mut quotas, now));
                spent.map(|token| {
                    used.extend(token);
                    sightings.push(Sighting {
                        recipient_id: basis.recipient_id,
                        recipient: event.recipient.clone().unwrap_or_default(),
                        address: basis.address,
                    });
                })
            }
        };
        if let Err(reason) = decision {
            refuse(event, reason);
        }
        decisions.push(decision);
    }
    let mut told = waiting.iter().zip(&decisions).map(|(waiting, decision)| waiting.is_told || decision.is_err());
    events.retain(|_| told.next().unwrap_or(true));
    if !events.is_empty() {
        tx.append_audit(&mut head, events, now).await?;
    }
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
    basis: &AccessBasis,
    bearer: &Bearer,
    event: &Event,
    quotas: &mut Quotas,
    now: DateTime<Utc>,
) -> Result<Option<Uuid>, Reason> {
    quotas.spend(bearer, event, basis.delivered.as_ref())?;
    // One that is ahead was noted by a clock that was.
    let is_noted = bearer.token.last_used_at.is_some_and(|at| (now - at).abs() < USE_NOTED_EVERY);
    Ok(match basis.credential {
        Credential::Token(id) => (!is_noted).then_some(id),
        Credential::Identity { .. } => None,
    })
}

#[cfg(all(test, not(feature = "benchmark-without-audit")))]
mod tests {
    use super::*;
    use crate::{
        config::{Settings, Sources},
        domain::audit::Actor,
    };

    fn event(action: &'static str) -> Event {
        Event::new(Actor::system("test"), action)
    }

    #[tokio::test]
    async fn requests_wait_for_a_change_that_came_before_them_although_the_chain_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::connect(&format!("sqlite://{}/weir.db", folder.path().display()), 4).await.unwrap();
        db.migrate().await.unwrap();
        let settings = Settings::load(Sources::default()).unwrap();
        let signals = Arc::new(Signals::new(settings.notify, &settings.audit).unwrap());
        let vitals = Vitals::default();
        let trail = AuditWriter::start(db.clone(), Clock::system(), Arc::new(Metrics::new([])), signals, &vitals);
        // A change that has come and is not at the chain yet, such as one that waits for a connection.
        let turn = trail.take_turn();
        let mut reads = Box::pin(futures::future::join_all((0..8).map(|_| trail.record(event("read")))));
        let early = timeout(Duration::from_millis(500), &mut reads).await;
        assert!(early.is_err(), "no read goes first: {early:?}");
        let mut tx = db.begin().await.unwrap();
        append(&mut tx, event("revoke"), Utc::now()).await.unwrap();
        tx.commit().await.unwrap();
        drop(turn);
        assert!(reads.await.iter().all(Result::is_ok));
        let written = db.list_audit(&crate::store::AuditFilter::default(), 100).await.unwrap();
        let revoked: Vec<i64> =
            written.iter().filter(|event| event.body.contains("revoke")).map(|event| event.seq).collect();
        assert_eq!((revoked, written.len()), (vec![1], 9));
    }
}
