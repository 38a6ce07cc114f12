//! Stores shared objects. They are read together with the table behind them, which every reader needs.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::{
        catalog::{
            requirements::{EffectiveMasks, Requirements},
            shape::{AcceptedShape, Shape},
            share::{ObjectSpec, Share, SharedObject, SharedView},
            table::Table,
        },
        core::name::{Name, NameKind},
    },
    store::{
        Result, StoreError, Tx,
        core::value::{Json, Micros, name},
        one_row, reads, writes,
    },
};

use super::{
    shares::{ShareRow, share_columns},
    tables::{TableRow, table_columns},
};

/// The columns of [`ObjectRow`] and [`TableRow`], from objects `o`, tables `t`, views `v` and requirements `q`.
macro_rules! object_columns {
    () => {
        concat!(
            "o.id AS object_id, o.share_id AS object_share_id, o.schema_name AS object_schema_name, \
             o.name AS object_name, o.spec AS object_spec, o.accepted_version AS object_accepted_version, \
             o.accepted_digest AS object_accepted_digest, o.created_at AS object_created_at, \
             o.updated_at AS object_updated_at, o.revision AS object_revision, o.view_id AS object_view_id, \
             o.view_version AS object_view_version, v.name AS object_view_name, \
             q.spec AS object_requirements, ",
            table_columns!()
        )
    };
}

pub(in crate::store) use object_columns;

/// Objects joined with the things they refer to.
macro_rules! objects_from {
    () => {
        "objects o JOIN tables t ON t.id = o.table_id LEFT JOIN views v ON v.id = o.view_id \
         LEFT JOIN requirements q ON q.object_id = o.id "
    };
}

#[derive(FromRow)]
pub(in crate::store) struct ObjectRow {
    object_id: Uuid,
    object_share_id: Uuid,
    object_schema_name: String,
    object_name: String,
    object_spec: Json<ObjectSpec>,
    object_accepted_version: Option<i64>,
    object_accepted_digest: Option<String>,
    object_created_at: Micros,
    object_updated_at: Micros,
    object_revision: i64,
    object_view_id: Option<Uuid>,
    object_view_version: Option<i64>,
    object_view_name: Option<String>,
    object_requirements: Option<Json<Requirements>>,
    #[sqlx(flatten)]
    table: TableRow,
}

impl TryFrom<ObjectRow> for (SharedObject, Table) {
    type Error = StoreError;

    fn try_from(row: ObjectRow) -> Result<Self> {
        let table = Table::try_from(row.table)?;
        let requirements = row.object_requirements.map(|requirements| Arc::new(requirements.0));
        let masks = masks_of(requirements.as_deref());
        let view = match (row.object_view_id, row.object_view_version, &row.object_view_name) {
            (None, None, None) => None,
            (Some(id), Some(version), Some(text)) => {
                Some(SharedView { id, name: name(NameKind::View, "views.name", text)?, version, masks })
            }
            _ => return Err(StoreError::Corrupt("objects.view_version")),
        };
        let accepted = match (row.object_accepted_version, row.object_accepted_digest) {
            (None, None) => None,
            (Some(version), Some(digest)) => Some(AcceptedShape {
                version: version.try_into().map_err(|_| StoreError::Corrupt("objects.accepted_version"))?,
                digest,
            }),
            _ => return Err(StoreError::Corrupt("objects.accepted_digest")),
        };
        let object = SharedObject {
            id: row.object_id,
            share_id: row.object_share_id,
            schema: name(NameKind::Schema, "objects.schema_name", &row.object_schema_name)?,
            name: name(NameKind::Table, "objects.name", &row.object_name)?,
            table_id: table.id,
            view,
            spec: row.object_spec.0,
            accepted,
            requirements,
            created_at: row.object_created_at.0,
            updated_at: row.object_updated_at.0,
            revision: row.object_revision,
        };
        Ok((object, table))
    }
}

fn masks_of(requirements: Option<&Requirements>) -> Arc<EffectiveMasks> {
    Arc::new(requirements.map(|requirements| requirements.masks.clone()).unwrap_or_default())
}

