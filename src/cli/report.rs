//! `weir report`: makes a month's audit report by recipient and dataset, and verifies reports.

use std::{
    collections::BTreeMap,
    fs,
    io::{IsTerminal, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use chrono::Utc;
use clap::ValueEnum;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    domain::{
        audit::checkpoint::VerifierKey,
        insight::report::{Month, Party, Report, ReportFile},
    },
    service::{
        audit::{error::AuditError, export::ExportWalk},
        insight::report_verification::{VerifiedReport, read_manifest, verify_report},
    },
};

use super::{
    ConfigFile,
    api::{Client, Output, Request, Server},
    audit::{believed, is_missing, open_export},
    print,
};

/// How often the server is asked whether a report is ready.
const ASKING: Duration = Duration::from_secs(2);
/// The largest report file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  weir report --month 2026-11 --output-dir report-2026-11\n  weir report --month 2026-11 \
                  --recipient acme --format html > acme.html\n  weir report verify report-2026-11 --export \
                  /srv/weir-audit --key 'weir-audit-…+…+…'"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    make: Make,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Verifies a report without a server; the exit code is 1 if it is not as it was made
    ///
    /// Compares every file with the manifest, and the manifest with its signature. With --export, it also verifies the
    /// exported audit trail and counts it again.
    Verify(Verify),
    /// Lists the reports that were made
    List(List),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    server: Server,
    /// Only reports of this month, as in 2026-11
    #[arg(long)]
    month: Option<String>,
    /// Only reports on this recipient, by name or id
    #[arg(long)]
    recipient: Option<String>,
    /// The output format
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Make {
    #[command(flatten)]
    server: Server,
    /// The month, as in 2026-11; a month that is not over gives a preview
    #[arg(long, required = true)]
    month: Option<String>,
    /// Reports only on this recipient, by name or id
    #[arg(long)]
    recipient: Option<String>,
    /// Writes every file of the report into this folder, which is created if it does not exist
    #[arg(long, value_name = "DIR", conflicts_with = "format")]
    output_dir: Option<PathBuf>,
    /// Prints one file of the report
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Debug, clap::Args)]
struct Verify {
    #[command(flatten)]
    file: ConfigFile,
    /// The report's folder, or its files including manifest.json and manifest.sig
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// Also verifies this export of the audit trail, a folder or a URL, and counts it again
    #[arg(long, value_name = "DIR|URL")]
    export: Option<String>,
    /// Trusts signatures of this key, as printed by `weir audit key`, instead of the keys in the key files; may be
    /// repeated
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A single page, for people
    Html,
    /// One line per recipient and dataset
    Csv,
    /// Everything, for programs
    Json,
}

impl Format {
    fn file(self) -> ReportFile {
        match self {
            Self::Html => ReportFile::Html,
            Self::Csv => ReportFile::Csv,
            Self::Json => ReportFile::Json,
        }
    }
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Some(Command::Verify(arguments)) => verify(arguments).await,
        Some(Command::List(arguments)) => list(arguments).await,
        None => make(arguments.make).await,
    }
}

