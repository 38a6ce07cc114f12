//! Stores monthly reports, one per month and recipient, and their files, which are written once.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::{
    domain::{
        core::word::{AsWritten, Words},
        insight::report::{FileEntry, Month, ReportFile},
    },
    store::{
        Result, StoreError, Tx,
        core::value::{Micros, time, word},
        one_row, reads, writes,
    },
};

/// How far a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportState {
    /// Its events are being counted.
    Making,
    /// Its files exist and no longer change.
    Ready,
    /// It cannot be made from the current trail.
    Failed,
}

impl Words for ReportState {
    const NOUN: &'static str = "state of a report";
    const ALL: &'static [(&'static str, Self)] =
        &[("making", Self::Making), ("ready", Self::Ready), ("failed", Self::Failed)];
}

/// A stored report, without its files.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredReport {
    /// The report's id.
    pub id: Uuid,
    /// The month.
    pub month: Month,
    /// The recipient that it covers; `None` for all.
    pub recipient_id: Option<Uuid>,
    /// The recipient's name when the report was requested.
    pub recipient: Option<String>,
    /// The state.
    pub state: AsWritten<ReportState>,
    /// The operator who requested it.
    pub requested_by: String,
    /// When it was requested.
    pub requested_at: DateTime<Utc>,
    /// When its files were written.
    pub ready_at: Option<DateTime<Utc>>,
    /// Why it could not be made.
    pub failure: Option<String>,
    /// The checkpoint that covers its events.
    pub checkpoint_seq: Option<i64>,
}

/// A stored file of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// The kind of file.
    pub file: ReportFile,
    /// Its size and hash.
    pub entry: FileEntry,
}

/// Filters the reports to list; a `None` filters nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReportFilter {
    /// Only reports on this month.
    pub month: Option<Month>,
    /// Only reports on this recipient.
    pub recipient_id: Option<Uuid>,
}

#[derive(FromRow)]
struct ReportRow {
    id: Uuid,
    month: String,
    recipient_id: Uuid,
    recipient: Option<String>,
    state: String,
    requested_by: String,
    requested_at: Micros,
    ready_at: Option<Micros>,
    failure: Option<String>,
    checkpoint_seq: Option<i64>,
}

impl TryFrom<ReportRow> for StoredReport {
    type Error = StoreError;

    fn try_from(row: ReportRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            month: word(Month::parse, "reports.month", &row.month)?,
            recipient_id: Some(row.recipient_id).filter(|id| !id.is_nil()),
            recipient: row.recipient,
            state: AsWritten::new(&row.state),
            requested_by: row.requested_by,
            requested_at: row.requested_at.0,
            ready_at: time(row.ready_at),
            failure: row.failure,
            checkpoint_seq: row.checkpoint_seq,
        })
    }
}

macro_rules! select_reports {
    () => {
        "SELECT id, month, recipient_id, recipient, state, requested_by, requested_at, ready_at, failure, \
         checkpoint_seq FROM reports "
    };
}

