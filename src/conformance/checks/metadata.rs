//! Checks the metadata of a table: its format and its two lines.

use serde_json::{Value, json};

use super::version::timestamp;
use crate::conformance::{
    answer::{Answer, Format, LINE_BREAKERS, Lines},
    check::{Check, Outcome, check, ensure, skip},
    context::{Context, EVERYTHING, Kind, Subject, refused},
};

pub(super) const CHECKS: &[Check] = &[
    check!(56, "Query Table Metadata", "metadata is two lines in parquet format for a client that says nothing", plain),
    check!(57, "API Response Format in Delta", "a plain table is answered in delta format on request", delta),
    check!(58, "Delta Sharing Capabilities Header", "of two formats asked for, one is answered and named", two_formats),
    check!(
        59,
        "Delta Sharing Capabilities Header",
        "a table that needs features is answered in delta format",
        advanced
    ),
    check!(
        60,
        "Delta Sharing Capabilities Header",
        "a table whose features a client lacks is answered 400",
        undeclared
    ),
    check!(61, "Delta Sharing Capabilities Header", "such a table is never answered in parquet format", never_parquet),
    check!(62, "Protocol", "an answer in parquet format needs reader version 1", reader_version),
    check!(64, "Delta Sharing Capabilities Header", "an unknown format is answered 400 or in parquet", unknown_format),
    check!(65, "Delta Sharing Capabilities Header", "metadata has no EndStreamAction, asked for or not", end_stream),
    check!(66, "Query Table Metadata", "metadata of a version is answered with that version", of_version),
    check!(67, "Query Table Metadata", "versions that cannot be had are answered 400", bad_version),
    check!(69, "Query Table Metadata", "a timestamp means the newest version until then", of_timestamp),
    check!(70, "Schema Object", "the schema is a struct in a string, and the same text in metadata and query", schema),
    check!(71, "Metadata", "a table that announces its change data feed answers it", announced_feed),
    check!(72, "Metadata", "size and numFiles are those of the files listed", size),
    check!(73, "Metadata", "location and accessModes have the protocol's types", locations),
    check!(74, "API Response Format in Parquet", "no line holds a raw U+2028, U+2029 or U+0085", line_breakers),
];

async fn metadata(ctx: &Context, subject: &Subject, capabilities: &str) -> Outcome<Answer> {
    ctx.client.get(subject.path("/metadata")).capabilities(capabilities).send().await
}

fn expect_two_lines(lines: &Lines) -> Outcome {
    let n = 2 + lines.rest.len() + usize::from(lines.end.is_some());
    ensure!(n == 2, "{} is answered with {n} lines", lines.shown);
    Ok(())
}

async fn plain(ctx: &Context) -> Outcome {
    let lines = metadata(ctx, ctx.plain()?, "").await?.lines()?;
    ensure!(lines.format == Format::Parquet, "{} is answered in delta format", lines.shown);
    expect_two_lines(&lines)?;
    ensure!(lines.protocol["minReaderVersion"].is_i64(), "{}: the protocol has no minReaderVersion", lines.shown);
    expect_metadata(&lines)
}

/// Fails if a member is missing that every reader needs.
fn expect_metadata(lines: &Lines) -> Outcome {
    let shown = &lines.shown;
    ensure!(lines.delta_metadata("id").is_string(), "{shown}: the metaData has no id");
    ensure!(lines.delta_metadata("format")["provider"] == "parquet", "{shown}: the metaData has no format");
    ensure!(lines.schema_string().is_some(), "{shown}: the metaData has no schemaString");
    ensure!(lines.delta_metadata("partitionColumns").is_array(), "{shown}: the metaData has no partitionColumns");
    Ok(())
}

async fn delta(ctx: &Context) -> Outcome {
    let subject = ctx.plain()?;
    let answer = metadata(ctx, subject, "responseformat=delta").await?;
    if answer.status == 400 && !matches!(&subject.delta, Some(delta) if needs_no_features(delta)) {
        return skip("no plain table is known to need no features in the delta format");
    }
    let lines = answer.lines()?;
    ensure!(lines.format == Format::Delta, "{} is answered in parquet format", lines.shown);
    expect_two_lines(&lines)?;
    let version = lines.delta_protocol("minReaderVersion");
    ensure!(version.is_i64(), "{}: the deltaProtocol has no minReaderVersion", lines.shown);
    expect_metadata(&lines)
}

