//! Pages of queries (Delta Sharing protocol, 1.9).

use serde_json::{Value, json};

use super::{ANY_FORMAT, DELTA, Reader, deletion_vectors, mapped_columns, share, steps, with_history};
use crate::support::{
    app::{Answer, TestApp, on_both_databases},
    tables::add,
};

on_both_databases!(
    check_106_pages_of_one_give_the_whole_under_one_head,
    check_107_impossible_page_sizes_are_refused,
    check_108_page_tokens_of_another_question_are_400,
    check_109_a_commit_between_pages_changes_nothing,
    check_111_tables_with_features_are_paged_alike,
    a_following_page_without_a_size_is_the_rest,
    an_ended_grant_ends_a_walk,
);

async fn acme_with_steps(app: &TestApp) -> Reader<'_> {
    steps(app, "steps");
    share(app, "steps", with_history()).await;
    Reader::acme(app).await
}

/// Reads all pages of a query, which is repeated with each token; `between` runs after each page.
async fn walk(
    reader: &Reader<'_>,
    table: &str,
    capabilities: &str,
    body: &Value,
    mut between: impl FnMut(),
) -> Vec<Answer> {
    let mut body = body.clone();
    let mut pages = Vec::new();
    loop {
        let page = reader.query_as(table, capabilities, body.clone()).await;
        let next = page.end().get("nextPageToken").cloned();
        pages.push(page);
        match next {
            Some(token) => body["pageToken"] = token,
            None => return pages,
        }
        assert!(pages.len() < 100, "the pages never end");
        between();
    }
}

fn ids(pages: &[Answer]) -> Vec<String> {
    let mut ids: Vec<String> = pages.iter().flat_map(Answer::file_ids).collect();
    ids.sort();
    ids
}

async fn check_106_pages_of_one_give_the_whole_under_one_head(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for (body, whole) in [
        (json!({"maxFiles": 1}), json!({})),
        (json!({"maxFiles": "1", "version": 2}), json!({"version": 2})),
        (json!({"maxFiles": 1, "startingVersion": 0}), json!({"startingVersion": 0})),
    ] {
        for capabilities in ["", ANY_FORMAT, DELTA] {
            let pages = walk(&reader, "steps", capabilities, &body, || ()).await;
            let whole = reader.query_as("steps", capabilities, whole.clone()).await;
            assert!(pages.len() > 1);
            for page in &pages {
                assert_eq!((page.head(), page.version()), (whole.head(), whole.version()));
                assert_eq!(
                    page.header("delta-sharing-capabilities").contains("delta"),
                    whole.header("delta-sharing-capabilities").contains("delta")
                );
                assert_eq!(page.kinds().last().unwrap(), "endStreamAction");
            }
            let lines = |answer: &Answer| -> Vec<String> {
                let mut ids: Vec<String> = ["file", "add", "remove"]
                    .iter()
                    .flat_map(|kind| answer.of_kind(kind))
                    .map(|line| line["id"].as_str().unwrap().to_owned())
                    .collect();
                ids.sort();
                ids
            };
            let mut paged: Vec<String> = pages.iter().flat_map(lines).collect();
            paged.sort();
            assert_eq!(paged, lines(&whole), "{body}");
            assert!(pages.iter().all(|page| lines(page).len() <= 1));
        }
    }
}

async fn check_107_impossible_page_sizes_are_refused(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    for size in [json!(0), json!(-1), json!("0")] {
        reader.query("steps", json!({"maxFiles": size})).await.refused_parameter("maxFiles must be positive");
    }
    for size in [json!(3_000_000_000_i64), json!("x"), json!([1]), json!(1.5)] {
        reader.query("steps", json!({"maxFiles": size})).await.refusal(400, "MALFORMED_REQUEST");
    }
    let all = reader.query("steps", json!({"maxFiles": i32::MAX})).await;
    assert_eq!(all.file_ids().len(), 2);
    assert!(all.end().get("nextPageToken").is_none());
}

