//! The sharing protocol over HTTP, as recipients' connectors use it. A number in a test's name is that of the check in
//! the protocol's acceptance checklist (docs/PROTOCOL.md).
//!
//! Contains a reader that speaks the protocol, and the tables that several areas read.

mod audit;
mod auth;
mod changed;
mod changes;
mod errors;
mod files;
mod floods;
mod geography;
mod identities;
mod incremental;
mod limits;
mod listing;
mod metadata;
mod networks;
mod not_offered;
mod outage;
mod paging;
mod query;
mod reasons;
mod refresh_tokens;
mod robustness;
mod schema_hold;
mod skipping;
mod time_travel;
mod version;

use std::{fs, time::SystemTime};

use axum::body::Body;
use chrono::DateTime;
use http::{HeaderName, HeaderValue, Method, Request, header};
use serde_json::{Value, json};

use crate::support::{
    app::{Answer, TestApp},
    tables::{HandWrittenLog, add, metadata, protocol, protocol_with, remove},
};

/// The capabilities of a connector that can read everything.
pub(super) const ANY_FORMAT: &str =
    "responseformat=parquet,delta;readerfeatures=deletionvectors,columnmapping,timestampntz";
/// The same, but only in the delta format.
pub(super) const DELTA: &str = "responseformat=delta;readerfeatures=deletionvectors,columnmapping,timestampntz";
/// The time of commit 0 of the tables here, in milliseconds since the epoch; later commits follow a minute apart.
pub(super) const FIRST_COMMIT: i64 = 1_700_000_000_000;
/// The milliseconds between two commits.
pub(super) const BETWEEN_COMMITS: i64 = 60_000;

/// A recipient's connector.
pub(super) struct Reader<'a> {
    pub(super) app: &'a TestApp,
    pub(super) token: String,
}

impl<'a> Reader<'a> {
    /// The recipient `acme`, with a grant on `insurer`.
    pub(super) async fn acme(app: &'a TestApp) -> Self {
        app.put("/shares/insurer", json!({})).await;
        app.grant_acme().await;
        let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
        Self { app, token }
    }

    /// The recipient `rival`, with a grant on the share `other`.
    pub(super) async fn rival(app: &'a TestApp) -> Self {
        app.put("/shares/other", json!({})).await;
        app.put("/recipients/rival", json!({})).await.expect(201);
        app.post("/grants", json!({"share": "other", "recipient": "rival"})).await.expect(201);
        let issued = app.post("/recipients/rival/tokens", json!({"reveal": true})).await.expect(201);
        Self { app, token: issued["token"].as_str().unwrap().to_owned() }
    }

    /// Sends any request below the protocol's prefix.
    pub(super) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/delta-sharing{path}"));
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request = request.header(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        self.app.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    /// Sends a GET for the table `insurer.s.{table}` with these capabilities.
    pub(super) async fn ask(&self, table: &str, what: &str, capabilities: &str) -> Answer {
        self.send(Method::GET, &table_path(table, what), &capabilities_header(capabilities), "").await
    }

    /// Queries the table `insurer.s.{table}` as a client without capabilities.
    pub(super) async fn query(&self, table: &str, body: Value) -> Answer {
        self.query_as(table, "", body).await
    }

    /// Queries the table `insurer.s.{table}` with these capabilities.
    pub(super) async fn query_as(&self, table: &str, capabilities: &str, body: Value) -> Answer {
        let headers = [("content-type", "application/json")];
        let headers = [&headers[..], &capabilities_header(capabilities)].concat();
        self.send(Method::POST, &table_path(table, "/query"), &headers, &body.to_string()).await
    }

    /// Fetches a URL from an answer.
    pub(super) async fn fetch(&self, url: &str) -> Answer {
        fetch(self.app, Method::GET, url, &[]).await
    }
}

/// Fetches a URL of this server without credentials.
pub(super) async fn fetch(app: &TestApp, method: Method, url: &str, headers: &[(&str, &str)]) -> Answer {
    let path = url.strip_prefix("http://weir.test").expect("the server's own URL");
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

fn capabilities_header(capabilities: &str) -> Vec<(&str, &str)> {
    if capabilities.is_empty() { Vec::new() } else { vec![("delta-sharing-capabilities", capabilities)] }
}

/// The path of the table `insurer.s.{table}`, followed by `what`.
pub(super) fn table_path(table: &str, what: &str) -> String {
    format!("/shares/insurer/schemas/s/tables/{table}{what}")
}

impl Answer {
    /// Checks the status and returns the lines.
    #[track_caller]
    pub(super) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text);
        self.text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// The contents of the lines of this `kind`.
    #[track_caller]
    pub(super) fn of_kind(&self, kind: &str) -> Vec<Value> {
        self.lines().iter().filter_map(|line| line.get(kind).cloned()).collect()
    }

    /// The keys of the lines, in order.
    #[track_caller]
    pub(super) fn kinds(&self) -> Vec<String> {
        let key = |line: &Value| line.as_object().unwrap().keys().next().unwrap().clone();
        self.lines().iter().map(key).collect()
    }

    /// The text of the first two lines.
    #[track_caller]
    pub(super) fn head(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text);
        self.text.lines().take(2).collect::<Vec<_>>().join("\n")
    }

