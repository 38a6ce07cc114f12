//! Columns of registered tables: scans propose what kind of data each holds, and people decide.
//!
//! A scan reads some rows of some files, hands the values to the detectors and keeps what these say, never a value. It is
//! recorded as an access to data. Never here: how classes are recognised ([`crate::domain::catalog::classes`]).

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        audit::{
            Event, Object,
            action::{Action, Kind},
        },
        catalog::{
            classes::{MOST_COLUMNS, Sample, SampledColumn, ValueKind, propose, values_of_each},
            column::{ClassifiedColumn, ColumnEvidence, ColumnState, LONGEST_PATH, Rescan, ScannedColumn},
            schema::{ColumnPath, DataType, Primitive, Schema},
            table::Table,
        },
        core::{job::JobKind, spec::Mode, word::Words},
        operators::Permission,
    },
    engine::EngineError,
    service::{
        audit::write,
        catalog::Catalog,
        core::{
            change::{Named, audited, changed_spec, differing},
            context::OperatorContext,
            error::ServiceError,
            jobs::Undone,
            page::{Page, PageRequest},
            precondition::Precondition,
        },
        materialize::Source,
    },
    store::{ColumnFilter, Job, Tx},
};

use super::{
    impact::Impact,
    requirements,
    tables::{event, find, not_found, thing},
};

/// How long whoever asks for a scan waits, by default and at most, in seconds.
pub const PATIENCE_SECONDS: u64 = 10;
/// How long a scan takes that nobody waits for.
const JOB_PATIENCE: Duration = Duration::from_secs(300);
/// How many files are read: the first, the last, and those evenly between.
const MOST_FILES: usize = 3;
/// How many columns are read at once; what is damaged in one of them is then looked for among these.
const COLUMNS_AT_ONCE: usize = 64;

/// The outcome of asking for a scan.
#[derive(Clone, Debug)]
pub enum ScanOutcome {
    /// It is done.
    Done(ScanSummary),
    /// It goes on as a job.
    Queued(Option<Job>),
}

/// What a scan found, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanSummary {
    /// The version that was read.
    pub table_version: u64,
    /// The columns of the table, nested ones counted.
    pub columns: usize,
    /// Those that are new.
    pub new: usize,
    /// Those that the table no longer has.
    pub gone: usize,
    /// Those whose values could not be read.
    pub unreadable: usize,
    /// Those that somebody decided about.
    pub decided: usize,
    /// Those that nobody decided about and nothing is proposed for.
    pub unclassified: usize,
    /// Those that nobody decided about, by proposed class.
    pub proposed: BTreeMap<String, usize>,
}

/// Filters a listing of columns.
#[derive(Clone, Debug, Default)]
pub struct ColumnQuery {
    /// Only those in this state.
    pub state: Option<ColumnState>,
    /// Only those with this class.
    pub class: Option<String>,
    /// Those that are gone instead of those that are there.
    pub is_gone: bool,
}

/// What somebody decides about a column.
#[derive(Clone, Debug)]
pub struct ColumnDecision {
    /// The column's path.
    pub path: String,
    /// The etags that it may have.
    pub condition: Option<Precondition>,
    /// The fields of its spec.
    pub named: Named,
}

/// What was read of a table.
struct Reading {
    table: Table,
    version: u64,
    columns: Vec<ScannedColumn>,
    rows: usize,
}

/// What was read of a column.
struct ReadColumn {
    path: ColumnPath,
    data_type: String,
    kind: ValueKind,
    values: Vec<Sample>,
    problem: Option<String>,
}

