//! The register of copies, kept: what was written for whom, who is at it, and until when it is needed.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::domain::materialize::copy::{Copy, CopyKind, CopyState, RulesId, UnitId};

use super::{
    Result, StoreError, Tx,
    core::{
        servers::LONGEST_LIFE,
        value::{Micros, digest, padded, time, word},
    },
    on_tx, reads, writes,
};

/// The longest list in one statement; SQLite takes more, and plans grow with it.
const LONGEST_LIST: usize = 256;

/// How long what could not be made is left alone at most; what is to rest longer failed by a clock that was ahead.
const LONGEST_REST: TimeDelta = TimeDelta::hours(2);
/// What rests longer than this rests for ever.
const FOR_EVER: TimeDelta = TimeDelta::days(18_000);

/// Whether others leave a copy that is being made, or could not be, to its holder at `now`.
pub fn is_held(copy: &Copy, now: DateTime<Utc>) -> bool {
    let left = copy.held_until - now;
    let longest = if copy.state == CopyState::Making { LONGEST_LIFE } else { LONGEST_REST };
    left > TimeDelta::zero() && (left <= longest || left >= FOR_EVER)
}

/// Whose copies: one version of a view under some rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CopySet {
    /// The view.
    pub view_id: Uuid,
    /// Its version.
    pub view_version: i64,
    /// What the readers have in common.
    pub rules: RulesId,
}

impl CopySet {
    /// The set that a copy belongs to.
    pub fn of(copy: &Copy) -> Self {
        Self { view_id: copy.view_id, view_version: copy.view_version, rules: copy.rules }
    }
}

/// Which copies are listed.
#[derive(Clone, Debug, Default)]
pub struct CopyFilter {
    /// Of this view.
    pub view_id: Option<Uuid>,
    /// In this state; without one, all that are not deleted.
    pub state: Option<CopyState>,
}

/// What was made of a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct MadeCopy {
    /// The copy.
    pub id: Uuid,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Its statistics.
    pub stats: Option<String>,
}

/// The version of a table that is served under some rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// The table's own id; a table that was replaced begins anew.
    pub delta_id: String,
    /// The version.
    pub table_version: i64,
    /// What is remembered of the set's copies holds only as long as this is the same.
    pub epoch: Uuid,
}

/// Who reads a set of copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntitlementRow {
    /// The set.
    pub set: CopySet,
    /// The recipient.
    pub recipient_id: Uuid,
    /// The share through which it reads.
    pub share_id: Uuid,
    /// When it last asked.
    pub asked_at: DateTime<Utc>,
}

/// A file of a table, and the group that it is mixed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct MixedFile {
    /// What it is known by in its scope.
    pub file: Uuid,
    /// The group.
    pub group_id: Uuid,
    /// The time that is told of every file of what was grouped together, in milliseconds since the epoch.
    pub grouped_as_of: i64,
}

/// A scope of mixed files, and a view that uses it.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct MixedScope {
    /// The scope.
    pub scope: Uuid,
    /// The view.
    pub view_id: Uuid,
    /// The id of the table that the scope was made for.
    pub delta_id: String,
    /// The earliest version that the table's log told of when it was last looked at; -1 where it never was.
    pub earliest: i64,
}

/// What is being made is held for as long as its maker counts as alive.
macro_rules! select_copies {
    () => {
        "SELECT id, unit, kind, view_id, view_version, rules, source, object_key, state, bytes, row_count, stats, \
         created_at, needed_until, holder, CASE WHEN state = 'making' THEN COALESCE((SELECT s.alive_until FROM servers s \
         WHERE s.id = copies.holder), created_at) ELSE held_until END AS held_until, attempts, failure, deleted_at \
         FROM copies "
    };
}

#[derive(FromRow)]
struct CopyRow {
    id: Uuid,
    unit: Vec<u8>,
    kind: String,
    view_id: Uuid,
    view_version: i64,
    rules: Vec<u8>,
    source: String,
    object_key: String,
    state: String,
    bytes: i64,
    row_count: i64,
    stats: Option<String>,
    created_at: Micros,
    needed_until: Micros,
    holder: Uuid,
    held_until: Micros,
    attempts: i64,
    failure: Option<String>,
    deleted_at: Option<Micros>,
}

