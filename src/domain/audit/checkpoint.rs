//! Signs and reads checkpoints: signed statements of how long the audit chain is and what it hashes to.
//!
//! The text follows C2SP tlog-checkpoint and the signature C2SP signed-note (Ed25519), so that existing tools can read
//! them. Extension lines name the chain's head, the checkpoint before, and the time. Event hashes are RFC 6962 leaf
//! hashes, so the root is that of an ordinary transparency log. Never here: where checkpoints are stored.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::domain::core::seal::{RootKey, hex};

use super::{Head, timestamp};

/// The label under which the signing key is derived from a root key.
const LABEL: &[u8] = b"weir/audit-checkpoint/v1";
/// The algorithm byte of Ed25519 in signed notes.
const ED25519_NOTE: u8 = 0x01;
/// The start of a signature's line.
const SIGNATURE_MARK: &str = "\u{2014} ";
/// The length of a decoded signature: the key's id and the signature itself.
const SIGNATURE_LENGTH: usize = 4 + 64;

/// The content of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the chain; see [`origin`].
    pub origin: String,
    /// The newest event covered.
    pub head: Head,
    /// The root of the Merkle tree over the hashes of events 1 to `head.seq`.
    pub root: [u8; 32],
    /// SHA-256 of the text of the checkpoint before, without its signatures; `None` for the first.
    pub previous: Option<[u8; 32]>,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The key that signs from now on, if it changes. Such a checkpoint is signed by both keys, so that a verifier that
    /// trusts the old key can go on to trust the new one.
    pub next_key: Option<VerifierKey>,
}

/// Why a text is not accepted as a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is not the text of a checkpoint.
    #[error("it is not the text of a checkpoint")]
    Malformed,
    /// None of its signatures is by a trusted key.
    #[error("no key that is believed has signed it")]
    Unsigned,
}

/// Names the chain that begins with an event of this hash.
pub fn origin(first_hash: &[u8; 32]) -> String {
    format!("weir-audit/{}", hex(&first_hash[..8]))
}

/// Hashes the signed part of a note, as the next checkpoint states it.
pub fn digest(note: &str) -> [u8; 32] {
    Sha256::digest(signed_part(note).unwrap_or(note)).into()
}

/// Finds the signed part of a note: everything before the empty line.
fn signed_part(note: &str) -> Option<&str> {
    note.find("\n\n").and_then(|at| note.get(..=at))
}

impl Checkpoint {
    /// Writes the text to sign; ends with a newline.
    pub fn text(&self) -> String {
        let encode = |hash: &[u8; 32]| BASE64_STANDARD.encode(hash);
        let next_key = self.next_key.as_ref().map(|key| format!("key {key}\n")).unwrap_or_default();
        format!(
            "{}\n{}\n{}\nhead {}\nprevious {}\ntime {}\n{next_key}",
            self.origin,
            self.head.seq,
            encode(&self.root),
            encode(&self.head.hash),
            self.previous.as_ref().map_or_else(|| "none".to_owned(), encode),
            timestamp(self.at)
        )
    }

    /// Reads a signed note. One of `keys` must have signed it, and so must the next key if it names one. A note with
    /// other lines than [`SigningKey`] writes is refused.
    pub fn open(note: &str, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let (checkpoint, signatures) = Self::read(note, keys)?;
        if signatures.contains(&Signature::Known) { Ok(checkpoint) } else { Err(CheckpointError::Unsigned) }
    }

    /// Does the same as [`Self::open`] for a checkpoint that follows one whose key is among `keys`: each signature must
    /// be by one of them or by the key that it hands over to.
    pub fn open_next(note: &str, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let (checkpoint, signatures) = Self::read(note, keys)?;
        let is_handed_on = |at: usize| at == 0 && checkpoint.next_key.is_some();
        let is_known = |(at, signature): (usize, &Signature)| *signature == Signature::Known || is_handed_on(at);
        let by_known = signatures.contains(&Signature::Known) && signatures.iter().enumerate().all(is_known);
        if by_known { Ok(checkpoint) } else { Err(CheckpointError::Unsigned) }
    }

