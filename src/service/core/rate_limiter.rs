//! Counts callers' actions, in the memory of this server only: failures by address and by token, refusals by recipient
//! and by operator, requests and streams by recipient.
//!
//! Windows are whole minutes. Memory is bounded: when a window is full, further keys are counted together. Never here:
//! the limits, which settings and recipients define; nor bytes, which are counted in the database (see `quota`).

use std::{
    borrow::Cow,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    config::SharingSettings,
    domain::{
        access::{
            limits::{day, ends_minute, minute},
            token::TokenHash,
        },
        audit::{Actor, Event, Outcome, action::Action, timestamp},
    },
};

/// How many addresses, tokens and recipients are counted separately in one minute.
const MOST_KEYS: usize = 20_000;
/// The action of the event that stands for many refusals.
const SUMMARY: Action = Action::RefusalsSummary;

/// The key by which refusals are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// An address; for IPv6 its first 64 bits, since a single host has all the rest.
    Address(IpAddr),
    /// A token that was presented, by a part of its hash.
    Token([u8; 16]),
    /// A recipient.
    Recipient(Uuid),
    /// An operator; the nil id stands for the bootstrap token.
    Operator(Uuid),
    /// An address that failed at activation.
    Activation(IpAddr),
    /// An address that sent a hook what was not signed, or not understood.
    Hook(IpAddr),
    /// An address that requested URLs which this server never sealed.
    File(IpAddr),
    /// All keys that no longer fit.
    Others,
}

/// Refusals of one key that are told as one: of the same action, for the same reason.
type Alike = (Key, Action, Option<Cow<'static, str>>);

/// A recipient that has used up its daily bytes.
#[derive(Clone, Copy, Debug)]
struct Spent {
    day: i64,
    /// The recipient's revision, which changes with its limits.
    revision: i64,
    /// The fewest bytes that were too many.
    bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    minute: i64,
    /// The number of refusals of each key in this minute.
    refusals: HashMap<Key, u64>,
    /// The first refusal that was not recorded separately, and the number of such refusals.
    summed: HashMap<Alike, (Event, u64)>,
    requests: HashMap<Uuid, u64>,
    streams: HashMap<Uuid, u64>,
    spent: HashMap<Uuid, Spent>,
}

/// Counts requests, streams and refusals in memory.
#[derive(Debug, Default)]
pub struct RateLimiter(Mutex<State>);

/// The limits on refusals.
#[derive(Clone, Copy, Debug)]
pub struct RateLimits {
    /// How many refusals of one key in a minute are recorded as separate events; the rest becomes one event.
    pub recorded: u64,
    /// How many refusals of one key in a minute are answered with their reason; the rest are answered 429.
    pub answered: u64,
}

/// A counted refusal, with how to handle it.
#[derive(Debug, Default)]
pub struct CountedRefusal {
    /// Whether to write its event, as one of the first of its minute.
    pub is_recorded: bool,
    /// Whether to answer 429 instead of the reason.
    pub is_limited: bool,
    /// Events that sum up the refusals of the previous minute.
    pub summaries: Vec<Event>,
}

/// Counts a recipient's answer as a stream as long as this lives.
#[derive(Debug)]
pub struct Stream {
    rate_limiter: Arc<RateLimiter>,
    recipient_id: Uuid,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.rate_limiter.lock();
        if let Some(running) = state.streams.get_mut(&self.recipient_id) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                state.streams.remove(&self.recipient_id);
            }
        }
    }
}

impl RateLimiter {
    /// Counts a failed authentication, whose event is `event`.
    pub fn authentication_failed(
        &self,
        address: IpAddr,
        token: Option<&TokenHash>,
        event: &Event,
        limits: RateLimits,
        now: DateTime<Utc>,
    ) -> CountedRefusal {
        let mut noted = self.note(Key::Address(network(address)), event, limits, now);
        if let Some(token) = token {
            let by_token = Key::Token(std::array::from_fn(|i| token.0[i]));
            noted.is_limited |= self.lock().count(by_token) > limits.answered;
        }
        noted
    }

    /// Counts a failed activation, separately from failed tokens.
    pub fn activation_failed(
        &self,
        address: IpAddr,
        event: &Event,
        limits: RateLimits,
        now: DateTime<Utc>,
    ) -> CountedRefusal {
        self.note(Key::Activation(network(address)), event, limits, now)
    }

