//! Verifies the audit trail: every event is bound to the one before, every checkpoint is signed and true, and the
//! database agrees with its export.
//!
//! Only reads, page by page, and takes no lock, so servers may run meanwhile. Never here: repairs.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    domain::{
        access::delivery::Delivery,
        audit::{
            Head,
            chain::{Broken, Walk},
            checkpoint::{VerifierKey, digest, origin},
            merkle::Frontier,
        },
        core::word::Words,
    },
    store::{Db, Derived, StoredCheckpoint, StoredEvent},
};

use super::{
    error::AuditError,
    export::{ExportWalk, Segment, agree, follow, open, open_next, presented},
};

/// The number of events read at a time.
pub(in crate::service) const PAGE: u32 = 1_000;

/// Where verification starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Since {
    /// At the first event there is.
    #[default]
    Beginning,
    /// After the newest checkpoint, which is trusted.
    NewestCheckpoint,
    /// After the checkpoint with this sequence number, which is trusted.
    Checkpoint(i64),
}

/// What verification found in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The sequence number before the first event checked.
    pub after: i64,
    /// The newest event.
    pub head: Head,
    /// The number of signed checkpoints checked.
    pub checkpoints: u64,
    /// The newest event that was compared with the export; 0 if none was.
    pub compared: i64,
}

/// Verifies an export without the database.
pub async fn verify_export(
    mut export: ExportWalk,
    progress: &mut (dyn FnMut(i64) + Send),
) -> Result<Verified, AuditError> {
    let after = export.head().seq;
    if export.last() == 0 {
        return Err(AuditError::Refused(format!("`{}` holds no checkpoint; name the export's folder", export.url())));
    }
    let mut checkpoints = 0;
    while let Some(segment) = export.next().await? {
        checkpoints += 1;
        progress(segment.checkpoint.head.seq);
    }
    export.check_files().await?;
    Ok(Verified { after, head: export.head(), checkpoints, compared: 0 })
}

/// Verifies the database's chain, and that it agrees with the export as far as the export goes.
pub async fn verify_database(
    db: &Db,
    keys: &[VerifierKey],
    since: Since,
    export: Option<ExportWalk>,
    progress: &mut (dyn FnMut(i64) + Send),
) -> Result<Verified, AuditError> {
    // Read before the head, so that a trail that still grows never looks cut short.
    let newest = db.find_last_checkpoint().await?;
    let exported = db.find_exported_through().await?.unwrap_or_default();
    let export = export.map(|walk| Comparison { walk, segment: None });
    if let Some(export) = &export
        && export.walk.last() < exported
    {
        let what = format!("the export lacks checkpoint {exported}, which was exported");
        return Err(Broken::at(export.walk.last() + 1, what).into());
    }
    let mut verifier = Verifier::begin(db, keys, since, newest.as_ref(), export).await?;
    let after = verifier.walk.head().seq;
    let head = verifier.walk_to_head(since, progress).await?;
    let covered = newest.map_or(0, |checkpoint| checkpoint.seq);
    let compared = verifier.export.as_ref().map_or(0, |export| export.walk.last());
    if covered.max(compared) > head.seq {
        let what = format!("the event is missing, though checkpoint {} covers it", covered.max(compared));
        return Err(Broken::at(head.seq + 1, what).into());
    }
    if let Some(export) = &verifier.export {
        export.walk.check_files().await?;
    }
    Ok(Verified { after, head, checkpoints: verifier.passed, compared })
}

/// Continues after a checkpoint that the database holds, if its signature and tree are right.
pub(in crate::service) fn resume(
    checkpoint: &StoredCheckpoint,
    keys: &[VerifierKey],
) -> Result<(Walk, String), Broken> {
    let signed = open(&checkpoint.note, keys, checkpoint.seq)?;
    let size = u64::try_from(checkpoint.seq).unwrap_or_default();
    let tree = Frontier::from_bytes(size, &checkpoint.frontier).filter(|tree| tree.root() == signed.root);
    let tree =
        tree.ok_or_else(|| Broken::at(checkpoint.seq, "its checkpoint's tree is not the one that was signed"))?;
    Ok((Walk::behind(signed.head, Some(tree)), signed.origin))
}

