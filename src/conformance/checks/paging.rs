//! Checks the pages of an answer, and tokens that pin a version.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::conformance::{
    answer::Lines,
    check::{Check, Outcome, check, ensure, fail, skip},
    context::{Context, Subject, body, query, refused, unmoved},
};

/// The most pages of a walk.
const MAX_PAGES: usize = 200;
/// A token that no server issues.
const GARBAGE: &str = "no-token-of-this-server";

pub(super) const CHECKS: &[Check] = &[
    check!(103, "Read Data from a Table", "a refresh token lists the files of its version again", refresh),
    check!(104, "Read Data from a Table", "a refresh token goes with neither versions nor pages", refresh_conflicts),
    check!(
        105,
        "Read Data from a Table",
        "a refresh token that is none, or another table's, is answered 400",
        bad_refresh
    ),
    check!(106, "Read Data from a Table", "pages have the same first lines and make up the whole", pages),
    check!(107, "Read Data from a Table", "a maxFiles that is no number from 1 on is answered 400", bad_max_files),
    check!(
        108,
        "Read Data from a Table",
        "a page token that is none, another's or changed is answered 400",
        bad_page_token
    ),
    check!(111, "Read Data from a Table", "a table that needs features comes in pages, too", advanced_pages),
];

/// Returns a refresh token, and the answer with which it came.
async fn refreshable(ctx: &Context) -> Outcome<(&Subject, Lines, String)> {
    let subject = ctx.any()?;
    let lines = query(ctx, subject, json!({ "includeRefreshToken": true })).await?;
    match lines.end_token("refreshToken").map(str::to_owned) {
        Some(token) => Ok((subject, lines, token)),
        None => skip("the server gives out no refresh tokens"),
    }
}

async fn refresh(ctx: &Context) -> Outcome {
    let (subject, original, token) = refreshable(ctx).await?;
    let again = subject.query(&ctx.client, &body("refreshToken", token)).send().await?.lines()?;
    ensure!(again.version == original.version, "a refreshed answer is of another version");
    ensure!(again.ids()?.is_superset(&original.ids()?), "a refreshed answer lacks files of the original one");
    Ok(())
}

async fn refresh_conflicts(ctx: &Context) -> Outcome {
    let (subject, _, token) = refreshable(ctx).await?;
    let call = |body: Value| subject.query(&ctx.client, &body);
    let version = subject.version();
    refused(vec![
        call(json!({ "includeRefreshToken": true, "version": version })),
        call(json!({ "includeRefreshToken": true, "pageToken": GARBAGE })),
        call(json!({ "refreshToken": token, "version": version })),
        call(json!({ "refreshToken": token, "pageToken": GARBAGE })),
    ])
    .await?;
    if subject.history == Some(true) {
        call(json!({ "includeRefreshToken": false, "version": version })).send().await?.lines()?;
    }
    Ok(())
}

async fn bad_refresh(ctx: &Context) -> Outcome {
    let (subject, _, token) = refreshable(ctx).await?;
    let mut calls = vec![
        subject.query(&ctx.client, &body("refreshToken", GARBAGE)),
        subject.query(&ctx.client, &body("refreshToken", changed(&token))),
    ];
    if let Ok(other) = ctx.other_than(subject) {
        let call = ctx.client.post(format!("{}/query", other.path()), &body("refreshToken", token));
        calls.push(call.capabilities(crate::conformance::context::EVERYTHING));
    }
    refused(calls).await
}

/// Returns `token` with one changed letter in the middle.
fn changed(token: &str) -> String {
    let mut letters: Vec<char> = token.chars().collect();
    let middle = letters.len() / 2;
    if let Some(letter) = letters.get_mut(middle) {
        *letter = if *letter == 'A' { 'B' } else { 'A' };
    }
    letters.into_iter().collect()
}

/// Returns a page size that splits a table into a few pages.
fn page_size(subject: &Subject) -> usize {
    (subject.n_files() / 5).max(1)
}

async fn walk(ctx: &Context, subject: &Subject) -> Outcome<Vec<Lines>> {
    let size = page_size(subject);
    let (mut pages, mut token): (Vec<Lines>, Option<String>) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let body = match &token {
            None => json!({ "maxFiles": size }),
            Some(token) => json!({ "maxFiles": size, "pageToken": token }),
        };
        let page = subject.query(&ctx.client, &body).send().await?.lines()?;
        token = page.end_token("nextPageToken").map(str::to_owned);
        pages.push(page);
        if token.is_none() {
            return Ok(pages);
        }
    }
    if pages.iter().any(|page| page.rest.is_empty()) {
        return fail(format!("{} has empty pages, and no last one after {MAX_PAGES}", subject.table));
    }
    skip(format!("{} comes in more than {MAX_PAGES} pages", subject.table))
}

/// Fails unless `pages` are parts of one answer.
fn expect_one_answer(pages: &[Lines]) -> Outcome<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for page in pages {
        ensure!(page.head == pages[0].head, "{}: a later page has other first lines", page.shown);
        ensure!(page.version == pages[0].version, "{}: a later page has another version", page.shown);
        for id in page.ids()? {
            ensure!(ids.insert(id), "{}: a file is on two pages", page.shown);
        }
    }
    Ok(ids)
}

async fn expect_pages(ctx: &Context, subject: &Subject) -> Outcome {
    let pages = walk(ctx, subject).await?;
    let ids = expect_one_answer(&pages)?;
    let snapshot = subject.snapshot()?;
    if pages[0].version == snapshot.version {
        let all = snapshot.ids()?;
        ensure!(ids == all, "the pages of {} list {} files of {}", subject.table, ids.len(), all.len());
    }
    Ok(())
}

async fn pages(ctx: &Context) -> Outcome {
    expect_pages(ctx, ctx.paged()?).await
}

async fn advanced_pages(ctx: &Context) -> Outcome {
    ctx.paged()?;
    let subject = ctx.advanced()?;
    if subject.n_files() < 2 {
        return skip("the table that needs features has fewer than two files");
    }
    expect_pages(ctx, subject).await
}

async fn bad_max_files(ctx: &Context) -> Outcome {
    let subject = ctx.paged()?;
    let sizes = [json!(0), json!(-1), json!("junk"), json!(3_000_000_000_i64)];
    refused(sizes.map(|size| subject.query(&ctx.client, &json!({ "maxFiles": size }))).to_vec()).await
}

async fn bad_page_token(ctx: &Context) -> Outcome {
    let subject = ctx.paged()?;
    let first = unmoved(query(ctx, subject, json!({ "maxFiles": 1 })).await?, subject.version())?;
    let Some(token) = first.end_token("nextPageToken") else {
        return fail(format!("{} has fewer files than the table, and no nextPageToken", first.shown));
    };
    let page = |token: &str| json!({ "maxFiles": 1, "pageToken": token });
    let other_predicate = json!({ "maxFiles": 1, "pageToken": token, "limitHint": 1_000_000 });
    let mut calls = vec![
        subject.query(&ctx.client, &page(GARBAGE)),
        subject.query(&ctx.client, &page(&changed(token))),
        subject.query(&ctx.client, &other_predicate),
    ];
    if let Ok(other) = ctx.other_than(subject) {
        let call = ctx.client.post(format!("{}/query", other.path()), &page(token));
        let looked_at = ctx.subjects.iter().find(|subject| subject.table == *other);
        calls.push(call.capabilities(looked_at.map_or("", Subject::capabilities)));
    }
    refused(calls).await
}
