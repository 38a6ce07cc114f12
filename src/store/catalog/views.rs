//! Stores views and their published versions.

use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::{
        catalog::{
            table::Table,
            view::{View, ViewSpec, ViewVersion},
        },
        core::name::NameKind,
    },
    store::{
        Result, StoreError, Tx,
        core::value::{Json, Micros, name, padded},
        one_row, reads, writes,
    },
};

use super::tables::{TableRow, table_columns};

/// The columns of [`ViewRow`], from `views v`.
macro_rules! view_columns {
    () => {
        "v.id AS view_id, v.name AS view_name, v.table_id AS view_table_id, v.spec AS view_spec, \
         v.is_draft AS view_is_draft, v.created_at AS view_created_at, v.updated_at AS view_updated_at, \
         v.revision AS view_revision"
    };
}

#[derive(FromRow)]
struct ViewRow {
    view_id: Uuid,
    view_name: String,
    view_table_id: Uuid,
    view_spec: Json<ViewSpec>,
    view_is_draft: bool,
    view_created_at: Micros,
    view_updated_at: Micros,
    view_revision: i64,
}

impl TryFrom<ViewRow> for View {
    type Error = StoreError;

    fn try_from(row: ViewRow) -> Result<Self> {
        Ok(Self {
            id: row.view_id,
            name: name(NameKind::View, "views.name", &row.view_name)?,
            table_id: row.view_table_id,
            spec: row.view_spec.0,
            is_draft: row.view_is_draft,
            created_at: row.view_created_at.0,
            updated_at: row.view_updated_at.0,
            revision: row.view_revision,
        })
    }
}

#[derive(FromRow)]
struct SourcedViewRow {
    #[sqlx(flatten)]
    view: ViewRow,
    #[sqlx(flatten)]
    table: TableRow,
}

impl TryFrom<SourcedViewRow> for (View, Table) {
    type Error = StoreError;

    fn try_from(row: SourcedViewRow) -> Result<Self> {
        Ok((row.view.try_into()?, row.table.try_into()?))
    }
}

#[derive(FromRow)]
struct VersionRow {
    view_id: Uuid,
    version: i64,
    definition: String,
    published_by: String,
    published_at: Micros,
}

impl From<VersionRow> for ViewVersion {
    fn from(row: VersionRow) -> Self {
        let VersionRow { view_id, version, definition, published_by, published_at } = row;
        Self { view_id, version, definition, published_by, published_at: published_at.0 }
    }
}

macro_rules! select_views {
    () => {
        concat!("SELECT ", view_columns!(), ", ", table_columns!(), " FROM views v JOIN tables t ON t.id = v.table_id ")
    };
}

macro_rules! select_versions {
    () => {
        "SELECT view_id, version, definition, published_by, published_at FROM view_versions "
    };
}

