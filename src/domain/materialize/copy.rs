//! Materializations (copies): the governed files of views. Defines what identifies one, who may share it, and its
//! states.
//!
//! Never here: making one.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use hmac::{Hmac, Mac};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::core::seal::{RootKey, hex, hmac};

/// The version of the way in which materializations are written. A new version makes all of them again, under other
/// keys.
pub const WRITER_VERSION: u32 = 2;

/// A digest of everything about a recipient on which its materializations depend: recipients with equal digests read
/// the same files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RulesId(pub [u8; 32]);

/// A digest of one source file, or group of files, under one version of a view and its rules; it identifies one
/// materialization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(pub [u8; 32]);

/// The facts about a recipient and the moment on which a view's materializations depend. Facts that the view does not
/// refer to are absent, so they do not prevent sharing.
#[derive(Clone, Debug, Serialize)]
pub struct Entitlement<'a> {
    /// The view.
    pub view_id: Uuid,
    /// Its version.
    pub view_version: i64,
    /// The recipient's properties that the row filter names, unchanged.
    pub properties: BTreeMap<&'a str, &'a Value>,
    /// The recipient, if pseudonyms are per recipient.
    pub recipient_id: Option<Uuid>,
    /// The share, if pseudonyms are per share.
    pub share_id: Option<Uuid>,
    /// The number of the key for pseudonyms.
    pub key_version: Option<u32>,
    /// The day, if the row filter depends on it.
    pub day: Option<NaiveDate>,
    /// The year, if a mask depends on it.
    pub year: Option<i32>,
    /// The hidden ZIP prefixes, if a mask depends on them.
    pub zips: Option<String>,
    /// The recipient's set of surrogates, if a mask shows some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surrogates: Option<Uuid>,
    /// The digest of the masks in effect instead of the view's own, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<&'a str>,
}

impl Entitlement<'_> {
    /// Computes the digest.
    pub fn rules(&self) -> RulesId {
        // Maps are sorted and all keys are strings, so serialization is unambiguous and never fails.
        let text = serde_json::to_vec(&(WRITER_VERSION, self)).unwrap_or_default();
        RulesId(Sha256::digest(text).into())
    }
}

/// How a materialization is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyKind {
    /// A file that the server wrote.
    File,
    /// A source file that holds no more than the view shows, and is therefore handed out itself.
    Source,
}

impl CopyKind {
    /// The word that the database stores and the API answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Source => "source",
        }
    }

    /// Parses the word that [`Self::as_str`] gives.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::File, Self::Source].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The state of a materialization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// A server is making it, or was when it stopped.
    Making,
    /// It may be read.
    Ready,
    /// Making it failed; it is tried again when its hold ends.
    Failed,
    /// It is no longer handed out; it is deleted when the last URL has expired.
    Draining,
    /// It was deleted.
    Deleted,
}

impl CopyState {
    /// The word that the database stores and the API answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Draining => "draining",
            Self::Deleted => "deleted",
        }
    }

    /// Parses the word that [`Self::as_str`] gives.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Making, Self::Ready, Self::Failed, Self::Draining, Self::Deleted];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

/// A materialization in the register.
#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    /// Its identity.
    pub id: Uuid,
    /// The digest of its source and rules.
    pub unit: UnitId,
    /// How it is stored.
    pub kind: CopyKind,
    /// The view.
    pub view_id: Uuid,
    /// The view's version.
    pub view_version: i64,
    /// The digest that its readers share.
    pub rules: RulesId,
    /// The source file, as its table's log writes it; for operators.
    pub source: String,
    /// The key below the location of materializations, or the source file's path in its storage.
    pub object_key: String,
    /// Its state.
    pub state: CopyState,
    /// Its size in bytes. 0 if it has no rows and was not written; the size of its sources while it is being made.
    pub bytes: u64,
    /// Its number of rows.
    pub rows: u64,
    /// Its statistics, as Delta writes them.
    pub stats: Option<String>,
    /// When making it first began.
    pub created_at: DateTime<Utc>,
    /// Until when a URL that was handed out may need it.
    pub needed_until: DateTime<Utc>,
    /// The server that is making it.
    pub holder: Uuid,
    /// Until when other servers leave it to that server.
    pub held_until: DateTime<Utc>,
    /// How often making it was begun.
    pub attempts: i64,
    /// Why making it failed, for operators.
    pub failure: Option<String>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// The key that names units and their objects. Without it, names reveal nothing.
#[derive(Clone)]
pub struct UnitKey([u8; 32]);

/// The properties that identify a file of a group whose rows are mixed.
#[derive(Clone, Copy, Debug)]
pub struct MemberParts<'a> {
    /// Its path, as the log writes it.
    pub path: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the epoch.
    pub modification_time: i64,
    /// Its deletion vector: storage type, path or inline data, and offset.
    pub deletion_vector: Option<(&'a str, &'a str, Option<i32>)>,
}

