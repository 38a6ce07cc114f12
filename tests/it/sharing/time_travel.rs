//! Older versions by number and time (Delta Sharing protocol, 1.4 and 1.8).

use std::fs;

use serde_json::json;

use super::{DELTA, Reader, commit_time, commit_time_text, query::redacted, share, steps, with_history};
use crate::support::{
    app::{TestApp, on_both_databases},
    tables::add,
};

on_both_databases!(
    check_098_a_version_has_its_files_and_says_which_it_is,
    check_099_versions_that_cannot_be_read_are_400,
    check_100_a_timestamp_follows_the_same_rules,
    check_101_only_one_moment_can_be_asked_for,
    check_102_a_log_that_lost_commits_is_a_4xx_that_says_so,
    history_that_is_taken_back_is_gone_at_once,
);

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

async fn check_098_a_version_has_its_files_and_says_which_it_is(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for (version, files) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
        for capabilities in ["", DELTA] {
            let answer = reader.query_as("steps", capabilities, json!({"version": version})).await;
            assert_eq!(answer.version(), version);
            assert_eq!(answer.of_kind("metaData")[0]["version"], version);
            let lines = answer.of_kind("file");
            assert_eq!(lines.len(), files);
            for line in lines {
                assert_eq!((&line["version"], &line["timestamp"]), (&json!(version), &json!(commit_time(version))));
            }
        }
    }
    insta::assert_snapshot!("query_version_parquet", redacted(&reader.query("steps", json!({"version": 1})).await));
    let delta = reader.query_as("steps", DELTA, json!({"version": 1})).await;
    insta::assert_snapshot!("query_version_delta", redacted(&delta));
    assert_eq!(reader.query("steps", json!({"version": "1"})).await.version(), 1);
    // Without a version, the newest is returned.
    let newest = reader.query("steps", json!({})).await;
    assert!(newest.of_kind("file").iter().all(|file| file.get("version").is_none()), "{}", newest.text);
}

async fn check_099_versions_that_cannot_be_read_are_400(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let query = async |version| reader.query("steps", json!({"version": version})).await;
    query(json!(-1)).await.refused_parameter("version cannot be negative");
    query(json!("x3")).await.refused(400, "MALFORMED_REQUEST", "Not a numeric value");
    query(json!(1.5)).await.refusal(400, "MALFORMED_REQUEST");
    query(json!(4)).await.refused(400, "MALFORMED_REQUEST", "Cannot load table version 4");
    query(json!(i64::MAX)).await.refused(400, "MALFORMED_REQUEST", "Cannot load table version");
    steps(&app, "closed");
    share(&app, "closed", json!({})).await;
    let answer = reader.query("closed", json!({"version": 3})).await;
    answer.refused_parameter("history sharing is not enabled");
    steps(&app, "late");
    share(&app, "late", json!({"history": true, "start_version": 2})).await;
    let answer = reader.query("late", json!({"version": 1})).await;
    answer.refused_parameter("You can only query table data since version 2");
    assert_eq!(reader.query("late", json!({"version": 2})).await.version(), 2);
}

async fn check_100_a_timestamp_follows_the_same_rules(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let query = async |time: &str| reader.query("steps", json!({"timestamp": time})).await;
    for version in 0..4 {
        let answer = query(&commit_time_text(version, 0)).await;
        assert_eq!(answer.version(), version);
        assert!(answer.of_kind("file").iter().all(|file| file["version"] == version));
    }
    assert_eq!(query(&commit_time_text(1, 59_999)).await.version(), 1);
    query(&commit_time_text(0, -1)).await.refused(400, "MALFORMED_REQUEST", "The provided timestamp");
    query(&commit_time_text(3, 1)).await.refused(400, "MALFORMED_REQUEST", "The provided timestamp");
    query("2022-01-01").await.refused_parameter("Invalid timestamp");
    // An end without a start is ignored.
    assert_eq!(reader.query("steps", json!({"endingVersion": 1})).await.version(), 3);
    assert_eq!(reader.query("steps", json!({"version": 2, "endingVersion": 1})).await.version(), 2);
}

async fn check_101_only_one_moment_can_be_asked_for(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let time = commit_time_text(1, 0);
    for body in [
        json!({"version": 1, "timestamp": time}),
        json!({"version": 1, "startingVersion": 1}),
        json!({"timestamp": time, "startingVersion": 1}),
        json!({"version": 1, "timestamp": time, "startingVersion": 1}),
    ] {
        reader.query("steps", body).await.refused_parameter("Please only provide one of");
    }
}

async fn check_102_a_log_that_lost_commits_is_a_4xx_that_says_so(app: TestApp) {
    let mut log = steps(&app, "steps");
    share(&app, "steps", with_history()).await;
    let reader = Reader::acme(&app).await;
    log.commit(&[add("d.parquet", 9)]);
    fs::remove_file(log.commit_path(2)).unwrap();
    for body in [json!({}), json!({"version": 2}), json!({"version": 3}), json!({"startingVersion": 1})] {
        let answer = reader.query("steps", body.clone()).await;
        assert!(answer.status.is_client_error(), "{body}: {} {}", answer.status, answer.text);
        assert!(!answer.text.contains(app.folder("").to_str().unwrap()), "{}", answer.text);
    }
    for what in
        ["/version", "/metadata", "/changes?startingVersion=0", "/version?startingTimestamp=2023-11-14T22:14:20Z"]
    {
        let answer = reader.ask("steps", what, "").await;
        assert!(answer.status == 200 || answer.status.is_client_error(), "{what}: {} {}", answer.status, answer.text);
    }
}

/// Tokens of an earlier answer do not keep the history open.
async fn history_that_is_taken_back_is_gone_at_once(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let since = json!({"startingVersion": 1, "maxFiles": 1});
    let old = json!({"version": 2, "maxFiles": 1});
    let go_on = async |body: &serde_json::Value| {
        let token = reader.query("steps", body.clone()).await.end()["nextPageToken"].clone();
        let mut body = body.clone();
        body["pageToken"] = token;
        body
    };
    let (since, old) = (go_on(&since).await, go_on(&old).await);
    assert_eq!(reader.query("steps", since.clone()).await.status, 200);
    assert_eq!(reader.query("steps", old.clone()).await.status, 200);
    app.patch("/shares/insurer/objects/s/steps", json!({"start_version": 3})).await.expect(200);
    for body in [&since, &old] {
        reader.query("steps", body.clone()).await.refused_parameter("since version 3");
    }
    app.patch("/shares/insurer/objects/s/steps", json!({"history": false, "cdf": false})).await.expect(200);
    for body in [&since, &old] {
        reader.query("steps", body.clone()).await.refused_parameter("history sharing is not enabled");
    }
}
