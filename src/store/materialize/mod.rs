//! Stores the register of materializations: what was made for whom, which server is making what, and until when it is
//! needed.

pub(super) mod surrogates;

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

/// The longest list in one statement; SQLite allows more, but query plans grow with it.
const LONGEST_LIST: usize = 256;

/// The longest time for which a failed materialization is left alone; a longer one was set by a clock that was ahead.
const LONGEST_REST: TimeDelta = TimeDelta::hours(2);
/// A hold that is longer than this never ends.
const FOR_EVER: TimeDelta = TimeDelta::days(18_000);

/// Whether other servers leave a materialization that is being made, or that failed, to its holder at `now`.
pub fn is_held(copy: &Copy, now: DateTime<Utc>) -> bool {
    let left = copy.held_until - now;
    let longest = if copy.state == CopyState::Making { LONGEST_LIFE } else { LONGEST_REST };
    left > TimeDelta::zero() && (left <= longest || left >= FOR_EVER)
}

/// The key of a set of materializations: one version of a view under some rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CopySet {
    /// The view.
    pub view_id: Uuid,
    /// Its version.
    pub view_version: i64,
    /// The digest of the rules that its readers share.
    pub rules: RulesId,
}

impl CopySet {
    /// The set that a materialization belongs to.
    pub fn of(copy: &Copy) -> Self {
        Self { view_id: copy.view_id, view_version: copy.view_version, rules: copy.rules }
    }
}

/// A filter for listing materializations.
#[derive(Clone, Debug, Default)]
pub struct CopyFilter {
    /// Only those of this view.
    pub view_id: Option<Uuid>,
    /// Only those in this state; without one, all except deleted ones.
    pub state: Option<CopyState>,
}

/// A finished materialization.
#[derive(Clone, Debug, PartialEq)]
pub struct MadeCopy {
    /// Its identity.
    pub id: Uuid,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its number of rows.
    pub rows: u64,
    /// Its statistics.
    pub stats: Option<String>,
}

/// The version of a table that a set's readers are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// The Delta table's own id; if the table is replaced, serving starts again.
    pub delta_id: String,
    /// The version.
    pub table_version: i64,
    /// Changes whenever the serving is forgotten; what a server remembers of the set is valid only within one epoch.
    pub epoch: Uuid,
}

/// A reader of a set of materializations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntitlementRow {
    /// The set.
    pub set: CopySet,
    /// The recipient.
    pub recipient_id: Uuid,
    /// The share through which the recipient reads.
    pub share_id: Uuid,
    /// When the recipient last asked.
    pub asked_at: DateTime<Utc>,
}

/// A file of a table, and the group in which it is mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct MixedFile {
    /// The file's id in its scope.
    pub file: Uuid,
    /// The group.
    pub group_id: Uuid,
    /// The modification time shown for every file of the group, in milliseconds since the epoch.
    pub grouped_as_of: i64,
}

/// A scope of mixed files, and a view that uses it.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct MixedScope {
    /// The scope.
    pub scope: Uuid,
    /// The view.
    pub view_id: Uuid,
    /// The Delta id of the table that the scope was made for.
    pub delta_id: String,
    /// The earliest version in the table's log at the last check; -1 if it was never checked.
    pub earliest: i64,
}

