//! Checks JSON predicates: a hint may drop files, but never one with a matching row.
//!
//! The files to be kept are determined from their own partition values and statistics, so this works with any server.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::conformance::{
    answer::Lines,
    check::{Check, Outcome, check, ensure, skip},
    context::{Context, Subject, query, unmoved},
    file::File,
};

/// The most columns, and the most values of each, that are tested.
const MAX_COLUMNS: usize = 4;
const MAX_VALUES: usize = 3;

pub(super) const CHECKS: &[Check] = &[
    check!(90, "JSON predicates for Filtering", "a predicate on a partition column keeps its files", on_partition),
    check!(91, "JSON predicates for Filtering", "a predicate on a column keeps files whose bounds match", on_column),
    check!(92, "JSON predicates for Filtering", "not(equal) keeps files with other values", not_equal),
    check!(93, "JSON predicates for Filtering", "not(isNull) keeps files that may hold values", not_null),
    check!(94, "JSON predicates for Filtering", "isNull keeps files that may hold nulls", is_null),
    check!(95, "JSON predicates for Filtering", "another type than the column's drops no matching file", other_type),
    check!(
        96,
        "JSON predicates for Filtering",
        "a predicate that cannot be understood filters nothing",
        not_understood
    ),
    check!(97, "JSON predicates for Filtering", "predicates on mapped columns use logical names", on_mapped_column),
];

fn column(name: &str, kind: &str) -> Value {
    json!({ "op": "column", "name": name, "valueType": kind })
}

fn compare(op: &str, name: &str, value: &str, kind: &str) -> Value {
    json!({ "op": op, "children": [column(name, kind), { "op": "literal", "value": value, "valueType": kind }] })
}

/// Returns the predicate `name = value`.
pub(super) fn equal(name: &str, value: &str, kind: &str) -> Value {
    compare("equal", name, value, kind)
}

fn not(predicate: Value) -> Value {
    json!({ "op": "not", "children": [predicate] })
}

fn null(name: &str, kind: &str) -> Value {
    json!({ "op": "isNull", "children": [column(name, kind)] })
}

/// Returns the predicate type of a column whose text values can be compared safely.
pub(super) fn literal_type(metadata: &Lines, name: &str) -> Option<&'static str> {
    let field = metadata.fields().into_iter().find(|field| field["name"] == name)?;
    match field["type"].as_str()? {
        "string" => Some("string"),
        "integer" => Some("int"),
        "long" => Some("long"),
        "date" => Some("date"),
        _ => None,
    }
}

/// A column with exact statistics.
struct Column {
    name: String,
    /// The column's name in the statistics.
    physical: String,
    kind: &'static str,
}

/// Returns the columns whose minimum and maximum are actual values: strings may be cut and times rounded.
fn exact_columns(metadata: &Lines) -> Vec<Column> {
    let partition_columns = metadata.partition_columns();
    let fields = metadata.fields().into_iter().filter_map(|field| {
        let name = field["name"].as_str()?.to_owned();
        let kind = literal_type(metadata, &name).filter(|kind| *kind != "string")?;
        let physical = field["metadata"]["delta.columnMapping.physicalName"].as_str().unwrap_or(&name).to_owned();
        (!partition_columns.contains(&name)).then_some(Column { name, physical, kind })
    });
    fields.take(MAX_COLUMNS).collect()
}

/// Formats a statistic as in a predicate.
fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| value.as_i64().map(|number| number.to_string()))
}

/// Fails unless `predicate` keeps only files in `all`, including each file for which `must` is true.
async fn expect_kept(
    ctx: &Context,
    subject: &Subject,
    all: &[File],
    predicate: &Value,
    must: impl Fn(&File) -> bool,
) -> Outcome {
    let hints = json!({ "jsonPredicateHints": predicate.to_string() });
    let lines = unmoved(query(ctx, subject, hints).await?, subject.snapshot()?.version)?;
    let kept = lines.ids()?;
    let known: BTreeSet<&str> = all.iter().map(|file| file.id.as_str()).collect();
    let subset = kept.iter().all(|id| known.contains(id.as_str()));
    ensure!(subset, "{}: {predicate} lists files that a query without hints does not", subject.table);
    let lost = all.iter().filter(|file| must(file) && !kept.contains(&file.id)).count();
    ensure!(lost == 0, "{}: {predicate} drops {lost} files that hold matching rows", subject.table);
    Ok(())
}

