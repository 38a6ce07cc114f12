//! On PostgreSQL, the server's own role may append to the trail but not change it.

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;
use weir::{
    service::audit::verify::Since,
    store::{Cause, Db},
};

use crate::support::postgres::TestDatabase;

use super::trail::Trail;

const GRANTS: &str = include_str!("../../../docs/postgres-roles.sql");

/// A connection pool with its own role and the documented rights.
async fn serving(database: &TestDatabase) -> (Db, String) {
    let role = format!("weir_server_{}", Uuid::new_v4().simple());
    let Db::Postgres { pool: owner, .. } = &**database else { unreachable!("roles are PostgreSQL's") };
    let grants = GRANTS.replace("weir_server", &role);
    let sql = format!("CREATE ROLE {role} LOGIN PASSWORD 'serving'; {grants}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(owner).await.unwrap();
    let options: PgConnectOptions = database.url().parse().unwrap();
    let url = sqlx::ConnectOptions::to_url_lossy(&options.username(&role).password("serving")).to_string();
    (Db::connect(&url, 2).await.unwrap(), role)
}

#[tokio::test]
async fn the_serving_role_does_its_work_and_cannot_change_the_trail() {
    let Some(database) = TestDatabase::postgres().await else { return };
    let (db, role) = serving(&database).await;
    db.check_schema().await.unwrap();
    let trail = Trail::sealed(&db).await;
    trail.pass(chrono::TimeDelta::days(396));
    assert_eq!(trail.audit_sealer.erase_due().await.unwrap(), 30);
    assert_eq!(trail.compare().await.unwrap().compared, 30);

    let Db::Postgres { pool, .. } = &db else { unreachable!("it is PostgreSQL") };
    for sql in [
        "UPDATE audit_events SET body = '{}' WHERE seq = 3",
        "DELETE FROM audit_events WHERE seq = 31",
        "TRUNCATE audit_events",
        "ALTER TABLE audit_events DISABLE TRIGGER audit_events_append_only",
        "DROP TABLE audit_events",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "UPDATE grants SET purpose = NULL",
        "DELETE FROM grant_endings",
        "DELETE FROM grant_agreements",
        "UPDATE agreement_moves SET state = 'active'",
        "UPDATE hook_events SET why = NULL",
        "DELETE FROM safeguards",
        "UPDATE audit_personal SET personal = '{}'",
        "DELETE FROM audit_head",
        "UPDATE audit_checkpoints SET note = ''",
        "DELETE FROM audit_checkpoints",
        "UPDATE mixed_files SET group_id = file",
        "UPDATE surrogates SET random = digest",
        "UPDATE notifications SET body = '{}'",
        "INSERT INTO audit_detachments VALUES (30, now())",
    ] {
        let refused = sqlx::query(sql).execute(pool).await.unwrap_err();
        let code = refused.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        assert_eq!(code, "42501", "`{sql}` is refused for want of privilege: {refused}");
    }
    let mut tx = db.begin().await.unwrap();
    tx.delete_mixed_files(Uuid::nil(), &[Uuid::nil()]).await.unwrap();
    tx.commit().await.unwrap();
    // Only the owner may do this.
    trail.pass(chrono::TimeDelta::days(1));
    assert!(trail.audit_sealer.detach("2026-08", true).await.is_err());
    assert_eq!(trail.verify(Since::Beginning).await.unwrap().head.seq, 31);

    // A missing right is reported as such, not as an unknown failure.
    let Db::Postgres { pool: owner, .. } = &*database else { unreachable!("it is PostgreSQL") };
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("REVOKE INSERT ON servers FROM {role}"))).execute(owner).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    let refused = tx.write_filler(Uuid::now_v7(), chrono::Utc::now(), &[7]).await.unwrap_err();
    assert_eq!((refused.cause(), refused.cause().to_string().as_str()), (Cause::Refused, "refused"), "{refused}");
    drop(tx);

    db.close().await;
    let mut owner = PgConnection::connect(database.url()).await.unwrap();
    let sql = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
}
