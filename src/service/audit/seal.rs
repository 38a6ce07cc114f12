//! Seals the audit trail: makes and exports checkpoints, erases personal parts, detaches old months.
//!
//! Every step may be repeated and several replicas may try: a lease keeps them from doing the same work, and the
//! database accepts only one successor of each checkpoint. A trail that does not verify is never signed. Never here:
//! timers.

use std::{sync::Arc, time::Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tokio::task::yield_now;

use crate::{
    config::AuditSettings,
    domain::{
        audit::{
            Actor, Event,
            action::Action,
            chain::{Broken, Walk},
            checkpoint::{Checkpoint, NoSigningKey, SigningKey, VerifierKey, digest, origin},
        },
        core::seal::RootKey,
        insight::{report::Month, usage::hour},
    },
    service::core::{clock::Clock, leases::Leases, pacing},
    storage::Archive,
    store::{Constraint, Db, StoreError, StoredCheckpoint, StoredEvent, Tx},
};

use super::{
    error::AuditError,
    export::{self, ExportWalk, presented},
    verify::{PAGE, resume},
};

/// The lease under which one replica seals.
const LEASE: &str = "audit";
/// About how many events one transaction detaches; appending waits for it.
const DETACHED_AT_ONCE: i64 = 50_000;

/// How many events are hashed before other tasks may run.
const WALKED_AT_ONCE: usize = 32;

/// Seals the trail of one database.
#[derive(Clone, Debug)]
pub struct AuditSealer {
    db: Db,
    clock: Clock,
    /// The first key signs; all are trusted.
    keys: Arc<[SigningKey]>,
    archive: Option<Archive>,
    settings: AuditSettings,
    leases: Leases,
}

/// The result of detaching events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detached {
    /// The last event that is in the export only.
    pub through: i64,
    /// The number of events deleted from the database.
    pub events: u64,
}

impl AuditSealer {
    /// Creates a sealer that signs with the key derived from the first of `roots`.
    pub fn new(
        db: Db,
        clock: Clock,
        roots: &[RootKey],
        archive: Option<Archive>,
        settings: AuditSettings,
    ) -> Result<Self, NoSigningKey> {
        let keys: Vec<SigningKey> = roots.iter().map(SigningKey::derive).collect::<Result<_, _>>()?;
        let leases = Leases::new(db.clone(), clock.clone());
        Ok(Self { db, clock, keys: keys.into(), archive, settings, leases })
    }

    /// The public keys of this sealer, the active one first.
    pub fn verifiers(&self) -> Vec<VerifierKey> {
        self.keys.iter().map(|key| key.verifier().clone()).collect()
    }

    /// Takes the leases of the server that this sealer works for.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// What the trail is exported to, where it is.
    pub(in crate::service) fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    /// Makes and exports the checkpoints that are due, unless another replica does.
    pub async fn seal_due(&self) -> Result<(), AuditError> {
        let last = self.db.find_last_checkpoint().await?;
        let is_unexported = self.archive.is_some() && !self.db.list_unexported_checkpoints(1).await?.is_empty();
        let is_due = self.find_due(last.as_ref(), Due::Now).await?.is_some();
        // Asked before the lease is taken: an idle server writes nothing.
        if (is_due || is_unexported) && self.leases.take(LEASE).await? {
            while self.make_checkpoint(Due::Now).await? {}
            self.export().await?;
        }
        Ok(())
    }

    /// Erases personal parts that are old enough, unless another replica does, and returns how many. Recipients'
    /// networks are deleted at the same age.
    pub async fn erase_due(&self) -> Result<u64, AuditError> {
        let Some(before) = self.erased_before() else { return Ok(0) };
        if self.db.find_usage_erasable(digests_before(before)).await? && self.leases.take(LEASE).await? {
            self.erase_digests(before).await?;
        }
        if self.db.has_old_network(before).await? {
            let mut tx = self.db.begin().await?;
            tx.delete_old_networks(before).await?;
            tx.commit().await?;
        }
        if self.db.find_erasable(before).await? && self.leases.take(LEASE).await? {
            self.erase(before).await
        } else {
            Ok(0)
        }
    }

    /// Seals and exports the whole trail, due or not.
    pub async fn seal(&self) -> Result<(), AuditError> {
        while self.make_checkpoint(Due::Anyway).await? {}
        self.export().await
    }

