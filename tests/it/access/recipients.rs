//! Recipients.

use serde_json::{Value, json};

use crate::support::app::{TestApp, fields, on_both_databases};

on_both_databases!(
    a_recipient_is_created_confirmed_and_changed,
    values_of_properties_are_in_the_trail_as_digests_alone,
    what_nobody_sees_is_in_no_name,
    a_recipient_in_use_is_not_deleted,
    what_no_recipient_may_be_is_refused,
    suspending_refuses_at_once_and_resuming_allows_again,
    offboarding_ends_grants_and_tokens_for_good,
);

async fn a_recipient_is_created_confirmed_and_changed(app: TestApp) {
    let body = json!({
        "display_name": "Acme", "legal_name": "Acme Analytics Inc.", "contacts": {"security": "soc@acme.example"}, "allowed_cidrs": ["10.0.0.0/8"],
        "properties": {"tenant": "a", "codes": [1, 2]}, "delivery": "proxied",
    });
    let created = app.put("/recipients/acme", body.clone()).await.expect(201);
    assert_eq!((&created["state"], &created["legal_name"]), (&json!("active"), &json!("Acme Analytics Inc.")));
    assert_eq!(app.put("/recipients/acme", body).await.expect(200), created);
    let problem = app.put("/recipients/acme", json!({"description": "other"})).await.problem(409, "conflict");
    assert_eq!(fields(&problem), ["description"]);

    let patch =
        json!({"allowed_cidrs": ["10.9.8.0/24", "2001:db8::/32"], "contacts": {"security": null}, "delivery": null});
    let changed = app.patch("/recipients/acme", patch).await.expect(200);
    assert_eq!(changed["allowed_cidrs"], json!(["10.9.8.0/24", "2001:db8::/32"]));
    assert_eq!((&changed["contacts"], &changed["delivery"]), (&json!({}), &json!(null)));
    assert_eq!(changed["properties"], json!({"tenant": "a", "codes": [1, 2]}));
    assert_eq!(app.get("/recipients").await.expect(200), json!({"items": [changed]}));
    let event = &app.events("recipient.update").await[0];
    assert_eq!(event["recipient"], "acme");
    // The people in contacts are personal data; the trail's own bytes contain only the roles.
    assert_eq!(event["change"]["before"]["contacts"], json!(["security"]));
    assert_eq!(event["change"]["after"]["contacts"], json!([]));
    assert_eq!(event["contacts"], json!({"before": {"security": "soc@acme.example"}}));
    for stored in app.service.core.db.list_audit(&weir::store::AuditFilter::default(), 100).await.unwrap() {
        assert!(!stored.body.contains("soc@acme.example"), "{}", stored.body);
    }
}

async fn values_of_properties_are_in_the_trail_as_digests_alone(app: TestApp) {
    let properties = |member: &str, plans: &[&str]| json!({"properties": {"member": member, "plans": plans}});
    app.put("/recipients/acme", properties("jane-doe-1970", &["zgold", "zsilver"])).await.expect(201);
    app.patch("/recipients/acme", properties("jane-doe-1970", &["zgold"])).await.expect(200);
    app.patch("/recipients/acme", properties("john-roe-1971", &["zgold"])).await.expect(200);
    app.put("/recipients/rival", properties("jane-doe-1970", &["zgold"])).await.expect(201);
    app.delete("/recipients/acme").await.expect(204);
    let created = app.events("recipient.create").await;
    let updated = app.events("recipient.update").await;
    let of = |event: &Value, side: &str, name: &str| {
        event["change"][side]["properties"][name].as_str().expect("a digest").to_owned()
    };
    let (second, first) = (&updated[0], &updated[1]);
    assert_eq!(of(first, "before", "member"), of(first, "after", "member"), "the same value has the same digest");
    assert_ne!(of(first, "before", "plans"), of(first, "after", "plans"));
    assert_ne!(of(second, "before", "member"), of(second, "after", "member"));
    assert_ne!(of(&created[0], "after", "member"), of(&created[1], "after", "member"), "each recipient has its own");
    for stored in app.service.core.db.list_audit(&weir::store::AuditFilter::default(), 100).await.unwrap() {
        for value in ["jane", "john", "zgold", "zsilver"] {
            assert!(!stored.body.contains(value), "{}", stored.body);
        }
    }
}

