//! A month's report: what the audit trail says of it, by recipient and dataset, and nothing else.
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

use crate::domain::audit::ActorKind;

pub use self::{
    manifest::{FileEntry, MANIFEST_FORMAT, Manifest, Statement},
    month::Month,
    tally::{Tally, TooLarge},
};

/// What `format` of a report says.
pub const REPORT_FORMAT: &str = "weir-report/1";

/// The files of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportFile {
    /// For people.
    Html,
    /// For spreadsheets: one line for each recipient and dataset.
    Csv,
    /// For programs: everything.
    Json,
    /// The hashes of these three, and the checkpoint that covers the month's events.
    Manifest,
    /// The signature of the manifest.
    Signature,
}

impl ReportFile {
    /// Every file.
    pub const ALL: [Self; 5] = [Self::Html, Self::Csv, Self::Json, Self::Manifest, Self::Signature];
    /// The files whose hashes the manifest has.
    pub const LISTED: [Self; 3] = [Self::Html, Self::Csv, Self::Json];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Html => "report.html",
            Self::Csv => "report.csv",
            Self::Json => "report.json",
            Self::Manifest => "manifest.json",
            Self::Signature => "manifest.sig",
        }
    }

    /// The file that [`Self::as_str`] named.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.as_str() == text)
    }
}

/// The recipient that a report is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its identity.
    pub id: Uuid,
    /// Its name when the report was made; its last one, if it is gone.
    pub name: String,
}

/// Which events a report stands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRange {
    /// How many.
    pub count: i64,
    /// The first of them.
    pub first_seq: Option<i64>,
    /// The last of them.
    pub last_seq: Option<i64>,
}

/// What events come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Requests of the sharing protocol, refused ones included; file reads not.
    pub requests: i64,
    /// Times that a file was opened through the server.
    pub file_reads: i64,
    /// Requests and file reads that were refused.
    pub denials: i64,
    /// The same by the code of their reason.
    pub reasons: BTreeMap<String, i64>,
    /// Files whose URLs were handed out.
    pub files: i64,
    /// Rows in these files, as far as statistics say.
    pub rows: i64,
    /// Answers with files for whose rows there are no statistics.
    pub answers_without_rows: i64,
    /// Size of the files whose URLs were handed out.
    pub bytes_issued: i64,
    /// Bytes read through the server; `None` where everything was presigned.
    pub bytes_delivered: Option<i64>,
    /// From how many addresses; `None` where that is not known any more.
    pub addresses: Option<i64>,
    /// On how many days (UTC) there was a request or a file read.
    pub days_active: u32,
    /// The first of them.
    pub first_at: Option<DateTime<Utc>>,
    /// The last of them.
    pub last_at: Option<DateTime<Utc>>,
}

/// One day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayLine {
    /// Which (UTC).
    pub date: NaiveDate,
    /// What it comes to.
    #[serde(flatten)]
    pub numbers: DayNumbers,
}

/// What a day comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayNumbers {
    /// Requests, refused ones included.
    pub requests: i64,
    /// File reads.
    pub file_reads: i64,
    /// Those of both that were refused.
    pub denials: i64,
    /// Files whose URLs were handed out.
    pub files: i64,
    /// Their size.
    pub bytes_issued: i64,
    /// Bytes read through the server.
    pub bytes_delivered: Option<i64>,
}

/// One recipient; without an id, callers who are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientLine {
    /// Its identity.
    pub recipient_id: Option<Uuid>,
    /// The last name that the month's events have.
    pub recipient: Option<String>,
    /// What people call it, as it was known when the report was made.
    pub display_name: Option<String>,
    /// What it comes to.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// One dataset: a shared object, or what named a share alone, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetLine {
    /// The share.
    pub share_id: Option<Uuid>,
    /// Its last name in the month's events.
    pub share: Option<String>,
    /// The shared object.
    pub table_id: Option<Uuid>,
    /// Its last name, `schema.table`.
    pub table: Option<String>,
    /// How many recipients asked for it.
    pub recipients: i64,
    /// What it comes to.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// One recipient and one dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The recipient; `None` for callers who are none.
    pub recipient_id: Option<Uuid>,
    /// Its last name in the month's events.
    pub recipient: Option<String>,
    /// The share.
    pub share_id: Option<Uuid>,
    /// Its last name.
    pub share: Option<String>,
    /// The shared object.
    pub table_id: Option<Uuid>,
    /// Its last name, `schema.table`.
    pub table: Option<String>,
    /// What it comes to.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// Under which purpose and agreement a recipient was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UseLine {
    /// The recipient.
    pub recipient_id: Option<Uuid>,
    /// Its last name.
    pub recipient: Option<String>,
    /// The share.
    pub share_id: Option<Uuid>,
    /// Its last name.
    pub share: Option<String>,
    /// The grant's purpose.
    pub purpose: Option<String>,
    /// The grant's agreement.
    pub agreement: Option<String>,
    /// How many requests and file reads were answered so.
    pub answered: i64,
}

/// A change of who may read what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLine {
    /// The event's place in the trail.
    pub seq: i64,
    /// When it was.
    pub at: DateTime<Utc>,
    /// What was done: `grant.revoke`.
    pub action: String,
    /// What did it.
    pub by_kind: ActorKind,
    /// Who; left out of a report about one recipient.
    pub by: Option<String>,
    /// The recipient that it was about.
    pub recipient_id: Option<Uuid>,
    /// Its name at the time.
    pub recipient: Option<String>,
    /// The share that it was about.
    pub share: Option<String>,
    /// The noun of what was changed.
    pub object: Option<String>,
    /// The grant's purpose.
    pub purpose: Option<String>,
    /// The grant's agreement.
    pub agreement: Option<String>,
    /// The end that it set, as it was recorded.
    pub until: Option<String>,
}

/// A month's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_FORMAT`].
    pub format: String,
    /// The month.
    pub month: Month,
    /// When it begins.
    pub since: DateTime<Utc>,
    /// When it is over.
    pub until: DateTime<Utc>,
    /// Who shares, as the settings name it when the report is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Until when it was counted, where the month was not over: a preview, which nobody has signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_until: Option<DateTime<Utc>>,
    /// The recipient that it is about; `None` for all.
    pub recipient: Option<Party>,
    /// The events that it stands on.
    pub events: EventRange,
    /// What they come to.
    pub totals: Numbers,
    /// Every day of the month.
    pub days: Vec<DayLine>,
    /// By recipient.
    pub recipients: Vec<RecipientLine>,
    /// By dataset.
    pub datasets: Vec<DatasetLine>,
    /// By recipient and dataset.
    pub lines: Vec<Line>,
    /// By purpose and agreement.
    pub uses: Vec<UseLine>,
    /// Changes of who may read what, in their order.
    pub changes: Vec<ChangeLine>,
    /// How many more changes there were than are listed.
    pub changes_left_out: i64,
}

impl Report {
    /// Reads a report's JSON.
    pub fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().filter(|report: &Self| report.format == REPORT_FORMAT)
    }

    /// As JSON, in one line.
    pub fn json(&self) -> String {
        // Every key is a text, and nothing here fails to serialize.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// The same without what only the server knew: addresses, display names and the provider's own name are not in the
    /// trail's export.
    pub fn provable(mut self) -> Self {
        self.provider = None;
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
        self
    }
}