impl Catalog {
    /// Scans a table: reads a bounded part of it, and keeps what its columns probably hold. Whoever asks waits up to `wait`;
    /// then it goes on as a job.
    pub async fn scan_table(
        &self,
        ctx: &OperatorContext,
        name: &str,
        wait: Duration,
    ) -> Result<ScanOutcome, ServiceError> {
        let started = Instant::now();
        let table = self.table_for(ctx, Permission::PreviewData, name).await?;
        let outcome = if wait.is_zero() {
            None
        } else {
            let reading = tokio::time::timeout(wait, read_table(self, &table)).await.ok();
            reading.inspect(|reading| {
                if reading.is_err() {
                    self.core.metrics.table_scanned("failed");
                }
            })
        };
        let Some(reading) = outcome else {
            let mut unit = self.core.begin_change(ctx).await?;
            let (tx, ctx) = unit.parts();
            // The table may have gone, or moved to where others decide, while it was read.
            let found = tx.find_table_by_id(table.id).await?;
            ctx.require(Permission::PreviewData, &thing(name, found.as_ref()))?;
            let table = found.ok_or_else(|| not_found(name))?;
            let key = table.id.to_string();
            tx.enqueue_job(JobKind::Scan, &key, ctx.now).await?;
            let job = tx.find_job_of(JobKind::Scan, &key).await?;
            let change = serde_json::json!({"after": {"queued": true}});
            let event = Event { change: Some(change), ..event(ctx, Action::TableScan, &table) };
            write::append(tx, event, ctx.now).await?;
            unit.commit().await?;
            self.core.metrics.table_scanned("queued");
            return Ok(ScanOutcome::Queued(job));
        };
        self.keep_scan(ctx, reading?, started, None).await.map(ScanOutcome::Done)
    }

    /// Does the scan that a job is about.
    pub(in crate::service) async fn scan_by_job(&self, job: &Job) -> Result<(), Undone> {
        let gone = || Undone::Failed("the table is no longer registered".to_owned());
        let id: Uuid = job.key.parse().map_err(|_| Undone::Failed("its key is no table's id".to_owned()))?;
        let table = self.core.db.find_table_by_id(id).await?.ok_or_else(gone)?;
        let started = Instant::now();
        let reading = tokio::time::timeout(JOB_PATIENCE, read_table(self, &table)).await.map_err(|_| {
            self.core.metrics.table_scanned("failed");
            Undone::Failed("the table takes too long to read".to_owned())
        })?;
        let reading = reading.map_err(|error| {
            self.core.metrics.table_scanned("failed");
            match error {
                error @ ServiceError::Unavailable { .. } => Undone::Later(error),
                error => Undone::Failed(error.to_string()),
            }
        })?;
        let ctx = OperatorContext::system("scan", self.core.clock.now());
        self.keep_scan(&ctx, reading, started, Some(job)).await?;
        Ok(())
    }

