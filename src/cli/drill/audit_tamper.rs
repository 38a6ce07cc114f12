//! Tampers with copies of the newest part of the export, and checks that verification finds the place. The export
//! itself is only read.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use serde_json::Value;

use crate::{
    app::open_existing_archive,
    cli::{
        ConfigFile,
        audit::{believed, open_export},
    },
    config::Settings,
    domain::audit::{chain::Broken, checkpoint::VerifierKey, drill::DrillKind},
    service::audit::{
        error::AuditError,
        export::{ExportFile, ExportWalk, Newest, read_newest},
        verify::{Since, Verified, verify_database, verify_export},
    },
    store::Db,
};

use super::{Common, Findings, conclude, scratch::Scratch};

/// The number of newest checkpoints that are copied.
const CHECKPOINTS: usize = 3;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Uses this export, a folder or a URL, instead of the configured one, and leaves out the database
    #[arg(long, value_name = "DIR|URL")]
    export: Option<String>,
    /// A folder for the copies; by default the machine's folder for temporary files
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = arguments.common.server.client()?;
    let settings = arguments.file.load()?;
    let archive = match &arguments.export {
        Some(place) => open_export(&settings, place)?,
        None => open_existing_archive(&settings)?
            .context("the settings name no audit.export.url; name an export with --export, or set one up")?,
    };
    let keys = believed(&[], &settings, Some(&archive)).await?;
    let scratch = Scratch::new(arguments.scratch.as_deref())?;
    let output = arguments.common.output;
    conclude(DrillKind::AuditTamper, &client, output, async |findings| {
        let newest = read_newest(&archive, CHECKPOINTS).await?;
        let copies = Copies { settings: &settings, keys: &keys, scratch: &scratch, newest: &newest };
        let database = match &arguments.export {
            Some(_) => None,
            None => Some(Db::connect_read_only(settings.database.url.expose()).await?),
        };
        rehearse(&copies, database.as_ref(), findings).await
    })
    .await
}

/// The source and the place of the copies.
struct Copies<'a> {
    settings: &'a Settings,
    keys: &'a [VerifierKey],
    scratch: &'a Scratch,
    newest: &'a Newest,
}

async fn rehearse(copies: &Copies<'_>, database: Option<&Db>, findings: &mut Findings) -> anyhow::Result<()> {
    let segments = &copies.newest.segments;
    let Some(last) = segments.last() else {
        bail!("the export holds no checkpoint yet; make one with `weir audit checkpoint`");
    };
    let began = Instant::now();
    let untouched = copies.verify("untouched", segments).await?;
    findings.measure("verified", began.elapsed());
    let verified = match untouched {
        Ok(verified) => verified,
        Err(broken) => {
            findings.fault(format!("the export does not verify as it is: {broken}; run `weir audit verify`"));
            return Ok(());
        }
    };
    findings.count("events", u64::try_from(verified.head.seq - verified.after).unwrap_or_default());

    let middle = segments.len() / 2;
    let (changed, seq) = with_a_byte_changed(&segments[middle][1])?;
    let mut tampered = segments.clone();
    tampered[middle][1] = changed;
    let began = Instant::now();
    let found = copies.verify("changed", &tampered).await?;
    findings.measure("changed_byte_found", began.elapsed());
    expect(findings, "a changed byte", seq, found);

    let (cut, seq) = without_its_last_event(&last[1])?;
    let mut tampered = segments.clone();
    if let Some(last) = tampered.last_mut() {
        last[1] = cut;
    }
    let began = Instant::now();
    let found = copies.verify("cut", &tampered).await?;
    findings.measure("cut_event_found", began.elapsed());
    expect(findings, "an event cut from the end", seq, found);

    let Some(db) = database else { return Ok(()) };
    // An export that ends early, at a checkpoint, is valid by itself; only the database knows that there was more.
    let (_, shorter) = segments.split_last().unwrap_or((last, &[]));
    let walk = copies.walk("shorter", shorter).await?;
    let (since, end) = (copies.newest.base.map_or(Since::Beginning, Since::Checkpoint), walk.last());
    let began = Instant::now();
    let found = broken(verify_database(db, copies.keys, since, Some(walk), &mut |_| ()).await)?;
    findings.measure("cut_checkpoint_found", began.elapsed());
    expect(findings, "a checkpoint cut from the end", end + 1, found);
    Ok(())
}

