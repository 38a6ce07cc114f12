//! The body of a query, parsed as leniently as proto3-JSON, which the protocol's clients write.
//!
//! Numbers may be strings, names may be camelCase or snake_case, unknown fields are ignored (Delta Sharing protocol,
//! 1.0). Never here: the meaning of the fields.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, value::RawValue};

use crate::{
    lake::Feed,
    service::{
        core::error::ServiceError,
        sharing::as_of::{AsOf, timestamp_of},
    },
};

use super::extract::Wrong;

/// The most predicates that are read; far more than connectors send.
const MOST_HINTS: usize = 10_000;

/// A query's body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryBody {
    /// SQL predicates; hints only.
    pub predicate_hints: Vec<String>,
    /// A predicate tree as JSON text; a hint only.
    pub json_predicate_hints: Option<String>,
    /// How many rows suffice; a hint only.
    pub limit_hint: Option<i64>,
    /// The requested part of the table's history.
    pub range: QueryRange,
    /// The most files in a page.
    pub max_files: Option<u32>,
    /// The token of the next page, from the previous one.
    pub page_token: Option<String>,
    /// Whether the client wants a refresh token.
    pub include_refresh_token: bool,
    /// The refresh token of an earlier answer.
    pub refresh_token: Option<String>,
    /// Whether the client wants protocol changes inside a range.
    pub include_historical_protocol: bool,
}

/// The part of a table's history that a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryRange {
    /// One version.
    Snapshot(AsOf),
    /// The files added and removed since a version, up to and including another or the newest.
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
    /// Parses a body, and refuses contradictory fields in the protocol's order (1.4).
    pub fn parse(bytes: &[u8]) -> Result<Self, Wrong> {
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

    /// Refuses refresh tokens unless the query is for the first page of the newest version.
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

    /// Returns the predicates as one text, for the audit event's digest; `None` if there are none.
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
) -> Result<QueryRange, Wrong> {
    if [version.is_some(), timestamp.is_some(), starting.is_some()].into_iter().filter(|named| *named).count() > 1 {
        let message = "Please only provide one of: version,timestamp,startingVersion";
        return Err(ServiceError::Parameter(message.to_owned()).into());
    }
    let version = version.map(|version| not_negative("version", version)).transpose()?;
    let starting = starting.map(|version| not_negative("startingVersion", version)).transpose()?;
    match (version, timestamp, starting) {
        (Some(version), ..) => Ok(QueryRange::Snapshot(AsOf::Version(version))),
        (_, Some(text), _) => {
            let at = timestamp_of("timestamp", &text).map_err(Wrong::about(Feed::Files))?;
            Ok(QueryRange::Snapshot(AsOf::Timestamp(at)))
        }
        (.., Some(starting)) => {
            let ending = ending.map(|version| not_negative("endingVersion", version)).transpose()?;
            if ending.is_some_and(|ending| ending < starting) {
                let message = "startingVersion must not be greater than endingVersion";
                return Err(Wrong::about(Feed::Files)(ServiceError::Parameter(message.to_owned())));
            }
            Ok(QueryRange::Since { starting, ending })
        }
        // An endingVersion alone is ignored.
        (None, None, None) => Ok(QueryRange::default()),
    }
}

/// Converts a version or another number that must not be negative.
pub fn not_negative(name: &str, number: i64) -> Result<u64, ServiceError> {
    u64::try_from(number)
        .map_err(|_| ServiceError::Parameter(format!("{name} cannot be negative; the first version is 0")))
}

/// Converts a page's size, which must be positive.
pub fn positive_max_files(number: i64) -> Result<u32, ServiceError> {
    let number = u32::try_from(number).ok().filter(|number| *number > 0);
    number.ok_or_else(|| ServiceError::Parameter("maxFiles must be positive".to_owned()))
}

fn malformed(message: impl Into<String>) -> ServiceError {
    ServiceError::Malformed(message.into())
}

/// The known fields, in the protocol's spelling and in snake_case.
const FIELDS: [(&str, &str); 12] = [
    ("predicateHints", "predicate_hints"),
    ("jsonPredicateHints", "json_predicate_hints"),
    ("limitHint", "limit_hint"),
    ("version", "version"),
    ("timestamp", "timestamp"),
    ("startingVersion", "starting_version"),
    ("endingVersion", "ending_version"),
    ("maxFiles", "max_files"),
    ("pageToken", "page_token"),
    ("includeRefreshToken", "include_refresh_token"),
    ("refreshToken", "refresh_token"),
    ("includeHistoricalProtocol", "include_historical_protocol"),
];

