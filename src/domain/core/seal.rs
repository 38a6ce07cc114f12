//! Sealed values: texts that the server hands out and takes back (page tokens, file URLs), opaque and unforgeable.
//!
//! A seal is XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) under a key that HKDF derives from a root key for each
//! purpose. It names its root key, so that keys can be rotated. Never here: the content of a seal.

use std::fmt;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chacha20::{cipher::consts::U10, hchacha};
use hkdf::Hkdf;
use hmac::{Hmac, Mac, digest::KeyInit};
use rand::Rng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const KEY_ID_BYTES: usize = 4;
/// The part of a nonce from which a subkey is derived; the counter after it distinguishes seals under that subkey.
const PREFIX_BYTES: usize = 16;
const COUNTER_BYTES: usize = 8;
const HEAD_BYTES: usize = KEY_ID_BYTES + PREFIX_BYTES + COUNTER_BYTES;

/// The longest text that [`Sealer::open`] tries to open, in characters; real seals are shorter.
pub const MAX_SEALED_CHARACTERS: usize = 16 * 1024;

/// Starts an HMAC-SHA-256 under `key` (RFC 2104); the caller adds the message.
pub fn hmac(key: &[u8]) -> Hmac<Sha256> {
    // HMAC accepts keys of every length, so the fallback is never used.
    <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap_or_else(|_| <Hmac<Sha256> as KeyInit>::new(&Default::default()))
}

/// The purpose of a derived key. A seal made for one purpose does not open for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealPurpose {
    /// Tokens that continue a listing of the sharing protocol or the admin API.
    PageToken,
    /// URLs of files that the server proxies.
    FileUrl,
}

impl SealPurpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::PageToken => b"weir/page-token/v1",
            Self::FileUrl => b"weir/file-url/v1",
        }
    }
}

/// A root key: 32 bytes from which every other key is derived. Cannot be printed; wiped when dropped.
#[derive(Clone)]
pub struct RootKey(Zeroizing<[u8; 32]>);

impl RootKey {
    /// Makes a root key of these bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// A text in lower-case hex that identifies this key and reveals nothing about its bytes.
    pub fn fingerprint(&self) -> String {
        let mut out = [0u8; 16];
        self.derive(b"weir/fingerprint/v1", &mut out);
        hex(&out)
    }

    pub(in crate::domain) fn derive(&self, label: &[u8], out: &mut [u8]) {
        // HKDF-SHA256 fails only for outputs longer than 255 hashes, which no caller requests.
        let expanded = Hkdf::<Sha256>::new(None, self.0.as_ref()).expand(label, out);
        debug_assert!(expanded.is_ok());
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(***)")
    }
}

/// Seals and opens values for one purpose.
#[derive(Clone)]
pub struct Sealer {
    /// The first key seals, every key opens.
    keys: Vec<([u8; KEY_ID_BYTES], Zeroizing<[u8; 32]>)>,
}

/// Seals many values in a row. Their nonces share a random prefix, so the subkey is derived only once.
#[derive(Debug)]
pub struct Sealing {
    id: [u8; KEY_ID_BYTES],
    prefix: [u8; PREFIX_BYTES],
    key: Option<LessSafeKey>,
    next: u64,
    sealed: Vec<u8>,
}

/// The text is not a valid seal for this purpose and context: altered, forged, truncated, or made with a lost key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a value that this server sealed")]
pub struct NotSealed;

impl Sealer {
    /// Makes a sealer for `purpose`. The first of `keys` seals; the others can still open.
    pub fn new(keys: &[RootKey], purpose: SealPurpose) -> Self {
        let keys = keys.iter().map(|root| {
            let mut key = Zeroizing::new([0u8; 32]);
            root.derive(purpose.label(), key.as_mut());
            let digest = Sha256::digest(root.fingerprint().as_bytes());
            ([digest[0], digest[1], digest[2], digest[3]], key)
        });
        Self { keys: keys.collect() }
    }

    /// Seals `plain`; it opens only with the same `context`. The result is URL-safe.
    pub fn seal(&self, plain: &[u8], context: &[u8]) -> String {
        let mut sealed = String::new();
        self.sealing().seal(&[plain], context, &mut sealed);
        sealed
    }