    /// A header as text; empty if missing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The table's version in the answer's header.
    #[track_caller]
    pub(super) fn version(&self) -> u64 {
        assert_eq!(self.status, 200, "{}", self.text);
        self.header("delta-table-version").parse().unwrap()
    }

    /// The ids of the files, sorted.
    #[track_caller]
    pub(super) fn file_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.of_kind("file").iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }

    /// The EndStreamAction in the last line.
    #[track_caller]
    pub(super) fn end(&self) -> Value {
        self.lines().last().and_then(|line| line.get("endStreamAction")).expect("an EndStreamAction at the end").clone()
    }

    /// Checks the status, code and shape of a protocol error and returns its message.
    #[track_caller]
    pub(super) fn refusal(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/json; charset=utf-8", "{}", self.text);
        assert_eq!(self.text.lines().count(), 1, "{}", self.text);
        let body = self.json();
        assert_eq!(body["errorCode"], code, "{}", self.text);
        assert_eq!(body["requestId"], self.header("x-request-id"), "{}", self.text);
        body["message"].as_str().expect("a message").to_owned()
    }

    /// Checks the error and that its message contains `text`.
    #[track_caller]
    pub(super) fn refused(&self, status: u16, code: &str, text: &str) {
        let message = self.refusal(status, code);
        assert!(message.contains(text), "`{message}` does not say `{text}`");
    }

    /// Checks that a parameter was refused with this text.
    #[track_caller]
    pub(super) fn refused_parameter(&self, text: &str) {
        self.refused(400, "INVALID_PARAMETER_VALUE", text);
    }
}

/// Shares the folder `table` of the lake as `insurer.s.{table}`.
pub(super) async fn share(app: &TestApp, table: &str, options: Value) {
    app.put("/shares/insurer", json!({})).await;
    app.put(&format!("/tables/t.{table}"), json!({"location": app.location(table)})).await.expect(201);
    let mut object = json!({"source": {"table": format!("t.{table}")}});
    object.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    app.put(&format!("/shares/insurer/objects/s/{table}"), object).await.expect(201);
}

/// The options to share a table's whole history.
pub(super) fn with_history() -> Value {
    json!({"history": true, "cdf": true, "start_version": 0})
}

/// Sets the times of a log's commits a minute apart.
pub(super) fn date_commits(log: &HandWrittenLog, versions: u64) {
    for version in 0..versions {
        date_commit(log, version, commit_time(version));
    }
}

/// Sets the time of a commit's file.
pub(super) fn date_commit(log: &HandWrittenLog, version: u64, millis: i64) {
    let file = fs::File::options().write(true).open(log.commit_path(version)).unwrap();
    let at = DateTime::from_timestamp_millis(millis).unwrap();
    file.set_modified(SystemTime::from(at)).unwrap();
}

/// The time of a version of the tables here, in milliseconds since the epoch.
pub(super) fn commit_time(version: u64) -> i64 {
    FIRST_COMMIT + i64::try_from(version).unwrap() * BETWEEN_COMMITS
}

