//! Settings that restrict sharing, and are off: since when is remembered over starts, and told.

use http::Method;
use serde_json::{Value, json};
use weir::domain::core::safeguard::{Safeguard, off_between};

use crate::support::{
    app::{TestApp, on_both_databases},
    process::Installation,
};

on_both_databases!(since_when_a_safeguard_is_off_is_remembered_over_starts, reports_tell_what_was_off_in_their_month,);

fn purpose(is_on: bool) -> Safeguard {
    Safeguard::flag("sharing.require_purpose", is_on)
}

async fn since_when_a_safeguard_is_off_is_remembered_over_starts(app: TestApp) {
    let (core, began) = (&app.service.core, app.now());
    let raw = Safeguard::word("sharing.raw", "allow", true);
    core.remember_safeguards(&[purpose(false), raw.clone()]).await.unwrap();
    assert!(app.events("setting.update").await.is_empty(), "the first value replaces none");
    app.pass(3_600);
    core.remember_safeguards(&[purpose(false), raw.clone()]).await.unwrap();
    let off = async || {
        off_between(&core.db.list_safeguards(100).await.unwrap(), began, app.now() + chrono::TimeDelta::days(1))
    };
    assert_eq!(
        off().await.iter().map(|off| (off.setting.as_str(), off.since)).collect::<Vec<_>>(),
        [("sharing.raw", began), ("sharing.require_purpose", began),]
    );
    let metrics = core.metrics.encode().unwrap();
    let line = format!("weir_safeguard_off_since_timestamp_seconds{{setting=\"sharing.raw\"}} {}", began.timestamp());
    assert!(metrics.contains(&line), "{metrics}");

    core.remember_safeguards(&[purpose(true), raw.clone()]).await.unwrap();
    let on_at = app.now();
    let event = &app.events("setting.update").await[0];
    assert_eq!(
        (&event["object"]["kind"], &event["object"]["name"]),
        (&json!("setting"), &json!("sharing.require_purpose"))
    );
    assert_eq!(event["change"], json!({"before": {"value": "false"}, "after": {"value": "true"}}));
    assert_eq!(event["actor"]["kind"], "system");
    // Off again, by two servers that start at the same time.
    let twice = [purpose(false), raw];
    let (one, two) = tokio::join!(core.remember_safeguards(&twice), core.remember_safeguards(&twice));
    one.and(two).unwrap();
    assert_eq!(app.events("setting.update").await.len(), 2);
    let periods = off().await;
    let periods: Vec<_> = periods.iter().filter(|off| off.setting != "sharing.raw").collect();
    assert_eq!((periods[0].since, periods[0].until), (began, Some(on_at)));
    assert!(periods[1].since > on_at && periods[1].until.is_none(), "{periods:?}");
    // Records are never changed.
    for sql in ["UPDATE safeguards SET is_off = is_off", "DELETE FROM safeguards"] {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let refused = match &core.db {
            weir::store::Db::Sqlite { writer, .. } => sqlx::query(sql).execute(writer).await.is_err(),
            weir::store::Db::Postgres { pool, .. } => sqlx::query(sql).execute(pool).await.is_err(),
        };
        assert!(refused);
    }
}

async fn reports_tell_what_was_off_in_their_month(app: TestApp) {
    app.service.core.remember_safeguards(&[purpose(false)]).await.unwrap();
    app.pass(60);
    let month = app.now().format("%Y-%m").to_string();
    let preview = async |file: &str| app.get(&format!("/reports/preview/{file}?month={month}")).await;
    let report = preview("report.json").await.expect(200);
    let off = &report["safeguards_off"][0];
    assert_eq!(
        (&off["setting"], &off["value"], &off["until"]),
        (&json!("sharing.require_purpose"), &json!("false"), &Value::Null)
    );
    assert!(off["since"].is_string(), "{report}");
    let page = preview("report.html").await.text;
    assert!(page.contains("Safeguards that were off") && page.contains("sharing.require_purpose"), "{page}");
    app.service.core.remember_safeguards(&[purpose(true)]).await.unwrap();
    assert!(preview("report.json").await.expect(200)["safeguards_off"][0]["until"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_other_settings_is_recorded() {
    let mut installation = Installation::sqlite();
    let mut weir = installation.start().await;
    let changes = async |weir: &crate::support::process::Weir| {
        let events = weir.admin(Method::GET, "/audit?action=setting.update", Value::Null).await;
        events["items"].as_array().unwrap().clone()
    };
    let is_off = async |weir: &crate::support::process::Weir| {
        let told = weir.client.get(format!("{}/metrics", weir.url)).send().await.unwrap().text().await.unwrap();
        told.contains("weir_safeguard_off_since_timestamp_seconds{setting=\"sharing.require_purpose\"}")
    };
    assert!(changes(&weir).await.is_empty() && is_off(&weir).await);
    weir.stop();
    installation.configure("[sharing]\nrequire_purpose = true");
    for _ in 0..2 {
        let mut weir = installation.start().await;
        let told = changes(&weir).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["change"], json!({"before": {"value": "false"}, "after": {"value": "true"}}));
        assert!(!is_off(&weir).await);
        weir.stop();
    }
}