    /// Counts a request for a file URL that was never sealed here, separately from failed tokens.
    pub fn unsealed(&self, address: IpAddr, event: &Event, limits: RateLimits, now: DateTime<Utc>) -> CountedRefusal {
        self.note(Key::File(network(address)), event, limits, now)
    }

    /// Returns whether an address has reached the limit of failed activations in this minute.
    pub fn activation_is_limited(&self, address: IpAddr, limits: RateLimits, now: DateTime<Utc>) -> bool {
        self.is_limited(Key::Activation(network(address)), limits, now)
    }

    /// Counts a message to a hook that was refused, separately from failed tokens.
    pub fn hook_refused(
        &self,
        address: IpAddr,
        event: &Event,
        limits: RateLimits,
        now: DateTime<Utc>,
    ) -> CountedRefusal {
        self.note(Key::Hook(network(address)), event, limits, now)
    }

    /// Returns whether an address has reached the limit of refused messages to hooks in this minute.
    pub fn hook_is_limited(&self, address: IpAddr, limits: RateLimits, now: DateTime<Utc>) -> bool {
        self.is_limited(Key::Hook(network(address)), limits, now)
    }

    fn is_limited(&self, key: Key, limits: RateLimits, now: DateTime<Utc>) -> bool {
        let state = self.lock();
        let failed = state.refusals.get(&key).copied().unwrap_or_default();
        state.minute == minute(now) && failed >= limits.answered
    }

    /// Counts a recipient's refusal, whatever its reason.
    pub fn recipient_refused(
        &self,
        recipient_id: Uuid,
        event: &Event,
        limits: RateLimits,
        now: DateTime<Utc>,
    ) -> CountedRefusal {
        self.note(Key::Recipient(recipient_id), event, limits, now)
    }

    /// Counts an operator's refusal.
    pub fn operator_refused(
        &self,
        operator_id: Uuid,
        event: &Event,
        limits: RateLimits,
        now: DateTime<Utc>,
    ) -> CountedRefusal {
        self.note(Key::Operator(operator_id), event, limits, now)
    }

    fn note(&self, key: Key, event: &Event, limits: RateLimits, now: DateTime<Utc>) -> CountedRefusal {
        let mut state = self.lock();
        let summaries = state.turn(now);
        let count = state.count(key);
        let is_recorded = count <= limits.recorded;
        if !is_recorded {
            state.sum(key, event);
        }
        CountedRefusal { is_recorded, is_limited: count > limits.answered, summaries }
    }

    /// Notes that `bytes` more exceeded a recipient's limit, at this revision, on the day of `now`. For a recipient
    /// that reads one URL, `recipient_id` is the URL's id.
    pub fn spent(&self, recipient_id: Uuid, revision: i64, bytes: u64, now: DateTime<Utc>) {
        let (mut state, day) = (self.lock(), day(now));
        if state.spent.len() >= MOST_KEYS {
            state.spent.retain(|_, spent| spent.day == day);
        }
        // The database is asked again about forgotten entries.
        if state.spent.len() >= MOST_KEYS {
            state.spent.clear();
        }
        let known = state.spent.get(&recipient_id).filter(|spent| (spent.day, spent.revision) == (day, revision));
        let bytes = known.map_or(bytes, |spent| spent.bytes.min(bytes));
        state.spent.insert(recipient_id, Spent { day, revision, bytes });
    }

    /// Returns whether so many bytes are known to exceed a recipient's limit today; the bytes issued in a day only
    /// grow.
    pub fn is_spent(&self, recipient_id: Uuid, revision: i64, bytes: u64, now: DateTime<Utc>) -> bool {
        let state = self.lock();
        let known = state.spent.get(&recipient_id);
        known.is_some_and(|spent| (spent.day, spent.revision) == (day(now), revision) && bytes >= spent.bytes)
    }

    /// Counts a recipient's request, and returns whether it is within `limit` per minute, with the summary events that
    /// are due.
    pub fn request(&self, recipient_id: Uuid, limit: u64, now: DateTime<Utc>) -> (bool, Vec<Event>) {
        let mut state = self.lock();
        let summaries = state.turn(now);
        let count = state.requests.entry(recipient_id).or_default();
        *count += 1;
        (*count <= limit, summaries)
    }

    /// Begins a stream to a recipient; returns `None` if `limit` streams are running.
    pub fn begin_stream(self: &Arc<Self>, recipient_id: Uuid, limit: u64) -> Option<Stream> {
        let mut state = self.lock();
        let running = state.streams.entry(recipient_id).or_default();
        if *running >= limit {
            return None;
        }
        *running += 1;
        drop(state);
        Some(Stream { rate_limiter: Arc::clone(self), recipient_id })
    }

