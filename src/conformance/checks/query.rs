//! Checks reading the newest version: lines, ids, and hints that may only save work.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::predicates::{equal, literal_type};
use crate::conformance::{
    answer::{Answer, Lines},
    check::{Check, Outcome, check, ensure, fail, skip},
    context::{Context, EVERYTHING, Subject, query, unmoved},
    file::File,
};

pub(super) const CHECKS: &[Check] = &[
    check!(75, "Read Data from a Table", "a query is answered with protocol, metaData and one line a file", snapshot),
    check!(76, "Read Data from a Table", "the same query twice has the same ids and first lines", twice),
    check!(77, "File", "fileidhash is echoed, and ids follow it", id_hash),
    check!(78, "File", "an unknown fileidhash is answered 400", bad_id_hash),
    check!(82, "API Response Format in Parquet", "there is no EndStreamAction that nobody asked for", unsolicited_end),
    check!(83, "API Response Format in Parquet", "an EndStreamAction that is granted is the last line", requested_end),
    check!(85, "Request Body", "limitHint keeps files enough for the limit", limit),
    check!(86, "Request Body", "limitHint counts rows that are not deleted", limit_of_live_rows),
    check!(87, "Request Body", "limitHint with a predicate loses no matching rows", limit_and_predicate),
    check!(88, "SQL Expressions for Filtering", "predicateHints that cannot be understood filter nothing", bad_sql),
    check!(
        89,
        "SQL Expressions for Filtering",
        "predicateHints are taken on a table that needs features",
        advanced_sql
    ),
    check!(114, "Read Data from a Table", "an empty table is answered with two lines", empty),
    check!(129, "Read Data from a Table", "a client that can wait is answered at once or told to wait", asynchronous),
    check!(134, "Read Data from a Table", "an unknown query id is answered 404", unknown_query),
];

async fn snapshot(ctx: &Context) -> Outcome {
    for subject in ctx.subjects.iter().filter(|subject| subject.n_files() > 0).take(4) {
        expect_snapshot(&query(ctx, subject, json!({})).await?)?;
    }
    expect_snapshot(&query(ctx, ctx.any()?, json!({})).await?)
}

fn expect_snapshot(lines: &Lines) -> Outcome {
    let (shown, files) = (&lines.shown, lines.files()?);
    let kinds = lines.rest.iter().all(|line| line.kind == "file");
    ensure!(kinds, "{shown} is answered with lines that are no files");
    ensure!(lines.ids()?.len() == files.len(), "{shown} lists a file twice, or two files with one id");
    for file in &files {
        ensure!(matches!(file.kind.as_str(), "file" | "add"), "{shown} lists a file as {}", file.kind);
        ensure!(file.partition_values.is_some(), "{shown}: a file line has no partitionValues");
        ensure!(file.missing.is_empty(), "{shown}: an add lacks {}", file.missing.join(", "));
    }
    Ok(())
}

async fn twice(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    let first = query(ctx, subject, json!({})).await?;
    let second = unmoved(query(ctx, subject, json!({})).await?, first.version)?;
    ensure!(first.head == second.head, "{} has other first lines the second time", first.shown);
    ensure!(first.ids()? == second.ids()?, "{} lists other ids the second time", first.shown);
    if let Ok(snapshot) = subject.snapshot() {
        ensure!(first.ids()? == snapshot.ids()?, "{} lists other ids than at the beginning of the run", first.shown);
    }
    Ok(())
}

async fn hashed(ctx: &Context, subject: &Subject, hash: &str) -> Outcome<Answer> {
    subject.query(&ctx.client, &json!({})).header("fileidhash", hash).send().await
}

/// Returns a table of a server that supports the `fileidhash` header, which is optional.
async fn hashing(ctx: &Context) -> Outcome<&Subject> {
    let subject = ctx.any()?;
    let answer = hashed(ctx, subject, "parquet").await?;
    answer.expect(&[200])?;
    match answer.header("fileidhash") {
        Some(_) => Ok(subject),
        None => skip("the server does not answer the header fileidhash"),
    }
}

