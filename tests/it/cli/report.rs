//! `weir report` on the command line.

use std::fs;

use serde_json::Value;
use weir::{
    domain::audit::{Actor, ActorKind, Event, action::Action},
    store::Db,
};

use super::on_each_database_set;

#[tokio::test]
async fn a_report_is_made_at_a_shell_and_verified_without_a_server() {
    let settings = "[reports]\nprovider_name = \"Insurer & Sons\"\n";
    on_each_database_set(settings, async |installation, weir, shell| {
        installation.share(weir).await;
        // Events of last month, from before this server.
        let db = Db::connect(installation.database_url(), 1).await.unwrap();
        let actor = Actor { kind: ActorKind::Recipient, name: Some("acme".into()), ..Actor::ANONYMOUS };
        let event = Event { recipient: Some("acme".into()), ..Event::new(actor, Action::SharesList) };
        let month = weir::domain::insight::report::Month::before(chrono::Utc::now()).unwrap();
        let mut tx = db.begin().await.unwrap();
        let mut head = tx.lock_audit_head().await.unwrap();
        tx.append_audit(&mut head, &[event.clone(), event], month.start() + chrono::TimeDelta::hours(5)).await.unwrap();
        tx.commit().await.unwrap();
        db.close().await;

        let month = month.to_string();
        let summary = shell.run_well(&["report", "--month", &month]);
        assert!(summary.contains(&format!("{month}, every recipient\n2 events, 2 requests")), "{summary}");
        let folder = installation.folder.path().join("report");
        let shown = folder.to_str().unwrap();
        shell.run_well(&["report", "--month", &month, "--output-dir", shown]);
        let page = shell.run_well(&["report", "--month", &month, "--format", "html"]);
        assert_eq!(page, fs::read_to_string(folder.join("report.html")).unwrap());
        let json: Value =
            serde_json::from_str(&shell.run_well(&["report", "--month", &month, "--format", "json"])).unwrap();
        assert_eq!(json["totals"]["requests"], 2);
        let listed = shell.json(&["report", "list", "--month", &month]);
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
        assert!(shell.run_well(&["report", "list"]).starts_with("ID "));

        let key = installation.run_well(&["audit", "key"]);
        let said = shell.run_well(&["report", "verify", shown, "--key", key.trim()]);
        assert!(said.starts_with(&format!("verified the report of {month} about every recipient")), "{said}");
        assert!(shell.run_well(&["report", "verify", shown]).contains("report.csv, report.json"));
        installation.run_well(&["audit", "checkpoint"]);
        let export = installation.export();
        let with_export = ["report", "verify", shown, "--key", key.trim(), "--export", export.to_str().unwrap()];
        let said = shell.run_well(&with_export);
        assert!(said.contains("says the same of 2 events"), "{said}");
        let named: Vec<String> =
            ["report.csv", "manifest.json", "manifest.sig"].map(|file| format!("{shown}/{file}")).to_vec();
        shell.run_well(&["report", "verify", &named[0], &named[1], &named[2], "--key", key.trim()]);

        let csv = fs::read_to_string(&named[0]).unwrap();
        fs::write(&named[0], csv.replacen(",2,", ",1,", 1)).unwrap();
        let said = shell.run_badly(1, &with_export);
        assert!(said.contains("report.csv is not the file that was made"), "{said}");
        fs::remove_file(&named[0]).unwrap();
        assert!(shell.run_badly(1, &["report", "verify", shown]).contains("report.csv` cannot be read"));

        assert!(shell.run_badly(1, &["report", "--month", "9998-01"]).contains("month: has not begun"));
        // A report on the current month is marked as a preview everywhere.
        let now = weir::domain::insight::report::Month::parse(&chrono::Utc::now().format("%Y-%m").to_string()).unwrap();
        let this_month = now.to_string();
        let summary = shell.run_well(&["report", "--month", &this_month]);
        assert!(summary.contains("report preview: "), "{summary}");
        let page = shell.run_well(&["report", "--month", &this_month, "--format", "html"]);
        assert!(page.contains("This is a preview") && page.contains("From Insurer &amp; Sons."), "{page}");
        let csv = shell.run_well(&["report", "--month", &this_month, "--format", "csv"]);
        assert!(csv.lines().next().unwrap().ends_with(",provider,preview_until,object_id"), "{csv}");
        let json: Value =
            serde_json::from_str(&shell.run_well(&["report", "--month", &this_month, "--format", "json"])).unwrap();
        assert!(json["preview_until"].is_string() && json["provider"] == "Insurer & Sons", "{json}");
        let previews = installation.folder.path().join("preview");
        shell.run_well(&["report", "--month", &this_month, "--output-dir", previews.to_str().unwrap()]);
        assert!(previews.join("preview-report.html").exists() && !previews.join("manifest.json").exists());
        let listed = shell.json(&["report", "list", "--month", &this_month]);
        assert_eq!(listed["items"], serde_json::json!([]), "nothing is kept");

        assert!(shell.run_badly(1, &["report", "--month", "1998-01"]).contains("before the audit trail began"));
        assert!(shell.run_badly(1, &["report", "--month", &month, "--recipient", "nobody"]).contains("recipient: "));
        shell.run_badly(2, &["report"]);
    })
    .await;
}
