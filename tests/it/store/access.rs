//! What decisions are made from, one by one and in batches.

use uuid::Uuid;
use weir::{
    domain::{
        decision::{Bearer, ShareAccess},
        grant::{Ending, Grant},
        token::{BearerToken, Token, TokenHash},
    },
    store::{Constraint, Db, StoreError},
};

use super::samples::{days, grant, insert_pair, now, recipient, share, token};
use crate::support::postgres::TestDatabase;

/// The token with this hash and its recipient.
pub(super) async fn bearer(db: &Db, hash: TokenHash) -> Option<Bearer> {
    db.find_bearers_by_hash(&[hash]).await.unwrap().remove(&hash)
}

/// The share with this key, with what the recipient may do with it.
async fn share_access(db: &Db, recipient_id: Uuid, key: &str) -> Option<ShareAccess> {
    let mut found = db.find_share_accesses_by_key(&[(recipient_id, key)]).await.unwrap();
    found.remove(&(recipient_id, key.to_owned()))
}

#[tokio::test]
async fn a_bearer_is_found_by_its_tokens_hash_alone_whatever_its_state() {
    for db in TestDatabase::each().await {
        let (_, recipient) = insert_pair(&db).await;
        let secret = BearerToken::generate();
        let token = Token { revoked_at: Some(now()), ..token(&recipient) };
        let mut tx = db.begin().await.unwrap();
        tx.insert_token(&token, Some(&secret.hash())).await.unwrap();
        tx.commit().await.unwrap();
        let expected = Bearer { token, recipient, frozen: false };
        assert_eq!(bearer(&db, secret.hash()).await, Some(expected));
        assert_eq!(bearer(&db, BearerToken::generate().hash()).await, None);
    }
}

#[tokio::test]
async fn a_freeze_shows_on_every_bearer_until_it_is_lifted() {
    for db in TestDatabase::each().await {
        let (_, recipient) = insert_pair(&db).await;
        let (hash, token) = (BearerToken::generate().hash(), token(&recipient));
        let mut tx = db.begin().await.unwrap();
        tx.insert_token(&token, Some(&hash)).await.unwrap();
        tx.insert_freeze(Uuid::now_v7(), "leak", "ann", now()).await.unwrap();
        tx.commit().await.unwrap();
        assert!(bearer(&db, hash).await.unwrap().frozen);
        let freeze = db.find_freeze().await.unwrap().unwrap();
        assert_eq!((freeze.reason.as_str(), freeze.frozen_by.as_str(), freeze.frozen_at), ("leak", "ann", now()));

        let mut tx = db.begin().await.unwrap();
        let twice = tx.insert_freeze(Uuid::now_v7(), "again", "ann", now()).await;
        assert!(matches!(twice, Err(StoreError::Conflict(Constraint::FreezeLive))), "{twice:?}");
        drop(tx);
        let mut tx = db.begin().await.unwrap();
        assert!(tx.find_bearers(&[token.id]).await.unwrap()[&token.id].frozen);
        tx.lift_freeze("bob", days(1)).await.unwrap();
        assert!(!tx.find_bearers(&[token.id]).await.unwrap()[&token.id].frozen);
        assert!(matches!(tx.lift_freeze("bob", days(1)).await, Err(StoreError::Stale)));
        tx.insert_freeze(Uuid::now_v7(), "again", "ann", days(2)).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn access_to_a_share_holds_every_grant_of_the_recipient_and_no_other() {
    for db in TestDatabase::each().await {
        let (share, recipient) = insert_pair(&db).await;
        let other = super::samples::recipient("other");
        let ending = Ending { at: days(1), reason: None, ended_by: "ann".into(), replaced_by: None };
        let ended = Grant { ending: Some(ending.clone()), ..grant(&share, &recipient) };
        let later = Grant { valid_from: days(2), ..grant(&share, &recipient) };
        let mut tx = db.begin().await.unwrap();
        tx.insert_recipient(&other).await.unwrap();
        tx.insert_grant(&later).await.unwrap();
        tx.insert_grant(&ended).await.unwrap();
        tx.end_grant(ended.id, &ending).await.unwrap();
        tx.commit().await.unwrap();

        let access = share_access(&db, recipient.id, "claims").await;
        assert_eq!(access, Some(ShareAccess { share: share.clone(), grants: vec![ended.clone(), later.clone()] }));
        let none = share_access(&db, other.id, "claims").await;
        assert_eq!(none, Some(ShareAccess { share: share.clone(), grants: vec![] }));
        assert_eq!(share_access(&db, recipient.id, "nothing").await, None);

        let mut tx = db.begin().await.unwrap();
        let pair = (recipient.id, share.id);
        let pairs = [pair, (other.id, share.id), (recipient.id, Uuid::now_v7()), pair, pair];
        let accesses = tx.find_share_accesses(&pairs).await.unwrap();
        assert_eq!(accesses.len(), 1);
        assert_eq!(accesses[&(recipient.id, share.id)], ShareAccess { share, grants: vec![ended, later] });
        assert!(tx.find_share_accesses(&[]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn shares_with_grants_page_by_name() {
    for db in TestDatabase::each().await {
        let recipient = recipient("acme");
        let shares: Vec<_> = ["d", "B", "a", "c"].into_iter().map(share).collect();
        let mut tx = db.begin().await.unwrap();
        tx.insert_recipient(&recipient).await.unwrap();
        for share in &shares {
            tx.insert_share(share).await.unwrap();
        }
        for share in &shares[..3] {
            tx.insert_grant(&grant(share, &recipient)).await.unwrap();
            tx.insert_grant(&Grant { valid_from: days(400), ..grant(share, &recipient) }).await.unwrap();
        }
        tx.commit().await.unwrap();
        let first = db.list_share_access(recipient.id, None, 2).await.unwrap();
        let last = first.last().unwrap().share.name.key().to_owned();
        let rest = db.list_share_access(recipient.id, Some(&last), 2).await.unwrap();
        let accesses = [first, rest].concat();
        assert_eq!(accesses.iter().map(|access| access.share.name.as_str()).collect::<Vec<_>>(), ["a", "B", "d"]);
        for access in accesses {
            assert_eq!(access.grants.iter().map(|grant| grant.valid_from).collect::<Vec<_>>(), [now(), days(400)]);
        }
    }
}

#[tokio::test]
async fn bearers_of_a_long_batch_are_all_found() {
    for db in TestDatabase::each().await {
        let (_, recipient) = insert_pair(&db).await;
        let tokens: Vec<Token> = (0..300).map(|_| token(&recipient)).collect();
        let mut tx = db.begin().await.unwrap();
        for token in &tokens {
            tx.insert_token(token, None).await.unwrap();
        }
        let mut ids: Vec<Uuid> = tokens.iter().map(|token| token.id).collect();
        ids.push(Uuid::now_v7());
        let bearers = tx.find_bearers(&ids).await.unwrap();
        assert_eq!(bearers.len(), tokens.len());
        assert!(tokens.iter().all(|token| bearers[&token.id].token == *token));
        tx.update_tokens_used(&ids, days(1)).await.unwrap();
        assert_eq!(tx.find_bearers(&ids[299..]).await.unwrap()[&ids[299]].token.last_used_at, Some(days(1)));
        assert!(tx.find_bearers(&[]).await.unwrap().is_empty());
    }
}
