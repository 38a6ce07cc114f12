//! Transactions on SQLite: one connection writes, and it is kept only as long as nobody can doubt its state.
//!
//! SQLite ends a transaction by itself on some errors (a full disk, a failed write) and not on others, so that nobody
//! can tell afterwards what the connection stands in. Whatever ends otherwise than by a commit costs its connection.

use std::ops::{Deref, DerefMut};

use sqlx::{Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};

use crate::store::{Result, StoreError};

/// How often a transaction is tried to be begun: a connection that somebody left in a strange state is replaced once.
const ATTEMPTS: usize = 2;

/// An open transaction on SQLite, the only one that writes.
#[derive(Debug)]
pub struct SqliteTx {
    connection: PoolConnection<Sqlite>,
    is_committed: bool,
}

impl SqliteTx {
    /// Takes the write lock.
    pub(in crate::store) async fn begin(writer: &SqlitePool) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let connection = match writer.acquire().await {
                Ok(connection) => connection,
                // The one writer was not let go in time.
                Err(error @ sqlx::Error::PoolTimedOut) => return Err(StoreError::Contended(error)),
                Err(error) => return Err(error.into()),
            };
            let mut tx = Self { connection, is_committed: false };
            match sqlx::query("BEGIN IMMEDIATE").execute(&mut *tx).await.map_err(StoreError::from) {
                Ok(_) => return Ok(tx),
                Err(error) if error.is_outage() || attempt == ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    /// Begins to read as of now, from a connection that cannot write.
    pub(in crate::store) async fn begin_reading(reader: &SqlitePool) -> Result<Self> {
        let mut tx = Self { connection: reader.acquire().await?, is_committed: false };
        sqlx::query("BEGIN").execute(&mut *tx).await?;
        Ok(tx)
    }

    /// Makes what was done last.
    pub(in crate::store) async fn commit(mut self) -> Result<()> {
        sqlx::query("COMMIT").execute(&mut *self).await?;
        self.is_committed = true;
        Ok(())
    }
}

impl Drop for SqliteTx {
    fn drop(&mut self) {
        if !self.is_committed {
            // Closing rolls back.
            self.connection.close_on_drop();
        }
    }
}

impl Deref for SqliteTx {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for SqliteTx {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}