async fn on_partition(ctx: &Context) -> Outcome {
    let subject = ctx.partitioned()?;
    let all = subject.files()?;
    if subject.mapped() {
        return skip("the only partitioned table has mapped columns");
    }
    for name in subject.metadata.partition_columns().into_iter().take(MAX_COLUMNS) {
        let Some(kind) = literal_type(&subject.metadata, &name) else { continue };
        let values: BTreeSet<&str> = all.iter().filter_map(|file| file.partition(&name)?.as_str()).collect();
        for value in values.into_iter().filter(|value| !value.is_empty()).take(MAX_VALUES) {
            for op in ["equal", "lessThanOrEqual", "greaterThanOrEqual"] {
                let has_it = |file: &File| file.partition(&name).is_some_and(|other| other == value);
                expect_kept(ctx, subject, &all, &compare(op, &name, value, kind), has_it).await?;
            }
            let other = |file: &File| file.partition(&name).and_then(Value::as_str).is_some_and(|v| v != value);
            // Different texts may be the same number.
            if kind == "string" {
                expect_kept(ctx, subject, &all, &not(equal(&name, value, kind)), other).await?;
            }
        }
    }
    Ok(())
}

/// Returns a plain table with statistics of exact columns, its files, and those columns.
fn with_statistics(ctx: &Context) -> Outcome<(&Subject, Vec<File>, Vec<Column>)> {
    ctx.plain()?;
    for subject in ctx.subjects.iter().filter(|subject| subject.capabilities().is_empty() && !subject.mapped()) {
        let (Ok(files), mut columns) = (subject.files(), exact_columns(&subject.metadata)) else { continue };
        columns.retain(|column| files.iter().any(|file| file.stat("minValues", &column.physical).is_some()));
        if !columns.is_empty() {
            return Ok((subject, files, columns));
        }
    }
    skip("no plain table has statistics of a column of whole numbers or dates")
}

/// Fails unless predicates keep each file whose minimum or maximum is the value compared with.
async fn expect_bounds_kept(ctx: &Context, subject: &Subject, all: &[File], columns: &[Column]) -> Outcome {
    for column in columns {
        let bound = |file: &File, which: &str| text_of(file.stat(which, &column.physical)?);
        for which in ["minValues", "maxValues"] {
            let values: BTreeSet<String> = all.iter().filter_map(|file| bound(file, which)).collect();
            for value in values.into_iter().take(MAX_VALUES) {
                let has_it = |file: &File| {
                    ["minValues", "maxValues"].iter().any(|which| bound(file, which).as_ref() == Some(&value))
                };
                for op in ["equal", "lessThanOrEqual", "greaterThanOrEqual"] {
                    expect_kept(ctx, subject, all, &compare(op, &column.name, &value, column.kind), has_it).await?;
                }
            }
        }
    }
    Ok(())
}

async fn on_column(ctx: &Context) -> Outcome {
    let (subject, all, columns) = with_statistics(ctx)?;
    expect_bounds_kept(ctx, subject, &all, &columns).await
}

async fn not_equal(ctx: &Context) -> Outcome {
    let (subject, all, columns) = with_statistics(ctx)?;
    let mut asked = false;
    for column in &columns {
        let bounds = |file: &File| {
            let bound = |which| text_of(file.stat(which, &column.physical)?);
            Some((bound("minValues")?, bound("maxValues")?))
        };
        let straddles = |file: &File| bounds(file).is_some_and(|(low, high)| low != high);
        for (low, _) in all.iter().filter(|file| straddles(file)).filter_map(bounds).take(MAX_VALUES) {
            asked = true;
            expect_kept(ctx, subject, &all, &not(equal(&column.name, &low, column.kind)), straddles).await?;
            let above = not(compare("lessThanOrEqual", &column.name, &low, column.kind));
            let holds_more = |file: &File| straddles(file) && bounds(file).is_some_and(|bounds| bounds.0 == low);
            expect_kept(ctx, subject, &all, &above, holds_more).await?;
        }
    }
    if asked { Ok(()) } else { skip("no file has two values of one column") }
}

