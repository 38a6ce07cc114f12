//! Makes monthly reports from the audit trail, once each after the month is over, stores them and serves them
//! unchanged.
//!
//! A month is closed when it is over and a checkpoint covers its last event. A report is made by a job, so that replicas
//! do not both count. Never here: what counts as what, which `domain::insight::report` says, and how a report looks, which
//! `render::report` says.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    domain::{
        audit::{
            Actor, Event, Object,
            action::{Action, Kind},
            recorded::Recorded,
        },
        core::{job::JobKind, safeguard::off_between},
        insight::report::{FileEntry, MANIFEST_FORMAT, Manifest, Month, Party, Report, ReportFile, Statement, Tally},
    },
    render,
    service::{
        audit::{error::AuditError, verify::PAGE, write},
        core::{
            context::OperatorContext,
            error::ServiceError,
            jobs::{Jobs, Undone},
            page::{Page, PageRequest},
        },
    },
    store::{
        AuditFilter, Job, Order, ReportFilter, ReportState, StoreError, StoredCheckpoint, StoredEvent, StoredFile,
        StoredReport, Tx,
    },
};

use super::Insight;

/// How long after its end a month may still get events from a server whose clock is slow.
const SETTLING: TimeDelta = TimeDelta::minutes(5);
/// How long a caller waits for a report that is being made before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long counting a preview may take.
const PREVIEW_PATIENCE: Duration = Duration::from_secs(20);
/// How many records of settings a report looks at.
const MOST_SAFEGUARDS: u32 = 10_000;
/// How many reports are queued at a time that a server of the version before has left unmade.
const QUEUED_AT_ONCE: u32 = 10;

/// A request for a report.
#[derive(Clone, Debug)]
pub struct NewReport {
    /// The month: `2026-11`.
    pub month: String,
    /// The name or id of the recipient to report on; all recipients if absent.
    pub recipient: Option<String>,
}

/// The events to count: one month's, of one recipient or of all.
struct Scope {
    month: Month,
    recipient_id: Option<Uuid>,
}

/// Filters the list of reports.
#[derive(Clone, Debug, Default)]
pub struct ReportQuery {
    /// Only reports on this month.
    pub month: Option<String>,
    /// Only reports on the recipient with this name or id.
    pub recipient: Option<String>,
}

/// A report with its files, which exist once it is ready.
#[derive(Clone, Debug)]
pub struct FiledReport {
    /// The report.
    pub report: StoredReport,
    /// Its files.
    pub files: Vec<StoredFile>,
}

fn not_found(id: Uuid) -> ServiceError {
    ServiceError::NotFound { kind: "report", name: id.to_string() }
}

fn object(report: &StoredReport) -> Object {
    Object { kind: Kind::Report, id: Some(report.id), name: Some(report.month.to_string()) }
}

/// The report that a job makes.
fn report_of(job: &Job) -> Result<Uuid, Undone> {
    job.key.parse().map_err(|_| Undone::Failed("its key is no report's id".to_owned()))
}

/// Parses the month that a caller names; it must be over.
fn closed_month(text: &str, now: DateTime<Utc>) -> Result<Month, ServiceError> {
    let month = Month::parse(text).ok_or_else(|| ServiceError::invalid("month", "is no month; write it as 2026-11"))?;
    let closes = month.end() + SETTLING;
    if now < closes {
        let closes = closes.format("%Y-%m-%d %H:%M");
        return Err(ServiceError::invalid(
            "month",
            format!(
                "is not over; its report can be made from {closes} (UTC) on, and until then \
                 GET /reports/preview/report.html?month={month} shows it as it stands"
            ),
        ));
    }
    Ok(month)
}

/// Parses the month that a caller names; it must have begun and not be over.
fn open_month(text: &str, now: DateTime<Utc>) -> Result<Month, ServiceError> {
    let month = Month::parse(text).ok_or_else(|| ServiceError::invalid("month", "is no month; write it as 2026-11"))?;
    match () {
        () if now < month.start() => Err(ServiceError::invalid("month", "has not begun; there is nothing to show")),
        () if now >= month.end() + SETTLING => {
            Err(ServiceError::invalid("month", "is over; POST /reports makes its report"))
        }
        () => Ok(month),
    }
}

