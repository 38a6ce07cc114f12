//! A table's metadata and its format (Delta Sharing protocol, 1.3, 2.2, 2.3 and 2.11).

use serde_json::{Value, json};

use super::{
    ANY_FORMAT, COLUMNS, DELTA, Reader, commit_time_text, deletion_vectors, mapped_columns, share, steps, with_history,
    with_properties,
};
use crate::support::{
    app::{TestApp, on_both_databases},
    tables::{HandWrittenLog, add, metadata, protocol, protocol_with},
};

on_both_databases!(
    check_056_without_capabilities_the_answer_is_two_parquet_lines,
    check_057_delta_format_wraps_what_the_log_says,
    check_059_features_are_answered_in_delta_format_and_only_to_who_knows_them,
    check_062_features_that_are_switched_off_need_no_client,
    features_that_no_column_uses_need_no_client,
    check_063_an_unknown_reader_feature_is_refused_by_name,
    check_064_an_unknown_format_is_answered_truthfully,
    check_065_metadata_never_ends_with_an_action,
    check_066_a_version_has_the_metadata_it_had,
    check_067_versions_that_cannot_be_told_are_400,
    check_068_versions_before_the_shared_history_are_400,
    check_069_a_timestamp_is_the_newest_version_until_then,
    check_070_a_schema_tells_comments_and_nothing_more_in_parquet_format,
    check_071_the_change_feed_is_named_where_it_is_shared,
    check_072_size_and_number_of_files_are_right,
    check_074_no_string_breaks_a_line,
);

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

async fn check_056_without_capabilities_the_answer_is_two_parquet_lines(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let answer = reader.ask("steps", "/metadata", "").await;
    assert_eq!(answer.kinds(), ["protocol", "metaData"]);
    assert_eq!(answer.header("content-type"), "application/x-ndjson; charset=utf-8");
    assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=parquet");
    assert_eq!(answer.version(), 3);
    insta::assert_snapshot!("metadata_parquet", answer.text);
}

async fn check_057_delta_format_wraps_what_the_log_says(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let answer = reader.ask("steps", "/metadata", "responseformat=delta").await;
    assert_eq!(answer.kinds(), ["protocol", "metaData"]);
    assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=delta");
    insta::assert_snapshot!("metadata_delta", answer.text);
    check_058_parquet_is_preferred_where_it_will_do(&reader).await;
}

async fn check_058_parquet_is_preferred_where_it_will_do(reader: &Reader<'_>) {
    for formats in ["delta,parquet", "parquet,delta", "Parquet , DELTA"] {
        let answer = reader.ask("steps", "/metadata", &format!("responseformat={formats}")).await;
        assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=parquet", "{formats}");
    }
}

async fn check_059_features_are_answered_in_delta_format_and_only_to_who_knows_them(app: TestApp) {
    deletion_vectors(&app, "dv");
    mapped_columns(&app, "cm");
    for table in ["dv", "cm"] {
        share(&app, table, with_history()).await;
    }
    let reader = Reader::acme(&app).await;
    for (table, feature) in [("dv", "deletionVectors"), ("cm", "columnMapping")] {
        let answer = reader.ask(table, "/metadata", ANY_FORMAT).await;
        assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=delta");
        assert_eq!(answer.kinds(), ["protocol", "metaData"]);
        check_060_without_the_feature_the_table_is_refused(&reader, table, feature).await;
        check_061_declared_features_do_not_make_parquet_format_do(&reader, table, feature).await;
    }
}

async fn check_060_without_the_feature_the_table_is_refused(reader: &Reader<'_>, table: &str, feature: &str) {
    for capabilities in ["", "responseformat=parquet", "responseformat=delta", "responseformat=delta,parquet"] {
        for answer in [
            reader.ask(table, "/metadata", capabilities).await,
            reader.query_as(table, capabilities, json!({})).await,
            reader.query_as(table, capabilities, json!({"startingVersion": 1})).await,
        ] {
            let message = answer.refusal(400, "UNSUPPORTED_OPERATION");
            assert!(message.contains("Unsupported Delta Table Properties") && message.contains(feature), "{message}");
        }
    }
}

