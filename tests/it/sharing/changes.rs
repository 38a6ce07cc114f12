//! The change data feed (Delta Sharing protocol, 1.5 and 2.8).

use serde_json::{Value, json};

use super::{
    COLUMNS, DELTA, Reader, commit_time, commit_time_text, date_commits, query::redacted, removed, share, steps,
    with_history, with_properties,
};
use crate::support::{
    app::{Answer, TestApp, on_both_databases},
    tables::{HandWrittenLog, add, metadata, protocol},
};

on_both_databases!(
    check_122_changes_are_change_files_where_there_are_any,
    check_123_historical_metadata_is_told_when_asked,
    check_124_a_merge_that_changed_nothing_has_no_files,
    check_125_what_cannot_be_asked_is_400,
    check_126_times_include_the_commits_they_hit,
    check_127_changes_are_paged_under_one_head,
);

/// A table with a change feed: 1 adds `a`; 2 updates with a change file; 3 removes `a`; 4 adds a column.
fn feed(app: &TestApp, name: &str) -> HandWrittenLog {
    let mut log = HandWrittenLog::create(&app.folder(name), protocol(1, 4), feed_metadata(&COLUMNS, "true"));
    log.commit(&[add("a.parquet", 9)]);
    let change =
        json!({"cdc": {"path": "_change_data/u.parquet", "partitionValues": {}, "size": 22, "dataChange": false}});
    log.commit(&[add("b.parquet", 9), change]);
    log.commit(&[removed("a.parquet", 9)]);
    log.commit(&[feed_metadata(&[COLUMNS[0], COLUMNS[1], ("more", "string")], "true"), add("d.parquet", 9)]);
    date_commits(&log, 5);
    log
}

fn feed_metadata(columns: &[(&str, &str)], enabled: &str) -> Value {
    with_properties(metadata("feed-id", columns, &[]), json!({"delta.enableChangeDataFeed": enabled}))
}

async fn acme_with_feed(app: &TestApp) -> Reader<'_> {
    feed(app, "feed");
    share(app, "feed", with_history()).await;
    Reader::acme(app).await
}

async fn changes(reader: &Reader<'_>, parameters: &str) -> Answer {
    reader.ask("feed", &format!("/changes?{parameters}"), "").await
}

async fn check_122_changes_are_change_files_where_there_are_any(app: TestApp) {
    let reader = acme_with_feed(&app).await;
    let answer = changes(&reader, "startingVersion=0&endingVersion=3").await;
    assert_eq!(answer.kinds(), ["protocol", "metaData", "add", "cdf", "remove"]);
    assert_eq!(answer.version(), 0);
    assert_eq!(answer.header("delta-sharing-capabilities"), "responseformat=parquet");
    for (kind, version) in [("add", 1), ("cdf", 2), ("remove", 3)] {
        let line = &answer.of_kind(kind)[0];
        assert_eq!((&line["version"], &line["timestamp"]), (&json!(version), &json!(commit_time(version))));
    }
    insta::assert_snapshot!("changes_parquet", redacted(&answer));
    let answer = reader.ask("feed", "/changes?startingVersion=0&endingVersion=3", DELTA).await;
    insta::assert_snapshot!("changes_delta", redacted(&answer));
}

async fn check_123_historical_metadata_is_told_when_asked(app: TestApp) {
    let reader = acme_with_feed(&app).await;
    for yes in ["true", "True", "TRUE"] {
        let answer = changes(&reader, &format!("startingVersion=3&includeHistoricalMetadata={yes}")).await;
        assert_eq!(answer.kinds(), ["protocol", "metaData", "remove", "metaData", "add"]);
        let told = answer.of_kind("metaData");
        assert_eq!((&told[0]["version"], &told[1]["version"]), (&json!(3), &json!(4)));
        assert!(!told[0]["schemaString"].as_str().unwrap().contains("more"));
    }
    for no in ["includeHistoricalMetadata=false", "includeHistoricalMetadata=junk", ""] {
        let answer = changes(&reader, &format!("startingVersion=3&{no}")).await;
        assert_eq!(answer.kinds(), ["protocol", "metaData", "remove", "add"]);
        let told = answer.of_kind("metaData");
        assert_eq!(told[0]["version"], 4);
        assert!(told[0]["schemaString"].as_str().unwrap().contains("more"));
    }
    let protocols = reader.ask("feed", "/changes?startingVersion=1&includeHistoricalProtocol=True", DELTA).await;
    assert!(protocols.of_kind("protocol")[0]["version"].is_u64(), "{}", protocols.text);
}

async fn check_124_a_merge_that_changed_nothing_has_no_files(app: TestApp) {
    let mut log = feed(&app, "feed");
    let merge = |updated: &str| {
        json!({"commitInfo": {"operation": "MERGE", "operationMetrics": {
            "numTargetRowsInserted": "0", "numTargetRowsUpdated": updated, "numTargetRowsDeleted": "0",
        }}})
    };
    log.commit(&[merge("0"), add("e.parquet", 9), removed("d.parquet", 9)]);
    log.commit(&[merge("1"), add("f.parquet", 9), removed("e.parquet", 9)]);
    share(&app, "feed", with_history()).await;
    let reader = Reader::acme(&app).await;
    let answer = changes(&reader, "startingVersion=5").await;
    let versions: Vec<Value> = answer.lines()[2..]
        .iter()
        .map(|line| line.as_object().unwrap().values().next().unwrap()["version"].clone())
        .collect();
    assert_eq!(versions, [6, 6]);
}

