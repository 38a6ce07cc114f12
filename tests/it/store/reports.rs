//! Monthly reports: one for a month and a recipient, whose files are written once. Claims are in `claims`.

use uuid::Uuid;
use weir::{
    domain::insight::report::{FileEntry, Month, ReportFile},
    store::{Db, ReportFilter, ReportState, StoreError, StoredFile, StoredReport},
};

use super::samples::{days, now};
use crate::support::postgres::TestDatabase;

fn report(month: &str, recipient_id: Option<Uuid>) -> StoredReport {
    StoredReport {
        id: Uuid::now_v7(),
        month: Month::parse(month).unwrap(),
        recipient_id,
        recipient: recipient_id.map(|_| "acme".into()),
        state: ReportState::Making.into(),
        requested_by: "ann".into(),
        requested_at: now(),
        ready_at: None,
        failure: None,
        checkpoint_seq: None,
    }
}

async fn keep(db: &Db, reports: &[&StoredReport]) {
    let mut tx = db.begin().await.unwrap();
    for report in reports {
        tx.insert_report(report).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn there_is_one_report_of_a_month_and_a_recipient() {
    for db in TestDatabase::each().await {
        let acme = Some(Uuid::from_u128(1));
        let (all, one, before) = (report("2026-09", None), report("2026-09", acme), report("2026-08", acme));
        keep(&db, &[&all, &one, &before]).await;
        for report in [&all, &one, &before] {
            assert_eq!(db.find_report(report.id).await.unwrap().as_ref(), Some(report));
            let found = db.find_report_of(report.month, report.recipient_id).await.unwrap();
            assert_eq!(found.as_ref(), Some(report));
            let mut tx = db.begin().await.unwrap();
            let again = StoredReport { id: Uuid::now_v7(), ..report.clone() };
            assert!(tx.insert_report(&again).await.is_err(), "{report:?}");
        }
        assert_eq!(db.find_report_of(before.month, None).await.unwrap(), None);
        let list = |month, recipient_id, after| {
            let db = &db;
            async move { db.list_reports(&ReportFilter { month, recipient_id }, after, 2).await.unwrap() }
        };
        assert_eq!(list(None, None, None).await, [all.clone(), one.clone()]);
        assert_eq!(list(None, None, Some(one.id)).await, std::slice::from_ref(&before));
        assert_eq!(list(Some(all.month), None, None).await, [all.clone(), one.clone()]);
        assert_eq!(list(Some(all.month), acme, None).await, [one]);
        assert_eq!(db.list_making_reports(9).await.unwrap().len(), 3);
    }
}

#[tokio::test]
async fn files_are_written_once_and_stay_byte_for_byte() {
    for db in TestDatabase::each().await {
        let report = report("2026-09", None);
        keep(&db, &[&report]).await;
        let contents = [(ReportFile::Csv, b"a,\xc3\xbc\r\n".to_vec()), (ReportFile::Html, vec![0, 255, 10])];
        let files =
            contents.clone().map(|(file, content)| (StoredFile { file, entry: FileEntry::of(&content) }, content));
        let mut tx = db.begin().await.unwrap();
        tx.complete_report(report.id, &files, 42, days(1)).await.unwrap();
        tx.commit().await.unwrap();
        let ready = db.find_report(report.id).await.unwrap().unwrap();
        let expected = StoredReport {
            state: ReportState::Ready.into(),
            ready_at: Some(days(1)),
            checkpoint_seq: Some(42),
            ..report
        };
        assert_eq!(ready, expected);
        let listed = db.list_report_files(ready.id).await.unwrap();
        assert_eq!(listed, files.clone().map(|(stored, _)| stored));
        for (file, content) in contents {
            assert_eq!(db.find_report_file(ready.id, file).await.unwrap(), Some(content), "{file:?}");
        }
        assert_eq!(db.find_report_file(ready.id, ReportFile::Manifest).await.unwrap(), None);
        let mut tx = db.begin().await.unwrap();
        assert!(matches!(tx.complete_report(ready.id, &files, 43, days(2)).await, Err(StoreError::Stale)));
        assert!(matches!(tx.fail_report(ready.id, "late").await, Err(StoreError::Stale)));
        assert!(matches!(tx.revive_report(ready.id).await, Err(StoreError::Stale)));
        drop(tx);
        assert_eq!(db.find_report(ready.id).await.unwrap(), Some(ready));
        assert!(db.list_making_reports(9).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_was_given_up_is_made_when_it_is_asked_for_again() {
    for db in TestDatabase::each().await {
        let report = report("2026-09", None);
        keep(&db, &[&report]).await;
        let mut tx = db.begin().await.unwrap();
        tx.fail_report(report.id, "an event cannot be read").await.unwrap();
        tx.commit().await.unwrap();
        let failed = db.find_report(report.id).await.unwrap().unwrap();
        assert_eq!(failed.state, ReportState::Failed);
        assert_eq!(failed.failure.as_deref(), Some("an event cannot be read"));
        assert!(db.list_making_reports(9).await.unwrap().is_empty());
        let mut tx = db.begin().await.unwrap();
        tx.revive_report(report.id).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.find_report(report.id).await.unwrap(), Some(report.clone()));
        assert_eq!(db.list_making_reports(9).await.unwrap(), [report.id]);
    }
}
