//! Values of bodies and queries that are checked while they are parsed, so that all problems are reported at once.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

use crate::domain::core::spec::{LONGEST_TEXT, MOST_MEMBERS, check_key, check_text};

/// A text of bounded length without control characters other than line breaks and tabs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        check_text(&text, LONGEST_TEXT).map_err(D::Error::custom)?;
        Ok(Self(text))
    }
}

/// A JSON object whose members are values or null.
#[derive(Clone, Debug, PartialEq)]
pub struct Members<V>(pub BTreeMap<String, Option<V>>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Members<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

struct MembersVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for MembersVisitor<V> {
    type Value = Members<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<V>, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            check_key(&key).map_err(A::Error::custom)?;
            members.insert(key, map.next_value()?);
            if members.len() > MOST_MEMBERS {
                return Err(A::Error::custom(format!("has too many members; at most {MOST_MEMBERS}")));
            }
        }
        Ok(Members(members))
    }
}

/// A list of bounded length.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::deserialize(deserializer)?;
        if items.len() > MOST_MEMBERS {
            return Err(D::Error::custom(format!("is too long; at most {MOST_MEMBERS} items")));
        }
        Ok(Self(items))
    }
}

/// A SHA-256 digest in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sha256Hex(pub String);

impl<'de> Deserialize<'de> for Sha256Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self(text));
        }
        Err(D::Error::custom("must be 64 lower-case hexadecimal digits"))
    }
}
