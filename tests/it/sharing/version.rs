//! A table's version (Delta Sharing protocol, 1.2 and 1.8).

use http::Method;
use serde_json::json;

use super::{
    COLUMNS, FIRST_COMMIT, Reader, commit_time, commit_time_text, date_commit, share, steps, table_path, with_history,
    with_properties,
};
use crate::support::{
    app::{TestApp, on_both_databases},
    tables::{HandWrittenLog, add, metadata},
};

on_both_databases!(
    check_042_the_newest_version_is_in_the_header,
    check_044_head_of_an_unknown_table_is_404_without_a_body,
    check_046_without_history_even_a_nonsensical_time_is_refused_for_history,
    without_history_whatever_else_is_wrong_is_told_later,
    check_047_a_time_that_is_none_is_refused,
    check_048_a_time_before_the_first_commit_is_the_first_version,
    check_049_a_timestamp_that_hits_a_commit_is_that_commit,
    check_051_a_time_between_two_commits_is_the_later_one,
    check_052_a_time_after_the_newest_commit_is_refused,
    check_053_times_may_have_offsets_and_fractions,
    check_054_a_version_before_the_shared_history_is_refused_with_both_numbers,
    check_055_a_new_commit_shows_in_the_next_call,
    commits_that_date_themselves_are_found_by_their_own_times,
    file_times_that_run_backwards_are_made_to_grow,
);

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

/// The path that asks for the first version at or after a time.
fn since(time: &str) -> String {
    format!("/version?startingTimestamp={}", time.replace('+', "%2B"))
}

async fn check_042_the_newest_version_is_in_the_header(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let answer = reader.ask("steps", "/version", "").await;
    assert_eq!((answer.version(), answer.text.as_str()), (3, ""));
    check_043_head_of_the_table_says_the_same(&reader).await;
    check_045_an_unknown_table_is_404(&reader).await;
}

async fn check_043_head_of_the_table_says_the_same(reader: &Reader<'_>) {
    let answer = reader.send(Method::HEAD, &table_path("steps", ""), &[], "").await;
    assert_eq!((answer.version(), answer.text.as_str()), (3, ""));
    let path = table_path("steps", &format!("?startingTimestamp={}", commit_time_text(1, 0)));
    assert_eq!(reader.send(Method::HEAD, &path, &[], "").await.version(), 1);
    assert_eq!(reader.send(Method::HEAD, &table_path("steps", "/version"), &[], "").await.version(), 3);
}

async fn check_044_head_of_an_unknown_table_is_404_without_a_body(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let answer = reader.send(Method::HEAD, &table_path("none", ""), &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (404, ""));
}

async fn check_045_an_unknown_table_is_404(reader: &Reader<'_>) {
    let answer = reader.ask("none", "/version", "").await;
    answer.refused(404, "RESOURCE_DOES_NOT_EXIST", "[Share/Schema/Table] 'insurer/s/none' does not exist");
}

async fn check_046_without_history_even_a_nonsensical_time_is_refused_for_history(app: TestApp) {
    steps(&app, "steps");
    share(&app, "steps", json!({})).await;
    let reader = Reader::acme(&app).await;
    for time in ["junk", &commit_time_text(1, 0)] {
        reader.ask("steps", &since(time), "").await.refused_parameter("history sharing is not enabled");
    }
    assert_eq!(reader.ask("steps", "/version", "").await.version(), 3);
}

/// The same for all other requests about a table's past.
async fn without_history_whatever_else_is_wrong_is_told_later(app: TestApp) {
    steps(&app, "steps");
    share(&app, "steps", json!({})).await;
    let reader = Reader::acme(&app).await;
    for body in [json!({"timestamp": "abc"}), json!({"startingVersion": 3, "endingVersion": 1})] {
        reader.query("steps", body).await.refused_parameter("history sharing is not enabled");
    }
    reader.ask("steps", "/metadata?timestamp=abc", "").await.refused_parameter("history sharing is not enabled");
    for parameters in [
        "",
        "?startingVersion=x",
        "?startingTimestamp=abc",
        "?startingVersion=0&startingTimestamp=abc",
        "?startingVersion=0&endingVersion=-1",
    ] {
        let answer = reader.ask("steps", &format!("/changes{parameters}"), "").await;
        answer.refused_parameter("cdf is not enabled on table insurer.s.steps");
    }
    // Faults that do not depend on what is shared come first.
    reader.ask("steps", "/changes?maxFiles=0", "").await.refused_parameter("maxFiles must be positive");
    reader.query("steps", json!({"version": -1})).await.refused_parameter("cannot be negative");
    reader.ask("none", "/changes", "").await.refused(404, "RESOURCE_DOES_NOT_EXIST", "does not exist");
}

async fn check_047_a_time_that_is_none_is_refused(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for time in ["abc", "2022-01-01", "2022-01-01T00:00:00", "1700000000000", "2022-13-01T00:00:00Z", "%00"] {
        reader.ask("steps", &since(time), "").await.refused_parameter("Invalid startingTimestamp");
    }
}

async fn check_048_a_time_before_the_first_commit_is_the_first_version(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    assert_eq!(reader.ask("steps", &since("2001-01-01T00:00:00Z"), "").await.version(), 0);
    assert_eq!(reader.ask("steps", &since("0001-01-01T00:00:00Z"), "").await.version(), 0);
}

