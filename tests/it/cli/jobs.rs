//! Jobs from the shell.

use serde_json::{Value, json};

use super::{execute, on_each_database};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_given_up_is_found_by_the_doctor_listed_and_retried() {
    on_each_database(async |installation, _, shell| {
        let id = shell.json(&["operator", "put", "ann", "--role", "auditor"])["id"].as_str().unwrap().to_owned();
        let examined = || {
            let said: Value = serde_json::from_slice(&installation.run(&["doctor", "--output", "json"]).stdout).unwrap();
            let checks = said["checks"].as_array().unwrap().clone();
            checks.into_iter().find(|check| check["check"] == "jobs").unwrap()
        };
        assert_eq!(examined()["status"], "ok");
        let dead = format!(
            "INSERT INTO reports (id, month, recipient_id, state, requested_by, requested_at, failure) \
             SELECT id, '2020-01', id, 'failed', 'ann', created_at, 'the disk is full' FROM operators; \
             INSERT INTO jobs (id, kind, key, state, attempts, created_at, due_at, ended_at, failure) \
             SELECT id, 'report', '{id}', 'dead', 12, created_at, created_at, created_at, 'the disk is full' FROM operators"
        );
        execute(installation.database_url(), &dead).await;
        let found = examined();
        assert_eq!((&found["status"], &found["detail"]), (&json!("warning"), &json!("jobs that were given up: 1")));
        assert!(found["remedy"].as_str().unwrap().contains("weir job retry"), "{found}");
        let listed = shell.run_well(&["job", "list", "--kind", "report", "--state", "dead"]);
        assert!(listed.contains(&id) && listed.contains("the disk is full"), "{listed}");
        let queued = shell.json(&["job", "retry", &id]);
        assert_eq!((&queued["state"], &queued["attempts"]), (&json!("due"), &json!(0)));
        shell.run_badly(1, &["job", "retry", "00000000-0000-0000-0000-000000000000"]);
    })
    .await;
}
