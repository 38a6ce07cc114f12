//! The body of a query: read as the protocol's clients write it, proto3-JSON with all its liberties.
//!
//! Numbers may be strings, names may be camelCase or snake_case, unknown fields are ignored (Delta Sharing protocol,
//! 1.0). Never here: what the fields mean.

use serde_json::{Map, Value};

use crate::service::{
    error::ServiceError,
    sharing::query::{AsOf, timestamp_of},
};

/// A query's body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryBody {
    /// SQL predicates; hints only.
    pub predicate_hints: Vec<String>,
    /// A predicate tree as JSON text; a hint only.
    pub json_predicate_hints: Option<String>,
    /// How many rows suffice; a hint only.
    pub limit_hint: Option<i64>,
    /// Which part of the table's history is asked for.
    pub range: QueryRange,
    /// The most files that a page should have.
    pub max_files: Option<u32>,
    /// Where the page before ended.
    pub page_token: Option<String>,
    /// Whether a refresh token is wanted.
    pub include_refresh_token: bool,
    /// The refresh token of an earlier answer.
    pub refresh_token: Option<String>,
    /// Whether protocol changes inside a range are wanted.
    pub include_historical_protocol: bool,
}

/// Which part of a table's history a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryRange {
    /// One version.
    Snapshot(AsOf),
    /// What was added and removed since a version, up to and including another or the newest.
    Since {
        /// The first version.
        starting: u64,
        /// The last one.
        ending: Option<u64>,
    },
}

impl Default for QueryRange {
    fn default() -> Self {
        Self::Snapshot(AsOf::Latest)
    }
}

impl QueryBody {
    /// Reads a body, and refuses what contradicts itself in the order of the protocol (1.4).
    pub fn parse(bytes: &[u8]) -> Result<Self, ServiceError> {
        let fields = Fields::parse(bytes)?;
        let version = fields.integer("version", i64::MIN, i64::MAX)?;
        let timestamp = fields.string("timestamp")?.filter(|text| !text.is_empty());
        let starting = fields.integer("startingVersion", i64::MIN, i64::MAX)?;
        let ending = fields.integer("endingVersion", i64::MIN, i64::MAX)?;
        let max_files = fields.integer("maxFiles", i32::MIN.into(), i32::MAX.into())?;
        let body = Self {
            predicate_hints: fields.strings("predicateHints")?,
            json_predicate_hints: fields.string("jsonPredicateHints")?,
            limit_hint: fields.integer("limitHint", i64::MIN, i64::MAX)?,
            range: query_range(version, timestamp, starting, ending)?,
            max_files: max_files.map(positive_max_files).transpose()?,
            page_token: fields.string("pageToken")?.filter(|token| !token.is_empty()),
            include_refresh_token: fields.boolean("includeRefreshToken")?.unwrap_or(false),
            refresh_token: fields.string("refreshToken")?.filter(|token| !token.is_empty()),
            include_historical_protocol: fields.boolean("includeHistoricalProtocol")?.unwrap_or(false),
        };
        body.check_tokens()?;
        Ok(body)
    }

    /// Refresh tokens are for the first page of the newest version alone.
    fn check_tokens(&self) -> Result<(), ServiceError> {
        let travels = self.range != QueryRange::default();
        let (pages, refreshes) = (self.page_token.is_some(), self.refresh_token.is_some());
        let wrong = match (self.include_refresh_token, refreshes) {
            (true, _) if travels => "includeRefreshToken cannot be used when querying a specific version",
            (true, _) if pages => "includeRefreshToken must be used in the first page query only",
            (_, true) if travels => "refreshToken cannot be used when querying a specific version",
            (_, true) if pages => "refreshToken must be used in the first page query only",
            _ => return Ok(()),
        };
        Err(ServiceError::Parameter(format!("{wrong}; leave one of the two out")))
    }

    /// The predicates as one text, for the audit's digest; `None` where there are none.
    pub fn predicates(&self) -> Option<String> {
        let json = self.json_predicate_hints.as_deref().filter(|hints| !hints.is_empty());
        let all: Vec<&str> = self.predicate_hints.iter().map(String::as_str).chain(json).collect();
        (!all.is_empty()).then(|| all.join("\n"))
    }
}

