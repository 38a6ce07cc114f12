//! The facts for decisions, looked up one by one and in batches.

use uuid::Uuid;
use weir::{
    domain::{
        access::{
            decision::{Bearer, Credential, ObjectFacts, ShareAccess},
            grant::{Ending, Grant},
            recipient::Recipient,
            token::{BearerToken, Token, TokenHash},
        },
        catalog::share::Share,
    },
    store::{AccessBasisIds, AccessFacts, Constraint, Db, Seeker, Sought, StoreError, Tx},
};

use crate::support::postgres::TestDatabase;

use super::samples::{days, grant, insert_pair, now, object, recipient, share, table, token};

/// A lookup for a caller, by the keys of a share and of a schema and a table in it.
fn sought(by: Seeker, share: Option<&str>, table: Option<(&str, &str)>) -> Sought {
    let text = |text: &str| text.to_owned();
    Sought { by, share: share.map(text), table: table.map(|(schema, table)| (text(schema), text(table))) }
}

/// The token with this hash, with its recipient.
pub(super) async fn bearer(db: &Db, hash: TokenHash) -> Option<Bearer> {
    let sought = sought(Seeker::Token(hash), None, None);
    let reached = db.find_reached(std::slice::from_ref(&sought)).await.unwrap().remove(&sought)?;
    assert_eq!((reached.access, reached.object.unwrap()), (None, None));
    reached.bearer
}

/// The share with this key, with the recipient's access to it.
async fn share_access(db: &Db, recipient_id: Uuid, key: &str) -> Option<ShareAccess> {
    let sought = sought(Seeker::Recipient(recipient_id), Some(key), None);
    let reached = db.find_reached(std::slice::from_ref(&sought)).await.unwrap().remove(&sought)?;
    assert_eq!((reached.bearer, reached.object.unwrap()), (None, None));
    reached.access
}

fn ids(token: &Token, share_id: Option<Uuid>, object_id: Option<Uuid>) -> AccessBasisIds {
    AccessBasisIds { credential: Credential::Token(token.id), recipient_id: token.recipient_id, share_id, object_id }
}

