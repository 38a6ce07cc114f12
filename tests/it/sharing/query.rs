//! Queries of the newest version, and the lines of both formats (Delta Sharing protocol, 1.4 and section 2).

use axum::body::Body;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    ANY_FORMAT, COLUMNS, DELTA, Reader, deletion_vectors, fetch, mapped_columns, share, steps, stored_vector,
    table_path, with_history, with_properties, write_data,
};
use crate::support::{
    app::{Answer, TestApp, on_both_databases},
    tables::{HandWrittenLog, add, metadata, protocol, protocol_with},
};

on_both_databases!(
    check_075_an_empty_query_lists_every_active_file,
    check_076_the_same_query_answers_the_same,
    check_077_ids_are_digests_of_paths_as_the_client_chooses,
    check_078_unknown_digests_are_refused,
    check_079_urls_open_exactly_the_files_bytes,
    check_080_urls_end_as_configured_and_never_after_what_they_stand_on,
    check_081_every_partition_column_has_its_value_or_null,
    check_083_an_end_action_comes_to_those_who_ask,
    check_084_a_fault_midway_is_told_or_cuts_the_connection,
    a_path_that_is_not_served_is_found_before_the_first_line,
    check_088_predicates_that_nobody_understands_filter_nothing,
    check_112_a_deletion_vectors_file_is_signed_and_has_an_id,
    check_114_an_empty_table_is_two_lines,
    check_115_a_large_table_streams,
    mapped_columns_are_told_by_their_physical_names,
);

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

/// The lines without the files' URLs and their expiry.
pub(super) fn redacted(answer: &Answer) -> String {
    let mut text = String::new();
    for mut line in answer.lines() {
        redact(&mut line);
        text.push_str(&format!("{line}\n"));
    }
    text
}