    /// Returns the first checkpoint that covers the event `seq`, and makes it if there is none.
    pub async fn cover(&self, seq: i64) -> Result<StoredCheckpoint, AuditError> {
        loop {
            if let Some(checkpoint) = self.db.list_checkpoints(seq.saturating_sub(1), 1).await?.pop() {
                return Ok(checkpoint);
            }
            if !self.make_checkpoint(Due::Anyway).await? {
                return Err(Broken::at(seq, "the event is missing, and so is a checkpoint that covers it").into());
            }
        }
    }

    /// Signs a statement that is no checkpoint and returns the note.
    pub(in crate::service) fn sign_statement(&self, text: &str) -> Result<String, AuditError> {
        Ok(self.active_key()?.sign_statement(text))
    }

    /// The key that signs.
    pub(in crate::service) fn active_key(&self) -> Result<&SigningKey, AuditError> {
        let missing = || AuditError::Refused("there is no key to sign with; name one in secrets.key_files".to_owned());
        self.keys.first().ok_or_else(missing)
    }

    /// Makes the next checkpoint; false where none is due.
    async fn make_checkpoint(&self, due: Due) -> Result<bool, AuditError> {
        let last = self.db.find_last_checkpoint().await?;
        let Some(target) = self.find_due(last.as_ref(), due).await? else { return Ok(false) };
        let (sealed, now) = (last.as_ref().map_or(0, |last| last.seq), self.clock.now());
        let (mut walk, mut origin_known) = match &last {
            None => (Walk::from_start(), None),
            Some(last) => resume(last, &self.verifiers()).map(|(walk, origin)| (walk, Some(origin)))?,
        };
        self.read(&mut walk, target, |event| {
            origin_known.get_or_insert_with(|| origin(&event.hash));
            Ok(())
        })
        .await?;
        let key = self.active_key()?;
        let (Some(tree), Some(origin)) = (walk.tree(), origin_known) else {
            return Err(Broken::at(sealed + 1, "there is no event to seal").into());
        };
        let before = last.as_ref().and_then(|last| self.signer_of(&last.note));
        let before = before.filter(|before| before.verifier() != key.verifier());
        let checkpoint = Checkpoint {
            origin,
            head: walk.head(),
            root: tree.root(),
            previous: last.as_ref().map(|last| digest(&last.note)),
            at: now,
            next_key: before.map(|_| key.verifier().clone()),
        };
        let note = key.sign(&checkpoint);
        let note = match before {
            Some(before) => before.cosign(&note),
            None => note,
        };
        let stored = StoredCheckpoint {
            seq: target,
            previous_seq: sealed,
            frontier: tree.to_bytes(),
            note,
            created_at: now,
            exported_at: None,
        };
        let mut tx = self.db.begin().await?;
        match tx.insert_checkpoint(&stored).await {
            Ok(()) => tx.commit().await?,
            // Another replica was faster; the next checkpoint follows its one.
            Err(StoreError::Conflict(Constraint::CheckpointTaken)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// The key that signed `note`; the active one if several did.
    fn signer_of(&self, note: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|key| Checkpoint::open(note, std::slice::from_ref(key.verifier())).is_ok())
    }

    /// The last event of the checkpoint after `last`; `None` if none is due.
    async fn find_due(&self, last: Option<&StoredCheckpoint>, due: Due) -> Result<Option<i64>, StoreError> {
        let sealed = last.map_or(0, |last| last.seq);
        let head = self.db.find_audit_head().await?;
        let most = i64::try_from(self.settings.checkpoint_events).unwrap_or(i64::MAX);
        let waiting = head.seq.saturating_sub(sealed);
        let patience = i64::try_from(self.settings.checkpoint_seconds).ok().and_then(TimeDelta::try_seconds);
        let age = last.map(|last| self.clock.now() - last.created_at);
        // A checkpoint from the future was made by a clock that was ahead.
        let is_old = age.is_none_or(|age| Some(age) >= patience || age < TimeDelta::zero());
        let is_due = waiting > 0 && (due == Due::Anyway || is_old || waiting >= most);
        Ok(is_due.then(|| head.seq.min(sealed.saturating_add(most))))
    }

    /// Walks on to the event `target` and passes each event to `each`.
    async fn read(
        &self,
        walk: &mut Walk,
        target: i64,
        mut each: impl FnMut(&StoredEvent) -> Result<(), AuditError> + Send,
    ) -> Result<(), AuditError> {
        while walk.head().seq < target {
            let begun = Instant::now();
            let left = target - walk.head().seq;
            let left = u32::try_from(left).unwrap_or(pacing::PAGE).min(pacing::PAGE);
            let page = self.db.list_chain(walk.head().seq, left).await?;
            if page.is_empty() {
                return Err(Broken::at(walk.next_seq(), "the event is missing").into());
            }
            for (index, (event, _)) in page.iter().enumerate() {
                walk.step(presented(event))?;
                each(event)?;
                // A page takes milliseconds; no request should wait that long.
                if index % WALKED_AT_ONCE == WALKED_AT_ONCE - 1 {
                    yield_now().await;
                }
            }
            pacing::rest_after_page(begun, target - walk.head().seq).await;
        }
        Ok(())
    }

    /// Exports every checkpoint that is not exported yet, oldest first.
    async fn export(&self) -> Result<(), AuditError> {
        let Some(archive) = &self.archive else { return Ok(()) };
        loop {
            let page = self.db.list_unexported_checkpoints(10).await?;
            let Some(first) = page.first() else { return Ok(()) };
            if let Some(last) = self.db.find_exported_through().await?
                && let Some(last) = self.db.find_checkpoint(last).await?
            {
                export::check_not_lost(archive, &last).await?;
            }
            let newest = export::newest_behind(archive, first.seq).await?;
            for checkpoint in page {
                export::check_not_ahead(archive, newest, checkpoint.seq).await?;
                self.export_one(archive, &checkpoint).await?;
            }
        }
    }

    async fn export_one(&self, archive: &Archive, checkpoint: &StoredCheckpoint) -> Result<(), AuditError> {
        let signed = export::open(&checkpoint.note, &self.verifiers(), checkpoint.seq)?;
        let mut walk = match checkpoint.previous_seq {
            0 => Walk::from_start(),
            seq => {
                let previous = self.db.find_checkpoint(seq).await?;
                let previous = previous.ok_or_else(|| Broken::at(seq, "its checkpoint is missing"))?;
                resume(&previous, &self.verifiers())?.0
            }
        };
        let mut lines = Vec::new();
        self.read(&mut walk, checkpoint.seq, |event| export::write_line(&mut lines, event)).await?;
        export::agree(&signed, &walk, &signed.origin, checkpoint.previous_seq + 1)?;
        let key = self.signer_of(&checkpoint.note);
        let key = key.ok_or_else(|| Broken::at(checkpoint.seq, "its checkpoint is signed by no key of this server"))?;
        export::add(archive, key.verifier(), checkpoint.seq, &checkpoint.note, lines).await?;
        let mut tx = self.db.begin().await?;
        tx.update_checkpoint_exported(checkpoint.seq, self.clock.now()).await?;
        Ok(tx.commit().await?)
    }

    /// The time before which events lose their personal parts; `None` if they never do.
    fn erased_before(&self) -> Option<DateTime<Utc>> {
        let days = i64::try_from(self.settings.personal_retention_days).ok().filter(|days| *days > 0)?;
        self.clock.now().checked_sub_signed(TimeDelta::try_days(days)?)
    }

    /// Erases the digests of addresses of that age, since a digest can tell whether a given address was used.
    async fn erase_digests(&self, before: DateTime<Utc>) -> Result<(), AuditError> {
        loop {
            let mut tx = self.db.begin().await?;
            let erased = tx.delete_usage_addresses(digests_before(before)).await?;
            tx.commit().await?;
            if erased == 0 {
                return Ok(());
            }
        }
    }

    async fn erase(&self, before: DateTime<Utc>) -> Result<u64, AuditError> {
        let mut erased = 0;
        loop {
            let mut tx = self.db.begin().await?;
            let mut head = tx.lock_audit_head().await?;
            let events = tx.delete_audit_personal(before).await?;
            if events == 0 {
                return Ok(erased);
            }
            let event = system_event(Action::AuditErase, json!({"written_before": before, "events": events}));
            tx.append_audit(&mut head, &[event], self.clock.now()).await?;
            tx.commit().await?;
            erased += events;
        }
    }

    /// Deletes the events written before the end of `month` (`2026-08`) from the database, up to the last checkpoint
    /// within it. Refused unless the export holds them all, while URLs that they handed out are live, and, unless
    /// `with_personal`, while they have personal parts.
    pub async fn detach(&self, month: &str, with_personal: bool) -> Result<Detached, AuditError> {
        let now = self.clock.now();
        let end = Month::parse(month)
            .map(Month::end)
            .ok_or_else(|| AuditError::Refused(format!("`{month}` is no month; write it as `2026-08`")))?;
        if end > now {
            return Err(AuditError::Refused(format!("`{month}` has not ended; name a month that has")));
        }
        let Some(archive) = &self.archive else {
            return Err(AuditError::Refused("nothing is exported; set audit.export.url first".to_owned()));
        };
        let before = self.db.find_detached_through().await?.unwrap_or_default();
        let mut detached = Detached { through: before, events: 0 };
        let Some(last) = self.db.find_last_seq_before(end).await? else { return Ok(detached) };
        let checkpoints = self.list_exported(before, last).await?;
        let Some(through) = checkpoints.last().map(|checkpoint| checkpoint.seq) else { return Ok(detached) };
        if self.db.find_last_presigned_until(through).await?.is_some_and(|until| until > now) {
            return Err(AuditError::Refused(
                "URLs that these events handed out still live; detach when they have ended".to_owned(),
            ));
        }
        let personal = self.db.count_personal(through).await?;
        if personal > 0 && !with_personal {
            return Err(AuditError::Refused(format!(
                "{personal} of these events still have their address, which no export holds; erase them first \
                 (audit.personal_retention_days), or let them go with `--with-personal`"
            )));
        }
        self.find_in_export(archive, before, &checkpoints).await?;
        for checkpoint in &checkpoints {
            let is_last = checkpoint.seq == through;
            if is_last || checkpoint.seq - detached.through >= DETACHED_AT_ONCE {
                detached.events += self.detach_through(checkpoint.seq, now).await?;
                detached.through = checkpoint.seq;
            }
        }
        Ok(detached)
    }

    async fn list_exported(&self, after: i64, through: i64) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let mut found = Vec::new();
        let mut behind = after;
        loop {
            let page = self.db.list_checkpoints(behind, PAGE).await?;
            let Some(last) = page.last() else { return Ok(found) };
            behind = last.seq;
            let fits = |checkpoint: &StoredCheckpoint| checkpoint.seq <= through && checkpoint.exported_at.is_some();
            let n_page = page.len();
            let fitting: Vec<StoredCheckpoint> = page.into_iter().take_while(fits).collect();
            let is_end = fitting.len() < n_page;
            found.extend(fitting);
            if is_end {
                return Ok(found);
            }
        }
    }

    /// Verifies that the export holds these checkpoints with their events.
    async fn find_in_export(
        &self,
        archive: &Archive,
        after: i64,
        checkpoints: &[StoredCheckpoint],
    ) -> Result<(), AuditError> {
        let keys = self.verifiers();
        let mut export = match after {
            0 => ExportWalk::from_start(archive, &keys).await?,
            seq => ExportWalk::since(archive, &keys, Some(seq)).await?,
        };
        for checkpoint in checkpoints {
            let signed = export::open(&checkpoint.note, &keys, checkpoint.seq)?;
            let exported = export.next().await?.map(|segment| segment.checkpoint);
            if exported != Some(signed) {
                let seq = checkpoint.seq;
                return Err(AuditError::Refused(format!(
                    "the export does not hold checkpoint {seq}; nothing is deleted"
                )));
            }
        }
        Ok(())
    }

    async fn detach_through(&self, through: i64, now: DateTime<Utc>) -> Result<u64, AuditError> {
        let mut tx: Tx = self.db.begin().await?;
        let mut head = tx.lock_audit_head().await?;
        let events = tx.detach_audit(through, now).await?;
        let event = system_event(Action::AuditDetach, json!({"through_seq": through, "events": events}));
        tx.append_audit(&mut head, &[event], now).await?;
        tx.commit().await?;
        Ok(events)
    }
}

/// Whether a checkpoint is made only when due, or in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Now,
    Anyway,
}

fn system_event(action: Action, change: serde_json::Value) -> Event {
    let actor = Actor::system("notary");
    Event { change: Some(change), ..Event::new(actor, action) }
}

/// The hour before which digests are erased: a digest goes with the oldest address it may stand for.
fn digests_before(erased_before: DateTime<Utc>) -> i64 {
    hour(erased_before).saturating_add(1)
}
