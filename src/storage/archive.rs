//! Adds files, which never change afterwards, to a folder or an object-store prefix: the place for data that leaves the
//! server for good.
//!
//! Lakes are only read; an archive is written, with its own credentials. Never here: the contents of the files.

use std::{
    fmt,
    fs::File,
    future::Future,
    io::{self, ErrorKind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{TryStreamExt, stream::BoxStream};
use object_store::{
    Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    path::{Path, PathPart},
};
use tokio::time::timeout;

use super::{
    StorageError,
    location::{Location, Service},
    private::PrivateFolder,
    s3,
    storages::{check_folder, open_cloud},
};
use crate::config::StorageSettings;

/// The longest wait for one call; a file is a few megabytes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place to which files are added.
#[derive(Clone)]
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    root: Path,
    url: String,
    /// The folder, if the archive is in one.
    directory: Option<PathBuf>,
}

impl Archive {
    /// Opens the folder or prefix in `settings`, without a network call. Creates the folder if it is absent.
    pub fn open(settings: &StorageSettings) -> Result<Self, Vec<StorageError>> {
        Self::open_in(settings, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Like [`Self::open`], with the environment passed in.
    pub fn open_in(
        settings: &StorageSettings,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<StorageError>> {
        Self::opened(settings, environment, true)
    }

    /// Like [`Self::open`], but the folder must exist; for callers that only read.
    pub fn open_existing(settings: &StorageSettings) -> Result<Self, Vec<StorageError>> {
        Self::opened(settings, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()), false)
    }

    fn opened(
        settings: &StorageSettings,
        environment: &dyn Fn(&str) -> Option<String>,
        is_made: bool,
    ) -> Result<Self, Vec<StorageError>> {
        let mut location = Location::parse(&settings.url).map_err(|error| vec![error])?;
        let url = location.to_string();
        let options = match location.service {
            Service::S3 { .. } => s3::with_checksum(settings.options.clone()),
            _ => settings.options.clone(),
        };
        let settings = &StorageSettings { options, ..settings.clone() };
        if let Some(opened) = open_cloud(settings, &mut location, environment)? {
            return Ok(Self { store: opened.store, root: location.path, url, directory: None });
        }
        let problem = |reason: String| vec![StorageError::Configuration { name: settings.name.clone(), reason }];
        if let Some(option) = settings.options.keys().next() {
            return Err(problem(format!("a local directory has no options; remove `{option}`")));
        }
        let directory = location.directory().unwrap_or_default();
        let store = PrivateFolder::open(&directory, is_made).map_err(|error| {
            let (why, directory) = (error.to_string(), directory.display());
            match error.kind() {
                ErrorKind::NotFound => problem(format!("`{directory}` is not there ({why})")),
                _ => problem(format!("`{directory}` cannot be opened: {why}; mend its permissions")),
            }
        })?;
        Ok(Self { store: Arc::new(store), root: Path::default(), url, directory: Some(directory) })
    }

    /// Returns the problems that [`Self::open`] would report, without creating anything.
    pub fn check(settings: &StorageSettings) -> Result<(), Vec<StorageError>> {
        if check_folder(settings)? { Ok(()) } else { Self::open_existing(settings).map(drop) }
    }

    /// Returns the URL, for messages.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn path(&self, folder: &str, name: &str) -> Path {
        self.root.clone().join(folder).join(PathPart::from(name))
    }

    /// Adds a file. If it exists with the same content, nothing happens; with different content, this fails with
    /// [`StorageError::Changed`].
    pub async fn add(&self, folder: &str, name: &str, content: Bytes) -> Result<(), StorageError> {
        let path = self.path(folder, name);
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match patient(self.store.put_opts(&path, PutPayload::from(content.clone()), create)).await {
            Err(Error::AlreadyExists { .. }) => {}
            // For stores without conditional writes, the best is to check first.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                if self.read(folder, name).await?.is_none() {
                    patient(self.store.put(&path, PutPayload::from(content))).await?;
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
            Ok(_) => return self.sync(folder, name).await,
        }
        match self.read(folder, name).await? {
            Some(there) if there == content => Ok(()),
            Some(_) | None => Err(StorageError::Changed { path: path.to_string() }),
        }
    }

    /// Flushes a file in a folder to disk, so that it survives a crash of the machine. Object stores need no such step.
    async fn sync(&self, folder: &str, name: &str) -> Result<(), StorageError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let folder = directory.join(folder);
        let file = folder.join(name);
        let sync = move || -> io::Result<()> {
            File::open(file)?.sync_all()?;
            File::open(folder)?.sync_all()
        };
        let synced = tokio::task::spawn_blocking(sync).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        synced.map_err(|error| Error::Generic { store: "archive", source: error.into() }.into())
    }

    /// Returns a file's content; `None` if the file does not exist.
    pub async fn read(&self, folder: &str, name: &str) -> Result<Option<Bytes>, StorageError> {
        let path = self.path(folder, name);
        let read = async { self.store.get(&path).await?.bytes().await };
        match patient(read).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the names of the files in a folder, sorted.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        let listing = self.store.list(Some(&self.root.clone().join(folder)));
        self.gather(folder, listing).await
    }

    /// Returns the names of the files in a folder that sort after `name`, sorted. The others are not listed.
    pub async fn list_behind(&self, folder: &str, name: &str) -> Result<Vec<String>, StorageError> {
        let prefix = self.root.clone().join(folder);
        let listing = self.store.list_with_offset(Some(&prefix), &self.path(folder, name));
        self.gather(folder, listing).await
    }

    /// Returns the paths of files outside of `folders`. Of each other folder, and of each folder nested in one of
    /// `folders`, only one file is returned.
    pub async fn list_outside(&self, folders: &[&str]) -> Result<Vec<String>, StorageError> {
        let prefix = Some(&self.root).filter(|root| !root.as_ref().is_empty());
        let top = patient(self.store.list_with_delimiter(prefix)).await?;
        let mut found: Vec<Path> = top.objects.into_iter().map(|meta| meta.location).collect();
        for folder in top.common_prefixes {
            match folder.filename() {
                // File systems create this folder at their root.
                Some("lost+found") => {}
                Some(name) if folders.contains(&name) => {
                    let within = patient(self.store.list_with_delimiter(Some(&folder))).await?;
                    for nested in within.common_prefixes {
                        found.extend(self.first_in(&nested).await?);
                    }
                }
                _ => found.extend(self.first_in(&folder).await?),
            }
        }
        let below = |path: &Path| {
            let parts = path.prefix_match(&self.root)?;
            Some(parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        };
        Ok(found.iter().filter_map(below).collect())
    }

    /// Returns one file below `folder`; `None` if it is empty.
    async fn first_in(&self, folder: &Path) -> Result<Option<Path>, StorageError> {
        let mut listing = self.store.list(Some(folder));
        Ok(patient(listing.try_next()).await?.map(|meta| meta.location))
    }

    async fn gather(
        &self,
        folder: &str,
        mut listing: BoxStream<'static, object_store::Result<ObjectMeta>>,
    ) -> Result<Vec<String>, StorageError> {
        let mut names = Vec::new();
        loop {
            match patient(listing.try_next()).await {
                Ok(Some(meta)) => names.extend(meta.location.filename().map(str::to_owned)),
                Ok(None) => break,
                Err(error) => return Err(self.refused(folder).await.unwrap_or_else(|| error.into())),
            }
        }
        names.sort();
        Ok(names)
    }

    /// Checks whether access to a folder is denied. Object stores' listings fail the same way for every reason, and
    /// only requests for single files tell. A wrong credential must not look like an outage.
    async fn refused(&self, folder: &str) -> Option<StorageError> {
        let asked = patient(self.store.head(&self.path(folder, "any"))).await;
        asked.err().map(StorageError::from).filter(|error| matches!(error, StorageError::Denied { .. }))
    }
}

async fn patient<T>(call: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
    match timeout(PATIENCE, call).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(Error::Generic { store: "archive", source: elapsed.into() }),
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("url", &self.url).finish()
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn archive(folder: &TempDir) -> Archive {
        let url = url::Url::from_directory_path(folder.path().join("a b")).unwrap();
        let settings = serde_json::from_value(serde_json::json!({"name": "audit", "url": url.as_str()})).unwrap();
        Archive::open(&settings).unwrap()
    }

    #[tokio::test]
    async fn files_are_added_once_and_never_changed() {
        let folder = TempDir::new().unwrap();
        let archive = archive(&folder);
        assert_eq!(archive.list("events").await.unwrap(), Vec::<String>::new());
        archive.add("events", "2.ndjson", "two".into()).await.unwrap();
        archive.add("events", "1.ndjson", "one".into()).await.unwrap();
        archive.add("events", "1.ndjson", "one".into()).await.unwrap();
        let refused = archive.add("events", "1.ndjson", "other".into()).await;
        assert!(matches!(refused, Err(StorageError::Changed { .. })), "{refused:?}");
        assert_eq!(archive.list("events").await.unwrap(), ["1.ndjson", "2.ndjson"]);
        assert_eq!(archive.list_behind("events", "1.ndjson").await.unwrap(), ["2.ndjson"]);
        assert_eq!(archive.list_behind("events", "2.ndjson").await.unwrap(), Vec::<String>::new());
        assert_eq!(archive.read("events", "1.ndjson").await.unwrap().unwrap(), "one");
        assert_eq!(archive.read("events", "3.ndjson").await.unwrap(), None);
        let root = folder.path().join("a b");
        for (nested, name) in [("other", "x"), ("events/deep/er", "y"), ("lost+found", "z"), ("empty", "")] {
            std::fs::create_dir_all(root.join(nested)).unwrap();
            if !name.is_empty() {
                std::fs::write(root.join(nested).join(name), "").unwrap();
            }
        }
        std::fs::write(root.join("README"), "").unwrap();
        let mut outside = archive.list_outside(&["events"]).await.unwrap();
        outside.sort();
        assert_eq!(outside, ["README", "events/deep/er/y", "other/x"]);
    }
}
