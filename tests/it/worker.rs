//! Background tasks on a simulated clock, and what happens when they fail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::body::Body;
use chrono::{DateTime, TimeDelta, Utc};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use weir::{
    config::{Settings, Sources},
    domain::audit::{Actor, Event, action::Action},
    service::{
        audit::write::AuditWriter,
        core::{clock::Clock, vitals::Vitals},
        insight::signals::Signals,
    },
    telemetry::Metrics,
    worker::Tasks,
};

use crate::support::{
    app::{TestApp, on_both_databases},
    postgres::TestDatabase,
    process::{FILES, Installation},
};

on_both_databases!(
    a_year_passes_when_the_clock_is_driven_and_everything_due_runs,
    a_clock_that_is_set_right_leaves_nothing_waiting_for_the_time_that_it_was_ahead,
    the_last_error_of_a_task_is_a_class_with_a_time_in_the_metrics,
);

/// Runs the tasks that are due, all of which must succeed, and returns their names.
async fn run(tasks: &Tasks) -> Vec<&'static str> {
    let ran = tasks.run_due().await;
    assert!(ran.iter().all(|task| task.failure.is_none()), "{ran:?}");
    ran.iter().map(|task| task.name).collect()
}

async fn a_year_passes_when_the_clock_is_driven_and_everything_due_runs(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let tasks = Tasks::of(&app.service);
    assert!(run(&tasks).await.contains(&"erasure"));
    assert_eq!(run(&tasks).await, Vec::<&str>::new(), "nothing is due twice at one time");
    let mut reports = 0;
    for _ in 0..400 {
        app.pass(86_400);
        let ran = run(&tasks).await;
        assert!(ran.contains(&"reconcile") && ran.contains(&"checkpoints") && ran.contains(&"erasure"), "{ran:?}");
        reports += usize::from(ran.contains(&"reports"));
    }
    assert_eq!(reports, 400);
    assert_eq!(app.shared(&token, "/shares").await.status, StatusCode::UNAUTHORIZED, "the token has ended");
    assert!(!app.events("audit.erase").await.is_empty(), "what is personal was erased at its age");
    let sealed = app.service.core.db.find_last_checkpoint().await.unwrap().unwrap();
    assert!(sealed.created_at > app.now() - TimeDelta::days(2), "{:?}", sealed.created_at);
    let made = app.get("/reports").await.expect(200);
    assert!(made["items"].as_array().unwrap().len() >= 12, "a report a month: {made}");
}

async fn a_clock_that_is_set_right_leaves_nothing_waiting_for_the_time_that_it_was_ahead(app: TestApp) {
    let tasks = Tasks::of(&app.service);
    app.pass(3 * 86_400);
    app.share_claims().await;
    run(&tasks).await;
    let ahead = app.service.core.db.find_last_checkpoint().await.unwrap().unwrap();
    app.pass(-3 * 86_400);
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    // Another server too, whose tasks start fresh.
    let other = Tasks::of(&app.replica_set(|_| {}).service);
    for tasks in [&tasks, &other] {
        assert!(run(tasks).await.contains(&"checkpoints"));
    }
    let sealed = app.service.core.db.find_last_checkpoint().await.unwrap().unwrap();
    assert!(sealed.seq > ahead.seq && sealed.created_at < ahead.created_at, "{sealed:?}");
    // Windows of a minute start again, and so does the note of a token's use.
    let patch = json!({"limits": {"requests_per_minute": 1}});
    app.patch("/recipients/acme", patch).await.expect(200);
    assert_eq!(app.shared(&token, "/shares").await.status, StatusCode::OK);
    app.pass(2 * 86_400);
    assert_eq!(app.shared(&token, "/shares").await.status, StatusCode::OK);
    assert_eq!(app.shared(&token, "/shares").await.status, StatusCode::TOO_MANY_REQUESTS);
    app.pass(-2 * 86_400);
    assert_eq!(app.shared(&token, "/shares").await.status, StatusCode::OK);
    // It is reported once.
    let told = app.service.core.metrics.encode().unwrap();
    assert!(told.contains("weir_clock_steps_back_total 1"), "{told}");
    run(&tasks).await;
}

