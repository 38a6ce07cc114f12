//! Searches by time: they start near the right place, and miss nothing if a clock was set back.

use chrono::TimeDelta;
use weir::store::AuditFilter;

use super::trail::Trail;
use crate::support::postgres::TestDatabase;

#[tokio::test]
async fn what_checkpoints_say_of_times_leaves_no_event_out() {
    for db in TestDatabase::each().await {
        let trail = Trail::on(&db);
        let mut times = vec![trail.now()];
        // A clock that was an hour ahead for a while.
        for minutes in [5, 5, 60, 5, -60, 5, 5] {
            trail.append(4).await;
            trail.audit_sealer.seal().await.unwrap();
            trail.pass(TimeDelta::minutes(minutes));
            times.push(trail.now());
        }
        trail.append(3).await;
        times.sort();
        let all = db.list_audit(&AuditFilter::default(), 100).await.unwrap();
        assert_eq!(all.len(), 31);
        for since in times.iter().copied().map(Some).chain([None]) {
            for until in times.iter().copied().map(Some).chain([None]) {
                let span = db.find_audit_span(since, until).await.unwrap();
                assert_eq!(span.sealed, 28);
                let filter = AuditFilter { since, until, ..AuditFilter::default() };
                for event in db.list_audit(&filter, 100).await.unwrap() {
                    let is_covered = (span.first..=span.last).contains(&event.seq) || event.seq > span.sealed;
                    assert!(is_covered, "{} of {since:?} to {until:?}: {span:?}", event.seq);
                }
            }
        }
        let newest = db.find_audit_span(times.last().copied(), None).await.unwrap();
        assert!(newest.first > 12, "{newest:?}");
        let oldest = db.find_audit_span(None, times.get(1).copied()).await.unwrap();
        assert_eq!(oldest.last, 4, "{oldest:?}");
    }
}