async fn check_049_a_timestamp_that_hits_a_commit_is_that_commit(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for version in 0..4 {
        assert_eq!(reader.ask("steps", &since(&commit_time_text(version, 0)), "").await.version(), version);
    }
    check_050_a_timestamp_that_hits_the_newest_commit_is_the_newest(&reader).await;
}

async fn check_050_a_timestamp_that_hits_the_newest_commit_is_the_newest(reader: &Reader<'_>) {
    assert_eq!(reader.ask("steps", &since(&commit_time_text(3, 0)), "").await.version(), 3);
}

async fn check_051_a_time_between_two_commits_is_the_later_one(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for version in 0..3 {
        for plus in [1, 30_000, 59_999] {
            let answer = reader.ask("steps", &since(&commit_time_text(version, plus)), "").await;
            assert_eq!(answer.version(), version + 1, "{plus} ms after {version}");
        }
    }
}

async fn check_052_a_time_after_the_newest_commit_is_refused(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for time in [commit_time_text(3, 1), "9999-12-31T23:59:59Z".into()] {
        let message = reader.ask("steps", &since(&time), "").await.refusal(400, "MALFORMED_REQUEST");
        assert!(message.contains("The provided timestamp"), "{message}");
    }
}

async fn check_053_times_may_have_offsets_and_fractions(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    // Commit 1 is at 22:14:20 UTC on 14 November 2023.
    for (time, version) in [
        ("2023-11-14T14:14:20-08:00", 1),
        ("2023-11-14T14:14:20.000-08:00", 1),
        ("2023-11-14T14:14:20.001-08:00", 2),
        ("2023-11-15T00:14:20+02:00", 1),
        ("2023-11-14T22:14:20.000000Z", 1),
    ] {
        assert_eq!(reader.ask("steps", &since(time), "").await.version(), version, "{time}");
    }
}

async fn check_054_a_version_before_the_shared_history_is_refused_with_both_numbers(app: TestApp) {
    steps(&app, "steps");
    share(&app, "steps", json!({"history": true, "start_version": 2})).await;
    let reader = Reader::acme(&app).await;
    let answer = reader.ask("steps", &since(&commit_time_text(1, 0)), "").await;
    answer.refused_parameter("You can only query table data since version 2");
    answer.refused_parameter("corresponds to 1");
    assert_eq!(reader.ask("steps", &since(&commit_time_text(2, 0)), "").await.version(), 2);
}

async fn check_055_a_new_commit_shows_in_the_next_call(app: TestApp) {
    let mut log = steps(&app, "steps");
    share(&app, "steps", with_history()).await;
    let reader = Reader::acme(&app).await;
    assert_eq!(reader.ask("steps", "/version", "").await.version(), 3);
    log.commit(&[add("d.parquet", 9)]);
    date_commit(&log, 4, commit_time(4));
    assert_eq!(reader.ask("steps", "/version", "").await.version(), 4);
    assert_eq!(reader.query("steps", json!({})).await.version(), 4);
    assert_eq!(reader.ask("steps", &since(&commit_time_text(4, 0)), "").await.version(), 4);
}

/// A log whose commits contain their own times, which differ from their files' times.
async fn commits_that_date_themselves_are_found_by_their_own_times(app: TestApp) {
    let protocol = json!({"protocol": {
        "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["inCommitTimestamp"],
    }});
    let properties = json!({"delta.enableInCommitTimestamps": "true"});
    let metadata = with_properties(metadata("ict", &COLUMNS, &[]), properties);
    let info = |version| json!({"commitInfo": {"inCommitTimestamp": commit_time(version), "operation": "WRITE"}});
    let mut log = HandWrittenLog::create(&app.folder("ict"), protocol, metadata);
    let text = std::fs::read_to_string(log.commit_path(0)).unwrap();
    std::fs::write(log.commit_path(0), format!("{}\n{text}", info(0))).unwrap();
    for version in 1..200 {
        log.commit(&[info(version), add(&format!("{version}.parquet"), 9)]);
    }
    share(&app, "ict", with_history()).await;
    let reader = Reader::acme(&app).await;
    for version in [0, 1, 99, 150, 199] {
        assert_eq!(reader.ask("ict", &since(&commit_time_text(version, 0)), "").await.version(), version);
        let query = json!({"timestamp": commit_time_text(version, 59_999)});
        let expected = if version == 199 { 400 } else { 200 };
        assert_eq!(reader.query("ict", query).await.status, expected);
    }
    let files = reader.query("ict", json!({"version": 7})).await.of_kind("file");
    assert!(files.iter().all(|file| file["timestamp"] == commit_time(7)), "{files:?}");
}

async fn file_times_that_run_backwards_are_made_to_grow(app: TestApp) {
    let log = steps(&app, "steps");
    for version in 0..4 {
        date_commit(&log, version, FIRST_COMMIT);
    }
    share(&app, "steps", with_history()).await;
    let reader = Reader::acme(&app).await;
    for version in 0..4 {
        let plus = i64::try_from(version).unwrap();
        assert_eq!(reader.ask("steps", &since(&commit_time_text(0, plus)), "").await.version(), version);
    }
    let files = reader.query("steps", json!({"version": 2})).await.of_kind("file");
    assert_eq!(files[0]["timestamp"], FIRST_COMMIT + 2);
}
