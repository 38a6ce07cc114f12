//! Writes a report as comma-separated values, one line per recipient and dataset.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        audit::timestamp,
        insight::report::{Line, Report},
    },
    render::csv,
};

const HEADING: [&str; 23] = [
    "month",
    "recipient_id",
    "recipient",
    "share_id",
    "share",
    "table_id",
    "table",
    "requests",
    "file_reads",
    "denials",
    "denials_by_reason",
    "files",
    "rows",
    "answers_without_rows",
    "bytes_issued",
    "bytes_delivered",
    "addresses",
    "days_active",
    "first_at",
    "last_at",
    "provider",
    "preview_until",
    "object_id",
];

/// Writes the whole file.
pub(super) fn write(report: &Report) -> String {
    let mut out = String::new();
    csv::line(&mut out, &HEADING.map(str::to_owned));
    for line in &report.lines {
        csv::line(&mut out, &cells(report, line));
    }
    out
}

fn cells(report: &Report, line: &Line) -> [String; HEADING.len()] {
    let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    let at = |at: Option<DateTime<Utc>>| at.map(timestamp).unwrap_or_default();
    let numbers = &line.numbers;
    let reasons: Vec<String> = numbers.reasons.iter().map(|(code, count)| format!("{code}={count}")).collect();
    [
        report.month.to_string(),
        id(line.recipient_id),
        csv::optional(line.recipient.as_deref()),
        id(line.share_id),
        csv::optional(line.share.as_deref()),
        id(line.table_id),
        csv::optional(line.table.as_deref()),
        numbers.requests.to_string(),
        numbers.file_reads.to_string(),
        numbers.denials.to_string(),
        csv::text(&reasons.join(" ")),
        numbers.files.to_string(),
        numbers.rows.to_string(),
        numbers.answers_without_rows.to_string(),
        numbers.bytes_issued.to_string(),
        csv::number(numbers.bytes_delivered),
        csv::number(numbers.addresses),
        numbers.days_active.to_string(),
        at(numbers.first_at),
        at(numbers.last_at),
        csv::optional(report.provider.as_deref()),
        at(report.preview_until),
        id(line.object_id),
    ]
}
