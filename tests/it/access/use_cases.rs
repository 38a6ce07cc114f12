//! Use cases: a noun with only a name and a spec.

use serde_json::json;

use crate::support::app::{TestApp, fields, on_both_databases};

on_both_databases!(a_use_case_names_a_recipient_a_purpose_and_why_it_needs_each_column);

async fn a_use_case_names_a_recipient_a_purpose_and_why_it_needs_each_column(app: TestApp) {
    app.put("/recipients/acme", json!({})).await.expect(201);
    app.put("/purposes/fraud", json!({"description": "d"})).await.expect(201);
    let spec = json!({
        "recipient": "acme", "purpose": "Fraud", "decision_supported": "what to look at", "sponsor": "claims",
        "columns": [{"column": "claims.claims.paid", "justification": "compared"}],
    });
    let put = app.put("/use-cases/triage", spec.clone()).await.expect(201);
    assert_eq!(put["columns"], spec["columns"]);
    assert_eq!(app.put("/use-cases/triage", spec.clone()).await.expect(200), put);
    for (change, field) in [
        (json!({"recipient": "nobody"}), "recipient"),
        (json!({"purpose": "nothing"}), "purpose"),
        (json!({"purpose": null}), "purpose"),
        (json!({"sponsor": " "}), "sponsor"),
        (json!({"columns": [{"column": "a", "justification": ""}]}), "columns[0].justification"),
        (json!({"columns": [{"column": "a"}]}), "columns[0].justification"),
    ] {
        let mut body = spec.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let problem = app.put("/use-cases/new", body).await.problem(422, "invalid_input");
        assert!(fields(&problem).iter().any(|found| found == field || found == "columns[0]"), "{change}: {problem}");
    }
    let used = app.delete("/purposes/fraud").await.problem(409, "conflict");
    assert!(used["detail"].as_str().unwrap().contains("use cases `triage`"), "{used}");
    app.delete("/use-cases/triage").await.expect(204);
    app.delete("/purposes/fraud").await.expect(204);
}
