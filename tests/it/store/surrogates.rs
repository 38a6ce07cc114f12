//! Surrogates: drawn once for each value, never twice the same, and gone when their recipient is.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicU64, Ordering},
};

use uuid::Uuid;
use weir::store::{Db, Drawn, SURROGATE_BATCH, SurrogateRequest, SurrogateStore};

use super::samples::now;
use crate::support::postgres::TestDatabase;

const ACME: Uuid = Uuid::from_u128(1);
const RIVAL: Uuid = Uuid::from_u128(2);
const VIEW: Uuid = Uuid::from_u128(3);

fn digests(of: std::ops::Range<u128>) -> Vec<Uuid> {
    of.map(Uuid::from_u128).collect()
}

fn random() -> Uuid {
    Uuid::new_v4()
}

fn request(set_id: Uuid, digests: &[Uuid], most: u64) -> SurrogateRequest<'_> {
    SurrogateRequest { set_id, view_id: VIEW, digests, most }
}

async fn set(store: &SurrogateStore, recipient: Uuid) -> Uuid {
    store.set_of(recipient, now()).await.unwrap().id
}

async fn draw(store: &SurrogateStore, set_id: Uuid, digests: &[Uuid]) -> (BTreeMap<Uuid, Uuid>, u64) {
    match store.draw(request(set_id, digests, u64::MAX), now(), random).await.unwrap() {
        Drawn::All { pairs, new } => (pairs.into_iter().collect(), new),
        other => panic!("{other:?}"),
    }
}

async fn delete_all(store: &SurrogateStore) -> u64 {
    let mut rounds = 0;
    while store.delete_ended().await.unwrap() > 0 {
        rounds += 1;
    }
    rounds
}

#[tokio::test]
async fn a_value_keeps_its_surrogate_and_no_two_share_one() {
    for db in TestDatabase::each().await {
        let store = SurrogateStore::beside(&db);
        let acme = set(&store, ACME).await;
        assert_eq!(set(&store, ACME).await, acme);
        let many = 3 * SURROGATE_BATCH as u128 + 7;
        let (first, new) = draw(&store, acme, &digests(0..many)).await;
        assert_eq!((first.len() as u128, u128::from(new)), (many, many));
        assert_eq!(first.values().collect::<BTreeSet<_>>().len(), first.len());
        // By another server, with some more.
        let other = SurrogateStore::beside(&db);
        let (again, new) = draw(&other, set(&other, ACME).await, &digests(0..many + 2)).await;
        assert_eq!(new, 2);
        assert!(first.iter().all(|(digest, random)| again[digest] == *random));
        // The same digests of another recipient stand for something else.
        let (theirs, _) = draw(&store, set(&store, RIVAL).await, &digests(0..many)).await;
        assert!(theirs.iter().all(|(digest, random)| first[digest] != *random));
    }
}

#[tokio::test]
async fn servers_that_draw_at_the_same_time_use_what_one_of_them_drew() {
    for db in TestDatabase::each().await {
        let (one, other) = (SurrogateStore::beside(&db), SurrogateStore::beside(&db));
        // On SQLite one server makes the file; there are several only in tests.
        set(&one, RIVAL).await;
        let (here, there) = tokio::join!(set(&one, ACME), set(&other, ACME));
        assert_eq!(here, there);
        let (up, mut down) = (digests(0..2_000), digests(0..2_000));
        down.reverse();
        let ((mine, drew), (theirs, drew_too)) = tokio::join!(draw(&one, here, &up), draw(&other, there, &down));
        assert_eq!(mine, theirs);
        assert_eq!(drew + drew_too, 2_000);
    }
}

