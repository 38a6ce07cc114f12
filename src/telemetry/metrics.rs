//! Declares each metric once. A [`Metrics`] value is passed down; there is no global registry.
//!
//! Labels are route templates, fixed words, and the names of configured storages and webhooks, so their number is
//! bounded. Shares, tables and recipients are never labels.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use chrono::TimeDelta;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use super::logging::lines_lost;
use crate::domain::core::{
    job::{JobKind, JobState},
    word::Words,
};

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DecisionLabels {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabels {
    operation: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SettingLabels {
    setting: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeliveryLabels {
    delivery: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NotificationLabels {
    webhook: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TaskErrorLabels {
    task: &'static str,
    error: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct JobLabels {
    kind: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ScanLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StorageLabels {
    storage: String,
}

/// The server's metrics. Each method reports an event; [`Metrics::encode`] returns the page for Prometheus. Clones
/// share their counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histograms<RouteLabels>,
    in_flight: Gauge,
    connections: Gauge,
    connections_closed: Counter,
    decisions: Family<DecisionLabels, Counter>,
    data_requests: Family<OperationLabels, Counter>,
    usage_waiting_events: Gauge,
    files_issued: Family<DeliveryLabels, Counter>,
    bytes_issued: Family<DeliveryLabels, Counter>,
    bytes_proxied: Counter,
    snapshot_hits: Counter,
    snapshot_misses: Counter,
    snapshot_load_seconds: Histogram,
    snapshot_cache_bytes: Gauge,
    audit_batch_events: Histogram,
    audit_commit_seconds: Histogram,
    audit_events_lost: Counter,
    audit_unsealed_seconds: Gauge,
    audit_unexported_seconds: Gauge,
    storage_errors: Family<StorageLabels, Counter>,
    objects_on_hold: Gauge,
    copies_made: Counter,
    copies_made_bytes: Counter,
    copies_deleted: Counter,
    copies_deleted_bytes: Counter,
    copies_failed: Counter,
    surrogates_drawn: Counter,
    copies_orphaned: Gauge,
    copies_missing: Gauge,
    queries_without_rows: Counter,
    notification_attempts: Family<NotificationLabels, Counter>,
    database_up: Gauge,
    log_lines_lost: Counter,
    clock_steps_back: Counter,
    geography_database_failing: Gauge,
    geography_database_made: Gauge,
    tasks_failed: Family<TaskLabels, Counter>,
    task_failing: Family<TaskLabels, Gauge>,
    task_last_run: Family<TaskLabels, Gauge>,
    task_lag: Family<TaskLabels, Gauge>,
    task_last_error: Family<TaskErrorLabels, Gauge>,
    safeguard_off: Family<SettingLabels, Gauge>,
    jobs: Family<JobLabels, Gauge>,
    table_scans: Family<ScanLabels, Counter>,
    discoveries: Family<ScanLabels, Counter>,
}

/// Something in progress, such as a request being served; it ends when this is dropped.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The label for requests without a route template. Their path is chosen by the client, so it must not become a label.
const UNMATCHED_ROUTE: &str = "unmatched";

impl Metrics {
    /// Creates all metrics at zero. The names of `storages` are registered at once, so that storages without errors are
    /// shown.
    pub fn new<'a>(storages: impl IntoIterator<Item = &'a str>) -> Self {
        let metrics = Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            connections_closed: Counter::default(),
            decisions: Family::default(),
            data_requests: Family::default(),
            usage_waiting_events: Gauge::default(),
            files_issued: Family::default(),
            bytes_issued: Family::default(),
            bytes_proxied: Counter::default(),
            snapshot_hits: Counter::default(),
            snapshot_misses: Counter::default(),
            snapshot_load_seconds: seconds(),
            snapshot_cache_bytes: Gauge::default(),
            audit_batch_events: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            audit_commit_seconds: seconds(),
            audit_events_lost: Counter::default(),
            audit_unsealed_seconds: Gauge::default(),
            audit_unexported_seconds: Gauge::default(),
            storage_errors: Family::default(),
            objects_on_hold: Gauge::default(),
            copies_made: Counter::default(),
            copies_made_bytes: Counter::default(),
            copies_deleted: Counter::default(),
            copies_deleted_bytes: Counter::default(),
            copies_failed: Counter::default(),
            surrogates_drawn: Counter::default(),
            copies_orphaned: Gauge::default(),
            copies_missing: Gauge::default(),
            queries_without_rows: Counter::default(),
            notification_attempts: Family::default(),
            database_up: Gauge::default(),
            log_lines_lost: Counter::default(),
            clock_steps_back: Counter::default(),
            geography_database_failing: Gauge::default(),
            geography_database_made: Gauge::default(),
            tasks_failed: Family::default(),
            task_failing: Family::default(),
            task_last_run: Family::default(),
            task_lag: Family::default(),
            task_last_error: Family::default(),
            safeguard_off: Family::default(),
            jobs: Family::default(),
            table_scans: Family::default(),
            discoveries: Family::default(),
            registry: Arc::default(),
        };
        for storage in storages {
            drop(metrics.storage_errors.get_or_create(&StorageLabels { storage: storage.to_owned() }));
        }
        for outcome in ["done", "queued", "failed"] {
            drop(metrics.table_scans.get_or_create(&ScanLabels { outcome }));
        }
        for outcome in ["complete", "partial", "failed"] {
            drop(metrics.discoveries.get_or_create(&ScanLabels { outcome }));
        }
        metrics.registered()
    }

    /// Registers the names of `webhooks` at once: a series that starts with the first failure would show no increase.
    pub fn expect_webhooks<'a>(&self, webhooks: impl IntoIterator<Item = &'a str>) {
        for webhook in webhooks {
            for outcome in ["delivered", "failed", "dead"] {
                let labels = NotificationLabels { webhook: webhook.to_owned(), outcome };
                drop(self.notification_attempts.get_or_create(&labels));
            }
        }
    }

    /// Registers the names of background `tasks` at once.
    pub fn expect_tasks(&self, tasks: impl IntoIterator<Item = &'static str>) {
        for task in tasks {
            drop(self.tasks_failed.get_or_create(&TaskLabels { task }));
            drop(self.task_failing.get_or_create(&TaskLabels { task }));
        }
    }

    fn registered(self) -> Self {
        let mut r = Registry::with_prefix("weir");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The running version", build);
        r.register("http_requests", "Requests answered", self.requests.clone());
        let help = "Time until a response began";
        r.register_with_unit("http_request_duration", help, Unit::Seconds, self.request_seconds.clone());
        r.register("http_requests_in_flight", "Requests being served, streams included", self.in_flight.clone());
        r.register("connections", "Open connections of clients", self.connections.clone());
        let help = "Connections closed because there was no room for new ones";
        r.register("connections_closed", help, self.connections_closed.clone());
        r.register("decisions", "Decisions on data requests", self.decisions.clone());
        r.register("data_requests", "Data requests by operation", self.data_requests.clone());
        let help = "Audit events that are not in the usage sums yet";
        r.register("usage_waiting_events", help, self.usage_waiting_events.clone());
        r.register("files_issued", "Files whose URLs were handed out", self.files_issued.clone());
        let help = "Size of the files whose URLs were handed out";
        r.register_with_unit("issued", help, Unit::Bytes, self.bytes_issued.clone());
        r.register_with_unit("proxied", "File bytes sent by this server", Unit::Bytes, self.bytes_proxied.clone());
        r.register("snapshot_cache_hits", "Snapshots answered from memory", self.snapshot_hits.clone());
        r.register("snapshot_cache_misses", "Snapshots that had to be loaded", self.snapshot_misses.clone());
        let help = "Time to load or advance a snapshot";
        r.register_with_unit("snapshot_load", help, Unit::Seconds, self.snapshot_load_seconds.clone());
        let help = "Memory held by cached snapshots";
        r.register_with_unit("snapshot_cache", help, Unit::Bytes, self.snapshot_cache_bytes.clone());
        r.register("audit_batch_events", "Audit events that shared a commit", self.audit_batch_events.clone());
        let help = "Time to commit a batch of audit events";
        r.register_with_unit("audit_commit", help, Unit::Seconds, self.audit_commit_seconds.clone());
        let help = "Events that tell how an answer ended, or of how many refusals, and could not be recorded";
        r.register("audit_events_lost", help, self.audit_events_lost.clone());
        let help = "How long the oldest audit event has waited for a checkpoint";
        r.register("audit_unsealed_seconds", help, self.audit_unsealed_seconds.clone());
        let help = "How long the oldest checkpoint has waited for its export";
        r.register("audit_unexported_seconds", help, self.audit_unexported_seconds.clone());
        r.register("storage_errors", "Failed calls to a storage", self.storage_errors.clone());
        let help = "Objects whose table has a schema that nobody accepted";
        r.register("objects_on_hold", help, self.objects_on_hold.clone());
        r.register("copies_made", "Governed files that this server wrote", self.copies_made.clone());
        let help = "Size of the governed files that this server wrote";
        r.register_with_unit("copies_written", help, Unit::Bytes, self.copies_made_bytes.clone());
        r.register("copies_deleted", "Governed files that this server deleted", self.copies_deleted.clone());
        let help = "Size of the governed files that this server deleted";
        r.register_with_unit("copies_freed", help, Unit::Bytes, self.copies_deleted_bytes.clone());
        r.register("copies_failed", "Governed files that could not be made", self.copies_failed.clone());
        r.register("surrogates_drawn", "Surrogates that this server has drawn", self.surrogates_drawn.clone());
        let help = "Objects among the copies that no row of the register names";
        r.register("copies_orphaned", help, self.copies_orphaned.clone());
        let help = "Copies of the register whose object is gone";
        r.register("copies_missing", help, self.copies_missing.clone());
        let help = "Queries of views answered with no row because of the recipient's properties";
        r.register("queries_without_rows", help, self.queries_without_rows.clone());
        let help = "Messages sent to webhooks, by what came of it";
        r.register("notification_attempts", help, self.notification_attempts.clone());
        r.register("database_up", "Whether the database answers", self.database_up.clone());
        let help = "Log lines that could not be written";
        r.register("log_lines_lost", help, self.log_lines_lost.clone());
        let help = "Times that the clock went back because it had been ahead";
        r.register("clock_steps_back", help, self.clock_steps_back.clone());
        let help = "Whether the country file, as it is now, cannot be used, so that an earlier one goes on";
        r.register("geography_database_failing", help, self.geography_database_failing.clone());
        let help = "When the country file in use was made, in seconds since 1970; 0 without one";
        r.register("geography_database_made_timestamp_seconds", help, self.geography_database_made.clone());
        r.register("tasks_failed", "Runs of background tasks that failed", self.tasks_failed.clone());
        r.register("task_failing", "Whether a background task's last run failed", self.task_failing.clone());
        let help = "When a background task last did its work, in seconds since 1970";
        r.register("task_last_run_timestamp_seconds", help, self.task_last_run.clone());
        let help = "How late a background task's last run began";
        r.register("task_lag_seconds", help, self.task_lag.clone());
        let help = "When a background task last failed with an error of this class, in seconds since 1970";
        r.register("task_last_error_timestamp_seconds", help, self.task_last_error.clone());
        let help = "Since when a setting is off that restricts sharing, in seconds since 1970";
        r.register("safeguard_off_since_timestamp_seconds", help, self.safeguard_off.clone());
        r.register("jobs", "Jobs that are due, running or dead, on all servers together", self.jobs.clone());
        r.register("table_scans", "Scans of tables for classes, by what came of them", self.table_scans.clone());
        r.register("discoveries", "Searches for tables, by what came of them", self.discoveries.clone());
        Self { registry: Arc::new(r), ..self }
    }

    /// Counts a request as being served while the result lives.
    pub fn request_started(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts a connection as open while the result lives.
    pub fn connection_opened(&self) -> InFlight {
        self.connections.inc();
        InFlight(self.connections.clone())
    }

    /// Counts `count` connections that were closed to make room for others.
    pub fn connections_closed(&self, count: usize) {
        self.connections_closed.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Records a response that began after `took`. `route` is the matching template, if there is one.
    pub fn request_answered(&self, method: &str, route: Option<&str>, status: u16, took: Duration) {
        let (method, route) = (known_method(method), route.unwrap_or(UNMATCHED_ROUTE).to_owned());
        let labels = RouteLabels { method, route: route.clone() };
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    }

    /// Records whether the country file can be used as it is now, and when the one in use was made.
    pub fn country_file_looked_at(&self, can_be_used: bool, made: Option<i64>) {
        self.geography_database_failing.set(i64::from(!can_be_used));
        self.geography_database_made.set(made.unwrap_or_default());
    }

    /// Counts a decision on a data request: `operation` is an action of the audit trail, `outcome` is `allow` or
    /// `deny`, and `reason` is one of the domain's reason codes.
    pub fn decided(&self, operation: &str, outcome: &'static str, reason: &'static str) {
        self.data_requests.get_or_create(&OperationLabels { operation: operation.to_owned(), outcome }).inc();
        self.decisions.get_or_create(&DecisionLabels { outcome, reason }).inc();
    }

    /// Tells since when a setting is off that restricts sharing, in seconds since 1970.
    pub fn safeguard_is_off(&self, setting: &'static str, since: i64) {
        self.safeguard_off.get_or_create(&SettingLabels { setting }).set(since);
    }

    /// Sets the number of audit events that are not in the usage sums yet.
    pub fn usage_waits_for(&self, events: i64) {
        self.usage_waiting_events.set(events);
    }

    /// Counts issued URLs for `files` files with `bytes` bytes in total; `delivery` is `presigned` or `proxied`.
    pub fn files_issued(&self, delivery: &'static str, files: u64, bytes: u64) {
        let labels = DeliveryLabels { delivery };
        self.files_issued.get_or_create(&labels).inc_by(files);
        self.bytes_issued.get_or_create(&labels).inc_by(bytes);
    }

    /// Counts a step back of the clock, which had been ahead.
    pub fn clock_went_back(&self) {
        self.clock_steps_back.inc();
    }

    /// Records a run of the background task `task` that began `lag` after its due time and ended at `at`, in seconds
    /// since 1970. `error` is the class of its failure, one of a few fixed words.
    pub fn task_ran(&self, task: &'static str, lag: TimeDelta, at: i64, error: Option<&'static str>) {
        let labels = TaskLabels { task };
        self.task_lag.get_or_create(&labels).set(lag.num_seconds().max(0));
        self.task_failing.get_or_create(&labels).set(error.is_some().into());
        match error {
            Some(error) => {
                self.tasks_failed.get_or_create(&labels).inc();
                self.task_last_error.get_or_create(&TaskErrorLabels { task, error }).set(at);
            }
            None => {
                self.task_last_run.get_or_create(&labels).set(at);
            }
        }
    }

    /// How many jobs there are of each kind and state; of those that are not named there is none. Kinds of a newer server are
    /// left to that.
    pub fn jobs_are(&self, counts: &[(String, String, i64)]) {
        let states = || JobState::ALL.iter().map(|(state, _)| *state);
        for (kind, state) in JobKind::ALL.iter().flat_map(|kind| states().map(|state| (kind.as_str(), state))) {
            let count = counts.iter().find(|count| count.0 == kind && count.1 == state).map_or(0, |count| count.2);
            self.jobs.get_or_create(&JobLabels { kind, state }).set(count);
        }
    }

    /// This server sent `bytes` bytes of a file.
    pub fn bytes_proxied(&self, bytes: u64) {
        self.bytes_proxied.inc_by(bytes);
    }

    /// Counts a snapshot answered from memory.
    pub fn snapshot_hit(&self) {
        self.snapshot_hits.inc();
    }

    /// Counts a snapshot that was not in memory.
    pub fn snapshot_missed(&self) {
        self.snapshot_misses.inc();
    }

    /// Records that a snapshot was loaded or advanced in `took`.
    pub fn snapshot_loaded(&self, took: Duration) {
        self.snapshot_load_seconds.observe(took.as_secs_f64());
    }

    /// Sets the size of the cached snapshots.
    pub fn snapshot_cache_is(&self, bytes: u64) {
        self.snapshot_cache_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Records that a batch of `events` audit events was committed in `took`.
    pub fn audit_committed(&self, events: usize, took: Duration) {
        self.audit_batch_events.observe(events as f64);
        self.audit_commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts an audit event without a waiting caller that could not be recorded.
    pub fn audit_event_lost(&self) {
        self.audit_events_lost.inc();
    }

    /// Counts a failed call to the configured storage `storage`.
    pub fn storage_failed(&self, storage: &str) {
        self.storage_errors.get_or_create(&StorageLabels { storage: storage.to_owned() }).inc();
    }

    /// Sets the number of objects held at a version before their table's newest because of its schema.
    pub fn objects_on_hold_are(&self, count: usize) {
        self.objects_on_hold.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets how long the oldest event has waited for a checkpoint, and the oldest checkpoint for its export; 0 if none
    /// waits.
    pub fn audit_waits(&self, unsealed: TimeDelta, unexported: TimeDelta) {
        self.audit_unsealed_seconds.set(unsealed.num_seconds().max(0));
        self.audit_unexported_seconds.set(unexported.num_seconds().max(0));
    }

    /// Counts `files` copies with `bytes` bytes in total that this server wrote.
    pub fn copies_made(&self, files: u64, bytes: u64) {
        self.copies_made.inc_by(files);
        self.copies_made_bytes.inc_by(bytes);
    }

    /// Counts `files` copies with `bytes` bytes in total that this server deleted.
    pub fn copies_deleted(&self, files: u64, bytes: u64) {
        self.copies_deleted.inc_by(files);
        self.copies_deleted_bytes.inc_by(bytes);
    }

    /// Counts a copy that could not be made.
    pub fn copy_failed(&self) {
        self.copies_failed.inc();
    }

    /// Counts surrogates that were drawn.
    pub fn surrogates_drawn(&self, drawn: u64) {
        self.surrogates_drawn.inc_by(drawn);
    }

    /// Sets the result of comparing the register of copies with their store: objects without a row, and rows without an
    /// object.
    pub fn copies_disagree(&self, orphaned: usize, missing: usize) {
        self.copies_orphaned.set(i64::try_from(orphaned).unwrap_or(i64::MAX));
        self.copies_missing.set(i64::try_from(missing).unwrap_or(i64::MAX));
    }

    /// Counts a query of a view that was answered without rows because of the recipient's properties.
    pub fn query_without_rows(&self) {
        self.queries_without_rows.inc();
    }

    /// Counts an attempt to send a message to a configured webhook; `outcome` is `delivered`, `failed` (to be retried)
    /// or `dead`.
    pub fn notification_attempted(&self, webhook: &str, outcome: &'static str) {
        let labels = NotificationLabels { webhook: webhook.to_owned(), outcome };
        self.notification_attempts.get_or_create(&labels).inc();
    }

    /// Counts a scan of a table for classes; `outcome` is `done`, `queued` or `failed`.
    pub fn table_scanned(&self, outcome: &'static str) {
        self.table_scans.get_or_create(&ScanLabels { outcome }).inc();
    }

    /// Counts a search for tables; `outcome` is `complete`, `partial` or `failed`.
    pub fn tables_discovered(&self, outcome: &'static str) {
        self.discoveries.get_or_create(&ScanLabels { outcome }).inc();
    }

    /// Sets whether the database answers.
    pub fn database_answers(&self, does: bool) {
        self.database_up.set(does.into());
    }

    /// Returns the page for Prometheus, in the OpenMetrics text format
    /// (`application/openmetrics-text; version=1.0.0; charset=utf-8`).
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        self.log_lines_lost.inner().store(lines_lost(), Ordering::Relaxed);
        let mut page = String::new();
        encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// Creates a histogram with buckets from a millisecond to half a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// Returns the name of a known method, else `other`: clients can invent methods, which must not become labels.
pub fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_on_the_page() {
        let metrics = Metrics::new(["lake"]);
        metrics.request_answered("GET", Some("/delta-sharing/shares"), 200, Duration::from_millis(3));
        metrics.decided("table.query", "deny", "token_expired");
        metrics.usage_waits_for(4);
        metrics.files_issued("presigned", 2, 4096);
        metrics.bytes_proxied(7);
        metrics.snapshot_hit();
        metrics.snapshot_missed();
        metrics.snapshot_loaded(Duration::from_secs(1));
        metrics.snapshot_cache_is(99);
        metrics.audit_committed(5, Duration::from_millis(2));
        metrics.storage_failed("lake");
        metrics.objects_on_hold_are(3);
        let page = metrics.encode().unwrap();
        for line in [
            r#"weir_http_requests_total{method="GET",route="/delta-sharing/shares",status="200"} 1"#,
            r#"weir_http_request_duration_seconds_count{method="GET",route="/delta-sharing/shares"} 1"#,
            r#"weir_decisions_total{outcome="deny",reason="token_expired"} 1"#,
            r#"weir_data_requests_total{operation="table.query",outcome="deny"} 1"#,
            "weir_usage_waiting_events 4",
            r#"weir_files_issued_total{delivery="presigned"} 2"#,
            r#"weir_issued_bytes_total{delivery="presigned"} 4096"#,
            "weir_proxied_bytes_total 7",
            "weir_snapshot_cache_hits_total 1",
            "weir_snapshot_cache_misses_total 1",
            "weir_snapshot_load_seconds_count 1",
            "weir_snapshot_cache_bytes 99",
            "weir_audit_batch_events_sum 5.0",
            "weir_audit_commit_seconds_count 1",
            r#"weir_storage_errors_total{storage="lake"} 1"#,
            "weir_objects_on_hold 3",
            concat!("weir_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(page.lines().any(|l| l == line), "`{line}` is missing from:\n{page}");
        }
    }

    #[test]
    fn request_is_in_flight_until_it_is_dropped() {
        let metrics = Metrics::new([]);
        let request = metrics.request_started();
        assert!(metrics.encode().unwrap().contains("weir_http_requests_in_flight 1\n"));
        drop(request);
        assert!(metrics.encode().unwrap().contains("weir_http_requests_in_flight 0\n"));
    }

    #[test]
    fn clients_cannot_invent_labels() {
        let metrics = Metrics::new([]);
        metrics.request_answered("BREW", None, 404, Duration::ZERO);
        let page = metrics.encode().unwrap();
        assert!(
            page.contains(r#"{method="other",route="unmatched",status="404"}"#) && !page.contains("BREW"),
            "{page}"
        );
    }

    #[test]
    fn webhook_without_dead_letters_is_shown() {
        let metrics = Metrics::new([]);
        metrics.expect_webhooks(["ops"]);
        let page = metrics.encode().unwrap();
        for outcome in ["delivered", "failed", "dead"] {
            let line = format!(r#"weir_notification_attempts_total{{webhook="ops",outcome="{outcome}"}} 0"#);
            assert!(page.lines().any(|l| l == line), "`{line}` is missing from:\n{page}");
        }
    }

    #[test]
    fn storage_without_errors_is_shown() {
        assert!(Metrics::new(["lake"]).encode().unwrap().contains(r#"weir_storage_errors_total{storage="lake"} 0"#));
    }
}
