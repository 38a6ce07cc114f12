//! The lock that prevents a second server on a SQLite file. PostgreSQL allows many servers.

use std::{
    fs::{File, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::store::{Db, Result, StoreError};

/// Held by the one server of a SQLite file; released when it is dropped or the process dies.
#[derive(Debug)]
pub struct ServerLock(#[allow(dead_code, reason = "held, never read")] Option<File>);

impl Db {
    /// Makes this process the server of a SQLite file, or returns [`StoreError::Locked`]. Only servers call it; other
    /// commands may run alongside one. Always succeeds on PostgreSQL.
    pub fn lock_server(&self) -> Result<ServerLock> {
        let Self::Sqlite { writer, .. } = self else { return Ok(ServerLock(None)) };
        let path = lock_path(writer.connect_options().get_filename());
        let file_error = |source| StoreError::File { path: path.clone(), source };
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(file_error)?;
        match file.try_lock() {
            Ok(()) => Ok(ServerLock(Some(file))),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked(path)),
            Err(TryLockError::Error(source)) => Err(file_error(source)),
        }
    }
}

/// `<database>.lock` next to the database. A lock on the database itself would be undone by SQLite's own locks.
fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}
