//! Roll-ups of the trail: added once however many count, put together as they are asked for, and erased at their age.

use uuid::Uuid;
use weir::{
    domain::insight::usage::Usage,
    store::{Db, StoreError, UsageFilter, UsageGroup, UsageKey, UsageKeys, UsagePeriod, UsageSums},
};

use crate::support::postgres::TestDatabase;

const ACME: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const SHARE: Uuid = Uuid::from_u128(3);
const TABLE: Uuid = Uuid::from_u128(4);
/// The first hour of a day.
const DAY: i64 = 24 * 20_000;

fn key(period: UsagePeriod, start: i64, recipient_id: Uuid) -> UsageKey {
    UsageKey { period, start: period.start_of(start), recipient_id, share_id: SHARE, object_id: TABLE }
}

fn usage(requests: i64, bytes_delivered: Option<i64>) -> Usage {
    let mut latency = [0; 10];
    latency[2] = requests;
    Usage { events: requests + 1, requests, bytes_issued: 10, bytes_delivered, latency, ..Usage::default() }
}

/// What a recipient did in an hour, from these addresses.
fn sums(start: i64, recipient_id: Uuid, usage: Usage, addresses: &[u8]) -> UsageSums {
    let keys = UsagePeriod::ALL.map(|period| key(period, start, recipient_id));
    let of = |key: UsageKey| addresses.iter().map(move |address| (key, [*address; 16]));
    UsageSums {
        counts: keys.map(|key| (key, usage)).to_vec(),
        addresses: keys.into_iter().flat_map(of).collect(),
        names: vec![(recipient_id, format!("recipient {start}")), (SHARE, "insurer".into()), (TABLE, "s.t".into())],
    }
}

async fn add(db: &Db, from: i64, to: i64, sums: &UsageSums) {
    let mut tx = db.begin().await.unwrap();
    tx.add_usage(from, to, sums).await.unwrap();
    tx.commit().await.unwrap();
}

fn filter(period: UsagePeriod, keys: UsageKeys) -> UsageFilter {
    UsageFilter { period, recipient_id: None, share_id: None, object_id: None, since: None, until: None, keys }
}

async fn list(db: &Db, filter: &UsageFilter) -> Vec<UsageGroup> {
    db.list_usage(filter, None, 100).await.unwrap()
}

#[tokio::test]
async fn a_stretch_of_the_trail_is_added_once() {
    for db in TestDatabase::each().await {
        let none = db.find_usage_progress().await.unwrap();
        assert_eq!((none.seq, none.address_key), (0, None));
        let one = sums(DAY, ACME, usage(3, None), &[1]);
        add(&db, 0, 10, &one).await;
        let mut tx = db.begin().await.unwrap();
        assert!(matches!(tx.add_usage(0, 10, &one).await, Err(StoreError::Stale)), "another has counted it");
        drop(tx);
        assert_eq!(db.find_usage_progress().await.unwrap().seq, 10);
        let hours = filter(UsagePeriod::Hour, UsageKeys::default());
        assert_eq!(list(&db, &hours).await[0].usage, usage(3, None));
        let mut tx = db.begin().await.unwrap();
        tx.set_address_key(&[7; 32]).await.unwrap();
        tx.set_address_key(&[8; 32]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.find_usage_progress().await.unwrap().address_key, Some([7; 32]), "the first one stays");
    }
}

