//! `weir audit`: verifies, exports and seals the trail, and detaches its old months.
//!
//! Verifying and exporting only read, and work alongside a running server.

use std::{
    fs::File,
    io::{BufWriter, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use serde_json::{Map, Value};
use url::Url;

use crate::{
    app::{open_archive, open_existing_archive, unopened},
    config::{
        Settings,
        keys::{KeyError, read_keys},
    },
    domain::{
        audit::checkpoint::{SigningKey, VerifierKey},
        core::seal::hex,
    },
    render::csv,
    service::{
        audit::{
            export::{ExportWalk, read_keys as read_exported_keys},
            seal::AuditSealer,
            verify::{Since, Verified, verify_database, verify_export},
        },
        core::clock::Clock,
    },
    storage::Archive,
    store::{AuditFilter, Db, Reclaimed, StoredEvent},
};

use super::{ConfigFile, operation::moment, print};

/// The number of events that are read at a time.
const PAGE: u32 = 1_000;
/// The interval of progress messages.
const PROGRESS: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Verifies the audit trail; if it is broken, the exit code is 1 and the first bad sequence number is named
    Verify(Verify),
    /// Writes events to a file or to standard output
    Export(Export),
    /// Prints the public keys that verify checkpoints, the active one first
    Key(ConfigFile),
    /// Makes a checkpoint now, and exports it if an export is configured
    Checkpoint(ConfigFile),
    /// Deletes events up to the end of a month from the database, if the export holds them
    Detach(Detach),
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    file: ConfigFile,
    /// Trusts a checkpoint (the newest, or the one with this sequence number) and verifies only later events
    #[arg(long, value_name = "SEQ", num_args = 0..=1, require_equals = true)]
    since_checkpoint: Option<Option<i64>>,
    /// Verifies this export, a folder or a URL, and not the database unless --database is given. By default the
    /// database is verified, and compared with the configured export
    #[arg(long, value_name = "DIR|URL")]
    export: Option<String>,
    /// Verifies the database too, and compares it with --export
    #[arg(long, requires = "export")]
    database: bool,
    /// Trusts checkpoints signed with this key, as printed by `weir audit key`, instead of the keys in the key files;
    /// may be repeated
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Export {
    #[command(flatten)]
    file: ConfigFile,
    /// Only events at this moment or later: a date (its beginning in UTC) or RFC 3339
    #[arg(long, value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Only events before this moment
    #[arg(long, value_parser = moment)]
    until: Option<DateTime<Utc>>,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The file, which gets its name when it is complete; standard output by default
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// One JSON object per line, as in the API's feed
    #[default]
    Ndjson,
    /// Comma-separated values (RFC 4180) with a heading
    Csv,
}

#[derive(Debug, clap::Args)]
pub(super) struct Detach {
    #[command(flatten)]
    file: ConfigFile,
    /// The month, as in 2026-08; all earlier months are deleted too
    #[arg(long)]
    month: String,
    /// Also deletes addresses and user agents that were to be kept longer; the export does not hold them
    #[arg(long)]
    with_personal: bool,
}

pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Verify(arguments) => verify(arguments).await,
        Command::Export(arguments) => export(arguments).await,
        Command::Key(file) => {
            for key in own_keys(&file.load()?)? {
                print::line(key)?;
            }
            Ok(())
        }
        Command::Checkpoint(file) => {
            let (audit_sealer, db) = audit_sealer(&file.load()?).await?;
            audit_sealer.seal().await?;
            let newest = db.find_last_checkpoint().await?;
            db.close().await;
            write!(print::out(), "{}", newest.map(|checkpoint| checkpoint.note).unwrap_or_default())?;
            Ok(())
        }
        Command::Detach(arguments) => {
            let (audit_sealer, db) = audit_sealer(&arguments.file.load()?).await?;
            let detached = audit_sealer.detach(&arguments.month, arguments.with_personal).await?;
            print::line(format!(
                "{} events deleted; up to {} they live in the export only",
                detached.events, detached.through
            ))?;
            let reclaimed = db.reclaim_audit().await;
            db.close().await;
            Ok(print::line(freed(reclaimed?))?)
        }
    }
}