async fn check_061_declared_features_do_not_make_parquet_format_do(reader: &Reader<'_>, table: &str, feature: &str) {
    let capabilities = format!("responseformat=parquet;readerfeatures={feature}");
    reader.ask(table, "/metadata", &capabilities).await.refused(400, "UNSUPPORTED_OPERATION", feature);
    reader.query_as(table, &capabilities, json!({})).await.refused(400, "UNSUPPORTED_OPERATION", feature);
}

async fn check_062_features_that_are_switched_off_need_no_client(app: TestApp) {
    let features = ["columnMapping", "deletionVectors", "v2Checkpoint", "vacuumProtocolCheck"];
    let metadata = with_properties(metadata("off", &COLUMNS, &[]), json!({"delta.columnMapping.mode": "none"}));
    let mut log = HandWrittenLog::create(&app.folder("off"), protocol_with(&features), metadata);
    log.commit(&[add("a.parquet", 9)]);
    share(&app, "off", json!({})).await;
    let reader = Reader::acme(&app).await;
    for answer in [reader.ask("off", "/metadata", "").await, reader.query("off", json!({})).await] {
        assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=parquet");
        assert_eq!(answer.of_kind("protocol"), [json!({"minReaderVersion": 1})]);
    }
}

/// Decided by the schema alone: no column is widened, a variant or a local timestamp.
async fn features_that_no_column_uses_need_no_client(app: TestApp) {
    let reader = Reader::acme(&app).await;
    for feature in ["timestampNtz", "typeWidening", "typeWidening-preview", "variantType", "variantType-preview"] {
        let name = feature.to_lowercase();
        let mut log = HandWrittenLog::create(
            &app.folder(&name),
            protocol_with(&[feature]),
            with_properties(metadata(feature, &COLUMNS, &[]), json!({"delta.enableTypeWidening": "true"})),
        );
        log.commit(&[add("a.parquet", 9)]);
        share(&app, &name, with_history()).await;
        for answer in [
            reader.ask(&name, "/metadata", "").await,
            reader.query(&name, json!({})).await,
            reader.query(&name, json!({"startingVersion": 0})).await,
        ] {
            assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=parquet", "{feature}");
        }
    }
    let local = metadata("local", &[("at", "timestamp_ntz")], &[]);
    HandWrittenLog::create(&app.folder("local"), protocol_with(&["timestampNtz"]), local);
    share(&app, "local", with_history()).await;
    reader.query("local", json!({})).await.refused(400, "UNSUPPORTED_OPERATION", "timestampNtz");
    reader.query("local", json!({"startingVersion": 0})).await.refused(400, "UNSUPPORTED_OPERATION", "timestampNtz");
}

async fn check_063_an_unknown_reader_feature_is_refused_by_name(app: TestApp) {
    let mut log = steps(&app, "steps");
    share(&app, "steps", with_history()).await;
    log.commit(&[protocol_with(&["crystalBall"])]);
    let reader = Reader::acme(&app).await;
    for capabilities in ["", ANY_FORMAT, "responseformat=delta;readerfeatures=crystalball"] {
        for answer in [
            reader.ask("steps", "/metadata", capabilities).await,
            reader.query_as("steps", capabilities, json!({})).await,
        ] {
            answer.refused(400, "UNSUPPORTED_OPERATION", "crystalBall");
        }
    }
}

async fn check_064_an_unknown_format_is_answered_truthfully(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let answer = reader.ask("steps", "/metadata", "responseformat=foo").await;
    assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=parquet");
    assert_eq!(answer.of_kind("protocol"), [json!({"minReaderVersion": 1})]);
}

async fn check_065_metadata_never_ends_with_an_action(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let answer = reader.ask("steps", "/metadata", "includeendstreamaction=true").await;
    assert_eq!(answer.kinds(), ["protocol", "metaData"]);
    assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=parquet");
}

