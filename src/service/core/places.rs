//! Limits how many requests are worked on at the same time: in total, per address, and per recipient.
//!
//! A request takes a place when it comes in, and leaves it when its answer begins. A request that only waits, for its
//! body or for copies, gives up its place meanwhile, so that it does not keep others out. Never here: how many requests
//! a recipient may send in a minute, or how many answers stream (see `rate_limiter`).

use std::{
    collections::HashMap,
    future::Future,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use uuid::Uuid;

use super::{error::ServiceError, rate_limiter::network};

/// How long a client should wait when its address has no place left, in seconds.
const WAIT_SECONDS: u64 = 5;

/// The numbers of places.
#[derive(Clone, Copy, Debug)]
pub struct PlaceLimits {
    /// In total.
    pub requests: usize,
    /// For one address; for IPv6, for its first 64 bits.
    pub per_address: usize,
    /// For one recipient, including requests that wait.
    pub per_recipient: usize,
    /// How long a request waits for a place: long enough for a burst to pass, and far shorter than clients' patience.
    pub patience: Duration,
}

/// All places of one face. Clones share them.
#[derive(Clone, Debug)]
pub struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    room: PlaceLimits,
    all: Arc<Semaphore>,
    addresses: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    recipients: Mutex<HashMap<Uuid, usize>>,
}

/// One request's place. Clones share it; the default is a place that is not counted.
#[derive(Clone, Debug, Default)]
pub struct Place(Option<Arc<Taken>>);

#[derive(Debug)]
struct Taken {
    places: Places,
    address: IpAddr,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    _all: OwnedSemaphorePermit,
    _address: OfAddress,
}

/// One of an address's places. An address without taken places is forgotten.
#[derive(Debug)]
struct OfAddress {
    places: Places,
    address: IpAddr,
    permit: Option<OwnedSemaphorePermit>,
}

/// Counts a request among its recipient's as long as this lives.
#[derive(Debug)]
pub struct Charged(Option<(Places, Uuid)>);

impl Places {
    /// Makes places with the limits `room`.
    pub fn new(room: PlaceLimits) -> Self {
        let all = Arc::new(Semaphore::new(room.requests.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Inner { room, all, addresses: Mutex::default(), recipients: Mutex::default() }))
    }

    /// Takes a place for a request from `address`; refuses the request if none becomes free soon.
    pub async fn enter(&self, address: IpAddr) -> Result<Place, ServiceError> {
        let address = network(address);
        let patience = self.0.room.patience;
        let of_address = timeout(patience, self.of_address(address)).await.map_err(|_| ServiceError::Limited {
            message: "too many requests from this address are being answered; wait, and send fewer at once".to_owned(),
            retry_after_seconds: WAIT_SECONDS,
        })?;
        let all = timeout(patience, self.of_all()).await.map_err(|_| ServiceError::Unavailable {
            what: "the server",
            source: "too many requests at once; see server.max_concurrent_requests".into(),
        })?;
        let held = Mutex::new(Some(Held { _all: all?, _address: of_address? }));
        Ok(Place(Some(Arc::new(Taken { places: self.clone(), address, held }))))
    }

    async fn of_all(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        Arc::clone(&self.0.all).acquire_owned().await.map_err(ServiceError::internal)
    }

    async fn of_address(&self, address: IpAddr) -> Result<OfAddress, ServiceError> {
        // Made first, so that the address is forgotten even if the wait for its place is abandoned.
        let mut place = OfAddress { places: self.clone(), address, permit: None };
        let most = self.0.room.per_address.min(Semaphore::MAX_PERMITS);
        let permits =
            Arc::clone(lock(&self.0.addresses).entry(address).or_insert_with(|| Arc::new(Semaphore::new(most))));
        place.permit = Some(permits.acquire_owned().await.map_err(ServiceError::internal)?);
        Ok(place)
    }
}

