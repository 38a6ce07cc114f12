//! Writes and reads the audit export, the trail outside the database.
//!
//! In the export's folder, `keys/<name>.txt` holds the public keys and `events/<seq>.ndjson` the events up to the
//! checkpoint `checkpoints/<seq>.txt`, which is written last. Personal parts never leave the database, because an
//! export cannot be erased. Never here: when checkpoints are made.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    domain::{
        audit::{
            Head,
            chain::{Broken, Presented, Walk},
            checkpoint::{Checkpoint, CheckpointError, VerifierKey, digest, origin, signers},
            merkle::Frontier,
        },
        core::seal::{hex, unhex},
    },
    storage::{Archive, StorageError},
    store::{StoredCheckpoint, StoredEvent},
};

use super::error::AuditError;

const KEYS: &str = "keys";
const EVENTS: &str = "events";
const CHECKPOINTS: &str = "checkpoints";

/// How often, and at which interval, to look for the checkpoint of events that a server may be exporting right now.
const LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// An event as a line of the export, which holds its text byte for byte.
#[derive(Deserialize, Serialize)]
struct Line<'a> {
    seq: i64,
    prev_hash: String,
    hash: String,
    #[serde(borrow)]
    event: &'a RawValue,
}

impl<'a> Line<'a> {
    fn new(event: &Presented<'_>, text: &'a RawValue) -> Self {
        Self { seq: event.seq, prev_hash: hex(&event.prev_hash), hash: hex(&event.hash), event: text }
    }

    fn write(&self, lines: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(&mut *lines, self)?;
        lines.push(b'\n');
        Ok(())
    }
}

/// Appends `event` to `lines` in the export's format.
pub(in crate::service) fn write_line(lines: &mut Vec<u8>, event: &StoredEvent) -> Result<(), AuditError> {
    let text: Result<&RawValue, _> = serde_json::from_str(&event.body);
    let written = text.and_then(|text| Line::new(&presented(event), text).write(lines));
    // Serializing text to memory cannot fail; only an invalid body can.
    Ok(written.map_err(|_| Broken::at(event.seq, "its text is no JSON"))?)
}

/// Adds a checkpoint with its events to the export. May be repeated.
pub(in crate::service) async fn add(
    archive: &Archive,
    key: &VerifierKey,
    seq: i64,
    note: &str,
    lines: Vec<u8>,
) -> Result<(), StorageError> {
    archive.add(KEYS, &key_name(key.name()), Bytes::from(format!("{key}\n"))).await?;
    archive.add(EVENTS, &events_name(seq), Bytes::from(lines)).await?;
    archive.add(CHECKPOINTS, &checkpoint_name(seq), Bytes::from(note.to_owned())).await
}

/// Refuses an export that has checkpoints after `seq` but not `seq` itself: it belongs to another chain.
pub(in crate::service) async fn check_not_ahead(
    archive: &Archive,
    newest: Option<i64>,
    seq: i64,
) -> Result<(), AuditError> {
    let Some(newest) = newest.filter(|newest| *newest > seq) else { return Ok(()) };
    if archive.read(CHECKPOINTS, &checkpoint_name(seq)).await?.is_some() {
        return Ok(());
    }
    Err(AuditError::Refused(format!(
        "`{}` is ahead of the database (checkpoint {newest}, and none at {seq}); after restoring a backup, name another \
         audit.export.url, as docs/audit.md says",
        archive.url()
    )))
}

/// Refuses an export that lacks the checkpoint exported last: it is another place, such as the mount point of a disk
/// that is not mounted.
pub(in crate::service) async fn check_not_lost(archive: &Archive, last: &StoredCheckpoint) -> Result<(), AuditError> {
    if holds(archive, last.seq, &last.note).await? {
        return Ok(());
    }
    Err(AuditError::Refused(format!(
        "`{}` lacks checkpoint {}, which was exported, or holds another; put audit.export.url back to where the export is, \
         or copy it there first, as docs/audit.md says",
        archive.url(),
        last.seq
    )))
}