/// That time in the protocol's format, `plus` milliseconds later.
pub(super) fn commit_time_text(version: u64, plus: i64) -> String {
    let at = DateTime::from_timestamp_millis(commit_time(version) + plus).unwrap();
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Writes a data file whose content is its own path.
pub(super) fn write_data(app: &TestApp, table: &str, path: &str) -> u64 {
    let file = app.folder(table).join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, path).unwrap();
    path.len().try_into().unwrap()
}

/// A `metaData` action with table properties.
pub(super) fn with_properties(mut metadata: Value, properties: Value) -> Value {
    metadata["metaData"]["configuration"] = properties;
    metadata
}

/// The columns of the tables here.
pub(super) const COLUMNS: [(&str, &str); 2] = [("id", "long"), ("name", "string")];

/// A table in steps: version 1 adds the file `a`, 2 adds `b`, 3 adds `c` and removes `a`.
pub(super) fn steps(app: &TestApp, name: &str) -> HandWrittenLog {
    let metadata = with_properties(metadata("steps-id", &COLUMNS, &[]), json!({"delta.enableChangeDataFeed": "true"}));
    let mut log = HandWrittenLog::create(&app.folder(name), protocol(1, 4), metadata);
    let file = |path: &str| add(path, write_data(app, name, path));
    log.commit(&[file("a.parquet")]);
    log.commit(&[file("b.parquet")]);
    log.commit(&[file("c.parquet"), removed("a.parquet", 9)]);
    date_commits(&log, 4);
    log
}

/// A `remove` action with everything that readers of changes need.
pub(super) fn removed(path: &str, size: u64) -> Value {
    let mut action = remove(path);
    action["remove"]["extendedFileMetadata"] = json!(true);
    action["remove"]["partitionValues"] = json!({});
    action["remove"]["size"] = json!(size);
    action
}

/// The deletion vector file in the Delta protocol's own example: `ab/deletion_vector_d2c639aa-….bin`.
pub(super) fn stored_vector() -> Value {
    json!({"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4, "sizeInBytes": 40, "cardinality": 6})
}

/// The inline deletion vector in the Delta protocol's own example.
pub(super) fn inline_vector() -> Value {
    json!({"storageType": "i", "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L", "sizeInBytes": 40, "cardinality": 6})
}

/// A table whose files have deletion vectors, one in a file and one inline.
pub(super) fn deletion_vectors(app: &TestApp, name: &str) -> HandWrittenLog {
    let metadata = with_properties(metadata("dv-id", &COLUMNS, &[]), json!({"delta.enableDeletionVectors": "true"}));
    let mut log = HandWrittenLog::create(&app.folder(name), protocol_with(&["deletionVectors"]), metadata);
    let mut stored = add("a.parquet", write_data(app, name, "a.parquet"));
    stored["add"]["deletionVector"] = stored_vector();
    stored["add"]["stats"] = json!("{\"numRecords\":10}");
    let mut inline = add("b.parquet", write_data(app, name, "b.parquet"));
    inline["add"]["deletionVector"] = inline_vector();
    inline["add"]["stats"] = json!("{\"numRecords\":10}");
    log.commit(&[stored, inline]);
    write_data(app, name, "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin");
    date_commits(&log, 2);
    log
}

/// A table with mapped columns: `name` is the partition column, stored as `col-2`.
pub(super) fn mapped_columns(app: &TestApp, name: &str) -> HandWrittenLog {
    let field = |id: u32, name: &str, data_type: &str| {
        json!({"name": name, "type": data_type, "nullable": true, "metadata": {
            "delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("col-{id}"),
        }})
    };
    let mut metadata = metadata("cm-id", &[], &["name"]);
    let schema = json!({"type": "struct", "fields": [field(1, "id", "long"), field(2, "name", "string")]});
    metadata["metaData"]["schemaString"] = json!(schema.to_string());
    let metadata =
        with_properties(metadata, json!({"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"}));
    let mut log = HandWrittenLog::create(&app.folder(name), protocol(2, 5), metadata);
    let mut file = add("col-2=x/a.parquet", write_data(app, name, "col-2=x/a.parquet"));
    file["add"]["partitionValues"] = json!({"col-2": "x"});
    log.commit(&[file]);
    date_commits(&log, 2);
    log
}
