//! The outbox: each signal once for a webhook, claimed by one sender at a time, and what became of it.

use chrono::TimeDelta;
use serde_json::{Value, json};
use uuid::Uuid;
use weir::{
    domain::insight::signal::{Signal, SignalKind},
    store::{Db, Notification, NotificationState, StoreError},
};

use super::samples::{days, insert_pair, now};
use crate::support::postgres::TestDatabase;

fn signal(subject: &str, mark: &str) -> Signal {
    let data = json!({"token": subject});
    Signal { kind: SignalKind::TokenEnding, subject: subject.into(), mark: mark.into(), data }
}

async fn tell(db: &Db, webhook: &str, signal: &Signal) -> bool {
    let mut tx = db.begin().await.unwrap();
    let is_new = tx.insert_notification(webhook, signal, now()).await.unwrap();
    tx.commit().await.unwrap();
    is_new
}

/// What a sender of `ops` takes at this time, and has for a minute.
async fn claim(db: &Db, at: chrono::DateTime<chrono::Utc>) -> Vec<Notification> {
    let mut tx = db.begin().await.unwrap();
    let claimed = tx.claim_notifications("ops", at, at + TimeDelta::minutes(1), 9).await.unwrap();
    tx.commit().await.unwrap();
    claimed
}

#[tokio::test]
async fn a_signal_is_queued_once_for_each_webhook() {
    for db in TestDatabase::each().await {
        assert!(tell(&db, "ops", &signal("t1", "7 days")).await);
        assert!(!tell(&db, "ops", &signal("t1", "7 days")).await, "it was noticed before");
        assert!(tell(&db, "ops", &signal("t1", "1 day")).await && tell(&db, "mail", &signal("t1", "7 days")).await);
        let all = db.list_notifications(None, None, 9).await.unwrap();
        assert_eq!(all.iter().map(|kept| kept.webhook.as_str()).collect::<Vec<_>>(), ["ops", "ops", "mail"]);
        let first = &all[0];
        let body: Value = serde_json::from_str(&first.body).unwrap();
        assert_eq!((&body["type"], &body["data"]), (&json!("token.ending"), &json!({"token": "t1"})));
        assert_eq!(first.state, NotificationState::Pending);
        assert_eq!((first.attempts, first.next_attempt_at), (0, now()));
        assert_eq!(db.find_notification(first.id).await.unwrap().as_ref(), Some(first));
        assert_eq!(db.find_notification(Uuid::nil()).await.unwrap(), None);
        assert_eq!(db.list_notifications(None, Some(first.id), 1).await.unwrap(), all[1..2]);
        assert_eq!(db.list_notifications(Some(NotificationState::Dead), None, 9).await.unwrap(), []);
        for (subject, since, expected) in
            [("t1", now() - TimeDelta::days(1), true), ("t1", now(), false), ("t2", days(-1), false)]
        {
            let noticed = db.was_noticed(SignalKind::TokenEnding, subject, since).await.unwrap();
            assert_eq!(noticed, expected, "{subject} since {since}");
        }
    }
}

#[tokio::test]
async fn what_is_claimed_is_nobody_elses_until_its_time_is_over() {
    for db in TestDatabase::each().await {
        tell(&db, "ops", &signal("t1", "")).await;
        tell(&db, "mail", &signal("t1", "")).await;
        assert!(db.has_due_notification("ops", now()).await.unwrap());
        assert!(!db.has_due_notification("pager", now()).await.unwrap());
        let claimed = claim(&db, now()).await;
        assert_eq!((claimed.len(), claimed[0].attempts, claimed[0].webhook.as_str()), (1, 1, "ops"));
        assert!(!db.has_due_notification("ops", now()).await.unwrap());
        assert!(claim(&db, now() + TimeDelta::seconds(59)).await.is_empty());
        let again = claim(&db, now() + TimeDelta::seconds(61)).await;
        assert_eq!(again[0].attempts, 2, "nothing was heard of the first");
        let mut tx = db.begin().await.unwrap();
        let late = tx.settle_notification(&claimed[0], NotificationState::Delivered, None, now(), now()).await;
        assert!(matches!(late, Err(StoreError::Stale)), "{late:?}");
        let next = days(1);
        tx.settle_notification(&again[0], NotificationState::Pending, Some("no answer"), now(), next).await.unwrap();
        tx.commit().await.unwrap();
        let resting = db.find_notification(again[0].id).await.unwrap().unwrap();
        assert_eq!((resting.failure.as_deref(), resting.next_attempt_at), (Some("no answer"), next));
        assert_eq!(resting.ended_at, None);
    }
}

