//! Stores tables, shares, recipients, tokens, grants and the audit trail, on SQLite or PostgreSQL.
//!
//! Holds every SQL text, written once for both databases, one file per aggregate. A read ([`reads!`]) is a method of
//! [`Db`] and, inside a transaction, of [`Tx`]. A write is a method of [`Tx`] only, so that a change and its audit
//! event commit together. Never takes a second connection while a transaction is open. Never here: decisions, clocks,
//! secrets as text.

mod access;
mod audit;
mod catalog;
mod core;
mod insight;
mod materialize;
mod operators;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use sqlx::{PgPool, Postgres, SqlitePool, Transaction};

pub use self::{
    access::{
        agreements::KeptTerms,
        exceptions::ActiveException,
        freezes::Freeze,
        grants::{GrantFilter, NamedGrant},
        hooks::StoredHookEvent,
        lookup::{AccessBasisIds, AccessFacts, Found, Reached, Seeker, Sought},
        quota::{UrlBytes, UrlDigest},
        tokens::EndingToken,
    },
    audit::{
        AuditFilter, Order, Outstanding, StoredEvent, StoredPersonal,
        checkpoints::{AuditSpan, Derived, Reclaimed, StoredCheckpoint},
    },
    catalog::{
        columns::ColumnFilter,
        objects::{ShownIn, ShownView},
    },
    core::{
        error::{Cause, Constraint, Result, StoreError},
        idempotency::IdempotencyRecord,
        jobs::{JOB_LEASE, Job, JobFilter},
        lock::ServerLock,
        sqlite::SqliteTx,
    },
    insight::{
        notifications::{Notification, NotificationState},
        reports::{ReportFilter, ReportState, StoredFile, StoredReport},
        usage::{UsageDay, UsageFilter, UsageGroup, UsageKey, UsageKeys, UsagePeriod, UsageProgress, UsageSums},
    },
    materialize::{
        CopyFilter, CopySet, EntitlementRow, MadeCopy, MixedFile, MixedScope, Serving, is_held,
        surrogates::{Drawn, SURROGATE_BATCH, SurrogateRequest, SurrogateSet, SurrogateStore},
    },
    operators::owners::OwningOperator,
};

/// How far the clocks of servers may differ. A claim that ends later than a claim made now could, by more than this,
/// comes from a clock that was ahead and is ignored.
pub const CLOCKS_APART: TimeDelta = TimeDelta::seconds(10);

/// Longer than anything rests before its next attempt: what is to wait longer was queued by a clock that was ahead.
const LONGEST_REST: TimeDelta = TimeDelta::hours(8);

/// How long a change waits for its turn.
const CHANGE_PATIENCE: Duration = Duration::from_secs(25);

/// A database with its connection pools. Clones share the pools.
#[derive(Clone, Debug)]
pub enum Db {
    /// The embedded default.
    Sqlite {
        /// Connections that only read.
        reader: SqlitePool,
        /// The only connection that writes.
        writer: SqlitePool,
    },
    /// The database that replicas share.
    Postgres {
        /// Connections for everything without a pool of its own.
        pool: PgPool,
        /// The connections of [`PoolRole::LookUps`].
        look_ups: PgPool,
        /// The connections of [`PoolRole::AuditWriter`].
        audit_writer: PgPool,
    },
}

/// A task with connections of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolRole {
    /// Looking up the facts for decisions.
    LookUps,
    /// Writing the events of requests to the audit trail.
    AuditWriter,
}

/// An open transaction. Rolls back when dropped.
#[derive(Debug)]
pub struct Tx {
    connection: TxConnection,
    /// Whether writes are skipped, each as if it had changed one row.
    is_rehearsal: bool,
}

