//! What requests leave behind: one event each, written before anything is handed out, and logs without secrets.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use futures::future::join_all;
use http::{Method, Request, header};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::{COLUMNS, DELTA, Reader, fetch, removed, share, steps, table_path, with_history};
use crate::support::{
    app::{TestApp, on_both_databases},
    postgres::TestDatabase,
    tables::{HandWrittenLog, add, metadata, protocol},
};

on_both_databases!(
    every_data_request_leaves_exactly_one_event,
    every_refusal_leaves_exactly_one_event,
    a_query_is_recorded_with_all_that_it_disclosed,
    the_event_is_there_before_the_body_is_read,
    the_first_read_of_a_file_is_recorded,
    a_look_at_a_files_size_never_stands_for_its_bytes,
    ranges_that_come_together_are_announced_once,
    every_refusal_is_recorded_whatever_it_is_refused_for,
    no_allowing_event_follows_a_revocation,
    logs_hold_no_secrets,
);

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

/// All events, oldest first.
async fn trail(app: &TestApp) -> Vec<Value> {
    app.service.core.audit_writer.finish().await;
    let page = app.get("/audit?order=asc&max_results=1000").await.expect(200);
    page["items"].as_array().unwrap().clone()
}

/// The events of requests by recipients and unknown callers after the first `since` events, without those that only
/// tell how an answer ended.
async fn requests_since(app: &TestApp, since: usize) -> Vec<Value> {
    let mut events = trail(app).await;
    events.drain(..since);
    let ended = |event: &Value| {
        let action = event["action"].as_str().unwrap();
        action.ends_with(".completed") || action.ends_with(".aborted")
    };
    events.retain(|event| event["actor"]["kind"] != "operator" && !ended(event));
    events
}

