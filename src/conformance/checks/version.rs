//! Checks the version of a table, now and at a given time.

use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};

use crate::conformance::{
    check::{Check, Outcome, check, ensure, fail, skip},
    context::{Context, Subject},
};

pub(super) const CHECKS: &[Check] = &[
    check!(42, "Query Table Version", "a table's version is a header of an empty answer", version),
    check!(43, "Query Table Version", "HEAD of a table has the same header", head),
    check!(44, "Query Table Version", "HEAD of an unknown table is answered 404 without a body", head_unknown),
    check!(45, "Query Table Version", "the version of an unknown table is answered 404", unknown),
    check!(46, "Query Table Version", "startingTimestamp without shared history is answered 400", without_history),
    check!(47, "Timestamp Format", "a startingTimestamp that is no time is answered 400", junk_timestamp),
    check!(48, "Query Table Version", "a time before the first commit means the first version", before_first),
    check!(49, "Query Table Version", "the time of a commit means its version", exact),
    check!(50, "Query Table Version", "the time of the newest commit means the newest version", exact_latest),
    check!(51, "Query Table Version", "a time between two commits means the later one", between),
    check!(52, "Query Table Version", "a time after the newest commit is answered 400", after_latest),
    check!(53, "Timestamp Format", "a time may have an offset and fractions", offsets),
];

/// Formats a time in milliseconds since 1970 as in the protocol.
pub(super) fn timestamp(milliseconds: i64) -> Outcome<String> {
    let time = DateTime::<Utc>::from_timestamp_millis(milliseconds);
    time.map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
        .map_or_else(|| fail("a commit's timestamp is no time in milliseconds"), Ok)
}

async fn version(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    let answer = ctx.client.get(subject.path("/version")).send().await?;
    let version = answer.expect(&[200, 204])?.version()?;
    ensure!(answer.body.is_empty(), "{} with a body", answer.what());
    ensure!(
        version >= subject.version(),
        "{} with version {version}, but the metadata is of version {}",
        answer.what(),
        subject.version()
    );
    // A commit may have been made in between. If the routes disagree, the metadata is still older now.
    if version > subject.version() {
        let again = ctx.client.get(subject.path("/metadata")).capabilities(subject.capabilities()).send().await?;
        let metadata = again.lines()?.version;
        ensure!(metadata >= version, "{} with version {version}, the metadata with {metadata}", answer.what());
    }
    Ok(())
}

async fn head(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    let answer = ctx.client.head(subject.path("")).send().await?;
    if matches!(answer.status, 404 | 405 | 501) {
        return skip("the server does not have this deprecated route");
    }
    let version = answer.expect(&[200, 204])?.version()?;
    ensure!(version >= subject.version(), "{} with an older version than the metadata", answer.what());
    Ok(())
}

async fn head_unknown(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    if ctx.client.head(subject.path("")).send().await?.status >= 400 {
        return skip("the server does not have this deprecated route");
    }
    let answer = ctx.client.head(subject.path("-no-such-table")).send().await?;
    answer.expect(&[404])?;
    ensure!(answer.body.is_empty(), "{} with a body", answer.what());
    Ok(())
}

async fn unknown(ctx: &Context) -> Outcome {
    let answer = ctx.client.get(ctx.any()?.path("-no-such-table/version")).send().await?;
    answer.expect(&[404])?.expect_error_body()
}

async fn without_history(ctx: &Context) -> Outcome {
    let subject = ctx.without_history()?;
    for text in ["2022-01-01T00:00:00Z", "junk"] {
        let answer = ctx.client.get(subject.path("/version")).query("startingTimestamp", text).send().await?;
        answer.expect(&[400])?;
    }
    Ok(())
}

async fn junk_timestamp(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    for text in ["abc", "2022-13-01T00:00:00Z"] {
        let answer = ctx.client.get(subject.path("/version")).query("startingTimestamp", text).send().await?;
        answer.expect(&[400])?;
    }
    Ok(())
}

/// Returns the version for the time in `text`.
async fn version_at(ctx: &Context, subject: &Subject, text: &str) -> Outcome<i64> {
    let answer = ctx.client.get(subject.path("/version")).query("startingTimestamp", text).send().await?;
    answer.expect(&[200, 204])?.version()
}

async fn before_first(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    let call = ctx.client.get(subject.path("/version")).query("startingTimestamp", "1970-01-01T00:00:00Z");
    let answer = call.send().await?;
    if answer.status == 400 && answer.said.contains("since version") {
        return skip("the table's history is not shared from its first version on");
    }
    let first = answer.expect(&[200, 204])?.version()?;
    ensure!(first <= subject.version(), "{} with a version after the newest", answer.what());
    let earlier = subject.commits().into_keys().find(|version| *version < first);
    match earlier {
        Some(version) => fail(format!("{} with version {first}, but version {version} can be read", answer.what())),
        None => Ok(()),
    }
}

/// Fails unless the commit time of each version gives that version.
async fn expect_exact(ctx: &Context, subject: &Subject, commits: Vec<(i64, i64)>) -> Outcome {
    if commits.is_empty() {
        return skip(format!("the lines of {} do not give away its commit times", subject.table));
    }
    for (version, milliseconds) in commits {
        let text = timestamp(milliseconds)?;
        let found = version_at(ctx, subject, &text).await?;
        ensure!(found == version, "{}: {text}, the time of version {version}, means {found}", subject.table);
    }
    Ok(())
}

async fn exact(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    let older = subject.commits().into_iter().filter(|(version, _)| *version < subject.version());
    expect_exact(ctx, subject, older.take(3).collect()).await
}

async fn exact_latest(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    let latest = subject.commits().into_iter().filter(|(version, _)| *version == subject.version());
    expect_exact(ctx, subject, latest.collect()).await
}

async fn between(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    let older = subject.commits().into_iter().filter(|(version, _)| *version < subject.version());
    let older: Vec<(i64, i64)> = older.take(3).collect();
    if older.is_empty() {
        return skip(format!("the lines of {} do not give away the time of an older commit", subject.table));
    }
    for (version, milliseconds) in older {
        let text = timestamp(milliseconds + 1)?;
        let found = version_at(ctx, subject, &text).await?;
        let right = version + 1;
        ensure!(found == right, "{}: {text}, just after version {version}, means {found}", subject.table);
    }
    Ok(())
}

async fn after_latest(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    let call = ctx.client.get(subject.path("/version")).query("startingTimestamp", "2999-01-01T00:00:00Z");
    call.send().await?.expect(&[400]).map(|_| ())
}

async fn offsets(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    // Uses the newest known commit: a server that ignores the offset returns another version, or none.
    let Some((_, milliseconds)) = subject.commits().pop_last() else {
        return skip(format!("the lines of {} do not give away its commit times", subject.table));
    };
    let plain = version_at(ctx, subject, &timestamp(milliseconds)?).await?;
    for hours in [-8, 8] {
        let offset = FixedOffset::east_opt(hours * 3600);
        let time = offset.zip(DateTime::<Utc>::from_timestamp_millis(milliseconds));
        let Some((offset, time)) = time else { continue };
        let text = time.with_timezone(&offset).to_rfc3339_opts(SecondsFormat::Micros, true);
        let found = version_at(ctx, subject, &text).await?;
        ensure!(found == plain, "{}: {text} means version {found}, the same time in UTC {plain}", subject.table);
    }
    Ok(())
}
