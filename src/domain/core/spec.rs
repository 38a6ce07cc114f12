//! Specs: the fields that operators set on the things they declare. Each kind of thing has one struct, and everything
//! else uses it: PUT and PATCH change its JSON, the audit trail records in which fields two specs differ, and the store
//! keeps it.
//!
//! Input is strict: an unknown field is an error. Stored specs are read tolerantly, so that a server can read fields
//! that a newer one has written. Never here: the fields of a particular kind of thing, or where it is stored.

use serde::{
    Deserializer, Serialize,
    de::{DeserializeOwned, Error, Visitor},
};
use serde_json::{Map, Value};

use super::{message::quoted, name::is_invisible};

/// The longest free text, in characters.
pub const LONGEST_TEXT: usize = 4096;
/// The longest key of a map, in characters.
pub const LONGEST_KEY: usize = 255;
/// The most members of a map, or items of a list.
pub const MOST_MEMBERS: usize = 200;
/// The most problems reported for one body; nobody reads more.
const MOST_PROBLEMS: usize = 20;

/// A problem with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field; dotted if it is nested.
    pub field: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl FieldError {
    /// Makes a problem with `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// What a change of a field means for what anybody can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// No effect.
    Neutral,
    /// Some recipient can read less.
    Tightens,
    /// Some recipient may be able to read more. Only this needs approval.
    Loosens,
}

/// The fields that operators set on one kind of thing. Serialises with every field, even those without a value.
pub trait Spec: Clone + PartialEq + Serialize + DeserializeOwned {
    /// The fields whose members are not checked as fields: maps, and types that refuse unknown members themselves.
    const OPAQUE: &'static [&'static str] = &[];

    /// The advice for a missing field that must have a value.
    fn required(_field: &str) -> &'static str {
        "give it a value"
    }

    /// Adds problems beyond types and bounds.
    fn check(&self, _problems: &mut Vec<FieldError>) {}

    /// The effect of changing `field` from `before` to `after`; `None` if there is no such field.
    fn effect(field: &str, before: &Self, after: &Self) -> Option<Effect>;

    /// Every field with its value.
    fn fields(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        }
    }
}

/// How the fields in a body change a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// PUT: the given value replaces the whole value; null restores the default.
    Whole,
    /// PATCH (RFC 7396): the given members of an object change, and null removes one.
    Merge,
}

/// Makes the spec of a new thing.
pub fn create<S: Spec>(named: &Map<String, Value>) -> Result<S, Vec<FieldError>> {
    read(&Map::new(), named, Mode::Whole)
}

/// Applies the given fields to `before`.
pub fn change<S: Spec>(before: &S, named: &Map<String, Value>, mode: Mode) -> Result<S, Vec<FieldError>> {
    read(&before.fields(), named, mode)
}

/// Refuses fields that the spec does not have; if there are any, the error also lists all other problems of the given
/// fields. Needs no existing thing.
pub fn check_names<S: Spec>(named: &Map<String, Value>) -> Result<(), Vec<FieldError>> {
    if strange::<S>(named).is_empty() {
        return Ok(());
    }
    let problems = create::<S>(named).err().unwrap_or_default();
    Err(problems.into_iter().filter(|problem| named.contains_key(top(&problem.field))).collect())
}

/// The given fields that the spec does not have.
fn strange<S: Spec>(named: &Map<String, Value>) -> Vec<FieldError> {
    let mut fields: &[&str] = &[];
    // An attempt to deserialize from nothing reveals the names of all fields.
    let _ = S::deserialize(Names(&mut fields));
    let strange = named.keys().filter(|name| !fields.contains(&name.as_str())).take(MOST_PROBLEMS);
    strange.map(|name| no_field(name.clone(), name, fields.iter().copied())).collect()
}

