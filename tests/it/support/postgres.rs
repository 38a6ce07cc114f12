//! Databases for tests. Each test has its own migrated database, on SQLite and, if `WEIR_TEST_POSTGRES` is the URL of a
//! superuser, on PostgreSQL.

use std::{env, ops::Deref, path::PathBuf};

use sqlx::{Connection, Executor, PgConnection, Row, postgres::PgConnectOptions};
use tempfile::TempDir;
use uuid::Uuid;
use weir::store::Db;

/// A superuser's URL of the PostgreSQL server on which tests create their databases.
pub const SERVER_VARIABLE: &str = "WEIR_TEST_POSTGRES";

/// The advisory lock that lets one of several test processes create the template.
const TEMPLATE_LOCK: i64 = 0x7765_6972;

/// A test's own migrated database. Dropped with the value.
pub struct TestDatabase {
    db: Db,
    url: String,
    place: Place,
}

enum Place {
    Sqlite(TempDir),
    Postgres { server: String, name: String },
}

impl Deref for TestDatabase {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}

impl TestDatabase {
    /// Creates a SQLite file in its own directory.
    pub async fn sqlite() -> Self {
        let directory = TempDir::new().unwrap();
        let url = format!("sqlite://{}", directory.path().join("weir.db").display());
        let db = Db::connect(&url, 4).await.unwrap();
        db.migrate().await.unwrap();
        Self { db, url, place: Place::Sqlite(directory) }
    }

    /// Creates a database on the PostgreSQL server of `WEIR_TEST_POSTGRES`. If that is not set, returns `None` with a
    /// message, or fails in CI.
    pub async fn postgres() -> Option<Self> {
        let Ok(server) = env::var(SERVER_VARIABLE) else {
            assert!(env::var("CI").as_deref() != Ok("true"), "{SERVER_VARIABLE} must be set in CI");
            eprintln!("skipped on PostgreSQL: {SERVER_VARIABLE} is not set");
            return None;
        };
        let mut admin = PgConnection::connect(&server).await.unwrap();
        let template = make_template(&server, &mut admin).await;
        let name = format!("weir_test_{}", Uuid::new_v4().simple());
        execute(&mut admin, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        let url = url_of(&server, &name);
        let db = Db::connect(&url, 8).await.unwrap();
        Some(Self { db, url, place: Place::Postgres { server, name } })
    }

    /// Creates one database of each available kind.
    pub async fn each() -> Vec<Self> {
        [Some(Self::sqlite().await), Self::postgres().await].into_iter().flatten().collect()
    }

    /// The URL of the database, for further connections such as those of replicas.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The SQLite file.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Sqlite(directory) => Some(directory.path().join("weir.db")),
            Place::Postgres { .. } => None,
        }
    }

    /// Runs a statement without the store, like a person who has the database's password.
    pub async fn execute(&self, sql: &'static str) -> Result<(), sqlx::Error> {
        match &self.db {
            Db::Sqlite { writer, .. } => writer.execute(sql).await.map(|_| ()),
            Db::Postgres { pool, .. } => pool.execute(sql).await.map(|_| ()),
        }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Place::Postgres { server, name } = &self.place else { return };
        let (server, name) = (server.clone(), name.clone());
        // The test's runtime may be shutting down, so it cannot be used here.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&server).await.unwrap();
                execute(&mut admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
            });
        });
        // A second panic would hide the message of a failed test.
        let _ = dropped.join();
    }
}

/// Creates the migrated template that the databases are copied from, once per set of migrations.
async fn make_template(server: &str, admin: &mut PgConnection) -> String {
    let migrations = sqlx::migrate!("migrations/postgres");
    let digest: Vec<u8> = migrations.iter().flat_map(|migration| migration.checksum.iter().copied()).collect();
    let template = format!("weir_template_{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, &digest).simple());
    sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut *admin).await.unwrap();
    let found = sqlx::query("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)").bind(&template);
    if !found.fetch_one(&mut *admin).await.unwrap().get::<bool, _>(0) {
        // Renamed only when complete, in case this is interrupted.
        let draft = format!("weir_draft_{}", Uuid::new_v4().simple());
        execute(admin, format!("CREATE DATABASE {draft}")).await;
        let db = Db::connect(&url_of(server, &draft), 1).await.unwrap();
        db.migrate().await.unwrap();
        db.close().await;
        execute(admin, format!("ALTER DATABASE {draft} RENAME TO {template}")).await;
    }
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(TEMPLATE_LOCK).execute(&mut *admin).await.unwrap();
    template
}

async fn execute(connection: &mut PgConnection, sql: String) {
    connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
}

fn url_of(server: &str, database: &str) -> String {
    let options: PgConnectOptions = server.parse().unwrap();
    sqlx::ConnectOptions::to_url_lossy(&options.database(database)).to_string()
}
