//! Stores surrogates: the random bytes that stand for values in the files of views, by a keyed digest of each value.
//!
//! They have connections of their own, and on SQLite a file of their own beside the database, so that drawing many of
//! them never waits for the audit trail, and the trail never for them. Each recipient has one set of surrogates at a
//! time; a set that ended is never used again. Never here: a value, or what its digest is made with.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, sqlite::SqliteConnectOptions};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::store::{
    Db, Result, StoreError, Tx,
    core::{
        connect::{open_sqlite, surrogate_pool},
        sqlite::SqliteTx,
        value::{Micros, padded},
    },
    on_tx, reads, writes,
};

/// The tables of a SQLite file of surrogates, and the version of the file that has them.
const SQLITE: &str = include_str!("../../../migrations/sqlite_surrogates/0001_begin.sql");
const SQLITE_VERSION: i64 = 1;

/// What is appended to a SQLite file's name for the file with its surrogates.
const SUFFIX: &str = ".surrogates";
/// The connections to a SQLite file of surrogates that read.
const READERS: u32 = 4;
/// The number of surrogates in one transaction, and of digests in one query.
pub const SURROGATE_BATCH: usize = 500;
/// How often random bytes that are taken already are drawn again; once is more than ever happens.
const ATTEMPTS: usize = 4;
/// The number of surrogates of an ended set that are deleted in one transaction.
const DELETED: i64 = 5_000;

/// The place of surrogates. Nothing is opened before it is first needed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SurrogateStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    beside: Db,
    opened: Mutex<Option<Db>>,
}

/// A recipient's surrogates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurrogateSet {
    /// Their identity; the copies that show them depend on it.
    pub id: Uuid,
    /// The recipient.
    pub recipient_id: Uuid,
}

/// Digests of values for which a view needs surrogates.
#[derive(Clone, Copy, Debug)]
pub struct SurrogateRequest<'a> {
    /// The set.
    pub set_id: Uuid,
    /// The view.
    pub view_id: Uuid,
    /// The digests.
    pub digests: &'a [Uuid],
    /// The most surrogates that may be drawn for the view, for all recipients together.
    pub most: u64,
}

/// What came of a request for surrogates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drawn {
    /// The random bytes for each digest, and how many of them are new.
    All {
        /// Pairs of a digest and the random bytes that stand for its value, in no order.
        pairs: Vec<(Uuid, Uuid)>,
        /// The number that was drawn just now.
        new: u64,
    },
    /// The view has as many surrogates as it may have.
    TooMany,
    /// The set has ended.
    Ended,
}

impl SurrogateStore {
    /// The surrogates that belong to `db`.
    pub fn beside(db: &Db) -> Self {
        Self(Arc::new(Inner { beside: db.clone(), opened: Mutex::default() }))
    }

    /// The file of surrogates beside a SQLite file.
    pub fn file_of(database: &Path) -> PathBuf {
        let mut path = database.as_os_str().to_owned();
        path.push(SUFFIX);
        path.into()
    }

    async fn open(&self) -> Result<Db> {
        let mut opened = self.0.opened.lock().await;
        if let Some(db) = &*opened {
            return Ok(db.clone());
        }
        let db = open(&self.0.beside).await?;
        *opened = Some(db.clone());
        Ok(db)
    }

    /// Opens it unless no surrogate was ever drawn.
    async fn open_existing(&self) -> Result<Option<Db>> {
        if let Db::Sqlite { writer, .. } = &self.0.beside
            && !Self::file_of(writer.connect_options().get_filename()).exists()
        {
            return Ok(None);
        }
        Ok(Some(self.open().await?))
    }

    /// Closes every connection.
    pub async fn close(&self) {
        let opened = self.0.opened.lock().await.take();
        if let Some(db) = opened {
            db.close().await;
        }
    }

    /// The set that is a recipient's now; begins one if it has none.
    pub async fn set_of(&self, recipient_id: Uuid, now: DateTime<Utc>) -> Result<SurrogateSet> {
        let db = self.open().await?;
        loop {
            if let Some(id) = db.find_surrogate_set(recipient_id).await? {
                return Ok(SurrogateSet { id, recipient_id });
            }
            let mut tx = db.begin().await?;
            tx.begin_surrogate_set(&SurrogateSet { id: Uuid::new_v4(), recipient_id }, now).await?;
            tx.commit().await?;
        }
    }

    /// Lists the sets that have not ended; at most `limit`.
    pub async fn list_sets(&self, limit: u32) -> Result<Vec<SurrogateSet>> {
        match self.open_existing().await? {
            Some(db) => db.list_surrogate_sets(limit).await,
            None => Ok(Vec::new()),
        }
    }

