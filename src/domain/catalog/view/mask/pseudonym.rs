//! Keyed digests of values, and the pseudonyms of the mask `hash` made from them.
//!
//! ```text
//! pseudonym = "h" version "_" base32(digest)[0..26]
//! digest    = HMAC-SHA256(key, domain 0x1F family 0x1F value)
//! key       = HKDF-SHA256(root key, info = "weir/" use "/v1" 0x1F scope 0x1F id 0x1F version 0x1F domain), 32 bytes
//! ```
//!
//! Base32 is the one of RFC 4648, in lower case. `use` is `pseudonym`, `shift` or `surrogate`; `scope` is `recipient`,
//! `share` or `global`; `id` is the UUID of the recipient or share with hyphens, and empty for `global`; `version` is
//! written in decimal. Only the family of a value's type counts, so that ids of different widths still join:
//!
//! | family | types | value |
//! |---|---|---|
//! | `text` | string | UTF-8 of its NFC, otherwise as it is: blanks and case count |
//! | `number` | byte, short, integer, long, decimal | in decimal without needless zeros: `-1.5`, `20`, `0` |
//! | `float` | float, double | the 16 hex digits of the double; one zero (`0…0`), one NaN (`7ff8000000000000`) |
//! | `boolean` | boolean | `true`, `false` |
//! | `binary` | binary | its bytes in hex |
//! | `date` | date | days since 1970 |
//! | `timestamp`, `timestamp_ntz` | the same | microseconds since 1970 |

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::{
    catalog::{
        schema::Primitive,
        view::value::{decimal_text, scale_of},
    },
    core::seal::{RootKey, hex, hmac},
};

use super::{Cell, Overflow, Scope};

/// Characters of a pseudonym after its version: 130 bits.
const CHARACTERS: usize = 26;

/// The use of a key. A value has another digest for each.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyUse {
    /// The mask `hash`.
    Pseudonym,
    /// The mask `shift`: its subjects.
    Shift,
    /// The mask `surrogate`.
    Surrogate,
}

impl KeyUse {
    fn label(self) -> &'static str {
        match self {
            Self::Pseudonym => "pseudonym",
            Self::Shift => "shift",
            Self::Surrogate => "surrogate",
        }
    }
}

/// The keys of masks, derived from one root key for a recipient, a share, or everybody. Cannot be printed.
#[derive(Clone)]
pub struct PseudonymKeys {
    root: RootKey,
    version: u32,
    recipient: Uuid,
    share: Uuid,
}

impl PseudonymKeys {
    /// Selects the keys of version `version` for this recipient in this share.
    pub fn new(root: &RootKey, version: u32, recipient: Uuid, share: Uuid) -> Self {
        Self { root: root.clone(), version, recipient, share }
    }

    fn key(&self, key_use: KeyUse, scope: Scope, domain: &str) -> Zeroizing<[u8; 32]> {
        let (scope, id) = match scope {
            Scope::Recipient => ("recipient", self.recipient.to_string()),
            Scope::Share => ("share", self.share.to_string()),
            Scope::Global => ("global", String::new()),
        };
        let (label, version) = (key_use.label(), self.version);
        let info = format!("weir/{label}/v1\x1f{scope}\x1f{id}\x1f{version}\x1f{domain}");
        let mut key = Zeroizing::new([0; 32]);
        self.root.derive(info.as_bytes(), key.as_mut());
        key
    }
}

impl fmt::Debug for PseudonymKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PseudonymKeys(version {})", self.version)
    }
}

/// Makes the keyed digests of one column's values.
#[derive(Clone)]
pub(super) struct Digests {
    /// The HMAC after everything that precedes the value.
    begun: Hmac<Sha256>,
    primitive: Primitive,
}

impl Digests {
    /// Prepares the digests of a column of type `primitive`.
    pub(super) fn new(keys: &PseudonymKeys, key_use: KeyUse, scope: Scope, domain: &str, primitive: Primitive) -> Self {
        let mut begun = hmac(keys.key(key_use, scope, domain).as_ref());
        begun.update(format!("{domain}\x1f{}\x1f", family(primitive)).as_bytes());
        Self { begun, primitive }
    }

    /// The digest of a value.
    pub(super) fn of(&self, cell: &Cell<'_>) -> Result<[u8; 32], Overflow> {
        let mut mac = self.begun.clone();
        match (cell, self.primitive) {
            (Cell::Text(text), Primitive::String) => match is_nfc_quick(text.chars()) {
                IsNormalized::Yes => mac.update(text.as_bytes()),
                IsNormalized::No | IsNormalized::Maybe => mac.update(text.nfc().collect::<String>().as_bytes()),
            },
            (Cell::Integer(value), _) => mac.update(value.to_string().as_bytes()),
            (Cell::Decimal(unscaled), decimal) => mac.update(decimal_text(*unscaled, scale_of(decimal)).as_bytes()),
            (Cell::Float(value), _) => mac.update(format!("{:016x}", float_bits(*value)).as_bytes()),
            (Cell::Boolean(value), _) => mac.update(value.to_string().as_bytes()),
            (Cell::Binary(bytes), _) => mac.update(hex(bytes).as_bytes()),
            (Cell::Date(days), _) => mac.update(days.to_string().as_bytes()),
            (Cell::Timestamp(micros), _) => mac.update(micros.to_string().as_bytes()),
            (Cell::Null | Cell::Text(_), _) => return Err(Overflow),
        }
        Ok(mac.finalize().into_bytes().into())
    }
}

/// Makes the pseudonyms of one column.
#[derive(Clone)]
pub(super) struct Pseudonyms {
    digests: Digests,
    prefix: String,
}

impl Pseudonyms {
    /// Prepares the pseudonyms of a column of type `primitive`.
    pub(super) fn new(keys: &PseudonymKeys, scope: Scope, domain: &str, primitive: Primitive) -> Self {
        let digests = Digests::new(keys, KeyUse::Pseudonym, scope, domain, primitive);
        Self { digests, prefix: format!("h{}_", keys.version) }
    }

    /// The pseudonym of a value.
    pub(super) fn of(&self, cell: &Cell<'_>) -> Result<String, Overflow> {
        Ok(in_base32(&self.prefix, &self.digests.of(cell)?))
    }
}

/// Writes `prefix`, and behind it the first [`CHARACTERS`] characters of `bytes` in base32.
pub(super) fn in_base32(prefix: &str, bytes: &[u8]) -> String {
    let mut text = String::with_capacity(prefix.len() + CHARACTERS);
    text.push_str(prefix);
    base32(bytes, &mut text);
    text
}

fn family(primitive: Primitive) -> &'static str {
    match primitive {
        Primitive::String => "text",
        Primitive::Byte | Primitive::Short | Primitive::Integer | Primitive::Long | Primitive::Decimal { .. } => {
            "number"
        }
        Primitive::Float | Primitive::Double => "float",
        Primitive::Boolean => "boolean",
        Primitive::Binary => "binary",
        Primitive::Date => "date",
        Primitive::Timestamp => "timestamp",
        Primitive::TimestampNtz => "timestamp_ntz",
    }
}

fn float_bits(value: f64) -> u64 {
    if value.is_nan() {
        0x7ff8_0000_0000_0000
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

/// Writes the first [`CHARACTERS`] characters of `bytes` in base32.
fn base32(bytes: &[u8], out: &mut String) {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    for character in 0..CHARACTERS {
        let index = (0..5).fold(0, |index, at| index << 1 | bit(character * 5 + at));
        out.push(char::from(ALPHABET[usize::from(index)]));
    }
}