/// A selection of views that are shown.
#[derive(Clone, Copy, Debug)]
pub enum ShownIn {
    /// Views in this share.
    Share(Uuid),
    /// Views in all shares granted to a recipient.
    Granted {
        /// The recipient.
        recipient_id: Uuid,
        /// Only by grants that have not ended at this moment, whether or not they have begun.
        open_at: DateTime<Utc>,
    },
}

/// An object that shows a view, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownView {
    /// The share's name.
    pub share: String,
    /// The object's name: schema and table.
    pub object: String,
    /// The view version that it shows.
    pub view: SharedView,
}

#[derive(FromRow)]
struct ShownViewRow {
    share_name: String,
    schema_name: String,
    name: String,
    view_id: Uuid,
    view_name: String,
    view_version: i64,
    requirements: Option<Json<Requirements>>,
}

impl TryFrom<ShownViewRow> for ShownView {
    type Error = StoreError;

    fn try_from(row: ShownViewRow) -> Result<Self> {
        let view_name = name(NameKind::View, "views.name", &row.view_name)?;
        Ok(Self {
            share: row.share_name,
            object: format!("{}.{}", row.schema_name, row.name),
            view: SharedView {
                id: row.view_id,
                name: view_name,
                version: row.view_version,
                masks: masks_of(row.requirements.as_ref().map(|requirements| &requirements.0)),
            },
        })
    }
}

#[derive(FromRow)]
struct SharedObjectRow {
    #[sqlx(flatten)]
    share: ShareRow,
    #[sqlx(flatten)]
    object: ObjectRow,
}

impl TryFrom<SharedObjectRow> for (Share, SharedObject, Table) {
    type Error = StoreError;

    fn try_from(row: SharedObjectRow) -> Result<Self> {
        let (object, table) = row.object.try_into()?;
        Ok((row.share.try_into()?, object, table))
    }
}