/// Finds the newest checkpoint of an export after `seq`; `None` if there is none.
pub(in crate::service) async fn newest_behind(archive: &Archive, seq: i64) -> Result<Option<i64>, StorageError> {
    let names = archive.list_behind(CHECKPOINTS, &checkpoint_name(seq)).await?;
    Ok(seqs(&names).max())
}

/// Whether an export holds the checkpoint `seq` with exactly this text.
pub async fn holds(archive: &Archive, seq: i64, note: &str) -> Result<bool, StorageError> {
    Ok(archive.read(CHECKPOINTS, &checkpoint_name(seq)).await?.is_some_and(|held| held == note.as_bytes()))
}

fn key_name(name: &str) -> String {
    format!("{name}.txt")
}

fn events_name(seq: i64) -> String {
    format!("{seq:020}.ndjson")
}

fn checkpoint_name(seq: i64) -> String {
    format!("{seq:020}.txt")
}

/// Reads the public keys that an export names; whether to trust them is the caller's decision.
pub async fn read_keys(archive: &Archive) -> Result<Vec<VerifierKey>, StorageError> {
    let mut keys = Vec::new();
    for name in archive.list(KEYS).await? {
        let text = archive.read(KEYS, &name).await?.unwrap_or_default();
        keys.extend(std::str::from_utf8(&text).ok().and_then(VerifierKey::parse));
    }
    Ok(keys)
}

/// A file of an export.
#[derive(Clone, Debug)]
pub struct ExportFile {
    /// The folder that holds it.
    pub folder: &'static str,
    /// Its name in that folder.
    pub name: String,
    /// Its bytes.
    pub content: Bytes,
}

/// Converts a stored event to what the chain's rules check.
pub(in crate::service) fn presented(event: &StoredEvent) -> Presented<'_> {
    Presented {
        seq: event.seq,
        prev_hash: event.prev_hash,
        hash: event.hash,
        body: &event.body,
        personal: event.personal.as_ref().map(|personal| (&personal.salt, personal.text.as_str())),
    }
}

/// The newest part of an export: enough to verify it without the rest.
#[derive(Debug)]
pub struct Newest {
    /// The checkpoint before the part, which is trusted; `None` if the part is the whole export.
    pub base: Option<i64>,
    /// The public keys, and the checkpoint before the part.
    pub ground: Vec<ExportFile>,
    /// The checkpoints with their events, oldest first.
    pub segments: Vec<[ExportFile; 2]>,
}

/// Reads the last `most` checkpoints of an export with their events, without verifying them.
pub async fn read_newest(archive: &Archive, most: usize) -> Result<Newest, AuditError> {
    let seqs = list(archive).await?;
    let first = seqs.len().saturating_sub(most);
    let base = first.checked_sub(1).and_then(|at| seqs.get(at)).copied();
    let mut ground = Vec::new();
    for name in archive.list(KEYS).await? {
        ground.push(read_file(archive, KEYS, name).await?);
    }
    if let Some(seq) = base {
        ground.push(read_file(archive, CHECKPOINTS, checkpoint_name(seq)).await?);
    }
    let mut segments = Vec::new();
    for seq in seqs.into_iter().skip(first) {
        let checkpoint = read_file(archive, CHECKPOINTS, checkpoint_name(seq)).await?;
        segments.push([checkpoint, read_file(archive, EVENTS, events_name(seq)).await?]);
    }
    Ok(Newest { base, ground, segments })
}

async fn read_file(archive: &Archive, folder: &'static str, name: String) -> Result<ExportFile, AuditError> {
    let lacking =
        || AuditError::Refused(format!("`{}` lacks `{folder}/{name}`; see `weir audit verify`", archive.url()));
    let content = archive.read(folder, &name).await?.ok_or_else(lacking)?;
    Ok(ExportFile { folder, name, content })
}

/// The verified events between two checkpoints.
#[derive(Debug)]
pub struct Segment {
    /// The checkpoint at their end.
    pub checkpoint: Checkpoint,
    /// The sequence number of the first event.
    pub first: i64,
    /// The events' hashes.
    pub hashes: Vec<[u8; 32]>,
    /// The checkpoint's signed text.
    pub note: String,
}

