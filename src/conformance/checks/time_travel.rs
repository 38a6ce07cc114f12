//! Checks reading an older version.

use serde_json::{Value, json};

use super::version::timestamp;
use crate::conformance::{
    check::{Check, Outcome, check, ensure},
    client::Call,
    context::{Context, Subject, body, query, refused},
};

pub(super) const CHECKS: &[Check] = &[
    check!(98, "Read Data from a Table", "files of a version carry it and its time", of_version),
    check!(99, "Request Body", "a version that cannot be had is answered 400", bad_version),
    check!(100, "Request Body", "a timestamp means the newest version until then", of_timestamp),
    check!(101, "Request Body", "more than one of version, timestamp and startingVersion is answered 400", conflicting),
];

fn call<'a>(ctx: &'a Context, subject: &Subject, body: Value) -> Call<'a> {
    subject.query(&ctx.client, &body)
}

async fn of_version(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    for version in [subject.oldest(), subject.version()] {
        let lines = call(ctx, subject, body("version", version)).send().await?.lines()?;
        ensure!(lines.version == version, "{} is answered with version {}", lines.shown, lines.version);
        for file in lines.files()? {
            ensure!(file.version == Some(version), "{}: a file line does not carry the version", lines.shown);
            ensure!(file.timestamp.is_some(), "{}: a file line does not carry the version's time", lines.shown);
        }
    }
    let newest = query(ctx, subject, json!({})).await?;
    let same = call(ctx, subject, body("version", newest.version)).send().await?.lines()?;
    ensure!(newest.ids()? == same.ids()?, "{} lists other files than the newest version", same.shown);
    Ok(())
}

async fn bad_version(ctx: &Context) -> Outcome {
    let any = ctx.any()?;
    let mut calls = vec![call(ctx, any, body("version", -1)), call(ctx, any, body("version", "x3"))];
    if let Ok(subject) = ctx.with_history() {
        calls.push(call(ctx, subject, body("version", subject.version() + 1_000_000)));
    }
    if let Ok(subject) = ctx.without_history() {
        calls.push(call(ctx, subject, body("version", subject.version())));
        calls.push(call(ctx, subject, body("timestamp", "2022-01-01T00:00:00Z")));
    }
    refused(calls).await
}

async fn of_timestamp(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    for (version, milliseconds) in subject.commits().into_iter().take(3) {
        let lines = call(ctx, subject, body("timestamp", timestamp(milliseconds)?)).send().await?.lines()?;
        ensure!(lines.version == version, "{}: the time of version {version} means {}", lines.shown, lines.version);
    }
    let bad = ["1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "junk", "2022-01-01"];
    refused(bad.map(|text| call(ctx, subject, body("timestamp", text))).to_vec()).await
}

async fn conflicting(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    let (version, time) = (subject.version(), "2022-01-01T00:00:00Z");
    let bodies = [
        json!({ "version": version, "timestamp": time }),
        json!({ "version": version, "startingVersion": version }),
        json!({ "timestamp": time, "startingVersion": version }),
        json!({ "version": version, "timestamp": time, "startingVersion": version }),
    ];
    refused(bodies.map(|body| call(ctx, subject, body)).to_vec()).await
}
