//! Defines a month's report: what the audit trail says about it, by recipient and dataset.
//!
//! [`Tally`] takes the month's events one by one, by the rules of [`usage`](super::usage), and comes to a [`Report`]. The
//! same events come to the same report wherever they are read: in the database, or in the export of the trail. Never
//! here: where events come from, where a report is kept, or how it looks.

mod manifest;
mod month;
mod tally;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{
    audit::ActorKind,
    core::{safeguard::SafeguardOff, word::AsWritten},
};

pub use self::{
    manifest::{FileEntry, MANIFEST_FORMAT, Manifest, Statement},
    month::Month,
    tally::{Tally, TooLarge},
};

/// The `format` of a report.
pub const REPORT_FORMAT: &str = "weir-report/1";

/// The files of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportFile {
    /// For people.
    Html,
    /// For spreadsheets: one line per recipient and dataset.
    Csv,
    /// For programs: the whole report.
    Json,
    /// The hashes of these three files, and the checkpoint that covers the month's events.
    Manifest,
    /// The signature of the manifest.
    Signature,
}

impl ReportFile {
    /// Every file.
    pub const ALL: [Self; 5] = [Self::Html, Self::Csv, Self::Json, Self::Manifest, Self::Signature];
    /// The files whose hashes are in the manifest.
    pub const LISTED: [Self; 3] = [Self::Html, Self::Csv, Self::Json];

    /// The file's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Html => "report.html",
            Self::Csv => "report.csv",
            Self::Json => "report.json",
            Self::Manifest => "manifest.json",
            Self::Signature => "manifest.sig",
        }
    }

    /// Parses the name of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.as_str() == text)
    }
}

/// The recipient that a report covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its id.
    pub id: Uuid,
    /// Its name when the report was made; its last name if it was deleted.
    pub name: String,
}

/// The events that a report covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRange {
    /// The number of events.
    pub count: i64,
    /// The sequence number of the first.
    pub first_seq: Option<i64>,
    /// The sequence number of the last.
    pub last_seq: Option<i64>,
}

/// The sums of a set of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Requests of the sharing protocol, including refused ones; without file reads.
    pub requests: i64,
    /// File reads through the server.
    pub file_reads: i64,
    /// Refused requests and file reads.
    pub denials: i64,
    /// The refusals by the code of their reason.
    pub reasons: BTreeMap<String, i64>,
    /// Files whose URLs were handed out.
    pub files: i64,
    /// Rows in these files, as far as their statistics tell.
    pub rows: i64,
    /// Answers whose files lack row counts.
    pub answers_without_rows: i64,
    /// Size of the files whose URLs were handed out.
    pub bytes_issued: i64,
    /// Bytes read through the server; `None` if everything was presigned.
    pub bytes_delivered: Option<i64>,
    /// The number of distinct addresses; `None` if no longer known.
    pub addresses: Option<i64>,
    /// The number of days (UTC) with a request or a file read.
    pub days_active: u32,
    /// The time of the first request or file read.
    pub first_at: Option<DateTime<Utc>>,
    /// The time of the last request or file read.
    pub last_at: Option<DateTime<Utc>>,
}

/// The sums of one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayLine {
    /// The day (UTC).
    pub date: NaiveDate,
    /// The sums.
    #[serde(flatten)]
    pub numbers: DayNumbers,
}

/// The sums of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayNumbers {
    /// Requests, including refused ones.
    pub requests: i64,
    /// File reads.
    pub file_reads: i64,
    /// Refused requests and file reads.
    pub denials: i64,
    /// Files whose URLs were handed out.
    pub files: i64,
    /// The size of these files.
    pub bytes_issued: i64,
    /// Bytes read through the server.
    pub bytes_delivered: Option<i64>,
}

