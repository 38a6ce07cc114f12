//! Copies: the governed files that views are read as. What one is made of, who may share it, and where it stands.
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

/// Counts the ways in which copies were written. A new one makes every copy anew, under other keys.
pub const WRITER_VERSION: u32 = 2;

/// A digest of what of a recipient its copies depend on: recipients with equal ones read the same files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RulesId(pub [u8; 32]);

/// A digest of one source file under one version of a view and its rules: what one copy is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(pub [u8; 32]);

/// What of a recipient, and of the moment, a view's copies depend on. What a view does not refer to is absent, so that
/// it keeps nobody from sharing.
#[derive(Clone, Debug, Serialize)]
pub struct Entitlement<'a> {
    /// The view.
    pub view_id: Uuid,
    /// Its version.
    pub view_version: i64,
    /// The recipient's properties that the row filter names, as they are.
    pub properties: BTreeMap<&'a str, &'a Value>,
    /// The recipient, where pseudonyms are its own.
    pub recipient_id: Option<Uuid>,
    /// The share, where pseudonyms are its recipients'.
    pub share_id: Option<Uuid>,
    /// The number of the key that pseudonyms are made with.
    pub key_version: Option<u32>,
    /// The day, where the row filter depends on it.
    pub day: Option<NaiveDate>,
    /// The year, where a mask depends on it.
    pub year: Option<i32>,
    /// The ZIP prefixes that are not shown, where a mask depends on them.
    pub zips: Option<String>,
}

impl Entitlement<'_> {
    /// The digest.
    pub fn rules(&self) -> RulesId {
        // Maps are sorted and every member has a string key, so that there is one text and always one.
        let text = serde_json::to_vec(&(WRITER_VERSION, self)).unwrap_or_default();
        RulesId(Sha256::digest(text).into())
    }
}

/// What a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyKind {
    /// A file that the server wrote.
    File,
    /// A source file that was found to hold no more than the view shows, and is handed out itself.
    Source,
}

impl CopyKind {
    /// The word kept in the database and answered.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Source => "source",
        }
    }

    /// The kind that [`Self::as_str`] named.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::File, Self::Source].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where a copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// Somebody is at it, or was.
    Making,
    /// It may be read.
    Ready,
    /// It could not be made; it is tried again when its hold ends.
    Failed,
    /// Nobody is handed it any more; it goes when the last URL is dead.
    Draining,
    /// It is gone.
    Deleted,
}

impl CopyState {
    /// The word kept in the database and answered.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Draining => "draining",
            Self::Deleted => "deleted",
        }
    }

    /// The state that [`Self::as_str`] named.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Making, Self::Ready, Self::Failed, Self::Draining, Self::Deleted];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

/// A copy in the register.
#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    /// Its identity.
    pub id: Uuid,
    /// What it is made of.
    pub unit: UnitId,
    /// What it is.
    pub kind: CopyKind,
    /// The view.
    pub view_id: Uuid,
    /// The view's version.
    pub view_version: i64,
    /// What its readers have in common.
    pub rules: RulesId,
    /// The source file, as its table's log spells it; for operators.
    pub source: String,
    /// Where it lies: the key below the place of copies, or the source file's path in its store.
    pub object_key: String,
    /// Where it stands.
    pub state: CopyState,
    /// Its size; 0 where it holds no row and was not written, and that of its sources while it is being made.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Its statistics, as Delta writes them.
    pub stats: Option<String>,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// Until when a URL that was handed out may need it.
    pub needed_until: DateTime<Utc>,
    /// The server that is at it.
    pub holder: Uuid,
    /// Until when others leave it to that server.
    pub held_until: DateTime<Utc>,
    /// How often it was begun.
    pub attempts: i64,
    /// Why it could not be made, for operators.
    pub failure: Option<String>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// Names units and their objects: nobody without the server's key can tell what a name stands for.
#[derive(Clone)]
pub struct UnitKey([u8; 32]);

/// A file of a group whose rows are mixed, by what tells it from others.
#[derive(Clone, Copy, Debug)]
pub struct MemberParts<'a> {
    /// Its path, as the log spells it.
    pub path: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the epoch.
    pub modification_time: i64,
    /// Its deletion vector, by every part that tells it from others.
    pub deletion_vector: Option<(&'a str, &'a str, Option<i32>)>,
}

