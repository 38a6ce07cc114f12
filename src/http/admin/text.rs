//! Values of bodies and queries that are checked while they are read, so that every problem is reported at once.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::Value;

use crate::domain::name::is_invisible;

/// The longest free text, in characters.
const MAX_TEXT_CHARACTERS: usize = 4096;
/// The longest key or short text, in characters.
const MAX_KEY_CHARACTERS: usize = 255;
/// How many members a map, or items a list, may have.
const MAX_MEMBERS: usize = 200;

/// A text of bounded length without control characters other than line breaks and tabs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        check_text(&text, MAX_TEXT_CHARACTERS).map_err(D::Error::custom)?;
        Ok(Self(text))
    }
}

fn check_text(text: &str, max: usize) -> Result<(), String> {
    if text.chars().take(max + 1).count() > max {
        return Err(format!("is too long; at most {max} characters"));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err("holds a control character; remove it".into());
    }
    Ok(())
}

/// A property's value: a scalar, or a list of scalars.
#[derive(Clone, Debug, PartialEq)]
pub struct Property(pub Value);

impl<'de> Deserialize<'de> for Property {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let items = match &value {
            Value::Array(items) if items.len() > MAX_MEMBERS => {
                return Err(D::Error::custom(format!("is too long; at most {MAX_MEMBERS} values")));
            }
            Value::Array(items) => items.as_slice(),
            scalar => std::slice::from_ref(scalar),
        };
        for item in items {
            match item {
                Value::String(text) => check_text(text, MAX_TEXT_CHARACTERS).map_err(D::Error::custom)?,
                Value::Bool(_) | Value::Number(_) => {}
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(D::Error::custom("must be a text, a number, a boolean or a list of these"));
                }
            }
        }
        Ok(Self(value))
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
            if key.is_empty() {
                return Err(A::Error::custom("has a member without a name"));
            }
            check_text(&key, MAX_KEY_CHARACTERS).map_err(|error| A::Error::custom(format!("a name {error}")))?;
            if let Some(character) = key.chars().find(|c| is_invisible(*c)) {
                let error = format!("a name holds the character U+{:04X}, which nobody sees", character as u32);
                return Err(A::Error::custom(error));
            }
            members.insert(key, map.next_value()?);
            if members.len() > MAX_MEMBERS {
                return Err(A::Error::custom(format!("has too many members; at most {MAX_MEMBERS}")));
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
        if items.len() > MAX_MEMBERS {
            return Err(D::Error::custom(format!("is too long; at most {MAX_MEMBERS} items")));
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

/// The members of a map of texts.
pub fn texts(members: Members<Text>) -> BTreeMap<String, Option<String>> {
    members.0.into_iter().map(|(key, value)| (key, value.map(|text| text.0))).collect()
}