/// Walks through an export from checkpoint to checkpoint.
#[derive(Debug)]
pub struct ExportWalk {
    archive: Archive,
    keys: Vec<VerifierKey>,
    ahead: VecDeque<i64>,
    last: i64,
    walk: Walk,
    origin: Option<String>,
    /// The digest of the last checkpoint passed; `None` at the start of the chain.
    previous: Option<[u8; 32]>,
    /// The signers of the checkpoints passed, each with whether it signed one alone.
    signers: BTreeSet<(String, bool)>,
    /// Whether the walk covers every checkpoint.
    is_whole: bool,
}

impl ExportWalk {
    /// Starts at the beginning of the chain.
    pub async fn from_start(archive: &Archive, keys: &[VerifierKey]) -> Result<Self, AuditError> {
        let ahead = list(archive).await?;
        Ok(Self {
            archive: archive.clone(),
            keys: keys.to_vec(),
            last: ahead.back().copied().unwrap_or_default(),
            ahead,
            walk: Walk::from_start(),
            origin: None,
            previous: None,
            signers: BTreeSet::new(),
            is_whole: true,
        })
    }

    /// Starts after the checkpoint `seq`, or the newest one, and trusts it.
    pub async fn since(archive: &Archive, keys: &[VerifierKey], seq: Option<i64>) -> Result<Self, AuditError> {
        let mut walk = Self::from_start(archive, keys).await?;
        let seq = seq.or(walk.ahead.back().copied()).unwrap_or_default();
        let note = walk.read_note(seq).await?;
        let checkpoint = open(&note, keys, seq)?;
        follow(&mut walk.keys, &checkpoint);
        walk.ahead.retain(|ahead| *ahead > seq);
        walk.is_whole = false;
        walk.walk = Walk::behind(checkpoint.head, None);
        walk.origin = Some(checkpoint.origin);
        walk.previous = Some(digest(&note));
        Ok(walk)
    }

    /// Continues where `walk` is: at the checkpoint whose text hashes to `previous`.
    pub(in crate::service) async fn behind(
        archive: &Archive,
        keys: &[VerifierKey],
        walk: Walk,
        origin: String,
        previous: [u8; 32],
    ) -> Result<Self, AuditError> {
        let mut export = Self::from_start(archive, keys).await?;
        export.ahead.retain(|ahead| *ahead > walk.head().seq);
        export.is_whole = false;
        (export.walk, export.origin, export.previous) = (walk, Some(origin), Some(previous));
        Ok(export)
    }

    /// The export's location, for messages.
    pub fn url(&self) -> &str {
        self.archive.url()
    }

    /// The last event that the export's checkpoints claim to cover; 0 for an empty export.
    pub fn last(&self) -> i64 {
        self.last
    }

    /// The last verified event.
    pub fn head(&self) -> Head {
        self.walk.head()
    }

    /// The Merkle tree of all events so far; `None` if the walk started after a trusted checkpoint.
    pub(in crate::service) fn tree(&self) -> Option<&Frontier> {
        self.walk.tree()
    }

