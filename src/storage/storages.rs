//! Opens the configured storages once at start, and finds the storage for a location.

use std::{
    collections::HashSet,
    fmt, io,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use object_store::{ObjectStore, path::Path};

use crate::{config::StorageSettings, domain::access::delivery::Delivery};

use super::{
    StorageError, TableLocation, azure,
    bounded::Bounded,
    gcs,
    local::LocalDirectory,
    location::{Location, Service},
    options::Options,
    s3,
};

/// The most URLs that are signed with RSA for one answer.
const MOST_RSA_SIGNATURES: usize = 50_000;

/// One configured storage, opened.
pub struct Storage {
    name: String,
    delivery: Delivery,
    max_staleness: Duration,
    store: Arc<dyn ObjectStore>,
    signer: Option<UrlSigner>,
}

/// A store opened by the code for its service.
pub(super) struct Opened {
    /// The bare store: it allows writes, and waits as long as its client does.
    pub store: Arc<dyn ObjectStore>,
    /// The signer; `None` if each URL would need a network call.
    pub signer: Option<UrlSigner>,
}

/// The signer of a storage's URLs.
pub(super) enum UrlSigner {
    S3(s3::S3Signer),
    Azure(azure::SasSigner),
    Gcs(gcs::GcsSigner),
}

impl Storage {
    /// Wraps a store that is not in the configuration.
    pub(super) fn bare(store: Arc<dyn ObjectStore>) -> Self {
        Self::opened(String::new(), Delivery::Proxied, store, None)
    }

    /// Wraps an opened store under a name.
    pub(super) fn opened(
        name: String,
        delivery: Delivery,
        store: Arc<dyn ObjectStore>,
        signer: Option<UrlSigner>,
    ) -> Self {
        Self { name, delivery, max_staleness: Duration::ZERO, store, signer }
    }

    /// Returns the name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the greatest age of a look at a log that may still answer a request.
    pub fn max_staleness(&self) -> Duration {
        self.max_staleness
    }

    /// Returns the configured delivery; local directories are always proxied.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// Returns whether URLs can be signed without a network call for each.
    pub fn can_sign(&self) -> bool {
        self.signer.is_some()
    }

    /// Returns whether signing this many URLs for one answer is worthwhile. With RSA, signatures for very many files
    /// would keep the client waiting and the CPU busy; proxied URLs are a thousand times cheaper.
    pub fn can_sign_many(&self, n_urls: usize) -> bool {
        match &self.signer {
            Some(UrlSigner::Gcs(_)) => n_urls <= MOST_RSA_SIGNATURES,
            Some(UrlSigner::S3(_) | UrlSigner::Azure(_)) => true,
            None => false,
        }
    }

    /// Returns the underlying object store, for probes.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(super) async fn signing_until(&self) -> Result<Option<DateTime<Utc>>, StorageError> {
        match &self.signer {
            Some(UrlSigner::S3(signer)) => signer.signing_until().await,
            // Delegation keys are renewed before they end, and account and service account keys do not end.
            Some(UrlSigner::Azure(_) | UrlSigner::Gcs(_)) | None => Ok(None),
        }
    }

    pub(super) async fn sign(
        &self,
        paths: &[Path],
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<String>, StorageError> {
        match &self.signer {
            Some(UrlSigner::S3(signer)) => signer.sign(paths, expires_at, now).await,
            Some(UrlSigner::Azure(signer)) => signer.sign(paths, expires_at, now).await,
            Some(UrlSigner::Gcs(signer)) => signer.sign(paths, expires_at, now).await,
            None => Err(StorageError::Unsupported { what: format!("storage `{}` has no key to sign URLs", self.name) }),
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("name", &self.name).field("store", &self.store.to_string()).finish()
    }
}

/// All configured storages.
#[derive(Clone, Debug)]
pub struct Storages {
    entries: Vec<(Location, Arc<Storage>)>,
}

impl Storages {
    /// Opens all storages without a network call, and reports all problems at once.
    ///
    /// No local root may contain one of the files in `guarded`: the configuration, the key files, the database. These
    /// files may be absent.
    pub fn open(settings: &[StorageSettings], guarded: &[PathBuf]) -> Result<Self, Vec<StorageError>> {
        Self::open_in(settings, guarded, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Like [`Self::open`], with the environment passed in. Cloud platforms provide credentials in well-known variables
    /// (`AWS_WEB_IDENTITY_TOKEN_FILE`, …); a storage's options have precedence.
    pub fn open_in(
        settings: &[StorageSettings],
        guarded: &[PathBuf],
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<StorageError>> {
        let mut entries: Vec<(Location, Arc<Storage>)> = Vec::new();
        let mut problems = Vec::new();
        let mut names = HashSet::new();
        for setting in settings {
            if setting.name.is_empty() || !names.insert(&setting.name) {
                let reason = "its name is empty or used twice; names are unique".to_owned();
                problems.push(StorageError::Configuration { name: setting.name.clone(), reason });
            }
            match open_one(setting, guarded, environment) {
                Ok((location, _)) if entries.iter().any(|(other, _)| *other == location) => {
                    let reason = format!("another storage has the same url `{location}`");
                    problems.push(StorageError::Configuration { name: setting.name.clone(), reason });
                }
                Ok((location, storage)) => entries.push((location, Arc::new(storage))),
                Err(errors) => problems.extend(errors),
            }
        }
        if problems.is_empty() { Ok(Self { entries }) } else { Err(problems) }
    }

    /// Normalises `location`, and finds the storage whose url is its longest prefix in whole path segments.
    pub fn locate(&self, location: &str) -> Result<TableLocation, StorageError> {
        let mut location = Location::parse(location)?;
        let covering = || self.entries.iter().filter(|(root, _)| root.covers(&location));
        let Some((root, storage)) = covering().max_by_key(|(root, _)| root.depth()) else {
            return Err(StorageError::OutsideStorages { location: location.to_string() });
        };
        if covering().any(|(other, _)| other.service != root.service) {
            let reason = "several accounts have this container; name the account: abfss://container@account.dfs.…";
            return Err(StorageError::BadLocation { location: location.to_string(), reason });
        }
        location.service = root.service.clone();
        let path = match location.service {
            // A local store's root is the configured directory; a cloud store's root is the bucket.
            Service::File => location.path.prefix_match(&root.path).map(Path::from_iter).unwrap_or_default(),
            _ => location.path.clone(),
        };
        Ok(TableLocation::in_storage(Arc::clone(storage), path, location.to_string()))
    }

    /// Iterates over the storages in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Storage> {
        self.entries.iter().map(|(_, storage)| storage.as_ref())
    }
}

fn open_one(
    setting: &StorageSettings,
    guarded: &[PathBuf],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(Location, Storage), Vec<StorageError>> {
    let name = setting.name.clone();
    let mut location = Location::parse(&setting.url).map_err(|error| vec![error])?;
    let (delivery, store, signer) = match open_cloud(setting, &mut location, environment)? {
        None => (Delivery::Proxied, open_local(setting, &location, guarded)?, None),
        Some(Opened { store, signer }) => (setting.delivery, Arc::new(Bounded::new(store)) as _, signer),
    };
    let max_staleness = Duration::from_secs(setting.max_staleness_seconds.into());
    Ok((location, Storage { name, delivery, max_staleness, store, signer }))
}

/// Opens a cloud store, and completes its location; `None` for a local directory.
pub(super) fn open_cloud(
    setting: &StorageSettings,
    location: &mut Location,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Opened>, Vec<StorageError>> {
    Ok(Some(match &location.service {
        Service::File => return Ok(None),
        Service::S3 { bucket } => s3::open(bucket, Options::read(setting, s3::knows)?, environment)?,
        Service::Gcs { bucket } => gcs::open(bucket, Options::read(setting, gcs::knows)?, environment)?,
        Service::Azure { container, account } => {
            let options = Options::read(setting, azure::knows)?;
            let (account, opened) = azure::open(container, account.as_ref(), options, environment)?;
            location.service = Service::Azure { container: container.clone(), account: Some(account) };
            opened
        }
    }))
}

/// Returns whether `setting` names a folder that does not exist yet and can be created. Returns false for all other
/// places, which must be opened to be checked.
pub(super) fn check_folder(setting: &StorageSettings) -> Result<bool, Vec<StorageError>> {
    let location = Location::parse(&setting.url).map_err(|error| vec![error])?;
    let Some(directory) = location.directory().filter(|directory| !directory.exists()) else { return Ok(false) };
    let problem = |reason: String| vec![StorageError::Configuration { name: setting.name.clone(), reason }];
    if let Some(option) = setting.options.keys().next() {
        return Err(problem(format!("a local directory has no options; remove `{option}`")));
    }
    match directory.ancestors().find(|ancestor| ancestor.exists()) {
        Some(there) if there.is_dir() => Ok(true),
        _ => Err(problem(format!("`{}` cannot be made below a file; name another folder", directory.display()))),
    }
}

fn open_local(
    setting: &StorageSettings,
    location: &Location,
    guarded: &[PathBuf],
) -> Result<Arc<dyn ObjectStore>, Vec<StorageError>> {
    let problem = |reason: String| StorageError::Configuration { name: setting.name.clone(), reason };
    let directory = location.directory().unwrap_or_default();
    if let Some(option) = setting.options.keys().next() {
        return Err(vec![problem(format!("a local directory has no options; remove `{option}`"))]);
    }
    let failed = |error: io::Error| {
        vec![problem(format!("`{}` cannot be opened: {error}; create it or mend its permissions", directory.display()))]
    };
    let root = directory.canonicalize().map_err(failed)?;
    let inside: Vec<_> = guarded
        .iter()
        .filter(|file| real_path(file).starts_with(&root) || absolute(file).starts_with(&root))
        .map(|file| StorageError::GuardedInside { name: setting.name.clone(), guarded: file.clone() })
        .collect();
    if !inside.is_empty() {
        return Err(inside);
    }
    Ok(Arc::new(LocalDirectory::open(root).map_err(failed)?))
}

fn absolute(file: &FilePath) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

/// Returns the real path of a file that may not exist yet: its nearest existing ancestor without links, and the rest.
fn real_path(file: &FilePath) -> PathBuf {
    let file = absolute(file);
    let found = file.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    match found {
        Some((ancestor, real)) => real.join(file.strip_prefix(ancestor).unwrap_or(FilePath::new(""))),
        None => file,
    }
}