/// A deserializer that only records a struct's field names.
struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("nothing is read"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(Self::Error::custom("nothing is read"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields in which two specs differ, each with its effect.
pub fn effects<S: Spec>(before: &S, after: &S) -> Vec<(String, Effect)> {
    let (was, is) = (before.fields(), after.fields());
    let changed = is.into_iter().filter(|(field, value)| was.get(field) != Some(value)).map(|(field, _)| field);
    // An unknown effect may show more.
    let meant = |field: String| (S::effect(&field, before, after).unwrap_or(Effect::Loosens), field);
    changed.map(meant).map(|(effect, field)| (field, effect)).collect()
}

/// `current` with those of the `recorded` values that tighten it. A recorded list that does not, because something was
/// added to it as well, takes away what it lacks. What does not fit, or means anything else, is left.
pub fn tightened<S: Spec>(current: &S, recorded: &Map<String, Value>) -> S {
    let mut tightened = current.clone();
    for (field, value) in recorded {
        let fields = tightened.fields();
        let Some(known) = fields.get(field).filter(|known| *known != value) else { continue };
        let tighter = if_tighter(&tightened, field, value);
        let tighter = tighter.or_else(|| if_tighter(&tightened, field, &items_in_both(known, value)?));
        tightened = tighter.unwrap_or(tightened);
    }
    tightened
}

/// `current` with `value` in `field`, if that only tightens it.
fn if_tighter<S: Spec>(current: &S, field: &str, value: &Value) -> Option<S> {
    let mut fields = current.fields();
    fields.insert(field.to_owned(), value.clone());
    let candidate = serde_json::from_value::<S>(Value::Object(fields)).ok()?;
    // A word that only a newer server knows stands in no tightening's way.
    let (known, problems) = (problems_of(current), problems_of(&candidate));
    let fits = problems.iter().all(|problem| known.iter().any(|known| known.message == problem.message));
    let effects = effects(current, &candidate);
    let only_tightens = effects.iter().all(|(changed, effect)| changed == field && *effect == Effect::Tightens);
    (fits && !effects.is_empty() && only_tightens).then_some(candidate)
}

fn problems_of<S: Spec>(spec: &S) -> Vec<FieldError> {
    let mut problems = Vec::new();
    spec.check(&mut problems);
    problems
}

/// The items of the list `known` that the list `other` has, too.
fn items_in_both(known: &Value, other: &Value) -> Option<Value> {
    let (known, other) = (known.as_array()?, other.as_array()?);
    Some(known.iter().filter(|item| other.contains(item)).cloned().collect())
}

/// Reads `named` over `before`. Whatever is wrong with a field is noted and the field taken out, so that the next one gets
/// its turn.
fn read<S: Spec>(before: &Map<String, Value>, named: &Map<String, Value>, mode: Mode) -> Result<S, Vec<FieldError>> {
    let mut problems = Vec::new();
    check_bounds(&Value::Object(named.clone()), &mut Vec::new(), &mut problems);
    problems.extend(strange::<S>(named));
    let mut left = named.clone();
    for problem in &problems {
        left.remove(top(&problem.field));
    }
    while problems.len() < MOST_PROBLEMS {
        let changed = changed(before, &left, mode);
        let error = match serde_path_to_error::deserialize::<_, S>(Value::Object(changed.clone())) {
            Ok(spec) => {
                unknown::<S>(&left, &changed, &spec.fields(), &mut problems);
                spec.check(&mut problems);
                if problems.is_empty() {
                    return Ok(spec);
                }
                break;
            }
            Err(error) => error,
        };
        let message = error.inner().to_string();
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let field = match error.path().to_string() {
            path if path != "." => path,
            // For a missing field, only the message names it.
            _ => missing.unwrap_or("body").to_owned(),
        };
        let is_named = left.remove(top(&field)).is_some();
        if problems.iter().any(|problem| problem.field == field) {
            break;
        }
        match missing {
            // The field was removed above because of a problem that is already noted.
            Some(missing) if named.get(missing).is_some_and(|value| !value.is_null()) => {}
            Some(missing) if missing == field => {
                let lack = if named.contains_key(missing) { "must not be null" } else { "is missing" };
                problems.push(FieldError::new(field, format!("{lack}; {}", S::required(missing))));
            }
            _ => problems.push(FieldError::new(field, message)),
        }
        if !is_named {
            break;
        }
    }
    problems.truncate(MOST_PROBLEMS);
    Err(problems)
}

/// The first member of a path.
fn top(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or_default()
}

/// The JSON of `before` with `named` applied. Top-level nulls are dropped, so that these fields get their defaults.
fn changed(before: &Map<String, Value>, named: &Map<String, Value>, mode: Mode) -> Map<String, Value> {
    let mut changed = before.clone();
    for (field, value) in named {
        match (changed.get_mut(field), mode) {
            (Some(known), Mode::Merge) => merge(known, value),
            _ => {
                let mut whole = Value::Null;
                merge(&mut whole, value);
                changed.insert(field.clone(), whole);
            }
        }
    }
    changed.retain(|_, value| !value.is_null());
    changed
}

/// Applies a merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(known) = target else { return };
    for (name, value) in members {
        match value {
            Value::Null => drop(known.remove(name)),
            value => merge(known.entry(name).or_insert(Value::Null), value),
        }
    }
}

/// Adds the given nested fields that the spec does not have. A spec serialises with every field, so a field that is
/// missing in `read` was not read.
fn unknown<S: Spec>(
    named: &Map<String, Value>,
    given: &Map<String, Value>,
    read: &Map<String, Value>,
    problems: &mut Vec<FieldError>,
) {
    for (field, value) in named {
        let Some(known) = read.get(field) else { continue };
        if !S::OPAQUE.contains(&field.as_str()) {
            let value = given.get(field).unwrap_or(value);
            unknown_below(field, value, known, problems);
        }
    }
}

fn unknown_below(path: &str, given: &Value, read: &Value, problems: &mut Vec<FieldError>) {
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => {
            for (name, value) in given {
                let path = format!("{path}.{name}");
                match read.get(name) {
                    Some(known) => unknown_below(&path, value, known, problems),
                    None => problems.push(no_field(path, name, read.keys().map(String::as_str))),
                }
            }
        }
        (Value::Array(given), Value::Array(read)) if given.len() == read.len() => {
            for (index, (value, known)) in given.iter().zip(read).enumerate() {
                unknown_below(&format!("{path}[{index}]"), value, known, problems);
            }
        }
        _ => {}
    }
}

fn no_field<'a>(path: String, name: &str, known: impl Iterator<Item = &'a str>) -> FieldError {
    FieldError::new(path, format!("unknown field `{name}`, expected one of {}", quoted(known)))
}