    /// Verifies the next checkpoint with its events; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Segment>, AuditError> {
        self.next_with(|_, _| ()).await
    }

    /// Does the same as [`Self::next`] and passes each event with its parsed text to `each`. At that time an event is
    /// bound to the one before; that it was signed is known only when the segment is returned.
    pub(in crate::service) async fn next_with(
        &mut self,
        mut each: impl FnMut(&Presented<'_>, &Value) + Send,
    ) -> Result<Option<Segment>, AuditError> {
        let Some(seq) = self.ahead.pop_front() else { return Ok(None) };
        let note = self.read_note(seq).await?;
        let checkpoint = open_next(&note, &self.keys, seq)?;
        let first = self.walk.next_seq();
        if checkpoint.previous != self.previous {
            return Err(Broken::at(
                first,
                format!("the export lacks a checkpoint before {seq}, or another stood there"),
            )
            .into());
        }
        let text = self.archive.read(EVENTS, &events_name(seq)).await?;
        let Some(text) = text else {
            return Err(Broken::at(first, format!("the export lacks the events of checkpoint {seq}")).into());
        };
        let mut hashes = Vec::new();
        let mut written = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let place = self.walk.next_seq();
            let garbled = || Broken::at(place, "the export's line cannot be read");
            let read: Line<'_> = serde_json::from_slice(line).map_err(|_| garbled())?;
            let (Some(prev_hash), Some(hash)) = (unhex(&read.prev_hash), unhex(&read.hash)) else {
                return Err(garbled().into());
            };
            let event = Presented { seq: read.seq, prev_hash, hash, body: read.event.get(), personal: None };
            let body = self.walk.step_and_read(event)?;
            written.clear();
            Line::new(&event, read.event).write(&mut written).map_err(|_| garbled())?;
            if written != line {
                return Err(Broken::at(place, "the export's line is not as it was written").into());
            }
            each(&event, &body);
            hashes.push(hash);
        }
        let origin = self.origin.get_or_insert_with(|| origin(hashes.first().unwrap_or(&[0; 32])));
        agree(&checkpoint, &self.walk, origin, first)?;
        self.previous = Some(digest(&note));
        follow(&mut self.keys, &checkpoint);
        let is_handed_on = checkpoint.next_key.is_some();
        self.signers.extend(signers(&note).map(|name| (name.to_owned(), !is_handed_on)));
        Ok(Some(Segment { checkpoint, first, hashes, note }))
    }

    /// Refuses an export with a file that no server wrote, or without a key that it needs. Called at the end of the
    /// walk, when the signers are known.
    pub(in crate::service) async fn check_files(&self) -> Result<(), AuditError> {
        let foreign = |file: &str, why: &str| {
            AuditError::Refused(format!("`{}` holds `{file}`, {why}; nothing but an export belongs there", self.url()))
        };
        const UNWRITTEN: &str = "which no export writes";
        let outside = self.archive.list_outside(&[KEYS, EVENTS, CHECKPOINTS]).await?;
        if let Some(file) = outside.first() {
            return Err(foreign(file, UNWRITTEN));
        }
        // Events are listed first because they are written first.
        let events = self.archive.list(EVENTS).await?;
        let mut checkpoints = self.archive.list(CHECKPOINTS).await?;
        if let Some(name) = checkpoints.iter().find(|name| seqs(std::slice::from_ref(name)).next().is_none()) {
            return Err(foreign(&format!("{CHECKPOINTS}/{name}"), UNWRITTEN));
        }
        for name in &events {
            let seq = name.strip_suffix(".ndjson").and_then(|seq| seq.parse().ok());
            let Some(seq) = seq.filter(|seq| events_name(*seq) == *name) else {
                return Err(foreign(&format!("{EVENTS}/{name}"), UNWRITTEN));
            };
            let checkpoint = checkpoint_name(seq);
            let mut looks = 0;
            while checkpoints.binary_search(&checkpoint).is_err() {
                if seq <= self.last || looks == LOOKS {
                    let why = "and no checkpoint of it: it was left by an export that was broken off, which `weir audit \
                               checkpoint` finishes, or was put there";
                    return Err(foreign(&format!("{EVENTS}/{name}"), why));
                }
                looks += 1;
                tokio::time::sleep(BETWEEN_LOOKS).await;
                checkpoints = self.archive.list(CHECKPOINTS).await?;
            }
        }
        self.check_keys().await
    }

    async fn check_keys(&self) -> Result<(), AuditError> {
        let mut listed = BTreeSet::new();
        for name in self.archive.list(KEYS).await? {
            let content = self.archive.read(KEYS, &name).await?.unwrap_or_default();
            let key = std::str::from_utf8(&content).ok().and_then(VerifierKey::parse);
            let key = key.filter(|key| key_name(key.name()) == name && content == format!("{key}\n"));
            // A server adds its key before the first checkpoint signed with it.
            let belongs = |key: &VerifierKey| !self.is_whole || self.last == 0 || self.has_signed(key.name());
            match key.filter(belongs) {
                Some(key) => listed.insert(key.name().to_owned()),
                None => {
                    let url = self.url();
                    let what = format!("`{url}` holds `{KEYS}/{name}`, which is no key that signed its checkpoints");
                    return Err(AuditError::Refused(format!("{what}; compare it with `weir audit key`")));
                }
            };
        }
        // Where one key hands over to another, either may be the one in the export.
        match self.signers.iter().find(|(name, is_alone)| *is_alone && !listed.contains(name)) {
            Some((name, _)) => Err(AuditError::Refused(format!("`{}` lacks `{KEYS}/{}`", self.url(), key_name(name)))),
            None => Ok(()),
        }
    }

    fn has_signed(&self, name: &str) -> bool {
        self.signers.iter().any(|(signer, _)| signer == name)
    }

    async fn read_note(&self, seq: i64) -> Result<String, AuditError> {
        let note = self.archive.read(CHECKPOINTS, &checkpoint_name(seq)).await?;
        let note = note.ok_or_else(|| {
            AuditError::Refused(format!("`{}` holds no checkpoint {seq}; name another folder", self.archive.url()))
        })?;
        String::from_utf8(note.to_vec()).map_err(|_| Broken::at(seq, "its checkpoint is not text").into())
    }
}

