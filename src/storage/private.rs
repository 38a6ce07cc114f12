//! Keeps the server's own files in a local folder private: mode 0600 in folders with 0700, regardless of the umask.

use std::{
    fmt,
    fs::{DirBuilder, Permissions, set_permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart, local::LocalFileSystem, path::Path,
};
use tokio::task::spawn_blocking;

const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;

/// A local folder whose files and subfolders only the server's user may open.
#[derive(Debug)]
pub(super) struct PrivateFolder {
    store: LocalFileSystem,
    root: Arc<FilePath>,
}

impl PrivateFolder {
    /// Opens `directory`, and creates it if it is absent and `is_made` is true. An existing folder keeps its mode;
    /// everything written into it is private anyway.
    pub(super) fn open(directory: &FilePath, is_made: bool) -> io::Result<Self> {
        if is_made {
            if directory.is_dir() {
                warn_if_open(directory);
            } else {
                DirBuilder::new().recursive(true).mode(FOLDER).create(directory)?;
                set_permissions(directory, Permissions::from_mode(FOLDER))?;
            }
        }
        let root = directory.canonicalize()?;
        let store = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        Ok(Self { store, root: root.into() })
    }

    /// Returns the folder's path without links.
    pub(super) fn root(&self) -> &FilePath {
        &self.root
    }

    /// Creates the missing folders for a file, private from the start. Returns the path of the file.
    async fn prepare(&self, location: &Path) -> Result<PathBuf> {
        let file = self.store.path_to_filesystem(location)?;
        let (root, to) = (Arc::clone(&self.root), file.clone());
        blocking(move || {
            let below = to.parent().and_then(|folder| folder.strip_prefix(&root).ok()).unwrap_or(FilePath::new(""));
            let mut folder = root.to_path_buf();
            for name in below {
                folder.push(name);
                make(&folder)?;
            }
            Ok(())
        })
        .await?;
        Ok(file)
    }
}

/// Returns the mode of a folder that other users may access; `None` if it is private or absent.
pub fn mode_if_open(folder: &FilePath) -> Option<u32> {
    let mode = folder.metadata().ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

fn warn_if_open(folder: &FilePath) {
    if let Some(mode) = mode_if_open(folder) {
        tracing::warn!(
            folder = %folder.display(),
            mode = format_args!("{mode:o}"),
            "a folder of the server's own was there already and is open to other users; `chmod 700` closes it"
        );
    }
}

/// Creates a private folder, regardless of the umask; an existing one stays unchanged.
fn make(folder: &FilePath) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER).create(folder) {
        Ok(()) => set_permissions(folder, Permissions::from_mode(FOLDER)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

async fn settle(file: PathBuf) -> Result<()> {
    blocking(move || set_permissions(file, Permissions::from_mode(FILE))).await
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<()> {
    spawn_blocking(work).await?.map_err(|error| Error::Generic { store: "private folder", source: error.into() })
}

impl fmt::Display for PrivateFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.store, f)
    }
}

#[async_trait]
impl ObjectStore for PrivateFolder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let file = self.prepare(location).await?;
        let put = self.store.put_opts(location, payload, options).await?;
        settle(file).await?;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let file = self.prepare(location).await?;
        let upload = self.store.put_multipart_opts(location, options).await?;
        Ok(Box::new(PrivateUpload { upload, file }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let file = self.prepare(to).await?;
        self.store.copy_opts(from, to, options).await?;
        settle(file).await
    }
}

/// A file that is written in parts.
#[derive(Debug)]
struct PrivateUpload {
    upload: Box<dyn MultipartUpload>,
    file: PathBuf,
}

#[async_trait]
impl MultipartUpload for PrivateUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let put = self.upload.complete().await?;
        settle(self.file.clone()).await?;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use object_store::ObjectStoreExt;

    use super::*;

    fn mode(path: &FilePath) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn what_is_written_is_for_nobody_else() {
        let ground = tempfile::tempdir().unwrap();
        let root = ground.path().join("a/b");
        let folder = PrivateFolder::open(&root, true).unwrap();
        let _ = fs::create_dir_all(root.join("old"));
        set_permissions(root.join("old"), Permissions::from_mode(0o755)).unwrap();
        folder.put(&Path::from("x/y/put"), "put".into()).await.unwrap();
        folder.put(&Path::from("old/put"), "put".into()).await.unwrap();
        let mut upload = folder.put_multipart(&Path::from("x/z/parts")).await.unwrap();
        upload.put_part("parts".into()).await.unwrap();
        assert_eq!(mode(&root.join("x/z")), FOLDER, "before the file is complete");
        upload.complete().await.unwrap();
        folder.copy(&Path::from("x/y/put"), &Path::from("c/copy")).await.unwrap();
        for path in ["", "x", "x/y", "x/z", "c"] {
            assert_eq!(mode(&root.join(path)), FOLDER, "{path}");
        }
        assert_eq!(mode(&root.join("old")), 0o755, "what was not made here keeps its mode");
        for path in ["x/y/put", "old/put", "x/z/parts", "c/copy"] {
            assert_eq!(mode(&root.join(path)), FILE, "{path}");
        }
    }

    #[test]
    fn a_folder_that_was_there_keeps_its_mode_whoever_opens_it() {
        let ground = tempfile::tempdir().unwrap();
        let there = ground.path().join("there");
        fs::create_dir(&there).unwrap();
        for shared in [0o777, 0o750] {
            set_permissions(&there, Permissions::from_mode(shared)).unwrap();
            for is_made in [true, false] {
                PrivateFolder::open(&there, is_made).unwrap();
                assert_eq!((mode(&there), mode_if_open(&there)), (shared, Some(shared)), "{is_made}");
            }
        }
        let absent = ground.path().join("absent");
        assert_eq!(PrivateFolder::open(&absent, false).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(mode_if_open(&absent), None);
        PrivateFolder::open(&absent, true).unwrap();
        assert_eq!((mode(&absent), mode_if_open(&absent)), (FOLDER, None));
    }
}
