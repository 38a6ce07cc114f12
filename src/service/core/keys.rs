//! Root keys over the life of an installation: the keys that its servers have used, the newest one, and the record of
//! each rotation.
//!
//! Keys are files on the servers; the database knows only their fingerprints. Never here: a key's bytes, or keys
//! derived from them.

use serde_json::json;

use crate::{
    domain::{
        audit::{
            Actor, Event, Object,
            action::{Action, Kind},
            checkpoint::{NoSigningKey, SigningKey},
        },
        core::seal::RootKey,
    },
    service::audit::write,
    store::{Db, StoreError},
};

use super::clock::Clock;

/// Why a server cannot use its keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is no key.
    #[error("secrets.key_files names no key; name at least one file of 32 random bytes")]
    Empty,
    /// The keys belong to another installation.
    #[error(
        "none of secrets.key_files is a key that this database's servers use (fingerprints {0}); give this server the \
         same key file"
    )]
    Foreign(String),
    /// Other servers seal with a newer key, which this server lacks.
    #[error(
        "this database's servers have gone on to the key {0}, which secrets.key_files does not name; add its file, \
         behind the others or in front of them"
    )]
    Outdated(String),
    /// The key for pseudonyms is missing.
    #[error(
        "views.pseudonym_key is `{0}`, which is none of secrets.key_files that this database's servers have used; \
         `weir keys list` has their fingerprints"
    )]
    NoPseudonymKey(String),
    /// Two servers brought two different new keys.
    #[error("another server has gone on to another key at the same moment; start this one again")]
    Raced,
    /// A key is not usable.
    #[error(transparent)]
    Signing(#[from] NoSigningKey),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks that a server with these keys, the first of which is active, can open what others sealed. Returns the
/// fingerprints of all keys that were ever active, oldest first, including this server's active key. If that key is
/// new, it is the last, and [`activate_key`] has yet to record it.
pub async fn check_keys(db: &Db, keys: &[RootKey]) -> Result<Vec<String>, KeyringError> {
    let active = keys.first().ok_or(KeyringError::Empty)?.fingerprint();
    let own: Vec<String> = keys.iter().map(RootKey::fingerprint).collect();
    let mut known = db.list_key_fingerprints().await?;
    if !known.is_empty() && !known.iter().any(|fingerprint| own.contains(fingerprint)) {
        return Err(KeyringError::Foreign(known.join(", ")));
    }
    if let Some(newest) = known.last().filter(|newest| !own.contains(newest)) {
        return Err(KeyringError::Outdated(newest.clone()));
    }
    if !known.contains(&active) {
        known.push(active);
    }
    Ok(known)
}

/// Records the active key if it is new, and checks that the recorded keys begin with `expected`, in that order.
pub async fn activate_key(db: &Db, clock: &Clock, keys: &[RootKey], expected: &[String]) -> Result<(), KeyringError> {
    let active = keys.first().ok_or(KeyringError::Empty)?;
    let fingerprint = active.fingerprint();
    let mut tx = db.begin().await?;
    tx.lock_audit_head().await?;
    let known = tx.list_key_fingerprints().await?;
    let now = clock.now();
    let is_new = tx.remember_key_fingerprint(&fingerprint, now).await?;
    // The very first key replaces none, and comes before anything that could be recorded.
    if let Some(replaced) = known.last().filter(|_| is_new) {
        let mut event = event(Actor::system("keyring"), Action::KeyActivate, active)?;
        event.change.get_or_insert_default()["replaces"] = json!(replaced);
        write::append(&mut tx, event, now).await?;
    }
    if !tx.list_key_fingerprints().await?.starts_with(expected) {
        return Err(KeyringError::Raced);
    }
    Ok(tx.commit().await?)
}

/// Records the creation of a key that is not used yet.
pub async fn record_new_key(db: &Db, clock: &Clock, key: &RootKey) -> Result<(), KeyringError> {
    let mut tx = db.begin().await?;
    tx.lock_audit_head().await?;
    write::append(&mut tx, event(Actor::system("command line"), Action::KeyCreate, key)?, clock.now()).await?;
    Ok(tx.commit().await?)
}

fn event(actor: Actor, action: Action, key: &RootKey) -> Result<Event, NoSigningKey> {
    let audit_key = SigningKey::derive(key)?.verifier().to_string();
    Ok(Event {
        object: Some(Object { kind: Kind::Key, id: None, name: Some(key.fingerprint()) }),
        change: Some(json!({"audit_key": audit_key})),
        ..Event::new(actor, action)
    })
}

/// Returns the key for pseudonyms and its number among all keys that were ever active: the active key, or the one with
/// the fingerprint `pinned`.
pub fn pseudonym_key(keys: &[RootKey], known: &[String], pinned: Option<&str>) -> Result<(RootKey, u32), KeyringError> {
    let key = match pinned {
        None => keys.first(),
        Some(pinned) => keys.iter().find(|key| key.fingerprint() == pinned),
    };
    let number = |key: &RootKey| known.iter().position(|known| *known == key.fingerprint()).map(|index| index + 1);
    let found = key.and_then(|key| Some((key.clone(), u32::try_from(number(key)?).ok()?)));
    found.ok_or_else(|| pinned.map_or(KeyringError::Empty, |pinned| KeyringError::NoPseudonymKey(pinned.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    #[test]
    fn pseudonyms_follow_the_active_key_unless_they_are_pinned() {
        let keys: Vec<RootKey> = [2, 1].map(|byte| RootKey::new(Zeroizing::new([byte; 32]))).into();
        let known: Vec<String> = keys.iter().rev().map(RootKey::fingerprint).collect();
        let number = |pinned| pseudonym_key(&keys, &known, pinned).map(|(key, number)| (key.fingerprint(), number));
        assert_eq!(number(None).unwrap(), (known[1].clone(), 2));
        assert_eq!(number(Some(&known[0])).unwrap(), (known[0].clone(), 1));
        assert!(matches!(number(Some("other")), Err(KeyringError::NoPseudonymKey(_))));
        assert!(matches!(pseudonym_key(&keys, &known[..1], Some(&known[1])), Err(KeyringError::NoPseudonymKey(_))));
    }
}
