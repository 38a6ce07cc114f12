//! Reads the layers of the configuration as tables, merges them, and converts the result to settings.

use std::{collections::BTreeMap, path::Path};

use serde::{
    Deserializer,
    de::{DeserializeOwned, Visitor, value::Error},
    forward_to_deserialize_any,
};
use serde_path_to_error::Segment;
use toml::{Table, Value};

use crate::domain::core::nearest::nearest;

use super::{DEFAULT, problems::Problems, secret_files, storage::StorageSettings};

/// Lists the keys of `T`, a struct: of an entry of a list the defaults cannot show them, for the list is empty there.
fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Keys<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Keys<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(serde::de::Error::custom("no struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            name: &'static str,
            keys: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            *self.0 = keys;
            Err(serde::de::Error::custom(name))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut keys: &'static [&'static str] = &[];
    // It fails for certain, once it has told the keys.
    let _ = T::deserialize(Keys(&mut keys));
    keys
}

/// Returns the lowest layer.
pub(super) fn defaults(problems: &mut Problems) -> Table {
    parse(DEFAULT, "config/default.toml", problems)
}

/// Reads the layer in the file at `path`.
pub(super) fn from_file(path: &Path, problems: &mut Problems) -> Table {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &path.display().to_string(), problems),
        Err(source) => {
            problems.add(path.display().to_string(), format!("cannot be read: {source}; name a readable TOML file"));
            Table::new()
        }
    }
}

/// Parses `text`. The error names the line but does not quote it, because it may contain a secret.
fn parse(text: &str, origin: &str, problems: &mut Problems) -> Table {
    toml::from_str(text).unwrap_or_else(|source: toml::de::Error| {
        let before = source.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let why = source.message().lines().next().unwrap_or_default().to_owned();
        problems.add(origin, format!("is no valid TOML at line {line}: {why}"));
        Table::new()
    })
}

/// Reads the layer in environment variables of the form `WEIR__SECTION__KEY`.
///
/// If a key's default is a string, its value is used unchanged; all other values are parsed as TOML.
pub(super) fn from_env(env: &BTreeMap<String, String>, defaults: &Table, problems: &mut Problems) -> Table {
    let mut layer = Table::new();
    for (name, text) in env {
        let Some(rest) = name.strip_prefix("WEIR__") else { continue };
        let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        let value = match find(defaults, &path) {
            Some(Value::String(_)) => Value::String(text.clone()),
            Some(_) => scalar(text),
            None if is_known(&path, defaults) => Value::String(text.clone()),
            None => {
                problems.add(name.clone(), unknown(&path, defaults));
                continue;
            }
        };
        insert(&mut layer, &path, value);
    }
    layer
}

/// Parses a TOML value. Invalid TOML is kept as a string, so that its type is checked like that of other values.
fn scalar(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn find<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(first)?;
    if rest.is_empty() { Some(value) } else { find(value.as_table()?, rest) }
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
    } else if let Value::Table(inner) = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new())) {
        insert(inner, rest, value);
    }
}

/// Merges `upper` into `lower`: tables are merged key by key, all other values are replaced.
pub(super) fn merge(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(lower)), Value::Table(upper)) => merge(lower, upper),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

/// Reports each unknown key of `layer`.
pub(super) fn report_unknown(layer: &Table, defaults: &Table, problems: &mut Problems) {
    fn walk(layer: &Table, path: &mut Vec<String>, defaults: &Table, problems: &mut Problems) {
        for (key, value) in layer {
            path.push(key.clone());
            if !is_known(path, defaults) {
                problems.add(path.join("."), unknown(path, defaults));
            } else if let Value::Table(inner) = value {
                walk(inner, path, defaults, problems);
            }
            path.pop();
        }
    }
    walk(layer, &mut Vec::new(), defaults, problems);
    let storages = layer.get("storage").and_then(Value::as_array).into_iter().flatten();
    let known = keys_of::<StorageSettings>();
    for (i, storage) in storages.enumerate() {
        for key in storage.as_table().into_iter().flat_map(Table::keys) {
            if !known.contains(&key.as_str()) {
                problems.add(format!("storage[{i}].{key}"), suggest(key, known.iter().copied()));
            }
        }
    }
}

fn is_known(path: &[String], defaults: &Table) -> bool {
    find(defaults, path).is_some() || secret_files::names_file(path) || is_free(path)
}

/// Returns whether the key's name is chosen outside of this server, and so is not in the defaults: an object_store
/// option of the audit export or of the views, or a value of the claim for operators' roles.
fn is_free(path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    matches!(
        path[..],
        ["audit", "export", "options", _] | ["views", "options", _] | ["identity", "operators", "roles", _]
    )
}