async fn make(arguments: Make) -> anyhow::Result<()> {
    let Make { server, month, recipient, output_dir, format } = arguments;
    let client = server.client()?;
    let is_over = |month: &String| Month::parse(month).is_none_or(|month| month.end() <= Utc::now());
    if let Some(month) = month.as_ref().filter(|month| !is_over(month)) {
        return preview(&client, month, recipient, output_dir, format).await;
    }
    let body = json!({"month": month, "recipient": recipient});
    let (report, _) = client.call(&Request::new(Method::POST, &["reports"]).with_body(body)).await?;
    let report = wait(&client, report).await?;
    let id = report["id"].as_str().context("the answer is not what this weir knows; use the server's own")?;
    let mut out = print::out();
    match (output_dir, format) {
        (Some(folder), _) => {
            fs::create_dir_all(&folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
            for file in ReportFile::ALL {
                let content = fetch(&client, id, file).await?;
                write_whole(&folder, file.as_str(), &content)?;
            }
            writeln!(out, "{}", folder.display())?;
        }
        (None, Some(format)) => out.write_all(&fetch(&client, id, format.file()).await?)?,
        (None, None) => {
            let content = fetch(&client, id, ReportFile::Json).await?;
            let report =
                Report::read(&content).context("the report is of another weir's kind; use the server's own")?;
            write!(out, "{}", said(id, &report))?;
        }
    }
    Ok(())
}

/// Prints the report of a month that is not over, as it is now: a preview, without manifest and signature.
async fn preview(
    client: &Client,
    month: &str,
    recipient: Option<String>,
    output_dir: Option<PathBuf>,
    format: Option<Format>,
) -> anyhow::Result<()> {
    let fetch = async |file: ReportFile| {
        let mut request = Request::new(Method::GET, &["reports", "preview", file.as_str()]).with_query("month", month);
        request.query.extend(recipient.clone().map(|recipient| ("recipient".to_owned(), recipient)));
        client.fetch(&request).await
    };
    print::note(format_args!("{month} is not over: this is a preview, which nobody has signed"));
    match (output_dir, format) {
        (Some(folder), _) => {
            fs::create_dir_all(&folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
            for file in ReportFile::LISTED {
                write_whole(&folder, &format!("preview-{}", file.as_str()), &fetch(file).await?)?;
            }
            print::line(folder.display())?;
        }
        (None, Some(format)) => print::out().write_all(&fetch(format.file()).await?)?,
        (None, None) => {
            let content = fetch(ReportFile::Json).await?;
            let report =
                Report::read(&content).context("the report is of another weir's kind; use the server's own")?;
            write!(print::out(), "{}", said("preview", &report))?;
        }
    }
    Ok(())
}

async fn list(arguments: List) -> anyhow::Result<()> {
    let List { server, month, recipient, output } = arguments;
    let mut request = Request::new(Method::GET, &["reports"]);
    for (name, value) in [("month", month), ("recipient", recipient)] {
        request.query.extend(value.map(|value| (name.to_owned(), value)));
    }
    let (items, _) = server.client()?.list(&request, None).await?;
    let mut out = print::out();
    match output {
        Output::Json => print::json(&mut out, &json!({"items": items}))?,
        Output::Table => {
            print::table(&mut out, &["id", "month", "recipient", "state", "ready_at", "requested_by"], &items)?;
        }
    }
    Ok(())
}

/// Waits until the report is ready.
async fn wait(client: &Client, mut report: Value) -> anyhow::Result<Value> {
    let is_watched = std::io::stderr().is_terminal();
    loop {
        match (report["state"].as_str(), report["id"].as_str()) {
            (Some("ready"), _) => return Ok(report),
            (Some("making"), Some(id)) => {
                if is_watched {
                    print::note("the report is being made");
                }
                tokio::time::sleep(ASKING).await;
                report = client.call(&Request::new(Method::GET, &["reports", id])).await?.0;
            }
            _ => bail!(
                "the report cannot be made: {}",
                print::clean(report["failure"].as_str().unwrap_or("see the server's log"), true)
            ),
        }
    }
}

async fn fetch(client: &Client, id: &str, file: ReportFile) -> anyhow::Result<Vec<u8>> {
    client.fetch(&Request::new(Method::GET, &["reports", id, file.as_str()])).await
}

/// Writes a file that gets its name only when it is complete.
fn write_whole(folder: &Path, file: &str, content: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(file);
    let partial = folder.join(format!("{file}.part"));
    let written = fs::write(&partial, content).and_then(|()| fs::rename(&partial, &path));
    written.with_context(|| format!("`{}` cannot be written", path.display()))
}

/// Summarises a report in a few lines.
fn said(id: &str, report: &Report) -> String {
    let totals = &report.totals;
    format!(
        "report {id}: {}, {}\n{} events, {} requests and {} file reads of {} datasets, {} refused; {} files, {} bytes\n\
         --output-dir writes its files, --format prints one\n",
        report.month,
        whose(report.recipient.as_ref()),
        report.events.count,
        totals.requests,
        totals.file_reads,
        report.datasets.iter().filter(|line| line.table_id.is_some()).count(),
        totals.denials,
        totals.files,
        totals.bytes_issued
    )
}

/// The recipient of a report.
fn whose(recipient: Option<&Party>) -> String {
    print::clean(recipient.map_or("every recipient", |party| &party.name), false)
}

async fn verify(arguments: Verify) -> anyhow::Result<()> {
    let files = read_files(&arguments.paths)?;
    let settings = arguments.file.load()?;
    let archive = arguments.export.as_deref().map(|place| open_export(&settings, place)).transpose()?;
    let keys = match believed(&arguments.keys, &settings, archive.as_ref()).await {
        Ok(keys) => keys,
        // Without a key file and an export, the only key is the report's own, as with an export.
        Err(error) if is_missing(&error) => {
            let key = VerifierKey::parse(&read_manifest(&files)?.key).context("manifest.json names no key")?;
            print::note(format_args!("believing the report's own key {key}; compare it with `weir audit key`"));
            vec![key]
        }
        Err(error) => return Err(error),
    };
    let walk = match &archive {
        Some(archive) => Some(ExportWalk::from_start(archive, &keys).await?),
        None => None,
    };
    let verified = verify_report(&files, &keys, walk, &mut |_| {}).await.map_err(failed)?;
    print::line(confirmed(&verified))?;
    Ok(())
}

/// A report that does not verify is a failure, not a policy refusal.
fn failed(error: AuditError) -> anyhow::Error {
    match error {
        AuditError::Refused(why) => anyhow::anyhow!(why),
        error => error.into(),
    }
}

fn confirmed(verified: &VerifiedReport) -> String {
    let VerifiedReport { manifest, files, covered, recounted } = verified;
    let names: Vec<&str> = files.iter().map(|file| file.as_str()).collect();
    let counted = match recounted {
        Some(events) => format!("the export, verified and counted again, says the same of {events} events"),
        None => "name the trail's export with --export to have it counted again".to_owned(),
    };
    format!(
        "verified the report of {} about {}: {} as made on {}, covered by checkpoint {covered}; {counted}",
        manifest.month,
        whose(manifest.recipient.as_ref()),
        if names.is_empty() { "its manifest".to_owned() } else { names.join(", ") },
        manifest.made_at.format("%Y-%m-%d")
    )
}

/// Reads the files of a report from a folder, or the files that are named.
fn read_files(paths: &[PathBuf]) -> anyhow::Result<BTreeMap<ReportFile, Vec<u8>>> {
    let mut files = BTreeMap::new();
    if let [folder] = paths
        && folder.is_dir()
    {
        for file in ReportFile::ALL {
            files.insert(file, read_file(&folder.join(file.as_str()))?);
        }
        return Ok(files);
    }
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let file = ReportFile::ALL.into_iter().find(|file| name.ends_with(file.as_str()));
        let file = file.with_context(|| format!("`{}` is no file of a report", path.display()))?;
        if files.insert(file, read_file(path)?).is_some() {
            bail!("two files are a {}; name those of one report", file.as_str());
        }
    }
    Ok(files)
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let unread = || format!("`{}` cannot be read", path.display());
    let mut content = Vec::new();
    fs::File::open(path)
        .with_context(unread)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut content)
        .with_context(unread)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        bail!("`{}` is larger than any file of a report", path.display());
    }
    Ok(content)
}
