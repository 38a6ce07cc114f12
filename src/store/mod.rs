//! What is kept: tables, shares, recipients, tokens, grants, the audit trail; on SQLite or PostgreSQL.
//!
//! Lives here: every SQL text, once for both databases, one file per aggregate. A read ([`reads!`]) is a method of
//! [`Db`] and, inside a transaction, of [`Tx`]; a write is a method of [`Tx`] alone, so that a change and its audit
//! event commit together. Nothing takes a second connection while a transaction is open.
//! Never here: deciding anything, reading a clock, or a secret in clear.

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
        freezes::Freeze,
        grants::{GrantFilter, NamedGrant},
        lookup::{AccessBasisIds, AccessFacts, Found, Reached, Seeker, Sought},
        quota::{UrlBytes, UrlDigest},
        tokens::EndingToken,
    },
    audit::{
        AuditFilter, Order, Outstanding, StoredEvent, StoredPersonal,
        checkpoints::{AuditSpan, Derived, Reclaimed, StoredCheckpoint},
    },
    catalog::objects::{ShownIn, ShownView},
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
    materialize::{CopyFilter, CopySet, EntitlementRow, MadeCopy, MixedFile, MixedScope, Serving, is_held},
};

/// By how much the clocks of servers may differ. A claim that would end later than it could if it were made now, and by
/// more than this, was made by a clock that was ahead, and counts no more.
pub const CLOCKS_APART: TimeDelta = TimeDelta::seconds(10);

/// Longer than anything rests before its next attempt: what is to wait longer was queued by a clock that was ahead.
const LONGEST_REST: TimeDelta = TimeDelta::hours(8);

/// How long a change waits for its turn.
const CHANGE_PATIENCE: Duration = Duration::from_secs(25);

/// A database, through its pooled connections. Cloning shares the pools.
#[derive(Clone, Debug)]
pub enum Db {
    /// The embedded default.
    Sqlite {
        /// Connections that only read.
        reader: SqlitePool,
        /// The one connection that writes.
        writer: SqlitePool,
    },
    /// What replicas share.
    Postgres {
        /// Connections for everything that has none of its own.
        pool: PgPool,
        /// Those of [`PoolRole::LookUps`].
        look_ups: PgPool,
        /// Those of [`PoolRole::AuditWriter`].
        audit_writer: PgPool,
    },
}

/// Who has connections apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolRole {
    /// Whoever looks up what requests are decided from.
    LookUps,
    /// Whoever writes requests to the audit trail.
    AuditWriter,
}

/// An open transaction; rolled back when dropped.
#[derive(Debug)]
pub struct Tx {
    connection: TxConnection,
    /// Whether writes are left out, each as if it had changed one row.
    is_rehearsal: bool,
}

#[derive(Debug)]
enum TxConnection {
    /// The only writer there is.
    Sqlite(SqliteTx),
    /// One of many, `READ COMMITTED`; what must not race takes [`Tx::lock_audit_head`] first.
    Postgres(Transaction<'static, Postgres>),
}

/// Writes each read twice: as a method of [`Db`] on any connection, and as one of [`Tx`] inside the transaction. The
/// second name in the parentheses is what the body's one query runs on.
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

/// Writes in the transaction of a [`Tx`], and answers how many rows that changed. A rehearsal writes nothing, and counts one
/// row.
macro_rules! writes {
    ($tx:expr, $db:ident => $body:expr) => {
        if $tx.is_rehearsal { 1 } else { $crate::store::on_tx!($tx, $db => $body) }
    };
}
use writes;

impl Db {
    /// Opens a transaction; on SQLite it holds the write lock from its first moment.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Tx::new(TxConnection::Sqlite(SqliteTx::begin(writer).await?)),
            Self::Postgres { pool, .. } => Tx::new(TxConnection::Postgres(pool.begin().await?)),
        })
    }

    /// Opens the transaction of a change: where others are at it, it waits as long as a statement on PostgreSQL may.
    pub async fn begin_change(&self) -> Result<Tx> {
        let began = Instant::now();
        loop {
            match self.begin().await {
                Err(StoreError::Contended(_)) if began.elapsed() < CHANGE_PATIENCE => {}
                outcome => return outcome,
            }
        }
    }

    /// Whether a transaction holds the audit chain's lock from its beginning.
    pub fn locks_at_begin(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    /// Begins a transaction that only reads: nobody waits for it, and it keeps nothing.
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

    /// Begins the transaction of a dry run: it reads, leaves out its writes, takes no lock, and nobody waits for it. What
    /// it was to write is not read back.
    pub async fn rehearse(&self) -> Result<Tx> {
        Ok(Tx { is_rehearsal: true, ..self.begin_reading().await? })
    }

    /// The same database through connections apart. Whoever asks there waits for nobody else, and finds statements prepared
    /// and connections warm: the common pool hands out all of its connections in turn.
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

    /// Closes every connection; what is being done is finished first.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { reader, writer } => {
                reader.close().await;
                // The last connection to go leaves one database file behind, so it must be one that can write.
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
    /// Whether the database answers.
    pub async fn ping(self, db) -> Result<()> {
        sqlx::query("SELECT 1").execute(db).await?;
        Ok(())
    }
}

impl Tx {
    fn new(connection: TxConnection) -> Self {
        Self { connection, is_rehearsal: false }
    }

    /// Makes everything done in the transaction last; in a rehearsal there is nothing.
    pub async fn commit(self) -> Result<()> {
        match self.connection {
            TxConnection::Sqlite(tx) => tx.commit().await,
            TxConnection::Postgres(tx) => Ok(tx.commit().await?),
        }
    }
}
