//! Stores what shared objects ask of their readers, which is derived from controls, columns and the objects.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::catalog::requirements::{Requirements, Tightening},
    store::{
        Result, Tx,
        core::value::{Json, Micros},
        one_row, reads, writes,
    },
};

reads! {
    /// Lists the tables with a column that holds data of a class, by id.
    pub async fn list_tables_with_class(self, db, class: &str, limit: u32) -> Result<Vec<Uuid>> {
        const SQL: &str = "SELECT DISTINCT table_id FROM columns WHERE class = $1 AND gone_at IS NULL \
            ORDER BY table_id LIMIT $2";
        Ok(sqlx::query_scalar(SQL).bind(class).bind(i64::from(limit)).fetch_all(db).await?)
    }

    /// What an object asks of its readers, with what its masks come from.
    pub async fn find_requirements(self, db, object_id: Uuid) -> Result<Option<Requirements>> {
        const SQL: &str = "SELECT spec, tightenings FROM requirements WHERE object_id = $1";
        let row: Option<(Json<Requirements>, Json<Vec<Tightening>>)> =
            sqlx::query_as(SQL).bind(object_id).fetch_optional(db).await?;
        Ok(row.map(|(spec, tightenings)| Requirements { tightenings: tightenings.0, ..spec.0 }))
    }

    /// Lists shared objects for which nothing was derived yet, by id.
    pub async fn list_objects_without_requirements(self, db, limit: u32) -> Result<Vec<Uuid>> {
        const SQL: &str = "SELECT o.id FROM objects o LEFT JOIN requirements q ON q.object_id = o.id \
            WHERE q.object_id IS NULL ORDER BY o.id LIMIT $1";
        Ok(sqlx::query_scalar(SQL).bind(i64::from(limit)).fetch_all(db).await?)
    }
}

impl Tx {
    /// Stores what an object asks of its readers.
    pub async fn put_requirements(&mut self, object_id: Uuid, of: &Requirements, now: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "INSERT INTO requirements (object_id, spec, tightenings, updated_at) \
            VALUES ($1, $2, $3, $4) ON CONFLICT (object_id) DO UPDATE SET spec = excluded.spec, \
            tightenings = excluded.tightenings, updated_at = excluded.updated_at";
        writes!(self, db => sqlx::query(SQL)
            .bind(object_id)
            .bind(Json(of))
            .bind(Json(&of.tightenings))
            .bind(Micros::from(now))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Counts a change of an object whose spec stays: whoever reads it is decided on anew.
    pub async fn touch_object(&mut self, object_id: Uuid) -> Result<()> {
        let changed = writes!(self, db => sqlx::query("UPDATE objects SET revision = revision + 1 WHERE id = $1")
            .bind(object_id)
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)
    }
}