fn needs_no_features(delta: &Lines) -> bool {
    delta.delta_protocol("minReaderVersion").as_i64() == Some(1)
}

async fn two_formats(ctx: &Context) -> Outcome {
    let subject = ctx.plain()?;
    for formats in ["delta,parquet", "parquet,delta"] {
        // Parsing the lines also checks that exactly one format is named, and that the lines have it.
        expect_two_lines(&metadata(ctx, subject, &format!("responseformat={formats}")).await?.lines()?)?;
        let call = ctx.client.post(subject.path("/query"), &json!({ "limitHint": 1 }));
        call.capabilities(&format!("responseformat={formats}")).send().await?.lines()?;
    }
    Ok(())
}

async fn advanced(ctx: &Context) -> Outcome {
    let subject = ctx.advanced()?;
    let both = EVERYTHING.replace("responseformat=delta", "responseformat=parquet,delta");
    let lines = metadata(ctx, subject, &both).await?.lines()?;
    ensure!(lines.format == Format::Delta, "{} is answered in parquet format", lines.shown);
    expect_two_lines(&lines)
}

/// Returns a table that cannot be read correctly without column mapping or deletion vectors.
fn demanding(ctx: &Context) -> Outcome<&Subject> {
    ctx.mapped().or_else(|_| ctx.with_vectors().map(|(subject, _)| subject))
}

async fn undeclared(ctx: &Context) -> Outcome {
    let subject = demanding(ctx)?;
    for capabilities in ["", "responseformat=delta"] {
        metadata(ctx, subject, capabilities).await?.expect(&[400])?;
        let call = ctx.client.post(subject.path("/query"), &json!({})).capabilities(capabilities);
        call.send().await?.expect(&[400])?;
    }
    Ok(())
}

async fn never_parquet(ctx: &Context) -> Outcome {
    let subject = demanding(ctx)?;
    let capabilities = EVERYTHING.replace("responseformat=delta", "responseformat=parquet");
    metadata(ctx, subject, &capabilities).await?.expect(&[400])?;
    let call = ctx.client.post(subject.path("/query"), &json!({})).capabilities(&capabilities);
    call.send().await?.expect(&[400]).map(|_| ())
}

async fn reader_version(ctx: &Context) -> Outcome {
    ctx.plain()?;
    for subject in ctx.subjects.iter().filter(|subject| subject.kind == Kind::Plain) {
        let version = &subject.metadata.protocol["minReaderVersion"];
        ensure!(*version == 1, "{} says minReaderVersion {version} in parquet format", subject.table);
    }
    Ok(())
}

async fn unknown_format(ctx: &Context) -> Outcome {
    let answer = metadata(ctx, ctx.plain()?, "responseformat=foo").await?;
    if answer.expect(&[200, 400])?.status == 400 {
        return Ok(());
    }
    let lines = answer.lines()?;
    ensure!(lines.format == Format::Parquet, "{} is answered in delta format", lines.shown);
    Ok(())
}

async fn end_stream(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    let base = if subject.capabilities().is_empty() { "responseformat=parquet" } else { EVERYTHING };
    let answer = metadata(ctx, subject, &format!("{base};includeendstreamaction=true")).await?;
    expect_two_lines(&answer.lines()?)
}

async fn of_version(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    for version in [subject.oldest(), subject.version()] {
        let call = ctx.client.get(subject.path("/metadata")).query("version", version);
        let lines = call.capabilities(subject.capabilities()).send().await?.lines()?;
        ensure!(lines.version == version, "{} is answered with version {}", lines.shown, lines.version);
        expect_two_lines(&lines)?;
    }
    Ok(())
}

async fn bad_version(ctx: &Context) -> Outcome {
    let call = |subject: &Subject, key: &str, value: &str| {
        ctx.client.get(subject.path("/metadata")).capabilities(subject.capabilities()).query(key, value)
    };
    let any = ctx.any()?;
    let mut calls = vec![call(any, "version", "-1"), call(any, "version", "x3")];
    calls.push(call(any, "version", "0").query("timestamp", "2022-01-01T00:00:00Z"));
    if let Ok(subject) = ctx.with_history() {
        calls.push(call(subject, "version", &(subject.version() + 1_000_000).to_string()));
    }
    if let Ok(subject) = ctx.without_history() {
        calls.push(call(subject, "version", &subject.version().to_string()));
        calls.push(call(subject, "timestamp", "2022-01-01T00:00:00Z"));
    }
    refused(calls).await
}

