//! Exposure: who sees which column, and what a recipient sees, in agreement with the decision.

use http::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, on_both_databases};

use super::controls::{agreement, grant, people, shared_view, version};

on_both_databases!(exposure_says_who_sees_what_and_agrees_with_the_decision);

async fn exposure_says_who_sees_what_and_agrees_with_the_decision(app: TestApp) {
    people(&app).await;
    let columns = json!([
        {"name": "id"}, {"name": "who", "from": "member", "mask": {"partial": {"last": 1}}}, {"name": "age"},
    ]);
    shared_view(&app, columns).await;
    agreement(&app, "baa", "BAA", json!(["PHI"])).await;
    app.put("/controls/PHI", json!({"requires": ["BAA"], "min_mask": {"direct": "hash"}})).await.expect(201);
    app.post("/grants", grant(&["baa"])).await.expect(201);
    let token = app.token_for_acme().await["token"].as_str().unwrap().to_owned();
    let exposure = app.get("/tables/c.people/exposure").await.expect(200);
    let object = &exposure["objects"][0];
    assert_eq!((&object["object"], &object["source"]), (&json!("s.a.v"), &json!("c.v@v1")));
    let reader = &object["readers"][0];
    assert_eq!((&reader["recipient"], &reader["agreements"]), (&json!("acme"), &json!(["baa"])));
    assert_eq!((&reader["purpose"], &reader["refused"]), (&json!("fraud"), &Value::Null));
    let column = |exposure: &Value, path: &str| {
        let columns = exposure["columns"].as_array().unwrap();
        columns.iter().find(|column| column["path"] == path).unwrap_or_else(|| panic!("{path}: {exposure}")).clone()
    };
    let member = column(&exposure, "member");
    assert_eq!((&member["class"], &member["state"]), (&json!("PHI"), &json!("confirmed")));
    let shown = json!([{"object": "s.a.v", "name": "who", "mask": {"hash": {"domain": "phi", "per": "recipient"}}}]);
    assert_eq!(member["shown"], shown);
    assert_eq!(column(&exposure, "zip")["shown"], json!([]));
    assert_eq!(column(&exposure, "age")["shown"], json!([{"object": "s.a.v", "name": "age", "mask": null}]));
    let of_acme = app.get("/recipients/acme/exposure").await.expect(200);
    assert_eq!(of_acme["objects"], exposure["objects"]);
    assert_eq!(column(&of_acme, "member")["shown"], shown);
    assert_eq!(of_acme["columns"].as_array().unwrap().len(), 3, "only what it sees");
    // What the decision says, exposure says.
    for (path, body, refused) in [
        ("/agreements/baa", json!({"classes": []}), json!("AGREEMENT_MISSING")),
        ("/agreements/baa", json!({"classes": ["PHI"]}), Value::Null),
        ("/tables/c.people", json!({"allowed_purposes": []}), json!("PURPOSE_NOT_ALLOWED")),
        ("/tables/c.people", json!({"allowed_purposes": null}), Value::Null),
    ] {
        app.patch(path, body).await.expect(200);
        let exposure = app.get("/tables/c.people/exposure").await.expect(200);
        assert_eq!(exposure["objects"][0]["readers"][0]["refused"], refused, "{path}");
        let status = version(&app, &token, "v").await.status.as_u16();
        assert_eq!(status, if refused.is_null() { 200 } else { 403 });
    }
    app.get("/tables/c.nothing/exposure").await.problem(404, "not_found");
    app.get("/recipients/nobody/exposure").await.expect(422);
    let owner = app.operator("olga", "auditor").await;
    app.admin_as(&owner, Method::GET, "/tables/c.people/exposure", None).await.expect(200);
}
