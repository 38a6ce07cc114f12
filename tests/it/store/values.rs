//! What is stored is read back unchanged, and updates apply only to the state that was read.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use uuid::Uuid;
use weir::{
    domain::{
        access::recipient::RecipientState,
        catalog::{raw_disclosure::DisclosureItem, share::OnSchemaChange},
    },
    store::{Constraint, IdempotencyRecord, StoreError},
};

use crate::support::postgres::TestDatabase;

use super::samples::{days, now, object, recipient, share, table, token};

#[tokio::test]
async fn every_field_comes_back_as_it_was_kept() {
    for db in TestDatabase::each().await {
        let (table, share, recipient) = (table("claims.claims"), share("claims"), recipient("acme"));
        let object = object(&share, "main", "claims", &table);
        let mut tx = db.begin().await.unwrap();
        tx.insert_table(&table).await.unwrap();
        tx.insert_declared(&share).await.unwrap();
        tx.insert_object(&object).await.unwrap();
        tx.insert_recipient(&recipient).await.unwrap();
        assert_eq!(tx.find_share_by_id(share.id).await.unwrap().as_ref(), Some(&share));
        tx.commit().await.unwrap();

        assert_eq!(db.find_table("claims.claims").await.unwrap().as_ref(), Some(&table));
        assert_eq!(db.find_table_by_id(table.id).await.unwrap().as_ref(), Some(&table));
        assert_eq!(db.find_share("claims").await.unwrap().as_ref(), Some(&share));
        assert_eq!(db.find_recipient("acme").await.unwrap().as_ref(), Some(&recipient));
        assert_eq!(db.find_recipient_by_id(recipient.id).await.unwrap().as_ref(), Some(&recipient));
        let found = db.find_object(share.id, "main", "claims").await.unwrap();
        assert_eq!(found, Some((object.clone(), table.clone())));
        assert_eq!(db.find_object_by_id(object.id).await.unwrap(), Some((share, object, table)));
    }
}

#[tokio::test]
async fn updates_change_every_field_and_count() {
    for db in TestDatabase::each().await {
        let (mut table, mut share, mut recipient) = (table("claims.claims"), share("claims"), recipient("acme"));
        let mut object = object(&share, "main", "claims", &table);
        let mut tx = db.begin().await.unwrap();
        tx.insert_table(&table).await.unwrap();
        tx.insert_declared(&share).await.unwrap();
        tx.insert_object(&object).await.unwrap();
        tx.insert_recipient(&recipient).await.unwrap();
        let later = days(1);
        (table.spec.location, table.spec.description, table.spec.owner) = ("s3://elsewhere".into(), None, None);
        (table.delta_id, table.updated_at) = ("other".into(), later);
        (share.spec.display_name, share.spec.description, share.updated_at) = (None, None, later);
        share.spec.properties.clear();
        (recipient.state, recipient.spec.display_name, recipient.spec.delivery) =
            (RecipientState::Offboarded.into(), None, None);
        (recipient.spec.allowed_cidrs, recipient.updated_at) = (vec![], later);
        (object.spec.history, object.spec.cdf, object.spec.start_version) = (false, true, 0);
        (object.spec.delivery, object.spec.on_schema_change, object.updated_at) =
            (None, OnSchemaChange::Follow.into(), later);
        (object.spec.presigned_despite_networks, object.spec.description) = (false, Some("now".into()));
        (object.accepted, object.spec.acknowledge) = (None, BTreeSet::from([DisclosureItem::Properties.into()]));
        table = tx.update_table(table).await.unwrap();
        share = tx.update_declared(share).await.unwrap();
        object = tx.update_object(object).await.unwrap();
        recipient = tx.update_recipient(recipient).await.unwrap();
        assert_eq!((table.revision, share.revision, object.revision, recipient.revision), (2, 2, 2, 2));
        tx.commit().await.unwrap();
        assert_eq!(db.find_recipient("acme").await.unwrap(), Some(recipient));
        assert_eq!(db.find_object_by_id(object.id).await.unwrap(), Some((share, object, table)));
    }
}

