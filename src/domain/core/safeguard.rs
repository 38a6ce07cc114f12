//! Safeguards: settings that restrict sharing and may be off, and since when they are.
//!
//! Never here: which settings these are, which the configuration says, nor what they restrict.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A setting that restricts sharing, as this server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Safeguard {
    /// The setting's key: `sharing.raw`.
    pub setting: &'static str,
    /// Its value, as it would be written.
    pub value: String,
    /// Whether it restricts nothing with this value.
    pub is_off: bool,
}

impl Safeguard {
    /// A setting that is `true` or `false`.
    pub fn flag(setting: &'static str, is_on: bool) -> Self {
        Self { setting, value: is_on.to_string(), is_off: !is_on }
    }

    /// A setting with a word for its value.
    pub fn word(setting: &'static str, value: &str, is_off: bool) -> Self {
        Self { setting, value: value.to_owned(), is_off }
    }
}

/// A value that a safeguard had from a start of a server on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeguardRecord {
    /// The setting's key, which a newer server may know alone.
    pub setting: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The value.
    pub value: String,
    /// Whether it restricts nothing.
    pub is_off: bool,
}

/// A period in which a safeguard was off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafeguardOff {
    /// The setting's key.
    pub setting: String,
    /// Its value.
    pub value: String,
    /// Since when; the first start that recorded it, if it was off before.
    pub since: DateTime<Utc>,
    /// Until when; `None` if it still is.
    pub until: Option<DateTime<Utc>>,
}

/// The periods of these records, ordered by setting and time, in which safeguards were off between two times.
pub fn off_between(records: &[SafeguardRecord], from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<SafeguardOff> {
    let periods = records.iter().enumerate().filter(|(_, record)| record.is_off && record.since < to);
    let periods = periods.map(|(at, SafeguardRecord { setting, since, value, .. })| {
        let next = records.get(at + 1).filter(|next| next.setting == *setting);
        let until = next.map(|next| next.since);
        SafeguardOff { setting: setting.clone(), value: value.clone(), since: *since, until }
    });
    periods.filter(|off| off.until.is_none_or(|until| until > from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + day * 86_400, 0).unwrap()
    }

    #[test]
    fn what_was_off_in_a_month_is_told_with_its_beginning_and_end() {
        let record = |setting: &str, day, value: &str, is_off| SafeguardRecord {
            setting: setting.to_owned(),
            since: at(day),
            value: value.to_owned(),
            is_off,
        };
        let records = [
            record("a", 0, "off", true),
            record("a", 10, "on", false),
            record("a", 20, "off", true),
            record("b", 5, "allow", true),
            record("c", 5, "true", false),
        ];
        let told = |from, to| {
            let off = off_between(&records, at(from), at(to));
            off.into_iter().map(|off| (off.setting, off.since, off.until)).collect::<Vec<_>>()
        };
        let [first, second] = [("a".to_owned(), at(0), Some(at(10))), ("a".to_owned(), at(20), None)];
        let third = ("b".to_owned(), at(5), None);
        assert_eq!(told(0, 30), [first.clone(), second.clone(), third.clone()]);
        assert_eq!(told(10, 20), std::slice::from_ref(&third), "neither ends nor begins in it");
        assert_eq!(told(9, 20), [first, third.clone()]);
        assert_eq!(told(10, 21), [second, third]);
        assert!(told(-5, 0).is_empty());
    }
}
