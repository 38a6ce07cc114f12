//! Parses answers and their lines as strictly as the strictest public connector.

use reqwest::header::HeaderMap;
use serde_json::{Map, Value};

use super::{
    check::{Outcome, ensure, fail},
    client::CAPABILITIES,
};

/// Characters that the Python connector treats as line ends.
pub(super) const LINE_BREAKERS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];
/// The kinds of lines, each named by the line's only key.
const KINDS: [&str; 8] = ["protocol", "metaData", "file", "add", "cdf", "remove", "endStreamAction", "queryStatus"];

/// One answer of the server.
pub(super) struct Answer {
    /// A description of the request.
    pub(super) shown: String,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The error code and message, if there are any.
    pub(super) said: String,
}

/// One page of a listing.
pub(super) struct Page {
    pub(super) items: Vec<Value>,
    /// The member `nextPageToken`, unchanged.
    pub(super) next: Option<Value>,
}

impl Page {
    /// Returns the token of the next page, if there is one.
    pub(super) fn next_token(&self) -> Option<&str> {
        self.next.as_ref().and_then(Value::as_str).filter(|token| !token.is_empty())
    }
}

impl Answer {
    /// Describes the answer.
    pub(super) fn what(&self) -> String {
        if self.said.is_empty() {
            return format!("{} answered {}", self.shown, self.status);
        }
        format!("{} answered {} ({})", self.shown, self.status, self.said)
    }

    /// Fails unless the status is one of `statuses`.
    pub(super) fn expect(&self, statuses: &[u16]) -> Outcome<&Self> {
        let wanted: Vec<String> = statuses.iter().map(u16::to_string).collect();
        ensure!(statuses.contains(&self.status), "{}, not {}", self.what(), wanted.join(" or "));
        Ok(self)
    }