    /// Prepares sealing many values.
    pub fn sealing(&self) -> Sealing {
        // Starts with 192 random bits, so that a repeated nonce stays unlikely for any number of seals.
        let mut random = rand::rng();
        let mut prefix = [0u8; PREFIX_BYTES];
        random.fill_bytes(&mut prefix);
        let (id, key) = match self.keys.first() {
            Some((id, key)) => (*id, subkey(key, &prefix)),
            None => Default::default(),
        };
        Sealing { id, prefix, key, next: random.next_u64(), sealed: Vec::new() }
    }

    /// An unguessable digest of `parts` in hex, keyed with the first key. It does not reveal the parts, and differs in
    /// every `context`.
    pub fn digest(&self, context: &[u8], parts: &[&[u8]]) -> String {
        let key = self.keys.first().map(|(_, key)| key.as_slice()).unwrap_or_default();
        // Digests have their own key, apart from the one for seals.
        let own = hmac(key).chain_update(b"weir/digest/v1/").chain_update(context).finalize().into_bytes();
        let mut mac = hmac(&own);
        for part in parts {
            mac.update(&part.len().to_be_bytes());
            mac.update(part);
        }
        hex(&mac.finalize().into_bytes()[..16])
    }

    /// Opens a seal that [`Self::seal`] made with the same `context`.
    pub fn open(&self, sealed: &str, context: &[u8]) -> Result<Vec<u8>, NotSealed> {
        if sealed.len() > MAX_SEALED_CHARACTERS {
            return Err(NotSealed);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(sealed).map_err(|_| NotSealed)?;
        let (id, rest) = bytes.split_first_chunk::<KEY_ID_BYTES>().ok_or(NotSealed)?;
        let (prefix, rest) = rest.split_first_chunk::<PREFIX_BYTES>().ok_or(NotSealed)?;
        let (counter, body) = rest.split_first_chunk::<COUNTER_BYTES>().ok_or(NotSealed)?;
        let (_, key) = self.keys.iter().find(|(key_id, _)| key_id == id).ok_or(NotSealed)?;
        let key = subkey(key, prefix).ok_or(NotSealed)?;
        let mut body = body.to_vec();
        let plain = key.open_in_place(nonce(*counter), Aad::from(context), &mut body).map_err(|_| NotSealed)?.len();
        body.truncate(plain);
        Ok(body)
    }
}

impl Sealing {
    /// Seals the concatenation of `plain` and appends the URL-safe result to `out`; it opens only with the same
    /// `context`.
    pub fn seal(&mut self, plain: &[&[u8]], context: &[u8], out: &mut String) {
        let counter = self.next.to_be_bytes();
        self.next = self.next.wrapping_add(1);
        self.sealed.clear();
        self.sealed.extend_from_slice(&self.id);
        self.sealed.extend_from_slice(&self.prefix);
        self.sealed.extend_from_slice(&counter);
        plain.iter().for_each(|part| self.sealed.extend_from_slice(part));
        let body = &mut self.sealed[HEAD_BYTES..];
        let tag = self.key.as_ref().map(|key| key.seal_in_place_separate_tag(nonce(counter), Aad::from(context), body));
        // Encryption fails only for texts of hundreds of gigabytes; then nothing is appended, which opens nowhere.
        if let Some(Ok(tag)) = tag {
            self.sealed.extend_from_slice(tag.as_ref());
            BASE64_URL_SAFE_NO_PAD.encode_string(&self.sealed, out);
        }
    }
}

/// The key that XChaCha20 derives for all nonces that begin with `prefix`.
fn subkey(key: &[u8; 32], prefix: &[u8; PREFIX_BYTES]) -> Option<LessSafeKey> {
    let derived = Zeroizing::new(<[u8; 32]>::from(hchacha::<U10>(key.into(), prefix.into())));
    UnboundKey::new(&CHACHA20_POLY1305, derived.as_ref()).ok().map(LessSafeKey::new)
}

/// The nonce for the derived key: the rest of XChaCha20's nonce.
fn nonce(counter: [u8; COUNTER_BYTES]) -> Nonce {
    let mut bytes = [0u8; 12];
    bytes[4..].copy_from_slice(&counter);
    Nonce::assume_unique_for_key(bytes)
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} keys)", self.keys.len())
    }
}

