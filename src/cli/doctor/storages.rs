//! Examines what is elsewhere: lists, signs for and reads every storage; writes to the location of materializations;
//! reaches the export.

use std::{error::Error, io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, future::join_all};
use object_store::{ObjectStoreExt, path::Path};
use reqwest::{StatusCode, header};
use uuid::Uuid;

use crate::{
    app::{guarded, open_existing_archive},
    cli::failure,
    config::{Settings, StorageSettings},
    domain::access::delivery::Delivery,
    service::audit::export::holds,
    storage::{CopyRoot, Location, StorageError, Storages, TableLocation, mode_if_open},
    store::{Db, StoredCheckpoint},
};

use super::{Fault, Finding, PATIENCE, Status, patiently};

/// The remedy if an export is no longer where it was.
const LOST: &str = "put audit.export.url back to where the export is (is a disk not mounted?), and then run \
                    `weir audit verify`; what is lost is evidence, see docs/audit.md";

/// How many registered tables are searched for one in each storage.
const TABLES: u32 = 1_000;
/// The lifetime of a URL that is fetched immediately.
const URL_LIFE: TimeDelta = TimeDelta::seconds(300);

/// The name of a clock, and how far it is ahead of this machine's.
type Skew = Option<(String, TimeDelta)>;

/// Examines every storage; also returns the clocks of those that tell the time.
pub(super) async fn examine(
    settings: &Settings,
    config_file: Option<PathBuf>,
    db: Option<&Db>,
) -> (Vec<Finding>, Vec<Skew>) {
    if settings.storage.is_empty() {
        let fault = Fault::new("none is configured", "add a [[storage]] whose url is where tables are");
        return (vec![Finding::warning("storage", fault)], Vec::new());
    }
    let guarded = guarded(settings, config_file);
    let tables = registered(db).await;
    let examined = settings.storage.iter().map(|storage| examine_one(storage, &guarded, &tables));
    join_all(examined).await.into_iter().unzip()
}

/// The locations of registered tables, up to [`TABLES`].
async fn registered(db: Option<&Db>) -> Vec<String> {
    let Some(db) = db else { return Vec::new() };
    let listed = tokio::time::timeout(PATIENCE, db.list_tables(None, TABLES)).await;
    listed.ok().and_then(Result::ok).unwrap_or_default().into_iter().map(|table| table.spec.location).collect()
}

async fn examine_one(settings: &StorageSettings, guarded: &[PathBuf], tables: &[String]) -> (Finding, Skew) {
    let mut skew = None;
    let examined = patiently("check the network, and the storage's endpoint and region in its options", async {
        let storages = Storages::open(std::slice::from_ref(settings), guarded).map_err(|errors| {
            let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Fault::of(told.join(", "), "mend the storage's url and options")
        })?;
        let root = storages.locate(&settings.url).map_err(|error| Fault::of(error, "mend the storage's url"))?;
        let table = tables
            .iter()
            .find_map(|location| storages.locate(location).ok().filter(|table| table.storage_name() == settings.name));
        let log = table.map(|table| table.path().clone().join("_delta_log"));
        let found = first(&root, log.as_ref().unwrap_or(root.path())).await;
        let signs = root.can_sign() && root.delivery() == Delivery::Presigned;
        // Also done for a storage that refuses to list, because a wrong clock may be the reason.
        let path = found.as_ref().ok().cloned().flatten().unwrap_or_else(|| root.path().clone().join("weir-doctor"));
        let fetched = if root.can_sign() { Some(fetch(&root, &path, &mut skew).await) } else { None };
        let Some(path) = found? else {
            return match log {
                Some(log) => {
                    let detail = format!("`{log}`, the log of a registered table, is empty");
                    Err(Fault::new(detail, "check that the table is still there; `weir table delete` forgets it"))
                }
                None => Ok("it can be listed and holds nothing to read yet".to_owned()),
            };
        };
        let what = if log.is_some() { "a table's log" } else { "an object" };
        match fetched.filter(|_| signs) {
            Some(fetched) => {
                fetched?;
                Ok(format!("listed, and {what} read by a signed URL"))
            }
            None => {
                read(&root, &path).await?;
                Ok(format!("listed, and {what} read through this server"))
            }
        }
    });
    let finding = Finding::of(&format!("storage {}", settings.name), examined.await);
    (finding, skew.map(|skew| (format!("storage {}", settings.name), skew)))
}