#[derive(Debug)]
enum TxConnection {
    /// The only write transaction at a time.
    Sqlite(SqliteTx),
    /// One of several, at `READ COMMITTED`. Work that must not race calls [`Tx::lock_audit_head`] first.
    Postgres(Transaction<'static, Postgres>),
}

/// Defines each read twice: as a method of [`Db`] on any connection and as a method of [`Tx`] in the transaction. The
/// second name in the parentheses is the connection for the body's single query.
macro_rules! reads {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis async fn $name:ident($this:ident, $db:ident $(, $argument:ident: $type:ty)* $(,)?) -> $answer:ty $body:block
    )*) => {
        impl $crate::store::Db {
            $($(#[$attribute])*
            $visibility async fn $name(&$this $(, $argument: $type)*) -> $answer {
                match $this {
                    Self::Sqlite { reader: $db, .. } => $body,
                    Self::Postgres { pool: $db, .. } => $body,
                }
            })*
        }
        impl $crate::store::Tx {
            $($(#[$attribute])*
            $visibility async fn $name(&mut $this $(, $argument: $type)*) -> $answer {
                match &mut $this.connection {
                    $crate::store::TxConnection::Sqlite(tx) => {
                        let $db = &mut **tx;
                        $body
                    }
                    $crate::store::TxConnection::Postgres(tx) => {
                        let $db = &mut **tx;
                        $body
                    }
                }
            })*
        }
    };
}
use reads;

/// Runs `$body` on the connection of a [`Tx`].
macro_rules! on_tx {
    ($tx:expr, $db:ident => $body:expr) => {
        match &mut $tx.connection {
            $crate::store::TxConnection::Sqlite(tx) => {
                let $db = &mut **tx;
                $body
            }
            $crate::store::TxConnection::Postgres(tx) => {
                let $db = &mut **tx;
                $body
            }
        }
    };
}
use on_tx;

/// Writes in the transaction of a [`Tx`] and returns how many rows changed. A dry run writes nothing and returns 1.
macro_rules! writes {
    ($tx:expr, $db:ident => $body:expr) => {
        if $tx.is_rehearsal { 1 } else { $crate::store::on_tx!($tx, $db => $body) }
    };
}
use writes;

/// Succeeds if a write changed one row; [`StoreError::Stale`] otherwise: another change came first, or the row is gone.
fn one_row(changed: u64) -> Result<()> {
    if changed == 1 { Ok(()) } else { Err(StoreError::Stale) }
}

impl Db {
    /// Opens a transaction; on SQLite it holds the write lock from the start.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Tx::new(TxConnection::Sqlite(SqliteTx::begin(writer).await?)),
            Self::Postgres { pool, .. } => Tx::new(TxConnection::Postgres(pool.begin().await?)),
        })
    }

    /// Opens the transaction of a change. On contention, waits as long as PostgreSQL lets a statement wait.
    pub async fn begin_change(&self) -> Result<Tx> {
        let began = Instant::now();
        loop {
            match self.begin().await {
                Err(StoreError::Contended(_)) if began.elapsed() < CHANGE_PATIENCE => {}
                outcome => return outcome,
            }
        }
    }

    /// Whether every transaction holds the audit chain's lock from the start.
    pub fn locks_at_begin(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    /// Opens a read-only transaction, which blocks no other.
    pub async fn begin_reading(&self) -> Result<Tx> {
        Ok(match self {
            Self::Sqlite { reader, .. } => Tx::new(TxConnection::Sqlite(SqliteTx::begin_reading(reader).await?)),
            Self::Postgres { pool, .. } => {
                let mut tx = pool.begin().await?;
                sqlx::query("SET TRANSACTION READ ONLY").execute(&mut *tx).await?;
                Tx::new(TxConnection::Postgres(tx))
            }
        })
    }

    /// Opens the transaction of a dry run: it reads, skips its writes, and neither takes a lock nor blocks another. Its
    /// reads do not see the skipped writes.
    pub async fn rehearse(&self) -> Result<Tx> {
        Ok(Tx { is_rehearsal: true, ..self.begin_reading().await? })
    }

    /// Returns the same database with the connections of `role`. They wait for no other work, and their statements stay
    /// prepared: the common pool hands out all of its connections in turn.
    pub fn apart(&self, role: PoolRole) -> Self {
        match self {
            Self::Sqlite { .. } => self.clone(),
            Self::Postgres { look_ups, audit_writer, .. } => {
                let pool = match role {
                    PoolRole::LookUps => look_ups.clone(),
                    PoolRole::AuditWriter => audit_writer.clone(),
                };
                Self::Postgres { pool, look_ups: look_ups.clone(), audit_writer: audit_writer.clone() }
            }
        }
    }

    /// Closes every connection after its current work.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { reader, writer } => {
                reader.close().await;
                // The last connection to close merges SQLite's log into the file, so it must be the writer.
                writer.close().await;
            }
            Self::Postgres { pool, look_ups, audit_writer } => {
                for pool in [pool, look_ups, audit_writer] {
                    pool.close().await;
                }
            }
        }
    }
}

reads! {
    /// Checks that the database answers.
    pub async fn ping(self, db) -> Result<()> {
        sqlx::query("SELECT 1").execute(db).await?;
        Ok(())
    }
}

impl Tx {
    fn new(connection: TxConnection) -> Self {
        Self { connection, is_rehearsal: false }
    }

    /// Commits the transaction; a dry run has nothing to commit.
    pub async fn commit(self) -> Result<()> {
        match self.connection {
            TxConnection::Sqlite(tx) => tx.commit().await,
            TxConnection::Postgres(tx) => Ok(tx.commit().await?),
        }
    }
}