/// Writes bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    hex_digits(bytes).map(char::from).collect()
}

/// The digits of [`hex`], for callers that append them to an existing text.
pub fn hex_digits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
}

/// Parses 32 bytes in hex, as [`hex`] writes them.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0u8; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20poly1305::{
        XChaCha20Poly1305,
        aead::{Aead, Payload},
    };
    use proptest::prelude::*;

    fn root(byte: u8) -> RootKey {
        RootKey::new(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn a_seal_opens_only_for_its_purpose_context_and_key() {
        let pages = Sealer::new(&[root(1)], SealPurpose::PageToken);
        let sealed = pages.seal(b"at 7", b"shares");
        assert_eq!(pages.open(&sealed, b"shares").unwrap(), b"at 7");
        assert_eq!(pages.open(&sealed, b"tables"), Err(NotSealed));
        assert_eq!(Sealer::new(&[root(1)], SealPurpose::FileUrl).open(&sealed, b"shares"), Err(NotSealed));
        assert_eq!(Sealer::new(&[root(2)], SealPurpose::PageToken).open(&sealed, b"shares"), Err(NotSealed));
        let rotated = Sealer::new(&[root(2), root(1)], SealPurpose::PageToken);
        assert_eq!(rotated.open(&sealed, b"shares").unwrap(), b"at 7");
    }

    #[test]
    fn many_seals_open_one_by_one_and_none_is_another() {
        let sealer = Sealer::new(&[root(1)], SealPurpose::FileUrl);
        let mut sealing = sealer.sealing();
        sealing.next = u64::MAX - 1;
        let seals: Vec<String> = (0..4)
            .map(|_| {
                let mut sealed = String::from("/files/");
                sealing.seal(&[b"a", b"b"], b"c", &mut sealed);
                sealed.split_off("/files/".len())
            })
            .collect();
        assert!(seals.iter().all(|sealed| sealer.open(sealed, b"c").unwrap() == b"ab"));
        assert_eq!(seals.iter().collect::<std::collections::HashSet<_>>().len(), seals.len());
    }

    #[test]
    fn hex_is_read_back() {
        let bytes = std::array::from_fn(|i| u8::try_from(i * 7).unwrap());
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!((unhex(""), unhex(&"g".repeat(64)), unhex(&"a".repeat(65))), (None, None, None));
    }

    proptest! {
        #[test]
        fn an_altered_seal_never_opens(plain: Vec<u8>, at: prop::sample::Index, to in "[A-Za-z0-9_-]") {
            let sealer = Sealer::new(&[root(1)], SealPurpose::FileUrl);
            let sealed = sealer.seal(&plain, b"");
            prop_assert_eq!(sealer.open(&sealed, b"").unwrap(), plain);
            let at = at.index(sealed.len());
            let altered = format!("{}{to}{}", &sealed[..at], &sealed[at + 1..]);
            prop_assert!(altered == sealed || sealer.open(&altered, b"").is_err());
        }

        #[test]
        fn a_seal_is_xchacha20_poly1305(plain: Vec<u8>, context: Vec<u8>) {
            let sealer = Sealer::new(&[root(1)], SealPurpose::FileUrl);
            let sealed = BASE64_URL_SAFE_NO_PAD.decode(sealer.seal(&plain, &context)).unwrap();
            let (nonce, body) = sealed[KEY_ID_BYTES..].split_at(PREFIX_BYTES + COUNTER_BYTES);
            let reference = XChaCha20Poly1305::new(sealer.keys[0].1.as_ref().into());
            let opened = reference.decrypt(nonce.into(), Payload { msg: body, aad: &context });
            prop_assert_eq!(opened.unwrap(), plain);
        }

        #[test]
        fn junk_never_opens_and_never_panics(junk: String) {
            prop_assert!(Sealer::new(&[root(1)], SealPurpose::FileUrl).open(&junk, b"").is_err());
        }
    }
}