async fn check_125_what_cannot_be_asked_is_400(app: TestApp) {
    let mut log = feed(&app, "feed");
    share(&app, "feed", with_history()).await;
    let reader = Reader::acme(&app).await;
    let time = commit_time_text(1, 0);
    for (parameters, text) in [
        ("", "No startingVersion or startingTimestamp provided"),
        ("endingVersion=1", "No startingVersion or startingTimestamp provided"),
        (&*format!("startingVersion=1&startingTimestamp={time}"), "Multiple starting arguments"),
        (&*format!("startingVersion=1&endingVersion=2&endingTimestamp={time}"), "Multiple ending arguments"),
        ("startingVersion=x", "expected a number"),
        ("startingVersion=1&endingVersion=y", "expected a number"),
        ("startingVersion=-1", "cannot be negative"),
        ("startingVersion=1&endingVersion=-2", "cannot be negative"),
        ("startingTimestamp=2022-01-01", "Invalid startingTimestamp"),
        ("startingVersion=2&endingVersion=1", "CDF range from start"),
        ("startingVersion=5", "Start version cannot be greater than the latest version"),
        ("startingVersion=1&maxFiles=0", "maxFiles must be positive"),
        ("startingVersion=1&maxFiles=x", "expected a number"),
        ("startingVersion=1&pageToken=junk", "Error decoding the page token"),
    ] {
        changes(&reader, parameters).await.refused_parameter(text);
    }
    // A range beyond the newest version is cut off.
    assert_eq!(changes(&reader, "startingVersion=3&endingVersion=99").await.version(), 3);

    log.commit(&[feed_metadata(&COLUMNS, "false")]);
    changes(&reader, "startingVersion=3").await.refused_parameter("change data was not recorded for version 5");
    assert_eq!(changes(&reader, "startingVersion=3&endingVersion=4").await.version(), 3);

    steps(&app, "late");
    share(&app, "late", json!({"history": true, "cdf": true, "start_version": 2})).await;
    let answer = reader.ask("late", "/changes?startingVersion=1", "").await;
    answer.refused_parameter("You can only query table changes since version 2");
    for (name, options) in [("closed", json!({})), ("quiet", json!({"history": true, "start_version": 0}))] {
        steps(&app, name);
        share(&app, name, options).await;
        let answer = reader.ask(name, "/changes?startingVersion=3", "").await;
        answer.refused_parameter(&format!("cdf is not enabled on table insurer.s.{name}"));
    }
}

async fn check_126_times_include_the_commits_they_hit(app: TestApp) {
    let reader = acme_with_feed(&app).await;
    let versions = |answer: Answer| -> Vec<u64> {
        let mut versions: Vec<u64> = answer.lines()[2..]
            .iter()
            .filter_map(|line| line.as_object().unwrap().values().next().unwrap()["version"].as_u64())
            .collect();
        versions.dedup();
        versions
    };
    for (start, end, expected) in
        [((1, 0), (3, 0), vec![1, 2, 3]), ((1, 1), (3, -1), vec![2]), ((1, 1), (3, 59_999), vec![2, 3])]
    {
        let (start, end) = (commit_time_text(start.0, start.1), commit_time_text(end.0, end.1));
        let answer = changes(&reader, &format!("startingTimestamp={start}&endingTimestamp={end}")).await;
        assert_eq!(versions(answer), expected, "{start} {end}");
    }
    // A time before the first commit means the first commit, as the protocol says (the reference server differs).
    let early = changes(&reader, "startingTimestamp=2001-01-01T00:00:00Z&endingVersion=1").await;
    assert_eq!(early.version(), 0);
    let late = changes(&reader, &format!("startingTimestamp={}", commit_time_text(4, 1))).await;
    late.refused(400, "MALFORMED_REQUEST", "The provided timestamp");
    let before = changes(&reader, "startingVersion=0&endingTimestamp=2001-01-01T00:00:00Z").await;
    assert_eq!(before.status, 400);
}

async fn check_127_changes_are_paged_under_one_head(app: TestApp) {
    let mut log = feed(&app, "feed");
    share(&app, "feed", with_history()).await;
    let reader = Reader::acme(&app).await;
    for asked in ["startingVersion=0", "startingVersion=1&includeHistoricalMetadata=true"] {
        let whole = changes(&reader, asked).await;
        let mut pages = Vec::new();
        let mut token = String::new();
        loop {
            let page = changes(&reader, &format!("{asked}&maxFiles=1{token}")).await;
            assert_eq!((page.head(), page.version()), (whole.head(), whole.version()));
            let next = page.end().get("nextPageToken").cloned();
            pages.push(page);
            let Some(next) = next else { break };
            // Spark puts the token into the URL unencoded.
            token = format!("&pageToken={}", next.as_str().unwrap());
            log.commit(&[add(&format!("later-{}.parquet", pages.len()), 9)]);
        }
        assert!(pages.len() > 1);
        let told = |answer: &Answer| -> Vec<String> {
            let lines = answer.lines();
            let lines = lines[2..].iter().filter(|line| line.get("endStreamAction").is_none());
            lines
                .map(|line| {
                    let (kind, said) = line.as_object().unwrap().iter().next().unwrap();
                    format!("{kind} {} {}", said["version"], said["id"])
                })
                .collect()
        };
        let paged: Vec<String> = pages.iter().flat_map(told).collect();
        assert_eq!(paged, told(&whole), "{asked}");
    }
}
