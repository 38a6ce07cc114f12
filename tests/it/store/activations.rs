//! Activation links, and usage counted for recipients' limits.

use weir::{
    domain::access::{
        activation::{Activation, ActivationCode},
        token::Token,
    },
    store::{Constraint, StoreError},
};

use crate::support::postgres::TestDatabase;

use super::samples::{days, insert_pair, now, token};

#[tokio::test]
async fn a_link_is_found_by_its_code_alone_and_goes_with_its_recipient() {
    for db in TestDatabase::each().await {
        let (_, recipient) = insert_pair(&db).await;
        let pending = Token { activated_at: None, ..token(&recipient) };
        let other = Token { activated_at: None, ..token(&recipient) };
        let (code, hash) = (ActivationCode::generate(), ActivationCode::generate().hash());
        let link = Activation {
            token_id: pending.id,
            expires_at: days(3),
            life_seconds: 7_776_000,
            ends_token_id: Some(other.id),
        };
        let mut tx = db.begin().await.unwrap();
        tx.insert_token(&pending, None).await.unwrap();
        tx.insert_token(&other, None).await.unwrap();
        tx.insert_activation(&link, &code.hash()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.find_activation(&code.hash()).await.unwrap(), Some(link.clone()));
        assert_eq!(db.find_activation(&hash).await.unwrap(), None);

        let mut tx = db.begin().await.unwrap();
        let same = tx.insert_activation(&Activation { token_id: other.id, ..link }, &code.hash()).await;
        assert!(matches!(same, Err(StoreError::Conflict(Constraint::ActivationCode))), "{same:?}");
        drop(tx);

        let mut tx = db.begin().await.unwrap();
        tx.update_bytes_issued(recipient.id, 20_000, 1).await.unwrap();
        tx.delete_recipient(recipient.id, recipient.revision).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.find_activation(&code.hash()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn unused_tokens_are_those_that_nobody_used_ended_or_saw() {
    for db in TestDatabase::each().await {
        let (_, recipient) = insert_pair(&db).await;
        let fetched = || Token { unused_until: Some(days(14)), ..token(&recipient) };
        let unused = fetched();
        let used = Token { last_used_at: Some(now()), ..fetched() };
        let revoked = Token { revoked_at: Some(days(1)), ..fetched() };
        let expired = Token { expires_at: Some(days(14)), ..fetched() };
        let mut tx = db.begin().await.unwrap();
        for token in [&unused, &used, &revoked, &expired, &token(&recipient)] {
            tx.insert_token(token, None).await.unwrap();
        }
        tx.commit().await.unwrap();
        assert_eq!(db.list_unused_tokens(days(13), 9).await.unwrap(), []);
        assert_eq!(db.list_unused_tokens(days(14), 9).await.unwrap(), [unused]);
        let live = db.list_live_tokens(recipient.id, days(14)).await.unwrap();
        assert_eq!(live.len(), 2, "the used one, and the one that an operator saw");
    }
}

#[tokio::test]
async fn bytes_are_counted_by_recipient_and_day() {
    for db in TestDatabase::each().await {
        let (_, recipient) = insert_pair(&db).await;
        let mut tx = db.begin().await.unwrap();
        for bytes in [5, i64::MAX] {
            tx.update_bytes_issued(recipient.id, 20_000, bytes).await.unwrap();
            assert_eq!(tx.find_bytes_issued(recipient.id, 20_000).await.unwrap(), bytes);
        }
        assert_eq!(tx.find_bytes_issued(recipient.id, 20_001).await.unwrap(), 0);
    }
}
