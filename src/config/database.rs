//! Settings of the database: its URL, and the number of connections.

use std::path::PathBuf;

use serde::Deserialize;

use crate::domain::core::secret::Secret;

use super::{empty_as_none, problems::Problems};

/// `[database]`.
#[derive(Clone, Debug, Deserialize)]
pub struct DatabaseSettings {
    /// `sqlite://FILE` or `postgres://…`; a secret, because it may contain a password.
    pub url: Secret,
    /// PostgreSQL only: the URL of the role that owns the tables, if it is a different role.
    #[serde(deserialize_with = "empty_as_none")]
    pub migrate_url: Option<Secret>,
    /// The most connections, in addition to those reserved for look-ups and the audit trail.
    pub max_connections: u32,
}

/// The databases that Weir runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// A single server with its own file.
    Sqlite,
    /// Any number of replicas.
    Postgres,
}

impl DatabaseSettings {
    /// Returns the kind of database in [`Self::url`]; `None` only for settings that did not come from `Settings::load`.
    pub fn kind(&self) -> Option<DatabaseKind> {
        kind_of(&self.url)
    }

    /// Returns the SQLite file, if the database is SQLite.
    pub fn sqlite_file(&self) -> Option<PathBuf> {
        let rest = self.url.expose().strip_prefix("sqlite://")?;
        let path = rest.split('?').next().unwrap_or(rest);
        Some(PathBuf::from(path))
    }

    /// Checks the values beyond their types.
    pub(super) fn check(&self, problems: &mut Problems) {
        // No message repeats a URL, because it may contain a password.
        const SHAPE: &str = "is neither `sqlite://FILE` nor `postgres://USER@HOST/DATABASE`";
        match self.kind() {
            None => problems.add("database.url", SHAPE),
            Some(DatabaseKind::Sqlite) => {
                let file = self.sqlite_file().unwrap_or_default();
                if file.as_os_str().is_empty() || file.as_os_str() == ":memory:" {
                    problems.add("database.url", "names no file; write `sqlite://weir.db`, or `sqlite:///srv/weir.db`");
                }
            }
            Some(DatabaseKind::Postgres) => {
                if let Err(source) = url::Url::parse(self.url.expose()) {
                    problems.add("database.url", format!("is no valid URL: {source}; percent-encode the password"));
                }
            }
        }
        if let Some(url) = &self.migrate_url
            && (self.kind(), kind_of(url)) != (Some(DatabaseKind::Postgres), Some(DatabaseKind::Postgres))
        {
            problems.add("database.migrate_url", "is for PostgreSQL only, beside a `postgres://` database.url");
        }
        problems.bound("database.max_connections", self.max_connections.into(), 1..=1000, "PostgreSQL allows few");
    }
}

fn kind_of(url: &Secret) -> Option<DatabaseKind> {
    match url.expose().split_once("://")?.0 {
        "sqlite" => Some(DatabaseKind::Sqlite),
        "postgres" | "postgresql" => Some(DatabaseKind::Postgres),
        _ => None,
    }
}