fn query_range(
    version: Option<i64>,
    timestamp: Option<String>,
    starting: Option<i64>,
    ending: Option<i64>,
) -> Result<QueryRange, ServiceError> {
    if [version.is_some(), timestamp.is_some(), starting.is_some()].into_iter().filter(|named| *named).count() > 1 {
        let message = "Please only provide one of: version,timestamp,startingVersion";
        return Err(ServiceError::Parameter(message.to_owned()));
    }
    let version = version.map(|version| not_negative("version", version)).transpose()?;
    let starting = starting.map(|version| not_negative("startingVersion", version)).transpose()?;
    match (version, timestamp, starting) {
        (Some(version), ..) => Ok(QueryRange::Snapshot(AsOf::Version(version))),
        (_, Some(text), _) => Ok(QueryRange::Snapshot(AsOf::Timestamp(timestamp_of("timestamp", &text)?))),
        (.., Some(starting)) => {
            let ending = ending.map(|version| not_negative("endingVersion", version)).transpose()?;
            if ending.is_some_and(|ending| ending < starting) {
                let message = "startingVersion must not be greater than endingVersion";
                return Err(ServiceError::Parameter(message.to_owned()));
            }
            Ok(QueryRange::Since { starting, ending })
        }
        // An endingVersion alone means nothing, and is ignored.
        (None, None, None) => Ok(QueryRange::default()),
    }
}

/// A version or another count that must not be negative.
pub fn not_negative(name: &str, number: i64) -> Result<u64, ServiceError> {
    u64::try_from(number)
        .map_err(|_| ServiceError::Parameter(format!("{name} cannot be negative; the first version is 0")))
}

/// A page's size.
pub fn positive_max_files(number: i64) -> Result<u32, ServiceError> {
    let number = u32::try_from(number).ok().filter(|number| *number > 0);
    number.ok_or_else(|| ServiceError::Parameter("maxFiles must be positive".to_owned()))
}

fn malformed(message: impl Into<String>) -> ServiceError {
    ServiceError::Malformed(message.into())
}

struct Fields(Map<String, Value>);

impl Fields {
    fn parse(bytes: &[u8]) -> Result<Self, ServiceError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(malformed("No content to map due to end-of-input; send {} where nothing is asked for"));
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            malformed(format!("the body is not valid JSON (line {}, column {})", error.line(), error.column()))
        })?;
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(malformed("the body must be a JSON object")),
        }
    }

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
        let body = QueryBody::parse(br#"{"version":"3","includeRefreshToken":false,"endingVersion":1}"#).unwrap();
        assert_eq!(body.range, QueryRange::Snapshot(AsOf::Version(3)));
        let body = QueryBody::parse(br#"{"starting_version":3}"#).unwrap();
        assert_eq!(body.range, QueryRange::Since { starting: 3, ending: None });
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
            (r#"{"version":-1}"#, "version cannot be negative"),
            (r#"{"version":1,"timestamp":"2022-01-01T00:00:00Z"}"#, "Please only provide one of"),
            (r#"{"version":1,"startingVersion":"1"}"#, "Please only provide one of"),
            (r#"{"timestamp":"2022-01-01"}"#, "Invalid timestamp"),
            (r#"{"starting_version":"-1"}"#, "startingVersion cannot be negative"),
            (r#"{"startingVersion":3,"endingVersion":2}"#, "startingVersion must not be greater"),
            (r#"{"pageToken":7}"#, "pageToken"),
            (r#"{"includeRefreshToken":true,"version":1}"#, "includeRefreshToken cannot be used"),
            (r#"{"includeRefreshToken":true,"pageToken":"x"}"#, "first page query only"),
            (r#"{"refreshToken":"x","pageToken":"x"}"#, "first page query only"),
            (r#"{"refreshToken":"x","timestamp":"2022-01-01T00:00:00-08:00"}"#, "refreshToken cannot be used"),
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
