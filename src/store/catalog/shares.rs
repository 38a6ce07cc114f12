//! Stores shares.

use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    domain::{
        catalog::share::{Share, ShareSpec},
        core::name::NameKind,
    },
    store::{
        Result, StoreError,
        core::value::{Json, Micros, name},
        reads,
    },
};

/// The columns of [`ShareRow`], from `shares s`.
macro_rules! share_columns {
    () => {
        "s.id AS share_id, s.name AS share_name, s.spec AS share_spec, s.created_at AS share_created_at, \
         s.updated_at AS share_updated_at, s.revision AS share_revision"
    };
}
pub(in crate::store) use share_columns;

#[derive(FromRow)]
pub(in crate::store) struct ShareRow {
    share_id: Uuid,
    share_name: String,
    share_spec: Json<ShareSpec>,
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
            spec: row.share_spec.0,
            created_at: row.share_created_at.0,
            updated_at: row.share_updated_at.0,
            revision: row.share_revision,
        })
    }
}

reads! {
    /// Finds the share with this name key.
    pub async fn find_share(self, db, name_key: &str) -> Result<Option<Share>> {
        let sql = concat!("SELECT ", share_columns!(), " FROM shares s WHERE s.name_key = $1");
        let row: Option<ShareRow> = sqlx::query_as(sql).bind(name_key).fetch_optional(db).await?;
        row.map(Share::try_from).transpose()
    }

    /// Finds the share with this id.
    pub async fn find_share_by_id(self, db, id: Uuid) -> Result<Option<Share>> {
        let sql = concat!("SELECT ", share_columns!(), " FROM shares s WHERE s.id = $1");
        let row: Option<ShareRow> = sqlx::query_as(sql).bind(id).fetch_optional(db).await?;
        row.map(Share::try_from).transpose()
    }

    /// Lists the shares that a recipient was ever granted, by id.
    pub async fn list_shares_granted_to(self, db, recipient_id: Uuid, limit: u32) -> Result<Vec<Share>> {
        let sql = concat!(
            "SELECT ", share_columns!(), " FROM shares s \
             WHERE s.id IN (SELECT g.share_id FROM grants g WHERE g.recipient_id = $1) ORDER BY s.id LIMIT $2"
        );
        let rows: Vec<ShareRow> =
            sqlx::query_as(sql).bind(recipient_id).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(Share::try_from).collect()
    }

    /// Lists shares after the key `after`, ordered by name key.
    pub async fn list_shares(self, db, after: Option<&str>, limit: u32) -> Result<Vec<Share>> {
        let sql = concat!(
            "SELECT ", share_columns!(), " FROM shares s WHERE s.name_key > $1 ORDER BY s.name_key LIMIT $2"
        );
        // Keys are never empty.
        let rows: Vec<ShareRow> =
            sqlx::query_as(sql).bind(after.unwrap_or("")).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(Share::try_from).collect()
    }
}