async fn every_data_request_leaves_exactly_one_event(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for (method, path, body, action, version) in [
        ("GET", "/shares".to_owned(), "", "shares.list", None),
        ("GET", "/shares/insurer".to_owned(), "", "share.get", None),
        ("GET", "/shares/insurer/schemas".to_owned(), "", "schemas.list", None),
        ("GET", "/shares/insurer/schemas/s/tables".to_owned(), "", "tables.list", None),
        ("GET", "/shares/insurer/all-tables".to_owned(), "", "tables.list", None),
        ("HEAD", table_path("steps", ""), "", "table.version", Some(3)),
        ("GET", table_path("steps", "/version"), "", "table.version", Some(3)),
        ("GET", table_path("steps", "/metadata?version=1"), "", "table.metadata", Some(1)),
        ("POST", table_path("steps", "/query"), "{}", "table.query", Some(3)),
        ("POST", table_path("steps", "/query"), "{\"version\":2}", "table.query", Some(2)),
        ("POST", table_path("steps", "/query"), "{\"startingVersion\":2}", "table.query", Some(3)),
        ("GET", table_path("steps", "/changes?startingVersion=1&endingVersion=2"), "", "table.changes", Some(2)),
    ] {
        let since = trail(&app).await.len();
        let answer = reader.send(method.parse().unwrap(), &path, &[("user-agent", "tests/1")], body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let events = requests_since(&app, since).await;
        assert_eq!(events.len(), 1, "{path}: {events:?}");
        let event = &events[0];
        assert_eq!((&event["action"], &event["decision"]), (&json!(action), &json!("allow")), "{path}");
        assert_eq!(event["request_id"], answer.header("x-request-id"));
        assert_eq!(event["recipient"], "acme");
        assert_eq!((&event["client_address"], &event["user_agent"]), (&json!("127.0.0.1"), &json!("tests/1")));
        assert_eq!(event["table_version"].as_u64(), version, "{path}: {event}");
        assert!(event["token_id"].is_string() && event["at"].is_string() && event["seq"].is_u64(), "{event}");
        if path != "/shares" {
            assert!(event["share"] == "insurer" && event["grant_id"].is_string(), "{event}");
        }
        if action.starts_with("table.") {
            assert!(event["schema"] == "s" && event["table"] == "steps", "{event}");
        }
    }
}

async fn every_refusal_leaves_exactly_one_event(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let stranger = Reader { app: &app, token: "stranger".into() };
    let credentials = table_path("steps", "/temporary-table-credentials");
    for (reader, method, path, body, action) in [
        (&stranger, "GET", "/shares".to_owned(), "", "shares.list"),
        (&stranger, "POST", table_path("steps", "/query"), "{", "table.query"),
        (&reader, "GET", "/shares?maxResults=-1".to_owned(), "", "shares.list"),
        (&reader, "GET", "/shares?pageToken=x".to_owned(), "", "shares.list"),
        (&reader, "GET", "/shares/none".to_owned(), "", "share.get"),
        (&reader, "GET", "/shares/insurer/schemas/none/tables".to_owned(), "", "tables.list"),
        (&reader, "GET", table_path("none", "/version"), "", "table.version"),
        (&reader, "GET", table_path("steps", "/version?startingTimestamp=x"), "", "table.version"),
        (&reader, "GET", table_path("steps", "/metadata?version=x"), "", "table.metadata"),
        (&reader, "GET", table_path("steps", "/metadata?version=9"), "", "table.metadata"),
        (&reader, "POST", table_path("steps", "/query"), "{", "table.query"),
        (&reader, "POST", table_path("steps", "/query"), "{\"version\":9}", "table.query"),
        (&reader, "POST", table_path("steps", "/query"), "{\"pageToken\":\"x\"}", "table.query"),
        (&reader, "POST", table_path("steps", "/query"), "{\"startingVersion\":9}", "table.query"),
        (&reader, "GET", table_path("steps", "/changes"), "", "table.changes"),
        (&reader, "GET", table_path("steps", "/changes?startingVersion=9"), "", "table.changes"),
        (&reader, "POST", table_path("steps", "/queries/1"), "", "table.query_status"),
        (&reader, "POST", credentials, "", "table.credentials"),
    ] {
        let since = trail(&app).await.len();
        let answer = reader.send(method.parse().unwrap(), &path, &[], body).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.text);
        let events = requests_since(&app, since).await;
        assert_eq!(events.len(), 1, "{path} {body}: {events:?}");
        let event = &events[0];
        assert_eq!((&event["action"], &event["decision"]), (&json!(action), &json!("deny")), "{path}");
        assert_eq!(event["request_id"], answer.header("x-request-id"));
        let reason = event["reason"].as_str().unwrap();
        assert!(!reason.is_empty() && reason.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{reason}");
        assert!(event.get("files").is_none_or(Value::is_null), "{event}");
    }
}

async fn a_query_is_recorded_with_all_that_it_disclosed(app: TestApp) {
    app.put("/shares/insurer", json!({})).await.expect(201);
    app.put("/recipients/acme", json!({})).await.expect(201);
    let grant = json!({"share": "insurer", "recipient": "acme", "purpose": "fraud", "agreement": {"ref": "A-7"}});
    app.post("/grants", grant).await.expect(201);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let reader = Reader { app: &app, token };
    steps(&app, "steps");
    share(&app, "steps", with_history()).await;
    let answer = reader.query_as("steps", DELTA, json!({"predicateHints": ["id = 1"]})).await;
    let ends = answer.of_kind("file")[0]["expirationTimestamp"].as_i64().unwrap();
    let event = app.events("table.query").await.remove(0);
    for (field, expected) in [
        ("purpose", json!("fraud")),
        ("agreement", json!("A-7")),
        ("table_version", json!(3)),
        ("delivery", json!("proxied")),
        ("format", json!("delta")),
        ("files", json!(2)),
        ("rows", json!(2)),
        ("bytes", json!(18)),
    ] {
        assert_eq!(event[field], expected, "{field}: {event}");
    }
    let recorded: chrono::DateTime<chrono::Utc> = event["url_expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(recorded.timestamp_millis(), ends);
    let digest = event["predicate_digest"].as_str().unwrap();
    assert_eq!(digest.len(), 64);
    assert!(event.get("duration_ms").is_none_or(Value::is_null), "{event}");

    app.service.core.audit_writer.finish().await;
    let completed = app.events("table.query.completed").await;
    assert_eq!(completed.len(), 1);
    assert_eq!(completed[0]["request_id"], event["request_id"]);
    assert!(completed[0]["duration_ms"].is_u64() && completed[0]["seq"].as_u64() > event["seq"].as_u64());
}

async fn the_event_is_there_before_the_body_is_read(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let request = Request::post(format!("/delta-sharing{}", table_path("steps", "/query")))
        .header(header::AUTHORIZATION, format!("Bearer {}", reader.token));
    let response = app.respond(request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(response.status(), 200);
    let events = app.events("table.query").await;
    assert_eq!((events.len(), &events[0]["decision"]), (1, &json!("allow")));
    drop(response);
    app.service.core.audit_writer.finish().await;
    let aborted = app.events("table.query.aborted").await;
    assert_eq!((aborted.len(), &aborted[0]["request_id"]), (1, &events[0]["request_id"]));
    assert_eq!((&events[0]["files"], &aborted[0]["files"], &aborted[0]["bytes"]), (&json!(2), &json!(0), &Value::Null));
    assert!(app.events("table.query.completed").await.is_empty());
}

async fn the_first_read_of_a_file_is_recorded(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let files = reader.query("steps", json!({})).await.of_kind("file");
    let url = files[0]["url"].as_str().unwrap();
    for range in ["bytes=0-1", "bytes=2-3", "bytes=4-8"] {
        assert_eq!(fetch(&app, Method::GET, url, &[("range", range), ("user-agent", "tests/1")]).await.status, 206);
    }
    let events: Vec<Value> = app.events("file.read").await;
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    for (field, expected) in [
        ("recipient", json!("acme")),
        ("share", json!("insurer")),
        ("schema", json!("s")),
        ("table", json!("steps")),
        ("delivery", json!("proxied")),
        ("files", json!(1)),
        ("bytes", json!(9)),
        ("user_agent", json!("tests/1")),
    ] {
        assert_eq!(event[field], expected, "{field}: {event}");
    }
    assert!(event["grant_id"].is_string() && event["token_id"].is_string());
    app.post("/shares/insurer/recipients/acme/revoke", json!({"reason": "over"})).await.expect(200);
    assert_eq!(fetch(&app, Method::GET, url, &[]).await.status, 403);
    let denied = app.events("file.read").await.remove(0);
    assert_eq!((&denied["decision"], &denied["reason"]), (&json!("deny"), &json!("GRANT_REVOKED")));
}

async fn a_look_at_a_files_size_never_stands_for_its_bytes(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let files = reader.query("steps", json!({})).await.of_kind("file");
    let url = files[0]["url"].as_str().unwrap();
    let told = async || {
        let mut events = app.events("file.read").await;
        events.reverse();
        events.iter().map(|event| (event["files"].clone(), event["bytes"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(fetch(&app, Method::HEAD, url, &[]).await.status, 200);
    assert_eq!(told().await, [(json!(0), json!(0))]);
    assert_eq!(fetch(&app, Method::HEAD, url, &[]).await.status, 200);
    assert_eq!(fetch(&app, Method::HEAD, url, &[]).await.status, 200);
    assert_eq!(told().await.len(), 1, "looks are summed, too");
    assert_eq!(fetch(&app, Method::GET, url, &[("range", "bytes=2-")]).await.text, "parquet");
    assert_eq!(fetch(&app, Method::GET, url, &[]).await.text, "c.parquet");
    assert_eq!(told().await, [(json!(0), json!(0)), (json!(1), json!(9)), (json!(1), json!(9))]);
    assert_eq!(fetch(&app, Method::GET, url, &[("range", "bytes=0-0")]).await.text, "c");
    app.pass(60);
    app.service.sharing.record_summaries(false);
    app.service.core.audit_writer.finish().await;
    let mut summed: Vec<(Value, Value)> = app
        .events("file.read.summary")
        .await
        .iter()
        .map(|event| (event["change"]["bytes"].clone(), event["change"]["reads"].clone()))
        .collect();
    summed.sort_by_key(|(bytes, _)| bytes.as_u64());
    assert_eq!(summed, [(json!(0), json!(2)), (json!(1), json!(1))]);
}

/// A server that is killed writes nothing more, so everything that left it must be on record before.
#[tokio::test]
async fn no_byte_of_a_file_leaves_before_it_is_announced() {
    for database in TestDatabase::each().await {
        announces_what_leaves(&TestApp::behind_proxy(database)).await;
    }
}

async fn announces_what_leaves(app: &TestApp) {
    let reader = acme_with_steps(app).await;
    let files = reader.query("steps", json!({})).await.of_kind("file");
    let url = files[0]["url"].as_str().unwrap();
    let mut delivered: HashMap<&str, u64> = HashMap::new();
    for (address, range) in [
        ("198.51.100.7", "bytes=0-1"),
        ("203.0.113.9", "bytes=0-0"),
        ("198.51.100.7", "bytes=2-8"),
        ("198.51.100.7", "bytes=0-3"),
        ("2001:db8::7", "bytes=-4"),
        ("198.51.100.7", "bytes=0-8"),
        ("198.51.100.7", "bytes=0-8"),
        ("203.0.113.9", "bytes=0-8"),
    ] {
        let part = fetch(app, Method::GET, url, &[("range", range), ("x-forwarded-for", address)]).await;
        assert_eq!(part.status, 206);
        *delivered.entry(address).or_default() += part.text.len() as u64;
        let mut announced: HashMap<String, u64> = HashMap::new();
        for event in app.events("file.read").await {
            let address = event["client_address"].as_str().unwrap().to_owned();
            *announced.entry(address).or_default() += event["bytes"].as_u64().unwrap();
        }
        for (address, bytes) in &delivered {
            assert!(announced[*address] >= *bytes, "{address} got {bytes}: {announced:?}");
        }
        assert!(announced.keys().all(|address| delivered.contains_key(&**address)), "{announced:?}");
    }
    assert_eq!(app.events("file.read").await.len(), 7, "a file's worth each");
}

async fn ranges_that_come_together_are_announced_once(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let files = reader.query("steps", json!({})).await.of_kind("file");
    let url = files[0]["url"].as_str().unwrap();
    let ranges: Vec<String> = (0..9).map(|at| format!("bytes={at}-{at}")).collect();
    let part = async |range: &String| fetch(&app, Method::GET, url, &[("range", range)]).await;
    let parts = join_all(ranges.iter().map(part)).await;
    assert_eq!(parts.iter().map(|part| &*part.text).collect::<String>(), "c.parquet");
    assert_eq!(app.events("file.read").await.len(), 1);
}

async fn every_refusal_is_recorded_whatever_it_is_refused_for(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let files = reader.query("steps", json!({})).await.of_kind("file");
    let url = files[0]["url"].as_str().unwrap();
    let last = async |action: &str| {
        let event = app.events(action).await.remove(0);
        (event["decision"].clone(), event["reason"].clone())
    };
    let denied = |reason: &str| (json!("deny"), json!(reason));
    assert_eq!(fetch(&app, Method::GET, url, &[("range", "bytes=99-")]).await.status, 416);
    assert_eq!(last("file.read").await, denied("RANGE_NOT_SATISFIABLE"));
    assert_eq!(fetch(&app, Method::POST, url, &[]).await.status, 405);
    assert_eq!(last("file.read").await, denied("METHOD_NOT_ALLOWED"));
    for (path, action) in [
        ("/shares/%FF", "share.get"),
        ("/shares/%FF/schemas", "schemas.list"),
        ("/shares?pageToken=%FF", "shares.list"),
        ("/shares/insurer/schemas/s/tables/%C3%28/metadata", "table.metadata"),
        ("/shares/insurer/schemas/s/tables/steps/version?startingTimestamp=%FF", "table.version"),
    ] {
        reader.get(path).await.refusal(400, "INVALID_PARAMETER_VALUE");
        assert_eq!(last(action).await, denied("REQUEST_INVALID"), "{path}");
    }
    for (method, path, status) in [
        (Method::GET, "/nothing", 404),
        (Method::GET, "/shares/insurer/nothing/%FF", 404),
        (Method::DELETE, "/shares/insurer", 405),
        (Method::TRACE, "/shares", 405),
    ] {
        let before = app.events("request.unknown").await.len();
        assert_eq!(reader.send(method, path, &[], "").await.status, status, "{path}");
        assert_eq!(app.events("request.unknown").await.len(), before + 1, "{path}");
    }
    // A caller that may not ask is told only that.
    app.post("/shares/insurer/recipients/acme/revoke", json!({"reason": "over"})).await.expect(200);
    app.post("/recipients/acme/suspend", json!({"reason": "over"})).await.expect(200);
    for path in ["/nothing", "/shares/%FF"] {
        reader.get(path).await.refusal(403, "PERMISSION_DENIED");
    }
    assert_eq!(fetch(&app, Method::POST, url, &[]).await.status, 403);
}

async fn no_allowing_event_follows_a_revocation(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    // As many refusals as are recorded one by one.
    let queries = join_all((0..20).map(|_| reader.query("steps", json!({}))));
    let revocation = async {
        // By then, some queries have started.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        app.post("/shares/insurer/recipients/acme/revoke", json!({"reason": "over"})).await.expect(200)
    };
    let (answers, _) = tokio::join!(queries, revocation);
    let events = trail(&app).await;
    let revoked = events.iter().find(|event| event["action"] == "grant.revoke").expect("a revocation")["seq"].as_u64();
    let of_queries: Vec<&Value> = events.iter().filter(|event| event["action"] == "table.query").collect();
    assert_eq!(of_queries.len(), 20);
    for event in &of_queries {
        assert!(event["decision"] == "deny" || event["seq"].as_u64() < revoked, "{event}");
    }
    let allowed = of_queries.iter().filter(|event| event["decision"] == "allow").count();
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), allowed);
    for answer in answers {
        assert!(answer.status == 200 || answer.status == 403, "{}", answer.text);
        assert!(answer.status == 200 || !answer.text.contains("/files/"), "{}", answer.text);
    }
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl io::Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Collected {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

async fn logs_hold_no_secrets(app: TestApp) {
    let collected = Collected::default();
    // All logs of Weir itself, and those of other crates at the level that the server uses.
    let filter = tracing_subscriber::EnvFilter::new("warn,weir=trace");
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(collected.clone()).finish();
    // With a single subscriber, tracing caches the interest of the thread that logs first, so a second one exists.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _logging = tracing::subscriber::set_default(subscriber);

    let reader = acme_with_steps(&app).await;
    let mut secrets = vec![reader.token.clone()];
    let answer = reader.query("steps", json!({"maxFiles": 1, "includeRefreshToken": true})).await;
    let end = answer.end();
    let url = answer.of_kind("file")[0]["url"].as_str().unwrap().to_owned();
    let sealed = url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    secrets.push(sealed.clone());
    for token in ["nextPageToken", "refreshToken"] {
        secrets.push(end[token].as_str().unwrap().to_owned());
        reader.query("steps", json!({token.replace("next", "").replacen('P', "p", 1): end[token]})).await;
    }
    // Successes, refusals and faults are all logged.
    reader.ask("steps", "/changes?startingVersion=0&secretParameter=s3cr3t-value", "").await;
    reader.get("/shares?pageToken=s3cr3t-value").await;
    let stranger = Reader { app: &app, token: "s3cr3t-value".into() };
    stranger.query("steps", json!({})).await;
    assert_eq!(fetch(&app, Method::GET, &url, &[]).await.status, 200);
    fetch(&app, Method::GET, &format!("http://weir.test/files/{}x", &sealed), &[]).await;
    fetch(&app, Method::GET, "http://weir.test/files/s3cr3t-value?sig=s3cr3t-value", &[]).await;
    std::fs::remove_file(app.folder("steps").join("b.parquet")).unwrap();
    fetch(&app, Method::GET, &url, &[]).await;
    let mut log = HandWrittenLog::create(&app.folder("bad"), protocol(1, 2), metadata("b", &COLUMNS, &[]));
    log.commit(&[add("../x.parquet", 9), removed("y", 1)]);
    share(&app, "bad", with_history()).await;
    reader.query("bad", json!({})).await;
    app.service.core.audit_writer.finish().await;

    let logged = String::from_utf8(collected.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("/files/{sealed}") && logged.contains("answered"), "the log is empty: {logged}");
    secrets.push("s3cr3t-value".into());
    secrets.push("X-Databricks-Signature".into());
    secrets.push(crate::support::app::OPERATOR_TOKEN.into());
    for line in logged.lines() {
        for secret in &secrets {
            assert!(!line.contains(secret), "`{secret}` is in the log: {line}");
        }
    }
}