async fn list(archive: &Archive) -> Result<VecDeque<i64>, StorageError> {
    let names = archive.list(CHECKPOINTS).await?;
    let mut seqs: Vec<i64> = seqs(&names).collect();
    seqs.sort_unstable();
    Ok(seqs.into())
}

/// The checkpoints that these files hold. Skips other names, such as those of unfinished uploads.
fn seqs(names: &[String]) -> impl Iterator<Item = i64> {
    let seq = |name: &String| name.strip_suffix(".txt")?.parse().ok().filter(|seq| checkpoint_name(*seq) == *name);
    names.iter().filter_map(seq)
}

/// Opens the signed note of the checkpoint `seq`.
pub(in crate::service) fn open(note: &str, keys: &[VerifierKey], seq: i64) -> Result<Checkpoint, Broken> {
    covering(Checkpoint::open(note, keys), seq)
}

/// Does the same as [`open`] for a note that follows another, whose key is among `keys`.
pub(in crate::service) fn open_next(note: &str, keys: &[VerifierKey], seq: i64) -> Result<Checkpoint, Broken> {
    covering(Checkpoint::open_next(note, keys), seq)
}

fn covering(opened: Result<Checkpoint, CheckpointError>, seq: i64) -> Result<Checkpoint, Broken> {
    let checkpoint = opened.map_err(|error| Broken::at(seq, format!("its checkpoint is bad: {error}")))?;
    if checkpoint.head.seq != seq {
        return Err(Broken::at(seq, format!("its checkpoint covers {} events", checkpoint.head.seq)));
    }
    Ok(checkpoint)
}

/// Trusts the key that a trusted checkpoint hands over to.
pub(in crate::service) fn follow(keys: &mut Vec<VerifierKey>, checkpoint: &Checkpoint) {
    keys.extend(checkpoint.next_key.clone().filter(|key| !keys.contains(key)));
}

/// Checks that a walk found what the checkpoint at its end states. If not, no event from `first`, the first after the
/// checkpoint before, can be trusted.
pub(in crate::service) fn agree(checkpoint: &Checkpoint, walk: &Walk, origin: &str, first: i64) -> Result<(), Broken> {
    let root = walk.tree().map(|tree| tree.root());
    let wrong = if checkpoint.origin != origin {
        "the checkpoint belongs to another chain"
    } else if walk.head().seq < checkpoint.head.seq {
        return Err(Broken::at(
            walk.next_seq(),
            format!("missing, though checkpoint {} covers it", checkpoint.head.seq),
        ));
    } else if checkpoint.head != walk.head() || root.is_some_and(|root| root != checkpoint.root) {
        "the chain is not the one that was signed"
    } else {
        return Ok(());
    };
    Err(Broken::at(first, format!("{wrong} (checkpoint {})", checkpoint.head.seq)))
}
