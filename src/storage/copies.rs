//! Where the governed copies of views live: a place of the server's own that it writes, reads, signs for and deletes in.
//!
//! Beside [`super::Archive`] the only place that is written. Never here: which copies there should be.

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

/// The place of copies. Cheap to clone.
#[derive(Clone)]
pub struct CopyRoot {
    location: TableLocation,
    parsed: Location,
    /// Writes; the location's own store only reads.
    writer: Arc<dyn ObjectStore>,
    /// The folder, where it is one.
    directory: Option<PathBuf>,
}

impl CopyRoot {
    /// Opens the folder (made if absent) or prefix that `settings` name, without a network call.
    pub fn open(settings: &StorageSettings) -> Result<Self, Vec<StorageError>> {
        Self::open_in(settings, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// [`Self::open`] of a folder that has to be there, for whoever only looks.
    pub fn open_existing(settings: &StorageSettings) -> Result<Self, Vec<StorageError>> {
        Self::opened(settings, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()), false)
    }

    /// [`Self::open`] with the environment passed in.
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

    /// What [`Self::open`] would refuse, without making anything.
    pub fn check(settings: &StorageSettings) -> Result<(), Vec<StorageError>> {
        if check_folder(settings)? { Ok(()) } else { Self::open_existing(settings).map(drop) }
    }

    /// The place as files are read and signed for there.
    pub fn location(&self) -> &TableLocation {
        &self.location
    }

    /// The store that writes.
    pub fn writer(&self) -> &Arc<dyn ObjectStore> {
        &self.writer
    }

    /// The object of `key`, in either store.
    pub fn path(&self, key: &str) -> Path {
        Path::from_iter(self.location.path().parts().chain(Path::from(key).parts()))
    }

    /// Whether `location`, a table's, lies under this place, or this place under it.
    pub fn meets(&self, location: &str) -> bool {
        Location::parse(location).is_ok_and(|other| other.covers(&self.parsed) || self.parsed.covers(&other))
    }

    /// Makes the file of `key` survive a crash of the machine; object stores do so by themselves.
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

    /// Deletes the object of `key`; one that is gone already is no error.
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        match self.writer.delete(&self.path(key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The keys of all objects, with when each was last written.
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
