//! Writing the audit trail: no event, no data.
//!
//! Concurrent requests share one commit. A batch locks the chain's head, reads again what each request stands on,
//! decides again with what it finds, and writes allow or deny. Whatever tightens writes its own event under the same
//! lock, so that no allowing event can follow a revocation. Never here: what an event says.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{clock::Clock, error::ServiceError};
use crate::{
    domain::{
        audit::{Event, Outcome},
        decision::{Bearer, Facts, Reason, ShareAccess, Target, decide},
        share::Share,
    },
    store::{Db, StoreError, Tx},
    telemetry::Metrics,
};

/// How many events wait for a commit before requests are turned away.
const QUEUE: usize = 4096;
/// How many events one commit takes.
const BATCH: usize = 512;

/// What an allowed request stands on; looked at again under the lock before the event is written.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The token.
    pub token_id: Uuid,
    /// Its recipient.
    pub recipient_id: Uuid,
    /// The share that it reads, if it reads one.
    pub share: Option<Share>,
    /// Where the request came from.
    pub address: IpAddr,
}

/// The way into the audit trail for requests.
#[derive(Clone, Debug)]
pub struct Trail {
    queue: mpsc::Sender<Entry>,
}

#[derive(Debug)]
struct Entry {
    event: Event,
    standing: Option<Standing>,
    reply: oneshot::Sender<Result<Result<(), Reason>, Outage>>,
}

/// The trail could not be written; no data may leave.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the audit trail could not be written: {0}")]
struct Outage(String);

impl Trail {
    /// Starts the one writer of this process.
    pub fn start(db: Db, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(write_all(db, clock, metrics, entries));
        Self { queue }
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

    async fn submit(&self, event: Event, standing: Option<Standing>) -> Result<Result<(), Reason>, ServiceError> {
        let (reply, answer) = oneshot::channel();
        let unavailable = |source: Outage| ServiceError::Unavailable { what: "the audit trail", source: source.into() };
        let entry = Entry { event, standing, reply };
        self.queue.try_send(entry).map_err(|error| unavailable(Outage(error.to_string())))?;
        match answer.await {
            Ok(outcome) => outcome.map_err(unavailable),
            Err(_) => Err(unavailable(Outage("the writer ended".into()))),
        }
    }
}

/// Writes the event of an operator's change in the transaction that makes the change.
pub async fn append(tx: &mut Tx, event: &Event, now: DateTime<Utc>) -> Result<(), StoreError> {
    let mut head = tx.lock_audit_head().await?;
    let link = head.append(event, now);
    tx.append_audit(head, &[(event, link)]).await
}

async fn write_all(db: Db, clock: Clock, metrics: Arc<Metrics>, mut entries: mpsc::Receiver<Entry>) {
    let mut batch = Vec::with_capacity(BATCH);
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let started = Instant::now();
        let outcome = write_batch(&db, &clock, &mut batch).await;
        metrics.audit_committed(batch.len(), started.elapsed());
        match outcome {
            Ok(decisions) => {
                for (entry, decision) in batch.drain(..).zip(decisions) {
                    // A caller that went away needs no answer; its event stands.
                    let _ = entry.reply.send(Ok(decision));
                }
            }
            Err(error) => {
                tracing::error!(error = %error, events = batch.len(), "audit batch failed; its requests are refused");
                for entry in batch.drain(..) {
                    let _ = entry.reply.send(Err(Outage(error.to_string())));
                }
            }
        }
    }
}

async fn write_batch(db: &Db, clock: &Clock, batch: &mut [Entry]) -> Result<Vec<Result<(), Reason>>, StoreError> {
    let mut tx = db.begin().await?;
    let mut head = tx.lock_audit_head().await?;
    let live = read_again(&mut tx, batch).await?;
    let now = clock.now();
    let mut decisions = Vec::with_capacity(batch.len());
    for entry in batch.iter_mut() {
        let decision = entry.standing.as_ref().map_or(Ok(()), |standing| live.decide(standing, now));
        if let Err(reason) = decision {
            refuse(&mut entry.event, reason);
        }
        decisions.push(decision);
    }
    let links: Vec<_> = batch.iter().map(|entry| (&entry.event, head.append(&entry.event, now))).collect();
    tx.append_audit(head, &links).await?;
    tx.commit().await?;
    Ok(decisions)
}

/// Turns an allowing event into the record of its refusal: what would have been disclosed was not.
fn refuse(event: &mut Event, reason: Reason) {
    event.decision = Outcome::Deny;
    event.reason = Some(reason.code().into());
    (event.files, event.rows, event.bytes, event.url_expires_at) = (None, None, None, None);
}

/// Tokens and grants as they are under the lock.
struct Live {
    bearers: HashMap<Uuid, Bearer>,
    shares: HashMap<(Uuid, Uuid), ShareAccess>,
}

async fn read_again(tx: &mut Tx, batch: &[Entry]) -> Result<Live, StoreError> {
    let standings = || batch.iter().filter_map(|entry| entry.standing.as_ref());
    let mut token_ids: Vec<Uuid> = standings().map(|standing| standing.token_id).collect();
    token_ids.sort_unstable();
    token_ids.dedup();
    let mut shares = HashMap::new();
    for standing in standings() {
        if let Some(share) = &standing.share {
            let key = (standing.recipient_id, share.id);
            shares.entry(key).or_insert_with(|| ShareAccess { share: share.clone(), grants: Vec::new() });
        }
    }
    let pairs: Vec<(Uuid, Uuid)> = shares.keys().copied().collect();
    for grant in tx.find_grants_for(&pairs).await? {
        if let Some(access) = shares.get_mut(&(grant.recipient_id, grant.share_id)) {
            access.grants.push(grant);
        }
    }
    let bearers = tx.find_bearers(&token_ids).await?;
    Ok(Live { bearers: bearers.into_iter().map(|bearer| (bearer.token.id, bearer)).collect(), shares })
}

impl Live {
    fn decide(&self, standing: &Standing, now: DateTime<Utc>) -> Result<(), Reason> {
        let target = match &standing.share {
            None => Target::Own,
            Some(share) => Target::Share(self.shares.get(&(standing.recipient_id, share.id))),
        };
        let bearer = self.bearers.get(&standing.token_id);
        decide(Facts { now, address: standing.address, bearer, target }).map(|_| ())
    }
}
