//! What leaves the database as intended: personal parts of a certain age, and months that the export holds.

use std::fs;

use chrono::TimeDelta;
use weir::{
    service::audit::{error::AuditError, verify::Since},
    store::{AuditFilter, Constraint, Db, Reclaimed, StoreError},
};

use crate::{replicas::cluster::Cluster, support::postgres::TestDatabase};

use super::trail::{Trail, first_bad};

async fn personal_parts(trail: &Trail) -> usize {
    let events = trail.db.list_audit(&AuditFilter::default(), 1_000).await.unwrap();
    events.iter().filter(|event| event.personal.is_some()).count()
}

#[tokio::test]
async fn personal_parts_are_erased_at_their_age_and_the_chain_still_verifies() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        trail.pass(TimeDelta::days(100));
        trail.append(4).await;
        assert_eq!(trail.audit_sealer.erase_due().await.unwrap(), 0);
        trail.pass(TimeDelta::days(295) + TimeDelta::seconds(1));
        assert_eq!(trail.audit_sealer.erase_due().await.unwrap(), 30);
        assert_eq!(personal_parts(&trail).await, 4);
        let verified = trail.compare().await.unwrap();
        // The erasure is an event itself.
        assert_eq!((verified.head.seq, verified.compared), (35, 30));
        assert_eq!(trail.audit_sealer.erase_due().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_month_that_the_export_holds_is_detached_and_the_chain_verifies_from_its_checkpoint() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        trail.pass(TimeDelta::hours(2));
        trail.append(15).await;
        trail.audit_sealer.seal().await.unwrap();
        let detached = trail.audit_sealer.detach("2026-08", true).await.unwrap();
        assert_eq!((detached.through, detached.events), (30, 30));
        let freed = db.reclaim_audit().await.unwrap();
        match &*db {
            Db::Sqlite { .. } => assert!(matches!(freed, Reclaimed::GivenBack(_)), "{freed:?}"),
            Db::Postgres { .. } => assert_eq!(freed, Reclaimed::Reusable),
        }
        if let Db::Sqlite { .. } = &*db {
            let _serving = db.lock_server().unwrap();
            assert_eq!(db.reclaim_audit().await.unwrap(), Reclaimed::Kept);
        }
        let first = &db.list_audit(&AuditFilter::default(), 1).await.unwrap()[0];
        assert_eq!(first.seq, 31);
        // The detachment is an event itself.
        let verified = trail.compare().await.unwrap();
        assert_eq!((verified.after, verified.head.seq, verified.compared), (30, 46, 45));
        assert_eq!(trail.verify(Since::Beginning).await.unwrap().after, 30);
        assert_eq!(trail.verify_export().await.unwrap().after, 0);
        let again = trail.audit_sealer.detach("2026-08", true).await.unwrap();
        assert_eq!((again.through, again.events), (30, 0));
        // The triggers are back in place.
        let refused: StoreError = db.execute("DELETE FROM audit_events WHERE seq = 31").await.unwrap_err().into();
        assert!(matches!(refused, StoreError::Conflict(Constraint::AppendOnly)), "{refused:?}");
        // The trail continues.
        trail.append(3).await;
        trail.audit_sealer.seal().await.unwrap();
        assert_eq!(trail.compare().await.unwrap().compared, 49);
    }
}

/// Makes writes to the trail, and its analysis, fail on PostgreSQL under any statement timeout.
const UNHURRIED: &str = "SET statement_timeout = 0; \
    CREATE FUNCTION unhurried(seq bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN \
    IF current_setting('statement_timeout') <> '0' THEN RAISE EXCEPTION 'a limit of time'; END IF; RETURN seq; END $$; \
    CREATE INDEX unhurried_events ON audit_events (unhurried(seq)); SET statement_timeout = '30s'";

#[tokio::test]
async fn a_large_trail_on_postgresql_has_the_time_that_it_takes() {
    let Some(db) = TestDatabase::postgres().await else { return };
    let trail = Trail::sealed(&db).await;
    trail.pass(TimeDelta::hours(2));
    trail.append(15).await;
    trail.audit_sealer.seal().await.unwrap();
    db.execute(UNHURRIED).await.unwrap();
    assert_eq!(trail.audit_sealer.detach("2026-08", true).await.unwrap().events, 30);
    assert_eq!(db.reclaim_audit().await.unwrap(), Reclaimed::Reusable);
    // No other connection has its timeout lifted.
    let Db::Postgres { pool, .. } = &*db else { unreachable!() };
    let mut connections = Vec::new();
    for _ in 0..pool.size().max(1) {
        let mut connection = pool.acquire().await.unwrap();
        let limit: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(&mut *connection).await.unwrap();
        assert_eq!(limit, "30s");
        connections.push(connection);
    }
}

#[tokio::test]
async fn a_role_that_may_not_vacuum_is_told_so() {
    let Some(cluster) = Cluster::start().await else { return };
    let _installation = cluster.install().await;
    for (role, reclaimed) in [("weir_server", Reclaimed::Refused), ("weir_owner", Reclaimed::Reusable)] {
        let db = Db::connect(&cluster.url(role), 1).await.unwrap();
        assert_eq!(db.reclaim_audit().await.unwrap(), reclaimed, "{role}");
        db.close().await;
    }
}

#[tokio::test]
async fn nothing_that_is_needed_is_detached() {
    for db in TestDatabase::each().await {
        let trail = Trail::sealed(&db).await;
        let refused = |outcome: Result<_, AuditError>, why: &str| {
            let error = outcome.map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(trail.audit_sealer.detach("2026-08", true).await, "has not ended");
        refused(trail.audit_sealer.detach("august", true).await, "is no month");
        trail.pass(TimeDelta::hours(2));
        refused(trail.audit_sealer.detach("2026-08", false).await, "still have their address");
        let kept = trail.folder.path().join(format!("events/{:020}.ndjson", 20));
        let text = fs::read(&kept).unwrap();
        fs::write(&kept, "").unwrap();
        assert_eq!(first_bad(trail.audit_sealer.detach("2026-08", true).await.map(|_| unreachable!())), 11);
        fs::write(&kept, text).unwrap();
        // An event that was not exported stays.
        db.execute("UPDATE audit_checkpoints SET exported_at = NULL WHERE seq > 10").await.unwrap();
        assert_eq!(trail.audit_sealer.detach("2026-08", true).await.unwrap().through, 10);
        assert_eq!(trail.verify(Since::Beginning).await.unwrap().after, 10);
    }
}

#[tokio::test]
async fn events_whose_urls_live_are_not_detached() {
    for db in TestDatabase::each().await {
        let trail = Trail::on(&db);
        trail.pass(TimeDelta::minutes(50));
        trail.append(10).await;
        trail.audit_sealer.seal().await.unwrap();
        trail.pass(TimeDelta::minutes(15));
        let error = trail.audit_sealer.detach("2026-08", true).await.unwrap_err().to_string();
        assert!(error.contains("still live"), "{error}");
        trail.pass(TimeDelta::minutes(15));
        assert_eq!(trail.audit_sealer.detach("2026-08", true).await.unwrap().events, 10);
    }
}
