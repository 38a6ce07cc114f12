//! Recovers a database that is behind its audit export: restored from a backup, or left by a failover that lost
//! commits.
//!
//! The events that the export proves are taken over, so that the trail stays whole. Revocations are repeated, and
//! everything is frozen until an operator has checked what else was lost. Never here: personal parts, which no export
//! holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    domain::{
        access::recipient::RecipientState,
        audit::{
            Actor, Event, Head,
            chain::{Broken, Presented},
            checkpoint::{VerifierKey, digest},
            merkle::Frontier,
        },
        core::name::name_key,
        operators::Operator,
    },
    service::{
        Service,
        core::{context::OperatorContext, error::ServiceError},
        operators,
    },
    storage::Archive,
    store::{Derived, StoreError, StoredCheckpoint, StoredEvent, Tx},
};

use super::{
    export::{self, ExportWalk, Segment},
    verify::{AuditError, PAGE, derive, resume},
    write,
};

/// The reason recorded with a repeated revocation.
const REASON: &str = "revoked before the database was restored, as its audit export says";

/// Why the database could not be brought up to its export.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The export cannot be read or verified, or belongs to another database.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A revocation could not be repeated.
    #[error("what was revoked could not be revoked again")]
    Service(#[from] ServiceError),
    /// The database did not answer.
    #[error("the database cannot be read")]
    Store(#[from] StoreError),
}

/// What recovery found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The newest event of the database.
    pub after: i64,
    /// The newest event of the export.
    pub through: i64,
    /// Whether the database went on by itself, so that its trail and the export's have parted.
    pub is_fork: bool,
    /// How many grants, tokens, recipients and operators were revoked again.
    pub revoked: usize,
    /// Other lost changes by operators, which people must decide on: the count by action.
    pub lost: BTreeMap<String, u64>,
}

/// The lost changes, from the export's events; those that tighten access by id.
#[derive(Debug, Default)]
struct Lost {
    grants: BTreeSet<Uuid>,
    tokens: BTreeSet<Uuid>,
    /// The last state of each recipient that was suspended or offboarded.
    recipients: BTreeMap<Uuid, RecipientState>,
    /// Whether each operator was disabled last, with its name.
    operators: BTreeMap<Uuid, (String, bool)>,
    operator_tokens: BTreeSet<Uuid>,
    others: BTreeMap<String, u64>,
    events: usize,
}