reads! {
    /// Finds the object under these keys of a share, with its table.
    pub async fn find_object(
        self, db, share_id: Uuid, schema_key: &str, name_key: &str
    ) -> Result<Option<(SharedObject, Table)>> {
        let sql = concat!(
            "SELECT ", object_columns!(), " FROM ", objects_from!(), "WHERE o.share_id = $1 AND o.schema_key = $2 AND o.name_key = $3"
        );
        let row: Option<ObjectRow> =
            sqlx::query_as(sql).bind(share_id).bind(schema_key).bind(name_key).fetch_optional(db).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Finds the object with this id, with its share and table.
    pub async fn find_object_by_id(self, db, id: Uuid) -> Result<Option<(Share, SharedObject, Table)>> {
        let sql = concat!(
            "SELECT ", share_columns!(), ", ", object_columns!(), " FROM ", objects_from!(),
            "JOIN shares s ON s.id = o.share_id WHERE o.id = $1"
        );
        let row: Option<SharedObjectRow> = sqlx::query_as(sql).bind(id).fetch_optional(db).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Lists a share's objects, of one schema or all, after the keys `after`, ordered by schema and name key.
    pub async fn list_objects(
        self, db, share_id: Uuid, schema_key: Option<&str>, after: Option<(&str, &str)>, limit: u32
    ) -> Result<Vec<(SharedObject, Table)>> {
        let mut query = QueryBuilder::new(concat!(
            "SELECT ", object_columns!(), " FROM ", objects_from!(), "WHERE o.share_id = "
        ));
        query.push_bind(share_id);
        if let Some(schema_key) = schema_key {
            query.push(" AND o.schema_key = ").push_bind(schema_key);
        }
        if let Some((schema_key, name_key)) = after {
            query.push(" AND (o.schema_key, o.name_key) > (").push_bind(schema_key);
            query.push(", ").push_bind(name_key).push(")");
        }
        query.push(" ORDER BY o.schema_key, o.name_key LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<ObjectRow> = query.build_query_as().fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Lists the objects over one registered table with their shares, by share, schema and name; at most `limit`.
    pub async fn list_objects_of_table(
        self, db, table_id: Uuid, limit: u32
    ) -> Result<Vec<(Share, SharedObject, Table)>> {
        let sql = concat!(
            "SELECT ", share_columns!(), ", ", object_columns!(), " FROM ", objects_from!(),
            "JOIN shares s ON s.id = o.share_id WHERE o.table_id = $1 \
             ORDER BY s.name_key, o.schema_key, o.name_key LIMIT $2"
        );
        let rows: Vec<SharedObjectRow> = sqlx::query_as(sql).bind(table_id).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Lists the objects that show any version of a view with their shares, by share, schema and name; at most `limit`.
    pub async fn list_objects_of_view(
        self, db, view_id: Uuid, limit: u32
    ) -> Result<Vec<(Share, SharedObject, Table)>> {
        let sql = concat!(
            "SELECT ", share_columns!(), ", ", object_columns!(), " FROM ", objects_from!(),
            "JOIN shares s ON s.id = o.share_id WHERE o.view_id = $1 \
             ORDER BY s.name_key, o.schema_key, o.name_key LIMIT $2"
        );
        let rows: Vec<SharedObjectRow> = sqlx::query_as(sql).bind(view_id).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Lists a share's objects that show views, with their tables; at most `limit`.
    pub async fn list_view_objects(self, db, share_id: Uuid, limit: u32) -> Result<Vec<(SharedObject, Table)>> {
        let sql = concat!(
            "SELECT ", object_columns!(), " FROM ", objects_from!(),
            "WHERE o.share_id = $1 AND o.view_id IS NOT NULL ORDER BY o.schema_key, o.name_key LIMIT $2"
        );
        let rows: Vec<ObjectRow> = sqlx::query_as(sql).bind(share_id).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Lists the objects that show views in the selection `shown`, by share, schema and name; at most `limit`.
    pub async fn list_shown_views(self, db, shown: ShownIn, limit: u32) -> Result<Vec<ShownView>> {
        let mut query = QueryBuilder::new(
            "SELECT s.name AS share_name, o.schema_name, o.name, v.id AS view_id, v.name AS view_name, o.view_version, \
             q.spec AS requirements FROM objects o JOIN shares s ON s.id = o.share_id JOIN views v ON v.id = o.view_id \
             LEFT JOIN requirements q ON q.object_id = o.id WHERE o.share_id ",
        );
        match shown {
            ShownIn::Share(share_id) => {
                query.push("= ").push_bind(share_id);
            }
            ShownIn::Granted { recipient_id, open_at } => {
                let open_at = Micros::from(open_at);
                query.push(
                    "IN (SELECT g.share_id FROM grants g LEFT JOIN grant_endings e ON e.grant_id = g.id \
                     WHERE g.recipient_id = ",
                );
                query.push_bind(recipient_id).push(" AND g.valid_until > ").push_bind(open_at);
                query.push(" AND (e.ended_at IS NULL OR e.ended_at > ").push_bind(open_at).push("))");
            }
        }
        query.push(" ORDER BY s.name_key, o.schema_key, o.name_key LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<ShownViewRow> = query.build_query_as().fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Lists the objects that do not follow every schema change (views, and raw tables that hold theirs) with their
    /// shares and tables, by id after `after`.
    pub async fn list_holding_objects(
        self, db, after: Uuid, limit: u32
    ) -> Result<Vec<(Share, SharedObject, Table)>> {
        let sql = concat!(
            "SELECT ", share_columns!(), ", ", object_columns!(), " FROM ", objects_from!(),
            "JOIN shares s ON s.id = o.share_id \
             WHERE (o.on_schema_change = 'hold' OR o.view_id IS NOT NULL) AND o.id > $1 ORDER BY o.id LIMIT $2"
        );
        let rows: Vec<SharedObjectRow> = sqlx::query_as(sql).bind(after).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Reads the shape that an object holds.
    pub async fn find_accepted_schema(self, db, object_id: Uuid) -> Result<Option<Shape>> {
        let sql = "SELECT accepted_schema FROM objects WHERE id = $1";
        let text: Option<Option<String>> = sqlx::query_scalar(sql).bind(object_id).fetch_optional(db).await?;
        let shape = |text: String| Shape::from_text(&text).ok_or(StoreError::Corrupt("objects.accepted_schema"));
        text.flatten().map(shape).transpose()
    }

    /// Lists the schemas of a share after the key `after`, ordered by key. If objects spell a schema differently, one
    /// spelling stands for all.
    pub async fn list_schemas(self, db, share_id: Uuid, after: Option<&str>, limit: u32) -> Result<Vec<Name>> {
        let sql = "SELECT MIN(schema_name) FROM objects WHERE share_id = $1 AND schema_key > $2 \
                   GROUP BY schema_key ORDER BY schema_key LIMIT $3";
        // Keys are never empty.
        let after = after.unwrap_or("");
        let names: Vec<String> =
            sqlx::query_scalar(sql).bind(share_id).bind(after).bind(i64::from(limit)).fetch_all(db).await?;
        names.iter().map(|text| name(NameKind::Schema, "objects.schema_name", text)).collect()
    }
}

impl Tx {
    /// Inserts a new shared object.
    pub async fn insert_object(&mut self, object: &SharedObject) -> Result<()> {
        const SQL: &str = "INSERT INTO objects (id, share_id, schema_name, schema_key, name, name_key, table_id, \
            spec, on_schema_change, created_at, updated_at, revision, view_id, view_version, accepted_version, \
            accepted_digest) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
        writes!(self, db => sqlx::query(SQL)
            .bind(object.id)
            .bind(object.share_id)
            .bind(object.schema.as_str())
            .bind(object.schema.key())
            .bind(object.name.as_str())
            .bind(object.name.key())
            .bind(object.table_id)
            .bind(Json(&object.spec))
            .bind(object.spec.on_schema_change.as_str())
            .bind(Micros::from(object.created_at))
            .bind(Micros::from(object.updated_at))
            .bind(object.revision)
            .bind(object.view.as_ref().map(|view| view.id))
            .bind(object.view.as_ref().map(|view| view.version))
            .bind(accepted_version(object))
            .bind(object.accepted.as_ref().map(|accepted| &accepted.digest))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Stores a changed object in its share if its row still has the value's revision ([`StoreError::Stale`]
    /// otherwise); returns it with the next revision.
    pub async fn update_object(&mut self, object: SharedObject) -> Result<SharedObject> {
        const SQL: &str = "UPDATE objects SET spec = $3, on_schema_change = $4, updated_at = $5, view_id = $6, \
            view_version = $7, accepted_version = $8, accepted_digest = $9, revision = revision + 1 \
            WHERE id = $1 AND revision = $2";
        let spec = self.lay_spec("objects", object.id, &object.spec).await?;
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(object.id)
            .bind(object.revision)
            .bind(spec)
            .bind(object.spec.on_schema_change.as_str())
            .bind(Micros::from(object.updated_at))
            .bind(object.view.as_ref().map(|view| view.id))
            .bind(object.view.as_ref().map(|view| view.version))
            .bind(accepted_version(&object))
            .bind(object.accepted.as_ref().map(|accepted| &accepted.digest))
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)?;
        Ok(SharedObject { revision: object.revision + 1, ..object })
    }

    /// Stores the shape that an object's [`AcceptedShape`] names by its digest, or removes it.
    pub async fn update_accepted_schema(&mut self, object_id: Uuid, shape: Option<&Shape>) -> Result<()> {
        const SQL: &str = "UPDATE objects SET accepted_schema = $2 WHERE id = $1";
        let text = shape.map(Shape::to_text);
        writes!(self, db => sqlx::query(SQL).bind(object_id).bind(text).execute(db).await?.rows_affected());
        Ok(())
    }

    /// Deletes an object if its row has this revision.
    pub async fn delete_object(&mut self, id: Uuid, revision: i64) -> Result<()> {
        const SQL: &str = "DELETE FROM objects WHERE id = $1 AND revision = $2";
        let gone = writes!(self, db => sqlx::query(SQL).bind(id).bind(revision).execute(db).await?.rows_affected());
        one_row(gone)
    }
}

fn accepted_version(object: &SharedObject) -> Option<i64> {
    object.accepted.as_ref().map(|accepted| i64::try_from(accepted.version).unwrap_or(i64::MAX))
}
