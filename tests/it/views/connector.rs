//! A recipient and its connector, which keeps everything that the server ever sent.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use axum::body::Body;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{
    plain::Expected,
    weir_server::{SCHEMA, SHARE, WeirServer},
};
use crate::support::app::TestApp;

/// How long to wait for copies, and how often to check.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// One way to read the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub object: &'static str,
    pub is_delta: bool,
    pub is_presigned: bool,
}

/// A recipient.
pub struct Connector<'a> {
    server: &'a WeirServer,
    pub name: String,
    pub id: Uuid,
    pub token: String,
    kept: RefCell<Vec<Received>>,
    looked_at: Cell<usize>,
    entitled: RefCell<Vec<Expected>>,
}

/// A received answer.
#[derive(Clone, Debug)]
pub struct Received {
    /// The request.
    pub asked: String,
    pub status: u16,
    /// The names and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A table as returned by one query.
#[derive(Clone, Debug)]
pub struct TableRead {
    pub way: Way,
    pub version: u64,
    /// The object under `protocol`; in delta answers, the one inside it.
    pub protocol: Json,
    /// The object under `metaData`; in delta answers, the one inside it.
    pub metadata: Json,
    /// The members beside it.
    pub beside_metadata: Map<String, Json>,
    pub files: Vec<FileRead>,
    /// The EndStreamAction, if there is one.
    pub end: Option<Json>,
}

/// A file from a query, with its bytes.
#[derive(Clone, Debug)]
pub struct FileRead {
    /// The members beside the action, in delta answers.
    pub around: Map<String, Json>,
    /// The file's own members; in delta answers, those of `add`.
    pub line: Map<String, Json>,
    pub id: String,
    pub url: String,
    pub size: u64,
    pub stats: Option<Json>,
    pub partition_values: Map<String, Json>,
    pub bytes: Vec<u8>,
}

impl Received {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header; empty if missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// Checks the status and returns the lines.
    #[track_caller]
    pub fn lines(&self) -> Vec<Json> {
        assert_eq!(self.status, 200, "{}: {}", self.asked, self.text());
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Checks the status and code of a protocol error and returns its message.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        let body: Json = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["errorCode"], code, "{}", self.text());
        body["message"].as_str().unwrap().to_owned()
    }

    /// The refusal without the parts that differ for each request.
    pub fn refusal(&self) -> String {
        let text = self.text();
        format!("{} {}", self.status, text.replace(self.header("x-request-id"), "…"))
    }
}

impl<'a> Connector<'a> {
    pub(super) fn new(server: &'a WeirServer, name: &str, id: Uuid, token: &str) -> Self {
        Self {
            server,
            name: name.to_owned(),
            id,
            token: token.to_owned(),
            kept: RefCell::default(),
            looked_at: Cell::default(),
            entitled: RefCell::default(),
        }
    }

    /// Adds rows that it may have seen.
    pub fn is_entitled_to(&self, expected: &Expected) {
        self.entitled.borrow_mut().push(expected.clone());
    }

    /// Everything that it may have seen so far.
    pub fn entitled(&self) -> Vec<Expected> {
        self.entitled.borrow().clone()
    }

    /// Everything received since the last call.
    pub fn newly_received(&self) -> Vec<Received> {
        let from = self.looked_at.replace(self.kept.borrow().len());
        self.kept.borrow()[from..].to_vec()
    }

    fn keep(&self, received: &Received) {
        self.kept.borrow_mut().push(received.clone());
    }

