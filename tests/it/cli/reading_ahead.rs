//! Commands over a database that a newer server has written to.

use serde_json::{Value, json};

use super::{execute, on_each_database};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_show_unknown_words_and_the_doctor_and_verification_find_nothing_wrong() {
    on_each_database(async |installation, weir, shell| {
        shell.run_well(&["operator", "put", "ann", "--role", "auditor"]);
        shell.run_well(&["recipient", "put", "acme"]);
        let statuses = || {
            let said = installation.run(&["doctor", "--output", "json"]).stdout;
            let said: Value = serde_json::from_slice(&said).unwrap();
            let checks = said["checks"].as_array().unwrap().clone();
            checks.into_iter().map(|check| (check["check"].clone(), check["status"].clone())).collect::<Vec<_>>()
        };
        let before = statuses();
        let newer = "UPDATE operators SET role = 'data_steward', spec = '{\"role\":\"data_steward\",\"person\":\"Ann\"}'; \
             UPDATE recipients SET spec = substr(spec, 1, length(spec) - 1) || ',\"headquarters\":\"Bonn\"}'; \
             INSERT INTO notifications (id, webhook, kind, subject, mark, body, state, attempts, created_at, queued_at, \
             next_attempt_at, ended_at, failure) SELECT id, 'ops', 'budget.exceeded', 'x', 'x', '{}', 'dead', 1, created_at, \
             created_at, created_at, created_at, 'gone' FROM operators";
        execute(installation.database_url(), newer).await;
        assert!(shell.run_well(&["operator", "list"]).contains("data_steward"));
        assert!(shell.run_well(&["notification", "list"]).contains("budget.exceeded"));
        assert_eq!(shell.json(&["recipient", "get", "acme"])["name"], json!("acme"));
        assert_eq!(statuses(), before);
        installation.run_well(&["audit", "verify"]);
        assert!(weir.log().lines().all(|line| !line.contains("\"ERROR\"") && !line.contains(" ERROR ")), "{}", weir.log());
    })
    .await;
}
