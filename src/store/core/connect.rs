//! Opens databases with the settings that make them durable, bounded and private.

use std::{fs::File, io::ErrorKind, os::unix::fs::OpenOptionsExt, path::Path, str::FromStr, time::Duration};

use sqlx::{
    Connection, Executor,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::store::{Db, Result, StoreError};

use super::reach::{reach, unopened};

/// How long a call waits for a connection, or a SQLite writer for another process's transaction.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of connections of each [`crate::store::PoolRole`]: one in use, and one that is being returned.
const APART: u32 = 2;

/// The number of connections for surrogates: some look up while others draw.
const SURROGATES: u32 = 4;

/// How long a connection may be idle and still be handed out untested; no database comes back so soon after failing.
const TRUSTED_IDLE: Duration = Duration::from_millis(100);

/// The settings of every session. Statements are cancelled after 30 seconds. Transactions whose clients are idle for so
/// long end too, because they may hold the head of the audit chain.
///
/// Commits are synchronous, whatever the default of server or role, because a committed answer must last.
macro_rules! session {
    () => {
        "SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '30s'; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    };
}

/// The first statements on every connection.
const POSTGRES_SESSION: &str = session!();
/// The first statements on connections of [`crate::store::PoolRole::AuditWriter`]. With this time-out requests stop
/// waiting for the head of the audit chain, so a revocation, which waits longer, is only behind the transaction that
/// holds it.
const POSTGRES_TRAIL: &str = concat!(session!(), "; SET lock_timeout = '5s'");
/// The first statements on a read-only connection.
const POSTGRES_READ_ONLY: &str = concat!(session!(), "; SET default_transaction_read_only = on");

impl Db {
    /// Opens the database at `url`, `sqlite://<file>` (created if absent, mode 0600) or `postgres://…`, with at most
    /// `max_connections` connections (on SQLite that many readers, and one writer).
    pub async fn connect(url: &str, max_connections: u32) -> Result<Self> {
        match url.split_once(':') {
            Some(("sqlite", _)) => connect_sqlite(url, max_connections).await,
            Some(("postgres" | "postgresql", _)) => {
                connect_postgres(url, max_connections, POSTGRES_SESSION, POSTGRES_TRAIL).await
            }
            _ => Err(StoreError::Url),
        }
    }

    /// Opens the database at `url` for reading: nothing can be written or created, and a server that uses it is not
    /// disturbed.
    pub async fn connect_read_only(url: &str) -> Result<Self> {
        match url.split_once(':') {
            Some(("sqlite", _)) => {
                let options = SqliteConnectOptions::from_str(url).map_err(|_| StoreError::Url)?;
                let options = options.read_only(true).create_if_missing(false).busy_timeout(ACQUIRE_TIMEOUT);
                let path = options.get_filename().to_owned();
                let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
                let reader = pool.connect_with(options).await.map_err(|error| unopened(&path, error))?;
                Ok(Self::Sqlite { writer: reader.clone(), reader })
            }
            Some(("postgres" | "postgresql", _)) => {
                connect_postgres(url, 1, POSTGRES_READ_ONLY, POSTGRES_READ_ONLY).await
            }
            _ => Err(StoreError::Url),
        }
    }
}

async fn connect_sqlite(url: &str, max_connections: u32) -> Result<Db> {
    let options = SqliteConnectOptions::from_str(url).map_err(|_| StoreError::Url)?;
    let path = options.get_filename().to_owned();
    // Every connection would get its own database in memory.
    if url.contains(":memory:") || url.contains("mode=memory") || path.as_os_str().is_empty() {
        return Err(StoreError::Url);
    }
    open_sqlite(options, max_connections).await
}

/// Opens a SQLite file, with `readers` connections that read and one that writes.
pub(in crate::store) async fn open_sqlite(options: SqliteConnectOptions, readers: u32) -> Result<Db> {
    let path = options.get_filename().to_owned();
    create_private(&path)?;
    let options = options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(ACQUIRE_TIMEOUT);
    let pool = || SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).idle_timeout(None).max_lifetime(None);
    let writer = pool().max_connections(1).connect_with(options.clone()).await;
    let writer = writer.map_err(|error| unopened(&path, error))?;
    let reader = pool().max_connections(readers).connect_with(options.pragma("query_only", "ON")).await?;
    Ok(Db::Sqlite { reader, writer })
}

/// Creates the file before SQLite does, so that other users can never read it; SQLite gives its companion files the
/// same mode.
pub(in crate::store) fn create_private(path: &Path) -> Result<()> {
    match File::options().create_new(true).write(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(StoreError::File { path: path.to_owned(), source }),
    }
}

async fn connect_postgres(
    url: &str,
    max_connections: u32,
    session: &'static str,
    trail_session: &'static str,
) -> Result<Db> {
    let options = PgConnectOptions::from_str(url).map_err(|_| StoreError::Url)?;
    let options = options.application_name("weir");
    reach(&options).await?;
    let apart = |session| postgres_pool(APART, session).connect_lazy_with(options.clone());
    let (look_ups, audit_writer) = (apart(session), apart(trail_session));
    let pool = postgres_pool(max_connections, session).connect_with(options).await?;
    Ok(Db::Postgres { pool, look_ups, audit_writer })
}

/// The connections for surrogates, to the database of `pool`; none is made before it is needed.
pub(in crate::store) fn surrogate_pool(pool: &PgPool) -> PgPool {
    postgres_pool(SURROGATES, POSTGRES_SESSION).connect_lazy_with(pool.connect_options().as_ref().clone())
}

fn postgres_pool(max_connections: u32, session: &'static str) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A round trip before every query would double the cost of short ones.
        .test_before_acquire(false)
        .before_acquire(|connection, metadata| {
            Box::pin(async move { Ok(metadata.idle_for < TRUSTED_IDLE || connection.ping().await.is_ok()) })
        })
        .after_connect(move |connection, _| Box::pin(async move { connection.execute(session).await.map(|_| ()) }))
}