async fn not_null(ctx: &Context) -> Outcome {
    let (subject, all, columns) = with_statistics(ctx)?;
    for column in &columns {
        let nulls = |file: &File| file.stat("nullCount", &column.physical).and_then(Value::as_i64);
        let may_hold_values = |file: &File| nulls(file).is_none_or(|nulls| file.rows().is_none_or(|rows| nulls < rows));
        expect_kept(ctx, subject, &all, &not(null(&column.name, column.kind)), may_hold_values).await?;
    }
    Ok(())
}

async fn is_null(ctx: &Context) -> Outcome {
    let (subject, all, columns) = with_statistics(ctx)?;
    for column in &columns {
        let nulls = |file: &File| file.stat("nullCount", &column.physical).and_then(Value::as_i64);
        // A server that does not show counts may still know them.
        let shown = all.iter().any(|file| nulls(file).is_some());
        let may_hold_nulls = |file: &File| nulls(file).map_or(shown, |nulls| nulls > 0);
        expect_kept(ctx, subject, &all, &null(&column.name, column.kind), may_hold_nulls).await?;
    }
    let Ok(subject) = ctx.partitioned() else { return Ok(()) };
    let all = subject.files()?;
    for name in subject.metadata.partition_columns() {
        if let (Some(kind), false) = (literal_type(&subject.metadata, &name), subject.mapped()) {
            let is_null = |file: &File| file.partition(&name).is_some_and(Value::is_null);
            expect_kept(ctx, subject, &all, &null(&name, kind), is_null).await?;
        }
    }
    Ok(())
}

async fn other_type(ctx: &Context) -> Outcome {
    let (subject, all, columns) = with_statistics(ctx)?;
    // A value equals its own text, whatever type it is compared as; that is not true for its order.
    for column in &columns {
        for which in ["minValues", "maxValues"] {
            let bound = |file: &File| text_of(file.stat(which, &column.physical)?);
            let values: BTreeSet<String> = all.iter().filter_map(bound).collect();
            for value in values.into_iter().take(MAX_VALUES) {
                let has_it = |file: &File| bound(file).as_ref() == Some(&value);
                expect_kept(ctx, subject, &all, &equal(&column.name, &value, "string"), has_it).await?;
            }
        }
    }
    Ok(())
}

async fn not_understood(ctx: &Context) -> Outcome {
    let subject = ctx.any()?;
    let all = subject.snapshot()?.ids()?;
    let mut deep = json!({ "op": "equal", "children": [] });
    for _ in 0..100 {
        deep = not(deep);
    }
    let long = format!("{{\"op\":\"{}\"}}", "x".repeat(1024 * 1024));
    let texts = [
        "".to_owned(),
        "not json".to_owned(),
        "[]".to_owned(),
        json!({ "op": "noSuchOperation", "children": [] }).to_string(),
        equal("no_such_column_4f7d2f06", "1", "int").to_string(),
        equal("no_such_column_4f7d2f06", "1", "noSuchType").to_string(),
        deep.to_string(),
        long,
    ];
    for text in texts {
        let answer = subject.query(&ctx.client, &json!({ "jsonPredicateHints": text })).send().await?;
        // A server's limit on bodies may be smaller than the protocol's limit on predicates.
        if answer.status == 413 && text.len() > 1024 * 1024 {
            continue;
        }
        let lines = unmoved(answer.lines()?, subject.version())?;
        ensure!(lines.ids()? == all, "{} does not list all files", lines.shown);
    }
    Ok(())
}

async fn on_mapped_column(ctx: &Context) -> Outcome {
    ctx.mapped()?;
    let Some(subject) = ctx.subjects.iter().find(|subject| subject.mapped() && !subject.has_vectors()) else {
        return skip("the tables with mapped columns have deletion vectors: their statistics may not be exact");
    };
    let all = subject.files()?;
    let mut columns = exact_columns(&subject.metadata);
    columns.retain(|column| all.iter().any(|file| file.stat("minValues", &column.physical).is_some()));
    if columns.is_empty() {
        return skip("no table with mapped columns has statistics of a column of whole numbers or dates");
    }
    expect_bounds_kept(ctx, subject, &all, &columns).await
}
