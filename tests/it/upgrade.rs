//! A database as the release before left it, with what was in it, is taken over by this one.
//!
//! The release before is one without the newest migration, whichever that is. Its rows are those of this release, as far
//! as there were columns for them.

use std::{fs, path::Path};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, SqliteConnection, migrate::Migrator, sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;

use crate::{
    replicas::cluster::{Cluster, GRANTS},
    support::process::{FILES, Installation, Weir},
};

/// The migrations of the release before, for one kind of database.
async fn earlier(kind: &str) -> Migrator {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(kind);
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names.pop();
    let kept = TempDir::new().unwrap();
    for name in &names {
        fs::copy(folder.join(name), kept.path().join(name)).unwrap();
    }
    Migrator::new(kept.path().to_owned()).await.unwrap()
}

/// Something of everything that a partner's access needs; the partner's token, and how many events there are.
async fn fill(installation: &Installation, weir: &mut Weir) -> (String, usize) {
    installation.share(weir).await;
    let (_, token) = weir.issue("default").await;
    let (ended, _) = weir.issue("ended").await;
    let reason = json!({"reason": "a test"});
    weir.admin(Method::POST, &format!("/recipients/acme/tokens/{ended}/revoke"), reason).await;
    let columns = json!({"table": "claims.claims", "columns": [{"name": "id"}]});
    weir.ask(Method::PUT, "/views/claims.some", &columns).await.unwrap();
    weir.admin(Method::PUT, "/operators/ann", json!({"role": "auditor"})).await;
    assert_eq!(weir.query(&token).await.urls, FILES);
    weir.stop();
    weir.start_again().await;
    let events = weir.feed().await.len();
    weir.stop();
    (token, events)
}

/// Sees that a server which took the database over serves what was there, and that its past is whole.
async fn goes_on(installation: &Installation, mut weir: Weir, (token, events): (String, usize)) {
    assert_eq!(weir.query(&token).await.urls, FILES);
    let feed = weir.feed().await;
    assert!(feed.len() > events && feed.iter().enumerate().all(|(at, event)| event["seq"] == json!(at + 1)));
    let tokens = weir.admin(Method::GET, "/recipients/acme/tokens", Value::Null).await;
    assert_eq!(tokens["items"].as_array().unwrap().len(), 2, "{tokens}");
    assert_eq!(weir.admin(Method::GET, "/operators/ann", Value::Null).await["role"], "auditor");
    let grant = weir.grant_id().await;
    weir.admin(Method::POST, &format!("/grants/{grant}/revoke"), json!({"reason": "a test"})).await;
    assert_eq!(weir.query(&token).await.status, Some(StatusCode::FORBIDDEN));
    weir.stop();
    assert!(installation.run_well(&["audit", "verify"]).contains("the same as"));
}

/// Sees that this release leaves a database alone that a newer one has migrated.
fn refuses_a_newer_one(installation: &Installation) {
    for command in ["serve", "migrate"] {
        let refused = installation.run(&[command]);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(told.contains("9999") && told.contains("newer"), "{told}");
    }
}

/// A migration of a release to come.
const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
    SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";

async fn run(connection: &mut SqliteConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// Puts a file in the place of `full` that has its rows, and the schema of the release before.
async fn take_back_sqlite(full: &Path) {
    let kept = full.with_extension("full");
    fs::rename(full, &kept).unwrap();
    let options = SqliteConnectOptions::new().filename(full).create_if_missing(true).foreign_keys(false);
    let mut db = SqliteConnection::connect_with(&options).await.unwrap();
    earlier("sqlite").await.run(&mut db).await.unwrap();
    run(&mut db, format!("ATTACH '{}' AS kept", kept.display())).await;
    let tables = "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
        AND name <> '_sqlx_migrations'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut db).await.unwrap();
    for table in tables {
        let columns = "SELECT group_concat(own.name) FROM pragma_table_info($1, 'main') AS own \
            JOIN pragma_table_info($1, 'kept') AS theirs USING (name)";
        let columns: Option<String> = sqlx::query_scalar(columns).bind(&table).fetch_one(&mut db).await.unwrap();
        let Some(columns) = columns else { continue };
        run(&mut db, format!("DELETE FROM main.{table}")).await;
        run(&mut db, format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM kept.{table}")).await;
    }
    db.close().await.unwrap();
}

/// The same for the cluster's database.
async fn take_back_postgres(cluster: &Cluster) {
    cluster.admin("postgres", "ALTER DATABASE weir RENAME TO kept").await;
    cluster.admin("postgres", "CREATE DATABASE weir OWNER weir_owner").await;
    let mut owner = PgConnection::connect(&cluster.url("weir_owner")).await.unwrap();
    earlier("postgres").await.run(&mut owner).await.unwrap();
    owner.close().await.unwrap();
    cluster.admin("weir", "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO weir_server").await;
    let mut kept = PgConnection::connect(&cluster.url_of("postgres", "kept")).await.unwrap();
    let mut db = PgConnection::connect(&cluster.url_of("postgres", "weir")).await.unwrap();
    // Neither foreign keys nor triggers ask after the order.
    sqlx::raw_sql("SET session_replication_role = replica").execute(&mut db).await.unwrap();
    let tables =
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut db).await.unwrap();
    for table in tables {
        // A row's columns that were not there are left out.
        let rows = format!("SELECT coalesce(json_agg(kept)::text, '[]') FROM {table} AS kept");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(&mut kept).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut db).await.unwrap();
        let put = format!("INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, $1::json)");
        sqlx::query(AssertSqlSafe(put)).bind(rows).execute(&mut db).await.unwrap();
    }
    kept.close().await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_database_of_the_release_before_is_migrated_by_serving() {
    let installation = Installation::sqlite();
    let mut weir = installation.start().await;
    let filled = fill(&installation, &mut weir).await;
    let file = installation.folder.path().join("weir.db");
    take_back_sqlite(&file).await;
    goes_on(&installation, installation.start().await, filled).await;

    let mut db = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&file)).await.unwrap();
    run(&mut db, NEWER.to_owned()).await;
    db.close().await.unwrap();
    refuses_a_newer_one(&installation);
}

/// A cluster with a database of the release before, whose server refuses to serve it.
async fn refused(cluster: &Cluster) -> (Installation, (String, usize)) {
    let installation = cluster.install().await;
    let filled = fill(&installation, &mut installation.start().await).await;
    take_back_postgres(cluster).await;
    let refused = installation.run(&["serve"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("weir migrate") && told.contains("weir serve --migrate"), "{told}");
    (installation, filled)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_database_of_the_release_before_is_migrated_by_its_owner() {
    let Some(cluster) = Cluster::start().await else { return };
    let (installation, filled) = refused(&cluster).await;
    installation.run_well(&["migrate"]);
    cluster.admin("weir", GRANTS).await;
    goes_on(&installation, installation.start().await, filled).await;

    cluster.admin("weir", NEWER).await;
    refuses_a_newer_one(&installation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_database_of_the_release_before_is_migrated_by_a_server_that_is_told_to() {
    let Some(cluster) = Cluster::start().await else { return };
    let (installation, filled) = refused(&cluster).await;
    // The server's own role may do what there was; what is new it is given when all is migrated.
    cluster.admin("weir", "ALTER DEFAULT PRIVILEGES FOR ROLE weir_owner GRANT ALL ON TABLES TO weir_server").await;
    goes_on(&installation, installation.start_with(&["--migrate"]).await, filled).await;
}