    /// Finds the surrogates of digests, and draws those that are missing, with `random` bytes. Servers that
    /// draw for the same recipient at the same time take turns, so that both use what the first drew.
    pub async fn draw(&self, request: SurrogateRequest<'_>, now: DateTime<Utc>, random: fn() -> Uuid) -> Result<Drawn> {
        let SurrogateRequest { set_id, view_id, digests, most } = request;
        let db = self.open().await?;
        if !db.has_surrogate_set(set_id).await? {
            return Ok(Drawn::Ended);
        }
        let mut known: HashMap<Uuid, Uuid> = HashMap::with_capacity(digests.len());
        for digests in digests.chunks(SURROGATE_BATCH) {
            known.extend(db.find_surrogates(set_id, digests).await?);
        }
        let mut missing: Vec<Uuid> = digests.iter().filter(|digest| !known.contains_key(digest)).copied().collect();
        missing.sort_unstable();
        missing.dedup();
        let mut new = 0;
        for batch in missing.chunks(SURROGATE_BATCH) {
            let mut tx = db.begin_change().await?;
            // From here on nobody else draws for this recipient, nor ends its set.
            if !tx.touch_surrogate_set(set_id, now).await? {
                return Ok(Drawn::Ended);
            }
            let mut left = batch.to_vec();
            let mut added = 0;
            for _ in 0..ATTEMPTS {
                // Another server may have drawn some since.
                known.extend(tx.find_surrogates(set_id, &left).await?);
                left.retain(|digest| !known.contains_key(digest));
                if left.is_empty() {
                    break;
                }
                let pairs: Vec<(Uuid, Uuid)> = left.iter().map(|digest| (*digest, random())).collect();
                added += tx.insert_surrogates(set_id, &pairs).await?;
            }
            known.extend(tx.find_surrogates(set_id, &left).await?);
            if left.iter().any(|digest| !known.contains_key(digest)) {
                return Err(StoreError::Corrupt("surrogates.random"));
            }
            if added > 0 && tx.count_surrogates(view_id, set_id, added).await? > most {
                return Ok(Drawn::TooMany);
            }
            tx.commit().await?;
            new += added;
        }
        Ok(Drawn::All { pairs: known.into_iter().collect(), new })
    }

    /// Ends a set: nothing is drawn for it any more. False if it had ended.
    pub async fn end_set(&self, id: Uuid, now: DateTime<Utc>) -> Result<bool> {
        let mut tx = self.open().await?.begin_change().await?;
        let is_ended = tx.end_surrogate_set(id, now).await?;
        tx.commit().await?;
        Ok(is_ended)
    }

    /// Deletes some of the surrogates of ended sets; returns how many, 0 once nothing is left of any.
    pub async fn delete_ended(&self) -> Result<u64> {
        let Some(db) = self.open_existing().await? else { return Ok(0) };
        let Some(id) = db.find_ended_surrogate_set().await? else { return Ok(0) };
        let mut tx = db.begin_change().await?;
        let deleted = tx.delete_surrogates(id).await?;
        if deleted == 0 {
            tx.forget_surrogate_set(id).await?;
        }
        tx.commit().await?;
        Ok(deleted.max(1))
    }
}

async fn open(beside: &Db) -> Result<Db> {
    match beside {
        Db::Sqlite { writer, .. } => {
            let file = SurrogateStore::file_of(writer.connect_options().get_filename());
            let db = open_sqlite(SqliteConnectOptions::new().filename(&file), READERS).await?;
            make_tables(&db).await?;
            Ok(db)
        }
        Db::Postgres { pool, .. } => {
            let pool = surrogate_pool(pool);
            Ok(Db::Postgres { look_ups: pool.clone(), audit_writer: pool.clone(), pool })
        }
    }
}

/// Makes the tables of a new SQLite file; refuses a file that a newer Weir made.
async fn make_tables(db: &Db) -> Result<()> {
    let Db::Sqlite { writer, .. } = db else { return Ok(()) };
    let mut tx = SqliteTx::begin(writer).await?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *tx).await?;
    match found {
        0 => {
            sqlx::raw_sql(SQLITE).execute(&mut *tx).await?;
            sqlx::query("PRAGMA user_version = 1").execute(&mut *tx).await?;
            tx.commit().await
        }
        SQLITE_VERSION => Ok(()),
        found => Err(StoreError::SchemaTooNew { found, known: SQLITE_VERSION }),
    }
}

