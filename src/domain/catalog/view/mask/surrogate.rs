//! The texts of the mask `surrogate`: random, and derived from nothing.
//!
//! ```text
//! surrogate = "s_" base32(16 random bytes)
//! ```
//!
//! Which random bytes stand for which value is kept in the database, under a digest of the value (`pseudonym.rs`, its
//! first 16 bytes), never under the value itself.

use uuid::Uuid;

use crate::domain::catalog::schema::DataType;

use super::{
    Cell, Mask, Overflow, PseudonymKeys, Scope,
    pseudonym::{Digests, KeyUse, in_base32},
};

/// Makes the digests by which the values of one column are known among the surrogates.
#[derive(Clone)]
pub struct SurrogateDigests(Digests);

impl std::fmt::Debug for SurrogateDigests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SurrogateDigests(***)")
    }
}

impl Mask {
    /// Prepares the digests for a column of type `input`; `None` if this is another mask, or does not fit.
    pub fn surrogate_digests(&self, input: &DataType, keys: &PseudonymKeys) -> Option<SurrogateDigests> {
        let (Self::Surrogate { domain }, Some(primitive)) = (self, input.primitive()) else { return None };
        Some(SurrogateDigests(Digests::new(keys, KeyUse::Surrogate, Scope::Recipient, domain, primitive)))
    }
}

impl SurrogateDigests {
    /// The digest of a value; `None` for NULL, which stays NULL.
    pub fn of(&self, cell: &Cell<'_>) -> Result<Option<Uuid>, Overflow> {
        if *cell == Cell::Null {
            return Ok(None);
        }
        let digest = self.0.of(cell)?;
        let mut half = [0; 16];
        half.iter_mut().zip(digest).for_each(|(half, byte)| *half = byte);
        Ok(Some(Uuid::from_bytes(half)))
    }
}

/// Writes the random bytes that stand for a value as recipients see them.
pub fn surrogate_text(random: Uuid) -> String {
    in_base32("s_", random.as_bytes())
}
