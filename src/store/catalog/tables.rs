//! Stores registered tables.

use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    domain::{
        catalog::table::{Table, TableSpec},
        core::name::NameKind,
    },
    store::{
        Result, StoreError, Tx,
        core::value::{Json, Micros, name},
        one_row, reads, writes,
    },
};

/// The columns of [`TableRow`], from `tables t`.
macro_rules! table_columns {
    () => {
        "t.id AS table_id, t.name AS table_name, t.spec AS table_spec, t.delta_id AS table_delta_id, t.created_at AS table_created_at, \
         t.updated_at AS table_updated_at, t.revision AS table_revision"
    };
}
pub(in crate::store) use table_columns;

#[derive(FromRow)]
pub(in crate::store) struct TableRow {
    table_id: Uuid,
    table_name: String,
    table_spec: Json<TableSpec>,
    table_delta_id: String,
    table_created_at: Micros,
    table_updated_at: Micros,
    table_revision: i64,
}

impl TryFrom<TableRow> for Table {
    type Error = StoreError;

    fn try_from(row: TableRow) -> Result<Self> {
        Ok(Self {
            id: row.table_id,
            name: name(NameKind::RegisteredTable, "tables.name", &row.table_name)?,
            spec: row.table_spec.0,
            delta_id: row.table_delta_id,
            created_at: row.table_created_at.0,
            updated_at: row.table_updated_at.0,
            revision: row.table_revision,
        })
    }
}

reads! {
    /// Finds the registered table with this name key.
    pub async fn find_table(self, db, name_key: &str) -> Result<Option<Table>> {
        let sql = concat!("SELECT ", table_columns!(), " FROM tables t WHERE t.name_key = $1");
        let row: Option<TableRow> = sqlx::query_as(sql).bind(name_key).fetch_optional(db).await?;
        row.map(Table::try_from).transpose()
    }

    /// Finds the registered table with this id.
    pub async fn find_table_by_id(self, db, id: Uuid) -> Result<Option<Table>> {
        let sql = concat!("SELECT ", table_columns!(), " FROM tables t WHERE t.id = $1");
        let row: Option<TableRow> = sqlx::query_as(sql).bind(id).fetch_optional(db).await?;
        row.map(Table::try_from).transpose()
    }

    /// Lists registered tables after the key `after`, ordered by name key.
    pub async fn list_tables(self, db, after: Option<&str>, limit: u32) -> Result<Vec<Table>> {
        let sql = concat!(
            "SELECT ", table_columns!(), " FROM tables t WHERE t.name_key > $1 ORDER BY t.name_key LIMIT $2"
        );
        // Keys are never empty.
        let rows: Vec<TableRow> =
            sqlx::query_as(sql).bind(after.unwrap_or("")).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(Table::try_from).collect()
    }
}

impl Tx {
    /// Inserts a new registered table.
    pub async fn insert_table(&mut self, table: &Table) -> Result<()> {
        const SQL: &str = "INSERT INTO tables \
            (id, name, name_key, spec, delta_id, created_at, updated_at, revision, allowed_purposes) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        writes!(self, db => sqlx::query(SQL)
            .bind(table.id)
            .bind(table.name.as_str())
            .bind(table.name.key())
            .bind(Json(&table.spec))
            .bind(&table.delta_id)
            .bind(Micros::from(table.created_at))
            .bind(Micros::from(table.updated_at))
            .bind(table.revision)
            .bind(table.spec.allowed_purposes.as_ref().map(Json))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Stores a changed table if its row still has the value's revision ([`StoreError::Stale`] otherwise); returns it
    /// with the next revision.
    pub async fn update_table(&mut self, table: Table) -> Result<Table> {
        const SQL: &str = "UPDATE tables SET spec = $3, delta_id = $4, updated_at = $5, allowed_purposes = $6, revision = revision + 1 \
            WHERE id = $1 AND revision = $2";
        let spec = self.lay_spec("tables", table.id, &table.spec).await?;
        let changed = writes!(self, db => sqlx::query(SQL)
            .bind(table.id)
            .bind(table.revision)
            .bind(spec)
            .bind(&table.delta_id)
            .bind(Micros::from(table.updated_at))
            .bind(table.spec.allowed_purposes.as_ref().map(Json))
            .execute(db)
            .await?
            .rows_affected());
        one_row(changed)?;
        Ok(Table { revision: table.revision + 1, ..table })
    }

    /// Deletes a registered table that no share uses, if its row has this revision.
    pub async fn delete_table(&mut self, id: Uuid, revision: i64) -> Result<()> {
        const SQL: &str = "DELETE FROM tables WHERE id = $1 AND revision = $2";
        let gone = writes!(self, db => sqlx::query(SQL).bind(id).bind(revision).execute(db).await?.rows_affected());
        one_row(gone)
    }
}
