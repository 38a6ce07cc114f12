//! Recovers a database that is behind its audit export: restored from a backup, or left by a failover that lost
//! commits.
//!
//! What the export proves is taken over, so that the trail stays whole; what tightened, whoever did it, is done again; and
//! everything is frozen until an operator has looked at what else was lost. Each event says itself whether it tightened.
//! Never here: personal parts, which no export holds.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    domain::{
        access::{agreement::AgreementState, exception::ExceptionSpec, recipient::RecipientState},
        audit::{
            Actor, ActorKind, Event, Head,
            action::{Action, Kind},
            chain::{Broken, Presented},
            checkpoint::{VerifierKey, digest},
            merkle::Frontier,
            recorded::Recorded,
        },
        catalog::control::ControlSpec,
        core::{name::name_key, spec::Effect, word::Words},
        operators::{Operator, group::GroupSpec},
    },
    service::{
        Services,
        access::{agreements, exceptions},
        catalog::tables,
        core::{context::OperatorContext, declared, error::ServiceError},
        operators,
    },
    storage::Archive,
    store::{Derived, StoreError, StoredCheckpoint, StoredEvent, Tx},
};

use super::{
    error::AuditError,
    export::{self, ExportWalk, Segment},
    verify::{PAGE, derive, resume},
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
    /// How many grants, tokens, recipients, agreements, exceptions, operators, groups and objects were tightened again.
    pub revoked: usize,
    /// The other changes that were lost, on which people have to decide: how many by action.
    pub lost: BTreeMap<String, u64>,
}

/// What tightened, as the export's events say, and what else was lost.
#[derive(Debug, Default)]
struct Lost {
    grants: BTreeSet<Uuid>,
    tokens: BTreeSet<Uuid>,
    /// When each token ends that was given a successor.
    token_ends: BTreeMap<Uuid, DateTime<Utc>>,
    /// Where each recipient came to last.
    recipients: BTreeMap<Uuid, RecipientState>,
    /// The agreements that were suspended or terminated last, with their names.
    agreements: BTreeMap<Uuid, (String, AgreementState)>,
    /// Whether each operator was disabled last, with its name.
    operators: BTreeMap<Uuid, (String, bool)>,
    operator_tokens: BTreeSet<Uuid>,
    /// Shared objects that were taken out of their shares.
    objects: BTreeSet<Uuid>,
    /// Exceptions that were ended, by their names.
    exceptions: BTreeMap<Uuid, String>,
    /// Groups of operators that were deleted, by their names.
    groups: BTreeMap<Uuid, String>,
    /// What fields were set to last, and by what.
    fields: BTreeMap<(Kind, Uuid), Fields>,
    /// Whether each operator of an issuer was disabled last, by its name.
    identities: BTreeMap<Uuid, (String, bool)>,
    others: BTreeMap<String, u64>,
    events: usize,
}

/// The fields of one thing that changed.
#[derive(Debug, Default)]
struct Fields {
    /// The thing's name.
    name: String,
    /// What each was set to last.
    values: Map<String, Value>,
    /// How many changes only tightened, by action; they are lost where nothing of them can be made again.
    actions: BTreeMap<String, u64>,
}

impl Lost {
    fn take(&mut self, event: &Recorded) {
        if !event.is_allowed() {
            return;
        }
        let Some(effect) = &event.effect else { return self.take_old(event) };
        let change = event.change.as_ref().unwrap_or(&Value::Null);
        let tightens = effect.means() == Some(Effect::Tightens);
        let object = event.object.as_ref();
        let (kind, id) = (object.and_then(|object| object.kind.means()), object.and_then(|object| object.id));
        let (before, after) = (&change["before"], &change["after"]);
        let is_known = match (kind, id) {
            (Some(kind), Some(id)) => self.take_change(event, kind, id, tightens, before, after),
            _ => false,
        };
        if !is_known {
            self.count(event);
        }
    }