fn redact(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("http://weir.test/files/") => *text = "[url]".into(),
        Value::Object(fields) => {
            for (key, value) in fields {
                match key.as_str() {
                    "expirationTimestamp" | "minUrlExpirationTimestamp" => *value = json!("[end]"),
                    "refreshToken" | "nextPageToken" => *value = json!("[token]"),
                    _ => redact(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

async fn check_075_an_empty_query_lists_every_active_file(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let answer = reader.query("steps", json!({})).await;
    assert_eq!(answer.version(), 3);
    assert_eq!(answer.header("content-type"), "application/x-ndjson; charset=utf-8");
    insta::assert_snapshot!("query_parquet", redacted(&answer));
    check_082_nobody_gets_an_end_action_unasked(&answer);
    let answer = reader.query_as("steps", DELTA, json!({})).await;
    insta::assert_snapshot!("query_delta", redacted(&answer));
    check_082_nobody_gets_an_end_action_unasked(&answer);
}

fn check_082_nobody_gets_an_end_action_unasked(answer: &Answer) {
    assert_eq!(answer.kinds(), ["protocol", "metaData", "file", "file"]);
    assert!(!answer.header("delta-sharing-capabilities").contains("includeendstreamaction"));
}

async fn check_076_the_same_query_answers_the_same(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for capabilities in ["", DELTA] {
        let first = reader.query_as("steps", capabilities, json!({})).await;
        let second = reader.query_as("steps", capabilities, json!({})).await;
        assert_eq!(first.head(), second.head());
        assert_eq!(first.head(), reader.ask("steps", "/metadata", capabilities).await.head());
        assert_eq!(redacted(&first), redacted(&second));
        assert_eq!(first.file_ids().len(), 2);
    }
}

async fn check_077_ids_are_digests_of_paths_as_the_client_chooses(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let paths = ["b.parquet", "c.parquet"];
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let md5 = sorted(paths.iter().map(|path| hex(&Md5::digest(path))).collect());
    let sha256 = sorted(paths.iter().map(|path| hex(&Sha256::digest(path))).collect());
    for (capabilities, chosen, expected) in [
        ("", None, &md5),
        (DELTA, None, &sha256),
        ("", Some("delta"), &sha256),
        (DELTA, Some("parquet"), &md5),
        ("", Some(" PARQUET "), &md5),
    ] {
        let mut headers = vec![("delta-sharing-capabilities", capabilities)];
        headers.extend(chosen.map(|chosen| ("fileidhash", chosen)));
        let answer = reader.send(Method::POST, &table_path("steps", "/query"), &headers, "{}").await;
        assert_eq!(&answer.file_ids(), expected, "{capabilities} {chosen:?}");
        let echo = chosen.map(|chosen| chosen.trim().to_lowercase()).unwrap_or_default();
        assert_eq!(answer.header("fileidhash"), echo);
    }
}

async fn check_078_unknown_digests_are_refused(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for hash in ["sha512", "", "  ", "md5", "parquet,delta", "\u{e9}"] {
        let headers = [("fileidhash", hash)];
        for (method, what, body) in
            [("POST", "/query", "{}"), ("GET", "/metadata", ""), ("GET", "/changes?startingVersion=0", "")]
        {
            let answer = reader.send(method.parse().unwrap(), &table_path("steps", what), &headers, body).await;
            answer.refused_parameter("Unsupported fileidhash");
        }
    }
}

async fn check_079_urls_open_exactly_the_files_bytes(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let answer = reader.query("steps", json!({})).await;
    for file in answer.of_kind("file") {
        let url = file["url"].as_str().unwrap();
        let whole = reader.fetch(url).await;
        assert_eq!(whole.status, 200);
        assert_eq!(whole.text.len(), usize::try_from(file["size"].as_u64().unwrap()).unwrap());
        // The content of this table's files is their own path.
        assert!(["b.parquet", "c.parquet"].contains(&whole.text.as_str()), "{}", whole.text);
        let part = fetch(&app, Method::GET, url, &[("range", "bytes=1-8")]).await;
        assert_eq!((part.status.as_u16(), part.text.as_str()), (206, ".parquet"));
        // Connectors recognise a URL as downloadable by its query.
        assert!(url.contains("?X-Databricks-Signature="), "{url}");
    }
}

async fn check_080_urls_end_as_configured_and_never_after_what_they_stand_on(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let ends = async |reader: &Reader<'_>| -> i64 {
        let answer = reader.query_as("steps", "includeendstreamaction=true", json!({})).await;
        let ends: Vec<i64> =
            answer.of_kind("file").iter().map(|file| file["expirationTimestamp"].as_i64().unwrap()).collect();
        assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
        assert_eq!(answer.end()["minUrlExpirationTimestamp"], ends[0]);
        ends[0] / 1000
    };
    // For files through the server, the expiry is a day, as configured here.
    assert_eq!(ends(&reader).await, app.now().timestamp() + 86_400);
    let issued = app.post("/recipients/acme/tokens", json!({"reveal": true, "expires_in_seconds": 100})).await;
    let short = Reader { app: &app, token: issued.expect(201)["token"].as_str().unwrap().to_owned() };
    assert_eq!(ends(&short).await, app.now().timestamp() + 100);
}

async fn check_081_every_partition_column_has_its_value_or_null(app: TestApp) {
    let metadata = metadata("p", &[("id", "long"), ("day", "date"), ("plan", "string")], &["day", "plan"]);
    let mut log = HandWrittenLog::create(&app.folder("p"), protocol(1, 2), metadata);
    let mut files = Vec::new();
    for (path, values) in [
        ("1.parquet", json!({"day": "2024-01-01", "plan": "HMO"})),
        ("2.parquet", json!({"day": null, "plan": "a/b %20=&"})),
        ("3.parquet", json!({"plan": "PPO"})),
    ] {
        let mut file = add(path, write_data(&app, "p", path));
        file["add"]["partitionValues"] = values;
        files.push(file);
    }
    log.commit(&files);
    share(&app, "p", json!({})).await;
    let reader = Reader::acme(&app).await;
    let answer = reader.query("p", json!({})).await;
    let mut values: Vec<String> =
        answer.of_kind("file").iter().map(|file| file["partitionValues"].to_string()).collect();
    values.sort();
    let expected =
        [r#"{"day":"2024-01-01","plan":"HMO"}"#, r#"{"day":null,"plan":"PPO"}"#, r#"{"day":null,"plan":"a/b %20=&"}"#];
    assert_eq!(values, expected);
}

async fn check_083_an_end_action_comes_to_those_who_ask(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let answer = reader.query_as("steps", "IncludeEndStreamAction=TRUE", json!({})).await;
    assert_eq!(answer.kinds(), ["protocol", "metaData", "file", "file", "endStreamAction"]);
    assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=parquet;includeendstreamaction=true");
    let fields: Vec<String> = answer.end().as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["minUrlExpirationTimestamp"]);
    let answer = reader.ask("steps", "/changes?startingVersion=0", "includeendstreamaction=true").await;
    assert!(answer.end()["minUrlExpirationTimestamp"].is_i64());
}

/// The log's last file has an invalid deletion vector. The first chunk has none, so the answer begins.
async fn check_084_a_fault_midway_is_told_or_cuts_the_connection(app: TestApp) {
    let protocol = protocol_with(&["deletionVectors"]);
    let mut log = HandWrittenLog::create(&app.folder("wide"), protocol, metadata("w", &COLUMNS, &[]));
    for file in 0..100 {
        log.commit(&[add(&format!("{file:03}.parquet"), 9)]);
    }
    let mut last = add("last.parquet", 9);
    last["add"]["deletionVector"] = stored_vector();
    last["add"]["deletionVector"]["pathOrInlineDv"] = json!("nonsense");
    log.commit(&[last]);
    share(&app, "wide", json!({"history": true, "start_version": 0})).await;
    let reader = Reader::acme(&app).await;
    let query = json!({"startingVersion": 0});
    let capabilities = "responseformat=delta;readerfeatures=deletionvectors";
    let ends = format!("{capabilities};includeendstreamaction=true");
    let answer = reader.query_as("wide", &ends, query.clone()).await;
    let end = answer.end();
    assert_eq!(end["httpStatusErrorCode"], 400, "{end}");
    let message = end["errorMessage"].as_str().unwrap();
    let request = answer.header("x-request-id");
    assert!(
        message.contains("deletion vector that cannot be understood")
            && message.ends_with(&format!(" (request {request})")),
        "{end}"
    );
    assert!(end.get("minUrlExpirationTimestamp").is_none(), "{end}");

    let request = Request::post(format!("/delta-sharing{}", table_path("wide", "/query")))
        .header(header::AUTHORIZATION, format!("Bearer {}", reader.token))
        .header("delta-sharing-capabilities", capabilities);
    let response = app.respond(request.body(Body::from(query.to_string())).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err(), "half an answer must not look like a whole one");
}

/// Wherever it is in the log or the table.
async fn a_path_that_is_not_served_is_found_before_the_first_line(app: TestApp) {
    let reader = Reader::acme(&app).await;
    for (name, path, reason) in [
        ("escapes", "../steps/a.parquet", "`..` segment"),
        ("absolute", "s3://elsewhere/a.parquet", "it is absolute"),
        ("rooted", "/etc/a.parquet", "it is absolute"),
        ("colon", "T:1.parquet", "it is absolute"),
        ("empty", "a//b.parquet", "empty segment"),
        ("log", "_delta_log/00000000000000000000.json", "into a table's log"),
    ] {
        let properties = json!({"delta.enableChangeDataFeed": "true"});
        let metadata = with_properties(metadata(name, &COLUMNS, &[]), properties);
        let mut log = HandWrittenLog::create(&app.folder(name), protocol(1, 4), metadata);
        for file in 0..100 {
            log.commit(&[add(&format!("{file:03}.parquet"), 9)]);
        }
        log.commit(&[add(path, 9)]);
        share(&app, name, with_history()).await;
        for answer in [
            reader.query(name, json!({"startingVersion": 0})).await,
            reader.query(name, json!({"startingVersion": 0, "maxFiles": 1})).await,
            reader.query(name, json!({})).await,
            reader.ask(name, "/changes?startingVersion=0", "").await,
        ] {
            answer.refused(400, "RESOURCE_DOES_NOT_EXIST", reason);
        }
        // Requests that do not reach it are answered.
        assert_eq!(reader.query(name, json!({"startingVersion": 0, "endingVersion": 100})).await.status, 200);
        assert_eq!(reader.query(name, json!({"version": 100})).await.status, 200);
    }
}

async fn check_088_predicates_that_nobody_understands_filter_nothing(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for hints in [
        json!({"predicateHints": ["nonsense (", "", "1 = 1 OR", "'"]}),
        json!({"predicateHints": []}),
        json!({"jsonPredicateHints": "{\"op\":"}),
        json!({"jsonPredicateHints": ""}),
        json!({"jsonPredicateHints": "{\"op\":\"conjure\",\"children\":[]}"}),
        json!({"jsonPredicateHints": "[".repeat(10_000)}),
    ] {
        assert_eq!(reader.query("steps", hints.clone()).await.file_ids().len(), 2, "{hints}");
    }
}

async fn check_112_a_deletion_vectors_file_is_signed_and_has_an_id(app: TestApp) {
    deletion_vectors(&app, "dv");
    share(&app, "dv", with_history()).await;
    let reader = Reader::acme(&app).await;
    let answer = reader.query_as("dv", DELTA, json!({})).await;
    insta::assert_snapshot!("query_deletion_vectors", redacted(&answer));
    let files = answer.of_kind("file");
    let stored = files.iter().find(|file| file["deletionVectorFileId"].is_string()).expect("a vector in a file");
    let vector = &stored["deltaSingleAction"]["add"]["deletionVector"];
    assert_eq!((&vector["storageType"], &vector["offset"]), (&json!("p"), &json!(4)));
    assert_ne!(stored["deletionVectorFileId"], stored["id"]);
    let opened = reader.fetch(vector["pathOrInlineDv"].as_str().unwrap()).await;
    assert_eq!(opened.text, "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin");
    check_113_an_inline_deletion_vector_passes_as_it_is(&files);
}

fn check_113_an_inline_deletion_vector_passes_as_it_is(files: &[Value]) {
    let inline = files.iter().find(|file| file.get("deletionVectorFileId").is_none()).expect("an inline vector");
    assert_eq!(inline["deltaSingleAction"]["add"]["deletionVector"], super::inline_vector());
}

async fn check_114_an_empty_table_is_two_lines(app: TestApp) {
    HandWrittenLog::create(&app.folder("empty"), protocol(1, 2), metadata("e", &COLUMNS, &[]));
    share(&app, "empty", with_history()).await;
    let reader = Reader::acme(&app).await;
    for capabilities in ["", ANY_FORMAT, DELTA] {
        let answer = reader.query_as("empty", capabilities, json!({})).await;
        assert_eq!(answer.kinds(), ["protocol", "metaData"]);
    }
    let answer = reader.query_as("empty", "includeendstreamaction=true", json!({})).await;
    assert_eq!(answer.end(), json!({}));
}

/// The first part of the body arrives while most files are not signed yet.
async fn check_115_a_large_table_streams(app: TestApp) {
    let mut log = HandWrittenLog::create(&app.folder("large"), protocol(1, 2), metadata("l", &COLUMNS, &[]));
    let files: Vec<Value> = (0..20_000).map(|file| add(&format!("{file:06}.parquet"), 9)).collect();
    log.commit(&files);
    share(&app, "large", json!({})).await;
    let reader = Reader::acme(&app).await;
    let request = Request::post(format!("/delta-sharing{}", table_path("large", "/query")))
        .header(header::AUTHORIZATION, format!("Bearer {}", reader.token));
    let mut body = app.respond(request.body(Body::from("{}")).unwrap()).await.into_body();
    let (mut lines, mut parts) = (0, 0);
    while let Some(frame) = body.frame().await {
        let bytes = frame.unwrap().into_data().unwrap();
        let newlines = bytes.iter().filter(|byte| **byte == b'\n').count();
        assert!(newlines <= 1000, "{newlines} lines at once");
        (lines, parts) = (lines + newlines, parts + 1);
    }
    assert_eq!(lines, 20_002);
    assert!(parts > 20, "{parts}");
}

async fn mapped_columns_are_told_by_their_physical_names(app: TestApp) {
    mapped_columns(&app, "cm");
    share(&app, "cm", with_history()).await;
    let reader = Reader::acme(&app).await;
    let answer = reader.query_as("cm", DELTA, json!({})).await;
    insta::assert_snapshot!("query_mapped_columns", redacted(&answer));
}