    /// Fails unless the status is a client error (4xx).
    pub(super) fn expect_client_error(&self) -> Outcome<&Self> {
        ensure!((400..500).contains(&self.status), "{}, not 4xx", self.what());
        Ok(self)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the content type without parameters, in lower case.
    pub(super) fn content_type(&self) -> String {
        let value = self.header("content-type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Returns the body as text.
    pub(super) fn text(&self) -> Outcome<&str> {
        std::str::from_utf8(&self.body).or_else(|_| fail(format!("the answer to {} is no UTF-8", self.shown)))
    }

    /// Returns the body as one JSON object; fails unless the status is 200.
    pub(super) fn json(&self) -> Outcome<Map<String, Value>> {
        self.expect(&[200])?;
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            _ => fail(format!("the answer to {} is no JSON object", self.shown)),
        }
    }

    /// Returns the body as a page of a listing; fails unless the status is 200.
    pub(super) fn page(&self) -> Outcome<Page> {
        let mut body = self.json()?;
        let items = match body.remove("items") {
            None => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => return fail(format!("the `items` of {} are neither an array nor absent", self.shown)),
        };
        Ok(Page { items, next: body.remove("nextPageToken").filter(|next| !next.is_null()) })
    }

    /// Fails unless the body is an error in the protocol's format.
    pub(super) fn expect_error_body(&self) -> Outcome {
        let kind = self.content_type();
        ensure!(kind == "application/json", "{} with the content type `{kind}`, not application/json", self.what());
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        for field in ["errorCode", "message"] {
            ensure!(body[field].is_string(), "{} without a string `{field}` in its body", self.what());
        }
        Ok(())
    }

    /// Returns the table version from the answer's header.
    pub(super) fn version(&self) -> Outcome<i64> {
        let Some(text) = self.header("delta-table-version") else {
            return fail(format!("{} without the header Delta-Table-Version", self.what()));
        };
        match text.trim().parse::<i64>() {
            Ok(version) if version >= 0 => Ok(version),
            _ => fail(format!("the header Delta-Table-Version of {} is no version", self.shown)),
        }
    }

    /// Returns the formats in the answer's capabilities header; without one, the format is parquet.
    fn formats(&self) -> Vec<String> {
        let Some(header) = self.header(CAPABILITIES) else { return vec!["parquet".to_owned()] };
        let named = header.split(';').filter_map(|part| part.split_once('='));
        let named = named.filter(|(key, _)| key.trim() == "responseformat");
        let formats: Vec<String> =
            named.flat_map(|(_, values)| values.split(',')).map(|value| value.trim().to_owned()).collect();
        if formats.is_empty() { vec!["parquet".to_owned()] } else { formats }
    }

    /// Returns whether the answer's capabilities header contains `key=true`.
    pub(super) fn says(&self, key: &str) -> bool {
        let header = self.header(CAPABILITIES).unwrap_or_default().to_ascii_lowercase();
        header.split(';').any(|part| part.split_once('=').is_some_and(|(k, v)| k.trim() == key && v.trim() == "true"))
    }

    /// Returns the body as the lines of an answer about a table; fails unless the status is 200.
    pub(super) fn lines(&self) -> Outcome<Lines> {
        self.expect(&[200])?;
        let shown = &self.shown;
        let kind = self.content_type();
        ensure!(kind == "application/x-ndjson", "the answer to {shown} has the content type `{kind}`");
        let version = self.version()?;
        let formats = self.formats();
        let format = match formats.as_slice() {
            [one] if one == "parquet" => Format::Parquet,
            [one] if one == "delta" => Format::Delta,
            _ => {
                let named = formats.join(",");
                return fail(format!("the answer to {shown} names the format `{named}`, not parquet or delta alone"));
            }
        };
        let mut raw = self.text()?.split('\n').collect::<Vec<_>>();
        if raw.last() == Some(&"") {
            raw.pop();
        }
        let mut lines = Vec::with_capacity(raw.len());
        for line in &raw {
            lines.push(parse_line(line, shown)?);
        }
        ensure!(lines.len() >= 2, "the answer to {shown} has fewer than two lines");
        let end = lines.pop_if(|line| line.kind == "endStreamAction").map(|line| line.value);
        let rest = lines.split_off(2.min(lines.len()));
        let (Some(metadata), Some(protocol)) = (lines.pop(), lines.pop()) else {
            return fail(format!("the answer to {shown} does not begin with protocol and metaData"));
        };
        let begins_well = protocol.kind == "protocol" && metadata.kind == "metaData";
        ensure!(begins_well, "the answer to {shown} does not begin with protocol and metaData");
        let early = rest.iter().any(|line| line.kind == "endStreamAction");
        ensure!(!early, "the answer to {shown} goes on after its endStreamAction");
        let wrapped = protocol.value.get("deltaProtocol").is_some() && metadata.value.get("deltaMetadata").is_some();
        ensure!(
            wrapped == (format == Format::Delta),
            "the answer to {shown} says {} and holds lines of the other format",
            formats.join(",")
        );
        let head = [raw[0].to_owned(), raw[1].to_owned()];
        let (protocol, metadata) = (protocol.value, metadata.value);
        Ok(Lines { shown: shown.clone(), version, format, head, protocol, metadata, rest, end })
    }
}

fn parse_line(text: &str, shown: &str) -> Outcome<Line> {
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(text) else {
        return fail(format!("the answer to {shown} has a line that is no JSON object"));
    };
    let mut members = object.into_iter();
    match (members.next(), members.next()) {
        (Some((kind, value)), None) if KINDS.contains(&kind.as_str()) => Ok(Line { kind, value }),
        _ => fail(format!("the answer to {shown} has a line of no known kind")),
    }
}

/// The two formats of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Delta,
}

/// One line after the first two.
pub(super) struct Line {
    /// The line's only key.
    pub(super) kind: String,
    pub(super) value: Value,
}

/// An answer about a table.
pub(super) struct Lines {
    /// A description of the request.
    pub(super) shown: String,
    /// The version in the Delta-Table-Version header.
    pub(super) version: i64,
    pub(super) format: Format,
    /// The first two lines, unchanged.
    pub(super) head: [String; 2],
    pub(super) protocol: Value,
    pub(super) metadata: Value,
    /// The lines after those, without the end.
    pub(super) rest: Vec<Line>,
    /// The EndStreamAction, if there is one.
    pub(super) end: Option<Value>,
}

impl Lines {
    /// Returns a member of the Delta metadata, from its place in the format.
    pub(super) fn delta_metadata(&self, key: &str) -> &Value {
        match self.format {
            Format::Parquet => &self.metadata[key],
            Format::Delta => &self.metadata["deltaMetadata"][key],
        }
    }

    /// Returns a member of the Delta protocol, from its place in the format.
    pub(super) fn delta_protocol(&self, key: &str) -> &Value {
        match self.format {
            Format::Parquet => &self.protocol[key],
            Format::Delta => &self.protocol["deltaProtocol"][key],
        }
    }

    pub(super) fn schema_string(&self) -> Option<&str> {
        self.delta_metadata("schemaString").as_str()
    }

    /// Returns the fields of the schema; empty if it cannot be parsed.
    pub(super) fn fields(&self) -> Vec<Value> {
        let schema = self.schema_string().and_then(|text| serde_json::from_str::<Value>(text).ok()).unwrap_or_default();
        schema["fields"].as_array().cloned().unwrap_or_default()
    }

    pub(super) fn partition_columns(&self) -> Vec<String> {
        let columns = self.delta_metadata("partitionColumns").as_array();
        columns.into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
    }

    /// Returns a token from the EndStreamAction.
    pub(super) fn end_token(&self, key: &str) -> Option<&str> {
        self.end.as_ref()?.get(key)?.as_str().filter(|token| !token.is_empty())
    }
}