async fn of_timestamp(ctx: &Context) -> Outcome {
    let subject = ctx.with_history()?;
    let call = |text: &str| {
        ctx.client.get(subject.path("/metadata")).capabilities(subject.capabilities()).query("timestamp", text)
    };
    for (version, milliseconds) in subject.commits().into_iter().take(3) {
        let lines = call(&timestamp(milliseconds)?).send().await?.lines()?;
        ensure!(lines.version == version, "{}: the time of version {version} means {}", lines.shown, lines.version);
    }
    refused(["1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "junk", "2022-01-01"].map(call).to_vec()).await
}

async fn schema(ctx: &Context) -> Outcome {
    ctx.any()?;
    for subject in &ctx.subjects {
        let text = subject.metadata.schema_string().unwrap_or_default();
        let schema: Value = serde_json::from_str(text).unwrap_or_default();
        let struct_type = schema["type"] == "struct" && schema["fields"].is_array();
        ensure!(struct_type, "the schemaString of {} is no struct", subject.table);
        let fields = subject.metadata.fields();
        let whole = fields.iter().all(|field| field["name"].is_string() && !field["type"].is_null());
        ensure!(whole, "a field in the schemaString of {} has no name or no type", subject.table);
        let is_field = |name: &String| fields.iter().any(|field| field["name"] == **name);
        let known = subject.metadata.partition_columns().iter().all(is_field);
        ensure!(known, "a partition column of {} is not in its schemaString", subject.table);
        let Ok(snapshot) = subject.snapshot() else { continue };
        if snapshot.version == subject.version() {
            let same = snapshot.schema_string() == Some(text);
            ensure!(same, "the schemaString of {} differs between metadata and query", subject.table);
        }
    }
    Ok(())
}

async fn announced_feed(ctx: &Context) -> Outcome {
    let announces = |subject: &&Subject| {
        subject.kind == Kind::Plain && subject.metadata.metadata["configuration"]["enableChangeDataFeed"] == "true"
    };
    let mut found = false;
    for subject in ctx.subjects.iter().filter(announces) {
        found = true;
        let call = ctx.client.get(subject.path("/changes")).query("startingVersion", subject.version());
        call.send().await?.lines()?;
    }
    if found { Ok(()) } else { skip("no table looked at announces a change data feed") }
}

async fn size(ctx: &Context) -> Outcome {
    let mut found = false;
    for subject in &ctx.subjects {
        let (Ok(files), metadata) = (subject.files(), &subject.metadata) else { continue };
        if subject.snapshot()?.version != metadata.version {
            continue;
        }
        for (key, right) in
            [("size", files.iter().map(|file| file.size).sum()), ("numFiles", i64::try_from(files.len()).unwrap_or(-1))]
        {
            let Some(value) = metadata.metadata.get(key).filter(|value| !value.is_null()) else { continue };
            found = true;
            ensure!(
                value.as_i64() == Some(right),
                "{}: `{key}` is {value}, the files listed make {right}",
                subject.table
            );
        }
    }
    if found { Ok(()) } else { skip("no metadata has size or numFiles") }
}

async fn locations(ctx: &Context) -> Outcome {
    let mut found = false;
    for subject in &ctx.subjects {
        let metadata = &subject.metadata.metadata;
        for key in ["location", "accessModes", "auxiliaryLocations"] {
            let Some(value) = metadata.get(key).filter(|value| !value.is_null()) else { continue };
            let strings = value.as_array().is_some_and(|values| values.iter().all(Value::is_string));
            let right = if key == "location" { value.is_string() } else { strings };
            ensure!(right, "{}: `{key}` is not of the protocol's type", subject.table);
            found = true;
        }
    }
    if found { Ok(()) } else { skip("no metadata has location or accessModes") }
}

async fn line_breakers(ctx: &Context) -> Outcome {
    ctx.any()?;
    for subject in &ctx.subjects {
        for answer in [
            metadata(ctx, subject, subject.capabilities()).await?,
            subject.query(&ctx.client, &json!({ "limitHint": 1 })).send().await?,
        ] {
            let raw = answer.text()?.contains(LINE_BREAKERS);
            ensure!(!raw, "{} holds a raw line separator; Python cuts the line in two", answer.what());
        }
    }
    Ok(())
}
