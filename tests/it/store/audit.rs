//! The audit trail: one chain without gaps, however many servers append; append-only, searchable, with erasable
//! personal parts.

use chrono::TimeDelta;
use uuid::Uuid;
use weir::{
    domain::audit::{Actor, ActorKind, Event, GENESIS, Head, Outcome, action::Action, commitment, link_hash},
    store::{AuditFilter, Constraint, Db, Order, Outstanding, StoreError},
};

use super::samples::{days, event, insert_pair, now, token};
use crate::support::postgres::TestDatabase;

async fn append(db: &Db, events: &[Event]) {
    let mut tx = db.begin().await.unwrap();
    let mut head = tx.lock_audit_head().await.unwrap();
    tx.append_audit(&mut head, events, now()).await.unwrap();
    tx.commit().await.unwrap();
}

/// Verifies the whole chain page by page and returns its length.
async fn verify(db: &Db) -> i64 {
    let mut head = Head { seq: 0, hash: GENESIS };
    loop {
        let filter = AuditFilter { after_seq: Some(head.seq), ..AuditFilter::default() };
        let page = db.list_audit(&filter, 50).await.unwrap();
        if page.is_empty() {
            assert_eq!(db.find_audit_head().await.unwrap(), head);
            return head.seq;
        }
        for event in page {
            assert_eq!((event.seq, event.prev_hash), (head.seq + 1, head.hash));
            assert_eq!(link_hash(&event.prev_hash, &event.body), event.hash);
            assert!(event.body.contains(&format!(r#""seq":{}"#, event.seq)));
            if let Some(personal) = &event.personal {
                assert!(event.body.contains(&commitment(&personal.salt, &personal.text)));
            }
            head = Head { seq: event.seq, hash: event.hash };
        }
    }
}

#[tokio::test]
async fn an_event_is_kept_byte_by_byte() {
    for db in TestDatabase::each().await {
        assert_eq!(db.find_audit_head().await.unwrap(), Head { seq: 0, hash: GENESIS });
        let strange = Event { purpose: Some("\u{0}\u{2028} \"ü\" 索".into()), ..event() };
        let plain = Event::new(Actor { kind: ActorKind::System, ..Actor::ANONYMOUS }, Action::AdminRead);
        let mut tx = db.begin().await.unwrap();
        let mut head = tx.lock_audit_head().await.unwrap();
        let links = tx.append_audit(&mut head, &[strange, plain], now()).await.unwrap();
        assert!(tx.append_audit(&mut head, &[], now()).await.unwrap().is_empty());
        tx.commit().await.unwrap();
        let kept = db.list_audit(&AuditFilter::default(), 10).await.unwrap();
        for (link, event) in links.iter().zip(&kept) {
            assert_eq!((link.seq, link.prev_hash, link.hash), (event.seq, event.prev_hash, event.hash));
            assert_eq!(link.body, event.body);
            let personal = event.personal.as_ref().map(|personal| (personal.salt, personal.text.clone()));
            assert_eq!(link.personal.clone().map(|text| (link.salt, text)), personal);
        }
        assert_eq!((kept.len(), verify(&db).await), (2, 2));
        assert!(kept[1].personal.is_none());
    }
}

#[tokio::test]
async fn what_is_rolled_back_leaves_no_gap() {
    for db in TestDatabase::each().await {
        append(&db, &[event()]).await;
        let mut tx = db.begin().await.unwrap();
        let mut head = tx.lock_audit_head().await.unwrap();
        tx.append_audit(&mut head, &[event(), event()], now()).await.unwrap();
        drop(tx);
        append(&db, &[event()]).await;
        assert_eq!(verify(&db).await, 2);
    }
}

#[tokio::test]
async fn a_head_that_was_not_locked_appends_nothing() {
    for db in TestDatabase::each().await {
        let mut old = db.find_audit_head().await.unwrap();
        append(&db, &[event()]).await;
        let mut tx = db.begin().await.unwrap();
        assert!(tx.append_audit(&mut old, &[event()], now()).await.is_err());
        drop(tx);
        assert_eq!(verify(&db).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_append_one_chain_without_gaps() {
    const TASKS: usize = 6;
    const BATCHES: usize = 10;
    for db in TestDatabase::each().await {
        let replica = Db::connect(db.url(), 4).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let db = if task % 2 == 0 { (*db).clone() } else { replica.clone() };
            tasks.spawn(async move {
                for batch in 0..BATCHES {
                    append(&db, &vec![event(); 1 + (task + batch) % 5]).await;
                }
            });
        }
        tasks.join_all().await;
        let appended: usize = (0..TASKS).flat_map(|t| (0..BATCHES).map(move |b| 1 + (t + b) % 5)).sum();
        assert_eq!(verify(&db).await, appended as i64);
        replica.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_under_the_lock_misses_a_revocation_that_came_before_it() {
    for db in TestDatabase::each().await {
        let (_, recipient) = insert_pair(&db).await;
        let token = token(&recipient);
        let mut tx = db.begin().await.unwrap();
        tx.insert_token(&token, None).await.unwrap();
        tx.commit().await.unwrap();

        let mut revoking = db.begin().await.unwrap();
        let mut head = revoking.lock_audit_head().await.unwrap();
        revoking.revoke_token(token.id, now()).await.unwrap();
        let (other, token_id) = ((*db).clone(), token.id);
        let reading = tokio::spawn(async move {
            let mut tx = other.begin().await.unwrap();
            let head = tx.lock_audit_head().await.unwrap();
            (head.seq, super::access::token_now(&mut tx, &token).await.token.revoked_at)
        });
        tokio::task::yield_now().await;
        revoking.append_audit(&mut head, &[event()], now()).await.unwrap();
        revoking.commit().await.unwrap();
        let (seq, revoked_at) = reading.await.unwrap();
        // The read came entirely before or entirely after the revocation.
        assert_eq!(revoked_at.is_some(), seq == 1);
        assert_eq!(db.find_token(token_id).await.unwrap().unwrap().revoked_at, Some(now()));
    }
}

#[tokio::test]
async fn a_batch_longer_than_one_statement_is_kept_whole() {
    for db in TestDatabase::each().await {
        append(&db, &vec![event(); 1_003]).await;
        assert_eq!(verify(&db).await, 1_003);
    }
}

#[tokio::test]
async fn events_are_never_changed_but_their_personal_parts_are_erased() {
    for db in TestDatabase::each().await {
        append(&db, &[event(), event()]).await;
        for sql in ["UPDATE audit_events SET action = 'x'", "DELETE FROM audit_events"] {
            let refused: StoreError = db.execute(sql).await.unwrap_err().into();
            assert!(matches!(refused, StoreError::Conflict(Constraint::AppendOnly)), "{sql}: {refused:?}");
        }
        if matches!(&*db, Db::Postgres { .. }) {
            let refused = db.execute("TRUNCATE audit_events CASCADE").await.unwrap_err();
            assert!(matches!(refused.into(), StoreError::Conflict(Constraint::AppendOnly)));
        }
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.delete_audit_personal(now()).await.unwrap(), 0);
        assert_eq!(tx.delete_audit_personal(now() + TimeDelta::microseconds(1)).await.unwrap(), 2);
        tx.commit().await.unwrap();
        let kept = db.list_audit(&AuditFilter::default(), 10).await.unwrap();
        assert!(kept.iter().all(|event| event.personal.is_none()));
        assert_eq!(verify(&db).await, 2);
    }
}

#[tokio::test]
async fn events_are_found_by_what_they_are_about() {
    for db in TestDatabase::each().await {
        let [recipient, share, object, table] = [(); 4].map(|()| Some(Uuid::now_v7()));
        // The second one is as earlier releases wrote them: they called a shared object a table.
        let events = [
            Event { recipient_id: recipient, share_id: share, ..event() },
            Event { share_id: share, table_id: object, decision: Outcome::Deny, ..event() },
            Event { recipient_id: recipient, action: Action::GrantCreate, ..event() },
            Event { object_id: object, table_id: table, registered_table: Some("t".into()), ..event() },
        ];
        for (hours, event) in events.iter().enumerate() {
            let mut tx = db.begin().await.unwrap();
            let mut head = tx.lock_audit_head().await.unwrap();
            let at = now() + TimeDelta::hours(hours as i64);
            tx.append_audit(&mut head, std::slice::from_ref(event), at).await.unwrap();
            tx.commit().await.unwrap();
        }
        let hour = |hours| Some(now() + TimeDelta::hours(hours));
        let all = AuditFilter::default;
        let cases = [
            (all(), vec![1, 2, 3, 4]),
            (AuditFilter { order: Order::Descending, ..all() }, vec![4, 3, 2, 1]),
            (AuditFilter { order: Order::Descending, after_seq: Some(3), ..all() }, vec![2, 1]),
            (AuditFilter { after_seq: Some(1), ..all() }, vec![2, 3, 4]),
            (AuditFilter { recipient_id: recipient, ..all() }, vec![1, 3]),
            (AuditFilter { share_id: share, ..all() }, vec![1, 2]),
            (AuditFilter { about: object, ..all() }, vec![2, 4]),
            (AuditFilter { about: object, order: Order::Descending, ..all() }, vec![4, 2]),
            (AuditFilter { about: object, after_seq: Some(2), ..all() }, vec![4]),
            (AuditFilter { about: object, decision: Some(Outcome::Deny), ..all() }, vec![2]),
            (AuditFilter { about: table, ..all() }, vec![4]),
            (AuditFilter { action: Some("grant.create".into()), ..all() }, vec![3]),
            (AuditFilter { decision: Some(Outcome::Deny), ..all() }, vec![2]),
            (AuditFilter { since: hour(1), ..all() }, vec![2, 3, 4]),
            (AuditFilter { until: hour(1), ..all() }, vec![1]),
            (
                AuditFilter { recipient_id: recipient, share_id: share, since: hour(0), until: hour(9), ..all() },
                vec![1],
            ),
        ];
        for (filter, expected) in cases {
            let found = db.list_audit(&filter, 10).await.unwrap();
            assert_eq!(found.iter().map(|event| event.seq).collect::<Vec<_>>(), expected, "{filter:?}");
        }
        assert_eq!(db.list_audit(&all(), 2).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn outstanding_urls_are_the_presigned_ones_that_live() {
    for db in TestDatabase::each().await {
        let [token, grant, other] = [(); 3].map(|()| Uuid::now_v7());
        let handed_out = |delivery, files, until| Event {
            token_id: Some(token),
            grant_id: Some(grant),
            delivery: Some(delivery),
            files: Some(files),
            url_expires_at: Some(until),
            ..event()
        };
        let elsewhere = Event { token_id: Some(other), grant_id: Some(other), ..handed_out("presigned", 100, days(9)) };
        append(
            &db,
            &[
                handed_out("presigned", 3, days(1)),
                handed_out("presigned", 4, days(2)),
                handed_out("proxied", 50, days(3)),
                elsewhere,
            ],
        )
        .await;
        let both = Outstanding { urls: 7, until: Some(days(2)) };
        assert_eq!(db.find_outstanding_of_tokens(&[token], now()).await.unwrap(), both);
        assert_eq!(db.find_outstanding_of_grants(&[grant, Uuid::now_v7(), Uuid::now_v7()], now()).await.unwrap(), both);
        let one = Outstanding { urls: 4, until: Some(days(2)) };
        assert_eq!(db.find_outstanding_of_grants(&[grant], days(1)).await.unwrap(), one);
        let none = Outstanding { urls: 0, until: None };
        assert_eq!(db.find_outstanding_of_tokens(&[token], days(2)).await.unwrap(), none);
        assert_eq!(db.find_outstanding_of_tokens(&[], now()).await.unwrap(), none);
        assert_eq!(db.find_outstanding(None, now()).await.unwrap(), none, "of tokens that there are");
    }
}
