//! `weir view`: governed views, seen from the shell.

use std::io::Write;

use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Output, Server};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Says what a newer version of a view would newly disclose, and what it hides
    ///
    /// Compares two published versions column by column. With --recipient, also counts the rows of the newest version
    /// of the table that this partner sees under each.
    #[command(after_help = "Example:\n  weir view diff claims.claims_fraud 1 2 --recipient acme")]
    Diff(Diff),
    /// Shows the rows that a partner's connector would read; recorded as an access to data
    #[command(after_help = "Example:\n  weir view preview claims.claims_fraud --recipient acme --limit 5")]
    Preview(Preview),
}

#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    #[command(flatten)]
    server: Server,
    /// The view's name
    view: String,
    /// The older version's number
    from: i64,
    /// The newer version's number
    to: i64,
    /// The recipient whose rows are counted
    #[arg(long)]
    recipient: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Preview {
    #[command(flatten)]
    server: Server,
    /// The view's name
    view: String,
    /// The recipient to see as
    #[arg(long)]
    recipient: String,
    /// A published version; the draft, or the newest, where it is left out
    #[arg(long)]
    version: Option<i64>,
    /// At most so many rows
    #[arg(long, default_value_t = 20)]
    limit: u64,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Diff(arguments) => diff(arguments).await,
        Command::Preview(arguments) => preview(arguments).await,
    }
}

async fn diff(arguments: Diff) -> anyhow::Result<()> {
    let Diff { server, view, from, to, recipient, output } = arguments;
    let mut query = vec![("from", from.to_string()), ("to", to.to_string())];
    query.extend(recipient.map(|recipient| ("recipient", recipient)));
    let diff = server.call(Method::GET, &["views", &view, "diff"], &query, None).await?;
    if output == Output::Json {
        return print_json(&diff);
    }
    let mut out = std::io::stdout().lock();
    let changes = diff["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if changes.is_empty() {
        writeln!(out, "versions {from} and {to} show the same columns and rows")?;
    }
    for change in changes {
        let what = change["column"].as_str().unwrap_or("row filter");
        let effect = change["effect"].as_str().unwrap_or_default();
        writeln!(out, "{effect:<10} {what}: {} -> {}", side(&change["before"]), side(&change["after"]))?;
    }
    if let Some(rows) = diff["rows"].as_object() {
        let count = |key: &str| rows.get(key).and_then(Value::as_u64).unwrap_or_default();
        writeln!(
            out,
            "rows       {} -> {} of {}: {} newly visible, {} no longer",
            count("before"),
            count("after"),
            count("total"),
            count("newly_visible"),
            count("no_longer_visible")
        )?;
    }
    Ok(())
}

/// One side of a change, in a few words.
fn side(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(filter) => filter.clone(),
        column => {
            let masked = match &column["mask"] {
                Value::Null => String::new(),
                Value::String(mask) => format!(" masked by {mask}"),
                mask => format!(" masked by {mask}"),
            };
            format!("{}{masked}", column["from"].as_str().unwrap_or_default())
        }
    }
}

async fn preview(arguments: Preview) -> anyhow::Result<()> {
    let Preview { server, view, recipient, version, limit, output } = arguments;
    let body = json!({"recipient": recipient, "version": version, "limit": limit});
    let preview = server.call(Method::POST, &["views", &view, "preview"], &[], Some(&body)).await?;
    if output == Output::Json {
        return print_json(&preview);
    }
    let evidence = &preview["evidence"];
    let mut out = std::io::stdout().lock();
    for row in evidence["rows"].as_array().map(Vec::as_slice).unwrap_or_default() {
        writeln!(out, "{row}")?;
    }
    let hidden: Vec<&str> =
        evidence["hidden_columns"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    writeln!(
        out,
        "visible {} of {} rows; hidden: {}",
        evidence["rows_visible"],
        evidence["rows_total"],
        hidden.join(", ")
    )?;
    writeln!(out, "digest {}", preview["digest"].as_str().unwrap_or_default())?;
    Ok(())
}

fn print_json(value: &Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    Ok(writeln!(out)?)
}