/// Finds the first object under `prefix`.
async fn first(root: &TableLocation, prefix: &Path) -> Result<Option<Path>, Fault> {
    let mut listing = root.store().list(Some(prefix));
    match listing.try_next().await {
        Ok(found) => Ok(found.map(|meta| meta.location)),
        Err(error) => {
            // A failed listing does not tell its reason; a request for a single object shows whether access is refused.
            let asked = root.store().head(&prefix.clone().join("any")).await.map_err(StorageError::from);
            let refused = asked.err().filter(|error| matches!(error, StorageError::Denied { .. }));
            Err(fault(refused.unwrap_or_else(|| error.into())))
        }
    }
}

/// Reads the first byte of an object as the server would.
async fn read(root: &TableLocation, path: &Path) -> Result<(), Fault> {
    let object = root.open(path).await.map_err(fault)?;
    let mut bytes = object.read(0..1).await.map_err(fault)?;
    match bytes.next().await {
        Some(Err(error)) => Err(fault(error)),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// Reads the first byte of an object as a recipient would, and the store's clock from the answer.
async fn fetch(root: &TableLocation, path: &Path, skew: &mut Option<TimeDelta>) -> Result<(), Fault> {
    let now = Utc::now();
    let urls = root.sign(std::slice::from_ref(path), now + URL_LIFE, now).await.map_err(fault)?;
    let unreachable = |error: reqwest::Error| {
        let detail = format!("a signed URL cannot be fetched: {}", error.without_url());
        Fault::new(detail, "recipients must reach the store's endpoint, too; check it, or use delivery = \"proxied\"")
    };
    let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(unreachable)?;
    let before = Utc::now();
    let request = client.get(urls.first().map_or("", String::as_str)).header(header::RANGE, "bytes=0-0");
    let answer = request.send().await.map_err(unreachable)?;
    let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.to_utc());
    *skew = date.map(|date| date - (before + (Utc::now() - before) / 2));
    match answer.status() {
        // An empty object has no first byte, so this status is fine.
        status if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => Ok(()),
        status => Err(Fault::new(
            format!("the store answers a signed URL with {status}"),
            "let the credential in the storage's options read objects, and check its region",
        )),
    }
}

/// Explains a storage's error to operators. The store's own message may echo what it was sent, so it is left out.
fn fault(error: StorageError) -> Fault {
    let cause = cause_of(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    match error {
        StorageError::Denied { .. } => Fault::new(
            "it refuses access",
            "let the credential in the storage's options list and read there, or give a directory's permissions",
        ),
        StorageError::NotFound { .. } => {
            Fault::new("what is looked for is not there", "check the bucket or folder in the storage's url")
        }
        StorageError::Unavailable { .. } => Fault::new(
            format!("it does not answer usefully{cause}"),
            "check the network, that the bucket exists, and the endpoint and region in the storage's options",
        ),
        error => Fault::of(error, "mend the storage's url and options"),
    }
}

/// The operating system's message, if that was the cause.
fn cause_of(error: &StorageError) -> Option<String> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>().filter(|error| error.raw_os_error().is_some()) {
            return Some(error.to_string());
        }
        cause = error.source();
    }
    None
}

