//! A small Delta Sharing server over tables in memory: correct except for the one fault it is given.

// A refusal is an ordinary answer here, and refusals are rare.
#![allow(clippy::result_large_err)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    response::Response,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use http::{HeaderMap, Method, StatusCode, Uri};
use md5::Md5;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    faults::Fault,
    tables::{Commit, File, Table, tables},
};

pub const TOKEN: &str = "token-of-the-small-server";
const SHARES: [&str; 3] = ["Alpha", "beta", "gamma"];
/// The members that a body may have.
const MEMBERS: [&str; 14] = [
    "predicateHints",
    "jsonPredicateHints",
    "limitHint",
    "version",
    "timestamp",
    "startingVersion",
    "endingVersion",
    "includeHistoricalProtocol",
    "maxFiles",
    "pageToken",
    "includeRefreshToken",
    "refreshToken",
    "idempotencyKey",
    "idempotency_key",
];

type Answer = Result<Response, Response>;

struct Server {
    fault: Option<Fault>,
    address: String,
    tables: Vec<Table>,
    requests: AtomicU64,
}

/// Serves until the runtime ends and returns the profile.
pub async fn start(fault: Option<Fault>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = Server { fault, address: address.clone(), tables: tables(), requests: AtomicU64::new(0) };
    let router = Router::new()
        .fallback(async |State(server): State<Arc<Server>>, method, uri, headers, body| {
            server.answer(&Request::new(method, uri, headers, body)).unwrap_or_else(|response| response)
        })
        .with_state(Arc::new(server));
    tokio::spawn(async move { axum::serve(listener, router).await });
    json!({ "shareCredentialsVersion": 1, "endpoint": format!("{address}/ds/"), "bearerToken": TOKEN }).to_string()
}

struct Request {
    method: Method,
    path: String,
    segments: Vec<String>,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    fn new(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let segments = uri.path().split('/').skip(1).map(decode).collect();
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.map(|(key, value)| (decode(key), decode(value))).collect();
        Self { method, path: uri.path().to_owned(), segments, query, headers, body }
    }

    fn parameter(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The client's declared capabilities.
#[derive(Default)]
struct Declared {
    formats: Vec<String>,
    features: Vec<String>,
    end: bool,
    asynchronous: bool,
}

/// The answer about a table.
struct Reply<'a> {
    table: &'a Table,
    declared: &'a Declared,
    version: i64,
    /// The version in the first lines.
    stamp: Option<i64>,
    protocol_stamp: bool,
    lines: Vec<Value>,
    id_hash: Option<String>,
    ends: bool,
    next: Option<String>,
    refresh: Option<String>,
    metadata_only: bool,
    later_page: bool,
}

fn error(status: u16, code: &str, message: &str) -> Response {
    let body = json!({ "errorCode": code, "message": message }).to_string();
    response(status, "application/json; charset=utf-8", body)
}

fn bad(message: &str) -> Response {
    error(400, "INVALID_PARAMETER_VALUE", message)
}

fn response(status: u16, kind: &str, body: impl Into<Body>) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    Response::builder().status(status).header("content-type", kind).body(body.into()).unwrap()
}

fn seal(payload: &str) -> String {
    let sum = Sha256::digest(format!("secret{payload}"));
    BASE64_URL_SAFE_NO_PAD.encode([&sum[..12], payload.as_bytes()].concat())
}

fn open(token: &str) -> Option<String> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
    let payload = String::from_utf8(bytes.get(12..)?.to_vec()).ok()?;
    (seal(&payload) == token).then_some(payload)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn time(text: &str) -> Result<i64, Response> {
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| bad("Invalid startingTimestamp"))?;
    Ok(time.timestamp_millis())
}

/// An integer, or a string that contains one.
fn integer(body: &Map<String, Value>, key: &str) -> Result<Option<i64>, Response> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| bad("not a numeric value")),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| bad("not a numeric value")),
    }
}

fn text<'a>(body: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, Response> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or_else(|| bad("not a string")),
    }
}

impl Server {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn answer(&self, request: &Request) -> Answer {
        let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
        if let ["files", name] = segments[..] {
            return self.file(request, name);
        }
        let ["ds", segments @ ..] = &segments[..] else { return Err(response(404, "text/plain", "no")) };
        self.authorize(request)?;
        if self.has(Fault::NamesAreNotDecoded) && request.path.contains('%') {
            return Err(error(404, "RESOURCE_DOES_NOT_EXIST", "no such name"));
        }
        let answer = self.route(request, segments);
        let is_error = answer.as_ref().unwrap_or_else(|response| response).status().as_u16() >= 400;
        if is_error && self.has(Fault::PlainTextErrors) {
            let status = answer.unwrap_or_else(|response| response).status().as_u16();
            return Err(response(status, "text/plain", "wrong"));
        }
        answer
    }