struct Verifier<'a> {
    db: &'a Db,
    /// The given keys and the keys that their checkpoints hand over to.
    keys: Vec<VerifierKey>,
    walk: Walk,
    origin: Option<String>,
    previous: Option<[u8; 32]>,
    /// No checkpoint is looked up until the walk is past this event.
    sealed: i64,
    ahead: VecDeque<StoredCheckpoint>,
    passed: u64,
    export: Option<Comparison>,
}

impl<'a> Verifier<'a> {
    async fn begin(
        db: &'a Db,
        keys: &[VerifierKey],
        since: Since,
        newest: Option<&StoredCheckpoint>,
        export: Option<Comparison>,
    ) -> Result<Self, AuditError> {
        let start = match since {
            Since::Beginning => db.find_detached_through().await?,
            Since::NewestCheckpoint => newest.map(|checkpoint| checkpoint.seq),
            Since::Checkpoint(seq) => Some(seq),
        };
        let mut keys = keys.to_vec();
        let (walk, origin, previous) = match start {
            None => (Walk::from_start(), None, None),
            Some(seq) => {
                let checkpoint = db.find_checkpoint(seq).await?;
                let checkpoint = checkpoint
                    .ok_or_else(|| AuditError::Refused(format!("there is no checkpoint {seq}; name another one")))?;
                let (walk, origin) = resume(&checkpoint, &keys)?;
                let signed = open(&checkpoint.note, &keys, seq)?;
                follow(&mut keys, &signed);
                (walk, Some(origin), Some(digest(&checkpoint.note)))
            }
        };
        let sealed = walk.head().seq;
        Ok(Self { db, keys, walk, origin, previous, sealed, ahead: VecDeque::new(), passed: 0, export })
    }

    /// Walks to the head, which is read once the walk has caught up, and returns that head.
    async fn walk_to_head(&mut self, since: Since, progress: &mut (dyn FnMut(i64) + Send)) -> Result<Head, AuditError> {
        // Rows before the first valid one must be found too.
        let mut after = if since == Since::Beginning { i64::MIN } else { self.walk.head().seq };
        let mut head: Option<Head> = None;
        loop {
            let page = self.db.list_chain(after, PAGE).await?;
            let is_last = page.is_empty();
            for (event, derived) in page {
                if head.is_some_and(|head| self.walk.head().seq >= head.seq) {
                    break;
                }
                after = event.seq;
                self.take(&event, &derived).await?;
            }
            progress(self.walk.head().seq);
            match head {
                None if is_last => head = Some(self.db.find_audit_head().await?),
                Some(head) if is_last || self.walk.head().seq >= head.seq => return self.arrive(head),
                None | Some(_) => {}
            }
        }
    }

    fn arrive(&self, head: Head) -> Result<Head, AuditError> {
        let reached = self.walk.head();
        if reached.seq < head.seq {
            return Err(
                Broken::at(reached.seq + 1, format!("the event is missing; the chain's head is {}", head.seq)).into()
            );
        }
        if reached.seq > head.seq {
            return Err(Broken::at(head.seq + 1, "the event stands behind the chain's head").into());
        }
        if reached != head {
            return Err(Broken::at(head.seq, "the chain's head is another event").into());
        }
        Ok(head)
    }

    async fn take(&mut self, event: &StoredEvent, derived: &Derived) -> Result<(), AuditError> {
        let expected = self.walk.next_seq();
        let outcome = self.walk.step_and_read(presented(event));
        // The chain alone tells that one of two events was changed; the export tells which.
        if let (Ok(_), Some(export)) = (&outcome, &mut self.export) {
            export.compare(self.db, event.seq, &event.hash).await?;
        }
        let body = outcome?;
        if expected == 1 {
            self.origin = Some(origin(&event.hash));
        }
        if derive(&body).as_ref() != Some(derived) {
            return Err(Broken::at(event.seq, "the columns that it is searched by are not what its text says").into());
        }
        self.pass_checkpoint().await
    }