    fn read(note: &str, keys: &[VerifierKey]) -> Result<(Self, Vec<Signature>), CheckpointError> {
        let text = signed_part(note).ok_or(CheckpointError::Malformed)?;
        let signatures = note.get(text.len() + 1..).and_then(|lines| lines.strip_suffix('\n'));
        let lines: Vec<&str> = signatures.ok_or(CheckpointError::Unsigned)?.split('\n').collect();
        let by = |line: &str| {
            if keys.iter().any(|key| key.signed(text, line)) {
                Some(Signature::Known)
            } else {
                signer(line).map(|_| Signature::Unknown)
            }
        };
        let signatures = lines.iter().map(|line| by(line)).collect::<Option<Vec<_>>>();
        let signatures = signatures.ok_or(CheckpointError::Unsigned)?;
        if !signatures.contains(&Signature::Known) {
            return Err(CheckpointError::Unsigned);
        }
        let checkpoint = Self::parse(text).ok_or(CheckpointError::Malformed)?;
        // The new key signs first, then the key that hands over to it.
        let is_written_so = match (&checkpoint.next_key, lines.as_slice()) {
            (None, [_]) => true,
            (Some(next), [first, second]) => next.signed(text, first) && signer(second) != Some(next.name()),
            _ => false,
        };
        if is_written_so { Ok((checkpoint, signatures)) } else { Err(CheckpointError::Unsigned) }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let origin = lines.next()?.to_owned();
        let seq = lines.next()?.parse().ok()?;
        let root = hash(lines.next()?)?;
        let head = Head { seq, hash: hash(lines.next()?.strip_prefix("head ")?)? };
        let previous = match lines.next()?.strip_prefix("previous ")? {
            "none" => None,
            digest => Some(hash(digest)?),
        };
        let at = DateTime::parse_from_rfc3339(lines.next()?.strip_prefix("time ")?).ok()?.to_utc();
        let next_key = match lines.next() {
            Some(line) => Some(VerifierKey::parse(line.strip_prefix("key ")?)?),
            None => None,
        };
        Some(Self { origin, head, root, previous, at, next_key })
    }
}

/// What is known about a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signature {
    /// It is by a trusted key.
    Known,
    /// It looks like a signature by an unknown key.
    Unknown,
}

/// The name of the key in the signature line `line`; `None` if it is not one.
fn signer(line: &str) -> Option<&str> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_MARK)?.split_once(' ')?;
    let is_signature = BASE64_STANDARD.decode(encoded).is_ok_and(|signature| signature.len() == SIGNATURE_LENGTH);
    (is_signature && is_key_name(name)).then_some(name)
}

/// The key names in the signature lines of `note`, unverified.
pub fn signers(note: &str) -> impl Iterator<Item = &str> {
    let signatures = signed_part(note).and_then(|text| note.get(text.len() + 1..)).unwrap_or_default();
    signatures.lines().filter_map(signer)
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(char::is_whitespace)
}

fn hash(text: &str) -> Option<[u8; 32]> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

/// Signs checkpoints with a key derived from a root key. Its debug output hides the key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

/// No signing key could be derived from the root key; a fault of the key's bytes or of the cryptographic library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no signing key can be derived from the root key")]
pub struct NoSigningKey;

impl SigningKey {
    /// Derives the signing key of `root`.
    pub fn derive(root: &RootKey) -> Result<Self, NoSigningKey> {
        let mut seed = Zeroizing::new([0u8; 32]);
        root.derive(LABEL, seed.as_mut());
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| NoSigningKey)?;
        let public = <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| NoSigningKey)?;
        let name = format!("weir-audit-{}", hex(&Sha256::digest(public)[..8]));
        Ok(Self { pair, verifier: VerifierKey { name, public } })
    }

    /// The public key that verifies its signatures.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Writes the signed note of `checkpoint`.
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        let text = checkpoint.text();
        format!("{text}\n{}", self.signature(&text))
    }

    /// Writes the signed note of another statement. Its text must end with a newline, contain no empty line, and not
    /// read as a checkpoint.
    pub fn sign_statement(&self, text: &str) -> String {
        format!("{text}\n{}", self.signature(text))
    }

    /// Adds a signature by this key to `note`.
    pub fn cosign(&self, note: &str) -> String {
        format!("{note}{}", self.signature(signed_part(note).unwrap_or(note)))
    }

    /// Writes this key's signature line for `text`.
    fn signature(&self, text: &str) -> String {
        let mut signature = self.verifier.id().to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{SIGNATURE_MARK}{} {}\n", self.verifier.name, BASE64_STANDARD.encode(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifier.name)
    }
}