async fn check_066_a_version_has_the_metadata_it_had(app: TestApp) {
    let mut log = steps(&app, "steps");
    let later = with_properties(
        metadata("steps-id", &[COLUMNS[0], COLUMNS[1], ("more", "string")], &[]),
        json!({"delta.enableChangeDataFeed": "true"}),
    );
    log.commit(&[later]);
    share(&app, "steps", with_history()).await;
    let reader = Reader::acme(&app).await;
    for version in 0..5 {
        let answer = reader.ask("steps", &format!("/metadata?version={version}"), "").await;
        assert_eq!(answer.version(), version);
        assert_eq!(answer.kinds(), ["protocol", "metaData"]);
        let schema = answer.of_kind("metaData")[0]["schemaString"].as_str().unwrap().to_owned();
        assert_eq!(schema.contains("more"), version == 4, "{version}");
    }
}

async fn check_067_versions_that_cannot_be_told_are_400(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let ask = async |what: &str| reader.ask("steps", &format!("/metadata?{what}"), "").await;
    ask("version=4").await.refused(400, "MALFORMED_REQUEST", "Cannot load table version 4");
    ask("version=9223372036854775807").await.refused(400, "MALFORMED_REQUEST", "Cannot load table version");
    ask("version=-1").await.refused_parameter("version cannot be negative");
    ask("version=x3").await.refused_parameter("expected a number");
    ask("version=99999999999999999999").await.refused_parameter("expected a number");
    let both = format!("version=1&timestamp={}", commit_time_text(1, 0));
    ask(&both).await.refused_parameter("Please only provide one of: version,timestamp");

    share_without_history(&app).await;
    for what in ["version=1", &format!("timestamp={}", commit_time_text(1, 0))] {
        let answer = reader.ask("closed", &format!("/metadata?{what}"), "").await;
        answer.refused_parameter("Reading table by version or timestamp is not supported because history sharing");
    }
}

async fn share_without_history(app: &TestApp) {
    steps(app, "closed");
    share(app, "closed", json!({})).await;
}

async fn check_068_versions_before_the_shared_history_are_400(app: TestApp) {
    steps(&app, "steps");
    share(&app, "steps", json!({"history": true, "start_version": 2})).await;
    let reader = Reader::acme(&app).await;
    for what in ["version=1", &format!("timestamp={}", commit_time_text(1, 0))] {
        let answer = reader.ask("steps", &format!("/metadata?{what}"), "").await;
        answer.refused_parameter("You can only query table data since version 2");
    }
    assert_eq!(reader.ask("steps", "/metadata?version=2", "").await.version(), 2);
}

async fn check_069_a_timestamp_is_the_newest_version_until_then(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let ask = async |time: &str| reader.ask("steps", &format!("/metadata?timestamp={time}"), "").await;
    for version in 0..4 {
        assert_eq!(ask(&commit_time_text(version, 0)).await.version(), version);
    }
    assert_eq!(ask(&commit_time_text(1, 59_999)).await.version(), 1);
    ask(&commit_time_text(0, -1)).await.refused(400, "MALFORMED_REQUEST", "before the earliest available version");
    ask(&commit_time_text(3, 1)).await.refused(400, "MALFORMED_REQUEST", "after the latest available version");
    for time in ["2023-11-14", "junk", "1700000000"] {
        ask(time).await.refused_parameter("Invalid timestamp");
    }
}

async fn check_070_a_schema_tells_comments_and_nothing_more_in_parquet_format(app: TestApp) {
    let field = json!({"name": "id", "type": "long", "nullable": true, "metadata": {
        "comment": "the number", "delta.generationExpression": "secret()",
    }});
    let schema = json!({"type": "struct", "fields": [field]}).to_string();
    let mut action = with_properties(
        metadata("m", &[], &[]),
        json!({"delta.constraints.c": "id > 7", "owner": "jane", "delta.enableDeletionVectors": "false"}),
    );
    action["metaData"]["schemaString"] = json!(schema);
    HandWrittenLog::create(&app.folder("m"), protocol(1, 4), action);
    share(&app, "m", json!({})).await;
    let reader = Reader::acme(&app).await;
    let shown = |answer: Value| answer["schemaString"].as_str().unwrap().to_owned();
    let parquet = reader.ask("m", "/metadata", "").await;
    let text = shown(parquet.of_kind("metaData")[0].clone());
    assert!(text.contains("the number") && !text.contains("secret"), "{text}");
    assert_eq!(shown(reader.query("m", json!({})).await.of_kind("metaData")[0].clone()), text);
    let delta = reader.ask("m", "/metadata", DELTA).await;
    assert_eq!(shown(delta.of_kind("metaData")[0]["deltaMetadata"].clone()), schema);
    // What readers do not need stays with the provider, in both formats.
    for answer in [parquet, delta] {
        assert!(!answer.text.contains("constraints") && !answer.text.contains("jane"), "{}", answer.text);
    }
}