impl Jobs {
    /// Returns the requested report and whether it is new, which is waited for a little. One that is being made already is
    /// answered as it is: to ask again is no further attempt.
    pub async fn create_report(
        &self,
        ctx: &OperatorContext,
        asked: &NewReport,
    ) -> Result<(FiledReport, bool), ServiceError> {
        let month = closed_month(&asked.month, ctx.now)?;
        let party = match &asked.recipient {
            None => None,
            Some(text) => Some(self.insight.find_party(text).await?),
        };
        let recipient_id = party.as_ref().map(|party| party.id);
        let known = self.core.db.find_report_of(month, recipient_id).await?;
        let (report, is_new) = match known.filter(|report| report.state != ReportState::Failed) {
            // A report that was made stays available, even if its events are gone.
            Some(report) => (report, false),
            None => {
                self.insight.check_kept(month).await?;
                self.insight.begin_report(ctx, month, party).await?
            }
        };
        if ctx.is_dry() && (is_new || report.state == ReportState::Making) {
            return Ok((FiledReport { report, files: Vec::new() }, is_new));
        }
        if report.state == ReportState::Making && !is_new {
            // A server of the version before has no jobs.
            self.insight.queue_report(report.id).await?;
        } else if report.state == ReportState::Making {
            let (jobs, key) = (self.clone(), report.id.to_string());
            let making = tokio::spawn(async move { jobs.run_job(JobKind::Report, Some(&key)).await });
            match tokio::time::timeout(PATIENCE, making).await {
                // The work goes on; the caller can ask again.
                Err(_) => {}
                Ok(Ok(made)) => made?.map_or(Ok(()), Err)?,
                Ok(Err(error)) => return Err(ServiceError::internal(error)),
            }
        }
        Ok((self.insight.get_report(report.id).await?, is_new))
    }
}

impl Insight {
    /// Reports on a month that is not over, marked as a preview: counted now, neither stored nor signed.
    pub async fn preview_report(&self, asked: &NewReport) -> Result<Report, ServiceError> {
        let now = self.core.clock.now();
        let month = open_month(&asked.month, now)?;
        let party = match &asked.recipient {
            None => None,
            Some(text) => Some(self.find_party(text).await?),
        };
        let range = self.core.db.find_seqs_between(month.start(), month.end()).await?;
        let scope = Scope { month, recipient_id: party.as_ref().map(|party| party.id) };
        let counted = tokio::time::timeout(PREVIEW_PATIENCE, self.count_month(&scope, range, party)).await;
        let report = match counted {
            Ok(Ok(report)) => report,
            Ok(Err(Undone::Later(error))) => return Err(error),
            Ok(Err(Undone::Failed(why))) => return Err(ServiceError::Unsupported(why)),
            Ok(Err(Undone::Taken)) => return Err(ServiceError::internal("a preview is nobody else's")),
            Err(_) => {
                let message =
                    "the month has too many events to be counted while you wait; GET /usage says how it stands";
                return Err(ServiceError::Unsupported(message.to_owned()));
            }
        };
        Ok(Report { preview_until: Some(now.trunc_subsecs(0)), ..report })
    }

    /// Stores that a report is to be made, unless it exists. Returns it and whether it is new.
    async fn begin_report(
        &self,
        ctx: &OperatorContext,
        month: Month,
        party: Option<Party>,
    ) -> Result<(StoredReport, bool), ServiceError> {
        let recipient_id = party.as_ref().map(|party| party.id);
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let found = tx.find_report_of(month, recipient_id).await?;
        let report = match found {
            Some(report) if report.state != ReportState::Failed => return Ok((report, false)),
            Some(report) => {
                tx.revive_report(report.id).await?;
                StoredReport { state: ReportState::Making.into(), failure: None, ..report }
            }
            None => {
                let report = StoredReport {
                    id: Uuid::now_v7(),
                    month,
                    recipient_id,
                    recipient: party.map(|party| party.name),
                    state: ReportState::Making.into(),
                    requested_by: ctx.operator_name(),
                    requested_at: ctx.now.trunc_subsecs(6),
                    ready_at: None,
                    failure: None,
                    checkpoint_seq: None,
                };
                tx.insert_report(&report).await?;
                report
            }
        };
        tx.enqueue_job(JobKind::Report, &report.id.to_string(), ctx.now).await?;
        let event = Event {
            recipient: report.recipient.clone(),
            recipient_id,
            change: Some(json!({"after": {"month": month}})),
            ..ctx.event(Action::ReportCreate, object(&report))
        };
        write::append(tx, event, ctx.now).await?;
        unit.commit().await?;
        Ok((report, true))
    }