/// The raw JSON of the known fields, by both spellings. Unknown fields take no memory.
#[derive(Default)]
struct Fields<'a> {
    camel: [Option<&'a RawValue>; FIELDS.len()],
    snake: [Option<&'a RawValue>; FIELDS.len()],
}

/// A field's name: its index among the known fields, and whether it is in snake_case.
struct FieldName(Option<(usize, bool)>);

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Known;

        impl Visitor<'_> for Known {
            type Value = FieldName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<FieldName, E> {
                let camel = FIELDS.iter().position(|(camel, _)| *camel == name).map(|at| (at, false));
                let snake = || FIELDS.iter().position(|(_, snake)| *snake == name).map(|at| (at, true));
                Ok(FieldName(camel.or_else(snake)))
            }
        }

        deserializer.deserialize_str(Known)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(FieldName(known)) = map.next_key()? {
                    let field = match known {
                        Some((at, false)) => fields.camel.get_mut(at),
                        Some((at, true)) => fields.snake.get_mut(at),
                        None => None,
                    };
                    match field {
                        Some(field) => *field = Some(map.next_value()?),
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// The texts of an array; `None` if there are more than [`MOST_HINTS`].
struct Texts(Option<Vec<String>>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;

        impl<'de> Visitor<'de> for Array {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while texts.len() < MOST_HINTS {
                    match items.next_element()? {
                        Some(text) => texts.push(text),
                        None => return Ok(Texts(Some(texts))),
                    }
                }
                let mut has_more = false;
                while items.next_element::<IgnoredAny>()?.is_some() {
                    has_more = true;
                }
                Ok(Texts((!has_more).then_some(texts)))
            }
        }

        deserializer.deserialize_seq(Array)
    }
}

impl<'a> Fields<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, ServiceError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(malformed("No content to map due to end-of-input; send {} where nothing is asked for"));
        }
        serde_json::from_slice(bytes).map_err(|error| {
            if error.is_data() {
                malformed("the body must be a JSON object")
            } else {
                malformed(format!("the body is not valid JSON (line {}, column {})", error.line(), error.column()))
            }
        })
    }

    /// Returns a field's raw JSON by its camelCase name, or else by its snake_case name; `null` counts as absent.
    fn get(&self, name: &str) -> Option<&'a str> {
        let at = FIELDS.iter().position(|(camel, _)| *camel == name)?;
        let value = self.camel.get(at).copied().flatten().or_else(|| self.snake.get(at).copied().flatten())?;
        Some(value.get()).filter(|text| *text != "null")
    }

    fn string(&self, name: &str) -> Result<Option<String>, ServiceError> {
        let text = self.get(name).map(serde_json::from_str).transpose();
        text.map_err(|_| malformed(format!("{name}: expected a string")))
    }

    fn strings(&self, name: &str) -> Result<Vec<String>, ServiceError> {
        let Some(text) = self.get(name) else { return Ok(Vec::new()) };
        match serde_json::from_str(text) {
            Ok(Texts(Some(texts))) => Ok(texts),
            Ok(Texts(None)) => Err(malformed(format!("{name}: there are more than {MOST_HINTS}; send fewer"))),
            Err(_) => Err(malformed(format!("Expected an array for repeated field {name}, of strings"))),
        }
    }

    fn integer(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, ServiceError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = if text.starts_with('"') {
            serde_json::from_str::<String>(text).ok().and_then(|text| text.parse().ok())
        } else {
            let number = serde_json::from_str::<Number>(text).ok();
            number.and_then(|number| number.as_i64().or_else(|| whole(number.as_f64()?)))
        };
        let number = number.filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| malformed(format!("{name}: Not a numeric value between {least} and {most}")))
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, ServiceError> {
        match self.get(name) {
            None => Ok(None),
            Some("true" | r#""true""#) => Ok(Some(true)),
            Some("false" | r#""false""#) => Ok(Some(false)),
            Some(_) => Err(malformed(format!("{name}: expected true or false"))),
        }
    }
}

/// Converts a float without a fraction, since `3.0` is an integer in proto3-JSON.
fn whole(number: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation)]
    let integer = number as i64;
    #[allow(clippy::cast_precision_loss)]
    let exact = integer as f64 == number && number.abs() < 9.0e15;
    exact.then_some(integer)
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
            let message = QueryBody::parse(body.as_bytes()).unwrap_err().error.to_string();
            assert!(message.contains(expected), "{body}: {message}");
        }
        assert!(QueryBody::parse("[".repeat(100_000).as_bytes()).is_err());
        let many = format!(r#"{{"predicateHints":[{}""]}}"#, r#""","#.repeat(MOST_HINTS));
        assert!(QueryBody::parse(many.as_bytes()).unwrap_err().error.to_string().contains("more than 10000"));
    }

    #[test]
    fn what_is_not_read_may_be_anything() {
        let deep = format!(r#"{{"x":{}{},"limitHint":1}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(QueryBody::parse(deep.as_bytes()).unwrap().limit_hint, Some(1));
        let spelt = br#"{"limit_hint":1,"limitHint":2,"limit_hint":3,"\u006caxFiles":1,"ma\u0078Files":4}"#;
        let body = QueryBody::parse(spelt).unwrap();
        assert_eq!((body.limit_hint, body.max_files), (Some(2), Some(4)));
    }

    proptest! {
        #[test]
        fn no_body_makes_it_fail_but_by_refusal(bytes: Vec<u8>) {
            let _ = QueryBody::parse(&bytes);
        }
    }
}
