//! Check 20: whatever a client sends, the answer is never a 5xx and reveals no internals.

use http::Method;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use weir::store::Db;

use super::{Reader, share, steps, table_path, with_history};
use crate::support::app::{Answer, TestApp, on_both_databases};

on_both_databases!(check_020_every_parameter_takes_every_nonsense);

/// The values that are sent in every place.
fn nonsense() -> Vec<String> {
    let long = "9".repeat(40);
    let deep = "[".repeat(2000);
    let mut all: Vec<String> = [
        "",
        " ",
        "0",
        "-0",
        "-1",
        "1.5",
        "1e3",
        "1e400",
        "NaN",
        "0x10",
        "+1",
        "00",
        "null",
        "true",
        "TRUE",
        "[]",
        "{}",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551616",
        "2147483648",
        "a",
        "'",
        "\"",
        "\\",
        "../..",
        "%",
        "%zz",
        "*",
        "a,b",
        "a;b",
        "=",
        "&",
        "\u{0}",
        "\u{1}",
        "\n",
        "\u{7f}",
        "\u{e9}",
        "\u{2028}",
        "\u{1F600}",
        "\u{202e}",
        "2022-01-01",
        "2022-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "-262144-01-01T00:00:00Z",
        "+262143-12-31T23:59:59Z",
        "2022-01-01T00:00:60Z",
        "2022-01-01T00:00:00+99:99",
        "2022-01-01T00:00:00.999999999999Z",
        "1; DROP TABLE tables",
        "insurer",
        "AAAAAAAA",
    ]
    .map(str::to_owned)
    .into();
    all.extend([long, deep, "x".repeat(3000)]);
    all
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[track_caller]
fn harmless(app: &TestApp, what: &str, answer: &Answer) {
    assert!(!answer.status.is_server_error(), "{what}: {} {}", answer.status, answer.text);
    let folder = app.folder("");
    for secret in [folder.to_str().unwrap(), "panicked", "SELECT", "src/", "sqlite", "postgres"] {
        assert!(!answer.text.contains(secret), "{what} tells `{secret}`: {}", answer.text);
    }
    if answer.status.is_client_error() && !what.starts_with("HEAD") {
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8", "{what}: {}", answer.text);
        let body = answer.json();
        assert!(body["errorCode"].is_string() && body["message"].is_string(), "{what}: {}", answer.text);
        assert!(!answer.text.trim_end().contains(['\n', '\u{2028}', '\u{85}']), "{what}: {}", answer.text);
    }
}

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

async fn check_020_every_parameter_takes_every_nonsense(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for text in nonsense() {
        let value = encoded(&text);
        let metadata = table_path("steps", "/metadata");
        let changes = table_path("steps", "/changes");
        for path in [
            format!("/shares?maxResults={value}"),
            format!("/shares/insurer/schemas?pageToken={value}"),
            format!("/shares/{value}"),
            format!("/shares/insurer/schemas/{value}/tables"),
            format!("/shares/insurer/schemas/s/tables/{value}/version"),
            table_path("steps", &format!("/version?startingTimestamp={value}")),
            format!("{metadata}?version={value}"),
            format!("{metadata}?timestamp={value}"),
            format!("{metadata}?{value}"),
            format!("{changes}?startingVersion={value}"),
            format!("{changes}?startingTimestamp={value}"),
            format!("{changes}?startingVersion=0&endingVersion={value}"),
            format!("{changes}?startingVersion=0&endingTimestamp={value}"),
            format!("{changes}?startingVersion=0&maxFiles={value}"),
            format!("{changes}?startingVersion=0&pageToken={value}"),
            format!("{changes}?startingVersion=0&includeHistoricalMetadata={value}"),
        ] {
            harmless(&app, &path, &reader.get(&path).await);
        }
        // Bodies and headers never reach a database, so one database is enough.
        if matches!(app.service.core.db, Db::Sqlite { .. }) {
            nonsense_in_bodies_and_headers(&reader, &text).await;
        }
    }
}

async fn nonsense_in_bodies_and_headers(reader: &Reader<'_>, text: &str) {
    for field in [
        "predicateHints",
        "jsonPredicateHints",
        "limitHint",
        "version",
        "timestamp",
        "startingVersion",
        "endingVersion",
        "maxFiles",
        "pageToken",
        "includeRefreshToken",
        "refreshToken",
        "idempotencyKey",
        "includeHistoricalProtocol",
    ] {
        let mut values = vec![json!(text), json!([text])];
        values.extend(serde_json::from_str::<Value>(text));
        for value in values {
            let mut body = json!({field: value});
            if field == "endingVersion" {
                body["startingVersion"] = json!(0);
            }
            harmless(reader.app, &body.to_string(), &reader.query("steps", body.clone()).await);
        }
    }
    if !text.contains(['\u{0}', '\u{1}', '\n', '\u{7f}']) {
        for header in ["delta-sharing-capabilities", "fileidhash", "content-type", "range"] {
            let path = table_path("steps", "/query");
            harmless(reader.app, header, &reader.send(Method::POST, &path, &[(header, text)], "{}").await);
        }
    }
}

/// The same with random input; on one database, since nothing reaches it.
#[test]
fn check_020_no_request_makes_the_server_fail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = runtime.block_on(TestApp::sqlite());
    let reader = runtime.block_on(acme_with_steps(&app));
    let key = prop_oneof![
        "[a-zA-Z_]{1,12}",
        Just("version".to_owned()),
        Just("timestamp".to_owned()),
        Just("startingVersion".to_owned()),
        Just("endingVersion".to_owned()),
        Just("startingTimestamp".to_owned()),
        Just("maxFiles".to_owned()),
        Just("pageToken".to_owned()),
        Just("jsonPredicateHints".to_owned()),
        Just("limitHint".to_owned()),
    ];
    let value =
        prop_oneof![any::<i64>().prop_map(|number| json!(number)), any::<String>().prop_map(|text| json!(text))];
    let fields = prop::collection::vec((key, value), 0..4);
    let strategy = (fields, prop::collection::vec(any::<u8>(), 0..40), any::<bool>());
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&strategy, |(fields, bytes, is_get)| {
        let answer = runtime.block_on(async {
            if is_get {
                let pairs: Vec<String> = fields
                    .iter()
                    .map(|(key, value)| format!("{key}={}", encoded(value.as_str().unwrap_or(&value.to_string()))))
                    .collect();
                let junk: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
                let path = table_path("steps", &format!("/changes?{}&{junk}", pairs.join("&")));
                reader.get(&path).await
            } else {
                let body: serde_json::Map<String, Value> = fields.into_iter().collect();
                reader.query("steps", Value::Object(body)).await
            }
        });
        harmless(&app, "generated", &answer);
        Ok(())
    });
    outcome.unwrap();
}