    async fn pass_checkpoint(&mut self) -> Result<(), AuditError> {
        let seq = self.walk.head().seq;
        if self.ahead.is_empty() && seq > self.sealed {
            self.ahead = self.db.list_checkpoints(seq - 1, PAGE).await?.into();
            if self.ahead.is_empty() {
                // No checkpoint that existed when the walk began is still ahead.
                self.sealed = i64::MAX;
                return Ok(());
            }
        }
        let Some(stored) = self.ahead.front().filter(|stored| stored.seq <= seq) else { return Ok(()) };
        let first = stored.previous_seq + 1;
        let checkpoint = open_next(&stored.note, &self.keys, stored.seq)?;
        let origin = self.origin.as_deref().unwrap_or_default();
        agree(&checkpoint, &self.walk, origin, first)?;
        if checkpoint.previous != self.previous {
            return Err(Broken::at(first, format!("a checkpoint before {seq} is missing, or was replaced")).into());
        }
        if self.walk.tree().is_some_and(|tree| tree.to_bytes() != stored.frontier) {
            return Err(Broken::at(first, format!("the tree kept with checkpoint {seq} is not the chain's")).into());
        }
        self.previous = Some(digest(&stored.note));
        follow(&mut self.keys, &checkpoint);
        self.passed += 1;
        self.ahead.pop_front();
        Ok(())
    }
}

/// The export that a walk through the database is compared with.
struct Comparison {
    walk: ExportWalk,
    segment: Option<Segment>,
}

impl Comparison {
    async fn compare(&mut self, db: &Db, seq: i64, hash: &[u8; 32]) -> Result<(), AuditError> {
        while self.segment.as_ref().is_none_or(|segment| segment.checkpoint.head.seq < seq) {
            self.segment = self.walk.next().await?;
            match &self.segment {
                None => return Ok(()),
                // The segment's events have left the database; its checkpoint has not.
                Some(segment) if segment.checkpoint.head.seq < seq => Self::find_own(db, segment).await?,
                Some(_) => {}
            }
        }
        let Some(segment) = &self.segment else { return Ok(()) };
        let at = seq.checked_sub(segment.first).and_then(|at| usize::try_from(at).ok());
        match at.and_then(|at| segment.hashes.get(at)) {
            Some(exported) if exported != hash => Err(Broken::at(seq, "it is not the event that was exported").into()),
            // Checked at the segment's last event, so that a changed event is reported first.
            Some(_) | None if seq == segment.checkpoint.head.seq => Self::find_own(db, segment).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses a database that lacks the exported checkpoint.
    async fn find_own(db: &Db, segment: &Segment) -> Result<(), AuditError> {
        let seq = segment.checkpoint.head.seq;
        if db.find_checkpoint(seq).await?.is_some_and(|own| own.note == segment.note) {
            return Ok(());
        }
        let what = format!("checkpoint {seq} was exported; the database has none there, or another");
        Err(Broken::at(segment.first, what).into())
    }
}

/// Derives the searchable columns from an event's text; `None` if the text lacks a field that every event has.
pub(in crate::service) fn derive(body: &Value) -> Option<Derived> {
    let text = |name: &str| body[name].as_str();
    let id = |name: &str| text(name).and_then(|id| id.parse::<Uuid>().ok());
    let time =
        |name: &str| text(name).and_then(|at| DateTime::parse_from_rfc3339(at).ok()).map(|at| at.with_timezone(&Utc));
    let presigned = text("delivery") == Some(Delivery::Presigned.as_str());
    Some(Derived {
        at: time("at")?,
        action: text("action")?.to_owned(),
        decision: text("decision")?.to_owned(),
        recipient_id: id("recipient_id"),
        share_id: id("share_id"),
        table_id: id("table_id"),
        object_id: id("object_id"),
        token_id: id("token_id"),
        grant_id: id("grant_id"),
        presigned_files: body["files"].as_i64().filter(|_| presigned),
        presigned_until: time("url_expires_at").filter(|_| presigned),
    })
}
