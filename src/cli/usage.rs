//! `weir usage`: who read how much, and whether that is what the audit trail says.

use std::io::Write;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use reqwest::Method;
use serde_json::{Value, json};

use super::{api::Server, audit::moment};
use crate::domain::csv;

/// How many sums are asked for at a time.
const PAGE: &str = "1000";

/// The columns of a listing, and where their values stand.
const COLUMNS: [(&str, &str); 21] = [
    ("start", "/start"),
    ("recipient_id", "/recipient_id"),
    ("recipient", "/recipient"),
    ("share_id", "/share_id"),
    ("share", "/share"),
    ("table_id", "/table_id"),
    ("table", "/table"),
    ("events", "/events"),
    ("requests", "/requests"),
    ("file_reads", "/file_reads"),
    ("denials", "/denials"),
    ("files", "/files"),
    ("rows", "/rows"),
    ("answers_without_rows", "/answers_without_rows"),
    ("bytes_issued", "/bytes_issued"),
    ("bytes_delivered", "/bytes_delivered"),
    ("addresses", "/addresses"),
    ("answers", "/latency/answers"),
    ("answers_ms", "/latency/sum_ms"),
    ("p50_ms", "/latency/p50_ms"),
    ("p95_ms", "/latency/p95_ms"),
];

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  weir usage --since 2026-11-01 --until 2026-12-01\n  weir usage --group-by recipient,day \
                  --recipient acme --output csv\n  weir usage verify"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: Option<List>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Compares usage with the audit trail, day by day; exit code 1 where they differ
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    server: Server,
    /// By what it is put together: recipient, share, table, and hour or day, separated by commas; "" for one sum
    #[arg(long, default_value = "recipient,table", value_name = "LIST")]
    group_by: String,
    /// Only that of this recipient
    #[arg(long)]
    recipient: Option<String>,
    /// Only that of this share
    #[arg(long)]
    share: Option<String>,
    /// Only that of this shared table: schema.table together with --share, or its id
    #[arg(long)]
    table: Option<String>,
    /// From this hour on: RFC 3339, or a date (its beginning in UTC)
    #[arg(long, value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Before this hour
    #[arg(long, value_parser = moment)]
    until: Option<DateTime<Utc>>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Args)]
struct Verify {
    #[command(flatten)]
    server: Server,
    /// The first day
    #[arg(long, value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// The day after the last one
    #[arg(long, value_parser = moment)]
    until: Option<DateTime<Utc>>,
    /// Prints what the API answers
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON object with `items`
    Json,
    /// Comma-separated values (RFC 4180) with a heading
    Csv,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match (arguments.command, arguments.list) {
        (Some(Command::Verify(arguments)), _) => verify(arguments).await,
        (None, Some(arguments)) => list(arguments).await,
        (None, None) => bail!("say which server: --url and --token, or WEIR_URL and WEIR_TOKEN"),
    }
}

async fn list(arguments: List) -> anyhow::Result<()> {
    let List { server, group_by, recipient, share, table, since, until, output } = arguments;
    let mut query = vec![("group_by", group_by), ("max_results", PAGE.to_owned())];
    query.extend(recipient.map(|recipient| ("recipient", recipient)));
    query.extend(share.map(|share| ("share", share)));
    query.extend(table.map(|table| ("table", table)));
    query.extend(since.map(|at| ("since", at.to_rfc3339())));
    query.extend(until.map(|at| ("until", at.to_rfc3339())));
    let mut items: Vec<Value> = Vec::new();
    let through = loop {
        let mut page = server.call(Method::GET, &["usage"], &query, None).await?;
        if let Value::Array(more) = page["items"].take() {
            items.extend(more);
        }
        query.retain(|(name, _)| *name != "page_token");
        match page["next_page_token"].as_str() {
            Some(token) => query.push(("page_token", token.to_owned())),
            None => break page["through_seq"].take(),
        }
    };
    let mut out = std::io::stdout().lock();
    // What was not grouped by stands in no item; in an empty listing there is nothing to leave out.
    let columns: Vec<(&str, &str)> =
        COLUMNS.into_iter().filter(|(_, at)| items.first().is_none_or(|item| item.pointer(at).is_some())).collect();
    match output {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, &json!({"items": items, "through_seq": through}))?;
            writeln!(out)?;
        }
        Format::Csv => {
            let mut lines = String::new();
            csv::line(&mut lines, &columns.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
            for item in &items {
                let cell = |(_, at): &(&str, &str)| match item.pointer(at) {
                    Some(Value::String(text)) => csv::text(text),
                    Some(Value::Null) | None => String::new(),
                    Some(number) => number.to_string(),
                };
                csv::line(&mut lines, &columns.iter().map(cell).collect::<Vec<_>>());
            }
            out.write_all(lines.as_bytes())?;
        }
        Format::Table => {
            let shown: Vec<(&str, &str)> = columns.into_iter().filter(|(name, _)| !name.ends_with("_id")).collect();
            let mut rows = vec![shown.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>()];
            rows.extend(items.iter().map(|item| shown.iter().map(|(_, at)| shown_value(item.pointer(at))).collect()));
            print_table(&mut out, &rows)?;
        }
    }
    Ok(())
}

/// A value for people; what is not known is a dash.
fn shown_value(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        // Names may hold whatever a terminal would obey.
        Some(Value::String(text)) => text.chars().filter(|c| !c.is_control()).collect(),
        Some(other) => other.to_string(),
    }
}

/// Prints rows in columns as wide as their widest cell; numbers stand to the right.
fn print_table(out: &mut impl Write, rows: &[Vec<String>]) -> std::io::Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let is_number =
        |column: usize| rows.iter().skip(1).all(|row| row[column].chars().all(|c| c.is_ascii_digit() || c == '-'));
    let right: Vec<bool> = (0..columns).map(is_number).collect();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if right[column] { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

async fn verify(arguments: Verify) -> anyhow::Result<()> {
    let Verify { server, since, until, json } = arguments;
    let mut query = Vec::new();
    query.extend(since.map(|at| ("since", at.to_rfc3339())));
    query.extend(until.map(|at| ("until", at.to_rfc3339())));
    let check = server.call(Method::GET, &["usage", "check"], &query, None).await?;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &check)?;
        writeln!(out)?;
    }
    let days = check["days"].as_array().map(Vec::as_slice).unwrap_or_default();
    let wrong: Vec<&Value> = days.iter().filter(|day| day["agrees"] != true).collect();
    if let Some(day) = wrong.first() {
        bail!(
            "usage and audit trail differ on {} days, first on {}: {} events in the trail, {} in the day's sum, {} in its \
             hours'; run `weir audit verify`",
            wrong.len(),
            day["start"].as_str().unwrap_or_default(),
            day["events_in_trail"],
            day["events_in_day"],
            day["events_in_hours"]
        );
    }
    if !json {
        let events: i64 = days.iter().filter_map(|day| day["events_in_trail"].as_i64()).sum();
        writeln!(out, "usage and audit trail say the same: {events} events in {} days", days.len())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["table", "files"], ["claims.claims", "7"], ["x", "-"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        let mut out = Vec::new();
        print_table(&mut out, &rows).unwrap();
        let printed = String::from_utf8(out).unwrap();
        assert_eq!(printed, "table          files\nclaims.claims      7\nx                  -\n");
        assert_eq!(shown_value(Some(&json!("a\u{1b}[2Jb"))), "a[2Jb");
    }
}