/// The properties that identify a unit with one source file.
#[derive(Clone, Copy, Debug)]
pub struct UnitParts<'a> {
    /// The digest of its rules.
    pub rules: RulesId,
    /// How it will be stored.
    pub kind: CopyKind,
    /// The Delta table's own id.
    pub delta_id: &'a str,
    /// The source file's path, as the log writes it.
    pub path: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the epoch.
    pub modification_time: i64,
    /// Its deletion vector: storage type, path or inline data, and offset.
    pub deletion_vector: Option<(&'a str, &'a str, Option<i32>)>,
}

impl UnitKey {
    /// Derives the key from a server's root key.
    pub fn new(root: &RootKey) -> Self {
        let mut key = [0; 32];
        root.derive(b"weir/copy-unit/v1", &mut key);
        Self(key)
    }

    /// Names the unit of one source file.
    pub fn unit(&self, parts: UnitParts<'_>) -> UnitId {
        let UnitParts { rules, kind, delta_id, path, size, modification_time, deletion_vector } = parts;
        let mut mac = hmac(&self.0);
        mac.update(&rules.0);
        let (storage, place, offset) = deletion_vector.unwrap_or_default();
        for text in [kind.as_str(), delta_id, path, storage, place] {
            update_text(&mut mac, text);
        }
        mac.update(&size.to_be_bytes());
        mac.update(&modification_time.to_be_bytes());
        mac.update(&offset.map_or(i64::MIN, i64::from).to_be_bytes());
        UnitId(mac.finalize().into_bytes().into())
    }

    /// Names the unit of a group's files under some rules. Members must be in the order of their paths.
    pub fn mixed_unit<'a>(
        &self,
        rules: RulesId,
        group: Uuid,
        members: impl Iterator<Item = MemberParts<'a>>,
    ) -> UnitId {
        let mut mac = hmac(&self.0).chain_update(b"weir/mixed-unit/v1").chain_update(rules.0);
        mac.update(group.as_bytes());
        for MemberParts { path, size, modification_time, deletion_vector } in members {
            let (storage, place, offset) = deletion_vector.unwrap_or_default();
            for text in [path, storage, place] {
                update_text(&mut mac, text);
            }
            mac.update(&size.to_be_bytes());
            mac.update(&modification_time.to_be_bytes());
            mac.update(&offset.map_or(i64::MIN, i64::from).to_be_bytes());
        }
        UnitId(mac.finalize().into_bytes().into())
    }

    /// Derives the key for the order of a unit's rows. Unlike a unit's name, it is never shown, not even in part.
    pub fn shuffle(&self, unit: UnitId) -> ShuffleKey {
        let mac = hmac(&self.0).chain_update(b"weir/shuffle/v1").chain_update(unit.0);
        ShuffleKey(mac.finalize().into_bytes().into())
    }

    /// An unpredictable number for a file that will be grouped with others.
    pub fn chance(&self, scope: Uuid, path: &str) -> u128 {
        short(hmac(&self.0).chain_update(b"weir/mixing-chance/v1").chain_update(scope).chain_update(path)).as_u128()
    }

    /// Names the `index`-th group that was formed within a scope out of `from`, for these shown partition values. All
    /// servers give the same name.
    pub fn mixing_group(&self, scope: Uuid, from: GroupedFrom, values: &[Option<&str>], index: u64) -> Uuid {
        let (word, version) = match from {
            GroupedFrom::Commit(version) => ("commit", version),
            GroupedFrom::Rest(version) => ("rest", version),
        };
        let mut mac = hmac(&self.0).chain_update(b"weir/mixing-group/v1").chain_update(scope);
        update_text(&mut mac, word);
        mac.update(&version.to_be_bytes());
        mac.update(&index.to_be_bytes());
        for value in values {
            mac.update(&[u8::from(value.is_some())]);
            update_text(&mut mac, value.unwrap_or_default());
        }
        short(mac)
    }

    /// Derives the key for the ids of one recipient's files of one table.
    pub fn file_key(&self, table_id: Uuid) -> FileKey {
        let mac = hmac(&self.0).chain_update(b"weir/file-id/v1").chain_update(table_id.as_bytes());
        FileKey(hmac(&mac.finalize().into_bytes()))
    }
}

/// Adds a text and its length, so that different lists of texts never give the same bytes.
fn update_text(mac: &mut Hmac<Sha256>, text: &str) {
    Mac::update(mac, &(text.len() as u64).to_be_bytes());
    Mac::update(mac, text.as_bytes());
}

/// The first half of a digest.
fn short(mac: Hmac<Sha256>) -> Uuid {
    half(mac.finalize().into_bytes().into())
}

fn half(digest: [u8; 32]) -> Uuid {
    let mut half = [0; 16];
    half.iter_mut().zip(digest).for_each(|(half, byte)| *half = byte);
    Uuid::from_bytes(half)
}

