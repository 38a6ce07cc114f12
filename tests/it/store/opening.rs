//! Opening, migrating, locking and refusing a database.

use std::os::unix::fs::PermissionsExt;

use weir::store::{Db, StoreError};

use super::samples::now;
use crate::support::postgres::TestDatabase;

#[tokio::test]
async fn a_database_answers_and_is_at_this_binarys_migrations() {
    for db in TestDatabase::each().await {
        db.ping().await.unwrap();
        db.check_schema().await.unwrap();
        db.migrate().await.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_a_newer_weir_migrated_is_refused() {
    for db in TestDatabase::each().await {
        db.execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT 9999, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
        )
        .await
        .unwrap();
        for refused in [db.check_schema().await, db.migrate().await] {
            assert!(matches!(refused, Err(StoreError::SchemaTooNew { found: 9999, .. })), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn a_migration_that_was_altered_is_refused() {
    for db in TestDatabase::each().await {
        db.execute("UPDATE _sqlx_migrations SET checksum = prefix.hash FROM (SELECT hash FROM audit_head) AS prefix")
            .await
            .unwrap();
        assert!(matches!(db.check_schema().await, Err(StoreError::Migration(_))));
    }
}

#[tokio::test]
async fn an_empty_database_says_what_it_lacks() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::connect(&format!("sqlite://{}/new.db", directory.path().display()), 1).await.unwrap();
    assert!(matches!(db.check_schema().await, Err(StoreError::PendingMigrations { found: 0, .. })));

    if let Some(db) = TestDatabase::postgres().await {
        db.execute("DROP TABLE _sqlx_migrations").await.unwrap();
        assert!(matches!(db.check_schema().await, Err(StoreError::PendingMigrations { found: 0, .. })));
    }
}

#[tokio::test]
async fn replicas_that_migrate_at_once_do_not_disturb_each_other() {
    let Some(db) = TestDatabase::postgres().await else { return };
    db.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.unwrap();
    let other = Db::connect(db.url(), 2).await.unwrap();
    let (first, second) = tokio::join!(db.migrate(), other.migrate());
    first.unwrap();
    second.unwrap();
    db.check_schema().await.unwrap();
}

#[tokio::test]
async fn a_second_server_on_one_sqlite_file_is_refused() {
    let db = TestDatabase::sqlite().await;
    let lock = db.lock_server().unwrap();
    let beside = Db::connect(db.url(), 1).await.unwrap();
    assert!(matches!(beside.lock_server(), Err(StoreError::Locked(_))));
    beside.ping().await.unwrap();
    drop(lock);
    beside.lock_server().unwrap();
}

#[tokio::test]
async fn several_servers_may_share_a_postgresql() {
    let Some(db) = TestDatabase::postgres().await else { return };
    let _lock = db.lock_server().unwrap();
    Db::connect(db.url(), 1).await.unwrap().lock_server().unwrap();
}

#[tokio::test]
async fn every_file_of_a_sqlite_database_is_its_owners_alone() {
    let db = TestDatabase::sqlite().await;
    let _lock = db.lock_server().unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(db.file().unwrap().parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 4, "the database, its log, its shared memory and the lock");
}

#[tokio::test]
async fn sqlite_is_opened_to_last() {
    let db = TestDatabase::sqlite().await;
    let Db::Sqlite { reader, writer } = &*db else { unreachable!() };
    let pragma = async |pool: &sqlx::SqlitePool, sql: &'static str| {
        sqlx::query_scalar::<_, i64>(sql).fetch_one(pool).await.unwrap()
    };
    assert_eq!(pragma(writer, "PRAGMA synchronous").await, 2);
    assert_eq!(pragma(writer, "PRAGMA foreign_keys").await, 1);
    assert_eq!(pragma(reader, "PRAGMA query_only").await, 1);
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(writer).await.unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn urls_of_no_kind_are_refused_without_being_told() {
    for url in ["", "mysql://root:hunter2@db/weir", "sqlite::memory:", "sqlite://", "weir.db", "postgres://[hunter2"] {
        let error = Db::connect(url, 1).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        assert!(matches!(error, StoreError::Url), "{url}: {error:?}");
    }
    let missing = Db::connect("sqlite:///nowhere/at/all/weir.db", 1).await;
    assert!(matches!(missing, Err(StoreError::File { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let error = Db::connect("postgres://weir:hunter2@127.0.0.1:1/weir", 1).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unreachable(said) if said.contains("127.0.0.1:1 ")), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn fingerprints_are_remembered_in_the_order_of_their_first_sight() {
    for db in TestDatabase::each().await {
        assert!(db.list_key_fingerprints().await.unwrap().is_empty());
        let mut tx = db.begin().await.unwrap();
        for (fingerprint, later) in [("bb", 0), ("aa", 1), ("bb", 2)] {
            tx.remember_key_fingerprint(fingerprint, now() + chrono::TimeDelta::seconds(later)).await.unwrap();
        }
        tx.commit().await.unwrap();
        assert_eq!(db.list_key_fingerprints().await.unwrap(), ["bb", "aa"]);
    }
}

/// Ends every connection to the database, this one last.
const END_CONNECTIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
     WHERE datname = current_database() ORDER BY pid = pg_backend_pid()";

/// Pings until the database answers; each dead connection fails at most one ping.
async fn recover(db: &Db) {
    for _ in 0..20 {
        match db.ping().await {
            Ok(()) => return,
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}"),
        }
    }
    panic!("the pool does not recover");
}

#[tokio::test]
async fn connections_that_the_server_ends_are_replaced() {
    let Some(db) = TestDatabase::postgres().await else { return };
    let mut tx = db.begin().await.unwrap();
    tx.lock_audit_head().await.unwrap();
    let ended: StoreError = db.execute(END_CONNECTIONS).await.unwrap_err().into();
    assert!(matches!(ended, StoreError::Unavailable(_)), "{ended:?}");
    let cut = tx.find_audit_head().await.unwrap_err();
    assert!(matches!(cut, StoreError::Unavailable(_)), "{cut:?}");
    drop(tx);
    recover(&db).await;
    let mut tx = db.begin().await.unwrap();
    tx.lock_audit_head().await.unwrap();
}