    /// Sends any request below the protocol's prefix.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Received {
        self.send_to(&self.server.app, method, path, headers, body).await
    }

    /// Does the same as [`Self::send`] to another server.
    pub async fn send_to(
        &self,
        app: &TestApp,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Received {
        let mut request = Request::builder().method(method.clone()).uri(format!("/delta-sharing{path}"));
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let asked = format!("{method} {path} {body}");
        let received = answered(app, asked, request.body(Body::from(body.to_owned())).unwrap()).await;
        self.keep(&received);
        received
    }

    /// Sends a GET for an object.
    pub async fn ask(&self, way: Way, what: &str) -> Received {
        self.send(Method::GET, &table_path(way.object, what), &[capabilities(way)], "").await
    }

    /// Queries an object.
    pub async fn query(&self, way: Way, body: Json) -> Received {
        self.query_at(&self.server.app, way, body).await
    }

    /// Does the same as [`Self::query`] to another server.
    pub async fn query_at(&self, app: &TestApp, way: Way, body: Json) -> Received {
        let headers = [("content-type", "application/json"), capabilities(way)];
        self.send_to(app, Method::POST, &table_path(way.object, "/query"), &headers, &body.to_string()).await
    }

    /// Fetches a URL without credentials, as connectors do.
    pub async fn fetch(&self, url: &str) -> Received {
        let received = fetch(self.server, url).await;
        self.keep(&received);
        received
    }

    /// Queries an object and fetches all its files.
    pub async fn read(&self, way: Way, body: Json) -> TableRead {
        let answer = self.query(way, body).await;
        let mut read = TableRead::parse(way, &answer);
        for file in &mut read.files {
            let fetched = self.fetch(&file.url).await;
            assert_eq!(fetched.status, 200, "{}: {}", file.url, fetched.text());
            file.bytes = fetched.body;
        }
        read
    }

    /// The first way in which it may read.
    pub fn first_way(&self) -> Way {
        self.server.ways()[0]
    }

    /// Waits until this version is served as the newest; the one before is served until its copies are ready.
    pub async fn wait_for(&self, version: u64) {
        let way = self.server.ways()[0];
        let begun = Instant::now();
        loop {
            let answer = self.query(way, newest()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            if answer.header("delta-table-version") == version.to_string() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "version {version} is not served: {:?}", answer.headers);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads in every way, and requests metadata and version first, as connectors do.
    pub async fn read_in_all_ways(&self, body: Json) -> Vec<TableRead> {
        self.read_in(&self.server.ways(), body).await
    }

    /// Does the same as [`Self::read_in_all_ways`] in these ways.
    pub async fn read_in(&self, ways: &[Way], body: Json) -> Vec<TableRead> {
        let mut reads = Vec::new();
        for way in ways.iter().copied() {
            let named = ["version", "timestamp"].into_iter().find_map(|name| {
                let value = body.get(name)?;
                let text = value.as_str().map_or_else(|| value.to_string(), |text| text.replace('+', "%2B"));
                Some(format!("?{name}={text}"))
            });
            let metadata = self.ask(way, &format!("/metadata{}", named.unwrap_or_default())).await;
            let lines = metadata.lines();
            let read = self.read(way, body.clone()).await;
            assert_eq!(self.ask(way, "/version").await.status, 200);
            // The table's description is the same in every answer.
            let (about, other) = (&lines[1]["metaData"], &read.metadata);
            let about = about.get("deltaMetadata").unwrap_or(about);
            for member in ["id", "schemaString", "partitionColumns"] {
                assert_eq!(about[member], other[member]);
            }
            reads.push(read);
        }
        reads
    }
}

impl TableRead {
    /// Parses a query's lines; the files are not fetched yet.
    pub fn parse(way: Way, answer: &Received) -> Self {
        let lines = answer.lines();
        assert_eq!(answer.header("content-type"), "application/x-ndjson; charset=utf-8");
        let (protocol, metadata) = (lines[0]["protocol"].clone(), lines[1]["metaData"].clone());
        let (protocol, metadata, beside_metadata) = if way.is_delta {
            let mut beside = metadata.as_object().unwrap().clone();
            let metadata = beside.remove("deltaMetadata").unwrap();
            (protocol["deltaProtocol"].clone(), metadata, beside)
        } else {
            (protocol, metadata, Map::new())
        };
        let files = lines[2..].iter().filter_map(|line| line.get("file")).map(|file| FileRead::parse(way, file));
        Self {
            way,
            version: answer.header("delta-table-version").parse().unwrap(),
            protocol,
            metadata,
            beside_metadata,
            files: files.collect(),
            end: lines.last().and_then(|line| line.get("endStreamAction")).cloned(),
        }
    }

    /// The ids of the files, in order.
    pub fn ids(&self) -> Vec<String> {
        self.files.iter().map(|file| file.id.clone()).collect()
    }
}

impl FileRead {
    fn parse(way: Way, file: &Json) -> Self {
        let mut around = file.as_object().unwrap().clone();
        let line = if way.is_delta {
            let action = around.remove("deltaSingleAction").unwrap();
            assert_eq!(action.as_object().unwrap().keys().collect::<Vec<_>>(), ["add"], "{action}");
            action["add"].as_object().unwrap().clone()
        } else {
            std::mem::take(&mut around)
        };
        let id = if way.is_delta { &around["id"] } else { &line["id"] };
        let url = if way.is_delta { &line["path"] } else { &line["url"] };
        Self {
            id: id.as_str().unwrap().to_owned(),
            url: url.as_str().unwrap().to_owned(),
            size: line["size"].as_u64().unwrap(),
            stats: line.get("stats").map(|stats| serde_json::from_str(stats.as_str().unwrap()).unwrap()),
            partition_values: line["partitionValues"].as_object().unwrap().clone(),
            bytes: Vec::new(),
            around,
            line,
        }
    }
}

/// Fetches what a URL opens, without credentials.
pub async fn fetch(server: &WeirServer, url: &str) -> Received {
    let asked = format!("GET {url}");
    let Some(path) = url.strip_prefix("http://weir.test") else {
        let answer = reqwest::get(url).await.unwrap();
        let headers =
            answer.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        return Received {
            asked,
            status: answer.status().as_u16(),
            headers: headers.collect(),
            body: answer.bytes().await.unwrap().to_vec(),
        };
    };
    answered(&server.app, asked, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn answered(app: &TestApp, asked: String, request: Request<Body>) -> Received {
    let (parts, body) = app.respond(request).await.into_parts();
    let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    Received {
        asked,
        status: parts.status.as_u16(),
        headers: parts.headers.iter().map(text).collect(),
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    }
}

/// The path of an object, followed by `what`.
pub fn table_path(object: &str, what: &str) -> String {
    format!("/shares/{SHARE}/schemas/{SCHEMA}/tables/{object}{what}")
}

fn capabilities(way: Way) -> (&'static str, &'static str) {
    let declared = if way.is_delta {
        "responseformat=delta;readerfeatures=deletionvectors,columnmapping,timestampntz"
    } else {
        "responseformat=parquet"
    };
    ("delta-sharing-capabilities", declared)
}

/// A query of the newest version.
pub fn newest() -> Json {
    json!({})
}
