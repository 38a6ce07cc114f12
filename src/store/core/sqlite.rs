//! Transactions on SQLite: one connection writes, and it is kept only while its state is certain.
//!
//! On some errors (a full disk, a failed write) SQLite ends a transaction by itself, on others it does not, so
//! afterwards the connection's state is unknown. A transaction that ends in any way but a commit therefore closes its
//! connection.

use std::ops::{Deref, DerefMut};

use sqlx::{Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};

use crate::store::{Result, StoreError};

/// How often beginning a transaction is tried; a connection in a bad state is replaced once.
const ATTEMPTS: usize = 2;

/// An open transaction on SQLite: the only one that writes, or one that only reads.
#[derive(Debug)]
pub struct SqliteTx {
    connection: PoolConnection<Sqlite>,
    is_committed: bool,
}

impl SqliteTx {
    /// Begins a transaction that holds the write lock.
    pub(in crate::store) async fn begin(writer: &SqlitePool) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let connection = match writer.acquire().await {
                Ok(connection) => connection,
                // The only writer was not returned in time.
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

    /// Begins a transaction on a connection that cannot write; it reads the database as of now.
    pub(in crate::store) async fn begin_reading(reader: &SqlitePool) -> Result<Self> {
        let mut tx = Self { connection: reader.acquire().await?, is_committed: false };
        sqlx::query("BEGIN").execute(&mut *tx).await?;
        Ok(tx)
    }

    /// Commits the transaction.
    pub(in crate::store) async fn commit(mut self) -> Result<()> {
        sqlx::query("COMMIT").execute(&mut *self).await?;
        self.is_committed = true;
        Ok(())
    }
}

impl Drop for SqliteTx {
    fn drop(&mut self) {
        if !self.is_committed {
            // Closing the connection rolls back.
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