/// Writes, reads and deletes a probe in the location of materializations.
pub(super) async fn views(settings: &Settings) -> Finding {
    const CHECK: &str = "views";
    let Some(target) = settings.views.target() else {
        return Finding::new(CHECK, Status::Skipped, "views.root is not set: no view can be published");
    };
    let remedy = "let the credential in views.options, or the server's user, write, read and delete below views.root";
    let examined = patiently(remedy, async {
        let root = CopyRoot::open(&target).map_err(|errors| {
            let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Fault::of(told.join(", "), remedy)
        })?;
        let path = root.path(&format!("doctor-{}", Uuid::new_v4()));
        let unwritable = |what: &'static str| {
            move |error: object_store::Error| {
                let error = StorageError::from(error);
                let cause = cause_of(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                Fault::new(format!("a probe cannot be {what}{cause}"), remedy)
            }
        };
        let writer = Arc::clone(root.writer());
        writer.put(&path, Bytes::from_static(b"weir").into()).await.map_err(unwritable("written"))?;
        let read = read(root.location(), &path).await;
        writer.delete(&path).await.map_err(unwritable("deleted"))?;
        read?;
        Ok("a probe was written, read and deleted".to_owned())
    });
    closed(Finding::of(CHECK, examined.await), &target)
}

/// Turns `finding` into a warning if it is in order but others may open the server's folder; the server does not change
/// the mode of a folder that already existed.
fn closed(finding: Finding, target: &StorageSettings) -> Finding {
    let folder = Location::parse(&target.url).ok().and_then(|location| location.directory());
    let open = folder.and_then(|folder| mode_if_open(&folder).map(|mode| (folder, mode)));
    match open {
        Some((folder, mode)) if finding.status == Status::Ok => {
            let (found, folder) = (finding.detail, folder.display());
            let detail = format!("{found}; `{folder}` is open to other users (mode {mode:o})");
            Finding::warning(&finding.check, Fault::new(detail, format!("run `chmod 700 {folder}`")))
        }
        _ => finding,
    }
}

/// Reads the location of the export. Nothing is written, because exports are never taken back.
pub(super) async fn export(settings: &Settings, db: Option<&Db>) -> Finding {
    const CHECK: &str = "export";
    let Some(target) = settings.audit.export.target() else {
        let detail = "audit.export.url is not set: whoever owns the database could cut the trail unseen";
        let remedy = "export to a bucket or folder of other keepers; see docs/audit.md";
        return Finding::warning(CHECK, Fault::new(detail, remedy));
    };
    let remedy = "let the credential in audit.export.options list, read and add below audit.export.url";
    let examined = patiently(remedy, async {
        let exported = last_exported(db).await;
        let archive = match open_existing_archive(settings) {
            Ok(archive) => archive,
            Err(_) if exported.is_none() && settings.audit.export.is_missing_folder() => {
                return Ok("the folder is not there yet; the server makes it at its start".to_owned());
            }
            Err(error) => {
                let told = exported.map(|exported| format!(", though checkpoint {} was exported to it", exported.seq));
                return Err(Fault::of(format!("{}{}", failure::said(&error), told.unwrap_or_default()), LOST));
            }
        };
        let Some(archive) = archive else { return Ok("nothing is exported".to_owned()) };
        let keys = archive.list("keys").await.map_err(|error| Fault { remedy: remedy.to_owned(), ..fault(error) })?;
        if let Some(exported) = exported {
            let held = holds(&archive, exported.seq, &exported.note).await;
            if !held.map_err(|error| Fault { remedy: remedy.to_owned(), ..fault(error) })? {
                let detail = format!("it lacks checkpoint {}, which was exported, or holds another", exported.seq);
                return Err(Fault::new(detail, LOST));
            }
        }
        Ok(match keys.len() {
            0 => "it can be listed and holds no checkpoint yet".to_owned(),
            n => format!("it can be listed and holds {n} public keys"),
        })
    });
    closed(Finding::of(CHECK, examined.await), &target)
}

/// The newest exported checkpoint, as far as the database knows.
async fn last_exported(db: Option<&Db>) -> Option<StoredCheckpoint> {
    let db = db?;
    let seq = db.find_exported_through().await.ok()??;
    db.find_checkpoint(seq).await.ok()?
}
