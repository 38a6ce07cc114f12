//! Shares.

use serde_json::json;

use crate::support::app::{TestApp, fields, on_both_databases};

on_both_databases!(
    a_share_is_created_confirmed_and_changed,
    a_share_in_use_is_not_deleted,
    names_that_break_the_rules_are_refused,
    every_problem_of_a_body_is_reported_at_once,
);

async fn a_share_is_created_confirmed_and_changed(app: TestApp) {
    let body = json!({"display_name": "Insurer", "properties": {"tier": "gold", "region": "eu"}});
    let created = app.put("/shares/Insurer", body.clone()).await.expect(201);
    assert_eq!(created["name"], "Insurer");
    assert_eq!(app.put("/shares/INSURER", body).await.expect(200)["name"], "Insurer");
    let problem = app.put("/shares/insurer", json!({"properties": {"tier": "gold"}})).await.problem(409, "conflict");
    assert_eq!(fields(&problem), ["properties"]);

    let patch = json!({"properties": {"tier": null, "unit": "claims"}});
    let changed = app.patch("/shares/insurer", patch).await.expect(200);
    assert_eq!(changed["properties"], json!({"region": "eu", "unit": "claims"}));
    assert_eq!(changed["display_name"], "Insurer");
    assert_ne!(changed["etag"], created["etag"]);
    assert_eq!(app.get("/shares/insurer").await.expect(200), changed);
    assert_eq!(app.get("/shares").await.expect(200), json!({"items": [changed]}));
    assert_eq!(app.events("share.update").await[0]["share"], "Insurer");
}

async fn a_share_in_use_is_not_deleted(app: TestApp) {
    app.share_claims().await;
    let grant = app.grant_acme().await;
    let problem = app.delete("/shares/insurer").await.problem(409, "conflict");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("`acme`") && detail.contains("`claims.claims`"), "{detail}");
    app.post(&format!("/grants/{grant}/revoke"), json!({})).await.expect(200);
    app.delete("/shares/insurer/objects/claims/claims").await.expect(204);
    app.delete("/shares/insurer").await.expect(204);
    app.delete("/shares/insurer").await.problem(404, "not_found");
    // The grant stays on record under the share's name.
    assert_eq!(app.get(&format!("/grants/{grant}")).await.expect(200)["share"], "insurer");
}

async fn names_that_break_the_rules_are_refused(app: TestApp) {
    let long = "x".repeat(256);
    for name in ["a%20b", "a%2Fb", "a%00b", "..%5C", &long, "%E2%80%A8"] {
        let problem = app.put(&format!("/shares/{name}"), json!({})).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), ["share"], "{name}");
        app.get(&format!("/shares/{name}")).await.problem(404, "not_found");
        app.patch(&format!("/shares/{name}"), json!({})).await.problem(404, "not_found");
        app.delete(&format!("/shares/{name}")).await.problem(404, "not_found");
    }
    app.put("/shares/%FF", json!({})).await.problem(400, "invalid_parameter");
}

async fn every_problem_of_a_body_is_reported_at_once(app: TestApp) {
    let body = json!({
        "display_name": 1, "description": "nul\u{0}", "properties": {"a": [], "": "x"}, "discription": "typo",
    });
    let problem = app.put("/shares/s", body).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["description", "discription", "display_name", "properties"]);
    let long = json!({"description": "x".repeat(4097)});
    assert_eq!(fields(&app.put("/shares/s", long).await.problem(422, "invalid_input")), ["description"]);
    app.get("/shares/s").await.problem(404, "not_found");
}