/// Verifies checkpoints; a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    /// The key's name, as in signatures.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a key as written by [`fmt::Display`].
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let key = BASE64_STANDARD.decode(key).ok()?;
        let (&ED25519_NOTE, public) = key.split_first()? else { return None };
        let key = Self { name: name.to_owned(), public: public.try_into().ok()? };
        (is_key_name(name) && hex(&key.id()) == id).then_some(key)
    }

    /// Whether `note` is exactly this key's signed note of the statement `text`.
    pub fn has_signed(&self, text: &str, note: &str) -> bool {
        let signature = note.strip_prefix(text).and_then(|rest| rest.strip_prefix('\n')?.strip_suffix('\n'));
        signature.is_some_and(|line| self.signed(text, line))
    }

    fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519_NOTE])
            .chain_update(self.public)
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// Whether `line` is this key's signature line for `text`.
    fn signed(&self, text: &str, line: &str) -> bool {
        let signature = || {
            let encoded = line.strip_prefix(SIGNATURE_MARK)?.strip_prefix(&self.name)?.strip_prefix(' ')?;
            BASE64_STANDARD.decode(encoded).ok()?.strip_prefix(&self.id()).map(<[u8]>::to_vec)
        };
        let key = UnparsedPublicKey::new(&ED25519, self.public);
        signature().is_some_and(|signature| key.verify(text.as_bytes(), &signature).is_ok())
    }
}

