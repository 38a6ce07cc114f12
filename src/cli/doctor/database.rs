//! Examines the database: reachable, with the right schema, durable and writable; and its records of keys and
//! checkpoints.

use std::fs::File;

use chrono::{SecondsFormat, TimeDelta, Utc};

use crate::{
    cli::failure,
    config::Settings,
    domain::core::{job::JobState, word::Words},
    store::{Db, StoreError},
};

use super::{Examined, Fault, Finding, Status, is_sqlite, patiently, spelled};

/// A root key that has been active for longer should be rotated.
const OLD_KEY: TimeDelta = TimeDelta::days(730);
/// How late a checkpoint may be beyond the configured interval; a restarting server is not at fault.
const GRACE: TimeDelta = TimeDelta::seconds(60);
const UNREACHABLE: &str = "start the database, and check database.url and the network between";

/// Opens the database to look at it.
pub(super) async fn open(settings: &Settings) -> (Finding, Option<Db>) {
    let mut opened = None;
    let examined = patiently(UNREACHABLE, async {
        if let Some(file) = settings.database.sqlite_file()
            && !file.exists()
        {
            let detail = format!("`{}` does not exist", file.display());
            return Err(Fault::new(detail, "run `weir migrate`, or start the server, which makes it"));
        }
        let db = Db::connect_read_only(settings.database.url.expose()).await.map_err(fault)?;
        db.ping().await.map_err(fault)?;
        db.check_schema().await.map_err(fault)?;
        opened = Some(db.clone());
        examine(settings, &db).await
    });
    let finding = Finding::of("database", examined.await);
    (finding, opened)
}

async fn examine(settings: &Settings, db: &Db) -> Examined {
    let mut faults = db.find_durability_faults().await.map_err(fault)?;
    faults.extend(db.find_writing_faults().await.map_err(fault)?);
    if let Some(fault) = faults.first() {
        return Err(Fault::of(fault, "see docs/production.md"));
    }
    let Some(file) = settings.database.sqlite_file() else {
        return Ok("PostgreSQL answers, at this weir's schema, durable, and its role may write".to_owned());
    };
    File::options().append(true).open(&file).map_err(|source| {
        let detail = format!("`{}` cannot be written: {source}", file.display());
        Fault::new(detail, "give the file and its folder to the user that the server runs as, and run doctor as that")
    })?;
    Ok("SQLite answers, at this weir's schema, durable and writable".to_owned())
}

/// The database server's messages name the role or the database, never the password.
fn fault(error: StoreError) -> Fault {
    Fault::of(failure::said(&error.into()), UNREACHABLE)
}

/// How far the database's clock is ahead of this machine's, with its name; `None` if it has no clock of its own.
pub(super) async fn skew(db: Option<&Db>) -> Option<(String, TimeDelta)> {
    let before = Utc::now();
    let asked = tokio::time::timeout(super::PATIENCE, db?.find_time()).await;
    let time = asked.ok()?.ok()??;
    Some(("the database".to_owned(), time - (before + (Utc::now() - before) / 2)))
}

/// Whether the servers of this database use the active key, and since when.
pub(super) async fn keys(db: Option<&Db>, fingerprints: &[String]) -> Option<Finding> {
    const CHECK: &str = "key age";
    let active = fingerprints.first()?;
    let Some(db) = db else {
        return Some(Finding::new(CHECK, Status::Skipped, "the database cannot be read"));
    };
    let mut since = None;
    let examined = patiently(UNREACHABLE, async {
        let known = db.list_key_fingerprints().await.map_err(fault)?;
        if !known.is_empty() && !known.iter().any(|known| fingerprints.contains(known)) {
            let detail =
                format!("none of secrets.key_files is a key that this database's servers use ({})", known.join(", "));
            return Err(Fault::new(detail, "give this server the key file that the others have"));
        }
        if let Some(newest) = known.last().filter(|newest| !fingerprints.contains(newest)) {
            let detail = format!("this database's servers have gone on to the key {newest}, which is not here");
            return Err(Fault::new(detail, "give this server the key file that the others have"));
        }
        since = db.find_key_first_seen(active).await.map_err(fault)?;
        Ok(match since {
            Some(since) => format!("{active} has been active for {}", spelled(Utc::now() - since)),
            None => format!("{active} becomes active with the next start"),
        })
    });
    let finding = Finding::of(CHECK, examined.await);
    let is_old = since.is_some_and(|since| Utc::now() - since > OLD_KEY);
    Some(match finding.status {
        Status::Ok if is_old => {
            let remedy = "make a new one with `weir keys rotate`, and do what it says";
            Finding::warning(CHECK, Fault::new(finding.detail, remedy))
        }
        _ => finding,
    })
}

