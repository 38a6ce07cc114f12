//! Writes the audit trail: no event, no data.
//!
//! Concurrent requests share one commit. A batch locks the chain's head, reads again what each request's access basis
//! refers to, decides again, and writes allow or deny. A change that tightens access writes its event under the same
//! lock, so no allow can follow a revocation. Never here: what an event says.

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
        access::{
            decision::{Allowed, Bearer, Credential, Facts, Reason, Target, decide},
            geography::Geography,
        },
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

/// The most events that wait for a commit; beyond that, requests are refused.
const QUEUE: usize = 4096;
/// The most events in one commit.
const BATCH: usize = 512;

/// The most events without a waiting caller that are kept while the chain is locked.
const KEPT: usize = 4096;
/// How long the writer waits for new events before it retries those.
const PAUSE: Duration = Duration::from_secs(1);

/// How old a token's last use must be before it is updated: at most one write per token and minute.
const USE_NOTED_EVERY: TimeDelta = TimeDelta::minutes(1);

/// How long a request waits for its event to be durable. Revocations wait longer and go first.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a successful write counts as proof that writing works.
const SHOWN_FOR: Duration = Duration::from_secs(1);
/// How long a check waits for proof after a failed write.
const SECOND_PATIENCE: Duration = Duration::from_secs(1);
/// The size of the test write, in bytes: about that of an event.
const FILLER: usize = 8192;

/// What an allowed request stands on; checked again under the lock before the event is written.
#[derive(Clone, Debug)]
pub struct AccessBasis {
    /// The credential that authenticated the caller.
    pub credential: Credential,
    /// The recipient that the credential belongs to.
    pub recipient_id: Uuid,
    /// The recipient's revision when delivery was chosen.
    pub recipient_revision: i64,
    /// The share that the request reads, if any.
    pub share_id: Option<Uuid>,
    /// The grant that allows the request, if it needs one.
    pub grant_id: Option<Uuid>,
    /// When the credential or grant ends, as known when the URLs got their expiry.
    pub until: Option<DateTime<Utc>>,
    /// The object that the request reads and its revision, if any.
    pub object: Option<(Uuid, i64)>,
    /// The address of the caller.
    pub address: IpAddr,
    /// Whether every column that the object shows must have a confirmed class.
    pub must_be_classified: bool,
    /// Where the caller is, as its event says.
    pub geography: Geography,
    /// What is read through a URL that was handed out, if that is the request.
    pub delivered: Option<Delivered>,
}

impl AccessBasis {
    /// The ids of what is read again.
    pub(in crate::service) fn ids(&self) -> AccessBasisIds {
        let Self { credential, recipient_id, share_id, .. } = *self;
        AccessBasisIds { credential, recipient_id, share_id, object_id: self.object.map(|(id, _)| id) }
    }

    /// Decides again, on the current facts.
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
        let object = facts.and_then(|facts| facts.object.as_ref());
        let allowed_purposes = object.and_then(|object| object.allowed_purposes.as_deref());
        let requirements = object.and_then(|object| object.requirements.as_deref());
        let must_be_classified = self.must_be_classified && self.object.is_some();
        let (address, geography) = (self.address, self.geography);
        let facts =
            Facts { now, address, bearer, target, allowed_purposes, requirements, must_be_classified, geography };
        let allowed = decide(facts)?;
        let same_object = self.object.is_none_or(|(_, before)| object.is_some_and(|object| object.revision == before));
        if same_object && self.fits(&allowed) { Ok(allowed) } else { Err(Reason::AccessChanged) }
    }

    /// Whether the prepared answer still fits: same grant, no earlier end, same revision of the recipient. If not, the
    /// answer must be prepared again.
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

/// Writes the events of requests to the audit trail.
#[derive(Clone, Debug)]
pub struct AuditWriter {
    queue: mpsc::Sender<Entry>,
    /// Tracks writes that no caller waits for, so that the last ones are not lost at shutdown.
    later: TaskTracker,
    turns: Turns,
    condition: Arc<Condition>,
    metrics: Arc<Metrics>,
    /// Lets one check at a time ask the writer for proof.
    proving: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
enum Entry {
    /// An event to write.
    Event(Box<(Event, Waiting)>),
    /// A check that asks whether events can be written.
    Proof(oneshot::Sender<Result<(), Outage>>),
}

/// The caller that waits for an event to be durable, and what must still hold then.
#[derive(Debug)]
struct Waiting {
    basis: Option<AccessBasis>,
    /// Whether the event is always written; otherwise only its refusal is, since the request is on record already.
    is_told: bool,
    /// When the caller stops waiting, after which nothing is written; `None` if the event must be written in any case.
    until: Option<Instant>,
    reply: oneshot::Sender<Result<Result<(), Reason>, Outage>>,
}

/// The trail could not be written, so no data may leave.
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

/// The outcome of the last write.
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

    /// Stores the outcome and logs it if it differs from the one before.
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

/// Orders this process's users of the chain: a batch waits for the changes that came before it.
#[derive(Clone, Debug)]
struct Turns(Arc<watch::Sender<(u64, u64)>>);

/// A change's turn; ends when the change has the chain or gives up.
#[derive(Debug)]
pub(in crate::service) struct Turn(Turns);

impl Turns {
    fn take(&self) -> Turn {
        self.0.send_modify(|(came, _)| *came += 1);
        Turn(self.clone())
    }

