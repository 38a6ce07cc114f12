//! The life of a token.

use chrono::TimeDelta;
use weir::{
    domain::access::token::{BearerToken, Token},
    store::{Constraint, StoreError},
};

use crate::support::postgres::TestDatabase;

use super::samples::{days, insert_pair, now, token};

#[tokio::test]
async fn a_token_is_activated_used_shortened_and_revoked_each_once() {
    for db in TestDatabase::each().await {
        let (_, recipient) = insert_pair(&db).await;
        let pending = Token { activated_at: None, expires_at: None, ..token(&recipient) };
        let hash = BearerToken::generate().hash();
        let mut tx = db.begin().await.unwrap();
        tx.insert_token(&pending, None).await.unwrap();
        assert_eq!(tx.find_token(pending.id).await.unwrap().as_ref(), Some(&pending));

        tx.activate_token(pending.id, &hash, days(1), days(30), Some(days(15))).await.unwrap();
        let again = tx.activate_token(pending.id, &hash, days(2), days(31), None).await;
        assert!(matches!(again, Err(StoreError::Stale)));

        tx.shorten_token(pending.id, days(20)).await.unwrap();
        assert!(matches!(tx.shorten_token(pending.id, days(20)).await, Err(StoreError::Stale)));

        tx.update_tokens_used(&[pending.id], days(3)).await.unwrap();
        tx.update_tokens_used(&[pending.id], days(2)).await.unwrap();

        tx.revoke_token(pending.id, days(4)).await.unwrap();
        assert!(matches!(tx.revoke_token(pending.id, days(5)).await, Err(StoreError::Stale)));
        assert!(matches!(tx.shorten_token(pending.id, days(10)).await, Err(StoreError::Stale)));
        tx.commit().await.unwrap();

        let kept = Token {
            activated_at: Some(days(1)),
            expires_at: Some(days(20)),
            revoked_at: Some(days(4)),
            last_used_at: Some(days(3)),
            unused_until: Some(days(15)),
            ..pending
        };
        assert_eq!(super::access::bearer(&db, hash).await.unwrap().token, kept);
    }
}

#[tokio::test]
async fn two_tokens_never_share_a_hash_but_pending_ones_have_none() {
    for db in TestDatabase::each().await {
        let (_, recipient) = insert_pair(&db).await;
        let hash = BearerToken::generate().hash();
        let mut tx = db.begin().await.unwrap();
        tx.insert_token(&token(&recipient), None).await.unwrap();
        tx.insert_token(&token(&recipient), None).await.unwrap();
        tx.insert_token(&token(&recipient), Some(&hash)).await.unwrap();
        let same = tx.insert_token(&token(&recipient), Some(&hash)).await;
        assert!(matches!(same, Err(StoreError::Conflict(Constraint::TokenHash))), "{same:?}");
    }
}

#[tokio::test]
async fn tokens_list_by_creation_and_live_ones_apart() {
    for db in TestDatabase::each().await {
        let (_, recipient) = insert_pair(&db).await;
        let at = |hours| now() + TimeDelta::hours(hours);
        let revoked = Token { created_at: at(0), revoked_at: Some(at(5)), ..token(&recipient) };
        let expired = Token { created_at: at(1), expires_at: Some(at(5)), ..token(&recipient) };
        let pending = Token { created_at: at(2), activated_at: None, expires_at: None, ..token(&recipient) };
        let active = Token { created_at: at(2), ..token(&recipient) };
        let mut tx = db.begin().await.unwrap();
        for token in [&active, &revoked, &pending, &expired] {
            tx.insert_token(token, None).await.unwrap();
        }
        tx.commit().await.unwrap();
        let first = db.list_tokens(recipient.id, None, 3).await.unwrap();
        let last = first.last().unwrap();
        let rest = db.list_tokens(recipient.id, Some((last.created_at, last.id)), 3).await.unwrap();
        let mut latest = [pending.clone(), active.clone()];
        latest.sort_by_key(|token| token.id);
        let [third, fourth] = latest.clone();
        assert_eq!([first, rest].concat(), [revoked.clone(), expired.clone(), third, fourth]);
        assert_eq!(db.list_live_tokens(recipient.id, at(5)).await.unwrap(), latest);
        let before = at(5) - TimeDelta::microseconds(1);
        assert_eq!(db.list_live_tokens(recipient.id, before).await.unwrap().len(), 4);
    }
}
