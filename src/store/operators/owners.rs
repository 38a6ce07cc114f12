//! Reads what is known of those whose names own something, and keeps the names of those that were deleted.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};

use crate::{
    domain::operators::group::{Group, GroupSpec},
    store::{
        Result, Tx,
        core::{
            declared::DeclaredRow,
            value::{Micros, padded, time},
        },
        reads, writes,
    },
};

/// An operator of a name that owns something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwningOperator {
    /// The key of its name.
    pub name_key: String,
    /// Since when it is disabled, if it is.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When the last of its tokens expires; `None` if it never had one.
    pub last_token_ends_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct OwningRow {
    name_key: String,
    disabled_at: Option<Micros>,
    last_token_ends_at: Option<Micros>,
}

/// Appends `(…)` with these texts to a query.
macro_rules! push_keys {
    ($query:ident, $keys:expr) => {{
        let keys: Vec<&str> = $keys.iter().map(String::as_str).collect();
        $query.push("(");
        let mut list = $query.separated(", ");
        padded(&keys).into_iter().for_each(|key| {
            list.push_bind(key);
        });
        $query.push(")");
    }};
}

reads! {
    /// The operators with these name keys.
    pub async fn find_owning_operators(self, db, name_keys: &[String]) -> Result<Vec<OwningOperator>> {
        if name_keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new(
            "SELECT o.name_key, o.disabled_at, \
             (SELECT MAX(t.expires_at) FROM operator_tokens t WHERE t.operator_id = o.id) AS last_token_ends_at \
             FROM operators o WHERE o.name_key IN ",
        );
        push_keys!(query, name_keys);
        let rows: Vec<OwningRow> = query.build_query_as().fetch_all(db).await?;
        let found = rows.into_iter().map(|row| OwningOperator {
            name_key: row.name_key,
            disabled_at: time(row.disabled_at),
            last_token_ends_at: time(row.last_token_ends_at),
        });
        Ok(found.collect())
    }

    /// The groups with these name keys.
    pub async fn find_owning_groups(self, db, name_keys: &[String]) -> Result<Vec<Group>> {
        if name_keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new(
            "SELECT id, name, spec, created_at, updated_at, revision FROM operator_groups WHERE name_key IN ",
        );
        push_keys!(query, name_keys);
        let rows: Vec<DeclaredRow> = query.build_query_as().fetch_all(db).await?;
        rows.into_iter().map(DeclaredRow::read::<GroupSpec>).collect()
    }

    /// Those of these name keys that operators or groups had which were deleted, and when.
    pub async fn find_former_owners(self, db, name_keys: &[String]) -> Result<Vec<(String, DateTime<Utc>)>> {
        if name_keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::new("SELECT name_key, deleted_at FROM former_owners WHERE name_key IN ");
        push_keys!(query, name_keys);
        let rows: Vec<(String, Micros)> = query.build_query_as().fetch_all(db).await?;
        Ok(rows.into_iter().map(|(key, at)| (key, at.0)).collect())
    }
}

impl Tx {
    /// Keeps that an operator or a group of this name was deleted.
    pub async fn note_former_owner(&mut self, name_key: &str, deleted_at: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "INSERT INTO former_owners (name_key, deleted_at) VALUES ($1, $2) \
            ON CONFLICT (name_key) DO UPDATE SET deleted_at = excluded.deleted_at";
        let at = Micros::from(deleted_at);
        writes!(self, db => sqlx::query(SQL).bind(name_key).bind(at).execute(db).await?.rows_affected());
        Ok(())
    }
}
