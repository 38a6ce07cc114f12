//! Recording drills.

use serde_json::{Value, json};

use crate::support::app::{TestApp, fields, on_both_databases};

on_both_databases!(what_a_drill_measured_is_an_event, what_no_drill_says_is_refused);

async fn what_a_drill_measured_is_an_event(app: TestApp) {
    let drill =
        json!({"kind": "audit_tamper", "passed": false, "measured": {"verified_ms": 12}, "detail": "not found"});
    let answer = app.post("/drills", drill.clone()).await.expect(201);
    assert!(answer["recorded_at"].is_string(), "{answer}");
    let events = app.events("drill.record").await;
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["change"], &events[0]["object"]["name"]), (&drill, &json!("audit_tamper")));
    app.post("/drills", json!({"kind": "restore", "passed": true, "measured": {}})).await.expect(201);
    assert_eq!(
        app.events("drill.record").await[0]["change"],
        json!({"kind": "restore", "measured": {}, "passed": true})
    );
}

async fn what_no_drill_says_is_refused(app: TestApp) {
    let many: serde_json::Map<String, Value> = (0..201).map(|at| (format!("{at}_ms"), json!(at))).collect();
    for (member, value) in [
        ("kind", json!("fire")),
        ("passed", json!("yes")),
        ("measured", Value::Object(many)),
        ("measured", json!({"a": -1})),
        ("measured", json!({"a": 0.5})),
        ("measured", json!({"a": {"b": 1}})),
        ("detail", json!("x".repeat(5_000))),
        ("detail", json!("\u{1b}[2J")),
    ] {
        let mut body = json!({"kind": "restore", "passed": true, "measured": {"restored_ms": 1}, "detail": "d"});
        body[member] = value;
        let problem = app.post("/drills", body).await.problem(422, "invalid_input");
        assert!(fields(&problem)[0].starts_with(member), "{problem}");
    }
    assert!(app.events("drill.record").await.is_empty());
}