/// Says what happened to the space of deleted events.
fn freed(reclaimed: Reclaimed) -> String {
    match reclaimed {
        Reclaimed::GivenBack(bytes) => format!("{} MiB were given back to the disk", bytes >> 20),
        Reclaimed::Reusable => {
            "their space takes what is written from here on; `VACUUM FULL audit_events` gives it back \
                                to the disk, and stops every request meanwhile"
                .to_owned()
        }
        Reclaimed::Refused => {
            "their space is not free yet, because this role may not vacuum `audit_events` and `audit_personal`; name the \
                            tables' owner in database.migrate_url and run this again, or wait for autovacuum"
                .to_owned()
        }
        Reclaimed::Kept => {
            "their space takes what is written from here on; to give it back to the disk, stop the server \
                            and run this again"
                .to_owned()
        }
    }
}

/// An audit sealer on a connection with rights that the server's own connection lacks.
pub(super) async fn audit_sealer(settings: &Settings) -> anyhow::Result<(AuditSealer, Db)> {
    let url = settings.database.migrate_url.as_ref().unwrap_or(&settings.database.url);
    let db = Db::connect(url.expose(), 1).await?;
    db.check_schema().await?;
    let keys = read_keys(&settings.secrets)?;
    let audit_sealer =
        AuditSealer::new(db.clone(), Clock::system(), &keys, open_archive(settings)?, settings.audit.clone())?;
    Ok((audit_sealer, db))
}

pub(super) fn own_keys(settings: &Settings) -> anyhow::Result<Vec<VerifierKey>> {
    let mut keys = Vec::new();
    for root in read_keys(&settings.secrets)? {
        keys.push(SigningKey::derive(&root)?.verifier().clone());
    }
    Ok(keys)
}

async fn verify(arguments: Verify) -> anyhow::Result<()> {
    let settings = arguments.file.load()?;
    let archive = match &arguments.export {
        Some(place) => Some(open_export(&settings, place)?),
        None => open_existing_archive(&settings)?,
    };
    let keys = believed(&arguments.keys, &settings, archive.as_ref()).await?;
    let since = match arguments.since_checkpoint {
        None => Since::Beginning,
        Some(None) => Since::NewestCheckpoint,
        Some(Some(seq)) => Since::Checkpoint(seq),
    };
    let mut progress = Progress::new("verified up to event");
    let mut told = |seq| progress.tell(seq);
    let verified = match (&archive, arguments.export.is_some() && !arguments.database) {
        (Some(archive), true) => {
            let walk = match since {
                Since::Beginning => ExportWalk::from_start(archive, &keys).await?,
                Since::NewestCheckpoint => ExportWalk::since(archive, &keys, None).await?,
                Since::Checkpoint(seq) => ExportWalk::since(archive, &keys, Some(seq)).await?,
            };
            if walk.last() == 0 {
                bail!("`{}` holds no checkpoint; name the folder or URL of audit.export", archive.url());
            }
            verify_export(walk, &mut told).await?
        }
        (archive, _) => {
            let db = Db::connect_read_only(settings.database.url.expose()).await?;
            db.check_schema().await?;
            let since = pinned(&db, since).await?;
            let walk = match (archive, since) {
                (None, _) => None,
                (Some(archive), Since::Checkpoint(seq)) => Some(ExportWalk::since(archive, &keys, Some(seq)).await?),
                (Some(archive), _) => Some(ExportWalk::from_start(archive, &keys).await?),
            };
            let verified = verify_database(&db, &keys, since, walk, &mut told).await?;
            db.close().await;
            verified
        }
    };
    Ok(print::line(said(&verified, archive.as_ref()))?)
}

/// Starts database and export at the same checkpoint, which both have.
async fn pinned(db: &Db, since: Since) -> anyhow::Result<Since> {
    Ok(match since {
        Since::NewestCheckpoint => match db.find_exported_through().await? {
            Some(seq) => Since::Checkpoint(seq),
            None => Since::NewestCheckpoint,
        },
        Since::Beginning | Since::Checkpoint(_) => since,
    })
}