/// Adds every text that is too long or contains a control character, and every list or map with too many entries.
fn check_bounds(value: &Value, path: &mut Vec<String>, problems: &mut Vec<FieldError>) {
    let mut note = |path: &[String], message: String| problems.push(FieldError::new(path.concat(), message));
    match value {
        Value::String(text) => {
            if let Err(message) = check_text(text, LONGEST_TEXT) {
                note(path, message);
            }
        }
        Value::Array(items) if items.len() > MOST_MEMBERS => {
            note(path, format!("is too long; at most {MOST_MEMBERS} items"));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(format!("[{index}]"));
                check_bounds(item, path, problems);
                path.pop();
            }
        }
        Value::Object(members) if members.len() > MOST_MEMBERS => {
            note(path, format!("has too many members; at most {MOST_MEMBERS}"));
        }
        Value::Object(members) => {
            for (name, value) in members {
                if let Err(message) = check_key(name) {
                    problems.push(FieldError::new(path.concat(), message));
                    continue;
                }
                path.push(if path.is_empty() { name.clone() } else { format!(".{name}") });
                check_bounds(value, path, problems);
                path.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Checks a free text of at most `longest` characters; the error says what is wrong.
pub fn check_text(text: &str, longest: usize) -> Result<(), String> {
    if text.chars().take(longest + 1).count() > longest {
        return Err(format!("is too long; at most {longest} characters"));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err("holds a control character; remove it".into());
    }
    Ok(())
}

/// Checks a map's key; the error says what is wrong.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("has a member without a name".into());
    }
    check_text(key, LONGEST_KEY).map_err(|error| format!("a name {error}"))?;
    match key.chars().find(|c| is_invisible(*c)) {
        Some(character) => Err(format!("a name holds the character U+{:04X}, which nobody sees", character as u32)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        least: Option<u64>,
        most: Option<u64>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        place: String,
        #[serde(default)]
        text: Option<String>,
        #[serde(default)]
        words: BTreeMap<String, String>,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        list: Vec<u8>,
    }

    impl Spec for Thing {
        const OPAQUE: &'static [&'static str] = &["words"];

        fn required(_: &str) -> &'static str {
            "name one"
        }

        fn effect(_: &str, _: &Self, _: &Self) -> Option<Effect> {
            Some(Effect::Neutral)
        }
    }

    fn named(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn thing() -> Thing {
        create(&named(json!({"place": "p", "words": {"a": "1", "b": "2"}, "inner": {"least": 1, "most": 2}}))).unwrap()
    }

    fn fields(error: Result<Thing, Vec<FieldError>>) -> Vec<(String, String)> {
        error.unwrap_err().into_iter().map(|error| (error.field, error.message)).collect()
    }

    #[test]
    fn a_merge_changes_members_and_a_whole_value_replaces_them() {
        let patch = named(json!({"words": {"a": "3", "b": null, "none": null}, "inner": {"most": null}}));
        let merged = change(&thing(), &patch, Mode::Merge).unwrap();
        assert_eq!(merged.words, BTreeMap::from([("a".to_owned(), "3".to_owned())]));
        assert_eq!(merged.inner, Some(Inner { least: Some(1), most: None }));
        let whole = change(&thing(), &patch, Mode::Whole).unwrap();
        assert_eq!((whole.words, whole.inner), (merged.words, Some(Inner { least: None, most: None })));
        assert_eq!((whole.place.as_str(), whole.list.len()), ("p", 0), "what is not named stays");
    }

    #[test]
    fn null_brings_the_default_back() {
        for mode in [Mode::Whole, Mode::Merge] {
            let patch = named(json!({"words": null, "inner": null, "list": null, "text": null}));
            let changed = change(&thing(), &patch, mode).unwrap();
            assert_eq!(changed, create(&named(json!({"place": "p"}))).unwrap());
            let nowhere = fields(change(&thing(), &named(json!({"place": null})), mode));
            assert_eq!(nowhere, [("place".to_owned(), "must not be null; name one".to_owned())]);
        }
        let nowhere = fields(create(&Map::new()));
        assert_eq!(nowhere, [("place".to_owned(), "is missing; name one".to_owned())]);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_with_its_place() {
        let body = json!({
            "place": 1, "text": "\u{7}", "words": {"": "x", "k": 1}, "inner": {"least": -1}, "list": [1, 999],
            "nope": null,
        });
        let mut told: Vec<String> = fields(create(&named(body))).into_iter().map(|(field, _)| field).collect();
        told.sort_unstable();
        assert_eq!(told, ["inner.least", "list[1]", "nope", "place", "text", "words"]);
        let told = fields(change(&thing(), &named(json!({"inner": {"lest": 1}})), Mode::Merge));
        assert_eq!(told[0].0, "inner.lest");
        assert!(told[0].1.contains("expected one of `least`, `most`"), "{told:?}");
        let long = "x".repeat(LONGEST_TEXT + 1);
        let many: Vec<u8> = vec![1; MOST_MEMBERS + 1];
        let told = fields(create(&named(json!({"place": long, "list": many, "words": {"u\u{202e}": "v"}}))));
        assert_eq!(told.len(), 3, "{told:?}");
    }

    #[test]
    fn what_was_kept_is_read_with_what_a_newer_server_wrote() {
        let kept = json!({"place": "p", "later": {"x": 1}, "inner": {"least": 1, "later": 2}});
        assert_eq!(serde_json::from_value::<Thing>(kept).unwrap().place, "p");
    }

    #[test]
    fn only_what_differs_has_an_effect() {
        let after = change(&thing(), &named(json!({"list": [1], "words": {"a": "1"}})), Mode::Merge).unwrap();
        assert_eq!(effects(&thing(), &after), [("list".to_owned(), Effect::Neutral)]);
    }
}
