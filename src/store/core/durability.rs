//! Checks whether the database accepts commits and keeps them.

use sqlx::FromRow;

use crate::store::{Db, Result};

#[derive(FromRow)]
struct Settings {
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
}

impl Db {
    /// Finds settings of the database that could lose a commit after it was answered: one sentence each, empty if all
    /// is well. SQLite's settings are made by this server and always durable.
    pub async fn find_durability_faults(&self) -> Result<Vec<&'static str>> {
        let Self::Postgres { pool, .. } = self else { return Ok(Vec::new()) };
        const SQL: &str = "SELECT current_setting('fsync') AS fsync, \
            current_setting('full_page_writes') AS full_page_writes, \
            current_setting('synchronous_commit') AS synchronous_commit";
        let settings: Settings = sqlx::query_as(SQL).fetch_one(pool).await?;
        let faults = [
            (settings.fsync, "fsync is off: a crash of PostgreSQL's machine can lose audit events; turn it on"),
            (settings.full_page_writes, "full_page_writes is off: a crash can corrupt the audit trail; turn it on"),
            (settings.synchronous_commit, "synchronous_commit is off: a crash can lose audit events; turn it on"),
        ];
        Ok(faults.into_iter().filter(|(setting, _)| setting == "off").map(|(_, fault)| fault).collect())
    }

    /// Finds reasons why the server cannot write: one sentence each, empty if there is none. For SQLite the file's
    /// permissions say this.
    pub async fn find_writing_faults(&self) -> Result<Vec<&'static str>> {
        let Self::Postgres { pool, .. } = self else { return Ok(Vec::new()) };
        const SQL: &str = "SELECT pg_is_in_recovery(), has_table_privilege('audit_events', 'INSERT')";
        let (is_standby, may_add): (bool, bool) = sqlx::query_as(SQL).fetch_one(pool).await?;
        let faults = [
            (is_standby, "it is a standby, which takes no changes; name the primary in database.url"),
            (!may_add, "its role may not write; run docs/postgres-roles.sql as the role of database.migrate_url"),
        ];
        Ok(faults.into_iter().filter(|(is_so, _)| *is_so).map(|(_, fault)| fault).collect())
    }
}
