//! Connections in an unknown state, and the errors of a database that cannot work.

use sqlx::Executor;
use weir::store::{Cause, Db, StoreError};

use super::samples::{event, now};
use crate::support::postgres::TestDatabase;

async fn append(db: &Db, events: usize) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    let mut head = tx.lock_audit_head().await?;
    tx.append_audit(&mut head, &vec![event(); events], now()).await?;
    tx.commit().await
}

/// Lets the writer allocate no further page.
async fn fill(db: &Db) {
    let Db::Sqlite { writer, .. } = db else { unreachable!() };
    writer.execute("PRAGMA max_page_count = 1").await.unwrap();
}

#[tokio::test]
async fn a_disk_that_was_full_once_is_written_again_when_it_has_room() {
    let db = TestDatabase::sqlite().await;
    append(&db, 1).await.unwrap();
    for round in 1..4 {
        fill(&db).await;
        let full = append(&db, 400).await.unwrap_err();
        assert!(full.is_outage() && full.cause() == Cause::Full, "{full:?}");
        // The next connection has room.
        append(&db, 1).await.unwrap();
        assert_eq!(db.find_audit_head().await.unwrap().seq, round + 1, "nothing of the failed batch is there");
    }
}

#[tokio::test]
async fn a_transaction_that_somebody_left_open_on_the_writer_keeps_nobody() {
    let db = TestDatabase::sqlite().await;
    let Db::Sqlite { writer, .. } = &*db else { unreachable!() };
    writer.execute("BEGIN").await.unwrap();
    append(&db, 1).await.unwrap();
    assert_eq!(db.find_audit_head().await.unwrap().seq, 1);
}

#[tokio::test]
async fn what_is_not_committed_is_not_there_and_the_next_change_goes_on() {
    for db in TestDatabase::each().await {
        for _ in 0..3 {
            let mut tx = db.begin().await.unwrap();
            let mut head = tx.lock_audit_head().await.unwrap();
            tx.append_audit(&mut head, &[event()], now()).await.unwrap();
            drop(tx);
            assert_eq!(db.find_audit_head().await.unwrap().seq, 0);
        }
        append(&db, 1).await.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_only_reads_is_called_read_only() {
    for db in TestDatabase::each().await {
        let reading = Db::connect_read_only(db.url()).await.unwrap();
        let refused = append(&reading, 1).await.unwrap_err();
        assert!(refused.is_outage() && refused.cause() == Cause::ReadOnly, "{refused:?}");
        reading.close().await;
    }
}