#[tokio::test]
async fn sums_are_put_together_as_they_are_asked_for() {
    for db in TestDatabase::each().await {
        add(&db, 0, 1, &sums(DAY, ACME, usage(3, None), &[1, 2])).await;
        add(&db, 1, 2, &sums(DAY, ACME, usage(1, Some(5)), &[2])).await;
        add(&db, 2, 3, &sums(DAY + 1, ACME, usage(2, Some(6)), &[2, 3])).await;
        add(&db, 3, 4, &sums(DAY + 30, OTHER, usage(4, None), &[])).await;
        let keys = UsageKeys { recipient: true, ..UsageKeys::default() };
        let by_recipient = list(&db, &filter(UsagePeriod::Hour, keys)).await;
        let told: Vec<_> = by_recipient
            .iter()
            .map(|group| (group.recipient_id, group.usage.requests, group.usage.bytes_delivered, group.addresses))
            .collect();
        assert_eq!(told, [(Some(ACME), 6, Some(11), Some(3)), (Some(OTHER), 4, None, Some(0))]);
        assert_eq!(by_recipient[0].recipient.as_deref(), Some("recipient 480001"), "its last name");
        assert_eq!((by_recipient[0].share_id, by_recipient[0].start), (None, None));
        assert_eq!(by_recipient[0].usage.latency[2], 6);

        let keys = UsageKeys { period: Some(UsagePeriod::Hour), share: true, object: true, ..UsageKeys::default() };
        let by_hour = list(&db, &filter(UsagePeriod::Hour, keys)).await;
        let starts: Vec<_> = by_hour.iter().map(|group| group.start).collect();
        assert_eq!(starts, [Some(DAY), Some(DAY + 1), Some(DAY + 30)]);
        assert_eq!((by_hour[0].share.as_deref(), by_hour[0].object.as_deref()), (Some("insurer"), Some("s.t")));
        let last = UsageKey { share_id: SHARE, object_id: TABLE, ..key(UsagePeriod::Hour, DAY + 1, Uuid::nil()) };
        let rest = db.list_usage(&filter(UsagePeriod::Hour, keys), Some(&last), 9).await.unwrap();
        assert_eq!(rest, by_hour[2..]);

        let keys = UsageKeys { period: Some(UsagePeriod::Day), ..UsageKeys::default() };
        let days = list(&db, &filter(UsagePeriod::Day, keys)).await;
        assert_eq!(
            days.iter().map(|day| (day.start, day.usage.requests)).collect::<Vec<_>>(),
            [(Some(DAY), 6), (Some(DAY + 24), 4)]
        );
        let one = UsageFilter {
            recipient_id: Some(ACME),
            since: Some(DAY + 1),
            until: Some(DAY + 2),
            ..filter(UsagePeriod::Hour, UsageKeys::default())
        };
        assert_eq!(list(&db, &one).await[0].usage.requests, 2);
        assert!(list(&db, &UsageFilter { share_id: Some(ACME), ..one }).await.is_empty(), "there is nothing to sum");
        let day = db.find_usage_day(DAY).await.unwrap();
        assert_eq!((day.in_trail, day.in_days, day.in_hours, day.through_seq), (0, 9, 9, 4));
    }
}

#[tokio::test]
async fn addresses_and_hours_go_and_days_stay() {
    for db in TestDatabase::each().await {
        add(&db, 0, 1, &sums(DAY, ACME, usage(3, None), &[1])).await;
        add(&db, 1, 2, &sums(DAY + 48, ACME, usage(1, None), &[1, 2])).await;
        let later = DAY + 24;
        assert!(db.find_usage_erasable(later).await.unwrap() && db.find_hours_before(later).await.unwrap());
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.delete_usage_addresses(later).await.unwrap(), 2, "the hour's and the day's");
        assert_eq!(tx.delete_usage_hours(later).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert!(!db.find_usage_erasable(later).await.unwrap() && !db.find_hours_before(later).await.unwrap());
        let progress = db.find_usage_progress().await.unwrap();
        assert_eq!((progress.addresses_from, progress.hours_from), (later, later));
        let keys = UsageKeys { period: Some(UsagePeriod::Day), ..UsageKeys::default() };
        let days = list(&db, &filter(UsagePeriod::Day, keys)).await;
        let told: Vec<_> = days.iter().map(|day| (day.usage.requests, day.addresses)).collect();
        assert_eq!(told, [(3, Some(1)), (1, Some(2))], "a sum by itself knows its number for ever");
        let all = list(&db, &filter(UsagePeriod::Day, UsageKeys::default())).await;
        assert_eq!((all[0].usage.requests, all[0].addresses), (4, None), "not known is not zero");
    }
}