    /// Finds the recipient with this name or id. A deleted recipient is found by its id, with the name in its last
    /// event.
    async fn find_party(&self, text: &str) -> Result<Party, ServiceError> {
        let unknown = || {
            let message = "names no recipient that exists; one that was deleted is found by its id";
            ServiceError::invalid("recipient", message)
        };
        let id = self.core.filtered_recipient(text).await.map_err(|error| match error {
            ServiceError::Parameter(_) => unknown(),
            error => error,
        })?;
        if let Some(recipient) = self.core.db.find_recipient_by_id(id).await? {
            return Ok(Party { id, name: recipient.name.to_string() });
        }
        let filter = AuditFilter { recipient_id: Some(id), order: Order::Descending, ..AuditFilter::default() };
        let last = self.core.db.list_audit(&filter, 1).await?;
        let last = last.first().and_then(|event| Recorded::read(&event.body, None));
        let name = last.and_then(|event| event.recipient).ok_or_else(unknown)?;
        Ok(Party { id, name })
    }

    /// Refuses a month that the database has no events for: before the trail began, or detached.
    async fn check_kept(&self, month: Month) -> Result<(), ServiceError> {
        let detached = match self.core.db.find_detached_through().await? {
            // Events from before the month exist, so all of the month's events do too.
            Some(_) if self.core.db.find_last_seq_before(month.start()).await?.is_some() => None,
            detached => detached,
        };
        if let Some(seq) = detached {
            let checkpoint = self.core.db.find_checkpoint(seq).await?;
            if checkpoint.is_none_or(|checkpoint| checkpoint.created_at > month.start()) {
                return Err(ServiceError::invalid(
                    "month",
                    "was detached: its events live in the audit export only, and no report was made before",
                ));
            }
        }
        if detached.is_none() && self.core.db.find_last_seq_before(month.end()).await?.is_none() {
            return Err(ServiceError::invalid("month", "ended before the audit trail began"));
        }
        Ok(())
    }

    /// Finds a report with its files.
    pub async fn get_report(&self, id: Uuid) -> Result<FiledReport, ServiceError> {
        let report = self.core.db.find_report(id).await?.ok_or_else(|| not_found(id))?;
        let files = self.core.db.list_report_files(id).await?;
        Ok(FiledReport { report, files })
    }

    /// Reads the content of a report's file.
    pub async fn get_report_file(&self, id: Uuid, file: ReportFile) -> Result<(StoredReport, Vec<u8>), ServiceError> {
        let report = self.core.db.find_report(id).await?.ok_or_else(|| not_found(id))?;
        match (self.core.db.find_report_file(id, file).await?, report.state.means()) {
            (Some(content), _) => Ok((report, content)),
            (None, Some(ReportState::Making) | None) => {
                Err(ServiceError::NotReady("the report is being made; ask again in a moment".to_owned()))
            }
            (None, Some(ReportState::Ready | ReportState::Failed)) => {
                let why = report.failure.unwrap_or_default();
                Err(ServiceError::conflict(format!("the report could not be made: {why}; ask for it again")))
            }
        }
    }

    /// Lists reports in the order in which they were requested.
    pub async fn list_reports(
        &self,
        query: &ReportQuery,
        page: &PageRequest,
    ) -> Result<Page<StoredReport>, ServiceError> {
        let month = |text: &String| {
            let wrong = || ServiceError::Parameter("`month` is no month; write it as 2026-11".to_owned());
            Month::parse(text).ok_or_else(wrong)
        };
        let mut filter =
            ReportFilter { month: query.month.as_ref().map(month).transpose()?, ..ReportFilter::default() };
        if let Some(recipient) = &query.recipient {
            filter.recipient_id = Some(self.core.filtered_recipient(recipient).await?);
        }
        let opened = self.core.begin_page(page, format!("reports {filter:?}"))?;
        let after = opened.after.as_deref().and_then(|id| id.parse().ok());
        let reports = self.core.db.list_reports(&filter, after, opened.limit).await?;
        Ok(self.core.end_page(opened, reports, |report| report.id.to_string()))
    }

