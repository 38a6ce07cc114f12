//! Stores things that consist of only a name and a spec: one table for each noun, all with the same columns.

use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use crate::{
    domain::core::{
        declared::{Declared, Plain},
        name::Name,
    },
    store::{Db, Result, StoreError, Tx, one_row, reads, writes},
};

use super::value::{Json, Micros};

#[derive(FromRow)]
pub(in crate::store) struct DeclaredRow {
    id: Uuid,
    name: String,
    spec: String,
    created_at: Micros,
    updated_at: Micros,
    revision: i64,
}

impl DeclaredRow {
    pub(in crate::store) fn read<S: Plain>(self) -> Result<Declared<S>> {
        Ok(Declared {
            id: self.id,
            name: Name::stored(S::NAME, &self.name).map_err(|_| StoreError::Corrupt(S::TABLE))?,
            spec: serde_json::from_str(&self.spec).map_err(|_| StoreError::Corrupt(S::TABLE))?,
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
            revision: self.revision,
        })
    }
}

/// The query on a noun's table. The table's name comes from the program, never from a caller.
fn select(table: &'static str, rest: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("SELECT id, name, spec, created_at, updated_at, revision FROM {table} {rest}"))
}

reads! {
    async fn find_row(self, db, table: &'static str, name_key: &str) -> Result<Option<DeclaredRow>> {
        Ok(sqlx::query_as(select(table, "WHERE name_key = $1")).bind(name_key).fetch_optional(db).await?)
    }

    async fn list_rows(self, db, table: &'static str, after: Option<&str>, limit: u32) -> Result<Vec<DeclaredRow>> {
        let sql = select(table, "WHERE name_key > $1 ORDER BY name_key LIMIT $2");
        // Keys are never empty.
        Ok(sqlx::query_as(sql).bind(after.unwrap_or("")).bind(i64::from(limit)).fetch_all(db).await?)
    }
}

impl Db {
    /// Finds the thing with this name key.
    pub async fn find_declared<S: Plain>(&self, name_key: &str) -> Result<Option<Declared<S>>> {
        self.find_row(S::TABLE, name_key).await?.map(DeclaredRow::read).transpose()
    }

    /// Lists things after the key `after`, ordered by name key.
    pub async fn list_declared<S: Plain>(&self, after: Option<&str>, limit: u32) -> Result<Vec<Declared<S>>> {
        self.list_rows(S::TABLE, after, limit).await?.into_iter().map(DeclaredRow::read).collect()
    }
}

impl Tx {
    /// Finds the thing with this name key.
    pub async fn find_declared<S: Plain>(&mut self, name_key: &str) -> Result<Option<Declared<S>>> {
        self.find_row(S::TABLE, name_key).await?.map(DeclaredRow::read).transpose()
    }

    /// Lists things after the key `after`, ordered by name key.
    pub async fn list_declared<S: Plain>(&mut self, after: Option<&str>, limit: u32) -> Result<Vec<Declared<S>>> {
        self.list_rows(S::TABLE, after, limit).await?.into_iter().map(DeclaredRow::read).collect()
    }

    /// Inserts a new thing.
    pub async fn insert_declared<S: Plain>(&mut self, new: &Declared<S>) -> Result<()> {
        let sql = format!(
            "INSERT INTO {} (id, name, name_key, spec, created_at, updated_at, revision) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            S::TABLE
        );
        writes!(self, db => sqlx::query(AssertSqlSafe(sql))
            .bind(new.id)
            .bind(new.name.as_str())
            .bind(new.name.key())
            .bind(Json(&new.spec))
            .bind(Micros::from(new.created_at))
            .bind(Micros::from(new.updated_at))
            .bind(new.revision)
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Stores a thing's changed spec if its row still has the value's revision ([`StoreError::Stale`] otherwise);
    /// returns it with the next revision.
    pub async fn update_declared<S: Plain>(&mut self, changed: Declared<S>) -> Result<Declared<S>> {
        let sql = format!(
            "UPDATE {} SET spec = $3, updated_at = $4, revision = revision + 1 WHERE id = $1 AND revision = $2",
            S::TABLE
        );
        let spec = self.lay_spec(S::TABLE, changed.id, &changed.spec).await?;
        let rows = writes!(self, db => sqlx::query(AssertSqlSafe(sql))
            .bind(changed.id)
            .bind(changed.revision)
            .bind(spec)
            .bind(Micros::from(changed.updated_at))
            .execute(db)
            .await?
            .rows_affected());
        one_row(rows)?;
        Ok(Declared { revision: changed.revision + 1, ..changed })
    }

    /// Deletes a thing that nothing refers to, if its row has the value's revision.
    pub async fn delete_declared<S: Plain>(&mut self, gone: &Declared<S>) -> Result<()> {
        let sql = format!("DELETE FROM {} WHERE id = $1 AND revision = $2", S::TABLE);
        let rows = writes!(self, db => sqlx::query(AssertSqlSafe(sql))
            .bind(gone.id)
            .bind(gone.revision)
            .execute(db)
            .await?
            .rows_affected());
        one_row(rows)
    }
}