/// What a unit is named by.
#[derive(Clone, Copy, Debug)]
pub struct UnitParts<'a> {
    /// The rules that it is made under.
    pub rules: RulesId,
    /// What it becomes.
    pub kind: CopyKind,
    /// The table's own id.
    pub delta_id: &'a str,
    /// The source file's path, as the log spells it.
    pub path: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the epoch.
    pub modification_time: i64,
    /// Its deletion vector, by every part that tells it from others.
    pub deletion_vector: Option<(&'a str, &'a str, Option<i32>)>,
}

impl UnitKey {
    /// The key of a server with this root key.
    pub fn new(root: &RootKey) -> Self {
        let mut key = [0; 32];
        root.derive(b"weir/copy-unit/v1", &mut key);
        Self(key)
    }

    /// The unit of these parts.
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

    /// The unit of a group's files under some rules, in the order of their paths.
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

    /// What the order of a unit's rows comes from. A unit's name is told in part; this is not.
    pub fn shuffle(&self, unit: UnitId) -> ShuffleKey {
        let mac = hmac(&self.0).chain_update(b"weir/shuffle/v1").chain_update(unit.0);
        ShuffleKey(mac.finalize().into_bytes().into())
    }

    /// A number that nobody can tell beforehand, for a file that is to be grouped with others.
    pub fn chance(&self, scope: Uuid, path: &str) -> u128 {
        short(hmac(&self.0).chain_update(b"weir/mixing-chance/v1").chain_update(scope).chain_update(path)).as_u128()
    }

    /// The `index`-th group of those that were formed within a scope of `from` and some shown partition values: the same
    /// on every server.
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

    /// The key that the ids of one recipient's files of one table are made with.
    pub fn file_key(&self, table_id: Uuid) -> FileKey {
        let mac = hmac(&self.0).chain_update(b"weir/file-id/v1").chain_update(table_id.as_bytes());
        FileKey(hmac(&mac.finalize().into_bytes()))
    }
}

/// A text behind its length, so that no two lists of texts read alike.
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

/// What the groups of one table's files are kept under, for all views that show the same partition columns: their groups
/// are the same, so that nobody learns from comparing them. Stays the same when keys change.
pub fn mixing_scope(delta_id: &str, shown_partitions: &[&str]) -> Uuid {
    let mut digest = Sha256::new_with_prefix(b"weir/mixing-scope/v1");
    for text in std::iter::once(&delta_id).chain(shown_partitions) {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    half(digest.finalize().into())
}

/// What a file is known by within a scope.
pub fn mixing_file(scope: Uuid, path: &str) -> Uuid {
    let digest = Sha256::new_with_prefix(b"weir/mixing-file/v1").chain_update(scope).chain_update(path);
    half(digest.finalize().into())
}

/// What files were grouped out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupedFrom {
    /// The files that the commit of this version brought.
    Commit(u64),
    /// The files of this version that no commit in the log brought: it no longer reaches back to them.
    Rest(u64),
}

/// What the order of mixed rows comes from. Cannot be printed.
#[derive(Clone)]
pub struct ShuffleKey(pub [u8; 32]);

impl std::fmt::Debug for ShuffleKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShuffleKey(***)")
    }
}

/// The key that the ids of one recipient's files of one table are made with. Cannot be printed.
#[derive(Clone)]
pub struct FileKey(Hmac<Sha256>);

impl FileKey {
    /// The id of the file that others know as `name`, in hex.
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

/// How many characters of a copy's key stand for its unit.
const UNIT_CHARACTERS: usize = 32;

/// A new key for the object of `unit`. Keys of one unit begin alike, so that their order is the same whenever a copy is
/// made anew, and end at random, so that a URL to one that was deleted never leads to another.
pub fn object_key(unit: UnitId, random: Uuid) -> String {
    let unit = hex(&unit.0);
    format!("m/{}-{}", &unit[..UNIT_CHARACTERS], random.simple())
}

/// The part of a path that stays the same when a copy is made anew; the whole path where it is not a copy's.
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
