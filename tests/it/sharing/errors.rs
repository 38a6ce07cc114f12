//! Errors, and lenient parsing of requests (Delta Sharing protocol, 1.0).

use axum::body::Body;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{Reader, share, steps, table_path, with_history};
use crate::support::app::{TestApp, on_both_databases};

on_both_databases!(
    check_007_unknown_routes_are_404_in_json,
    check_008_wrong_methods_are_405_in_json,
    check_009_every_error_is_one_line_of_the_protocols_json,
    check_010_malformed_bodies_are_400,
    check_012_a_body_needs_no_content_type,
    check_014_unknown_fields_are_ignored,
    check_015_numbers_may_be_strings,
    check_017_capabilities_are_read_leniently,
    check_019_clients_that_accept_compression_get_an_answer_they_can_read,
);

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

async fn check_007_unknown_routes_are_404_in_json(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for path in
        ["/", "/nothing", "/shares/insurer/nothing", "/shares/insurer/schemas/s/tables/steps/nothing", "//shares"]
    {
        reader.get(path).await.refusal(404, "RESOURCE_DOES_NOT_EXIST");
    }
}

async fn check_008_wrong_methods_are_405_in_json(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for (method, path) in [
        (Method::POST, "/shares".to_owned()),
        (Method::DELETE, "/shares/insurer".to_owned()),
        (Method::GET, table_path("steps", "/query")),
        (Method::PUT, table_path("steps", "/query")),
        (Method::POST, table_path("steps", "/version")),
        (Method::POST, table_path("steps", "/metadata")),
        (Method::POST, table_path("steps", "/changes")),
        (Method::GET, table_path("steps", "")),
        (Method::GET, table_path("steps", "/queries/1")),
    ] {
        let answer = reader.send(method.clone(), &path, &[], "{}").await;
        answer.refusal(405, "METHOD_NOT_ALLOWED");
        assert!(!answer.header("allow").is_empty(), "{method} {path}");
    }
}

async fn check_009_every_error_is_one_line_of_the_protocols_json(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let query = table_path("steps", "/query");
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(5 << 20));
    let json = ("content-type", "application/json");
    reader
        .send(Method::POST, &query, &[("content-type", "text/plain")], "{}")
        .await
        .refusal(415, "UNSUPPORTED_MEDIA_TYPE");
    reader
        .send(Method::POST, &query, &[("content-type", "application/x-protobuf")], "{}")
        .await
        .refusal(415, "UNSUPPORTED_MEDIA_TYPE");
    reader.send(Method::POST, &query, &[json], &long).await.refusal(413, "REQUEST_TOO_LARGE");
    reader.get("/shares/%FF/schemas").await.refusal(400, "INVALID_PARAMETER_VALUE");
    reader.get("/shares?pageToken=%FF").await.refusal(400, "INVALID_PARAMETER_VALUE");
    // Text from the caller is returned in one line, whatever it contains.
    let answer = reader.get("/shares/%0A%E2%80%A8%22%3Cscript%3E").await;
    answer.refusal(404, "RESOURCE_DOES_NOT_EXIST");
    assert!(!answer.text.contains('\u{2028}'));
    let answer = reader.get(&format!("/shares/{}", "x".repeat(5000))).await;
    answer.refusal(404, "RESOURCE_DOES_NOT_EXIST");
    assert!(answer.text.len() < 2000, "{}", answer.text.len());
}

async fn check_010_malformed_bodies_are_400(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for body in
        ["{", "nonsense", "[]", "3", "null", "\"x\"", "{\"version\":}", "{}{}", "\u{0}", "{\"predicateHints\":3}"]
    {
        let answer = reader.send(Method::POST, &table_path("steps", "/query"), &[], body).await;
        answer.refusal(400, "MALFORMED_REQUEST");
    }
    check_011_an_empty_body_is_400(&reader).await;
}

async fn check_011_an_empty_body_is_400(reader: &Reader<'_>) {
    for body in ["", "  \n"] {
        let headers = [("content-type", "application/json")];
        let answer = reader.send(Method::POST, &table_path("steps", "/query"), &headers, body).await;
        answer.refused(400, "MALFORMED_REQUEST", "No content to map due to end-of-input");
    }
}

async fn check_012_a_body_needs_no_content_type(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for headers in [vec![], vec![("content-type", "application/json")]] {
        let answer = reader.send(Method::POST, &table_path("steps", "/query"), &headers, "{}").await;
        assert_eq!(answer.version(), 3, "{headers:?}");
    }
    check_013_a_content_type_may_name_a_charset(&reader).await;
}

