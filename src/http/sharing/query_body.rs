//! The body of a query: read as the protocol's clients write it, proto3-JSON with all its liberties.
//!
//! Numbers may be strings, names may be camelCase or snake_case, unknown fields are ignored (Delta Sharing protocol,
//! 1.0). Never here: what the fields mean.

use serde_json::{Map, Value};

use crate::service::error::ServiceError;

/// A query's body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryBody {
    /// SQL predicates; hints only.
    pub predicate_hints: Vec<String>,
    /// A predicate tree as JSON text; a hint only.
    pub json_predicate_hints: Option<String>,
    /// How many rows suffice; a hint only.
    pub limit_hint: Option<i64>,
    /// The most files a page should have.
    pub max_files: Option<i32>,
}

/// What is not served yet, with what to do without it.
const NOT_YET: [(&str, &str); 6] = [
    ("version", "Reading table by version or timestamp is not supported because history sharing is not enabled"),
    ("timestamp", "Reading table by version or timestamp is not supported because history sharing is not enabled"),
    ("startingVersion", "reading changes since a version is not supported; query the latest version instead"),
    ("endingVersion", "reading changes up to a version is not supported; query the latest version instead"),
    ("pageToken", "paging of queries is not supported; send the query without pageToken"),
    ("refreshToken", "refresh tokens are not supported; send the query without refreshToken"),
];

impl QueryBody {
    /// Reads a body.
    pub fn parse(bytes: &[u8]) -> Result<Self, ServiceError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(malformed("No content to map due to end-of-input; send {} where nothing is asked for"));
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            malformed(format!("the body is not valid JSON (line {}, column {})", error.line(), error.column()))
        })?;
        let Value::Object(fields) = value else { return Err(malformed("the body must be a JSON object")) };
        let fields = Fields(fields);
        let body = Self {
            predicate_hints: fields.strings("predicateHints")?,
            json_predicate_hints: fields.string("jsonPredicateHints")?,
            limit_hint: fields.integer("limitHint", i64::MIN, i64::MAX)?,
            max_files: fields
                .integer("maxFiles", i32::MIN.into(), i32::MAX.into())?
                .and_then(|n| i32::try_from(n).ok()),
        };
        for (name, message) in NOT_YET {
            if fields.get(name).is_some() {
                return Err(ServiceError::Parameter(format!("{name}: {message}")));
            }
        }
        for name in ["includeRefreshToken", "includeHistoricalProtocol"] {
            fields.boolean(name)?;
        }
        if body.max_files.is_some_and(|max_files| max_files <= 0) {
            return Err(ServiceError::Parameter("maxFiles must be positive".to_owned()));
        }
        Ok(body)
    }

    /// The predicates as one text, for the audit's digest; `None` where there are none.
    pub fn predicates(&self) -> Option<String> {
        let json = self.json_predicate_hints.as_deref().filter(|hints| !hints.is_empty());
        let all: Vec<&str> = self.predicate_hints.iter().map(String::as_str).chain(json).collect();
        (!all.is_empty()).then(|| all.join("\n"))
    }
}

fn malformed(message: impl Into<String>) -> ServiceError {
    ServiceError::Malformed(message.into())
}

struct Fields(Map<String, Value>);

impl Fields {
    /// A field by its camelCase name or the same in snake_case; `null` is absent.
    fn get(&self, name: &str) -> Option<&Value> {
        let value = self.0.get(name).or_else(|| self.0.get(&snake_case(name)));
        value.filter(|value| !value.is_null())
    }

    fn string(&self, name: &str) -> Result<Option<String>, ServiceError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(malformed(format!("{name}: expected a string"))),
        }
    }

    fn strings(&self, name: &str) -> Result<Vec<String>, ServiceError> {
        let wrong = || malformed(format!("Expected an array for repeated field {name}, of strings"));
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    fn integer(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, ServiceError> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let number = number.filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| malformed(format!("{name}: Not a numeric value between {least} and {most}")))
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, ServiceError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(Some(text == "true")),
            Some(_) => Err(malformed(format!("{name}: expected true or false"))),
        }
    }
}

/// `3.0` is an integer to proto3-JSON, too.
fn whole(number: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation)]
    let integer = number as i64;
    #[allow(clippy::cast_precision_loss)]
    let exact = integer as f64 == number && number.abs() < 9.0e15;
    exact.then_some(integer)
}

fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bodies_are_read_with_proto3_jsons_liberties() {
        let body = QueryBody::parse(br#"{"limit_hint":"7","maxFiles":3.0,"predicateHints":["a = 1"],"x":{"y":1}}"#);
        let body = body.unwrap();
        assert_eq!((body.limit_hint, body.max_files), (Some(7), Some(3)));
        assert_eq!(body.predicates().as_deref(), Some("a = 1"));
        assert_eq!(QueryBody::parse(b"{}").unwrap(), QueryBody::default());
        assert_eq!(QueryBody::parse(br#"{"version":null,"includeRefreshToken":false}"#).unwrap(), QueryBody::default());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (body, expected) in [
            ("", "end-of-input"),
            ("[]", "object"),
            ("{", "not valid JSON"),
            (r#"{"limitHint":"x3"}"#, "limitHint: Not a numeric value"),
            (r#"{"maxFiles":3000000000}"#, "maxFiles"),
            (r#"{"maxFiles":0}"#, "maxFiles must be positive"),
            (r#"{"predicateHints":"a"}"#, "Expected an array for repeated field predicateHints"),
            (r#"{"predicateHints":[1]}"#, "Expected an array"),
            (r#"{"version":1}"#, "version"),
            (r#"{"starting_version":"1"}"#, "startingVersion"),
            (r#"{"pageToken":""}"#, "pageToken"),
            (r#"{"includeRefreshToken":"maybe"}"#, "includeRefreshToken"),
        ] {
            let message = QueryBody::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(expected), "{body}: {message}");
        }
        assert!(QueryBody::parse("[".repeat(100_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_body_makes_it_fail_but_by_refusal(bytes: Vec<u8>) {
            let _ = QueryBody::parse(&bytes);
        }
    }
}