reads! {
    /// Finds the report with this id.
    pub async fn find_report(self, db, id: Uuid) -> Result<Option<StoredReport>> {
        let sql = concat!(select_reports!(), "WHERE id = $1");
        let row: Option<ReportRow> = sqlx::query_as(sql).bind(id).fetch_optional(db).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Finds the report on this month and recipient, or on all recipients.
    pub async fn find_report_of(
        self, db, month: Month, recipient_id: Option<Uuid>
    ) -> Result<Option<StoredReport>> {
        let sql = concat!(select_reports!(), "WHERE month = $1 AND recipient_id = $2");
        let query = sqlx::query_as(sql).bind(month.to_string()).bind(recipient_id.unwrap_or_default());
        let row: Option<ReportRow> = query.fetch_optional(db).await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Lists reports after `after`, in the order in which they were requested.
    pub async fn list_reports(
        self, db, filter: &ReportFilter, after: Option<Uuid>, limit: u32
    ) -> Result<Vec<StoredReport>> {
        let mut query = QueryBuilder::new(concat!(select_reports!(), "WHERE TRUE"));
        if let Some(month) = filter.month {
            query.push(" AND month = ").push_bind(month.to_string());
        }
        if let Some(id) = filter.recipient_id {
            query.push(" AND recipient_id = ").push_bind(id);
        }
        if let Some(id) = after {
            query.push(" AND id > ").push_bind(id);
        }
        query.push(" ORDER BY id LIMIT ").push_bind(i64::from(limit));
        let rows: Vec<ReportRow> = query.build_query_as().fetch_all(db).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Reports that are to be made, or are being made.
    pub async fn list_making_reports(self, db, limit: u32) -> Result<Vec<Uuid>> {
        let sql = "SELECT id FROM reports WHERE state = 'making' ORDER BY id LIMIT $1";
        Ok(sqlx::query_scalar(sql).bind(i64::from(limit)).fetch_all(db).await?)
    }

    /// Lists the files of a report by name, without their content.
    pub async fn list_report_files(self, db, id: Uuid) -> Result<Vec<StoredFile>> {
        let sql = "SELECT name, bytes, sha256 FROM report_files WHERE report_id = $1 ORDER BY name";
        let rows: Vec<(String, i64, String)> = sqlx::query_as(sql).bind(id).fetch_all(db).await?;
        let file = |(name, bytes, sha256): (String, i64, String)| {
            let bytes = u64::try_from(bytes).map_err(|_| StoreError::Corrupt("report_files.bytes"))?;
            let file = word(ReportFile::parse, "report_files.name", &name)?;
            Ok(StoredFile { file, entry: FileEntry { bytes, sha256 } })
        };
        rows.into_iter().map(file).collect()
    }

    /// Reads the content of a report's file.
    pub async fn find_report_file(self, db, id: Uuid, file: ReportFile) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT content FROM report_files WHERE report_id = $1 AND name = $2";
        Ok(sqlx::query_scalar(sql).bind(id).bind(file.as_str()).fetch_optional(db).await?)
    }
}

impl Tx {
    /// Stores a report to be made; there must be none on its month and recipient.
    pub async fn insert_report(&mut self, report: &StoredReport) -> Result<()> {
        const SQL: &str = "INSERT INTO reports (id, month, recipient_id, recipient, state, requested_by, requested_at) \
            VALUES ($1, $2, $3, $4, 'making', $5, $6)";
        writes!(self, db => sqlx::query(SQL)
            .bind(report.id)
            .bind(report.month.to_string())
            .bind(report.recipient_id.unwrap_or_default())
            .bind(&report.recipient)
            .bind(&report.requested_by)
            .bind(Micros::from(report.requested_at))
            .execute(db)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Writes the files of a report, which is ready by that; [`StoreError::Stale`] where somebody else has written them.
    pub async fn complete_report(
        &mut self,
        id: Uuid,
        files: &[(StoredFile, Vec<u8>)],
        checkpoint_seq: i64,
        now: DateTime<Utc>,
    ) -> Result<()> {
        const READY: &str = "UPDATE reports SET state = 'ready', ready_at = $2, checkpoint_seq = $3, failure = NULL \
            WHERE id = $1 AND state = 'making'";
        const FILE: &str = "INSERT INTO report_files (report_id, name, bytes, sha256, content) \
            VALUES ($1, $2, $3, $4, $5)";
        let completed = writes!(self, db => sqlx::query(READY)
            .bind(id)
            .bind(Micros::from(now))
            .bind(checkpoint_seq)
            .execute(db)
            .await?
            .rows_affected());
        one_row(completed)?;
        for (StoredFile { file, entry }, content) in files {
            writes!(self, db => sqlx::query(FILE)
                .bind(id)
                .bind(file.as_str())
                .bind(i64::try_from(entry.bytes).unwrap_or(i64::MAX))
                .bind(&entry.sha256)
                .bind(content.as_slice())
                .execute(db)
                .await?
                .rows_affected());
        }
        Ok(())
    }

    /// Marks a report as failed. Fails with [`StoreError::Stale`] if it was made since.
    pub async fn fail_report(&mut self, id: Uuid, failure: &str) -> Result<()> {
        const SQL: &str = "UPDATE reports SET state = 'failed', failure = $2 WHERE id = $1 AND state = 'making'";
        let failed = writes!(self, db => sqlx::query(SQL).bind(id).bind(failure).execute(db).await?.rows_affected());
        one_row(failed)
    }

    /// Has a report made that was given up; [`StoreError::Stale`] where it was not.
    pub async fn revive_report(&mut self, id: Uuid) -> Result<()> {
        const SQL: &str = "UPDATE reports SET state = 'making', failure = NULL WHERE id = $1 AND state = 'failed'";
        let revived = writes!(self, db => sqlx::query(SQL).bind(id).execute(db).await?.rows_affected());
        one_row(revived)
    }
}
