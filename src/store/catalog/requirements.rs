//! Stores what shared objects ask of their readers, which is derived from controls, columns and the objects.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::catalog::{
        requirements::{Requirements, Tightening},
        share::SharedObject,
    },
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

    /// What the masks in effect on a published version come from; `None` if it was never shared.
    pub async fn find_tightenings(self, db, view_id: Uuid, version: i64) -> Result<Option<Vec<Tightening>>> {
        const SQL: &str = "SELECT spec FROM tightenings WHERE view_id = $1 AND view_version = $2";
        let row: Option<Json<Vec<Tightening>>> =
            sqlx::query_scalar(SQL).bind(view_id).bind(version).fetch_optional(db).await?;
        Ok(row.map(|tightenings| tightenings.0))
    }

    /// Lists shared objects for which nothing was derived since they or the columns of their tables were changed, as by a server
    /// of an earlier release, by id.
    pub async fn list_objects_without_requirements(self, db, limit: u32) -> Result<Vec<Uuid>> {
        const SQL: &str = "SELECT o.id FROM objects o LEFT JOIN requirements q ON q.object_id = o.id \
            WHERE q.object_id IS NULL OR q.updated_at < o.updated_at OR EXISTS (SELECT 1 FROM columns c \
            WHERE c.table_id = o.table_id AND c.updated_at > q.updated_at) ORDER BY o.id LIMIT $1";
        Ok(sqlx::query_scalar(SQL).bind(i64::from(limit)).fetch_all(db).await?)
    }
}

impl Tx {
    /// Stores what an object asks of its readers, and for a view's version what its masks come from.
    pub async fn put_requirements(
        &mut self,
        object: &SharedObject,
        of: &Requirements,
        now: DateTime<Utc>,
    ) -> Result<()> {
        const SQL: &str = "INSERT INTO requirements (object_id, spec, updated_at) VALUES ($1, $2, $3) \
            ON CONFLICT (object_id) DO UPDATE SET spec = excluded.spec, updated_at = excluded.updated_at";
        const OF_VERSION: &str = "INSERT INTO tightenings (view_id, view_version, spec) VALUES ($1, $2, $3) \
            ON CONFLICT (view_id, view_version) DO UPDATE SET spec = excluded.spec";
        writes!(self, db => sqlx::query(SQL)
            .bind(object.id)
            .bind(Json(of))
            .bind(Micros::from(now))
            .execute(db)
            .await?
            .rows_affected());
        if let Some(view) = &object.view {
            writes!(self, db => sqlx::query(OF_VERSION)
                .bind(view.id)
                .bind(view.version)
                .bind(Json(&of.tightenings))
                .execute(db)
                .await?
                .rows_affected());
        }
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