    /// Queues what falls due with time: last month's report of all recipients, where that is wanted, and reports that a
    /// server of the version before has left unmade.
    pub async fn tend_reports(&self) -> Result<(), ServiceError> {
        let now = self.core.clock.now();
        if self.reports.monthly
            && let Some(month) = Month::before(now).filter(|month| now >= month.end() + SETTLING)
            && self.core.db.find_report_of(month, None).await?.is_none()
            && self.check_kept(month).await.is_ok()
        {
            self.begin_report(&OperatorContext::system("reports", now), month, None).await?;
        }
        for id in self.core.db.list_making_reports(QUEUED_AT_ONCE).await? {
            self.queue_report(id).await?;
        }
        Ok(())
    }

    /// Queues the making of a report, where it is not queued.
    async fn queue_report(&self, id: Uuid) -> Result<(), ServiceError> {
        let mut tx = self.core.db.begin().await?;
        tx.enqueue_job(JobKind::Report, &id.to_string(), self.core.clock.now()).await?;
        Ok(tx.commit().await?)
    }

    /// Makes the report of a job.
    pub(in crate::service) async fn make_report(&self, job: &Job) -> Result<(), Undone> {
        let report = self.core.db.find_report(report_of(job)?).await?;
        match report.filter(|report| report.state == ReportState::Making) {
            Some(report) => self.write_report(&report, job).await,
            // A server of the version before has made it.
            None => {
                let mut tx = self.core.db.begin().await?;
                tx.complete_job(job, self.core.leases.holder()).await?;
                Ok(tx.commit().await?)
            }
        }
    }

    /// Remembers of a report that its job was given up.
    pub(in crate::service) async fn fail_report(tx: &mut Tx, job: &Job, why: &str) -> Result<(), StoreError> {
        let Ok(id) = report_of(job) else { return Ok(()) };
        match tx.fail_report(id, why).await {
            Err(StoreError::Stale) => Ok(()),
            outcome => outcome,
        }
    }

    /// Has a report whose job was given up wait to be made again.
    pub(in crate::service) async fn revive_report(tx: &mut Tx, job: &Job) -> Result<(), ServiceError> {
        let gone = || ServiceError::conflict("the report of this job is not one that could not be made");
        let Ok(id) = report_of(job) else { return Err(gone()) };
        match tx.revive_report(id).await {
            Err(StoreError::Stale) => Err(gone()),
            outcome => Ok(outcome?),
        }
    }