fn said(verified: &Verified, archive: Option<&Archive>) -> String {
    let Verified { after, head, checkpoints, compared } = verified;
    let mut said = format!(
        "verified events {} to {}, {checkpoints} signed checkpoints; the chain's head is {}",
        after + 1,
        head.seq,
        hex(&head.hash)
    );
    if let Some(archive) = archive.filter(|_| *compared > 0) {
        said.push_str(&format!("; the same as `{}` up to {compared}", archive.url()));
    }
    said
}

/// The keys whose signatures are trusted.
pub(super) async fn believed(
    given: &[String],
    settings: &Settings,
    archive: Option<&Archive>,
) -> anyhow::Result<Vec<VerifierKey>> {
    if !given.is_empty() {
        let parse = |text: &String| VerifierKey::parse(text).with_context(|| format!("`{text}` is no key"));
        return given.iter().map(parse).collect();
    }
    match (own_keys(settings), archive) {
        (Ok(keys), _) => Ok(keys),
        // An auditor has no key file. The export names its own keys, but a forger of the export could have replaced
        // them too.
        (Err(error), Some(archive)) if is_missing(&error) => {
            let keys = read_exported_keys(archive).await?;
            for key in &keys {
                print::note(format_args!("believing the export's own key {key}; compare it with `weir audit key`"));
            }
            Ok(keys)
        }
        (Err(error), _) => Err(error),
    }
}

pub(super) fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<KeyError>(), Some(KeyError::Missing { .. }))
}

/// Opens an existing export, named by its folder or URL, without creating anything.
pub(super) fn open_export(settings: &Settings, place: &str) -> anyhow::Result<Archive> {
    let url = if place.contains("://") {
        place.to_owned()
    } else {
        let folder = Path::new(place).canonicalize().with_context(|| format!("`{place}` is no folder"))?;
        Url::from_directory_path(&folder).ok().context("the folder has no absolute path")?.to_string()
    };
    let mut target = settings.audit.export.target_at(&url);
    if url.starts_with("file:") {
        target.options.clear();
    }
    Archive::open_existing(&target).map_err(|problems| unopened("export", &problems))
}

/// Reports progress from time to time, if standard error is a terminal.
struct Progress {
    what: &'static str,
    told: Instant,
    is_watched: bool,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        Self { what, told: Instant::now(), is_watched: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, seq: i64) {
        if self.is_watched && self.told.elapsed() >= PROGRESS {
            print::note(format_args!("{} {seq}", self.what));
            self.told = Instant::now();
        }
    }
}

async fn export(arguments: Export) -> anyhow::Result<()> {
    let settings = arguments.file.load()?;
    let db = Db::connect_read_only(settings.database.url.expose()).await?;
    db.check_schema().await?;
    let mut filter = AuditFilter { since: arguments.since, until: arguments.until, ..AuditFilter::default() };
    if filter.since.is_some() {
        filter.after_seq = Some(db.find_audit_span(filter.since, None).await?.first - 1);
    }
    match &arguments.output {
        None => write_events(&db, filter, arguments.format, BufWriter::new(print::out())).await?,
        Some(path) => {
            // An incomplete file must not be mistaken for a complete one.
            let mut partial = path.clone().into_os_string();
            partial.push(".part");
            let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial);
            let file = file.with_context(|| format!("`{}` cannot be written", path.display()))?;
            let written = write_events(&db, filter, arguments.format, BufWriter::new(&file)).await;
            let written =
                written.and_then(|()| Ok(file.sync_all()?)).and_then(|()| Ok(std::fs::rename(&partial, path)?));
            if let Err(error) = written {
                let _ = std::fs::remove_file(&partial);
                return Err(error);
            }
        }
    }
    db.close().await;
    Ok(())
}

