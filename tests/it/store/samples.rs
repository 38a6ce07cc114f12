//! Sample values to store.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;
use weir::{
    domain::{
        access::{
            delivery::Delivery,
            grant::{Agreement, Grant},
            limits::RecipientLimits,
            recipient::{Recipient, RecipientSpec, RecipientState},
            token::Token,
        },
        audit::{Actor, ActorKind, Event, Personal, action::Action},
        catalog::{
            raw_disclosure::DisclosureItem,
            shape::AcceptedShape,
            share::{ObjectSpec, OnSchemaChange, Share, ShareSpec, SharedObject, SourceName},
            table::{Table, TableSpec},
        },
        core::name::{Name, NameKind},
    },
    store::Db,
};

/// A time with microseconds.
pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_790_000_000_123_456).unwrap()
}

/// [`now`] plus a number of days.
pub fn days(days: i64) -> DateTime<Utc> {
    now() + TimeDelta::days(days)
}

pub fn table(name: &str) -> Table {
    Table {
        id: Uuid::now_v7(),
        name: Name::parse(NameKind::RegisteredTable, name).unwrap(),
        spec: TableSpec {
            location: "s3://lake/warehouse/claims".into(),
            description: Some("Ansprüche, 索赔".into()),
            owner: Some("claims team".into()),
            steward: None,
            domain: Some("claims".into()),
            allowed_purposes: Some(vec!["fraud detection".into()]),
        },
        delta_id: "5f0f2c1e".into(),
        created_at: now(),
        updated_at: now(),
        revision: 1,
    }
}

pub fn share(name: &str) -> Share {
    Share {
        id: Uuid::now_v7(),
        name: Name::parse(NameKind::Share, name).unwrap(),
        spec: ShareSpec {
            display_name: Some("Claims".into()),
            description: Some("said \"so\"\n".into()),
            properties: BTreeMap::from([("contact".into(), "a@example.org".into()), ("\u{0}".into(), "ü".into())]),
            domain: None,
        },
        created_at: now(),
        updated_at: now(),
        revision: 1,
    }
}

pub fn object(share: &Share, schema: &str, name: &str, table: &Table) -> SharedObject {
    SharedObject {
        id: Uuid::now_v7(),
        share_id: share.id,
        schema: Name::parse(NameKind::Schema, schema).unwrap(),
        name: Name::parse(NameKind::Table, name).unwrap(),
        table_id: table.id,
        view: None,
        spec: ObjectSpec {
            source: SourceName::Table(table.name.to_string()),
            history: true,
            start_version: i64::MAX,
            cdf: false,
            delivery: Some(Delivery::Proxied.into()),
            on_schema_change: OnSchemaChange::Hold.into(),
            acknowledge: [DisclosureItem::History.into(), DisclosureItem::DeletedRows.into()].into(),
            presigned_despite_networks: true,
            justification: None,
            description: None,
        },
        requirements: None,
        accepted: Some(AcceptedShape { version: 7, digest: "5f".into() }),
        created_at: now(),
        updated_at: now(),
        revision: 1,
    }
}

pub fn recipient(name: &str) -> Recipient {
    Recipient {
        id: Uuid::now_v7(),
        name: Name::parse(NameKind::Recipient, name).unwrap(),
        state: RecipientState::Active.into(),
        spec: RecipientSpec {
            contacts: BTreeMap::from([("security".into(), "soc@example.org".into())]),
            properties: BTreeMap::from([
                ("plans".into(), json!(["gold", 1e16, 0.1, null, {"z": 1, "a": u64::MAX}])),
                ("region".into(), json!("\u{0}EU")),
            ]),
            allowed_cidrs: vec!["198.51.100.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
            delivery: Some(Delivery::Presigned.into()),
            limits: RecipientLimits {
                requests_per_minute: Some(600),
                concurrent_streams: None,
                bytes_per_day: Some(u64::MAX),
            },
            description: Some(String::new()),
            ..RecipientSpec::default()
        },
        created_at: now(),
        updated_at: now(),
        revision: 1,
    }
}

pub fn token(recipient: &Recipient) -> Token {
    Token {
        id: Uuid::now_v7(),
        recipient_id: recipient.id,
        credential: "default".into(),
        share_ids: vec![Uuid::now_v7()],
        allowed_cidrs: vec!["10.0.0.0/8".parse().unwrap()],
        created_at: now(),
        activated_at: Some(now()),
        expires_at: Some(days(30)),
        revoked_at: None,
        last_used_at: None,
        unused_until: None,
    }
}

pub fn grant(share: &Share, recipient: &Recipient) -> Grant {
    Grant {
        id: Uuid::now_v7(),
        share_id: share.id,
        recipient_id: recipient.id,
        valid_from: now(),
        valid_until: days(365),
        purpose: Some("fraud detection".into()),
        agreement: Some(Agreement {
            reference: "BAA-7".into(),
            sha256: Some("ab".into()),
            valid_until: Some(days(90)),
        }),
        agreements: vec![],
        granted_by: "ann".into(),
        created_at: now(),
        ending: None,
    }
}

/// An allowed query with an address.
pub fn event() -> Event {
    let id = Some(Uuid::now_v7());
    let actor = Actor { kind: ActorKind::Recipient, id, name: Some("acme".into()), ..Actor::ANONYMOUS };
    let personal = Personal {
        client_address: Some("198.51.100.7".into()),
        user_agent: Some("delta-sharing".into()),
        ..Personal::default()
    };
    Event { personal, ..Event::new(actor, Action::TableQuery) }
}

/// Stores a share and a recipient.
pub async fn insert_pair(db: &Db) -> (Share, Recipient) {
    let (share, recipient) = (share("claims"), recipient("acme"));
    let mut tx = db.begin().await.unwrap();
    tx.insert_declared(&share).await.unwrap();
    tx.insert_recipient(&recipient).await.unwrap();
    tx.commit().await.unwrap();
    (share, recipient)
}