impl Lost {
    fn take(&mut self, event: &Value) {
        let is_change =
            event["change"].is_object() && event["decision"] == "allow" && event["actor"]["kind"] == "operator";
        let (Some(action), true) = (event["action"].as_str(), is_change) else { return };
        let id = event["object"]["id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
        let name = event["object"]["name"].as_str().unwrap_or_default().to_owned();
        match (action, id) {
            ("grant.revoke", Some(id)) => {
                self.grants.insert(id);
            }
            ("token.revoke", Some(id)) => {
                self.tokens.insert(id);
            }
            ("recipient.suspend", Some(id)) => {
                self.recipients.insert(id, RecipientState::Suspended);
            }
            ("recipient.offboard", Some(id)) => {
                self.recipients.insert(id, RecipientState::Offboarded);
            }
            ("recipient.resume", Some(id)) => {
                self.recipients.remove(&id);
            }
            ("operator.disable" | "operator.delete", Some(id)) => {
                self.operators.insert(id, (name, true));
            }
            ("operator.enable", Some(id)) => {
                self.operators.insert(id, (name, false));
            }
            ("operator.token.revoke", _) => {
                self.operator_tokens.extend(event["token_id"].as_str().and_then(|id| id.parse::<Uuid>().ok()));
            }
            ("freeze.create", _) => {}
            (action, _) => *self.others.entry(action.to_owned()).or_default() += 1,
        }
    }
}

impl Service {
    /// Brings a database that is behind its audit export up to it. In one transaction, takes over the lost events,
    /// freezes everything and repeats the revocations. No other server may write meanwhile. Returns `None` if nothing
    /// was lost or nothing is exported.
    pub async fn recover(&self) -> Result<Option<Recovery>, RecoveryError> {
        let Some(archive) = self.audit_sealer.archive() else { return Ok(None) };
        let exported = self.db.find_exported_through().await?.unwrap_or_default();
        let newest = export::newest_behind(archive, exported).await.map_err(AuditError::from)?;
        let Some(through) = newest else { return Ok(None) };
        if let Some(own) = self.db.find_checkpoint(through).await?
            && export::holds(archive, through, &own.note).await.map_err(AuditError::from)?
        {
            // The server stopped after it exported this checkpoint, before it noted that.
            return Ok(None);
        }
        let keys = self.audit_sealer.verifiers();
        let head = self.db.find_audit_head().await?;
        let (mut export, common) = self.begin_walk(archive, &keys, head).await?;
        let own = self.list_hashes(common, head).await?;

        let mut tx = self.db.begin().await?;
        let mut at = tx.lock_audit_head().await?;
        if at != head {
            let message = "another server writes to the database; stop every server first";
            return Err(AuditError::Refused(message.to_owned()).into());
        }
        let mut lost = Lost::default();
        // Checkpoints that the export lacks also mean that the two have parted.
        let mut is_fork = !self.db.list_checkpoints(common, 1).await?.is_empty();
        let mut sealed = common;
        loop {
            let mut events = Vec::new();
            let segment = export.next_with(|event, body| {
                let at = usize::try_from(event.seq - common - 1).unwrap_or_default();
                is_fork |= own.get(at).is_some_and(|own| *own != event.hash);
                if is_fork || at >= own.len() {
                    lost.take(body);
                    let (body, derived) = (event.body.to_owned(), derive(body));
                    let Presented { seq, prev_hash, hash, .. } = *event;
                    events.push((StoredEvent { seq, prev_hash, hash, body, personal: None }, derived));
                }
            });
            let Some(segment) = segment.await? else { break };
            lost.events += events.len();
            if !is_fork {
                take_over(&mut tx, &mut at, &export, &segment, sealed, events).await?;
                sealed = segment.checkpoint.head.seq;
            }
        }
        if lost.events == 0 {
            tx.commit().await?;
            return Ok(None);
        }
        let mut recovery = Recovery { after: head.seq, through, is_fork, revoked: 0, lost: lost.others.clone() };
        let ctx = &OperatorContext::system("recovery", self.clock.now());
        self.set_right(&mut tx, ctx, &lost, &mut recovery).await?;
        tx.commit().await?;
        Ok(Some(recovery))
    }

