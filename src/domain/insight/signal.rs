//! Defines signals: what operators are told without asking.
//!
//! Holds the kinds of signals, when an end is near enough to tell, and what counts as a network. Never here: who is
//! told, or how.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::domain::audit::timestamp;

/// The kind of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignalKind {
    /// A recipient's token ends soon and has no successor.
    TokenEnding,
    /// A grant ends soon and has no successor.
    GrantEnding,
    /// The agreement behind a grant ends soon.
    AgreementEnding,
    /// A recipient read from a network for the first time.
    NetworkFirstSeen,
    /// A caller was refused more often than the settings allow.
    DenialsBurst,
    /// The audit trail was not sealed or exported in time.
    CheckpointLate,
    /// The recipients of an object do not get their table's newest version because of its schema.
    SchemaHold,
    /// A recipient sees no row of a view because of its properties.
    ViewWithoutRows,
    /// The owner of a table cannot answer any more.
    TableOwnerless,
    /// Everything was frozen.
    FreezeCreate,
    /// A freeze was lifted.
    FreezeLift,
    /// An operator tests whether signals arrive.
    TestPing,
}

impl SignalKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::TokenEnding,
        Self::GrantEnding,
        Self::AgreementEnding,
        Self::NetworkFirstSeen,
        Self::DenialsBurst,
        Self::CheckpointLate,
        Self::SchemaHold,
        Self::ViewWithoutRows,
        Self::TableOwnerless,
        Self::FreezeCreate,
        Self::FreezeLift,
        Self::TestPing,
    ];

    /// The word for the kind in the database, and the `type` of the message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenEnding => "token.ending",
            Self::GrantEnding => "grant.ending",
            Self::AgreementEnding => "agreement.ending",
            Self::NetworkFirstSeen => "network.first_seen",
            Self::DenialsBurst => "denials.burst",
            Self::CheckpointLate => "checkpoint.late",
            Self::SchemaHold => "schema.hold",
            Self::ViewWithoutRows => "view.without_rows",
            Self::TableOwnerless => "table.ownerless",
            Self::FreezeCreate => "freeze.create",
            Self::FreezeLift => "freeze.lift",
            Self::TestPing => "test.ping",
        }
    }

    /// Parses the word of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A signal. Signals with the same kind, subject and mark are told once.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// The kind.
    pub kind: SignalKind,
    /// The thing that it is about.
    pub subject: String,
    /// Distinguishes it from earlier signals of the same kind and subject.
    pub mark: String,
    /// The content for receivers: names, ids and times, never a secret.
    pub data: Value,
}

impl Signal {
    /// Writes the message's body, with the time `at`.
    pub fn body(&self, at: DateTime<Utc>) -> String {
        json!({"type": self.kind.as_str(), "timestamp": timestamp(at), "data": self.data}).to_string()
    }
}

/// How many days before an end notices are given, nearest first.
const ENDING_DAYS: [i64; 3] = [1, 7, 14];

/// The longest notice before an end.
pub fn longest_notice() -> TimeDelta {
    ENDING_DAYS.into_iter().map(TimeDelta::days).max().unwrap_or_default()
}

/// Returns how many days of notice are due at `now`: the smallest of 14, 7 and 1 that has been reached. `None` if it
/// has ended, or if it was made with less time than that: then no notice is needed.
pub fn days_of_notice(began_at: DateTime<Utc>, ends_at: DateTime<Utc>, now: DateTime<Utc>) -> Option<i64> {
    let left = ends_at - now;
    let due = ENDING_DAYS.into_iter().find(|days| left <= TimeDelta::days(*days))?;
    (left > TimeDelta::zero() && ends_at - began_at >= TimeDelta::days(due)).then_some(due)
}

/// Returns the network that an address counts as: its /24, or for IPv6 its /48, which is what one site usually has. A
/// smaller network could identify a person.
pub fn network_of(address: IpAddr) -> IpNet {
    let address = address.to_canonical();
    let prefix = if address.is_ipv4() { 24 } else { 48 };
    // Both lengths are valid for their addresses.
    IpNet::new(address, prefix).map_or_else(|_| IpNet::from(address), |network| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000, 0).unwrap() + TimeDelta::days(days)
    }

    #[test]
    fn the_nearest_notice_that_has_come_is_due() {
        let due = |now| days_of_notice(at(0), at(30), now);
        assert_eq!(due(at(15)), None);
        assert_eq!(due(at(16)), Some(14));
        assert_eq!(due(at(22)), Some(14));
        assert_eq!(due(at(23)), Some(7));
        assert_eq!(due(at(28)), Some(7));
        assert_eq!(due(at(29)), Some(1));
        assert_eq!(due(at(30) - TimeDelta::seconds(1)), Some(1));
        assert_eq!(due(at(30)), None, "it is over");
    }

    #[test]
    fn what_was_made_shorter_than_a_notice_skips_it() {
        let due = |now| days_of_notice(at(0), at(5), now);
        assert_eq!((due(at(0)), due(at(4))), (None, Some(1)));
        assert_eq!(days_of_notice(at(0), at(0) + TimeDelta::hours(3), at(0)), None);
    }

    #[test]
    fn networks_are_sites() {
        let network = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(network("198.51.100.7"), "198.51.100.0/24");
        assert_eq!(network("::ffff:198.51.100.7"), "198.51.100.0/24");
        assert_eq!(network("2001:db8:1:2::3"), "2001:db8:1::/48");
    }

    #[test]
    fn kinds_are_read_back() {
        for kind in SignalKind::ALL {
            assert_eq!(SignalKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(SignalKind::parse("token.ended"), None);
    }
}
