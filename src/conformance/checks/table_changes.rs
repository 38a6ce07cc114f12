//! Checks queries from a starting version, which list the files added and removed since.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::conformance::{
    answer::{Format, Lines},
    check::{Check, Outcome, check, ensure, skip},
    client::Call,
    context::{Context, EVERYTHING, Kind, Subject, refused},
};

pub(super) const CHECKS: &[Check] = &[
    check!(116, "Read Data from a Table", "a query from a version lists what was added and removed since", since),
    check!(117, "Read Data from a Table", "a version without data is two lines", without_data),
    check!(118, "Read Data from a Table", "later metadata stands among the files, with its version", later_metadata),
    check!(119, "Request Body", "a range that cannot be had is answered 400", bad_range),
    check!(120, "API Response Format in Delta", "a table that needs features answers from a version, too", advanced),
    check!(121, "Request Body", "includeHistoricalProtocol stamps the protocol, in delta format only", protocol),
];

/// Fails unless each line after the first two belongs to a version of the range, and each file line has a timestamp.
pub(super) fn expect_range(lines: &Lines, start: i64, end: i64, kinds: &[&str]) -> Outcome {
    let shown = &lines.shown;
    ensure!(lines.version == start, "{shown}: Delta-Table-Version is {}, not {start}", lines.version);
    for file in lines.files()? {
        ensure!(kinds.contains(&file.kind.as_str()), "{shown} lists a file as `{}`", file.kind);
        let Some(version) = file.version else {
            ensure!(false, "{shown}: a file line has no version");
            continue;
        };
        ensure!((start..=end).contains(&version), "{shown}: a file line is of version {version}");
        ensure!(file.timestamp.is_some(), "{shown}: a file line has no timestamp");
        ensure!(file.partition_values.is_some(), "{shown}: a file line has no partitionValues");
    }
    for line in lines.rest.iter().filter(|line| line.kind == "metaData" || line.kind == "protocol") {
        let version = line.value["version"].as_i64();
        let later = version.is_some_and(|version| version > start && version <= end);
        ensure!(later, "{shown}: a later {} line has no version after {start}", line.kind);
    }
    Ok(())
}

async fn range(ctx: &Context, subject: &Subject, start: i64, end: i64) -> Outcome<Lines> {
    let body = json!({ "startingVersion": start, "endingVersion": end });
    subject.query(&ctx.client, &body).send().await?.lines()
}

async fn since(ctx: &Context) -> Outcome {
    let (subject, window) = ctx.with_window()?;
    let lines = range(ctx, subject, window.start, subject.version()).await?;
    expect_range(&lines, window.start, subject.version(), &["add", "remove"])?;
    let version = &lines.metadata["version"];
    ensure!(*version == window.start, "{}: the metaData's version is {version}, not {}", lines.shown, window.start);
    // A part of the range must list the same files as the whole range does for it.
    if subject.version() > window.start {
        let middle = window.start + 1;
        let part = range(ctx, subject, middle, subject.version()).await?;
        expect_range(&part, middle, subject.version(), &["add", "remove"])?;
        let later: BTreeSet<String> =
            lines.files()?.into_iter().filter(|file| file.version >= Some(middle)).map(|file| file.id).collect();
        ensure!(part.ids()? == later, "{} lists other files than the same part of a longer range", part.shown);
    }
    Ok(())
}

async fn without_data(ctx: &Context) -> Outcome {
    let (subject, window) = ctx.with_window()?;
    let with_lines: BTreeSet<i64> =
        window.lines.rest.iter().filter_map(|line| line.value["version"].as_i64()).collect();
    let Some(version) = (window.start + 1..=subject.version()).find(|version| !with_lines.contains(version)) else {
        return skip(format!("every version of {} has data or metadata", subject.table));
    };
    let lines = range(ctx, subject, version, version).await?;
    ensure!(lines.rest.is_empty(), "{} has more than two lines", lines.shown);
    Ok(())
}

async fn later_metadata(ctx: &Context) -> Outcome {
    let windows = ctx.subjects.iter().filter_map(|subject| Some((subject, subject.window.as_ref()?)));
    for (subject, window) in windows {
        if window.lines.rest.iter().any(|line| line.kind == "metaData") {
            let lines = range(ctx, subject, window.start, subject.version()).await?;
            let versions = lines.rest.iter().filter(|line| line.kind == "metaData").map(|line| &line.value["version"]);
            let later = versions.into_iter().all(|version| version.as_i64().is_some_and(|v| v > window.start));
            ensure!(later, "{}: a metaData line among the files has no later version", lines.shown);
            return Ok(());
        }
    }
    skip("no table's metadata is known to have changed in the versions looked at")
}

async fn bad_range(ctx: &Context) -> Outcome {
    let call = |subject: &Subject, body: Value| -> Call<'_> { subject.query(&ctx.client, &body) };
    let any = ctx.any()?;
    let mut calls = vec![call(any, json!({ "startingVersion": -1 }))];
    if let Ok(subject) = ctx.with_history() {
        let latest = subject.version();
        calls.push(call(subject, json!({ "startingVersion": latest, "endingVersion": latest - 1 })));
        calls.push(call(subject, json!({ "startingVersion": latest + 1_000_000 })));
    }
    if let Ok(subject) = ctx.without_history() {
        calls.push(call(subject, json!({ "startingVersion": subject.version() })));
    }
    refused(calls).await
}

async fn advanced(ctx: &Context) -> Outcome {
    let suits = |subject: &&Subject| subject.kind == Kind::Advanced && subject.history == Some(true);
    let Some(subject) = ctx.subjects.iter().find(suits) else {
        return skip("no table looked at needs features and is shared with its history");
    };
    let start = subject.window.as_ref().map_or(subject.version(), |window| window.start);
    let lines = range(ctx, subject, start, subject.version()).await?;
    expect_range(&lines, start, subject.version(), &["add", "remove"])
}

async fn protocol(ctx: &Context) -> Outcome {
    let (subject, window) = ctx.with_window()?;
    let start = window.start;
    let body = json!({ "startingVersion": start, "endingVersion": start, "includeHistoricalProtocol": true });
    if subject.kind == Kind::Plain {
        let lines = subject.query(&ctx.client, &body).send().await?.lines()?;
        let later = lines.rest.iter().any(|line| line.kind == "protocol");
        ensure!(!later, "{} has protocol lines among its files in parquet format", lines.shown);
    }
    let answer = ctx.client.post(subject.path("/query"), &body).capabilities(EVERYTHING).send().await?;
    if answer.status == 400 && subject.delta.is_none() {
        return skip("the table is not served in the delta format");
    }
    let lines = answer.lines()?;
    let version = &lines.protocol["version"];
    ensure!(lines.format == Format::Delta, "{} is answered in parquet format", lines.shown);
    ensure!(*version == start, "{}: the protocol's version is {version}, not {start}", lines.shown);
    Ok(())
}