async fn the_last_error_of_a_task_is_a_class_with_a_time_in_the_metrics(app: TestApp) {
    let tasks = Tasks::of(&app.service);
    run(&tasks).await;
    let told = |app: &TestApp| {
        let page = app.service.core.metrics.encode().unwrap();
        let lines = page.lines().filter(|line| line.contains("task=\"usage\"") && !line.contains("_lag_"));
        lines.map(|line| line.trim_start_matches("weir_").to_owned()).collect::<Vec<_>>()
    };
    assert!(!told(&app).iter().any(|line| line.contains("last_error")));
    app.execute("ALTER TABLE usage_progress RENAME TO hidden").await;
    app.share_claims().await;
    app.pass(10);
    let failed: Vec<_> = tasks.run_due().await.into_iter().filter(|task| task.failure.is_some()).collect();
    assert!(failed.len() == 1 && failed[0].name == "usage", "{failed:?}");
    let at = app.now().timestamp();
    let last = format!("task_last_error_timestamp_seconds{{task=\"usage\",error=\"database\"}} {at}");
    let lines = told(&app);
    assert!(lines.contains(&last) && lines.contains(&"task_failing{task=\"usage\"} 1".to_owned()), "{lines:?}");
    app.execute("ALTER TABLE hidden RENAME TO usage_progress").await;
    app.pass(10);
    run(&tasks).await;
    let lines = told(&app);
    assert!(lines.contains(&last) && lines.contains(&"task_failing{task=\"usage\"} 0".to_owned()), "{lines:?}");
}

fn event() -> Event {
    Event::new(Actor::system("test"), Action::AdminRead)
}

#[tokio::test]
async fn a_writer_that_ends_is_started_again_and_until_then_nothing_is_ready() {
    for db in TestDatabase::each().await {
        let is_broken = Arc::new(AtomicBool::new(true));
        let (breaks, vitals) = (Arc::clone(&is_broken), Vitals::default());
        let clock = Clock::new(move || {
            assert!(!breaks.load(Ordering::SeqCst), "a test");
            DateTime::<Utc>::from_timestamp(1_790_000_000, 0).unwrap()
        });
        let settings = Settings::load(Sources::default()).unwrap();
        let signals = Signals::new(settings.notify, &settings.audit).unwrap();
        let trail = AuditWriter::start(db.clone(), clock, Arc::new(Metrics::new([])), Arc::new(signals), &vitals);
        trail.record(event()).await.unwrap_err();
        assert_eq!(vitals.ended(), Some("audit trail"));
        is_broken.store(false, Ordering::SeqCst);
        trail.record(event()).await.unwrap();
        assert_eq!(vitals.ended(), None);
        trail.check().await.unwrap();
        assert_eq!(db.find_audit_head().await.unwrap().seq, 1);
    }
}

#[tokio::test]
async fn a_server_whose_disk_is_full_is_not_ready_until_it_has_room() {
    let app = TestApp::sqlite().await;
    let ready = async || app.send(Request::get("/readyz").body(Body::empty()).unwrap()).await;
    // The writer cannot extend the file; the connection that replaces it can.
    app.execute("PRAGMA max_page_count = 1").await;
    let answer = ready().await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
    assert!(!answer.text.contains("full"), "nobody outside is told: {}", answer.text);
    assert_eq!(ready().await.status, StatusCode::OK, "there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_log_cannot_be_written_serves_all_the_same() {
    let installation = Installation::sqlite();
    let mut weir = installation.start_logging_to("/dev/full").await;
    installation.share(&weir).await;
    let (_, token) = weir.issue("default").await;
    assert_eq!(weir.query(&token).await.urls, FILES);
    let metrics = weir.client.get(format!("{}/metrics", weir.url)).send().await.unwrap().text().await.unwrap();
    let lost = metrics.lines().find_map(|line| line.strip_prefix("weir_log_lines_lost_total ")).unwrap();
    assert!(lost.parse::<u64>().unwrap() > 0, "{lost}");
    assert_eq!(weir.admin(Method::GET, "/recipients/acme", Value::Null).await["name"], "acme");
    weir.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_year_is_lived_by_lines_of_standard_input() {
    let installation = Installation::sqlite();
    let (mut weir, mut time) = installation.start_simulated().await;
    installation.share(&weir).await;
    let (_, token) = weir.issue("default").await;
    assert_eq!(weir.query(&token).await.urls, FILES);
    let began = Utc::now();
    let mut sealed = 0;
    for _ in 0..12 {
        let lived = time.say("advance 2678400");
        assert_eq!(lived["failed"], json!([]), "{lived}");
        // The server's own round may be the first to find a task due.
        sealed += u32::from(lived["ran"].as_array().unwrap().contains(&json!("checkpoints")));
    }
    assert!(sealed > 0, "the trail was never sealed by a step");
    let now: DateTime<Utc> = time.say("advance 0")["now"].as_str().unwrap().parse().unwrap();
    assert!(now >= began + TimeDelta::days(12 * 31), "{now}");
    assert!(time.say("advance -1")["error"].is_string() && time.say("stop")["error"].is_string());
    assert_eq!(weir.query(&token).await.status, Some(StatusCode::UNAUTHORIZED));
    let reports = weir.admin(Method::GET, "/reports", Value::Null).await;
    assert!(reports["items"].as_array().unwrap().len() >= 11, "{reports}");
    weir.stop();
    // Where others could reach the server, simulated time is refused.
    let mut exposed = Installation::sqlite();
    exposed.known_as("https://data.example.org");
    let refused = exposed.run(&["serve", "--simulate"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && message.contains("this machine's own"), "{message}");
}
