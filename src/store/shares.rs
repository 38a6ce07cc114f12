//! Shares, kept.

use std::collections::BTreeMap;

use sqlx::FromRow;
use uuid::Uuid;

use super::{
    Result, StoreError, Tx, reads,
    value::{Json, Micros, name},
    writes,
};
use crate::domain::{name::NameKind, share::Share};

/// The columns of [`ShareRow`], from `shares s`.
macro_rules! share_columns {
    () => {
        "s.id AS share_id, s.name AS share_name, s.display_name AS share_display_name, \
         s.description AS share_description, s.properties AS share_properties, s.created_at AS share_created_at, \
         s.updated_at AS share_updated_at, s.revision AS share_revision"
    };
}
pub(super) use share_columns;

#[derive(FromRow)]
pub(super) struct ShareRow {
    share_id: Uuid,
    share_name: String,
    share_display_name: Option<String>,
    share_description: Option<String>,
    share_properties: Json<BTreeMap<String, String>>,
    share_created_at: Micros,
    share_updated_at: Micros,
    share_revision: i64,
}

impl TryFrom<ShareRow> for Share {
    type Error = StoreError;

    fn try_from(row: ShareRow) -> Result<Self> {
        Ok(Self {
            id: row.share_id,
            name: name(NameKind::Share, "shares.name", &row.share_name)?,
            display_name: row.share_display_name,
            description: row.share_description,
            properties: row.share_properties.0,
            created_at: row.share_created_at.0,
            updated_at: row.share_updated_at.0,
            revision: row.share_revision,
        })
    }
}

reads! {
    /// The share with this name key.
    pub async fn find_share(self, db, name_key: &str) -> Result<Option<Share>> {
        let sql = concat!("SELECT ", share_columns!(), " FROM shares s WHERE s.name_key = $1");
        let row: Option<ShareRow> = sqlx::query_as(sql).bind(name_key).fetch_optional(db).await?;
        row.map(Share::try_from).transpose()
    }

    /// The share with this id.
    pub async fn find_share_by_id(self, db, id: Uuid) -> Result<Option<Share>> {
        let sql = concat!("SELECT ", share_columns!(), " FROM shares s WHERE s.id = $1");
        let row: Option<ShareRow> = sqlx::query_as(sql).bind(id).fetch_optional(db).await?;
        row.map(Share::try_from).transpose()
    }

    /// Shares in the order of their name keys, from behind the key `after`.
    pub async fn list_shares(self, db, after: Option<&str>, limit: u32) -> Result<Vec<Share>> {
        let sql = concat!(
            "SELECT ", share_columns!(), " FROM shares s WHERE s.name_key > $1 ORDER BY s.name_key LIMIT $2"
        );
        // No key is empty.
        let rows: Vec<ShareRow> =
            sqlx::query_as(sql).bind(after.unwrap_or("")).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(Share::try_from).collect()
    }
}

impl Tx {
    /// Keeps a new share.
    pub async fn insert_share(&mut self, share: &Share) -> Result<()> {
        const SQL: &str = "INSERT INTO shares \
            (id, name, name_key, display_name, description, properties, created_at, updated_at, revision) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        writes!(self, db => sqlx::query(SQL)
            .bind(share.id)
            .bind(share.name.as_str())
            .bind(share.name.key())
            .bind(&share.display_name)
            .bind(&share.description)
            .bind(Json(&share.properties))
            .bind(Micros::from(share.created_at))
            .bind(Micros::from(share.updated_at))
            .bind(share.revision)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Keeps a share as it is now, if its row still has the value's revision ([`StoreError::Stale`] otherwise);
    /// answers it with the next one.
    pub async fn update_share(&mut self, share: Share) -> Result<Share> {
        const SQL: &str = "UPDATE shares SET name = $3, name_key = $4, display_name = $5, description = $6, \
            properties = $7, updated_at = $8, revision = revision + 1 WHERE id = $1 AND revision = $2";
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(share.id)
            .bind(share.revision)
            .bind(share.name.as_str())
            .bind(share.name.key())
            .bind(&share.display_name)
            .bind(&share.description)
            .bind(Json(&share.properties))
            .bind(Micros::from(share.updated_at))
            .execute(db)
            .await?
            .rows_affected());
        if changed == 1 { Ok(Share { revision: share.revision + 1, ..share }) } else { Err(StoreError::Stale) }
    }

    /// Removes a share that has no objects, if its row has this revision.
    pub async fn delete_share(&mut self, id: Uuid, revision: i64) -> Result<()> {
        const SQL: &str = "DELETE FROM shares WHERE id = $1 AND revision = $2";
        let gone = writes!(self, db => sqlx::query(SQL).bind(id).bind(revision).execute(db).await?.rows_affected());
        if gone == 1 { Ok(()) } else { Err(StoreError::Stale) }
    }
}