async fn id_hash(ctx: &Context) -> Outcome {
    let subject = hashing(ctx).await?;
    let mut ids = Vec::new();
    for hash in ["parquet", "delta"] {
        let answer = hashed(ctx, subject, hash).await?;
        let echo = answer.header("fileidhash").unwrap_or_default();
        ensure!(echo == hash, "{} for fileidhash `{hash}` echoes `{echo}`", answer.what());
        ids.push(unmoved(answer.lines()?, subject.version())?.ids()?);
    }
    ensure!(ids[0].len() == ids[1].len(), "{} has another number of files by fileidhash", subject.table);
    ensure!(ids[0].is_empty() || ids[0] != ids[1], "{} has the same ids by both kinds of fileidhash", subject.table);
    Ok(())
}

async fn bad_id_hash(ctx: &Context) -> Outcome {
    let subject = hashing(ctx).await?;
    for hash in ["sha512", "md5", ""] {
        let answer = hashed(ctx, subject, hash).await?;
        ensure!(answer.status == 400, "{} for fileidhash `{hash}`, not 400", answer.what());
    }
    hashed(ctx, subject, "PARQUET").await?.expect(&[200]).map(|_| ())
}

async fn unsolicited_end(ctx: &Context) -> Outcome {
    let lines = ctx.any()?.query(&ctx.client, &json!({})).send().await?.lines()?;
    ensure!(lines.end.is_none(), "{} ends with an EndStreamAction; the Python connector breaks on it", lines.shown);
    Ok(())
}

async fn requested_end(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    let base = if subject.capabilities().is_empty() { "responseformat=parquet" } else { EVERYTHING };
    let call = ctx.client.post(subject.path("/query"), &json!({}));
    let answer = call.capabilities(&format!("{base};includeendstreamaction=true")).send().await?;
    let lines = answer.lines()?;
    match (answer.says("includeendstreamaction"), &lines.end) {
        (false, None) => return skip("the server does not offer an EndStreamAction"),
        (false, Some(_)) => {
            return fail(format!("{} has an EndStreamAction that its header does not say", lines.shown));
        }
        (true, None) => return fail(format!("{} lacks the EndStreamAction that its header says", lines.shown)),
        (true, Some(_)) => {}
    }
    let earliest = lines.files()?.iter().filter_map(|file| file.expires_at.as_ref()?.as_i64()).min();
    let said = lines.end.as_ref().and_then(|end| end["minUrlExpirationTimestamp"].as_i64());
    match (said, earliest) {
        (None, Some(_)) => fail(format!("{}: the EndStreamAction has no minUrlExpirationTimestamp", lines.shown)),
        (Some(said), Some(earliest)) if said > earliest => {
            fail(format!("{}: minUrlExpirationTimestamp is later than a URL's expiry", lines.shown))
        }
        _ => Ok(()),
    }
}

/// Fails if `answered` omits files of `all` and is not known to contain `limit` rows.
fn expect_enough(shown: &str, all: &[File], answered: &[File], limit: i64) -> Outcome {
    let ids: BTreeSet<&str> = all.iter().map(|file| file.id.as_str()).collect();
    let known = answered.iter().all(|file| ids.contains(file.id.as_str()));
    ensure!(known, "{shown} lists files that a query without hints does not");
    let rows: i64 = answered.iter().filter_map(File::live_rows).sum();
    let enough = answered.len() == all.len() || rows >= limit;
    ensure!(enough, "{shown} lists {} of {} files with {rows} rows known", answered.len(), all.len());
    Ok(())
}

async fn limit(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    let all = subject.files()?;
    let first = all.first().and_then(File::live_rows).unwrap_or(1);
    for limit in [0, 1, first, first + 1, 1_000_000_000] {
        let lines = query(ctx, subject, json!({ "limitHint": limit })).await?;
        expect_enough(&lines.shown, &all, &lines.files()?, limit)?;
    }
    Ok(())
}

async fn limit_of_live_rows(ctx: &Context) -> Outcome {
    let (subject, snapshot) = ctx.with_vectors()?;
    let all = snapshot.files()?;
    for file in all.iter().filter(|file| file.deletion_vector.is_some()).take(3) {
        let Some(rows) = file.rows() else { continue };
        let call = ctx.client.post(subject.path("/query"), &json!({ "limitHint": rows }));
        let lines = unmoved(call.capabilities(EVERYTHING).send().await?.lines()?, snapshot.version)?;
        expect_enough(&lines.shown, &all, &lines.files()?, rows)?;
    }
    Ok(())
}

