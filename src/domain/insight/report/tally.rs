//! Counts a month's events.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    hash::Hash,
};

use chrono::{DateTime, Datelike, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::{access::decision::Reason, audit::recorded::Recorded, insight::usage::Usage};

use super::{
    ChangeLine, DatasetLine, DayLine, DayNumbers, EventRange, Line, Month, Numbers, Party, REPORT_FORMAT,
    RecipientLine, Report, UseLine,
};

/// The most lines of one report; more would be unreadable, and this bounds memory.
const MOST_LINES: usize = 100_000;
/// The most changes listed.
const MOST_CHANGES: usize = 10_000;
/// The most distinct addresses counted in all; with more, the number is unknown.
const MOST_ADDRESSES: usize = 1_000_000;
/// The prefixes of actions that change who may read what.
const CHANGES: [&str; 6] = ["grant.", "token.", "recipient.", "freeze.", "object.", "share.delete"];

/// The month has more pairs of recipient and dataset than one report can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the month has more than {MOST_LINES} pairs of recipient and dataset; ask for a report of each recipient")]
pub struct TooLarge;

type ObjectKey = (Option<Uuid>, Option<Uuid>);

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct UseKey {
    recipient_id: Option<Uuid>,
    share_id: Option<Uuid>,
    purpose: Option<String>,
    agreement: Option<String>,
}

/// A sum in progress.
#[derive(Debug, Default)]
struct Sum {
    usage: Usage,
    reasons: BTreeMap<String, i64>,
    addresses: HashSet<u64>,
    /// One bit per day with activity.
    days: u32,
    first_at: Option<DateTime<Utc>>,
    last_at: Option<DateTime<Utc>>,
}

impl Sum {
    fn add(&mut self, event: &Recorded, usage: &Usage, address: Option<u64>) {
        self.usage.add(usage);
        if usage.denials > 0 {
            *self.reasons.entry(event.reason.clone().unwrap_or_default()).or_default() += usage.denials;
        }
        self.addresses.extend(address);
        self.days |= 1 << (event.at.day() - 1);
        self.first_at = Some(self.first_at.map_or(event.at, |at| at.min(event.at)));
        self.last_at = Some(self.last_at.map_or(event.at, |at| at.max(event.at)));
    }

    fn numbers(self, knows_addresses: bool) -> Numbers {
        let Usage { requests, file_reads, denials, files, rows, answers_without_rows, bytes_issued, .. } = self.usage;
        let is_known = knows_addresses && self.usage.addresses_lost == 0;
        Numbers {
            requests,
            file_reads,
            denials,
            reasons: self.reasons,
            files,
            rows,
            answers_without_rows,
            bytes_issued,
            bytes_delivered: self.usage.bytes_delivered,
            addresses: is_known.then(|| i64::try_from(self.addresses.len()).unwrap_or(i64::MAX)),
            days_active: self.days.count_ones(),
            first_at: self.first_at,
            last_at: self.last_at,
        }
    }
}

impl DayNumbers {
    fn of(usage: &Usage) -> Self {
        let Usage { requests, file_reads, denials, files, bytes_issued, bytes_delivered, .. } = *usage;
        Self { requests, file_reads, denials, files, bytes_issued, bytes_delivered }
    }
}

/// Counts a month's events, in any order.
#[derive(Debug)]
pub struct Tally {
    month: Month,
    scope: Option<Party>,
    events: EventRange,
    total: Sum,
    days: HashMap<u32, Usage>,
    recipients: HashMap<Option<Uuid>, Sum>,
    datasets: HashMap<ObjectKey, (Sum, HashSet<Uuid>)>,
    lines: HashMap<(Option<Uuid>, ObjectKey), Sum>,
    uses: BTreeMap<UseKey, i64>,
    changes: BTreeMap<i64, ChangeLine>,
    changes_left_out: i64,
    /// The last name of each thing, with the event that it comes from.
    names: HashMap<Uuid, (i64, String)>,
    n_addresses: usize,
}

impl Tally {
    /// Starts a count of `month`, of all events or of one recipient's.
    pub fn new(month: Month, scope: Option<Party>) -> Self {
        Self {
            month,
            scope,
            events: EventRange::default(),
            total: Sum::default(),
            days: HashMap::new(),
            recipients: HashMap::new(),
            datasets: HashMap::new(),
            lines: HashMap::new(),
            uses: BTreeMap::new(),
            changes: BTreeMap::new(),
            changes_left_out: 0,
            names: HashMap::new(),
            n_addresses: 0,
        }
    }

    /// Whether an event belongs to the month and the recipient.
    fn is_counted(&self, event: &Recorded) -> bool {
        (self.month.start()..self.month.end()).contains(&event.at)
            && self.scope.as_ref().is_none_or(|scope| event.recipient_id == Some(scope.id))
    }

    /// Counts an event; events of other months or recipients are ignored.
    pub fn add(&mut self, mut event: Recorded) -> Result<(), TooLarge> {
        if !self.is_counted(&event) {
            return Ok(());
        }
        // A partner must not learn of a share that it was never granted.
        if self.scope.is_some() && event.reason.as_deref() == Some(Reason::ShareNotGranted.code()) {
            event.forget_place();
        }
        let EventRange { count, first_seq, last_seq } = self.events;
        self.events = EventRange {
            count: count + 1,
            first_seq: Some(first_seq.map_or(event.seq, |seq| seq.min(event.seq))),
            last_seq: Some(last_seq.map_or(event.seq, |seq| seq.max(event.seq))),
        };
        self.note_names(&event);
        self.note_change(&event);
        let usage = Usage::of(&event);
        if usage.requests + usage.file_reads == 0 {
            return Ok(());
        }
        self.count(&event, &usage)
    }

    fn count(&mut self, event: &Recorded, usage: &Usage) -> Result<(), TooLarge> {
        let address = Usage::address_of(event).map(fingerprint).filter(|_| self.n_addresses < MOST_ADDRESSES);
        let object = (event.share_id, event.shared_object());
        if self.lines.len() >= MOST_LINES && !self.lines.contains_key(&(event.recipient_id, object)) {
            return Err(TooLarge);
        }
        let line = self.lines.entry((event.recipient_id, object)).or_default();
        let known = line.addresses.len();
        line.add(event, usage, address);
        self.n_addresses += line.addresses.len() - known;
        self.recipients.entry(event.recipient_id).or_default().add(event, usage, address);
        let (dataset, recipients) = self.datasets.entry(object).or_default();
        dataset.add(event, usage, address);
        recipients.extend(event.recipient_id);
        self.total.add(event, usage, address);
        self.days.entry(event.at.day()).or_default().add(usage);
        if event.is_allowed() && event.share_id.is_some() {
            let key = UseKey {
                recipient_id: event.recipient_id,
                share_id: event.share_id,
                purpose: event.purpose.clone(),
                agreement: event.agreement.clone(),
            };
            *self.uses.entry(key).or_default() += usage.requests + usage.file_reads;
        }
        Ok(())
    }

    fn note_names(&mut self, event: &Recorded) {
        let table = event.dotted_table();
        for (id, name) in [
            (event.recipient_id, event.recipient.as_ref()),
            (event.share_id, event.share.as_ref()),
            (event.shared_object(), table.as_ref()),
        ] {
            let (Some(id), Some(name)) = (id, name) else { continue };
            match self.names.entry(id) {
                Entry::Occupied(mut known) if known.get().0 < event.seq => {
                    known.insert((event.seq, name.clone()));
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(place) => drop(place.insert((event.seq, name.clone()))),
            }
        }
    }

    fn note_change(&mut self, event: &Recorded) {
        if !event.is_allowed() || !CHANGES.iter().any(|begin| event.action.as_str().starts_with(begin)) {
            return;
        }
        let ends = ["valid_until", "expires_at", "revoked_at"];
        let after = event.change.as_ref().map(|change| &change["after"]);
        let until = after.and_then(|after| ends.iter().find_map(|end| after[end].as_str()));
        let line = ChangeLine {
            seq: event.seq,
            at: event.at,
            action: event.action.as_str().to_owned(),
            by_kind: event.actor.kind.clone(),
            // A partner is not told who works here.
            by: event.actor.name.clone().filter(|_| self.scope.is_none()),
            recipient_id: event.recipient_id,
            recipient: event.recipient.clone(),
            share: event.share.clone(),
            object: event.object.as_ref().map(|object| object.kind.as_str().to_owned()),
            purpose: event.purpose.clone(),
            agreement: event.agreement.clone(),
            until: until.map(str::to_owned),
        };
        self.changes.insert(event.seq, line);
        if self.changes.len() > MOST_CHANGES {
            self.changes.pop_last();
            self.changes_left_out += 1;
        }
    }

    /// The recipients in the events so far.
    pub fn recipients(&self) -> Vec<Uuid> {
        self.recipients.keys().copied().flatten().collect()
    }

    /// Builds the report. `display_name` looks up a recipient's display name.
    pub fn finish(self, display_name: impl Fn(Uuid) -> Option<String>) -> Report {
        let knows = self.n_addresses < MOST_ADDRESSES;
        let names = self.names;
        let name = |id: Option<Uuid>| names.get(&id?).map(|(_, name)| name.clone());
        let mut recipients: Vec<RecipientLine> = by_key(self.recipients, |recipient_id, sum| RecipientLine {
            recipient_id,
            recipient: name(recipient_id),
            display_name: recipient_id.and_then(&display_name),
            numbers: sum.numbers(knows),
        });
        recipients.sort_by_cached_key(|line| (named(&line.recipient), line.recipient_id));
        let mut datasets: Vec<DatasetLine> =
            by_key(self.datasets, |(share_id, object_id), (sum, recipients)| DatasetLine {
                share_id,
                share: name(share_id),
                object_id,
                table_id: object_id,
                table: name(object_id),
                recipients: i64::try_from(recipients.len()).unwrap_or(i64::MAX),
                numbers: sum.numbers(knows),
            });
        datasets.sort_by_cached_key(|line| (named(&line.share), named(&line.table), line.share_id, line.object_id));
        let mut lines: Vec<Line> = by_key(self.lines, |(recipient_id, (share_id, object_id)), sum| Line {
            recipient_id,
            recipient: name(recipient_id),
            share_id,
            share: name(share_id),
            object_id,
            table_id: object_id,
            table: name(object_id),
            numbers: sum.numbers(knows),
        });
        lines.sort_by_cached_key(|line| {
            let ids = (line.recipient_id, line.share_id, line.object_id);
            (named(&line.recipient), named(&line.share), named(&line.table), ids)
        });
        let uses = self.uses.into_iter().map(|(key, answered)| UseLine {
            recipient_id: key.recipient_id,
            recipient: name(key.recipient_id),
            share_id: key.share_id,
            share: name(key.share_id),
            purpose: key.purpose,
            agreement: key.agreement,
            answered,
        });
        let mut uses: Vec<UseLine> = uses.collect();
        uses.sort_by_cached_key(|line| (named(&line.recipient), named(&line.share)));
        let days = self
            .month
            .days()
            .map(|date| DayLine { date, numbers: self.days.get(&date.day()).map(DayNumbers::of).unwrap_or_default() });
        Report {
            format: REPORT_FORMAT.to_owned(),
            month: self.month,
            since: self.month.start(),
            until: self.month.end(),
            provider: None,
            safeguards_off: Vec::new(),
            preview_until: None,
            recipient: self.scope,
            events: self.events,
            totals: self.total.numbers(knows),
            days: days.collect(),
            recipients,
            datasets,
            lines,
            uses,
            changes: self.changes.into_values().collect(),
            changes_left_out: self.changes_left_out,
        }
    }
}

fn by_key<K: Eq + Hash, V, L>(sums: HashMap<K, V>, line: impl Fn(K, V) -> L) -> Vec<L> {
    sums.into_iter().map(|(key, sum)| line(key, sum)).collect()
}

/// A sort key by name; entries without a name come last.
fn named(name: &Option<String>) -> (bool, Option<String>) {
    (name.is_none(), name.clone())
}

/// Distinguishes addresses.
fn fingerprint(address: &str) -> u64 {
    let digest = Sha256::digest(address.as_bytes());
    digest.iter().take(8).fold(0, |print, byte| (print << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn month() -> Month {
        Month::parse("2026-11").unwrap()
    }

    fn event(seq: i64, fields: serde_json::Value) -> Recorded {
        let mut event = json!({
            "seq": seq, "at": "2026-11-02T10:00:00.000000Z", "actor": {"kind": "recipient", "name": "acme"},
            "action": "table.query", "decision": "allow", "recipient": "acme", "recipient_id": Uuid::from_u128(1),
            "share": "insurer", "share_id": Uuid::from_u128(9), "schema": "claims", "table": "claims",
            "table_id": Uuid::from_u128(11), "purpose": "fraud",
        });
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Recorded::read(&event.to_string(), None).unwrap()
    }

    fn report(events: Vec<Recorded>, scope: Option<Party>) -> Report {
        let mut tally = Tally::new(month(), scope);
        for event in events {
            tally.add(event).unwrap();
        }
        tally.finish(|_| None)
    }

    #[test]
    fn a_month_has_its_events_and_nobody_elses() {
        let report = report(
            vec![
                event(1, json!({"at": "2026-10-31T23:59:59.999999Z"})),
                event(2, json!({"at": "2026-11-01T00:00:00.000000Z", "files": 2, "rows": 20, "bytes": 200})),
                event(3, json!({"decision": "deny", "reason": "GRANT_EXPIRED"})),
                event(4, json!({"at": "2026-12-01T00:00:00.000000Z"})),
                event(5, json!({"action": "admin.read"})),
            ],
            None,
        );
        assert_eq!(report.events, EventRange { count: 3, first_seq: Some(2), last_seq: Some(5) });
        let totals = &report.totals;
        assert_eq!((totals.requests, totals.denials, totals.files, totals.rows), (2, 1, 2, 20));
        assert_eq!(totals.reasons, BTreeMap::from([("GRANT_EXPIRED".to_owned(), 1)]));
        assert_eq!((totals.days_active, report.days.len(), report.lines.len()), (2, 30, 1));
        assert_eq!((report.uses.len(), report.uses[0].answered), (1, 1));
        assert_eq!(report.uses[0].purpose.as_deref(), Some("fraud"));
        let read = Report::read(report.json().as_bytes()).unwrap();
        assert_eq!((&read, read.json()), (&report, report.json()));
    }

    #[test]
    fn what_stands_for_many_refusals_counts_as_many() {
        let change = json!({"refused": "shares.list", "count": 7});
        let summary =
            json!({"action": "refusals.summary", "decision": "deny", "reason": "TOKEN_EXPIRED", "change": change});
        let report = report(vec![event(1, summary)], None);
        assert_eq!((report.totals.requests, report.totals.reasons["TOKEN_EXPIRED"]), (7, 7));
    }

    #[test]
    fn names_are_the_last_ones_in_whatever_order_events_come() {
        let renamed = report(vec![event(2, json!({"recipient": "acme-re"})), event(1, json!({}))], None);
        assert_eq!(renamed.lines[0].recipient.as_deref(), Some("acme-re"));
    }

    #[test]
    fn a_partners_report_names_neither_others_nor_what_it_was_never_granted_nor_who_works_here() {
        let scope = Party { id: Uuid::from_u128(1), name: "acme".into() };
        let hidden = json!({
            "decision": "deny", "reason": "SHARE_NOT_GRANTED", "share": "secret", "share_id": Uuid::from_u128(7),
        });
        let other = json!({"recipient": "zurich", "recipient_id": Uuid::from_u128(2)});
        let change = json!({"action": "grant.revoke", "actor": {"kind": "operator", "name": "ann"}});
        let report = report(vec![event(1, hidden), event(2, other), event(3, change)], Some(scope));
        assert_eq!((report.events.count, report.totals.denials, report.changes.len()), (2, 1, 1));
        // All that its files are made of.
        let json = report.json();
        for word in ["secret", "zurich", "ann\"", &Uuid::from_u128(7).to_string()] {
            assert!(!json.contains(word), "{word}: {json}");
        }
    }

    #[test]
    fn what_the_export_lacks_is_no_difference() {
        let mut seen = event(1, json!({"personal": "x"}));
        seen.client_address = Some("192.0.2.1".into());
        let here = report(vec![seen], None);
        assert_eq!(here.totals.addresses, Some(1));
        let there = report(vec![event(1, json!({"personal": "x"}))], None);
        assert_eq!(there.totals.addresses, None, "not known is not zero");
        assert_eq!(here.provable(), there.provable());
    }
}