    fn authorize(&self, request: &Request) -> Result<(), Response> {
        let refused = || match self.has(Fault::PlainText401) {
            true => response(401, "text/plain", "401 Unauthorized"),
            false => error(401, "UNAUTHENTICATED", "the token is unknown"),
        };
        match request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            Some(TOKEN) => Ok(()),
            Some(_) if self.has(Fault::TakesAnyToken) => Ok(()),
            None if self.has(Fault::OpenToEverybody) => Ok(()),
            _ => Err(refused()),
        }
    }

    fn route(&self, request: &Request, segments: &[&str]) -> Answer {
        let get = request.method == Method::GET;
        match segments {
            ["shares"] if get => self.shares(request),
            ["shares", share] if get => self.share(share),
            ["shares", share, "schemas"] if get => self.schemas(request, share),
            ["shares", share, "all-tables"] if get => self.list_tables(request, share, None),
            ["shares", share, "schemas", schema, "tables"] if get => self.list_tables(request, share, Some(schema)),
            ["shares", share, "schemas", schema, "tables", table, rest @ ..] => {
                self.table(request, self.find(share, schema, table), rest)
            }
            _ if self.has(Fault::PlainTextUnknownRoute) => Err(response(404, "text/plain", "404 Not Found")),
            _ => Err(error(404, "RESOURCE_DOES_NOT_EXIST", "there is no such route")),
        }
    }

    // Listings.

    fn canonical(&self, share: &str) -> Result<&'static str, Response> {
        let found = SHARES.into_iter().find(|name| name.eq_ignore_ascii_case(share));
        let status = if self.has(Fault::UnknownShareIs400) { 400 } else { 404 };
        found.ok_or_else(|| error(status, "RESOURCE_DOES_NOT_EXIST", "share not found"))
    }

    fn share_item(&self, name: &str) -> Value {
        let id = if self.has(Fault::ShareIdIsANumber) { json!(7) } else { json!(format!("id-{name}")) };
        json!({ "name": name, "id": id, "properties": { "owner": "us" } })
    }

    fn shares(&self, request: &Request) -> Answer {
        let items = SHARES.into_iter().map(|name| self.share_item(name)).collect();
        self.page(request, "shares", items)
    }

    fn share(&self, share: &str) -> Answer {
        let name = self.canonical(share)?;
        let name = if self.has(Fault::EchoesShareCase) { share } else { name };
        let share = self.share_item(name);
        let body = if self.has(Fault::GetShareUnwrapped) { share } else { json!({ "share": share }) };
        Ok(response(200, "application/json; charset=utf-8", body.to_string()))
    }

    fn schemas(&self, request: &Request, share: &str) -> Answer {
        let name = self.canonical(share)?;
        let shown = if self.has(Fault::EchoesSchemasCase) { share } else { name };
        let mut schemas: Vec<&str> = if name == SHARES[0] { vec!["live", "rest"] } else { Vec::new() };
        if self.has(Fault::EmptyShareIs404) && schemas.is_empty() {
            return Err(error(404, "RESOURCE_DOES_NOT_EXIST", "nothing there"));
        }
        let item = |schema: &str| match self.has(Fault::SchemasWithoutShare) {
            true => json!({ "name": schema }),
            false => json!({ "name": schema, "share": shown }),
        };
        let items = schemas.drain(..).map(item).collect();
        self.page(request, &format!("schemas/{name}"), items)
    }

    fn list_tables(&self, request: &Request, share: &str, schema: Option<&str>) -> Answer {
        let name = self.canonical(share)?;
        let own = self.tables.iter().filter(|_| name == SHARES[0]);
        let own = own.filter(|table| schema.is_none_or(|schema| table.schema.eq_ignore_ascii_case(schema)));
        let skipped = usize::from(self.has(Fault::AllTablesLacksOne) && schema.is_none());
        let items: Vec<Value> = own
            .skip(skipped)
            .map(|table| {
                let mut item = json!({ "name": table.name, "schema": table.schema, "share": name, "id": table.name });
                if self.has(Fault::TablesWithoutSchema) && schema.is_some() {
                    item.as_object_mut().unwrap().remove("schema");
                }
                if self.has(Fault::AccessModesIsText) {
                    item["accessModes"] = json!("url");
                }
                item
            })
            .collect();
        if items.is_empty() && schema.is_some() {
            return Err(error(404, "RESOURCE_DOES_NOT_EXIST", "schema not found"));
        }
        self.page(request, &format!("tables/{name}/{}", schema.unwrap_or("*")), items)
    }

    fn page(&self, request: &Request, listing: &str, items: Vec<Value>) -> Answer {
        let refused = bad("Acceptable values of 'maxResults' are 0 to 500, inclusive");
        let max = match request.parameter("maxResults").map(str::parse::<i64>) {
            None => 500,
            Some(Ok(max)) if (0..=500).contains(&max) => usize::try_from(max).unwrap(),
            Some(Ok(max)) if max < 0 && self.has(Fault::TakesNegativeMaxResults) => 500,
            _ => return Err(refused),
        };
        let from = match request.parameter("pageToken") {
            None => 0,
            Some(token) => self.listing_from(listing, token)?,
        };
        let to = (from + max).min(items.len());
        let mut shown = items.get(from..to).unwrap_or_default().to_vec();
        if self.has(Fault::WalkSkipsAShare) && from == 1 && listing == "shares" {
            shown.clear();
        }
        let mut body = json!({});
        if !shown.is_empty() {
            body["items"] = json!(shown);
        } else if self.has(Fault::NullItems) {
            body["items"] = Value::Null;
        }
        if to < items.len() {
            body["nextPageToken"] = json!(seal(&format!("{listing} {to}")));
        } else if self.has(Fault::EmptyNextPageToken) {
            body["nextPageToken"] = json!("");
        }
        let body = if self.has(Fault::PrettyListing) { format!("{body:#}") } else { body.to_string() };
        Ok(response(200, "application/json; charset=utf-8", body))
    }

    fn listing_from(&self, listing: &str, token: &str) -> Result<usize, Response> {
        let refused = bad("invalid 'nextPageToken'");
        let Some(payload) = open(token) else {
            return match self.fault {
                Some(Fault::TakesGarbageToken) => Ok(0),
                Some(Fault::TamperedTokenIs500) if token.len() > 24 => Err(error(500, "INTERNAL_ERROR", "")),
                _ => Err(refused),
            };
        };
        match payload.rsplit_once(' ') {
            Some((of, from)) if of == listing || self.has(Fault::TakesForeignToken) => Ok(from.parse().unwrap_or(0)),
            _ => Err(refused),
        }
    }

    // Tables.

    fn find(&self, share: &str, schema: &str, table: &str) -> Result<&Table, Response> {
        let found = self.tables.iter().filter(|_| share.eq_ignore_ascii_case(SHARES[0]));
        let mut found = found.filter(|found| found.schema.eq_ignore_ascii_case(schema));
        found
            .find(|found| found.name.eq_ignore_ascii_case(table))
            .ok_or_else(|| error(404, "RESOURCE_DOES_NOT_EXIST", "the table does not exist"))
    }

    fn table(&self, request: &Request, table: Result<&Table, Response>, rest: &[&str]) -> Answer {
        match (&request.method, rest) {
            (&Method::HEAD, []) => match table {
                Err(_) if self.has(Fault::HeadUnknownIs200) => Ok(response(200, "text/plain", "")),
                Err(_) => Err(response(404, "text/plain", "")),
                Ok(_) if self.has(Fault::HeadWithoutHeader) => Ok(response(200, "text/plain", "")),
                Ok(table) => self.version(request, table),
            },
            (&Method::GET, ["version"]) => match table {
                Err(_) if self.has(Fault::VersionUnknownIs400) => Err(bad("no such table")),
                table => self.version(request, table?),
            },
            (&Method::GET, ["metadata"]) => self.metadata(request, table?),
            (&Method::POST, ["query"]) => self.query(request, table?),
            (&Method::GET, ["changes"]) => self.changes(request, table?),
            (&Method::POST, ["temporary-table-credentials"]) => self.credentials(request),
            (&Method::GET, ["query"]) if self.has(Fault::WrongMethodIsOk) => Ok(response(200, "text/plain", "")),
            (_, ["version" | "metadata" | "query" | "changes"]) => Err(error(405, "METHOD_NOT_ALLOWED", "use another")),
            _ => Err(error(404, "RESOURCE_DOES_NOT_EXIST", "there is no such route")),
        }
    }

    fn credentials(&self, request: &Request) -> Answer {
        match serde_json::from_slice::<Value>(&request.body) {
            Ok(_) if self.has(Fault::CredentialsForAnyPlace) => Ok(response(200, "application/json", "{}")),
            Err(_) if self.has(Fault::CredentialsForMalformedBody) => Ok(response(200, "application/json", "{}")),
            _ => Err(bad("this table is read by URLs")),
        }
    }

    fn expect_history(&self, table: &Table) -> Result<(), Response> {
        let message = "Reading table by version or timestamp is not supported because history sharing is not enabled";
        if table.history { Ok(()) } else { Err(bad(message)) }
    }

    /// The first version committed at or after `text`.
    fn first_since(&self, table: &Table, text: &str) -> Result<i64, Response> {
        let local = text.get(..19).map(|text| format!("{text}Z")).unwrap_or_default();
        let text = if self.has(Fault::IgnoresOffsets) && !text.ends_with('Z') { &local } else { text };
        let at = match time(text) {
            Err(_) if self.has(Fault::JunkTimestampIsIgnored) => return Ok(table.latest()),
            at => at?,
        };
        if at < Table::time(0) && self.has(Fault::EarlyTimestampIs400) {
            return Err(bad("The provided timestamp is too early"));
        }
        let latest = table.latest();
        let found = (0..=latest).find(|version| match self.fault {
            Some(Fault::OffByOneTimestamp) if *version < latest => Table::time(*version) > at,
            Some(Fault::LatestTimestampIs400) if *version == latest => Table::time(*version) > at,
            Some(Fault::TimestampRoundsDown) => Table::time(*version + 1) > at,
            _ => Table::time(*version) >= at,
        });
        let found = found.or(self.has(Fault::LateTimestampIsLatest).then_some(latest));
        found.ok_or_else(|| bad("The provided timestamp is after the latest version"))
    }

    /// The last version committed at or before `text`.
    fn last_until(&self, table: &Table, text: &str, strict: bool) -> Result<i64, Response> {
        let at = time(text)?;
        let latest = table.latest();
        let refused = bad("The provided timestamp is out of range");
        if strict && at > Table::time(latest) {
            return Err(refused);
        }
        (0..=latest).rev().find(|version| Table::time(*version) <= at).ok_or(refused)
    }

    fn version(&self, request: &Request, table: &Table) -> Answer {
        let version = match request.parameter("startingTimestamp") {
            Some(_) if !table.history && self.has(Fault::IgnoresTimestampWithoutHistory) => table.latest(),
            Some(text) => {
                self.expect_history(table)?;
                self.first_since(table, text)?
            }
            None => table.latest(),
        };
        let body = if self.has(Fault::VersionWithBody) { "{}" } else { "" };
        let mut answer = response(200, "text/plain", body);
        if !self.has(Fault::VersionWithoutHeader) {
            answer.headers_mut().insert("delta-table-version", version.into());
        }
        Ok(answer)
    }

    fn declared(&self, request: &Request) -> Result<Declared, Response> {
        let mut declared = Declared::default();
        let header = request.header("delta-sharing-capabilities").unwrap_or_default().to_ascii_lowercase();
        if self.has(Fault::RefusesSpaces) && header.contains("; ") {
            return Err(bad("the header cannot be read"));
        }
        for (key, value) in header.split(';').filter_map(|part| part.split_once('=')) {
            let values = || value.split(',').map(|value| value.trim().to_owned());
            match key.trim() {
                "responseformat" => declared.formats.extend(values()),
                "readerfeatures" => declared.features.extend(values()),
                "includeendstreamaction" => {
                    if self.has(Fault::JunkBooleanIs500) && !matches!(value, "true" | "false") {
                        return Err(error(500, "INTERNAL_ERROR", ""));
                    }
                    declared.end = value.trim() == "true";
                }
                "asyncquery" => declared.asynchronous = value.trim() == "true",
                _ => {}
            }
        }
        Ok(declared)
    }

    fn format(&self, table: &Table, declared: &Declared) -> Result<&'static str, Response> {
        let (wants, formats) = (|format| declared.formats.iter().any(|name| name == format), &declared.formats);
        let refused = error(400, "UNSUPPORTED_OPERATION", "Unsupported Delta Table Properties");
        if !table.advanced {
            let delta_only = wants("delta") && !wants("parquet") && !self.has(Fault::IgnoresFormat);
            return Ok(if delta_only { "delta" } else { "parquet" });
        }
        if self.has(Fault::AdvancedInParquet) && wants("parquet") && wants("delta") {
            return Ok("parquet");
        }
        if self.has(Fault::VectorsInParquet) && formats.len() == 1 && wants("parquet") {
            return Ok("parquet");
        }
        let able = ["deletionvectors", "columnmapping"].iter().all(|name| declared.features.iter().any(|f| f == name));
        match wants("delta") {
            true if able || self.has(Fault::ServesUndeclaredFeatures) => Ok("delta"),
            _ => Err(refused),
        }
    }

    fn metadata(&self, request: &Request, table: &Table) -> Answer {
        let declared = self.declared(request)?;
        let (version, timestamp) = (request.parameter("version"), request.parameter("timestamp"));
        let version = match (version, timestamp) {
            (Some(_), Some(_)) if !self.has(Fault::TakesVersionAndTimestamp) => {
                return Err(bad("Please only provide one of: version,timestamp"));
            }
            (Some(version), _) => {
                let version = version.parse().map_err(|_| bad("expected a number"))?;
                self.at_version(table, version)?
            }
            (None, Some(text)) => {
                self.expect_history(table)?;
                match self.last_until(table, text, true) {
                    Err(_) if self.has(Fault::TakesEarlyMetadata) => 0,
                    version => version?,
                }
            }
            (None, None) => table.latest(),
        };
        let version = if self.has(Fault::MetadataIgnoresVersion) { table.latest() } else { version };
        let extra = self.has(Fault::MetadataOfThreeLines).then(|| json!({ "file": {} }));
        let ends = self.has(Fault::MetadataEndsWithAction) && declared.end;
        let lines = extra.into_iter().collect();
        let reply = Reply { lines, ends, metadata_only: true, ..self.reply(table, &declared, version) };
        self.lines(reply)
    }

    fn at_version(&self, table: &Table, version: i64) -> Result<i64, Response> {
        if version < 0 {
            return Err(match self.has(Fault::NegativeVersionIs500) {
                true => error(500, "INTERNAL_ERROR", ""),
                false => bad("version cannot be negative"),
            });
        }
        self.expect_history(table)?;
        match version <= table.latest() {
            true => Ok(version),
            false if self.has(Fault::TakesFarVersion) => Ok(table.latest()),
            false => Err(error(400, "MALFORMED_REQUEST", "Cannot load table version")),
        }
    }

    fn reply<'a>(&self, table: &'a Table, declared: &'a Declared, version: i64) -> Reply<'a> {
        Reply {
            table,
            declared,
            version,
            stamp: None,
            protocol_stamp: false,
            lines: Vec::new(),
            id_hash: None,
            ends: false,
            next: None,
            refresh: None,
            metadata_only: false,
            later_page: false,
        }
    }

    // Queries.

    fn parse_body(&self, request: &Request) -> Result<Map<String, Value>, Response> {
        let kind = request.header("content-type");
        if (self.has(Fault::DemandsContentType) && kind.is_none())
            || (self.has(Fault::RefusesCharset) && kind.is_some_and(|kind| kind.contains("charset")))
        {
            return Err(error(415, "MALFORMED_REQUEST", "the body is not JSON"));
        }
        if request.body.is_empty() && self.has(Fault::TakesEmptyBody) {
            return Ok(Map::new());
        }
        let status = if self.has(Fault::MalformedBodyIs500) { 500 } else { 400 };
        let body = serde_json::from_slice::<Map<String, Value>>(&request.body);
        let body = body.map_err(|_| error(status, "MALFORMED_REQUEST", "the body is no JSON object"))?;
        let known = |key: &String| MEMBERS.contains(&key.as_str());
        if self.has(Fault::RefusesUnknownMembers) && !body.keys().all(known) {
            return Err(bad("unknown member"));
        }
        if self.has(Fault::RefusesSnakeCase) && body.contains_key("idempotency_key") {
            return Err(bad("unknown member"));
        }
        if self.has(Fault::RefusesVersionAsText) && body.get("version").is_some_and(Value::is_string) {
            return Err(bad("not a numeric value"));
        }
        Ok(body)
    }

    fn id_hash(&self, request: &Request) -> Result<Option<String>, Response> {
        let Some(raw) = request.header("fileidhash") else { return Ok(None) };
        match raw.trim().to_ascii_lowercase() {
            hash if hash == "parquet" || hash == "delta" => Ok(Some(hash)),
            _ if self.has(Fault::TakesAnyIdHash) => Ok(None),
            _ => Err(bad("Unsupported fileidhash")),
        }
    }

    fn query(&self, request: &Request, table: &Table) -> Answer {
        let declared = self.declared(request)?;
        if declared.asynchronous && self.has(Fault::AsyncIsRefused) {
            return Err(bad("asynchronous queries are not offered"));
        }
        let mut body = self.parse_body(request)?;
        let id_hash = self.id_hash(request)?;
        let (version, start) = (integer(&body, "version")?, integer(&body, "startingVersion")?);
        let timestamp = text(&body, "timestamp")?.map(str::to_owned);
        let limit = integer(&body, "limitHint")?;
        let max_files = integer(&body, "maxFiles")?;
        let page_token = text(&body, "pageToken")?.map(str::to_owned);
        let refresh_token = text(&body, "refreshToken")?.map(str::to_owned);
        let hints = text(&body, "jsonPredicateHints")?.map(str::to_owned);
        if !body.get("predicateHints").is_none_or(|hints| hints.is_array() || hints.is_null()) {
            return Err(bad("Expected an array for repeated field predicateHints"));
        }
        let includes_refresh = body.get("includeRefreshToken") == Some(&json!(true));
        let points = usize::from(version.is_some()) + usize::from(start.is_some()) + usize::from(timestamp.is_some());
        if points > 1 && !self.has(Fault::TakesTwoVersions) {
            return Err(bad("Please only provide one of: version,timestamp,startingVersion"));
        }
        let fewest = if self.has(Fault::TakesMaxFilesZero) { 0 } else { 1 };
        if max_files.is_some_and(|n| n < fewest || n > i64::from(i32::MAX)) {
            return Err(bad("maxFiles must be positive"));
        }
        let refreshes = refresh_token.is_some() || includes_refresh;
        if refreshes && (points > 0 || page_token.is_some()) && !self.has(Fault::TakesRefreshWithVersion) {
            return Err(bad("a refresh token goes with neither versions nor pages"));
        }
        if self.has(Fault::SqlOnAdvancedIs400) && table.advanced && body.contains_key("predicateHints") {
            return Err(bad("predicates are not supported on this table"));
        }
        self.format(table, &declared)?;
        let sql = body.get("predicateHints").and_then(Value::as_array).is_some_and(|hints| !hints.is_empty());
        body.remove("maxFiles");
        body.remove("pageToken");
        let parameters = hex(&Sha256::digest(Value::Object(body.clone()).to_string()));
        let binding = format!("{} {parameters}", table.name);

        let mut reply = if let Some(start) = start {
            self.since(table, &declared, &body, start)?
        } else {
            let version = match (version, &timestamp) {
                (Some(version), _) => Some(self.at_version(table, version)?),
                (None, Some(text)) => {
                    self.expect_history(table)?;
                    let until = self.last_until(table, text, true)?;
                    let up = i64::from(self.has(Fault::QueryTimestampRoundsUp) && until < table.latest());
                    Some(until + up)
                }
                (None, None) => None,
            };
            let at = version.filter(|_| !self.has(Fault::QueryIgnoresVersion)).unwrap_or(table.latest());
            let mut files = table.active(at);
            if self.has(Fault::LimitBeforePredicate) {
                self.cut(&mut files, limit);
            }
            self.filter(table, &mut files, hints.as_deref());
            self.cut(&mut files, limit.filter(|_| hints.is_none() || self.has(Fault::LimitBeforePredicate)));
            if sql && self.has(Fault::BadSqlDropsFiles) {
                files.clear();
            }
            if refresh_token.is_some() && self.has(Fault::RefreshLosesFiles) {
                files.pop();
            }
            if self.has(Fault::FileTwice) && !files.is_empty() {
                files.push(files[0]);
            }
            let mut reply = Reply { stamp: version, ..self.reply(table, &declared, at) };
            let format = self.format(table, &declared)?;
            let line = |file: &File| self.line("file", file, table, format, id_hash.as_deref(), version);
            reply.lines = files.iter().map(line).collect();
            reply
        };
        reply.id_hash = id_hash;
        if let Some(token) = &refresh_token {
            let foreign = self.has(Fault::TakesForeignRefreshToken);
            let right = open(token).is_some_and(|payload| foreign || payload == format!("refresh {}", table.name));
            if !right {
                return Err(bad("Error decoding refresh token"));
            }
        }
        if includes_refresh {
            reply.refresh = Some(seal(&format!("refresh {}", table.name)));
        }
        reply.ends = declared.end || includes_refresh || max_files.is_some();
        let pages = !(table.advanced && self.has(Fault::NoPagesForAdvanced) && page_token.is_some());
        if !pages {
            return Err(bad("this table does not come in pages"));
        }
        self.paginate(&mut reply, &binding, max_files, page_token.as_deref())?;
        self.lines(reply)
    }

    fn paginate(
        &self,
        reply: &mut Reply,
        binding: &str,
        max: Option<i64>,
        token: Option<&str>,
    ) -> Result<(), Response> {
        let from: usize = match token.map(|token| token.trim_end_matches("#/+")) {
            None => 0,
            Some(token) => {
                let payload = open(token).ok_or_else(|| bad("Error decoding the page token"))?;
                let (of, from) = payload.rsplit_once(' ').ok_or_else(|| bad("Error decoding the page token"))?;
                let same = of == binding;
                let same_table = of.split(' ').next() == binding.split(' ').next();
                let forgiven = (self.has(Fault::TakesForeignPageToken) && !same_table)
                    || (self.has(Fault::TakesPageTokenOfOtherQuery) && same_table);
                if !same && !forgiven {
                    return Err(bad("Query parameter mismatch"));
                }
                reply.later_page = true;
                from.parse().map_err(|_| bad("Error decoding the page token"))?
            }
        };
        let n = reply.lines.len();
        let to = max.map_or(n, |max| (from + usize::try_from(max).unwrap_or(n)).min(n));
        let skipped = usize::from(self.has(Fault::PagesLoseAFile) && from > 0);
        reply.lines = reply.lines.get((from + skipped).min(to)..to).unwrap_or_default().to_vec();
        if to < n {
            let unsafe_end =
                if self.has(Fault::ChangesTokenIsUnsafe) && binding.contains("changes") { "#/+" } else { "" };
            reply.next = Some(seal(&format!("{binding} {to}")) + unsafe_end);
        }
        Ok(())
    }

    fn cut(&self, files: &mut Vec<File>, limit: Option<i64>) {
        let Some(mut limit) = limit else { return };
        if self.has(Fault::LimitCutsTooMuch) {
            limit /= 2;
        }
        let mut rows = 0;
        files.retain(|file| {
            let keep = rows < limit;
            let deleted = if self.has(Fault::LimitCountsDeletedRows) { 0 } else { file.deleted };
            rows += file.bounds.map_or(0, |_| file.rows - deleted);
            keep
        });
    }

    /// Drops files only for an equality on the partition column, unless a fault says otherwise.
    fn filter(&self, table: &Table, files: &mut Vec<File>, hints: Option<&str>) {
        let Some(hints) = hints else { return };
        let predicate: Value = serde_json::from_str(hints).unwrap_or_default();
        let (op, children) = (predicate["op"].as_str().unwrap_or_default(), &predicate["children"]);
        let (column, literal) = (children[0]["name"].as_str().unwrap_or_default(), children[1]["value"].as_str());
        let kind = children[0]["valueType"].as_str().unwrap_or_default();
        let within = |file: &File, inclusive: bool| match (file.bounds, literal.and_then(|text| text.parse().ok())) {
            (Some((min, max, _)), Some(value)) => inclusive || (min < value && value < max),
            _ => true,
        };
        match self.fault {
            Some(Fault::PartitionPredicateDropsMatches) if op == "equal" && column == "day" => {
                files.retain(|file| file.day != literal);
                return;
            }
            Some(Fault::BoundsAreExclusive) if op == "equal" && column == "id" && kind == "long" => {
                return files.retain(|file| within(file, false));
            }
            Some(Fault::NotDropsStraddling) if op == "not" && children[0]["op"] == "equal" => return files.clear(),
            Some(Fault::NotNullDropsUnknown) if op == "not" && children[0]["op"] == "isNull" => {
                return files.retain(|file| file.bounds.is_some());
            }
            Some(Fault::IsNullDropsNulls) if op == "isNull" => {
                return files.retain(|file| file.bounds.is_none_or(|bounds| bounds.2 == 0));
            }
            Some(Fault::OtherTypeDropsFiles) if op == "equal" && column == "id" && kind == "string" => {
                return files.clear();
            }
            Some(Fault::UnknownPredicateDropsFiles) if op == "noSuchOperation" => return files.clear(),
            Some(Fault::PhysicalNamesOnly) if table.advanced && op == "equal" && column == "id" => {
                return files.clear();
            }
            _ => {}
        }
        if op == "equal" && column == "day" && table.partitioned {
            files.retain(|file| file.day == literal);
        }
    }

    fn line(
        &self,
        kind: &str,
        file: &File,
        table: &Table,
        format: &str,
        id_hash: Option<&str>,
        version: Option<i64>,
    ) -> Value {
        let path = format!("{}/{}", table.name, file.name);
        let id = match id_hash.unwrap_or(format) {
            "parquet" => hex(&Md5::digest(&path)),
            _ => hex(&Sha256::digest(&path)),
        };
        let id = match self.has(Fault::IdsChange) {
            true => format!("{id}{}", self.requests.fetch_add(1, Ordering::Relaxed)),
            false => id,
        };
        let expires = Utc::now().timestamp_millis() + 3_600_000;
        let url = format!("{}/files/{}?X-Signature=1", self.address, file.name);
        let mut partition = json!({});
        if table.partitioned && !(self.has(Fault::MissingPartitionKey) && file.day.is_none()) {
            partition["day"] = json!(file.day);
        }
        let size = file.size() + usize::from(self.has(Fault::WrongFileSize));
        let expires = if self.has(Fault::ExpiryInSeconds) { expires / 1000 } else { expires };
        let mut outer = json!({ "id": id, "expirationTimestamp": expires });
        if self.has(Fault::FileWithoutId) {
            outer = json!({ "expirationTimestamp": expires });
        }
        if let Some(version) = version {
            outer["version"] = json!(version);
            if !self.has(Fault::VersionWithoutTimestamp) || kind != "file" {
                outer["timestamp"] = json!(Table::time(version));
            }
        }
        let mut action = json!({ "partitionValues": partition, "size": size });
        if kind != "remove"
            && kind != "cdf"
            && let Some(stats) = file.stats(table.id_column())
        {
            action["stats"] = stats;
        }
        if format == "parquet" {
            action["url"] = json!(url);
            outer.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
            return json!({ kind: outer });
        }
        action["path"] = json!(url);
        action["modificationTime"] = json!(Table::time(0));
        action["dataChange"] = json!(true);
        if file.deleted > 0 {
            action["deletionVector"] = json!({
                "storageType": "p", "pathOrInlineDv": url, "offset": 1, "sizeInBytes": 40, "cardinality": file.deleted,
            });
            if !self.has(Fault::VectorWithoutFileId) {
                outer["deletionVectorFileId"] = json!(format!("dv-{}", file.name));
            }
        }
        let name = match kind {
            "remove" => "remove",
            "cdf" => "cdc",
            _ => "add",
        };
        outer["deltaSingleAction"] = json!({ name: action });
        json!({ "file": outer })
    }

    fn since<'a>(
        &self,
        table: &'a Table,
        declared: &'a Declared,
        body: &Map<String, Value>,
        start: i64,
    ) -> Result<Reply<'a>, Response> {
        if start < 0 {
            return Err(bad("startingVersion cannot be negative"));
        }
        self.expect_history(table)?;
        if table.advanced && self.has(Fault::NoSinceForAdvanced) {
            return Err(bad("not supported on this table"));
        }
        let latest = table.latest();
        let end = integer(body, "endingVersion")?.unwrap_or(latest);
        let reversed = end < start && !self.has(Fault::TakesReversedRange);
        if reversed || end > latest || start > latest {
            return Err(bad("Provided end version is invalid"));
        }
        let format = self.format(table, declared)?;
        let kind = if self.has(Fault::SinceListsFiles) { "file" } else { "add" };
        let mut lines = Vec::new();
        let from = if start == end && self.has(Fault::VersionWithoutDataIsWhole) { 0 } else { start };
        for (version, commit) in (0..).zip(&table.commits).filter(|(version, _)| (from..=end).contains(version)) {
            if commit.metadata && version > start {
                let mut metadata = self.metadata_line(table, format, Some(version), false);
                if self.has(Fault::LaterMetadataWithoutVersion) {
                    metadata["metaData"].as_object_mut().unwrap().remove("version");
                }
                lines.push(metadata);
            }
            lines.extend(commit.added.iter().map(|file| self.line(kind, file, table, format, None, Some(version))));
            let removed = commit.removed.iter();
            lines.extend(removed.map(|file| self.line("remove", file, table, format, None, Some(version))));
        }
        let shown = if self.has(Fault::SinceSaysLatest) { latest } else { start };
        let asked = body.get("includeHistoricalProtocol") == Some(&json!(true));
        let protocol_stamp = asked && !self.has(Fault::ProtocolWithoutVersion);
        Ok(Reply { lines, stamp: Some(start), protocol_stamp, ..self.reply(table, declared, shown) })
    }

    fn changes(&self, request: &Request, table: &Table) -> Answer {
        let declared = self.declared(request)?;
        let number = |key: &str| match request.parameter(key).map(str::parse::<i64>) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(bad("expected a number")),
        };
        if !table.history || table.advanced {
            return Err(bad("cdf is not enabled on table"));
        }
        let format = self.format(table, &declared)?;
        let max_files = number("maxFiles")?;
        if max_files.is_some_and(|n| n < 1) {
            return Err(bad("maxFiles must be positive"));
        }
        let start = match (number("startingVersion")?, request.parameter("startingTimestamp")) {
            (Some(_), Some(_)) if !self.has(Fault::TakesTwoStarts) => return Err(bad("Multiple starting arguments")),
            (Some(version), _) => version,
            (None, Some(text)) => self.first_since(table, text)?,
            (None, None) => return Err(bad("No startingVersion or startingTimestamp provided")),
        };
        let end = match (number("endingVersion")?, request.parameter("endingTimestamp")) {
            (Some(_), Some(_)) => return Err(bad("Multiple ending arguments")),
            (Some(version), _) => version.min(table.latest()),
            (None, Some(text)) => {
                self.last_until(table, text, false)? - i64::from(self.has(Fault::EndTimestampIsExclusive))
            }
            (None, None) => table.latest(),
        };
        if start < 0 || start > table.latest() || end < start {
            return Err(bad("CDF range from start"));
        }
        let asked =
            request.parameter("includeHistoricalMetadata").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let historical = asked && !self.has(Fault::IgnoresHistoricalMetadata);
        let mut lines = Vec::new();
        for (version, commit) in (0..).zip(&table.commits).filter(|(version, _)| (start..=end).contains(version)) {
            if historical && commit.metadata && version > start {
                lines.push(self.metadata_line(table, format, Some(version), false));
            }
            let stamp = Some(version).filter(|_| !self.has(Fault::ChangesWithoutVersion));
            let Commit { added, removed, changed, .. } = commit;
            let all = [("add", added), ("remove", removed)];
            let kinds = if changed.is_empty() { &all[..] } else { &[("cdf", changed)] };
            for (kind, files) in kinds {
                lines.extend(files.iter().map(|file| self.line(kind, file, table, format, None, stamp)));
            }
        }
        let stamp = Some(if historical { start } else { table.latest() });
        let ends = declared.end || max_files.is_some();
        let mut reply = Reply { lines, stamp, ends, ..self.reply(table, &declared, start) };
        let binding = format!("{} changes{start}-{end}", table.name);
        self.paginate(&mut reply, &binding, max_files, request.parameter("pageToken"))?;
        self.lines(reply)
    }

    // Lines.

    fn protocol_line(&self, reply: &Reply, format: &str) -> Value {
        if format == "parquet" {
            let version = if self.has(Fault::ReaderVersion3InParquet) { 3 } else { 1 };
            return json!({ "protocol": { "minReaderVersion": version } });
        }
        let mut protocol = match reply.table.advanced {
            true => json!({ "deltaProtocol": {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["deletionVectors", "columnMapping"],
                "writerFeatures": ["deletionVectors", "columnMapping"],
            } }),
            false => json!({ "deltaProtocol": { "minReaderVersion": 1, "minWriterVersion": 2 } }),
        };
        if reply.protocol_stamp {
            protocol["version"] = json!(reply.stamp);
        }
        json!({ "protocol": protocol })
    }

    fn metadata_line(&self, table: &Table, format: &str, stamp: Option<i64>, metadata_only: bool) -> Value {
        let files = table.active(table.latest());
        let size: usize = files.iter().map(File::size).sum();
        let mut schema = table.schema_string();
        if self.has(Fault::SchemaDiffers) && metadata_only {
            schema = schema.replace("note", "remark");
        }
        let columns = if table.partitioned { json!(["day"]) } else { json!([]) };
        let feed = table.partitioned || (self.has(Fault::AnnouncesMissingFeed) && !table.history);
        let mut metadata = json!({
            "id": format!("delta-{}", table.name),
            "format": { "provider": "parquet" },
            "schemaString": schema,
            "partitionColumns": columns,
            "configuration": if feed { json!({ "enableChangeDataFeed": "true" }) } else { json!({}) },
        });
        if format == "delta" {
            metadata["configuration"] = match table.advanced {
                true => json!({ "delta.columnMapping.mode": "name", "delta.enableDeletionVectors": "true" }),
                false => json!({}),
            };
            metadata = json!({ "deltaMetadata": metadata });
        }
        metadata["size"] = json!(size + usize::from(self.has(Fault::WrongSize)));
        metadata["numFiles"] = json!(files.len());
        if let Some(version) = stamp {
            metadata["version"] = json!(version);
        }
        if self.has(Fault::RawLineSeparator) {
            metadata["description"] = json!("one\u{2028}two");
        }
        json!({ "metaData": metadata })
    }

    fn lines(&self, reply: Reply) -> Answer {
        let format = self.format(reply.table, reply.declared)?;
        let mut metadata = self.metadata_line(reply.table, format, reply.stamp, reply.metadata_only);
        if self.has(Fault::PagesDifferInHead) && reply.later_page {
            metadata["metaData"]["name"] = json!("another");
        }
        let mut lines = vec![self.protocol_line(&reply, format), metadata];
        let n_files = reply.lines.len();
        lines.extend(reply.lines);
        if self.has(Fault::HeadAfterFiles) && n_files > 0 && !reply.metadata_only {
            lines.rotate_left(1);
        }
        let unsolicited = !reply.metadata_only
            && (self.has(Fault::UnsolicitedEnd) || (self.has(Fault::EmptyTableEndsWithAction) && n_files == 0));
        if reply.ends || unsolicited {
            let mut end = json!({});
            let expires = Utc::now().timestamp_millis() + 3_500_000;
            let late = if self.has(Fault::LateUrlExpiration) { 3_600_000 } else { 0 };
            if n_files > 0 {
                end["minUrlExpirationTimestamp"] = json!(expires + late);
            }
            for (key, token) in [("nextPageToken", &reply.next), ("refreshToken", &reply.refresh)] {
                if let Some(token) = token {
                    end[key] = json!(token);
                }
            }
            lines.push(json!({ "endStreamAction": end }));
        }
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let kind = if self.has(Fault::PlainContentType) { "text/plain" } else { "application/x-ndjson; charset=utf-8" };
        let mut answer = response(200, kind, body);
        let wanted = &reply.declared.formats;
        let mut said = match self.fault {
            Some(Fault::EchoesBothFormats) if wanted.len() > 1 => wanted.join(","),
            Some(Fault::EchoesUnknownFormat) if wanted.iter().any(|format| format == "foo") => "foo".to_owned(),
            _ => format.to_owned(),
        };
        said.insert_str(0, "responseformat=");
        if reply.declared.end && !reply.metadata_only && !self.has(Fault::UnsaidEnd) {
            said.push_str(";includeendstreamaction=true");
        }
        let headers = answer.headers_mut();
        headers.insert("delta-sharing-capabilities", said.parse().unwrap());
        headers.insert("delta-table-version", reply.version.into());
        if let Some(hash) = &reply.id_hash {
            let echo = if self.has(Fault::WrongIdHashEcho) { "md5" } else { hash };
            headers.insert("fileidhash", echo.parse().unwrap());
        }
        if self.has(Fault::ClaimsGzip) {
            headers.insert("content-encoding", "gzip".parse().unwrap());
        }
        Ok(answer)
    }

    fn file(&self, request: &Request, name: &str) -> Answer {
        let commits = self.tables.iter().flat_map(|table| &table.commits);
        let mut files = commits.flat_map(|commit| &commit.added);
        let Some(file) = files.find(|file| file.name == name).filter(|_| !self.has(Fault::DeadUrls)) else {
            return Err(response(403, "text/plain", "no such file"));
        };
        let bytes = file.bytes();
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        match range {
            Some((from, to)) if !self.has(Fault::NoRanges) => {
                let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                Ok(response(206, "application/octet-stream", bytes[from..=to.min(bytes.len() - 1)].to_vec()))
            }
            _ => Ok(response(200, "application/octet-stream", bytes)),
        }
    }
}