async fn what_nobody_sees_is_in_no_name(app: TestApp) {
    app.share_claims().await;
    app.put("/recipients/acme", json!({})).await.expect(201);
    let refused = async |path: &str, body: Value| {
        let problem = app.put(path, body).await.problem(422, "invalid_input");
        assert!(problem.to_string().contains("U+"), "{problem}");
    };
    // A zero-width space, a bidirectional override, a tag, a Hangul filler, a variation selector, a joiner.
    for character in ["%E2%80%8B", "%E2%80%AE", "%F3%A0%81%81", "%E3%85%A4", "%EF%B8%8F", "%E2%80%8D"] {
        let name = format!("ac{character}me");
        let source = json!({"source": {"table": "claims.claims"}});
        refused(&format!("/recipients/{name}"), json!({})).await;
        refused(&format!("/shares/{name}"), json!({})).await;
        refused(&format!("/tables/{name}"), json!({"location": app.location("claims")})).await;
        refused(&format!("/shares/insurer/objects/{name}/claims"), source.clone()).await;
        refused(&format!("/shares/insurer/objects/claims/{name}"), source).await;
        refused(&format!("/operators/{name}"), json!({"role": "auditor"})).await;
        let view = json!({"source": {"table": "claims.claims"}, "columns": [{"name": "id"}]});
        refused(&format!("/views/{name}"), view).await;
    }
    app.post("/recipients/acme/tokens", json!({"credential": "a\u{200b}b"})).await.problem(422, "invalid_input");
    app.patch("/recipients/acme", json!({"properties": {"pl\u{202e}an": "x"}})).await.problem(422, "invalid_input");
    // A recipient with such a name from before keeps working and can be deleted.
    app.execute("UPDATE recipients SET name = 'ac\u{200b}me', name_key = 'ac\u{200b}me' WHERE name = 'acme'").await;
    assert_eq!(app.get("/recipients").await.expect(200)["items"][0]["name"], "ac\u{200b}me");
    app.delete("/recipients/ac%E2%80%8Bme").await.expect(204);
}

async fn a_recipient_in_use_is_not_deleted(app: TestApp) {
    app.share_claims().await;
    let grant = app.grant_acme().await;
    let token = app.token_for_acme().await["id"].as_str().unwrap().to_owned();
    let problem = app.delete("/recipients/acme").await.problem(409, "conflict");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("`insurer`") && detail.contains(&token), "{detail}");
    app.post(&format!("/grants/{grant}/revoke"), json!({})).await.expect(200);
    app.post(&format!("/recipients/acme/tokens/{token}/revoke"), json!({})).await.expect(200);
    app.delete("/recipients/acme").await.expect(204);
    app.get("/recipients/acme").await.problem(404, "not_found");
    assert_eq!(app.events("recipient.delete").await.len(), 1);
}

async fn what_no_recipient_may_be_is_refused(app: TestApp) {
    let many: Vec<String> = (0..201).map(|i| format!("10.0.0.{}/32", i % 250)).collect();
    for (body, expected) in [
        (json!({"allowed_cidrs": ["10.0.0.0/33"]}), "allowed_cidrs[0]"),
        (json!({"allowed_cidrs": ["10.0.0.1"]}), "allowed_cidrs[0]"),
        (json!({"allowed_cidrs": many}), "allowed_cidrs"),
        (json!({"contacts": {"security": 5}}), "contacts.security"),
        (json!({"properties": {"a": {"nested": 1}}}), "properties.a"),
        (json!({"state": "offboarded"}), "state"),
    ] {
        let problem = app.put("/recipients/acme", body.clone()).await.problem(422, "invalid_input");
        assert_eq!(fields(&problem), [expected], "{body}");
    }
}

async fn suspending_refuses_at_once_and_resuming_allows_again(app: TestApp) {
    app.share_claims().await;
    app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    assert_eq!(app.shared(&token, "/shares").await.status, 200);
    let suspended = app.post("/recipients/acme/suspend", json!({"reason": "late payment"})).await.expect(200);
    assert_eq!(suspended["state"], "suspended");
    assert_eq!(app.shared(&token, "/shares").await.status, 403);
    assert_eq!(app.events("recipient.suspend").await[0]["change"]["reason"], "late payment");
    app.post("/recipients/acme/resume", json!({"reason": "paid"})).await.expect(200);
    assert_eq!(app.shared(&token, "/shares").await.status, 200);
    let problem = app.post("/recipients/acme/suspend", json!({})).await.problem(422, "invalid_input");
    assert_eq!(fields(&problem), ["reason"]);
}

async fn offboarding_ends_grants_and_tokens_for_good(app: TestApp) {
    app.share_claims().await;
    let grant = app.grant_acme().await;
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let gone = app.post("/recipients/acme/offboard", json!({"reason": "over"})).await.expect(200);
    assert_eq!(gone["state"], "offboarded");
    assert_eq!(app.shared(&token, "/shares").await.status, 401);
    assert_eq!(app.get(&format!("/grants/{grant}")).await.expect(200)["state"], "revoked");
    app.post("/recipients/acme/resume", json!({"reason": "again"})).await.problem(409, "conflict");
    app.post("/recipients/acme/tokens", json!({"reveal": true})).await.problem(409, "conflict");
    app.post("/grants", json!({"share": "insurer", "recipient": "acme"})).await.problem(409, "conflict");
}
