//! Stores what kind of data the columns of registered tables hold.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::catalog::column::{ClassifiedColumn, ColumnEvidence, ColumnSpec},
    store::{
        Result, Tx,
        core::value::{Json, Micros, micros, time},
        one_row, reads, writes,
    },
};

/// How many rows one statement writes; SQLite takes 32,766 arguments.
const ROWS_AT_ONCE: usize = 500;

/// Which columns are listed; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct ColumnFilter {
    /// Only those in this state.
    pub state: Option<&'static str>,
    /// Only those with this class.
    pub class: Option<String>,
    /// Those that are gone instead of those that are there.
    pub is_gone: bool,
}

#[derive(FromRow)]
struct ColumnRow {
    id: Uuid,
    table_id: Uuid,
    path: String,
    data_type: String,
    spec: Json<ColumnSpec>,
    evidence: Option<Json<ColumnEvidence>>,
    decided_by: Option<String>,
    decided_at: Option<Micros>,
    gone_at: Option<Micros>,
    created_at: Micros,
    updated_at: Micros,
    revision: i64,
}

impl From<ColumnRow> for ClassifiedColumn {
    fn from(row: ColumnRow) -> Self {
        Self {
            id: row.id,
            table_id: row.table_id,
            path: row.path,
            data_type: row.data_type,
            spec: row.spec.0,
            evidence: row.evidence.map(|evidence| evidence.0),
            decided: row.decided_by.zip(time(row.decided_at)),
            gone_at: time(row.gone_at),
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
            revision: row.revision,
        }
    }
}

macro_rules! select_columns {
    () => {
        "SELECT id, table_id, path, data_type, spec, evidence, decided_by, decided_at, gone_at, created_at, updated_at, \
         revision FROM columns WHERE table_id = "
    };
}

reads! {
    /// The column of a table at this path.
    pub async fn find_column(self, db, table_id: Uuid, path: &str) -> Result<Option<ClassifiedColumn>> {
        let sql = concat!(select_columns!(), "$1 AND path = $2");
        let row: Option<ColumnRow> = sqlx::query_as(sql).bind(table_id).bind(path).fetch_optional(db).await?;
        Ok(row.map(Into::into))
    }

    /// Columns of a table after the path `after`, ordered by path.
    pub async fn list_columns(
        self,
        db,
        table_id: Uuid,
        filter: &ColumnFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ClassifiedColumn>> {
        let mut query = QueryBuilder::new(select_columns!());
        query.push_bind(table_id);
        // Paths are never empty.
        query.push(" AND path > ").push_bind(after.unwrap_or("").to_owned());
        query.push(if filter.is_gone { " AND gone_at IS NOT NULL" } else { " AND gone_at IS NULL" });
        if let Some(state) = filter.state {
            query.push(" AND state = ").push_bind(state);
        }
        if let Some(class) = &filter.class {
            query.push(" AND class = ").push_bind(class.clone());
        }
        query.push(" ORDER BY path LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<ColumnRow> = query.build_query_as().fetch_all(db).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Every column of a table, those that are gone included.
    pub async fn all_columns(self, db, table_id: Uuid) -> Result<Vec<ClassifiedColumn>> {
        let sql = concat!(select_columns!(), "$1 ORDER BY path");
        let rows: Vec<ColumnRow> = sqlx::query_as(sql).bind(table_id).fetch_all(db).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}

impl Tx {
    /// Stores new columns, and columns as another scan left them; what operators set of the latter stays as it is stored
    /// unless `with_spec`.
    pub async fn put_columns(&mut self, columns: &[ClassifiedColumn], with_spec: bool) -> Result<()> {
        for columns in columns.chunks(ROWS_AT_ONCE) {
            writes!(self, db => {
                let mut query = QueryBuilder::new(
                    "INSERT INTO columns (id, table_id, path, data_type, spec, class, state, evidence, decided_by, \
                     decided_at, gone_at, created_at, updated_at, revision) ",
                );
                query.push_values(columns, |mut values, column| {
                    values
                        .push_bind(column.id)
                        .push_bind(column.table_id)
                        .push_bind(&column.path)
                        .push_bind(&column.data_type)
                        .push_bind(Json(&column.spec))
                        .push_bind(column.spec.class.as_ref().map(|class| class.as_str()))
                        .push_bind(column.spec.state.as_str())
                        .push_bind(column.evidence.as_ref().map(Json))
                        .push_bind(column.decided.as_ref().map(|(by, _)| by))
                        .push_bind(micros(column.decided.as_ref().map(|(_, at)| *at)))
                        .push_bind(micros(column.gone_at))
                        .push_bind(Micros::from(column.created_at))
                        .push_bind(Micros::from(column.updated_at))
                        .push_bind(column.revision);
                });
                query.push(
                    " ON CONFLICT (id) DO UPDATE SET data_type = excluded.data_type, evidence = excluded.evidence, \
                     gone_at = excluded.gone_at, updated_at = excluded.updated_at, revision = excluded.revision",
                );
                if with_spec {
                    query.push(
                        ", spec = excluded.spec, class = excluded.class, state = excluded.state, \
                         decided_by = excluded.decided_by, decided_at = excluded.decided_at",
                    );
                }
                query.build().execute(db).await?.rows_affected()
            });
        }
        Ok(())
    }

    /// Stores what somebody decided about a column if its row still has the value's revision
    /// ([`StoreError::Stale`](crate::store::StoreError::Stale) otherwise); returns it with the next revision.
    pub async fn update_column(&mut self, column: ClassifiedColumn) -> Result<ClassifiedColumn> {
        const SQL: &str = "UPDATE columns SET spec = $3, class = $4, state = $5, decided_by = $6, decided_at = $7, \
            updated_at = $8, revision = revision + 1 WHERE id = $1 AND revision = $2";
        let spec = self.lay_spec("columns", column.id, &column.spec).await?;
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(column.id)
            .bind(column.revision)
            .bind(spec)
            .bind(column.spec.class.as_ref().map(|class| class.as_str()))
            .bind(column.spec.state.as_str())
            .bind(column.decided.as_ref().map(|(by, _)| by))
            .bind(micros(column.decided.as_ref().map(|(_, at)| *at)))
            .bind(Micros::from(column.updated_at))
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)?;
        Ok(ClassifiedColumn { revision: column.revision + 1, ..column })
    }

    /// Notes of columns that a table no longer has them.
    pub async fn end_columns(&mut self, ids: &[Uuid], now: DateTime<Utc>) -> Result<()> {
        for ids in ids.chunks(ROWS_AT_ONCE) {
            writes!(self, db => {
                let mut query = QueryBuilder::new("UPDATE columns SET revision = revision + 1, gone_at = ");
                query.push_bind(Micros::from(now)).push(", updated_at = ").push_bind(Micros::from(now));
                query.push(" WHERE gone_at IS NULL AND id IN (");
                let mut listed = query.separated(", ");
                ids.iter().for_each(|id| {
                    listed.push_bind(*id);
                });
                query.push(")");
                query.build().execute(db).await?.rows_affected()
            });
        }
        Ok(())
    }
}
