//! Stores the governed copies of views: the server's own place, where it writes, reads, signs and deletes.
//!
//! Together with [`super::Archive`], the only place that is written. Never here: the choice of copies.

use std::{fmt, fs::File, io, path::PathBuf, sync::Arc};

use futures::{StreamExt, stream::BoxStream};
use object_store::{Error, ObjectStore, ObjectStoreExt, path::Path};

use crate::{config::StorageSettings, domain::access::delivery::Delivery};

use super::{
    Storage, StorageError, TableLocation,
    bounded::Bounded,
    local::LocalDirectory,
    location::Location,
    private::PrivateFolder,
    storages::{check_folder, open_cloud},
};

/// The place for copies. Cheap to clone.
#[derive(Clone)]
pub struct CopyRoot {
    location: TableLocation,
    parsed: Location,
    /// The store for writes; the location's own store is read-only.
    writer: Arc<dyn ObjectStore>,
    /// The folder, if the place is one.
    directory: Option<PathBuf>,
}

impl CopyRoot {
    /// Opens the folder or prefix in `settings`, without a network call. Creates the folder if it is absent.
    pub fn open(settings: &StorageSettings) -> Result<Self, Vec<StorageError>> {
        Self::open_in(settings, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Like [`Self::open`], but the folder must exist; for callers that only read.
    pub fn open_existing(settings: &StorageSettings) -> Result<Self, Vec<StorageError>> {
        Self::opened(settings, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()), false)
    }

    /// Like [`Self::open`], with the environment passed in.
    pub fn open_in(
        settings: &StorageSettings,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<StorageError>> {
        Self::opened(settings, environment, true)
    }

    fn opened(
        settings: &StorageSettings,
        environment: &dyn Fn(&str) -> Option<String>,
        is_made: bool,
    ) -> Result<Self, Vec<StorageError>> {
        let mut parsed = Location::parse(&settings.url).map_err(|error| vec![error])?;
        let url = parsed.to_string();
        let name = settings.name.clone();
        if let Some(opened) = open_cloud(settings, &mut parsed, environment)? {
            let store = Arc::new(Bounded::new(Arc::clone(&opened.store)));
            let storage = Storage::opened(name, settings.delivery, store, opened.signer);
            let location = TableLocation::in_storage(Arc::new(storage), parsed.path.clone(), url);
            return Ok(Self { location, parsed, writer: opened.store, directory: None });
        }
        let problem = |reason: String| vec![StorageError::Configuration { name: name.clone(), reason }];
        if let Some(option) = settings.options.keys().next() {
            return Err(problem(format!("a local directory has no options; remove `{option}`")));
        }
        let directory = parsed.directory().unwrap_or_default();
        let failed = |error: io::Error| {
            problem(format!("`{}` cannot be opened: {error}; mend its permissions", directory.display()))
        };
        let writer = PrivateFolder::open(&directory, is_made).map_err(failed)?;
        let directory = writer.root().to_owned();
        let reader = LocalDirectory::open(directory.clone()).map_err(failed)?;
        let storage = Storage::opened(name, Delivery::Proxied, Arc::new(reader), None);
        let location = TableLocation::in_storage(Arc::new(storage), Path::default(), url);
        Ok(Self { location, parsed, writer: Arc::new(writer), directory: Some(directory) })
    }

    /// Returns the problems that [`Self::open`] would report, without creating anything.
    pub fn check(settings: &StorageSettings) -> Result<(), Vec<StorageError>> {
        if check_folder(settings)? { Ok(()) } else { Self::open_existing(settings).map(drop) }
    }

    /// Returns the location for reading and signing.
    pub fn location(&self) -> &TableLocation {
        &self.location
    }

    /// Returns the store for writes.
    pub fn writer(&self) -> &Arc<dyn ObjectStore> {
        &self.writer
    }

    /// Returns the path of the object for `key`, valid in either store.
    pub fn path(&self, key: &str) -> Path {
        Path::from_iter(self.location.path().parts().chain(Path::from(key).parts()))
    }

    /// Returns whether the table location `location` is under this place, or this place under it.
    pub fn meets(&self, location: &str) -> bool {
        Location::parse(location).is_ok_and(|other| other.covers(&self.parsed) || self.parsed.covers(&other))
    }

    /// Flushes the file for `key` to disk, so that it survives a crash of the machine. Object stores need no such step.
    pub async fn settle(&self, key: &str) -> Result<(), StorageError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let file = directory.join(key);
        let sync = move || -> io::Result<()> {
            File::open(&file)?.sync_all()?;
            file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        let synced = tokio::task::spawn_blocking(sync).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        synced.map_err(|error| Error::Generic { store: "copies", source: error.into() }.into())
    }

    /// Deletes the object for `key`; succeeds if it is already gone.
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        match self.writer.delete(&self.path(key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists the keys of all objects, each with the time of its last write.
    pub fn list(&self) -> BoxStream<'static, Result<(String, chrono::DateTime<chrono::Utc>), StorageError>> {
        let root = self.location.path().clone();
        let keyed = move |meta: object_store::ObjectMeta| {
            let key = meta.location.prefix_match(&root).map(|parts| Path::from_iter(parts).to_string());
            (key.unwrap_or_else(|| meta.location.to_string()), meta.last_modified)
        };
        let prefix = Some(self.location.path()).filter(|path| !path.as_ref().is_empty());
        self.writer.list(prefix).map(move |meta| meta.map(&keyed).map_err(StorageError::from)).boxed()
    }
}

impl fmt::Debug for CopyRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyRoot").field("url", &self.location.url()).finish()
    }
}
