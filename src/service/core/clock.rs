//! The clock for use cases; nothing below the front ends reads another one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// How far a clock may go back without a warning; time synchronisation moves clocks by less.
const UNTOLD: TimeDelta = TimeDelta::seconds(2);

/// Tells the time: the system's in production, a test's own in tests.
#[derive(Clone)]
pub struct Clock {
    read: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    /// The latest time seen, in microseconds since 1970; 0 before the first check.
    latest: Arc<AtomicI64>,
}

/// Moves a [`Clock::driven`] clock.
#[derive(Clone, Debug, Default)]
pub struct Hands(Arc<AtomicI64>);

impl Hands {
    /// Lets time pass at once.
    pub fn advance(&self, span: TimeDelta) {
        self.0.fetch_add(span.num_microseconds().unwrap_or(0), Ordering::SeqCst);
    }
}

impl Clock {
    /// Makes the system's clock.
    pub fn system() -> Self {
        Self::new(Utc::now)
    }

    /// Makes a clock that calls `now`.
    pub fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(now), latest: Arc::default() }
    }

    /// Makes a clock that runs with the system's but can be moved by its hands.
    pub fn driven() -> (Self, Hands) {
        let hands = Hands::default();
        let moved = Arc::clone(&hands.0);
        (Self::new(move || Utc::now() + TimeDelta::microseconds(moved.load(Ordering::SeqCst))), hands)
    }

    /// Returns the time, cut to microseconds, the precision of both databases.
    pub fn now(&self) -> DateTime<Utc> {
        (self.read)().trunc_subsecs(6)
    }

    /// Whether no time was looked at yet.
    pub(super) fn is_unseen(&self) -> bool {
        self.latest.load(Ordering::SeqCst) == 0
    }

    /// Takes a time into account that was seen elsewhere.
    pub(super) fn see(&self, at: Option<DateTime<Utc>>) {
        self.latest.fetch_max(at.map_or(0, |at| at.timestamp_micros()), Ordering::SeqCst);
    }

    /// Returns how far the clock went back since the last call, if it did.
    pub(super) fn find_step_back(&self) -> Option<TimeDelta> {
        let now = self.now();
        let before = self.latest.swap(now.timestamp_micros(), Ordering::SeqCst);
        let back = DateTime::from_timestamp_micros(before)? - now;
        (back > UNTOLD).then_some(back)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
