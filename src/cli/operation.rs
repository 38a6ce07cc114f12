//! Reads the admin API's operations from its own OpenAPI document, so that the command line describes nothing twice.

use std::sync::LazyLock;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use reqwest::Method;
use serde_json::Value;

use crate::http::admin::document;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(document()).unwrap_or_default());

/// The member of an operation in the document that tells its command.
const COMMAND: &str = "x-weir-cli";
/// The path of the admin API.
const ROOT: &str = "/api/v1/";

/// An operation of the admin API.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) method: Method,
    /// The path below [`ROOT`], with `{names}`.
    pub(super) path: &'static str,
    /// What it does, in one sentence; `description` has the details.
    pub(super) summary: &'static str,
    pub(super) description: Option<&'static str>,
    pub(super) parameters: Vec<Parameter>,
    /// Whether it takes a JSON object.
    pub(super) has_body: bool,
}

/// The part of a request that carries a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
    Body,
}

/// A parameter of an operation.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) place: Place,
    /// Its name; in a body, after the names of the objects around it.
    pub(super) names: Vec<&'static str>,
    pub(super) about: String,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
}

/// The kind of a value, which decides how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Time,
    Choice(Vec<&'static str>),
    Number,
    /// A number of seconds, which people write with a unit.
    Seconds,
    Boolean,
    List(Box<Kind>),
    /// A map whose values are texts, or any JSON.
    Map {
        is_text: bool,
    },
    Json,
}

impl Operation {
    /// Finds the operation with this id.
    pub(super) fn find(id: &str) -> Option<Self> {
        let paths = DOCUMENT.get("paths")?.as_object()?;
        paths.iter().find_map(|(path, item)| {
            let (method, operation) =
                item.as_object()?.iter().find(|(_, operation)| operation["operationId"].as_str() == Some(id))?;
            Self::read(path.strip_prefix(ROOT)?, method, operation)
        })
    }

    /// The ids of all operations, with what the document says of their commands.
    pub(super) fn commands() -> impl Iterator<Item = (&'static str, &'static Value)> {
        let paths = DOCUMENT["paths"].as_object().into_iter().flatten();
        let operations = paths.flat_map(|(_, item)| item.as_object().into_iter().flatten());
        operations.filter_map(|(_, operation)| Some((operation["operationId"].as_str()?, &operation[COMMAND])))
    }

    /// The ids of all operations.
    #[cfg(test)]
    pub(super) fn ids() -> impl Iterator<Item = &'static str> {
        Self::commands().map(|(operation, _)| operation)
    }

    fn read(path: &'static str, method: &str, operation: &'static Value) -> Option<Self> {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).ok()?;
        let declared = operation["parameters"].as_array().into_iter().flatten();
        let mut parameters: Vec<Parameter> = declared.filter_map(declared_parameter).collect();
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        members(&[], resolve(schema), &mut parameters);
        Some(Self {
            method,
            path,
            summary: operation["summary"].as_str().unwrap_or_default(),
            description: operation["description"].as_str(),
            parameters,
            has_body: !schema.is_null(),
        })
    }

    /// Whether it answers a listing in pages.
    pub(super) fn is_listing(&self) -> bool {
        self.method == Method::GET && self.parameters.iter().any(|parameter| parameter.names == ["page_token"])
    }
}

fn declared_parameter(declared: &'static Value) -> Option<Parameter> {
    let place = match declared["in"].as_str()? {
        "path" => Place::Path,
        "query" => Place::Query,
        "header" => Place::Header,
        _ => return None,
    };
    let name = declared["name"].as_str()?;
    Some(Parameter {
        place,
        names: vec![name],
        about: declared["description"].as_str().map_or_else(|| told_by_name(name), sentence),
        kind: kind(name, resolve(&declared["schema"])),
        is_required: declared["required"].as_bool().unwrap_or_default(),
    })
}

/// The help for a parameter without a description in the document.
fn told_by_name(name: &str) -> String {
    match name {
        "If-Match" => "The etag that you have read; refuses the change if it is outdated".to_owned(),
        "Idempotency-Key" => "A key of your choice; repeating the request with it creates nothing new".to_owned(),
        "id" => "Its id".to_owned(),
        "name" => "Its name".to_owned(),
        name => format!("The {name}'s name"),
    }
}

/// Collects the members of a body; members of an object in it get both names.
fn members(around: &[&'static str], schema: &'static Value, parameters: &mut Vec<Parameter>) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let resolved = resolve(member);
        let names: Vec<&'static str> = around.iter().copied().chain([name.as_str()]).collect();
        if resolved["properties"].is_object() && around.is_empty() {
            members(&names, resolved, parameters);
            continue;
        }
        parameters.push(Parameter {
            place: Place::Body,
            about: sentence(described(member)),
            kind: kind(name, resolved),
            is_required: around.is_empty() && required.contains(&name.as_str()),
            names,
        });
    }
}

/// Resolves a schema that is a reference, or that also allows null.
fn resolve(schema: &'static Value) -> &'static Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return DOCUMENT.pointer(reference.trim_start_matches('#')).map_or(&Value::Null, resolve);
    }
    let mut choices = schema["oneOf"].as_array().into_iter().flatten();
    choices.find(|choice| choice["type"] != "null").map_or(schema, resolve)
}