/// Names the scope of a table's groups. All views that show the same partition columns share one scope and thus the
/// same groups, so that comparing them reveals nothing. Does not depend on keys.
pub fn mixing_scope(delta_id: &str, shown_partitions: &[&str]) -> Uuid {
    let mut digest = Sha256::new_with_prefix(b"weir/mixing-scope/v1");
    for text in std::iter::once(&delta_id).chain(shown_partitions) {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    half(digest.finalize().into())
}

/// Names a file within a scope.
pub fn mixing_file(scope: Uuid, path: &str) -> Uuid {
    let digest = Sha256::new_with_prefix(b"weir/mixing-file/v1").chain_update(scope).chain_update(path);
    half(digest.finalize().into())
}

/// The origin of the files in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupedFrom {
    /// The files that the commit of this version added.
    Commit(u64),
    /// The files of this version whose commits are no longer in the log.
    Rest(u64),
}

/// The key for the order of mixed rows. Cannot be printed.
#[derive(Clone)]
pub struct ShuffleKey(pub [u8; 32]);

impl std::fmt::Debug for ShuffleKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShuffleKey(***)")
    }
}

/// The key for the ids of one recipient's files of one table. Cannot be printed.
#[derive(Clone)]
pub struct FileKey(Hmac<Sha256>);

impl FileKey {
    /// The id, in hex, of the file with the internal name `name`.
    pub fn id(&self, name: &str) -> String {
        hex(&self.0.clone().chain_update(name.as_bytes()).finalize().into_bytes())
    }
}

impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileKey(***)")
    }
}

impl std::fmt::Debug for UnitKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UnitKey(***)")
    }
}

/// The number of characters of an object key that identify its unit.
const UNIT_CHARACTERS: usize = 32;

/// Makes a new object key for `unit`. Keys of one unit begin alike, so their order stays the same when a
/// materialization is made again; they end at random, so that a URL of a deleted object never leads to another.
pub fn object_key(unit: UnitId, random: Uuid) -> String {
    let unit = hex(&unit.0);
    format!("m/{}-{}", &unit[..UNIT_CHARACTERS], random.simple())
}

/// The part of a path that stays the same when a materialization is made again; for other paths, the whole path.
pub fn stable_part(path: &str) -> &str {
    let copy = path.strip_prefix("m/").and_then(|name| name.split_once('-'));
    copy.map_or(path, |(unit, _)| unit)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn entitlement<'a>(plans: &'a Value, recipient_id: Option<Uuid>) -> Entitlement<'a> {
        Entitlement {
            view_id: Uuid::from_u128(1),
            view_version: 1,
            properties: BTreeMap::from([("plans", plans)]),
            recipient_id,
            share_id: None,
            key_version: None,
            day: None,
            year: None,
            zips: None,
            surrogates: None,
            masks: None,
        }
    }

    #[test]
    fn recipients_share_copies_exactly_if_what_they_depend_on_is_equal() {
        let (hmo, ppo) = (serde_json::json!(["HMO"]), serde_json::json!(["PPO"]));
        let of = |plans, recipient| entitlement(plans, recipient).rules();
        assert_eq!(of(&hmo, None), of(&hmo, None));
        assert_ne!(of(&hmo, None), of(&ppo, None));
        assert_ne!(of(&hmo, Some(Uuid::from_u128(1))), of(&hmo, Some(Uuid::from_u128(2))));
    }

    #[test]
    fn every_part_tells_units_apart() {
        let key = UnitKey::new(&RootKey::new(Zeroizing::new([7; 32])));
        let base = UnitParts {
            rules: RulesId([1; 32]),
            kind: CopyKind::File,
            delta_id: "t",
            path: "a",
            size: 1,
            modification_time: 2,
            deletion_vector: None,
        };
        let others = [
            UnitParts { rules: RulesId([2; 32]), ..base },
            UnitParts { kind: CopyKind::Source, ..base },
            UnitParts { delta_id: "ta", path: "", ..base },
            UnitParts { path: "b", ..base },
            UnitParts { size: 2, ..base },
            UnitParts { modification_time: 3, ..base },
            UnitParts { deletion_vector: Some(("u", "x", None)), ..base },
            UnitParts { deletion_vector: Some(("u", "x", Some(1))), ..base },
        ];
        let mut units: Vec<UnitId> = others.into_iter().chain([base]).map(|parts| key.unit(parts)).collect();
        let all = units.len();
        units.sort();
        units.dedup();
        assert_eq!(units.len(), all);
        assert_eq!(key.unit(base), key.unit(base));
    }

    #[test]
    fn keys_of_one_unit_have_one_stable_part() {
        let unit = UnitId([0xab; 32]);
        let (one, two) = (object_key(unit, Uuid::from_u128(1)), object_key(unit, Uuid::from_u128(2)));
        assert_ne!(one, two);
        assert_eq!(stable_part(&one), stable_part(&two));
        assert_eq!(stable_part("plan=HMO/part-0.parquet"), "plan=HMO/part-0.parquet");
    }
}