    /// Waits until all changes so far have had their turn, as long as a request would; returns whether they have.
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
    /// Starts this process's writer.
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

    /// Makes requests wait for a change until it has the chain.
    pub(in crate::service) fn take_turn(&self) -> Turn {
        self.turns.take()
    }

    /// Whether the last write failed.
    pub(in crate::service) fn was_refused(&self) -> bool {
        self.condition.is_bad()
    }

    /// Checks that events can be written: by a recent write, or by a test write.
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

    /// Writes `event` and returns once it is durable.
    pub async fn record(&self, event: Event) -> Result<(), ServiceError> {
        self.submit(event, None, true, Some(PATIENCE)).await.map(|_| ())
    }

    /// Writes `event` if its access basis still holds under the lock. Otherwise writes the refusal and returns its
    /// reason; then nothing may be handed out.
    pub async fn record_allowed(&self, event: Event, basis: AccessBasis) -> Result<Result<(), Reason>, ServiceError> {
        self.submit(event, Some(basis), true, Some(PATIENCE)).await
    }

    /// Does the same for a request that is on record already: it is only counted, and written only if refused.
    pub async fn count_allowed(&self, event: Event, basis: AccessBasis) -> Result<Result<(), Reason>, ServiceError> {
        self.submit(event, Some(basis), false, Some(PATIENCE)).await
    }

    /// Writes `event` without a caller waiting; for events that tell how a recorded request went on. They are kept
    /// while the chain is locked; lost ones are counted.
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

    /// Writes events that sum up what was counted, without a caller waiting.
    pub(in crate::service) fn record_all_later(&self, events: Vec<Event>) {
        events.into_iter().for_each(|event| self.record_later(event));
    }

    /// Waits until all events passed to [`Self::record_later`] are written or lost.
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

/// Writes the event of an operator's change, in the transaction that makes the change. What is refused changes nothing, and
/// so has no effect.
pub async fn append(tx: &mut Tx, event: Event, now: DateTime<Utc>) -> Result<(), StoreError> {
    let effect = event.effect.or_else(|| event.action.effect()).filter(|_| event.decision == Outcome::Allow);
    let mut head = tx.lock_audit_head().await?;
    tx.append_audit(&mut head, &[Event { effect, ..event }], now).await?;
    Ok(())
}

/// Writes the events of this process's requests.
struct Writer {
    db: Db,
    /// Identifies the writer's row of test writes.
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
                    // Its caller was refused already: nothing happened.
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
                // The check may have been abandoned.
                let _ = proof.send(outcome.as_ref().map(|_| ()).map_err(Outage::clone));
            }
            match outcome {
                Ok(decisions) => {
                    for (waiting, decision) in waiting.into_iter().zip(decisions) {
                        // If the caller is gone, its event still stands.
                        let _ = waiting.reply.send(Ok(decision));
                    }
                }
                Err(outage) => {
                    // A locked chain took nothing, and is free again soon.
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

    /// Does everything that writing an event takes without writing one: locks the chain's head and writes as many
    /// bytes.
    async fn prove(&self) -> Result<Vec<Result<(), Reason>>, StoreError> {
        let mut filler = vec![0; FILLER];
        // Random bytes, which cannot be compressed.
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

/// Turns an allow into the record of its refusal: nothing was disclosed.
fn refuse(event: &mut Event, reason: Reason) {
    event.decision = Outcome::Deny;
    event.reason = Some(reason.code().into());
    (event.files, event.rows, event.bytes, event.url_expires_at) = (None, None, None, None);
}

/// Counts what `event` issues or delivers. Returns the token if its last use must be updated.
fn spend(
    basis: &AccessBasis,
    bearer: &Bearer,
    event: &Event,
    quotas: &mut Quotas,
    now: DateTime<Utc>,
) -> Result<Option<Uuid>, Reason> {
    quotas.spend(bearer, event, basis.delivered.as_ref())?;
    // A last use in the future comes from a clock that was ahead.
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
        domain::audit::{Actor, action::Action},
    };

    fn event(action: Action) -> Event {
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
        // A change that has not reached the chain yet, for example because it waits for a connection.
        let turn = trail.take_turn();
        let mut reads = Box::pin(futures::future::join_all((0..8).map(|_| trail.record(event(Action::SharesList)))));
        let early = timeout(Duration::from_millis(500), &mut reads).await;
        assert!(early.is_err(), "no read goes first: {early:?}");
        let mut tx = db.begin().await.unwrap();
        append(&mut tx, event(Action::GrantRevoke), Utc::now()).await.unwrap();
        tx.commit().await.unwrap();
        drop(turn);
        assert!(reads.await.iter().all(Result::is_ok));
        let written = db.list_audit(&crate::store::AuditFilter::default(), 100).await.unwrap();
        let revoked: Vec<i64> =
            written.iter().filter(|event| event.body.contains("revoke")).map(|event| event.seq).collect();
        assert_eq!((revoked, written.len()), (vec![1], 9));
    }
}