#[tokio::test]
async fn random_bytes_that_are_taken_are_drawn_again() {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    /// Gives each number twice in a row.
    fn repeating() -> Uuid {
        Uuid::from_u128((NEXT.fetch_add(1, Ordering::Relaxed) / 2).into())
    }
    for db in TestDatabase::each().await {
        let store = SurrogateStore::beside(&db);
        let acme = set(&store, ACME).await;
        for digest in digests(0..3) {
            store.draw(request(acme, &[digest], u64::MAX), now(), repeating).await.unwrap();
        }
        let (pairs, new) = draw(&store, acme, &digests(0..3)).await;
        assert_eq!((pairs.values().collect::<BTreeSet<_>>().len(), new), (3, 0));
        // Bytes that never become others end in an error, not in a surrogate of two values.
        let stuck = store.draw(request(acme, &digests(7..9), u64::MAX), now(), || Uuid::from_u128(u128::MAX)).await;
        assert!(stuck.is_err(), "{stuck:?}");
        let (_, new) = draw(&store, acme, &digests(7..9)).await;
        assert_eq!(new, 2);
    }
}

#[tokio::test]
async fn a_view_draws_no_more_than_it_may_for_all_recipients_together() {
    for db in TestDatabase::each().await {
        let store = SurrogateStore::beside(&db);
        let (acme, rival) = (set(&store, ACME).await, set(&store, RIVAL).await);
        let all = |drawn: Drawn| matches!(drawn, Drawn::All { .. });
        assert!(all(store.draw(request(acme, &digests(0..6), 10), now(), random).await.unwrap()));
        let refused = store.draw(request(rival, &digests(0..6), 10), now(), random).await.unwrap();
        assert_eq!(refused, Drawn::TooMany);
        // What was refused was not kept, and what is there needs no room.
        assert!(all(store.draw(request(rival, &digests(0..4), 10), now(), random).await.unwrap()));
        assert!(all(store.draw(request(acme, &digests(0..6), 10), now(), random).await.unwrap()));
        assert_eq!(store.draw(request(acme, &digests(6..7), 10), now(), random).await.unwrap(), Drawn::TooMany);
        // An end makes room.
        assert!(store.end_set(rival, now()).await.unwrap());
        delete_all(&store).await;
        assert!(all(store.draw(request(acme, &digests(6..10), 10), now(), random).await.unwrap()));
    }
}

#[tokio::test]
async fn a_set_that_ended_is_deleted_and_never_used_again() {
    for db in TestDatabase::each().await {
        let store = SurrogateStore::beside(&db);
        let acme = set(&store, ACME).await;
        let (before, _) = draw(&store, acme, &digests(0..20)).await;
        assert_eq!(store.list_sets(10).await.unwrap().len(), 1);
        assert!(store.end_set(acme, now()).await.unwrap() && !store.end_set(acme, now()).await.unwrap());
        for some in [digests(0..20), digests(20..21)] {
            assert_eq!(store.draw(request(acme, &some, 99), now(), random).await.unwrap(), Drawn::Ended);
        }
        assert!(store.list_sets(10).await.unwrap().is_empty());
        // Whoever comes back gets others.
        let next = set(&store, ACME).await;
        assert_ne!(next, acme);
        let (after, new) = draw(&store, next, &digests(0..20)).await;
        assert!(new == 20 && before.iter().all(|(digest, random)| after[digest] != *random));
        assert_eq!(delete_all(&store).await, 2);
        assert_eq!(draw(&store, next, &digests(0..20)).await, (after, 0));
    }
}

#[tokio::test]
async fn on_sqlite_surrogates_are_in_a_private_file_that_is_made_when_one_is_drawn() {
    let database = TestDatabase::sqlite().await;
    let file = SurrogateStore::file_of(&database.file().unwrap());
    let store = SurrogateStore::beside(&database);
    assert!(store.list_sets(10).await.unwrap().is_empty() && store.delete_ended().await.unwrap() == 0);
    assert!(!file.exists());
    let acme = set(&store, ACME).await;
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // Neither waits for the other.
    let held: &Db = &database;
    let tx = held.begin().await.unwrap();
    draw(&store, acme, &digests(0..10)).await;
    drop(tx);
    store.close().await;
    // It is opened again as it was.
    assert_eq!(draw(&store, acme, &digests(0..10)).await.1, 0);
}