async fn check_071_the_change_feed_is_named_where_it_is_shared(app: TestApp) {
    steps(&app, "steps");
    for (history, cdf) in [(true, true), (true, false), (false, false)] {
        share(&app, "steps", json!({"history": history, "cdf": cdf})).await;
        let reader = if history && cdf { Some(Reader::acme(&app).await) } else { None };
        let token = match reader {
            Some(reader) => reader.token,
            None => app.token_for_acme().await["token"].as_str().unwrap().to_owned(),
        };
        let reader = Reader { app: &app, token };
        let metadata = reader.ask("steps", "/metadata", "").await.of_kind("metaData")[0].clone();
        let expected = if cdf { json!({"enableChangeDataFeed": "true"}) } else { json!({}) };
        assert_eq!(metadata["configuration"], expected, "{history} {cdf}");
        app.delete("/shares/insurer/objects/s/steps").await;
        app.delete("/tables/t.steps").await;
        for token in app.get("/recipients/acme/tokens").await.expect(200)["items"].as_array().unwrap() {
            let path = format!("/recipients/acme/tokens/{}/revoke", token["id"].as_str().unwrap());
            app.post(&path, json!({})).await;
        }
    }
}

async fn check_072_size_and_number_of_files_are_right(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for (what, expected) in [("/metadata", (18, 2)), ("/metadata?version=1", (9, 1)), ("/metadata?version=0", (0, 0))] {
        let metadata = reader.ask("steps", what, "").await.of_kind("metaData")[0].clone();
        assert_eq!((&metadata["size"], &metadata["numFiles"]), (&json!(expected.0), &json!(expected.1)), "{what}");
        check_073_only_urls_are_offered(&metadata);
    }
    let queried = reader.query("steps", json!({})).await.of_kind("metaData")[0].clone();
    assert_eq!((&queried["size"], &queried["numFiles"]), (&json!(18), &json!(2)));
}

/// Absent `accessModes` mean URLs only. The location of a directory is never disclosed.
fn check_073_only_urls_are_offered(metadata: &Value) {
    assert!(metadata.get("accessModes").is_none_or(|modes| *modes == json!(["url"])), "{metadata}");
    assert!(metadata.get("location").is_none(), "{metadata}");
}

async fn check_074_no_string_breaks_a_line(app: TestApp) {
    let mut action = metadata("m", &[("a\u{2028}b", "string"), ("c\u{85}d\u{2029}", "string")], &["a\u{2028}b"]);
    action["metaData"]["name"] = json!("x\u{2028}\u{85}y");
    action["metaData"]["description"] = json!("x\u{2029}\u{0b}\u{0c}\u{1c}\u{1d}\u{1e}y");
    let mut log = HandWrittenLog::create(&app.folder("m"), protocol(1, 2), action);
    let mut file = add("a.parquet", 9);
    file["add"]["partitionValues"] = json!({"a\u{2028}b": "v\u{2028}\u{85}"});
    file["add"]["stats"] = json!("{\"numRecords\":1,\"minValues\":{\"c\u{85}d\u{2029}\":\"\u{2028}\"}}");
    log.commit(&[file]);
    share(&app, "m", json!({})).await;
    let reader = Reader::acme(&app).await;
    for capabilities in ["", DELTA] {
        let answer = reader.query_as("m", capabilities, json!({})).await;
        let breaks = ['\u{2028}', '\u{2029}', '\u{85}', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\r'];
        assert!(!answer.text.contains(breaks), "{:?}", answer.text);
        let file = &answer.of_kind("file")[0];
        let values = if capabilities.is_empty() { file } else { &file["deltaSingleAction"]["add"] };
        assert_eq!(values["partitionValues"]["a\u{2028}b"], "v\u{2028}\u{85}");
    }
}