    /// Returns the events that sum up the refusals of past minutes, and with `all` also those of the current minute.
    pub fn summaries(&self, now: DateTime<Utc>, all: bool) -> Vec<Event> {
        let mut state = self.lock();
        let mut summaries = state.turn(now);
        if all {
            summaries.extend(state.take_summaries());
        }
        summaries
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Begins a new minute if the last one is over, and returns the summary events of the last one.
    fn turn(&mut self, now: DateTime<Utc>) -> Vec<Event> {
        let current = minute(now);
        if !ends_minute(self.minute, current) {
            return Vec::new();
        }
        let summaries = self.take_summaries();
        self.refusals.clear();
        self.requests.clear();
        self.minute = current;
        summaries
    }

    fn take_summaries(&mut self) -> Vec<Event> {
        let since = DateTime::from_timestamp(self.minute.saturating_mul(60), 0).unwrap_or_default();
        let summed = std::mem::take(&mut self.summed).into_values();
        summed.map(|(event, count)| summary(event, count, since)).collect()
    }

    fn count(&mut self, key: Key) -> u64 {
        let known = self.refusals.contains_key(&key) || self.refusals.len() < MOST_KEYS;
        let count = self.refusals.entry(if known { key } else { Key::Others }).or_default();
        *count += 1;
        *count
    }

    /// Adds a refusal to its summary. When there is no more room, the refusal is summed up without its caller.
    fn sum(&mut self, key: Key, event: &Event) {
        let alike = |key| (key, event.action, event.reason.clone());
        let fits = self.refusals.contains_key(&key)
            && (self.summed.len() < MOST_KEYS || self.summed.contains_key(&alike(key)));
        let (key, of) = match fits {
            true => (key, event.clone()),
            false => {
                let nobody = Event::new(Actor::ANONYMOUS, event.action);
                (Key::Others, Event { reason: event.reason.clone(), ..nobody })
            }
        };
        self.summed.entry(alike(key)).or_insert((of, 0)).1 += 1;
    }
}

/// Makes the event that sums up `count` refusals like `event`.
fn summary(event: Event, count: u64, since: DateTime<Utc>) -> Event {
    let change = json!({"refused": event.action, "count": count, "minute": timestamp(since)});
    Event {
        decision: Outcome::Deny,
        reason: event.reason,
        recipient: event.recipient,
        recipient_id: event.recipient_id,
        personal: event.personal,
        change: Some(change),
        ..Event::new(event.actor, SUMMARY)
    }
}

/// Returns the part of an address that identifies a caller: for IPv6 the first 64 bits, since a single host has all the
/// rest.
pub(in crate::service) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & (u128::MAX << 64))),
    }
}