    /// Keeps what a scan found, with its event, and ends its job.
    async fn keep_scan(
        &self,
        ctx: &OperatorContext,
        reading: Reading,
        started: Instant,
        job: Option<&Job>,
    ) -> Result<ScanSummary, ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let name = reading.table.name.as_str();
        let table = tx.find_table_by_id(reading.table.id).await?.ok_or_else(|| not_found(name))?;
        ctx.require(Permission::PreviewData, &table.thing())?;
        if table.spec.location != reading.table.spec.location {
            return Err(ServiceError::conflict(format!("table `{name}` moved meanwhile; scan it again")));
        }
        let (version, rows) = (reading.version, reading.rows);
        let known = tx.all_columns(table.id).await?;
        let rescan = Rescan::of(table.id, known, reading.columns, ctx.now);
        tx.put_columns(&rescan.proposed, true).await?;
        tx.put_columns(&rescan.kept, false).await?;
        tx.end_columns(&rescan.gone, ctx.now).await?;
        requirements::settle_columns(tx, ctx, table.id, &[]).await?;
        if let Some(job) = job {
            tx.complete_job(job, self.core.leases.holder()).await?;
        }
        let summary = summary(&rescan, version);
        let change = serde_json::json!({"after": {
            "columns": summary.columns, "new": summary.new, "gone": summary.gone, "unreadable": summary.unreadable,
            "proposed": summary.proposed,
        }});
        let event = Event {
            change: Some(change),
            table_version: Some(version),
            rows: Some(u64::try_from(rows).unwrap_or(u64::MAX)),
            duration_ms: Some(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)),
            ..event(ctx, Action::TableScan, &table)
        };
        if ctx.is_dry() {
            // The data was read all the same.
            unit.commit().await?;
            self.core.audit_writer.record(event).await?;
        } else {
            write::append(tx, event, ctx.now).await?;
            unit.commit().await?;
        }
        self.core.metrics.table_scanned("done");
        Ok(summary)
    }

    /// Lists a table's columns by path.
    pub async fn list_columns(
        &self,
        ctx: &OperatorContext,
        name: &str,
        query: &ColumnQuery,
        page: &PageRequest,
    ) -> Result<Page<ClassifiedColumn>, ServiceError> {
        let table = self.table_for(ctx, Permission::ReadSharing, name).await?;
        let filter = ColumnFilter {
            state: query.state.map(ColumnState::as_str),
            class: query.class.clone(),
            is_gone: query.is_gone,
        };
        let opened = self.core.begin_page(page, format!("columns {} {filter:?}", table.id))?;
        let found = self.core.db.list_columns(table.id, &filter, opened.after.as_deref(), opened.limit).await?;
        Ok(self.core.end_page(opened, found, |column| column.path.clone()))
    }

    /// Decides about columns of a table, about all of them or none; they are returned as they are then, in a dry run with what
    /// that would mean for what is shared.
    pub async fn decide_columns(
        &self,
        ctx: &OperatorContext,
        name: &str,
        decisions: &[ColumnDecision],
    ) -> Result<(Vec<ClassifiedColumn>, Option<Impact>), ServiceError> {
        let mut unit = self.core.begin_change(ctx).await?;
        let (tx, ctx) = unit.parts();
        let table = find(tx, ctx, Permission::ClassifyColumns, name).await?;
        let mut decided = Vec::with_capacity(decisions.len());
        for decision in decisions {
            decided.push(decide(tx, ctx, &table, decision).await?);
        }
        let settled = requirements::settle_columns(tx, ctx, table.id, &decided).await?;
        if ctx.is_dry() {
            let ctx = unit.abandon();
            let impact = self.impact_of(settled, ctx.now).await?;
            return Ok((decided, Some(impact)));
        }
        unit.commit().await?;
        Ok((decided, None))
    }
}

async fn decide(
    tx: &mut Tx,
    ctx: &OperatorContext,
    table: &Table,
    decision: &ColumnDecision,
) -> Result<ClassifiedColumn, ServiceError> {
    let missing = || ServiceError::NotFound { kind: "column", name: decision.path.clone() };
    let path = ColumnPath::parse(&decision.path).map_err(|_| missing())?.to_string();
    let before = tx.find_column(table.id, &path).await?.ok_or_else(missing)?;
    Precondition::check(decision.condition.as_ref(), before.id, before.revision)?;
    if before.gone_at.is_some() {
        let message = format!("table `{}` no longer has the column `{path}`; if it has, scan the table", table.name);
        return Err(ServiceError::conflict(message));
    }
    let mut named = decision.named.clone();
    if !named.contains_key("state") && (named.contains_key("class") || named.contains_key("role")) {
        named.insert("state".to_owned(), ColumnState::Confirmed.as_str().into());
    }
    let spec = changed_spec(&before.spec, &named, Mode::Merge)?;
    if differing(&before.spec, &spec).is_empty() {
        return Ok(before);
    }
    let is_decided = spec.state.means() != Some(ColumnState::Proposed);
    let decided = is_decided.then(|| (ctx.operator_name(), ctx.now));
    let after = ClassifiedColumn { spec, decided, updated_at: ctx.now, ..before.clone() };
    let after = tx.update_column(after).await?;
    let object = Object { kind: Kind::Column, id: Some(after.id), name: Some(format!("{}:{path}", table.name)) };
    let event = Event { object: Some(object), ..event(ctx, Action::ColumnUpdate, table) };
    let event = audited(Some(&before.spec), Some(&after.spec)).told_by(event);
    write::append(tx, event, ctx.now).await?;
    Ok(after)
}