/// The token in its current state.
pub(super) async fn token_now(tx: &mut Tx, token: &Token) -> Bearer {
    let ids = ids(token, None, None);
    let facts = tx.find_access_facts(&[ids]).await.unwrap().remove(&ids).unwrap();
    assert_eq!((facts.access, facts.object), (None, None));
    facts.bearer.unwrap()
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
        assert!(token_now(&mut tx, &token).await.frozen);
        tx.lift_freeze("bob", days(1)).await.unwrap();
        assert!(!token_now(&mut tx, &token).await.frozen);
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
        let credential = Credential::Token(Uuid::now_v7());
        let ids = |recipient_id, share_id| AccessBasisIds { credential, recipient_id, share_id, object_id: None };
        let of = [
            ids(recipient.id, Some(share.id)),
            ids(other.id, Some(share.id)),
            ids(recipient.id, Some(Uuid::now_v7())),
            ids(recipient.id, None),
            ids(Uuid::now_v7(), Some(share.id)),
        ];
        let facts = tx.find_access_facts(&of).await.unwrap();
        assert_eq!(facts.len(), 4, "nothing is known of a recipient that is gone");
        let accesses = of[..4].iter().map(|ids| facts[ids].access.clone());
        let of_all = ShareAccess { share: share.clone(), grants: vec![ended, later] };
        let of_other = ShareAccess { share, grants: vec![] };
        assert_eq!(accesses.collect::<Vec<_>>(), [Some(of_all), Some(of_other), None, None]);
        assert!(facts.values().all(|facts| facts.bearer.is_none()), "nobody has that token");
        assert!(tx.find_access_facts(&[]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn many_callers_reach_their_own_in_one_query_and_see_the_same_ground() {
    for db in TestDatabase::each().await {
        let (share, acme) = insert_pair(&db).await;
        let (rival, empty, behind) = (recipient("rival"), super::samples::share("empty"), table("claims.claims"));
        let object = object(&share, "Main", "Claims", &behind);
        let grants = [days(2), now(), days(1)].map(|valid_from| Grant { valid_from, ..grant(&share, &acme) });
        let hashes: Vec<TokenHash> = (0..3).map(|_| BearerToken::generate().hash()).collect();
        let tokens = [token(&acme), token(&rival), token(&acme)];
        let mut tx = db.begin().await.unwrap();
        tx.insert_recipient(&rival).await.unwrap();
        tx.insert_declared(&empty).await.unwrap();
        tx.insert_table(&behind).await.unwrap();
        tx.insert_object(&object).await.unwrap();
        for grant in &grants {
            tx.insert_grant(grant).await.unwrap();
        }
        for (token, hash) in tokens.iter().zip(&hashes) {
            tx.insert_token(token, Some(hash)).await.unwrap();
        }
        tx.commit().await.unwrap();

        let claims = Some(("main", "claims"));
        let by = |place: usize| Seeker::Token(hashes[place]);
        let all = [
            sought(by(0), Some("claims"), claims),
            sought(by(1), Some("claims"), claims),
            sought(by(0), Some("claims"), Some(("main", "other"))),
            sought(by(2), Some("empty"), claims),
            sought(by(2), None, None),
            sought(Seeker::Recipient(acme.id), Some("claims"), claims),
            sought(Seeker::Token(BearerToken::generate().hash()), Some("claims"), claims),
            sought(Seeker::Recipient(Uuid::now_v7()), Some("claims"), claims),
        ];
        let nobodys = (0..150).map(|_| sought(Seeker::Token(BearerToken::generate().hash()), Some("claims"), claims));
        let with_nobodys: Vec<Sought> = all.iter().cloned().chain(nobodys).collect();
        let [first, second, third] = grants;
        let granted = Some(ShareAccess { share: share.clone(), grants: vec![second, third, first] });
        let ungranted = |share: &Share| Some(ShareAccess { share: share.clone(), grants: vec![] });
        let bearer = |token: &Token, recipient: &Recipient| {
            Some(Bearer { token: token.clone(), recipient: recipient.clone(), frozen: false })
        };
        let allowed_purposes = behind.spec.allowed_purposes.clone();
        let found = Some((object.clone(), behind));
        let expected = [
            (bearer(&tokens[0], &acme), granted.clone(), found.clone()),
            (bearer(&tokens[1], &rival), ungranted(&share), found.clone()),
            (bearer(&tokens[0], &acme), granted.clone(), None),
            (bearer(&tokens[2], &acme), ungranted(&empty), None),
            (bearer(&tokens[2], &acme), None, None),
            (None, granted.clone(), found),
        ];
        // Batches with and without padding; the last one with several grants too.
        for asked in [&all[..1], &all[..6], &all[..], &with_nobodys] {
            let reached = db.find_reached(asked).await.unwrap();
            let known = asked.len().min(expected.len());
            assert_eq!(reached.len(), known, "nobody knows those behind");
            for (sought, (bearer, access, object)) in asked.iter().zip(&expected) {
                let reached = &reached[sought];
                assert_eq!((&reached.bearer, &reached.access), (bearer, access), "{sought:?}");
                assert_eq!(reached.object.as_ref().unwrap(), object, "{sought:?}");
            }
        }
        assert!(db.find_reached(&[]).await.unwrap().is_empty());

        let mut tx = db.begin().await.unwrap();
        let stands = ids(&tokens[0], Some(share.id), Some(object.id));
        let stolen = AccessBasisIds { recipient_id: rival.id, ..stands };
        let gone = ids(&tokens[0], Some(share.id), Some(Uuid::now_v7()));
        let elsewhere = ids(&tokens[0], Some(empty.id), Some(object.id));
        let facts = tx.find_access_facts(&[stands, stolen, gone, elsewhere]).await.unwrap();
        let fact = |bearer, access, object| AccessFacts { bearer, access, object };
        let own = bearer(&tokens[0], &acme);
        let object =
            ObjectFacts { revision: object.revision, allowed_purposes, requirements: object.requirements.clone() };
        assert_eq!(facts[&stands], fact(own.clone(), granted.clone(), Some(object.clone())));
        assert_eq!(facts[&stolen], fact(None, ungranted(&share), Some(object)), "a token of another one");
        assert_eq!(facts[&gone], fact(own.clone(), granted, None));
        assert_eq!(facts[&elsewhere], fact(own, ungranted(&empty), None), "an object of another share");
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
            tx.insert_declared(share).await.unwrap();
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
        let mut ids: Vec<AccessBasisIds> = tokens.iter().map(|token| ids(token, None, None)).collect();
        ids.push(AccessBasisIds { credential: Credential::Token(Uuid::now_v7()), ..ids[0] });
        let facts = tx.find_access_facts(&ids).await.unwrap();
        let kept = |(token, ids): (&Token, &AccessBasisIds)| facts[ids].bearer.as_ref().unwrap().token == *token;
        assert!(tokens.iter().zip(&ids).all(kept));
        assert_eq!(facts[&ids[300]].bearer, None);
        let ids: Vec<Uuid> = tokens.iter().map(|token| token.id).collect();
        tx.update_tokens_used(&ids, days(1)).await.unwrap();
        assert_eq!(token_now(&mut tx, &tokens[299]).await.token.last_used_at, Some(days(1)));
    }
}