    /// Reads the hashes of the database's events after `after`.
    async fn list_hashes(&self, after: i64, head: Head) -> Result<Vec<[u8; 32]>, StoreError> {
        let (mut hashes, mut at) = (Vec::new(), after);
        while at < head.seq {
            let page = self.db.list_chain(at, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            at = last.seq;
            hashes.extend(page.iter().map(|(event, _)| event.hash));
        }
        Ok(hashes)
    }

    /// Starts a walk through the export at the newest checkpoint that the database has too, and returns that
    /// checkpoint's sequence number.
    async fn begin_walk(
        &self,
        archive: &Archive,
        keys: &[VerifierKey],
        head: Head,
    ) -> Result<(ExportWalk, i64), RecoveryError> {
        let mut checkpoint = self.db.find_last_checkpoint().await?;
        while let Some(own) = checkpoint {
            if export::holds(archive, own.seq, &own.note).await.map_err(AuditError::from)? {
                let (walk, origin) = resume(&own, keys).map_err(AuditError::from)?;
                let walk = ExportWalk::behind(archive, keys, walk, origin, digest(&own.note)).await?;
                return Ok((walk, own.seq));
            }
            checkpoint = self.db.find_checkpoint(own.previous_seq).await?;
        }
        // A database without a checkpoint in common is recognised by its first event.
        let first = self.db.list_chain(0, 1).await?.into_iter().next().map(|(event, _)| event.hash);
        let mut export = ExportWalk::from_start(archive, keys).await?;
        let begins_alike = export.next().await?.is_some_and(|segment| segment.hashes.first() == first.as_ref());
        if head.seq == 0 || !begins_alike {
            return Err(AuditError::Refused(format!(
                "`{}` holds the trail of another database; restore the backup of that one, or name an empty place in \
                 audit.export.url",
                archive.url()
            ))
            .into());
        }
        Ok((ExportWalk::from_start(archive, keys).await?, 0))
    }

    /// Records the recovery, freezes everything and repeats the revocations.
    async fn set_right(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        lost: &Lost,
        recovery: &mut Recovery,
    ) -> Result<(), RecoveryError> {
        let what = json!({
            "after_seq": recovery.after, "through_seq": recovery.through, "is_fork": recovery.is_fork,
            "lost": recovery.lost,
        });
        let event = Event { change: Some(what), ..Event::new(Actor::system("recovery"), "audit.recover") };
        write::append(tx, event, ctx.now).await?;
        let reason = "the database was behind its audit export; see what was lost before unfreezing";
        self.freeze_in(tx, ctx, reason).await?;
        for id in &lost.grants {
            let named = tx.find_grant(*id).await?;
            if let Some(named) = named.filter(|named| named.grant.ending.is_none()) {
                self.end_grant(tx, ctx, &named, Some(REASON)).await?;
                recovery.revoked += 1;
            }
        }
        for id in &lost.tokens {
            let Some(token) = tx.find_token(*id).await?.filter(|token| token.revoked_at.is_none()) else { continue };
            let Some(recipient) = tx.find_recipient_by_id(token.recipient_id).await? else { continue };
            self.end_token(tx, ctx, &recipient, &token, Some(REASON)).await?;
            recovery.revoked += 1;
        }
        for (id, state) in &lost.recipients {
            let Some(recipient) = tx.find_recipient_by_id(*id).await? else { continue };
            if recipient.state != *state && recipient.state != RecipientState::Offboarded {
                let action = match state {
                    RecipientState::Offboarded => "recipient.offboard",
                    _ => "recipient.suspend",
                };
                self.move_recipient_in(tx, ctx, recipient, REASON, *state, action).await?;
                recovery.revoked += 1;
            }
        }
        for (id, (name, is_disabled)) in &lost.operators {
            let operator = tx.find_operator(&name_key(name)).await?.filter(|operator| operator.id == *id);
            if let Some(operator) = operator.filter(|operator| *is_disabled && operator.disabled_at.is_none()) {
                let after = Operator { disabled_at: Some(ctx.now), updated_at: ctx.now, ..operator };
                operators::move_in(tx, ctx, after, REASON, "operator.disable").await?;
                recovery.revoked += 1;
            }
        }
        for id in &lost.operator_tokens {
            let bearer = tx.find_operator_bearer_by_id(*id).await?;
            if let Some(bearer) = bearer.filter(|bearer| bearer.token.revoked_at.is_none()) {
                operators::end_token_in(tx, ctx, &bearer.operator, *id, Some(REASON)).await?;
                recovery.revoked += 1;
            }
        }
        Ok(())
    }
}

/// Appends a segment's events to the chain and stores its checkpoint.
async fn take_over(
    tx: &mut Tx,
    at: &mut Head,
    export: &ExportWalk,
    segment: &Segment,
    previous_seq: i64,
    events: Vec<(StoredEvent, Option<Derived>)>,
) -> Result<(), RecoveryError> {
    let mut rows = Vec::with_capacity(events.len());
    for (event, derived) in events {
        let lacking = || Broken::at(event.seq, "its text lacks what every event has");
        let derived = derived.ok_or_else(lacking).map_err(AuditError::from)?;
        rows.push((event, derived));
    }
    tx.take_over_audit(at, &rows).await?;
    let seq = segment.checkpoint.head.seq;
    let frontier = export.tree().map(Frontier::to_bytes).unwrap_or_default();
    let created_at = segment.checkpoint.at;
    let note = segment.note.clone();
    let stored = StoredCheckpoint { seq, previous_seq, frontier, note, created_at, exported_at: None };
    tx.insert_checkpoint(&stored).await?;
    tx.update_checkpoint_exported(seq, created_at).await?;
    Ok(())
}
