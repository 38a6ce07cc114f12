//! Local directories as an object store that cannot be led outside its root.
//!
//! Lives here: reads below one directory handle (cap-std: `openat2` with `RESOLVE_BENEATH` where the kernel has it), so
//! that neither a symbolic link nor a race with whoever writes the lake reaches a file outside. Never here: writes; Weir
//! changes nobody's lake. Object paths are raw names: a `%` in one is a `%` on the disk.

use std::{fmt, io, path::PathBuf, sync::Arc, vec};

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

/// How many objects one trip to a blocking thread lists.
const PAGE: usize = 1000;
/// No directory tree is listed deeper.
const MAX_DEPTH: usize = 64;

/// A read-only object store over one directory.
#[derive(Clone)]
pub struct LocalDirectory {
    root: Arc<Dir>,
    /// For messages only; nothing is ever opened by it again.
    name: PathBuf,
}

impl LocalDirectory {
    /// Opens `directory`; whatever happens to its path afterwards, this directory is the one that is read.
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
            // Opening a named pipe would wait for its other end, so what is no file is never opened.
            if !root.metadata(path.as_ref()).map_err(failed)?.is_file() {
                return Err(failed(io::ErrorKind::NotFound.into()));
            }
            let file = root.open(path.as_ref()).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            if !metadata.is_file() {
                return Err(failed(io::ErrorKind::NotFound.into()));
            }
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
                GetResultPayload::File(file.into_std(), name.join(path.as_ref()))
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
            for entry in entries(root, &prefix)? {
                if entry.is_directory {
                    listing.common_prefixes.push(entry.path);
                } else if let Some(meta) = find_object(root, entry.path)? {
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

/// A listing in progress, in the byte order of full paths, as object stores list: the kernel relies on it. It holds the
/// names of the directories on the way down, never the objects already given out.
struct Walk {
    prefix: Path,
    /// Only objects after it are listed.
    offset: Option<Path>,
    /// The rest of each directory on the way down, innermost last; `None` before the first page.
    levels: Option<Vec<vec::IntoIter<Entry>>>,
}

impl Walk {
    /// The next objects; empty at the end.
    fn next_page(&mut self, root: &Dir) -> Result<Vec<ObjectMeta>> {
        let levels = match &mut self.levels {
            Some(levels) => levels,
            begin @ None => begin.insert(vec![entries(root, &self.prefix)?.into_iter()]),
        };
        let mut page = Vec::new();
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.next() else {
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
                levels.push(entries(root, &entry.path)?.into_iter());
            } else if let Some(meta) = find_object(root, entry.path)? {
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
    /// Where it stands in a listing of full paths: what lies below a directory begins with its name and a slash.
    key: String,
}

impl Entry {
    fn new(path: Path, is_directory: bool) -> Self {
        let key = if is_directory { format!("{path}/") } else { path.to_string() };
        Self { path, is_directory, key }
    }

    /// Whether nothing at or below it comes after `offset`.
    fn ends_by(&self, offset: &Path) -> bool {
        let offset = offset.as_ref();
        self.key.as_str() <= offset && !(self.is_directory && offset.starts_with(&self.key))
    }
}

/// A directory's entries in listing order; a directory that is not there is empty, as a prefix without objects is. Links
/// to directories are not followed here (they may be circular), nor is a name listed that no object path can spell.
fn entries(root: &Dir, directory: &Path) -> Result<Vec<Entry>> {
    let failed = |source| store_error(directory, source);
    let name = if directory.is_root() { "." } else { directory.as_ref() };
    let listing = match root.read_dir(name) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        listing => listing.map_err(failed)?,
    };
    let mut entries = Vec::new();
    for entry in listing {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if directory.is_root() { name } else { format!("{directory}/{name}") };
        let Ok(path) = Path::parse(path) else { continue };
        entries.push(Entry::new(path, entry.file_type().map_err(failed)?.is_dir()));
    }
    entries.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    Ok(entries)
}

/// A listed file's metadata; `None` if it vanished meanwhile, is no file, or is a link that leads nowhere or outside.
fn find_object(root: &Dir, path: Path) -> Result<Option<ObjectMeta>> {
    match root.metadata(path.as_ref()) {
        Ok(metadata) if metadata.is_file() => Ok(Some(object_meta(path, &metadata))),
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
        Err(error) => Err(store_error(&path, error)),
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
        // cap-std answers an attempt to leave the root with this kind as well.
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path, source },
        _ => Error::Generic { store: "LocalDirectory", source },
    }
}
