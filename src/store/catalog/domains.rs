//! Reads what tables belong to: their domains, and the tables that a share shows. Domains themselves are stored like every
//! noun that is a name and a spec.

use sqlx::QueryBuilder;
use uuid::Uuid;

use crate::{
    domain::catalog::{
        domain::{Domain, DomainSpec},
        table::Table,
    },
    store::{
        Result,
        core::{declared::DeclaredRow, value::padded},
        reads,
    },
};

use super::tables::{TableRow, table_columns};

reads! {
    /// Finds the declared domains with these name keys.
    pub async fn find_domains(self, db, name_keys: &[String]) -> Result<Vec<Domain>> {
        if name_keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<&str> = name_keys.iter().map(String::as_str).collect();
        let mut query = QueryBuilder::new(
            "SELECT id, name, spec, created_at, updated_at, revision FROM domains WHERE name_key IN (",
        );
        let mut list = query.separated(", ");
        padded(&keys).into_iter().for_each(|key| {
            list.push_bind(key);
        });
        query.push(")");
        let rows: Vec<DeclaredRow> = query.build_query_as().fetch_all(db).await?;
        rows.into_iter().map(DeclaredRow::read::<DomainSpec>).collect()
    }

    /// Lists the registered tables that a share shows, raw or by views, by name; at most `limit`.
    pub async fn list_tables_in(self, db, share_id: Uuid, limit: u32) -> Result<Vec<Table>> {
        let sql = concat!(
            "SELECT ", table_columns!(), " FROM tables t \
             WHERE t.id IN (SELECT o.table_id FROM objects o WHERE o.share_id = $1) ORDER BY t.name_key LIMIT $2"
        );
        let rows: Vec<TableRow> = sqlx::query_as(sql).bind(share_id).bind(i64::from(limit)).fetch_all(db).await?;
        rows.into_iter().map(Table::try_from).collect()
    }
}