reads! {
    /// Finds the view with this name key, with its source.
    pub async fn find_view(self, db, name_key: &str) -> Result<Option<(View, Table)>> {
        let sql = concat!(select_views!(), "WHERE v.name_key = $1");
        let row: Option<SourcedViewRow> = sqlx::query_as(sql).bind(name_key).fetch_optional(db).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Finds the view with this id, with its source.
    pub async fn find_view_by_id(self, db, id: Uuid) -> Result<Option<(View, Table)>> {
        let sql = concat!(select_views!(), "WHERE v.id = $1");
        let row: Option<SourcedViewRow> = sqlx::query_as(sql).bind(id).fetch_optional(db).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Lists views after the key `after` with their sources, ordered by name key.
    pub async fn list_views(self, db, after: Option<&str>, limit: u32) -> Result<Vec<(View, Table)>> {
        let sql = concat!(select_views!(), "WHERE v.name_key > $1 ORDER BY v.name_key LIMIT $2");
        // Keys are never empty.
        let rows: Vec<SourcedViewRow> =
            sqlx::query_as(sql).bind(after.unwrap_or("")).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Lists the names of views over a table, at most `limit`.
    pub async fn list_views_of_table(self, db, table_id: Uuid, limit: u32) -> Result<Vec<String>> {
        let sql = "SELECT name FROM views WHERE table_id = $1 ORDER BY name_key LIMIT $2";
        Ok(sqlx::query_scalar(sql).bind(table_id).bind(i64::from(limit)).fetch_all(db).await?)
    }

    /// Finds a published version.
    pub async fn find_view_version(self, db, view_id: Uuid, version: i64) -> Result<Option<ViewVersion>> {
        let sql = concat!(select_versions!(), "WHERE view_id = $1 AND version = $2");
        let row: Option<VersionRow> = sqlx::query_as(sql).bind(view_id).bind(version).fetch_optional(db).await?;
        Ok(row.map(Into::into))
    }

    /// Lists the published versions of views, for each view the newest first and at most `limit`.
    pub async fn list_view_versions(self, db, view_ids: &[Uuid], limit: u32) -> Result<Vec<ViewVersion>> {
        if view_ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new(
            "SELECT view_id, version, definition, published_by, published_at FROM (SELECT n.*, \
             row_number() OVER (PARTITION BY view_id ORDER BY version DESC) AS place FROM view_versions n WHERE view_id IN ("
        );
        let mut list = query.separated(", ");
        for id in padded(view_ids) {
            list.push_bind(id);
        }
        query.push(")) AS placed WHERE place <= ").push_bind(i64::from(limit)).push(" ORDER BY view_id, version DESC");
        let rows: Vec<VersionRow> = query.build_query_as().fetch_all(db).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }
}

impl Tx {
    /// Inserts a new view.
    pub async fn insert_view(&mut self, view: &View) -> Result<()> {
        const SQL: &str = "INSERT INTO views \
            (id, name, name_key, table_id, spec, is_draft, created_at, updated_at, revision) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        writes!(self, db => sqlx::query(SQL)
            .bind(view.id)
            .bind(view.name.as_str())
            .bind(view.name.key())
            .bind(view.table_id)
            .bind(Json(&view.spec))
            .bind(view.is_draft)
            .bind(Micros::from(view.created_at))
            .bind(Micros::from(view.updated_at))
            .bind(view.revision)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Stores a changed view if its row still has the value's revision ([`StoreError::Stale`] otherwise); returns it
    /// with the next revision. Name and source do not change.
    pub async fn update_view(&mut self, view: View) -> Result<View> {
        const SQL: &str = "UPDATE views SET spec = $3, is_draft = $4, updated_at = $5, revision = revision + 1 \
            WHERE id = $1 AND revision = $2";
        let spec = self.lay_spec("views", view.id, &view.spec).await?;
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(view.id)
            .bind(view.revision)
            .bind(spec)
            .bind(view.is_draft)
            .bind(Micros::from(view.updated_at))
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)?;
        Ok(View { revision: view.revision + 1, ..view })
    }

    /// Deletes a view that no object shows, with its versions, if its row has this revision.
    pub async fn delete_view(&mut self, id: Uuid, revision: i64) -> Result<()> {
        const SQL: &str = "DELETE FROM views WHERE id = $1 AND revision = $2";
        let gone = writes!(self, db => sqlx::query(SQL).bind(id).bind(revision).execute(db).await?.rows_affected());
        one_row(gone)
    }

    /// Inserts a published version.
    pub async fn insert_view_version(&mut self, version: &ViewVersion) -> Result<()> {
        const SQL: &str = "INSERT INTO view_versions \
            (view_id, version, definition, published_by, published_at) VALUES ($1, $2, $3, $4, $5)";
        writes!(self, db => sqlx::query(SQL)
            .bind(version.view_id)
            .bind(version.version)
            .bind(&version.definition)
            .bind(&version.published_by)
            .bind(Micros::from(version.published_at))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }
}
