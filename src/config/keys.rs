//! Loads root keys: files of 32 random bytes, read at start.
//!
//! Reads keys, and creates the first one for a server on SQLite. Never here: the use of keys.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rand::{TryRng, rngs::SysRng};
use zeroize::Zeroizing;

use crate::domain::core::seal::RootKey;

use super::{DatabaseKind, SecretSettings};

/// The length of a root key in bytes.
pub const KEY_BYTES: usize = 32;

/// Why a root key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file does not exist, and is not created, because replicas must share their keys.
    #[error(
        "root key `{}` does not exist; make it once with `head -c 32 /dev/urandom > FILE; chmod 600 FILE` and give the \
         same file to every replica", path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file does not have the length of a key.
    #[error("root key `{}` has {bytes} bytes; it must have exactly 32, as from `head -c 32 /dev/urandom`", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        bytes: u64,
    },
    /// Users other than the owner may access the file.
    #[error("root key `{}` is open to other users (mode {mode:o}); run `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be read.
    #[error("root key `{}` cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The first key cannot be created.
    #[error("root key `{}` cannot be made: {source}; make its folder writable, or make the key there", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Loads the root keys of `settings` in order, the active one first.
///
/// On SQLite, the first file is created if it does not exist. On PostgreSQL no file is ever created: a replica with its
/// own key could not open data sealed by the others.
pub fn load_keys(settings: &SecretSettings, database: DatabaseKind) -> Result<Vec<RootKey>, KeyError> {
    if let Some(first) = settings.key_files.first()
        && database == DatabaseKind::Sqlite
    {
        make_if_missing(first)?;
    }
    read_keys(settings)
}

/// Reads the root keys of `settings` in order; never creates one.
pub fn read_keys(settings: &SecretSettings) -> Result<Vec<RootKey>, KeyError> {
    settings.key_files.iter().map(|path| read(path)).collect()
}

/// Returns the problems of the root keys, each with its index in `secrets.key_files`; creates none. A missing first key
/// is not a problem if a start would create it.
pub fn check_keys(settings: &SecretSettings, database: Option<DatabaseKind>) -> Vec<(usize, KeyError)> {
    let faults = settings.key_files.iter().enumerate().filter_map(|(i, path)| {
        let fault = read(path).err()?;
        let is_made = i == 0 && database == Some(DatabaseKind::Sqlite) && matches!(fault, KeyError::Missing { .. });
        if !is_made {
            return Some((i, fault));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let unwritable = |source| (i, KeyError::Write { path: path.clone(), source });
        match std::fs::metadata(folder) {
            Ok(found) if found.is_dir() => None,
            Ok(_) => Some(unwritable(ErrorKind::NotADirectory.into())),
            Err(source) => Some(unwritable(source)),
        }
    });
    faults.collect()
}

fn read(path: &Path) -> Result<RootKey, KeyError> {
    let unreadable = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => KeyError::Missing { path: path.to_owned() },
        _ => KeyError::Read { path: path.to_owned(), source },
    };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.mode() & 0o777;
    // Secrets mounted into a container belong to root, and the container's group may read them.
    let open_to_others = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if mode & open_to_others != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    if metadata.len() != KEY_BYTES as u64 {
        return Err(KeyError::Length { path: path.to_owned(), bytes: metadata.len() });
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    file.read_exact(key.as_mut()).map_err(unreadable)?;
    Ok(RootKey::new(key))
}

fn make_if_missing(path: &Path) -> Result<(), KeyError> {
    match make_key(path) {
        Err(KeyError::Write { source, .. }) if source.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// Creates a root key in a new file that only its owner may access.
pub fn make_key(path: &Path) -> Result<RootKey, KeyError> {
    let unwritable = |source| KeyError::Write { path: path.to_owned(), source };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(unwritable)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let written = SysRng
        .try_fill_bytes(key.as_mut())
        .map_err(std::io::Error::other)
        .and_then(|()| file.write_all(key.as_ref()))
        .and_then(|()| file.sync_all());
    written.map_err(|source| {
        // A partial key would be refused at every later start.
        let _ = std::fs::remove_file(path);
        unwritable(source)
    })?;
    Ok(RootKey::new(key))
}