/// Leaves every decision about a table's columns to people again, because other data lies under its name now.
pub(super) async fn reopen(
    tx: &mut Tx,
    table_id: Uuid,
    now: DateTime<Utc>,
) -> Result<Vec<ClassifiedColumn>, ServiceError> {
    let is_decided = |column: &ClassifiedColumn| column.spec.state.means() != Some(ColumnState::Proposed);
    let decided: Vec<_> = tx.all_columns(table_id).await?.into_iter().filter(is_decided).collect();
    let reopened: Vec<_> = decided.iter().map(|column| column.reopened(now)).collect();
    tx.put_columns(&reopened, true).await?;
    Ok(reopened)
}

fn summary(rescan: &Rescan, table_version: u64) -> ScanSummary {
    let mut summary = ScanSummary {
        table_version,
        columns: rescan.all.len(),
        new: rescan.new,
        gone: rescan.gone.len(),
        ..ScanSummary::default()
    };
    for column in &rescan.all {
        let has_problem = |evidence: &ColumnEvidence| evidence.problem.is_some();
        summary.unreadable += usize::from(column.evidence.as_ref().is_some_and(has_problem));
        match (column.spec.state.means(), &column.spec.class) {
            (Some(ColumnState::Proposed), Some(class)) => {
                *summary.proposed.entry(class.as_str().to_owned()).or_default() += 1;
            }
            (Some(ColumnState::Proposed), None) => summary.unclassified += 1,
            _ => summary.decided += 1,
        }
    }
    summary
}

/// Reads a part of a table, and has the detectors look at it.
async fn read_table(catalog: &Catalog, table: &Table) -> Result<Reading, ServiceError> {
    let snapshot = catalog.snapshot_of(table).await?;
    let source = Source { location: catalog.storages.locate(&table.spec.location)?, snapshot };
    let schema = Schema::parse(&source.snapshot.metadata().schema_string).map_err(ServiceError::internal)?;
    let mut columns = columns_of(&schema)?;
    read_files(catalog, &source, &Arc::new(schema), &mut columns).await?;
    let rows = columns.iter().map(|column| column.values.len()).max().unwrap_or_default();
    // Many columns keep a core busy for a while.
    let scanned = tokio::task::spawn_blocking(move || classify(columns)).await.map_err(ServiceError::internal)?;
    Ok(Reading { table: table.clone(), version: source.snapshot.version(), columns: scanned, rows })
}

fn columns_of(schema: &Schema) -> Result<Vec<ReadColumn>, ServiceError> {
    let leaves = schema.leaves();
    if leaves.len() > MOST_COLUMNS {
        let message =
            format!("the table has more than {MOST_COLUMNS} columns, nested ones counted, and is not scanned");
        return Err(ServiceError::Unsupported(message));
    }
    let column = |(path, data_type): (ColumnPath, &DataType)| {
        if path.to_string().len() > LONGEST_PATH {
            let message = format!("the path of a column is longer than {LONGEST_PATH} bytes; the table is not scanned");
            return Err(ServiceError::Unsupported(message));
        }
        let (kind, data_type) = (kind_of(data_type), data_type.to_string());
        Ok(ReadColumn { path, data_type, kind, values: Vec::new(), problem: None })
    };
    leaves.into_iter().map(column).collect()
}

fn kind_of(data_type: &DataType) -> ValueKind {
    match data_type {
        DataType::Primitive(Primitive::String) => ValueKind::Text,
        DataType::Primitive(
            Primitive::Byte
            | Primitive::Short
            | Primitive::Integer
            | Primitive::Long
            | Primitive::Decimal { scale: 0, .. },
        ) => ValueKind::Whole,
        DataType::Primitive(Primitive::Float | Primitive::Double | Primitive::Decimal { .. }) => ValueKind::Fraction,
        DataType::Primitive(Primitive::Date | Primitive::Timestamp | Primitive::TimestampNtz) => ValueKind::Time,
        _ => ValueKind::Opaque,
    }
}