async fn check_013_a_content_type_may_name_a_charset(reader: &Reader<'_>) {
    for content_type in ["application/json; charset=utf8", "Application/JSON;charset=UTF-8"] {
        let headers = [("content-type", content_type)];
        let answer = reader.send(Method::POST, &table_path("steps", "/query"), &headers, "{}").await;
        assert_eq!(answer.version(), 3, "{content_type}");
    }
}

async fn check_014_unknown_fields_are_ignored(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let body = json!({"requested_columns": ["a"], "queryDeltaLog": true, "nonsense": {"deep": [1]}, "limitHint": null});
    assert_eq!(reader.query("steps", body).await.file_ids().len(), 2);
    check_016_both_spellings_of_names_are_read(&reader).await;
}

async fn check_016_both_spellings_of_names_are_read(reader: &Reader<'_>) {
    for body in [json!({"idempotencyKey": "k"}), json!({"idempotency_key": "k"})] {
        assert_eq!(reader.query("steps", body).await.version(), 3);
    }
    for body in [json!({"starting_version": 1, "ending_version": 1}), json!({"startingVersion": 1, "endingVersion": 1})]
    {
        assert_eq!(reader.query("steps", body).await.of_kind("add").len(), 1);
    }
    assert_eq!(reader.query("steps", json!({"max_files": 1})).await.file_ids().len(), 1);
}

async fn check_015_numbers_may_be_strings(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let ids = async |body: Value| reader.query("steps", body).await.file_ids();
    assert_eq!(ids(json!({"version": "1"})).await, ids(json!({"version": 1})).await);
    assert_eq!(ids(json!({"maxFiles": "1"})).await, ids(json!({"maxFiles": 1})).await);
}

async fn check_017_capabilities_are_read_leniently(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for (capabilities, format) in [
        (" ResponseFormat = DELTA ; ReaderFeatures = deletionVectors", "delta"),
        ("junk;;=;a=b=c;responseformat=delta", "delta"),
        ("responseformat", "parquet"),
        ("responseformat=", "parquet"),
        ("\u{e9}", "parquet"),
        (";", "parquet"),
    ] {
        let answer = reader.query_as("steps", capabilities, json!({})).await;
        assert_eq!(answer.header("delta-sharing-capabilities"), format!("responseformat={format}"), "{capabilities}");
        assert_eq!(answer.kinds(), ["protocol", "metaData", "file", "file"]);
    }
    check_018_a_boolean_that_is_none_is_false(&reader).await;
}

async fn check_018_a_boolean_that_is_none_is_false(reader: &Reader<'_>) {
    let answer = reader.query_as("steps", "includeendstreamaction=maybe;asyncquery=perhaps", json!({})).await;
    assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=parquet");
    assert_eq!(answer.kinds(), ["protocol", "metaData", "file", "file"]);
}

async fn check_019_clients_that_accept_compression_get_an_answer_they_can_read(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let plain = reader.send(Method::GET, "/shares", &[("accept-encoding", "identity")], "").await;
    assert_eq!((plain.status.as_u16(), plain.header("content-encoding")), (200, ""));
    let odd = reader.send(Method::GET, "/shares", &[("accept-encoding", "nonsense;q=x")], "").await;
    assert_eq!(odd.text, plain.text);
    // A request that excludes every encoding is answered anyway: it is decided and recorded by then.
    for excludes in ["*;q=0", "identity;q=0", "gzip;q=0, identity;q=0.0, zstd;q=0", "*;Q=0.000, br"] {
        let answer = reader.send(Method::GET, "/shares", &[("accept-encoding", excludes)], "").await;
        assert_eq!((answer.status.as_u16(), answer.header("content-encoding")), (200, ""), "{excludes}");
        assert_eq!(answer.text, plain.text);
    }
    for (encoding, magic) in [("gzip", &[0x1f, 0x8b][..]), ("zstd", &[0x28, 0xb5, 0x2f, 0xfd])] {
        let request = Request::get(format!("/delta-sharing{}", table_path("steps", "/metadata")))
            .header(header::AUTHORIZATION, format!("Bearer {}", reader.token))
            .header(header::ACCEPT_ENCODING, encoding);
        let response = app.respond(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[header::CONTENT_ENCODING], encoding);
        assert!(response.into_body().collect().await.unwrap().to_bytes().starts_with(magic));
    }
}
