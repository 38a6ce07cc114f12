//! `weir usage`: shows who read how much, and checks this against the audit trail.

use std::io::Write;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use reqwest::Method;
use serde_json::{Value, json};

use crate::render::csv;

use super::{
    api::{Request, Server},
    operation::moment,
    print,
};

/// The columns of a listing, and where their values stand.
const COLUMNS: [(&str, &str); 23] = [
    ("start", "/start"),
    ("recipient_id", "/recipient_id"),
    ("recipient", "/recipient"),
    ("share_id", "/share_id"),
    ("share", "/share"),
    ("object_id", "/object_id"),
    ("object", "/object"),
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
    list: List,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Compares usage with the audit trail, day by day; the exit code is 1 if they differ
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    server: Server,
    /// What to group by: recipient, share, object (or table, with the columns' names of before), and hour or day,
    /// separated by commas; "" for one sum
    #[arg(long, default_value = "recipient,table", value_name = "LIST")]
    group_by: String,
    /// Only usage of this recipient, by name or id
    #[arg(long)]
    recipient: Option<String>,
    /// Only usage of this share, by name or id
    #[arg(long)]
    share: Option<String>,
    /// Only that of this shared object: schema.name together with --share, or its id
    #[arg(long)]
    object: Option<String>,
    /// The same as --object, under its former name
    #[arg(long, conflicts_with = "object")]
    table: Option<String>,
    /// Only usage from this hour on: a date (its beginning in UTC) or RFC 3339
    #[arg(long, value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Only usage before this hour
    #[arg(long, value_parser = moment)]
    until: Option<DateTime<Utc>>,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Args)]
struct Verify {
    #[command(flatten)]
    server: Server,
    /// The first day to compare
    #[arg(long, value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// The day after the last one to compare
    #[arg(long, value_parser = moment)]
    until: Option<DateTime<Utc>>,
    /// Prints the API's answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table, for people
    #[default]
    Table,
    /// One JSON object with `items`
    Json,
    /// Comma-separated values (RFC 4180) with a heading
    Csv,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Some(Command::Verify(arguments)) => verify(arguments).await,
        None => list(arguments.list).await,
    }
}

async fn list(arguments: List) -> anyhow::Result<()> {
    let List { server, group_by, recipient, share, object, table, since, until, output } = arguments;
    let (since, until) = (since.map(|at| at.to_rfc3339()), until.map(|at| at.to_rfc3339()));
    let left_out = not_grouped_by(&group_by);
    let mut request = Request::new(Method::GET, &["usage"]).with_query("group_by", group_by);
    for (name, value) in
        [("recipient", recipient), ("share", share), ("object", object.or(table)), ("since", since), ("until", until)]
    {
        request.query.extend(value.map(|value| (name.to_owned(), value)));
    }
    let (items, _) = server.client()?.list(&request, None).await?;
    let mut out = print::out();
    let columns: Vec<(&str, &str)> = COLUMNS.into_iter().filter(|(name, _)| !left_out.contains(name)).collect();
    match output {
        Format::Json => print::json(&mut out, &json!({"items": items}))?,
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
            let dotted = columns.iter().filter(|(name, _)| !name.ends_with("_id"));
            let dotted: Vec<String> = dotted.map(|(_, at)| at[1..].replace('/', ".")).collect();
            print::table(&mut out, &dotted.iter().map(String::as_str).collect::<Vec<_>>(), &items)?;
        }
    }
    Ok(())
}

/// The columns that a listing grouped by `group_by` does not have.
fn not_grouped_by(group_by: &str) -> Vec<&'static str> {
    let names: Vec<&str> = group_by.split(',').map(str::trim).collect();
    let keys: [(&[&str], &[&str]); 5] = [
        (&["hour", "day"], &["start"]),
        (&["recipient"], &["recipient_id", "recipient"]),
        (&["share"], &["share_id", "share"]),
        (&["object"], &["object_id", "object"]),
        (&["table"], &["table_id", "table"]),
    ];
    let left_out = keys.into_iter().filter(|(words, _)| !words.iter().any(|word| names.contains(word)));
    left_out.flat_map(|(_, columns)| columns.iter().copied()).collect()
}

async fn verify(arguments: Verify) -> anyhow::Result<()> {
    let Verify { server, since, until, json } = arguments;
    let mut request = Request::new(Method::GET, &["usage", "check"]);
    for (name, moment) in [("since", since), ("until", until)] {
        request.query.extend(moment.map(|at| (name.to_owned(), at.to_rfc3339())));
    }
    let (check, _) = server.client()?.call(&request).await?;
    let mut out = print::out();
    if json {
        print::json(&mut out, &check)?;
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
