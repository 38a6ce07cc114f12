//! Operators and their tokens, and recipients found by their identity.

use uuid::Uuid;
use weir::{
    domain::{
        access::{
            decision::Credential,
            identity::{Holder, Identity},
            recipient::Recipient,
            token::BearerToken,
        },
        core::name::{Name, NameKind},
        operators::{Operator, OperatorSpec, OperatorToken, Role},
    },
    store::{AccessBasisIds, Constraint, StoreError},
};

use crate::support::postgres::TestDatabase;

use super::samples::{days, now, recipient};

fn operator(name: &str, role: Role) -> Operator {
    Operator {
        id: Uuid::now_v7(),
        name: Name::parse(NameKind::Operator, name).unwrap(),
        spec: OperatorSpec { description: Some("night shift".into()), ..OperatorSpec::of(role.into()) },
        disabled_at: None,
        created_at: now(),
        updated_at: now(),
        revision: 1,
    }
}

fn token(operator: &Operator) -> OperatorToken {
    let (id, created_at) = (Uuid::now_v7(), now());
    OperatorToken { id, operator_id: operator.id, created_at, expires_at: days(30), revoked_at: None }
}

#[tokio::test]
async fn operators_are_kept_changed_and_go_with_their_tokens() {
    for db in TestDatabase::each().await {
        let (ann, bob) = (operator("Ann", Role::Admin), operator("bob", Role::Support));
        let (own, secret) = (token(&ann), BearerToken::generate_for_operator());
        let mut tx = db.begin().await.unwrap();
        tx.insert_operator(&bob).await.unwrap();
        tx.insert_operator(&ann).await.unwrap();
        tx.insert_operator_token(&own, &secret.hash()).await.unwrap();
        let found = tx.find_operator_bearer(&secret.hash()).await.unwrap().unwrap();
        assert_eq!((&found.operator, found.token), (&ann, own));
        assert_eq!(tx.find_operator_bearer_by_id(own.id).await.unwrap(), Some(found));
        assert_eq!(tx.count_live_operator_tokens(ann.id, days(29)).await.unwrap(), 1);
        assert_eq!(tx.count_live_operator_tokens(ann.id, days(30)).await.unwrap(), 0);
        tx.commit().await.unwrap();
        let listed = [db.list_operators(None, 1).await.unwrap(), db.list_operators(Some("ann"), 5).await.unwrap()];
        assert_eq!(listed.concat(), [ann.clone(), bob]);

        let mut tx = db.begin().await.unwrap();
        let disabled =
            Operator { disabled_at: Some(days(1)), spec: OperatorSpec::of(Role::Auditor.into()), ..ann.clone() };
        let after = tx.update_operator(disabled.clone()).await.unwrap();
        assert_eq!(after.revision, 2);
        assert!(matches!(tx.update_operator(disabled).await, Err(StoreError::Stale)));
        tx.revoke_operator_token(own.id, days(2)).await.unwrap();
        assert!(matches!(tx.revoke_operator_token(own.id, days(3)).await, Err(StoreError::Stale)));
        let tokens = tx.list_operator_tokens(ann.id, None, 5).await.unwrap();
        assert_eq!(tokens, [OperatorToken { revoked_at: Some(days(2)), ..own }]);
        assert_eq!(tx.list_operator_tokens(ann.id, Some((own.created_at, own.id)), 5).await.unwrap(), []);
        assert!(matches!(tx.delete_operator(ann.id, 1).await, Err(StoreError::Stale)));
        tx.delete_operator(ann.id, 2).await.unwrap();
        assert_eq!(tx.find_operator_bearer(&secret.hash()).await.unwrap(), None);
        assert_eq!(tx.find_operator("ann").await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_admin_counts_who_is_enabled_and_holds_a_token_that_works() {
    for db in TestDatabase::each().await {
        let (ann, other) = (operator("ann", Role::Admin), operator("other", Role::Owner));
        let own = token(&ann);
        let mut tx = db.begin().await.unwrap();
        tx.insert_operator(&other).await.unwrap();
        tx.insert_operator_token(&token(&other), &BearerToken::generate().hash()).await.unwrap();
        tx.insert_operator(&ann).await.unwrap();
        assert!(!tx.has_admin(None, now()).await.unwrap());
        tx.insert_operator_token(&own, &BearerToken::generate().hash()).await.unwrap();
        assert!(tx.has_admin(None, days(29)).await.unwrap());
        assert!(!tx.has_admin(None, days(30)).await.unwrap());
        assert!(!tx.has_admin(Some(ann.id), now()).await.unwrap());
        assert!(tx.has_admin(Some(other.id), now()).await.unwrap());
        let disabled = tx.update_operator(Operator { disabled_at: Some(now()), ..ann }).await.unwrap();
        assert!(!tx.has_admin(None, now()).await.unwrap());
        tx.update_operator(Operator { disabled_at: None, ..disabled }).await.unwrap();
        tx.revoke_operator_token(own.id, days(1)).await.unwrap();
        assert!(!tx.has_admin(None, days(1)).await.unwrap());
    }
}

#[tokio::test]
async fn names_and_hashes_of_operators_are_their_own() {
    for db in TestDatabase::each().await {
        let (ann, hash) = (operator("ann", Role::Admin), BearerToken::generate().hash());
        let mut tx = db.begin().await.unwrap();
        tx.insert_operator(&ann).await.unwrap();
        tx.insert_operator_token(&token(&ann), &hash).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let same = tx.insert_operator(&operator("ANN", Role::Support)).await;
        assert!(matches!(same, Err(StoreError::Conflict(Constraint::OperatorName))), "{same:?}");
        drop(tx);
        let mut tx = db.begin().await.unwrap();
        let same = tx.insert_operator_token(&token(&ann), &hash).await;
        assert!(matches!(same, Err(StoreError::Conflict(Constraint::TokenHash))), "{same:?}");
    }
}

#[tokio::test]
async fn a_recipient_is_found_by_its_whole_identity_and_nobody_elses() {
    let bound_to = |name: &str, identity: Identity| {
        let mut bound = recipient(name);
        bound.spec.oidc = Some(identity);
        bound
    };
    let bound = |name: &str, value: &str| {
        let identity = Identity {
            id: Uuid::now_v7(),
            issuer: "https://login.example.org".into(),
            audience: "weir".into(),
            claim: "azp".into(),
            value: value.into(),
        };
        bound_to(name, identity)
    };
    for db in TestDatabase::each().await {
        let (acme, rival) = (bound("acme", "one"), bound("rival", "One"));
        let mut tx = db.begin().await.unwrap();
        for recipient in [&acme, &rival, &recipient("unbound")] {
            tx.insert_recipient(recipient).await.unwrap();
        }
        tx.commit().await.unwrap();
        let names = async |issuer: &str, audiences: &[&str], claims: &[(&str, &str)]| {
            let holders = db.list_holders(issuer, audiences, claims).await.unwrap();
            let mut names: Vec<String> = holders.iter().map(|holder| holder.recipient.name.to_string()).collect();
            names.sort();
            names.join(" ")
        };
        let issuer = "https://login.example.org";
        assert_eq!(names(issuer, &["x", "weir"], &[("sub", "one"), ("azp", "one"), ("azp", "one")]).await, "acme");
        assert_eq!(names(issuer, &["weir"], &[("azp", "one"), ("azp", "One"), ("azp", "two")]).await, "acme rival");
        for (issuer, audience, claim, value) in [
            ("https://login.example.org/", "weir", "azp", "one"),
            (issuer, "Weir", "azp", "one"),
            (issuer, "weir", "AZP", "one"),
            (issuer, "weir", "azp", "one "),
        ] {
            assert_eq!(names(issuer, &[audience], &[(claim, value)]).await, "");
        }
        assert_eq!(names(issuer, &[], &[("azp", "one")]).await, "");
        assert_eq!(names(issuer, &["weir"], &[]).await, "");

        let id = acme.spec.oidc.as_ref().unwrap().id;
        assert_eq!(db.find_holder(id).await.unwrap().unwrap().recipient, acme);
        assert_eq!(db.find_holder(Uuid::now_v7()).await.unwrap(), None);
        let mut tx = db.begin().await.unwrap();
        let until = days(1);
        let ids = |recipient: &Recipient, id| AccessBasisIds {
            credential: Credential::Identity { id, until },
            recipient_id: recipient.id,
            share_id: None,
            object_id: None,
        };
        let (own, other) = (ids(&acme, id), ids(&acme, Uuid::now_v7()));
        let rivals = ids(&rival, id);
        let facts = tx.find_access_facts(&[own, other, rivals]).await.unwrap();
        let holder = Holder { recipient: acme.clone(), frozen: false };
        assert_eq!(facts[&own].bearer, holder.bearer(until));
        assert_eq!((&facts[&other].bearer, &facts[&rivals].bearer), (&None, &None));
        let identity = Identity { id: Uuid::now_v7(), ..acme.spec.oidc.clone().unwrap() };
        assert_eq!(tx.find_recipient_by_identity(&identity).await.unwrap(), Some(acme.clone()));
        let same = tx.insert_recipient(&bound_to("third", identity)).await;
        assert!(matches!(same, Err(StoreError::Conflict(Constraint::RecipientIdentity))), "{same:?}");
    }
}