/// Checks that verification named this event.
fn expect(findings: &mut Findings, what: &str, seq: i64, found: Result<Verified, Broken>) {
    match found {
        Err(broken) if broken.seq == seq => {}
        Err(broken) => findings.fault(format!("{what} was found at event {}, and it was {seq}", broken.seq)),
        Ok(_) => findings.fault(format!("{what} (event {seq}) was not found")),
    }
}

/// Separates what verification found from all other errors.
fn broken(verified: Result<Verified, AuditError>) -> anyhow::Result<Result<Verified, Broken>> {
    match verified {
        Ok(verified) => Ok(Ok(verified)),
        Err(AuditError::Broken(broken)) => Ok(Err(broken)),
        Err(error) => Err(error.into()),
    }
}

impl Copies<'_> {
    async fn verify(&self, name: &str, segments: &[[ExportFile; 2]]) -> anyhow::Result<Result<Verified, Broken>> {
        broken(verify_export(self.walk(name, segments).await?, &mut |_| ()).await)
    }

    /// Walks through a new copy.
    async fn walk(&self, name: &str, segments: &[[ExportFile; 2]]) -> anyhow::Result<ExportWalk> {
        let root = self.scratch.path().join(name);
        for file in self.newest.ground.iter().chain(segments.iter().flatten()) {
            write(&root, file).with_context(|| format!("`{}` cannot be written", root.display()))?;
        }
        fs::create_dir_all(&root)?;
        let copy = open_export(self.settings, &root.display().to_string())?;
        Ok(match self.newest.base {
            Some(seq) => ExportWalk::since(&copy, self.keys, Some(seq)).await?,
            None => ExportWalk::from_start(&copy, self.keys).await?,
        })
    }
}

fn write(root: &Path, file: &ExportFile) -> std::io::Result<()> {
    let folder = root.join(file.folder);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(&file.name), &file.content)
}

/// Changes one letter in an event of the file; also returns that event's sequence number.
fn with_a_byte_changed(events: &ExportFile) -> anyhow::Result<(ExportFile, i64)> {
    let mut lines = lines(events);
    let middle = lines.len() / 2;
    let line = lines.get_mut(middle).context("the export has a checkpoint without events")?;
    let seq = seq_of(line)?;
    // The letter is in the action, so the line is still JSON but says something else.
    let mark = b"\"action\":\"";
    let at = line.windows(mark.len()).position(|window| window == mark);
    let letter =
        at.and_then(|at| line.get_mut(at + mark.len())).context("the export has an event without an action")?;
    *letter ^= 1;
    Ok((joined(events, &lines), seq))
}

/// Removes the last event of the file; also returns that event's sequence number.
fn without_its_last_event(events: &ExportFile) -> anyhow::Result<(ExportFile, i64)> {
    let mut lines = lines(events);
    let last = lines.pop().context("the export has a checkpoint without events")?;
    Ok((joined(events, &lines), seq_of(&last)?))
}

fn lines(events: &ExportFile) -> Vec<Vec<u8>> {
    let lines = events.content.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| *line != b"\n").map(<[u8]>::to_vec).collect()
}

fn joined(events: &ExportFile, lines: &[Vec<u8>]) -> ExportFile {
    ExportFile { content: Bytes::from(lines.concat()), ..events.clone() }
}

fn seq_of(line: &[u8]) -> anyhow::Result<i64> {
    let line: Value = serde_json::from_slice(line).context("the export has a line that is no JSON")?;
    line["seq"].as_i64().context("the export has a line without a sequence number")
}