#[tokio::test]
async fn what_was_changed_meanwhile_is_not_overwritten() {
    for db in TestDatabase::each().await {
        let first = share("claims");
        let mut tx = db.begin().await.unwrap();
        tx.insert_declared(&first).await.unwrap();
        let second = tx.update_declared(first.clone()).await.unwrap();
        let mut lost = first.clone();
        lost.spec.description = Some("lost".into());
        let lost = tx.update_declared(lost).await;
        assert!(matches!(lost, Err(StoreError::Stale)));
        assert!(matches!(tx.delete_declared(&first).await, Err(StoreError::Stale)));
        assert_eq!(tx.find_share("claims").await.unwrap().as_ref(), Some(&second));
        tx.delete_declared(&second).await.unwrap();
        assert_eq!(tx.find_share("claims").await.unwrap(), None);
        assert!(matches!(tx.update_declared(second).await, Err(StoreError::Stale)));
    }
}

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_nothing() {
    for db in TestDatabase::each().await {
        let mut tx = db.begin().await.unwrap();
        tx.insert_declared(&share("claims")).await.unwrap();
        drop(tx);
        let tx = db.begin().await.unwrap();
        assert_eq!(db.find_share("claims").await.unwrap(), None);
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_in_use_cannot_be_deleted() {
    for db in TestDatabase::each().await {
        let (table, share) = (table("claims.claims"), share("claims"));
        let object = object(&share, "main", "claims", &table);
        let mut tx = db.begin().await.unwrap();
        tx.insert_table(&table).await.unwrap();
        tx.insert_declared(&share).await.unwrap();
        tx.insert_object(&object).await.unwrap();
        tx.commit().await.unwrap();
        let users = db.list_objects_of_table(table.id, 10).await.unwrap();
        assert_eq!(users, [(share.clone(), object.clone(), table.clone())]);

        let mut tx = db.begin().await.unwrap();
        let refused = tx.delete_table(table.id, 1).await;
        assert!(matches!(refused, Err(StoreError::Conflict(Constraint::Reference))), "{refused:?}");
        drop(tx);
        let mut tx = db.begin().await.unwrap();
        let refused = tx.delete_declared(&share).await;
        assert!(matches!(refused, Err(StoreError::Conflict(Constraint::Reference))), "{refused:?}");
        drop(tx);
        let mut tx = db.begin().await.unwrap();
        tx.delete_object(object.id, 1).await.unwrap();
        tx.delete_table(table.id, 1).await.unwrap();
        tx.delete_declared(&share).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_recipients_tokens_go_with_it() {
    for db in TestDatabase::each().await {
        let recipient = recipient("acme");
        let token = token(&recipient);
        let mut tx = db.begin().await.unwrap();
        tx.insert_recipient(&recipient).await.unwrap();
        tx.insert_token(&token, None).await.unwrap();
        tx.delete_recipient(recipient.id, 1).await.unwrap();
        assert_eq!(tx.find_token(token.id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_value_that_makes_no_sense_is_named_not_guessed() {
    for db in TestDatabase::each().await {
        let mut tx = db.begin().await.unwrap();
        tx.insert_recipient(&recipient("acme")).await.unwrap();
        tx.commit().await.unwrap();
        db.execute("UPDATE recipients SET name = 'a name'").await.unwrap();
        let error = db.find_recipient("acme").await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt("recipients.name")), "{error:?}");
    }
}

#[tokio::test]
async fn an_idempotency_key_is_used_once_by_an_operator() {
    for db in TestDatabase::each().await {
        let record = IdempotencyRecord {
            operator: "ann".into(),
            key: "k1".into(),
            request_digest: [7; 32],
            resource_id: Uuid::now_v7(),
            status: 201,
            created_at: now(),
        };
        let mut tx = db.begin().await.unwrap();
        tx.insert_idempotency(&record).await.unwrap();
        tx.insert_idempotency(&IdempotencyRecord { operator: "bob".into(), ..record.clone() }).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.find_idempotency("ann", "k1").await.unwrap().as_ref(), Some(&record));
        assert_eq!(db.find_idempotency("ann", "k2").await.unwrap(), None);
        let mut tx = db.begin().await.unwrap();
        let again = tx.insert_idempotency(&record).await;
        assert!(matches!(again, Err(StoreError::Conflict(Constraint::IdempotencyKey))), "{again:?}");
        drop(tx);
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.delete_idempotency(now()).await.unwrap(), 0);
        assert_eq!(tx.delete_idempotency(now() + TimeDelta::microseconds(1)).await.unwrap(), 2);
    }
}