async fn limit_and_predicate(ctx: &Context) -> Outcome {
    let subject = ctx.partitioned()?;
    let all = subject.files()?;
    for column in subject.metadata.partition_columns() {
        let Some(kind) = literal_type(&subject.metadata, &column) else { continue };
        let values: BTreeSet<&str> = all.iter().filter_map(|file| file.partition(&column)?.as_str()).collect();
        for value in values.into_iter().filter(|value| !value.is_empty()).take(4) {
            let matching: Vec<File> =
                all.iter().filter(|file| file.partition(&column).is_some_and(|v| v == value)).cloned().collect();
            for limit in [1, 1_000_000_000] {
                let hints = equal(&column, value, kind).to_string();
                let lines = query(ctx, subject, json!({ "limitHint": limit, "jsonPredicateHints": hints })).await?;
                let mut answered = lines.files()?;
                answered.retain(|file| matching.iter().any(|other| other.id == file.id));
                expect_enough(&lines.shown, &matching, &answered, limit)?;
            }
        }
    }
    Ok(())
}

async fn bad_sql(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    let all = subject.snapshot()?.ids()?;
    for hints in [json!(["this is no SQL ((("]), json!([""]), json!(["no_such_column = 1"]), json!(["1 = 1", "'"])] {
        let lines = query(ctx, subject, json!({ "predicateHints": hints })).await?;
        ensure!(lines.ids()? == all, "{} does not list all files", lines.shown);
    }
    Ok(())
}

async fn advanced_sql(ctx: &Context) -> Outcome {
    let subject = ctx.advanced()?;
    query(ctx, subject, json!({ "predicateHints": ["no_such_column = 1"] })).await.map(|_| ())
}

async fn empty(ctx: &Context) -> Outcome {
    let is_empty = |subject: &&Subject| subject.snapshot.as_ref().is_ok_and(|lines| lines.rest.is_empty());
    let claims_empty = |subject: &&Subject| subject.metadata.metadata["numFiles"] == 0;
    let found = ctx.subjects.iter().find(claims_empty).or_else(|| ctx.subjects.iter().find(is_empty));
    let Some(subject) = found else { return skip("no table looked at is empty") };
    let lines = query(ctx, subject, json!({})).await?;
    ensure!(lines.rest.is_empty() && lines.end.is_none(), "{} has more than two lines", lines.shown);
    Ok(())
}

async fn wait_for(ctx: &Context) -> Outcome<Answer> {
    let subject = ctx.any()?;
    let base = if subject.capabilities().is_empty() { "responseformat=parquet" } else { EVERYTHING };
    let body = json!({ "limitHint": 1, "idempotencyKey": "4f7d2f06-conformance-wait" });
    let call = ctx.client.post(subject.path("/query"), &body);
    call.capabilities(&format!("{base};asyncquery=true")).send().await
}

/// Returns the server's status of a query that must be polled, if it answered with one.
fn query_status(answer: &Answer) -> Option<Value> {
    let line: Value = serde_json::from_slice(&answer.body).ok()?;
    line.get("queryStatus").cloned()
}

async fn asynchronous(ctx: &Context) -> Outcome {
    let answer = wait_for(ctx).await?;
    answer.expect(&[200])?;
    match query_status(&answer) {
        Some(status) => {
            ensure!(status["queryId"].is_string(), "{} with a queryStatus without a queryId", answer.what());
            answer.version().map(|_| ())
        }
        None => answer.lines().map(|_| ()),
    }
}

async fn unknown_query(ctx: &Context) -> Outcome {
    if query_status(&wait_for(ctx).await?).is_none() {
        return skip("the server answers every query at once");
    }
    let path = ctx.any()?.path("/queries/no-such-query-4f7d2f06");
    let answer = ctx.client.post(path, &json!({})).send().await?;
    answer.expect(&[404]).map(|_| ())
}
