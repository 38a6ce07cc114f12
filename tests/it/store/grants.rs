//! Grants: append-only, listed as of any time, never overlapping however many requests race.

use chrono::TimeDelta;
use uuid::Uuid;
use weir::{
    domain::access::grant::{Agreement, Ending, Grant},
    store::{Constraint, Db, GrantFilter, NamedGrant, StoreError},
};

use crate::support::postgres::TestDatabase;

use super::samples::{days, grant, insert_pair, now, recipient, share};

fn ending() -> Ending {
    Ending { at: days(10), reason: Some("over".into()), ended_by: "bob".into(), replaced_by: Some(Uuid::now_v7()) }
}

async fn keep(db: &Db, grants: &[&Grant]) {
    let mut tx = db.begin().await.unwrap();
    for grant in grants {
        tx.insert_grant(grant).await.unwrap();
        if let Some(ending) = &grant.ending {
            tx.end_grant(grant.id, ending).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_grant_and_its_ending_come_back_as_they_were_kept() {
    for db in TestDatabase::each().await {
        let (share, recipient) = insert_pair(&db).await;
        let plain = Grant { purpose: None, agreement: None, ..grant(&share, &recipient) };
        let full = Grant { ending: Some(ending()), created_at: days(1), ..grant(&share, &recipient) };
        let reference = Agreement { reference: "x".into(), sha256: None, valid_until: None };
        let short = Grant { agreement: Some(reference), created_at: days(2), ..grant(&share, &recipient) };
        keep(&db, &[&plain, &full, &short]).await;
        for grant in [&plain, &full, &short] {
            let named = NamedGrant {
                grant: grant.clone(),
                share: "claims".into(),
                recipient: "acme".into(),
                agreements: vec![],
            };
            assert_eq!(db.find_grant(grant.id).await.unwrap(), Some(named));
        }
        assert_eq!(db.find_grant(Uuid::now_v7()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_grant_ends_once_and_nothing_of_it_ever_changes() {
    for db in TestDatabase::each().await {
        let (share, recipient) = insert_pair(&db).await;
        let ended = Grant { ending: Some(ending()), ..grant(&share, &recipient) };
        keep(&db, &[&ended]).await;
        let mut tx = db.begin().await.unwrap();
        let again = tx.end_grant(ended.id, &ending()).await;
        assert!(matches!(again, Err(StoreError::Conflict(Constraint::GrantEnded))), "{again:?}");
        drop(tx);
        let mut tx = db.begin().await.unwrap();
        let unknown = tx.end_grant(Uuid::now_v7(), &ending()).await;
        assert!(matches!(unknown, Err(StoreError::Conflict(Constraint::Reference))), "{unknown:?}");
        drop(tx);
        for sql in [
            "UPDATE grants SET granted_by = 'eve'",
            "DELETE FROM grants",
            "UPDATE grant_endings SET ended_by = 'eve'",
            "DELETE FROM grant_endings",
        ] {
            let refused: StoreError = db.execute(sql).await.unwrap_err().into();
            assert!(matches!(refused, StoreError::Conflict(Constraint::AppendOnly)), "{sql}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn grants_outlive_what_they_were_about_under_its_last_name() {
    for db in TestDatabase::each().await {
        let (share, recipient) = insert_pair(&db).await;
        let ended = Grant { ending: Some(ending()), ..grant(&share, &recipient) };
        keep(&db, &[&ended]).await;
        let mut tx = db.begin().await.unwrap();
        tx.delete_declared(&share).await.unwrap();
        tx.delete_recipient(recipient.id, 1).await.unwrap();
        let orphan = tx.insert_grant(&grant(&share, &recipient)).await;
        assert!(matches!(orphan, Err(StoreError::Stale)), "{orphan:?}");
        tx.commit().await.unwrap();
        let (successor, _) = insert_pair(&db).await;
        let filter = GrantFilter { in_force_at: Some(days(9)), ..GrantFilter::default() };
        let named = NamedGrant { grant: ended, share: "claims".into(), recipient: "acme".into(), agreements: vec![] };
        assert_eq!(db.list_grants(&filter, None, 10).await.unwrap(), [named]);
        let filter = GrantFilter { share_id: Some(successor.id), ..GrantFilter::default() };
        assert_eq!(db.list_grants(&filter, None, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn who_could_read_at_a_moment_is_what_the_domain_says() {
    for db in TestDatabase::each().await {
        let (share, recipient) = insert_pair(&db).await;
        let base = Grant { agreement: None, valid_until: days(20), ..grant(&share, &recipient) };
        let agreed = Agreement { reference: "x".into(), sha256: None, valid_until: Some(days(5)) };
        let grants = [
            base.clone(),
            Grant { id: Uuid::now_v7(), ending: Some(ending()), ..base.clone() },
            Grant { id: Uuid::now_v7(), agreement: Some(agreed), ..base.clone() },
            Grant { id: Uuid::now_v7(), valid_from: days(7), ..base.clone() },
            Grant { id: Uuid::now_v7(), valid_from: days(2), created_at: days(2), ..base.clone() },
        ];
        keep(&db, &grants.iter().collect::<Vec<_>>()).await;
        let moments = [0, 2, 5, 7, 10, 20].into_iter().map(days);
        for at in moments.flat_map(|at| [at - TimeDelta::microseconds(1), at]) {
            let mut expected: Vec<Uuid> = grants
                .iter()
                .filter(|grant| grant.state(at) == weir::domain::access::grant::GrantState::Active)
                .filter(|grant| grant.created_at <= at)
                .map(|grant| grant.id)
                .collect();
            expected.sort();
            let filter = GrantFilter { in_force_at: Some(at), share_id: Some(share.id), ..GrantFilter::default() };
            let listed = db.list_grants(&filter, None, 10).await.unwrap();
            let mut found: Vec<Uuid> = listed.iter().map(|named| named.grant.id).collect();
            found.sort();
            assert_eq!(found, expected, "{at}");
        }
        let open = GrantFilter { open_at: Some(days(10)), recipient_id: Some(recipient.id), ..GrantFilter::default() };
        assert_eq!(db.list_grants(&open, None, 10).await.unwrap().len(), 4);
        let open = GrantFilter { open_at: Some(days(20)), ..GrantFilter::default() };
        assert_eq!(db.list_grants(&open, None, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn grants_page_by_creation() {
    for db in TestDatabase::each().await {
        let (share, recipient) = insert_pair(&db).await;
        let grants: Vec<Grant> = [2, 0, 1, 1, 0]
            .into_iter()
            .map(|day| Grant { created_at: days(day), ..grant(&share, &recipient) })
            .collect();
        keep(&db, &grants.iter().collect::<Vec<_>>()).await;
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = db.list_grants(&GrantFilter::default(), after, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some((last.grant.created_at, last.grant.id));
            seen.extend(page.into_iter().map(|named| (named.grant.created_at, named.grant.id)));
        }
        let mut expected: Vec<_> = grants.iter().map(|grant| (grant.created_at, grant.id)).collect();
        expected.sort();
        assert_eq!(seen, expected);
    }
}

/// What the service does: lock, look, and insert unless there is an overlap.
async fn grant_unless_overlapping(db: Db, grant: Grant) -> bool {
    let mut tx = db.begin().await.unwrap();
    tx.lock_audit_head().await.unwrap();
    let others = tx.list_grants_of(grant.share_id, grant.recipient_id).await.unwrap();
    let free =
        others.iter().all(|other| other.valid_until <= grant.valid_from || grant.valid_until <= other.valid_from);
    if free {
        tx.insert_grant(&grant).await.unwrap();
        tx.commit().await.unwrap();
    }
    free
}

#[tokio::test(flavor = "multi_thread")]
async fn of_overlapping_grants_made_at_once_one_wins() {
    for db in TestDatabase::each().await {
        let (share, recipient) = insert_pair(&db).await;
        let replica = Db::connect(db.url(), 4).await.unwrap();
        // The first rounds also open the connections, so the later ones race more closely.
        for round in 1..=5 {
            let from = days(400 * round);
            let wanted =
                Grant { valid_from: from, valid_until: from + TimeDelta::days(1), ..grant(&share, &recipient) };
            let mut tasks = tokio::task::JoinSet::new();
            for i in 0..8 {
                let db = if i % 2 == 0 { (*db).clone() } else { replica.clone() };
                tasks.spawn(grant_unless_overlapping(db, Grant { id: Uuid::now_v7(), ..wanted.clone() }));
            }
            let won = tasks.join_all().await.into_iter().filter(|won| *won).count();
            assert_eq!(won, 1);
            assert_eq!(db.list_grants_of(share.id, recipient.id).await.unwrap().len(), round as usize);
        }
        replica.close().await;
    }
}

#[tokio::test]
async fn grants_of_others_are_not_those_of_a_pair() {
    for db in TestDatabase::each().await {
        let (a_share, a_recipient) = insert_pair(&db).await;
        let (b_share, b_recipient) = (share("b"), recipient("b"));
        let mut tx = db.begin().await.unwrap();
        tx.insert_declared(&b_share).await.unwrap();
        tx.insert_recipient(&b_recipient).await.unwrap();
        tx.commit().await.unwrap();
        let wanted = Grant { valid_from: now(), ..grant(&a_share, &a_recipient) };
        keep(&db, &[&wanted, &grant(&a_share, &b_recipient), &grant(&b_share, &a_recipient)]).await;
        assert_eq!(db.list_grants_of(a_share.id, a_recipient.id).await.unwrap(), [wanted]);
    }
}