    /// Takes what a change says of itself; false where it is for people to decide on.
    fn take_change(
        &mut self,
        event: &Recorded,
        kind: Kind,
        id: Uuid,
        tightens: bool,
        before: &Value,
        after: &Value,
    ) -> bool {
        let name = event.object.as_ref().and_then(|object| object.name.clone()).unwrap_or_default();
        match kind {
            Kind::Freeze => return tightens,
            Kind::Grant if tightens => {
                self.grants.insert(id);
            }
            Kind::Token if tightens => match time(&after["expires_at"]) {
                Some(end) => {
                    self.token_ends.insert(id, end);
                }
                None => {
                    self.tokens.insert(id);
                }
            },
            Kind::Token => {
                // The token that this one took the place of has ended with its activation.
                self.tokens.extend(after["ends"].as_str().and_then(|id| id.parse::<Uuid>().ok()));
                return false;
            }
            Kind::Recipient if after["state"].is_string() => match state(&after["state"]) {
                Some(RecipientState::Active) => {
                    self.recipients.remove(&id);
                }
                Some(state) => {
                    self.recipients.insert(id, state);
                }
                // A state that only a newer server knows.
                None if tightens => {
                    self.recipients.insert(id, RecipientState::Suspended);
                }
                None => return false,
            },
            Kind::Recipient if tightens && after.is_null() => {
                self.recipients.insert(id, RecipientState::Offboarded);
            }
            Kind::Agreement if before["state"].is_string() => {
                match after["state"].as_str().and_then(AgreementState::parse) {
                    Some(state @ (AgreementState::Suspended | AgreementState::Terminated)) => {
                        self.agreements.insert(id, (name, state));
                    }
                    Some(AgreementState::Active) => {
                        self.agreements.remove(&id);
                        // One that had been interrupted is as it was; one that had begun is for people to decide on.
                        return event.action.means() != Some(Action::AgreementActivate);
                    }
                    // A state that only a newer server knows.
                    None if tightens && after["state"].is_string() => {
                        self.agreements.insert(id, (name, AgreementState::Suspended));
                    }
                    _ => return false,
                }
            }
            Kind::Exception if event.action.means() == Some(Action::ExceptionEnd) => {
                self.exceptions.insert(id, name);
            }
            Kind::Operator if event.token_id.is_some() => {
                self.operator_tokens.extend(event.token_id.filter(|_| tightens));
                return tightens;
            }
            Kind::Operator if after["disabled"].is_boolean() => {
                self.operators.insert(id, (name, after["disabled"] == true));
            }
            Kind::Operator if tightens && after.is_null() => {
                self.operators.insert(id, (name, true));
            }
            Kind::OperatorIdentity => match event.action.means() {
                Some(Action::OperatorIdentityDisable) => {
                    self.identities.insert(id, (name, true));
                }
                Some(Action::OperatorIdentityEnable) => {
                    self.identities.insert(id, (name, false));
                }
                // Another sign-in makes them again.
                Some(Action::OperatorIdentityCreate | Action::OperatorIdentityUpdate) => {}
                _ => return false,
            },
            Kind::Object if tightens && after.is_null() => {
                self.objects.insert(id);
            }
            Kind::Group if tightens && after.is_null() => {
                self.groups.insert(id, name);
            }
            Kind::Recipient
            | Kind::Operator
            | Kind::Group
            | Kind::Object
            | Kind::Agreement
            | Kind::Exception
            | Kind::Table
            | Kind::Control
                if before.is_object()
                    && after.is_object()
                    && event.action.means() != Some(Action::ExceptionApprove) =>
            {
                let fields = self.fields.entry((kind, id)).or_default();
                fields.name = name;
                // What became null is left out of what was recorded.
                let fell = before.as_object().into_iter().flat_map(Map::keys);
                fields.values.extend(fell.map(|field| (field.clone(), Value::Null)));
                fields.values.extend(after.as_object().cloned().unwrap_or_default());
                if tightens {
                    *fields.actions.entry(event.action.as_str().to_owned()).or_default() += 1;
                }
                return tightens;
            }
            _ => return false,
        }
        true
    }