/// The description of a member, or else of its type.
fn described(schema: &'static Value) -> &'static str {
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    let mut said = std::iter::once(schema).chain(choices).filter_map(|schema| schema["description"].as_str());
    said.next().or_else(|| resolve(schema)["description"].as_str()).unwrap_or_default()
}

/// Turns a description into the help of a flag: one line without a full stop.
fn sentence(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}

fn kind(name: &str, schema: &'static Value) -> Kind {
    if let Some(choices) = schema["enum"].as_array() {
        return Kind::Choice(choices.iter().filter_map(Value::as_str).collect());
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().find(|name| *name != "null").and_then(Value::as_str),
        name => name.as_str(),
    };
    match (types, schema["format"].as_str()) {
        (Some("string"), Some("date-time")) => Kind::Time,
        (Some("string"), _) => Kind::Text,
        (Some("integer"), _) if name.ends_with("_seconds") => Kind::Seconds,
        (Some("integer"), _) => Kind::Number,
        (Some("boolean"), _) => Kind::Boolean,
        (Some("array"), _) => match kind(name, resolve(&schema["items"])) {
            item @ (Kind::Text | Kind::Choice(_)) => Kind::List(Box::new(item)),
            _ => Kind::Json,
        },
        (Some("object"), _) if schema["additionalProperties"].is_object() => {
            Kind::Map { is_text: kind(name, resolve(&schema["additionalProperties"])) == Kind::Text }
        }
        _ => Kind::Json,
    }
}

impl Parameter {
    /// The flag, without dashes.
    pub(super) fn flag(&self) -> String {
        let name = self.names.join("-").replace('_', "-").to_lowercase();
        match self.kind {
            Kind::Seconds => name.trim_end_matches("-seconds").to_owned(),
            _ => name,
        }
    }

    /// Its identifier among the arguments of a command.
    pub(super) fn id(&self) -> String {
        format!("{:?} {}", self.place, self.names.join("."))
    }
}

impl Kind {
    /// The placeholder for a value in usage texts.
    pub(super) fn placeholder(&self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Time | Self::Seconds => "TIME",
            Self::Choice(_) => "WORD",
            Self::Number => "NUMBER",
            Self::Boolean => "BOOLEAN",
            Self::List(item) => item.placeholder(),
            Self::Map { .. } => "KEY=VALUE",
            Self::Json => "JSON",
        }
    }

    /// Reads one value.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Text | Self::Choice(_) => Ok(text.into()),
            Self::Time => Ok(moment(text)?.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()),
            Self::Number => text.parse::<i64>().map(Value::from).map_err(|_| "is no whole number".to_owned()),
            Self::Seconds => text.parse::<u64>().or_else(|_| seconds(text)).map(Value::from),
            Self::Boolean => text.parse::<bool>().map(Value::from).map_err(|_| "write true or false".to_owned()),
            Self::List(item) => item.parse(text),
            Self::Map { .. } | Self::Json => serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}")),
        }
    }

    /// Reads a member of a map as name and value.
    pub(super) fn parse_member(&self, text: &str) -> Result<(String, Value), String> {
        let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err("write it as KEY=VALUE".to_owned());
        };
        let value = match self {
            // A text that is not JSON is taken as a string without quotes.
            Self::Map { is_text: false } => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
            _ => value.into(),
        };
        Ok((name.to_owned(), value))
    }
}

/// Parses a point in time: RFC 3339, or a date, which means its beginning in UTC.
pub(super) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return date.and_hms_opt(0, 0, 0).map(|at| at.and_utc()).ok_or_else(|| "is no date".to_owned());
    }
    let moment = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    moment.map_err(|_| "write it as 2026-09-01 or 2026-09-01T00:00:00Z".to_owned())
}

/// Parses a length of time with a unit, into seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "write it as a number of s, m, h or d, as in 30d".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    number.checked_mul(factor).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_a_number_and_a_unit() {
        for (text, read) in [("30d", 2_592_000), ("12h", 43_200), ("5m", 300), ("90s", 90)] {
            assert_eq!(seconds(text), Ok(read));
        }
        for text in ["", "d", "30", "-1d", "1.5h", "30 d", "30w", "99999999999999999999d", "9999999999999999999d", "3ö"]
        {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn members_of_objects_in_a_body_have_flags_of_their_own() {
        let operation = Operation::find("put_recipient").unwrap();
        let flags: Vec<String> = operation.parameters.iter().map(Parameter::flag).collect();
        for flag in ["recipient", "display-name", "contacts", "limits-bytes-per-day", "oidc-issuer", "allowed-cidrs"] {
            assert!(flags.iter().any(|known| known == flag), "{flag} in {flags:?}");
        }
        let kind = |flag: &str| operation.parameters.iter().find(|known| known.flag() == flag).unwrap().kind.clone();
        assert_eq!(kind("contacts"), Kind::Map { is_text: true });
        assert_eq!(kind("properties"), Kind::Map { is_text: false });
        assert_eq!(kind("delivery"), Kind::Choice(vec!["presigned", "proxied"]));
        assert_eq!(kind("allowed-cidrs"), Kind::List(Box::new(Kind::Text)));
        assert_eq!(kind("limits-bytes-per-day"), Kind::Number);
    }

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(Kind::Time.parse("2027-01-01"), Ok(json!("2027-01-01T00:00:00Z")));
        assert_eq!(Kind::Seconds.parse("30d"), Ok(json!(2_592_000)));
        assert_eq!(Kind::Seconds.parse("90"), Ok(json!(90)));
        assert!(
            Kind::Number.parse("x").is_err() && Kind::Json.parse("{").is_err() && Kind::Time.parse("soon").is_err()
        );
        let any = Kind::Map { is_text: false };
        assert_eq!(any.parse_member("plans=[\"gold\"]"), Ok(("plans".into(), json!(["gold"]))));
        assert_eq!(any.parse_member("region=west=1"), Ok(("region".into(), json!("west=1"))));
        assert_eq!(Kind::Map { is_text: true }.parse_member("a=1"), Ok(("a".into(), json!("1"))));
        assert!(any.parse_member("plans").is_err() && any.parse_member("=1").is_err());
    }
}
