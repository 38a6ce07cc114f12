//! Operators who sign in by an issuer, one row each.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::operators::identity::OperatorIdentity,
    store::{
        Result, Tx,
        core::value::{Micros, micros, padded, time},
        one_row, reads, writes,
    },
};

const COLUMNS: &str = "id, issuer, subject, name, disabled_at, created_at, updated_at, revision";

#[derive(FromRow)]
struct Row {
    id: Uuid,
    issuer: String,
    subject: String,
    name: String,
    disabled_at: Option<Micros>,
    created_at: Micros,
    updated_at: Micros,
    revision: i64,
}

impl From<Row> for OperatorIdentity {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            issuer: row.issuer,
            subject: row.subject,
            name: row.name,
            disabled_at: time(row.disabled_at),
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
            revision: row.revision,
        }
    }
}

reads! {
    /// Whoever has this identity.
    pub async fn find_operator_identity(self, db, id: Uuid) -> Result<Option<OperatorIdentity>> {
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM operator_identities WHERE id = "));
        query.push_bind(id);
        let row: Option<Row> = query.build_query_as().fetch_optional(db).await?;
        Ok(row.map(OperatorIdentity::from))
    }

    /// Those who have one of these identities.
    pub async fn find_operator_identities(self, db, ids: &[Uuid]) -> Result<Vec<OperatorIdentity>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM operator_identities WHERE id IN ("));
        let mut list = query.separated(", ");
        padded(ids).into_iter().for_each(|id| {
            list.push_bind(id);
        });
        query.push(")");
        let rows: Vec<Row> = query.build_query_as().fetch_all(db).await?;
        Ok(rows.into_iter().map(OperatorIdentity::from).collect())
    }

    /// Everybody in the order of the first sign-in, from behind the one at `after.0` with the id `after.1`.
    pub async fn list_operator_identities(
        self, db, after: Option<(DateTime<Utc>, Uuid)>, limit: u32
    ) -> Result<Vec<OperatorIdentity>> {
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM operator_identities"));
        if let Some((created_at, id)) = after {
            query.push(" WHERE (created_at, id) > (").push_bind(Micros::from(created_at));
            query.push(", ").push_bind(id).push(")");
        }
        query.push(" ORDER BY created_at, id LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<Row> = query.build_query_as().fetch_all(db).await?;
        Ok(rows.into_iter().map(OperatorIdentity::from).collect())
    }

    /// How many there are.
    pub async fn count_operator_identities(self, db) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM operator_identities").fetch_one(db).await?)
    }
}

impl Tx {
    /// Keeps somebody who signed in for the first time.
    pub async fn insert_operator_identity(&mut self, new: &OperatorIdentity) -> Result<()> {
        const SQL: &str = "INSERT INTO operator_identities \
            (id, issuer, subject, name, disabled_at, created_at, updated_at, revision) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        writes!(self, db => sqlx::query(SQL)
            .bind(new.id)
            .bind(&new.issuer)
            .bind(&new.subject)
            .bind(&new.name)
            .bind(micros(new.disabled_at))
            .bind(Micros::from(new.created_at))
            .bind(Micros::from(new.updated_at))
            .bind(new.revision)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Keeps a name and whether it is disabled, if the row still has the value's revision (`StoreError::Stale`
    /// otherwise); answers it with the next one.
    pub async fn update_operator_identity(&mut self, changed: OperatorIdentity) -> Result<OperatorIdentity> {
        const SQL: &str = "UPDATE operator_identities SET name = $3, disabled_at = $4, updated_at = $5, \
            revision = revision + 1 WHERE id = $1 AND revision = $2";
        let rows = writes!(self, db => sqlx::query(SQL)
            .bind(changed.id)
            .bind(changed.revision)
            .bind(&changed.name)
            .bind(micros(changed.disabled_at))
            .bind(Micros::from(changed.updated_at))
            .execute(db)
            .await?
            .rows_affected());
        one_row(rows)?;
        Ok(OperatorIdentity { revision: changed.revision + 1, ..changed })
    }

    /// Forgets somebody, if the row has this revision.
    pub async fn delete_operator_identity(&mut self, id: Uuid, revision: i64) -> Result<()> {
        const SQL: &str = "DELETE FROM operator_identities WHERE id = $1 AND revision = $2";
        let gone = writes!(self, db => sqlx::query(SQL).bind(id).bind(revision).execute(db).await?.rows_affected());
        one_row(gone)
    }
}
