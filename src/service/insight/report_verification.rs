//! Verifies a monthly report without a server or a database: that its files are as they were made, and that they agree
//! with the audit trail.
//! The manifest's signature proves the files; counting the exported trail again proves the numbers. Never here:
//! repairs, or where files come from.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    domain::{
        audit::{
            checkpoint::{Checkpoint, VerifierKey},
            recorded::Recorded,
        },
        insight::report::{FileEntry, Manifest, Report, ReportFile, Statement, Tally},
    },
    service::audit::{error::AuditError, export::ExportWalk},
};

/// What verification found in order.
#[derive(Clone, Debug)]
pub struct VerifiedReport {
    /// The manifest.
    pub manifest: Manifest,
    /// The files that were checked against the manifest.
    pub files: Vec<ReportFile>,
    /// The last event that the report's checkpoint covers.
    pub covered: i64,
    /// How many events of the export were counted again; `None` without an export.
    pub recounted: Option<i64>,
}

fn refused(why: impl Into<String>) -> AuditError {
    AuditError::Refused(why.into())
}

/// Reads the manifest among these files without verifying anything.
pub fn read_manifest(files: &BTreeMap<ReportFile, Vec<u8>>) -> Result<Manifest, AuditError> {
    let json = files.get(&ReportFile::Manifest).ok_or_else(|| refused("manifest.json is missing; name it, too"))?;
    Manifest::read(json).ok_or_else(|| refused("manifest.json is no manifest of a report"))
}

/// Verifies a report's files against its manifest, and the manifest's signature and checkpoint with `keys`. With an
/// export, also counts the trail again and compares.
pub async fn verify_report(
    files: &BTreeMap<ReportFile, Vec<u8>>,
    keys: &[VerifierKey],
    export: Option<ExportWalk>,
    progress: &mut (dyn FnMut(i64) + Send),
) -> Result<VerifiedReport, AuditError> {
    let manifest = read_manifest(files)?;
    verify_signature(files, keys)?;
    let looked_at = verify_files(files, &manifest)?;
    let checkpoint = Checkpoint::open(&manifest.checkpoint, keys)
        .map_err(|error| refused(format!("the checkpoint in manifest.json is bad: {error}")))?;
    let covered = checkpoint.head.seq;
    if manifest.events.last_seq.is_some_and(|last| last > covered) {
        return Err(refused(format!(
            "the checkpoint in manifest.json covers {covered} events, and not the report's last"
        )));
    }
    let report = match files.get(&ReportFile::Json) {
        Some(json) => Some(Report::read(json).ok_or_else(|| refused("report.json is no report of this weir's kind"))?),
        None => None,
    };
    if let Some(report) = &report {
        let said = (report.month, &report.recipient, report.events);
        if said != (manifest.month, &manifest.recipient, manifest.events) {
            return Err(refused("report.json and manifest.json are of different reports"));
        }
    }
    let recounted = match (export, report) {
        (None, _) => None,
        (Some(_), None) => {
            return Err(refused("report.json is missing; its numbers are what an export is compared with"));
        }
        (Some(walk), Some(report)) => Some(recount(walk, &checkpoint, report, progress).await?),
    };
    Ok(VerifiedReport { manifest, files: looked_at, covered, recounted })
}

fn verify_signature(files: &BTreeMap<ReportFile, Vec<u8>>, keys: &[VerifierKey]) -> Result<(), AuditError> {
    let missing = || refused("manifest.sig is missing; name it, too");
    let signature = files.get(&ReportFile::Signature).ok_or_else(missing)?;
    let statement = Statement::of(files.get(&ReportFile::Manifest).map(Vec::as_slice).unwrap_or_default());
    let note = std::str::from_utf8(signature).unwrap_or_default();
    if keys.iter().any(|key| key.has_signed(statement.as_str(), note)) {
        return Ok(());
    }
    Err(refused("manifest.json is not what was signed, or by no key that is believed"))
}

/// Compares each given file with the manifest.
fn verify_files(files: &BTreeMap<ReportFile, Vec<u8>>, manifest: &Manifest) -> Result<Vec<ReportFile>, AuditError> {
    let mut looked_at = Vec::new();
    for file in ReportFile::LISTED {
        let name = file.as_str();
        let Some(content) = files.get(&file) else { continue };
        let entry = manifest.files.get(name).ok_or_else(|| refused(format!("manifest.json does not list {name}")))?;
        if FileEntry::of(content) != *entry {
            return Err(refused(format!("{name} is not the file that was made: its hash is another")));
        }
        looked_at.push(file);
    }
    Ok(looked_at)
}

/// Walks the export to the report's checkpoint and to the end of its month and counts. Returns how many events it
/// counted.
async fn recount(
    mut walk: ExportWalk,
    covering: &Checkpoint,
    report: Report,
    progress: &mut (dyn FnMut(i64) + Send),
) -> Result<i64, AuditError> {
    let mut tally = Tally::new(report.month, report.recipient.clone());
    let (mut has_ended, mut is_covered) = (false, false);
    while !(has_ended && is_covered) {
        let mut fault = None;
        let segment = walk
            .next_with(|event, _: &Value| {
                let Some(recorded) = Recorded::read(event.body, None) else {
                    fault.get_or_insert_with(|| format!("event {} of the export cannot be read", event.seq));
                    return;
                };
                has_ended |= recorded.at >= report.until;
                if let Err(error) = tally.add(recorded) {
                    fault.get_or_insert_with(|| error.to_string());
                }
            })
            .await?;
        if let Some(fault) = fault {
            return Err(refused(fault));
        }
        let Some(segment) = segment else { break };
        if segment.checkpoint.head.seq == covering.head.seq {
            if segment.checkpoint != *covering {
                return Err(refused("the checkpoint in manifest.json is another than the export's: another chain"));
            }
            is_covered = true;
        }
        progress(segment.checkpoint.head.seq);
    }
    if !is_covered {
        return Err(refused(format!(
            "the export does not hold the report's checkpoint {}; wait until it is exported, or name another export",
            covering.head.seq
        )));
    }
    let counted = tally.finish(|_| None);
    let events = counted.events.count;
    if let Some(what) = difference(&report.provable(), &counted.provable()) {
        return Err(refused(format!("the report does not say what the trail does: {what}")));
    }
    Ok(events)
}

/// Describes the first difference between the report and the trail.
fn difference(report: &Report, trail: &Report) -> Option<String> {
    if report == trail {
        return None;
    }
    let told = |what: &str, report: i64, trail: i64| {
        (report != trail).then(|| format!("{report} {what} in the report, {trail} in the trail"))
    };
    told("events", report.events.count, trail.events.count)
        .or_else(|| told("requests", report.totals.requests, trail.totals.requests))
        .or_else(|| told("refusals", report.totals.denials, trail.totals.denials))
        .or_else(|| {
            let differing = report.lines.iter().zip(&trail.lines).find(|(report, trail)| report != trail)?.0;
            let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
            let (recipient, share, table) =
                (name(&differing.recipient), name(&differing.share), name(&differing.table));
            Some(format!("the line of recipient {recipient}, share {share} and table {table} differs"))
        })
        .or_else(|| Some("its details differ".to_owned()))
}