/// Whether work was given up that somebody has to look at.
pub(super) async fn jobs(db: Option<&Db>) -> Finding {
    const CHECK: &str = "jobs";
    let Some(db) = db else { return Finding::new(CHECK, Status::Skipped, "the database cannot be read") };
    let mut dead = 0;
    let examined = patiently(UNREACHABLE, async {
        for (_, state, count) in db.count_jobs().await.map_err(fault)? {
            dead += if state == JobState::Dead.as_str() { count } else { 0 };
        }
        Ok("no job was given up".to_owned())
    });
    let finding = Finding::of(CHECK, examined.await);
    if dead > 0 {
        let remedy = "`weir job list --state dead` says why; `weir job retry` has one done again";
        return Finding::warning(CHECK, Fault::new(format!("jobs that were given up: {dead}"), remedy));
    }
    finding
}

/// Which settings that restrict sharing are off, and since when.
pub(super) async fn safeguards(settings: &Settings, db: Option<&Db>) -> Finding {
    const CHECK: &str = "safeguards";
    let safeguards = settings.safeguards();
    let mut off = Vec::new();
    let examined = patiently(UNREACHABLE, async {
        for safeguard in safeguards.iter().filter(|safeguard| safeguard.is_off) {
            let last = match db {
                Some(db) => db.find_safeguard(safeguard.setting).await.map_err(fault)?,
                None => None,
            };
            let since = match last.filter(|last| last.value == safeguard.value) {
                Some(last) => format!("since {}", last.since.to_rfc3339_opts(SecondsFormat::Secs, true)),
                None if db.is_none() => "since when, the database would say".to_owned(),
                None => "from the next start on".to_owned(),
            };
            off.push(format!("{} = {} ({since})", safeguard.setting, safeguard.value));
        }
        Ok(format!("none of {} settings that restrict sharing is off", safeguards.len()))
    });
    let finding = Finding::of(CHECK, examined.await);
    if finding.status == Status::Ok && !off.is_empty() {
        let remedy = "decide on each, and switch on what your agreements and rules ask for; docs/configuration.md#safeguards \
                      says what each does";
        return Finding::warning(CHECK, Fault::new(format!("off: {}", off.join(", ")), remedy));
    }
    finding
}

/// Whether the trail is sealed, and exported where it should be, as often as configured.
pub(super) async fn checkpoints(settings: &Settings, db: Option<&Db>) -> Finding {
    const CHECK: &str = "checkpoint";
    let Some(db) = db else { return Finding::new(CHECK, Status::Skipped, "the database cannot be read") };
    let seconds = i64::try_from(settings.audit.checkpoint_seconds).unwrap_or(i64::MAX / 4);
    let late = Utc::now() - TimeDelta::seconds(seconds.saturating_mul(2)) - GRACE;
    let examined = patiently(UNREACHABLE, async {
        let newest = db.find_last_checkpoint().await.map_err(fault)?;
        let sealed = newest.as_ref().map_or(0, |newest| newest.seq);
        if db.find_last_seq_before(late).await.map_err(fault)?.is_some_and(|seq| seq > sealed) {
            let detail = format!("events older than {} have no checkpoint", spelled(Utc::now() - late));
            let remedy = "start the server, or run `weir audit checkpoint` and see what it says; the log has the cause";
            return Err(Fault::new(detail, remedy));
        }
        if settings.audit.export.url.is_some() {
            let waiting = db.list_unexported_checkpoints(1).await.map_err(fault)?;
            if let Some(waiting) = waiting.first().filter(|waiting| waiting.created_at < late) {
                let age = spelled(Utc::now() - waiting.created_at);
                let remedy = "run `weir audit checkpoint` and see what keeps it from exporting";
                return Err(Fault::new(format!("a checkpoint has been waiting for its export for {age}"), remedy));
            }
        }
        Ok(match newest {
            Some(newest) => format!("event {sealed} is sealed, {} ago", spelled(Utc::now() - newest.created_at)),
            None => "there is nothing to seal yet".to_owned(),
        })
    });
    let finding = Finding::of(CHECK, examined.await);
    if finding.status == Status::Ok && is_sqlite(settings) && settings.audit.export.url.is_none() {
        return Finding { detail: format!("{}; nothing is exported", finding.detail), ..finding };
    }
    finding
}
