//! Serves local directories as an object store that never leads outside its root, nor between places within it.
//!
//! Reads start at one directory handle, and each name is opened without following links. So neither a symbolic link nor
//! a race with a writer of the lake leads to another table, a log, or a file outside. Never here: writes, because Weir
//! never changes a lake. Object paths are raw names: a `%` in one is a `%` on disk.

use std::{fmt, fs::File, io, path::PathBuf, sync::Arc, vec};

use async_trait::async_trait;
use cap_std::{
    ambient_authority,
    fs::{Dir, Metadata, MetadataExt},
};
use chrono::DateTime;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};
use rustix::fs::{Mode, OFlags, openat};

/// The number of objects listed per call on a blocking thread.
const PAGE: usize = 1000;
/// The greatest depth of a directory tree that is listed.
const MAX_DEPTH: usize = 64;

/// A read-only object store over one directory.
#[derive(Clone)]
pub struct LocalDirectory {
    root: Arc<Dir>,
    /// Only for messages; never used to open anything.
    name: PathBuf,
}

impl LocalDirectory {
    /// Opens `directory`. Even if its path changes later, the same directory is read.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        let root = Dir::open_ambient_dir(&directory, ambient_authority())?;
        Ok(Self { root: Arc::new(root), name: directory })
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Dir) -> Result<T> + Send + 'static) -> Result<T> {
        let root = Arc::clone(&self.root);
        tokio::task::spawn_blocking(move || work(&root)).await?
    }

    fn walk(&self, prefix: Option<&Path>, offset: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let walk = Walk { prefix: prefix.cloned().unwrap_or_default(), offset, levels: None };
        let pages = stream::try_unfold((self.clone(), walk), |(store, mut walk)| async move {
            let (page, walk) = store.blocking(move |root| Ok((walk.next_page(root)?, walk))).await?;
            Ok::<_, Error>((!page.is_empty()).then_some((page, (store, walk))))
        });
        pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn read_only<T>(&self) -> Result<T> {
        Err(Error::NotSupported { source: format!("{self} is read only").into() })
    }
}

impl fmt::Debug for LocalDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalDirectory({})", self.name.display())
    }
}

impl fmt::Display for LocalDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[async_trait]
impl ObjectStore for LocalDirectory {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (path, name) = (location.clone(), self.name.clone());
        self.blocking(move |root| {
            let failed = |source| store_error(&path, source);
            let (file, metadata) = open_file(root, &path).map_err(failed)?;
            let meta = object_meta(path.clone(), &metadata);
            options.check_preconditions(&meta)?;
            let range = match options.range {
                Some(range) => range
                    .as_range(meta.size)
                    .map_err(|source| Error::Generic { store: "LocalDirectory", source: Box::new(source) })?,
                None => 0..meta.size,
            };
            let payload = if options.head {
                GetResultPayload::Stream(stream::empty().boxed())
            } else {
                GetResultPayload::File(file, name.join(path.as_ref()))
            };
            Ok(GetResult { payload, meta, range, attributes: Default::default() })
        })
        .await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        self.blocking(move |root| {
            let mut listing = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
            let Some(mut level) = Level::open(root, &prefix)? else { return Ok(listing) };
            while let Some(entry) = level.entries.next() {
                if entry.is_directory {
                    listing.common_prefixes.push(entry.path);
                } else if let Some(meta) = level.find_object(entry.path)? {
                    listing.objects.push(meta);
                }
            }
            Ok(listing)
        })
        .await
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        self.read_only()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.read_only()
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        stream::iter([self.read_only()]).boxed()
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        self.read_only()
    }
}

/// A listing in progress, in the byte order of full paths, as in object stores; the kernel relies on this order. Holds
/// the open directories down to the current one, but not the objects already returned.
struct Walk {
    prefix: Path,
    /// Only objects after it are listed.
    offset: Option<Path>,
    /// The remaining entries of each directory down to the current one; `None` before the first page.
    levels: Option<Vec<Level>>,
}

impl Walk {
    /// Returns the next objects; empty at the end.
    fn next_page(&mut self, root: &Dir) -> Result<Vec<ObjectMeta>> {
        let levels = match &mut self.levels {
            Some(levels) => levels,
            begin @ None => begin.insert(Level::open(root, &self.prefix)?.into_iter().collect()),
        };
        let mut page = Vec::new();
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.entries.next() else {
                levels.pop();
                continue;
            };
            if self.offset.as_ref().is_some_and(|offset| entry.ends_by(offset)) {
                continue;
            }
            if entry.is_directory {
                if levels.len() >= MAX_DEPTH {
                    let source = format!("`{}` lies deeper than {MAX_DEPTH} directories", entry.path).into();
                    return Err(Error::Generic { store: "LocalDirectory", source });
                }
                levels.extend(Level::open(root, &entry.path)?);
            } else if let Some(meta) = level.find_object(entry.path)? {
                page.push(meta);
                if page.len() == PAGE {
                    break;
                }
            }
        }
        Ok(page)
    }
}