    /// Takes an event of a release that did not write what a change means: operators' actions that were known to tighten.
    fn take_old(&mut self, event: &Recorded) {
        let is_change = event.change.as_ref().is_some_and(Value::is_object);
        if !is_change {
            return;
        }
        // What the server and recipients do, nobody has to decide on.
        let is_theirs =
            matches!(event.actor.kind.means(), Some(ActorKind::System | ActorKind::Recipient | ActorKind::Anonymous));
        let object = event.object.as_ref();
        let name = object.and_then(|object| object.name.clone()).unwrap_or_default();
        match (event.action.means(), object.and_then(|object| object.id)) {
            (Some(Action::GrantRevoke), Some(id)) => {
                self.grants.insert(id);
            }
            (Some(Action::TokenRevoke), Some(id)) => {
                self.tokens.insert(id);
            }
            (Some(Action::RecipientSuspend), Some(id)) => {
                self.recipients.insert(id, RecipientState::Suspended);
            }
            (Some(Action::RecipientOffboard), Some(id)) => {
                self.recipients.insert(id, RecipientState::Offboarded);
            }
            (Some(Action::RecipientResume), Some(id)) => {
                self.recipients.remove(&id);
            }
            (Some(Action::OperatorDisable | Action::OperatorDelete), Some(id)) => {
                self.operators.insert(id, (name, true));
            }
            (Some(Action::OperatorEnable), Some(id)) => {
                self.operators.insert(id, (name, false));
            }
            (Some(Action::OperatorTokenRevoke), _) => self.operator_tokens.extend(event.token_id),
            (Some(Action::FreezeCreate), _) => {}
            _ if is_theirs => {}
            _ => self.count(event),
        }
    }

    fn count(&mut self, event: &Recorded) {
        *self.others.entry(event.action.as_str().to_owned()).or_default() += 1;
    }
}

fn time(text: &Value) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text.as_str()?).ok().map(|at| at.with_timezone(&Utc))
}

fn state(text: &Value) -> Option<RecipientState> {
    RecipientState::deserialize(text).ok()
}