impl RateLimits {
    /// How many failed authentications of one address in a minute are recorded, and answered with their reason.
    pub fn of_failures(settings: &SharingSettings) -> Self {
        Self { recorded: settings.failures_recorded_per_minute, answered: settings.failures_per_minute }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_LIMITS: RateLimits = RateLimits { recorded: 2, answered: 3 };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_040 + seconds, 0).unwrap()
    }

    fn event() -> Event {
        Event::new(Actor::ANONYMOUS, Action::SharesList)
    }

    #[test]
    fn a_flood_becomes_one_event_an_address_and_minute() {
        let meter = RateLimiter::default();
        let fail = |address: &str, seconds| {
            let noted = meter.authentication_failed(address.parse().unwrap(), None, &event(), RATE_LIMITS, at(seconds));
            (noted.is_recorded, noted.is_limited, noted.summaries.len())
        };
        assert_eq!(fail("192.0.2.1", 0), (true, false, 0));
        assert_eq!(fail("192.0.2.1", 1), (true, false, 0));
        assert_eq!(fail("192.0.2.1", 2), (false, false, 0));
        assert_eq!(fail("192.0.2.1", 3), (false, true, 0));
        assert_eq!(fail("192.0.2.2", 4), (true, false, 0), "another address");
        assert_eq!(fail("192.0.2.1", 60), (true, false, 1), "another minute");
        let left = meter.summaries(at(61), true);
        assert!(left.is_empty(), "nothing was left out in this minute");
    }

    #[test]
    fn refusals_of_one_recipient_are_summed_by_action_and_reason() {
        let (meter, id) = (RateLimiter::default(), Uuid::from_u128(1));
        let refused = |action: Action, reason: &'static str| {
            let event = Event { reason: Some(reason.into()), ..Event::new(Actor::ANONYMOUS, action) };
            meter.recipient_refused(id, &event, RATE_LIMITS, at(0)).is_recorded
        };
        let recorded: Vec<bool> = (0..4).map(|_| refused(Action::TableQuery, "TABLE_NOT_FOUND")).collect();
        assert_eq!(recorded, [true, true, false, false]);
        assert!(!refused(Action::TableVersion, "TABLE_NOT_FOUND") && !refused(Action::TableQuery, "GRANT_REVOKED"));
        let mut summed: Vec<_> = meter
            .summaries(at(60), false)
            .iter()
            .map(|event| {
                let change = event.change.as_ref().unwrap();
                (change["refused"].to_string(), event.reason.clone().unwrap(), change["count"].as_u64().unwrap())
            })
            .collect();
        summed.sort();
        let query = "\"table.query\"".to_owned();
        assert_eq!(
            summed,
            [
                (query.clone(), "GRANT_REVOKED".into(), 1),
                (query, "TABLE_NOT_FOUND".into(), 2),
                ("\"table.version\"".to_owned(), "TABLE_NOT_FOUND".into(), 1)
            ]
        );
    }

    #[test]
    fn what_was_too_much_today_stays_so_until_tomorrow_or_another_limit() {
        let (meter, id) = (RateLimiter::default(), Uuid::from_u128(1));
        let spent = |revision, bytes, seconds| meter.is_spent(id, revision, bytes, at(seconds));
        assert!(!spent(1, 100, 0));
        meter.spent(id, 1, 100, at(0));
        assert!(spent(1, 100, 1) && spent(1, 101, 1) && !spent(1, 99, 1));
        assert!(!spent(2, 100, 1) && !spent(1, 100, 86_400));
    }

    #[test]
    fn a_summary_says_how_many_it_stands_for() {
        let meter = RateLimiter::default();
        for _ in 0..7 {
            meter.authentication_failed("192.0.2.1".parse().unwrap(), None, &event(), RATE_LIMITS, at(0));
        }
        assert!(meter.summaries(at(59), false).is_empty());
        let summaries = meter.summaries(at(60), false);
        assert_eq!(summaries.len(), 1);
        assert_eq!(summaries[0].action, Action::RefusalsSummary);
        assert_eq!(summaries[0].change.as_ref().unwrap()["count"], 5);
    }

    #[test]
    fn a_token_is_limited_wherever_it_comes_from() {
        let meter = RateLimiter::default();
        let hash = TokenHash([7; 32]);
        let fail = |i: u8| {
            let address = IpAddr::from([192, 0, 2, i]);
            meter.authentication_failed(address, Some(&hash), &event(), RATE_LIMITS, at(0)).is_limited
        };
        assert_eq!([fail(1), fail(2), fail(3), fail(4)], [false, false, false, true]);
    }

    #[test]
    fn an_ipv6_host_cannot_hide_in_its_network() {
        let meter = RateLimiter::default();
        let limited: Vec<bool> = (0..4)
            .map(|i| {
                let address = format!("2001:db8::{i}").parse().unwrap();
                meter.authentication_failed(address, None, &event(), RATE_LIMITS, at(0)).is_limited
            })
            .collect();
        assert_eq!(limited, [false, false, false, true]);
    }

    #[test]
    fn memory_is_bounded_and_what_does_not_fit_is_counted_together() {
        let meter = RateLimiter::default();
        for i in 0..u32::try_from(MOST_KEYS + 10).unwrap() {
            meter.authentication_failed(IpAddr::from(i.to_be_bytes()), None, &event(), RATE_LIMITS, at(0));
        }
        assert_eq!(meter.lock().refusals.len(), MOST_KEYS + 1);
        assert_eq!(meter.summaries(at(60), false).len(), 1);
    }

    #[test]
    fn requests_are_counted_by_the_minute_and_streams_while_they_run() {
        let (meter, id) = (Arc::new(RateLimiter::default()), Uuid::from_u128(1));
        let request = |seconds| meter.request(id, 2, at(seconds)).0;
        assert_eq!([request(0), request(1), request(2), request(60)], [true, true, false, true]);

        let first = meter.begin_stream(id, 1);
        assert!(first.is_some() && meter.begin_stream(id, 1).is_none());
        assert!(meter.begin_stream(Uuid::from_u128(2), 1).is_some());
        drop(first);
        assert!(meter.begin_stream(id, 1).is_some());
    }
}