    async fn write_report(&self, report: &StoredReport, job: &Job) -> Result<(), Undone> {
        self.check_kept(report.month).await.map_err(|error| match error {
            ServiceError::Invalid(_) => Undone::Failed(error.to_string()),
            error => Undone::Later(error),
        })?;
        // Sealed first, so that a checkpoint covers every event counted.
        let last = self.core.db.find_last_seq_before(report.month.end()).await?.unwrap_or_default();
        let range = self.core.db.find_seqs_between(report.month.start(), report.month.end()).await?;
        let covered = range.map_or(last, |(_, last)| last).max(1);
        let checkpoint = self.audit_sealer.cover(covered).await.map_err(|error| match error {
            AuditError::Store(error) => Undone::from(error),
            error => Undone::Failed(format!("{error}; run `weir audit verify`")),
        })?;
        let party = report.recipient_id.map(|id| Party { id, name: report.recipient.clone().unwrap_or_default() });
        let scope = Scope { month: report.month, recipient_id: report.recipient_id };
        let counted = self.count_month(&scope, range, party).await?;
        let files = self.file_report(&counted, &checkpoint).map_err(|error| Undone::Failed(error.to_string()))?;
        let hashes = files.iter().map(|(stored, _)| (stored.file.as_str(), stored.entry.sha256.as_str()));
        let hashes: HashMap<&str, &str> = hashes.collect();
        let event = Event {
            object: Some(object(report)),
            recipient: report.recipient.clone(),
            recipient_id: report.recipient_id,
            change: Some(json!({"after": {"month": report.month, "sha256": hashes}})),
            ..Event::new(Actor::system("reports"), Action::ReportComplete)
        };
        let mut tx = self.core.db.begin().await?;
        let now = self.core.clock.now();
        tx.complete_report(report.id, &files, checkpoint.seq, now).await?;
        tx.complete_job(job, self.core.leases.holder()).await?;
        write::append(&mut tx, event, now).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Counts the month's events, page by page.
    async fn count_month(
        &self,
        scope: &Scope,
        range: Option<(i64, i64)>,
        party: Option<Party>,
    ) -> Result<Report, Undone> {
        let mut tally = Tally::new(scope.month, party);
        let (first, last) = range.unwrap_or((1, 0));
        let mut after = first - 1;
        while after < last {
            let page = self.read_events(scope.recipient_id, after).await?;
            let Some(end) = page.last().map(|event| event.seq) else { break };
            for stored in page.iter().filter(|event| event.seq <= last) {
                let personal = stored.personal.as_ref().map(|personal| personal.text.as_str());
                let event = Recorded::read(&stored.body, personal);
                let event = event.ok_or_else(|| {
                    Undone::Failed(format!("event {} cannot be read; run `weir audit verify`", stored.seq))
                })?;
                tally.add(event).map_err(|error| Undone::Failed(error.to_string()))?;
            }
            after = end;
        }
        let mut called = HashMap::new();
        for id in tally.recipients() {
            let recipient = self.core.db.find_recipient_by_id(id).await?;
            called.extend(recipient.and_then(|recipient| recipient.spec.display_name).map(|name| (id, name)));
        }
        let provider = self.reports.provider_name.clone();
        let until = scope.month.end().min(self.core.clock.now());
        let safeguards = self.core.db.list_safeguards(MOST_SAFEGUARDS).await?;
        let safeguards_off = off_between(&safeguards, scope.month.start(), until);
        Ok(Report { provider, safeguards_off, ..tally.finish(|id| called.get(&id).cloned()) })
    }

    async fn read_events(&self, recipient_id: Option<Uuid>, after: i64) -> Result<Vec<StoredEvent>, StoreError> {
        match recipient_id {
            None => Ok(self.core.db.list_chain(after, PAGE).await?.into_iter().map(|(event, _)| event).collect()),
            Some(_) => {
                let filter = AuditFilter { recipient_id, after_seq: Some(after), ..AuditFilter::default() };
                self.core.db.list_audit(&filter, PAGE).await
            }
        }
    }

    /// Builds a report's files, with the signed manifest.
    fn file_report(
        &self,
        report: &Report,
        checkpoint: &StoredCheckpoint,
    ) -> Result<Vec<(StoredFile, Vec<u8>)>, AuditError> {
        let filed = |file, content: String| {
            let content = content.into_bytes();
            (StoredFile { file, entry: FileEntry::of(&content) }, content)
        };
        let mut files = Vec::new();
        for file in ReportFile::LISTED {
            let content = render::report::file(report, file).map_err(|error| AuditError::Refused(error.to_string()))?;
            files.push(filed(file, content));
        }
        let entries = files.iter().map(|(stored, _)| (stored.file.as_str().to_owned(), stored.entry.clone()));
        let manifest = Manifest {
            format: MANIFEST_FORMAT.to_owned(),
            month: report.month,
            recipient: report.recipient.clone(),
            made_at: self.core.clock.now().trunc_subsecs(6),
            weir: env!("CARGO_PKG_VERSION").to_owned(),
            events: report.events,
            files: entries.collect(),
            checkpoint: checkpoint.note.clone(),
            key: self.audit_sealer.active_key()?.verifier().to_string(),
        };
        let manifest = manifest.json();
        let signature = self.audit_sealer.sign_statement(Statement::of(manifest.as_bytes()).as_str())?;
        files.push(filed(ReportFile::Manifest, manifest));
        files.push(filed(ReportFile::Signature, signature));
        Ok(files)
    }
}
