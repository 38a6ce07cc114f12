//! What a recipient may be granted at most: its purposes and its ceiling, asked when a grant is made.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::app::{TestApp, fields, on_both_databases};

on_both_databases!(
    a_grant_beyond_the_purposes_or_the_ceiling_is_refused,
    a_grant_without_an_end_is_as_long_as_the_ceiling_allows,
    what_a_recipient_may_be_granted_for_is_declared,
    what_is_known_of_a_recipient_is_kept_and_shown,
);

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

async fn prepared(app: &TestApp) {
    app.share_claims().await;
    for purpose in ["fraud", "audit"] {
        app.put(&format!("/purposes/{purpose}"), json!({"description": "d"})).await.expect(201);
    }
    app.put("/recipients/acme", json!({})).await.expect(201);
}

async fn a_grant_beyond_the_purposes_or_the_ceiling_is_refused(app: TestApp) {
    prepared(&app).await;
    let day = |days: i64| text(app.now() + TimeDelta::days(days));
    let grant = |purpose: Value, days: i64| json!({"share": "insurer", "recipient": "acme", "purpose": purpose, "valid_until": day(days)});
    // Nothing is said, so nothing is limited.
    app.post("/grants?dry_run=true", grant(Value::Null, 300)).await.expect(200);
    let limits = json!({"purposes": ["fraud", "audit"], "ceiling": {"max_grant_days": 30, "purposes": ["fraud"]}});
    app.patch("/recipients/acme", limits).await.expect(200);
    for (purpose, days, refused) in [
        (json!("fraud"), 31, &["valid_until"][..]),
        (json!("audit"), 30, &["purpose"]),
        (json!("else"), 31, &["purpose", "valid_until"]),
        (Value::Null, 30, &["purpose"]),
    ] {
        let problem = app.post("/grants", grant(purpose.clone(), days)).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), refused, "{purpose} {days}");
        assert!(problem["detail"].as_str().unwrap().contains("first"), "{problem}");
    }
    let made = app.post("/grants", grant(json!("Fraud"), 30)).await.expect(201);
    // One that replaces another is a grant like any other.
    let mut longer = grant(json!("fraud"), 31);
    longer["replaces"] = made["id"].clone();
    let problem = app.post("/grants", longer).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["valid_until"]);
    // What was granted stays, whatever is said later.
    app.patch("/recipients/acme", json!({"purposes": []})).await.expect(200);
    let kept = app.get(&format!("/grants/{}", made["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(kept["state"], "active");
    let other = json!({"share": "insurer", "recipient": "acme", "purpose": "fraud", "replaces": made["id"]});
    let problem = app.post("/grants", other.clone()).await.problem(422, "invalid_input");
    assert!(problem.to_string().contains("no purpose at all"), "{problem}");
    app.patch("/recipients/acme", json!({"purposes": null, "ceiling": null})).await.expect(200);
    app.post("/grants", other).await.expect(201);
    let changes = app.events("recipient.update").await;
    let effects: Vec<&str> = changes.iter().map(|event| event["effect"].as_str().unwrap()).collect();
    assert_eq!(effects, ["loosens", "tightens", "tightens"], "the newest first");
}

async fn a_grant_without_an_end_is_as_long_as_the_ceiling_allows(app: TestApp) {
    prepared(&app).await;
    app.patch("/recipients/acme", json!({"ceiling": {"max_grant_days": 30}})).await.expect(200);
    let made = app.post("/grants", json!({"share": "insurer", "recipient": "acme"})).await.expect(201);
    let at = |field: &str| DateTime::parse_from_rfc3339(made[field].as_str().unwrap()).unwrap();
    assert_eq!(at("valid_until") - at("valid_from"), TimeDelta::days(30));
}

async fn what_a_recipient_may_be_granted_for_is_declared(app: TestApp) {
    prepared(&app).await;
    for (body, refused) in [
        (json!({"purposes": ["fraud", "none"]}), &["purposes[1]"][..]),
        (json!({"purposes": ["*"]}), &["purposes"]),
        (json!({"ceiling": {"purposes": ["none"]}}), &["ceiling.purposes[0]"]),
        (json!({"ceiling": {"purposes": ["*"]}}), &["ceiling.purposes"]),
        (json!({"ceiling": {"classes": ["PHX"]}}), &["ceiling.classes[0]"]),
        (json!({"ceiling": {"max_grant_days": 0}}), &["ceiling.max_grant_days"]),
        (json!({"ceiling": {"days": 3}}), &["ceiling.days"]),
    ] {
        let problem = app.patch("/recipients/acme", body.clone()).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), refused, "{body}");
        let problem = app.put("/recipients/new", body.clone()).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), refused, "{body}");
    }
    app.patch("/recipients/acme", json!({"purposes": ["fraud"], "ceiling": {"purposes": ["audit"]}})).await.expect(200);
    for purpose in ["fraud", "audit"] {
        let used = app.delete(&format!("/purposes/{purpose}")).await.problem(409, "conflict");
        assert!(used["detail"].as_str().unwrap().contains("recipients `acme`"), "{used}");
    }
    app.patch("/recipients/acme", json!({"purposes": null, "ceiling": {"purposes": null}})).await.expect(200);
    app.delete("/purposes/fraud").await.expect(204);
}

async fn what_is_known_of_a_recipient_is_kept_and_shown(app: TestApp) {
    let body = json!({
        "address": "1 Main Street, Dublin", "last_assessed_at": "2026-10-01T00:00:00Z", "owner": "partner-desk",
        "ceiling": {"classes": ["PII", "own_class"]},
    });
    let put = app.put("/recipients/acme", body.clone()).await.expect(201);
    for field in ["address", "owner"] {
        assert_eq!(put[field], body[field]);
    }
    assert_eq!(put["last_assessed_at"], "2026-10-01T00:00:00Z");
    assert_eq!(put["ceiling"], json!({"classes": ["PII", "own_class"], "max_grant_days": null, "purposes": null}));
    let found = app.get("/recipients/acme").await.expect(200);
    assert_eq!(found["ceiling"], put["ceiling"]);
}