async fn write_events(db: &Db, mut filter: AuditFilter, format: Format, mut out: impl Write) -> anyhow::Result<()> {
    let mut progress = Progress::new("exported up to event");
    if matches!(format, Format::Csv) {
        write!(out, "{}\r\n", COLUMNS.map(|(name, _)| name).join(","))?;
    }
    loop {
        let page = db.list_audit(&filter, PAGE).await?;
        let Some(last) = page.last().map(|event| event.seq) else { break };
        for event in &page {
            let event = whole(event)?;
            match format {
                Format::Ndjson => {
                    serde_json::to_writer(&mut out, &event).map_err(std::io::Error::from)?;
                    out.write_all(b"\n")?;
                }
                Format::Csv => {
                    let cells = COLUMNS.map(|(_, pointer)| cell(event.pointer(pointer)));
                    write!(out, "{}\r\n", cells.join(","))?;
                }
            }
        }
        filter.after_seq = Some(last);
        progress.tell(last);
    }
    out.flush()?;
    Ok(())
}

/// An event in the form of the admin API's feed.
fn whole(stored: &StoredEvent) -> anyhow::Result<Value> {
    let damaged = || format!("event {} cannot be read; run `weir audit verify`", stored.seq);
    let mut event: Map<String, Value> = serde_json::from_str(&stored.body).with_context(damaged)?;
    if let Some(personal) = &stored.personal {
        event.extend(serde_json::from_str::<Map<String, Value>>(&personal.text).with_context(damaged)?);
    }
    event.insert("prev_hash".to_owned(), hex(&stored.prev_hash).into());
    event.insert("hash".to_owned(), hex(&stored.hash).into());
    Ok(Value::Object(event))
}

/// The columns of CSV, and where their values stand in an event.
const COLUMNS: [(&str, &str); 46] = [
    ("seq", "/seq"),
    ("at", "/at"),
    ("actor_kind", "/actor/kind"),
    ("actor_id", "/actor/id"),
    ("actor_name", "/actor/name"),
    ("actor_role", "/actor/role"),
    ("actor_token_id", "/actor/token_id"),
    ("action", "/action"),
    ("object_kind", "/object/kind"),
    ("object_id", "/object/id"),
    ("object_name", "/object/name"),
    ("decision", "/decision"),
    ("reason", "/reason"),
    ("request_id", "/request_id"),
    ("recipient", "/recipient"),
    ("recipient_id", "/recipient_id"),
    ("token_id", "/token_id"),
    ("grant_id", "/grant_id"),
    ("purpose", "/purpose"),
    ("agreement", "/agreement"),
    ("share", "/share"),
    ("share_id", "/share_id"),
    ("schema", "/schema"),
    ("table", "/table"),
    ("table_id", "/table_id"),
    ("table_version", "/table_version"),
    ("delivery", "/delivery"),
    ("format", "/format"),
    ("predicate_digest", "/predicate_digest"),
    ("files", "/files"),
    ("rows", "/rows"),
    ("bytes", "/bytes"),
    ("url_expires_at", "/url_expires_at"),
    ("duration_ms", "/duration_ms"),
    ("client_address", "/client_address"),
    ("user_agent", "/user_agent"),
    ("contacts", "/contacts"),
    ("path", "/path"),
    ("subject", "/subject"),
    ("change", "/change"),
    ("prev_hash", "/prev_hash"),
    ("hash", "/hash"),
    ("shared_object_id", "/object_id"),
    ("registered_table", "/registered_table"),
    ("effect", "/effect"),
    ("country", "/country"),
];

/// Writes a CSV cell.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(number @ Value::Number(_)) => return number.to_string(),
        Some(other) => other.to_string(),
    };
    csv::text(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_hold_no_formula() {
        for (value, written) in [
            (serde_json::json!("plain"), "plain"),
            (serde_json::json!("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0"),
            (serde_json::json!(-7), "-7"),
            (serde_json::json!(null), ""),
        ] {
            assert_eq!(cell(Some(&value)), written);
        }
    }

    #[test]
    fn moments_are_dates_or_times() {
        assert_eq!(moment("2026-09-01").unwrap(), moment("2026-09-01T02:00:00+02:00").unwrap());
        assert!(moment("yesterday").is_err());
    }
}