/// The sums of one recipient; without an id, of callers that are no recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientLine {
    /// The recipient's id.
    pub recipient_id: Option<Uuid>,
    /// Its last name in the month's events.
    pub recipient: Option<String>,
    /// Its display name when the report was made.
    pub display_name: Option<String>,
    /// The sums.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// The sums of one dataset: a shared object, or requests that name only a share, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetLine {
    /// The share.
    pub share_id: Option<Uuid>,
    /// The share's last name in the month's events.
    pub share: Option<String>,
    /// The shared object.
    #[serde(default)]
    pub object_id: Option<Uuid>,
    /// The shared object, under its former name.
    pub table_id: Option<Uuid>,
    /// The object's last name, `schema.table`.
    pub table: Option<String>,
    /// The number of recipients that requested it.
    pub recipients: i64,
    /// The sums.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// The sums of one recipient and one dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The recipient; `None` for callers that are no recipient.
    pub recipient_id: Option<Uuid>,
    /// The recipient's last name in the month's events.
    pub recipient: Option<String>,
    /// The share.
    pub share_id: Option<Uuid>,
    /// The share's last name.
    pub share: Option<String>,
    /// The shared object.
    #[serde(default)]
    pub object_id: Option<Uuid>,
    /// The shared object, under its former name.
    pub table_id: Option<Uuid>,
    /// The object's last name, `schema.table`.
    pub table: Option<String>,
    /// The sums.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// A purpose and agreement under which a recipient was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UseLine {
    /// The recipient.
    pub recipient_id: Option<Uuid>,
    /// The recipient's last name.
    pub recipient: Option<String>,
    /// The share.
    pub share_id: Option<Uuid>,
    /// The share's last name.
    pub share: Option<String>,
    /// The grant's purpose.
    pub purpose: Option<String>,
    /// The grant's agreement.
    pub agreement: Option<String>,
    /// The number of requests and file reads answered under it.
    pub answered: i64,
}

/// A change of who may read what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLine {
    /// The event's place in the trail.
    pub seq: i64,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The action, such as `grant.revoke`.
    pub action: String,
    /// What did it.
    pub by_kind: AsWritten<ActorKind>,
    /// Who; left out of a report about one recipient.
    pub by: Option<String>,
    /// The recipient that the change concerns.
    pub recipient_id: Option<Uuid>,
    /// The recipient's name at the time.
    pub recipient: Option<String>,
    /// The share that the change concerns.
    pub share: Option<String>,
    /// The kind of object that was changed.
    pub object: Option<String>,
    /// The grant's purpose.
    pub purpose: Option<String>,
    /// The grant's agreement.
    pub agreement: Option<String>,
    /// The new end that the change set, as recorded.
    pub until: Option<String>,
}

/// A month's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_FORMAT`].
    pub format: String,
    /// The month.
    pub month: Month,
    /// When the month begins.
    pub since: DateTime<Utc>,
    /// When the month ends; exclusive.
    pub until: DateTime<Utc>,
    /// The data provider's name in the settings when the report was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The time up to which a preview was counted, for a month that is not over; previews are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_until: Option<DateTime<Utc>>,
    /// The settings that restrict sharing, and were off in the month, as far as it had passed when the report was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub safeguards_off: Vec<SafeguardOff>,
    /// The recipient that it covers; `None` for all.
    pub recipient: Option<Party>,
    /// The events that it covers.
    pub events: EventRange,
    /// The sums of all events.
    pub totals: Numbers,
    /// The sums of every day of the month.
    pub days: Vec<DayLine>,
    /// The sums by recipient.
    pub recipients: Vec<RecipientLine>,
    /// The sums by dataset.
    pub datasets: Vec<DatasetLine>,
    /// The sums by recipient and dataset.
    pub lines: Vec<Line>,
    /// The counts by purpose and agreement.
    pub uses: Vec<UseLine>,
    /// The changes of who may read what, in order.
    pub changes: Vec<ChangeLine>,
    /// The number of changes that are not listed.
    pub changes_left_out: i64,
}

impl Report {
    /// Reads a report from JSON.
    pub fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().filter(|report: &Self| report.format == REPORT_FORMAT)
    }

    /// Writes the report as JSON, in one line.
    pub fn json(&self) -> String {
        // Every key is a string, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// The same without what only the server knew: addresses, display names, the provider's own name and its settings are not
    /// in the trail's export.
    pub fn provable(mut self) -> Self {
        self.provider = None;
        self.safeguards_off = Vec::new();
        let numbers = std::iter::once(&mut self.totals)
            .chain(self.recipients.iter_mut().map(|line| &mut line.numbers))
            .chain(self.datasets.iter_mut().map(|line| &mut line.numbers))
            .chain(self.lines.iter_mut().map(|line| &mut line.numbers));
        for numbers in numbers {
            numbers.addresses = None;
        }
        for line in &mut self.recipients {
            line.display_name = None;
        }
        // Earlier releases named objects by `table_id` alone.
        let datasets = self.datasets.iter_mut().map(|line| (&mut line.object_id, line.table_id));
        let lines = self.lines.iter_mut().map(|line| (&mut line.object_id, line.table_id));
        for (object_id, table_id) in datasets.chain(lines) {
            *object_id = object_id.or(table_id);
        }
        self
    }
}