/// Writes the key as signed notes do: `<name>+<id in hex>+<base64 of the algorithm and the key>`.
impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519_NOTE];
        key.extend_from_slice(&self.public);
        write!(f, "{}+{}+{}", self.name, hex(&self.id()), BASE64_STANDARD.encode(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::derive(&RootKey::new(Zeroizing::new([byte; 32]))).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: origin(&[9; 32]),
            head: Head { seq: 42, hash: [1; 32] },
            root: [2; 32],
            previous: Some([3; 32]),
            at: DateTime::from_timestamp(1_790_000_000, 123_456_000).unwrap(),
            next_key: None,
        }
    }

    #[test]
    fn a_key_is_handed_on_by_a_checkpoint_that_both_signed() {
        let (old, new) = (key(1), key(2));
        let handed_on = Checkpoint { next_key: Some(new.verifier().clone()), ..checkpoint() };
        let note = old.cosign(&new.sign(&handed_on));
        for key in [&old, &new] {
            assert_eq!(Checkpoint::open(&note, std::slice::from_ref(key.verifier())), Ok(handed_on.clone()));
        }
        assert_eq!(digest(&note), digest(&new.sign(&handed_on)), "signatures are no part of what is chained");
        let known = [old.verifier().clone()];
        // Refused: a note without the new key's signature, and one that only the new key signed.
        assert_eq!(Checkpoint::open(&old.sign(&handed_on), &known), Err(CheckpointError::Unsigned));
        assert_eq!(Checkpoint::open(&new.sign(&handed_on), &known), Err(CheckpointError::Unsigned));
        let garbled = note.replace("\nkey weir-audit-", "\nkez weir-audit-");
        assert_eq!(Checkpoint::open(&garbled, &known), Err(CheckpointError::Unsigned));
        let junk = Checkpoint { origin: "x".into(), ..checkpoint() };
        let junk = format!("{}more\n", junk.text());
        let junk = format!("{junk}\n{}", old.signature(&junk));
        assert_eq!(Checkpoint::open(&junk, &known), Err(CheckpointError::Malformed));
    }

    #[test]
    fn a_signed_checkpoint_is_read_back_by_whoever_knows_the_key() {
        let note = key(1).sign(&checkpoint());
        let known = [key(2).verifier().clone(), key(1).verifier().clone()];
        assert_eq!(Checkpoint::open(&note, &known), Ok(checkpoint()));
        assert_eq!(Checkpoint::open(&note, &known[..1]), Err(CheckpointError::Unsigned));
        assert_eq!(digest(&note), <[u8; 32]>::from(Sha256::digest(checkpoint().text())));
    }

    #[test]
    fn an_altered_checkpoint_is_not_believed() {
        let (note, known) = (key(1).sign(&checkpoint()), [key(1).verifier().clone()]);
        for (from, to) in [("\n42\n", "\n41\n"), ("time 2026", "time 2025"), ("\u{2014} weir", "\u{2014} wier")] {
            assert!(note.contains(from), "{note}");
            assert_eq!(Checkpoint::open(&note.replace(from, to), &known), Err(CheckpointError::Unsigned));
        }
        assert_eq!(Checkpoint::open("", &known), Err(CheckpointError::Malformed));
    }

    #[test]
    fn a_note_with_other_lines_than_were_written_is_not_believed() {
        let (old, new) = (key(1), key(2));
        let known = [old.verifier().clone(), new.verifier().clone()];
        let note = old.sign(&checkpoint());
        let handed_on = Checkpoint { next_key: Some(new.verifier().clone()), ..checkpoint() };
        let handed_on = old.cosign(&new.sign(&handed_on));
        let foreign = key(3).sign(&checkpoint());
        let foreign = foreign.lines().last().unwrap();
        let swapped = {
            let lines: Vec<&str> = handed_on.lines().collect();
            let (text, signatures) = lines.split_at(lines.len() - 2);
            format!("{}\n{}\n{}\n", text.join("\n"), signatures[1], signatures[0])
        };
        for altered in [
            format!("{note}{foreign}\n"),
            format!("{note}\u{2014} nobody AAAA\n"),
            note.replacen('\u{2014}', &format!("{foreign}\n\u{2014}"), 1),
            format!("{note}\n"),
            note.trim_end().to_owned(),
            format!("{}\r\n", note.trim_end()),
            new.cosign(&note),
            format!("{handed_on}{foreign}\n"),
            handed_on.lines().take(9).map(|line| format!("{line}\n")).collect(),
            swapped,
        ] {
            assert_eq!(Checkpoint::open(&altered, &known), Err(CheckpointError::Unsigned), "{altered}");
        }
        assert!(Checkpoint::open_next(&note, &known).is_ok() && Checkpoint::open_next(&handed_on, &known).is_ok());
        // A verifier that trusts only the new key does not know the old one; after another checkpoint it does.
        let replaced = handed_on.replace(handed_on.lines().last().unwrap(), foreign);
        assert!(Checkpoint::open(&handed_on, &known[1..]).is_ok());
        assert_eq!(Checkpoint::open_next(&replaced, &known), Err(CheckpointError::Unsigned));
        assert_eq!(signers(&handed_on).collect::<Vec<_>>(), [new.verifier().name(), old.verifier().name()]);
    }

    #[test]
    fn another_statement_is_believed_as_it_is_and_is_no_checkpoint() {
        let (key, text) = (key(1), "weir-report-statement/1\nmanifest.json\nsha256 00\n");
        let note = key.sign_statement(text);
        let verifier = key.verifier();
        assert!(verifier.has_signed(text, &note));
        assert!(!verifier.has_signed(&text.replace("00", "01"), &note) && !verifier.has_signed(text, text));
        assert!(!super::tests::key(2).verifier().has_signed(text, &note));
        for altered in
            [format!("{note}{}", note.lines().last().unwrap()), note.replace('\n', "\r\n"), format!("{note}\n")]
        {
            assert!(!verifier.has_signed(text, &altered), "{altered}");
        }
        let known = std::slice::from_ref(verifier);
        assert_eq!(Checkpoint::open(&note, known), Err(CheckpointError::Malformed));
        let checkpoint = checkpoint();
        assert!(!verifier.has_signed(text, &key.sign(&checkpoint)));
    }

    #[test]
    fn keys_are_written_as_signed_notes_have_them() {
        let verifier = key(1).verifier().clone();
        assert_eq!(VerifierKey::parse(&format!("{verifier}\n")), Some(verifier.clone()));
        let other_name = verifier.to_string().replacen("weir-audit-", "weir-", 1);
        assert_eq!(VerifierKey::parse(&other_name), None);
    }
}