/// While a materialization is being made, it is held as long as its maker counts as alive.
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
    /// Lists materializations after `after`, ordered by id, which is the order in which they were begun.
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

    /// Lists those of a set's materializations that belong to `units` and are being made, ready or failed.
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

    /// Lists those of a set's materializations that are being made, ready or failed.
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

    /// Finds the ready or draining materialization of a set with this key.
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

    /// Whether a materialization that is not deleted has this key.
    pub async fn has_copy_at(self, db, object_key: &str) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM copies WHERE object_key = $1 AND state <> 'deleted')";
        Ok(sqlx::query_scalar(sql).bind(object_key).fetch_one(db).await?)
    }

    /// Lists materializations that nobody can need: draining ones whose last URL has expired at `now`, and others whose
    /// last URL expired before `idle_since` and that no server is making; at most `limit`.
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

    /// Lists ready materializations begun before `before`, the oldest first; at most `limit`.
    pub async fn list_aged_copies(self, db, before: DateTime<Utc>, limit: u32) -> Result<Vec<Copy>> {
        let sql =
            concat!(select_copies!(), "WHERE state = 'ready' AND created_at < $1 ORDER BY created_at, id LIMIT $2");
        let rows: Vec<CopyRow> =
            sqlx::query_as(sql).bind(Micros::from(before)).bind(i64::from(limit)).fetch_all(db).await?;
        copies(rows)
    }

    /// Lists the sets with materializations that are neither deleted, nor draining with all URLs expired at `now`;
    /// ordered by the parts of their key.
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

    /// The bytes of all materializations that are not deleted, or only of those that one recipient may read. A
    /// materialization in progress counts with the size of its sources.
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

    /// Finds the version that a set's readers are served.
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

    /// Lists the grouped files of a scope by id after `after`; at most `limit`.
    pub async fn list_mixed_files(self, db, scope: Uuid, after: Uuid, limit: u32) -> Result<Vec<Uuid>> {
        let sql = "SELECT file FROM mixed_files WHERE scope = $1 AND file > $2 ORDER BY file LIMIT $3";
        Ok(sqlx::query_scalar(sql).bind(scope).bind(after).bind(i64::from(limit)).fetch_all(db).await?)
    }

    /// Lists the scopes that no existing view uses; at most `limit`.
    pub async fn list_unused_scopes(self, db, limit: u32) -> Result<Vec<Uuid>> {
        let sql = "SELECT DISTINCT scope FROM mixed_scopes s WHERE NOT EXISTS (SELECT 1 FROM mixed_scopes o \
                   JOIN views v ON v.id = o.view_id WHERE o.scope = s.scope) LIMIT $1";
        Ok(sqlx::query_scalar(sql).bind(i64::from(limit)).fetch_all(db).await?)
    }

    /// Lists the scopes that views use and that were last checked before `before`, by id after `after`, each with the
    /// view that used it first; at most `limit`.
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

    /// Finds those of `files` that are in a group. `files` must be few.
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

    /// Lists the readers of a version of a view, with the time when each last asked.
    pub async fn list_entitlements(self, db, view_id: Uuid, view_version: i64) -> Result<Vec<EntitlementRow>> {
        let sql = "SELECT view_id, view_version, rules, recipient_id, share_id, asked_at FROM entitlements \
                   WHERE view_id = $1 AND view_version = $2 ORDER BY asked_at DESC";
        let rows: Vec<EntitlementColumns> =
            sqlx::query_as(sql).bind(view_id).bind(view_version).fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Lists the readers of all views that asked since `since`; at most `limit`.
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
    /// Registers a materialization that is about to be made; false if another server is making it or has made it. An
    /// unfinished one of a dead server, or a failed one whose rest is over, is replaced: its row becomes a draining
    /// one.
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

    /// Records that a materialization is finished; false if its maker had lost it to another server.
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

    /// Records that making it failed; it is not tried again before `again_at`.
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

    /// Extends the time for which materializations are needed to at least `until`; returns how many still exist.
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

    /// Stops handing out a materialization; it is deleted when its last URL expires, or at `needed_until` if that is
    /// given.
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

    /// Invalidates everything that servers remember about a set's materializations.
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

    /// Stops handing out the materializations of a set; URLs to them need not work any longer.
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

    /// Records that the object of a draining materialization is deleted.
    pub async fn forget_copy(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<bool> {
        const SQL: &str = "UPDATE copies SET state = 'deleted', deleted_at = $2 WHERE id = $1 AND state = 'draining'";
        let forgotten =
            writes!(self, db => sqlx::query(SQL).bind(id).bind(Micros::from(now)).execute(db).await?.rows_affected());
        Ok(forgotten == 1)
    }

    /// Adds files to groups; a file that is already in a group stays there.
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

    /// Records that a scope's files were checked at `now` against a log that begins with version `earliest`.
    pub async fn update_mixed_scope(&mut self, scope: Uuid, earliest: i64, now: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "UPDATE mixed_scopes SET earliest = $2, looked_at = $3 WHERE scope = $1";
        let now = Micros::from(now);
        writes!(self, db => sqlx::query(SQL).bind(scope).bind(earliest).bind(now).execute(db).await?.rows_affected());
        Ok(())
    }

    /// Removes a scope from all views that used it.
    pub async fn delete_mixed_scope(&mut self, scope: Uuid) -> Result<()> {
        const SQL: &str = "DELETE FROM mixed_scopes WHERE scope = $1";
        writes!(self, db => sqlx::query(SQL).bind(scope).execute(db).await?.rows_affected());
        Ok(())
    }

    /// Removes files of a scope from their groups.
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

    /// Records that a recipient asked for a set's materializations.
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

    /// Makes this the version that a set's readers are served, unless a newer one already is. Returns the serving's
    /// epoch, which cannot end before this transaction does.
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