struct Entry {
    path: Path,
    is_directory: bool,
    /// The sort key in a listing of full paths: everything in a directory begins with the directory's name and a slash.
    key: String,
}

impl Entry {
    fn new(path: Path, is_directory: bool) -> Self {
        let key = if is_directory { format!("{path}/") } else { path.to_string() };
        Self { path, is_directory, key }
    }

    /// Returns whether the entry and everything below it sort at or before `offset`.
    fn ends_by(&self, offset: &Path) -> bool {
        let offset = offset.as_ref();
        self.key.as_str() <= offset && !(self.is_directory && offset.starts_with(&self.key))
    }
}

/// A directory that is being listed.
struct Level {
    directory: Dir,
    /// The remaining entries, in listing order.
    entries: vec::IntoIter<Entry>,
}

impl Level {
    /// Reads the names in a directory; `None` if it does not exist, like a prefix without objects. Names that are not
    /// valid in object paths are left out.
    fn open(root: &Dir, path: &Path) -> Result<Option<Self>> {
        let failed = |source| store_error(path, source);
        let directory = match open_directory(root, path.as_ref(), OFlags::RDONLY) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            opened => opened.map_err(failed)?,
        };
        let mut entries = Vec::new();
        for entry in directory.entries().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if path.is_root() { name } else { format!("{path}/{name}") };
            let Ok(path) = Path::parse(path) else { continue };
            entries.push(Entry::new(path, entry.file_type().map_err(failed)?.is_dir()));
        }
        entries.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(Some(Self { directory, entries: entries.into_iter() }))
    }

    /// Returns a listed file's metadata; `None` if it is gone meanwhile or not a regular file. Links are not regular
    /// files.
    fn find_object(&self, path: Path) -> Result<Option<ObjectMeta>> {
        match self.directory.symlink_metadata(path.filename().unwrap_or_default()) {
            Ok(metadata) if metadata.is_file() => Ok(Some(object_meta(path, &metadata))),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
            Err(error) => Err(store_error(&path, error)),
        }
    }
}

/// The flags to open a directory only for passing through, which needs no permission to list it.
#[cfg(target_os = "linux")]
const PASS: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const PASS: OFlags = OFlags::RDONLY;

/// Opens the directory at `path` below `root`, name by name; fails at a link.
fn open_directory(root: &Dir, path: &str, how: OFlags) -> io::Result<Dir> {
    let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
    // A new handle, because the position in a listing belongs to the handle.
    let mut directory = step(root, ".", if names.peek().is_some() { PASS } else { how })?;
    while let Some(name) = names.next() {
        let how = if names.peek().is_some() { PASS } else { how };
        directory = step(&directory, name, how).map_err(|error| explain(&directory, name, error))?;
    }
    Ok(directory)
}

fn step(directory: &Dir, name: &str, how: OFlags) -> io::Result<Dir> {
    let flags = how | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(Dir::from_std_file(File::from(openat(directory, name, flags, Mode::empty())?)))
}

/// Opens the file at `path` below `root`; fails if the file or a directory on the way is a link.
fn open_file(root: &Dir, path: &Path) -> io::Result<(File, Metadata)> {
    let (folder, name) = path.as_ref().rsplit_once('/').unwrap_or(("", path.as_ref()));
    if name.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let directory = open_directory(root, folder, PASS)?;
    let is_file = |metadata: Metadata| metadata.is_file().then_some(metadata).ok_or(io::ErrorKind::NotFound);
    // Only regular files are opened; opening a named pipe would wait for its other end.
    let found = directory.symlink_metadata(name)?;
    is_file(found).map_err(|kind| explain(&directory, name, kind.into()))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = openat(&directory, name, flags, Mode::empty()).map_err(io::Error::from);
    let file = File::from(opened.map_err(|error| explain(&directory, name, error))?);
    let metadata = is_file(Metadata::from_file(&file)?)?;
    Ok((file, metadata))
}

/// Turns the error into one about links if `name` is a link.
fn explain(directory: &Dir, name: &str, error: io::Error) -> io::Error {
    match directory.symlink_metadata(name) {
        Ok(metadata) if metadata.is_symlink() => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("`{name}` is a symbolic link, and links are not followed inside a storage"),
        ),
        _ => error,
    }
}

fn object_meta(location: Path, metadata: &Metadata) -> ObjectMeta {
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    let e_tag = format!("\"{:x}-{:x}.{:x}-{:x}\"", metadata.ino(), modified.0, modified.1, metadata.len());
    let last_modified = u32::try_from(modified.1).ok().and_then(|nanos| DateTime::from_timestamp(modified.0, nanos));
    ObjectMeta {
        location,
        last_modified: last_modified.unwrap_or_default(),
        size: metadata.len(),
        e_tag: Some(e_tag),
        version: None,
    }
}

fn store_error(path: &Path, source: io::Error) -> Error {
    let (path, kind) = (path.to_string(), source.kind());
    let source = Box::new(source);
    match kind {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NotFound { path, source },
        // Includes links.
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path, source },
        _ => Error::Generic { store: "LocalDirectory", source },
    }
}
