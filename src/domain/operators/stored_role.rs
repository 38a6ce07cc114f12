//! An operator's role as it was stored, which a newer server may have written.
//!
//! Never here: what a role may do, which [`super`] says.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Role;

/// A role that this version knows, or the word of a newer version, which may do nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredRole {
    /// One that this version knows.
    Known(Role),
    /// The word of a newer version.
    Unknown(String),
}

impl StoredRole {
    /// The word as it was stored.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(role) => role.as_str(),
            Self::Unknown(word) => word,
        }
    }

    /// The role, where this version knows it.
    pub fn known(&self) -> Option<Role> {
        match self {
            Self::Known(role) => Some(*role),
            Self::Unknown(_) => None,
        }
    }
}

impl From<Role> for StoredRole {
    fn from(role: Role) -> Self {
        Self::Known(role)
    }
}

impl PartialEq<Role> for StoredRole {
    fn eq(&self, role: &Role) -> bool {
        self.known() == Some(*role)
    }
}

impl Serialize for StoredRole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for StoredRole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Ok(Role::parse(&word).map_or(Self::Unknown(word), Self::Known))
    }
}