#[tokio::test]
async fn what_ended_is_kept_for_a_while_and_dead_letters_are_queued_anew() {
    for db in TestDatabase::each().await {
        for subject in ["delivered", "dead", "stranded"] {
            tell(&db, "ops", &signal(subject, "")).await;
        }
        let mut claimed = claim(&db, now()).await;
        claimed.sort_by_key(|notification| notification.id);
        let mut tx = db.begin().await.unwrap();
        for (claimed, state, at) in
            [(&claimed[0], NotificationState::Delivered, days(1)), (&claimed[1], NotificationState::Dead, days(2))]
        {
            let failure = (state == NotificationState::Dead).then_some("gone");
            tx.settle_notification(claimed, state, failure, at, at).await.unwrap();
        }
        assert!(matches!(tx.revive_notification(claimed[0].id, days(3)).await, Err(StoreError::Stale)));
        tx.commit().await.unwrap();
        let dead = db.list_notifications(Some(NotificationState::Dead), None, 9).await.unwrap();
        assert_eq!((dead.len(), dead[0].ended_at, dead[0].failure.as_deref()), (1, Some(days(2)), Some("gone")));
        let stranded = db.list_stranded_notifications(days(1), 9).await.unwrap();
        assert_eq!(stranded.iter().map(|stranded| stranded.id).collect::<Vec<_>>(), [claimed[2].id]);
        assert!(db.list_stranded_notifications(now(), 9).await.unwrap().is_empty());

        let mut tx = db.begin().await.unwrap();
        tx.revive_notification(dead[0].id, days(3)).await.unwrap();
        tx.commit().await.unwrap();
        let queued = db.find_notification(dead[0].id).await.unwrap().unwrap();
        assert_eq!(queued.state, NotificationState::Pending);
        assert_eq!((queued.attempts, queued.queued_at), (0, days(3)));
        assert_eq!((queued.ended_at, queued.created_at), (None, now()));

        assert!(
            !db.has_ended_notification(days(1)).await.unwrap() && db.has_ended_notification(days(2)).await.unwrap()
        );
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.delete_ended_notifications(days(9)).await.unwrap(), 1, "what is pending stays");
        tx.commit().await.unwrap();
        assert_eq!(db.list_notifications(None, None, 9).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn networks_are_known_until_nobody_was_seen_there_for_long() {
    for db in TestDatabase::each().await {
        let (_, recipient) = insert_pair(&db).await;
        let (one, other) = ("198.51.100.0/24".parse().unwrap(), "2001:db8::/48".parse().unwrap());
        assert_eq!(db.find_networks(recipient.id, one).await.unwrap(), (0, false));
        let mut tx = db.begin().await.unwrap();
        tx.note_network(recipient.id, one, now()).await.unwrap();
        tx.note_network(recipient.id, other, now()).await.unwrap();
        tx.note_network(recipient.id, one, days(2)).await.unwrap();
        let seen = Signal { kind: SignalKind::NetworkFirstSeen, ..signal("acme", "198.51.100.0/24") };
        assert!(tx.insert_notification("ops", &seen, now()).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(db.find_networks(recipient.id, one).await.unwrap(), (2, true));
        assert!(db.has_old_network(days(1)).await.unwrap() && !db.has_old_network(now()).await.unwrap());
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.delete_old_networks(days(1)).await.unwrap(), 2, "a network, and the message that names one");
        tx.commit().await.unwrap();
        assert_eq!(db.find_networks(recipient.id, other).await.unwrap(), (1, false));
        assert!(db.list_notifications(None, None, 9).await.unwrap().is_empty());
    }
}