async fn check_108_page_tokens_of_another_question_are_400(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    steps(&app, "twin");
    share(&app, "twin", with_history()).await;
    let token = reader.query("steps", json!({"maxFiles": 1})).await.end()["nextPageToken"].clone();
    let text = token.as_str().unwrap().to_owned();
    assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c)), "`{text}` is not URL-safe");
    for junk in ["x", "AAAA", "{}", "\u{0}", &text[1..], &format!("{text}AA")] {
        let body = json!({"maxFiles": 1, "pageToken": junk});
        reader.query("steps", body).await.refused_parameter("Error decoding the page token");
    }
    let body = json!({"maxFiles": 1, "pageToken": token});
    reader.query("twin", body.clone()).await.refused_parameter("does not match the table being queried");
    for (key, value) in [
        ("predicateHints", json!(["id = 1"])),
        ("jsonPredicateHints", json!("{\"op\":\"isNull\"}")),
        ("version", json!(1)),
        ("startingVersion", json!(1)),
    ] {
        let mut body = body.clone();
        body[key] = value;
        reader.query("steps", body).await.refused_parameter("Query parameter mismatch");
    }
    check_110_no_token_reads_another_version(&reader, &text).await;
    // The page size may change.
    let larger = json!({"maxFiles": 7, "pageToken": token});
    assert_eq!(reader.query("steps", larger).await.status, 200);
    app.pass(3 * 86_400 - 1);
    assert_eq!(reader.query("steps", body.clone()).await.status, 200);
    app.pass(1);
    reader.query("steps", body).await.refused_parameter("The page token has expired");
}

/// A token with any change is refused.
async fn check_110_no_token_reads_another_version(reader: &Reader<'_>, token: &str) {
    for at in (0..token.len()).step_by(3) {
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        let altered = format!("{}{other}{}", &token[..at], &token[at + 1..]);
        let body = json!({"maxFiles": 1, "pageToken": altered});
        reader.query("steps", body).await.refused_parameter("Error decoding the page token");
    }
}

async fn check_109_a_commit_between_pages_changes_nothing(app: TestApp) {
    let mut log = steps(&app, "steps");
    share(&app, "steps", with_history()).await;
    let reader = Reader::acme(&app).await;
    let before = reader.query("steps", json!({})).await;
    let mut next = 0;
    let pages = walk(&reader, "steps", "", &json!({"maxFiles": 1}), || {
        next += 1;
        log.commit(&[add(&format!("0{next}.parquet"), 9), super::removed("c.parquet", 9)]);
    })
    .await;
    assert_eq!(ids(&pages), before.file_ids());
    assert!(pages.iter().all(|page| page.version() == 3));
    let since = json!({"maxFiles": 1, "startingVersion": 1});
    let whole = reader.query("steps", json!({"startingVersion": 1, "endingVersion": 4})).await;
    let pages = walk(&reader, "steps", "", &since, || {
        next += 1;
        log.commit(&[add(&format!("0{next}.parquet"), 9)]);
    })
    .await;
    let count = |kind: &str| pages.iter().map(|page| page.of_kind(kind).len()).sum::<usize>();
    assert_eq!((count("add"), count("remove")), (whole.of_kind("add").len(), whole.of_kind("remove").len()));
}

async fn check_111_tables_with_features_are_paged_alike(app: TestApp) {
    deletion_vectors(&app, "dv");
    mapped_columns(&app, "cm");
    let reader = Reader::acme(&app).await;
    for table in ["dv", "cm"] {
        share(&app, table, with_history()).await;
        let whole = reader.query_as(table, DELTA, json!({})).await;
        let pages = walk(&reader, table, DELTA, &json!({"maxFiles": 1}), || ()).await;
        assert_eq!(ids(&pages), whole.file_ids());
        assert!(pages.iter().all(|page| page.head() == whole.head()));
        check_089_sql_predicates_do_not_hinder_features(&reader, table).await;
    }
}

async fn check_089_sql_predicates_do_not_hinder_features(reader: &Reader<'_>, table: &str) {
    let answer = reader.query_as(table, DELTA, json!({"predicateHints": ["id IS NOT NULL"]})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

async fn a_following_page_without_a_size_is_the_rest(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let first = reader.query("steps", json!({"maxFiles": 1})).await;
    let rest = reader.query("steps", json!({"pageToken": first.end()["nextPageToken"]})).await;
    assert_eq!(rest.kinds(), ["protocol", "metaData", "file"]);
    assert_ne!(first.file_ids(), rest.file_ids());
}

async fn an_ended_grant_ends_a_walk(app: TestApp) {
    let reader = acme_with_steps(&app).await;
    let token = reader.query("steps", json!({"maxFiles": 1})).await.end()["nextPageToken"].clone();
    app.post("/shares/insurer/recipients/acme/revoke", json!({"reason": "over"})).await.expect(200);
    let body = json!({"maxFiles": 1, "pageToken": token});
    reader.query("steps", body).await.refusal(403, "PERMISSION_DENIED");
}