impl Place {
    /// Waits for `waiting` without holding the place, and takes a place again afterwards.
    pub async fn aside<T>(&self, waiting: impl Future<Output = T>) -> T {
        let mut waiting = std::pin::pin!(waiting);
        // A result that is ready needs no waiting.
        if let std::task::Poll::Ready(done) = futures::poll!(&mut waiting) {
            return done;
        }
        self.leave();
        let done = waiting.await;
        if let Some(taken) = &self.0 {
            taken.take_again().await;
        }
        done
    }

    /// Gives up the place.
    pub fn leave(&self) {
        if let Some(taken) = &self.0 {
            lock(&taken.held).take();
        }
    }

    /// Counts the request as `recipient_id`'s; returns `None` if as many as allowed are running.
    pub fn charge(&self, recipient_id: Uuid) -> Option<Charged> {
        let Some(taken) = &self.0 else { return Some(Charged(None)) };
        let places = &taken.places;
        let mut running = lock(&places.0.recipients);
        let count = running.entry(recipient_id).or_default();
        if *count >= places.0.room.per_recipient {
            return None;
        }
        *count += 1;
        drop(running);
        Some(Charged(Some((places.clone(), recipient_id))))
    }
}

impl Taken {
    /// Waits for a place; only the request's own time limit bounds the wait.
    async fn take_again(&self) {
        if let (Ok(address), Ok(all)) = (self.places.of_address(self.address).await, self.places.of_all().await) {
            *lock(&self.held) = Some(Held { _all: all, _address: address });
        }
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        self.permit.take();
        let mut addresses = lock(&self.places.0.addresses);
        // Every request that holds or awaits a place shares ownership of the semaphore.
        if addresses.get(&self.address).is_some_and(|permits| Arc::strong_count(permits) == 1) {
            addresses.remove(&self.address);
        }
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        let Some((places, recipient_id)) = &self.0 else { return };
        let mut running = lock(&places.0.recipients);
        if let Some(count) = running.get_mut(recipient_id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                running.remove(recipient_id);
            }
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const ROOM: PlaceLimits =
        PlaceLimits { requests: 3, per_address: 2, per_recipient: 2, patience: Duration::from_millis(1) };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[tokio::test]
    async fn one_address_leaves_places_to_others() {
        let places = Places::new(ROOM);
        let mut first = vec![places.enter(address(1)).await.unwrap(), places.enter(address(1)).await.unwrap()];
        assert!(matches!(places.enter(address(1)).await, Err(ServiceError::Limited { .. })));
        let other = places.enter(address(2)).await.unwrap();
        assert!(matches!(places.enter(address(3)).await, Err(ServiceError::Unavailable { .. })));
        other.leave();
        places.enter(address(3)).await.unwrap();
        first.pop();
        places.enter(address(1)).await.unwrap();
        drop(first);
        assert!(lock(&places.0.addresses).is_empty(), "an address without requests is forgotten");
    }

    #[tokio::test]
    async fn whoever_waits_keeps_nobody_out() {
        let places = Places::new(ROOM);
        let (arrived, arrives) = oneshot::channel();
        let first = places.enter(address(1)).await.unwrap();
        let waiting = tokio::spawn({
            let first = first.clone();
            async move { first.aside(arrives).await }
        });
        while is_held(&first) {
            tokio::task::yield_now().await;
        }
        let both = (places.enter(address(1)).await.unwrap(), places.enter(address(1)).await.unwrap());
        arrived.send(()).unwrap();
        drop(both);
        waiting.await.unwrap().unwrap();
        assert!(is_held(&first), "the place is taken again");
    }

    fn is_held(place: &Place) -> bool {
        lock(&place.0.as_ref().unwrap().held).is_some()
    }

    #[tokio::test]
    async fn a_recipient_has_so_many_requests_wherever_they_come_from() {
        let (places, recipient) = (Places::new(ROOM), Uuid::from_u128(1));
        let place = places.enter(address(1)).await.unwrap();
        let other = places.enter(address(2)).await.unwrap();
        let running = (place.charge(recipient).unwrap(), other.charge(recipient).unwrap());
        assert!(place.charge(recipient).is_none());
        assert!(place.charge(Uuid::from_u128(2)).is_some());
        drop(running);
        assert!(lock(&places.0.recipients).is_empty());
    }
}