/// Reads values of the columns from some files. What cannot be read is noted with the column; only an outage ends it.
async fn read_files(
    catalog: &Catalog,
    source: &Source,
    schema: &Arc<Schema>,
    columns: &mut [ReadColumn],
) -> Result<(), ServiceError> {
    let files = some_files(source.snapshot.files().len());
    let rows = values_of_each(columns.len()).div_ceil(files.len().max(1));
    let readable: Vec<usize> = (0..columns.len())
        .filter(|at| columns.get(*at).is_some_and(|column| column.kind != ValueKind::Opaque))
        .collect();
    for index in files {
        // A file that cannot be opened need not be tried for every column.
        if let Err(error) = read_some(catalog, source, schema, index, &[], 0).await {
            let problem = problem(error)?;
            columns.iter_mut().for_each(|column| column.problem = Some(problem.clone()));
            continue;
        }
        for group in readable.chunks(COLUMNS_AT_ONCE) {
            if read_group(catalog, source, schema, index, group, rows, columns).await.is_ok() {
                continue;
            }
            for at in group {
                if let Err(error) =
                    read_group(catalog, source, schema, index, std::slice::from_ref(at), rows, columns).await
                {
                    let problem = problem(error)?;
                    if let Some(column) = columns.get_mut(*at) {
                        column.problem = Some(problem);
                    }
                }
            }
        }
    }
    Ok(())
}

/// The first, the last, and files evenly between.
fn some_files(count: usize) -> Vec<usize> {
    let chosen = count.min(MOST_FILES);
    let mut files: Vec<usize> = (0..chosen).map(|at| at * count.saturating_sub(1) / (chosen - 1).max(1)).collect();
    files.dedup();
    files
}

/// Adds values of the columns at these places from one file; adds none if one of them cannot be read.
async fn read_group(
    catalog: &Catalog,
    source: &Source,
    schema: &Arc<Schema>,
    index: usize,
    group: &[usize],
    rows: usize,
    columns: &mut [ReadColumn],
) -> Result<(), EngineError> {
    let path = |at: &usize| columns.get(*at).map(|column| column.path.clone());
    let paths: Vec<ColumnPath> = group.iter().filter_map(path).collect();
    let read = read_some(catalog, source, schema, index, &paths, rows).await?;
    for (at, values) in group.iter().zip(read) {
        if let Some(column) = columns.get_mut(*at) {
            column.values.extend(values);
        }
    }
    Ok(())
}

async fn read_some(
    catalog: &Catalog,
    source: &Source,
    schema: &Arc<Schema>,
    index: usize,
    paths: &[ColumnPath],
    rows: usize,
) -> Result<Vec<Vec<Sample>>, EngineError> {
    let sample = |file| catalog.materializer.engine().sample(file, paths.to_vec(), rows);
    catalog.materializer.with_file(source, schema, index, sample).await
}

/// What is noted of a column that cannot be read. An outage is no matter of the column.
fn problem(error: EngineError) -> Result<String, ServiceError> {
    match error {
        EngineError::Unavailable(_) | EngineError::Stopped => {
            Err(ServiceError::Unavailable { what: "the table's storage", source: error.into() })
        }
        error => Ok(error.to_string()),
    }
}

fn classify(columns: Vec<ReadColumn>) -> Vec<ScannedColumn> {
    let (columns, sampled): (Vec<_>, Vec<_>) = columns
        .into_iter()
        .map(|column| {
            let is_whole = |value: &Sample| matches!(value, Sample::Whole(_));
            // Some writers keep whole numbers as fractions where values are missing.
            let kind = match column.kind {
                ValueKind::Fraction if !column.values.is_empty() && column.values.iter().all(is_whole) => {
                    ValueKind::Whole
                }
                kind => kind,
            };
            let sampled = SampledColumn { path: column.path.0.clone(), kind, values: column.values };
            ((column.path, column.data_type, column.problem), sampled)
        })
        .unzip();
    let proposals = propose(&sampled);
    let scanned = columns.into_iter().zip(&sampled).zip(proposals);
    scanned
        .map(|(((path, data_type, problem), sampled), proposal)| ScannedColumn {
            path: path.to_string(),
            data_type,
            evidence: ColumnEvidence::of(proposal.as_ref(), sampled.values.len(), problem),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_from_everywhere() {
        assert_eq!(some_files(0), Vec::<usize>::new());
        assert_eq!(some_files(1), [0]);
        assert_eq!(some_files(2), [0, 1]);
        assert_eq!(some_files(101), [0, 50, 100]);
    }
}