/// Builds the message for an unknown last key of `path`, with the most similar known key.
fn unknown(path: &[String], defaults: &Table) -> String {
    let (Some(key), parents) = (path.last(), &path[..path.len().saturating_sub(1)]) else {
        return "is unknown; remove it".to_owned();
    };
    let siblings = if parents.is_empty() { Some(defaults) } else { find(defaults, parents).and_then(Value::as_table) };
    suggest(key, siblings.into_iter().flat_map(Table::keys).map(String::as_str))
}

fn suggest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(key, known) {
        Some(name) => format!("is unknown; did you mean `{name}`?"),
        None => "is unknown; remove it, or see `config/default.toml` for every key".to_owned(),
    }
}

/// Returns the settings of section `name`; `None` if it cannot be repaired.
///
/// A value of the wrong type is reported and replaced by its default, so that the other values are checked too.
pub(super) fn section<T: DeserializeOwned>(
    merged: &Table,
    defaults: &Table,
    name: &str,
    problems: &mut Problems,
) -> Option<T> {
    let default = defaults.get(name)?;
    repair(merged.get(name)?.clone(), default, name, problems)
}

/// Returns the storages. Problems are reported, and the values that stand in for them are never used.
pub(super) fn storages(merged: &Table, problems: &mut Problems) -> Vec<StorageSettings> {
    let Some(Value::Array(entries)) = merged.get("storage") else {
        problems.add("storage", "is no list; write each storage as `[[storage]]`");
        return Vec::new();
    };
    let (mut storages, keys) = (Vec::new(), keys_of::<StorageSettings>());
    for (i, entry) in entries.iter().enumerate() {
        let name = format!("storage[{i}]");
        let Value::Table(entry) = entry else {
            problems.add(name, "is no table; write each storage as `[[storage]]`");
            continue;
        };
        // Stand-ins allow the rest of an incomplete storage to be checked.
        let stand_in = Table::from_iter([
            ("name".to_owned(), Value::String(format!("storage-{i}"))),
            ("url".to_owned(), Value::String(format!("s3://storage-{i}"))),
            ("delivery".to_owned(), Value::String("presigned".to_owned())),
            ("options".to_owned(), Value::Table(Table::new())),
        ]);
        let mut known = entry.clone();
        known.retain(|key, _| keys.contains(&key));
        for key in ["name", "url"] {
            if !known.contains_key(key) {
                problems.add(format!("{name}.{key}"), "is missing; every storage has a name and a url");
                known.insert(key.to_owned(), stand_in[key].clone());
            }
        }
        storages.extend(repair(Value::Table(known), &Value::Table(stand_in), &name, problems));
    }
    storages
}

/// Deserializes `value`. Each value of the wrong type is reported and replaced by the one in `default`.
fn repair<T: DeserializeOwned>(mut value: Value, default: &Value, name: &str, problems: &mut Problems) -> Option<T> {
    loop {
        let error = match serde_path_to_error::deserialize(value.clone()) {
            Ok(settings) => return Some(settings),
            Err(error) => error,
        };
        let path = error.path().to_string();
        let keys = error.path().iter().map_while(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
        });
        let keys: Vec<String> = keys.collect();
        let types = (at(&value, &keys).map(Value::type_str), at(default, &keys).map(Value::type_str));
        let message = match types {
            (Some(found), Some(wanted)) if found != wanted => format!("must be of type {wanted}, not {found}"),
            // The parser's own message repeats the value.
            _ if secret_files::is_secret_key(&path) => "must be of type string".to_owned(),
            _ => error.inner().message().to_owned(),
        };
        problems.add(if path == "." { name.to_owned() } else { format!("{name}.{path}") }, message);
        if !reset(&mut value, default, &keys) {
            return None;
        }
    }
}

fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    if path.is_empty() { Some(value) } else { find(value.as_table()?, path) }
}

/// Restores the default at `path`, or removes the value if there is no default. Returns false if nothing changed.
fn reset(value: &mut Value, default: &Value, path: &[String]) -> bool {
    let before = value.clone();
    match (path.split_first(), value.as_table_mut(), default.as_table()) {
        (Some((key, rest)), Some(table), Some(defaults)) => match (table.get_mut(key), defaults.get(key)) {
            (Some(inner), Some(default)) => return reset(inner, default, rest),
            (_, Some(default)) => {
                table.insert(key.clone(), default.clone());
            }
            (_, None) => {
                table.remove(key);
            }
        },
        (Some(_), _, _) | (None, _, _) => *value = default.clone(),
    }
    *value != before
}
