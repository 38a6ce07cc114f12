//! Sealed values: what the server hands out and takes back (page tokens, file URLs), opaque and unforgeable.
//!
//! A seal is XChaCha20-Poly1305 under a key that HKDF derives per purpose from a root key. It names the root key that
//! made it, so that keys can be rotated. Never here: what is inside a seal.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{AeadCore, AeadInPlace, generic_array::typenum::Unsigned},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand::Rng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 24;
const KEY_ID_BYTES: usize = 4;

/// The longest text that [`Sealer::open`] looks at, in characters; longer ones cannot be ours.
pub const MAX_SEALED_CHARACTERS: usize = 16 * 1024;

/// HMAC-SHA-256 under `key`, to which a message can be added (RFC 2104).
pub fn hmac(key: &[u8]) -> Hmac<Sha256> {
    // It takes keys of every length.
    <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap_or_else(|_| <Hmac<Sha256> as KeyInit>::new(&Default::default()))
}

/// What a derived key is for. A seal made for one purpose does not open for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Tokens that continue a listing of the sharing protocol or the admin API.
    PageToken,
    /// URLs of files that come through the server.
    FileUrl,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::PageToken => b"weir/page-token/v1",
            Self::FileUrl => b"weir/file-url/v1",
        }
    }
}

/// A root key: 32 bytes that every other key is derived from. Cannot be printed; wiped when dropped.
#[derive(Clone)]
pub struct RootKey(Zeroizing<[u8; 32]>);

impl RootKey {
    /// A root key of these bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// A text that tells this key from others and nothing about its bytes: lower-case hex.
    pub fn fingerprint(&self) -> String {
        let mut out = [0u8; 16];
        self.derive(b"weir/fingerprint/v1", &mut out);
        hex(&out)
    }

    pub(super) fn derive(&self, label: &[u8], out: &mut [u8]) {
        // HKDF-SHA256 refuses only outputs beyond 255 hashes, which no caller here asks for.
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
    keys: Vec<([u8; KEY_ID_BYTES], XChaCha20Poly1305)>,
}

/// The text is not a seal of ours for this purpose and context: altered, forged, truncated, or under a lost key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a value that this server sealed")]
pub struct NotSealed;

impl Sealer {
    /// A sealer for `purpose`; the first of `keys` seals, the others still open what they sealed.
    pub fn new(keys: &[RootKey], purpose: Purpose) -> Self {
        let keys = keys.iter().map(|root| {
            let mut key = Zeroizing::new([0u8; 32]);
            root.derive(purpose.label(), key.as_mut());
            let digest = Sha256::digest(root.fingerprint().as_bytes());
            let id = [digest[0], digest[1], digest[2], digest[3]];
            (id, XChaCha20Poly1305::new(Key::from_slice(key.as_ref())))
        });
        Self { keys: keys.collect() }
    }

    /// Seals `plain`; it opens only with the same `context`. The answer is URL-safe as it is.
    pub fn seal(&self, plain: &[u8], context: &[u8]) -> String {
        let Some((id, cipher)) = self.keys.first() else { return String::new() };
        // 192 random bits, so that no number of sealed URLs makes a repeated nonce likely.
        let mut nonce = [0u8; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let tag_bytes = <XChaCha20Poly1305 as AeadCore>::TagSize::USIZE;
        let mut out = Vec::with_capacity(KEY_ID_BYTES + NONCE_BYTES + plain.len() + tag_bytes);
        out.extend_from_slice(id);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let (head, body) = out.split_at_mut(KEY_ID_BYTES + NONCE_BYTES);
        debug_assert_eq!(head.len(), KEY_ID_BYTES + NONCE_BYTES);
        match cipher.encrypt_in_place_detached(XNonce::from_slice(&nonce), context, body) {
            Ok(tag) => out.extend_from_slice(&tag),
            // Only a plain text of hundreds of gigabytes gets here; an empty seal opens for nobody.
            Err(_) => return String::new(),
        }
        BASE64_URL_SAFE_NO_PAD.encode(out)
    }

    /// Opens what [`Self::seal`] made with the same `context`.
    pub fn open(&self, sealed: &str, context: &[u8]) -> Result<Vec<u8>, NotSealed> {
        let tag_bytes = <XChaCha20Poly1305 as AeadCore>::TagSize::USIZE;
        if sealed.len() > MAX_SEALED_CHARACTERS {
            return Err(NotSealed);
        }
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(sealed).map_err(|_| NotSealed)?;
        if bytes.len() < KEY_ID_BYTES + NONCE_BYTES + tag_bytes {
            return Err(NotSealed);
        }
        let tag_at = bytes.len() - tag_bytes;
        let (rest, tag) = bytes.split_at_mut(tag_at);
        let (head, body) = rest.split_at_mut(KEY_ID_BYTES + NONCE_BYTES);
        let (id, nonce) = head.split_at(KEY_ID_BYTES);
        let (_, cipher) = self.keys.iter().find(|(key_id, _)| key_id == id).ok_or(NotSealed)?;
        cipher
            .decrypt_in_place_detached(XNonce::from_slice(nonce), context, body, chacha20poly1305::Tag::from_slice(tag))
            .map_err(|_| NotSealed)?;
        Ok(body.to_vec())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} keys)", self.keys.len())
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    hex_digits(bytes).map(char::from).collect()
}

/// The digits of [`hex`], for whoever has a text already that they belong to.
pub fn hex_digits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
}

/// The 32 bytes that [`hex`] wrote as `text`.
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
    use proptest::prelude::*;

    fn root(byte: u8) -> RootKey {
        RootKey::new(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn a_seal_opens_only_for_its_purpose_context_and_key() {
        let pages = Sealer::new(&[root(1)], Purpose::PageToken);
        let sealed = pages.seal(b"at 7", b"shares");
        assert_eq!(pages.open(&sealed, b"shares").unwrap(), b"at 7");
        assert_eq!(pages.open(&sealed, b"tables"), Err(NotSealed));
        assert_eq!(Sealer::new(&[root(1)], Purpose::FileUrl).open(&sealed, b"shares"), Err(NotSealed));
        assert_eq!(Sealer::new(&[root(2)], Purpose::PageToken).open(&sealed, b"shares"), Err(NotSealed));
        let rotated = Sealer::new(&[root(2), root(1)], Purpose::PageToken);
        assert_eq!(rotated.open(&sealed, b"shares").unwrap(), b"at 7");
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
            let sealer = Sealer::new(&[root(1)], Purpose::FileUrl);
            let sealed = sealer.seal(&plain, b"");
            prop_assert_eq!(sealer.open(&sealed, b"").unwrap(), plain);
            let at = at.index(sealed.len());
            let altered = format!("{}{to}{}", &sealed[..at], &sealed[at + 1..]);
            prop_assert!(altered == sealed || sealer.open(&altered, b"").is_err());
        }

        #[test]
        fn junk_never_opens_and_never_panics(junk: String) {
            prop_assert!(Sealer::new(&[root(1)], Purpose::FileUrl).open(&junk, b"").is_err());
        }
    }
}