impl TryFrom<CopyRow> for Copy {
    type Error = StoreError;

    fn try_from(row: CopyRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            unit: UnitId(digest("copies.unit", &row.unit)?),
            kind: word(CopyKind::parse, "copies.kind", &row.kind)?,
            view_id: row.view_id,
            view_version: row.view_version,
            rules: RulesId(digest("copies.rules", &row.rules)?),
            source: row.source,
            object_key: row.object_key,
            state: word(CopyState::parse, "copies.state", &row.state)?,
            bytes: u64::try_from(row.bytes).map_err(|_| StoreError::Corrupt("copies.bytes"))?,
            rows: u64::try_from(row.row_count).map_err(|_| StoreError::Corrupt("copies.row_count"))?,
            stats: row.stats,
            created_at: row.created_at.0,
            needed_until: row.needed_until.0,
            holder: row.holder,
            held_until: row.held_until.0,
            attempts: row.attempts,
            failure: row.failure,
            deleted_at: time(row.deleted_at),
        })
    }
}

fn copies(rows: Vec<CopyRow>) -> Result<Vec<Copy>> {
    rows.into_iter().map(TryInto::try_into).collect()
}

fn long(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[derive(FromRow)]
struct EntitlementColumns {
    view_id: Uuid,
    view_version: i64,
    rules: Vec<u8>,
    recipient_id: Uuid,
    share_id: Uuid,
    asked_at: Micros,
}

impl TryFrom<EntitlementColumns> for EntitlementRow {
    type Error = StoreError;

    fn try_from(row: EntitlementColumns) -> Result<Self> {
        let rules = RulesId(digest("entitlements.rules", &row.rules)?);
        Ok(Self {
            set: CopySet { view_id: row.view_id, view_version: row.view_version, rules },
            recipient_id: row.recipient_id,
            share_id: row.share_id,
            asked_at: row.asked_at.0,
        })
    }
}

#[derive(FromRow)]
struct SetColumns {
    view_id: Uuid,
    view_version: i64,
    rules: Vec<u8>,
}

reads! {
    /// Copies in the order of their ids, which is that of their making, from behind `after`.
    pub async fn list_copies(
        self, db, filter: &CopyFilter, after: Option<Uuid>, limit: u32
    ) -> Result<Vec<Copy>> {
        let mut query = QueryBuilder::new(concat!(select_copies!(), "WHERE id > "));
        query.push_bind(after.unwrap_or(Uuid::nil()));
        match filter.state {
            Some(state) => query.push(" AND state = ").push_bind(state.as_str()),
            None => query.push(" AND state <> 'deleted'"),
        };
        if let Some(view_id) = filter.view_id {
            query.push(" AND view_id = ").push_bind(view_id);
        }
        query.push(" ORDER BY id LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<CopyRow> = query.build_query_as().fetch_all(db).await?;
        copies(rows)
    }

    /// Those of a set's copies that are of `units`, and may be read, are being made, or could not be.
    pub async fn list_copies_of_units(self, db, set: CopySet, units: &[UnitId]) -> Result<Vec<Copy>> {
        if units.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new(concat!(select_copies!(), "WHERE view_id = "));
        query.push_bind(set.view_id).push(" AND view_version = ").push_bind(set.view_version);
        query.push(" AND rules = ").push_bind(set.rules.0.to_vec());
        query.push(" AND state IN ('making', 'ready', 'failed') AND unit IN (");
        let mut list = query.separated(", ");
        for unit in padded(units) {
            list.push_bind(unit.0.to_vec());
        }
        query.push(")");
        let rows: Vec<CopyRow> = query.build_query_as().fetch_all(db).await?;
        copies(rows)
    }

    /// The copies of a set that may be read, are being made, or could not be.
    pub async fn list_copies_of(self, db, set: CopySet) -> Result<Vec<Copy>> {
        let sql = concat!(
            select_copies!(),
            "WHERE view_id = $1 AND view_version = $2 AND rules = $3 AND state IN ('making', 'ready', 'failed')"
        );
        let rows: Vec<CopyRow> = sqlx::query_as(sql)
            .bind(set.view_id)
            .bind(set.view_version)
            .bind(&set.rules.0[..])
            .fetch_all(db)
            .await?;
        copies(rows)
    }

    /// The copy at this key that was not deleted.
    pub async fn find_copy_at(self, db, set: CopySet, object_key: &str) -> Result<Option<Copy>> {
        let sql = concat!(
            select_copies!(),
            "WHERE object_key = $1 AND view_id = $2 AND view_version = $3 AND rules = $4 \
             AND state IN ('ready', 'draining') LIMIT 1"
        );
        let row: Option<CopyRow> = sqlx::query_as(sql)
            .bind(object_key)
            .bind(set.view_id)
            .bind(set.view_version)
            .bind(&set.rules.0[..])
            .fetch_optional(db)
            .await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Whether a copy that was not deleted is registered under this key.
    pub async fn has_copy_at(self, db, object_key: &str) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM copies WHERE object_key = $1 AND state <> 'deleted')";
        Ok(sqlx::query_scalar(sql).bind(object_key).fetch_one(db).await?)
    }

    /// Copies that nobody can need: drained ones whose last URL is dead at `now`, and others whose last URL died before
    /// `idle_since` and that nobody is at; at most `limit`.
    pub async fn list_idle_copies(
        self, db, now: DateTime<Utc>, idle_since: DateTime<Utc>, limit: u32
    ) -> Result<Vec<Copy>> {
        let sql = concat!(
            select_copies!(),
            "WHERE (state = 'draining' AND needed_until <= $1) \
             OR (state IN ('making', 'ready', 'failed') AND needed_until < $2 AND held_until < $1 \
             AND (state <> 'making' OR NOT EXISTS (SELECT 1 FROM servers s WHERE s.id = copies.holder \
             AND s.alive_until > $1))) ORDER BY needed_until LIMIT $3"
        );
        let rows: Vec<CopyRow> = sqlx::query_as(sql)
            .bind(Micros::from(now))
            .bind(Micros::from(idle_since))
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
        copies(rows)
    }

    /// Copies that may be read and were made before `before`, the oldest first; at most `limit`.
    pub async fn list_aged_copies(self, db, before: DateTime<Utc>, limit: u32) -> Result<Vec<Copy>> {
        let sql =
            concat!(select_copies!(), "WHERE state = 'ready' AND created_at < $1 ORDER BY created_at, id LIMIT $2");
        let rows: Vec<CopyRow> =
            sqlx::query_as(sql).bind(Micros::from(before)).bind(i64::from(limit)).fetch_all(db).await?;
        copies(rows)
    }

    /// The sets that have copies which somebody may read at `now`, in the order of their parts.
    pub async fn list_copy_sets(self, db, now: DateTime<Utc>) -> Result<Vec<CopySet>> {
        let sql = "SELECT DISTINCT view_id, view_version, rules FROM copies \
                   WHERE state <> 'deleted' AND (state <> 'draining' OR needed_until > $1) \
                   ORDER BY view_id, view_version, rules";
        let rows: Vec<SetColumns> = sqlx::query_as(sql).bind(Micros::from(now)).fetch_all(db).await?;
        let set = |row: SetColumns| {
            let rules = RulesId(digest("copies.rules", &row.rules)?);
            Ok(CopySet { view_id: row.view_id, view_version: row.view_version, rules })
        };
        rows.into_iter().map(set).collect()
    }

    /// Bytes of all copies that were not deleted; of those alone that a recipient may read, where one is named. What is
    /// being made counts as the files that it is made of.
    pub async fn sum_copy_bytes(self, db, recipient_id: Option<Uuid>) -> Result<u64> {
        let mut query = QueryBuilder::new("SELECT CAST(COALESCE(SUM(c.bytes), 0) AS BIGINT) FROM ");
        if let Some(recipient_id) = recipient_id {
            query.push("(SELECT DISTINCT view_id, view_version, rules FROM entitlements WHERE recipient_id = ");
            query.push_bind(recipient_id).push(") e JOIN ");
        }
        query.push("copies c ");
        if recipient_id.is_some() {
            query.push("ON c.view_id = e.view_id AND c.view_version = e.view_version AND c.rules = e.rules ");
        }
        query.push("WHERE c.state <> 'deleted' AND c.kind = 'file'");
        let bytes: i64 = query.build_query_scalar().fetch_one(db).await?;
        Ok(u64::try_from(bytes).unwrap_or_default())
    }

    /// The version that is served to a set's readers.
    pub async fn find_serving(self, db, set: CopySet) -> Result<Option<Serving>> {
        let sql = "SELECT delta_id, table_version, epoch FROM servings \
                   WHERE view_id = $1 AND view_version = $2 AND rules = $3";
        let row: Option<(String, i64, Uuid)> = sqlx::query_as(sql)
            .bind(set.view_id)
            .bind(set.view_version)
            .bind(&set.rules.0[..])
            .fetch_optional(db)
            .await?;
        Ok(row.map(|(delta_id, table_version, epoch)| Serving { delta_id, table_version, epoch }))
    }

    /// The files of a scope that were grouped, in the order of their ids from behind `after`; at most `limit`.
    pub async fn list_mixed_files(self, db, scope: Uuid, after: Uuid, limit: u32) -> Result<Vec<Uuid>> {
        let sql = "SELECT file FROM mixed_files WHERE scope = $1 AND file > $2 ORDER BY file LIMIT $3";
        Ok(sqlx::query_scalar(sql).bind(scope).bind(after).bind(i64::from(limit)).fetch_all(db).await?)
    }

    /// The scopes that are used by no view which is still there; at most `limit`.
    pub async fn list_unused_scopes(self, db, limit: u32) -> Result<Vec<Uuid>> {
        let sql = "SELECT DISTINCT scope FROM mixed_scopes s WHERE NOT EXISTS (SELECT 1 FROM mixed_scopes o \
                   JOIN views v ON v.id = o.view_id WHERE o.scope = s.scope) LIMIT $1";
        Ok(sqlx::query_scalar(sql).bind(i64::from(limit)).fetch_all(db).await?)
    }

    /// The scopes that views use and that were last looked at before `before`, by their ids from behind `after`, each with
    /// the view that was first; at most `limit`.
    pub async fn list_mixed_scopes(
        self, db, before: DateTime<Utc>, after: Uuid, limit: u32
    ) -> Result<Vec<MixedScope>> {
        let sql = "SELECT s.scope, s.view_id, s.delta_id, s.earliest FROM mixed_scopes s \
                   JOIN views v ON v.id = s.view_id WHERE s.looked_at < $1 AND s.scope > $2 \
                   AND NOT EXISTS (SELECT 1 FROM mixed_scopes o JOIN views w ON w.id = o.view_id \
                   WHERE o.scope = s.scope AND o.view_id < s.view_id) ORDER BY s.scope LIMIT $3";
        let before = Micros::from(before);
        Ok(sqlx::query_as(sql).bind(before).bind(after).bind(i64::from(limit)).fetch_all(db).await?)
    }

    /// Those of `files`, which are few, that were grouped.
    pub async fn find_mixed_files(self, db, scope: Uuid, files: &[Uuid]) -> Result<Vec<MixedFile>> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new("SELECT file, group_id, grouped_as_of FROM mixed_files WHERE scope = ");
        query.push_bind(scope).push(" AND file IN (");
        let mut list = query.separated(", ");
        for file in padded(files) {
            list.push_bind(file);
        }
        query.push(")");
        Ok(query.build_query_as().fetch_all(db).await?)
    }

    /// Who read the copies of a version of a view, and when each last asked.
    pub async fn list_entitlements(self, db, view_id: Uuid, view_version: i64) -> Result<Vec<EntitlementRow>> {
        let sql = "SELECT view_id, view_version, rules, recipient_id, share_id, asked_at FROM entitlements \
                   WHERE view_id = $1 AND view_version = $2 ORDER BY asked_at DESC";
        let rows: Vec<EntitlementColumns> =
            sqlx::query_as(sql).bind(view_id).bind(view_version).fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Who asked since `since`, of every view; at most `limit`.
    pub async fn list_active_entitlements(
        self, db, since: DateTime<Utc>, limit: u32
    ) -> Result<Vec<EntitlementRow>> {
        let sql = "SELECT view_id, view_version, rules, recipient_id, share_id, asked_at FROM entitlements \
                   WHERE asked_at >= $1 ORDER BY asked_at DESC LIMIT $2";
        let rows: Vec<EntitlementColumns> =
            sqlx::query_as(sql).bind(Micros::from(since)).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}

impl Tx {
    /// Registers a copy that is about to be made. False where another server is at its unit, or has made it. What
    /// a server that is not alive left behind half-made is taken over: its row goes on as a draining one.
    pub async fn claim_copy(&mut self, copy: &Copy, now: DateTime<Utc>) -> Result<bool> {
        const ABANDON: &str = "UPDATE copies SET state = 'draining', bytes = 0 WHERE unit = $1 AND ((state = 'failed' \
            AND (held_until <= $2 OR (held_until > $4 AND held_until < $5))) OR (state = 'making' AND NOT EXISTS \
            (SELECT 1 FROM servers s WHERE s.id = copies.holder AND s.alive_until > $2 AND s.alive_until <= $3)))";
        const INSERT: &str = "INSERT INTO copies (id, unit, kind, view_id, view_version, rules, source, object_key, \
            state, bytes, row_count, stats, created_at, needed_until, holder, held_until, attempts, failure, deleted_at) \
            SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
            (SELECT COUNT(*) FROM copies WHERE unit = $2 AND failure IS NOT NULL) + 1, NULL, NULL \
            WHERE NOT EXISTS (SELECT 1 FROM copies WHERE unit = $2 AND state NOT IN ('draining', 'deleted')) \
            ON CONFLICT DO NOTHING";
        writes!(self, db => sqlx::query(ABANDON)
            .bind(&copy.unit.0[..])
            .bind(Micros::from(now))
            .bind(Micros::from(now + LONGEST_LIFE))
            .bind(Micros::from(now + LONGEST_REST))
            .bind(Micros::from(now + FOR_EVER))
            .execute(db)
            .await?
            .rows_affected());
        let claimed = writes!(self, db => sqlx::query(INSERT)
            .bind(copy.id)
            .bind(&copy.unit.0[..])
            .bind(copy.kind.as_str())
            .bind(copy.view_id)
            .bind(copy.view_version)
            .bind(&copy.rules.0[..])
            .bind(&copy.source)
            .bind(&copy.object_key)
            .bind(copy.state.as_str())
            .bind(long(copy.bytes))
            .bind(long(copy.rows))
            .bind(&copy.stats)
            .bind(Micros::from(copy.created_at))
            .bind(Micros::from(copy.needed_until))
            .bind(copy.holder)
            .bind(Micros::from(copy.held_until))
            .execute(db)
            .await?
            .rows_affected());
        Ok(claimed == 1)
    }

    /// A copy was made. False where its maker had lost it to another server.
    pub async fn complete_copy(&mut self, made: &MadeCopy, holder: Uuid) -> Result<bool> {
        const SQL: &str = "UPDATE copies SET state = 'ready', bytes = $3, row_count = $4, stats = $5, failure = NULL \
            WHERE id = $1 AND holder = $2 AND state = 'making'";
        let completed = writes!(self, db => sqlx::query(SQL)
            .bind(made.id)
            .bind(holder)
            .bind(long(made.bytes))
            .bind(long(made.rows))
            .bind(&made.stats)
            .execute(db)
            .await?
            .rows_affected());
        Ok(completed == 1)
    }

    /// A copy could not be made, and is not tried again before `again_at`.
    pub async fn fail_copy(&mut self, id: Uuid, holder: Uuid, failure: &str, again_at: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "UPDATE copies SET state = 'failed', failure = $3, held_until = $4, bytes = 0 \
            WHERE id = $1 AND holder = $2 AND state = 'making'";
        writes!(self, db => sqlx::query(SQL)
            .bind(id)
            .bind(holder)
            .bind(failure)
            .bind(Micros::from(again_at))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Keeps copies that may be read until `until` at least; answers how many of them there still are.
    pub async fn need_copies(&mut self, ids: &[Uuid], until: DateTime<Utc>) -> Result<u64> {
        let mut kept = 0;
        for ids in ids.chunks(LONGEST_LIST) {
            kept += writes!(self, db => {
                let mut query = QueryBuilder::new("UPDATE copies SET needed_until = CASE WHEN needed_until < ");
                query.push_bind(Micros::from(until)).push(" THEN ").push_bind(Micros::from(until));
                query.push(" ELSE needed_until END WHERE state = 'ready' AND id IN (");
                let mut list = query.separated(", ");
                padded(ids).into_iter().for_each(|id| {
                    list.push_bind(id);
                });
                query.push(")");
                query.build().execute(db).await?.rows_affected()
            });
        }
        Ok(kept)
    }

    /// From now on nobody is handed this copy; it goes when its last URL is dead, or at `needed_until` if that is given.
    pub async fn drain_copy(&mut self, id: Uuid, needed_until: Option<DateTime<Utc>>) -> Result<bool> {
        const SQL: &str = "UPDATE copies SET state = 'draining', needed_until = COALESCE($2, needed_until), \
            bytes = CASE WHEN state = 'making' THEN 0 ELSE bytes END WHERE id = $1 AND state NOT IN ('draining', 'deleted')";
        let drained = writes!(self, db => sqlx::query(SQL)
            .bind(id)
            .bind(needed_until.map(Micros::from))
            .execute(db)
            .await?
            .rows_affected());
        Ok(drained == 1)
    }

    /// From now on no server relies on what it remembers of a set's copies.
    pub async fn forget_serving(&mut self, set: CopySet) -> Result<()> {
        const SQL: &str = "DELETE FROM servings WHERE view_id = $1 AND view_version = $2 AND rules = $3";
        writes!(self, db => sqlx::query(SQL)
            .bind(set.view_id)
            .bind(set.view_version)
            .bind(&set.rules.0[..])
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// From now on nobody is handed the copies of a set, and no URL to them is worth keeping.
    pub async fn end_copy_set(&mut self, set: CopySet, now: DateTime<Utc>) -> Result<u64> {
        const SQL: &str = "UPDATE copies SET state = 'draining', needed_until = $4, \
            bytes = CASE WHEN state = 'making' THEN 0 ELSE bytes END WHERE view_id = $1 AND view_version = $2 AND rules = $3 AND state <> 'deleted' \
            AND (state <> 'draining' OR needed_until > $4)";
        self.forget_serving(set).await?;
        Ok(writes!(self, db => sqlx::query(SQL)
            .bind(set.view_id)
            .bind(set.view_version)
            .bind(&set.rules.0[..])
            .bind(Micros::from(now))
            .execute(db)
            .await?
            .rows_affected()))
    }

    /// The object of a draining copy is gone.
    pub async fn forget_copy(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<bool> {
        const SQL: &str = "UPDATE copies SET state = 'deleted', deleted_at = $2 WHERE id = $1 AND state = 'draining'";
        let forgotten =
            writes!(self, db => sqlx::query(SQL).bind(id).bind(Micros::from(now)).execute(db).await?.rows_affected());
        Ok(forgotten == 1)
    }

    /// Puts files into groups; those that are in one already stay there.
    pub async fn insert_mixed_files(&mut self, scope: Uuid, files: &[MixedFile]) -> Result<()> {
        for files in files.chunks(LONGEST_LIST) {
            writes!(self, db => {
                let mut query = QueryBuilder::new("INSERT INTO mixed_files (scope, file, group_id, grouped_as_of) ");
                query.push_values(files, |mut row, file| {
                    row.push_bind(scope).push_bind(file.file).push_bind(file.group_id).push_bind(file.grouped_as_of);
                });
                query.push(" ON CONFLICT DO NOTHING");
                query.build().execute(db).await?.rows_affected()
            });
        }
        Ok(())
    }

    /// Records that a view uses a scope of mixed files.
    pub async fn note_mixed_scope(
        &mut self,
        scope: Uuid,
        view_id: Uuid,
        delta_id: &str,
        now: DateTime<Utc>,
    ) -> Result<()> {
        const SQL: &str = "INSERT INTO mixed_scopes (scope, view_id, delta_id, earliest, looked_at) \
            VALUES ($1, $2, $3, -1, $4) ON CONFLICT DO NOTHING";
        writes!(self, db => sqlx::query(SQL)
            .bind(scope)
            .bind(view_id)
            .bind(delta_id)
            .bind(Micros::from(now))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Records that it was looked at `now` whether the files of a scope are still named, by a log that tells of its table
    /// from the version `earliest` on.
    pub async fn update_mixed_scope(&mut self, scope: Uuid, earliest: i64, now: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "UPDATE mixed_scopes SET earliest = $2, looked_at = $3 WHERE scope = $1";
        let now = Micros::from(now);
        writes!(self, db => sqlx::query(SQL).bind(scope).bind(earliest).bind(now).execute(db).await?.rows_affected());
        Ok(())
    }

    /// Forgets that views used a scope.
    pub async fn delete_mixed_scope(&mut self, scope: Uuid) -> Result<()> {
        const SQL: &str = "DELETE FROM mixed_scopes WHERE scope = $1";
        writes!(self, db => sqlx::query(SQL).bind(scope).execute(db).await?.rows_affected());
        Ok(())
    }

    /// Forgets which groups files of a scope are in.
    pub async fn delete_mixed_files(&mut self, scope: Uuid, files: &[Uuid]) -> Result<()> {
        for files in files.chunks(LONGEST_LIST) {
            writes!(self, db => {
                let mut query = QueryBuilder::new("DELETE FROM mixed_files WHERE scope = ");
                query.push_bind(scope).push(" AND file IN (");
                let mut list = query.separated(", ");
                padded(files).into_iter().for_each(|file| {
                    list.push_bind(file);
                });
                query.push(")");
                query.build().execute(db).await?.rows_affected()
            });
        }
        Ok(())
    }

    /// Records that a recipient asked for a set's copies.
    pub async fn touch_entitlement(&mut self, row: &EntitlementRow) -> Result<()> {
        const SQL: &str = "INSERT INTO entitlements (view_id, view_version, rules, recipient_id, share_id, asked_at) \
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (view_id, view_version, rules, recipient_id, share_id) \
            DO UPDATE SET asked_at = excluded.asked_at";
        writes!(self, db => sqlx::query(SQL)
            .bind(row.set.view_id)
            .bind(row.set.view_version)
            .bind(&row.set.rules.0[..])
            .bind(row.recipient_id)
            .bind(row.share_id)
            .bind(Micros::from(row.asked_at))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// From now on a version is served to a set's readers, unless a newer one is; answers the serving's epoch, which
    /// nobody ends before this transaction does.
    pub async fn advance_serving(
        &mut self,
        set: CopySet,
        delta_id: &str,
        table_version: i64,
        now: DateTime<Utc>,
    ) -> Result<Uuid> {
        const SQL: &str = "INSERT INTO servings \
            (view_id, view_version, rules, delta_id, table_version, advanced_at, epoch) \
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (view_id, view_version, rules) DO UPDATE SET \
            delta_id = excluded.delta_id, \
            table_version = CASE WHEN servings.delta_id = excluded.delta_id \
                AND servings.table_version > excluded.table_version \
                THEN servings.table_version ELSE excluded.table_version END, \
            advanced_at = excluded.advanced_at RETURNING epoch";
        Ok(on_tx!(self, db => sqlx::query_scalar(SQL)
            .bind(set.view_id)
            .bind(set.view_version)
            .bind(&set.rules.0[..])
            .bind(delta_id)
            .bind(table_version)
            .bind(Micros::from(now))
            .bind(Uuid::new_v4())
            .fetch_one(db)
            .await?))
    }
}