reads! {
    /// The set that is a recipient's now.
    pub async fn find_surrogate_set(self, db, recipient_id: Uuid) -> Result<Option<Uuid>> {
        let sql = "SELECT id FROM surrogate_sets WHERE recipient_id = $1 AND ended_at IS NULL";
        Ok(sqlx::query_scalar(sql).bind(recipient_id).fetch_optional(db).await?)
    }

    /// Whether a set has not ended.
    pub async fn has_surrogate_set(self, db, id: Uuid) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM surrogate_sets WHERE id = $1 AND ended_at IS NULL)";
        Ok(sqlx::query_scalar(sql).bind(id).fetch_one(db).await?)
    }

    /// Lists the sets that have not ended; at most `limit`.
    pub async fn list_surrogate_sets(self, db, limit: u32) -> Result<Vec<SurrogateSet>> {
        let sql = "SELECT id, recipient_id FROM surrogate_sets WHERE ended_at IS NULL ORDER BY id LIMIT $1";
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(sql).bind(i64::from(limit)).fetch_all(db).await?;
        Ok(rows.into_iter().map(|(id, recipient_id)| SurrogateSet { id, recipient_id }).collect())
    }

    /// A set that has ended.
    pub async fn find_ended_surrogate_set(self, db) -> Result<Option<Uuid>> {
        let sql = "SELECT id FROM surrogate_sets WHERE ended_at IS NOT NULL ORDER BY id LIMIT 1";
        Ok(sqlx::query_scalar(sql).fetch_optional(db).await?)
    }

    /// Finds the random bytes for those of `digests` that have some. `digests` must be few.
    pub async fn find_surrogates(self, db, set_id: Uuid, digests: &[Uuid]) -> Result<Vec<(Uuid, Uuid)>> {
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new("SELECT digest, random FROM surrogates WHERE set_id = ");
        query.push_bind(set_id).push(" AND digest IN (");
        let mut list = query.separated(", ");
        for digest in padded(digests) {
            list.push_bind(digest);
        }
        query.push(")");
        Ok(query.build_query_as().fetch_all(db).await?)
    }
}

impl Tx {
    /// Begins a recipient's set, unless another server did so first.
    async fn begin_surrogate_set(&mut self, set: &SurrogateSet, now: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "INSERT INTO surrogate_sets (id, recipient_id, begun_at, drawn_at) VALUES ($1, $2, $3, $3) \
            ON CONFLICT DO NOTHING";
        let now = Micros::from(now);
        writes!(self, db => sqlx::query(SQL)
            .bind(set.id)
            .bind(set.recipient_id)
            .bind(now)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Locks a set until the end of the transaction; false if it has ended.
    async fn touch_surrogate_set(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<bool> {
        const SQL: &str = "UPDATE surrogate_sets SET drawn_at = $2 WHERE id = $1 AND ended_at IS NULL";
        let now = Micros::from(now);
        Ok(writes!(self, db => sqlx::query(SQL).bind(id).bind(now).execute(db).await?.rows_affected()) == 1)
    }

    /// Adds pairs of a digest and random bytes; returns how many were added. A pair is left out if its digest has random
    /// bytes already, or if the bytes stand for another value.
    async fn insert_surrogates(&mut self, set_id: Uuid, pairs: &[(Uuid, Uuid)]) -> Result<u64> {
        Ok(writes!(self, db => {
            let mut query = QueryBuilder::new("INSERT INTO surrogates (set_id, digest, random) ");
            query.push_values(padded(pairs), |mut row, (digest, random)| {
                row.push_bind(set_id).push_bind(digest).push_bind(random);
            });
            query.push(" ON CONFLICT DO NOTHING");
            query.build().execute(db).await?.rows_affected()
        }))
    }

    /// Counts surrogates that were drawn for a view; returns how many it has for all recipients together.
    async fn count_surrogates(&mut self, view_id: Uuid, set_id: Uuid, added: u64) -> Result<u64> {
        const COUNT: &str = "INSERT INTO surrogate_draws (view_id, set_id, drawn) VALUES ($1, $2, $3) \
            ON CONFLICT (view_id, set_id) DO UPDATE SET drawn = surrogate_draws.drawn + excluded.drawn";
        const SUM: &str = "SELECT CAST(COALESCE(SUM(drawn), 0) AS BIGINT) FROM surrogate_draws WHERE view_id = $1";
        let added = i64::try_from(added).unwrap_or(i64::MAX);
        writes!(self, db => sqlx::query(COUNT)
            .bind(view_id)
            .bind(set_id)
            .bind(added)
            .execute(db)
            .await?
            .rows_affected());
        let drawn: i64 = on_tx!(self, db => sqlx::query_scalar(SUM).bind(view_id).fetch_one(db).await?);
        Ok(u64::try_from(drawn).unwrap_or_default())
    }

    /// Ends a set; false if it had ended.
    async fn end_surrogate_set(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<bool> {
        const SQL: &str = "UPDATE surrogate_sets SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL";
        let now = Micros::from(now);
        Ok(writes!(self, db => sqlx::query(SQL).bind(id).bind(now).execute(db).await?.rows_affected()) == 1)
    }

    /// Deletes some of a set's surrogates; returns how many.
    async fn delete_surrogates(&mut self, set_id: Uuid) -> Result<u64> {
        const SQL: &str = "DELETE FROM surrogates WHERE set_id = $1 AND digest IN \
            (SELECT digest FROM surrogates WHERE set_id = $1 ORDER BY digest LIMIT $2)";
        Ok(writes!(self, db => sqlx::query(SQL).bind(set_id).bind(DELETED).execute(db).await?.rows_affected()))
    }

    /// Deletes a set that has no surrogates any more.
    async fn forget_surrogate_set(&mut self, id: Uuid) -> Result<()> {
        for sql in ["DELETE FROM surrogate_draws WHERE set_id = $1", "DELETE FROM surrogate_sets WHERE id = $1"] {
            writes!(self, db => sqlx::query(sql).bind(id).execute(db).await?.rows_affected());
        }
        Ok(())
    }
}