impl Services {
    /// Brings a database that is behind its audit export up to it. In one transaction, takes over the lost events,
    /// freezes everything and repeats the revocations. No other server may write meanwhile. Returns `None` if nothing
    /// was lost or nothing is exported.
    pub async fn recover(&self) -> Result<Option<Recovery>, RecoveryError> {
        let Some(archive) = self.audit.sealer.archive() else { return Ok(None) };
        let exported = self.core.db.find_exported_through().await?.unwrap_or_default();
        let newest = export::newest_behind(archive, exported).await.map_err(AuditError::from)?;
        let Some(through) = newest else { return Ok(None) };
        if let Some(own) = self.core.db.find_checkpoint(through).await?
            && export::holds(archive, through, &own.note).await.map_err(AuditError::from)?
        {
            // The server stopped after it exported this checkpoint, before it noted that.
            return Ok(None);
        }
        let keys = self.audit.sealer.verifiers();
        let head = self.core.db.find_audit_head().await?;
        let (mut export, common) = self.begin_walk(archive, &keys, head).await?;
        let own = self.list_hashes(common, head).await?;

        let mut tx = self.core.db.begin().await?;
        let mut at = tx.lock_audit_head().await?;
        if at != head {
            let message = "another server writes to the database; stop every server first";
            return Err(AuditError::Refused(message.to_owned()).into());
        }
        let mut lost = Lost::default();
        // Checkpoints that the export lacks also mean that the two have parted.
        let mut is_fork = !self.core.db.list_checkpoints(common, 1).await?.is_empty();
        let mut sealed = common;
        loop {
            let mut events = Vec::new();
            let segment = export.next_with(|event, body| {
                let at = usize::try_from(event.seq - common - 1).unwrap_or_default();
                is_fork |= own.get(at).is_some_and(|own| *own != event.hash);
                if is_fork || at >= own.len() {
                    if let Ok(recorded) = Recorded::deserialize(body) {
                        lost.take(&recorded);
                    }
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
        let ctx = &OperatorContext::system("recovery", self.core.clock.now());
        self.set_right(&mut tx, ctx, &lost, &mut recovery).await?;
        tx.commit().await?;
        Ok(Some(recovery))
    }

    /// Reads the hashes of the database's events after `after`.
    async fn list_hashes(&self, after: i64, head: Head) -> Result<Vec<[u8; 32]>, StoreError> {
        let (mut hashes, mut at) = (Vec::new(), after);
        while at < head.seq {
            let page = self.core.db.list_chain(at, PAGE).await?;
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
        let mut checkpoint = self.core.db.find_last_checkpoint().await?;
        while let Some(own) = checkpoint {
            if export::holds(archive, own.seq, &own.note).await.map_err(AuditError::from)? {
                let (walk, origin) = resume(&own, keys).map_err(AuditError::from)?;
                let walk = ExportWalk::behind(archive, keys, walk, origin, digest(&own.note)).await?;
                return Ok((walk, own.seq));
            }
            checkpoint = self.core.db.find_checkpoint(own.previous_seq).await?;
        }
        // A database without a checkpoint in common is recognised by its first event.
        let first = self.core.db.list_chain(0, 1).await?.into_iter().next().map(|(event, _)| event.hash);
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

    /// Freezes everything, tightens again what had been tightened, and records what happened.
    async fn set_right(
        &self,
        tx: &mut Tx,
        ctx: &OperatorContext,
        lost: &Lost,
        recovery: &mut Recovery,
    ) -> Result<(), RecoveryError> {
        let reason = "the database was behind its audit export; see what was lost before unfreezing";
        self.access.freeze_in(tx, ctx, reason).await?;
        for ((kind, id), fields) in &lost.fields {
            let tightened = match kind {
                Kind::Recipient => self.access.tighten_recipient(tx, ctx, *id, &fields.values, REASON).await?,
                Kind::Operator => operators::tighten(tx, ctx, *id, &fields.name, &fields.values, REASON).await?,
                Kind::Agreement => {
                    agreements::tighten_terms(tx, ctx, (fields.name.as_str(), *id), &fields.values, REASON).await?
                }
                Kind::Exception => {
                    let exception = (*id, fields.name.as_str());
                    declared::tighten_in::<ExceptionSpec>(tx, ctx, exception, &fields.values, REASON).await?
                }
                Kind::Table => tables::tighten(tx, ctx, *id, &fields.values, REASON).await?,
                Kind::Group => {
                    let group = (*id, fields.name.as_str());
                    declared::tighten_in::<GroupSpec>(tx, ctx, group, &fields.values, REASON).await?
                }
                Kind::Control => {
                    let control = (*id, fields.name.as_str());
                    declared::tighten_in::<ControlSpec>(tx, ctx, control, &fields.values, REASON).await?
                }
                _ => self.catalog.tighten_object(tx, ctx, *id, &fields.values, REASON).await?,
            };
            if tightened {
                recovery.revoked += 1;
            } else {
                for (action, count) in &fields.actions {
                    *recovery.lost.entry(action.clone()).or_default() += count;
                }
            }
        }
        for (id, name) in &lost.groups {
            let found = tx.find_declared::<GroupSpec>(&name_key(name)).await?;
            if let Some(group) = found.filter(|group| group.id == *id) {
                declared::delete_in(tx, ctx, &group, Some(REASON)).await?;
                recovery.revoked += 1;
            }
        }
        for id in &lost.objects {
            if let Some(found) = tx.find_object_by_id(*id).await? {
                self.catalog.delete_object_in(tx, ctx, found, Some(REASON)).await?;
                recovery.revoked += 1;
            }
        }
        for id in &lost.grants {
            let named = tx.find_grant(*id).await?;
            if let Some(named) = named.filter(|named| named.grant.ending.is_none()) {
                self.access.end_grant(tx, ctx, &named, Some(REASON)).await?;
                recovery.revoked += 1;
            }
        }
        for id in &lost.tokens {
            let Some(token) = tx.find_token(*id).await?.filter(|token| token.revoked_at.is_none()) else { continue };
            let Some(recipient) = tx.find_recipient_by_id(token.recipient_id).await? else { continue };
            self.access.end_token(tx, ctx, &recipient, &token, Some(REASON)).await?;
            recovery.revoked += 1;
        }
        for (id, end) in lost.token_ends.iter().filter(|(id, _)| !lost.tokens.contains(*id)) {
            let Some(token) = tx.find_token(*id).await?.filter(|token| token.is_live(ctx.now)) else { continue };
            let Some(recipient) = tx.find_recipient_by_id(token.recipient_id).await? else { continue };
            if token.expires_at.is_none_or(|until| *end < until) {
                self.access.shorten_token_in(tx, ctx, &recipient, &token, *end, REASON).await?;
                recovery.revoked += 1;
            }
        }
        for (id, state) in &lost.recipients {
            let Some(recipient) = tx.find_recipient_by_id(*id).await? else { continue };
            if recipient.state != *state && recipient.state != RecipientState::Offboarded {
                let action = match state {
                    RecipientState::Offboarded => Action::RecipientOffboard,
                    _ => Action::RecipientSuspend,
                };
                self.access.move_recipient_in(tx, ctx, recipient, REASON, *state, action).await?;
                recovery.revoked += 1;
            }
        }
        for (id, (name, state)) in &lost.agreements {
            if agreements::tighten(tx, ctx, name, *id, *state, REASON).await? {
                recovery.revoked += 1;
            }
        }
        for (id, name) in &lost.exceptions {
            if exceptions::tighten(tx, ctx, (*id, name), REASON).await? {
                recovery.revoked += 1;
            }
        }
        for (id, (name, is_disabled)) in &lost.operators {
            let operator = tx.find_operator(&name_key(name)).await?.filter(|operator| operator.id == *id);
            if let Some(operator) = operator.filter(|operator| *is_disabled && operator.disabled_at.is_none()) {
                let after = Operator { disabled_at: Some(ctx.now), updated_at: ctx.now, ..operator };
                operators::move_in(tx, ctx, after, REASON, Action::OperatorDisable).await?;
                recovery.revoked += 1;
            }
        }
        for (id, (name, _)) in lost.identities.iter().filter(|(_, (_, is_disabled))| *is_disabled) {
            match tx.find_operator_identity(*id).await? {
                Some(identity) if identity.disabled_at.is_some() => continue,
                Some(identity) => drop(operators::identities::disable_in(tx, ctx, identity, REASON).await?),
                None => operators::identities::keep_disabled_in(tx, ctx, *id, name, REASON).await?,
            }
            recovery.revoked += 1;
        }
        for id in &lost.operator_tokens {
            let bearer = tx.find_operator_bearer_by_id(*id).await?;
            if let Some(bearer) = bearer.filter(|bearer| bearer.token.revoked_at.is_none()) {
                operators::end_token_in(tx, ctx, &bearer.operator, *id, Some(REASON)).await?;
                recovery.revoked += 1;
            }
        }
        // Only now is known what could not be tightened again.
        let what = json!({
            "after_seq": recovery.after, "through_seq": recovery.through, "is_fork": recovery.is_fork,
            "lost": recovery.lost,
        });
        let event = Event { change: Some(what), ..Event::new(Actor::system("recovery"), Action::AuditRecover) };
        Ok(write::append(tx, event, ctx.now).await?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::core::word::Words;

    #[test]
    fn what_tightened_is_repeated_whoever_did_it_and_people_decide_on_what_else_people_did() {
        let mut lost = Lost::default();
        for (kind, decision) in [("operator", "allow"), ("system", "allow"), ("agent", "allow"), ("operator", "deny")] {
            for action in ["token.revoke", "share.update"] {
                let object = json!({"kind": "a thing", "id": Uuid::now_v7()});
                let event = json!({
                    "seq": 1, "at": "2026-01-01T00:00:00Z", "action": action, "actor": {"kind": kind}, "change": {},
                    "decision": decision, "object": object,
                });
                lost.take(&Recorded::deserialize(event).unwrap());
            }
        }
        assert_eq!(lost.tokens.len(), 3, "of a kind of actor that is not known, too");
        assert_eq!(lost.others, BTreeMap::from([("share.update".to_owned(), 2)]));
    }

    /// An event of an operator's change, as this release writes it.
    fn change(action: Action, kind: Kind, effect: Effect, after: &Value) -> Recorded {
        let object = json!({"kind": kind, "id": Uuid::now_v7(), "name": "a name"});
        let mut change = json!({"before": {"description": "before"}});
        if !after.is_null() {
            change["after"] = after.clone();
        }
        let state = match action {
            Action::AgreementSuspend => Some(AgreementState::Suspended),
            Action::AgreementTerminate => Some(AgreementState::Terminated),
            _ => None,
        };
        if let Some(state) = state {
            change = json!({"before": {"state": "active"}, "after": {"state": state.as_str()}});
        }
        let event = json!({
            "seq": 1, "at": "2026-01-01T00:00:00Z", "action": action, "actor": {"kind": "operator"}, "change": change,
            "decision": "allow", "object": object, "effect": effect.as_str(),
            "token_id": (action == Action::OperatorTokenRevoke).then(Uuid::now_v7),
        });
        Recorded::deserialize(event).unwrap()
    }

    #[test]
    fn a_state_that_only_a_newer_server_knows_is_done_again_as_a_suspension() {
        for (kind, effect) in [
            (Kind::Recipient, Effect::Tightens),
            (Kind::Recipient, Effect::Loosens),
            (Kind::Agreement, Effect::Tightens),
            (Kind::Agreement, Effect::Loosens),
        ] {
            let event = json!({
                "seq": 1, "at": "2026-01-01T00:00:00Z", "action": format!("{kind}.dispute"), "decision": "allow",
                "actor": {"kind": "operator"}, "object": {"kind": kind, "id": Uuid::now_v7(), "name": "a name"},
                "change": {"before": {"state": "active"}, "after": {"state": "in_dispute"}}, "effect": effect.as_str(),
            });
            let mut lost = Lost::default();
            lost.take(&Recorded::deserialize(event).unwrap());
            let recipients = lost.recipients.values().filter(|state| **state == RecipientState::Suspended);
            let agreements = lost.agreements.values().filter(|(_, state)| *state == AgreementState::Suspended);
            let done = recipients.count() + agreements.count();
            assert_eq!(done, usize::from(effect == Effect::Tightens), "{kind} {effect:?}");
            assert_eq!(lost.others.len(), 1 - done, "what people did is for people to decide on");
        }
    }

    #[test]
    fn every_action_that_tightens_is_done_again() {
        for (word, action) in Action::ALL.iter().filter(|(_, action)| action.effect() == Some(Effect::Tightens)) {
            // The event of a cancelled link names its token. Of `operator` and `operator_identity`, the longer one counts.
            let kinds = Kind::ALL.iter().filter(|(kind, _)| word.starts_with(&format!("{}.", kind.replace('_', "."))));
            let kind = kinds.max_by_key(|(kind, _)| kind.len()).map_or(Kind::Token, |(_, kind)| *kind);
            let mut lost = Lost::default();
            lost.take(&change(*action, kind, Effect::Tightens, &Value::Null));
            assert_eq!(lost.others, BTreeMap::new(), "{word}");
        }
    }

    #[test]
    fn every_noun_whose_fields_may_tighten_is_set_again() {
        for (word, action) in Action::ALL.iter().filter(|(word, _)| word.ends_with(".update")) {
            let Some(kind) = Kind::parse(word.trim_end_matches(".update")) else { continue };
            // No change of these tightens what anybody can read.
            let never_tightens =
                [Kind::Share, Kind::Domain, Kind::View, Kind::Purpose, Kind::UseCase, Kind::Column, Kind::Setting]
                    .contains(&kind);
            let mut lost = Lost::default();
            lost.take(&change(*action, kind, Effect::Tightens, &json!({"description": "after"})));
            assert_eq!(lost.others.is_empty(), !never_tightens, "{word}");
            assert_eq!(lost.fields.len(), usize::from(!never_tightens), "{word}");
        }
    }
}
