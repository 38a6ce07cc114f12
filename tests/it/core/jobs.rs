//! Jobs over the admin API: seen while they wait, given up after a while, and done again when somebody retries them.

use chrono::{DateTime, TimeDelta, Utc};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use weir::{
    domain::{
        audit::{Actor, Event, action::Action},
        core::job::{JobKind, pause},
    },
    store::StoreError,
};

use crate::support::app::{TestApp, on_both_databases};

on_both_databases!(
    a_job_of_a_server_that_was_killed_is_taken_over_by_another,
    a_job_that_fails_is_tried_again_later_and_later_and_given_up,
    asking_again_for_a_report_that_waits_is_no_attempt,
    what_cannot_be_done_is_given_up_at_once,
    what_a_newer_server_queued_is_listed_and_left_alone,
);

/// A server that has queued the report of October.
async fn queued(app: &TestApp) {
    app.append(&[Event::new(Actor::system("test"), Action::DrillRecord)]).await;
    let over: DateTime<Utc> = "2026-11-01T00:05:00Z".parse().unwrap();
    app.pass((over - app.now()).num_seconds());
    app.service.insight.tend_reports().await.unwrap();
}

async fn jobs(app: &TestApp, query: &str) -> Vec<Value> {
    let page = app.get(&format!("/jobs{query}")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

/// The state of the only report that there is, and why it could not be made.
async fn report(app: &TestApp) -> (String, Value) {
    let page = app.get("/reports").await.expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    let report = &page["items"][0];
    (report["state"].as_str().unwrap().to_owned(), report["failure"].clone())
}

/// How many jobs the metrics name in a state.
async fn counted(app: &TestApp, state: &str) -> String {
    app.service.jobs.count_jobs().await.unwrap();
    let metrics = app.service.core.metrics.encode().unwrap();
    let series = format!("weir_jobs{{kind=\"report\",state=\"{state}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or_else(|| panic!("{metrics}")).to_owned()
}

async fn a_job_of_a_server_that_was_killed_is_taken_over_by_another(app: TestApp) {
    queued(&app).await;
    let due = jobs(&app, "?kind=report&state=due").await.remove(0);
    assert_eq!((&due["attempts"], &due["held_until"], &due["ended_at"]), (&json!(0), &Value::Null, &Value::Null));
    assert_eq!(due["key"], app.get("/reports").await.expect(200)["items"][0]["id"]);
    let (killed, db) = (Uuid::now_v7(), &app.service.core.db);
    let mut tx = db.begin().await.unwrap();
    let taken = tx.claim_job(JobKind::Report, None, killed, app.now()).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    for _ in 0..2 {
        app.service.jobs.run_jobs(JobKind::Report).await.unwrap();
        assert_eq!(report(&app).await.0, "making", "for now it is left to who took it");
        let running = jobs(&app, "?state=running").await.remove(0);
        assert_eq!((&running["id"], &running["attempts"], &running["due_at"]), (&due["id"], &json!(1), &Value::Null));
        assert!(running["held_until"].is_string());
        assert_eq!((counted(&app, "running").await, counted(&app, "due").await), ("1".to_owned(), "0".to_owned()));
        app.pass(14);
    }
    // Who asks for it waits in vain, and is told so.
    assert_eq!(app.post("/reports", json!({"month": "2026-10"})).await.status, 202);
    app.pass(3);
    let other = app.replica_set(|_| {});
    tokio::join!(async { app.service.jobs.run_jobs(JobKind::Report).await.unwrap() }, async {
        other.service.jobs.run_jobs(JobKind::Report).await.unwrap()
    },);
    assert_eq!(report(&app).await.0, "ready");
    assert_eq!((jobs(&app, "").await, app.events("report.complete").await.len()), (Vec::new(), 1));
    let mut tx = db.begin().await.unwrap();
    assert!(matches!(tx.complete_job(&taken, killed).await, Err(StoreError::Stale)), "it is not its any more");
}

async fn a_job_that_fails_is_tried_again_later_and_later_and_given_up(app: TestApp) {
    queued(&app).await;
    app.execute("ALTER TABLE report_files RENAME TO hidden").await;
    for attempt in 1..12 {
        app.service.jobs.run_jobs(JobKind::Report).await.unwrap_err();
        // Not again before its time.
        app.service.jobs.run_jobs(JobKind::Report).await.unwrap();
        let due = jobs(&app, "?state=due").await.remove(0);
        assert_eq!((&due["attempts"], &due["failure"]), (&json!(attempt), &json!("internal error")), "{due}");
        let rest = due["due_at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap() - app.now();
        assert_eq!(rest, pause(attempt));
        assert_eq!(report(&app).await.0, "making");
        app.pass(rest.num_seconds());
    }
    assert_eq!(counted(&app, "dead").await, "0");
    app.service.jobs.run_jobs(JobKind::Report).await.unwrap();
    let dead = jobs(&app, "?kind=report&state=dead").await.remove(0);
    assert_eq!(
        (&dead["attempts"], &dead["failure"], &dead["due_at"]),
        (&json!(12), &json!("internal error"), &Value::Null)
    );
    assert_eq!(report(&app).await, ("failed".to_owned(), json!("internal error")));
    assert_eq!(counted(&app, "dead").await, "1");
    let recorded = app.events("job.dead").await.remove(0);
    assert_eq!(recorded["actor"], json!({"kind": "system", "name": "jobs"}));
    assert_eq!(recorded["object"], json!({"kind": "job", "id": dead["id"], "name": dead["key"]}));
    assert_eq!(recorded["change"], json!({"attempts": 12, "failure": "internal error", "kind": "report"}));
    app.pass(30 * 86_400);
    app.service.jobs.run_jobs(JobKind::Report).await.unwrap();
    assert_eq!(jobs(&app, "?state=dead").await.len(), 1, "it is left alone");

    app.execute("ALTER TABLE hidden RENAME TO report_files").await;
    let retry = format!("/jobs/{}/retry", dead["id"].as_str().unwrap());
    let rehearsed = app.post(&format!("{retry}?dry_run=true"), json!({})).await.expect(200);
    assert_eq!((&rehearsed["state"], jobs(&app, "?state=dead").await.len()), (&json!("due"), 1));
    let auditor = app.operator("aud", "auditor").await;
    app.admin_as(&auditor, Method::GET, "/jobs", None).await.expect(200);
    app.admin_as(&auditor, Method::POST, &retry, Some(&json!({}))).await.problem(403, "forbidden");
    let queued = app.post(&retry, json!({})).await.expect(200);
    assert_eq!((&queued["state"], &queued["attempts"], &queued["id"]), (&json!("due"), &json!(0), &dead["id"]));
    assert_eq!(report(&app).await, ("making".to_owned(), Value::Null));
    let recorded = app.events("job.retry").await;
    assert_eq!((recorded.len(), &recorded[0]["object"]["id"]), (1, &dead["id"]));
    let refused = app.post(&retry, json!({})).await.problem(409, "conflict");
    assert!(refused["detail"].as_str().unwrap().contains("is due"), "{refused}");
    app.service.jobs.run_jobs(JobKind::Report).await.unwrap();
    assert_eq!(report(&app).await.0, "ready");
    app.post(&retry, json!({})).await.problem(404, "not_found");
}

async fn asking_again_for_a_report_that_waits_is_no_attempt(app: TestApp) {
    app.append(&[Event::new(Actor::system("test"), Action::DrillRecord)]).await;
    let over: DateTime<Utc> = "2026-11-01T00:05:00Z".parse().unwrap();
    app.pass((over - app.now()).num_seconds());
    app.execute("ALTER TABLE report_files RENAME TO hidden").await;
    let ask = async || app.post("/reports", json!({"month": "2026-10"})).await;
    // The first one is waited for, and fails.
    ask().await.problem(500, "internal");
    let pending = jobs(&app, "").await;
    assert_eq!((pending.len(), &pending[0]["state"], &pending[0]["attempts"]), (1, &json!("due"), &json!(1)));
    app.execute("ALTER TABLE hidden RENAME TO report_files").await;
    for _ in 0..20 {
        let asked = ask().await.expect(202);
        assert_eq!((&asked["id"], &asked["state"]), (&pending[0]["key"], &json!("making")));
    }
    assert_eq!(jobs(&app, "").await, pending);
    assert_eq!(app.events("report.create").await.len(), 1);
    // It is made when its time has come, and answered to whoever asks then.
    app.pass(pause(1).num_seconds());
    assert_eq!(ask().await.expect(202)["id"], pending[0]["key"]);
    assert_eq!(jobs(&app, "").await, pending);
    app.service.jobs.run_jobs(JobKind::Report).await.unwrap();
    let made = ask().await.expect(200);
    assert_eq!((&made["id"], &made["state"], jobs(&app, "").await.len()), (&pending[0]["key"], &json!("ready"), 0));
}

async fn what_cannot_be_done_is_given_up_at_once(app: TestApp) {
    queued(&app).await;
    app.execute("UPDATE reports SET month = '2020-01'").await;
    app.service.jobs.run_jobs(JobKind::Report).await.unwrap();
    let dead = jobs(&app, "?state=dead").await.remove(0);
    assert_eq!(dead["attempts"], 1);
    assert!(dead["failure"].as_str().unwrap().contains("before the audit trail began"), "{dead}");
    assert_eq!(report(&app).await, ("failed".to_owned(), dead["failure"].clone()));
    // Whoever asks for the report retries its job.
    app.execute("UPDATE reports SET month = '2026-10'").await;
    let made = app.post("/reports", json!({"month": "2026-10"})).await.expect(201);
    assert_eq!((&made["state"], jobs(&app, "").await.len()), (&json!("ready"), 0));
}

async fn what_a_newer_server_queued_is_listed_and_left_alone(app: TestApp) {
    queued(&app).await;
    app.service.jobs.run_jobs(JobKind::Report).await.unwrap();
    app.put("/shares/s", json!({})).await.expect(201);
    app.put("/recipients/acme", json!({})).await.expect(201);
    for (table, state) in [("shares", "due"), ("recipients", "dead")] {
        app.execute(format!(
            "INSERT INTO jobs (id, kind, key, state, attempts, created_at, due_at) \
             SELECT id, 'quality.run', '{table}', '{state}', 3, created_at, created_at FROM {table}"
        ))
        .await;
    }
    app.pass(TimeDelta::days(1).num_seconds());
    app.service.jobs.run_jobs(JobKind::Report).await.unwrap();
    let all = jobs(&app, "").await;
    assert!(all.len() == 2 && all.iter().all(|job| job["kind"] == "quality.run" && job["attempts"] == 3), "{all:?}");
    let dead = jobs(&app, "?state=dead").await.remove(0);
    let refused = app.post(&format!("/jobs/{}/retry", dead["id"].as_str().unwrap()), json!({})).await;
    assert!(refused.problem(409, "conflict")["detail"].as_str().unwrap().contains("newer server"));
    for query in ["kind=quality.run", "kind=", "state=done", "state=DEAD", "colour=red"] {
        app.get(&format!("/jobs?{query}")).await.problem(400, "invalid_parameter");
    }
    let first = app.get("/jobs?max_results=1").await.expect(200);
    let next = first["next_page_token"].as_str().unwrap();
    let second = app.get(&format!("/jobs?max_results=1&page_token={next}")).await.expect(200);
    assert_ne!(first["items"][0]["id"], second["items"][0]["id"]);
}
