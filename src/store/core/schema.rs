//! Applies migrations, or compares them with those of this binary. Both folders have the same numbers and names.

use std::collections::BTreeMap;

use sqlx::{
    Connection, Executor, PgPool, SqlitePool,
    migrate::{MigrateError, Migrator},
};

use crate::store::{Db, Result, StoreError};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

impl Db {
    /// Applies the missing migrations; refuses a database that a newer Weir migrated. On PostgreSQL concurrent callers
    /// wait for each other.
    pub async fn migrate(&self) -> Result<()> {
        match self.check_schema().await {
            Err(StoreError::PendingMigrations { .. }) => {}
            done => return done,
        }
        match self {
            Self::Sqlite { writer, .. } => migrate_sqlite(writer).await,
            Self::Postgres { pool, .. } => migrate_postgres(pool).await,
        }
    }

    /// Checks that the database's migrations are exactly this binary's; otherwise returns [`StoreError::SchemaTooNew`],
    /// [`StoreError::PendingMigrations`], or [`StoreError::Migration`] if one was altered.
    pub async fn check_schema(&self) -> Result<()> {
        const APPLIED: &str = "SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version";
        let (migrator, applied) = match self {
            Self::Sqlite { reader, .. } => (&SQLITE, sqlx::query_as(APPLIED).fetch_all(reader).await),
            Self::Postgres { pool, .. } => (&POSTGRES, sqlx::query_as(APPLIED).fetch_all(pool).await),
        };
        match applied {
            Ok(applied) => compare(migrator, applied.into_iter().collect()),
            Err(error) if is_no_table(&error) => compare(migrator, BTreeMap::new()),
            Err(error) => Err(error.into()),
        }
    }
}

fn compare(migrator: &Migrator, applied: BTreeMap<i64, Vec<u8>>) -> Result<()> {
    let known = migrator.iter().map(|migration| migration.version).max().unwrap_or_default();
    let found = applied.keys().max().copied().unwrap_or_default();
    if found > known {
        return Err(StoreError::SchemaTooNew { found, known });
    }
    for migration in migrator.iter() {
        match applied.get(&migration.version) {
            None => return Err(StoreError::PendingMigrations { found, needed: known }),
            Some(checksum) if checksum[..] != migration.checksum[..] => {
                return Err(StoreError::Migration(MigrateError::VersionMismatch(migration.version)));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

async fn migrate_sqlite(writer: &SqlitePool) -> Result<()> {
    let mut connection = writer.acquire().await?;
    Ok(SQLITE.run(&mut *connection).await?)
}

async fn migrate_postgres(pool: &PgPool) -> Result<()> {
    // A separate connection, whose statements may take as long as a migration needs.
    let mut connection = pool.acquire().await?.detach();
    connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0").await?;
    POSTGRES.run(&mut connection).await?;
    Ok(connection.close().await?)
}

/// Whether the table of applied migrations does not exist: `undefined_table` on PostgreSQL, a message on SQLite.
fn is_no_table(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
}
